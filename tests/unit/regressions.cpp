// Defects that reviews found, each with the smallest scenario that shows it.
#include <doctest/doctest.h>

#include "projections.hpp"

namespace pj = projections;

namespace {

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t value;
};

/// Fails once and may be tried again after ten seconds.
struct slow_to_retry {
    using handles = pj::events<coin>;
    int calls = 0;
    pj::verdict on(const coin&) { return ++calls == 1 ? pj::fail() : pj::handled; }
};
struct always_rejects {
    using handles = pj::events<coin>;
    pj::verdict on(const coin&) { return pj::reject(); }
};
struct fails_once {
    int calls = 0;
    pj::status put(const pj::dead_letter&) {
        return ++calls == 1 ? pj::status::failed : pj::status::ok;
    }
};

pj::decision retry_or_letter(const pj::failure& f) {
    return f.kind == pj::failure_kind::transient ? pj::decision::retry_after(10000)
                                                 : pj::decision::dead_letter();
}

struct price_v1 {
    static constexpr pj::event_type type{"Price", pj::raw, pj::schema{1}};
    uint32_t euros;
};
struct price {
    static constexpr pj::event_type type{"Price", pj::raw, pj::schema{3}};
    using previous = price_v1;
    uint32_t cents, currency;
    void upcast(const price_v1& older) { cents = older.euros * 100; }
};

} // namespace

TEST_CASE("a letter that is taken late does not cut a sibling's backoff short") {
    slow_to_retry a;
    always_rejects b;
    fails_once letters;
    pj::registry both{a, b};
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection projection{"coins", log, both, checkpoints};
    projection.dead_letters = letters;
    projection.on_error = pj::error_policy::custom(retry_or_letter);
    log.append(coin{1});
    pj::worker worker{projection};
    REQUIRE(worker.start() == pj::status::ok);

    uint32_t now = 0;
    while (letters.calls < 2 && now < 9000) now += worker.tick(now).wait_ms;
    CHECK(letters.calls == 2);
    CHECK(a.calls == 1);
    while (a.calls == 1 && now < 20000) now += worker.tick(now).wait_ms;
    CHECK(a.calls == 2);
    CHECK(now >= 10000);
    CHECK(worker.counts().lettered == 1);
}

TEST_CASE("an older version that states its own number is decoded as that") {
    const price_v1 older{7};
    price decoded{};
    CHECK(pj::event_traits<price>::decode(pj::raw_event(0, older), decoded));
    CHECK(decoded.cents == 700);
}

TEST_CASE("a memory log is read from the highest position there is") {
    struct none {
        using handles = pj::events<coin>;
        void on(const coin&) {}
    } handler;
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::checkpoint last;
    last.at = INT64_MAX;
    last.revision = 1;
    REQUIRE(checkpoints.save("coins", last) == pj::status::ok);
    pj::projection projection{"coins", log, handler, checkpoints};
    projection.log.bounds = nullptr;        // which would say checkpoint_ahead
    log.append(coin{1});
    pj::worker worker{projection};
    REQUIRE(worker.start() == pj::status::ok);
    CHECK(worker.tick(0).state == pj::run_state::idle);
    CHECK(worker.counts().scanned == 0);
}
