// G1, G3, G4, G7: the checkpoint moves with outcomes only, over everything that is not for us, and
// events reach handlers in log order.
#include "support/setup.hpp"

#include <map>

using namespace support;
using pj::status;

namespace {

bool is_even(const pj::stored_event& e) { return e.at % 2 == 0; }

} // namespace

TEST_CASE("G1 a checkpoint is never saved above the last event with an outcome") {
    setup s;
    s.log.append(20, "Alpha");
    s.what.save.every_events = 1;
    s.what.on_error = pj::error_policy::retry(5);
    s.b.says.at(7, pj::fail(), 3).at(12, pj::pending, 4);
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 100; ++i) {
        s.tick();
        const pj::position saved = s.stored().at;
        for (pj::position at = 0; at <= saved; ++at) {
            CHECK(s.w.times("a", at) == 1);
            CHECK(s.w.times("b", at) >= (at == 7 ? 4u : at == 12 ? 5u : 1u));
        }
        s.now_ms += s.last.wait_ms == pj::never ? 1 : s.last.wait_ms;
    }
    CHECK(s.stored().at == 19);
}

TEST_CASE("G1 an event that halts the engine is never passed, stops and restarts included") {
    setup s;
    s.log.append(10, "Alpha");
    s.what.on_error = pj::error_policy::halt();
    s.c.says.always(4, pj::fail());
    for (int run = 0; run < 3; ++run) {
        REQUIRE(s.start() == status::ok);
        s.run_for(60000);
        CHECK(s.last.state == pj::run_state::halted);
        CHECK(s.worker.reason() == status::handler_failed);
        CHECK(s.stored().at == 3);
        CHECK(s.worker.scanned() == 3);
    }
    CHECK(s.w.times("c", 4) == 3);
    CHECK(s.w.times("a", 5) == 0);
}

TEST_CASE("G1 what a letter could not be kept for is not passed") {
    setup s;
    s.log.append(5, "Alpha");
    s.letters();
    s.b.says.at(2, pj::fail());
    s.sink.puts.always(status::failed);
    REQUIRE(s.start() == status::ok);
    s.run_for(600000);
    CHECK(s.stored().at == 1);
    CHECK(s.stop() == status::ok);
    CHECK(s.stored().at == 1);
}

TEST_CASE("G1 events that were shown before a failing answer count, the others do not") {
    for (const status answer : {status::ok, status::more, status::pending, status::failed}) {
        setup s;
        s.log.append(6, "Alpha");
        s.log.reads.then(answer);
        s.log.shows = {3};
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.worker.scanned() == 2);
        s.run_for(60000);
        CHECK(s.w.called() == "a0 b0 c0 a1 b1 c1 a2 b2 c2 a3 b3 c3 a4 b4 c4 a5 b5 c5");
        CHECK(s.stored().at == 5);
    }
}

TEST_CASE("G3 filtered, unhandled and unknown events advance the checkpoint and no batch repeats") {
    for (const size_t slice : {size_t{0}, size_t{1}, size_t{3}, size_t{64}}) {
        for (const bool limit : {true, false}) {
            setup s;
            s.log.slice = slice;
            s.log.uses_limit = limit;
            const char* const types[] = {"Gamma", "Alpha", "Nobody", "Beta", "Gamma"};
            for (int i = 0; i < 1000; ++i) s.log.add(3 * i, types[i % 5]);
            s.what.batch = 7;
            s.what.filter = &is_even;
            REQUIRE(s.start() == status::ok);
            s.run_for(60000);
            CHECK(s.log.shown == 1000);
            CHECK(s.stored().at == 2997);
            CHECK(s.worker.counts().filtered == 500);
            CHECK(s.worker.counts().unknown == 100);
            CHECK(s.worker.counts().unhandled == 200);
            CHECK(s.worker.counts().handled == 200);
            CHECK(s.log.wanted_max == 7);
        }
    }
}

