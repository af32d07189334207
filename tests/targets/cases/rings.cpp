// memory_log: a ring of events over a ring of bytes.
#include "cases/fakes.hpp"

namespace pj = projections;

namespace {

/// What a fresh worker is shown after `from`: how many, and a sum that depends on their order.
struct folded {
    using handles = pj::every_event;
    uint16_t count = 0;
    uint32_t digest = 0;
    bool is_whole = true;
    void on(const pj::stored_event& e) {
        ++count;
        is_whole = is_whole && e.occurred_at == -e.at && e.version == 3 && e.partition_key == 5;
        for (const unsigned char b : e.payload) digest = digest * 31 + b;
        for (const char c : e.aggregate_id) digest = digest * 31 + static_cast<unsigned char>(c);
        digest = digest * 31 + static_cast<uint32_t>(e.at);
    }
};

pj::stored_event numbered(pj::position at, unsigned size) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    pj::stored_event e;
    e.type = pj::id{9};
    e.payload = {letters + at % 5, size};
    e.aggregate_id = pj::text(letters + at % 3, static_cast<size_t>(at % 4));
    e.version = 3;
    e.partition_key = 5;
    e.occurred_at = -at;
    return e;
}

template<class Log> folded read_after(Log& log, pj::position from) {
    folded model;
    fakes::slot checkpoints;
    checkpoints.record.at = from;
    checkpoints.record.revision = 1;
    const pj::projection what{"ring", log, model, checkpoints};
    pj::worker worker{what};
    if (worker.start() != pj::status::ok) return model;
    for (int i = 0; i < 4; ++i) static_cast<void>(worker.tick(0));
    return model;
}

/// 300 events of 0 to 12 bytes through a ring of 60: what is kept is whole and in order.
void the_oldest_make_room() {
    pj::memory_log<6, 60> log;
    for (pj::position at = 0; at < 300; ++at) {
        const unsigned size = static_cast<unsigned>(at * 7 % 13);
        REQUIRE(log.append(numbered(at, size)) == at);
        pj::position trimmed = 0, newest = 0;
        uint64_t id = 0;
        CHECK(log.bounds(trimmed, newest, id) == pj::status::ok);
        CHECK(newest == at);
        const pj::position kept = newest - trimmed;
        CHECK(kept >= 1 && kept <= 6);
        if (at % 10 != 0) continue;
        folded expected;
        for (pj::position i = trimmed + 1; i <= newest; ++i) {
            pj::stored_event e = numbered(i, static_cast<unsigned>(i * 7 % 13));
            e.at = i;
            expected.on(e);
        }
        const folded seen = read_after(log, trimmed);
        CHECK(seen.count == kept);
        CHECK(seen.digest == expected.digest);
        CHECK(seen.is_whole);
    }
}

void too_large_is_refused_and_pushes_nobody_out() {
    pj::memory_log<4, 16> log;
    CHECK(log.append("N", pj::text("12345678901234")) == 0);
    CHECK(log.append("N", pj::text("123456789012345")) == pj::before_first);
    CHECK(read_after(log, pj::before_first).count == 1);
}

/// No more go than have to: by number, and by bytes (three for each of these).
void as_many_as_fit_are_kept() {
    const auto trimmed_by = [](auto& log) {
        for (int i = 0; i < 10; ++i) static_cast<void>(log.append("N", pj::text("x")));
        pj::position trimmed = 0, newest = 0;
        uint64_t id = 0;
        CHECK(log.bounds(trimmed, newest, id) == pj::status::ok);
        CHECK(newest == 9);
        return trimmed;
    };
    pj::memory_log<3, 300> few;
    CHECK(trimmed_by(few) == 6);
    pj::memory_log<8, 12> small;
    CHECK(trimmed_by(small) == 5);
    CHECK(read_after(small, 5).count == 4);
}

struct without_bounds {
    pj::memory_log<3, 300>& log;
    pj::status read(pj::position after, pj::visitor& visit) { return log.read(after, visit); }
};

void a_reader_below_what_is_kept_is_told() {
    pj::memory_log<3, 300> log;
    for (int i = 0; i < 5; ++i) static_cast<void>(log.append("N", pj::text("x")));
    without_bounds hidden{log};
    const auto reason = [](pj::event_store from) {
        fakes::summing model;
        fakes::slot checkpoints;
        const pj::projection what{"late", from, model, checkpoints};
        pj::worker worker{what};
        CHECK(worker.start() == pj::status::ok);
        for (int i = 0; i < 3; ++i) static_cast<void>(worker.tick(0));
        CHECK(worker.state() == pj::run_state::halted);
        CHECK(model.calls == 0);
        return worker.reason();
    };
    CHECK(reason(log) == pj::status::log_trimmed);
    CHECK(reason(hidden) == pj::status::log_trimmed);
}

const targets::test_case cases[] = {CASE(the_oldest_make_room), CASE(as_many_as_fit_are_kept),
                                    CASE(too_large_is_refused_and_pushes_nobody_out),
                                    CASE(a_reader_below_what_is_kept_is_told)};

} // namespace

SUITE(rings);
