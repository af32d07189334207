// A database with transactions: a log, read models, checkpoints and dead letters in one place.
// What is done in a unit of work becomes durable at its commit; outside one, at once. At the k-th
// call of a port or handler the power may fail, before or after what it does, and every call may
// answer oddly instead. Whatever is durable is looked at whenever it changes: with a unit of work,
// events at or below the checkpoint have their outcome exactly once, and those above it not at all.
// It may be used over several connections, one for each process, and gives out leases by its own
// clock.
#ifndef PROJECTIONS_TESTS_SUPPORT_DATABASE_HPP
#define PROJECTIONS_TESTS_SUPPORT_DATABASE_HPP

#include "support/world.hpp"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <utility>

namespace support {

/// Where the power fails, or a call does not do what it should. `call` counts from 1.
struct trouble {
    enum class kind : uint8_t {
        none, dies_before, dies_after, failed, lost_answer, pending, illegal, wrong, throws,
        slow                            // does it, but takes database::slow_ms
    };
    uint32_t call = 0;
    kind what = kind::none;
};

/// Who is called. Those from `decode` on have no effect that could last.
enum class callee : uint8_t {
    read, bounds, load, save, put, begin, commit, rollback, acquire, extend, release, subscribe,
    unsubscribe, drop, acknowledge, handler, decode, filter, observer, policy, verdict, clock,
    progress, open
};

class database {
public:
    struct letter {
        pj::failure_kind kind;
        uint32_t code, attempts;
        bool operator==(const letter& o) const {
            return kind == o.kind && code == o.code && attempts == o.attempts;
        }
    };
    using letter_key = std::pair<std::string, pj::position>;    // handler, position
    /// Everything that a unit of work covers.
    struct tables {
        std::map<letter_key, int> applied;          // how often a handler's effect is there
        std::map<letter_key, letter> letters;
        std::map<letter_key, int> put_twice;
        std::map<std::string, pj::checkpoint> records;
    };
    struct event {
        std::string type;
        std::string aggregate;
    };

    // ---- what survives
    std::map<pj::position, event> events;
    tables durable;

    // ---- what is to happen
    std::vector<trouble> troubles;
    bool letters_inside = true;         // false: a letter is durable at once, unit or not
    bool has_units = true;
    bool strict = true;                 // check_durable() at every change
    pj::position trimmed = pj::before_first;
    std::function<void()> on_change;    // whenever something becomes durable
    std::function<void(const std::string&)> on_broken;  // a promise is; else the test case fails
    std::map<pj::position, uint32_t> visible_from_ms;   // other events are from the beginning
    bool slices = false;                // read() shows several events at once
    bool keeps_positions_only = false;  // as a Python deployment's store
    bool forgets_saves = false;         // a store that lies, to see that it is seen
    uint32_t slow_ms = 1500;
    const void* extra = nullptr;        // of every event shown
    bool is_quiet = false;              // calls are neither counted nor troubled
    uint32_t who = 0;                   // which of the connections below is used

    // ---- what is seen
    bool dead = false;
    uint32_t calls = 0;
    uint32_t begun = 0, committed = 0, rolled_back = 0;
    std::vector<std::string> trace;
    std::vector<callee> called;         // by number, from 0
    uint32_t now_ms = 0;
    std::vector<pj::position> shown;    // by the read under way

    database& append(const std::string& type, const std::string& aggregate = "x") {
        const pj::position at = events.empty() ? 0 : events.rbegin()->first + 1;
        events[at] = {type, aggregate};
        return *this;
    }
    database& append(uint32_t count, const std::string& type) {
        for (uint32_t i = 0; i < count; ++i) append(type, "agg" + std::to_string(i % 3));
        return *this;
    }
    pj::position newest() const { return events.empty() ? trimmed : events.rbegin()->first; }
    pj::checkpoint record(const std::string& key = "p") const {
        const auto found = durable.records.find(key);
        return found == durable.records.end() ? pj::checkpoint{} : found->second;
    }
    int applied(const std::string& handler, pj::position at) const {
        const auto found = durable.applied.find({handler, at});
        return found == durable.applied.end() ? 0 : found->second;
    }
    bool has_letter(const std::string& handler, pj::position at) const {
        return durable.letters.count({handler, at}) != 0;
    }
    std::string letter_keys() const {
        std::string all;
        for (const auto& [key, what] : durable.letters) {
            all += (all.empty() ? "" : " ") + key.first + "@" + std::to_string(key.second);
        }
        return all;
    }
    bool is_open() const { return mine().is_open && !mine().is_lost; }

