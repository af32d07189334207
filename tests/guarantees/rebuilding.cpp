// Rebuilds: one engine that rebuilds twice, what is told of progress, the partitions' records.
#include "support/cluster.hpp"
#include "support/setup.hpp"

using namespace support;
using pj::position;
using pj::run_state;
using pj::status;

namespace {

struct rebuilt : setup {
    pj::replay_options options;
    std::vector<pj::progress> told_of;
    std::vector<status> drops;          // answers to come
    uint32_t dropped = 0;

    explicit rebuilt(uint32_t events = 5) {
        log.append(events, "Beta");
        options.on_progress = {[](void* me, const pj::progress& p) {
            static_cast<rebuilt*>(me)->told_of.push_back(p);
        }, this};
        options.on_drop = {[](void* me) {
            rebuilt& r = *static_cast<rebuilt*>(me);
            ++r.dropped;
            if (r.drops.empty()) return status::ok;
            const status s = r.drops.front();
            r.drops.erase(r.drops.begin());
            return s;
        }, this};
    }
    template<class Engine> void finish(Engine& e) {
        for (int i = 0; i < 300 && e.running(); ++i) now_ms += e.tick(now_ms).wait_ms;
        CHECK_FALSE(e.running());
    }
};

} // namespace

TEST_CASE("G24 one engine rebuilds twice, the second time as the first") {
    rebuilt s;
    s.options.batch = 2;
    pj::replay_engine replay{s.what, s.options};
    for (uint32_t run = 1; run <= 2; ++run) {
        CAPTURE(run);
        s.told_of.clear();
        s.w.calls.clear();
        REQUIRE(replay.start() == status::ok);
        CHECK_FALSE(replay.finished());
        CHECK(replay.how_far().percent < 100);
        s.finish(replay);
        CHECK(replay.finished());
        CHECK(s.w.called() == "a0 a1 a2 a3 a4");
        CHECK(s.dropped == run);
        CHECK(s.stored().rebuild == run);
        CHECK(s.stored().at == 4);
        CHECK(s.stored().replay_stage == 0);
        REQUIRE(s.told_of.size() == 4);         // nothing yet, two, four, all
        for (size_t i = 0; i < 4; ++i) CHECK(s.told_of[i].processed == (i < 3 ? 2 * i : 5));
        CHECK(s.told_of.back().percent == 100);
    }
}

TEST_CASE("G14 G24 a save that is under way at the end of a rebuild is not the one that finishes it") {
    // Done and its answer lost, or not done: it says how far the rebuild was, and is repeated so.
    for (const bool is_done : {true, false}) {
        CAPTURE(is_done);
        rebuilt s(6);
        s.options.batch = 2;
        s.what.save.every_events = 2;
        s.store.put("p", 5);
        pj::replay_engine replay{s.what, s.options};
        REQUIRE(replay.start() == status::ok);
        const auto tick_until = [&](auto is_so) {
            for (int i = 0; i < 50 && !is_so(); ++i) s.now_ms += replay.tick(s.now_ms).wait_ms;
            REQUIRE(is_so());
        };
        tick_until([&] { return s.stored().replay_stage == 2 && s.stored().at == 1; });
        s.store.saves.always(is_done ? lost_answer() : step{status::failed, false, false});
        tick_until([&] { return replay.scanned() == 5; });
        for (int i = 0; i < 3; ++i) static_cast<void>(replay.tick(s.now_ms));
        REQUIRE(replay.running());
        s.store.saves.clear();
        s.finish(replay);
        CHECK(replay.finished());
        CHECK(s.stored().at == 5);
        CHECK(s.stored().replay_stage == 0);
        for (const pj::checkpoint& one : s.store.saved)
            CHECK((one.replay_stage != 0 || one.at == 5));
    }
}

TEST_CASE("on_progress is told after each tick that moved on, and after no other") {
    rebuilt s;
    s.a.says.at(2, pj::pending, 4);
    pj::replay_engine replay{s.what, s.options};
    REQUIRE(replay.start() == status::ok);
    s.finish(replay);
    CHECK(replay.finished());
    for (size_t i = 1; i < s.told_of.size(); ++i)
        CHECK(s.told_of[i].processed > s.told_of[i - 1].processed);
    CHECK(s.told_of.back().processed == 5);
}

