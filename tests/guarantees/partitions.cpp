// Partitions: every aggregate belongs to exactly one, and nothing is lost by hashing, hosts that
// come and go, splitting or merging.
#include "support/cluster.hpp"

#include <fstream>
#include <set>
#include <sstream>

using namespace support;

namespace {

/// A host that runs some of the partitions.
struct part_host : host {
    pj::partition_limit limit{1000};
    pj::partition_options options;
    std::vector<std::unique_ptr<pj::partitioned_worker>> workers;

    part_host(cluster& in, int number, uint32_t count) : host(in, number) {
        options.limit = &limit;
        for (uint32_t i = 0; i < count; ++i)
            workers.emplace_back(
                new pj::partitioned_worker(what, pj::partition{i, count}, options));
    }
    void start() {
        for (auto& w : workers) REQUIRE(w->start() == pj::status::ok);
    }
    uint32_t tick() {
        uint32_t wait_ms = pj::never;
        for (auto& w : workers) wait_ms = pj::sooner(wait_ms, w->tick(of.clock()).wait_ms);
        return wait_ms;
    }
    uint32_t held() const {
        uint32_t n = 0;
        for (const auto& w : workers) n += w->has_lease() ? 1u : 0u;
        return n;
    }
    bool is_through() const {
        for (const auto& w : workers)
            if (!w->running() || w->checkpointed() != of.newest()) return false;
        return true;
    }
};

template<class... Hosts> void run_hosts(cluster& all, uint64_t ms, Hosts&... hosts) {
    const uint64_t until = all.clock.full() + ms;
    for (int i = 0; i < 100000 && all.clock.full() < until; ++i) {
        uint32_t wait_ms = pj::never;
        ((wait_ms = pj::sooner(wait_ms, hosts.tick())), ...);
        const uint64_t left = until - all.clock.full();
        all.clock.advance(wait_ms < left ? wait_ms : left);
    }
}

} // namespace

TEST_CASE("G19 partition_of equals the recorded vectors of the Python package") {
    const char* folder = std::getenv("PROJECTIONS_TEST_DATA");
    std::ifstream file(std::string(folder != nullptr ? folder : "tests/data") +
                       "/partition_vectors.tsv");
    REQUIRE_MESSAGE(file.good(), "tests/data/partition_vectors.tsv is found by "
                                 "PROJECTIONS_TEST_DATA, or from the top folder");
    const uint32_t counts[] = {1, 2, 3, 7, 8, 16, 100, 1000, 65535, 4294967295u};
    std::string line;
    int seen = 0;
    std::getline(file, line);
    while (std::getline(file, line)) {
        const size_t tab = line.find('\t');
        const std::string id = line.substr(0, tab);
        std::istringstream numbers(line.substr(tab));
        for (const uint32_t count : counts) {
            uint32_t expected = ~0u;
            numbers >> expected;
            CAPTURE(id);
            CHECK(pj::partition_of(id, count) == expected);
            ++seen;
        }
    }
    CHECK(seen == 170);
    CHECK(pj::partition_of("anything", 0) == 0);
}

TEST_CASE("G19 every aggregate is handled by exactly one of the partitions") {
    for (const uint32_t count : {1u, 2u, 3u, 8u}) {
        cluster all;
        for (int i = 0; i < 200; ++i) all.events.emplace_back("id-" + std::to_string(i), 1);
        part_host h(all, 1, count);
        h.start();
        run_hosts(all, 3000, h);
        CHECK(h.is_through());
        CHECK(all.effects.size() == 400);
        for (pj::position at = 0; at < 200; ++at) CHECK(all.times(at) == 2);
        uint64_t foreign = 0, handled = 0;
        for (const auto& w : h.workers) {
            const pj::counters n = w->counts();
            foreign += n.foreign;
            handled += n.handled;
            CHECK(n.duplicate == 0);
            CHECK(n.scanned == n.handled + n.foreign);
        }
        CHECK(handled == 200);
        CHECK(foreign == 200 * (count - 1));
    }
}

TEST_CASE("G3 defect 1: a batch that is foreign altogether is passed, and saved") {
    cluster all;
    std::string foreign;
    for (int i = 0; foreign.empty(); ++i)
        if (pj::partition_of("x" + std::to_string(i), 3) != 1) foreign = "x" + std::to_string(i);
    for (int i = 0; i < 350; ++i) all.events.emplace_back(foreign, 1);
    part_host h(all, 1, 3);
    pj::partitioned_worker& w = *h.workers[1];
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(w.checkpointed() == 349);
    CHECK(w.counts().foreign == 350);
    CHECK(all.effects.empty());
    CHECK(all.store.at("p_p1").at == 349);
}

