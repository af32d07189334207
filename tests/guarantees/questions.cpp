// What an engine answers when it is asked: where it is, how far behind, whose lease.
#include "support/cluster.hpp"
#include "support/setup.hpp"

using namespace support;
using pj::status;

TEST_CASE("G4 an engine that has loaded nothing has done nothing, not even event 0") {
    setup s;
    const auto check = [&] {
        CHECK_FALSE(s.worker.loaded());
        CHECK(s.worker.scanned() == pj::before_first);
        CHECK(s.worker.checkpointed() == pj::before_first);
        CHECK_FALSE(s.worker.has_processed(0));
        CHECK(s.worker.lag() == -1);
        CHECK_FALSE(s.worker.caught_up());
        CHECK_FALSE(s.worker.has_lease());
        CHECK(s.worker.fencing_token() == 0);
        CHECK(s.worker.last_failure().attempts == 0);
        const pj::counters n = s.worker.counts();
        CHECK(n.scanned + n.handled + n.unhandled + n.unknown + n.filtered + n.skipped == 0);
        CHECK(n.lettered + n.vanished + n.duplicate + n.foreign + n.failed_calls == 0);
    };
    check();
    CHECK(s.worker.reason() == status::ok);
    CHECK(s.worker.state() == pj::run_state::stopped);
    CHECK_FALSE(s.worker.woken());
    s.store.put("p", 7);
    s.store.loads.then(status::pending);
    REQUIRE(s.start() == status::ok);
    CHECK_FALSE(s.worker.woken());
    check();
    s.tick();
    check();
    s.run_for(100);
    CHECK(s.worker.loaded());
    CHECK(s.worker.scanned() == 7);
}

TEST_CASE("G4 the event at the checkpoint is processed, the next one is not") {
    setup s;
    s.log.append(5, "Alpha");
    s.a.says.always(3, pj::pending);
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.worker.has_processed(pj::before_first));
    CHECK(s.worker.has_processed(0));
    CHECK(s.worker.has_processed(2));
    CHECK_FALSE(s.worker.has_processed(3));
    CHECK_FALSE(s.worker.has_processed(4));
}

TEST_CASE("G5 lag() counts the positions after the last one that is done") {
    constexpr pj::position highest = INT64_MAX;
    const struct { pj::position at, newest; int64_t lag; } cases[] = {
        {-1, -1, 0}, {-1, 0, 1}, {-1, 5, 6}, {0, 0, 0}, {0, 1, 1}, {0, 5, 5}, {1, 5, 4},
        {5, 5, 0}, {0, highest, highest}, {highest - 1, highest, 1}, {highest, highest, 0},
        {-1, highest, highest},     // one more is no number
    };
    for (const auto& c : cases) {
        CAPTURE(c.at);
        CAPTURE(c.newest);
        setup s;
        if (c.at >= 0) s.store.put("p", c.at);
        if (c.newest > c.at) s.log.add(c.at + 1, "Alpha");
        s.log.newest = c.newest;
        s.a.says.otherwise = [](const pj::stored_event&, const pj::context&) {
            return pj::pending;
        };
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.worker.scanned() == c.at);
        CHECK(s.worker.lag() == c.lag);
    }
    setup unknown;
    unknown.what.log.bounds = nullptr;
    unknown.log.append(3, "Beta");
    REQUIRE(unknown.start() == status::ok);
    unknown.run_for(100);
    CHECK(unknown.worker.scanned() == 2);
    CHECK(unknown.worker.lag() == -1);
}

TEST_CASE("G16 what a sink was given twice is a duplicate, and nothing of it foreign") {
    setup s;
    s.what.log = {};
    s.what.save.every_events = 1;
    pj::event_sink sink{s.what};
    REQUIRE(sink.start() == status::ok);
    static_cast<void>(sink.tick(s.now_ms));
    pj::stored_event message;
    message.type = "Beta";
    s.w.feeding = true;
    for (const pj::position at : {4, 5, 4, 5}) {
        message.at = at;
        const pj::receive_result r = sink.receive(message, s.now_ms);
        CHECK(r.answer == pj::receipt::ack);
        CHECK(r.wait_ms == 0);
        CHECK(r.reason == status::ok);
    }
    CHECK(sink.counts().handled == 2);
    CHECK(sink.counts().duplicate == 2);
    CHECK(sink.counts().foreign == 0);
    CHECK(sink.counts().scanned == 4);

    s.what.on_error = pj::error_policy::dead_letter();      // without a sink: the broker's
    s.a.says.at(7, pj::reject());
    message.at = 7;
    const pj::receive_result r = sink.receive(message, s.now_ms);
    CHECK(r.answer == pj::receipt::reject);
    CHECK(r.wait_ms == 0);
    CHECK(r.reason == status::ok);

    // Another run, and nobody says that it comes again: the source has started over.
    sink.stop();
    static_cast<void>(sink.tick(s.now_ms));
    REQUIRE(sink.start() == status::ok);
    static_cast<void>(sink.tick(s.now_ms));
    message.at = 5;
    CHECK(sink.receive(message, s.now_ms).reason == status::log_replaced);
    CHECK(sink.receive(message, s.now_ms, true).answer == pj::receipt::ack);
}