TEST_CASE("G24 without bounds a rebuild does not end before the last event has its outcome") {
    for (const pj::verdict v : {pj::pending, pj::fail()}) {
        rebuilt s;
        s.what.log.bounds = nullptr;
        s.what.on_error = pj::error_policy::retry(3);
        s.a.says.at(4, v, 2);
        pj::replay_engine replay{s.what, s.options};
        REQUIRE(replay.start() == status::ok);
        s.finish(replay);
        CHECK(replay.finished());
        CHECK(s.w.times("a", 4) == 3);
        CHECK(replay.counts().handled == 5);
        CHECK(s.stored().at == 4);
        CHECK(s.stored().replayed_through == 4);
    }
}

TEST_CASE("G5 a rebuild of what the log has no more begins nothing: no marker, no drop, no call") {
    for (const bool is_ahead : {false, true}) {
        rebuilt s;
        if (is_ahead) s.store.put("p", 20);
        else s.log.trim_to(1);
        pj::replay_engine replay{s.what, s.options};
        REQUIRE(replay.start() == status::ok);
        s.finish(replay);
        CHECK(replay.reason() == (is_ahead ? status::checkpoint_ahead : status::log_trimmed));
        CHECK_FALSE(replay.finished());
        CHECK(s.dropped == 0);
        CHECK(s.w.calls.empty());
        CHECK(s.store.tried.empty());
        CHECK(s.log.read_count == 0);
        CHECK(s.watch.count(pj::notice_kind::rebuild_began) == 0);
    }
}

TEST_CASE("G14 an on_drop that fails is told, waited for, and no reason for longer waits later") {
    rebuilt s;
    s.drops = {status::failed, status::failed, status::pending, status::failed};
    pj::replay_engine replay{s.what, s.options};
    REQUIRE(replay.start() == status::ok);
    s.log.shows = {0};
    s.log.reads.then(status::failed);
    std::vector<uint32_t> waits;
    for (int i = 0; i < 100 && replay.running(); ++i) {
        const pj::tick_result r = replay.tick(s.now_ms);
        if (r.wait_ms != 0) {
            waits.push_back(r.wait_ms);
            CHECK(r.reason == (r.wait_ms == 10 ? status::pending : status::store_failed));
        }
        s.now_ms += r.wait_ms;
    }
    CHECK(waits == std::vector<uint32_t>{100, 200, 10, 400, 100});
    for (const told& t : s.watch.notices) {
        if (t.kind == pj::notice_kind::store_failed) CHECK(t.reason == status::store_failed);
    }
    CHECK(s.watch.count(pj::notice_kind::store_failed) == 4);
    CHECK(replay.finished());
    CHECK(s.dropped == 5);
}

TEST_CASE("G29 a rebuild of partitions needs keys that fit; one without has none") {
    const std::string name(100, 'n');
    setup s;
    s.what.name = pj::text(name.data(), 100);
    pj::replay_engine plain{s.what};
    CHECK(plain.start() == status::ok);
    for (const uint32_t partitions : {1u, 10u, 100u}) {
        const size_t digits = std::to_string(partitions).size();
        pj::replay_options options;
        options.partitions = partitions;
        pj::replay_engine replay{s.what, options};
        s.what.name = pj::text(name.data(), 63 - 2 - digits + 1);
        CHECK(replay.start() == status::bad_key);
        s.what.name = pj::text(name.data(), 63 - 2 - digits);
        CHECK(replay.start() == status::ok);
    }
    pj::replay_options none;
    none.batch = 0;
    pj::replay_engine no_batch{s.what, none};
    CHECK(no_batch.start() == status::bad_batch);
}

TEST_CASE("G24 a rebuild of partitions sets each back, twice if asked to, and no other record") {
    for (const uint32_t partitions : {1u, 2u, 4u}) {
        CAPTURE(partitions);
        rebuilt s;
        s.options.partitions = partitions;
        for (uint32_t i = 0; i < partitions; ++i)
            s.store.put("p_p" + std::to_string(i), static_cast<position>(i));
        pj::replay_engine replay{s.what, s.options};
        for (uint32_t run = 1; run <= 2; ++run) {
            CAPTURE(run);
            REQUIRE(replay.start() == status::ok);
            s.finish(replay);
            CHECK(replay.finished());
            CHECK(s.dropped == run);
            for (uint32_t i = 0; i < partitions; ++i) {
                CAPTURE(i);
                const pj::checkpoint c = s.store.at("p_p" + std::to_string(i));
                CHECK(c.at == pj::before_first);
                CHECK(c.replayed_through == static_cast<position>(i));
                CHECK(c.rebuild == run);
                CHECK(c.replay_stage == 0);
            }
            CHECK_FALSE(s.store.has("p_p" + std::to_string(partitions)));
            CHECK_FALSE(s.store.has("p"));
        }
        CHECK(s.w.calls.empty());
    }
}