TEST_CASE("a key from the store, a user's function, and a store that selects by itself") {
    cluster all;
    host h(all, 1);
    pj::partition_options options;
    SUBCASE("partition_by, with a scheme of its own in the records") {
        std::vector<std::string> asked;
        const auto by_length = [&](pj::text id, uint32_t count) -> uint32_t {
            asked.push_back(kit::string_of(id));
            return static_cast<uint32_t>(id.size()) % count;
        };
        options.partition_by = by_length;
        all.events = {{"a", 1}, {"bb", 2}, {"ccc", 3}};
        pj::partitioned_worker w{h.what, {1, 2}, options};
        REQUIRE(w.start() == pj::status::ok);
        drain(all, w);
        CHECK(all.times(0) == 2);
        CHECK(all.times(1) == 0);
        CHECK(all.times(2) == 2);
        CHECK(asked == std::vector<std::string>{"a", "bb", "ccc"});
        CHECK(all.store.at("p_partitions").hash_scheme == 255);
        CHECK(all.store.at("p_p1").hash_scheme == 255);
        pj::partitioned_worker sha{h.what, {0, 2}};
        REQUIRE(sha.start() == pj::status::ok);
        drain(all, sha);
        CHECK(sha.reason() == pj::status::partition_count_changed);
    }
    SUBCASE("partition_by that computes the same may say so") {
        options.hash_scheme = 1;
        options.partition_by = [](pj::text id, uint32_t count) {
            return pj::partition_of(id, count);
        };
        all.events = {{"order-1", 1}, {"order-2", 2}};
        pj::partitioned_worker w{h.what, {1, 3}, options}, sha{h.what, {2, 3}};
        REQUIRE(w.start() == pj::status::ok);
        REQUIRE(sha.start() == pj::status::ok);
        drain(all, w);
        drain(all, sha);
        CHECK(w.running());
        CHECK(sha.running());
        CHECK(all.times(0) == 2);
        CHECK(all.times(1) == 2);
    }
    SUBCASE("G19 partition_by that answers any number: each aggregate is one partition's") {
        options.partition_by = [](pj::text id, uint32_t) {
            return static_cast<uint32_t>(id.size()) + 0xFFFFFFF0u;
        };
        all.events = {{"a", 1}, {"bb", 2}, {"ccc", 3}, {"", 4}};
        pj::partitioned_worker even{h.what, {0, 2}, options}, odd{h.what, {1, 2}, options};
        for (pj::partitioned_worker* const w : {&even, &odd}) {
            REQUIRE(w->start() == pj::status::ok);
            drain(all, *w);
        }
        CHECK(even.counts().handled == 2);
        CHECK(odd.counts().handled == 2);
        for (pj::position at = 0; at < 4; ++at) CHECK(all.times(at) == 2);  // by both handlers
    }
    SUBCASE("not computed for a single partition") {
        options.partition_by = [](pj::text, uint32_t) -> uint32_t {
            CHECK(false);
            return 0;
        };
        all.append(5);
        pj::partitioned_worker w{h.what, {0, 1}, options};
        REQUIRE(w.start() == pj::status::ok);
        drain(all, w);
        CHECK(w.counts().handled == 5);
        CHECK(all.store.at("p_p0").at == 4);
        CHECK(all.store.at("p_partitions").partition_count == 1);
    }
#if PROJECTIONS_EXCEPTIONS
    SUBCASE("partition_by that throws is a failure of the event, which is tried again") {
        int throwing = 2;
        const auto moody = [&](pj::text, uint32_t) -> uint32_t {
            if (throwing-- > 0) throw std::runtime_error("moody");
            return 1;
        };
        options.partition_by = moody;
        h.what.on_error = pj::error_policy::retry(5);
        all.append(3);
        pj::partitioned_worker w{h.what, {1, 2}, options};
        REQUIRE(w.start() == pj::status::ok);
        run_for(all, 5000, w);
        CHECK(w.counts().handled == 3);
        CHECK(w.counts().failed_calls == 2);
    }
#endif
}

TEST_CASE("stored_event::partition_key comes before any hash; visitor.of() for stores that select") {
    struct keyed_log {
        pj::partition asked{9, 9};
        pj::status read(pj::position after, pj::visitor& visit) {
            asked = visit.of();
            const tick_event e{1};
            for (pj::position at = after + 1; at < 6; ++at) {
                pj::stored_event one = pj::raw_event(at, e, "same");
                one.partition_key = static_cast<uint32_t>(at) + 300;
                if (!visit(one)) break;
            }
            return pj::status::ok;
        }
    } log;
    cluster all;
    host h(all, 1);
    h.what.log = log;
    pj::partitioned_worker w{h.what, {1, 3}};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(log.asked.index == 1);
    CHECK(log.asked.count == 3);
    CHECK(all.effects.size() == 4);
    CHECK(all.times(1) == 2);
    CHECK(all.times(4) == 2);
    h.what.name = "q";
    pj::worker plain{h.what};
    REQUIRE(plain.start() == pj::status::ok);
    drain(all, plain);
    CHECK(log.asked.index == 0);
    CHECK(log.asked.count == 1);
}

TEST_CASE("G29 partitions: what is wrong is named at start") {
    cluster all;
    host h(all, 1);
    pj::partitioned_worker none{h.what, {0, 0}}, above{h.what, {3, 3}};
    CHECK(none.start() == pj::status::bad_partition);
    CHECK(above.start() == pj::status::bad_partition);
    const std::string long_name(53, 'n');
    h.what.name = long_name;
    pj::partitioned_worker too_long{h.what, {0, 1}};
    CHECK(too_long.start() == pj::status::bad_key);
    h.what.name = pj::text(long_name.data(), 52);       // and `_partitions` fills the 63
    CHECK(too_long.start() == pj::status::ok);
    CHECK(all.store.records.empty());
}

TEST_CASE("letters and handlers are told the partition") {
    cluster all;
    all.append(20);
    host h(all, 1);
    std::set<uint32_t> seen;
    h.does = [&](const pj::context& c, bool) -> pj::verdict {
        seen.insert(c.partition);
        return pj::reject();
    };
    h.what.on_error = pj::error_policy::dead_letter();
    h.what.dead_letters = all.letters;
    pj::partitioned_worker w{h.what, {2, 3}};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(seen == std::set<uint32_t>{2});
    REQUIRE_FALSE(all.letters.kept.empty());
    for (const auto& one : all.letters.kept) CHECK(std::get<1>(one.first) == 2);
}

TEST_CASE("G22 another count is refused before anything is handled") {
    cluster all;
    all.append(10);
    host a(all, 1), b(all, 2);
    pj::partitioned_worker first{a.what, {0, 3}};
    REQUIRE(first.start() == pj::status::ok);
    drain(all, first);
    const size_t before = all.effects.size();
    SUBCASE("a partition that never ran") {
        pj::partitioned_worker other{b.what, {3, 4}};
        REQUIRE(other.start() == pj::status::ok);
        drain(all, other);
        CHECK(other.state() == pj::run_state::halted);
        CHECK(other.reason() == pj::status::partition_count_changed);
        CHECK(all.leases.released == 1);
    }
    SUBCASE("one that did") {
        first.stop();
        drain(all, first);
        pj::partitioned_worker other{b.what, {0, 4}};
        REQUIRE(other.start() == pj::status::ok);
        drain(all, other);
        CHECK(other.reason() == pj::status::partition_count_changed);
    }
    SUBCASE("its own record only, the count's being gone") {
        first.stop();
        drain(all, first);
        all.store.records.erase("p_partitions");
        pj::partitioned_worker other{b.what, {0, 4}};
        REQUIRE(other.start() == pj::status::ok);
        drain(all, other);
        CHECK(other.reason() == pj::status::partition_count_changed);
        CHECK_FALSE(all.store.records.count("p_partitions") != 0);
    }
    CHECK(all.effects.size() == before);
    CHECK(all.store.at("p_p0").partition_count == 3);
}

