// G20, G21, G22, G29: what an engine says and does about its lease, and what repartition() leaves
// behind and calls.
#include "support/cluster.hpp"

using namespace support;
using pj::notice_kind;
using pj::status;

TEST_CASE("G29 a lease: both sides of every limit, and no function of its store may be missing") {
    struct { uint32_t ttl_ms, margin_ms; status expected; } const cases[] = {
        {3, 0, status::ok},
        {2, 0, status::bad_lease},
        {0, 0, status::bad_lease},
        {3000, 1499, status::ok},
        {3000, 1500, status::bad_lease},
        {3000, 1200, status::ok},
        {pj::never / 4, 1000, status::ok},
        {pj::never / 4 + 1, 1000, status::bad_lease},
        {pj::never, 1000, status::bad_lease},
    };
    for (const auto& one : cases) {
        cluster all;
        host h(all, 1);
        h.lease.ttl_ms = one.ttl_ms;
        h.lease.margin_ms = one.margin_ms;
        pj::worker w{h.what};
        CAPTURE(one.ttl_ms);
        CHECK(w.start() == one.expected);
    }
    for (int which = 0; which < 3; ++which) {
        cluster all;
        host h(all, 1);
        if (which == 0) h.lease.store.acquire = nullptr;
        if (which == 1) h.lease.store.extend = nullptr;
        if (which == 2) h.lease.store.release = nullptr;
        pj::worker w{h.what};
        CHECK(w.start() == status::no_lease);
    }
}

TEST_CASE("G21 how long a standby waits, and why: pending, held, failing") {
    cluster all;
    host h(all, 1);
    h.what.pending_ms = 50;
    h.what.poll_ms = pj::never;
    pj::worker w{h.what};
    all.leases.acquires.then(status::pending, false)
        .then(status::conflict, false)
        .then(status::failed, false, 2);
    REQUIRE(w.start() == status::ok);
    struct { uint32_t ms; status why; } const waits[] = {
        {50, status::pending}, {301, status::lease_held},
        {100, status::lease_failed}, {200, status::lease_failed}};
    for (const auto& one : waits) {
        const pj::tick_result r = w.tick(all.clock());
        CHECK(r.wait_ms == one.ms);
        CHECK(r.reason == one.why);
        CHECK(r.state == pj::run_state::waiting);
        CHECK_FALSE(w.has_lease());
        all.clock.advance(one.ms - 1);
        CHECK(w.tick(all.clock()).wait_ms == 1);
        all.clock.advance(1);
    }
    CHECK(h.count(notice_kind::lease_failed, status::lease_failed) == 2);
    CHECK(h.count(notice_kind::lease_failed) == 2);
    // Once it has the lease, what fails then begins with the first wait.
    all.store.loads.then(status::failed, false);
    const pj::tick_result r = w.tick(all.clock());
    CHECK(r.wait_ms == 100);
    CHECK(r.reason == status::checkpoint_failed);
    CHECK(h.count(notice_kind::lease_gained, status::ok) == 1);
    all.clock.advance(100);
    drain(all, w);
    CHECK(w.reason() == status::ok);
    CHECK(w.has_lease());
}

TEST_CASE("G20 a renewal that fails is told and tried again; the loss is told with its reason") {
    cluster all;
    all.append(2);
    host h(all, 1);
    h.what.poll_ms = pj::never;
    pj::worker w{h.what};
    REQUIRE(w.start() == status::ok);
    drain(all, w);
    uint32_t asked = 0;
    all.leases.extends.decide = [&](bool& works) {
        works = false;
        ++asked;
        return status::failed;
    };
    run_for(all, 2699, w);
    CHECK(w.has_lease());
    CHECK(asked >= 3);
    CHECK(h.count(notice_kind::lease_failed, status::lease_failed) == asked);
    CHECK(h.count(notice_kind::lease_failed) == asked);
    CHECK(h.count(notice_kind::lease_lost) == 0);
    all.clock.advance(1);
    const pj::tick_result r = w.tick(all.clock());
    CHECK_FALSE(w.has_lease());
    CHECK(r.reason == status::lease_lost);
    CHECK(r.wait_ms == 301);
    CHECK(h.count(notice_kind::lease_lost, status::lease_lost) == 1);
}

