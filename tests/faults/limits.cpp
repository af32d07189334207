// Everything at its limit: the clock wraps, tables are full, many handlers owe letters, a record is
// lost to somebody else; and afterwards the work goes on.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>
namespace pj = projections;

namespace {

struct job { static constexpr pj::event_type type{"Job", pj::raw}; uint32_t n; };
struct worker_bee {
    using handles = pj::events<job>;
    int failures = 0, done = 0;
    pj::verdict on(const job&) {
        if (failures-- > 0) return pj::fail();
        failures = 0;
        ++done;
        return pj::handled;
    }
};

/// A record that anybody may change, compared before it is set.
struct shared_record {
    pj::checkpoint record;
    int failures = 0, saves = 0;
    bool moved_back = false;
    pj::status load(pj::text, pj::checkpoint& out) const { out = record; return pj::status::ok; }
    pj::status save(pj::text, const pj::checkpoint& next) {
        ++saves;
        if (failures-- > 0) return pj::status::failed;
        failures = 0;
        if (next.revision != record.revision + 1) return pj::status::conflict;
        moved_back = moved_back || next.at < record.at;
        record = next;
        return pj::status::ok;
    }
    void taken_by_another(pj::position at) {
        record.at = at;
        record.revision += 7;
    }
};

template<class Checkpoints> struct bench {
    worker_bee handler;
    pj::memory_log<64, 4096> log;
    Checkpoints checkpoints;
    pj::projection what{"limits", log, handler, checkpoints};
    pj::worker worker{what};
    uint32_t now = 0;
    bench& append(int count) {
        for (int i = 0; i < count; ++i) log.append(job{1});
        return *this;
    }
    bench& start() {
        REQUIRE(worker.start() == pj::status::ok);
        return *this;
    }
    /// Ticks until nothing is left to do; how often, at most `ticks` times.
    int run(int ticks = 60) {
        int ticked = 0;
        for (; ticked < ticks && worker.running(); ++ticked) {
            const uint32_t wait_ms = worker.tick(now).wait_ms;
            if (!worker.running()) break;
            if (worker.caught_up() && worker.checkpointed() == worker.scanned()) break;
            now += pj::sooner(wait_ms, 1000000);
        }
        return ticked;
    }
};
using memory = bench<pj::memory_checkpoint_store<1>>;
using shared = bench<shared_record>;

} // namespace

TEST_CASE("the clock wraps: every wait is as it would have been") {
    const auto waits_from = [](uint32_t begin) {
        memory b;
        b.what.on_error = pj::error_policy::retry(5);
        b.what.save = {100, 700, false};
        b.append(6).start();
        b.now = begin;
        b.handler.failures = 4;
        std::vector<uint32_t> waits;
        for (int i = 0; i < 40; ++i) {
            if (i % 7 == 6) b.append(1).handler.failures = 2;
            waits.push_back(b.worker.tick(b.now).wait_ms);
            b.now += waits.back();
        }
        CHECK(b.handler.done > 8);
        return waits;
    };
    const std::vector<uint32_t> expected = waits_from(0);
    for (const uint32_t begin : {0xFFFFFFFFu, 0xFFFFFF00u, 0xFFFFF000u, 0xFFFFE000u, 0x7FFFFFFFu}) {
        CHECK(waits_from(begin) == expected);
    }
}

TEST_CASE("a sleep of nearly 2^32 ms: what was due is due") {
    memory b;
    b.what.on_error = pj::error_policy::retry(1);
    b.append(1).start();
    b.handler.failures = 1;
    CHECK(b.worker.tick(5).wait_ms != 0);
    CHECK(b.worker.tick(4).scanned == 1);               // 2^32 - 1 ms later
    CHECK(b.handler.done == 1);
}

TEST_CASE("a full checkpoint store: reading stops at unsaved_max, and goes on when there is room") {
    memory b;
    pj::checkpoint other;
    other.revision = 1;
    REQUIRE(b.checkpoints.save("other", other) == pj::status::ok);
    b.what.batch = 4;
    b.what.unsaved_max = 10;
    b.append(50).start().run();
    CHECK(b.handler.done == 10);
    CHECK(b.worker.reason() == pj::status::checkpoint_failed);
    b.checkpoints.clear();
    b.run();
    CHECK(b.handler.done == 50);
    CHECK(b.worker.checkpointed() == 49);
}

TEST_CASE("small batches do not wait for the clock: at unsaved_max the save is due") {
    for (const uint32_t every_ms : {1000u, pj::never}) {
        memory b;
        b.what.batch = 1;
        b.what.save.every_ms = every_ms;
        b.append(60).start().run(200);
        CHECK(b.handler.done == 60);
        CHECK(b.now == 0);
    }
}