TEST_CASE("G22 two hosts that begin with different counts: one of them is refused") {
    cluster all;
    all.append(10);
    host a(all, 1), b(all, 2);
    pj::partitioned_worker wa{a.what, {0, 2}}, wb{b.what, {2, 3}};
    REQUIRE(wa.start() == pj::status::ok);
    REQUIRE(wb.start() == pj::status::ok);
    run_for(all, 5000, wa, wb);
    CHECK(wa.running() != wb.running());
    for (const effect& e : all.effects) CHECK(e.who == (wa.running() ? 1 : 2));
}

TEST_CASE("G22 a store that keeps no count is found out, unless that is known") {
    cluster all;
    all.append(10);
    all.store.positions_only = true;
    host a(all, 1);
    a.what.lease = nullptr;             // so that no claim finds it out first
    pj::partitioned_worker w{a.what, {0, 2}};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(w.reason() == pj::status::partial_record);
    CHECK(all.effects.empty());
    a.what.accept_partial_records = true;
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(w.checkpointed() == 9);
}

TEST_CASE("a host holds no more than its limit, and gives up the excess between two batches") {
    cluster all;
    all.append(100);
    part_host a(all, 1, 6), b(all, 2, 6);
    a.limit.set(4);
    b.limit.set(2);
    a.start();
    b.start();
    run_hosts(all, 5000, a, b);
    CHECK(a.held() == 4);
    CHECK(b.held() == 2);
    CHECK(a.limit.held() == 4);
    for (pj::position at = 0; at < 100; ++at) CHECK(all.times(at) == 2);
    // Rebalanced while events arrive.
    a.limit.set(2);
    b.limit.set(4);
    for (int i = 0; i < 20; ++i) {
        all.append(10);
        run_hosts(all, 200, a, b);
    }
    run_hosts(all, 3000, a, b);
    CHECK(a.held() == 2);
    CHECK(b.held() == 4);
    CHECK(a.limit.held() == 2);
    CHECK(a.count(pj::notice_kind::lease_lost) == 0);
    CHECK(a.count(pj::notice_kind::lease_released) == 2);
    for (pj::position at = 0; at < all.newest(); ++at) CHECK(all.times(at) == 2);
    // One host is gone; the other takes all.
    b.limit.set(6);
    all.append(50);
    run_hosts(all, 10000, b);
    CHECK(b.held() == 6);
    CHECK(b.is_through());
    b.limit.set(0);
    run_hosts(all, 2000, b);
    CHECK(b.held() == 0);
    for (const auto& w : b.workers) CHECK(w->reason() == pj::status::lease_held);
    for (auto& w : b.workers) w->stop();
    run_hosts(all, 100, b);
    for (const auto& w : b.workers) CHECK(w->state() == pj::run_state::stopped);
}

TEST_CASE("a limit counts a lease that was lost, and a worker that halts") {
    cluster all;
    all.append(30);
    part_host a(all, 1, 3);
    a.limit.set(1);
    a.what.on_error = pj::error_policy::halt();
    a.does = [&](const pj::context&, bool) -> pj::verdict { return pj::fail(); };
    a.start();
    run_hosts(all, 3000, a);
    // Each in turn takes the one slot, halts, and gives it back.
    for (const auto& w : a.workers) CHECK(w->state() == pj::run_state::halted);
    CHECK(a.limit.held() == 0);
    a.does = nullptr;
    for (auto& w : a.workers) REQUIRE(w->retry_failed() == pj::status::ok);
    all.leases.extends.then(pj::status::conflict, false, 1);
    run_hosts(all, 3000, a);
    CHECK(a.count(pj::notice_kind::lease_lost) == 1);
    CHECK(a.limit.held() == 1);
    CHECK(a.held() == 1);
}

TEST_CASE("G28 stop while a lease is being given up ends the run") {
    cluster all;
    all.append(3);
    part_host a(all, 1, 1);
    a.start();
    run_hosts(all, 100, a);
    all.leases.releases.then(pj::status::pending, false, 2);
    a.limit.set(0);
    static_cast<void>(a.tick());
    a.workers[0]->stop();
    run_hosts(all, 100, a);
    CHECK(a.workers[0]->state() == pj::run_state::stopped);
    CHECK(a.workers[0]->reason() == pj::status::ok);
    CHECK(a.limit.held() == 0);
}

TEST_CASE("a limit: the place of a lease that was lost is free for another partition") {
    cluster all;
    all.append(30);
    part_host a(all, 1, 2);
    a.limit.set(1);
    a.start();
    run_hosts(all, 500, a);
    REQUIRE(a.workers[0]->has_lease());
    CHECK_FALSE(a.workers[1]->has_lease());
    all.leases.extends.decide = [&](bool& works) {      // another process has taken it
        all.leases.extends.decide = nullptr;
        works = false;
        uint64_t token = 0;
        CHECK(all.leases.release("p_p0", a.workers[0]->fencing_token()) == pj::status::ok);
        CHECK(all.leases.acquire("p_p0", 1000000, token) == pj::status::ok);
        return pj::status::conflict;
    };
    run_hosts(all, 3000, a);
    CHECK_FALSE(a.workers[0]->has_lease());
    CHECK(a.workers[1]->has_lease());
    CHECK(a.limit.held() == 1);
}

namespace {

/// Runs all partitions of that count to the end of the log and stops them.
void run_through(cluster& all, int who, uint32_t count) {
    part_host h(all, who, count);
    h.start();
    run_hosts(all, 3000, h);
    CHECK(h.is_through());
    for (auto& w : h.workers) w->stop();
    run_hosts(all, 100, h);
    for (const auto& w : h.workers) CHECK(w->state() == pj::run_state::stopped);
}
pj::status insist(const pj::projection& what, uint32_t from, uint32_t to) {
    pj::status s = pj::status::failed;
    for (int i = 0; i < 1000 && (s == pj::status::failed || s == pj::status::pending); ++i)
        s = pj::repartition(what, from, to);
    return s;
}

} // namespace

