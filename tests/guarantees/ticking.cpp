// G26 and G27: a tick is bounded, never recurses, and says when to come back: neither late nor
// busily.
#include "support/setup.hpp"

using namespace support;
using pj::run_state;
using pj::status;

namespace {

/// What an ill-behaved callback does to the engine it is called from; all of it must be refused.
void call_everything(pj::worker& worker) {
    const pj::run_state before = worker.state();
    const pj::tick_result r = worker.tick(123456);
    CHECK(r.reason == status::reentered);
    CHECK(r.scanned == 0);
    CHECK(worker.start() == status::reentered);
    CHECK(worker.reset() == status::reentered);
    CHECK(worker.set_position(0, 1) == status::reentered);
    CHECK(worker.retry_failed() == status::reentered);
    CHECK(worker.skip_failed(1) == status::reentered);
    CHECK(worker.state() == before);
}

struct nosy_log {
    setup* s;
    pj::status read(pj::position after, pj::visitor& visit) {
        call_everything(s->worker);
        return s->log.read(after, visit);
    }
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& log_id) {
        call_everything(s->worker);
        return s->log.bounds(trimmed, newest, log_id);
    }
};
struct nosy_store {
    setup* s;
    pj::status load(pj::text key, pj::checkpoint& out) {
        call_everything(s->worker);
        return s->store.load(key, out);
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        call_everything(s->worker);
        return s->store.save(key, next);
    }
};

} // namespace

TEST_CASE("G26 whatever a callback calls on its engine is refused and changes nothing") {
    setup plain, nosy;
    nosy_log log{&nosy};
    nosy_store store{&nosy};
    uint32_t policies = 0, filters = 0, clocks = 0, letters = 0;
    const auto policy = [&](const pj::failure&) {
        call_everything(nosy.worker);
        ++policies;
        return pj::decision::dead_letter();
    };
    const auto filter = [&](const pj::stored_event&) {
        call_everything(nosy.worker);
        ++filters;
        return true;
    };
    const auto clock = [&]() {
        if (nosy.w.reading) {
            call_everything(nosy.worker);
            ++clocks;
        }
        return nosy.now_ms;
    };
    const auto sink = [&](const pj::dead_letter& letter) {
        call_everything(nosy.worker);
        ++letters;
        return nosy.sink.put(letter);
    };
    for (setup* s : {&plain, &nosy}) {
        s->log.append(20, "Alpha");
        s->letters();
        s->what.observe_handled = true;
        s->b.says.at(3, pj::fail()).at(5, pj::pending).at(7, pj::reject());
        s->store.saves.then(status::failed);
    }
    nosy.what.log = log;
    nosy.what.checkpoints = store;
    nosy.what.dead_letters = sink;
    nosy.what.on_error = pj::error_policy::custom(policy);
    nosy.what.filter = filter;
    nosy.what.clock = clock;
    nosy.what.tick_ms_max = 1000;
    nosy.a.says.before = [&]() { call_everything(nosy.worker); };
    nosy.watch.also = [&](const pj::notice&) { call_everything(nosy.worker); };
    for (setup* s : {&plain, &nosy}) {
        REQUIRE(s->start() == status::ok);
        s->run_for(10000);
        CHECK(s->stop() == status::ok);
    }
    CHECK(nosy.w.called() == plain.w.called());
    CHECK(nosy.stored().at == plain.stored().at);
    CHECK(nosy.sink.keys() == plain.sink.keys());
    CHECK(policies == 2);
    CHECK(filters > 0);
    CHECK(clocks > 0);
    CHECK(letters == 2);
}

TEST_CASE("G26 the observer cannot start() or tick() from the notices of commands and start") {
    setup s;
    s.log.append(3, "Alpha");
    s.what.on_error = pj::error_policy::halt();
    s.b.says.always(1, pj::fail());
    uint32_t asked = 0;
    s.watch.also = [&](const pj::notice&) {
        call_everything(s.worker);
        ++asked;
    };
    REQUIRE(s.start() == status::ok);
    CHECK(asked == 1);
    s.run_for(1000);
    const uint32_t before = asked;
    CHECK(s.worker.skip_failed(1) == status::ok);
    CHECK(asked == before + 1);
}

