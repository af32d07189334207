// G14, G23, G24: a rebuild's waits and reasons, its partitions' leases and records, what it tells
// of its progress, and one engine that rebuilds more than once.
#include "support/cluster.hpp"

using namespace support;
using pj::notice_kind;
using pj::status;

namespace {

struct rebuild : host {
    pj::replay_options options;
    std::vector<pj::progress> progress;
    int drops = 0;
    kit::faults drop;
    struct dropping {
        rebuild& of;
        status operator()() const {
            bool works;
            const status answer = of.drop.next(works);
            if (works) ++of.drops;
            return answer;
        }
    } on_drop{*this};
    struct watching {
        rebuild& of;
        void operator()(const pj::progress& p) const { of.progress.push_back(p); }
    } on_progress{*this};

    rebuild(cluster& in, pj::position had_been) : host(in, 1) {
        what.lease = nullptr;
        options.on_drop = on_drop;
        options.on_progress = on_progress;
        pj::checkpoint r;
        r.at = had_been;
        r.revision = 1;
        in.store.records["p"] = r;
    }
};

/// The records of so many partitions that have stopped, each at its own place.
void put_partitions(cluster& all, uint32_t partitions) {
    uint64_t token = 0;
    REQUIRE(all.leases.acquire("before", 1, token) == status::ok);
    REQUIRE(token == 1);
    for (uint32_t i = 0; i < partitions; ++i) {
        pj::checkpoint r;
        r.at = 10 + static_cast<pj::position>(i);
        r.revision = 4;
        r.partition_count = partitions;
        r.hash_scheme = 1;
        r.fencing_token = token;
        all.store.records["p_p" + std::to_string(i)] = r;
    }
}

/// A rebuild of two partitions, each of them under its lease.
struct leased_partitions : rebuild {
    explicit leased_partitions(cluster& in) : rebuild(in, 0) {
        in.append(20);
        put_partitions(in, 2);
        in.store.records.erase("p");
        what.lease = &lease;
        options.partitions = 2;
    }
};

} // namespace

TEST_CASE("G23 a drop that fails is told and tried with backoff; what fails later waits anew") {
    cluster all;
    all.append(20);
    rebuild r(all, 15);
    r.what.pending_ms = 50;
    r.drop.then(status::failed, false, 2).then(status::pending, false);
    pj::replay_engine engine{r.what, r.options};
    REQUIRE(engine.start() == status::ok);
    for (const uint32_t ms : {100u, 200u}) {
        const pj::tick_result now = drain(all, engine);
        CHECK(now.wait_ms == ms);
        CHECK(now.reason == status::store_failed);
        CHECK(now.state == pj::run_state::waiting);
        all.clock.advance(ms);
    }
    CHECK(r.count(notice_kind::store_failed, status::store_failed) == 2);
    CHECK(drain(all, engine).wait_ms == 50);
    CHECK(engine.reason() == status::pending);
    CHECK(r.drops == 0);
    all.clock.advance(50);
    struct { cluster& of; int fails; status read(pj::position after, pj::visitor& visit) {
        return fails-- > 0 ? status::failed : of.read(after, visit);
    } } log{all, 1};
    r.what.log = log;
    const pj::tick_result now = drain(all, engine);
    CHECK(now.wait_ms == 100);
    CHECK(now.reason == status::store_failed);
    CHECK(r.drops == 1);
    run_for(all, 1000, engine);
    CHECK(engine.finished());
    CHECK(engine.reason() == status::ok);
    for (pj::position at = 0; at < 16; ++at) CHECK(all.times(at) == 2);
    CHECK(all.times(16) == 0);
}

