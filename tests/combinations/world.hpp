// What the engines of one world share, and what survives a crash: the log, the records, the leases,
// the letters; and who has had which event, which is all that the checks believe.
#ifndef PROJECTIONS_TESTS_COMBINATIONS_WORLD_HPP
#define PROJECTIONS_TESTS_COMBINATIONS_WORLD_HPP

#include "setting.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

namespace combinations {

inline long long shown(position at) { return static_cast<long long>(at); }

inline constexpr uint32_t handler_count = 7;
inline constexpr uint32_t mailer = 2;               // live_only
inline constexpr uint32_t extras = 3;               // from here on: only in some worlds
inline constexpr uint32_t everybody = handler_count;
inline constexpr const char* key_of_count = "p_partitions";
inline constexpr const char* handler_names[handler_count + 1] = {
    "first", "second", "mailer", "extra_1", "extra_2", "extra_3", "extra_4", "everybody"};
/// No name: all of them.
inline uint32_t handler_of(pj::text name) {
    uint32_t i = 0;
    while (i < handler_count && name != pj::text(handler_names[i])) ++i;
    return i;
}
inline std::string string_of(pj::text t) { return std::string(t.data(), t.size()); }

/// Pairs of a handler and an event.
class marks {
public:
    bool has(uint32_t handler, position at) const {
        const auto found = of_.find(at);
        return found != of_.end() && (found->second & mask_of(handler)) != 0;
    }
    void add(uint32_t handler, position at) { of_[at] |= mask_of(handler); }
    void remove(uint32_t handler, position at) {
        const auto found = of_.find(at);
        if (found != of_.end()) found->second &= ~mask_of(handler);
    }
    void remove(position at) { of_.erase(at); }
    void remove_after(position at) { of_.erase(of_.upper_bound(at), of_.end()); }
    void clear() { of_.clear(); }
    void keep_only(uint32_t handler) {
        for (auto& one : of_) one.second &= mask_of(handler);
    }
    /// Where `is_over(handler, position)` says so.
    template<class F> void remove_if(F&& is_over) {
        for (auto& [at, mask] : of_) {
            for (uint32_t h = 0; h < handler_count; ++h)
                if ((mask & mask_of(h)) != 0 && is_over(h, at)) mask &= ~mask_of(h);
        }
    }

private:
    static uint32_t mask_of(uint32_t handler) {
        return handler == everybody ? (1u << handler_count) - 1 : 1u << handler;
    }
    std::map<position, uint32_t> of_;
};

/// One event of the log.
struct entry {
    uint32_t value = 0;
    char type = 'A';                    // A, B, or C, which nobody knows
    bool is_damaged = false;            // cannot be decoded
    std::string aggregate;
    uint32_t part = 0;                  // of two partitions
    bool is_visible = true;
    bool is_dead = false;               // never becomes visible
    uint64_t shows_ms = 0;
};

struct letter_key {
    uint32_t partition, rebuild;
    std::string aggregate, handler;
    position at;
    bool operator<(const letter_key& o) const {
        return std::tie(partition, rebuild, aggregate, handler, at) <
               std::tie(o.partition, o.rebuild, o.aggregate, o.handler, o.at);
    }
    bool is_of(uint32_t part, uint32_t number, const std::string& whose,
               const std::string& who) const {
        return partition == part && rebuild == number && aggregate == whose && handler == who;
    }
};
struct letter {
    entry event;
    uint32_t attempts = 0;
};
using letters_by_key = std::map<letter_key, letter>;

/// What the worlds of one run have been through, so that it shows if something never happens.
struct statistics {
    uint64_t worlds = 0, failed = 0, ticks = 0, messages = 0, handler_calls = 0, port_calls = 0;
    uint64_t faults = 0, crashes = 0, commands = 0, requests_inside = 0, commits = 0, letters = 0;
    uint64_t redeliveries = 0, rebuilds = 0;
};

struct world {
    const setting with;
    statistics& sum;
    chance random;
    uint64_t now_ms;
    bool is_calm = false;               // the faults are over
    bool is_tracing = false;
    std::string why;                    // the first demand that was broken

    std::map<position, entry> log;
    position next = 0;
    position trimmed = pj::before_first;
    std::map<std::string, pj::checkpoint> records;
    struct grant {
        uint64_t token = 0;
        uint64_t until_ms = 0;
        const void* holder = nullptr;
    };
    std::map<std::string, grant> leases;
    uint64_t tokens = 0;
    letters_by_key letters;
    std::set<std::tuple<uint32_t, std::string, std::string>> evicted;   // partition, whose, who
    pj::letter_sequences<9> small_table;
    pj::letter_sequences<12> large_table;

    marks done;                         // has an outcome
    marks applied;                      // and by a unit of work that was committed
    std::set<position> named{pj::before_first};
    std::map<std::string, position> lowest;     // by key: so far back a command asked to go
    std::map<int, position> moving;             // by engine: to where, and not yet saved
    position begun_at = pj::before_first;       // a first start passed over all up to here
    std::set<position> excused;                 // by a command, a gap, the store itself
    bool is_rebuilding = false;

    world(const setting& s, chance r, statistics& all)
        : with(s), sum(all), random(r), now_ms(s.origin_ms) {}

    // ---- saying

