// What a read begins, what it leaves, when it stops, and what the log's bounds and the record that
// is read back mean for it.
#include "support/cluster.hpp"
#include "support/setup.hpp"

using namespace support;
using pj::run_state;
using pj::status;

TEST_CASE("G6 a store is told to stop at the very event that is not for now") {
    struct line { const char* why; uint32_t shown; void (*make)(setup&); };
    const line lines[] = {
        {"positions that do not increase", 3, [](setup& s) { s.log.find(2)->at = 1; }},
        {"a handler that is pending", 3, [](setup& s) { s.a.says.always(2, pj::pending); }},
        {"a handler that fails", 3,
         [](setup& s) {
             s.what.on_error = pj::error_policy::retry(9);
             s.a.says.always(2, pj::fail());
         }},
        {"a hole", 3,
         [](setup& s) {
             static const pj::gap_guard guard{};
             s.what.gaps = &guard;
             s.log.remove(2);
         }},
        {"an event that is to be named first", 1,
         [](setup& s) {
             static const pj::crash_guard guard{3};
             s.what.crashes = &guard;
             s.what.unsaved_max = 50;
             s.what.replayed_through = -1;
             pj::checkpoint record;
             record.revision = 1;
             record.crashes = 1;
             s.store.put("p", record);
         }},
        {"no time left", 2,
         [](setup& s) {
             s.what.tick_ms_max = 1;
             s.what.clock = {[](void* of) {
                 setup& in = *static_cast<setup*>(of);
                 return in.now_ms + static_cast<uint32_t>(in.w.calls.size() / 2);
             }, &s};
         }},
        {"the end of the replay", 4, [](setup&) {}},
    };
    for (const line& l : lines) {
        CAPTURE(l.why);
        setup s;
        s.log.append(9, "Beta");
        s.log.uses_limit = false;
        l.make(s);
        const uint32_t most = l.shown;
        REQUIRE(s.start() == status::ok);
        if (std::string(l.why) == "the end of the replay") {
            s.store.put("p", 2);
            pj::replay_engine replay{s.what};
            REQUIRE(replay.start() == status::ok);
            for (int i = 0; i < 20 && s.log.shown == 0; ++i)
                static_cast<void>(replay.tick(s.now_ms));
        } else {
            s.tick();
        }
        CHECK(s.log.shown == most);
    }
}

TEST_CASE("G6 when an event has changed or is behind a hole of itself the store is told to stop") {
    for (const bool changes : {true, false}) {
        CAPTURE(changes);
        setup s;
        s.log.append(9, "Beta", "x");
        s.log.uses_limit = false;
        s.what.on_error = pj::error_policy::retry(9);
        s.a.says.at(0, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.log.shown = 0;
        if (changes) s.log.find(0)->payload = "y";
        s.tick_after(100);
        CHECK(s.log.shown == 1);
    }
}

TEST_CASE("G26 a time budget of one millisecond is one, too") {
    setup s;
    s.log.append(9, "Beta");
    s.what.tick_ms_max = 1;
    uint32_t ms = 0;
    auto clock = [&] { return ms; };
    s.what.clock = clock;
    s.a.says.before = [&] { ++ms; };
    REQUIRE(s.worker.start() == status::ok);
    for (uint32_t i = 1; i < 9; ++i) {
        CHECK(s.worker.tick().scanned == 1);
        CHECK(s.w.calls.size() == i);
    }
}

TEST_CASE("G32 progress is in the record before the end of the log is reached") {
    setup s;
    const pj::crash_guard guard{3};
    s.what.crashes = &guard;
    s.what.unsaved_max = 1;
    s.what.batch = 1;
    s.log.append(20, "Beta");
    REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
    for (int i = 0; i < 60 && s.stored().at < 5; ++i) s.tick();
    REQUIRE_FALSE(s.worker.caught_up());
    CHECK(s.stored().at == 5);
    CHECK(s.stored().crashes == 0);
}

TEST_CASE("G19 a partition without a lease handles its aggregates, and no other") {
    cluster all;
    all.append(21);
    host h(all, 1);
    h.what.lease = nullptr;
    pj::partitioned_worker w{h.what, pj::partition{1, 3}};
    REQUIRE(w.start() == status::ok);
    drain(all, w);
    CHECK(w.checkpointed() == 20);
    uint32_t own = 0;
    for (pj::position at = 0; at < 21; ++at) {
        const std::string id = all.events[static_cast<size_t>(at)].first;
        const bool is_ours = pj::partition_of(id, 3) == 1;
        own += is_ours ? 1u : 0u;
        CHECK(all.times(at) == (is_ours ? 2 : 0));
    }
    CHECK(own > 0);
    CHECK(w.counts().handled == own);
    CHECK(w.counts().foreign == 21 - own);
    CHECK(w.counts().duplicate == 0);
}

TEST_CASE("caught_up() is of the last read: not if that was pending") {
    setup s;
    s.log.append(2, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.worker.caught_up());
    s.log.append(1, "Beta");
    s.log.shows = {0};
    s.log.reads.then(status::pending);
    s.tick_after(1000);
    CHECK_FALSE(s.worker.caught_up());
    s.run_for(100);
    CHECK(s.worker.caught_up());
}

TEST_CASE("G6 a store that fails after it has broken its order is halted for the order") {
    setup s;
    s.log.append(5, "Beta");
    s.log.find(3)->at = 1;
    s.log.reads.then(status::failed);
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.worker.reason() == status::store_unordered);
    CHECK(s.watch.count(pj::notice_kind::store_failed) == 0);
}

