// The gap guard: dense positions that become visible out of order.
#include "support/cluster.hpp"

#include <set>

using namespace support;

namespace {

/// A table of rows whose transactions commit in any order; positions from 0 or 1.
struct table {
    std::set<pj::position> visible;
    pj::position first = 0;
    pj::position hidden_filter = pj::before_first;      // a store that filters this one away
    uint32_t slice = 1000;

    pj::status read(pj::position after, pj::visitor& visit) {
        const tick_event e{1};
        uint32_t shown = 0;
        for (const pj::position at : visible) {
            if (at <= after) continue;
            if (at == hidden_filter) {
                visit.scanned_to(at);
                continue;
            }
            if (shown++ == slice) return pj::status::more;
            if (!visit(pj::raw_event(at, e))) break;
        }
        return pj::status::ok;
    }
    void show(std::initializer_list<pj::position> rows) { visible.insert(rows); }
};

struct gap_setup {
    cluster all;
    table rows;
    host h{all, 1};
    pj::gap_guard guard;
    pj::worker w{h.what};

    explicit gap_setup(uint32_t timeout_ms = pj::never) : guard(timeout_ms) {
        h.what.log = rows;
        h.what.lease = nullptr;
        h.what.gaps = &guard;
        h.what.poll_ms = 100;
    }
    void start() { REQUIRE(w.start() == pj::status::ok); }
    /// A run that skips so many holes between these rows, and ends; its effects are forgotten.
    void settle(std::initializer_list<pj::position> at, uint32_t holes) {
        start();
        rows.show(at);
        run_for(all, 1000, w);
        REQUIRE(skipped() == holes);
        w.stop();
        drain(all, w);
        all.effects.clear();
    }
    /// The handled positions, in order.
    std::vector<pj::position> handled() const {
        std::vector<pj::position> at;
        for (const effect& e : all.effects)
            if (e.handler == "first") at.push_back(e.at);
        return at;
    }
    uint32_t skipped() const { return h.count(pj::notice_kind::gap_skipped); }
};
using list = std::vector<pj::position>;

} // namespace

TEST_CASE("G8 nothing above a hole is handled before it is filled") {
    gap_setup s;
    s.start();
    s.rows.show({0, 1, 3, 4});
    run_for(s.all, 5000, s.w);
    CHECK(s.handled() == list{0, 1});
    CHECK(s.w.reason() == pj::status::log_gap);
    CHECK(s.w.state() == pj::run_state::waiting);
    CHECK(s.w.checkpointed() == 1);             // what is done is saved while it waits
    CHECK(s.h.count(pj::notice_kind::gap_found) == 1);
    s.rows.show({2});
    run_for(s.all, 200, s.w);
    CHECK(s.handled() == list{0, 1, 2, 3, 4});
    CHECK(s.skipped() == 0);
    CHECK(s.w.counts().scanned == 5);
}

TEST_CASE("G8 a hole at the start counts, from the guard's first position") {
    gap_setup s;
    s.rows.show({1, 2});
    SUBCASE("positions begin at 0") {
        s.start();
        run_for(s.all, 1000, s.w);
        CHECK(s.handled().empty());
        s.rows.show({0});
        run_for(s.all, 200, s.w);
        CHECK(s.handled() == list{0, 1, 2});
    }
    SUBCASE("positions begin at 1") {
        s.guard.first = 1;
        s.start();
        run_for(s.all, 100, s.w);
        CHECK(s.handled() == list{1, 2});
    }
}

TEST_CASE("G8 the time runs from the first look; looking again does not begin it anew") {
    gap_setup s(1000);
    s.start();
    s.rows.show({0, 2});
    run_for(s.all, 950, s.w);
    CHECK(s.handled() == list{0});
    s.w.wake();
    run_for(s.all, 40, s.w);
    CHECK(s.handled() == list{0});
    run_for(s.all, 20, s.w);
    CHECK(s.handled() == list{0, 2});
    CHECK(s.skipped() == 1);
    run_for(s.all, 5000, s.w);
    CHECK(s.skipped() == 1);
    CHECK(s.w.checkpointed() == 2);
    CHECK(s.w.counts().scanned == 2);
    CHECK(s.h.count(pj::notice_kind::gap_found) == 1);
}

TEST_CASE("G8 the tick that gives a hole up handles what comes after it") {
    gap_setup s(1000);
    s.start();
    s.rows.show({0, 2, 3});
    run_for(s.all, 990, s.w);
    CHECK(s.handled() == list{0});
    s.all.clock.advance(10);
    CHECK(s.w.tick(s.all.clock()).scanned == 2);
    CHECK(s.handled() == list{0, 2, 3});
}

