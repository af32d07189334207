// What all processes of one world share: time, the log, the checkpoint store, the lease service,
// the letters; and the record of who did what, which is all that the checks believe.
#ifndef PROJECTIONS_TESTS_SIMULATION_WORLD_HPP
#define PROJECTIONS_TESTS_SIMULATION_WORLD_HPP

#include "config.hpp"

#include <cstdarg>
#include <cstdio>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>

namespace simulation {

using pj::position;
using pj::status;

inline constexpr uint32_t handler_count = 4;
inline constexpr uint32_t mailer = 2;           // live_only
inline constexpr uint32_t audit = 3;            // every_event
inline constexpr uint32_t type_count = 4;
inline constexpr uint32_t unknown_type = 3;
inline constexpr const char* type_names[type_count] = {"Alpha", "Beta", "Gamma", "Nobody"};
inline constexpr const char* handler_names[handler_count] = {"first", "second", "mailer", "audit"};
inline constexpr bool handles[handler_count][type_count] = {
    {true, true, false, false},
    {true, false, true, false},
    {true, false, true, false},
    {true, true, true, true}};

/// One event of the log.
struct row {
    position at = 0;
    uint64_t visible_ms = 0;
    int32_t previous = -1;              // of the same aggregate
    uint16_t aggregate = 0;
    uint8_t type = 0;
    uint8_t refused_by = 0;             // handlers that will never take it
    bool is_bad = false;                // cannot be decoded
    bool is_dead = false;               // never becomes visible
    bool is_deadly = false;             // crashes its first handler
    bool is_uncommittable = false;
};

/// What became of every event for every handler.
struct model {
    static constexpr uint8_t handled = 1, lettered = 2, skipped = 4, excused = 8;
    std::vector<uint8_t> of[handler_count];
    void grow(size_t rows) { for (std::vector<uint8_t>& one : of) one.resize(rows, 0); }
};

/// The transaction that one engine has open.
struct connection {
    struct effect {
        uint32_t handler;
        int32_t row;
        bool is_whole;                  // false: what a failing handler leaves behind
    };
    bool is_open = false;
    bool is_lost = false;               // nobody knows that it is open: the next begin() ends it
    std::vector<effect> effects;
    std::vector<std::pair<uint32_t, int32_t>> letters;
    bool has_record = false;
    uint32_t key = 0;
    pj::checkpoint next{};
    void clear() {
        is_open = is_lost = has_record = false;
        effects.clear();
        letters.clear();
    }
};

enum class answer : uint8_t { none, handled, failed, pending };

/// What is remembered of one engine, to judge what it does next.
struct witness {
    uint32_t host = 0, projection = 0, part = 0;
    uint32_t life = 0;                  // another number for each engine object
    bool is_replay = false;
    bool is_in_memory = false;
    model own{};                        // of an engine whose model lives in memory
    connection unit{};
    uint32_t units = 0;                 // begun so far
    position loaded_at = pj::before_first;
    position last_load = pj::before_first;
    bool is_rested = false;             // paused, and not resumed since
    bool was_conflicted = false;
    position last_at[handler_count] = {-1, -1, -1, -1};
    answer last_answer[handler_count] = {};
    position fails_at[handler_count] = {-1, -1, -1, -1};
    uint32_t fails[handler_count] = {};
    uint64_t failed_ms[handler_count] = {};     // the begin of that tick, by its own clock
    std::set<std::tuple<uint32_t, position>> letters;   // taken by the sink in this life
    position uncommitted_at = pj::before_first;     // its unit, alone, was not committed
    std::vector<std::pair<uint32_t, int32_t>> skips;    // by hand: handler and row
    std::map<std::pair<position, uint32_t>, uint32_t> calls;    // since the last commit
    uint64_t tick_ms = 0;               // when the tick began, by its own clock
    bool was_touched = false;           // an operator has sent it on: attempts start over
    uint64_t epoch = 0;
    /// What it did before is no measure for what it may do now.
    void forget() {
        for (uint32_t h = 0; h < handler_count; ++h) {
            last_at[h] = -1;
            last_answer[h] = answer::none;
        }
        ++epoch;
    }
    void forget_all() {
        forget();
        for (position& at : fails_at) at = -1;
        uncommitted_at = pj::before_first;
        calls.clear();
        letters.clear();
    }
};

/// A record in the checkpoint store.
struct kept {
    pj::checkpoint record{};
    uint8_t slots[2][pj::checkpoint_bytes] = {};
    uint32_t writer = 0;                // the life of the engine
    uint32_t reader = 0;                // of that which has loaded it last
    std::vector<std::pair<uint32_t, int32_t>> forgotten;    // handler, row: skipped, never saved
    position highest = pj::before_first;        // that was ever durable
    position may_go_to = pj::before_first - 1;  // after a reset
    uint64_t model_token = 0;           // the newest with which a handler wrote
};

struct lease_state {
    uint64_t token = 0, next = 1, expires_ms = 0;
    uint32_t holder = 0;                // the life of the engine
    std::map<uint32_t, uint64_t> granted;       // to each life, its last token
};

struct statistics {
    uint64_t worlds = 0, events = 0, handler_calls = 0, calls = 0, ticks = 0, milliseconds = 0;
    uint64_t crashes = 0, leases = 0, takeovers = 0, rebuilds = 0, repartitions = 0, resets = 0;
    uint64_t rollbacks = 0, commits = 0, saves = 0, conflicts = 0, letters = 0, skips = 0;
    uint64_t trims = 0;
    uint64_t failed = 0, lost = 0, late = 0, pending = 0, pauses = 0, torn = 0, gaps = 0;
    uint64_t redelivered = 0, lost_acks = 0, halts = 0, stops = 0;
};

/// Keys of the checkpoint store, as numbers.
inline constexpr uint32_t keys_per_projection = 20;
inline constexpr uint32_t key_of_worker = 16;
inline constexpr uint32_t key_of_count = 17;

struct world {
    const config& with;
    chance random;
    statistics& sum;
    uint64_t now = 1;                   // true time in milliseconds
    bool has_faults = true;
    bool is_tracing = false;
    bool has_failed = false;
    bool may_lose_leases = true;
    std::string why;

