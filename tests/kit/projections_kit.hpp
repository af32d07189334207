// For your own tests of what you build on projections.hpp; copy it next to them. It needs the C++
// standard library and no test framework.
//
//   manual_clock           a clock that moves when it is told to
//   faults                 what the next calls of a store answer, call by call
//   memory_checkpoints     a checkpoint store that compares revisions and fencing tokens
//   memory_leases          a lease store with expiry, by that clock
//   memory_letters         dead letters, kept by their key, and shown in order
//   scenario               given these events, when those arrive, then ...
//   broken_promises(...)   runs your event store, checkpoint store, lease store, letters or unit of
//                          work through what the library relies on, and says in words what does
//                          not hold, each promise once
#ifndef PROJECTIONS_KIT_HPP
#define PROJECTIONS_KIT_HPP

#include "projections.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace projections_kit {

namespace pj = projections;

inline std::string string_of(pj::text t) { return std::string(t.begin(), t.end()); }

/// Milliseconds that pass when the test says so; 64 bits, so that the stores' own times never wrap
/// while the library's do.
class manual_clock {
public:
    explicit manual_clock(uint64_t start_ms = 0) : now_ms_(start_ms) {}
    void advance(uint64_t ms) { now_ms_ += ms; }
    uint64_t full() const { return now_ms_; }
    uint32_t operator()() const { return static_cast<uint32_t>(now_ms_); }

private:
    uint64_t now_ms_;
};

/// What a store answers instead of doing its work, in the order of its calls.
class faults {
public:
    /// The next call that is not scripted yet answers this. `works`: its effect is there all the
    /// same, only the answer was lost.
    faults& then(pj::status answer, bool works = false, int times = 1) {
        for (int i = 0; i < times; ++i) script_.push_back({answer, works});
        return *this;
    }
    /// So many calls answer as they should.
    faults& pass(int times = 1) { return then(pj::status::ok, true, times); }
    /// Called instead of the script, where it is set.
    std::function<pj::status(bool& works)> decide;

    /// For the store: what this call is to answer, and whether it has its effect.
    pj::status next(bool& works) {
        works = true;
        if (decide) {
            const auto now = decide;        // which it may replace
            return now(works);
        }
        if (script_.empty()) return pj::status::ok;
        const step now = script_.front();
        script_.pop_front();
        works = now.works;
        return now.answer;
    }

private:
    struct step {
        pj::status answer;
        bool works;
    };
    std::deque<step> script_;
};

/// Keeps whole records; a save must be the next revision, and under no older token.
class memory_checkpoints {
public:
    faults loads, saves;
    std::map<std::string, pj::checkpoint> records;
    std::vector<std::pair<std::string, pj::checkpoint>> history;        // all that were saved
    bool positions_only = false;        // keeps no more than a Python package's store

    pj::status load(pj::text key, pj::checkpoint& out) {
        bool works;
        const pj::status answer = loads.next(works);
        const auto found = records.find(string_of(key));
        if (works && found != records.end()) out = found->second;
        return answer;
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        bool works;
        const pj::status answer = saves.next(works);
        if (!works) return answer;
        pj::checkpoint& kept = records[string_of(key)];
        if (positions_only) {
            kept.at = next.at;
        } else {
            if (next.revision != kept.revision + 1 || next.fencing_token < kept.fencing_token)
                return pj::status::conflict;
            kept = next;
        }
        history.emplace_back(string_of(key), kept);
        return answer;
    }
    pj::checkpoint at(const std::string& key) const {
        const auto found = records.find(key);
        return found == records.end() ? pj::checkpoint{} : found->second;
    }
};

/// Leases that end by the clock; tokens grow over all resources.
class memory_leases {
public:
    explicit memory_leases(const manual_clock& clock) : clock_(clock) {}

    faults acquires, extends, releases;
    uint32_t acquired = 0, extended = 0, released = 0;          // that had an effect
    /// Called before the answer to acquire() and extend(), after their effect: an answer that is late.
    std::function<void()> late;

    pj::status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
        bool works;
        const pj::status answer = acquires.next(works);
        if (!works) return answer;
        grant& now = grants_[string_of(resource)];
        if (clock_.full() < now.until_ms) return pj::status::conflict;
        now = {++last_token_, clock_.full() + ttl_ms};
        token = now.token;
        ++acquired;
        delay();
        return answer;
    }
    pj::status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
        bool works;
        const pj::status answer = extends.next(works);
        if (!works) return answer;
        if (!is_valid(string_of(resource), token)) return pj::status::conflict;
        grants_[string_of(resource)].until_ms = clock_.full() + ttl_ms;
        ++extended;
        delay();
        return answer;
    }
    pj::status release(pj::text resource, uint64_t token) {
        bool works;
        const pj::status answer = releases.next(works);
        if (!works) return answer;
        if (is_valid(string_of(resource), token)) {
            grants_[string_of(resource)].until_ms = 0;
            ++released;
        }
        return answer;
    }
    bool is_valid(const std::string& resource, uint64_t token) const {
        const auto found = grants_.find(resource);
        return found != grants_.end() && found->second.token == token &&
               clock_.full() < found->second.until_ms;
    }
    /// As if the service had lost its memory.
    void forget() {
        grants_.clear();
        last_token_ = 0;
    }
    std::vector<std::string> resources() const {
        std::vector<std::string> all;
        for (const auto& one : grants_) all.push_back(one.first);
        return all;
    }

private:
    void delay() {
        const auto now = late;              // which it may replace
        if (now) now();
    }
    struct grant {
        uint64_t token = 0;
        uint64_t until_ms = 0;
    };
    const manual_clock& clock_;
    std::map<std::string, grant> grants_;
    uint64_t last_token_ = 0;
};

