// Events that are held, given up or gone: when what became of them is saved and told; what commands
// and the guards make of what a record says.
#include "support/setup.hpp"

using namespace support;
using pj::run_state;
using pj::status;

namespace {

/// Event `at` fails for ever, and everything after it waits.
struct holding : setup {
    explicit holding(pj::position at, uint32_t events = 6) {
        log.append(events, "Beta");
        what.on_error = pj::error_policy::retry(100);
        what.delays = {100, 100, 1, 0, 1};
        a.says.always(at, pj::fail());
    }
    void lose(pj::position at) {
        log.newest = log.top();
        log.remove(at);
    }
};

pj::checkpoint record_at(pj::position at) {
    pj::checkpoint record;
    record.at = at;
    record.revision = 1;
    return record;
}

} // namespace

TEST_CASE("G14 an event that is skipped or gone is saved when any other would be") {
    SUBCASE("the first that is not saved: after every_ms") {
        holding s(0, 1);
        s.what.save = {100, 1000, false};
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.lose(0);
        s.tick_after(100);
        CHECK(s.worker.counts().vanished == 1);
        CHECK(s.store.tried.empty());
        s.tick_after(999);
        CHECK(s.store.tried.empty());
        s.tick_after(1);
        CHECK(s.stored().at == 0);
    }
    SUBCASE("not the first: with those before it") {
        holding s(3, 4);
        s.what.save = {100, 1000, false};
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.tick_after(850);
        s.lose(3);
        s.tick_after(100);
        CHECK(s.worker.counts().vanished == 1);
        CHECK(s.store.tried.empty());
        s.tick_after(49);
        CHECK(s.store.tried.empty());
        s.tick_after(1);
        CHECK(s.stored().at == 3);
    }
    SUBCASE("it is one of every_events") {
        holding s(0, 3);
        s.what.save = {3, 100000, false};
        s.what.batch = 2;
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.lose(0);
        s.tick_after(100);              // it is gone, and the next one is handled
        CHECK(s.worker.scanned() == 1);
        CHECK(s.store.tried.empty());
        s.drain();
        CHECK(s.stored().at == 2);
    }
}

TEST_CASE("G16 what is skipped by hand and what is gone are told as such, with no reason") {
    holding s(1);
    s.what.on_error = pj::error_policy::halt();
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    REQUIRE(s.worker.state() == run_state::halted);
    CHECK(s.worker.skip_failed(1) == status::ok);
    CHECK(s.watch.notices.back().kind == pj::notice_kind::event_skipped);
    CHECK(s.watch.notices.back().reason == status::ok);
    CHECK(s.watch.notices.back().at == 1);
    holding gone(1);
    REQUIRE(gone.start() == status::ok);
    gone.tick();
    gone.lose(1);
    gone.run_for(300);
    CHECK(gone.watch.count(pj::notice_kind::event_vanished) == 1);
    for (const told& t : gone.watch.notices) {
        if (t.kind == pj::notice_kind::event_vanished) CHECK(t.reason == status::ok);
    }
}

TEST_CASE("G9 the longest of the waits that a policy wants for one event decides") {
    for (const bool is_first_longer : {true, false}) {
        setup s;
        s.log.append(1, "Alpha");
        s.a.says.at(0, pj::fail(is_first_longer ? 500 : 70));
        s.b.says.at(0, pj::fail(is_first_longer ? 70 : 500));
        s.what.on_error = pj::error_policy::custom(
            [](const pj::failure& f) { return pj::decision::retry_after(f.code); });
        REQUIRE(s.start() == status::ok);
        CHECK(s.tick().wait_ms == 500);
        s.tick_after(499);
        CHECK(s.w.calls.size() == 3);
        s.tick_after(1);
        CHECK(s.w.called() == "a0 b0 c0 a0 b0");
    }
}

