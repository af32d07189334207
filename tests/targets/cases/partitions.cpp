// Partitions and leases: the same hash as everywhere, one owner at a time, clocks that wrap.
#include "cases/fakes.hpp"

namespace pj = projections;

namespace {

// VECTOR(id, its size, {its partition of each count}): made by vectors.py of what Python computes.
constexpr uint32_t counts[] = {1, 2, 3, 7, 8, 16, 100, 1000, 65535, 4294967295u};

void the_partition_of_an_id() {
    const auto compare = [](const char* id, size_t size, const uint32_t (&expected)[10]) {
        for (unsigned i = 0; i < 10; ++i)
            CHECK(pj::partition_of(pj::text(id, size), counts[i]) == expected[i]);
    };
#define VECTOR(id, size, ...)                                                                     \
    {                                                                                             \
        static const uint32_t expected[10] = __VA_ARGS__;                                         \
        compare(id, size, expected);                                                              \
    }
#include "vectors.inc"
#undef VECTOR
    CHECK(pj::partition_of("x", 0) == 0);
}

/// Records by key, as a table would keep them.
struct table {
    struct row {
        char key[24];
        uint8_t size;
        pj::checkpoint record;
    };
    row rows[4]{};
    uint8_t used = 0;

    row* find(pj::text key) {
        for (uint8_t i = 0; i < used; ++i) {
            if (pj::text(rows[i].key, rows[i].size) == key) return rows + i;
        }
        return nullptr;
    }
    pj::status load(pj::text key, pj::checkpoint& out) {
        if (const row* found = find(key)) out = found->record;
        return pj::status::ok;
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        row* to = find(key);
        if (to == nullptr) {
            if (used == 4 || key.size() > sizeof rows->key) return pj::status::failed;
            to = rows + used++;
            to->size = static_cast<uint8_t>(key.size());
            for (uint8_t i = 0; i < to->size; ++i) to->key[i] = key.data()[i];
        }
        if (next.revision != to->record.revision + 1) return pj::status::conflict;
        to->record = next;
        return pj::status::ok;
    }
};

void each_aggregate_has_one_worker() {
    static const char* const ids[] = {"order-1", "order-2", "order-42", "a", "aggregate-123", ""};
    fakes::array_log log;
    table records;
    // Static: clang 14 for AVR loses 64-bit arrays that lie beyond the first 63 bytes of a frame.
    static uint64_t sums[3];
    for (unsigned i = 0; i < 6; ++i) log.append(fakes::numbers[i], ids[i]);
    for (uint32_t index = 0; index < 3; ++index) {
        fakes::summing model;
        const pj::projection what{"parts", log, model, records};
        pj::partitioned_worker worker{what, {index, 3}};
        REQUIRE(worker.start() == pj::status::ok);
        for (uint32_t i = 0; i < 6; ++i) static_cast<void>(worker.tick(i));
        sums[index] = model.sum;
        CHECK(worker.counts().scanned == 6);
        CHECK(worker.counts().handled + worker.counts().foreign == 6);
        CHECK(worker.checkpointed() == 5);
    }
    CHECK(sums[0] + sums[1] + sums[2] == 63);
    CHECK(sums[0] == 16);       // as Python has it: 1 2 1 1 0 1
    CHECK(sums[2] == 2);
    for (uint32_t index = 0; index < 3; ++index) {
        uint64_t expected = 0;
        for (unsigned i = 0; i < 6; ++i) {
            if (pj::partition_of(ids[i], 3) == index) expected += fakes::numbers[i].value;
        }
        CHECK(sums[index] == expected);
    }
    CHECK(records.find("parts_p0") != nullptr);
    CHECK(records.find("parts_p2") != nullptr);
    REQUIRE(records.find("parts_partitions") != nullptr);
    CHECK(records.find("parts_partitions")->record.partition_count == 3);
    fakes::summing model;
    const pj::projection what{"parts", log, model, records};
    pj::partitioned_worker other{what, {0, 2}};
    REQUIRE(other.start() == pj::status::ok);
    for (uint32_t i = 0; i < 4; ++i) static_cast<void>(other.tick(i));
    CHECK(other.reason() == pj::status::partition_count_changed);
    CHECK(model.calls == 0);
}

void two_partitions_become_one() {
    fakes::array_log log;
    table records;
    fakes::summing model;
    for (unsigned i = 0; i < 4; ++i) log.append(fakes::numbers[i], "a");
    const pj::projection what{"parts", log, model, records};
    for (uint32_t index = 0; index < 2; ++index) {
        pj::partitioned_worker worker{what, {index, 2}};
        REQUIRE(worker.start() == pj::status::ok);
        for (uint32_t i = 0; i < 6; ++i) static_cast<void>(worker.tick(i));
    }
    CHECK(pj::repartition(what, 2, 3) == pj::status::bad_partition);
    CHECK(pj::repartition(what, 2, 1) == pj::status::ok);
    log.append(fakes::numbers[4], "a");
    model.sum = 0;
    pj::partitioned_worker one{what, {0, 1}};
    REQUIRE(one.start() == pj::status::ok);
    for (uint32_t i = 0; i < 6; ++i) static_cast<void>(one.tick(i));
    CHECK(model.sum == 16);
}

uint32_t clock_ms;

/// One lease on one resource, told by the same clock.
struct lock {
    uint64_t token = 0x100000000;           // needs more than 32 bits
    bool is_held = false;
    uint32_t held_since = 0, ttl_ms = 0;
    uint8_t extensions = 0;
    bool refuses = false, is_down = false;

