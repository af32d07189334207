// Everything that makes one world different from another, drawn from its seed alone: any feature
// with any other, and numbers that include the extremes.
#ifndef PROJECTIONS_TESTS_COMBINATIONS_SETTING_HPP
#define PROJECTIONS_TESTS_COMBINATIONS_SETTING_HPP

#include "../simulation/chance.hpp"

#include "projections.hpp"

#include <string>

namespace combinations {

namespace pj = projections;
using pj::position;
using pj::status;
using simulation::chance;

/// replay: beside a worker; partitioned_replay: one over two partitions, beside their workers.
enum class world_kind : uint8_t { worker, sink, queue, replay, partitions, partitioned_replay };
enum class policy_kind : uint8_t { skip, retry, retry_skip, letter, retry_letter, custom };

/// How often a call does not do what it should, in ten thousand.
struct fault_rates {
    uint32_t pending, failed;           // nothing is done
    uint32_t lost;                      // done, but the answer is lost
    uint32_t junk;                      // nothing is done, and the answer is one it may not give
    uint32_t throws, conflict;
    uint32_t fails, rejects, pends;     // a handler
    uint32_t slow;                      // takes up to half a margin
    uint32_t unended;                   // a read that stops short for reasons of its own
    uint32_t command;                   // somebody gives a command between two ticks
    uint32_t inside;                    // or a request comes from inside a callback, or a crash
};

struct setting {
    world_kind kind;
    policy_kind policy;
    uint16_t retries;
    uint32_t first_events;

    // features
    bool has_lease, is_doubled;         // doubled: two of one name
    bool has_gaps, tells_dead;          // tells: else only the time of a gap_guard is over
    bool has_crashes, has_filter, store_filters, has_budget, has_bounds;
    bool has_letters, letters_inside;   // inside: the sink is part of the unit of work
    bool has_sequences, has_small_table;
    bool has_units, is_volatile, is_partial;
    bool observes_handled, uses_map, has_extras, fails_unknown, skips_replayed;
    bool has_slices, has_holes, has_keys, trims, vanishes;
    bool is_successor;                  // another projection has done the first events
    bool opens, has_client, counts_messages;
    pj::begin_at first_start;
    position replay_from;

    // numbers
    uint32_t batch, unsaved_max;
    pj::save_rule save;
    uint32_t stop_ms, unit_ms_max, pending_ms, poll_ms, gap_ms, ttl_ms, margin_ms;
    pj::backoff delays;
    uint64_t origin_ms;                 // of the clock, which may wrap soon
    fault_rates faults;

