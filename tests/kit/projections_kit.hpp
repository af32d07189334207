// For your own tests of what you build on projections.hpp; copy it next to them. It needs the C++
// standard library and no test framework.
//
//   manual_clock           a clock that moves when it is told to
//   faults                 what the next calls of a store answer, call by call
//   memory_checkpoints     a checkpoint store that compares revisions and fencing tokens
//   memory_leases          a lease store with expiry, by that clock
//   memory_letters         dead letters, kept by their key, and shown in order
//   scenario               given these events, when those arrive, then ...
//   broken_promises(...)   runs your event store, checkpoint store, lease store or letters through
//                          what the library relies on, and says in words what does not hold
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
    std::vector<detail::copied> again;
    for (const uint32_t batch : {1u, 2u, 100u}) {
        const pj::status s = detail::read_all(log, trimmed, batch, meanwhile, again);
        if (s != pj::status::ok || again != all)
            broken.push_back("read() in batches of " + std::to_string(batch) + detail::why(s) +
                             " shows other events than before: it must begin right after `after`, "
                             "stop when the visitor says stop, and show the same events again");
    }
    for (size_t i = 0; i < all.size(); i += all.size() / 16 + 1) {
        const std::vector<detail::copied> tail(all.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                                               all.end());
        const pj::status s = detail::read_all(log, all[i].at, 100, meanwhile, again);
        if (s != pj::status::ok || again != tail)
            broken.push_back("read(" + std::to_string(all[i].at) + ")" + detail::why(s) +
                             " does not show exactly the events above it");
    }
    if (has_bounds && newest < all.back().at)
        broken.push_back("bounds() says that the newest event is " + std::to_string(newest) +
                         ", but read() shows " + std::to_string(all.back().at));
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
    for (size_t i = 0; i < 4; ++i) {
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
            if (s != pj::status::conflict || loaded != pj::status::ok || found.at == 99)
                broken.push_back("the stored revision is 2, but a save of revision " +
                                 std::to_string(revision) + " answers " + detail::named(s) +
                                 (found.at == 99 ? " and is kept" : "") +
                                 "; it should answer conflict and keep what is there");
            if (found.at == 99) break;
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
        if (!holds) broken.push_back(words);
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
    if (kept().size() != before + 1) broken.push_back("a letter that was answered ok is not kept");
    else if (!has(untried)) broken.push_back("a letter's kind, code or attempts are not kept");
    if (put(0, "a", 0, 3, untried) != pj::status::ok)
        broken.push_back("put() of a letter that is kept already is not ok; after a crash it comes "
                         "twice");
    if (kept().size() != before + 1) broken.push_back("a letter given twice is kept twice");
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

} // namespace projections_kit

#endif
