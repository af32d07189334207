// G15: `pending` from any port or handler: never an attempt, never a busy wait, never a lost event,
// never a standstill.
#include "kit/projections_kit.hpp"
#include "support/setup.hpp"

using namespace support;
using pj::status;

namespace {

/// Ticks `times`, each after the wait that was asked for; none may be 0 while something is pending.
void wait_through(setup& s, int times) {
    for (int i = 0; i < times; ++i) {
        CHECK(s.last.reason == status::pending);
        CHECK(s.last.state == pj::run_state::waiting);
        CHECK(s.last.wait_ms == s.what.pending_ms);
        s.tick_after(s.last.wait_ms);
    }
}

} // namespace

TEST_CASE("G15 each port may be pending, waits pending_ms, and then goes on as if nothing was") {
    for (const uint32_t wait_ms : {1u, 10u, 5000u}) {
        for (int which = 0; which < 6; ++which) {
            CAPTURE(which);
            setup s;
            s.log.append(3, "Beta");
            s.what.pending_ms = wait_ms;
            s.what.save.every_ms = pj::never;
            s.letters();
            switch (which) {
            case 0: s.store.loads.then(status::pending, 5); break;
            case 1: s.log.bounds_asked.then(status::pending, 5); break;
            case 2: s.log.reads.then(status::pending, 5); s.log.shows = {0, 0, 0, 0, 0}; break;
            case 3: s.store.saves.then(status::pending, 5); break;
            case 4: s.a.says.at(1, pj::fail()); s.sink.puts.then(status::pending, 5); break;
            default: s.a.says.at(1, pj::pending, 5); break;
            }
            REQUIRE(s.start() == status::ok);
            s.tick();
            if (which != 4) wait_through(s, 5);
            s.run_for(100000);
            CHECK(s.stored().at == 2);
            CHECK(s.w.times("a", 0) == 1);
            CHECK(s.w.times("a", 1) == (which == 5 ? 6 : 1));
            CHECK(s.w.times("a", 2) == 1);
            CHECK(s.worker.counts().scanned == 3);
            CHECK(s.worker.counts().failed_calls == (which == 4 ? 1 : 0));
            CHECK(s.worker.last_failure().attempts == (which == 4 ? 1 : 0));
        }
    }
}

TEST_CASE("G15 with pending_ms = never only wake() goes on") {
    for (int which = 0; which < 6; ++which) {
        CAPTURE(which);
        setup s;
        s.log.append(2, "Beta");
        s.what.pending_ms = pj::never;
        s.what.save = {1, 1000, true};
        s.letters();
        switch (which) {
        case 0: s.store.loads.then(status::pending); break;
        case 1: s.log.bounds_asked.then(status::pending); break;
        case 2: s.log.reads.then(status::pending); s.log.shows = {0}; break;
        case 3: s.store.saves.then(status::pending); break;
        case 4: s.a.says.at(0, pj::fail()); s.sink.puts.then(status::pending); break;
        default: s.a.says.at(0, pj::pending); break;
        }
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.last.wait_ms == pj::never);
        const uint32_t calls = s.w.port_calls;
        s.tick_after(100000);
        s.tick_after(0x7FFFFFFF);
        CHECK(s.w.port_calls == calls);
        CHECK(s.worker.scanned() < 1);
        s.worker.wake();
        CHECK(s.worker.woken());
        s.run_for(10000);
        CHECK(s.stored().at == 1);
        CHECK(s.worker.counts().scanned == 2);
    }
}

TEST_CASE("G15 pending_for has a wait of its own, the shortest of several counts") {
    crowd<4> s;
    s.log.append(1, "Alpha");
    s.hands[0]->says.at(0, pj::pending_for(500));
    s.hands[1]->says.at(0, pj::pending_for(70));
    s.hands[2]->says.at(0, pj::pending_for(300));
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.last.wait_ms == 70);
    s.tick_after(69);
    CHECK(s.w.calls.size() == 4);
    CHECK(s.last.wait_ms == 1);
    s.run_for(5000);
    CHECK(s.worker.counts().handled == 1);
    CHECK(s.w.times("h3", 0) == 1);
}

TEST_CASE("G15 resumed is said only to a handler that answered pending for this very event") {
    setup s;
    s.log.append(2, "Alpha");
    s.what.on_error = pj::error_policy::retry(2);
    s.b.says.at(0, pj::pending).at(0, pj::fail()).at(1, pj::pending);
    s.c.says.at(0, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    std::string resumed;
    for (const call& c : s.w.calls) {
        if (c.resumed)
            resumed += c.who + std::to_string(c.at) + "#" + std::to_string(c.attempt) + " ";
    }
    CHECK(resumed == "b0#1 b1#1 ");
    CHECK(s.worker.counts().handled == 2);
}

TEST_CASE("G15 reset forgets pending calls: the next one is not resumed") {
    setup s;
    s.log.append(1, "Alpha");
    s.b.says.at(0, pj::pending);
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.worker.reset() == status::ok);
    s.run_for(1000);
    CHECK(s.w.called() == "a0 b0 c0 a0 b0 c0");
    for (const call& c : s.w.calls) CHECK_FALSE(c.resumed);
}

