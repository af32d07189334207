// G28 and the part of G13 that needs no lease: stop and pause in every state.
#include "support/setup.hpp"

using namespace support;
using pj::run_state;
using pj::status;

namespace {

/// Brings a setup into one of the states in which it may be told to stop.
struct state {
    const char* name;
    void (*enter)(setup&);
    pj::position done;      // the last completed event
};

const state states[] = {
    {"idle", [](setup&) {}, 4},
    {"load fails", [](setup& s) { s.store.loads.always(status::failed); }, -1},
    {"load is pending", [](setup& s) { s.store.loads.always(status::pending); }, -1},
    {"bounds fail", [](setup& s) { s.log.bounds_asked.always(status::failed); }, -1},
    {"bounds are pending", [](setup& s) { s.log.bounds_asked.always(status::pending); }, -1},
    {"read fails",
     [](setup& s) {
         s.log.reads.always(status::failed);
         s.log.shows = {2, 0, 0};
     },
     1},
    {"backoff", [](setup& s) { s.a.says.always(2, pj::fail()); }, 1},
    {"a handler is pending", [](setup& s) { s.a.says.always(3, pj::pending); }, 2},
    {"the sink fails",
     [](setup& s) {
         s.letters();
         s.a.says.always(1, pj::fail());
         s.sink.puts.always(status::failed);
     },
     0},
};

} // namespace

TEST_CASE("G28 stop ends in every state with the last completed event saved") {
    for (const state& in : states) {
        CAPTURE(in.name);
        setup s;
        s.log.append(5, "Beta");
        s.what.on_error = pj::error_policy::retry(50);
        in.enter(s);
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.worker.stop();
        CHECK(s.worker.woken());
        s.tick_after(1);
        CHECK_FALSE(s.worker.running());
        CHECK(s.worker.state() == run_state::stopped);
        CHECK(s.worker.reason() == status::ok);
        CHECK(s.stored().at == in.done);
        const size_t calls = s.w.trace.size();
        s.tick_after(100000);
        CHECK(s.w.trace.size() == calls);
        CHECK(s.last.wait_ms == pj::never);
    }
}

TEST_CASE("G28 a new start after each of these stops carries on without a gap") {
    for (const state& in : states) {
        CAPTURE(in.name);
        setup s;
        s.log.append(5, "Beta");
        s.what.on_error = pj::error_policy::skip();
        in.enter(s);
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.stop() == status::ok);
        s.store.loads.clear();
        s.log.bounds_asked.clear();
        s.log.reads.clear();
        s.log.shows.clear();
        s.sink.puts.clear();
        const pj::position from = s.stored().at;
        s.w.calls.clear();
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.worker.counts().scanned == (from < 3 && in.done == 2 ? 0u : 4u - from));
        for (const call& c : s.w.calls) CHECK(c.at > from);
    }
}

TEST_CASE("G28 a save that never works ends the stop after stop_ms and is reported") {
    for (const status answer : {status::failed, status::pending}) {
        for (const uint32_t stop_ms : {0u, 1u, 700u, 5000u}) {
            setup s;
            s.log.append(5, "Beta");
            s.what.stop_ms = stop_ms;
            s.store.saves.always(answer);
            REQUIRE(s.start() == status::ok);
            s.tick();
            const uint32_t begun = s.now_ms;
            CHECK(s.stop() == status::checkpoint_failed);
            CHECK(s.now_ms - begun <= stop_ms);
            CHECK(s.worker.checkpointed() == pj::before_first);
            CHECK(s.worker.scanned() == 4);
            CHECK(s.watch.notices.back().kind == pj::notice_kind::stopped);
            CHECK(s.watch.notices.back().reason == status::checkpoint_failed);
        }
    }
}

TEST_CASE("G28 a save that works at last within stop_ms ends the stop well") {
    setup s;
    s.log.append(5, "Beta");
    s.store.saves.then(status::failed, 3).then(status::pending, 3);
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.stop() == status::ok);
    CHECK(s.stored().at == 4);
}

TEST_CASE("G28 stop while more was done than the save under way covers") {
    for (const status answer : {status::failed, status::pending}) {
        setup s;
        s.log.append(5, "Beta");
        s.store.saves.then(answer);
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.log.append(5, "Beta");
        s.worker.wake();
        s.tick();
        CHECK(s.stop() == status::ok);
        CHECK(s.stored().at == s.worker.scanned());
    }
}

TEST_CASE("G28 stop with a conflict and a load that hangs still ends") {
    setup s;
    s.log.append(5, "Beta");
    s.store.saves.then(lost_answer());
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.store.loads.always(status::failed);
    const uint32_t begun = s.now_ms;
    s.worker.stop();
    s.run_for(60000);
    CHECK_FALSE(s.worker.running());
    CHECK(s.now_ms - begun <= s.what.stop_ms);
    CHECK(s.stored().at == 4);
}

