// G30: the clock may start anywhere and wrap; sleeps may be long.
#include "support/setup.hpp"

using namespace support;
using pj::status;

namespace {

/// A run with failures, waits and a late event, told as a trace of everything but absolute times.
std::vector<std::string> story(uint32_t origin) {
    setup s;
    s.now_ms = origin;
    s.log.append(30, "Alpha");
    s.letters(pj::error_policy::retry_then_dead_letter(3));
    s.what.batch = 8;
    s.what.save = {10, 300, true};
    s.a.says.at(4, pj::fail(), 2);
    s.b.says.at(9, pj::pending, 5).at(9, pj::fail(), 6);
    s.c.says.at(12, pj::reject());
    s.sink.puts.then(status::failed, 2).then(status::pending, 2);
    s.store.loads.then(status::failed, 2);
    s.store.saves.then(status::ok).then(status::failed, 4).then(status::pending);
    s.log.reads.then(status::ok).then(status::failed).then(status::more).then(status::pending);
    CHECK(s.start() == status::ok);
    uint32_t spent = 0;
    for (int i = 0; i < 400; ++i) {
        s.tick();
        s.w.note("wait " + std::to_string(s.last.wait_ms));
        const uint32_t sleep = s.last.wait_ms == pj::never ? 5000 : s.last.wait_ms;
        s.now_ms += sleep;
        spent += sleep;
        if (i == 100) s.log.append(3, "Alpha");
    }
    CHECK(s.stop() == status::ok);
    CHECK(s.stored().at == 32);
    CHECK(spent > 1000);
    return s.w.trace;
}

} // namespace

TEST_CASE("G30 the same scenario from any origin of the clock gives the same trace") {
    const std::vector<std::string> from_zero = story(0);
    CHECK(from_zero.size() > 200);
    for (const uint32_t origin : {1u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu, 0xFFFFFF00u,
                                  0xFFFFF000u, 0xFFFFFFFFu - 5000u}) {
        CAPTURE(origin);
        CHECK(story(origin) == from_zero);
    }
}

TEST_CASE("G30 after any sleep shorter than 2^32 what was due is due") {
    for (const uint32_t sleep : {1000u, 0x7FFFFFFFu, 0x80000000u, 0x80000000u + 500u, 0xFFFFFFFEu,
                                 0xFFFFFFFFu}) {
        for (const uint32_t origin : {0u, 0xFFFFFFFFu, 0x80000000u}) {
            CAPTURE(sleep);
            setup s;
            s.now_ms = origin;
            s.log.append(2, "Beta");
            s.what.on_error = pj::error_policy::retry(3);
            s.what.save = {1000, 1000, false};
            s.a.says.at(1, pj::fail());
            REQUIRE(s.start() == status::ok);
            s.tick();
            CHECK(s.last.wait_ms == 100);
            s.tick_after(sleep);
            CHECK(s.w.times("a", 1) == 2);          // the retry
            CHECK(s.stored().at >= 0);              // the flush
            s.log.append(1, "Beta");
            s.tick_after(sleep);
            CHECK(s.w.times("a", 2) == 1);          // the poll
        }
    }
}

TEST_CASE("G30 a sleep that is a little too short is never enough, wherever the clock wraps") {
    for (uint32_t before_wrap = 0; before_wrap <= 110; before_wrap += 10) {
        setup s;
        s.now_ms = 0u - before_wrap;
        s.log.append(1, "Beta");
        s.what.on_error = pj::error_policy::retry(3);
        s.a.says.at(0, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.tick_after(99);
        CHECK(s.w.calls.size() == 1);
        CHECK(s.last.wait_ms == 1);
        s.tick_after(1);
        CHECK(s.w.calls.size() == 2);
    }
}

TEST_CASE("G30 many short ticks add up to the same wait as one long sleep") {
    setup s;
    s.now_ms = 0xFFFFFFC0u;
    s.log.append(1, "Beta");
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.at(0, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.tick();
    for (int i = 0; i < 99; ++i) {
        s.tick_after(1);
        CHECK(s.w.calls.size() == 1);
    }
    s.tick_after(1);
    CHECK(s.w.calls.size() == 2);
}

TEST_CASE("G30 `never` stays never over any number of long sleeps") {
    setup s;
    s.log.append(1, "Beta");
    s.what.pending_ms = pj::never;
    s.a.says.at(0, pj::pending);
    REQUIRE(s.start() == status::ok);
    s.tick();
    for (int i = 0; i < 10; ++i) {
        s.tick_after(0xFFFFFFFEu);
        CHECK(s.last.wait_ms == pj::never);
    }
    CHECK(s.w.calls.size() == 1);
}

TEST_CASE("G30 stop_ms is counted over a wrap") {
    setup s;
    s.now_ms = 0xFFFFFFF0u;
    s.log.append(1, "Beta");
    s.what.stop_ms = 300;
    s.store.saves.always(status::failed);
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.worker.stop();
    s.tick();
    s.tick_after(299);
    CHECK(s.worker.running());
    s.tick_after(1);
    CHECK_FALSE(s.worker.running());
}

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("G30 a clock that throws from the beginning stands at 0: nothing is late, all is handled") {
    setup s;
    s.log.append(2, "Beta");
    const auto clock = []() -> uint32_t { throw 1; };
    s.what.clock = clock;
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 3; ++i) static_cast<void>(s.worker.tick());
    CHECK(s.w.called() == "a0 a1");
    for (const call& one : s.w.calls) CHECK(one.now_ms == 0);
}
#endif