    /// After the power failed: what was open is gone. Calls are counted anew.
    void boot() {
        reconnect();
        calls = 0;
    }
    /// After the process of this connection has died.
    void reconnect() {
        dead = false;
        mine().is_open = false;
        is_reading_ = false;
    }
    void must(bool holds, const char* promise) const {
        if (holds) return;
        if (on_broken) on_broken(promise);
        else CHECK_MESSAGE(holds, promise);
    }

    // ---- a call of a port or handler begins, and ends
    trouble::kind begins(callee what = callee::handler) {
        if (dead) return trouble::kind::dies_before;
        if (is_quiet) return trouble::kind::none;
        ++calls;
        called.push_back(what);
        for (const trouble& t : troubles) {
            if (t.call != calls) continue;
            if (t.what == trouble::kind::dies_before) dead = true;
            trace.push_back("! trouble " + std::to_string(static_cast<int>(t.what)) +
                            " at a call of " + std::to_string(static_cast<int>(what)));
            return t.what;
        }
        return trouble::kind::none;
    }
    static bool works(trouble::kind t) {
        return t == trouble::kind::none || t == trouble::kind::dies_after ||
               t == trouble::kind::lost_answer || t == trouble::kind::slow;
    }
    /// A call whose answer is no status: it may throw, take long, or be the last one.
    trouble::kind plain_call(callee what) {
        const trouble::kind t = begins(what);
        if (t == trouble::kind::slow) now_ms += slow_ms;
        if (t == trouble::kind::dies_after) dead = true;
        return t;
    }
    static void throw_if([[maybe_unused]] trouble::kind t) {
#if PROJECTIONS_EXCEPTIONS
        if (t == trouble::kind::throws) throw std::runtime_error("a call throws");
#endif
    }
    pj::status ends(trouble::kind t, pj::status answer, pj::status wrong = pj::status::more) {
        if (t == trouble::kind::dies_after) dead = true;
        if (dead) return pj::status::failed;
        throw_if(t);
        if (t == trouble::kind::slow) now_ms += slow_ms;
        switch (t) {
        case trouble::kind::none:
        case trouble::kind::slow: return answer;
        case trouble::kind::pending: return pj::status::pending;
        case trouble::kind::illegal: return static_cast<pj::status>(0xEE);
        case trouble::kind::wrong: return wrong;
        default: return pj::status::failed;
        }
    }

    // ---- the unit of work
    pj::status begin() {
        const trouble::kind t = begins(callee::begin);
        if (!works(t)) return ends(t, pj::status::ok);
        connection& my = mine();
        must(!is_reading_, "begin() inside read()");
        must(!my.is_open || my.is_lost, "begin() in an open unit");
        if (my.is_open) ++rolled_back;
        my.is_lost = t == trouble::kind::lost_answer;
        my.is_open = true;
        my.working = durable;
        if (has_neighbours) my.base = durable;
        my.version = version_;
        ++begun;
        trace.push_back("begin");
        return ends(t, pj::status::ok);
    }
    pj::status commit() {
        const trouble::kind t = begins(callee::commit);
        if (!works(t)) {
            if (on_uncommitted && t != trouble::kind::pending && !dead) on_uncommitted();
            // Some stores cannot commit what these events did, whoever asks how often.
            return ends(t, pj::status::ok, pj::status::conflict);
        }
        connection& my = mine();
        must(!is_reading_, "commit() inside read()");
        must(my.is_open, "commit() without a unit");
        if (refuses_commit && refuses_commit(my.working, durable)) return pj::status::failed;
        if (my.version == version_) durable = my.working;
        else if (!merge(my)) {          // somebody else was quicker
            if (on_uncommitted) on_uncommitted();
            return pj::status::failed;
        }
        my.is_open = false;
        ++version_;
        ++committed;
        trace.push_back("commit");
        changed();
        if (on_lost_commit && t == trouble::kind::lost_answer) on_lost_commit();
        return ends(t, pj::status::ok, pj::status::conflict);
    }
    pj::status rollback() {
        const trouble::kind t = begins(callee::rollback);
        connection& my = mine();
        if (on_rollback) on_rollback();
        if (!works(t)) {
            my.is_lost = my.is_lost || t != trouble::kind::pending;
            return ends(t, pj::status::ok);
        }
        must(!is_reading_, "rollback() inside read()");
        if (my.is_open) ++rolled_back;
        my.is_open = false;
        trace.push_back("rollback");
        return ends(t, pj::status::ok);
    }
    bool has_neighbours = false;        // others commit on other connections
    std::function<void()> on_uncommitted;       // commit() does not do it
    std::function<void()> on_lost_commit;       // done, and answered with failed
    std::function<void()> on_rollback;
    /// Whether a commit fails because of what it would make durable.
    std::function<bool(const tables& next, const tables& now)> refuses_commit;