/// Letters by (projection, partition, handler, position, rebuild).
class memory_letters {
public:
    using key = std::tuple<std::string, uint32_t, std::string, pj::position, uint32_t>;
    struct letter {
        pj::failure_kind kind;
        uint32_t code, attempts;
        std::string type, payload, aggregate_id;
        uint32_t number, version;
    };
    faults puts, firsts, evicts, listings;
    std::map<key, letter> kept;

    pj::status put(const pj::dead_letter& l) {
        bool works;
        const pj::status answer = puts.next(works);
        if (works) {
            kept[key(string_of(l.projection), l.partition, string_of(l.handler), l.event.at,
                     l.rebuild)] = {l.kind, l.code, l.attempts, string_of(l.event.type.name()),
                                    string_of(l.event.payload.text()),
                                    string_of(l.event.aggregate_id), l.event.type.number(),
                                    l.event.version};
        }
        return answer;
    }

    // For letter_sequences.
    pj::status first(const pj::letter_sequence& of, pj::letter_visitor& show) {
        bool works;
        const pj::status answer = firsts.next(works);
        if (!works) return answer;
        const std::pair<const key, letter>* lowest = nullptr;
        for (const auto& one : kept) {
            if (is_of(of, one.first) && one.second.aggregate_id == string_of(of.aggregate_id) &&
                std::get<2>(one.first) == string_of(of.handler) &&
                (lowest == nullptr || std::get<3>(one.first) < std::get<3>(lowest->first))) {
                lowest = &one;
            }
        }
        if (lowest == nullptr) return answer;
        const letter l = lowest->second;                // put() may replace it meanwhile
        pj::stored_event event;
        event.at = std::get<3>(lowest->first);
        if (l.type.empty()) event.type = pj::id{l.number};
        else event.type = pj::text(l.type);
        event.payload = l.payload;
        event.aggregate_id = l.aggregate_id;
        event.version = l.version;
        show(event, l.attempts);
        return answer;
    }
    pj::status evict(const pj::letter_sequence& of, pj::position at) {
        bool works;
        const pj::status answer = evicts.next(works);
        if (works) {
            kept.erase(key(string_of(of.projection), of.partition, string_of(of.handler), at,
                           of.rebuild));
        }
        return answer;
    }
    pj::status sequences(const pj::letter_sequence& of, pj::sequence_visitor& show) {
        bool works;
        const pj::status answer = listings.next(works);
        std::set<std::pair<std::string, std::string>> all;
        for (const auto& [where, l] : kept) {
            if (works && is_of(of, where)) all.insert({std::get<2>(where), l.aggregate_id});
        }
        for (const auto& [handler, aggregate_id] : all) {
            if (!show(handler, aggregate_id)) break;
        }
        return answer;
    }

private:
    static bool is_of(const pj::letter_sequence& of, const key& where) {
        return std::get<0>(where) == string_of(of.projection) &&
               std::get<1>(where) == of.partition && std::get<4>(where) == of.rebuild;
    }
};

/// Given these events in the log, when those are appended, then the handler has done this: with
/// routing, decoding, policy and checkpoint as in production. Change `what` before the first when().
///
///     scenario test{my_handler};
///     test.given(opened{1}).when(closed{1});
///     // my_handler, test.counts(), test.last_failure(), test.letters.kept, test.running()
template<class Handlers> class scenario {
public:
    explicit scenario(Handlers& handlers) {
        what.name = "scenario";
        what.log = log_;
        what.handlers = handlers;
        what.checkpoints = checkpoints;
        what.dead_letters = letters;
    }
    scenario(const scenario&) = delete;
    scenario& operator=(const scenario&) = delete;

    pj::projection what;
    memory_checkpoints checkpoints;
    memory_letters letters;
    manual_clock clock;

    /// Appends one raw event.
    template<class E> scenario& append(const E& event, const std::string& aggregate_id = "") {
        const pj::stored_event e = pj::raw_event(0, event, aggregate_id);
        return append_stored(string_of(e.type.name()), string_of(e.payload.text()), aggregate_id,
                             e.version, e.type.number());
    }
    scenario& append_stored(const std::string& type, const std::string& payload,
                     const std::string& aggregate_id = "", uint32_t version = 1,
                     uint32_t number = 0) {
        events_.push_back({type, payload, aggregate_id, version, number});
        return *this;
    }
    /// Handles these; what they counted is not counted any more.
    template<class... E> scenario& given(const E&... events) {
        when(events...);
        before_ = worker_.counts();
        return *this;
    }
    /// Appends these and runs to the end of the log, or until it halts or makes no progress for
    /// `patience_ms` of the manual clock.
    template<class... E> scenario& when(const E&... events) {
        (append(events), ...);
        if (!worker_.running() && worker_.state() != pj::run_state::halted)
            start_answer = worker_.start();
        worker_.wake();
        uint64_t idle_ms = 0;
        while (worker_.running() && idle_ms < patience_ms) {
            const pj::position before = worker_.checkpointed();
            const pj::tick_result r = worker_.tick(clock());
            if (worker_.caught_up() && worker_.checkpointed() == newest()) break;
            if (worker_.checkpointed() != before) idle_ms = 0;
            const uint32_t sleep_ms = r.wait_ms == pj::never ? 1000 : r.wait_ms;
            idle_ms += sleep_ms;
            clock.advance(sleep_ms);
        }
        return *this;
    }
    uint64_t patience_ms = 600000;
    pj::status start_answer = pj::status::ok;

    pj::counters counts() const {
        pj::counters n = worker_.counts();
        n.scanned -= before_.scanned;
        n.handled -= before_.handled;
        n.unhandled -= before_.unhandled;
        n.unknown -= before_.unknown;
        n.filtered -= before_.filtered;
        n.skipped -= before_.skipped;
        n.lettered -= before_.lettered;
        n.vanished -= before_.vanished;
        n.failed_calls -= before_.failed_calls;
        return n;
    }
    const pj::failure_record& last_failure() const { return worker_.last_failure(); }
    bool running() const { return worker_.running(); }
    bool halted() const { return worker_.state() == pj::run_state::halted; }
    pj::worker& worker() { return worker_; }
    pj::position newest() const { return static_cast<pj::position>(events_.size()) - 1; }

private:
    struct kept {
        std::string type, payload, aggregate_id;
        uint32_t version, number;
    };
    struct log {
        std::deque<kept>& events;
        pj::status read(pj::position after, pj::visitor& visit) {
            for (size_t i = static_cast<size_t>(after + 1); i < events.size(); ++i) {
                const kept& from = events[i];
                pj::stored_event e;
                e.at = static_cast<pj::position>(i);
                if (from.type.empty()) e.type = pj::id{from.number};
                else e.type = pj::text(from.type);
                e.payload = from.payload;
                e.aggregate_id = from.aggregate_id;
                e.version = from.version;
                if (!visit(e)) break;
            }
            return pj::status::ok;
        }
    };
    std::deque<kept> events_;
    log log_{events_};
    pj::worker worker_{what};
    pj::counters before_{};
};

