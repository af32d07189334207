// >>policy: what is done when a handler fails.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <initializer_list>
#include <string>
#include <vector>
namespace pj = projections;

namespace {

struct job { static constexpr pj::event_type type{"Job", pj::raw}; uint32_t n; };
struct other { static constexpr pj::event_type type{"Other", pj::raw}; uint32_t n; };

/// Fails `failures` times per event, then handles it.
struct flaky {
    using handles = pj::events<job>;
    static constexpr char handler_name[] = "flaky";
    int failures = 1000;
    int failed = 0;
    bool permanently = false;
    std::vector<uint32_t> calls;
    pj::verdict on(const job& e, const pj::context& ctx) {
        calls.push_back(e.n * 100 + ctx.attempt);
        if (failed == failures) {
            failed = 0;
            return pj::handled;
        }
        ++failed;
        return permanently ? pj::reject(4) : pj::fail(5);
    }
};

struct sink {
    pj::status answer = pj::status::ok;
    std::vector<std::string> letters;
    int offered = 0;
    pj::status put(const pj::dead_letter& l) {
        ++offered;
        if (answer != pj::status::ok) return answer;
        letters.push_back(std::string(l.handler.data(), l.handler.size()) + '@' +
                          std::to_string(l.event.at) + 'x' + std::to_string(l.attempts));
        return pj::status::ok;
    }
};

/// Two events for a handler that fails as told, under one policy.
struct bench {
    flaky handler;
    sink letters;
    pj::memory_log<8, 512> log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection what{"bench", log, handler, checkpoints};
    pj::worker worker{what};
    uint32_t now = 0;

    explicit bench(pj::error_policy policy) {
        what.on_error = policy;
        log.append(job{0});
        log.append(job{1});
    }
    bench& run(int ticks = 200) {
        if (!worker.running()) REQUIRE(worker.start() == pj::status::ok);
        while (worker.running() && !worker.caught_up() && ticks-- > 0) {
            now += pj::sooner(worker.tick(now).wait_ms, 100000);
        }
        const pj::counters c = worker.counts();
        CHECK(c.scanned == c.handled + c.unhandled + c.unknown + c.filtered + c.skipped +
                           c.lettered + c.vanished);
        return *this;
    }
    /// "handled skipped lettered failed_calls"
    std::string counts() const {
        const pj::counters c = worker.counts();
        return std::to_string(c.handled) + ' ' + std::to_string(c.skipped) + ' ' +
               std::to_string(c.lettered) + ' ' + std::to_string(c.failed_calls);
    }
};
using calls = std::vector<uint32_t>;
using letters = std::vector<std::string>;

pj::decision skip_it(const pj::failure&) { return pj::decision::skip(); }
pj::decision halt_it(const pj::failure&) { return pj::decision::halt(); }

} // namespace

TEST_CASE("skip: one attempt, counted, on") {
    bench b(pj::error_policy::skip());
    CHECK(b.run().handler.calls == calls{1, 101});
    CHECK(b.counts() == "0 2 0 2");
    CHECK(b.worker.checkpointed() == 1);
    CHECK(b.now == 1000);
}

TEST_CASE("retry(R): R + 1 attempts, then it halts before the event") {
    for (const uint16_t retries : {uint16_t{0}, uint16_t{1}, uint16_t{3}}) {
        bench b(pj::error_policy::retry(retries));
        b.run();
        CHECK(b.handler.calls.size() == retries + 1u);
        CHECK(b.handler.calls.back() == retries + 1u);
        CHECK(b.worker.state() == pj::run_state::halted);
        CHECK(b.worker.reason() == pj::status::handler_failed);
        CHECK(b.worker.checkpointed() == pj::before_first);
        CHECK(b.worker.last_failure().at == 0);
        CHECK(b.worker.last_failure().code == 5);
        CHECK(b.worker.last_failure().attempts == retries + 1);
        CHECK(b.worker.last_failure().handler == "flaky");
        CHECK(b.counts() == "0 0 0 " + std::to_string(retries + 1));
    }
    bench passes(pj::error_policy::retry(3));
    passes.handler.failures = 3;
    passes.run();
    CHECK(passes.counts() == "2 0 0 6");
    CHECK(passes.worker.checkpointed() == 1);
}