TEST_CASE("G21 a lease is one when it is claimed, and what a later owner has saved is not loaded") {
    cluster all;
    all.append(3);
    host h(all, 1);
    SUBCASE("not while the record is being loaded") {
        struct slow {
            cluster& of;
            int pendings = 3;
            status load(pj::text key, pj::checkpoint& out) {
                return pendings-- > 0 ? status::pending : of.store.load(key, out);
            }
            status save(pj::text key, const pj::checkpoint& next) {
                return of.store.save(key, next);
            }
        } store{all};
        h.what.checkpoints = store;
        pj::worker w{h.what};
        REQUIRE(w.start() == status::ok);
        for (int i = 0; i < 3; ++i) {
            static_cast<void>(w.tick(all.clock()));
            CHECK_FALSE(w.has_lease());
            CHECK(w.fencing_token() == 1);
            CHECK_FALSE(w.loaded());
            all.clock.advance(10);
        }
        drain(all, w);
        CHECK(w.has_lease());
        CHECK(h.count(pj::notice_kind::loaded) == 1);
    }
    SUBCASE("not if the record has a higher token") {
        pj::checkpoint record;
        record.revision = 1;
        record.fencing_token = 99;
        REQUIRE(all.store.save("p", record) == status::ok);
        pj::worker w{h.what};
        REQUIRE(w.start() == status::ok);
        drain(all, w);
        CHECK_FALSE(w.has_lease());
        CHECK(h.count(pj::notice_kind::loaded) == 0);
        CHECK(all.effects.empty());
    }
}

TEST_CASE("G2 a position below before_first is no checkpoint, and no record comes without ok") {
    struct odd {
        status answer = status::ok;
        pj::position at = -2;
        int saves = 0;
        status load(pj::text, pj::checkpoint& out) {
            out.at = at;
            return answer;
        }
        status save(pj::text, const pj::checkpoint&) {
            ++saves;
            return status::ok;
        }
    };
    for (const status answer : {status::ok, status::failed, status::pending, status::conflict}) {
        odd store;
        store.answer = answer;
        setup s;
        s.what.checkpoints = store;
        s.log.append(3, "Beta");
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK_FALSE(s.worker.loaded());
        CHECK(store.saves == 0);
        CHECK(s.w.calls.empty());
        if (answer == status::ok) {
            CHECK(s.worker.state() == pj::run_state::halted);
            CHECK(s.worker.reason() == status::checkpoint_corrupt);
        } else {
            CHECK(s.worker.state() == pj::run_state::waiting);
            CHECK(s.worker.reason() == (answer == status::pending ? status::pending
                                                                   : status::checkpoint_failed));
            CHECK(s.last.wait_ms == (answer == status::pending ? 10 : 100));
        }
    }
}

TEST_CASE("G21 a token in the record is no lease, and a lease is one only when it is claimed") {
    setup s;
    pj::checkpoint record;
    record.at = 1;
    record.revision = 4;
    record.fencing_token = 77;
    s.store.put("p", record);
    s.log.append(5, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.worker.scanned() == 4);
    CHECK(s.stored().fencing_token == 77);
    CHECK(s.worker.fencing_token() == 0);
    CHECK_FALSE(s.worker.has_lease());
}

TEST_CASE("G32 start() without a cause is a clean start") {
    setup s;
    const pj::crash_guard guard{1};
    s.what.crashes = &guard;
    s.log.append(5, "Beta");
    for (int i = 0; i < 4; ++i) {
        pj::worker worker{s.what};
        REQUIRE(worker.start() == status::ok);
        static_cast<void>(worker.tick(0));
        for (const pj::checkpoint& c : s.store.tried) {
            CHECK(c.suspect == pj::before_first);
            CHECK(c.crashes == 0);
        }
        s.log.append(2, "Beta");
    }
    CHECK(s.stored().at == 10);
}