TEST_CASE("G8 wrapping of the clock does not end a wait for a hole") {
    gap_setup s(5000);
    s.all.clock.advance(0xFFFFFFFFull - 3000);
    s.start();
    s.rows.show({0, 2});
    run_for(s.all, 4900, s.w);
    CHECK(s.handled() == list{0});
    run_for(s.all, 200, s.w);
    CHECK(s.handled() == list{0, 2});
}

TEST_CASE("G8 holes that are declared dead are passed at once, each reported once") {
    gap_setup s;
    std::vector<std::pair<pj::position, pj::position>> asked;
    const auto rolled_back = [&](pj::position from, pj::position to) {
        asked.emplace_back(from, to);
        return from != 7;
    };
    s.guard.is_dead = rolled_back;
    list ends;
    const auto told = [&](const pj::notice& n) {
        if (n.kind == pj::notice_kind::gap_skipped) ends.push_back(n.at);
    };
    s.h.what.observe = told;
    s.start();
    s.rows.show({2, 3, 6, 8});
    run_for(s.all, 50, s.w);
    CHECK(s.handled() == list{2, 3, 6});
    CHECK(ends == list{1, 5});
    CHECK(asked.front() == std::pair<pj::position, pj::position>(0, 1));
    CHECK(asked[1] == std::pair<pj::position, pj::position>(4, 5));
    CHECK(s.w.reason() == pj::status::log_gap);
    s.rows.show({7});
    run_for(s.all, 200, s.w);
    CHECK(s.handled() == list{2, 3, 6, 7, 8});
    CHECK(ends == list{1, 5});
}

TEST_CASE("G8 many holes, at the edges of batches and slices, filled in any order") {
    for (const uint32_t batch : {1u, 2u, 3u, 100u}) {
        for (const uint32_t slice : {1u, 2u, 1000u}) {
            for (uint32_t seed = 1; seed < 30; ++seed) {
                gap_setup s;
                s.h.what.batch = batch;
                s.rows.slice = slice;
                s.start();
                list order;
                for (pj::position at = 0; at < 24; ++at) order.push_back(at);
                uint32_t random = seed;
                for (size_t i = order.size(); i > 1; --i) {
                    random = random * 747796405u + 2891336452u;
                    std::swap(order[i - 1], order[(random >> 16) % i]);
                }
                for (const pj::position at : order) {
                    s.rows.show({at});
                    run_for(s.all, 150, s.w);
                }
                list expected;
                for (pj::position at = 0; at < 24; ++at) expected.push_back(at);
                CHECK(s.handled() == expected);
                CHECK(s.skipped() == 0);
                CHECK(s.w.checkpointed() == 23);
            }
        }
    }
}

TEST_CASE("G8 what a filtering store has looked at is not missing") {
    gap_setup s;
    s.rows.hidden_filter = 1;
    s.start();
    s.rows.show({0, 1, 2});
    run_for(s.all, 200, s.w);
    CHECK(s.handled() == list{0, 2});
    CHECK(s.h.count(pj::notice_kind::gap_found) == 0);
    // And a store that looks past a hole has settled it.
    s.rows.show({4, 5});
    run_for(s.all, 300, s.w);
    CHECK(s.w.reason() == pj::status::log_gap);
    s.rows.hidden_filter = 4;
    run_for(s.all, 300, s.w);
    CHECK(s.handled() == list{0, 2, 5});
}

TEST_CASE("G8 with a retry of the event after the hole: its wait is its own") {
    gap_setup s(1000);
    int failures = 2;
    s.h.does = [&](const pj::context& c, bool second) -> pj::verdict {
        return c.event.at == 2 && !second && failures-- > 0 ? pj::fail() : pj::handled;
    };
    s.h.what.on_error = pj::error_policy::retry(5);
    s.start();
    s.rows.show({0, 2, 3});
    run_for(s.all, 900, s.w);
    CHECK(s.handled() == list{0});
    run_for(s.all, 2000, s.w);
    CHECK(s.handled() == list{0, 2, 2, 2, 3});
    CHECK(s.skipped() == 1);
    CHECK(s.w.counts().handled == 3);
}

