// One engine, several runs: what one leaves behind is nothing to the next, and what go on after a
// halt and after a reset begin with.
#include "support/cluster.hpp"
#include "support/setup.hpp"

#include <algorithm>

using namespace support;
using pj::run_state;
using pj::status;

namespace {

/// Its checkpoint store fails, and stop() has given up on it.
struct stopped_unsaved : setup {
    explicit stopped_unsaved(uint32_t events = 5) {
        log.append(events, "Beta");
        what.save = {100, 100000, false};
        what.stop_ms = 5000;
        REQUIRE(start() == status::ok);
        tick();
        store.saves.always(status::failed);
        CHECK(stop() == status::checkpoint_failed);
        store.saves.clear();
        REQUIRE(worker.start() == status::ok);
    }
};

} // namespace

TEST_CASE("G28 a run that begins anew is running, with no reason, and has not caught up") {
    setup s;
    s.log.append(3, "Beta");
    const auto check_fresh = [&] {
        CHECK(s.worker.state() == run_state::running);
        CHECK(s.worker.reason() == status::ok);
        CHECK(s.worker.running());
        CHECK_FALSE(s.worker.caught_up());
        CHECK_FALSE(s.worker.loaded());
        CHECK(s.worker.scanned() == pj::before_first);
        CHECK(s.worker.lag() == -1);
        CHECK(s.worker.counts().scanned == 0);
        CHECK(s.worker.counts().failed_calls == 0);
        CHECK(s.worker.last_failure().attempts == 0);
    };
    REQUIRE(s.start() == status::ok);
    check_fresh();
    s.a.says.at(1, pj::reject());
    s.run_for(100);
    CHECK(s.worker.caught_up());
    CHECK(s.worker.counts().failed_calls == 1);
    CHECK(s.stop() == status::ok);
    CHECK(s.worker.counts().failed_calls == 1);     // until the next start
    REQUIRE(s.start() == status::ok);
    check_fresh();
    CHECK(s.watch.notices.back().kind == pj::notice_kind::started);
    CHECK(s.watch.notices.back().at == pj::before_first);

    s.log.append(1, "Beta");
    s.what.on_error = pj::error_policy::halt();
    s.a.says.at(3, pj::fail());
    s.run_for(100);
    REQUIRE(s.worker.state() == run_state::halted);
    REQUIRE(s.start() == status::ok);
    check_fresh();
    s.run_for(100);
    CHECK(s.stored().at == 3);
}

TEST_CASE("G28 a pause ends with its run") {
    setup s;
    s.log.append(3, "Beta");
    REQUIRE(s.start() == status::ok);
    s.worker.pause();
    s.run_for(100);
    CHECK(s.worker.state() == run_state::paused);
    CHECK(s.stop() == status::ok);
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.worker.state() == run_state::idle);
    CHECK(s.stored().at == 2);
    CHECK(s.watch.count(pj::notice_kind::resumed) == 0);
}

TEST_CASE("G14 what the last run could not save is no trouble of the next") {
    stopped_unsaved s;
    s.tick();
    CHECK(s.worker.scanned() == 4);
    CHECK(s.worker.state() == run_state::idle);
    CHECK(s.worker.reason() == status::ok);         // no save has failed in this run
    CHECK(s.w.times("a", 0) == 2);
    s.store.saves.then(status::failed);
    s.worker.pause();                               // which saves
    CHECK(s.tick().wait_ms == 100);                 // the first failure of this run
    s.run_for(100);
    CHECK(s.stored().at == 4);
}

TEST_CASE("G14 so many events as may be unsaved, in each run anew") {
    for (const uint32_t most : {5u, 6u, 9u}) {
        CAPTURE(most);
        setup s;
        s.log.append(5, "Beta");
        s.what.unsaved_max = most;
        s.what.save = {100, 100000, false};
        s.store.saves.always(status::failed);
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.worker.scanned() == 4);
        CHECK(s.stop() == status::checkpoint_failed);
        s.log.append(7, "Beta");
        REQUIRE(s.worker.start() == status::ok);
        s.drain();
        CHECK(s.worker.scanned() == most - 1);      // from -1 again
    }
}