TEST_CASE("G14 a read that fails while an event is held is waited for as any other") {
    setup s;
    s.log.append(2, "Beta");
    s.a.says.at(1, pj::pending, 3);
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.last.wait_ms == 10);
    s.log.shows = {0, 0};
    s.log.reads.then(status::failed, 2);
    s.tick_after(10);
    CHECK(s.last.reason == status::store_failed);
    CHECK(s.last.wait_ms == 100);
    s.tick_after(100);
    CHECK(s.last.wait_ms == 200);
    s.run_for(1000);
    CHECK(s.w.called() == "a0 a1 a1 a1 a1");
    CHECK(s.worker.scanned() == 1);
}

TEST_CASE("G14 what has worked once begins with the first wait when it fails again") {
    SUBCASE("reads") {
        setup s;
        s.log.append(3, "Beta");
        s.log.shows = {0, 0, 0, 3, 0};
        s.log.reads.then(status::failed, 3).then(status::ok).then(status::failed);
        REQUIRE(s.start() == status::ok);
        for (const uint32_t ms : {100u, 200u, 400u})
            CHECK(s.tick_after(s.last.wait_ms).wait_ms == ms);
        s.tick_after(400);
        CHECK(s.worker.scanned() == 2);
        s.tick_after(1000);
        CHECK(s.last.reason == status::store_failed);
        CHECK(s.last.wait_ms == 100);
    }
    SUBCASE("saves") {
        setup s;
        s.log.append(3, "Beta");
        s.what.poll_ms = pj::never;
        s.store.saves.then(status::failed, 3);
        REQUIRE(s.start() == status::ok);
        for (const uint32_t ms : {100u, 200u, 400u})
            CHECK(s.tick_after(s.last.wait_ms).wait_ms == ms);
        CHECK(s.watch.count(pj::notice_kind::checkpoint_failed) == 3);
        for (const told& t : s.watch.notices) {
            if (t.kind == pj::notice_kind::checkpoint_failed)
                CHECK(t.reason == status::checkpoint_failed);
        }
        s.tick_after(400);
        CHECK(s.stored().at == 2);
        s.log.append(1, "Beta");
        s.store.saves.then(status::failed);
        s.worker.wake();
        CHECK(s.tick().wait_ms == 100);
    }
    SUBCASE("letters, though the last was never taken: its event has vanished") {
        setup s;
        s.letters();
        s.log.append(4, "Beta");
        s.a.says.at(1, pj::reject()).at(3, pj::reject());
        s.sink.puts.then(status::failed, 4);
        REQUIRE(s.start() == status::ok);
        for (const uint32_t ms : {100u, 200u, 400u})
            CHECK(s.tick_after(s.last.wait_ms).wait_ms == ms);
        s.log.remove(1);
        s.sink.forget_promise();
        s.tick_after(400);
        CHECK(s.worker.counts().vanished == 1);
        for (int i = 0; i < 20 && s.sink.put_count < 4; ++i) s.tick();
        CHECK(s.last.wait_ms == 100);
    }
}