using promises = std::vector<std::string>;      // that are broken; empty: all hold

/// Called between two attempts at something that answers pending.
using patience = std::function<void()>;

namespace detail {

template<class F> pj::status insist(F&& call, const patience& meanwhile) {
    for (int i = 0; i < 10000; ++i) {
        const pj::status s = call();
        if (s != pj::status::pending) return s;
        if (meanwhile) meanwhile();
    }
    return pj::status::pending;
}
inline std::string named(pj::status s) { return pj::to_string(s); }
inline std::string why(pj::status s) {
    return s == pj::status::store_unordered ? " (which shows a position that is not above `after`)"
         : s != pj::status::ok ? " (which ends with " + named(s) + ")" : "";
}

struct copied {
    pj::position at;
    std::string text;
    bool operator==(const copied& o) const { return at == o.at && text == o.text; }
    bool operator!=(const copied& o) const { return !(*this == o); }
};
struct recorder {
    using handles = pj::every_event;
    std::vector<copied> seen;
    void on(const pj::stored_event& e) {
        seen.push_back({e.at, string_of(e.type.name()) + '#' + std::to_string(e.type.number()) +
                                  '/' + string_of(e.payload.text()) + '/' +
                                  string_of(e.aggregate_id) + '/' + std::to_string(e.version)});
    }
};
/// What a store shows after a position, in batches of that size; and how the reading ended.
inline pj::status read_all(const pj::event_store& log, pj::position after, uint32_t batch,
                           const patience& meanwhile, std::vector<copied>& out) {
    recorder hand;
    memory_checkpoints checkpoints;
    pj::projection what{"kit", log, hand, checkpoints};
    what.batch = batch;
    pj::worker worker{what};
    if (after != pj::before_first) {
        checkpoints.records["kit"].at = after;
        checkpoints.records["kit"].revision = 1;
    }
    const pj::status started = worker.start();
    if (started != pj::status::ok) return started;
    uint32_t now_ms = 0, stuck = 0;
    while (worker.running() && !worker.caught_up() && stuck < 1000) {
        const size_t before = hand.seen.size();
        const pj::tick_result r = worker.tick(now_ms);
        now_ms += r.wait_ms == pj::never ? 1000 : r.wait_ms;
        stuck = hand.seen.size() == before ? stuck + 1 : 0;
        if (r.wait_ms != 0 && meanwhile) meanwhile();
    }
    out = hand.seen;
    return worker.caught_up() ? pj::status::ok
         : worker.reason() != pj::status::ok ? worker.reason() : pj::status::pending;
}

} // namespace detail

/// Pre: the log holds at least three events, and nobody appends or trims meanwhile.
inline promises broken_promises(const pj::event_store& log, const patience& meanwhile = {}) {
    promises broken;
    std::vector<detail::copied> all;
    pj::position trimmed = pj::before_first, newest = pj::before_first;
    uint64_t id = 0;
    const bool has_bounds = log.bounds != nullptr;
    pj::status (*const bounds)(void*, pj::position&, pj::position&, uint64_t&) = log.bounds;
    if (has_bounds) {
        const pj::status s = detail::insist(
            [&]() { return bounds(log.self, trimmed, newest, id); }, meanwhile);
        if (s != pj::status::ok) {
            broken.push_back("bounds() answers " + detail::named(s) + " where it should answer ok");
            return broken;
        }
        if (trimmed < pj::before_first || newest < trimmed)
            broken.push_back("bounds() says that the newest event is below what was trimmed");
    }
    const pj::status first = detail::read_all(log, trimmed, 100, meanwhile, all);
    if (first == pj::status::store_unordered) {
        broken.push_back("read() shows positions that do not increase, or one that is not above "
                         "`after`: after " +
                         std::to_string(all.empty() ? trimmed : all.back().at));
        return broken;
    }
    if (first != pj::status::ok) {
        broken.push_back("read() never reaches the end of the log: the worker says " +
                         detail::named(first));
        return broken;
    }
    if (all.size() < 3) {
        broken.push_back("read() shows " + std::to_string(all.size()) +
                         " events; this check needs a log of at least three");
        return broken;
    }
    if (has_bounds && newest < all.back().at) {
        broken.push_back("bounds() says that the newest event is " + std::to_string(newest) +
                         ", but read() shows " + std::to_string(all.back().at));
        return broken;
    }
    std::vector<detail::copied> again;
    for (const uint32_t batch : {1u, 2u, 100u}) {
        const pj::status s = detail::read_all(log, trimmed, batch, meanwhile, again);
        if (s == pj::status::ok && again == all) continue;
        broken.push_back("read() in batches of " + std::to_string(batch) + detail::why(s) +
                         " shows other events than before: it must begin right after `after`, "
                         "stop when the visitor says stop, and show the same events again");
        break;
    }
    for (size_t i = 0; i < all.size(); i += all.size() / 16 + 1) {
        const std::vector<detail::copied> tail(all.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                                               all.end());
        const pj::status s = detail::read_all(log, all[i].at, 100, meanwhile, again);
        if (s == pj::status::ok && again == tail) continue;
        broken.push_back("read(" + std::to_string(all[i].at) + ")" + detail::why(s) +
                         " does not show exactly the events above it");
        break;
    }
    return broken;
}