    __attribute__((format(printf, 3, 4))) void demand(bool is_so, const char* format, ...) {
        if (is_so || !why.empty()) return;
        char line[400];
        va_list arguments;
        va_start(arguments, format);
        static_cast<void>(std::vsnprintf(line, sizeof line, format, arguments));
        va_end(arguments);
        why = line;
        say("BROKEN %s", line);
    }
    __attribute__((format(printf, 2, 3))) void say(const char* format, ...) const {
        if (!is_tracing) return;
        va_list arguments;
        va_start(arguments, format);
        static_cast<void>(std::vprintf(format, arguments));
        va_end(arguments);
        std::printf("\n");
    }

    // ---- the log

    position newest() const {
        position at = trimmed;
        for (const auto& [p, e] : log)
            if (e.is_visible) at = p;
        return at;
    }
    void append(uint32_t count) {
        for (; count != 0; --count, ++next) {
            const uint32_t value = static_cast<uint32_t>(next) * 7 + with.first_events;
            if (with.has_holes && !with.has_gaps && value % 11 == 5) continue;
            entry e;
            e.value = value;
            e.type = "AABAC"[value % 5];
            e.is_damaged = value % 13 == 4;
            e.aggregate = value % 17 == 3 ? "" : "order-" + std::to_string(value % 5);
            e.part = with.has_keys ? value % 2 : pj::partition_of(e.aggregate, 2);
            if (with.has_gaps && !is_calm && random.one_in(6)) {
                e.is_visible = false;
                e.is_dead = with.is_fed() || random.one_in(2);      // a broker keeps the order
                e.shows_ms = now_ms + random.below(1500);
                // A rebuild of what has no checkpoint takes holes for settled (see gap_guard).
                if (with.has_replay()) excused.insert(next);
            }
            log[next] = e;
            named.insert(next);
        }
    }
    /// Another projection has been there: it has seen that event, and what had not appeared by then
    /// was given up.
    void settle_holes_through(position last) {
        for (auto& [at, e] : log) {
            if (at == last) e.is_visible = true;
            if (at <= last && !e.is_visible) excused.insert(at);
        }
    }
    /// Of a message without an offset only the payload says which it is.
    position position_of(uint32_t value) const {
        return static_cast<position>((value - with.first_events) / 7);
    }
    void show_late_ones() {
        for (auto& [at, e] : log)
            e.is_visible = e.is_visible || (!e.is_dead && (e.shows_ms <= now_ms || is_calm));
    }
    bool is_filtered(const entry& e) const { return with.has_filter && e.value % 6 == 2; }
    bool wants(uint32_t handler, const std::string& key, const entry& e) const {
        if (is_filtered(e) || (handler >= extras && !with.has_extras)) return false;
        if (with.is_split() && e.part != static_cast<uint32_t>(key.back() - '0')) return false;
        return handler == 0 ? e.type != 'C' : e.type == (handler == mailer ? 'B' : 'A');
    }
    bool is_excused(position at) const { return at <= begun_at || excused.count(at) != 0; }

    // ---- outcomes

    void may_go_back(const std::string& key, position to) {
        const auto found = lowest.emplace(key, to).first;
        if (to < found->second) found->second = to;
    }
    /// What was mailed stays mailed.
    void forget_model() {
        done.keep_only(mailer);
        applied.keep_only(mailer);
    }
    /// The checkpoint has moved back: what comes after it will be applied again.
    void forget_applied(const std::string& key, position back_to, position replayed) {
        applied.remove_if([&](uint32_t handler, position at) {
            const auto found = log.find(at);
            return at > back_to && found != log.end() && wants(handler, key, found->second) &&
                   (handler != mailer || at > replayed);
        });
    }
    void demand_done(const char* guarantee, const std::string& key, position through,
                     position replayed) {
        for (const auto& [at, e] : log) {
            if (at > through) break;
            if (is_excused(at) || !e.is_visible) continue;
            for (uint32_t h = 0; h < handler_count; ++h) {
                const bool is_silent = h == mailer && at <= replayed;
                demand(is_silent || !wants(h, key, e) || done.has(h, at),
                       "%s event %lld is passed without an outcome for %s", guarantee, shown(at),
                       handler_names[h]);
            }
        }
    }

    // ---- records

    /// False: somebody else has saved since.
    bool keep(const std::string& key, const pj::checkpoint& now) {
        const pj::checkpoint old = records[key];
        if (!with.is_partial && now.revision != old.revision + 1) return false;
        records[key] = now;
        say("     durable: %s at %lld", key.c_str(), shown(now.at));
        if (key != key_of_count && with.kind != world_kind::queue) kept(key, old, now);
        return true;
    }

private:
    void kept(const std::string& key, const pj::checkpoint& old, const pj::checkpoint& now) {
        demand(named.count(now.at) != 0, "G2 position %lld, which nobody named, is saved",
               shown(now.at));
        const auto back = lowest.find(key);
        demand(now.at >= old.at || (back != lowest.end() && now.at >= back->second),
               "G2 the checkpoint moves back by itself from %lld to %lld", shown(old.at),
               shown(now.at));
        if (back != lowest.end() && now.at == back->second) lowest.erase(back);
        if (now.at < old.at) forget_applied(key, now.at, now.replayed_through);
        if (now.at > old.at) demand_done("G1", key, now.at, now.replayed_through);
    }
};

} // namespace combinations

#endif