    bool is_over() const { return !is_held || clock_ms - held_since >= ttl_ms; }
    pj::status acquire(pj::text, uint32_t ttl, uint64_t& out) {
        if (!is_over()) return pj::status::conflict;
        is_held = true;
        held_since = clock_ms;
        ttl_ms = ttl;
        out = ++token;
        return pj::status::ok;
    }
    pj::status extend(pj::text, uint32_t ttl, uint64_t theirs) {
        if (is_down) return pj::status::failed;
        if (refuses || is_over() || theirs != token) return pj::status::conflict;
        ++extensions;
        held_since = clock_ms;
        ttl_ms = ttl;
        return pj::status::ok;
    }
    pj::status release(pj::text, uint64_t theirs) {
        if (theirs == token) is_held = false;
        return pj::status::ok;
    }
};

struct host {
    fakes::summing model{};
    pj::projection what;
    pj::worker worker{what};
    host(fakes::array_log& log, fakes::slot& checkpoints, const pj::lease& lease)
        : what{"leased", log, model, checkpoints} {
        what.lease = &lease;
        what.clock = [] { return clock_ms; };
        what.delays.jitter_percent = 0;
    }
    host(const host&) = delete;
    host& operator=(const host&) = delete;
    void tick() { for (int i = 0; i < 4; ++i) static_cast<void>(worker.tick()); }
};

/// One works and renews while the other stands by; the clock wraps meanwhile; then the owner is
/// gone.
void one_owner_at_a_time_while_the_clock_wraps() {
    fakes::array_log log;
    fakes::slot checkpoints;
    lock locks;
    pj::lease lease{locks};
    lease.ttl_ms = 3000;
    lease.margin_ms = 300;
    host a(log, checkpoints, lease), b(log, checkpoints, lease);
    clock_ms = 0xFFFFFFFF - 5000;
    log.append(fakes::numbers[0]);
    REQUIRE(a.worker.start() == pj::status::ok);
    REQUIRE(b.worker.start() == pj::status::ok);
    a.tick();
    b.tick();
    CHECK(a.worker.has_lease());
    CHECK(a.worker.fencing_token() == 0x100000001);
    CHECK(checkpoints.record.fencing_token == 0x100000001);
    CHECK(b.worker.reason() == pj::status::lease_held);
    for (int i = 0; i < 100; ++i) {
        clock_ms += 100;
        a.tick();
        b.tick();
        CHECK(a.worker.has_lease());
        CHECK(!b.worker.has_lease());
    }
    CHECK(clock_ms < 6000);                     // it has wrapped
    CHECK(locks.extensions >= 7);
    log.append(fakes::numbers[1]);
    for (int i = 0; i < 40 && !b.worker.has_lease(); ++i) {
        clock_ms += 100;
        b.tick();
    }
    CHECK(b.worker.has_lease());
    CHECK(b.worker.fencing_token() == 0x100000002);
    CHECK(b.model.sum == 2);                    // what the other had done stays done
    // The former owner comes back: it finds out before it does anything.
    log.append(fakes::numbers[2]);
    a.tick();
    CHECK(!a.worker.has_lease());
    CHECK(a.model.sum == 1);
}

/// Two ticks, and between them the clock wraps and the lease ends, or its margin begins: what the
/// former owner finds then is not its own any more.
void nothing_begins_after_the_end_less_its_margin() {
    const uint32_t naps[] = {2600, 2750, 4000};
    for (const uint32_t nap_ms : naps) {
        fakes::array_log log;
        fakes::slot checkpoints;
        lock locks;
        pj::lease lease{locks};
        lease.ttl_ms = 3000;
        lease.margin_ms = 300;
        host a(log, checkpoints, lease);
        clock_ms = 0xFFFFFFFF - 1000;
        REQUIRE(a.worker.start() == pj::status::ok);
        a.tick();
        REQUIRE(a.worker.has_lease());
        const uint64_t first_token = locks.token;
        locks.is_down = true;               // so that only the time says whether it is over
        log.append(fakes::numbers[0]);
        clock_ms += nap_ms;
        static_cast<void>(a.worker.tick());
        CHECK(a.model.calls == (nap_ms == 2600 ? 1 : 0));
        CHECK(a.worker.has_lease() == (nap_ms == 2600));
        locks.is_down = false;
        if (nap_ms == 2600) continue;
        for (int i = 0; i < 20 && a.model.calls == 0; ++i) {
            clock_ms += 500;
            a.tick();
        }
        CHECK(a.model.calls == 1);          // under a lease of its own again
        CHECK(locks.token > first_token);
    }
}

void a_refused_extension_drops_the_work() {
    fakes::array_log log;
    fakes::slot checkpoints;
    lock locks;
    pj::lease lease{locks};
    lease.ttl_ms = 3000;
    lease.margin_ms = 300;
    host a(log, checkpoints, lease);
    clock_ms = 0;
    REQUIRE(a.worker.start() == pj::status::ok);
    a.tick();
    CHECK(a.worker.has_lease());
    locks.refuses = true;
    log.append(fakes::numbers[0]);
    clock_ms += 1500;
    static_cast<void>(a.worker.tick());
    CHECK(!a.worker.has_lease());
    CHECK(a.model.calls == 0);
    locks.refuses = false;
    for (int i = 0; i < 40 && a.model.calls == 0; ++i) {
        clock_ms += 200;
        a.tick();
    }
    CHECK(a.worker.fencing_token() == 0x100000002);
    CHECK(a.model.sum == 1);
}

const targets::test_case cases[] = {
    CASE(the_partition_of_an_id), CASE(each_aggregate_has_one_worker),
    CASE(two_partitions_become_one), CASE(one_owner_at_a_time_while_the_clock_wraps),
    CASE(nothing_begins_after_the_end_less_its_margin), CASE(a_refused_extension_drops_the_work)};

} // namespace

SUITE(partitions);
