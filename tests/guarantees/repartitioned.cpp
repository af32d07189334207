// repartition(): what it writes, call by call; and how a partition looks at the count's record.
#include "support/cluster.hpp"
#include "support/setup.hpp"

using namespace support;
using pj::position;
using pj::status;

namespace {

/// Records by key, answers by plan, and what was called: l or s, and the key without the name.
struct records {
    std::map<std::string, pj::checkpoint> kept;
    plan loads, saves;
    std::vector<std::string> calls;
    bool keeps_stages = true;
    bool keeps_counts = true;

    static std::string key_of(pj::text key) { return {key.data(), key.size()}; }
    status load(pj::text key, pj::checkpoint& out) {
        calls.push_back("l " + key_of(key));
        const step s = loads.take();
        const auto found = kept.find(key_of(key));
        if (s.answer == status::ok && found != kept.end()) out = found->second;
        return s.answer;
    }
    status save(pj::text key, const pj::checkpoint& next) {
        calls.push_back("s " + key_of(key));
        const step s = saves.take();
        if (s.answer != status::ok) return s.answer;
        pj::checkpoint& record = kept[key_of(key)];
        if (next.revision != record.revision + 1) return status::conflict;
        record = next;
        if (!keeps_stages) record.replay_stage = 0;
        if (!keeps_counts) record.partition_count = 0;
        return status::ok;
    }
    uint32_t times(const std::string& call) const {
        return static_cast<uint32_t>(std::count(calls.begin(), calls.end(), call));
    }
    pj::checkpoint& set(const std::string& key, position at, uint32_t count) {
        pj::checkpoint& record = kept[key];
        record.at = at;
        record.revision = 1;
        record.partition_count = count;
        record.hash_scheme = 1;
        return record;
    }
};

struct parted : setup {
    records store_of_parts;
    explicit parted(uint32_t count) {
        what.checkpoints = store_of_parts;
        store_of_parts.set("p_partitions", -1, count);
        for (uint32_t i = 0; i < count; ++i)
            store_of_parts.set("p_p" + std::to_string(i), 10 + static_cast<position>(i), count);
    }
    pj::checkpoint& part(uint32_t index) {
        return store_of_parts.kept["p_p" + std::to_string(index)];
    }
};

} // namespace

TEST_CASE("G22 a split: each child begins as its parent, under its own revision and token") {
    parted s(2);
    s.part(0).replayed_through = 5;
    s.part(1).rebuild = 3;
    s.part(1).suspect = 12;
    s.part(1).crashes = 2;
    pj::checkpoint& old = s.store_of_parts.set("p_p3", 99, 0);     // of an earlier time
    old.revision = 7;
    old.fencing_token = 8;
    s.part(0).fencing_token = 4;
    REQUIRE(pj::repartition(s.what, 2, 4) == status::ok);
    for (uint32_t i = 0; i < 4; ++i) {
        CAPTURE(i);
        const pj::checkpoint& c = s.part(i);
        CHECK(c.at == 10 + static_cast<position>(i % 2));
        CHECK(c.partition_count == 4);
        CHECK(c.replayed_through == (i % 2 == 0 ? 5 : pj::before_first));
        CHECK(c.rebuild == (i % 2 == 0 ? 0 : 3));
        CHECK(c.suspect == pj::before_first);
        CHECK(c.crashes == 0);
        CHECK(c.revision == (i < 2 ? 2 : i == 3 ? 8 : 1));
        CHECK(c.fencing_token == (i == 0 ? 4 : i == 3 ? 8 : 0));
    }
    const pj::checkpoint& count = s.store_of_parts.kept["p_partitions"];
    CHECK(count.partition_count == 4);
    CHECK(count.replay_stage == 0);
    CHECK(count.rebuild == 0);
    CHECK(count.revision == 3);
}