TEST_CASE("G8 a hole that is declared dead leaves no wait behind") {
    gap_setup s(5000);
    bool is_dead = false;
    const auto verdict = [&](pj::position, pj::position) { return is_dead; };
    s.guard.is_dead = verdict;
    int failures = 1;
    s.h.does = [&](const pj::context& c, bool second) -> pj::verdict {
        return c.event.at == 2 && !second && failures-- > 0 ? pj::fail() : pj::handled;
    };
    s.h.what.on_error = pj::error_policy::retry(5);
    s.start();
    s.rows.show({0, 2});
    run_for(s.all, 500, s.w);
    is_dead = true;
    s.w.wake();
    CHECK(s.w.tick(s.all.clock()).wait_ms == 100);
    CHECK(s.w.reason() == pj::status::handler_failed);
    run_for(s.all, 200, s.w);
    CHECK(s.handled() == list{0, 2, 2});
}

TEST_CASE("G8 a hole that was filled leaves no wait behind") {
    gap_setup s(1000000);
    int failures = 1;
    s.h.does = [&](const pj::context& c, bool second) -> pj::verdict {
        return c.event.at == 2 && !second && failures-- > 0 ? pj::fail() : pj::handled;
    };
    s.h.what.on_error = pj::error_policy::retry(5);
    s.start();
    s.rows.show({0, 2});
    run_for(s.all, 500, s.w);
    s.rows.show({1});
    run_for(s.all, 500, s.w);
    CHECK(s.handled() == list{0, 1, 2, 2});
    CHECK(s.w.counts().handled == 3);
}

TEST_CASE("G8 G31 reset, stop and a new start while waiting before a hole") {
    gap_setup s(1000);
    s.start();
    s.rows.show({0, 2});
    run_for(s.all, 900, s.w);
    SUBCASE("reset") {
        REQUIRE(s.w.reset(1) == pj::status::ok);
        run_for(s.all, 50, s.w);
        CHECK(s.handled() == list{0, 2});
        CHECK(s.skipped() == 0);
    }
    SUBCASE("stop ends at once, saved before the hole") {
        s.w.stop();
        drain(s.all, s.w);
        CHECK(s.w.state() == pj::run_state::stopped);
        CHECK(s.w.reason() == pj::status::ok);
        CHECK(s.all.store.at("p").at == 0);
        s.start();
        run_for(s.all, 950, s.w);       // its time runs from the first look of this run
        CHECK(s.handled() == list{0});
        run_for(s.all, 100, s.w);
        CHECK(s.handled() == list{0, 2});
    }
    SUBCASE("set_position") {
        CHECK(s.w.set_position(1, 1) == pj::status::conflict);
        REQUIRE(s.w.set_position(0, 1) == pj::status::ok);
        run_for(s.all, 50, s.w);
        CHECK(s.handled() == list{0, 2});
    }
}

TEST_CASE("G8 G27 with poll_ms never it sleeps until the timeout, or until wake()") {
    gap_setup s(700);
    s.h.what.poll_ms = pj::never;
    s.h.what.save.every_ms = 100000;
    s.start();
    s.rows.show({0, 2});
    drain(s.all, s.w);
    CHECK(s.w.tick(s.all.clock()).wait_ms <= 700);
    s.rows.show({1});
    s.w.wake();
    drain(s.all, s.w);
    CHECK(s.handled() == list{0, 1, 2});
}

TEST_CASE("G8 a replay passes the holes that were settled before") {
    gap_setup s(pj::never);
    bool is_rolled_back = true;
    const auto dead = [&](pj::position, pj::position) { return is_rolled_back; };
    s.guard.is_dead = dead;
    s.settle({0, 2, 5}, 2);
    is_rolled_back = false;             // nobody remembers
    pj::replay_engine replay{s.h.what};
    REQUIRE(replay.start() == pj::status::ok);
    run_for(s.all, 1000, replay);
    CHECK(replay.finished());
    CHECK(s.handled() == list{0, 2, 5});
}

TEST_CASE("G6 G8 a replayed hole that is filled while the event behind it is tried again stays a hole") {
    gap_setup s(500);
    s.h.what.on_error = pj::error_policy::retry(1);
    s.settle({0, 2, 3}, 1);
    int failures = 1;
    s.h.does = [&](const pj::context& c, bool second) -> pj::verdict {
        return c.event.at == 2 && !second && failures-- > 0 ? pj::fail() : pj::handled;
    };
    s.h.what.volatile_model = true;     // every start reads from the oldest event
    s.start();
    drain(s.all, s.w);
    CHECK(s.handled() == list{0, 2});
    s.rows.show({1});
    run_for(s.all, 1000, s.w);
    CHECK(s.w.reason() == pj::status::ok);
    CHECK(s.handled() == list{0, 2, 2, 3});
}

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("G8 a verdict that throws is no verdict") {
    gap_setup s;
    const auto moody = [](pj::position, pj::position) -> bool { throw 1; };
    s.guard.is_dead = moody;
    s.start();
    s.rows.show({1});
    run_for(s.all, 5000, s.w);
    CHECK(s.handled().empty());
    CHECK(s.w.running());
}
#endif