/// Uses keys that begin with `prefix`, of which the store must not have any yet. A store that does
/// not compare revisions breaks a promise only if it says that it does.
inline promises broken_promises(const pj::checkpoint_store& store, const std::string& prefix = "kit",
                                const patience& meanwhile = {}, bool compares_revisions = true) {
    promises broken;
    const std::string keys[] = {prefix, prefix + "_p1", prefix + "_p10", prefix + "_partitions"};
    const auto load = [&](const std::string& key, pj::checkpoint& out) {
        return detail::insist([&]() { return store.load(store.self, key, out); }, meanwhile);
    };
    const auto save = [&](const std::string& key, const pj::checkpoint& next) {
        return detail::insist([&]() { return store.save(store.self, key, next); }, meanwhile);
    };
    const auto differs = [](const pj::checkpoint& a, const pj::checkpoint& b) {
        std::string fields;
        const auto compare = [&](const char* name, bool is_equal) {
            if (!is_equal) fields += (fields.empty() ? "" : ", ") + std::string(name);
        };
        compare("at", a.at == b.at);
        compare("revision", a.revision == b.revision);
        compare("partition_count", a.partition_count == b.partition_count);
        compare("fencing_token", a.fencing_token == b.fencing_token);
        compare("replayed_through", a.replayed_through == b.replayed_through);
        compare("log_id", a.log_id == b.log_id);
        compare("suspect", a.suspect == b.suspect);
        compare("rebuild", a.rebuild == b.rebuild);
        compare("crashes", a.crashes == b.crashes);
        compare("hash_scheme", a.hash_scheme == b.hash_scheme);
        compare("replay_stage", a.replay_stage == b.replay_stage);
        return fields;
    };
    pj::checkpoint untouched;
    untouched.at = 41;
    untouched.log_id = 7;
    pj::checkpoint found = untouched;
    pj::status s = load(keys[0], found);
    if (s != pj::status::ok)
        broken.push_back("load() of a key without a record answers " + detail::named(s) +
                         "; it should answer ok");
    if (!differs(found, untouched).empty())
        broken.push_back("load() of a key without a record changes what it should fill: " +
                         differs(found, untouched));
    // Every field at a value that a narrower column would not hold.
    pj::checkpoint full;
    full.at = INT64_MAX;
    full.revision = 1;
    full.partition_count = 0xFFFFFFFEu;
    full.fencing_token = UINT64_MAX - 1;
    full.replayed_through = INT64_MAX - 1;
    full.log_id = UINT64_MAX;
    full.suspect = INT64_MAX - 2;
    full.rebuild = 0xFFFFFFFFu;
    full.crashes = 0xFFFF;
    full.hash_scheme = 0xFF;
    full.replay_stage = 2;
    pj::checkpoint small;
    small.revision = 1;
    for (size_t i = 0; i < 4; ++i) {
        const pj::checkpoint& next = i % 2 == 0 ? full : small;
        s = save(keys[i], next);
        if (s != pj::status::ok) {
            broken.push_back("the first save() under a key answers " + detail::named(s) +
                             "; it should answer ok");
            return broken;
        }
    }
    const size_t before = broken.size();
    for (size_t i = 0; i < 4 && broken.size() == before; ++i) {
        const pj::checkpoint& kept = i % 2 == 0 ? full : small;
        found = {};
        s = load(keys[i], found);
        if (s != pj::status::ok)
            broken.push_back("load() after save() answers " + detail::named(s));
        else if (!differs(found, kept).empty())
            broken.push_back("not kept, or mixed up with another key (" + keys[i] +
                             "): " + differs(found, kept));
    }
    pj::checkpoint next = full;
    next.revision = 2;
    next.at = 5;        // down: a reset
    s = save(keys[0], next);
    found = {};
    if (s != pj::status::ok || load(keys[0], found) != pj::status::ok ||
        found.at != 5)
        broken.push_back("a save of the next revision does not replace the record");
    if (compares_revisions) {
        for (const uint32_t revision : {1u, 2u, 4u}) {
            pj::checkpoint wrong = full;
            wrong.revision = revision;
            wrong.at = 99;
            s = save(keys[0], wrong);
            found = {};
            const pj::status loaded = load(keys[0], found);
            if (s == pj::status::conflict && loaded == pj::status::ok && found.at != 99) continue;
            broken.push_back("the stored revision is 2, but a save of revision " +
                             std::to_string(revision) + " answers " + detail::named(s) +
                             (found.at == 99 ? " and is kept" : "") +
                             "; it should answer conflict and keep what is there");
            break;
        }
    }
    return broken;
}