TEST_CASE("after a halt: retry_failed() has all attempts again, skip_failed() gives up") {
    bench b(pj::error_policy::retry(1));
    b.run();
    REQUIRE(b.worker.state() == pj::run_state::halted);
    CHECK(b.worker.skip_failed(7) == pj::status::not_halted);
    CHECK(b.worker.retry_failed() == pj::status::ok);
    b.run();
    CHECK(b.handler.calls == calls{1, 2, 1, 2});
    CHECK(b.worker.skip_failed(0) == pj::status::ok);
    b.handler.failed = 0;
    b.handler.failures = 1;
    b.run();
    CHECK(b.counts() == "1 1 0 5");
    CHECK(b.worker.checkpointed() == 1);
    CHECK(b.worker.retry_failed() == pj::status::not_halted);
}

TEST_CASE("halt: at the first failure; a permanent one halts any retry at once") {
    bench b(pj::error_policy::halt());
    CHECK(b.run().handler.calls == calls{1});
    CHECK(b.worker.state() == pj::run_state::halted);
    bench permanent(pj::error_policy::retry(5));
    permanent.handler.permanently = true;
    CHECK(permanent.run().handler.calls == calls{1});
    CHECK(permanent.worker.last_failure().kind == pj::failure_kind::permanent);
}

TEST_CASE("retry_then_skip(R): R + 1 attempts, then on") {
    bench b(pj::error_policy::retry_then_skip(2));
    CHECK(b.run().handler.calls == calls{1, 2, 3, 101, 102, 103});
    CHECK(b.counts() == "0 2 0 6");
    bench permanent(pj::error_policy::retry_then_skip(2));
    permanent.handler.permanently = true;
    CHECK(permanent.run().handler.calls == calls{1, 101});
}

TEST_CASE("dead_letter: one attempt, one letter, on") {
    bench b(pj::error_policy::dead_letter());
    CHECK(b.worker.start() == pj::status::no_dead_letter_sink);
    b.what.dead_letters = b.letters;
    CHECK(b.run().handler.calls == calls{1, 101});
    CHECK(b.letters.letters == letters{"flaky@0x1", "flaky@1x1"});
    CHECK(b.counts() == "0 0 2 2");
}

TEST_CASE("dead_letter: a letter that is not taken holds the event, not the handler") {
    bench b(pj::error_policy::dead_letter());
    b.what.dead_letters = b.letters;
    b.letters.answer = pj::status::failed;
    b.run(5);
    CHECK(b.letters.offered == 5);
    CHECK(b.handler.calls == calls{1});
    CHECK(b.worker.checkpointed() == pj::before_first);
    CHECK(b.worker.reason() == pj::status::dead_letter_failed);
    b.letters.answer = pj::status::ok;
    b.run();
    CHECK(b.handler.calls == calls{1, 101});
    CHECK(b.letters.letters.size() == 2);
    CHECK(b.counts() == "0 0 2 2");
}

TEST_CASE("retry_then_dead_letter(R): with a sink a letter, without one it halts") {
    bench b(pj::error_policy::retry_then_dead_letter(2));
    b.what.dead_letters = b.letters;
    CHECK(b.run().handler.calls == calls{1, 2, 3, 101, 102, 103});
    CHECK(b.letters.letters == letters{"flaky@0x3", "flaky@1x3"});
    CHECK(b.counts() == "0 0 2 6");
    bench without(pj::error_policy::retry_then_dead_letter(1));
    CHECK(without.run().handler.calls == calls{1, 2});
    CHECK(without.worker.state() == pj::run_state::halted);
}

