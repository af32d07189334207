// >>helpers: run, tick_all, sooner, poll_timeout, deliver, profiles.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <limits.h>
#include <vector>
namespace pj = projections;

namespace {

struct job { static constexpr pj::event_type type{"Job", pj::raw}; uint32_t n; };
struct counting {
    using handles = pj::events<job>;
    static constexpr char handler_name[] = "counting";
    uint32_t sum = 0;
    bool fails = false;
    pj::verdict on(const job& e) {
        if (fails) return pj::fail(1);
        sum += e.n;
        return pj::handled;
    }
};
struct setup {
    counting handler;
    pj::memory_log<8, 256> log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection what{"helpers", log, handler, checkpoints};
    pj::worker worker{what};
};
pj::status no_letters(const pj::dead_letter&) { return pj::status::ok; }

} // namespace

TEST_CASE("sooner() and poll_timeout()") {
    static_assert(pj::sooner(3, 5) == 3 && pj::sooner(pj::never, 5) == 5);
    static_assert(pj::sooner(pj::never, pj::never) == pj::never);
    static_assert(pj::poll_timeout(0) == 0 && pj::poll_timeout(250) == 250);
    static_assert(pj::poll_timeout(pj::never) == -1);
    CHECK(pj::poll_timeout(INT_MAX) == INT_MAX);
    CHECK(pj::poll_timeout(0x80000000u) == INT_MAX);
    CHECK(pj::poll_timeout(pj::never - 1) == INT_MAX);
}

TEST_CASE("tick_all(): each once, the shortest wait") {
    setup a, b, c;
    a.what.poll_ms = 700;
    b.what.poll_ms = 300;
    CHECK(pj::tick_all(0, a.worker, b.worker) == pj::never);        // not started
    REQUIRE(a.worker.start() == pj::status::ok);
    REQUIRE(b.worker.start() == pj::status::ok);
    REQUIRE(c.worker.start() == pj::status::ok);
    a.log.append(job{2});
    CHECK(pj::tick_all(0, a.worker, b.worker, c.worker) == 300);
    CHECK(a.handler.sum == 2);
    CHECK(pj::tick_all(250, a.worker, b.worker, c.worker) == 50);
}

TEST_CASE("run(): ticks and sleeps until the engine stops, and answers why") {
    setup s;
    s.log.append(job{1});
    REQUIRE(s.worker.start() == pj::status::ok);
    uint32_t now = 0;
    std::vector<uint32_t> slept;
    const pj::status why = pj::run(s.worker, [&] { return now; }, [&](uint32_t ms) {
        slept.push_back(ms);
        now += ms;
        if (slept.size() == 1) s.log.append(job{10});
        if (slept.size() == 2) s.worker.stop();
    });
    CHECK(why == pj::status::ok);
    CHECK(slept == std::vector<uint32_t>{1000, 1000});
    CHECK(s.handler.sum == 11);
    CHECK(s.worker.checkpointed() == 1);

    s.handler.fails = true;
    s.what.on_error = pj::error_policy::halt();
    s.log.append(job{1});
    REQUIRE(s.worker.start() == pj::status::ok);
    CHECK(pj::run(s.worker, [&] { return now; }, [&](uint32_t ms) { now += ms; }) ==
          pj::status::handler_failed);
    CHECK(pj::run(s.worker, [&] { return now; }, [&](uint32_t) { FAIL("slept"); }) ==
          pj::status::handler_failed);
}

namespace {

/// Its job is done before it answers that it is not.
struct hasty {
    using handles = pj::events<job>;
    int calls = 0;
    pj::verdict on(const job&, const pj::context& ctx) {
        ++calls;
        if (ctx.resumed) return pj::handled;
        ctx.waker.wake();
        return pj::pending;
    }
};

} // namespace

TEST_CASE("run(): does not sleep over a wake() that came during the tick") {
    setup s;
    hasty handler;
    s.what.handlers = handler;
    s.what.pending_ms = pj::never;
    s.log.append(job{1});
    REQUIRE(s.worker.start() == pj::status::ok);
    int sleeps = 0;
    CHECK(pj::run(s.worker, [] { return 0u; }, [&](uint32_t ms) {
        CHECK_FALSE(s.worker.woken());
        CHECK(ms != pj::never);
        ++sleeps;
        s.worker.stop();
    }) == pj::status::ok);
    CHECK(sleeps == 1);
    CHECK(handler.calls == 2);
}

TEST_CASE("deliver(): by type of handler and event") {
    counting handler;
    pj::handler_map<2> map;
    map.add(handler);
    pj::registry all{handler};
    CHECK(pj::deliver(handler, job{1}) == pj::handled);
    CHECK(pj::deliver(handler, job{1}, "order-7") == pj::handled);
    const job j{10};
    CHECK(pj::deliver(handler, pj::raw_event(0, j)) == pj::handled);
    CHECK(pj::deliver(map, pj::raw_event(0, j)) == pj::handled);
    CHECK(pj::deliver(all, pj::raw_event(0, j)) == pj::handled);
    CHECK(handler.sum == 32);
    handler.fails = true;
    CHECK(pj::deliver(handler, job{1}) == pj::fail(1));
    CHECK(pj::deliver(all, {0, "Job", {"short", 5}}) == pj::reject());
}