TEST_CASE("G20 extend_lease() in a handler: every answer, and nothing is asked after the end") {
    struct { status store, said; uint32_t late_ms; bool is_asked, has_lease; } const cases[] = {
        {status::ok, status::ok, 2699, true, true},
        {status::ok, status::lease_lost, 2700, false, false},
        {status::ok, status::lease_lost, 2900, false, false},
        {status::conflict, status::lease_lost, 100, true, false},
        {status::pending, status::pending, 100, true, true},
        {status::failed, status::lease_failed, 100, true, true},
    };
    for (const auto& one : cases) {
        cluster all;
        host h(all, 1);
        h.what.poll_ms = pj::never;
        int asked = 0;
        status said = status::stopped;
        h.does = [&](const pj::context& c, bool second) -> pj::verdict {
            if (second) return pj::handled;
            all.clock.advance(one.late_ms);
            all.leases.extends.decide = [&](bool& works) {
                works = one.store == status::ok;
                ++asked;
                return one.store;
            };
            said = c.extend_lease();
            all.leases.extends.decide = nullptr;
            return pj::handled;
        };
        all.append(1);
        pj::worker w{h.what};
        REQUIRE(w.start() == status::ok);
        for (int i = 0; i < 20 && all.effects.empty(); ++i) static_cast<void>(w.tick(all.clock()));
        CHECK(said == one.said);
        CHECK(asked == (one.is_asked ? 1 : 0));
        CHECK(all.effects.size() == (one.has_lease ? 2 : 1));   // the second is not begun without
        CHECK(h.count(notice_kind::lease_failed) == (one.store == status::failed ? 1 : 0));
    }
}

TEST_CASE("G27 with a lease, too, waits are counted from the end of a tick that took long") {
    cluster all;
    host h(all, 1);
    h.what.poll_ms = pj::never;
    uint32_t takes_ms = 0;
    h.does = [&](const pj::context&, bool second) -> pj::verdict {
        if (!second) all.clock.advance(takes_ms);
        return pj::handled;
    };
    pj::worker w{h.what};
    REQUIRE(w.start() == status::ok);
    CHECK(drain(all, w).wait_ms == 1000);       // a third of the ttl
    all.append(1);
    takes_ms = 400;
    w.wake();
    CHECK(drain(all, w).wait_ms == 600);
    CHECK(all.leases.extended == 0);
    all.append(1);
    takes_ms = 599;
    w.wake();
    CHECK(drain(all, w).wait_ms == 1);
    all.clock.advance(1);
    static_cast<void>(w.tick(all.clock()));
    CHECK(all.leases.extended == 1);
}

TEST_CASE("G27 with a lease a tick that outlasts the next renewal is followed at once") {
    cluster all;
    host h(all, 1);
    h.what.poll_ms = pj::never;
    h.what.save = {100, 100000, false};
    h.does = [&](const pj::context&, bool second) -> pj::verdict {
        if (second) all.clock.advance(1200);
        return pj::handled;
    };
    pj::worker w{h.what};
    REQUIRE(w.start() == status::ok);
    CHECK(drain(all, w).wait_ms == 1000);
    all.append(1);
    w.wake();
    CHECK(w.tick(all.clock()).wait_ms == 0);
    static_cast<void>(w.tick(all.clock()));
    CHECK(all.leases.extended == 1);
    CHECK(w.has_lease());
}

TEST_CASE("G21 a lease store that says ok and gives no token has given no lease") {
    cluster all;
    all.append(1);
    host h(all, 1);
    struct tokenless {
        status acquire(pj::text, uint32_t, uint64_t&) { return status::ok; }
        status extend(pj::text, uint32_t, uint64_t) { return status::ok; }
        status release(pj::text, uint64_t) { return status::ok; }
    } store;
    h.lease.store = store;
    pj::worker w{h.what};
    REQUIRE(w.start() == status::ok);
    const pj::tick_result r = w.tick(all.clock());
    CHECK(r.reason == status::lease_failed);
    CHECK(r.wait_ms == 100);
    run_for(all, 5000, w);
    CHECK(all.effects.empty());
    CHECK_FALSE(w.has_lease());
    CHECK(h.count(notice_kind::lease_gained) == 0);
}