/// `sleep_ms` lets so much time pass for the lease store.
inline promises broken_promises(const pj::lease_store& store,
                                const std::function<void(uint32_t)>& sleep_ms,
                                const std::string& resource = "kit", uint32_t ttl_ms = 300,
                                const patience& meanwhile = {}) {
    promises broken;
    const auto acquire = [&](const std::string& name, uint64_t& token) {
        return detail::insist([&]() { return store.acquire(store.self, name, ttl_ms, token); },
                              meanwhile);
    };
    const auto extend = [&](uint64_t token) {
        return detail::insist([&]() { return store.extend(store.self, resource, ttl_ms, token); },
                              meanwhile);
    };
    const auto release = [&](uint64_t token) {
        return detail::insist([&]() { return store.release(store.self, resource, token); },
                              meanwhile);
    };
    const auto expect = [&](bool holds, const std::string& words) {
        if (!holds && (broken.empty() || broken.back() != words)) broken.push_back(words);
        return holds;
    };
    uint64_t first = 0, other = 0, second = 0, third = 0, unused = 0;
    if (!expect(acquire(resource, first) == pj::status::ok, "acquire() of a free resource fails"))
        return broken;
    expect(first != 0, "acquire() answers ok, but the token is 0");
    expect(acquire(resource, unused) == pj::status::conflict,
           "acquire() does not answer conflict while a lease is unexpired");
    expect(acquire(resource + "_2", other) == pj::status::ok,
           "a lease on one resource keeps another resource from being leased");
    expect(extend(first) == pj::status::ok, "extend() of a valid lease is not ok");
    expect(extend(first + 1) == pj::status::conflict,
           "extend() with a token that is not the lease's does not answer conflict");
    static_cast<void>(release(first + 1));
    expect(acquire(resource, unused) == pj::status::conflict,
           "release() with a token that is not the lease's ends the lease");
    // Extending makes it last from now, not from when it was acquired.
    for (int i = 0; i < 3; ++i) {
        sleep_ms(ttl_ms / 2);
        expect(extend(first) == pj::status::ok, "a lease that is extended in time is lost");
    }
    expect(acquire(resource, unused) == pj::status::conflict,
           "a lease that was extended can be acquired by somebody else");
    expect(release(first) == pj::status::ok, "release() of a valid lease is not ok");
    if (expect(acquire(resource, second) == pj::status::ok,
               "a lease that was released cannot be acquired again"))
        expect(second > first, "the token does not grow after a release");
    expect(extend(first) == pj::status::conflict,
           "extend() with the token of a former lease does not answer conflict");
    sleep_ms(ttl_ms + ttl_ms / 2);
    expect(extend(second) == pj::status::conflict,
           "extend() of a lease that has expired does not answer conflict: what was over would be "
           "valid again");
    if (expect(acquire(resource, third) == pj::status::ok,
               "a lease that has expired cannot be acquired"))
        expect(third > second, "the token does not grow after a lease has expired");
    static_cast<void>(release(second));
    expect(extend(third) == pj::status::ok, "release() with an old token ends the new lease");
    static_cast<void>(release(third));
    // An engine that is stopped meanwhile does not come for the answer, and asks again when it is
    // started.
    const pj::status begun = store.acquire(store.self, resource, ttl_ms, unused);
    if (begun == pj::status::ok) static_cast<void>(release(unused));
    if (begun == pj::status::pending) {
        for (int i = 0; meanwhile && i < 20; ++i) meanwhile();
        sleep_ms(ttl_ms + ttl_ms / 2);
        uint64_t late = 0;
        if (expect(acquire(resource, late) == pj::status::ok,
                   "an acquire() that was pending, and not called again, keeps the resource"))
            expect(extend(late) == pj::status::ok,
                   "acquire() answers with the lease of a call that was given up, which is over");
        static_cast<void>(release(late));
    }
    return broken;
}

/// Of a letter that is kept.
struct kept_letter {
    pj::failure_kind kind;
    uint32_t code, attempts;
};

/// `kept` tells all letters that are kept at this moment, in any order.
inline promises broken_promises(const pj::dead_letter_sink& letters,
                                const std::function<std::vector<kept_letter>()>& kept,
                                const patience& meanwhile = {}) {
    promises broken;
    const std::string payload = "payload", aggregate = "aggregate";
    pj::stored_event event;
    event.type = "Kit";
    event.payload = payload;
    event.aggregate_id = aggregate;
    const size_t before = kept().size();
    const auto put = [&](uint32_t partition, const char* handler, uint32_t rebuild,
                         pj::position at, const kept_letter& says) {
        event.at = at;
        const pj::dead_letter letter{says.kind, says.code, says.attempts, false, partition,
                                     rebuild, "kit", handler, event};
        return detail::insist([&]() { return letters.put(letters.self, letter); }, meanwhile);
    };
    const auto has = [&](const kept_letter& wanted) {
        for (const kept_letter& one : kept()) {
            if (one.kind == wanted.kind && one.code == wanted.code &&
                one.attempts == wanted.attempts) return true;
        }
        return false;
    };
    const kept_letter untried{pj::failure_kind::transient, 0xFFFFFFFEu, 0},
        tried{pj::failure_kind::permanent, 0xFFFFFFFDu, 3};
    if (put(0, "a", 0, 3, untried) != pj::status::ok)
        broken.push_back("put() of a letter is not ok");
    else if (kept().size() != before + 1)
        broken.push_back("a letter that was answered ok is not kept");
    else if (!has(untried))
        broken.push_back("a letter's kind, code or attempts are not kept");
    else if (put(0, "a", 0, 3, untried) != pj::status::ok)
        broken.push_back("put() of a letter that is kept already is not ok; after a crash it comes "
                         "twice");
    else if (kept().size() != before + 1)
        broken.push_back("a letter given twice is kept twice");
    if (!broken.empty()) return broken;         // what follows would say it again
    if (put(0, "a", 0, 3, tried) != pj::status::ok || has(untried) || !has(tried))
        broken.push_back("a letter does not take the place of the one with the same key: after "
                         "another failure it says another kind, code and number of attempts");
    static_cast<void>(put(1, "a", 0, 3, tried));
    static_cast<void>(put(0, "b", 0, 3, tried));
    static_cast<void>(put(0, "a", 1, 3, tried));
    static_cast<void>(put(0, "a", 0, 4, tried));
    if (kept().size() != before + 5)
        broken.push_back("letters are mixed up: (projection, partition, handler, position, rebuild) "
                         "is the key, and five different ones make " +
                         std::to_string(kept().size() - before));
    return broken;
}