TEST_CASE("G14 waits begin anew with the run, however often something had failed before") {
    for (int which = 0; which < 3; ++which) {
        CAPTURE(which);
        setup s;
        plan& port = which == 0 ? s.store.loads : which == 1 ? s.log.bounds_asked : s.log.reads;
        s.log.append(3, "Beta");
        s.log.shows.assign(100, 0);
        port.always(status::failed);
        REQUIRE(s.start() == status::ok);
        for (const uint32_t ms : {100u, 200u, 400u, 800u})
            CHECK(s.tick_after(s.last.wait_ms).wait_ms == ms);
        CHECK(s.stop() == status::ok);
        REQUIRE(s.worker.start() == status::ok);
        CHECK(s.tick().wait_ms == 100);             // at once, and then after the first wait
        CHECK(s.worker.state() == run_state::waiting);
        CHECK(s.tick_after(100).wait_ms == 200);
        port.clear();
        s.log.shows.clear();
        s.run_for(1000);
        CHECK(s.worker.scanned() == 2);
        CHECK(s.worker.reason() == status::ok);
    }
}

TEST_CASE("G31 after a halt the engine is running at once, and says no more why it had halted") {
    for (int how = 0; how < 3; ++how) {
        CAPTURE(how);
        setup s;
        s.log.append(4, "Beta");
        s.what.on_error = pj::error_policy::halt();
        s.a.says.at(2, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.run_for(100);
        REQUIRE(s.worker.state() == run_state::halted);
        CHECK(s.worker.reason() == status::handler_failed);
        CHECK((how == 0   ? s.worker.retry_failed()
               : how == 1 ? s.worker.skip_failed(2) : s.worker.reset(0)) == status::ok);
        CHECK(s.worker.state() == run_state::running);
        CHECK(s.worker.reason() == status::ok);
        CHECK(s.worker.running());
        s.run_for(100);
        CHECK(s.worker.reason() == status::ok);
        CHECK(s.stop() == status::ok);
        CHECK(s.stored().at == 3);
    }
}

TEST_CASE("G5 what happened to the log during a halt is seen before anything is handled") {
    for (int what = 0; what < 3; ++what) {
        for (int how = 0; how < 3; ++how) {
            CAPTURE(what);
            CAPTURE(how);
            setup s;
            s.log.log_id = 4;
            s.log.append(6, "Beta");
            s.what.on_error = pj::error_policy::halt();
            s.a.says.at(2, pj::fail());
            REQUIRE(s.start() == status::ok);
            s.run_for(100);
            REQUIRE(s.worker.state() == run_state::halted);
            if (what == 0) s.log.log_id = 5;
            if (what == 1) s.log.trim_to(3);
            if (what == 2) s.log.rows.clear();
            CHECK((how == 0   ? s.worker.retry_failed()
                   : how == 1 ? s.worker.skip_failed(2) : s.worker.reset(1)) == status::ok);
            s.w.calls.clear();
            s.run_for(3000);
            CHECK(s.worker.state() == run_state::halted);
            CHECK(s.worker.reason() == (what == 0   ? status::log_replaced
                                        : what == 1 ? status::log_trimmed
                                                    : status::checkpoint_ahead));
            CHECK(s.w.calls.empty());
        }
    }
}

TEST_CASE("G31 a reset ends the wait at the end of the log and every backoff of reading") {
    for (const bool fails : {false, true}) {
        setup s;
        s.log.append(3, "Beta");
        if (fails) {
            s.log.shows = {3};
            s.log.reads.then(status::failed);
        }
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.worker.scanned() == 2);
        REQUIRE(s.last.wait_ms != 0);
        s.w.calls.clear();
        REQUIRE(s.worker.reset(0) == status::ok);
        s.drain();                      // no time passes
        CHECK(s.w.called() == "a1 a2");
    }
}

namespace {

/// Transactions that do nothing, slowly if they are told so.
struct transactions {
    plan begins, commits, rollbacks;
    uint32_t rollback_count = 0;
    status begin() { return begins.take().answer; }
    status commit() { return commits.take().answer; }
    status rollback() {
        ++rollback_count;
        return rollbacks.take().answer;
    }
};

} // namespace