    std::vector<row> rows;
    std::vector<int32_t> floor;         // by position: the last row at or below it
    position trimmed = pj::before_first;
    std::vector<uint32_t> last_of_aggregate;
    std::vector<std::string> aggregates;
    std::vector<model> models;          // by projection
    std::vector<uint32_t> partitions;   // how many there are now
    std::map<uint32_t, std::vector<uint32_t>> parts_of;     // by count: of each aggregate
    std::vector<uint8_t> is_moving;     // repartition() is under way
    std::vector<kept> store;
    std::vector<lease_state> leases;    // by key
    std::set<std::tuple<uint32_t, uint32_t, uint32_t, position, uint32_t>> letters;
    uint32_t lives = 0;

    /// Lets the others work until then; set by whoever knows them.
    std::function<void(uint64_t until)> let_others_work;
    struct later { uint64_t due_ms; uint64_t number; std::function<void()> what; };
    std::vector<later> deferred;
    uint64_t deferred_count = 0;

    world(const config& c, statistics& s) : with(c), random(c.seed ^ 0xA0761D6478BD642Fu), sum(s) {
        const size_t n = c.projections.size();
        models.resize(n);
        is_moving.resize(n, 0);
        store.resize(n * keys_per_projection);
        leases.resize(n * keys_per_projection);
        for (const projection_config& p : c.projections) partitions.push_back(p.partitions);
        for (uint32_t i = 0; i < c.aggregates; ++i)
            aggregates.push_back("order-" + std::to_string(i * 7919u));
        last_of_aggregate.resize(c.aggregates, ~0u);
    }

    // ---- saying

    __attribute__((format(printf, 2, 3))) void fail(const char* format, ...) {
        if (has_failed) return;
        char line[400];
        va_list arguments;
        va_start(arguments, format);
        static_cast<void>(std::vsnprintf(line, sizeof line, format, arguments));
        va_end(arguments);
        why = line;
        has_failed = true;
        if (is_tracing) std::printf("%9llu VIOLATION %s\n", clock(), line);
    }
    __attribute__((format(printf, 3, 4))) void say(const witness* who, const char* format, ...) {
        if (!is_tracing) return;
        char line[400];
        va_list arguments;
        va_start(arguments, format);
        static_cast<void>(std::vsnprintf(line, sizeof line, format, arguments));
        va_end(arguments);
        if (who == nullptr) std::printf("%9llu %s\n", clock(), line);
        else std::printf("%9llu host %u p%u/%u life %u%s: %s\n", clock(), who->host,
                         who->projection, who->part, who->life, who->is_replay ? " replay" : "",
                         line);
    }
    unsigned long long clock() const { return static_cast<unsigned long long>(now); }

    // ---- time