/// What takes part in a unit of work, and how to look at it from outside. The first four are
/// needed; with each of the others more can be found.
///
///     projections_kit::unit_parts parts{db, db};      // any unit of work, and its checkpoints
///     parts.write = [&](int n) { return db.run("UPDATE kit SET n = ?", n); };
///     parts.read = [&] { return other.number("SELECT n FROM kit"); };
///     for (const std::string& words : broken_promises(parts)) puts(words.c_str());
struct unit_parts {
    pj::unit_of_work transaction{};
    pj::checkpoint_store checkpoints{};
    /// Keeps this number in place of the last one, as a handler of yours keeps its effects.
    std::function<pj::status(int number)> write{};
    /// The number that is kept; any, if none was written yet.
    std::function<int()> read{};

    pj::dead_letter_sink letters{};     ///< if they are in the unit
    std::function<std::vector<kept_letter>()> kept{};           ///< and all that are kept
    /// The checkpoints as another connection sees them. Then `read` and `kept` must look through
    /// another one, too: what shows before the commit is found.
    pj::checkpoint_store elsewhere{};
    /// As if the power had failed: makes the connection and its stores anew, in the same place.
    std::function<void()> reopen{};
    /// Called in an open unit, to spoil it: violates a constraint that is checked at the commit,
    /// kills the connection, or takes the transaction back as a database does by itself. Or lets
    /// the next commit fail.
    std::function<void()> trouble{};
    bool compares_revisions = true;
    std::string key = "kit_unit";       ///< of the checkpoint that is used
    int in_a_row = 100;
    patience meanwhile{};
};

namespace detail {

/// One check of a unit of work. Each step uses it in one way and goes on from whatever is kept
/// then, so that a promise broken in one step is not told again by those after it.
class unit_check {
public:
    explicit unit_check(const unit_parts& parts) : parts_(parts) {}

    promises all() {
        using step = bool (unit_check::*)();
        if (parts_.transaction.begin == nullptr || parts_.transaction.commit == nullptr ||
            parts_.transaction.rollback == nullptr || parts_.checkpoints.load == nullptr ||
            parts_.checkpoints.save == nullptr || !parts_.write || !parts_.read) {
            tell("this check needs a unit of work, its checkpoints, write and read");
            return broken_;
        }
        kept_ = look(parts_.checkpoints);
        number_ = kept_.number;
        if (!broken_.empty()) return broken_;
        for (const step next : {&unit_check::commits, &unit_check::rolls_back,
                                &unit_check::saves_alone, &unit_check::takes_nothing_along,
                                &unit_check::commits_without_a_save, &unit_check::begins_twice,
                                &unit_check::is_refused, &unit_check::is_in_trouble,
                                &unit_check::crashes, &unit_check::goes_on}) {
            where_.clear();
            if ((this->*next)()) continue;
            static_cast<void>(rollback());      // all that follows would fail of the same
            break;
        }
        return broken_;
    }

private:
    struct state {
        int number;
        pj::checkpoint record;
        size_t letters;
    };
    static constexpr unsigned effect = 1, checkpoint = 2, letter = 4;      // its parts

    // ---- the steps. False: nothing more can be found out.