TEST_CASE("G28 a rollback that stays pending does not keep stop() for ever, nor is it slept over") {
    for (const bool is_stop : {true, false}) {
        CAPTURE(is_stop);
        setup s;
        transactions slow;
        s.what.transaction = slow;
        s.what.pending_ms = pj::never;
        s.what.unit_ms_max = 300;
        s.what.stop_ms = 700;
        s.log.append(3, "Beta");
        s.a.says.always(1, pj::pending);
        slow.rollbacks.always(status::pending);
        REQUIRE(s.start() == status::ok);
        s.drain();
        CHECK(s.last.wait_ms == 300);
        if (is_stop) {
            s.worker.stop();
            s.tick();
            CHECK(slow.rollback_count == 1);
            CHECK(s.worker.running());
            CHECK(s.last.wait_ms == 700);
            s.tick_after(699);
            CHECK(s.worker.running());
            CHECK(s.last.wait_ms == 1);
            s.tick_after(1);
            CHECK(s.worker.state() == run_state::stopped);
            continue;
        }
        s.tick_after(300);
        CHECK(slow.rollback_count == 1);
        CHECK(s.last.wait_ms == pj::never);         // only wake() is asked for
        CHECK(s.last.reason == status::pending);
        const size_t calls = s.w.calls.size();
        const uint32_t reads = s.log.read_count;
        for (int i = 0; i < 3; ++i) {
            s.worker.wake();
            s.tick_after(1000);
        }
        CHECK(slow.rollback_count == 4);
        CHECK(s.w.calls.size() == calls);           // nothing is handled before it is done
        CHECK(s.log.read_count == reads);
        slow.rollbacks.clear();
        s.worker.wake();
        s.drain();
        CHECK(slow.rollback_count == 5);
        CHECK(s.w.calls.size() > calls);
    }
}

TEST_CASE("G13 while a rollback is pending, the lease is renewed and the rollback asked for") {
    for (const bool is_paused : {true, false}) {
        CAPTURE(is_paused);
        cluster all;
        all.append(3);
        host h(all, 1);
        transactions slow;
        h.what.transaction = slow;
        h.what.pending_ms = is_paused ? 10 : pj::never;
        h.what.unit_ms_max = 300;
        h.does = [](const pj::context& c, bool) {
            return c.event.at == 1 ? pj::pending_for(100000) : pj::handled;
        };
        slow.rollbacks.always(status::pending);
        pj::worker w{h.what};
        REQUIRE(w.start() == status::ok);
        CHECK(drain(all, w).wait_ms == 300);
        if (is_paused) w.pause();
        else all.clock.advance(300);
        const uint32_t waits = w.tick(all.clock()).wait_ms;
        CHECK(slow.rollback_count == 1);
        CHECK(waits == (is_paused ? 10 : 700));     // a third of the lease's time, less 300
        for (int i = 0; i < 40; ++i) {
            all.clock.advance(w.tick(all.clock()).wait_ms);
            CHECK(w.has_lease());
        }
        if (is_paused) CHECK(slow.rollback_count > 30);
        else CHECK(slow.rollback_count == 1);       // only wake() is asked for
    }
}

TEST_CASE("G9 a partition that was given away and came back waits no longer than its backoff") {
    cluster all;
    all.append(2);
    host h(all, 1);
    h.what.on_error = pj::error_policy::retry(9);
    std::vector<uint64_t> tries;
    h.does = [&](const pj::context& c, bool second) -> pj::verdict {
        if (c.event.at != 2 || second) return pj::handled;
        tries.push_back(all.clock.full());
        return tries.size() < 3 ? pj::fail() : pj::handled;
    };
    pj::partition_limit limit{0};
    pj::partition_options options;
    options.limit = &limit;
    pj::partitioned_worker w{h.what, pj::partition{0, 1}, options};
    REQUIRE(w.start() == status::ok);
    CHECK(drain(all, w).wait_ms == 301);
    limit.set(1);
    w.wake();                                       // it ends no wait for a place
    CHECK(drain(all, w).wait_ms == 301);
    CHECK_FALSE(w.has_lease());
    run_for(all, 400, w);
    REQUIRE(w.has_lease());
    CHECK(w.checkpointed() == 1);
    limit.set(0);
    run_for(all, 1500, w);
    REQUIRE_FALSE(w.has_lease());
    limit.set(1);
    all.append(1);
    run_for(all, 1500, w);
    REQUIRE(tries.size() == 3);
    CHECK(tries[1] - tries[0] == 100);
    CHECK(tries[2] - tries[1] == 200);
    CHECK(w.checkpointed() == 2);
}