TEST_CASE("G22 split and merge: no event is lost, and after a split none comes twice") {
    cluster all;
    all.append(100);
    run_through(all, 1, 2);
    host h(all, 9);
    CHECK(pj::repartition(h.what, 2, 6) == pj::status::ok);
    CHECK(pj::repartition(h.what, 2, 6) == pj::status::ok);     // done already
    CHECK(all.store.at("p_partitions").partition_count == 6);
    for (int i = 0; i < 6; ++i) CHECK(all.store.at("p_p" + std::to_string(i)).at == 99);
    all.append(100);
    run_through(all, 2, 6);
    for (pj::position at = 0; at < 200; ++at) CHECK(all.times(at) == 2);
    // Merge with positions that differ: the lowest counts.
    all.append(50);
    part_host some(all, 3, 6);
    REQUIRE(some.workers[4]->start() == pj::status::ok);
    drain(all, *some.workers[4]);
    some.workers[4]->stop();
    drain(all, *some.workers[4]);
    REQUIRE(some.workers[2]->start() == pj::status::ok);
    drain(all, *some.workers[2]);
    some.workers[2]->stop();
    drain(all, *some.workers[2]);
    CHECK(all.store.at("p_p4").at == 249);
    CHECK(all.store.at("p_p2").at == 249);
    CHECK(pj::repartition(h.what, 6, 3) == pj::status::ok);
    CHECK(all.store.at("p_p1").at == 199);      // the first of its two parents was behind
    CHECK(all.store.at("p_p2").at == 199);      // and here the second
    run_through(all, 4, 3);
    for (pj::position at = 200; at < 250; ++at) CHECK(all.times(at) >= 2);
    // And again up: the records of the first time do not come to life.
    all.append(10);
    CHECK(pj::repartition(h.what, 3, 6) == pj::status::ok);
    CHECK(all.store.at("p_p5").at == 249);
    run_through(all, 5, 6);
    for (pj::position at = 250; at < 260; ++at) CHECK(all.times(at) == 2);
}

TEST_CASE("G22 repartition: interrupted at every call, and called again") {
    for (const auto& [from, to] : {std::pair{2u, 4u}, std::pair{4u, 2u}, std::pair{1u, 3u}}) {
        for (int n = 1; n < 40; ++n) {
            for (const bool works : {false, true}) {
                cluster all;
                all.append(40);
                run_through(all, 1, from);
                all.append(10);
                host h(all, 9);
                int calls = 0;
                const auto once = [&](bool& does) {
                    does = ++calls != n || works;
                    return calls == n ? pj::status::failed : pj::status::ok;
                };
                all.store.loads.decide = all.store.saves.decide = once;
                const pj::status s = pj::repartition(h.what, from, to);
                const bool was_hit = calls >= n;
                CHECK((s == pj::status::ok || was_hit));
                if (s != pj::status::ok) {
                    // Until it is done, nobody starts.
                    all.store.loads.decide = all.store.saves.decide = nullptr;
                    const bool began = all.store.at("p_partitions").replay_stage != 0;
                    if (began) {
                        for (const uint32_t count : {from, to}) {
                            pj::partitioned_worker w{h.what, {0, count}};
                            REQUIRE(w.start() == pj::status::ok);
                            run_for(all, 50, w);
                            CHECK(w.reason() == pj::status::partition_count_changed);
                        }
                        CHECK(pj::repartition(h.what, to, from) ==
                              pj::status::partition_count_changed);
                    }
                    CHECK(insist(h.what, from, to) == pj::status::ok);
                }
                all.store.loads.decide = all.store.saves.decide = nullptr;
                run_through(all, 2, to);
                for (pj::position at = 0; at < 50; ++at) CHECK(all.times(at) >= 2);
                for (pj::position at = 0; at < 40; ++at) CHECK(all.times(at) == 2);
                if (!was_hit) n = 40;
            }
        }
    }
}

TEST_CASE("G22 repartition: what it refuses") {
    cluster all;
    all.append(10);
    run_through(all, 1, 2);
    host h(all, 9);
    CHECK(pj::repartition(h.what, 2, 3) == pj::status::bad_partition);
    CHECK(pj::repartition(h.what, 0, 2) == pj::status::bad_partition);
    CHECK(pj::repartition(h.what, 2, 0) == pj::status::bad_partition);
    CHECK(pj::repartition(h.what, 4, 8) == pj::status::partition_count_changed);
    host owner(all, 2);
    pj::partitioned_worker w{owner.what, {1, 2}};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(pj::repartition(h.what, 2, 4) == pj::status::lease_held);
    w.stop();
    drain(all, w);
    CHECK(pj::repartition(h.what, 2, 4) == pj::status::ok);
    const std::string long_name(60, 'n');
    h.what.name = long_name;
    CHECK(pj::repartition(h.what, 2, 4) == pj::status::bad_key);
    cluster bare;
    host other(bare, 1);
    CHECK(pj::repartition(other.what, 2, 4) == pj::status::partition_count_changed);
    other.what.checkpoints.save = nullptr;
    CHECK(pj::repartition(other.what, 2, 4) == pj::status::no_save);
    other.what.checkpoints = pj::checkpoint_store{};
    CHECK(pj::repartition(other.what, 2, 4) == pj::status::no_load);
}

TEST_CASE("G22 repartition during a rebuild is refused; what was replayed is kept, the lowest of it") {
    cluster all;
    all.append(20);
    run_through(all, 1, 4);
    host h(all, 9);
    all.store.records["p_p2"].replay_stage = 2;
    CHECK(pj::repartition(h.what, 4, 2) == pj::status::rebuild_unfinished);
    all.store.records["p_p2"].replay_stage = 0;
    all.store.records["p_p0"].replayed_through = 9;
    all.store.records["p_p2"].replayed_through = 5;
    all.store.records["p_p2"].rebuild = 3;
    CHECK(insist(h.what, 4, 2) == pj::status::ok);
    CHECK(all.store.at("p_p0").replayed_through == 5);
    CHECK(all.store.at("p_p0").rebuild == 3);
    CHECK(all.store.at("p_p1").replayed_through == pj::before_first);
}

