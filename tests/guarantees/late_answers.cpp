// What an engine makes of answers that come late: a commit that the next tick does, a lease that is
// lost or given away at the end of something.
#include "support/database.hpp"

using namespace support;
using pj::position;
using pj::status;

namespace {
struct plain_event {
    static constexpr pj::event_type type{"Plain", pj::raw};
    int32_t value;
};
struct counting {
    using handles = pj::events<plain_event>;
    int handled = 0;
    pj::verdict on(const plain_event& e) {
        if (e.value < 0) return pj::reject(7);
        ++handled;
        return pj::handled;
    }
};
} // namespace

TEST_CASE("G12 no other message is tried before the broker knows that it keeps the last") {
    for (const bool has_offsets : {true, false}) {
        CAPTURE(has_offsets);
        struct slow {
            int pending = 1;
            status begin() { return status::ok; }
            status commit() { return pending-- > 0 ? status::pending : status::ok; }
            status rollback() { return status::ok; }
        } units;
        counting model;
        pj::memory_checkpoint_store<1> store;
        pj::projection what{"p", {}, model, store};
        what.transaction = units;
        what.on_error = pj::error_policy::dead_letter();
        pj::sink_options options;
        options.count_messages = !has_offsets;
        pj::event_sink sink{what, options};
        uint32_t now_ms = 0;
        const auto offer = [&](position at, int32_t value) {
            pj::stored_event one;
            one.at = has_offsets ? at : pj::before_first;
            one.type = "Plain";
            one.payload = {&value, sizeof value};
            return sink.receive(one, now_ms).answer;
        };
        REQUIRE(sink.start() == status::ok);
        static_cast<void>(sink.tick(now_ms));
        CHECK(offer(5, -1) == pj::receipt::hold);       // fails, and is rolled back
        CHECK(offer(5, -1) == pj::receipt::hold);       // its commit is pending
        static_cast<void>(sink.tick(now_ms += 20));     // is committed
        CHECK(offer(6, 1) == pj::receipt::hold);
        CHECK(offer(5, -1) == pj::receipt::reject);
        CHECK(offer(6, 1) == pj::receipt::ack);
        CHECK(model.handled == 1);
    }
}

TEST_CASE("G23 a rebuild that loses its lease when it is finished is not done once more") {
    database locks;
    pj::memory_log<4, 256> log;
    pj::memory_checkpoint_store<1> store;
    counting model;
    pj::lease lease{locks};
    pj::projection what{"p", log, model, store};
    what.lease = &lease;
    what.clock = {[](void* db) { return static_cast<database*>(db)->now_ms; }, &locks};
    int drops = 0;
    const auto drop = [&] { ++drops; return status::ok; };
    pj::replay_options options;
    options.on_drop = drop;
    pj::replay_engine replay{what, options};
    log.append(plain_event{1});
    REQUIRE(replay.start() == status::ok);
    bool has_slept = false;
    for (int i = 0; i < 100 && replay.running(); ++i) {
        locks.now_ms += replay.tick(locks.now_ms).wait_ms;
        pj::checkpoint kept;
        REQUIRE(store.load("p", kept) == status::ok);
        if (has_slept || kept.rebuild != 1 || kept.replay_stage != 0) continue;
        has_slept = true;
        locks.now_ms += 60000;
    }
    CHECK(has_slept);
    CHECK(replay.finished());
    CHECK(drops == 1);
}

TEST_CASE("G22 a rebuild of another number of partitions than there are drops nothing") {
    pj::memory_log<16, 1024> log;
    pj::memory_checkpoint_store<8> store;
    counting model;
    pj::projection what{"p", log, model, store};
    for (const char* id : {"a", "b", "c", "d", "e", "f"}) log.append(plain_event{1}, id);
    for (uint32_t index = 0; index < 4; ++index) {
        pj::partitioned_worker one{what, {index, 4}};
        REQUIRE(one.start() == status::ok);
        for (uint32_t ms = 0; ms < 20; ++ms) static_cast<void>(one.tick(ms));
    }
    CHECK(model.handled == 6);
    int drops = 0;
    const auto drop = [&] { ++drops; return status::ok; };
    pj::replay_options options;
    options.on_drop = drop;
    options.partitions = 2;
    pj::replay_engine replay{what, options};
    REQUIRE(replay.start() == status::ok);
    for (uint32_t ms = 0; ms < 20 && replay.running(); ++ms) static_cast<void>(replay.tick(ms));
    CHECK(replay.reason() == status::partition_count_changed);
    CHECK(drops == 0);
}