    /// "Makes all of it durable and visible at once."
    bool commits() {
        if (!begin() || !fill()) return false;
        if (parts_.elsewhere.load != nullptr) {
            const unsigned seen = differences(kept_, look(parts_.elsewhere));
            if (seen != 0) tell("before the commit another connection sees ", names(seen));
        }
        if (!commit(lost_)) return false;
        if (parts_.reopen) {
            const state before = kept_;
            parts_.reopen();
            lost_ |= compare(before, 0, "commit() answers ok, but what does not survive a "
                                        "crash is ");
        }
        // "without harm where nothing is open any more": so a commit whose answer was lost ends.
        static_cast<void>(rollback());
        compare(kept_, 0, "rollback() after a commit changes ");
        return true;
    }
    /// "Takes all of it back", "MUST NOT answer ok while effects of an earlier unit could still be
    /// committed with this one", and then the same events come again.
    bool rolls_back() {
        if (!begin() || !fill() || !rollback()) return false;
        undone_ = compare(kept_, 0, "rollback() does not take back ");
        where_ = " after a rollback";
        if (!begin()) return false;
        if (commit_nothing() && compare(kept_, 0, "what was rolled back is committed with the "
                                                  "next unit: ") != 0)
            return false;
        if (!begin() || !fill() || !commit(lost_)) return false;
        if (!parts_.reopen) return true;
        if (!begin() || !fill() || !rollback()) return false;
        const state before = kept_;
        parts_.reopen();
        compare(before, undone_ | lost_, "after a crash there is again what was rolled back: ");
        return true;
    }
    /// "save() is also called without one, and is then durable by itself", also after a begin()
    /// that was pending: "Until it answers ok nothing is open for a save(), and it may never be
    /// called again". A redelivered letter's put() is outside, too.
    bool saves_alone() {
        const pj::status begun = parts_.transaction.begin(parts_.transaction.self);
        if (begun == pj::status::ok && !rollback()) return false;
        state wanted = kept_;
        const pj::status saved = save(next_of(wanted));
        if (saved != pj::status::ok)
            tell("save() without a unit of work answers ", named(saved), "; it should answer ok");
        const pj::status taken = saved == pj::status::ok ? put(wanted) : pj::status::failed;
        if (saved == pj::status::ok && taken != pj::status::ok)
            tell("put() without a unit of work answers ", named(taken), "; it should answer ok");
        if (saved != pj::status::ok || taken != pj::status::ok) {
            kept_ = look(parts_.checkpoints);
            return true;
        }
        const std::string words = begun == pj::status::pending
            ? "after a begin() that was pending, and is not called again, save() and put() are not "
              "durable by themselves: lost is "
            : "save() and put() without a unit of work are not durable by themselves: lost is ";
        compare(wanted, 0, words);
        wanted = kept_;
        if (!begin() || !rollback()) return false;
        if (parts_.reopen) parts_.reopen();
        compare(wanted, 0, words);
        return true;
    }
    /// What is left of a unit after its rollback "takes no later save() along".
    bool takes_nothing_along() {
        if (!begin() || !fill() || !rollback()) return false;
        state wanted = kept_ = look(parts_.checkpoints);
        if (save(next_of(wanted)) != pj::status::ok) wanted.record = kept_.record;        // was told
        compare(wanted, checkpoint, "what was rolled back comes with a later save(): ");
        return true;
    }
    /// "commit() without a save(), for messages that have no position", and redelivered letters.
    bool commits_without_a_save() {
        if (!begin()) return false;
        state wanted = kept_;
        if (!write(wanted) || !commit_nothing()) return true;
        compare(wanted, lost_, "commit() without a save() answers ok, but loses ");
        return true;
    }
    /// begin() answers "pending, also while another is open on this connection".
    bool begins_twice() {
        if (!begin() || !fill()) return false;
        pj::status s = pj::status::pending;
        for (int i = 0; i < few && s == pj::status::pending; ++i) {
            s = parts_.transaction.begin(parts_.transaction.self);
            if (s == pj::status::pending && parts_.meanwhile) parts_.meanwhile();
        }
        if (s == pj::status::ok) {
            tell("begin() answers ok while another unit is open; it should answer pending: what "
                 "one engine does would be committed or rolled back by another");
            static_cast<void>(rollback());
            static_cast<void>(rollback());
            kept_ = look(parts_.checkpoints);
            return true;
        }
        const state wanted = wanted_;
        if (commit() == pj::status::ok) {
            compare(wanted, lost_, "a begin() that is not ok harms the open unit: it loses ");
            return true;
        }
        tell("a begin() that is not ok harms the open unit: it cannot be committed");
        static_cast<void>(rollback());
        kept_ = look(parts_.checkpoints);
        return true;
    }
    /// save() answers "conflict if the stored revision is not `next.revision - 1`", here or at the
    /// commit. "Then rollback() is called": the unit is over, with all that was in it.
    bool is_refused() {
        if (!parts_.compares_revisions) return true;
        where_ = " after a save of a revision that is not the next, and a rollback";
        if (!begin()) return false;
        state wanted = kept_;
        if (!write(wanted)) return false;
        wanted.record.revision += 2;
        pj::status s = save(wanted.record);
        if (s == pj::status::ok) s = commit();
        if (s == pj::status::ok) {
            tell("save() and commit() of a revision that is not the next answer ok; one of them "
                 "should answer conflict");
            static_cast<void>(rollback());
        } else if (!rollback()) {
            return false;
        } else {
            compare(kept_, undone_, "after a save that was refused, and a rollback, there still "
                                    "is ");
        }
        return begin() && fill() && commit(lost_);
    }
    /// "Answers ok; (...) anything else: perhaps done. Then rollback() is called, and the
    /// checkpoint loaded: it tells."
    bool is_in_trouble() {
        if (!parts_.trouble) return true;
        where_ = " after a unit that failed, and its rollback";
        if (!begin()) return false;
        state wanted = kept_;
        if (!write(wanted)) return false;
        parts_.trouble();
        pj::status s = put(wanted);
        if (s == pj::status::ok) s = save(next_of(wanted));
        if (s == pj::status::ok) s = commit();
        if (s == pj::status::ok) {
            compare(wanted, lost_, "commit() answers ok after the trouble, but loses ");
            return true;
        }
        if (!rollback()) return false;
        const state found = look(parts_.checkpoints);
        const unsigned lost = differences(wanted, found) & ~lost_;
        const bool is_part = lost != 0 && (differences(kept_, found) & ~undone_) != 0;
        kept_ = found;
        if (!begin()) return false;
        if (!is_part) return fill() && commit(lost_);
        tell("after a unit that failed, and its rollback, there is a part of it, without ",
             names(lost));
        return false;
    }
    /// G17: "take effect together or not at all, whenever the power fails".
    bool crashes() {
        if (!parts_.reopen) return true;
        where_ = " after a crash in a unit";
        if (!begin() || !fill()) return false;
        parts_.reopen();
        compare(kept_, lost_ | undone_, "what was not committed survives a crash: ");
        return begin() && fill() && commit(lost_);
    }
    /// Nothing is used up.
    bool goes_on() {
        for (int i = 0; i < parts_.in_a_row; ++i) {
            where_ = " after " + std::to_string(i) + " others in a row";
            if (!begin() || !fill() || !(i % 2 == 0 ? commit(lost_) : rollback())) return false;
            if (i % 2 != 0)
                compare(kept_, undone_, "after many others rollback() does not take back ");
        }
        return true;
    }

    // ---- what they are made of