    // ---- log
    pj::status read(pj::position after, pj::visitor& visit) {
        const trouble::kind t = begins(callee::read);
        if (!works(t)) return ends(t, pj::status::ok, pj::status::conflict);
        is_reading_ = true;
        std::vector<pj::stored_event> slice;
        bool goes_on = true;
        for (auto next = events.upper_bound(after); next != events.end() && goes_on; ++next) {
            if (dead) break;
            const auto hidden = visible_from_ms.find(next->first);
            if (hidden != visible_from_ms.end() && now_ms < hidden->second) continue;
            pj::stored_event one;
            one.at = next->first;
            one.type = pj::text(next->second.type);
            one.aggregate_id = next->second.aggregate;
            one.extra = extra;
            if (before_visit) before_visit(after, one.at);
            if (!slices) goes_on = visit(one);
            else slice.push_back(one);
            if (slice.size() < 3) continue;
            goes_on = visit(slice.data(), slice.size()) == slice.size();
            slice.clear();
        }
        if (goes_on && !slice.empty() && !dead)
            static_cast<void>(visit(slice.data(), slice.size()));
        is_reading_ = false;
        return ends(t, pj::status::ok, pj::status::conflict);
    }
    std::function<void(pj::position after, pj::position at)> before_visit;
    pj::status bounds(pj::position& gone, pj::position& newest_out, uint64_t& id) {
        const trouble::kind t = begins(callee::bounds);
        if (!works(t)) return ends(t, pj::status::ok);
        gone = trimmed;
        newest_out = newest();
        id = 77;
        return ends(t, pj::status::ok);
    }

    // ---- checkpoints
    pj::status load(pj::text key, pj::checkpoint& out) {
        const trouble::kind t = begins(callee::load);
        if (!works(t)) return ends(t, pj::status::ok, pj::status::conflict);
        must(!is_reading_, "load() inside read()");
        const auto found = durable.records.find(std::string(key.data(), key.size()));
        if (found != durable.records.end()) out = found->second;
        return ends(t, pj::status::ok);
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        const trouble::kind t = begins(callee::save);
        if (!works(t)) return ends(t, pj::status::ok);
        must(!is_reading_, "save() inside read()");
        pj::checkpoint& kept = now().records[std::string(key.data(), key.size())];
        if (next.revision != kept.revision + 1 || next.fencing_token < kept.fencing_token)
            return ends(t, pj::status::conflict);
        if (keeps_positions_only) {
            kept.at = next.at;
            kept.revision = next.revision;
        } else if (!forgets_saves || next.at < 2) {
            kept = next;
        } else {
            kept.revision = next.revision;
        }
        trace.push_back("save " + std::to_string(next.at));
        if (!is_open()) {
            ++version_;
            changed();
        }
        return ends(t, pj::status::ok);
    }

    // ---- leases
    pj::status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
        const trouble::kind t = begins(callee::acquire);
        if (!works(t)) return ends(t, pj::status::ok);
        grant& g = grants[std::string(resource.data(), resource.size())];
        if (now_ms < g.until_ms) return ends(t, pj::status::conflict);
        g = {++last_token_, now_ms + ttl_ms, who};
        token = g.token;
        return ends(t, pj::status::ok);
    }
    pj::status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
        const trouble::kind t = begins(callee::extend);
        if (!works(t)) return ends(t, pj::status::ok);
        grant& g = grants[std::string(resource.data(), resource.size())];
        if (g.token != token || now_ms >= g.until_ms) return ends(t, pj::status::conflict);
        g.until_ms = now_ms + ttl_ms;
        return ends(t, pj::status::ok);
    }
    pj::status release(pj::text resource, uint64_t token) {
        const trouble::kind t = begins(callee::release);
        if (!works(t)) return ends(t, pj::status::ok);
        grant& g = grants[std::string(resource.data(), resource.size())];
        if (g.token == token) g.until_ms = 0;
        return ends(t, pj::status::ok);
    }
    struct grant {
        uint64_t token;
        uint32_t until_ms, who;
    };
    std::map<std::string, grant> grants;

    // ---- the broker's client
    pj::status subscribe(pj::text, pj::text) { return answer(callee::subscribe); }
    pj::status unsubscribe(pj::text, pj::text) { return answer(callee::unsubscribe); }
    pj::status answer(callee what) {
        const trouble::kind t = begins(what);
        return ends(t, pj::status::ok);
    }

    // ---- letters
    pj::status put(const pj::dead_letter& l) {
        const trouble::kind t = begins(callee::put);
        if (!works(t)) return ends(t, pj::status::ok);
        const letter_key key{std::string(l.handler.data(), l.handler.size()), l.event.at};
        tables& where = letters_inside ? now() : durable;
        if (where.letters.count(key) != 0) ++where.put_twice[key];
        where.letters[key] = {l.kind, l.code, l.attempts};
        if (!letters_inside && is_open()) {
            mine().working.letters[key] = where.letters[key];
            mine().working.put_twice = where.put_twice;
        }
        trace.push_back("put " + key.first + "@" + std::to_string(key.second));
        return ends(t, pj::status::ok);
    }

    // ---- effects
    void apply(const std::string& handler, pj::position at) { ++now().applied[{handler, at}]; }
    void clear_model() { now().applied.clear(); }
    tables& now() { return is_open() ? mine().working : durable; }
    void changed() {
        if (on_change) on_change();
    }