TEST_CASE("G3 a filter is asked once of each event, whatever becomes of it") {
    for (const size_t slice : {size_t{0}, size_t{64}}) {
        for (const bool fails : {false, true}) {
            setup s;
            s.log.slice = slice;
            const char* const types[] = {"Gamma", "Alpha", "Nobody", "Beta", "Gamma"};
            for (int i = 0; i < 100; ++i) s.log.add(3 * i, types[i % 5]);
            if (fails) s.what.on_unknown = pj::unknown_types::fail;
            s.a.says.at(18, pj::reject());
            std::map<pj::position, int> asked;
            const auto filter = [&](const pj::stored_event& e) {
                ++asked[e.at];
                return is_even(e);
            };
            s.what.filter = filter;
            REQUIRE(s.start() == status::ok);
            s.run_for(5000);
            CHECK(asked.size() == 100);
            for (const auto& one : asked) {
                CAPTURE(one.first);
                CHECK(one.second == 1);
            }
            const pj::counters n = s.worker.counts();
            CHECK(n.filtered == 50);
            CHECK(n.unknown == (fails ? 0u : 10u));
            CHECK(n.skipped == (fails ? 11u : 1u));
            CHECK(n.unhandled == 20);
            CHECK(n.handled == 19);
        }
    }
}

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("G11 G26 an event whose filter throws has failed, and no handler sees it") {
    setup s;
    s.log.append(5, "Alpha");
    const auto filter = [](const pj::stored_event& e) -> bool {
        if (e.at == 3) throw std::runtime_error("filter");
        return true;
    };
    s.what.filter = filter;
    REQUIRE(s.start() == status::ok);
    s.run_for(5000);
    CHECK(s.w.times("a", 3) == 0);
    CHECK(s.w.times("a", 4) == 1);
    CHECK(s.worker.counts().skipped == 1);
    CHECK(s.worker.counts().handled == 4);
    CHECK(s.worker.last_failure().code == pj::code_thrown);
    CHECK(s.stored().at == 4);
}
#endif

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("G9 a filter that throws is asked once a read, however short the wait") {
    setup s;
    s.log.append(2, "Beta");
    s.what.delays.first_ms = 0;
    s.what.on_error = pj::error_policy::retry(3);
    uint32_t asked = 0;
    const auto filter = [&](const pj::stored_event&) -> bool {
        if (++asked < 3) throw 1;
        return true;
    };
    s.what.filter = filter;
    REQUIRE(s.start() == status::ok);
    for (uint32_t i = 1; i < 3; ++i) {
        CHECK(s.tick().scanned == 0);
        CHECK(asked == i);
    }
    s.run_for(100);
    CHECK(s.w.called() == "a0 a1");
}
#endif

TEST_CASE("G23 a rebuild passes nothing beyond its end, and asks no filter about it") {
    setup s;
    s.log.append(9, "Alpha");
    s.store.put("p", 4);
    pj::position asked = pj::before_first;
    const auto filter = [&](const pj::stored_event& e) {
        asked = e.at;
        return e.at < 3;
    };
    s.what.filter = filter;
    pj::replay_engine replay{s.what};
    REQUIRE(replay.start() == status::ok);
    for (int i = 0; i < 20 && replay.running(); ++i) static_cast<void>(replay.tick(0));
    CHECK(replay.finished());
    CHECK(asked == 4);
    CHECK(s.stored().at == 4);
    CHECK(replay.counts().filtered == 2);
}

TEST_CASE("G3 a log with nothing for this projection is read once from end to end") {
    setup s;
    s.log.append(500, "Gamma");
    s.what.batch = 10;
    s.what.save.every_events = 25;
    REQUIRE(s.start() == status::ok);
    s.run_for(5000);
    CHECK(s.w.calls.empty());
    CHECK(s.log.shown == 500);
    CHECK(s.stored().at == 499);
    CHECK(s.stop() == status::ok);
    REQUIRE(s.start() == status::ok);
    s.run_for(5000);
    CHECK(s.log.shown == 500);
}

TEST_CASE("G3 a store that filters advances the checkpoint by scanned_to") {
    setup s;
    s.log.add(2, "Alpha");
    s.log.newest = 90;
    s.log.scanned_to = 90;
    REQUIRE(s.start() == status::ok);
    s.run_for(5000);
    CHECK(s.stored().at == 90);
    CHECK(s.worker.counts().scanned == 1);
    s.log.add(91, "Alpha");
    s.log.scanned_to = 10;          // lower than where we are: nothing happens
    s.run_for(5000);
    CHECK(s.stored().at == 91);
    CHECK(s.w.called() == "a2 b2 c2 a91 b91 c91");
}

TEST_CASE("G3 scanned_to after the visitor said stop is ignored") {
    setup s;
    s.log.append(10, "Alpha");
    s.log.scanned_to = 9;
    s.what.batch = 4;
    SUBCASE("because the batch is full") {}
    SUBCASE("because an event is held") { s.b.says.at(1, pj::pending); }
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.worker.scanned() <= 3);
    s.run_for(5000);
    CHECK(s.w.times("b", 9) == 1);
    CHECK(s.worker.counts().handled == 10);
}