TEST_CASE("G26 a tick visits at most its batch, for any outcome, slice and store") {
    for (const uint32_t batch : {1u, 2u, 7u, 100u}) {
        for (const size_t slice : {size_t{0}, size_t{1}, size_t{5}, size_t{300}}) {
            setup s;
            const char* const types[] = {"Alpha", "Gamma", "Nobody", "Beta"};
            for (int i = 0; i < 300; ++i) s.log.add(i, types[i % 4], i % 9 == 0 ? "!" : "");
            s.log.slice = slice;
            s.log.uses_limit = false;
            s.what.batch = batch;
            REQUIRE(s.start() == status::ok);
            for (int i = 0; i < 320; ++i) {
                const uint32_t reads = s.log.read_count;
                s.tick();
                CHECK(s.last.scanned <= batch);
                CHECK(s.log.read_count - reads <= 1);
                s.now_ms += s.last.wait_ms == pj::never ? 0 : s.last.wait_ms;
            }
            CHECK(s.worker.counts().scanned == 300);
            CHECK(s.log.wanted_max <= batch);
        }
    }
}

TEST_CASE("G26 a time budget begins no event after tick_ms_max") {
    setup s;
    s.log.append(20, "Beta");
    const auto clock = [&]() { return s.now_ms; };
    s.what.clock = clock;
    s.what.tick_ms_max = 30;
    s.a.says.before = [&]() { s.now_ms += 10; };
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.last.scanned == 3);
    CHECK(s.last.wait_ms == 0);
    for (int i = 0; i < 6; ++i) {
        s.tick();
        CHECK(s.last.scanned <= 3);
    }
    CHECK(s.worker.scanned() == 19);
    SUBCASE("one slow event is still handled: no standstill") {
        s.log.append(2, "Beta");
        s.a.says.before = [&]() { s.now_ms += 1000; };
        s.run_for(5000);
        CHECK(s.worker.scanned() == 21);
    }
}

TEST_CASE("G27 sleeping exactly wait_ms is never too late and never too early for a poll") {
    setup s;
    s.what.poll_ms = 250;
    REQUIRE(s.start() == status::ok);
    s.drain();
    for (int i = 0; i < 20; ++i) {
        CHECK(s.last.wait_ms == 250);
        const uint32_t reads = s.log.read_count;
        s.tick_after(249);
        CHECK(s.log.read_count == reads);
        CHECK(s.last.wait_ms == 1);
        s.tick_after(1);
        CHECK(s.log.read_count == reads + 1);
        s.drain();
    }
}

TEST_CASE("G27 the nearest of a retry, a flush and a poll decides") {
    setup s;
    s.log.append(3, "Beta");
    s.what.on_error = pj::error_policy::retry(3);
    s.what.delays = {5000, 5000, 2, 0, 1};
    s.what.save = {1000, 700, false};
    s.a.says.at(1, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.last.wait_ms == 700);           // event 0 is to be saved before event 1 is tried again
    s.tick_after(700);
    CHECK(s.stored().at == 0);
    CHECK(s.last.wait_ms == 4300);
    s.tick_after(4299);
    CHECK(s.w.times("a", 1) == 1);
    s.tick_after(1);
    CHECK(s.w.times("a", 1) == 2);
    s.drain();
    CHECK(s.w.times("a", 2) == 1);
    CHECK(s.last.wait_ms == 700);
}

TEST_CASE("G27 an idle engine ticks as often as it polls, not more") {
    setup s;
    s.log.append(50, "Alpha");
    REQUIRE(s.start() == status::ok);
    s.run_for(2000);
    const uint32_t ticks = s.ticks;
    s.run_for(100000);
    CHECK(s.ticks - ticks <= 102);
    CHECK(s.log.read_count <= 110);
}

TEST_CASE("G27 with poll_ms = never nothing is due until wake, and the flush is still in time") {
    setup s;
    s.log.append(2, "Beta");
    s.what.poll_ms = pj::never;
    s.what.save = {1000, 400, false};
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.last.wait_ms == 400);
    s.tick_after(400);
    CHECK(s.stored().at == 1);
    CHECK(s.last.wait_ms == pj::never);
    s.log.append(1, "Beta");
    s.tick_after(1000000);
    CHECK(s.w.calls.size() == 2);
    s.worker.wake();
    CHECK(s.worker.woken());
    s.tick();
    CHECK_FALSE(s.worker.woken());
    CHECK(s.w.calls.size() == 3);
}