TEST_CASE("a limit that is one lower costs one lease, though giving it back takes several ticks") {
    database db;
    pj::memory_log<4, 256> log;
    pj::memory_checkpoint_store<5> store;
    counting model;
    struct slow {
        database& db;
        bool is_slow = false;
        status acquire(pj::text r, uint32_t ms, uint64_t& token) {
            return db.acquire(r, ms, token);
        }
        status extend(pj::text r, uint32_t ms, uint64_t token) { return db.extend(r, ms, token); }
        status release(pj::text r, uint64_t token) {
            return is_slow ? status::pending : db.release(r, token);
        }
    } locks{db};
    pj::lease lease{locks};
    pj::projection what{"p", log, model, store};
    what.lease = &lease;
    what.clock = {[](void* me) { return static_cast<database*>(me)->now_ms; }, &db};
    pj::partition_limit limit{4};
    const pj::partition_options options{{}, 0, &limit};
    pj::partitioned_worker all[] = {{what, {0, 4}, options}, {what, {1, 4}, options},
                                    {what, {2, 4}, options}, {what, {3, 4}, options}};
    for (pj::partitioned_worker& one : all) REQUIRE(one.start() == status::ok);
    const auto run = [&] {
        for (int i = 0; i < 30; ++i, ++db.now_ms)
            for (pj::partitioned_worker& one : all) static_cast<void>(one.tick(db.now_ms));
    };
    run();
    REQUIRE(limit.held() == 4);
    limit.set(3);
    locks.is_slow = true;
    run();
    locks.is_slow = false;
    run();
    CHECK(limit.held() == 3);
}

TEST_CASE("G12 G32 after a crash, too, the broker is told what to keep when a commit was pending") {
    for (const bool is_guarded : {false, true}) {
        CAPTURE(is_guarded);
        struct slow {
            int pending = 0;
            status begin() { return status::ok; }
            status commit() { return pending-- > 0 ? status::pending : status::ok; }
            status rollback() { return status::ok; }
        } units;
        counting model;
        pj::memory_checkpoint_store<1> store;
        const pj::crash_guard guard{3};
        pj::projection what{"p", {}, model, store};
        what.transaction = units;
        what.on_error = pj::error_policy::dead_letter();
        if (is_guarded) what.crashes = &guard;
        pj::event_sink sink{what};
        uint32_t now_ms = 0;
        const auto offer = [&](position at, int32_t value) {
            pj::stored_event one;
            one.at = at;
            one.type = "Plain";
            one.payload = {&value, sizeof value};
            return sink.receive(one, now_ms).answer;
        };
        REQUIRE(sink.start(pj::start_cause::crash) == status::ok);
        static_cast<void>(sink.tick(now_ms));
        if (is_guarded) CHECK(offer(5, -1) == pj::receipt::hold);       // named first
        CHECK(offer(5, -1) == pj::receipt::hold);       // fails, and is rolled back
        units.pending = 1;
        CHECK(offer(5, -1) == pj::receipt::hold);       // its commit is pending
        for (int i = 0; i < 2; ++i) static_cast<void>(sink.tick(now_ms += 20));
        CHECK(sink.tick(now_ms += 20).wait_ms != 0);    // nothing to do until it comes again
        CHECK(offer(5, -1) == pj::receipt::reject);
        static_cast<void>(sink.tick(now_ms += 2000));
        if (is_guarded) CHECK(offer(6, 1) == pj::receipt::hold);
        CHECK(offer(6, 1) == pj::receipt::ack);
    }
}
