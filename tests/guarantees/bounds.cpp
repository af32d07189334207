// G5: where a projection may begin and go on, for every combination of checkpoint, bounds and
// first_start, compared with a model of what DESIGN.md says.
#include "support/setup.hpp"

using namespace support;
using pj::begin_at;
using pj::position;
using pj::status;

namespace {

struct expected {
    status reason;
    position first;         // the position that handling begins after
};

/// What should become of a start, in the words of the guarantee.
expected model(begin_at first_start, bool has_checkpoint, position at, position trimmed,
               position newest) {
    if (!has_checkpoint) {
        if (first_start == begin_at::the_end) return {status::ok, newest};
        if (first_start == begin_at::oldest_kept) return {status::ok, trimmed};
        return trimmed > pj::before_first ? expected{status::log_trimmed, at}
                                          : expected{status::ok, at};
    }
    if (at < trimmed) return {status::log_trimmed, at};
    if (at > newest) return {status::checkpoint_ahead, at};
    return {status::ok, at};
}

void fill(fake_log& log, position trimmed, position newest) {
    log.trimmed = trimmed;
    log.newest = newest;
    for (position at = trimmed + 1; at <= newest; ++at) log.add(at, "Beta");
}

} // namespace

TEST_CASE("G5 every combination of checkpoint, bounds and first start") {
    const position none = pj::before_first - 1;
    for (const begin_at first :
         {begin_at::the_beginning, begin_at::oldest_kept, begin_at::the_end}) {
        for (position trimmed = -1; trimmed <= 3; ++trimmed) {
            for (position newest = trimmed; newest <= 5; ++newest) {
                for (position at = none; at <= 7; ++at) {
                    if (at == pj::before_first) continue;   // a case of its own, below
                    setup s;
                    fill(s.log, trimmed, newest);
                    s.log.says_trimmed = at % 2 == 0;   // then bounds() alone must do
                    s.what.first_start = first;
                    if (at != none) s.store.put("p", at);
                    CAPTURE(static_cast<int>(first));
                    CAPTURE(trimmed);
                    CAPTURE(newest);
                    CAPTURE(at);
                    REQUIRE(s.start() == status::ok);
                    s.run_for(3000);
                    const position from = std::max(at, pj::before_first);
                    const expected e = model(first, at != none, from, trimmed, newest);
                    CHECK(s.worker.reason() == e.reason);
                    const bool is_halted = s.worker.state() == pj::run_state::halted;
                    CHECK(is_halted == (e.reason != status::ok));
                    const size_t count = is_halted ? 0 : static_cast<size_t>(newest - e.first);
                    CHECK(s.w.calls.size() == count);
                    if (!s.w.calls.empty()) CHECK(s.w.calls.front().at == e.first + 1);
                    if (is_halted) CHECK(s.store.tried.empty());
                }
            }
        }
    }
}

TEST_CASE("G5 a checkpoint that says before_first keeps its place in a trimmed log") {
    for (const begin_at first : {begin_at::the_beginning, begin_at::the_end}) {
        setup s;
        fill(s.log, 2, 4);
        s.what.first_start = first;
        s.store.put("p", pj::before_first, 3);      // it exists: this is not a first start
        REQUIRE(s.start() == status::ok);
        s.run_for(1000);
        CHECK(s.worker.reason() == status::log_trimmed);
        CHECK(s.w.calls.empty());
    }
}

TEST_CASE("G5 a first start at the end of an empty log is remembered over restarts") {
    setup s;
    s.what.first_start = begin_at::the_end;
    REQUIRE(s.start() == status::ok);
    s.run_for(1000);
    CHECK(s.store.has("p"));
    CHECK(s.stored().at == pj::before_first);
    SUBCASE("events arrive while it runs") {
        s.log.append(3, "Beta");
        s.run_for(2000);
    }
    SUBCASE("events arrive while it is stopped") {
        CHECK(s.stop() == status::ok);
        s.log.append(3, "Beta");
        REQUIRE(s.start() == status::ok);
        s.run_for(2000);
    }
    CHECK(s.w.called() == "a0 a1 a2");
    CHECK(s.stored().at == 2);
}

TEST_CASE("G5 the end at which a projection begins is that of the first look, saved or not") {
    for (const uint32_t there : {0u, 2u}) {
        setup s;
        s.what.first_start = begin_at::the_end;
        s.log.append(there, "Beta");
        s.store.saves.then(status::failed).then(status::failed);
        REQUIRE(s.worker.start() == status::ok);
        s.tick();
        s.log.append(1, "Beta");        // while the place is not yet saved
        s.run_for(60000);
        CHECK(s.w.called() == "a" + std::to_string(there));
        CHECK(s.worker.scanned() == position{there});
    }
}

