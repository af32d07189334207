// G31: reset, set_position, skip_failed and retry_failed in every state; a refused one changes
// nothing.
#include "support/setup.hpp"

using namespace support;
using pj::run_state;
using pj::status;

namespace {

/// Halted before event 2 of five.
struct halted_at_2 : setup {
    halted_at_2() {
        log.append(5, "Alpha");
        what.on_error = pj::error_policy::retry(1);
        b.says.at(2, pj::fail(), 2);
        REQUIRE(start() == status::ok);
        run_for(10000);
        CHECK(worker.state() == run_state::halted);
        w.calls.clear();
    }
};

} // namespace

TEST_CASE("G31 commands to an engine that is not started are refused") {
    setup s;
    CHECK(s.worker.reset() == status::stopped);
    CHECK(s.worker.set_position(-1, 3) == status::stopped);
    CHECK(s.worker.retry_failed() == status::not_halted);
    CHECK(s.worker.skip_failed(0) == status::not_halted);
    REQUIRE(s.start() == status::ok);
    CHECK(s.worker.reset() == status::not_loaded);
    CHECK(s.worker.set_position(-1, 3) == status::not_loaded);
    CHECK(s.w.port_calls == 0);
}

TEST_CASE("G31 commands to an engine that ran and stopped are refused and change nothing") {
    setup s;
    s.log.append(5, "Alpha");
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.stop() == status::ok);
    CHECK(s.worker.reset() == status::stopped);
    CHECK(s.worker.set_position(4, 1) == status::stopped);
    CHECK(s.worker.set_position(3, 1) != status::ok);
    CHECK(s.stored().at == 4);
    CHECK(s.worker.scanned() == 4);
}

TEST_CASE("G31 skip_failed with the wrong position, or when nothing is halted, changes nothing") {
    halted_at_2 s;
    for (const pj::position wrong : {-1, 0, 1, 3, 100}) {
        CHECK(s.worker.skip_failed(wrong) == status::not_halted);
    }
    CHECK(s.worker.state() == run_state::halted);
    CHECK(s.worker.skip_failed(2) == status::ok);
    CHECK(s.worker.skip_failed(2) == status::not_halted);
    s.run_for(5000);
    CHECK(s.w.called() == "a3 b3 c3 a4 b4 c4");
    CHECK(s.worker.counts().skipped == 1);
    CHECK(s.stored().at == 4);
}

TEST_CASE("G31 retry_failed tries as many times as at first, only the handlers that failed") {
    halted_at_2 s;
    s.b.says.at(2, pj::fail(), 1);
    CHECK(s.worker.retry_failed() == status::ok);
    CHECK(s.worker.retry_failed() == status::not_halted);
    s.run_for(5000);
    CHECK(s.w.called() == "b2 b2 a3 b3 c3 a4 b4 c4");
    CHECK(s.worker.counts().handled == 5);
    CHECK(s.stored().at == 4);
}

TEST_CASE("G31 retry_failed that fails again halts again, with every attempt made") {
    halted_at_2 s;
    for (int i = 0; i < 4; ++i) {
        s.b.says.at(2, pj::fail(), 2);
        CHECK(s.worker.retry_failed() == status::ok);
        s.run_for(5000);
        CHECK(s.worker.state() == run_state::halted);
    }
    CHECK(s.w.called() == "b2 b2 b2 b2 b2 b2 b2 b2");
    CHECK(s.worker.skip_failed(2) == status::ok);
}

TEST_CASE("G31 set_position refuses when the engine is elsewhere") {
    setup s;
    s.log.append(5, "Alpha");
    REQUIRE(s.start() == status::ok);
    s.tick();
    for (const pj::position wrong : {-1, 0, 3, 5}) {
        CHECK(s.worker.set_position(wrong, 0) == status::conflict);
    }
    CHECK(s.worker.scanned() == 4);
    CHECK(s.worker.set_position(4, 2) == status::ok);
    s.w.calls.clear();
    s.run_for(2000);
    CHECK(s.w.called() == "a3 b3 c3 a4 b4 c4");
}

TEST_CASE("G31 reset is saved before the next event is read, down and to the same place") {
    for (const pj::position to : {-1, 1, 4}) {
        setup s;
        s.log.append(5, "Alpha");
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.store.saves.then(status::failed, 2).then(status::pending, 2);
        CHECK(s.worker.reset(to) == status::ok);
        s.w.trace.clear();
        s.run_for(60000);
        const auto first = [&](const std::string& line) {
            return std::find(s.w.trace.begin(), s.w.trace.end(), line) - s.w.trace.begin();
        };
        const std::string where = std::to_string(to);
        CHECK(first("save " + where + " r2") < first("read " + where));
        CHECK(first("read " + where) < static_cast<std::ptrdiff_t>(s.w.trace.size()));
        CHECK(s.stored().at == 4);
    }
}

