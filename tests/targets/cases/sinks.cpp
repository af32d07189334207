// Fed by a broker: what is acknowledged, held, refused.
#include "cases/fakes.hpp"

namespace pj = projections;

namespace {

struct fed {
    fakes::slot checkpoints{};
    fakes::letter_box letters{};
    fakes::summing model{};
    pj::projection what{"fed", {}, model, checkpoints};
    pj::event_sink sink{what};
    uint32_t now_ms = 0;

    fed() {
        what.delays.jitter_percent = 0;
        what.save.every_events = 2;
    }
    pj::receive_result offer(pj::position at, bool redelivered = false) {
        pj::stored_event message = pj::raw_event(at, fakes::numbers[at & 7]);
        message.at = at;
        return sink.receive(message, now_ms, redelivered);
    }
    /// The first tick loads; a source offers again until it is taken.
    bool begin() {
        if (sink.start() != pj::status::ok) return false;
        for (int i = 0; i < 3; ++i) static_cast<void>(sink.tick(now_ms));
        return sink.loaded();
    }
};

void later_until_saved_then_ack() {
    fed f;
    REQUIRE(f.begin());
    CHECK(f.offer(0).answer == pj::receipt::later);
    CHECK(f.offer(1).answer == pj::receipt::ack);
    CHECK(f.sink.checkpointed() == 1);
    CHECK(f.model.sum == 3);
    CHECK(f.offer(2).answer == pj::receipt::later);
    for (int i = 0; i < 3; ++i) static_cast<void>(f.sink.tick(f.now_ms += 1000));
    CHECK(f.sink.checkpointed() == 2);
}

void duplicates_are_not_handled_again() {
    fed f;
    REQUIRE(f.begin());
    static_cast<void>(f.offer(0));
    static_cast<void>(f.offer(1));
    CHECK(f.offer(1).answer == pj::receipt::ack);           // offered before in this run
    CHECK(f.offer(0, true).answer == pj::receipt::ack);
    CHECK(f.model.calls == 2);
    CHECK(f.sink.counts().duplicate == 2);
    // After a restart a low offset that is not called a redelivery is another source's.
    pj::event_sink again{f.what};
    REQUIRE(again.start() == pj::status::ok);
    for (int i = 0; i < 3; ++i) static_cast<void>(again.tick(0));
    pj::stored_event message = pj::raw_event(0, fakes::numbers[0]);
    CHECK(again.receive(message, 0).reason == pj::status::log_replaced);
    again.accept_up_to(1);
    CHECK(again.receive(message, 0).answer == pj::receipt::ack);
}

void a_failure_holds_its_message_and_no_other_passes() {
    fed f;
    f.what.on_error = pj::error_policy::retry(5);
    f.model.odd_at = 1;
    f.model.odd_times = 1;
    REQUIRE(f.begin());
    static_cast<void>(f.offer(0));
    const pj::receive_result held = f.offer(1);
    CHECK(held.answer == pj::receipt::hold);
    CHECK(held.wait_ms == 100);
    CHECK(held.reason == pj::status::handler_failed);
    CHECK(f.offer(2).answer == pj::receipt::hold);
    CHECK(f.model.calls == 2);
    f.now_ms += 100;
    CHECK(f.offer(1).answer == pj::receipt::ack);
    CHECK(f.offer(2).answer == pj::receipt::later);
    CHECK(f.model.sum == 7);
}

void a_letter_without_a_sink_is_the_brokers() {
    fed f;
    f.what.on_error = pj::error_policy::dead_letter();
    f.model.odd_at = 0;
    f.model.odd_times = 1;
    REQUIRE(f.begin());
    CHECK(f.offer(0).answer == pj::receipt::reject);
    CHECK(f.offer(1).answer != pj::receipt::hold);
}

void without_offsets_each_is_acknowledged() {
    fed f;
    REQUIRE(f.begin());
    for (int i = 0; i < 4; ++i) {
        pj::stored_event message = pj::raw_event(pj::before_first, fakes::numbers[i]);
        CHECK(f.sink.receive(message, 0).answer == pj::receipt::ack);
    }
    CHECK(f.model.sum == 15);
    CHECK(f.checkpoints.saves == 0);
}

const targets::test_case cases[] = {
    CASE(later_until_saved_then_ack), CASE(duplicates_are_not_handled_again),
    CASE(a_failure_holds_its_message_and_no_other_passes),
    CASE(a_letter_without_a_sink_is_the_brokers), CASE(without_offsets_each_is_acknowledged)};

} // namespace

SUITE(sinks);