namespace {

struct shop {
    std::vector<std::string> letters;
    int sink_fails = 0, offers = 0;
    pj::status put(const pj::dead_letter& l) {
        ++offers;
        if (sink_fails-- > 0) return pj::status::failed;
        sink_fails = 0;
        letters.emplace_back(l.handler.begin(), l.handler.end());
        return pj::status::ok;
    }
};

/// Pends a while, then rejects.
template<int I> struct slow {
    using handles = pj::events<job>;
    int pends = 0, calls = 0;
    pj::verdict on(const job&) {
        ++calls;
        return pends-- > 0 ? pj::pending : pj::reject();
    }
};
template<size_t... I> struct crowd : slow<static_cast<int>(I)>... {
    pj::registry<slow<static_cast<int>(I)>...> all{
        static_cast<slow<static_cast<int>(I)>&>(*this)...};
    void pend(int every) { (..., (slow<static_cast<int>(I)>::pends = I % 3 == 0 ? every : 0)); }
    int calls() const { return (0 + ... + slow<static_cast<int>(I)>::calls); }
};
template<size_t... I> crowd<I...> crowd_of(std::index_sequence<I...>);

} // namespace

TEST_CASE("32 handlers reject one event: 32 letters, each once, whatever the sink does") {
    for (const int sink_fails : {0, 1, 3, 40}) {
        for (const int pends : {0, 1, 5}) {
            decltype(crowd_of(std::make_index_sequence<32>())) handlers;
            handlers.pend(pends);
            shop sink;
            sink.sink_fails = sink_fails;
            memory b;
            b.what.handlers = handlers.all;
            b.what.dead_letters = sink;
            b.what.on_error = pj::error_policy::dead_letter();
            b.append(1).start().run(400);
            CHECK(b.worker.checkpointed() == 0);
            CHECK(sink.letters.size() == 32);
            CHECK(handlers.calls() == 32 + 11 * pends);
            CHECK(sink.offers == 32 + sink_fails);
            CHECK(b.worker.counts().lettered == 1);
            CHECK(b.worker.counts().failed_calls == 32);
        }
    }
}

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("a filter that throws: as many attempts as the policy has, and nobody is called twice") {
    static int throws = 0, calls = 0;
    calls = 0;
    throws = 1000;
    memory b;
    b.what.filter = [](const pj::stored_event&) -> bool {
        ++calls;
        if (throws-- > 0) throw 1;
        return true;
    };
    b.what.on_error = pj::error_policy::retry(2);
    b.append(1).start().run();
    CHECK(calls == 3);
    CHECK(b.worker.state() == pj::run_state::halted);
    CHECK(b.worker.last_failure().attempts == 3);
    CHECK(b.handler.done == 0);

    decltype(crowd_of(std::make_index_sequence<6>())) handlers;
    shop sink;
    memory full;
    sink.sink_fails = 9;
    full.what.handlers = handlers.all;
    full.what.dead_letters = sink;
    full.what.on_error = pj::error_policy::dead_letter();
    throws = 0;
    full.what.filter = b.what.filter;
    full.append(1).start();
    full.now += full.worker.tick(0).wait_ms;            // owed letters are full
    throws = 7;
    full.run(200);
    CHECK(handlers.calls() == 6);
    CHECK(full.worker.checkpointed() == 0);
    CHECK(sink.letters.size() <= 13);
}

TEST_CASE("G16 an event whose filter throws once and then leaves it out counts as filtered") {
    static int calls = 0;
    calls = 0;
    memory b;
    b.what.filter = [](const pj::stored_event&) -> bool {
        if (++calls == 1) throw 1;
        return false;
    };
    b.what.on_error = pj::error_policy::retry(2);
    b.append(1).start().run();
    CHECK(calls == 2);
    CHECK(b.worker.counts().filtered == 1);
    CHECK(b.worker.counts().handled == 0);
}
#endif

TEST_CASE("somebody else's record: halts, and after retry_failed() goes on from it") {
    shared b;
    b.what.batch = 5;
    b.what.save.every_events = 5;
    b.append(20).start();
    b.checkpoints.failures = 1;
    CHECK(b.worker.tick(0).reason == pj::status::checkpoint_failed);    // in doubt at 4
    b.checkpoints.taken_by_another(12);
    b.run();
    CHECK(b.worker.reason() == pj::status::checkpoint_conflict);
    CHECK(b.checkpoints.record.at == 12);
    b.handler.done = 0;
    REQUIRE(b.worker.retry_failed() == pj::status::ok);
    b.run();
    CHECK_FALSE(b.checkpoints.moved_back);
    CHECK(b.worker.checkpointed() == 19);
    CHECK(b.handler.done == 7);
}

TEST_CASE("a held event is forgotten with the record: the position does not go back to it") {
    shared b;
    b.what.on_error = pj::error_policy::retry(100);
    b.what.save = {1, 0, true};
    b.append(4).start();
    CHECK(b.worker.tick(0).wait_ms == 0);               // event 0
    b.handler.failures = 1000;
    b.now = b.worker.tick(0).wait_ms;                   // event 1 is held
    b.checkpoints.taken_by_another(2);
    b.worker.stop();
    b.run();
    b.handler.failures = 0;
    b.start().run();
    CHECK(b.worker.checkpointed() == 3);
    CHECK_FALSE(b.checkpoints.moved_back);
    CHECK(b.handler.done == 2);
}