TEST_CASE("G31 reset ends a halt, a retry, a pending call and an owed letter") {
    for (int which = 0; which < 4; ++which) {
        CAPTURE(which);
        setup s;
        s.log.append(4, "Alpha");
        s.what.dead_letters = s.sink;
        s.what.on_error = which == 0 ? pj::error_policy::halt()
                        : which == 1 ? pj::error_policy::retry(5) : pj::error_policy::dead_letter();
        s.b.says.at(2, which == 2 ? pj::pending : pj::fail());
        s.sink.puts.then(status::failed);
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.tick();
        s.w.calls.clear();
        CHECK(s.worker.reset(0) == status::ok);
        CHECK(s.worker.running());
        s.run_for(5000);
        CHECK(s.w.called() == "a1 b1 c1 a2 b2 c2 a3 b3 c3");
        for (const call& c : s.w.calls) {
            CHECK(c.attempt == 1);
            CHECK_FALSE(c.resumed);
        }
        CHECK(s.sink.letters.empty());
        CHECK(s.stored().at == 3);
    }
}

TEST_CASE("G31 reset while a save is unanswered ends at the new position") {
    for (const step first :
         {step{status::pending, false, false}, step{status::failed, false, false}, lost_answer()}) {
        setup s;
        s.log.append(5, "Alpha");
        s.store.saves.then(first, 2);
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.worker.reset(1) == status::ok);
        CHECK(s.worker.scanned() == 1);
        s.w.calls.clear();
        s.run_for(60000);
        CHECK(s.worker.reason() == status::ok);
        CHECK(s.w.called() == "a2 b2 c2 a3 b3 c3 a4 b4 c4");
        CHECK(s.stored().at == 4);
        bool was_there = false;
        for (const pj::checkpoint& c : s.store.saved) was_there = was_there || c.at == 1;
        CHECK(was_there);
    }
}

TEST_CASE("G31 positions that cannot be are refused") {
    setup s;
    s.log.append(5, "Alpha");
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.worker.reset(-2) != status::ok);
    CHECK(s.worker.scanned() == 4);
    CHECK(s.worker.reset(77) == status::ok);        // possible, but this log has no such event
    s.run_for(5000);
    CHECK(s.worker.reason() == status::checkpoint_ahead);
    CHECK(s.worker.reset(2) == status::ok);
    s.run_for(5000);
    CHECK(s.worker.state() == run_state::idle);
    CHECK(s.stored().at == 4);
}