TEST_CASE("G27 waking and ticking early do no harm") {
    setup s;
    s.log.append(3, "Alpha");
    s.what.on_error = pj::error_policy::retry(2);
    s.store.saves.then(status::failed, 3);
    s.b.says.at(1, pj::fail(), 2).at(2, pj::pending);
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 3000; ++i) {
        s.worker.wake();
        s.tick_after(1);
    }
    CHECK(s.w.times("b", 1) == 3);
    CHECK(s.w.times("b", 2) == 2);
    CHECK(s.store.tried.size() <= 8);
    CHECK(s.stored().at == 2);
}

TEST_CASE("G27 a wake between tick and sleep is seen by woken()") {
    setup s;
    REQUIRE(s.start() == status::ok);
    s.drain();
    CHECK_FALSE(s.worker.woken());
    SUBCASE("wake") { s.worker.wake(); }
    SUBCASE("stop") { s.worker.stop(); }
    SUBCASE("pause") { s.worker.pause(); }
    SUBCASE("resume") { s.worker.resume(); }
    SUBCASE("a waker") { pj::waker(&s.worker).wake(); }
    CHECK(s.worker.woken());
    s.tick();
    CHECK_FALSE(s.worker.woken());
}

TEST_CASE("G27 nobody who sleeps as he is told sleeps over the end of a run") {
    for (const bool is_halt : {false, true}) {
        setup s;
        s.what.poll_ms = pj::never;
        s.what.on_error = pj::error_policy::halt();
        s.log.append(5, "Alpha");
        if (is_halt) s.a.says.at(3, pj::reject());
        REQUIRE(s.start() == pj::status::ok);
        if (!is_halt) {
            s.drain();
            CHECK(s.last.wait_ms == pj::never);
            s.worker.stop();
        }
        uint32_t slept = 0;
        while (s.worker.running()) slept = s.tick().wait_ms;    // a host's loop, without looking
        CHECK(slept == 0);
        CHECK(s.worker.state() == (is_halt ? pj::run_state::halted : pj::run_state::stopped));
        CHECK(s.tick().wait_ms == pj::never);
    }
}

TEST_CASE("G26 tick() without an argument, too, does nothing from inside a callback") {
    setup s;
    uint32_t asked = 0;
    const auto clock = [&] { return 1000 + ++asked; };
    s.what.clock = clock;
    s.a.says.before = [&] {
        const uint32_t before = asked;
        const pj::tick_result r = s.worker.tick();
        CHECK(r.reason == status::reentered);
        CHECK(r.wait_ms == pj::never);
        CHECK(r.scanned == 0);
        CHECK(asked == before);
    };
    s.log.append(2, "Beta");
    REQUIRE(s.start() == status::ok);
    CHECK(s.worker.tick().scanned == 2);
    CHECK(s.w.called() == "a0 a1");
}

TEST_CASE("G26 a tick calls save() at most once") {
    setup s;
    s.log.append(3, "Beta");
    s.store.saves.then(status::failed);
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.log.append(1, "Beta");
    s.now_ms += 1000;
    const size_t before = s.store.tried.size();
    s.tick();
    CHECK(s.store.tried.size() - before == 1);
}

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("G16 a filter that threw once: an event that nobody handles is unhandled") {
    setup s;
    s.log.append(1, "Gamma");
    s.what.on_error = pj::error_policy::retry(3);
    int calls = 0;
    auto filter = [&](const pj::stored_event&) {
        if (++calls == 1) throw calls;
        return true;
    };
    s.what.filter = filter;
    REQUIRE(s.start() == status::ok);
    s.run_for(1000);
    CHECK(s.worker.scanned() == 0);
    CHECK(s.worker.counts().unhandled == 1);
    CHECK(s.worker.counts().handled == 0);
}
#endif

namespace {
struct only_live {
    using handles = pj::live_only<alpha>;
    void on(const alpha&) {}
};
} // namespace

TEST_CASE("deliver(): nobody is called, so nothing is decoded") {
    only_live one;
    CHECK(pj::deliver(one, {0, "Alpha", {"!", 1}}, true) == pj::handled);
}