TEST_CASE("G7 what waits is known before anything is handled, after a halt on the way there, too") {
    cluster all;
    all.append(1);
    host h(all, 1);
    pj::letter_sequences<2> waiting;
    h.what.dead_letters = all.letters;
    h.what.sequences = waiting;
    h.what.on_error = pj::error_policy::dead_letter();
    h.does = [](const pj::context& c, bool second) {
        return c.event.at == 0 && !second ? pj::reject() : pj::handled;
    };
    {
        pj::worker w{h.what};
        REQUIRE(w.start() == status::ok);
        run_for(all, 100, w);
        w.stop();
        run_for(all, 100, w);
        REQUIRE(all.letters.kept.size() == 1);
    }
    pj::letter_sequences<2> unknown_yet;
    h.what.sequences = unknown_yet;
    all.store.positions_only = true;
    pj::worker w{h.what};
    REQUIRE(w.start() == status::ok);
    run_for(all, 100, w);
    REQUIRE(w.reason() == status::partial_record);
    h.what.accept_partial_records = true;
    REQUIRE(w.retry_failed() == status::ok);
    all.append(7);                      // the last of them is of the aggregate that waits
    run_for(all, 2000, w);
    CHECK(w.checkpointed() == 7);
    CHECK(all.letters.kept.size() == 2);
    CHECK(all.letters.kept.count({"p", 0, "first", 7, 0}) == 1);
}

TEST_CASE("a letter that cannot be decoded when it comes again is not the engine's failure") {
    setup s;
    projections_kit::memory_letters letters;
    pj::letter_sequences<2> waiting;
    s.what.dead_letters = letters;
    s.what.sequences = waiting;
    s.what.on_error = pj::error_policy::dead_letter();
    s.log.rows = {{0, "Alpha", "!", "x"}, {1, "Alpha", "", "y"}, {2, "Alpha", "", "y"}};
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.worker.counts().failed_calls == 1);
    CHECK(s.worker.scanned() == 2);
    const size_t told_before = s.watch.notices.size();
    CHECK(waiting.redeliver(s.worker, "", "x") == status::decode_failed);
    CHECK(s.watch.notices.size() == told_before);
    CHECK(s.worker.counts().failed_calls == 1);
    CHECK(s.worker.last_failure().attempts == 1);
    s.log.add(3, "Alpha");
    s.run_for(2000);
    CHECK(s.worker.scanned() == 3);
    CHECK(s.worker.counts().handled == 3);
    CHECK(s.worker.counts().vanished == 0);
    CHECK(s.stored().at == 3);
}

TEST_CASE("G28 a broker that does not let go keeps no sink from stopping, in its time") {
    struct client {
        int unsubscribes = 0;
        status subscribe(pj::text, pj::text) { return status::ok; }
        status unsubscribe(pj::text, pj::text) {
            ++unsubscribes;
            return status::pending;
        }
    } broker;
    for (const uint32_t stop_ms : {1u, 700u}) {
        broker.unsubscribes = 0;
        setup s;
        s.what.log = {};
        s.what.stop_ms = stop_ms;
        s.what.pending_ms = pj::never;
        pj::sink_options options;
        options.client = broker;
        pj::event_sink sink{s.what, options};
        REQUIRE(sink.start() == status::ok);
        static_cast<void>(sink.tick(s.now_ms));
        sink.stop();
        CHECK(sink.tick(s.now_ms).wait_ms == stop_ms);
        CHECK(broker.unsubscribes == 1);
        CHECK(sink.running());
        static_cast<void>(sink.tick(s.now_ms + stop_ms - 1));
        CHECK(sink.running());
        static_cast<void>(sink.tick(s.now_ms + stop_ms));
        CHECK(sink.state() == run_state::stopped);
    }
}