TEST_CASE("G31 an event that changed while it was held halts; skip, retry or reset go on") {
    for (int how = 0; how < 5; ++how) {
        setup s;
        s.log.append(4, "Alpha", "one");
        s.what.on_error = pj::error_policy::retry(5);
        s.b.says.at(1, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.tick();
        row* const changed = s.log.find(1);
        switch (how) {
        case 0: changed->payload = "two"; break;
        case 1: changed->aggregate = "x"; break;
        case 2: changed->type = "Beta"; break;
        default: changed->version = 2; break;
        }
        s.run_for(5000);
        CHECK(s.worker.state() == run_state::halted);
        CHECK(s.worker.reason() == status::event_changed);
        CHECK(s.w.times("b", 1) == 1);
        CHECK(s.stored().at == 0);
        if (how == 3) CHECK(s.worker.skip_failed(1) == status::ok);
        else if (how == 4) CHECK(s.worker.reset(0) == status::ok);
        else CHECK(s.worker.retry_failed() == status::ok);
        s.run_for(5000);
        CHECK(s.stored().at == 3);
        CHECK(s.w.times("a", 1) == (how == 3 ? 1 : 2));
    }
}

TEST_CASE("G31 start() of a halted engine begins over at the checkpoint, a running one refuses") {
    halted_at_2 s;
    REQUIRE(s.start() == status::ok);
    CHECK(s.start() == status::already_started);
    s.run_for(5000);
    CHECK(s.w.called() == "a2 b2 c2 a3 b3 c3 a4 b4 c4");
    CHECK(s.start() == status::already_started);
    CHECK(s.stored().at == 4);
}

TEST_CASE("G31 commands while stopping are refused") {
    setup s;
    s.log.append(3, "Alpha");
    s.store.saves.always(status::failed);
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.worker.stop();
    s.tick();
    REQUIRE(s.worker.running());
    CHECK(s.worker.reset(0) == status::stopped);
    CHECK(s.worker.set_position(2, 0) == status::stopped);
    CHECK(s.worker.scanned() == 2);
}

TEST_CASE("G31 set_position of an engine that has stopped is stopped, wherever it was") {
    setup s;
    s.log.append(3, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.stop() == status::ok);
    CHECK(s.worker.set_position(2, 0) == status::stopped);
    CHECK(s.worker.set_position(1, 0) == status::stopped);
}

TEST_CASE("G31 a reset is saved by the very next tick") {
    setup s;
    s.log.append(9, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.stored().at == 8);
    REQUIRE(s.worker.reset(3) == status::ok);
    s.tick();
    CHECK(s.store.saved.back().at == 3);
}

TEST_CASE("G27 wake() ends no backoff") {
    setup s;
    s.log.append(3, "Beta");
    s.log.reads.then(status::failed);
    REQUIRE(s.start() == status::ok);
    CHECK(s.tick().wait_ms == 100);
    s.worker.wake();
    CHECK(s.tick().wait_ms == 100);
    CHECK(s.log.read_count == 1);
}

TEST_CASE("G27 wake() ends no backoff of a retry, and nothing is read for it") {
    setup s;
    s.log.append(1, "Beta");
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.at(0, pj::fail(), 2);
    REQUIRE(s.start() == status::ok);
    CHECK(s.tick().wait_ms == 100);
    s.worker.wake();
    CHECK(s.tick().wait_ms == 100);
    CHECK(s.log.read_count == 1);
}

TEST_CASE("G27 G31 a reset while a save is unanswered is not slept over") {
    for (const uint32_t every_ms : {1000u, pj::never}) {
        for (const status answer : {status::pending, status::failed}) {
            CAPTURE(every_ms);
            setup s;
            s.log.append(3, "Beta");
            s.what.save.every_ms = every_ms;
            s.store.saves.then(answer, 1);
            REQUIRE(s.start() == status::ok);
            s.tick();
            REQUIRE(s.worker.reset(0) == status::ok);
            s.tick_after(s.last.wait_ms);           // the save that was under way
            CHECK(s.last.wait_ms == 0);
        }
    }
}

TEST_CASE("G31 set_position says first that an engine stops or has not loaded") {
    setup s;
    s.log.append(3, "Beta");
    REQUIRE(s.start() == status::ok);
    CHECK(s.worker.set_position(7, 0) == status::not_loaded);
    s.store.saves.always(status::pending);
    s.tick();
    REQUIRE(s.worker.running());
    s.worker.stop();
    s.tick();
    REQUIRE(s.worker.running());
    CHECK(s.worker.set_position(7, 0) == status::stopped);
    CHECK(s.worker.set_position(2, 0) == status::stopped);
}

TEST_CASE("G31 a record that is not ours to replace is not reset either") {
    for (const bool is_rebuild : {true, false}) {
        CAPTURE(is_rebuild);
        setup s;
        s.log.append(3, "Beta");
        pj::checkpoint record;
        record.at = 0;
        record.revision = 1;
        record.replay_stage = is_rebuild ? 1 : 0;
        s.store.put("p", record);
        if (!is_rebuild) s.store.saves.then(status::conflict);
        REQUIRE(s.start() == status::ok);
        s.run_for(3000);
        REQUIRE(s.worker.reason() ==
                (is_rebuild ? status::rebuild_unfinished : status::checkpoint_conflict));
        CHECK(s.worker.reset(1) == status::conflict);
        CHECK(s.worker.state() == run_state::halted);
        CHECK(s.stored().at == 0);
    }
}

TEST_CASE("G25 G31 reset to a new log: what the old one had replayed says nothing of it") {
    setup s;
    mailer mail(s.w);
    s.what.handlers = mail;
    s.log.append(4, "Alpha");
    s.log.log_id = 2;
    pj::checkpoint record;
    record.at = 1;
    record.revision = 1;
    record.log_id = 1;
    record.replayed_through = 2;
    s.store.put("p", record);
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    REQUIRE(s.worker.reason() == status::log_replaced);
    REQUIRE(s.worker.reset() == status::ok);
    s.run_for(3000);
    CHECK(s.w.called() == "mail0 mail1 mail2 mail3");
    CHECK(s.stored().replayed_through == pj::before_first);
}

TEST_CASE("G25 G31 reset to a log that is shorter: it may be another, so all of it is new") {
    for (const bool is_volatile : {false, true}) {
        CAPTURE(is_volatile);
        setup s;
        mailer mail(s.w);
        s.what.handlers = mail;
        s.what.volatile_model = is_volatile;
        s.log.append(2, "Alpha");
        pj::checkpoint record;
        record.at = 5;                      // its events 2 to 5 are gone
        record.revision = 1;
        record.replayed_through = 4;
        s.store.put("p", record);
        REQUIRE(s.start() == status::ok);
        s.run_for(100);
        REQUIRE(s.worker.reason() == status::checkpoint_ahead);
        REQUIRE(s.worker.reset() == status::ok);
        s.run_for(3000);
        s.log.append(5, "Alpha");
        s.run_for(3000);
        CHECK(s.w.called() == "mail0 mail1 mail2 mail3 mail4 mail5 mail6");
        CHECK(s.stored().replayed_through == pj::before_first);
    }
}