TEST_CASE("G5 a first start at the end is saved before anything is read") {
    setup s;
    s.log.append(5, "Beta");
    s.what.first_start = begin_at::the_end;
    s.store.saves.then(status::failed, 3);
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.log.append(2, "Beta");
    s.run_for(60000);
    CHECK(s.store.saved.front().at == 4);
    CHECK(s.w.called() == "a5 a6");
}

TEST_CASE("G5 a first start at the end is one after a crash, too") {
    for (const int unavailable : {0, 2}) {
        setup s;
        s.log.append(5, "Beta");
        s.what.first_start = begin_at::the_end;
        pj::crash_guard guard(1);
        s.what.crashes = &guard;
        for (int i = 0; i < unavailable; ++i) s.log.bounds_asked.then(status::failed);
        REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
        for (int i = 0; i < unavailable; ++i) {
            s.tick();
            CHECK(s.store.tried.empty());       // no record before there is a place
            s.now_ms += s.last.wait_ms;
        }
        s.run_for(100);
        CHECK(s.stored().at == 4);
        s.log.append(1, "Beta");
        s.run_for(5000);
        CHECK(s.w.called() == "a5");
    }
}

TEST_CASE("G5 where everything is trimmed the next event is the first one handled") {
    setup s;
    s.log.trimmed = s.log.newest = 7;
    s.what.first_start = begin_at::oldest_kept;
    REQUIRE(s.start() == status::ok);
    s.run_for(2000);
    CHECK(s.worker.reason() == status::ok);
    CHECK(s.stored().at == 7);
    s.log.add(8, "Beta");
    s.run_for(2000);
    CHECK(s.w.called() == "a8");
}