TEST_CASE("G23 progress: hundredths of the positions, once for each that is reached") {
    for (const pj::position from : {pj::before_first, pj::position{39}}) {
        for (const pj::position through : {59, 139, 239}) {
            cluster all;
            all.append(300);
            rebuild r(all, through);
            r.options.batch = 7;
            r.options.from = from;
            r.options.total = 123;
            int failures = 3;
            r.does = [&](const pj::context& c, bool) -> pj::verdict {
                return c.event.at == 50 && failures-- > 0 ? pj::fail() : pj::handled;
            };
            r.what.on_error = pj::error_policy::retry(5);
            pj::replay_engine engine{r.what, r.options};
            CHECK(engine.how_far().percent == 0);
            REQUIRE(engine.start() == status::ok);
            for (int i = 0; i < 1000 && engine.running(); ++i) {
                const pj::tick_result now = engine.tick(all.clock());
                const pj::position done = r.drops == 0 ? 0 : engine.scanned() - from;
                const int percent = static_cast<int>(100 * done / (through - from));
                if (!engine.finished()) CHECK(engine.how_far().percent == percent);
                if (now.wait_ms != pj::never) all.clock.advance(now.wait_ms);
            }
            for (size_t i = 1; i < r.progress.size(); ++i) {
                CHECK(r.progress[i].percent >= r.progress[i - 1].percent);
                CHECK(r.progress[i].total == 123);
            }
            CHECK(engine.finished());
            CHECK(engine.how_far().percent == 100);
            CHECK(r.progress.back().percent == 100);
            // No more often than it moved: a batch of seven, a failure, the two ends.
            const size_t batches = static_cast<size_t>(through - from) / 7 + 1;
            CHECK(r.progress.size() >= batches);
            CHECK(r.progress.size() <= batches + 4);
        }
    }
}

TEST_CASE("G23 G24 one engine rebuilds again and again, as a new one would") {
    for (const uint32_t partitions : {0u, 3u}) {
        cluster all;
        all.append(20);
        rebuild r(all, 15);
        put_partitions(all, 3);
        r.options.partitions = partitions;
        pj::replay_engine engine{r.what, r.options};
        for (uint32_t round = 1; round <= 3; ++round) {
            REQUIRE(engine.start() == status::ok);
            CHECK_FALSE(engine.finished());
            CHECK(engine.how_far().percent == 0);
            r.progress.clear();
            run_for(all, 5000, engine);
            CHECK(engine.finished());
            CHECK(engine.reason() == status::ok);
            CHECK(r.drops == static_cast<int>(round));
            if (partitions == 0) {
                CHECK(all.store.at("p").rebuild == round);
                for (pj::position at = 0; at < 16; ++at) CHECK(all.times(at) == 2 * round);
                CHECK_FALSE(r.progress.empty());
                continue;
            }
            for (uint32_t i = 0; i < 3; ++i) {
                const pj::checkpoint now = all.store.at("p_p" + std::to_string(i));
                CHECK(now.rebuild == round);
                CHECK(now.replay_stage == 0);
                CHECK(now.at == pj::before_first);
                CHECK(now.replayed_through == 10 + static_cast<pj::position>(i));
            }
        }
    }
}

TEST_CASE("G21 G24 the records of all partitions carry the token under which they were set back") {
    cluster all;
    all.append(20);
    rebuild r(all, 15);
    put_partitions(all, 3);
    r.what.lease = &r.lease;
    r.options.partitions = 3;
    pj::replay_engine engine{r.what, r.options};
    REQUIRE(engine.start() == status::ok);
    run_for(all, 5000, engine);
    REQUIRE(engine.finished());
    for (uint32_t i = 0; i < 3; ++i) {
        const std::string key = "p_p" + std::to_string(i);
        CHECK(all.store.at(key).fencing_token > 1);
        pj::checkpoint late = all.store.at(key);        // of the owner before
        late.fencing_token = 1;
        ++late.revision;
        CHECK(all.store.save(pj::text(key), late) == status::conflict);
        uint64_t next = 0;              // nobody keeps its lease
        CHECK(all.leases.acquire(pj::text(key), 1000, next) == status::ok);
    }
}

TEST_CASE("G24 a partition that is owned is waited for a tenth of the ttl, whoever calls wake()") {
    cluster all;
    all.append(20);
    rebuild r(all, 15);
    put_partitions(all, 2);
    r.what.lease = &r.lease;
    r.lease.ttl_ms = 30000;             // so that no renewal comes in between
    r.options.partitions = 2;
    uint64_t token = 0;
    REQUIRE(all.leases.acquire("p_p1", 4000, token) == status::ok);
    pj::replay_engine engine{r.what, r.options};
    REQUIRE(engine.start() == status::ok);
    const pj::tick_result now = drain(all, engine);
    CHECK(now.wait_ms == 3001);
    CHECK(now.reason == status::lease_held);
    int asked = 0;
    all.leases.acquires.decide = [&](bool& works) {
        works = true;
        ++asked;
        return status::ok;
    };
    all.clock.advance(3000);
    engine.wake();
    CHECK(engine.tick(all.clock()).wait_ms == 1);
    CHECK(asked == 0);
    CHECK(r.drops == 0);
    all.clock.advance(1);
    run_for(all, 8000, engine);
    CHECK(engine.finished());
    CHECK(r.drops == 1);
}