TEST_CASE("G28 stop() from inside a handler ends after this tick at a completed event") {
    setup s;
    s.log.append(50, "Beta");
    s.what.batch = 10;
    s.a.says.before = [&]() { if (s.w.calls.back().at == 3) s.worker.stop(); };
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.w.calls.size() <= 10);
    CHECK((s.last.wait_ms == 0 || s.worker.woken()));
    s.tick();
    CHECK(s.worker.state() == run_state::stopped);
    CHECK(s.stored().at == s.w.calls.back().at);
}

TEST_CASE("G28 a stop from before the start is forgotten, a second one changes nothing") {
    setup s;
    s.log.append(5, "Beta");
    s.worker.stop();
    s.worker.pause();
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.w.calls.size() == 5);
    s.store.saves.always(status::failed);
    s.log.append(1, "Beta");
    s.run_for(1000);
    s.worker.stop();
    s.tick();
    const uint32_t begun = s.now_ms;
    for (int i = 0; i < 200 && s.worker.running(); ++i) {
        s.worker.stop();
        s.tick_after(100);
    }
    CHECK(s.now_ms - begun <= 5100);        // stop_ms is not begun again
}

TEST_CASE("G13 during a backoff stop and pause are honoured within one tick") {
    for (const bool stops : {true, false}) {
        setup s;
        s.log.append(3, "Beta");
        s.what.on_error = pj::error_policy::retry(9);
        s.what.delays.first_ms = 30000;
        s.what.save.every_ms = pj::never;
        s.a.says.always(1, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.last.wait_ms > 10000);
        if (stops) s.worker.stop();
        else s.worker.pause();
        CHECK(s.worker.woken());
        s.tick_after(1);
        CHECK(s.last.state == (stops ? run_state::stopped : run_state::paused));
        CHECK(s.stored().at == 0);
    }
}

TEST_CASE("G13 a paused engine reads nothing, calls no handler, and saves what is done") {
    setup s;
    s.log.append(5, "Beta");
    s.what.batch = 2;
    s.what.save = {1000, pj::never, false};
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.worker.pause();
    s.run_for(100000);
    CHECK(s.last.state == run_state::paused);
    CHECK(s.last.wait_ms == pj::never);
    CHECK(s.w.calls.size() == 2);
    CHECK(s.stored().at == 1);
    s.worker.pause();
    s.worker.resume();
    s.run_for(1000);
    CHECK(s.w.calls.size() == 5);
    CHECK(s.watch.count(pj::notice_kind::paused) == 1);
    CHECK(s.watch.count(pj::notice_kind::resumed) == 1);
}

TEST_CASE("G13 pause and resume during a backoff keep its attempts and its time") {
    setup s;
    s.log.append(1, "Beta");
    s.what.on_error = pj::error_policy::retry(2);
    s.a.says.always(0, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.worker.pause();
    s.tick_after(10);
    s.run_for(1000);
    s.worker.resume();
    s.run_for(10000);
    CHECK(s.worker.state() == run_state::halted);
    CHECK(s.w.calls.size() == 3);
}

TEST_CASE("G28 stop() while a save fails tries again at once") {
    setup s;
    s.log.append(1, "Beta");
    s.store.saves.then(pj::status::failed);
    REQUIRE(s.start() == pj::status::ok);
    s.tick();
    CHECK(s.store.tried.size() == 1);
    s.worker.stop();
    s.tick();
    CHECK(s.store.tried.size() == 2);
    CHECK(s.worker.state() == pj::run_state::stopped);
    CHECK(s.worker.reason() == pj::status::ok);
}

TEST_CASE("G28 a record that is damaged is not loaded in a loop while a run that halts would save") {
    setup s;
    s.what.on_error = pj::error_policy::halt();
    s.a.says.always(1, pj::fail(1));
    s.log.append(3, "Beta");
    s.store.saves.then(status::conflict);
    s.store.loads.then(status::ok).then(status::checkpoint_corrupt, 1000);
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 100 && s.worker.running(); ++i) s.tick_after(s.last.wait_ms);
    CHECK_FALSE(s.worker.running());
    CHECK(s.store.load_count < 20);
}

TEST_CASE("G28 an engine that ends is running until it has ended, whatever it waits for") {
    for (const bool is_paused : {false, true}) {
        CAPTURE(is_paused);
        setup s;
        s.log.append(3, "Beta");
        s.store.saves.always(status::pending);
        REQUIRE(s.start() == status::ok);
        s.tick();
        if (is_paused) s.worker.pause();
        s.tick();
        s.worker.stop();
        s.tick();
        CHECK(s.worker.state() == run_state::running);
        CHECK(s.last.wait_ms > 0);
        s.store.saves.clear();
        CHECK(s.stop() == status::ok);
        CHECK(s.stored().at == 2);
    }
}
