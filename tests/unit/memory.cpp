// The stores in memory and the encoded checkpoint at their limits: full slots, longest names,
// largest events, and no byte beyond.
#include "projections.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>

namespace pj = projections;
using pj::status;

TEST_CASE("memory_checkpoint_store: each of several keys is found again") {
    const char* const keys[] = {"aaaa", "", "bbbb", "b"};
    pj::memory_checkpoint_store<4, 4> store;
    for (uint32_t round = 1; round <= 3; ++round) {
        for (uint32_t i = 0; i < 4; ++i) {
            pj::checkpoint next;
            next.revision = round;
            next.at = static_cast<pj::position>(10 * round + i);
            CHECK(store.save(keys[i], next) == status::ok);
            next.revision = round + 2;
            CHECK(store.save(keys[i], next) == status::conflict);
        }
        for (uint32_t i = 0; i < 4; ++i) {
            pj::checkpoint found;
            CHECK(store.load(keys[i], found) == status::ok);
            CHECK(found.revision == round);
            CHECK(found.at == static_cast<pj::position>(10 * round + i));
        }
    }
    pj::checkpoint first;
    first.revision = 1;
    CHECK(store.save("c", first) == status::failed);
}

TEST_CASE("memory_checkpoint_store: a key of any bytes is never taken for a record") {
    // At the place behind the last one the names begin: this key looks there like one that is used,
    // of a name without characters.
    std::string key(sizeof(pj::checkpoint) + 16, 'x');
    for (size_t i = 0; i < 2; ++i) key[sizeof(pj::checkpoint) + i] = '\0';
    for (size_t i = 2; i < 16; ++i) key[sizeof(pj::checkpoint) + i] = '\1';
    pj::memory_checkpoint_store<2, 256> store;
    pj::checkpoint next;
    next.revision = 1;
    next.at = 5;
    CHECK(store.save(pj::text(key), next) == status::ok);
    pj::checkpoint found;
    CHECK(store.load("", found) == status::ok);
    CHECK(found.revision == 0);
    CHECK(store.save("", next) == status::ok);
    CHECK(store.load("", found) == status::ok);
    CHECK(found.at == 5);
}

TEST_CASE("memory_log: the longest name is kept; a longer one and a huge payload are not") {
    const std::string longest(0xFFFF, 'n');
    const auto log = std::make_unique<pj::memory_log<2, 0x20010>>();
    CHECK(log->append(pj::text(longest), {}) == 0);
    CHECK(log->append(pj::text(longest + "n"), {}) == pj::before_first);
    CHECK(log->append("Type", {}, pj::text(longest)) == 1);
    CHECK(log->append("Type", {}, pj::text(longest + "n")) == pj::before_first);
    if constexpr (sizeof(size_t) > 4) {         // whatever the lower half of its size says
        const char one = 'x';
        const size_t huge = static_cast<size_t>(uint64_t{1} << 32);
        CHECK(log->append("Type", pj::bytes(&one, huge)) == pj::before_first);
        CHECK(log->append("Type", pj::bytes(&one, huge + 1)) == pj::before_first);
    }
}

TEST_CASE("memory_log: of one cell, it shows the newest event") {
    struct payloads {
        using handles = pj::every_event;
        std::string seen;
        void on(const pj::stored_event& event) {
            seen += std::string(event.payload.text().data(), event.payload.size());
        }
    };
    payloads all;
    const auto log = std::make_unique<pj::memory_log<1, 512>>();
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection projection{"all", *log, all, checkpoints};
    pj::worker worker{projection};
    REQUIRE(worker.start() == status::ok);
    std::string appended;
    for (int i = 0; i < 3; ++i) {
        const std::string payload(300, static_cast<char>('a' + i));
        REQUIRE(log->append("Type", pj::bytes(payload.data(), payload.size())) == i);
        appended += payload;
        while (worker.tick(0).wait_ms == 0) {}
        CHECK(worker.scanned() == i);
        worker.wake();
    }
    CHECK(all.seen == appended);
}

TEST_CASE("encode writes its 64 bytes and not one more") {
    struct { uint8_t bytes[pj::checkpoint_bytes]; uint8_t behind[8]; } room;
    for (uint8_t& one : room.behind) one = 0xA5;
    pj::checkpoint record;
    record.at = 7;
    record.crashes = 0xFFFF;
    pj::encode(record, room.bytes);
    for (const uint8_t one : room.behind) CHECK(one == 0xA5);
    pj::checkpoint found;
    CHECK(pj::decode(pj::bytes(room.bytes, sizeof room.bytes), found));
    CHECK(found.at == 7);
    CHECK(found.crashes == 0xFFFF);
}

TEST_CASE("a development profile saves after every event, so that a crash repeats one at most") {
    const pj::projection p = pj::development("p", {}, {}, {});
    CHECK(p.save.every_events == 1);
    CHECK(p.on_unknown == pj::unknown_types::fail);
}

namespace {
struct one_event {
    static constexpr pj::event_type type{"One", pj::raw};
    uint32_t value;
};
struct quiet {
    using handles = pj::events<one_event>;
    void on(const one_event&) {}
};
} // namespace

TEST_CASE("memory_log: a handler that ticks another engine over it cannot push out what it sees") {
    quiet inner_model;
    using ring = pj::memory_log<2, 64>;
    ring log;
    pj::memory_checkpoint_store<2> store;
    pj::projection inner{"inner", log, inner_model, store};
    pj::worker other{inner};
    struct nesting {
        using handles = pj::events<one_event>;
        ring& log;
        pj::worker& other;
        pj::position pushed_at = 0;
        void on(const one_event&) {
            static_cast<void>(other.tick(0));
            pushed_at = log.append(one_event{3});
        }
    } outer_model{log, other};
    pj::projection outer{"outer", log, outer_model, store};
    pj::worker worker{outer};
    REQUIRE(log.append(one_event{1}) == 0);
    REQUIRE(log.append(one_event{2}) == 1);
    REQUIRE(other.start() == status::ok);
    REQUIRE(worker.start() == status::ok);
    static_cast<void>(worker.tick(0));
    CHECK(outer_model.pushed_at == pj::before_first);
}