TEST_CASE("G28 the end of a lease is told: given back, or that this has failed") {
    for (const status answer : {status::ok, status::failed, status::conflict}) {
        cluster all;
        host h(all, 1);
        pj::worker w{h.what};
        REQUIRE(w.start() == status::ok);
        drain(all, w);
        all.leases.releases.then(answer, answer == status::ok);
        w.stop();
        drain(all, w);
        CHECK(w.state() == pj::run_state::stopped);
        const bool is_ok = answer == status::ok;
        CHECK(h.count(notice_kind::lease_released, status::ok) == (is_ok ? 1 : 0));
        CHECK(h.count(notice_kind::lease_released) == (is_ok ? 1 : 0));
        CHECK(h.count(notice_kind::lease_failed, status::lease_failed) == (is_ok ? 0 : 1));
        CHECK(h.count(notice_kind::lease_failed) == (is_ok ? 0 : 1));
    }
}

TEST_CASE("G15 G28 a release that is pending waits for pending_ms or wake()") {
    cluster all;
    host h(all, 1);
    h.what.pending_ms = 50;
    pj::worker w{h.what};
    REQUIRE(w.start() == status::ok);
    drain(all, w);
    int asked = 0;
    all.leases.releases.decide = [&](bool& works) {
        works = ++asked == 3;
        return works ? status::ok : status::pending;
    };
    w.stop();
    CHECK(w.tick(all.clock()).wait_ms == 50);
    CHECK(asked == 1);
    all.clock.advance(20);
    CHECK(w.tick(all.clock()).wait_ms == 30);
    CHECK(asked == 1);
    w.wake();
    CHECK(w.tick(all.clock()).wait_ms == 50);
    CHECK(asked == 2);
    all.clock.advance(50);
    static_cast<void>(w.tick(all.clock()));
    CHECK(asked == 3);
    CHECK(w.state() == pj::run_state::stopped);
    CHECK(all.leases.released == 1);
}

TEST_CASE("G22 the record of the count: conflict and pending wait, a failure is told as such") {
    struct { bool is_load; status answer, why; uint32_t ms, told; } const cases[] = {
        {true, status::failed, status::checkpoint_failed, 100, 1},
        {true, status::pending, status::pending, 50, 0},
        {false, status::failed, status::checkpoint_failed, 100, 1},
        {false, status::pending, status::pending, 50, 0},
        {false, status::conflict, status::pending, 50, 0},      // another partition was quicker
    };
    for (const auto& one : cases) {
        cluster all;
        all.append(4);
        host h(all, 1);
        h.what.lease = nullptr;
        h.what.pending_ms = 50;
        pj::partitioned_worker w{h.what, {0, 1}};
        if (one.is_load) all.store.loads.pass().then(one.answer, false);
        else all.store.saves.then(one.answer, false);
        REQUIRE(w.start() == status::ok);
        const pj::tick_result r = drain(all, w);
        CHECK(r.wait_ms == one.ms);
        CHECK(r.reason == one.why);
        CHECK(all.effects.empty());
        CHECK(h.count(notice_kind::checkpoint_failed) == one.told);
        CHECK(h.count(notice_kind::checkpoint_failed, status::checkpoint_failed) == one.told);
        run_for(all, 3000, w);
        CHECK(all.store.at("p_partitions").partition_count == 1);
        CHECK(all.store.at("p_p0").at == 3);
    }
}

namespace {

/// Two partitions that have stopped, and what their records say.
struct moved {
    cluster all;
    host h{all, 1};
    pj::checkpoint records[2];
    moved() {
        pj::checkpoint count;
        count.revision = 1;
        count.partition_count = 2;
        count.hash_scheme = 1;
        all.store.records["p_partitions"] = count;
        for (uint32_t i = 0; i < 2; ++i) {
            pj::checkpoint& r = records[i];
            r.revision = 5 + i;
            r.at = 20 + static_cast<pj::position>(i);
            r.partition_count = 2;
            r.hash_scheme = 1;
            r.fencing_token = 40 + i;
            r.log_id = 9;
            r.replayed_through = 10 - static_cast<pj::position>(i);
            r.rebuild = 3 + i;
            r.suspect = 21 + static_cast<pj::position>(i);
            r.crashes = 2;
        }
        put();
    }
    void put() {
        for (uint32_t i = 0; i < 2; ++i) all.store.records["p_p" + std::to_string(i)] = records[i];
    }
};

} // namespace

