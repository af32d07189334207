// A database with transactions: a log, read models, checkpoints and dead letters in one place. What
// is done in a unit of work becomes durable at its commit; outside one, at once. At the k-th call of
// a port or handler the power may fail, before or after what it does, and every call may answer
// oddly instead. Whatever is durable is looked at whenever it changes: with a unit of work, events
// at or below the checkpoint have their outcome exactly once, and those above it not at all.
#ifndef PROJECTIONS_TESTS_SUPPORT_DATABASE_HPP
#define PROJECTIONS_TESTS_SUPPORT_DATABASE_HPP

#include "support/world.hpp"

#include <functional>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace support {

/// Where the power fails, or a call does not do what it should. `call` counts from 1.
struct trouble {
    enum class kind : uint8_t {
        none, dies_before, dies_after, failed, lost_answer, pending, illegal, wrong, throws
    };
    uint32_t call = 0;
    kind what = kind::none;
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

    // ---- what is seen
    bool dead = false;
    uint32_t calls = 0;
    uint32_t begun = 0, committed = 0, rolled_back = 0;
    std::vector<std::string> trace;
    pj::position handled_now = pj::before_first;

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
    bool is_open() const { return is_open_ && !is_lost_; }

    /// After the power failed: what was open is gone.
    void boot() {
        dead = false;
        is_open_ = false;
        calls = 0;
    }

    // ---- a call of a port or handler begins, and ends
    trouble::kind begins() {
        if (dead) return trouble::kind::dies_before;
        ++calls;
        for (const trouble& t : troubles) {
            if (t.call != calls) continue;
            if (t.what == trouble::kind::dies_before) dead = true;
            return t.what;
        }
        return trouble::kind::none;
    }
    static bool works(trouble::kind t) {
        return t == trouble::kind::none || t == trouble::kind::dies_after ||
               t == trouble::kind::lost_answer;
    }
    pj::status ends(trouble::kind t, pj::status answer, pj::status wrong = pj::status::more) {
        if (t == trouble::kind::dies_after) dead = true;
        if (dead) return pj::status::failed;
#if PROJECTIONS_EXCEPTIONS
        if (t == trouble::kind::throws) throw std::runtime_error("a call throws");
#endif
        switch (t) {
        case trouble::kind::none: return answer;
        case trouble::kind::pending: return pj::status::pending;
        case trouble::kind::illegal: return static_cast<pj::status>(0xEE);
        case trouble::kind::wrong: return wrong;
        default: return pj::status::failed;
        }
    }

    // ---- the unit of work
    pj::status begin() {
        const trouble::kind t = begins();
        if (!works(t)) return ends(t, pj::status::ok);
        CHECK_MESSAGE(!is_reading_, "begin() inside read()");
        CHECK_MESSAGE((!is_open_ || is_lost_), "begin() in an open unit");
        if (is_open_) ++rolled_back;
        is_lost_ = t == trouble::kind::lost_answer;
        is_open_ = true;
        working_ = durable;
        ++begun;
        trace.push_back("begin");
        return ends(t, pj::status::ok);
    }
    pj::status commit() {
        const trouble::kind t = begins();
        if (!works(t)) {
            // Some stores cannot commit what these events did, whoever asks how often.
            return ends(t, pj::status::ok, pj::status::conflict);
        }
        CHECK_MESSAGE(!is_reading_, "commit() inside read()");
        CHECK_MESSAGE(is_open_, "commit() without a unit");
        if (refuses_commit && refuses_commit(working_, durable)) return pj::status::failed;
        durable = working_;
        is_open_ = false;
        ++committed;
        trace.push_back("commit");
        changed();
        return ends(t, pj::status::ok, pj::status::conflict);
    }
    pj::status rollback() {
        const trouble::kind t = begins();
        if (!works(t)) {
            is_lost_ = is_lost_ || t != trouble::kind::pending;
            return ends(t, pj::status::ok);
        }
        CHECK_MESSAGE(!is_reading_, "rollback() inside read()");
        if (is_open_) ++rolled_back;
        is_open_ = false;
        trace.push_back("rollback");
        return ends(t, pj::status::ok);
    }
    /// Whether a commit fails because of what it would make durable.
    std::function<bool(const tables& next, const tables& now)> refuses_commit;

    // ---- log
    pj::status read(pj::position after, pj::visitor& visit) {
        const trouble::kind t = begins();
        if (!works(t)) return ends(t, pj::status::ok);
        is_reading_ = true;
        for (const auto& [at, e] : events) {
            if (at <= after) continue;
            if (dead) break;
            pj::stored_event shown;
            shown.at = at;
            shown.type = pj::text(e.type);
            shown.aggregate_id = e.aggregate;
            if (!visit(shown)) break;
        }
        is_reading_ = false;
        return ends(t, pj::status::ok);
    }
    pj::status bounds(pj::position& gone, pj::position& newest_out, uint64_t& id) {
        const trouble::kind t = begins();
        if (!works(t)) return ends(t, pj::status::ok);
        gone = trimmed;
        newest_out = newest();
        id = 77;
        return ends(t, pj::status::ok);
    }

    // ---- checkpoints
    pj::status load(pj::text key, pj::checkpoint& out) {
        const trouble::kind t = begins();
        if (!works(t)) return ends(t, pj::status::ok);
        CHECK_MESSAGE(!is_reading_, "load() inside read()");
        const auto found = durable.records.find(std::string(key.data(), key.size()));
        if (found != durable.records.end()) out = found->second;
        return ends(t, pj::status::ok);
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        const trouble::kind t = begins();
        if (!works(t)) return ends(t, pj::status::ok);
        CHECK_MESSAGE(!is_reading_, "save() inside read()");
        pj::checkpoint& kept = now().records[std::string(key.data(), key.size())];
        if (next.revision != kept.revision + 1) return ends(t, pj::status::conflict);
        kept = next;
        trace.push_back("save " + std::to_string(next.at));
        if (!is_open_) changed();
        return ends(t, pj::status::ok);
    }

    // ---- letters
    pj::status put(const pj::dead_letter& l) {
        const trouble::kind t = begins();
        if (!works(t)) return ends(t, pj::status::ok);
        const letter_key key{std::string(l.handler.data(), l.handler.size()), l.event.at};
        tables& where = letters_inside ? now() : durable;
        if (where.letters.count(key) != 0) ++where.put_twice[key];
        where.letters[key] = {l.kind, l.code, l.attempts};
        if (!letters_inside && is_open_) {
            working_.letters[key] = where.letters[key];
        }
        trace.push_back("put " + key.first + "@" + std::to_string(key.second));
        return ends(t, pj::status::ok);
    }

    // ---- effects
    void apply(const std::string& handler, pj::position at) { ++now().applied[{handler, at}]; }
    void clear_model() { now().applied.clear(); }
    tables& now() { return is_open_ ? working_ : durable; }
    void changed() {
        if (on_change) on_change();
    }

private:
    tables working_;
    bool is_open_ = false;
    bool is_lost_ = false;              // nobody knows that it is open: the next begin() ends it
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

} // namespace support

#endif
