// G9, G10, G11: how often a handler is called, which handlers are called again, and what every
// failure ends in.
#include "support/setup.hpp"

using namespace support;
using pj::status;

namespace {

/// One event of three handlers between two others.
struct attempts : setup {
    explicit attempts(pj::error_policy policy) {
        log.append(3, "Alpha");
        what.on_error = policy;
    }
};

} // namespace

TEST_CASE("G9 retry(R) makes exactly R + 1 attempts, whenever the handler begins to succeed") {
    for (const uint16_t retries : {uint16_t{0}, uint16_t{1}, uint16_t{3}, uint16_t{7}}) {
        for (int failing = 0; failing <= retries + 2; ++failing) {
            attempts s(pj::error_policy::retry(retries));
            s.b.says.at(1, pj::fail(), failing);
            REQUIRE(s.start() == status::ok);
            s.run_for(10000000);
            const bool is_enough = failing <= retries;
            CHECK(s.w.times("b", 1) ==
                  static_cast<uint32_t>(is_enough ? failing + 1 : retries + 1));
            CHECK(s.w.times("a", 1) == 1);
            CHECK(s.w.times("c", 1) == 1);
            CHECK(s.w.times("a", 2) == (is_enough ? 1 : 0));
            CHECK((s.worker.state() == pj::run_state::halted) == !is_enough);
            CHECK(s.worker.counts().handled == (is_enough ? 3 : 1));
            CHECK(s.worker.last_failure().attempts == (failing > retries ? retries + 1 : failing));
        }
    }
}

TEST_CASE("G9 the other policies with retries make as many attempts, then do what they say") {
    for (const uint16_t retries : {uint16_t{0}, uint16_t{1}, uint16_t{3}}) {
        for (const bool with_letters : {false, true}) {
            attempts s(with_letters ? pj::error_policy::retry_then_dead_letter(retries)
                                    : pj::error_policy::retry_then_skip(retries));
            if (with_letters) s.what.dead_letters = s.sink;
            s.b.says.always(1, pj::fail(7));
            REQUIRE(s.start() == status::ok);
            s.run_for(10000000);
            CHECK(s.w.times("b", 1) == retries + 1u);
            CHECK(s.w.times("c", 2) == 1);
            CHECK(s.worker.counts().skipped == (with_letters ? 0 : 1));
            CHECK(s.worker.counts().lettered == (with_letters ? 1 : 0));
            CHECK(s.worker.counts().failed_calls == retries + 1u);
            CHECK(s.sink.keys() == (with_letters ? "b@1" : ""));
        }
    }
}

TEST_CASE("G9 a permanent failure has one attempt, whatever the policy") {
    const pj::error_policy policies[] = {pj::error_policy::skip(), pj::error_policy::retry(3),
                                         pj::error_policy::retry_then_skip(3),
                                         pj::error_policy::dead_letter(),
                                         pj::error_policy::retry_then_dead_letter(3)};
    for (const pj::error_policy& policy : policies) {
        attempts s(policy);
        s.what.dead_letters = s.sink;
        s.b.says.always(1, pj::reject(5));
        REQUIRE(s.start() == status::ok);
        s.run_for(1000000);
        CHECK(s.w.times("b", 1) == 1);
        CHECK(s.worker.last_failure().kind == pj::failure_kind::permanent);
        CHECK(s.worker.last_failure().code == 5);
    }
}