TEST_CASE("custom: the function decides, attempt by attempt") {
    static std::vector<uint32_t> seen;
    seen.clear();
    bench b(pj::error_policy::custom([](const pj::failure& f) {
        seen.push_back(f.attempts);
        if (f.event.at == 1) {
            return f.attempts < 2 ? pj::decision::retry_after(0) : pj::decision::dead_letter();
        }
        return f.attempts < 3 ? pj::decision::retry_after(7) : pj::decision::skip();
    }));
    b.what.dead_letters = b.letters;
    CHECK(b.run().handler.calls == calls{1, 2, 3, 101, 102});
    CHECK(seen == calls{1, 2, 3, 1, 2});
    CHECK(b.letters.letters == letters{"flaky@1x2"});
    CHECK(b.counts() == "0 1 1 5");
    CHECK(b.now == 7 + 7 + 1000);
}

TEST_CASE("custom: sees what failed; a letter without a sink halts") {
    bench b(pj::error_policy::custom([](const pj::failure& f) {
        const bool is_right = f.kind == pj::failure_kind::permanent && f.code == 4 &&
            f.projection == "bench" && f.handler == "flaky" && f.event.type.name() == "Job" &&
            !f.replaying && f.partition == 0 && f.rebuild == 0;
        return is_right ? pj::decision::dead_letter() : pj::decision::skip();
    }));
    b.handler.permanently = true;
    b.run();
    CHECK(b.worker.state() == pj::run_state::halted);
    CHECK(b.worker.reason() != pj::status::ok);
    CHECK(b.worker.checkpointed() == pj::before_first);
    b.what.dead_letters = b.letters;
    REQUIRE(b.worker.retry_failed() == pj::status::ok);
    b.run();
    CHECK(b.letters.letters.size() == 2);
    CHECK(b.worker.checkpointed() == 1);
}

#if PROJECTIONS_EXCEPTIONS
namespace {
struct throwing {
    using handles = pj::events<job>;
    void on(const job&) { throw 1; }
};
} // namespace

TEST_CASE("custom: a policy that throws halts; a handler that throws fails with code_thrown") {
    bench b(pj::error_policy::custom([](const pj::failure&) -> pj::decision { throw 1; }));
    b.run();
    CHECK(b.worker.state() == pj::run_state::halted);
    CHECK(b.worker.reason() == pj::status::handler_failed);
    throwing t;
    b.what.handlers = t;
    b.what.on_error = pj::error_policy::skip();
    REQUIRE(b.worker.retry_failed() == pj::status::ok);
    b.run();
    CHECK(b.worker.counts().skipped == 2);
    CHECK(b.worker.last_failure().code == pj::code_thrown);
}
#endif

TEST_CASE("policy_table: by name, the first of a name, no more than it holds") {
    pj::policy_table<3> table;
    table.add("skip", skip_it).add("halt", halt_it).add("skip", halt_it).add("more", skip_it);
    bench skips(table["skip"]), halts(table["halt"]);
    bench unknown(table["retry"]), dropped(table["more"]);
    CHECK(skips.run().worker.checkpointed() == 1);
    CHECK(halts.run().worker.state() == pj::run_state::halted);
    CHECK(unknown.worker.start() == pj::status::unknown_policy);
    CHECK(dropped.worker.start() == pj::status::unknown_policy);
    bench none(pj::error_policy::custom({}));
    CHECK(none.worker.start() == pj::status::unknown_policy);
}

TEST_CASE("policy_table: the built-in policies can be named, too") {
    pj::policy_table<3> table;
    table.add("twice", pj::error_policy::retry_then_skip(1)).add("stop", pj::error_policy::halt())
        .add("letters", pj::error_policy::dead_letter());
    bench twice(table["twice"]), stops(table["stop"]), letters(table["letters"]);
    CHECK(twice.run().handler.calls == bench(pj::error_policy::retry_then_skip(1)).run().handler.calls);
    CHECK(twice.worker.checkpointed() == 1);
    CHECK(stops.run().worker.state() == pj::run_state::halted);
    CHECK(letters.worker.start() == pj::status::no_dead_letter_sink);
}