    void defer(uint32_t ms, std::function<void()> what) {
        deferred.push_back({now + ms, deferred_count++, std::move(what)});
    }
    /// The earliest of what arrives by itself; ~0: nothing.
    uint64_t next_arrival() const {
        uint64_t ms = ~uint64_t{0};
        for (const later& one : deferred) ms = one.due_ms < ms ? one.due_ms : ms;
        return ms;
    }
    void arrive() {
        for (;;) {
            size_t first = deferred.size();
            for (size_t i = 0; i < deferred.size(); ++i) {
                if (deferred[i].due_ms > now) continue;
                if (first == deferred.size() || deferred[i].due_ms < deferred[first].due_ms ||
                    (deferred[i].due_ms == deferred[first].due_ms &&
                     deferred[i].number < deferred[first].number)) {
                    first = i;
                }
            }
            if (first == deferred.size()) return;
            const std::function<void()> what = std::move(deferred[first].what);
            deferred.erase(deferred.begin() + static_cast<std::ptrdiff_t>(first));
            what();
        }
    }

    // ---- the log

    position newest() const { return rows.empty() ? pj::before_first : rows.back().at; }
    int32_t floor_of(position at) const {
        if (at < 0 || floor.empty()) return -1;
        const size_t i = static_cast<size_t>(at);
        return i < floor.size() ? floor[i] : floor.back();
    }
    /// The row at exactly this position, or -1.
    int32_t row_at(position at) const {
        const int32_t i = floor_of(at);
        return i >= 0 && rows[static_cast<size_t>(i)].at == at ? i : -1;
    }
    const row& get(int32_t i) const { return rows[static_cast<size_t>(i)]; }
    bool is_visible(const row& r) const { return !r.is_dead && r.visible_ms <= now; }

    void append() {
        row r;
        r.at = newest() + (with.is_dense ? 1 : 1 + random.below(4));
        r.visible_ms = now;
        if (with.late_ms_max != 0 && random.one_in(4))
            r.visible_ms += random.between(1, with.late_ms_max);
        r.aggregate = static_cast<uint16_t>(random.below(with.aggregates));
        const uint32_t dice = random.below(10);
        r.type = static_cast<uint8_t>(dice < 4 ? 0 : dice < 6 ? 1 : dice < 9 ? 2 : unknown_type);
        r.is_dead = with.late_ms_max != 0 && random.happens(with.dead_rows);
        r.is_bad = random.happens(with.bad_rows);
        if (random.happens(with.refused_rows))
            r.refused_by = static_cast<uint8_t>(random.between(1, 15));
        r.is_deadly = random.happens(with.deadly_rows);
        r.is_uncommittable = random.happens(with.uncommittable_rows);
        if (!r.is_dead) {
            uint32_t& last = last_of_aggregate[r.aggregate];
            r.previous = last == ~0u ? -1 : static_cast<int32_t>(last);
            last = static_cast<uint32_t>(rows.size());
        }
        rows.push_back(r);
        floor.resize(static_cast<size_t>(r.at), floor.empty() ? -1 : floor.back());
        floor.push_back(static_cast<int32_t>(rows.size()) - 1);
        for (model& m : models) m.grow(rows.size());
    }

    /// Up to where every projection has come, or less.
    void trim() {
        position lowest = newest();
        for (size_t p = 0; p < with.projections.size(); ++p) {
            if (with.projections[p].kind == engine_kind::queue) continue;
            if (is_moving[p] != 0) return;
            const bool is_split = with.projections[p].kind == engine_kind::partitioned;
            const uint32_t parts = is_split ? partitions[p] : 1;
            for (uint32_t i = 0; i < parts; ++i) {
                const pj::checkpoint& r = at_key(p, is_split ? i : key_of_worker).record;
                if (r.replay_stage != 0) return;
                lowest = r.at < lowest ? r.at : lowest;
            }
        }
        const int32_t i = floor_of(lowest);
        if (i < 0 || get(i).at <= trimmed) return;
        const int32_t least = floor_of(trimmed) + 1;
        trimmed = get(least + static_cast<int32_t>(
                              random.below(static_cast<uint32_t>(i - least) + 1))).at;
        ++sum.trims;
        say(nullptr, "trimmed through %lld", static_cast<long long>(trimmed));
    }

    kept& at_key(size_t projection, uint32_t slot) {
        return store[projection * keys_per_projection + slot];
    }
    bool is_filtered(uint32_t projection, const row& r) const {
        return with.projections[projection].has_filter && r.aggregate % 3 == 1;
    }
    uint32_t partition_of(uint32_t projection, const row& r) {
        const uint32_t count = partitions[projection];
        std::vector<uint32_t>& known = parts_of[count];
        if (known.empty()) {
            for (const std::string& id : aggregates) known.push_back(pj::partition_of(id, count));
        }
        return known[r.aggregate];
    }
};

} // namespace simulation

#endif