TEST_CASE("G12 the wait for a letter grows with failures in a row, and with nothing else") {
    setup s;
    s.letters();
    s.log.append(2, "Beta");
    s.a.says.at(0, pj::reject()).at(1, pj::reject());
    s.sink.puts.then(status::failed, 2).then(status::pending).then(status::failed)
        .then(status::ok).then(status::failed, 2);
    REQUIRE(s.start() == status::ok);
    for (const uint32_t ms : {100u, 200u, 10u, 100u}) {
        CHECK(s.tick().wait_ms == ms);
        s.now_ms += ms;
    }
    for (int i = 0; i < 20 && s.sink.put_count < 6; ++i) s.tick();
    CHECK(s.last.wait_ms == 100);
    CHECK(s.tick_after(100).wait_ms == 200);
    for (const told& t : s.watch.notices) {
        if (t.kind == pj::notice_kind::letter_failed) CHECK(t.reason == status::dead_letter_failed);
    }
    CHECK(s.watch.count(pj::notice_kind::letter_failed) == 5);
}

TEST_CASE("G31 skip_failed() of no event is refused where none is held") {
    setup s;
    s.log.append(3, "Beta");
    s.log.log_id = 4;
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    s.log.log_id = 5;
    s.run_for(2000);
    REQUIRE(s.worker.reason() == status::log_replaced);
    CHECK(s.worker.skip_failed(pj::before_first) == status::not_halted);
    CHECK(s.worker.skip_failed(2) == status::not_halted);
    CHECK(s.worker.scanned() == 2);
    CHECK(s.worker.state() == run_state::halted);
    CHECK(s.worker.counts().skipped == 0);
}

TEST_CASE("G31 a reset of an engine that has halted before it had loaded is refused") {
    setup s;
    s.log.append(3, "Beta");
    s.store.loads.then(status::checkpoint_corrupt);
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    REQUIRE(s.worker.state() == run_state::halted);
    CHECK(s.worker.reset() == status::not_loaded);
    CHECK(s.worker.set_position(-1, 1) == status::not_loaded);
    CHECK(s.worker.state() == run_state::halted);
}

TEST_CASE("G14 a reset does not cut the wait of a save that has failed short") {
    setup s;
    s.log.append(3, "Beta");
    s.store.saves.then(status::failed);
    REQUIRE(s.start() == status::ok);
    s.tick();
    REQUIRE(s.store.tried.size() == 1);
    REQUIRE(s.worker.reset(0) == status::ok);
    CHECK(s.tick().wait_ms == 100);
    s.tick_after(99);
    CHECK(s.store.tried.size() == 1);
    s.tick_after(1);
    CHECK(s.store.tried.size() >= 2);
    s.run_for(100);
    CHECK(s.stored().at == 2);
}

TEST_CASE("G31 G32 a reset below the event that the record names takes the name away") {
    for (const pj::position to : {-1, 3, 5, 7}) {
        CAPTURE(to);
        setup s;
        const pj::crash_guard guard{9};
        s.what.crashes = &guard;
        s.log.append(9, "Beta");
        pj::checkpoint record = record_at(4);
        record.suspect = 5;
        record.crashes = 1;
        s.store.put("p", record);
        s.a.says.at(5, pj::pending);
        REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
        s.run_for(5);
        CHECK(s.stored().suspect == 5);
        const size_t before = s.store.saved.size();
        REQUIRE(s.worker.reset(to) == status::ok);
        s.tick();
        REQUIRE(s.store.saved.size() == before + 1);
        CHECK(s.store.saved.back().at == to);
        if (to < 5) CHECK(s.store.saved.back().suspect == pj::before_first);
        s.run_for(3000);
        CHECK(s.stored().at == 8);
        CHECK(s.stored().suspect == pj::before_first);
        CHECK(s.stored().crashes == 0);
    }
}

TEST_CASE("G32 an event that was done is not in work: a clean start names nothing") {
    setup s;
    const pj::crash_guard guard{1};
    s.what.crashes = &guard;
    s.log.append(9, "Beta");
    pj::checkpoint record = record_at(5);
    record.suspect = 5;
    s.store.put("p", record);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    CHECK(s.w.called() == "a6 a7 a8");
    CHECK(s.store.tried.size() == 1);
    CHECK(s.stored().suspect == pj::before_first);
}