TEST_CASE("G15 a wake from inside the handler that answers pending is not lost") {
    setup s;
    s.log.append(1, "Alpha");
    s.what.pending_ms = pj::never;
    s.b.says.at(0, pj::pending);
    s.b.says.before = [&]() { if (s.w.times("b", 0) == 1) s.b.last_waker.wake(); };
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK((s.last.wait_ms == 0 || s.worker.woken()));
    s.tick();
    CHECK(s.worker.counts().handled == 1);
}

TEST_CASE("G15 a wake does not shorten a backoff") {
    setup s;
    s.log.append(1, "Alpha");
    s.what.on_error = pj::error_policy::retry(3);
    s.b.says.at(0, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.last.wait_ms == 100);
    for (int i = 0; i < 9; ++i) {
        s.worker.wake();
        s.tick_after(10);
    }
    CHECK(s.w.times("b", 0) == 1);
    s.tick_after(10);
    CHECK(s.w.times("b", 0) == 2);
}

TEST_CASE("G15 a handler that is pending for ever does not busy-wait nor lose its event") {
    setup s;
    s.log.append(2, "Alpha");
    s.b.says.always(0, pj::pending);
    REQUIRE(s.start() == status::ok);
    s.run_for(10000);
    CHECK(s.w.times("b", 0) <= 1002);
    CHECK(s.w.times("a", 0) == 1);
    CHECK(s.worker.scanned() == pj::before_first);
    CHECK(s.worker.counts().failed_calls == 0);
}

TEST_CASE("G15 a store that answers more without an event does not busy-wait") {
    setup s;
    s.log.append(3, "Beta");
    s.log.reads.then(status::more, 50);
    for (int i = 0; i < 50; ++i) s.log.shows.push_back(0);
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 50; ++i) {
        s.tick();
        CHECK(s.last.wait_ms > 0);
        s.now_ms += s.last.wait_ms;
    }
    s.run_for(1000);
    CHECK(s.w.called() == "a0 a1 a2");
}

TEST_CASE("G15 a pending handler beside a failing one: nobody waits for ever, nothing runs twice") {
    for (const uint32_t pending_ms : {1u, 10u, 1000u}) {
        setup s;
        s.log.append(2, "Alpha");
        s.what.pending_ms = pending_ms;
        s.what.on_error = pj::error_policy::retry(2);
        s.a.says.at(0, pj::fail(), 2);
        s.b.says.at(0, pj::pending, 3);
        REQUIRE(s.start() == status::ok);
        s.run_for(60000);
        CHECK(s.w.times("a", 0) == 3);
        CHECK(s.w.times("b", 0) == 4);
        CHECK(s.w.times("c", 0) == 1);
        CHECK(s.stored().at == 1);
    }
}

namespace {
/// A log behind a network: the first call of each question answers pending, its answer rings.
struct remote_log {
    fake_log& log;
    pj::worker* rung = nullptr;
    int questions = 0;
    bool is_read_sent = false, is_bounds_sent = false;

    status read(pj::position after, pj::visitor& visit) {
        return ask(is_read_sent) ? log.read(after, visit) : status::pending;
    }
    status bounds(pj::position& trimmed, pj::position& newest, uint64_t& id) {
        return ask(is_bounds_sent) ? log.bounds(trimmed, newest, id) : status::pending;
    }

private:
    bool ask(bool& is_sent) {
        is_sent = !is_sent;
        if (is_sent) ++questions;
        if (is_sent && rung != nullptr) rung->wake();
        return !is_sent;
    }
};
} // namespace

TEST_CASE("G15 at the end of a log that answers later, bounds too, the engine is idle") {
    for (const bool rings : {false, true}) {
        CAPTURE(rings);
        setup s;
        remote_log remote{s.log};
        if (rings) remote.rung = &s.worker;
        s.what.log = remote;
        s.log.append(3, "Beta");
        REQUIRE(s.start() == status::ok);
        s.run_for(1000);
        CHECK(s.stored().at == 2);
        const int before = remote.questions;
        s.run_for(10000);
        CHECK(remote.questions - before <= 12);     // one for each poll
        CHECK(s.worker.caught_up());
        CHECK(s.worker.lag() == 0);
        s.log.append(2, "Beta");                    // and still sees what is new
        s.run_for(1100);
        CHECK(s.stored().at == 4);
    }
}

TEST_CASE("G15 wake() asks again for a letter of a sequence that is pending") {
    setup s;
    projections_kit::memory_letters letters;
    pj::letter_sequences<2> waiting;
    s.what.dead_letters = letters;
    s.what.sequences = waiting;
    s.what.on_error = pj::error_policy::dead_letter();
    s.what.pending_ms = pj::never;
    s.log.rows = {{0, "Beta", "", "x"}, {1, "Beta", "", "x"}};
    s.a.says.at(0, pj::reject());
    letters.puts.pass(1).then(status::pending, false);
    REQUIRE(s.start() == status::ok);
    s.drain();
    CHECK(s.worker.scanned() == 0);
    CHECK(s.last.wait_ms == 1000);
    for (int i = 0; i < 3; ++i) {
        s.worker.wake();
        s.tick_after(10000);
    }
    CHECK(s.worker.scanned() == 1);
}
