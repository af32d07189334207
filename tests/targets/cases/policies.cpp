// What becomes of an event whose handler fails: skip, retry, letter, halt, a policy of one's own.
#include "cases/fakes.hpp"

namespace pj = projections;
using fakes::bench;

namespace {

void skip_is_counted_and_goes_on() {
    bench b(4);
    b.model.odd_at = 1;
    b.model.odd_times = 1;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.model.sum == 1 + 4 + 8);
    CHECK(b.worker.counts().skipped == 1);
    CHECK(b.worker.counts().handled == 3);
    CHECK(b.worker.counts().scanned == 4);
    CHECK(b.worker.checkpointed() == 3);
    CHECK(b.worker.last_failure().at == 1);
    CHECK(b.worker.last_failure().code == 9);
}

void retry_backs_off_then_halts() {
    bench b(4);
    b.model.odd_at = 2;
    b.model.odd_times = 100;
    b.what.on_error = pj::error_policy::retry(3);
    REQUIRE(b.worker.start() == pj::status::ok);
    CHECK(b.drain().wait_ms == 100);
    CHECK(b.worker.state() == pj::run_state::waiting);
    CHECK(b.tick(99).wait_ms == 1);
    CHECK(b.model.calls == 3);
    CHECK(b.tick(1).wait_ms == 200);
    CHECK(b.model.last_attempt == 2);
    CHECK(b.tick(200).wait_ms == 400);
    b.tick(400);
    CHECK(b.worker.state() == pj::run_state::halted);
    CHECK(b.worker.reason() == pj::status::handler_failed);
    CHECK(b.model.calls == 2 + 4);
    CHECK(b.checkpoints.record.at == 1);
    // The same event again, and then given up on.
    CHECK(b.worker.retry_failed() == pj::status::ok);
    b.run_for(2000);
    CHECK(b.model.calls == 2 + 8);
    CHECK(b.worker.skip_failed(3) == pj::status::not_halted);
    CHECK(b.worker.skip_failed(2) == pj::status::ok);
    b.drain();
    CHECK(b.model.sum == 1 + 2 + 8);
    CHECK(b.worker.counts().skipped == 1);
}

void one_letter_before_the_checkpoint_passes() {
    bench b(4);
    b.model.odd_at = 1;
    b.model.odd_times = 1;
    b.letters.refuses = 2;
    b.what.dead_letters = b.letters;
    b.what.on_error = pj::error_policy::dead_letter();
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.letters.count == 0);
    CHECK(b.worker.scanned() == 0);
    b.run_for(1000);
    CHECK(b.letters.count == 1);
    CHECK(b.letters.last == 1);
    CHECK(b.letters.code == 9);
    CHECK(b.model.calls == 4);          // not run again for a sink that fails
    CHECK(b.worker.counts().lettered == 1);
    CHECK(b.worker.checkpointed() == 3);
}

void retries_then_a_letter() {
    bench b(2);
    b.model.odd_at = 0;
    b.model.odd_times = 3;
    b.what.dead_letters = b.letters;
    b.what.on_error = pj::error_policy::retry_then_dead_letter(2);
    REQUIRE(b.worker.start() == pj::status::ok);
    b.run_for(5000);
    CHECK(b.letters.count == 1);
    CHECK(b.model.calls == 4);
    CHECK(b.model.sum == 2);
}

void what_will_not_pass_is_not_retried() {
    bench b(3);
    b.model.odd_at = 1;
    b.model.odd_times = 9;
    b.model.odd = pj::reject(0x0ABCDEF);
    b.what.dead_letters = b.letters;
    b.what.on_error = pj::error_policy::retry_then_dead_letter(5);
    b.log.events[2].payload = {b.log.events[2].payload.data(), 1};          // not readable
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.letters.count == 2);
    CHECK(b.letters.last == 2);
    CHECK(b.letters.kind == pj::failure_kind::decode);
    CHECK(b.model.calls == 2);
    CHECK(b.worker.last_failure().kind == pj::failure_kind::decode);
}

