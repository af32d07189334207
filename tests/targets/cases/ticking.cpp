// The tick: what it does, how long it says nothing is due, and what it answers to.
#include "cases/fakes.hpp"

namespace pj = projections;
using fakes::bench;

namespace {

void from_the_first_event_to_the_end_of_the_log() {
    bench b(5);
    REQUIRE(b.worker.start() == pj::status::ok);
    CHECK(!b.worker.loaded());
    const pj::tick_result last = b.drain();
    CHECK(b.model.sum == 31);
    CHECK(b.worker.caught_up());
    CHECK(b.worker.state() == pj::run_state::idle);
    CHECK(last.wait_ms == 1000);
    CHECK(b.worker.checkpointed() == 4);
    CHECK(b.checkpoints.record.revision == b.checkpoints.saves);
    b.log.append(fakes::numbers[5]);
    CHECK(b.tick(400).wait_ms == 600);              // not yet
    CHECK(b.model.sum == 31);
    b.tick(600);
    CHECK(b.model.sum == 63);
}

/// A second engine of the same description, as after a restart: only what is new.
void resumes_after_the_checkpoint() {
    bench b(4);
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    b.log.append(fakes::numbers[4]);
    pj::worker again{b.what};
    REQUIRE(again.start() == pj::status::ok);
    for (int i = 0; i < 4; ++i) static_cast<void>(again.tick(0));
    CHECK(b.model.sum == 31);
    CHECK(b.model.calls == 5);
}

void positions_need_64_bits_and_have_holes() {
    bench b(3);
    b.log.events[0].at = 0;
    b.log.events[1].at = 0x7FFFFFFF00000001;
    b.log.events[2].at = 0x7FFFFFFFFFFFFFFE;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.model.sum == 7);
    CHECK(b.worker.checkpointed() == 0x7FFFFFFFFFFFFFFE);
    CHECK(b.checkpoints.record.at == 0x7FFFFFFFFFFFFFFE);
}

void a_tick_visits_at_most_its_batch() {
    bench b(8);
    b.what.batch = 3;
    REQUIRE(b.worker.start() == pj::status::ok);
    pj::tick_result last = b.tick();
    while (last.scanned == 0 && b.worker.running()) last = b.tick();
    CHECK(last.scanned == 3);
    CHECK(last.wait_ms == 0);
    CHECK(b.tick().scanned == 3);
    CHECK(b.tick().scanned == 2);
    CHECK(b.worker.counts().handled == 8);
}

bool is_even(const pj::stored_event& event) { return event.at % 2 == 0; }

void what_the_filter_refuses_is_passed_over() {
    bench b(7);
    b.what.filter = &is_even;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.model.sum == 1 + 4 + 16 + 64);
    CHECK(b.worker.counts().filtered == 3);
    CHECK(b.worker.checkpointed() == 6);
}

void pending_waits_and_a_wake_ends_it() {
    bench b(3);
    b.model.odd_at = 1;
    b.model.odd_times = 3;
    b.model.odd = pj::pending;
    b.what.pending_ms = 500;
    REQUIRE(b.worker.start() == pj::status::ok);
    CHECK(b.drain().wait_ms == 500);
    CHECK(b.worker.scanned() == 0);
    CHECK(!b.model.last_resumed);
    b.tick(499);
    CHECK(b.model.calls == 2);
    b.tick(1);
    CHECK(b.model.calls == 3);
    CHECK(b.model.last_resumed);
    CHECK(!b.worker.woken());
    b.model.waker.wake();
    CHECK(b.worker.woken());
    b.tick();
    CHECK(b.model.calls == 4);
    CHECK(!b.worker.woken());
    b.worker.wake();
    b.drain();
    CHECK(b.model.sum == 7);
    CHECK(b.model.last_attempt == 1);               // pending is no attempt
    CHECK(b.worker.counts().failed_calls == 0);
}