TEST_CASE("G14 G24 records of partitions: conflict and pending wait, a failure is told") {
    struct { bool is_load; status answer, why; uint32_t ms, told; } const cases[] = {
        {true, status::failed, status::checkpoint_failed, 100, 1},
        {true, status::pending, status::pending, 50, 0},
        {false, status::failed, status::checkpoint_failed, 100, 1},
        {false, status::pending, status::pending, 50, 0},
        {false, status::conflict, status::pending, 50, 0},
    };
    for (const bool with_lease : {false, true}) {
        for (const auto& one : cases) {
            cluster all;
            all.append(20);
            rebuild r(all, 15);
            put_partitions(all, 3);
            r.options.partitions = 3;
            r.what.pending_ms = 50;
            if (with_lease) r.what.lease = &r.lease;
            // Twice for the second partition, and once for the third, which waits as the first did.
            int times = 0;
            const auto answers = [&](bool& works) {
                works = false;
                ++times;
                return one.answer;
            };
            struct selecting {
                cluster& of;
                std::string key;
                bool is_load;
                std::function<status(bool&)> answers;
                int left;
                status load(pj::text k, pj::checkpoint& out) {
                    bool works = true;
                    if (is_load && left > 0 && k == pj::text(key)) {
                        --left;
                        return answers(works);
                    }
                    return of.store.load(k, out);
                }
                status save(pj::text k, const pj::checkpoint& next) {
                    bool works = true;
                    if (!is_load && left > 0 && k == pj::text(key)) {
                        --left;
                        return answers(works);
                    }
                    return of.store.save(k, next);
                }
            } store{all, "p_p1", one.is_load, answers, 2};
            r.what.checkpoints = store;
            pj::replay_engine engine{r.what, r.options};
            REQUIRE(engine.start() == status::ok);
            const bool grows = one.why != status::pending;
            for (const uint32_t ms : {one.ms, grows ? 2 * one.ms : one.ms}) {
                const pj::tick_result now = drain(all, engine);
                CHECK(now.wait_ms == ms);
                CHECK(now.reason == one.why);
                all.clock.advance(ms);
            }
            store.key = "p_p2";
            store.left = 1;
            const pj::tick_result now = drain(all, engine);
            CHECK(now.wait_ms == one.ms);
            CHECK(now.reason == one.why);
            CHECK(times == 3);
            CHECK(r.count(notice_kind::checkpoint_failed) == 3 * one.told);
            run_for(all, 10000, engine);
            CHECK(engine.finished());
            for (uint32_t i = 0; i < 3; ++i) {
                const pj::checkpoint found = all.store.at("p_p" + std::to_string(i));
                CHECK(found.at == pj::before_first);
                CHECK(found.replay_stage == 0);
                CHECK(found.replayed_through == 10 + static_cast<pj::position>(i));
            }
            CHECK(r.drops == 1);
        }
    }
}

TEST_CASE("G20 a token that comes with a failure is no lease: no partition is marked under it") {
    for (const status answer : {status::failed, status::pending, status::conflict}) {
        cluster all;
        all.append(20);
        rebuild r(all, 15);
        put_partitions(all, 2);
        struct confusing {
            cluster& of;
            status answer;
            int left = 3;
            status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
                if (resource != pj::text("p_p1") || left == 0)
                    return of.leases.acquire(resource, ttl_ms, token);
                --left;
                token = 99;
                return answer;
            }
            status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
                return of.leases.extend(resource, ttl_ms, token);
            }
            status release(pj::text resource, uint64_t token) {
                return of.leases.release(resource, token);
            }
        } store{all, answer};
        r.lease.store = store;
        r.what.lease = &r.lease;
        r.options.partitions = 2;
        pj::replay_engine engine{r.what, r.options};
        REQUIRE(engine.start() == status::ok);
        for (int i = 0; i < 200 && store.left != 0; ++i) {
            const pj::tick_result now = engine.tick(all.clock());
            CHECK(all.store.at("p_p1").replay_stage == 0);
            all.clock.advance(now.wait_ms);
        }
        CHECK(store.left == 0);
        CHECK(r.drops == 0);
        run_for(all, 5000, engine);
        CHECK(engine.finished());
        CHECK(all.store.at("p_p1").fencing_token != 99);
        CHECK(all.store.at("p_p1").replayed_through == 11);
    }
}