TEST_CASE("production(): retried, then lettered; unknown types are another version's") {
    setup s;
    int letters = 0;
    auto sink = [&](const pj::dead_letter& l) {
        ++letters;
        CHECK(l.attempts == 4);
        return no_letters(l);
    };
    s.what = pj::production("shop", s.log, s.handler, s.checkpoints, sink);
    CHECK(s.what.name == "shop");
    s.handler.fails = true;
    s.log.append(job{1});
    s.log.append("Unknown", {});
    REQUIRE(s.worker.start() == pj::status::ok);
    uint32_t now = 0;
    for (int i = 0; i < 20 && !s.worker.caught_up(); ++i) now += s.worker.tick(now).wait_ms;
    CHECK(letters == 1);
    CHECK(s.worker.counts().lettered == 1);
    CHECK(s.worker.counts().unknown == 1);
    CHECK(s.worker.checkpointed() == 1);
}

TEST_CASE("development(): the first failure and the first unknown type halt; saves each event") {
    setup s;
    s.what = pj::development("shop", s.log, s.handler, s.checkpoints);
    s.log.append(job{1});
    s.log.append("Unknown", {});
    REQUIRE(s.worker.start() == pj::status::ok);
    CHECK(s.worker.tick(0).scanned == 1);
    CHECK(s.worker.checkpointed() == 0);
    static_cast<void>(s.worker.tick(0));
    CHECK(s.worker.reason() == pj::status::unknown_type);
    REQUIRE(s.worker.skip_failed(1) == pj::status::ok);
    s.handler.fails = true;
    s.log.append(job{1});
    for (int i = 0; i < 9 && s.worker.running(); ++i) static_cast<void>(s.worker.tick(0));
    CHECK(s.worker.reason() == pj::status::handler_failed);
    CHECK(s.worker.checkpointed() == 1);
}

TEST_CASE("poll_timeout and sooner, at run time") {
    volatile uint32_t five = 5, large = 0x80000000u, endless = pj::never;
    CHECK(pj::poll_timeout(five) == 5);
    CHECK(pj::poll_timeout(large) == 0x7FFFFFFF);
    CHECK(pj::poll_timeout(endless) == -1);
    CHECK(pj::sooner(five, large) == 5);
    CHECK(pj::sooner(large, five) == 5);
}

namespace {
struct poked { static constexpr pj::event_type type{"Poked", pj::raw}; char c; };
struct asking {
    using handles = pj::events<poked>;
    int calls = 0;
    void on(const poked&, const pj::context& c) {
        ++calls;
        CHECK(c.extend_lease() == pj::status::ok);
        CHECK(c.partition == 0);
        CHECK(c.fencing_token == 0);
        CHECK(c.attempt == 1);
        CHECK_FALSE(c.resumed);
        c.waker.wake();
    }
};
} // namespace

TEST_CASE("deliver: outside of any engine a context has no lease, no partition, nobody to wake") {
    asking handler;
    const poked event{'x'};
    CHECK(pj::deliver(handler, event) == pj::handled);
    CHECK(pj::deliver(handler, pj::raw_event(3, event)) == pj::handled);
    CHECK(handler.calls == 2);
}

namespace {
struct curious {
    using handles = pj::events<job>;
    int calls = 0;
    bool replaying = false;
    void on(const job&, const pj::context& c) {
        ++calls;
        replaying = c.replaying;
        CHECK(c.event.at == pj::before_first);
        CHECK(c.event.type.name() == "Job");
        CHECK(c.event.payload.empty());
        CHECK(c.event.aggregate_id == "order-7");
        CHECK(c.event.version == 1);
        CHECK(c.event.occurred_at == 0);
        CHECK(c.event.partition_key == pj::no_key);
        CHECK(c.now_ms == 0);
        CHECK(c.attempt == 1);
        CHECK_FALSE(c.resumed);
    }
};
} // namespace

TEST_CASE("deliver(): what the context says of an event that is not stored") {
    curious handler;
    for (const bool replaying : {false, true}) {
        CHECK(pj::deliver(handler, job{1}, "order-7", replaying) == pj::handled);
        CHECK(handler.replaying == replaying);
    }
    CHECK(handler.calls == 2);
}

TEST_CASE("run(): sleeps for one millisecond, too, and never for none") {
    setup s;
    s.what.poll_ms = 1;
    s.what.batch = 1;
    for (int i = 0; i < 4; ++i) s.log.append(job{1});
    REQUIRE(s.worker.start() == pj::status::ok);
    uint32_t now = 0;
    int sleeps = 0;
    CHECK(pj::run(s.worker, [&] { return now; }, [&](uint32_t ms) {
        CHECK(ms == 1);
        CHECK(s.worker.running());
        CHECK(s.handler.sum == 4);      // not before the end of the log
        now += ms;
        if (++sleeps == 5) s.worker.stop();
    }) == pj::status::ok);
    CHECK(sleeps == 5);
}

TEST_CASE("development(): every event is saved before the next one is handled") {
    setup s;
    s.what = pj::development("shop", s.log, s.handler, s.checkpoints);
    for (int i = 0; i < 3; ++i) s.log.append(job{1});
    REQUIRE(s.worker.start() == pj::status::ok);
    for (pj::position at = 0; at < 3; ++at) {
        CHECK(s.worker.tick(0).scanned == 1);
        CHECK(s.worker.checkpointed() == at);
    }
}