TEST_CASE("G22 a merge: the lowest position, the least that was replayed, the most rebuilds") {
    for (const bool is_first_lower : {true, false}) {
        parted s(4);
        const uint32_t low = is_first_lower ? 0 : 2, high = is_first_lower ? 2 : 0;
        s.part(low).at = 3;
        s.part(high).at = 8;
        s.part(low).replayed_through = 1;
        s.part(high).replayed_through = 2;
        s.part(low).rebuild = 2;
        s.part(high).rebuild = 5;
        REQUIRE(pj::repartition(s.what, 4, 2) == status::ok);
        CHECK(s.part(0).at == 3);
        CHECK(s.part(0).replayed_through == 1);
        CHECK(s.part(0).rebuild == 5);
        CHECK(s.part(1).at == 11);
        CHECK(s.part(0).partition_count == 2);
    }
}

TEST_CASE("G22 repartition: what is done is only looked at; what was begun is not marked twice") {
    parted s(2);
    REQUIRE(pj::repartition(s.what, 2, 4) == status::ok);
    s.store_of_parts.calls.clear();
    CHECK(pj::repartition(s.what, 2, 4) == status::ok);
    CHECK(s.store_of_parts.calls == std::vector<std::string>{"l p_partitions"});

    parted begun(2);
    begun.store_of_parts.saves.then(status::ok).then(status::ok).then(status::failed);
    CHECK(pj::repartition(begun.what, 2, 4) == status::failed);
    CHECK(pj::repartition(begun.what, 2, 8) == status::partition_count_changed);
    CHECK(pj::repartition(begun.what, 2, 4) == status::ok);
    CHECK(begun.store_of_parts.times("s p_partitions") == 2);
    for (uint32_t i = 0; i < 4; ++i) CHECK(begun.part(i).partition_count == 4);
}

TEST_CASE("G22 repartition: what the store answers at first is the answer; nothing is written") {
    for (const status answer : {status::failed, status::pending, status::checkpoint_corrupt}) {
        parted s(2);
        s.store_of_parts.loads.then(answer);
        CHECK(pj::repartition(s.what, 2, 4) == answer);
        CHECK(s.store_of_parts.calls.size() == 1);
    }
    for (const status answer : {status::failed, status::pending, status::conflict}) {
        parted s(2);
        s.store_of_parts.saves.then(answer);
        CHECK(pj::repartition(s.what, 2, 4) == answer);
        CHECK(s.store_of_parts.calls.size() == 2);
        CHECK(s.part(0).partition_count == 2);
        CHECK(pj::repartition(s.what, 2, 4) == status::ok);
    }
    parted s(2);        // the mark is read back
    s.store_of_parts.loads.then(status::ok).then(status::failed);
    CHECK(pj::repartition(s.what, 2, 4) == status::failed);
    CHECK(s.part(0).partition_count == 2);
    parted forgetful_one(2);
    forgetful_one.store_of_parts.keeps_stages = false;
    CHECK(pj::repartition(forgetful_one.what, 2, 4) == status::partial_record);
    CHECK(forgetful_one.part(0).partition_count == 2);
}

TEST_CASE("G22 repartition asks for the old partitions' leases, under their names, and ends them") {
    cluster all;
    host h(all, 1);
    records store;
    h.what.checkpoints = store;
    static std::string named;
    h.lease.resource = [](pj::text key) -> pj::text {
        named = "lock:" + std::string(key.begin(), key.end());
        return named;
    };
    store.set("p_partitions", -1, 2);
    for (const char* key : {"p_p0", "p_p1"}) store.set(key, 5, 2);
    uint64_t token = 0;
    REQUIRE(all.leases.acquire("lock:p_p2", 3000, token) == status::ok);    // a new one's
    for (const status answer : {status::failed, status::pending}) {
        all.leases.acquires.then(answer, false);
        CHECK(pj::repartition(h.what, 2, 4) == answer);
        CHECK(store.kept["p_p0"].partition_count == 2);
    }
    CHECK(pj::repartition(h.what, 2, 4) == status::ok);
    for (const char* lock : {"lock:p_p0", "lock:p_p1"})
        CHECK(all.leases.acquire(lock, 3000, token) == status::ok);
}