TEST_CASE("G5 a log that is trimmed past the checkpoint while the engine waits is noticed") {
    setup s;
    s.log.append(4, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(500);
    SUBCASE("events are left") {
        s.log.append(6, "Beta");
        s.log.trim_to(6);
    }
    SUBCASE("nothing is left") { s.log.trimmed = s.log.newest = 9, s.log.rows.clear(); }
    s.run_for(2000);
    CHECK(s.worker.reason() == status::log_trimmed);
    CHECK(s.w.called() == "a0 a1 a2 a3");
    CHECK(s.stored().at == 3);
}

TEST_CASE("G5 a log that lost its newest events is noticed") {
    setup s;
    s.log.append(4, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(500);
    s.log.rows.resize(2);
    s.run_for(2000);
    CHECK(s.worker.reason() == status::checkpoint_ahead);
    CHECK(s.stored().at == 3);
}

TEST_CASE("G5 another log_id is refused, at start and later, empty logs included") {
    setup s;
    s.log.log_id = 11;
    s.log.append(3, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(1500);
    CHECK(s.stored().log_id == 11);
    s.log.log_id = 12;
    SUBCASE("while it runs") {}
    SUBCASE("while it runs, empty") { s.log.rows.clear(); }
    SUBCASE("at the next start") {
        s.log.log_id = 11;
        CHECK(s.stop() == status::ok);
        s.log.log_id = 12;
        REQUIRE(s.start() == status::ok);
    }
    s.log.append(9, "Beta");
    s.run_for(3000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.worker.reason() == status::log_replaced);
    CHECK(s.w.calls.size() == 3);
    CHECK(s.stored().at == 2);
}

TEST_CASE("G5 a log_id of 0 on either side is not compared") {
    setup s;
    s.log.append(3, "Beta");
    SUBCASE("the record has none") { s.log.log_id = 5; s.store.put("p", 1); }
    SUBCASE("the log has none") {
        pj::checkpoint record;
        record.at = 1;
        record.revision = 1;
        record.log_id = 5;
        s.store.put("p", record);
    }
    REQUIRE(s.start() == status::ok);
    s.run_for(3000);
    CHECK(s.w.called() == "a2");
    CHECK(s.stored().log_id == 5);
}

TEST_CASE("G5 the log's identity is recorded even if the first run handles nothing") {
    setup s;
    s.log.log_id = 11;
    REQUIRE(s.start() == status::ok);
    s.run_for(3000);
    s.log.append(1, "Beta");
    s.run_for(3000);
    CHECK(s.stored().log_id == 11);
}

TEST_CASE("G5 without bounds a store that answers trimmed halts the engine") {
    setup s;
    fill(s.log, 2, 5);
    s.what.log.bounds = nullptr;
    REQUIRE(s.start() == status::ok);
    s.run_for(3000);
    CHECK(s.worker.reason() == status::log_trimmed);
    CHECK(s.w.calls.empty());
}

TEST_CASE("G5 a log trimmed between bounds and read is still begun at the oldest kept") {
    setup s;
    fill(s.log, -1, 9);
    s.what.first_start = begin_at::oldest_kept;
    s.log.reads.then(status::trimmed);
    s.log.shows = {0};
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.log.trim_to(4);
    s.run_for(3000);
    CHECK(s.worker.reason() == status::ok);
    CHECK(s.w.called() == "a5 a6 a7 a8 a9");
}

TEST_CASE("G5 bounds that cannot be are a failing store, not a place to begin") {
    setup s;
    s.log.append(3, "Beta");
    s.what.first_start = begin_at::the_end;
    s.what.log.bounds = [](void*, position& trimmed, position& newest, uint64_t&) {
        trimmed = 5;
        newest = 2;
        return status::ok;
    };
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    CHECK(s.last.reason == status::store_failed);
    CHECK(s.last.wait_ms > 0);
    CHECK(s.w.calls.empty());
    CHECK(s.store.tried.empty());
}

TEST_CASE("G5 bounds are asked after load, after every wait and after an empty read") {
    setup s;
    s.log.append(3, "Beta");
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.log.bounds_count == 1);
    s.tick_after(s.last.wait_ms);           // a wait, then an empty read
    CHECK(s.log.bounds_count == 3);
    s.log.append(1, "Beta");
    s.tick_after(s.last.wait_ms);
    CHECK(s.log.bounds_count == 4);
    CHECK(s.w.called() == "a0 a1 a2 a3");
}

TEST_CASE("G31 reset() accepts the log that has taken the place of the checkpoint's") {
    setup s;
    s.log.log_id = 11;
    s.log.append(3, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(1500);
    s.log.log_id = 12;
    s.log.rows.clear();
    s.log.append(2, "Beta");
    s.run_for(3000);
    REQUIRE(s.worker.reason() == status::log_replaced);
    REQUIRE(s.worker.reset() == status::ok);
    s.run_for(3000);
    CHECK(s.worker.state() == pj::run_state::idle);
    CHECK(s.w.calls.size() == 5);
    CHECK(s.stored().log_id == 12);
}

TEST_CASE("G5 bounds that cannot be are a failure of the store") {
    for (const position trimmed : {position{-2}, position{INT64_MIN}}) {
        setup s;
        s.log.append(3, "Beta");
        s.log.trimmed = trimmed;
        s.log.says_trimmed = false;
        REQUIRE(s.start() == status::ok);
        CHECK(s.tick().reason == status::store_failed);
        CHECK(s.log.read_count == 0);
    }
}

TEST_CASE("G5 where a projection begins is saved before anything is read") {
    setup s;
    s.log.append(9, "Beta");
    s.log.trim_to(4);
    s.what.first_start = pj::begin_at::oldest_kept;
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.log.read_count == 0);
    REQUIRE(s.store.saved.size() == 1);
    CHECK(s.store.saved[0].at == 4);
    s.run_for(100);
    CHECK(s.w.called() == "a5 a6 a7 a8");
}

TEST_CASE("lag: how far the newest event is, -1 while that is not known") {
    setup s;
    s.log.append(10, "Beta");
    s.what.batch = 4;
    CHECK(s.worker.lag() == -1);
    REQUIRE(s.start() == status::ok);
    CHECK(s.worker.lag() == -1);
    for (const int64_t left : {6, 2, 0}) {
        s.tick();
        CHECK(s.worker.lag() == left);
    }
    setup without;
    without.log.append(10, "Beta");
    without.what.log.bounds = nullptr;
    REQUIRE(without.start() == status::ok);
    without.tick();
    CHECK(without.worker.lag() == -1);
}

TEST_CASE("G5 a first start at the end is one with replayed_through, too") {
    for (const pj::position through : {pj::position{-1}, pj::position{2}}) {
        CAPTURE(through);
        setup s;
        s.log.append(5, "Beta");
        s.what.first_start = pj::begin_at::the_end;
        s.what.replayed_through = through;
        REQUIRE(s.start() == status::ok);
        s.run_for(3000);
        CHECK(s.w.called() == "");
        CHECK(s.stored().at == 4);
        CHECK(s.stored().replayed_through == through);
    }
}

TEST_CASE("G5 G15 a log that is trimmed right after bounds(): asked again, with pending_ms 0") {
    for (const uint32_t ms : {0u, 10u}) {
        CAPTURE(ms);
        support::setup s;
        s.what.first_start = pj::begin_at::oldest_kept;
        s.what.pending_ms = ms;
        s.log.append(6, "Beta");
        s.log.shows.push_back(0);
        s.log.reads.then(pj::status::trimmed);
        REQUIRE(s.start() == pj::status::ok);
        s.tick();
        s.log.trim_to(3);
        for (int i = 0; i < 10 && s.worker.scanned() < 5; ++i) s.tick_after(ms);
        CHECK(s.w.called() == "a4 a5");
    }
}