TEST_CASE("G25 partitions that had no checkpoint have replayed nothing") {
    rebuilt s;
    s.options.partitions = 2;
    pj::replay_engine replay{s.what, s.options};
    REQUIRE(replay.start() == status::ok);
    s.finish(replay);
    CHECK(replay.finished());
    for (const char* key : {"p_p0", "p_p1"}) {
        CHECK(s.store.at(key).at == pj::before_first);
        CHECK(s.store.at(key).replayed_through == pj::before_first);
        CHECK(s.store.at(key).replay_stage == 0);
    }
}

TEST_CASE("G23 a partition's record that cannot be had is waited for, and then it is marked") {
    for (const status answer : {status::failed, status::pending, status::conflict}) {
        rebuilt s;
        s.options.partitions = 2;
        pj::replay_engine replay{s.what, s.options};
        s.store.saves.then(status::ok).then(answer);    // the mark of p_p0, then that of p_p1
        REQUIRE(replay.start() == status::ok);
        pj::tick_result r{};
        for (int i = 0; i < 9 && r.wait_ms == 0 && replay.running(); ++i) r = replay.tick(s.now_ms);
        CHECK(s.dropped == 0);
        CHECK(r.wait_ms == (answer == status::failed ? 100 : 10));
        CHECK(r.reason == (answer == status::failed ? status::checkpoint_failed
                                                    : status::pending));
        s.now_ms += r.wait_ms;
        s.finish(replay);
        CHECK(replay.finished());
        CHECK(s.store.at("p_p1").rebuild == 1);
        CHECK(s.store.at("p_p1").revision == 2);
    }
}

TEST_CASE("G13 G23 a rebuild prolongs its own lease while it looks at another partition") {
    cluster all;
    all.append(5);
    host h(all, 1);
    struct slow_store {
        cluster& of;
        status load(pj::text key, pj::checkpoint& out) {
            if (key == "p_p1") of.clock.advance(1200);          // more than a third of the lease
            return of.store.load(key, out);
        }
        status save(pj::text key, const pj::checkpoint& next) { return of.store.save(key, next); }
    } store{all};
    h.what.checkpoints = store;
    pj::replay_options options;
    options.partitions = 2;
    pj::replay_engine replay{h.what, options};
    REQUIRE(replay.start() == status::ok);
    for (int i = 0; i < 50 && replay.running(); ++i) {
        const pj::tick_result r = replay.tick(all.clock());
        CHECK(r.reason != status::lease_lost);
        all.clock.advance(r.wait_ms == pj::never ? 0 : r.wait_ms);
    }
    CHECK(replay.finished());
    CHECK(all.store.at("p_p1").rebuild == 1);
}

TEST_CASE("G23 a rebuild that ends without its last save is not finished, and the next one goes on") {
    // After so many ticks that could not save. In one the lease is lost, and what was loaded with it.
    struct { bool has_lease; uint32_t stopped_after; } const cases[] = {
        {false, 0}, {true, 0}, {true, 1}};
    for (const auto [has_lease, stopped_after] : cases) {
        cluster all;
        all.append(5);
        host h(all, 1);
        if (!has_lease) h.what.lease = nullptr;
        struct barred_store {
            cluster& of;
            bool has_begun, is_barred, is_ending;
            status load(pj::text key, pj::checkpoint& out) { return of.store.load(key, out); }
            status save(pj::text key, const pj::checkpoint& next) {
                has_begun = has_begun || next.replay_stage != 0;
                if (!is_barred || !has_begun || next.replay_stage != 0)
                    return of.store.save(key, next);
                is_ending = true;
                return status::failed;
            }
        } store{all, false, true, false};
        h.what.checkpoints = store;
        pj::replay_engine replay{h.what};
        uint32_t ticks = 0;
        REQUIRE(replay.start() == status::ok);
        for (int i = 0; i < 20 && replay.running(); ++i) {
            static_cast<void>(replay.tick(all.clock()));
            if (!store.is_ending) continue;
            if (ticks++ == stopped_after) replay.stop();
            all.clock.advance(20000);           // longer than the lease and stop_ms
        }
        REQUIRE_FALSE(replay.running());
        if (stopped_after == 0) CHECK(replay.reason() == status::checkpoint_failed);
        CHECK(replay.loaded() == (stopped_after == 0));
        CHECK_FALSE(replay.finished());
        store.is_barred = false;
        REQUIRE(replay.start() == status::ok);
        run_for(all, 5000, replay);
        CHECK(replay.finished());
        CHECK(all.store.at("p").replay_stage == 0);
    }
}