void pending_for_a_time_of_its_own() {
    bench b(1);
    b.model.odd_at = 0;
    b.model.odd_times = 1;
    b.model.odd = pj::pending_for(100000);
    REQUIRE(b.worker.start() == pj::status::ok);
    CHECK(b.drain().wait_ms == 100000);
    b.tick(99999);
    CHECK(b.model.sum == 0);
    b.tick(1);
    CHECK(b.model.sum == 1);
}

void stop_saves_and_ends() {
    bench b(4);
    b.what.save = {1000, 100000, false};
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.checkpoints.record.at == pj::before_first);
    b.worker.stop();
    b.drain();
    CHECK(!b.worker.running());
    CHECK(b.worker.state() == pj::run_state::stopped);
    CHECK(b.worker.reason() == pj::status::ok);
    CHECK(b.checkpoints.record.at == 3);
    CHECK(b.tick().wait_ms == pj::never);
    CHECK(b.worker.start() == pj::status::ok);
    CHECK(b.worker.start() == pj::status::already_started);
}

void pause_saves_and_rests_until_resume() {
    bench b(2);
    b.what.save = {1000, 100000, false};
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    b.worker.pause();
    CHECK(b.worker.woken());
    b.drain();
    CHECK(b.worker.state() == pj::run_state::paused);
    CHECK(b.checkpoints.record.at == 1);
    b.log.append(fakes::numbers[2]);
    b.run_for(5000);
    CHECK(b.model.calls == 2);
    b.worker.resume();
    b.run_for(2000);
    CHECK(b.model.calls == 3);
}

void commands_move_the_checkpoint() {
    bench b(3);
    REQUIRE(b.worker.start() == pj::status::ok);
    CHECK(b.worker.reset() == pj::status::not_loaded);
    b.drain();
    CHECK(b.worker.set_position(1, 0) == pj::status::conflict);
    CHECK(b.worker.set_position(2, 0) == pj::status::ok);
    b.drain();
    CHECK(b.model.sum == 7 + 6);
    CHECK(b.worker.reset() == pj::status::ok);
    b.drain();
    CHECK(b.model.sum == 7 + 6 + 7);
    CHECK(b.worker.checkpointed() == 2);
}

void a_log_out_of_order_is_refused() {
    bench b(4);
    b.log.events[2].at = 1;
    // The log shows what is above `after`, so the second 1 comes in the same read.
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.worker.state() == pj::run_state::halted);
    CHECK(b.worker.reason() == pj::status::store_unordered);
    CHECK(b.model.sum == 3);
}

void a_log_that_fails_backs_off() {
    bench b(1);
    b.log.count = 0;
    b.log.answer = pj::status::failed;
    REQUIRE(b.worker.start() == pj::status::ok);
    CHECK(b.drain().wait_ms == 100);
    CHECK(b.worker.reason() == pj::status::store_failed);
    CHECK(b.tick(100).wait_ms == 200);
    b.log.count = 1;
    b.log.answer = pj::status::ok;
    b.worker.wake();                                // ends no backoff
    CHECK(b.tick().wait_ms == 200);
    b.tick(200);
    CHECK(b.model.sum == 1);
}

struct bounded : fakes::array_log {
    pj::position trimmed = pj::before_first, newest = pj::before_first;
    uint64_t identity = 0;
    pj::status bounds(pj::position& low, pj::position& high, uint64_t& id) const {
        low = trimmed;
        high = newest;
        id = identity;
        return pj::status::ok;
    }
};

void bounds_show_a_log_that_is_another() {
    const auto reason = [](pj::position at, pj::position trimmed, pj::position newest,
                           uint64_t id) {
        bench b(0);
        bounded log;
        log.trimmed = trimmed;
        log.newest = newest;
        log.identity = id;
        b.what.log = log;
        b.checkpoints.record.at = at;
        b.checkpoints.record.revision = 1;
        b.checkpoints.record.log_id = 0x1234567890ABCDEF;
        if (b.worker.start() != pj::status::ok) return pj::status::failed;
        b.drain();
        return b.worker.reason();
    };
    CHECK(reason(5, 3, 9, 0x1234567890ABCDEF) == pj::status::ok);
    CHECK(reason(5, 6, 9, 0x1234567890ABCDEF) == pj::status::log_trimmed);
    CHECK(reason(5, 3, 4, 0x1234567890ABCDEF) == pj::status::checkpoint_ahead);
    CHECK(reason(5, 3, 9, 0x1234567890ABCDEE) == pj::status::log_replaced);
    CHECK(reason(5, 3, 9, 0x0234567890ABCDEF) == pj::status::log_replaced);
}

