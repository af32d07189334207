// Everything that makes one world different from another, drawn from its seed alone.
#ifndef PROJECTIONS_TESTS_SIMULATION_CONFIG_HPP
#define PROJECTIONS_TESTS_SIMULATION_CONFIG_HPP

#include "chance.hpp"

#include "projections.hpp"

#include <vector>

namespace simulation {

namespace pj = projections;

enum class engine_kind : uint8_t { worker, partitioned, sink, queue, in_memory };
enum class policy_kind : uint8_t { skip, halt, letter, retry_skip, retry_letter, custom };

/// How often a call does not do what it should, in ten thousand.
struct fault_rates {
    uint32_t failed = 0;        // the request is lost
    uint32_t lost = 0;          // done, but the answer is lost
    uint32_t late = 0;          // given up by the caller, and arrives later all the same
    uint32_t pending = 0;       // answered pending, done later
    uint32_t crash = 0;         // the process dies, before or after it is done
    uint32_t pause = 0;         // the process stands still for long
    uint32_t slow = 0;          // takes some milliseconds, while others work
    uint32_t torn = 0;          // flash: the power fails within a write
    uint32_t fails = 0;         // a handler: fail()
    uint32_t rejects = 0;       // reject()
    uint32_t pends = 0;         // pending
    uint32_t throws = 0;        // an exception, or fail() where there are none
    uint32_t uncommitted = 0;   // a commit that fails
};

struct projection_config {
    engine_kind kind = engine_kind::worker;
    uint32_t partitions = 1;
    uint32_t home = 0;                  // the host, where no lease chooses one
    bool has_lease = false;
    bool has_units = false;
    bool letters_inside = false;        // the sink is part of the unit of work
    bool has_letters = true;            // false, with an event_sink: the broker keeps them
    bool has_guard = false;
    bool has_filter = false;
    bool has_audit = false;             // a handler of every event
    bool uses_map = false;              // handler_map in place of registry
    bool has_bounds = true;
    bool store_filters = false;         // the store shows a partition its own events only
    bool says_redelivered = true;       // the broker does; else the log's identity tells
    bool fails_unknown = false;
    bool may_rebuild = false;
    bool may_reset = false;
    bool in_flash = false;              // two slots, encoded
    policy_kind policy = policy_kind::skip;
    uint16_t retries = 0;
    uint32_t slice = 0;
    uint32_t replay_batch = 0;
    uint32_t crashes_max = 0;
    uint32_t tick_ms_max = 0;
    pj::projection numbers{};           // batch, save, delays and the like
};

struct config {
    uint64_t seed = 0;
    uint32_t hosts = 1;
    uint32_t events = 0;                // appended during the safety phase
    uint32_t aggregates = 0;
    uint32_t safety_ms = 0;             // of simulated time
    bool is_dense = false;              // each position one more; rows may become visible late
    uint32_t late_ms_max = 0;
    bool tells_dead = false;            // gap_guard::is_dead knows; else the timeout
    uint32_t gap_ms = 0;
    bool trims = false;
    uint32_t lease_ms = 0;
    uint32_t margin_ms = 0;
    uint32_t drift_ppm_max = 0;
    uint32_t operator_ms = 0;           // between two deeds of the operator, on average
    uint32_t crash_ms = 0;              // between two power cuts, on average; 0: none
    uint32_t dead_rows = 0, bad_rows = 0, refused_rows = 0, deadly_rows = 0, uncommittable_rows = 0;
    fault_rates faults{};
    std::vector<projection_config> projections;
};

inline void draw_faults(chance& random, config& c) {
    // Some worlds are calm but for one kind of fault, some have all of them at once.
    const uint32_t most = random.one_in(4) ? 1500 : random.one_in(3) ? 30 : 300;
    uint32_t* const rates[] = {
        &c.faults.failed, &c.faults.lost,    &c.faults.late,  &c.faults.pending,
        &c.faults.slow,   &c.faults.torn,    &c.faults.fails, &c.faults.rejects,
        &c.faults.pends,  &c.faults.throws,  &c.faults.uncommitted};
    for (uint32_t* rate : rates) *rate = random.one_in(3) ? 0 : random.skewed(1, most);
    c.faults.crash = random.one_in(3) ? 0 : random.skewed(1, 20);
    c.faults.pause = random.one_in(3) ? 0 : random.skewed(1, 20);
    uint32_t* const rows[] = {&c.dead_rows, &c.bad_rows, &c.refused_rows, &c.uncommittable_rows};
    for (uint32_t* rate : rows) *rate = random.one_in(2) ? 0 : random.skewed(1, 500);
    c.deadly_rows = random.one_in(2) ? 0 : random.skewed(1, 60);
}

inline void draw_numbers(chance& random, projection_config& p) {
    pj::projection& n = p.numbers;
    n.batch = random.one_in(4) ? 1 : random.skewed(1, 120);
    n.save.every_events = random.one_in(5) ? 1 : random.skewed(1, 150);
    n.save.every_ms = random.skewed(1, 3000);
    n.save.when_idle = !random.one_in(3);
    n.unsaved_max = random.one_in(3) ? random.between(1, 200) : 0;
    n.delays.first_ms = random.between(1, 200);
    n.delays.cap_ms = random.between(n.delays.first_ms, 3000);
    n.delays.multiplier = static_cast<uint8_t>(random.between(1, 3));
    n.delays.jitter_percent = static_cast<uint8_t>(random.one_in(3) ? 0 : random.between(1, 50));
    n.poll_ms = random.between(20, 1000);
    n.pending_ms = random.between(1, 60);
    n.stop_ms = random.between(100, 5000);
    n.unit_ms_max = random.between(5, 1500);
    p.tick_ms_max = random.one_in(4) ? random.between(1, 30) : 0;
    p.slice = random.one_in(2) ? 0 : random.between(1, 9);
    p.replay_batch = random.skewed(1, 300);
    p.retries = static_cast<uint16_t>(random.below(4));
    p.policy = static_cast<policy_kind>(random.below(6));
    p.crashes_max = random.between(1, 3);
}

inline projection_config draw_projection(chance& random, const config& c) {
    projection_config p;
    draw_numbers(random, p);
    const uint32_t kind = random.below(10);
    p.kind = kind < 4 ? engine_kind::worker : kind < 7 ? engine_kind::partitioned
           : kind < 8 ? engine_kind::sink : kind < 9 ? engine_kind::queue : engine_kind::in_memory;
    const bool is_fed = p.kind == engine_kind::sink || p.kind == engine_kind::queue;
    const uint32_t counts[] = {1, 2, 3, 4, 6, 8};
    if (p.kind == engine_kind::partitioned) p.partitions = counts[random.below(6)];
    p.home = random.below(c.hosts);
    p.has_lease = (p.kind == engine_kind::worker || p.kind == engine_kind::partitioned) &&
                  (c.hosts > 1 ? !random.one_in(4) : random.one_in(2));
    p.has_units = p.kind != engine_kind::in_memory && random.one_in(2);
    p.letters_inside = random.one_in(2);
    p.has_letters = !is_fed || random.one_in(2);
    // A message that the broker is to keep as a letter is committed without its checkpoint. After a
    // crash right then it comes again, to all handlers: not what G17 says of a unit that has one.
    if (p.kind == engine_kind::sink && p.has_units) p.has_letters = true;
    p.has_guard = random.one_in(3);
    p.has_filter = random.one_in(4);
    p.has_audit = random.one_in(2);
    p.uses_map = !p.has_audit && random.one_in(3);
    p.says_redelivered = random.one_in(2);
    p.has_bounds = c.trims || !p.says_redelivered || !random.one_in(4);
    if (p.kind == engine_kind::queue) p.has_bounds = false;
    p.store_filters = p.kind == engine_kind::partitioned && c.late_ms_max == 0 && random.one_in(3);
    p.fails_unknown = random.one_in(4);
    p.may_rebuild = !is_fed && p.kind != engine_kind::in_memory && random.one_in(2);
    p.may_reset = !p.has_units && !is_fed && p.kind != engine_kind::in_memory && random.one_in(4);
    p.in_flash = c.hosts == 1 && !p.has_units && random.one_in(2);
    if (p.kind == engine_kind::queue) p.policy = p.policy == policy_kind::halt
                                                     ? policy_kind::retry_skip : p.policy;
    return p;
}

inline config draw_config(uint64_t seed) {
    chance random(seed * 0x2545F4914F6CDD1Du + 1);
    config c;
    c.seed = seed;
    c.hosts = random.one_in(3) ? 1 : random.between(2, 4);
    c.events = random.between(200, 2500);
    c.aggregates = random.between(1, 60);
    c.safety_ms = random.between(20, 120) * 1000;
    c.is_dense = random.one_in(2);
    c.late_ms_max = c.is_dense && !random.one_in(4) ? random.between(1, 3000) : 0;
    c.tells_dead = random.one_in(2);
    c.gap_ms = c.late_ms_max + c.late_ms_max / 50 + random.between(10, 2000);
    c.trims = random.one_in(3);
    c.lease_ms = random.between(600, 8000);
    c.margin_ms = random.between(20, c.lease_ms / 2 - 1);
    // Two clocks may drift apart by this, within one ttl, and still stay within a quarter of the
    // margin.
    const uint32_t drift_max = c.margin_ms * 125000u / c.lease_ms;
    c.drift_ppm_max = random.one_in(3) ? 0 : random.between(0, drift_max < 5000 ? drift_max : 5000);
    c.operator_ms = random.between(300, 6000);
    c.crash_ms = random.one_in(3) ? 0 : random.between(2000, 30000);
    draw_faults(random, c);
    if (c.is_dense && !c.tells_dead) {
        // A gap_guard's time counts from the begin of the tick that finds the hole: with it alone,
        // no process may stand still for long in the middle of a tick.
        c.faults.pause = 0;
        c.gap_ms += 3000;
    }
    const uint32_t projections = random.between(1, 4);
    for (uint32_t i = 0; i < projections; ++i) c.projections.push_back(draw_projection(random, c));
    return c;
}

} // namespace simulation

#endif