TEST_CASE("replayed events have a policy of their own") {
    bench b(pj::error_policy::retry(5));
    const pj::error_policy replaying = pj::error_policy::skip();
    b.what.on_error_replaying = &replaying;
    pj::checkpoint record;
    record.revision = 1;
    record.replayed_through = 0;
    REQUIRE(b.checkpoints.save("bench", record) == pj::status::ok);
    CHECK(b.run().handler.calls == calls{1, 101, 102, 103, 104, 105, 106});
    CHECK(b.worker.counts().skipped == 1);
    CHECK(b.worker.state() == pj::run_state::halted);
    const pj::error_policy letter = pj::error_policy::dead_letter();
    bench needs_sink(pj::error_policy::skip());
    needs_sink.what.on_error_replaying = &letter;
    CHECK(needs_sink.worker.start() == pj::status::no_dead_letter_sink);
}

TEST_CASE("an event of an unknown type: ignored, or a failure of its own kind") {
    for (const bool fails : {false, true}) {
        bench b(pj::error_policy::retry(3));
        b.handler.failures = 0;
        b.log.append(other{1});
        b.what.on_unknown = fails ? pj::unknown_types::fail : pj::unknown_types::ignore;
        b.run();
        CHECK(b.worker.counts().handled == 2);
        CHECK(b.worker.counts().unknown == (fails ? 0 : 1));
        CHECK(b.worker.counts().failed_calls == (fails ? 1 : 0));
        if (!fails) continue;
        CHECK(b.worker.state() == pj::run_state::halted);
        CHECK(b.worker.reason() == pj::status::unknown_type);
        CHECK(b.worker.last_failure().handler.empty());
        CHECK(b.worker.checkpointed() == 1);
    }
}

TEST_CASE("decision: only a retry waits") {
    CHECK(pj::decision::skip().wait_ms() == 0);
    CHECK(pj::decision::dead_letter().wait_ms() == 0);
    CHECK(pj::decision::halt().wait_ms() == 0);
    CHECK(pj::decision::retry_after(7).wait_ms() == 7);
}

TEST_CASE("the built-in policies make three retries where no number is said") {
    bench halts(pj::error_policy::retry());
    CHECK(halts.run().handler.calls == calls{1, 2, 3, 4});
    CHECK(halts.worker.state() == pj::run_state::halted);
    bench skips(pj::error_policy::retry_then_skip());
    CHECK(skips.run().handler.calls == calls{1, 2, 3, 4, 101, 102, 103, 104});
    CHECK(skips.worker.counts().skipped == 2);
    bench letters(pj::error_policy::retry_then_dead_letter());
    letters.what.dead_letters = letters.letters;
    CHECK(letters.run().handler.calls == calls{1, 2, 3, 4, 101, 102, 103, 104});
    CHECK(letters.worker.counts().lettered == 2);
}

TEST_CASE("fail() and reject() without a code say 0") {
    CHECK(pj::fail().argument() == 0);
    CHECK(pj::fail().what() == pj::verdict::kind::failed);
    CHECK(pj::reject().argument() == 0);
    CHECK(pj::reject().what() == pj::verdict::kind::rejected);
}

TEST_CASE("policy_table: it holds as many as it says, and knows no other name when it is full") {
    struct {
        pj::policy_table<2> table;
        size_t behind = 4;      // not the size of a third name
    } of_two;
    of_two.table.add("skip", skip_it).add("halt", halt_it);
    bench skips(of_two.table["skip"]), halts(of_two.table["halt"]), unknown(of_two.table["four"]);
    CHECK(skips.run().worker.checkpointed() == 1);
    CHECK(halts.run().worker.state() == pj::run_state::halted);
    CHECK(unknown.worker.start() == pj::status::unknown_policy);
    CHECK(of_two.behind == 4);
}