TEST_CASE("G32 after a clean start nobody is blamed, whatever the record says; it is cleared") {
    for (const uint16_t crashes : {uint16_t{0}, uint16_t{5}}) {
        CAPTURE(crashes);
        setup s;
        const pj::crash_guard guard{1};
        s.what.crashes = &guard;
        s.log.append(4, "Beta");
        pj::checkpoint record = record_at(1);
        record.suspect = 2;
        record.crashes = crashes;
        s.store.put("p", record);
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(3000);
        CHECK(s.w.called() == "a2 a3");
        CHECK(s.worker.counts().skipped == 0);
        CHECK(s.stored().suspect == pj::before_first);
        CHECK(s.stored().crashes == 0);
    }
}

TEST_CASE("G32 crashes are counted up to 65535 and are then still enough") {
    setup s;
    const pj::crash_guard guard{0xFFFF};
    s.what.crashes = &guard;
    s.log.append(4, "Beta");
    pj::checkpoint record = record_at(1);
    record.suspect = 2;
    record.crashes = 0xFFFF;
    s.store.put("p", record);
    REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
    s.run_for(3000);
    REQUIRE(!s.store.tried.empty());
    CHECK(s.store.tried.front().crashes == 0xFFFF);
    CHECK(s.w.called() == "a3");
    CHECK(s.worker.counts().skipped == 1);
}

TEST_CASE("G32 a volatile model is read again: an event below its checkpoint may be in work") {
    setup s;
    const pj::crash_guard guard{1};
    s.what.crashes = &guard;
    s.what.volatile_model = true;
    s.log.append(6, "Beta");
    pj::checkpoint record = record_at(4);
    record.suspect = 2;
    record.crashes = 1;
    s.store.put("p", record);
    REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
    s.run_for(3000);
    CHECK(s.w.called() == "a0 a1 a3 a4 a5");
    CHECK(s.worker.counts().skipped == 1);
    CHECK(s.stored().at == 5);
}

TEST_CASE("G8 a hole that ends where the replayed events do was settled before") {
    for (const pj::position through : {3, 4, 5}) {
        CAPTURE(through);
        setup s;
        const pj::gap_guard guard{};
        s.what.gaps = &guard;
        pj::checkpoint record = record_at(2);
        record.replayed_through = through;
        s.store.put("p", record);
        s.log.add(5, "Beta").add(6, "Beta");    // 3 and 4 are missing
        REQUIRE(s.start() == status::ok);
        s.run_for(100);
        CHECK(s.w.called() == (through < 4 ? "" : "a5 a6"));
        CHECK(s.watch.count(pj::notice_kind::gap_found) == (through < 4 ? 1 : 0));
        for (const told& t : s.watch.notices) {
            if (t.kind == pj::notice_kind::gap_found) CHECK(t.reason == status::log_gap);
        }
    }
}

TEST_CASE("G8 a hole whose time is over is told with its reason, and passed") {
    setup s;
    const pj::gap_guard guard{300};
    s.what.gaps = &guard;
    s.log.add(0, "Beta").add(2, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(299);
    CHECK(s.w.called() == "a0");
    s.run_for(10);
    CHECK(s.w.called() == "a0 a2");
    CHECK(s.watch.count(pj::notice_kind::gap_skipped) == 1);
    for (const told& t : s.watch.notices) {
        if (t.kind == pj::notice_kind::gap_skipped) {
            CHECK(t.reason == status::log_gap);
            CHECK(t.at == 1);
        }
    }
}

TEST_CASE("G15 a pending handler that is put off because no letter can be noted is still resumed") {
    crowd<5> s;
    s.letters();
    s.log.append(1, "Alpha");
    for (size_t i = 0; i < 3; ++i) s.hands[i]->says.always(0, pj::reject(1));
    s.hands[3]->says.at(0, pj::pending).at(0, pj::reject(1));
    s.hands[4]->says.at(0, pj::pending);
    s.sink.puts.then(pj::status::failed, 4);
    REQUIRE(s.start() == pj::status::ok);
    s.run_for(10000);
    CHECK(s.stored().at == 0);
    REQUIRE(s.w.calls.size() == 7);
    CHECK(s.w.calls[5].who == "h3");
    CHECK(s.w.calls[6].who == "h4");
    CHECK(s.w.calls[6].resumed);
}