TEST_CASE("G32 when the end of the log was reached the record speaks of no crash any more") {
    for (const uint32_t most : {1u, 2u, 3u, 5u}) {
        for (uint32_t i = 0; i < 16; ++i) {
            const uint32_t events = i / 2;
            CAPTURE(most);
            CAPTURE(events);
            setup s;
            const pj::crash_guard guard{3};
            s.what.crashes = &guard;
            s.what.unsaved_max = most;
            if (i % 2 != 0) s.what.save = {100, 1000000, false};    // whatever the save rule
            s.log.append(events, "Beta");
            REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
            s.run_for(3000);
            CHECK(s.stored().crashes == 0);
            CHECK(s.stored().suspect == pj::before_first);
            CHECK(s.worker.state() == pj::run_state::idle);
        }
    }
}

TEST_CASE("G32 an engine without a guard leaves what one has written to the next that has one") {
    setup s;
    pj::checkpoint record;
    record.at = 1;
    record.revision = 4;
    record.suspect = 9;
    record.crashes = 2;
    s.store.put("p", record);
    s.log.append(9, "Alpha");
    s.what.on_error = pj::error_policy::halt();
    s.b.says.at(4, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.run_for(3000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.stored().crashes == 2);
    REQUIRE(s.worker.retry_failed() == status::ok);
    s.run_for(3000);
    CHECK(s.stored().at == 8);
    CHECK(s.stored().crashes == 2);
    CHECK(s.stored().suspect == 9);
}

TEST_CASE("G28 a record that is found corrupt after a refused save halts at once, untouched") {
    setup s;
    s.log.append(5, "Beta");
    REQUIRE(s.start() == status::ok);
    s.store.saves.then(status::conflict);
    s.tick();
    s.store.loads.then(status::checkpoint_corrupt);
    s.tick();
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.worker.reason() == status::checkpoint_corrupt);
    const size_t tried = s.store.tried.size();
    CHECK(s.worker.reset(2) == status::conflict);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.store.tried.size() == tried);
    const uint32_t loads = s.store.load_count;
    REQUIRE(s.worker.retry_failed() == status::ok);
    CHECK_FALSE(s.worker.loaded());
    s.run_for(100);
    CHECK(s.store.load_count == loads + 1);
    CHECK(s.stored().at == 4);
}

TEST_CASE("G32 a crash is in the record before anything is handled, wherever the first start was") {
    const struct { pj::position at; uint32_t revision; } cases[] = {
        {pj::before_first, 3},  // it began at the end of a log that was empty
        {5, 0},                 // a store that keeps no revisions
        {5, 3}, {pj::before_first, 0},
    };
    for (const auto& c : cases) {
        CAPTURE(c.at);
        CAPTURE(c.revision);
        setup s;
        const pj::crash_guard guard{5};
        s.what.crashes = &guard;
        s.what.first_start = pj::begin_at::the_end;
        s.log.append(8, "Alpha");
        pj::checkpoint record;
        record.at = c.at;
        record.revision = c.revision;
        record.suspect = c.at + 1;
        record.crashes = 1;
        s.store.put("p", record);
        REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
        s.a.says.before = [&] { CHECK(s.stored().crashes == 2); };
        const bool is_new = c.at < 0 && c.revision == 0;
        for (int i = 0; i < 9 && s.w.calls.empty(); ++i) s.tick();
        CHECK(s.w.calls.empty() == is_new);
        REQUIRE(!s.store.tried.empty());
        CHECK(s.store.tried.front().at == (is_new ? 7 : c.at));
        CHECK(s.store.tried.front().crashes == 2);
    }
}

TEST_CASE("G24 a replay is finished when its last save is done, not before") {
    setup s;
    s.log.append(4, "Beta");
    pj::replay_engine replay{s.what};
    CHECK_FALSE(replay.finished());
    CHECK(replay.how_far().percent == 0);
    REQUIRE(replay.start() == status::ok);
    bool was_told = false;
    s.watch.also = [&](const pj::notice& n) {
        if (n.kind != pj::notice_kind::rebuild_finished) return;
        was_told = true;
        s.store.saves.then(status::failed, 3);
    };
    uint32_t now = 0;
    for (int i = 0; i < 100 && replay.running(); ++i) {
        now += replay.tick(now).wait_ms;
        if (replay.running()) CHECK_FALSE(replay.finished());
    }
    CHECK(was_told);
    CHECK(s.store.saves.is_empty());
    CHECK(replay.finished());
    CHECK(replay.how_far().percent == 100);
    CHECK(s.stored().replay_stage == 0);
}