TEST_CASE("G22 repartition: the new records; their keys keep revision and token") {
    for (const bool is_swapped : {false, true}) {
        moved s;
        if (is_swapped) std::swap(s.records[0].rebuild, s.records[1].rebuild);
        if (is_swapped) std::swap(s.records[0].replayed_through, s.records[1].replayed_through);
        s.put();
        pj::checkpoint old;
        old.revision = 8;
        old.fencing_token = 77;
        s.all.store.records["p_p3"] = old;      // of a time when there were four
        REQUIRE(pj::repartition(s.h.what, 2, 4) == status::ok);
        for (uint32_t i = 0; i < 4; ++i) {
            const pj::checkpoint& from = s.records[i % 2];
            const pj::checkpoint now = s.all.store.at("p_p" + std::to_string(i));
            CHECK(now.at == from.at);
            CHECK(now.replayed_through == from.replayed_through);
            CHECK(now.rebuild == from.rebuild);
            CHECK(now.partition_count == 4);
            CHECK(now.log_id == 9);
            CHECK(now.suspect == pj::before_first);
            CHECK(now.crashes == 0);
            CHECK(now.revision == (i < 2 ? from.revision + 1 : i == 3 ? 9 : 1));
            CHECK(now.fencing_token == (i < 2 ? from.fencing_token : i == 3 ? 77 : 0));
        }
        CHECK(s.all.store.at("p_partitions").rebuild == 0);
        CHECK(s.all.store.at("p_partitions").replay_stage == 0);
        CHECK(s.all.leases.resources() == std::vector<std::string>{"p_p0", "p_p1"});

        REQUIRE(pj::repartition(s.h.what, 4, 1) == status::ok);
        const pj::checkpoint one = s.all.store.at("p_p0");
        CHECK(one.at == 20);
        CHECK(one.replayed_through == 9);       // the lowest
        CHECK(one.rebuild == 4);                // the highest
        CHECK(one.fencing_token == s.records[0].fencing_token);

        const size_t saved = s.all.store.history.size();
        CHECK(pj::repartition(s.h.what, 4, 1) == status::ok);
        CHECK(pj::repartition(s.h.what, 2, 1) == status::ok);
        CHECK(s.all.store.history.size() == saved);     // it is done: nothing is moved again
    }
}

TEST_CASE("G22 repartition ends at the first call that does not answer ok, and says what it did") {
    for (const status answer : {status::failed, status::pending, status::conflict}) {
        for (int n = 1;; ++n) {
            moved s;
            int calls = 0;
            const auto decide = [&](bool& works) {
                works = ++calls != n;
                return works ? status::ok : answer;
            };
            s.all.store.loads.decide = s.all.store.saves.decide = decide;
            const status said = pj::repartition(s.h.what, 2, 4);
            if (calls < n) {
                CHECK(said == status::ok);
                CHECK(n == 17);         // 3 for the marker, 3 for each of four, and 1
                break;
            }
            CHECK(calls == n);
            CHECK(said == answer);
            s.all.store.loads.decide = s.all.store.saves.decide = nullptr;
            CHECK(pj::repartition(s.h.what, 2, 4) == status::ok);
            uint32_t marked = 0;
            for (const auto& [key, record] : s.all.store.history)
                marked += key == "p_partitions" && record.replay_stage != 0 ? 1u : 0u;
            CHECK(marked == 1);         // a marker that is there is not written again
        }
    }
}

TEST_CASE("G22 repartition gives the leases back under the names that they were taken by") {
    moved s;
    static std::string named;
    s.h.lease.resource = [](pj::text key) -> pj::text {
        named = "lock:" + std::string(key.begin(), key.end());
        return named;
    };
    REQUIRE(pj::repartition(s.h.what, 2, 4) == status::ok);
    CHECK(s.all.leases.resources() == std::vector<std::string>{"lock:p_p0", "lock:p_p1"});
    CHECK(s.all.leases.released == 2);
    uint64_t token = 0;
    CHECK(s.all.leases.acquire("lock:p_p0", 3000, token) == status::ok);
    CHECK(s.all.leases.acquire("lock:p_p1", 3000, token) == status::ok);
}

