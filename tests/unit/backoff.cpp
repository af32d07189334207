// >>policy: backoff: growth, cap, jitter, seed; as the waits of an engine show it.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <initializer_list>
#include <set>
#include <vector>
namespace pj = projections;

namespace {

struct job { static constexpr pj::event_type type{"Job", pj::raw}; uint32_t n; };
struct failing {
    using handles = pj::events<job>;
    pj::verdict on(const job&) { return pj::fail(); }
};
using waits = std::vector<uint32_t>;

/// The first `count` waits of a handler that always fails.
waits waits_of(const pj::backoff& delays, uint16_t count) {
    failing handler;
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection what{"backoff", log, handler, checkpoints};
    what.on_error = pj::error_policy::retry(count);
    what.delays = delays;
    pj::worker worker{what};
    log.append(job{1});
    REQUIRE(worker.start() == pj::status::ok);
    waits result;
    for (uint32_t now = 0; result.size() < count; now += result.back()) {
        result.push_back(worker.tick(now).wait_ms);
    }
    return result;
}

} // namespace

TEST_CASE("backoff: doubles from 100 ms to the cap") {
    CHECK(waits_of({100, 30000, 2, 0, 1}, 11) ==
          waits{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000});
    CHECK(waits_of({7, 1000, 10, 0, 1}, 5) == waits{7, 70, 700, 1000, 1000});
    CHECK(waits_of({50, 30000, 1, 0, 1}, 4) == waits{50, 50, 50, 50});
    CHECK(waits_of({5000, 300, 2, 0, 1}, 3) == waits{300, 300, 300});
}

TEST_CASE("backoff: nothing overflows at the ends of the ranges") {
    const waits steep = waits_of({1, 0xFFFFFFFFu, 255, 0, 1}, 300);
    CHECK(steep[1] == 255);
    CHECK(steep[2] == 65025);
    for (size_t i = 1; i < steep.size(); ++i) CHECK(steep[i] >= steep[i - 1]);
    CHECK(steep.back() >= 0xFFFFFFFEu - 1);
    CHECK(steep.back() != pj::never);               // a retry is always due some day
    const waits slow = waits_of({0xFFFFFFFFu, 0xFFFFFFFFu, 255, 100, 1}, 20);
    for (const uint32_t ms : slow) CHECK(ms != pj::never);
    for (const uint32_t ms : waits_of({0, 30000, 2, 20, 1}, 5)) CHECK(ms == 0);
    for (const uint32_t ms : waits_of({100, 0, 2, 20, 1}, 5)) CHECK(ms == 0);
}

TEST_CASE("backoff: jitter takes away a share of at most so many percent") {
    for (const uint8_t percent : {uint8_t{1}, uint8_t{20}, uint8_t{100}}) {
        std::set<uint32_t> seen;
        for (uint32_t seed = 1; seed <= 200; ++seed) {
            const uint32_t ms = waits_of({10000, 10000, 2, percent, seed}, 1).front();
            CHECK(ms <= 10000);
            CHECK(ms >= 10000u - 100u * percent);
            seen.insert(ms);
        }
        CHECK(seen.size() > 2);
        CHECK(*seen.rbegin() - *seen.begin() > 60u * percent);      // of most of the range
    }
    const waits huge = waits_of({0xFFFFFFF0u, 0xFFFFFFFFu, 2, 20, 3}, 1);
    CHECK(huge.front() >= 0xFFFFFFF0u / 10 * 8 - 8);
}

TEST_CASE("backoff: the same seed gives the same waits, another seed others") {
    const pj::backoff one{1000, 60000, 2, 20, 1}, two{1000, 60000, 2, 20, 2};
    CHECK(waits_of(one, 20) == waits_of(one, 20));
    CHECK(waits_of(one, 20) != waits_of(two, 20));
}

TEST_CASE("backoff: what cannot be is refused by start()") {
    const auto answer_to = [](pj::backoff delays) {
        failing handler;
        pj::memory_log<4, 64> log;
        pj::memory_checkpoint_store<1> checkpoints;
        pj::projection what{"backoff", log, handler, checkpoints};
        what.delays = delays;
        pj::worker worker{what};
        return worker.start();
    };
    CHECK(answer_to({}) == pj::status::ok);
    CHECK(answer_to({100, 100, 0, 20, 1}) == pj::status::bad_backoff);
    CHECK(answer_to({100, 100, 2, 101, 1}) == pj::status::bad_backoff);
    CHECK(answer_to({0, 0, 255, 100, 0}) == pj::status::ok);
}