TEST_CASE("G24 a partition whose worker saves while it is marked is looked at again") {
    cluster all;
    all.append(20);
    run_through(all, 1, 2);
    host h(all, 9);
    pj::replay_options options;
    options.partitions = 2;
    for (const bool with_lease : {false, true}) {
        h.what.lease = with_lease ? &h.lease : nullptr;
        all.store.saves.pass(with_lease ? 2 : 1).then(pj::status::conflict, false, 1);
        pj::replay_engine replay{h.what, options};
        REQUIRE(replay.start() == pj::status::ok);
        run_for(all, 20000, replay);
        CHECK(replay.finished());
        run_through(all, 2, 2);
    }
}

TEST_CASE("G24 partitions are rebuilt under one drop, and only when all their owners are gone") {
    cluster all;
    all.append(60);
    run_through(all, 1, 3);
    part_host live(all, 2, 3);
    REQUIRE(live.workers[2]->start() == pj::status::ok);
    run_for(all, 100, *live.workers[2]);
    host r(all, 3);
    int drops = 0;
    const auto drop = [&] {
        ++drops;
        all.effects.clear();
        return pj::status::ok;
    };
    pj::replay_options options;
    options.on_drop = drop;
    options.partitions = 3;
    pj::replay_engine replay{r.what, options};
    REQUIRE(replay.start() == pj::status::ok);
    run_for(all, 4000, *live.workers[2], replay);
    CHECK(drops == 0);
    CHECK(replay.reason() == pj::status::lease_held);
    live.workers[2]->stop();
    run_for(all, 5000, *live.workers[2], replay);
    CHECK(drops == 1);
    CHECK(replay.finished());
    for (const char* key : {"p_p0", "p_p1", "p_p2"}) {          // all are free at once
        uint64_t token = 0;
        CHECK(all.leases.acquire(pj::text(key), 1, token) == pj::status::ok);
    }
    all.clock.advance(1);
    run_through(all, 4, 3);
    for (pj::position at = 0; at < 60; ++at) CHECK(all.times(at) == 2);
}

TEST_CASE("a partition that has lost its lease has given its place back") {
    cluster all;
    all.append(3);
    part_host a(all, 1, 1);
    a.limit.set(1);
    a.start();
    run_hosts(all, 100, a);
    CHECK(a.limit.held() == 1);
    all.clock.advance(10000);
    a.tick();
    CHECK(a.held() == 0);
    CHECK(a.limit.held() == 0);
    run_hosts(all, 1000, a);
    CHECK(a.held() == 1);
    CHECK(a.limit.held() == 1);
}

TEST_CASE("G22 the keys of partitions are the name, _p and the index in decimal") {
    cluster all;
    all.append(1);
    for (const uint32_t index : {0u, 9u, 10u, 99u, 100u, 101u, 999u, 1000u, 4294967293u}) {
        CAPTURE(index);
        host a(all, 1);
        a.what.lease = nullptr;
        cluster fresh;
        a.what.checkpoints = fresh.store;
        pj::partitioned_worker w{a.what, pj::partition{index, 4294967294u}};
        REQUIRE(w.start() == pj::status::ok);
        drain(all, w);
        CHECK(w.checkpointed() == 0);
        CHECK(fresh.store.records.size() == 2);
        CHECK(fresh.store.records.count("p_p" + std::to_string(index)) == 1);
        CHECK(fresh.store.records.count("p_partitions") == 1);
    }
}

TEST_CASE("a partition that was given up for the limit says that its lease is held") {
    cluster all;
    part_host a(all, 1, 2);
    a.start();
    run_hosts(all, 100, a);
    CHECK(a.held() == 2);
    a.limit.set(1);
    run_hosts(all, 100, a);
    CHECK(a.held() == 1);
    for (const auto& w : a.workers) {
        CHECK(w->reason() == (w->has_lease() ? pj::status::ok : pj::status::lease_held));
    }
}

TEST_CASE("G22 repartition: a store without counts is found out before anything is moved") {
    cluster all;
    all.store.positions_only = true;
    all.store.records["p_p0"].at = 5;
    host a(all, 1);
    a.what.lease = nullptr;
    static_cast<void>(pj::repartition(a.what, 1, 2));
    CHECK(pj::repartition(a.what, 1, 2) != pj::status::ok);
    CHECK(all.store.records.count("p_p1") == 0);
}

TEST_CASE("G22 repartition waits for whoever holds any of the old partitions") {
    for (const char* key : {"p_p0", "p_p1"}) {
        cluster all;
        all.append(1);
        part_host a(all, 1, 2);
        a.start();
        run_hosts(all, 100, a);
        for (auto& w : a.workers) w->stop();
        run_hosts(all, 100, a);
        uint64_t token = 0;
        REQUIRE(all.leases.acquire(key, 3000, token) == pj::status::ok);
        CHECK(pj::repartition(a.what, 2, 4) == pj::status::lease_held);
        all.clock.advance(3000);
        CHECK(pj::repartition(a.what, 2, 4) == pj::status::ok);
    }
}

TEST_CASE("G22 repartition asks for the leases by the names that they have") {
    cluster all;
    all.append(1);
    part_host a(all, 1, 2);
    a.start();
    run_hosts(all, 100, a);
    for (auto& w : a.workers) w->stop();
    run_hosts(all, 100, a);
    static std::string named;
    a.lease.resource = [](pj::text key) -> pj::text {
        named = "lock:" + std::string(key.begin(), key.end());
        return named;
    };
    uint64_t token = 0;
    REQUIRE(all.leases.acquire("lock:p_p1", 3000, token) == pj::status::ok);
    CHECK(pj::repartition(a.what, 2, 4) == pj::status::lease_held);
    all.clock.advance(3000);
    CHECK(pj::repartition(a.what, 2, 4) == pj::status::ok);
}