TEST_CASE("G29 G22 a name whose length is no length of this world is refused, and not read") {
    for (size_t less = 0; less < 20; ++less) {      // with what follows a name it begins at 0 again
        moved s;
        s.h.what.name = pj::text("p", ~size_t{0} - less);
        CHECK(pj::repartition(s.h.what, 2, 4) == status::bad_key);
    }
}

TEST_CASE("G14 G21 a claim that a former owner's saves come before is repeated, with backoff") {
    cluster all;
    all.append(6);
    host h(all, 1);
    h.what.poll_ms = pj::never;
    pj::worker w{h.what};
    int saves = 0;
    all.store.saves.decide = [&](bool& works) {
        works = ++saves > 3;
        if (works) return status::ok;
        pj::checkpoint& late = all.store.records["p"];  // of the one before, at the last moment
        ++late.revision;
        late.at = saves - 1;
        return status::conflict;
    };
    REQUIRE(w.start() == status::ok);
    for (const uint32_t ms : {200u, 400u}) {
        const pj::tick_result r = drain(all, w);        // the first is repeated at once
        CHECK(r.wait_ms == ms);
        CHECK(all.effects.empty());
        all.clock.advance(ms - 1);
        w.wake();                                       // ends no backoff
        CHECK(w.tick(all.clock()).wait_ms == 1);
        CHECK(saves == (ms == 200 ? 2 : 3));
        all.clock.advance(1);
    }
    run_for(all, 1000, w);
    CHECK(w.has_lease());
    CHECK(all.store.at("p").at == 5);
    CHECK(all.store.at("p").fencing_token == w.fencing_token());
    for (pj::position at = 0; at < 6; ++at) CHECK(all.times(at) == (at <= 2 ? 0 : 2));
}

TEST_CASE("a limit: whoever stops without a lease gives no place back, and takes none") {
    for (const uint32_t most : {1u, 2u}) {
        cluster all;
        host h(all, 1);
        pj::partition_limit limit{most};
        pj::partition_options options;
        options.limit = &limit;
        pj::partitioned_worker a{h.what, {0, 3}, options};
        pj::partitioned_worker b{h.what, {1, 3}, options};
        pj::partitioned_worker c{h.what, {2, 3}, options};
        REQUIRE(a.start() == status::ok);
        drain(all, a);
        REQUIRE(a.has_lease());
        uint64_t token = 0;
        REQUIRE(all.leases.acquire("p_p1", 60000, token) == status::ok);        // another host
        for (int i = 0; i < 3; ++i) {
            REQUIRE(b.start() == status::ok);
            drain(all, b);
            CHECK_FALSE(b.has_lease());
            b.stop();
            drain(all, b);
            REQUIRE_FALSE(b.running());
        }
        REQUIRE(c.start() == status::ok);
        drain(all, c);
        CHECK(a.has_lease());
        CHECK(limit.held() == most);
        CHECK(c.has_lease() == (most == 2));
        a.stop();
        drain(all, a);
        all.clock.advance(400);
        drain(all, c);
        CHECK(c.has_lease());
    }
}

TEST_CASE("G14 G21 a save in a unit that is refused, though nobody else has saved, is made again") {
    cluster all;
    all.append(4);
    host h(all, 1);
    struct {
        status begin() { return status::ok; }
        status commit() { return status::ok; }
        status rollback() { return status::ok; }
    } units;
    h.what.transaction = units;
    h.what.save.every_events = 1;
    pj::worker w{h.what};
    REQUIRE(w.start() == status::ok);
    for (int i = 0; i < 50 && w.checkpointed() < 1; ++i) static_cast<void>(w.tick(all.clock()));
    REQUIRE(w.checkpointed() == 1);
    all.store.saves.then(status::conflict, false);
    run_for(all, 20000, w);
    CHECK(w.checkpointed() == 3);
}