TEST_CASE("G9 pending answers between the attempts are not attempts") {
    attempts s(pj::error_policy::retry(2));
    s.b.says.at(1, pj::pending).at(1, pj::fail()).at(1, pj::pending, 3).at(1, pj::fail())
        .at(1, pj::pending).at(1, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.run_for(1000000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.w.times("b", 1) == 8);
    CHECK(s.worker.last_failure().attempts == 3);
}

TEST_CASE("G9 attempts grow apart by the backoff and its cap") {
    attempts s(pj::error_policy::retry(6));
    s.what.delays = {100, 1000, 2, 0, 1};
    s.b.says.always(1, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.run_for(100000);
    std::vector<uint32_t> when;
    for (const call& c : s.w.calls) {
        if (c.who == "b" && c.at == 1) when.push_back(c.now_ms);
    }
    REQUIRE(when.size() == 7);
    const uint32_t apart[] = {100, 200, 400, 800, 1000, 1000};
    for (size_t i = 0; i < 6; ++i) CHECK(when[i + 1] - when[i] == apart[i]);
}

TEST_CASE("G9 jitter only shortens a wait, and by its share at most") {
    for (uint32_t seed = 1; seed < 50; ++seed) {
        attempts s(pj::error_policy::retry(3));
        s.what.delays = {1000, 30000, 2, 20, seed};
        s.b.says.always(1, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.last.wait_ms >= 800);
        CHECK(s.last.wait_ms <= 1000);
    }
}

TEST_CASE("G10 only the handlers that have not succeeded are called again, for all patterns") {
    for (int a = 0; a <= 3; ++a) {
        for (int b = 0; b <= 3; ++b) {
            for (int c = 0; c <= 3; ++c) {
                attempts s(pj::error_policy::retry(3));
                s.a.says.at(1, pj::fail(), a);
                s.b.says.at(1, pj::fail(), b);
                s.c.says.at(1, pj::pending).at(1, pj::fail(), c);
                REQUIRE(s.start() == status::ok);
                s.run_for(1000000);
                CHECK(s.w.times("a", 1) == static_cast<uint32_t>(a + 1));
                CHECK(s.w.times("b", 1) == static_cast<uint32_t>(b + 1));
                CHECK(s.w.times("c", 1) == static_cast<uint32_t>(c + 2));
                CHECK(s.worker.counts().handled == 3);
                CHECK(s.stop() == status::ok);
                CHECK(s.stored().at == 2);
            }
        }
    }
}

TEST_CASE("G10 a failing handler never keeps its siblings from running, whatever follows") {
    const pj::error_policy policies[] = {pj::error_policy::skip(), pj::error_policy::halt(),
                                         pj::error_policy::retry(2),
                                         pj::error_policy::dead_letter()};
    for (const pj::error_policy& policy : policies) {
        for (const pj::verdict v : {pj::fail(), pj::reject(), pj::pending}) {
            attempts s(policy);
            s.what.dead_letters = s.sink;
            s.a.says.at(1, v);
            REQUIRE(s.start() == status::ok);
            s.tick();
            CHECK(s.w.times("b", 1) == 1);
            CHECK(s.w.times("c", 1) == 1);
        }
    }
}

TEST_CASE("G10 masks of up to 32 handlers: random patterns of failing and pending") {
    for (uint32_t seed = 1; seed <= 60; ++seed) {
        xorshift random(seed * 7919);
        crowd<32> s;
        s.log.append(3, "Alpha");
        s.what.on_error = pj::error_policy::retry(3);
        std::vector<uint32_t> expected(32, 1);
        for (uint32_t i = 0; i < 32; ++i) {
            for (uint32_t n = random.below(4); n > 0; --n) {
                const bool waits = random.one_in(2);
                s.hands[i]->says.at(1, waits ? pj::pending : pj::fail());
                ++expected[i];
            }
        }
        REQUIRE(s.start() == status::ok);
        s.run_for(1000000);
        for (uint32_t i = 0; i < 32; ++i) CHECK(s.w.times(s.hands[i]->name, 1) == expected[i]);
        CHECK(s.worker.counts().handled == 3);
    }
}

TEST_CASE("G10 the last of 32 handlers alone") {
    for (const uint32_t which : {0u, 1u, 30u, 31u}) {
        crowd<32> s;
        s.log.append(2, "Alpha");
        s.what.on_error = pj::error_policy::retry(1);
        s.hands[which]->says.at(0, pj::fail()).at(1, pj::fail(), 2);
        REQUIRE(s.start() == status::ok);
        s.run_for(100000);
        CHECK(s.w.times(s.hands[which]->name, 0) == 2);
        CHECK(s.w.calls.size() == 32 + 1 + 32 + 1);
        CHECK(s.worker.state() == pj::run_state::halted);
        CHECK(s.stored().at == 0);
    }
}

TEST_CASE("G11 every failure ends in exactly one outcome, and the worst names the event") {
    attempts s(pj::error_policy::skip());
    s.what.dead_letters = s.sink;
    s.what.on_error = pj::error_policy::custom([](const pj::failure& f) {
        switch (f.code) {
        case 1: return f.attempts < 3 ? pj::decision::retry_after(5) : pj::decision::skip();
        case 2: return pj::decision::dead_letter();
        case 3: return pj::decision::skip();
        default: return pj::decision::halt();
        }
    });
    s.a.says.at(0, pj::fail(2)).at(1, pj::fail(2)).at(2, pj::fail(1));
    s.b.says.at(0, pj::fail(3)).at(1, pj::fail(2)).at(2, pj::fail(4));
    REQUIRE(s.start() == status::ok);
    s.run_for(10000);
    CHECK(s.worker.counts().skipped == 1);          // event 0: one skip, one letter
    CHECK(s.worker.counts().lettered == 1);         // event 1
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.worker.scanned() == 1);
    CHECK(s.sink.keys() == "a@0 a@1 b@1");
    CHECK(s.worker.counts().failed_calls == 6);
    CHECK(s.watch.count(pj::notice_kind::handler_failed) == 6);
}

TEST_CASE("G11 a failed event that vanishes is counted as vanished and nothing else") {
    attempts s(pj::error_policy::retry(3));
    s.b.says.at(1, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.log.remove(1);
    s.run_for(60000);
    CHECK(s.worker.counts().vanished == 1);
    CHECK(s.worker.counts().handled == 2);
    CHECK(s.watch.count(pj::notice_kind::event_vanished) == 1);
    CHECK(s.w.times("b", 1) == 1);
    CHECK(s.stored().at == 2);
}

TEST_CASE("G11 the last event of the log may vanish, too") {
    attempts s(pj::error_policy::retry(3));
    s.b.says.at(2, pj::fail());
    s.log.newest = 2;
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.log.remove(2);
    s.run_for(60000);
    CHECK(s.worker.counts().vanished == 1);
    CHECK(s.stored().at == 2);
    CHECK(s.worker.state() == pj::run_state::idle);
}

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("G11 an exception is a failure that may pass") {
    attempts s(pj::error_policy::retry(2));
    s.b.says.throws[1] = 2;
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    CHECK(s.w.times("b", 1) == 3);
    CHECK(s.worker.counts().handled == 3);
    CHECK(s.worker.last_failure().code == pj::code_thrown);
    CHECK(s.worker.last_failure().kind == pj::failure_kind::transient);
}
#endif

TEST_CASE("G9 G10 a round that a log which is behind has cut short goes on as it was") {
    const auto lose_and_restore = [](setup& s) {
        const std::vector<row> whole = s.log.rows;
        s.log.rows.resize(1);
        s.run_for(5000);
        REQUIRE(s.worker.reason() == status::checkpoint_ahead);
        s.log.rows = whole;
        REQUIRE(s.worker.retry_failed() == status::ok);
        s.run_for(60000);
    };
    SUBCASE("a handler is pending: it is resumed in the attempt that it is in") {
        attempts s(pj::error_policy::retry(1));
        s.a.says.at(2, pj::pending).always(2, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.tick();
        lose_and_restore(s);
        CHECK(s.worker.reason() == status::handler_failed);
        CHECK(s.worker.counts().failed_calls == 2);
        CHECK(s.worker.last_failure().attempts == 2);
        for (const call& c : s.w.calls) CHECK(c.attempt > 0);
        CHECK(s.w.times("b", 2) == 1);
    }
    SUBCASE("a letter is owed: it says how many attempts were made") {
        attempts s(pj::error_policy::retry_then_dead_letter(1));
        s.what.dead_letters = s.sink;
        s.sink.puts.then(status::failed);
        s.a.says.always(2, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.tick_after(s.last.wait_ms);
        REQUIRE(s.sink.put_count == 1);
        lose_and_restore(s);
        REQUIRE(s.sink.letters.size() == 1);
        CHECK(s.sink.letters[0].attempts == 2);
        CHECK(s.w.times("a", 2) == 2);
        CHECK(s.stored().at == 2);
    }
}