TEST_CASE("G8 G9 with a gap guard, too, retry(R) makes exactly R + 1 attempts") {
    gap_setup s(500);
    s.h.does = [&](const pj::context& c, bool second) -> pj::verdict {
        return c.event.at == 2 && !second ? pj::fail() : pj::handled;
    };
    s.h.what.on_error = pj::error_policy::retry_then_skip(2);
    s.start();
    s.rows.show({0, 2});
    run_for(s.all, 10000, s.w);
    CHECK(s.handled() == list{0, 2, 2, 2});
    CHECK(s.w.counts().skipped == 1);
}

namespace {

/// The same table, and units of work that keep what was done in them apart until they are committed.
struct unit_gaps : gap_setup {
    std::vector<effect> before;
    uint32_t commits = 0;
    explicit unit_gaps(uint32_t timeout_ms) : gap_setup(timeout_ms) { h.what.transaction = *this; }
    pj::status begin() {
        before = all.effects;
        return pj::status::ok;
    }
    pj::status commit() {
        ++commits;
        return pj::status::ok;
    }
    pj::status rollback() {
        all.effects = before;
        return pj::status::ok;
    }
};

} // namespace

TEST_CASE("G8 G17 a row that is gone before an event that is to be tried again is a hole like any other") {
    unit_gaps s(500);
    s.rows.show({0, 1, 2, 3});
    int failures = 1;
    s.h.does = [&](const pj::context& c, bool) {
        return c.event.at == 3 && failures-- > 0 ? pj::fail() : pj::handled;
    };
    s.h.what.on_error = pj::error_policy::retry(3);
    // It disappears when the unit was rolled back, before those in front of 3 are done again.
    s.h.what.observe = {[](void* me, const pj::notice& n) {
        unit_gaps& in = *static_cast<unit_gaps*>(me);
        in.h.listening(n);
        if (n.kind == pj::notice_kind::handler_failed) in.rows.visible.erase(2);
    }, &s};
    s.start();
    run_for(s.all, 400, s.w);
    CHECK(s.handled() == list{0, 1});
    CHECK(s.w.reason() == pj::status::log_gap);
    CHECK(s.h.count(pj::notice_kind::gap_found) == 1);
    run_for(s.all, 1000, s.w);
    CHECK(s.handled() == list{0, 1, 3});
    CHECK(s.skipped() == 1);
    CHECK(s.w.checkpointed() == 3);
    CHECK(s.w.counts().handled == 3);
}

TEST_CASE("G8 G16 an event that is set aside and then vanishes from a replay is no hole: it is counted") {
    unit_gaps s(500);
    s.rows.show({0, 1});
    s.h.does = [](const pj::context& c, bool) { return c.event.at == 1 ? pj::fail() : pj::handled; };
    s.h.what.replayed_through = 1;
    s.start();
    while (s.h.count(pj::notice_kind::event_skipped) == 0)
        static_cast<void>(s.w.tick(s.all.clock()));
    CHECK(s.handled().empty());         // 0 is to be done again
    s.rows.visible.erase(1);
    s.rows.show({2, 3});
    run_for(s.all, 1000, s.w);
    CHECK(s.handled() == list{0, 2, 3});
    CHECK(s.w.counts().scanned == 4);
    CHECK(s.w.counts().handled == 3);
    CHECK(s.w.counts().vanished == 1);
}

TEST_CASE("G6 G8 a replayed hole that is filled while its neighbour is in a unit: a retry takes both") {
    unit_gaps s(500);
    s.rows.show({0, 2, 3});
    int failures = 1;
    s.h.does = [&](const pj::context& c, bool) {
        return c.event.at == 2 && failures-- > 0 ? pj::fail() : pj::handled;
    };
    s.h.what.on_error = pj::error_policy::retry(1);
    s.h.what.replayed_through = 3;
    s.h.what.delays.first_ms = 1000;
    s.start();
    run_for(s.all, 500, s.w);
    CHECK(s.handled() == list{0});
    s.rows.show({1});
    run_for(s.all, 5000, s.w);
    CHECK(s.w.reason() == pj::status::store_unordered);
    REQUIRE(s.w.retry_failed() == pj::status::ok);
    run_for(s.all, 1000, s.w);
    CHECK(s.handled() == list{0, 1, 2, 3});
    CHECK(s.w.checkpointed() == 3);
}