TEST_CASE("G22 G29 an index of ten digits needs more room than the record of the count") {
    cluster all;
    host h(all, 1);
    const std::string longest(51, 'n'), longer(52, 'n');        // 63 characters with _p1000000000
    const pj::partition huge{1000000000u, 2000000000u}, small{1, 2000000000u};
    h.what.name = longest;
    CHECK(pj::partitioned_worker(h.what, huge).start() == pj::status::ok);
    h.what.name = longer;
    CHECK(pj::partitioned_worker(h.what, huge).start() == pj::status::bad_key);
    CHECK(pj::partitioned_worker(h.what, small).start() == pj::status::ok);
    CHECK(pj::repartition(h.what, 1000000000u, 1) == pj::status::bad_key);
    CHECK(pj::repartition(h.what, 1, 1000000000u) == pj::status::bad_key);
    CHECK(all.store.history.empty());
}

TEST_CASE("G22 repartition without a lease") {
    cluster all;
    all.append(40);
    run_through(all, 1, 2);
    host h(all, 9);
    h.what.lease = nullptr;
    CHECK(pj::repartition(h.what, 2, 4) == pj::status::ok);
    for (int i = 0; i < 4; ++i) CHECK(all.store.at("p_p" + std::to_string(i)).at == 39);
    run_through(all, 2, 4);
    for (pj::position at = 0; at < 40; ++at) CHECK(all.times(at) == 2);
}

TEST_CASE("G22 repartition goes on only from the count that it was begun with") {
    cluster all;
    all.append(40);
    run_through(all, 1, 2);
    host h(all, 9);
    h.what.lease = nullptr;
    all.store.saves.pass(2).then(pj::status::failed);           // the count, p3; not p2
    REQUIRE(pj::repartition(h.what, 2, 4) == pj::status::failed);
    CHECK(pj::repartition(h.what, 1, 4) == pj::status::partition_count_changed);
    CHECK(pj::repartition(h.what, 2, 4) == pj::status::ok);
    CHECK(all.store.at("p_partitions").partition_count == 4);
}

TEST_CASE("G22 repartition: a store that keeps the count and not the marker is found out, nothing is moved") {
    cluster all;
    all.append(40);
    run_through(all, 1, 2);
    struct forgetful {
        kit::memory_checkpoints& all;
        pj::status load(pj::text key, pj::checkpoint& out) {
            const pj::status s = all.load(key, out);
            out.replay_stage = 0;
            out.partition_count = 2;
            return s;
        }
        pj::status save(pj::text key, const pj::checkpoint& next) { return all.save(key, next); }
    } store{all.store};
    host h(all, 9);
    h.what.checkpoints = store;
    CHECK(pj::repartition(h.what, 2, 4) == pj::status::partial_record);
    CHECK(all.store.records.count("p_p2") == 0);
    CHECK(all.store.records.count("p_p3") == 0);
}

TEST_CASE("G22 repartition: a lease store that fails or pends is told as it is, nothing is moved") {
    for (const pj::status answer : {pj::status::failed, pj::status::pending}) {
        cluster all;
        all.append(40);
        run_through(all, 1, 2);
        host h(all, 9);
        all.leases.acquires.then(answer);
        CHECK(pj::repartition(h.what, 2, 4) == answer);
        CHECK(all.store.records.count("p_p2") == 0);
        CHECK(pj::repartition(h.what, 2, 4) == pj::status::ok);
    }
}

namespace {

/// Partitions that are to be rebuilt; what becomes of each call of the store is asked first.
struct rebuilt_parts {
    cluster all;
    std::unique_ptr<host> h;
    std::function<pj::status(const std::string& key, bool is_save)> hook;
    pj::replay_options options;

    rebuilt_parts() {
        all.append(20);
        run_through(all, 1, 2);
        h.reset(new host(all, 9));
        h->what.checkpoints = *this;
        options.partitions = 2;
    }
    pj::status load(pj::text key, pj::checkpoint& out) {
        const pj::status s = hook ? hook(kit::string_of(key), false) : pj::status::ok;
        return s == pj::status::ok ? all.store.load(key, out) : s;
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        const pj::status s = hook ? hook(kit::string_of(key), true) : pj::status::ok;
        return s == pj::status::ok ? all.store.save(key, next) : s;
    }
};

} // namespace

TEST_CASE("G20 a rebuild whose lease ends while it reads its marker back marks no other partition") {
    rebuilt_parts s;
    bool was_slow = false;
    s.hook = [&](const std::string& key, bool is_save) {
        if (!is_save && key == "p_p0" && s.all.store.at("p_p0").replay_stage == 1 && !was_slow) {
            was_slow = true;
            s.all.clock.advance(2700);
        }
        return pj::status::ok;
    };
    pj::replay_engine replay{s.h->what, s.options};
    REQUIRE(replay.start() == pj::status::ok);
    for (int i = 0; i < 100 && !was_slow; ++i) static_cast<void>(replay.tick(s.all.clock()));
    REQUIRE(was_slow);
    CHECK(s.all.store.at("p_p1").replay_stage == 0);
    uint64_t token = 0;                         // nor has it taken the other's lease
    CHECK(s.all.leases.acquire("p_p1", 1, token) == pj::status::ok);
    run_for(s.all, 20000, replay);
    CHECK(replay.finished());
    CHECK(s.all.store.at("p_p1").replayed_through == 19);
}

TEST_CASE("G14 G24 a partition's record that cannot be saved is tried again under the lease it has") {
    uint32_t acquired[2] = {};
    for (const bool is_failing : {false, true}) {
        rebuilt_parts s;
        int failures = is_failing ? 3 : 0;
        s.hook = [&](const std::string& key, bool is_save) {
            return is_save && key == "p_p1" && failures-- > 0 ? pj::status::failed : pj::status::ok;
        };
        const uint32_t before = s.all.leases.acquired;
        pj::replay_engine replay{s.h->what, s.options};
        REQUIRE(replay.start() == pj::status::ok);
        run_for(s.all, 2000, replay);
        CHECK(replay.finished());
        CHECK(s.all.store.at("p_p1").replayed_through == 19);
        CHECK(s.all.store.at("p_p1").at == pj::before_first);
        acquired[is_failing ? 1 : 0] = s.all.leases.acquired - before;
    }
    CHECK(acquired[0] == acquired[1]);
}