TEST_CASE("G14 after any number of failures in a row the wait is the cap") {
    for (int which = 0; which < 3; ++which) {
        CAPTURE(which);
        setup s;
        if (which != 0) s.log.append(3, "Beta");
        s.what.delays = {1, 64, 2, 0, 1};
        s.what.stop_ms = pj::never;
        s.letters();
        if (which == 0) s.log.reads.always(status::failed);
        if (which == 1) s.store.saves.always(status::failed);
        if (which == 2) {
            s.a.says.at(0, pj::fail());
            s.sink.puts.always(status::failed);
        }
        s.what.poll_ms = pj::never;
        REQUIRE(s.start() == status::ok);
        for (int failures = 1; failures < 600; ++failures) {
            s.drain();
            REQUIRE(s.last.wait_ms == (failures < 7 ? 1u << (failures - 1) : 64u));
            s.now_ms += s.last.wait_ms;
        }
    }
}

TEST_CASE("G27 wake() asks again what was pending, at once, and nothing that has failed") {
    SUBCASE("a letter that is pending") {
        setup s;
        s.log.append(1, "Alpha");
        s.letters();
        s.what.pending_ms = pj::never;
        s.b.says.at(0, pj::reject());
        s.sink.puts.then(status::pending, 2);
        REQUIRE(s.start() == status::ok);
        for (uint32_t puts = 1; puts <= 3; ++puts) {
            s.tick();
            CHECK(s.sink.put_count == puts);
            if (puts < 3) CHECK(s.last.wait_ms == pj::never);
            s.worker.wake();
        }
    }
    SUBCASE("a letter that was refused, beside a handler that is pending") {
        setup s;
        s.log.append(1, "Alpha");
        s.letters();
        s.what.pending_ms = pj::never;
        s.a.says.always(0, pj::pending);
        s.b.says.at(0, pj::reject());
        s.sink.puts.then(status::failed);
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.last.wait_ms == 100);
        for (uint32_t calls = 2; calls < 6; ++calls) {
            s.worker.wake();
            s.tick();
            CHECK(s.w.times("a", 0) == calls);
            CHECK(s.sink.put_count == 1);
        }
        s.tick_after(100);
        CHECK(s.sink.put_count == 2);
    }
    SUBCASE("a save that is pending") {
        setup s;
        s.log.append(1, "Beta");
        s.what.pending_ms = pj::never;
        s.store.saves.then(status::pending, 2);
        REQUIRE(s.start() == status::ok);
        for (size_t saves = 1; saves <= 3; ++saves) {
            s.tick();
            CHECK(s.store.tried.size() == saves);
            s.worker.wake();
        }
        CHECK(s.stored().at == 0);
    }
}

TEST_CASE("G13 the observer hears of a pause once, however often it was asked for") {
    setup s;
    REQUIRE(s.start() == status::ok);
    s.worker.resume();
    s.run_for(10);
    CHECK(s.watch.count(pj::notice_kind::resumed) == 0);
    for (int i = 0; i < 3; ++i) {
        s.worker.pause();
        s.run_for(10);
    }
    CHECK(s.watch.count(pj::notice_kind::paused) == 1);
    for (int i = 0; i < 3; ++i) {
        s.worker.resume();
        s.run_for(10);
    }
    CHECK(s.watch.count(pj::notice_kind::resumed) == 1);
}

TEST_CASE("G14 while it is not known who has saved, nothing is saved") {
    for (const status answer : {status::failed, status::pending}) {
        setup s;
        s.log.append(3, "Beta");
        s.what.save.every_ms = 0;
        s.store.saves.then(status::conflict);
        s.store.loads.then(status::ok).then(answer, 3);
        REQUIRE(s.start() == status::ok);
        for (int i = 0; i < 4; ++i) {
            s.tick();
            CHECK(s.store.tried.size() == 1);
            s.now_ms += s.last.wait_ms;
        }
        CHECK(s.store.load_count >= 4);
        s.tick();
        CHECK(s.worker.reason() == status::checkpoint_conflict);
    }
}

TEST_CASE("G14 while it is not known who has saved, nothing is handled, however short the wait") {
    setup s;
    s.log.append(4, "Beta");
    s.what.batch = 2;
    s.what.save.every_events = 2;
    s.what.pending_ms = 0;
    s.store.saves.then(status::conflict);
    s.store.loads.then(status::ok).then(status::pending, 3);
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 4; ++i) s.tick();
    CHECK(s.store.load_count == 4);
    CHECK(s.w.called() == "a0 a1");
}

TEST_CASE("G29 the first mistake is named, though a lease is described as it should be") {
    cluster all;
    host h(all, 1);
    h.what.transaction.commit = [](void*) { return status::ok; };
    h.what.transaction.rollback = [](void*) { return status::ok; };
    pj::worker w{h.what};
    CHECK(w.start() == status::no_unit_of_work);
    h.what.transaction = {};
    h.what.batch = 0;
    CHECK(w.start() == status::bad_batch);
    h.what.batch = 1;
    h.lease.ttl_ms = 0;
    CHECK(w.start() == status::bad_lease);
}