TEST_CASE("G23 a rebuild waits for the lease of each partition, saves under it, gives it back") {
    cluster all;
    all.append(5);
    host h(all, 1);
    uint64_t token = 0;
    REQUIRE(all.leases.acquire("p_p1", 1000, token) == status::ok);
    pj::replay_options options;
    options.partitions = 2;
    pj::replay_engine replay{h.what, options};
    REQUIRE(replay.start() == status::ok);
    pj::tick_result r{};
    for (int i = 0; i < 9 && r.wait_ms == 0; ++i) r = replay.tick(all.clock());
    CHECK(r.reason == status::lease_held);
    CHECK(r.wait_ms == 301);
    run_for(all, 5000, replay);
    CHECK(replay.finished());
    CHECK(all.store.at("p_p1").fencing_token > token);
    CHECK(all.store.at("p_p1").rebuild == 1);
    for (const char* key : {"p_p0", "p_p1"})
        CHECK(all.leases.acquire(key, 1000, token) == status::ok);
}

TEST_CASE("G5 a rebuild that is refused reads nothing, wherever the projection stands") {
    for (const bool is_ahead : {false, true}) {
        rebuilt s;
        pj::checkpoint record;
        record.at = 3;                          // a place to read on from
        record.revision = 1;
        record.replayed_through = is_ahead ? 20 : pj::before_first;
        s.store.put("p", record);
        if (!is_ahead) s.log.trim_to(1);
        pj::replay_engine replay{s.what, s.options};
        REQUIRE(replay.start() == status::ok);
        s.finish(replay);
        CHECK(replay.reason() == (is_ahead ? status::checkpoint_ahead : status::log_trimmed));
        CHECK(s.log.read_count == 0);
        CHECK(s.store.tried.empty());
    }
}

TEST_CASE("G22 a rebuild of another count of partitions is refused, and nothing is marked") {
    for (const bool says_record : {false, true}) {      // or only the record of a partition does
        for (const uint32_t partitions : {1u, 2u}) {
            CAPTURE(says_record);
            CAPTURE(partitions);
            rebuilt s;
            pj::checkpoint record;
            record.revision = 1;
            record.partition_count = 4;
            s.store.put(says_record ? "p_partitions" : "p_p0", record);
            s.options.partitions = partitions;
            pj::replay_engine replay{s.what, s.options};
            REQUIRE(replay.start() == status::ok);
            s.finish(replay);
            CHECK(replay.reason() == status::partition_count_changed);
            CHECK(s.dropped == 0);
            CHECK(s.store.tried.empty());
        }
    }
}

TEST_CASE("G22 without partitions no count is looked for in the own record, nor under a key too long") {
    rebuilt s;
    const std::string name(60, 'n');
    s.what.name = pj::text(name);
    pj::checkpoint record;
    record.revision = 1;
    record.at = 2;
    record.partition_count = 4;
    s.store.put(name, record);
    s.store.put("", record);
    pj::replay_engine replay{s.what, s.options};
    REQUIRE(replay.start() == status::ok);
    s.finish(replay);
    CHECK(replay.finished());
    CHECK(s.w.called() == "a0 a1 a2");
}