TEST_CASE("G19 the only partition asks no function whose an event is, with a filter, too") {
    cluster all;
    all.append(6);
    for (const bool has_filter : {false, true}) {
        host h(all, 1);
        int asked = 0;
        const auto by = [&](pj::text, uint32_t) {
            ++asked;
            return 1u;
        };
        pj::partition_options options;
        options.partition_by = by;
        if (has_filter) h.what.filter = [](const pj::stored_event& e) { return e.at % 2 == 0; };
        h.what.name = has_filter ? "filtered" : "all";
        h.what.lease = nullptr;
        pj::partitioned_worker only{h.what, {0, 1}, options};
        REQUIRE(only.start() == pj::status::ok);
        run_for(all, 100, only);
        CHECK(asked == 0);
        CHECK(only.counts().foreign == 0);
        CHECK(only.counts().handled == (has_filter ? 3 : 6));
    }
}

TEST_CASE("G14 G22 a rebuild whose count of partitions cannot be read waits before it drops anything") {
    for (const pj::status answer : {pj::status::failed, pj::status::pending}) {
        rebuilt_parts s;
        bool is_failing = true;
        s.hook = [&](const std::string& key, bool) {
            return is_failing && key == "p_partitions" ? answer : pj::status::ok;
        };
        pj::replay_engine replay{s.h->what, s.options};
        REQUIRE(replay.start() == pj::status::ok);
        run_for(s.all, 3000, replay);
        CHECK(replay.reason() == (answer == pj::status::pending ? answer
                                                                : pj::status::checkpoint_failed));
        CHECK(s.all.store.at("p_p0").replay_stage == 0);
        is_failing = false;
        run_for(s.all, 60000, replay);
        CHECK(replay.finished());
    }
}

TEST_CASE("G21 G24 a rebuild takes a token of 0 for no lease of another partition, either") {
    rebuilt_parts s;
    struct tokenless {
        kit::memory_leases& all;
        bool is_cured = false;
        pj::status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
            if (resource == pj::text("p_p1") && !is_cured) return pj::status::ok;
            return all.acquire(resource, ttl_ms, token);
        }
        pj::status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
            return all.extend(resource, ttl_ms, token);
        }
        pj::status release(pj::text resource, uint64_t token) {
            return all.release(resource, token);
        }
    } leases{s.all.leases};
    s.h->lease.store = leases;
    pj::replay_engine replay{s.h->what, s.options};
    REQUIRE(replay.start() == pj::status::ok);
    run_for(s.all, 3000, replay);
    CHECK(replay.reason() == pj::status::checkpoint_failed);
    CHECK(s.all.store.at("p_p1").replay_stage == 0);
    CHECK(s.all.store.at("p_p1").at == 19);
    leases.is_cured = true;
    run_for(s.all, 60000, replay);
    CHECK(replay.finished());
    CHECK(s.all.store.at("p_p1").at == pj::before_first);
}

TEST_CASE("G22 repartition takes a token of 0 for no lease, and has none if its name throws") {
    rebuilt_parts s;
    struct tokenless {
        pj::status acquire(pj::text, uint32_t, uint64_t&) { return pj::status::ok; }
        pj::status extend(pj::text, uint32_t, uint64_t) { return pj::status::ok; }
        pj::status release(pj::text, uint64_t) { return pj::status::ok; }
    } leases;
    const pj::lease_store usual = s.h->lease.store;
    s.h->lease.store = leases;
    CHECK(pj::repartition(s.h->what, 2, 4) == pj::status::failed);
    CHECK(s.all.store.records.count("p_p2") == 0);
    s.h->lease.store = usual;
#if PROJECTIONS_EXCEPTIONS
    s.h->lease.resource = [](pj::text) -> pj::text { throw 1; };
    CHECK(pj::repartition(s.h->what, 2, 4) == pj::status::failed);
    CHECK(s.all.store.records.count("p_p2") == 0);
    s.h->lease.resource = nullptr;
#endif
    CHECK(pj::repartition(s.h->what, 2, 4) == pj::status::ok);
}

TEST_CASE("G20 a rebuild whose lease ends while it sets partitions back is not finished by that") {
    rebuilt_parts s;
    for (uint32_t i = 0; i < 2; ++i) {          // as a crash after the drop has left them
        pj::checkpoint& r = s.all.store.records["p_p" + std::to_string(i)];
        ++r.revision;
        r.rebuild = 1;
        r.replayed_through = r.at;
        r.replay_stage = i == 0 ? 2 : 1;
    }
    int loads = 0;
    s.hook = [&](const std::string& key, bool is_save) {
        // The claim is read back very slowly.
        if (!is_save && key == "p_p0" && ++loads == 2) s.all.clock.advance(2700);
        return pj::status::ok;
    };
    pj::replay_engine replay{s.h->what, s.options};
    REQUIRE(replay.start() == pj::status::ok);
    for (int i = 0; i < 100 && loads < 2; ++i) static_cast<void>(replay.tick(s.all.clock()));
    REQUIRE(loads == 2);
    CHECK_FALSE(replay.finished());
    CHECK(s.h->count(pj::notice_kind::rebuild_finished) == 0);
    CHECK(s.all.store.at("p_p1").replay_stage == 1);
    run_for(s.all, 20000, replay);
    CHECK(replay.finished());
    CHECK(s.all.store.at("p_p1").at == pj::before_first);
    CHECK(s.h->count(pj::notice_kind::rebuild_finished) == 1);
}

TEST_CASE("G24 a partition whose record was saved by another is free until it is looked at again") {
    rebuilt_parts s;
    int refused = 0;
    s.hook = [&](const std::string& key, bool is_save) {
        if (!is_save || key != "p_p1" || refused++ != 0) return pj::status::ok;
        return pj::status::conflict;
    };
    pj::replay_engine replay{s.h->what, s.options};
    REQUIRE(replay.start() == pj::status::ok);
    for (int i = 0; i < 100 && refused == 0; ++i) static_cast<void>(replay.tick(s.all.clock()));
    REQUIRE(refused == 1);
    uint64_t token = 0;
    CHECK(s.all.leases.acquire("p_p1", 1, token) == pj::status::ok);
    run_for(s.all, 20000, replay);
    CHECK(replay.finished());
    CHECK(s.all.store.at("p_p1").fencing_token > token);
}

