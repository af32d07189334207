// G6: positions that do not increase stop the engine before any handler sees the event.
#include "support/setup.hpp"

using namespace support;
using pj::position;
using pj::status;

namespace {

/// A log that shows these positions, whatever they are.
void show(setup& s, std::initializer_list<position> positions) {
    for (const position at : positions) s.log.add(at, "Beta");
    s.what.log.bounds = nullptr;
}

} // namespace

TEST_CASE("G6 a position that does not increase is never handled, in slices or one by one") {
    struct bad { std::vector<position> shown; const char* handled; position saved; };
    const bad cases[] = {
        {{1, 2, 2, 3}, "a1 a2", 2},
        {{1, 2, 1, 3}, "a1 a2", 2},
        {{5, 4}, "a5", 5},
        {{0, 0}, "a0", 0},
        {{-1, 0}, "", -1},
        {{-7, 0}, "", -1},
        {{3, -1}, "a3", 3},
    };
    for (const bad& b : cases) {
        for (const size_t slice : {size_t{0}, size_t{1}, size_t{2}, size_t{3}, size_t{9}}) {
            for (const bool ignores_stop : {false, true}) {
                setup s;
                for (const position at : b.shown) s.log.add(at, "Beta");
                s.what.log.bounds = nullptr;
                s.log.ignores_after = true;
                s.log.slice = slice;
                s.log.ignores_stop = ignores_stop;
                REQUIRE(s.start() == status::ok);
                s.run_for(10000);
                CHECK(s.worker.state() == pj::run_state::halted);
                CHECK(s.worker.reason() == status::store_unordered);
                CHECK(s.w.called() == b.handled);
                CHECK(s.stored().at == b.saved);
            }
        }
    }
}

TEST_CASE("G6 a store that shows events at or below `after` is stopped at the first of them") {
    setup s;
    show(s, {1, 2, 3});
    s.store.put("p", 2);
    s.log.ignores_after = true;
    REQUIRE(s.start() == status::ok);
    s.run_for(5000);
    CHECK(s.worker.reason() == status::store_unordered);
    CHECK(s.w.calls.empty());
    CHECK(s.store.tried.empty());
}

TEST_CASE("G6 a duplicate in a later read is caught, too") {
    setup s;
    show(s, {1, 2, 3, 4});
    s.what.batch = 2;
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.log.ignores_after = true;
    s.run_for(5000);
    CHECK(s.worker.reason() == status::store_unordered);
    CHECK(s.w.called() == "a1 a2");
}

TEST_CASE("G6 the order is checked for events of every outcome") {
    for (const char* type : {"Alpha", "Gamma", "Nobody"}) {
        for (const bool filtered : {false, true}) {
            setup s;
            s.log.add(4, type).add(6, type).add(6, type).add(7, type);
            if (filtered) s.what.filter = [](const pj::stored_event&) { return false; };
            REQUIRE(s.start() == status::ok);
            s.run_for(5000);
            CHECK(s.worker.reason() == status::store_unordered);
            CHECK(s.stored().at == 6);
            CHECK(s.worker.counts().scanned == 2);
        }
    }
}

TEST_CASE("G6 a store that goes on after stop shows nothing to a handler any more") {
    for (const size_t slice : {size_t{0}, size_t{2}, size_t{5}}) {
        setup s;
        s.log.append(10, "Beta");
        s.log.slice = slice;
        s.log.ignores_stop = true;
        s.log.uses_limit = false;
        s.what.batch = 3;
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.w.called() == "a0 a1 a2");
        CHECK(s.last.scanned == 3);
        CHECK(s.worker.scanned() == 2);
        s.run_for(2000);
        CHECK(s.w.called() == "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9");
        CHECK(s.worker.counts().handled == 10);
    }
}

TEST_CASE("G6 a store that goes on after a held event shows nothing to a handler any more") {
    for (const size_t slice : {size_t{0}, size_t{2}, size_t{5}}) {
        setup s;
        s.log.append(5, "Beta");
        for (support::row& r : s.log.rows) r.aggregate = std::to_string(r.at);  // no two are equal
        s.log.slice = slice;
        s.log.ignores_stop = true;
        s.a.says.at(1, pj::pending, 2);
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.w.called() == "a0 a1");
        s.run_for(2000);
        CHECK(s.w.called() == "a0 a1 a1 a1 a2 a3 a4");
        CHECK(s.worker.running());
    }
}

TEST_CASE("G6 retry_failed after a repair of the log goes on in order") {
    setup s;
    show(s, {1, 2, 2, 3});
    REQUIRE(s.start() == status::ok);
    s.run_for(5000);
    CHECK(s.worker.reason() == status::store_unordered);
    s.log.rows.erase(s.log.rows.begin() + 1);
    CHECK(s.worker.retry_failed() == status::ok);
    s.run_for(5000);
    CHECK(s.w.called() == "a1 a2 a3");
    CHECK(s.stored().at == 3);
}

TEST_CASE("G6 disorder while an event is held") {
    setup s;
    show(s, {1, 5, 6});
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.at(5, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.tick();
    SUBCASE("below the held one") { s.log.find(1)->at = 3, s.log.rows[0].at = 3; }
    SUBCASE("at or below the checkpoint") { s.log.ignores_after = true; }
    s.run_for(5000);
    CHECK(s.worker.reason() == status::store_unordered);
    CHECK(s.w.times("a", 5) == 1);
    CHECK(s.w.times("a", 6) == 0);
}

TEST_CASE("G7 the store is told to stop at an event that is to be tried again") {
    setup s;
    s.log.append(5, "Beta");
    s.what.on_error = pj::error_policy::retry(1);
    s.a.says.at(1, pj::fail());
    REQUIRE(s.start() == pj::status::ok);
    s.tick();
    CHECK(s.log.shown == 2);
}