TEST_CASE("G4 position 0 is delivered and reading resumes strictly after the checkpoint") {
    setup s;
    s.log.append(3, "Alpha");
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.w.called() == "a0 b0 c0 a1 b1 c1 a2 b2 c2");
    CHECK(s.stop() == status::ok);
    CHECK(s.stored().at == 2);
    s.w.calls.clear();
    s.log.append(1, "Alpha");
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.log.last_after == 2);
    CHECK(s.w.called() == "a3 b3 c3");
}

TEST_CASE("G4 a checkpoint at 0 is not the same as none") {
    setup s;
    s.log.append(2, "Beta");
    SUBCASE("none: event 0 comes") {
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.w.called() == "a0 a1");
    }
    SUBCASE("at 0: event 1 comes") {
        s.store.put("p", 0);
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.w.called() == "a1");
    }
    SUBCASE("saved as before_first: event 0 comes") {
        s.store.put("p", pj::before_first, 4);
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.w.called() == "a0 a1");
        CHECK(s.stop() == status::ok);
        CHECK(s.stored().revision == 5);
    }
}

TEST_CASE("G7 events reach each handler in log order, retries and new events included") {
    setup s;
    s.log.append(3, "Alpha");
    s.what.on_error = pj::error_policy::retry(4);
    s.a.says.at(1, pj::fail(), 2);
    s.c.says.at(1, pj::fail(), 4);
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 60; ++i) {              // new events arrive at every step
        s.log.append(1, "Alpha");
        s.tick_after(50);
    }
    CHECK(s.w.times("a", 1) == 3);
    CHECK(s.w.times("b", 1) == 1);
    CHECK(s.w.times("c", 1) == 5);
    std::map<std::string, pj::position> newest;
    for (const call& c : s.w.calls) {
        const auto before = newest.emplace(c.who, -1).first;
        CHECK(c.at >= before->second);
        before->second = c.at;
    }
    bool seen_after = false;
    for (const call& c : s.w.calls) {           // nothing above 1 before 1 is done
        seen_after = seen_after || c.at > 1;
        if (seen_after) CHECK(c.at > 1);
    }
}

TEST_CASE("G7 an event that appears below a held event is not handled out of order") {
    setup s;
    s.log.add(10, "Beta").add(20, "Beta").add(30, "Beta");
    s.what.on_error = pj::error_policy::retry(5);
    s.a.says.at(20, pj::fail(), 2);
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.log.rows.insert(s.log.rows.begin() + 1, row{15, "Beta"});
    s.run_for(60000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.worker.reason() == status::store_unordered);
    CHECK(s.w.times("a", 15) == 0);
    CHECK(s.w.times("a", 30) == 0);
    CHECK(s.stored().at == 10);
}

TEST_CASE("G7 a held event keeps all later ones back however long it takes") {
    setup s;
    s.log.append(4, "Alpha");
    s.b.says.at(1, pj::pending, 50);
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 50; ++i) {
        CHECK(s.w.times("a", 2) == 0);
        s.tick_after(10);
    }
    s.run_for(1000);
    CHECK(s.w.times("a", 1) == 1);
    CHECK(s.w.times("b", 1) == 51);
    CHECK(s.worker.counts().handled == 4);
}

TEST_CASE("G1 a read that fails after the last event that was wanted has failed all the same") {
    setup s;
    s.log.append(3, "Beta");
    s.what.batch = 1;
    s.log.reads.then(status::failed);
    REQUIRE(s.start() == status::ok);
    CHECK(s.tick().reason == status::store_failed);
    CHECK(s.last.wait_ms != 0);
    s.run_for(5000);
    CHECK(s.stored().at == 2);
}

TEST_CASE("G3 a store that only says how far it has looked goes on at once") {
    setup s;
    s.log.reads.then(status::more);
    s.log.scanned_to = 5;
    s.log.newest = 9;
    REQUIRE(s.start() == status::ok);
    CHECK(s.tick().wait_ms == 0);
    CHECK(s.worker.scanned() == 5);
}

TEST_CASE("G5 bounds are asked after a wait, not at every tick") {
    setup s;
    s.log.append(50, "Beta");
    s.what.batch = 10;
    s.what.save.every_events = 1000;
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 4; ++i) CHECK(s.tick().wait_ms == 0);
    CHECK(s.log.bounds_count == 1);
}