TEST_CASE("backoff: jitter takes no more of a long wait than of a short one") {
    for (uint32_t seed = 1; seed < 50; ++seed) {
        const waits all = waits_of({0xF0000000u, 0xFFFFFFFFu, 1, 20, seed}, 1);
        for (const uint32_t ms : all) CHECK(ms >= 0xF0000000u / 10 * 8);
        for (const uint32_t ms : all) CHECK(ms <= 0xF0000000u);
    }
    CHECK(waits_of({0xFFFFFFFFu, 0xFFFFFFFFu, 1, 0, 1}, 2) == waits{0xFFFFFFFEu, 0xFFFFFFFEu});
}

TEST_CASE("backoff: the longest wait that is still multiplied") {
    CHECK(waits_of({0x00FFFFFEu, 0xFFFFFFFFu, 255, 0, 1}, 2)[1] == 0x00FFFFFEu * 255u);
    CHECK(waits_of({0x00FFFFFFu, 0xFFFFFFFFu, 255, 0, 1}, 2)[1] == 0x00FFFFFFu * 255u);
    CHECK(waits_of({0x00FFFFFFu, 0xFFFFFFFFu, 2, 0, 1}, 2)[1] == 0x00FFFFFFu * 2u);
}

namespace {
/// The first wait of a device with this seed, before an event after `at`.
uint32_t first_wait(uint32_t seed, pj::position at) {
    struct broken {
        pj::status read(pj::position, pj::visitor&) { return pj::status::failed; }
    } log;
    failing handler;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::checkpoint record;
    record.at = at;
    record.revision = 1;
    CHECK(checkpoints.save("backoff", record) == pj::status::ok);
    pj::projection what{"backoff", log, handler, checkpoints};
    what.delays = {25600, 25600, 1, 100, seed};
    pj::worker worker{what};
    REQUIRE(worker.start() == pj::status::ok);
    return worker.tick(0).wait_ms;
}
} // namespace

TEST_CASE("backoff: devices with different seeds come back at different times, wherever they are") {
    for (const pj::position at : {-1, 0, 1, 1000, 65535}) {
        CAPTURE(at);
        uint32_t in_eighth[8] = {};
        for (uint32_t seed = 1; seed <= 800; ++seed) {
            const uint32_t ms = first_wait(seed, at);
            CHECK(ms <= 25600);
            ++in_eighth[ms == 25600 ? 7 : ms / 3200];
        }
        for (const uint32_t n : in_eighth) {
            CHECK(n > 50);          // of 100 that are to be expected
            CHECK(n < 150);
        }
    }
}

TEST_CASE("backoff: each wait has a share of its own taken off, by attempt and by event") {
    const waits all = waits_of({25600, 25600, 1, 100, 1}, 40);
    CHECK(std::set<uint32_t>(all.begin(), all.end()).size() > 20);
    std::set<uint32_t> by_event;
    for (pj::position at = 0; at < 40; ++at) by_event.insert(first_wait(1, at));
    CHECK(by_event.size() > 20);
}

TEST_CASE("backoff: short waits and long ones have their share taken off") {
    const struct { uint32_t ms, least; } cases[] = {
        {100, 80}, {10, 8}, {0x00FFFFFFu, 0x00CCCCCCu}, {0x01000000u, 0x00CCCCCCu},
        {0xF0000000u, 0xC0000000u},
    };
    for (const auto& c : cases) {
        CAPTURE(c.ms);
        uint32_t shortest = c.ms;
        for (uint32_t seed = 1; seed <= 200; ++seed) {
            const uint32_t ms = waits_of({c.ms, c.ms, 1, 20, seed}, 1).front();
            CHECK(ms >= c.least);
            CHECK(ms <= c.ms);
            shortest = ms < shortest ? ms : shortest;
        }
        CHECK(shortest - c.least <= (c.ms - c.least) / 4 + 1);
    }
}