TEST_CASE("on_progress is told where a rebuild stands that goes on after a stop, and from 0, too") {
    rebuilt s;
    s.options.batch = 1;
    s.options.from = 0;
    s.a.says.at(3, pj::pending, 3);
    pj::replay_engine replay{s.what, s.options};
    REQUIRE(replay.start() == status::ok);
    for (int i = 0; i < 50 && s.w.times("a", 3) < 2; ++i)
        s.now_ms += replay.tick(s.now_ms).wait_ms;
    const auto percents = [&] {
        std::vector<int> all;
        for (const pj::progress& p : s.told_of) all.push_back(p.percent);
        s.told_of.clear();
        return all;
    };
    CHECK(percents() == std::vector<int>{0, 25, 50});
    replay.stop();
    s.finish(replay);
    REQUIRE(replay.start() == status::ok);
    s.finish(replay);
    CHECK(replay.finished());
    CHECK(percents() == std::vector<int>{50, 75, 100});
}

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("G26 an on_progress that throws disturbs nothing, and is told of each position once") {
    rebuilt s;
    s.options.batch = 2;
    uint32_t calls = 0;
    const auto listen = [&](const pj::progress&) {
        ++calls;
        throw 1;
    };
    s.options.on_progress = listen;
    pj::replay_engine replay{s.what, s.options};
    REQUIRE(replay.start() == status::ok);
    s.finish(replay);
    CHECK(replay.finished());
    CHECK(calls == 4);                          // nothing yet, two, four, all
    CHECK(s.w.called() == "a0 a1 a2 a3 a4");
}
#endif

TEST_CASE("how far a rebuild is, wherever it goes on: never below nothing, nor above all") {
    const struct { position from, at, target; int percent; } cases[] = {
        {10, 3, 20, 0},                         // asked to begin above where it stands
        {-1, 3355442, 0xFFFFFE, 20},            // exact where it can be
        {-1, 3355441, 0xFFFFFE, 19},
        {-1, 30, 20, 100},                      // its store has looked beyond the end
    };
    for (const auto& c : cases) {
        CAPTURE(c.at);
        rebuilt s;
        s.log.newest = 0xFFFFFF;
        pj::checkpoint record;
        record.at = c.at;
        record.revision = record.rebuild = 1;
        record.replay_stage = 2;
        record.replayed_through = c.target;
        s.store.put("p", record);
        s.options.from = c.from;
        pj::replay_engine replay{s.what, s.options};
        REQUIRE(replay.start() == status::ok);
        replay.pause();
        static_cast<void>(replay.tick(s.now_ms));
        REQUIRE(replay.loaded());
        CHECK(replay.how_far().percent == c.percent);
    }
}

TEST_CASE("G24 a partition that was set back before a crash is not set back again") {
    rebuilt s;
    s.options.partitions = 2;
    pj::checkpoint record;
    record.revision = 7;
    record.rebuild = 1;
    record.at = 3;                              // its worker has gone on since
    record.replayed_through = 4;
    s.store.put("p_p1", record);
    record.at = pj::before_first;
    record.replay_stage = 2;
    s.store.put("p_p0", record);
    pj::replay_engine replay{s.what, s.options};
    REQUIRE(replay.start() == status::ok);
    s.finish(replay);
    CHECK(replay.finished());
    CHECK(s.dropped == 0);
    CHECK(s.store.at("p_p1").at == 3);
    CHECK(s.store.at("p_p1").revision == 7);
    CHECK(s.store.at("p_p0").replay_stage == 0);
}

TEST_CASE("G23 a rebuild that meets another one's marker marks all partitions for that one") {
    rebuilt s;
    s.options.partitions = 3;
    pj::replay_engine replay{s.what, s.options};
    REQUIRE(replay.start() == status::ok);
    const auto is_set_back = [&] {
        return s.store.at("p_p0").replay_stage == 2 && s.store.at("p_p2").replay_stage == 0;
    };
    for (int i = 0; i < 50 && !is_set_back(); ++i) s.now_ms += replay.tick(s.now_ms).wait_ms;
    // Its last save is still to come. Somebody else begins, and goes no further than the marker.
    pj::checkpoint marker = s.store.at("p_p0");
    REQUIRE(marker.replay_stage == 2);
    ++marker.revision;
    ++marker.rebuild;
    marker.replay_stage = 1;
    s.store.put("p_p0", marker);
    s.finish(replay);
    REQUIRE(replay.reason() == status::checkpoint_conflict);
    REQUIRE(replay.retry_failed() == status::ok);
    bool was_marked = false;
    const uint32_t before = s.dropped;
    for (int i = 0; i < 50 && s.dropped == before && replay.running(); ++i) {
        was_marked = s.store.at("p_p1").replay_stage == 1 && s.store.at("p_p2").replay_stage == 1;
        s.now_ms += replay.tick(s.now_ms).wait_ms;
    }
    CHECK(s.dropped == before + 1);
    CHECK(was_marked);
    s.finish(replay);
    CHECK(replay.finished());
    CHECK(s.store.at("p_p2").rebuild == marker.rebuild);
}
