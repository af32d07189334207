// One engine, several runs: what one leaves behind is nothing to the next, and what go on after a
// halt and after a reset begin with.
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
        for (const uint32_t ms : {100u, 200u, 400u, 800u}) CHECK(s.tick_after(s.last.wait_ms).wait_ms == ms);
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

TEST_CASE("G28 a broker that does not let go keeps no sink from stopping, nor does it go too early") {
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
    while (s.store.tried.size() == 1) s.tick();
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