namespace {

struct third_fails {
    using handles = pj::events<job>;
    shared_record* store;
    int calls = 0;
    pj::verdict on(const job&) {
        if (++calls < 3) return pj::handled;
        store->taken_by_another(7);
        return pj::fail();
    }
};

} // namespace

TEST_CASE("a halt that finds somebody else's record does not save over it, nor loop") {
    shared b;
    b.what.on_error = pj::error_policy::halt();
    b.append(3).start();
    third_fails handler{&b.checkpoints};
    b.what.handlers = handler;
    CHECK(b.run(20) < 5);
    CHECK(b.worker.state() == pj::run_state::halted);
    CHECK(b.checkpoints.record.at == 7);
    CHECK(b.checkpoints.saves < 3);
    CHECK(b.now < 100);
}

namespace {

enum class sick : uint8_t { none, read, bounds, load, save, put };

/// Every port in one; the sick one always answers the same.
struct hospital {
    sick who;
    pj::status answer;
    int calls = 0;
    pj::status of(sick me) {
        if (me != who) return pj::status::ok;
        ++calls;
        return answer;
    }
    pj::status read(pj::position after, pj::visitor& visit) {
        for (pj::position at = after + 1; at < 3; ++at) {
            static const job j{1};
            if (who != sick::read && !visit(pj::raw_event(at, j))) break;
        }
        return of(sick::read);
    }
    pj::status bounds(pj::position&, pj::position& newest, uint64_t&) {
        newest = 2;
        return of(sick::bounds);
    }
    pj::status load(pj::text, pj::checkpoint&) { return of(sick::load); }
    pj::status save(pj::text, const pj::checkpoint&) { return of(sick::save); }
    pj::status put(const pj::dead_letter&) { return of(sick::put); }
};

} // namespace

TEST_CASE("a port that never gets well is asked now and then, never in a busy loop") {
    for (const sick who : {sick::read, sick::bounds, sick::load, sick::save, sick::put}) {
        for (const pj::status answer : {pj::status::pending, pj::status::failed}) {
            hospital ports{who, answer};
            slow<0> rejects;
            slow<1> pends;
            pends.pends = who == sick::put ? 1000000 : 0;       // looked at every 10 ms
            pj::registry handlers{rejects, pends};
            pj::projection what{"hospital", ports, handlers, ports};
            what.dead_letters = ports;
            what.on_error = pj::error_policy::dead_letter();
            what.save = {1, 0, true};
            pj::worker worker{what};
            REQUIRE(worker.start() == pj::status::ok);
            uint32_t now = 0;
            int ticks = 0;
            for (; now < 2000 && ticks < 1000; ++ticks) now += worker.tick(now).wait_ms;
            const int most = answer == pj::status::pending ? 202 : 8;
            CHECK(ports.calls >= 4);
            CHECK(ports.calls <= most);
            CHECK(ticks <= (who == sick::put ? 215 : most + 8));
            CHECK(worker.running());
        }
    }
}

namespace {

/// A unit of work over a record; its commit may fail.
struct units {
    shared_record& of;
    bool fails = false;
    pj::checkpoint before{};
    pj::status begin() {
        before = of.record;
        return pj::status::ok;
    }
    pj::status commit() { return fails ? pj::status::failed : pj::status::ok; }
    pj::status rollback() {
        of.record = before;
        return pj::status::ok;
    }
};

} // namespace

TEST_CASE("an event that fails 70,000 times: attempts are counted no further than to 65535") {
    for (const char* where : {"alone", "in a unit", "at the commit"}) {
        CAPTURE(std::string(where));
        shared b;
        units u{b.checkpoints};
        u.fails = where[0] == 'a' && where[1] == 't';
        if (where[1] != 'l') b.what.transaction = u;
        b.what.on_error = pj::error_policy::custom(
            [](const pj::failure&) { return pj::decision::retry_after(0); });
        b.what.delays = {0, 0, 1, 0, 1};
        b.handler.failures = u.fails ? 0 : 70000;
        b.append(1).start();
        uint32_t before = 0;
        for (int i = 0; i < 300000 && b.worker.counts().failed_calls < 70000; ++i) {
            static_cast<void>(b.worker.tick(b.now));
            const uint32_t attempts = b.worker.last_failure().attempts;
            if (attempts < before) {
                CHECK(attempts >= before);
                break;
            }
            before = attempts;
        }
        CHECK(b.worker.counts().failed_calls == 70000);
        CHECK(b.worker.last_failure().attempts == 0xFFFF);
        u.fails = false;
        for (int i = 0; i < 10; ++i) static_cast<void>(b.worker.tick(b.now));
        CHECK(b.worker.scanned() == 0);
        CHECK(b.handler.done >= 1);
    }
}