TEST_CASE("G14 a save that covered less than is done leaves the rest its time") {
    setup s;
    s.log.append(3, "Beta");
    s.what.save = {3, 1000, false};
    s.store.saves.then(status::failed);
    REQUIRE(s.start() == status::ok);
    s.tick();
    REQUIRE(s.store.tried.size() == 1);
    s.log.append(2, "Beta");
    s.tick_after(50);                   // not yet time, for reading neither
    s.worker.wake();
    s.tick();
    CHECK(s.worker.scanned() == 4);
    CHECK(s.last.wait_ms == 50);
    s.tick_after(50);
    CHECK(s.stored().at == 2);
    CHECK(s.last.wait_ms == 950);       // the poll; the save is due after 1000
    s.tick_after(950);
    CHECK(s.stored().at == 2);
    s.tick_after(50);
    CHECK(s.stored().at == 4);
}

TEST_CASE("G11 a store that filters says that a held event is gone only by passing it") {
    for (const pj::position passed : {1, 2, 3, 4}) {
        CAPTURE(passed);
        setup s;
        s.log.append(4, "Beta");
        s.what.on_error = pj::error_policy::retry(9);
        s.a.says.always(2, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.tick();
        REQUIRE(s.worker.scanned() == 1);
        s.log.rows.clear();
        s.log.newest = 4;
        s.log.scanned_to = passed;
        s.log.reads.then(status::pending);
        s.tick_after(100);
        CHECK(s.worker.counts().vanished == (passed >= 2 ? 1 : 0));
        CHECK(s.worker.scanned() == (passed >= 2 ? passed : 1));
    }
}

TEST_CASE("G27 a store that stopped short where it had been before is not asked in a busy loop") {
    setup s;
    s.log.append(2, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    s.log.scanned_to = 1;               // no further than it was
    s.log.reads.then(status::more, 3);
    s.tick_after(1000);
    CHECK(s.last.wait_ms == 10);
    CHECK(s.last.reason == status::pending);
    s.log.newest = 5;
    s.log.scanned_to = 3;
    s.tick_after(10);
    CHECK(s.last.wait_ms == 0);         // it has moved
}

TEST_CASE("G5 a log that is trimmed after its bounds were asked halts what had begun, however") {
    for (const pj::begin_at first : {pj::begin_at::oldest_kept, pj::begin_at::the_end}) {
        setup s;
        s.log.append(5, "Beta");
        s.what.first_start = first;
        s.store.put("p", 1);
        s.log.shows = {0};
        s.log.reads.then(status::trimmed);
        REQUIRE(s.start() == status::ok);
        s.run_for(100);
        CHECK(s.worker.state() == run_state::halted);
        CHECK(s.worker.reason() == status::log_trimmed);
    }
}

TEST_CASE("G5 a first start at the oldest kept is saved first only where something is gone") {
    for (const bool is_trimmed : {false, true}) {
        setup s;
        s.log.append(5, "Beta");
        if (is_trimmed) s.log.trim_to(1);
        s.what.first_start = pj::begin_at::oldest_kept;
        REQUIRE(s.start() == status::ok);
        s.run_for(100);
        REQUIRE(!s.store.tried.empty());
        CHECK(s.store.tried.front().at == (is_trimmed ? 1 : 4));
        CHECK(s.stored().at == 4);
    }
}

TEST_CASE("G5 a volatile model whose checkpoint is above the newest event handles nothing") {
    setup s;
    s.log.append(5, "Beta");
    s.store.put("p", 9);
    s.what.volatile_model = true;
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.worker.reason() == status::checkpoint_ahead);
    CHECK(s.w.calls.empty());
}

TEST_CASE("G2 what a volatile model has to save at once does not move its checkpoint back") {
    setup s;
    s.log.append(9, "Beta");
    s.store.put("p", 5);
    s.what.volatile_model = true;
    s.what.replayed_through = 7;
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    REQUIRE(!s.store.saved.empty());
    for (const pj::checkpoint& c : s.store.saved) CHECK(c.at >= 5);
    CHECK(s.store.saved.front().replayed_through == 7);
}

TEST_CASE("G5 bounds without an id leave the log without one") {
    struct plain {
        fake_log& in;
        status read(pj::position after, pj::visitor& visit) { return in.read(after, visit); }
        status bounds(pj::position& trimmed, pj::position& newest) {
            uint64_t none = 0;
            return in.bounds(trimmed, newest, none);
        }
    };
    setup s;
    plain log{s.log};
    s.what.log = log;
    s.log.append(3, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.stored().at == 2);
    CHECK(s.stored().log_id == 0);
}

TEST_CASE("G15 bounds that are pending after an empty read, and then are there, are no trouble") {
    setup s;
    s.log.append(2, "Beta");
    s.what.poll_ms = pj::never;
    s.log.bounds_asked.then(status::ok).then(status::pending);
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.worker.wake();
    s.tick();
    s.worker.wake();
    s.tick();
    if (s.last.reason == status::pending) s.tick_after(10);
    CHECK(s.log.bounds_asked.is_empty());
    CHECK(s.last.state == run_state::idle);
    CHECK(s.last.reason == status::ok);
    CHECK(s.last.wait_ms == pj::never);
    s.log.append(1, "Beta");
    s.worker.wake();
    s.tick();
    CHECK(s.worker.scanned() == 2);
}

TEST_CASE("G15 a read that was pending is asked again, though the bounds know of nothing new") {
    setup s;
    s.log.append(2, "Beta");
    s.store.put("p", 1);
    s.log.reads.then(status::pending, 2);
    REQUIRE(s.start() == status::ok);
    for (uint32_t reads = 1; reads <= 3; ++reads) {
        s.tick_after(s.last.wait_ms);
        CHECK(s.log.read_count == reads);
        CHECK(s.last.wait_ms == (reads < 3 ? 10 : 1000));
    }
    CHECK(s.worker.caught_up());
}

TEST_CASE("G14 somebody else's save of the same position under another lease is a conflict") {
    setup s;
    s.log.append(5, "Beta");
    s.store.saves.then(status::failed);
    REQUIRE(s.start() == status::ok);
    s.tick();
    pj::checkpoint record;
    record.at = 4;
    record.revision = 1;
    record.fencing_token = 9;
    s.store.put("p", record);
    s.run_for(3000);
    CHECK(s.worker.state() == run_state::halted);
    CHECK(s.worker.reason() == status::checkpoint_conflict);
}

namespace {

/// A checkpoint store that loses one thing of what it is given.
struct forgetful {
    fake_checkpoints& in;
    void (*loses)(pj::checkpoint&);
    status load(pj::text key, pj::checkpoint& out) {
        const status s = in.load(key, out);
        loses(out);
        return s;
    }
    status save(pj::text key, const pj::checkpoint& next) { return in.save(key, next); }
};

} // namespace

TEST_CASE("G23 a store that loses any part of a rebuild's marker is found out before the drop") {
    void (*const losses[])(pj::checkpoint&) = {
        [](pj::checkpoint& c) { c.replay_stage = 0; },
        [](pj::checkpoint& c) { c.rebuild = 0; },
        [](pj::checkpoint& c) { c.replayed_through = -1; },
        [](pj::checkpoint& c) { c.at = -1; },
        [](pj::checkpoint& c) { c.fencing_token = 9; },     // which no owner has had
    };
    for (size_t i = 0; i < 5; ++i) {
        for (const bool accepts : {false, true}) {
            CAPTURE(i);
            CAPTURE(accepts);
            setup s;
            s.log.append(5, "Beta");
            s.store.put("p", 3);
            forgetful store{s.store, losses[i]};
            s.what.accept_partial_records = accepts;
            int drops = 0;
            auto drop = [&] {
                ++drops;
                return status::ok;
            };
            pj::replay_options options;
            options.on_drop = drop;
            // It loses nothing until the marker is written.
            pj::replay_engine replay{s.what, options};
            REQUIRE(replay.start() == status::ok);
            for (int ticks = 0; ticks < 50 && replay.running(); ++ticks) {
                if (!s.store.saved.empty()) s.what.checkpoints = store;
                static_cast<void>(replay.tick(s.now_ms));
                s.now_ms += 10;
            }
            const bool is_refused = !accepts || i == 3;
            CHECK((replay.reason() == status::partial_record) == is_refused);
            CHECK((drops == 0) == is_refused);
        }
    }
}

TEST_CASE("G21 nothing is handled before the claim was read back, whatever that answers at first") {
    for (const status answer : {status::failed, status::pending}) {
        cluster all;
        all.append(3);
        host h(all, 1);
        struct slow {
            cluster& of;
            status answer;
            int loads = 0;
            status load(pj::text key, pj::checkpoint& out) {
                ++loads;
                return loads == 2 || loads == 3 ? answer : of.store.load(key, out);
            }
            status save(pj::text key, const pj::checkpoint& next) {
                return of.store.save(key, next);
            }
        } store{all, answer};
        h.what.checkpoints = store;
        pj::worker w{h.what};
        REQUIRE(w.start() == status::ok);
        for (int i = 0; i < 9 && store.loads < 4; ++i) {
            CHECK(all.effects.empty());
            CHECK_FALSE(w.has_lease());
            const pj::tick_result r = w.tick(all.clock());
            if (store.loads == 2 || store.loads == 3) {
                CHECK(r.reason == (answer == status::pending ? answer
                                                              : status::checkpoint_failed));
            }
            all.clock.advance(r.wait_ms);
        }
        drain(all, w);
        CHECK(store.loads == 4);
        CHECK(w.has_lease());
        CHECK(all.effects.size() == 6);
        CHECK(h.count(pj::notice_kind::checkpoint_failed) == (answer == status::failed ? 2 : 0));
    }
}

TEST_CASE("G21 a later owner that is found when the claim is read back has the lease") {
    cluster all;
    all.append(3);
    host h(all, 1);
    struct uncomparing {        // it lets anybody save
        pj::checkpoint record;
        int loads = 0;
        status load(pj::text, pj::checkpoint& out) {
            if (++loads == 2) record.fencing_token = 50;
            out = record;
            return status::ok;
        }
        status save(pj::text, const pj::checkpoint& next) {
            record = next;
            return status::ok;
        }
    } store;
    h.what.checkpoints = store;
    pj::worker w{h.what};
    REQUIRE(w.start() == status::ok);
    for (int i = 0; i < 5 && h.count(pj::notice_kind::lease_lost) == 0; ++i)
        static_cast<void>(w.tick(all.clock()));
    CHECK(h.count(pj::notice_kind::lease_lost) == 1);
    CHECK(all.effects.empty());
    CHECK_FALSE(w.has_lease());
    CHECK(w.fencing_token() == 0);
    CHECK(w.tick(all.clock()).wait_ms > 0);
}

TEST_CASE("G23 a replay of a volatile model goes on where it was, as any other") {
    setup s;
    s.log.append(8, "Beta");
    s.what.volatile_model = true;
    pj::checkpoint record;
    record.at = 3;
    record.revision = 5;
    record.replay_stage = 2;
    record.replayed_through = 6;
    record.rebuild = 1;
    s.store.put("p", record);
    pj::replay_engine replay{s.what};
    REQUIRE(replay.start() == status::ok);
    for (int i = 0; i < 50 && replay.running(); ++i) CHECK(replay.tick(s.now_ms).wait_ms == 0);
    CHECK(replay.finished());
    CHECK(s.w.called() == "a4 a5 a6");
    CHECK(s.stored().at == 6);
}

TEST_CASE("G24 a rebuild up to the end of the log does not wait there") {
    for (const bool has_bounds : {true, false}) {
        setup s;
        s.log.append(5, "Beta");
        if (!has_bounds) s.what.log.bounds = nullptr;
        pj::replay_engine replay{s.what};
        REQUIRE(replay.start() == status::ok);
        for (int i = 0; i < 50 && replay.running(); ++i) CHECK(replay.tick(s.now_ms).wait_ms == 0);
        CHECK(replay.finished());
        CHECK(s.stored().at == 4);
    }
}

TEST_CASE("an event of an unknown type has no code, and one that vanishes at the end is no wait") {
    setup s;
    s.log.append(1, "Nobody");
    s.what.on_unknown = pj::unknown_types::fail;
    s.what.on_error = pj::error_policy::halt();
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.worker.last_failure().kind == pj::failure_kind::unknown_type);
    CHECK(s.worker.last_failure().code == 0);
    setup last;
    last.log.append(2, "Beta");
    last.what.on_error = pj::error_policy::retry(5);
    last.a.says.always(1, pj::fail());
    REQUIRE(last.start() == status::ok);
    last.tick();
    last.log.remove(1);
    last.log.newest = 1;
    last.tick_after(100);
    CHECK(last.worker.counts().vanished == 1);
    CHECK(last.worker.caught_up());
    CHECK(last.last.wait_ms == 1000);
}