TEST_CASE("G21 G24 a rebuild that is started again takes the leases of the partitions anew") {
    rebuilt_parts s;
    bool is_away = true;
    s.hook = [&](const std::string& key, bool is_save) {
        return is_away && !is_save && key == "p_p1" ? pj::status::failed : pj::status::ok;
    };
    pj::replay_engine replay{s.h->what, s.options};
    REQUIRE(replay.start() == pj::status::ok);
    run_for(s.all, 500, replay);                // it has the lease of p_p1, and not its record
    uint64_t token = 0;
    REQUIRE(s.all.leases.acquire("p_p1", 1, token) == pj::status::conflict);
    replay.stop();
    drain(s.all, replay);
    REQUIRE_FALSE(replay.running());
    is_away = false;
    s.all.clock.advance(10000);                 // that lease is over
    REQUIRE(s.all.leases.acquire("p_p1", 1, token) == pj::status::ok);
    s.all.clock.advance(10);
    REQUIRE(replay.start() == pj::status::ok);
    const auto marked = [&] { return s.all.store.at("p_p1").replay_stage == 1; };
    for (int i = 0; i < 100 && !marked(); ++i) static_cast<void>(replay.tick(s.all.clock()));
    REQUIRE(marked());
    CHECK(s.all.store.at("p_p1").fencing_token > token);
    run_for(s.all, 20000, replay);
    CHECK(replay.finished());
}

TEST_CASE("G21 a rebuild that loses its lease before its end is saved is not finished") {
    rebuilt_parts s;
    s.hook = [&](const std::string& key, bool is_save) {
        const bool is_last = s.all.store.at("p_p0").replay_stage == 2 &&
                             s.all.store.at("p_p1").replay_stage == 0;
        return is_save && key == "p_p0" && is_last ? pj::status::failed : pj::status::ok;
    };
    pj::replay_engine replay{s.h->what, s.options};
    REQUIRE(replay.start() == pj::status::ok);
    run_for(s.all, 1000, replay);
    REQUIRE(replay.how_far().percent == 100);
    s.all.clock.advance(5000);
    run_for(s.all, 400, replay);
    REQUIRE(replay.loaded());
    CHECK(s.h->count(pj::notice_kind::lease_lost) == 1);
    CHECK(replay.how_far().percent == 0);
    replay.stop();
    run_for(s.all, 10000, replay);
    CHECK_FALSE(replay.running());
    CHECK_FALSE(replay.finished());
    s.hook = nullptr;
    REQUIRE(replay.start() == pj::status::ok);
    run_for(s.all, 20000, replay);
    CHECK(replay.finished());
    CHECK(s.all.store.at("p_p0").replay_stage == 0);
}

TEST_CASE("G22 the count is recorded also by who accepts partial records, where a store keeps them") {
    cluster all;
    all.append(4);
    host h(all, 1);
    h.what.lease = nullptr;
    h.what.accept_partial_records = true;
    pj::partitioned_worker w{h.what, {0, 2}};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(all.store.at("p_partitions").partition_count == 2);
    CHECK(w.checkpointed() == 3);
}

TEST_CASE("G22 where the count is known the first tick goes on to the events") {
    cluster all;
    all.append(4);
    host h(all, 1);
    h.what.lease = nullptr;
    pj::partitioned_worker w{h.what, {0, 1}};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    w.stop();
    drain(all, w);
    all.append(3);
    REQUIRE(w.start() == pj::status::ok);
    CHECK(w.tick(all.clock()).scanned == 3);
}

TEST_CASE("G20 the count is not saved, nor anything read, when its look-up outlasts the lease") {
    cluster all;
    all.append(4);
    host h(all, 1);
    counted_reads reads{all, 0};
    h.what.log = reads;
    pj::partitioned_worker w{h.what, {0, 2}};
    int loads = 0;
    all.store.loads.decide = [&](bool& works) {
        works = true;
        if (++loads == 3) all.clock.advance(2700);      // the record, the claim, the count
        return pj::status::ok;
    };
    REQUIRE(w.start() == pj::status::ok);
    for (int i = 0; i < 20 && loads < 3; ++i) static_cast<void>(w.tick(all.clock()));
    REQUIRE(loads == 3);
    CHECK_FALSE(all.store.records.count("p_partitions") != 0);
    CHECK(reads.count == 0);
    run_for(all, 2000, w);
    CHECK(all.store.at("p_partitions").partition_count == 2);
    CHECK(w.checkpointed() == 3);
}

TEST_CASE("a partition that gave its place away, and has one again, halts and stops like any other") {
    for (const bool is_halt : {false, true}) {
        cluster all;
        all.append(4);
        part_host a(all, 1, 1);
        a.what.on_error = pj::error_policy::halt();
        a.start();
        run_hosts(all, 100, a);
        a.limit.set(0);
        run_hosts(all, 1000, a);
        CHECK(a.held() == 0);
        a.limit.set(1);
        run_hosts(all, 1000, a);
        CHECK(a.held() == 1);
        a.does = [](const pj::context&, bool) -> pj::verdict { return pj::fail(); };
        if (is_halt) all.append(1);
        else a.workers[0]->stop();
        run_hosts(all, 1500, a);
        CHECK(a.workers[0]->state() ==
              (is_halt ? pj::run_state::halted : pj::run_state::stopped));
    }
}

TEST_CASE("G22 repartition gives back no lease that it did not get") {
    cluster all;
    all.append(1);
    part_host a(all, 1, 2);
    a.start();
    run_hosts(all, 100, a);
    for (auto& w : a.workers) w->stop();
    run_hosts(all, 100, a);
    uint64_t token = 0;
    REQUIRE(all.leases.acquire("p_p0", 3000, token) == pj::status::ok);
    int asked = 0;
    all.leases.releases.decide = [&](bool& works) {
        works = true;
        ++asked;
        return pj::status::ok;
    };
    CHECK(pj::repartition(a.what, 2, 4) == pj::status::lease_held);
    CHECK(asked == 0);
}