TEST_CASE("G28 a stop() does not hide why an engine halts") {
    setup s;
    s.log.append(5, "Beta");
    s.what.save = {100, 100000, false};
    s.what.on_error = pj::error_policy::halt();
    s.a.says.at(3, pj::fail());
    s.store.saves.then(status::failed, 2);
    REQUIRE(s.start() == status::ok);
    s.tick();
    REQUIRE(s.worker.running());        // it halts, when what was done before is saved
    s.worker.stop();
    s.run_for(60000);
    CHECK(s.worker.state() == run_state::halted);
    CHECK(s.worker.reason() == status::handler_failed);
    CHECK(s.stored().at == 2);
    CHECK(s.worker.skip_failed(3) == status::ok);
}

TEST_CASE("G14 over somebody else's record nothing is saved, not even at the end") {
    setup s;
    s.log.append(5, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    s.store.put("p", 40, 7);
    s.log.append(2, "Beta");
    s.run_for(2000);
    CHECK(s.worker.state() == run_state::halted);
    CHECK(s.worker.reason() == status::checkpoint_conflict);
    CHECK(s.store.tried.size() == 2);           // the first, and the one that was refused
    CHECK(s.stored().at == 40);
}

TEST_CASE("G14 loads that have failed make no later wait longer, and are no reason any more") {
    setup s;
    s.log.append(3, "Beta");
    s.store.loads.then(status::failed, 3);
    s.log.shows = {0};
    s.log.reads.then(status::failed);
    REQUIRE(s.start() == status::ok);
    s.worker.pause();
    for (const uint32_t ms : {100u, 200u, 400u}) CHECK(s.tick_after(s.last.wait_ms).wait_ms == ms);
    CHECK(s.worker.reason() == status::checkpoint_failed);
    s.tick_after(400);
    CHECK(s.worker.loaded());
    CHECK(s.worker.state() == run_state::paused);
    CHECK(s.worker.reason() == status::ok);
    s.worker.resume();
    s.tick();
    CHECK(s.worker.reason() == status::store_failed);
    CHECK(s.last.wait_ms == 100);
}

TEST_CASE("G14 when a save is refused nothing more is handled before the record is loaded") {
    setup s;
    s.log.append(5, "Beta");
    s.what.save.every_events = 2;
    s.what.batch = 2;
    s.store.saves.then(status::failed).then(status::conflict);
    REQUIRE(s.start() == status::ok);
    s.tick();
    REQUIRE(s.store.tried.size() == 1);
    s.w.trace.clear();
    s.now_ms += 100;
    for (int i = 0; i < 20 && s.store.tried.size() == 1; ++i) s.tick();
    const auto refused = std::find(s.w.trace.begin(), s.w.trace.end(), "save 1 r1");
    REQUIRE(refused != s.w.trace.end());
    s.tick();
    CHECK(std::find(refused, s.w.trace.end(), "load") == refused + 1);
}

TEST_CASE("G15 what was pending is no reason any more when it has come") {
    setup s;
    s.log.append(6, "Beta");
    s.what.batch = 2;
    s.log.shows = {0};
    s.log.reads.then(status::pending);
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.last.state == run_state::waiting);
    CHECK(s.last.reason == status::pending);
    s.tick_after(10);
    CHECK(s.last.scanned == 2);
    CHECK(s.last.state == run_state::running);
    CHECK(s.last.reason == status::ok);
    CHECK(s.last.wait_ms == 0);
}

TEST_CASE("G16 only what has gone wrong has a reason") {
    setup s;
    s.log.append(3, "Beta");
    s.what.observe_handled = true;
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    s.worker.pause();
    s.run_for(10);
    s.worker.resume();
    s.run_for(10);
    CHECK(s.stop() == status::ok);
    CHECK(s.watch.kinds() == "started loaded event_handled event_handled event_handled "
                             "checkpoint_saved paused resumed stopped");
    for (const told& t : s.watch.notices) CHECK(t.reason == status::ok);
}