/// The retry is due 50 ms after the clock has wrapped.
void the_clock_may_wrap() {
    bench b(2);
    b.now_ms = 0xFFFFFFFF - 49;
    b.model.odd_at = 1;
    b.model.odd_times = 1;
    b.what.on_error = pj::error_policy::retry(3);
    REQUIRE(b.worker.start() == pj::status::ok);
    CHECK(b.drain().wait_ms == 100);
    CHECK(b.tick(99).wait_ms == 1);
    CHECK(b.now_ms == 49);
    CHECK(b.model.calls == 2);
    b.tick(1);
    CHECK(b.model.sum == 3);
    // And a wait of many days, of which only the last tick is past the wrap.
    CHECK(b.drain().wait_ms == 1000);
    b.now_ms = 0xFFFFFFF0;
    b.drain();
    CHECK(b.tick(0x10).wait_ms == 1000 - 0x10);
}

struct calls_back {
    using handles = pj::events<fakes::added>;
    pj::worker* worker = nullptr;
    pj::status reason = pj::status::ok, reset = pj::status::ok;
    void on(const fakes::added&) {
        reason = worker->tick(0).reason;
        reset = worker->reset();
    }
};

void a_tick_inside_a_tick_does_nothing() {
    fakes::array_log log;
    log.append(fakes::numbers[0]);
    fakes::slot checkpoints;
    calls_back model;
    const pj::projection what{"inside", log, model, checkpoints};
    pj::worker worker{what};
    model.worker = &worker;
    REQUIRE(worker.start() == pj::status::ok);
    for (int i = 0; i < 3; ++i) static_cast<void>(worker.tick(0));
    CHECK(model.reason == pj::status::reentered);
    CHECK(model.reset == pj::status::reentered);
    CHECK(worker.counts().handled == 1);
}

void start_names_what_is_missing() {
    bench b(1);
    b.what.name = {};
    CHECK(b.worker.start() == pj::status::no_name);
    b.what.name = "x_p0";
    CHECK(b.worker.start() == pj::status::reserved_name);
    b.what.name = "x";
    b.what.batch = 0;
    CHECK(b.worker.start() == pj::status::bad_batch);
    b.what.batch = 1;
    b.what.tick_ms_max = 5;
    CHECK(b.worker.start() == pj::status::no_clock);
    b.what.tick_ms_max = 0;
    b.what.on_error = pj::error_policy::dead_letter();
    CHECK(b.worker.start() == pj::status::no_dead_letter_sink);
    CHECK(b.log.reads == 0);
    CHECK(b.checkpoints.saves == 0);
}

const targets::test_case cases[] = {
    CASE(from_the_first_event_to_the_end_of_the_log), CASE(resumes_after_the_checkpoint),
    CASE(positions_need_64_bits_and_have_holes), CASE(a_tick_visits_at_most_its_batch),
    CASE(what_the_filter_refuses_is_passed_over), CASE(pending_waits_and_a_wake_ends_it),
    CASE(pending_for_a_time_of_its_own), CASE(stop_saves_and_ends),
    CASE(pause_saves_and_rests_until_resume), CASE(commands_move_the_checkpoint),
    CASE(a_log_out_of_order_is_refused), CASE(a_log_that_fails_backs_off),
    CASE(bounds_show_a_log_that_is_another), CASE(the_clock_may_wrap),
    CASE(a_tick_inside_a_tick_does_nothing), CASE(start_names_what_is_missing)};

} // namespace

SUITE(ticking);