pj::decision twice_then_skip(const pj::failure& f) {
    return f.attempts < 2 ? pj::decision::retry_after(70000) : pj::decision::skip();
}

void a_policy_by_name() {
    bench b(3);
    b.model.odd_at = 0;
    b.model.odd_times = 9;
    pj::policy_table<2> table;
    table.add("twice", &twice_then_skip);
    b.what.on_error = table["twice"];
    REQUIRE(b.worker.start() == pj::status::ok);
    CHECK(b.drain().wait_ms == 70000);          // more than 16 bits
    CHECK(b.tick(69999).wait_ms == 1);
    b.tick(1);
    b.drain();
    CHECK(b.model.sum == 2 + 4);
    bench other(1);
    other.what.on_error = table["no such"];
    CHECK(other.worker.start() == pj::status::unknown_policy);
}

template<char Name> struct sibling {
    using handles = pj::events<fakes::added>;
    static constexpr char name[] = {Name, '\0'};
    static constexpr const char* handler_name = name;
    uint8_t calls = 0;
    void on(const fakes::added&) { ++calls; }
};

void a_retry_calls_only_who_has_failed() {
    bench b(2);
    sibling<'b'> before;
    sibling<'a'> after;
    pj::registry all{before, b.model, after};
    b.what.handlers = all;
    b.model.odd_at = 0;
    b.model.odd_times = 3;
    b.what.on_error = pj::error_policy::retry(3);
    REQUIRE(b.worker.start() == pj::status::ok);
    b.run_for(5000);
    CHECK(before.calls == 2);
    CHECK(after.calls == 2);
    CHECK(b.model.calls == 5);
    CHECK(b.worker.counts().handled == 2);
    CHECK(b.worker.counts().failed_calls == 3);
}

void unknown_types_are_counted_or_fail() {
    bench b(3);
    b.log.events[1].type = "NobodyKnows";
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.worker.counts().unknown == 1);
    CHECK(b.model.sum == 1 + 4);
    bench strict(3);
    strict.log.events[1].type = "NobodyKnows";
    strict.what.on_unknown = pj::unknown_types::fail;
    strict.what.on_error = pj::error_policy::halt();
    REQUIRE(strict.worker.start() == pj::status::ok);
    strict.drain();
    CHECK(strict.worker.reason() == pj::status::unknown_type);
    CHECK(strict.worker.scanned() == 0);
}

/// The delays of 20 failures: never above the cap, never less than the jitter allows, not all
/// equal.
void jitter_and_the_cap() {
    bench b(1);
    b.model.odd_at = 0;
    b.model.odd_times = 255;
    b.what.on_error = pj::error_policy::retry(100);
    b.what.delays = {1000, 100000, 3, 50, 7};
    REQUIRE(b.worker.start() == pj::status::ok);
    uint32_t longest = 1000, wait_ms = b.drain().wait_ms, jittered = 0;
    for (int i = 0; i < 20; ++i) {
        CHECK(wait_ms <= longest);
        CHECK(wait_ms >= longest / 2);
        jittered += wait_ms != longest ? 1u : 0u;
        wait_ms = b.tick(wait_ms).wait_ms;
        longest = longest * 3 < 100000 ? longest * 3 : 100000;
    }
    CHECK(jittered > 10);
}

const targets::test_case cases[] = {
    CASE(skip_is_counted_and_goes_on), CASE(retry_backs_off_then_halts),
    CASE(one_letter_before_the_checkpoint_passes), CASE(retries_then_a_letter),
    CASE(what_will_not_pass_is_not_retried), CASE(a_policy_by_name),
    CASE(a_retry_calls_only_who_has_failed), CASE(unknown_types_are_counted_or_fail),
    CASE(jitter_and_the_cap)};

} // namespace

SUITE(policies);