TEST_CASE("G21 G23 a rebuild that waits longer than a partition's lease does not rely on it") {
    cluster all;
    leased_partitions r(all);
    r.what.delays.first_ms = 5000;      // longer than the ttl of 3000
    struct { cluster& of; int fails; status load(pj::text key, pj::checkpoint& out) {
        const bool is_other = kit::string_of(key) == "p_p1";
        return is_other && fails-- > 0 ? status::failed : of.store.load(key, out);
    } status save(pj::text key, const pj::checkpoint& next) {   // compares revisions, not tokens
        pj::checkpoint& record = of.store.records[kit::string_of(key)];
        if (next.revision != record.revision + 1) return status::conflict;
        record = next;
        return status::ok;
    } } store{all, 1};
    r.what.checkpoints = store;
    pj::replay_engine engine{r.what, r.options};
    REQUIRE(engine.start() == status::ok);
    for (int i = 0; i < 20 && store.fails > 0; ++i) static_cast<void>(engine.tick(all.clock()));
    REQUIRE(store.fails == 0);
    // Its worker takes the lease when the rebuild's has ended, and works on.
    for (int i = 0; i < 4; ++i) {
        all.clock.advance(900);
        static_cast<void>(engine.tick(all.clock()));
    }
    host live(all, 2);
    pj::partitioned_worker worker{live.what, {1, 2}};
    REQUIRE(worker.start() == status::ok);
    static_cast<void>(drain(all, worker));
    REQUIRE(worker.has_lease());
    for (int i = 0; i < 8; ++i) {
        all.clock.advance(900);
        static_cast<void>(worker.tick(all.clock()));
        static_cast<void>(engine.tick(all.clock()));
    }
    CHECK(worker.has_lease());
    CHECK(r.drops == 0);
    CHECK(engine.reason() == status::lease_held);
    CHECK(all.store.records["p_p1"].fencing_token == worker.fencing_token());
}

TEST_CASE("G20 a rebuild marks no other record when its own lease has run out meanwhile") {
    cluster all;
    leased_partitions r(all);
    struct { cluster& of; bool is_slow; status load(pj::text key, pj::checkpoint& out) {
        if (is_slow && kit::string_of(key) == "p_p1") of.clock.advance(2900);
        return of.store.load(key, out);
    } status save(pj::text key, const pj::checkpoint& next) { return of.store.save(key, next); }
    } store{all, true};
    r.what.checkpoints = store;
    pj::replay_engine engine{r.what, r.options};
    REQUIRE(engine.start() == status::ok);
    for (int i = 0; i < 20 && r.count(notice_kind::lease_lost) == 0; ++i)
        static_cast<void>(engine.tick(all.clock()));
    CHECK(r.count(notice_kind::lease_lost) == 1);
    CHECK(all.store.records["p_p1"].replay_stage == 0);
}

TEST_CASE("G1 a rebuild from above where the projection had been does not pass what lies between") {
    cluster all;
    all.append(20);
    rebuild r(all, 5);
    r.options.from = 10;
    pj::replay_engine engine{r.what, r.options};
    REQUIRE(engine.start() == status::ok);
    run_for(all, 10000, engine);
    CHECK_FALSE(engine.running());
    pj::worker worker{r.what};
    REQUIRE(worker.start() == status::ok);
    run_for(all, 10000, worker);
    for (pj::position at = 6; at < 20; ++at) CHECK(all.times(at) > 0);
}

TEST_CASE("G5 a rebuild from below what the log still has is refused before anything is dropped") {
    for (const pj::position from : {pj::before_first, pj::position{2}}) {
        CAPTURE(from);
        cluster all;
        all.append(20);
        rebuild r(all, 15);
        struct { cluster& of; status read(pj::position after, pj::visitor& visit) {
            return after < 4 ? status::trimmed : of.read(after, visit);
        } status bounds(pj::position& trimmed, pj::position& newest, uint64_t&) {
            trimmed = 4;
            newest = of.newest();
            return status::ok;
        } } log{all};
        r.what.log = log;
        r.what.first_start = pj::begin_at::oldest_kept;
        r.options.from = from;
        pj::replay_engine engine{r.what, r.options};
        REQUIRE(engine.start() == status::ok);
        run_for(all, 10000, engine);
        const bool begins = from == pj::before_first;       // then with the oldest that is kept
        CHECK(r.drops == (begins ? 1 : 0));
        CHECK(engine.finished() == begins);
        if (!begins) CHECK(engine.reason() == status::log_trimmed);
        CHECK(all.store.records["p"].replay_stage == 0);
    }
}