TEST_CASE("tick() without an argument goes by the projection's clock") {
    setup s;
    auto clock = [&] { return s.now_ms; };
    s.what.clock = clock;
    s.log.append(3, "Beta");
    s.a.says.at(1, pj::fail());
    s.what.on_error = pj::error_policy::retry(3);
    pj::tick_result inside{};
    s.a.says.before = [&] { inside = s.worker.tick(); };
    REQUIRE(s.start() == status::ok);
    const pj::tick_result r = s.worker.tick();
    CHECK(s.w.called() == "a0 a1");
    CHECK(s.w.calls.front().now_ms == 1000);
    CHECK(r.scanned == 1);
    CHECK(r.wait_ms == 100);
    CHECK(inside.reason == status::reentered);
    CHECK(inside.state == pj::run_state::running);
    CHECK(inside.wait_ms == pj::never);
    CHECK(inside.scanned == 0);
    s.now_ms += 99;
    CHECK(s.worker.tick().wait_ms == 1);
    s.now_ms += 1;
    CHECK(s.worker.tick().scanned == 1);
    CHECK(s.w.called() == "a0 a1 a1");
    CHECK(s.w.calls.back().now_ms == 1100);
}

TEST_CASE("G26 tick() from inside a callback is refused as such, clock or not") {
    setup s;
    s.log.append(1, "Beta");
    pj::tick_result inside{};
    s.a.says.before = [&] { inside = s.worker.tick(); };
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(inside.reason == status::reentered);
}

TEST_CASE("G27 the tick that ends a run says 0, whatever the engine had waited for") {
    for (int which = 0; which < 5; ++which) {
        CAPTURE(which);
        setup s;
        s.log.append(3, "Beta");
        s.what.save = {100, 100000, false};
        if (which == 2) s.a.says.always(1, pj::pending_for(77));
        if (which == 3) s.store.loads.always(status::failed);
        if (which == 4) s.what.poll_ms = pj::never;
        REQUIRE(s.start() == status::ok);
        s.tick();
        if (which == 1) {
            s.worker.pause();
            s.tick();
            CHECK(s.worker.state() == pj::run_state::paused);
            CHECK(s.last.wait_ms == pj::never);
        }
        s.worker.stop();
        s.tick();
        CHECK(s.last.state == pj::run_state::stopped);
        CHECK(s.last.wait_ms == 0);
        s.tick();
        CHECK(s.last.wait_ms == pj::never);
    }
}

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("a clock that throws stands still") {
    setup s;
    bool throws = false;
    auto clock = [&] {
        if (throws) throw 1;
        return s.now_ms;
    };
    s.what.clock = clock;
    s.log.append(2, "Beta");
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.at(0, pj::fail());
    REQUIRE(s.start() == status::ok);
    CHECK(s.worker.tick().wait_ms == 100);
    throws = true;
    s.now_ms += 1000;
    for (int i = 0; i < 3; ++i) CHECK(s.worker.tick().wait_ms == 100);
    throws = false;
    CHECK(s.worker.tick().scanned == 1);
}

TEST_CASE("G26 a clock that throws when a read begins has not moved since the tick did") {
    setup s;
    bool throws = false;
    auto clock = [&] {
        const bool now = throws;
        throws = false;
        if (now) throw 1;
        return s.now_ms;
    };
    s.what.clock = clock;
    s.what.tick_ms_max = 30;
    s.log.append(5, "Beta");
    REQUIRE(s.start() == status::ok);
    throws = true;
    CHECK(s.tick().scanned == 5);
}

TEST_CASE("G14 a port that throws has failed") {
    const step thrown{status::ok, false, true};
    for (int which = 0; which < 4; ++which) {
        CAPTURE(which);
        setup s;
        s.log.append(3, "Beta");
        if (which == 0) s.log.reads.then(thrown);
        if (which == 1) s.log.bounds_asked.then(thrown);
        if (which == 2) s.store.loads.then(thrown);
        if (which == 3) s.store.saves.then(thrown);
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.worker.state() == pj::run_state::waiting);
        CHECK(s.worker.reason() ==
              (which < 2 ? status::store_failed : status::checkpoint_failed));
        CHECK(s.last.wait_ms == 100);
        s.run_for(100);
        CHECK(s.worker.state() == pj::run_state::idle);
        CHECK(s.stored().at == 2);
    }
}
#endif