TEST_CASE("G32 an event that is blamed fails once, however long its letter takes") {
    setup s;
    const pj::crash_guard guard{1};
    s.what.crashes = &guard;
    s.letters();
    s.log.append(3, "Beta");
    pj::checkpoint record;
    record.at = 0;
    record.revision = 2;
    record.suspect = 1;
    record.crashes = 1;
    s.store.put("p", record);
    s.sink.puts.then(status::pending, 3).then(status::failed, 2);
    REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
    s.run_for(5000);
    CHECK(s.sink.letters.size() == 1);
    CHECK(s.worker.counts().failed_calls == 1);
    CHECK(s.worker.counts().lettered == 1);
    CHECK(s.w.called() == "a2");
    CHECK(s.stored().at == 2);
}

TEST_CASE("G27 wake() ends no backoff of a letter, and nothing is read for it") {
    setup s;
    s.log.append(1, "Beta");
    s.letters();
    s.a.says.at(0, pj::reject());
    s.sink.puts.then(status::failed, 2);
    REQUIRE(s.start() == status::ok);
    CHECK(s.tick().wait_ms == 100);
    s.worker.wake();
    CHECK(s.tick().wait_ms == 100);
    CHECK(s.log.read_count == 1);
    CHECK(s.sink.put_count == 1);
}

namespace {
struct job { static constexpr pj::event_type type{"Job", pj::raw}; char c; };
struct stubborn {
    using handles = pj::events<job>;
    uint32_t calls = 0, wrong = 0;
    pj::verdict on(const job&, const pj::context& c) {
        ++calls;
        if (c.attempt != (calls < 0xFFFF ? calls : 0xFFFF)) ++wrong;
        return calls < 65540 ? pj::fail() : pj::handled;
    }
};
} // namespace

TEST_CASE("G9 attempts are counted up to 65535, and are never none again") {
    stubborn handler;
    pj::memory_log<2, 32> log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection what{"stubborn", log, handler, checkpoints};
    what.on_error = pj::error_policy::custom(
        [](const pj::failure&) { return pj::decision::retry_after(0); });
    pj::worker worker{what};
    log.append(job{'x'});
    REQUIRE(worker.start() == status::ok);
    for (uint32_t i = 0; i < 65600 && worker.scanned() < 0; ++i) static_cast<void>(worker.tick(0));
    CHECK(handler.calls == 65540);
    CHECK(handler.wrong == 0);
    CHECK(worker.counts().failed_calls == 65539);
}