TEST_CASE("G22 repartition: keys that do not fit into 63 characters") {
    const std::string name(53, 'n');
    setup s;
    records store;
    s.what.checkpoints = store;
    s.what.name = pj::text(name.data(), 53);        // and `_partitions`
    CHECK(pj::repartition(s.what, 1, 2) == status::bad_key);
    s.what.name = pj::text(name.data(), 52);        // and `_p4000000000`
    CHECK(pj::repartition(s.what, 1, 4000000000u) == status::bad_key);
    CHECK(pj::repartition(s.what, 4000000000u, 1) == status::bad_key);
    CHECK(store.calls.empty());
    CHECK(pj::repartition(s.what, 1, 400000000u) == status::partition_count_changed);
    s.what.name = pj::text(name.data(), 51);
    CHECK(pj::repartition(s.what, 1, 4000000000u) == status::partition_count_changed);
}

TEST_CASE("G22 the count is looked at once in a run, and again in the next") {
    setup s;
    records store;
    s.what.checkpoints = store;
    s.log.append(3, "Beta");
    pj::partitioned_worker w{s.what, pj::partition{0, 2}};
    REQUIRE(w.start() == status::ok);
    for (int i = 0; i < 20; ++i) static_cast<void>(w.tick(s.now_ms += 1000));
    CHECK(w.checkpointed() == 2);
    CHECK(store.times("l p_partitions") == 2);      // before it was written, and after
    CHECK(store.times("s p_partitions") == 1);
    w.stop();
    static_cast<void>(w.tick(s.now_ms));
    store.kept["p_partitions"].partition_count = 3;
    REQUIRE(w.start() == status::ok);
    for (int i = 0; i < 20 && w.running(); ++i) static_cast<void>(w.tick(s.now_ms));
    CHECK(w.reason() == status::partition_count_changed);
    CHECK(store.times("l p_partitions") == 3);
}

TEST_CASE("G22 a count that cannot be read or written is waited for, with its reason") {
    struct line { bool is_load; status answer; status why; uint32_t ms; };
    const line lines[] = {
        {true, status::failed, status::checkpoint_failed, 100},
        {true, status::pending, status::pending, 10},
        {false, status::failed, status::checkpoint_failed, 100},
        {false, status::pending, status::pending, 10},
        {false, status::conflict, status::pending, 10},     // another partition was quicker
    };
    for (const line& l : lines) {
        CAPTURE(l.is_load);
        CAPTURE(pj::to_string(l.answer));
        setup s;
        records store;
        s.what.checkpoints = store;
        s.log.append(3, "Beta");
        if (l.is_load) store.loads.then(status::ok).then(l.answer);
        else store.saves.then(l.answer);
        pj::partitioned_worker w{s.what, pj::partition{0, 1}};
        REQUIRE(w.start() == status::ok);
        pj::tick_result r{};
        for (int i = 0; i < 9 && r.wait_ms == 0; ++i) r = w.tick(s.now_ms);
        CHECK(r.wait_ms == l.ms);
        CHECK(r.reason == l.why);
        CHECK(s.w.calls.empty());
        CHECK(s.watch.count(pj::notice_kind::checkpoint_failed) == (l.ms == 100 ? 1 : 0));
        for (int i = 0; i < 20; ++i) static_cast<void>(w.tick(s.now_ms += r.wait_ms));
        CHECK(w.checkpointed() == 2);
        CHECK(store.kept["p_partitions"].partition_count == 1);
    }
    setup s;        // a store that keeps no counts
    records store;
    store.keeps_counts = false;
    s.what.checkpoints = store;
    s.log.append(3, "Beta");
    pj::partitioned_worker w{s.what, pj::partition{0, 1}};
    REQUIRE(w.start() == status::ok);
    for (int i = 0; i < 20 && w.running(); ++i) static_cast<void>(w.tick(s.now_ms += 10));
    CHECK(w.reason() == status::partial_record);
    CHECK(s.w.calls.empty());
}