    /// An answer of failed is tried again, as an engine does: a connection may have to be made.
    bool begin() {
        pj::status s = pj::status::failed;
        for (int i = 0; i < few && s != pj::status::ok && s != pj::status::pending; ++i) {
            if (i != 0 && parts_.meanwhile) parts_.meanwhile();
            s = call(parts_.transaction.begin);
        }
        if (s != pj::status::ok) tell("begin() answers " + named(s), where_);
        return s == pj::status::ok;
    }
    pj::status commit() { return call(parts_.transaction.commit); }
    /// Whatever it answers but pending, the unit is over.
    bool rollback() {
        const bool is_over = call(parts_.transaction.rollback) != pj::status::pending;
        if (!is_over) tell("rollback() stays pending");
        return is_over;
    }
    bool write(state& wanted) {
        wanted.number = ++number_;
        const pj::status s = insist([&]() { return parts_.write(number_); }, parts_.meanwhile);
        if (s != pj::status::ok) tell("write in a unit answers " + named(s), where_);
        return s == pj::status::ok;
    }
    pj::status put(state& wanted) {
        if (parts_.letters.put == nullptr || !parts_.kept) return pj::status::ok;
        ++wanted.letters;
        pj::stored_event event;
        event.type = "Kit";             // another one after each that is kept
        event.at = kept_.record.at + 1 + static_cast<pj::position>(kept_.letters);
        const pj::dead_letter l{pj::failure_kind::permanent, 1, 1, false, 0, 0, "kit_unit", "kit",
                                event};
        return insist([&]() { return parts_.letters.put(parts_.letters.self, l); },
                      parts_.meanwhile);
    }
    pj::status save(const pj::checkpoint& next) {
        return insist([&]() {
            return parts_.checkpoints.save(parts_.checkpoints.self, parts_.key, next);
        }, parts_.meanwhile);
    }
    static const pj::checkpoint& next_of(state& wanted) {
        ++wanted.record.at;
        ++wanted.record.revision;
        return wanted.record;
    }
    /// An effect, a letter and the checkpoint, in the order of the engine.
    bool fill() {
        wanted_ = kept_;
        if (!write(wanted_)) return false;
        const pj::status taken = put(wanted_);
        if (taken != pj::status::ok) tell("put() in a unit answers " + named(taken), where_);
        const pj::status saved = save(next_of(wanted_));
        if (saved != pj::status::ok) tell("save() in a unit answers " + named(saved), where_);
        return taken == pj::status::ok && saved == pj::status::ok;
    }
    /// Of what fill() has done.
    bool commit(unsigned& lost) {
        const pj::status s = commit();
        if (s != pj::status::ok) tell("commit() answers " + named(s), where_);
        else lost |= compare(wanted_, lost, "commit() answers ok, but loses ");
        return s == pj::status::ok;
    }
    bool commit_nothing() {
        const pj::status s = commit();
        if (s == pj::status::ok) return true;
        tell("commit() without a save() answers ", named(s), "; it should answer ok");
        static_cast<void>(rollback());
        return false;
    }
    pj::status call(pj::status (*function)(void*)) {
        return insist([&]() { return function(parts_.transaction.self); }, parts_.meanwhile);
    }

    // ---- what is kept

    state look(const pj::checkpoint_store& through) {
        state found{};
        pj::status s = pj::status::failed;
        for (int i = 0; i < few && s != pj::status::ok; ++i) {
            if (i != 0 && parts_.meanwhile) parts_.meanwhile();
            found.record = {};
            s = insist([&]() { return through.load(through.self, parts_.key, found.record); },
                       parts_.meanwhile);
        }
        if (s != pj::status::ok) tell("load() outside of a unit answers ", named(s), where_);
        found.number = parts_.read();
        found.letters = parts_.kept ? parts_.kept().size() : 0;
        return found;
    }
    static unsigned differences(const state& a, const state& b) {
        return (a.number != b.number ? effect : 0u) |
               (a.record.at != b.record.at || a.record.revision != b.record.revision ? checkpoint
                                                                                     : 0u) |
               (a.letters != b.letters ? letter : 0u);
    }
    static std::string names(unsigned parts) {
        std::string all;
        const auto add = [&](unsigned one, const char* name) {
            if ((parts & one) != 0) all += (all.empty() ? "" : ", ") + std::string(name);
        };
        add(effect, "the effect");
        add(checkpoint, "the checkpoint");
        add(letter, "the letter");
        return all;
    }
    /// Tells what is not as wanted, but for what is known to be; goes on from what there is.
    unsigned compare(const state wanted, unsigned known, const std::string& words) {
        kept_ = look(parts_.checkpoints);
        unsigned wrong = differences(wanted, kept_);
        if (parts_.elsewhere.load != nullptr)
            wrong |= differences(wanted, look(parts_.elsewhere)) & ~lost_;
        wrong &= ~known;
        if (wrong != 0) tell(words, names(wrong));
        return wrong;
    }
    /// Once, whatever follows these words.
    void tell(const std::string& words, const std::string& what = {},
              const std::string& end = {}) {
        if (told_.insert(words).second) broken_.push_back(words + what + end);
    }

    static constexpr int few = 10;
    const unit_parts& parts_;
    promises broken_{};
    std::set<std::string> told_{};
    std::string where_{};               // in which step something is answered
    state kept_{}, wanted_{};           // as it is; as fill() wants it to be
    int number_ = 0;                    // the last one written
    unsigned lost_ = 0, undone_ = 0;    // parts that no commit keeps; that no rollback takes back
};

} // namespace detail

/// What is done in a unit of work is committed or rolled back as one, and each unit ends. Not to be
/// used beside an engine with the same connection, key or number.
inline promises broken_promises(const unit_parts& parts) { return detail::unit_check(parts).all(); }

} // namespace projections_kit

#endif