private:
    struct connection {
        tables working{}, base{};       // base: what was durable when the unit began
        uint32_t version = 0;           // of base
        bool is_open = false;
        bool is_lost = false;           // nobody knows that it is open: the next begin() ends it
    };
    /// Makes durable what the unit has changed, unless another has changed one of its rows.
    bool merge(const connection& my) {
        const auto rows = [](auto& next, const auto& base, const auto& working, bool writes) {
            for (const auto& [key, row] : working) {
                const auto old = base.find(key);
                if (old != base.end() && same(old->second, row)) continue;
                const auto now = next.find(key);
                const bool is_same = now == next.end() ? old == base.end()
                                   : old != base.end() && same(now->second, old->second);
                if (writes) next[key] = row;
                else if (!is_same) return false;
            }
            return true;
        };
        for (const bool writes : {false, true}) {
            if (!rows(durable.records, my.base.records, my.working.records, writes) ||
                !rows(durable.applied, my.base.applied, my.working.applied, writes) ||
                !rows(durable.letters, my.base.letters, my.working.letters, writes)) {
                return false;
            }
        }
        return true;
    }
    static bool same(const pj::checkpoint& a, const pj::checkpoint& b) {
        return a.revision == b.revision;
    }
    static bool same(int a, int b) { return a == b; }
    static bool same(const letter& a, const letter& b) { return a == b; }
    connection& mine() { return connections_[who]; }
    const connection& mine() const { return connections_[who]; }

    connection connections_[2];
    uint32_t version_ = 0;
    uint64_t last_token_ = 0;
    bool is_reading_ = false;
};

/// A handler whose effect is a row: what it answers is asked call by call.
struct row_writer {
    database& db;
    std::string name;
    /// Asked after the effect is written, so that an effect of a failure has to be rolled back.
    std::function<pj::verdict(const pj::context&)> says;
    std::vector<pj::position> called;
    std::map<pj::position, uint32_t> times;

    row_writer(database& in, std::string handler) : db(in), name(std::move(handler)) {}
    pj::verdict run(const pj::context& c) {
        const trouble::kind t = db.begins();
        if (!database::works(t)) return wrong(t);
        called.push_back(c.event.at);
        ++times[c.event.at];
        const pj::verdict v = says ? says(c) : pj::handled;
        // A failing handler leaves half of its work behind; a pending one has not done any.
        if (v.what() != pj::verdict::kind::pending) db.apply(name, c.event.at);
        if (v != pj::handled) {
            static_cast<void>(db.ends(t, pj::status::ok));
            return v;
        }
        return wrong(t);
    }

private:
    pj::verdict wrong(trouble::kind t) { return db.ends(t, pj::status::ok); }
};

/// Fails so many times at one event, after it has done it so many times.
inline auto failing(pj::position at, uint32_t times, pj::verdict v = pj::fail(7),
                    uint32_t after = 0) {
    return [at, v, left = std::make_shared<uint32_t>(times),
            passes = std::make_shared<uint32_t>(after)](const pj::context& c) {
        if (c.event.at != at) return pj::handled;
        if (*passes != 0) {
            --*passes;
            return pj::handled;
        }
        if (*left == 0) return pj::handled;
        --*left;
        return v;
    };
}

} // namespace support

#endif