    bool is_fed() const { return kind == world_kind::sink || kind == world_kind::queue; }
    bool has_replay() const {
        return kind == world_kind::replay || kind == world_kind::partitioned_replay;
    }
    bool is_split() const {
        return kind == world_kind::partitions || kind == world_kind::partitioned_replay;
    }
    /// Only a number of events makes a save due.
    bool saves_by_number() const { return save.every_ms == pj::never && !save.when_idle; }
};

inline void draw_features(chance& random, setting& s) {
    const auto draw = [&](uint32_t n = 2) { return random.one_in(n); };
    s.has_lease = draw() || s.has_replay();
    s.has_gaps = draw(3) && s.kind != world_kind::queue;
    s.has_crashes = draw(3);
    s.has_filter = draw(3);
    s.store_filters = s.has_filter && draw(3) && !s.has_gaps;
    s.has_budget = draw(4);
    s.has_bounds = draw() && s.kind != world_kind::queue;
    s.has_letters = draw() || s.policy == policy_kind::letter;
    s.letters_inside = draw();
    s.observes_handled = draw();
    s.uses_map = draw();
    s.has_extras = draw(4);
    s.fails_unknown = draw(4);
    s.skips_replayed = draw(4);
    s.is_volatile = draw(4) && !s.has_lease && s.kind == world_kind::worker;
    s.has_units = draw() && !s.is_volatile;
    s.is_doubled = draw(3) && s.has_lease &&
                   (s.kind == world_kind::worker || s.kind == world_kind::sink);
    s.has_sequences = s.has_letters && draw();
    s.has_small_table = draw();
    // Two engines that share it may each hold an event for a place that the other one keeps.
    if (s.kind == world_kind::partitions) s.has_small_table = false;
    // Without letters a sink lets the broker keep what it gives up.
    if (s.is_fed() && draw()) s.has_letters = s.has_sequences = false;
    s.has_slices = draw(3);
    s.has_holes = draw(3);
    s.has_keys = draw(3);
    s.opens = draw(3);
    s.has_client = draw();
    s.counts_messages = draw(3) && s.kind == world_kind::queue;
    s.is_partial = (s.kind == world_kind::worker || s.kind == world_kind::sink) && !s.is_doubled &&
                   !s.has_lease && draw(5);
    // (A hole that is filled behind a replay's back while it is in a unit may halt it: see gap_guard.)
    s.is_successor = draw(6) && s.kind != world_kind::queue && !(s.has_gaps && s.has_units);
    s.trims = draw(3) && s.has_bounds && !s.has_replay() && !s.is_split();
    s.vanishes = draw(3) && !s.is_fed();
}

/// What halts for good is for worlds in which somebody looks after the one that did.
inline void mend_policy(setting& s) {
    const bool may_halt = s.policy == policy_kind::retry || s.policy == policy_kind::custom ||
                          (s.policy == policy_kind::retry_letter && !s.has_letters);
    if (may_halt && s.is_doubled) s.policy = policy_kind::retry_skip;
    if ((may_halt || s.policy == policy_kind::retry_letter) && s.kind == world_kind::queue)
        s.policy = policy_kind::retry_skip;
}

inline void draw_numbers(chance& random, setting& s) {
    const auto draw = [&](uint32_t n = 2) { return random.one_in(n); };
    s.first_events = random.below(20);
    s.replay_from = draw() || !s.has_bounds ? pj::before_first : position{random.below(6)};
    s.first_start = pj::begin_at::the_beginning;
    if (s.has_bounds && draw(4))
        s.first_start = draw() ? pj::begin_at::oldest_kept : pj::begin_at::the_end;
    s.batch = 1 + random.below(draw() ? 2 : 8);
    s.save.every_events = draw(3) ? 1 : 1 + random.below(9);
    s.save.every_ms = draw(4) ? 0 : draw(4) ? pj::never : random.below(2000);
    s.save.when_idle = draw();
    s.unsaved_max = draw() ? 0 : 1 + random.below(5);
    s.stop_ms = draw(4) ? 0 : random.below(3000);
    s.unit_ms_max = draw(4) ? 0 : random.below(1200);
    s.pending_ms = draw(4) ? 0 : draw(6) ? pj::never : random.below(60);
    s.poll_ms = draw(6) ? pj::never : draw(8) ? 0 : random.below(1000);
    s.gap_ms = draw(3) ? pj::never : draw(3) ? 0 : random.below(2000);
    // Where time alone settles holes, the calm is long enough for all of them, one after the other.
    s.tells_dead = draw();
    if (!s.tells_dead) s.gap_ms = random.below(200);
    s.ttl_ms = draw(4) ? 3 + random.below(40) : 300 + random.below(5000);
    s.margin_ms = random.below(s.ttl_ms / 2);
    s.delays.first_ms = draw(5) ? 0 : random.below(100);
    s.delays.cap_ms = random.below(800);
    s.delays.multiplier = static_cast<uint8_t>(1 + random.below(3));
    s.delays.jitter_percent = static_cast<uint8_t>(random.below(101));
    s.origin_ms = draw() ? 0xFFFFF000u : 1000;
}

/// Some worlds are calm but for one kind of fault, some have all of them at once.
inline void draw_faults(chance& random, setting& s) {
    const auto rate = [&](uint32_t most) {
        const uint32_t dice = random.below(4);
        return dice == 0 ? 0u : random.below(dice == 1 ? 50 : most);
    };
    fault_rates& f = s.faults;
    f.pending = rate(1500);
    f.failed = rate(1500);
    f.lost = rate(800);
    f.junk = rate(300);
    f.throws = rate(500);
#if !PROJECTIONS_EXCEPTIONS
    f.throws = 0;
#endif
    f.conflict = rate(100);
    f.fails = rate(4000);
    f.rejects = rate(1000);
    f.pends = rate(4000);
    f.slow = rate(500) / (s.has_lease ? 1 : 4);
    f.unended = rate(1500);
    f.command = rate(4000);
    f.inside = rate(200);
}

inline setting draw_setting(chance& random) {
    setting s{};
    s.kind = static_cast<world_kind>(random.below(6));
    s.policy = static_cast<policy_kind>(random.below(6));
    s.retries = static_cast<uint16_t>(random.below(4));
    draw_features(random, s);
    mend_policy(s);
    draw_numbers(random, s);
    draw_faults(random, s);
    return s;
}

// ---- for the trace

inline std::string features_of(const setting& s) {
    const struct { bool is_on; const char* name; } all[] = {
        {s.has_lease, "lease"}, {s.is_doubled, "doubled"}, {s.has_gaps, "gaps"},
        {s.tells_dead, "tells dead"},
        {s.has_crashes, "crashes"}, {s.has_filter, "filter"}, {s.store_filters, "store filters"},
        {s.has_budget, "budget"}, {s.has_bounds, "bounds"}, {s.has_letters, "letters"},
        {s.letters_inside, "letters inside"}, {s.has_sequences, "sequences"},
        {s.has_small_table, "small table"}, {s.has_units, "units"}, {s.is_volatile, "volatile"},
        {s.is_partial, "partial"}, {s.observes_handled, "observes handled"}, {s.uses_map, "map"},
        {s.has_extras, "extras"}, {s.fails_unknown, "fails unknown"},
        {s.skips_replayed, "skips replayed"}, {s.has_slices, "slices"}, {s.has_holes, "holes"},
        {s.has_keys, "keys"}, {s.trims, "trims"}, {s.vanishes, "vanishes"},
        {s.is_successor, "successor"}, {s.opens, "opens"}, {s.has_client, "client"},
        {s.counts_messages, "counts messages"}};
    std::string out;
    for (const auto& one : all)
        if (one.is_on) out += std::string(out.empty() ? "" : ", ") + one.name;
    return out;
}
inline std::string numbers_of(const setting& s) {
    const struct { const char* name; uint32_t value; } all[] = {
        {"retries", s.retries}, {"batch", s.batch}, {"save.every_events", s.save.every_events},
        {"save.every_ms", s.save.every_ms}, {"save.when_idle", s.save.when_idle},
        {"unsaved_max", s.unsaved_max}, {"stop_ms", s.stop_ms}, {"unit_ms_max", s.unit_ms_max},
        {"pending_ms", s.pending_ms}, {"poll_ms", s.poll_ms}, {"gap_ms", s.gap_ms},
        {"ttl_ms", s.ttl_ms}, {"margin_ms", s.margin_ms},
        {"first_start", static_cast<uint32_t>(s.first_start)}};
    std::string out;
    for (const auto& one : all) {
        out += std::string(out.empty() ? "" : ", ") + one.name + " ";
        out += one.value == pj::never ? "never" : std::to_string(one.value);
    }
    return out;
}
inline const char* name_of(world_kind k) {
    static const char* const names[] = {"worker", "sink", "queue", "replay", "partitions",
                                        "partitioned replay"};
    return names[static_cast<size_t>(k)];
}
inline const char* name_of(policy_kind k) {
    static const char* const names[] = {"skip", "retry", "retry, skip", "letter", "retry, letter",
                                        "custom"};
    return names[static_cast<size_t>(k)];
}

} // namespace combinations

#endif
