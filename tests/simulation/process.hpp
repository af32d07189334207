// One process: a description of every projection that may run on it, its engines, and their ports.
#ifndef PROJECTIONS_TESTS_SIMULATION_PROCESS_HPP
#define PROJECTIONS_TESTS_SIMULATION_PROCESS_HPP

#include "ports.hpp"

#include <memory>

namespace simulation {

// ---- events

/// What a payload says: which row it is, and whether that can be true.
struct payload { uint32_t row, check; };
inline uint32_t check_of(uint32_t row) { return row * 2654435761u ^ 0x5EED; }
inline bool open(const pj::stored_event& in, uint32_t& row) {
    payload p;
    if (!in.payload.copy_to(p)) return false;
    row = p.row;
    return p.check == check_of(p.row);
}
template<uint32_t Type> struct happening {
    static constexpr pj::event_type type{type_names[Type]};
    uint32_t row;
    static bool decode(const pj::stored_event& in, happening& out) { return open(in, out.row); }
};
using alpha = happening<0>;
using beta = happening<1>;
using gamma = happening<2>;
inline int32_t row_of(const pj::stored_event& event) {
    payload p{};
    static_cast<void>(event.payload.copy_to(p));
    return static_cast<int32_t>(p.row);
}

// ---- handlers

struct hand {
    machine& on;
    uint32_t number;

    pj::verdict run(int32_t index, const pj::context& with) {
        world& in = on.in;
        ++in.sum.handler_calls;
        if (on.is_dead) return pj::fail();
        witness& w = *on.current;
        on.judging.called(w, number, index, with, on.local());
        const position at = with.event.at;
        const row r = in.get(index);
        if (r.is_deadly && in.has_faults && in.random.one_in(2)) {
            on.dies("of what it handles");
            return pj::fail();
        }
        const bool applies_first = in.random.one_in(2);
        const pj::verdict said = decide(r, with);
        if (applies_first) apply(w, index, said, with.fencing_token);
        on.travel();
        if (on.is_dead) return pj::fail();
        if (!applies_first && !apply(w, index, said, with.fencing_token))
            return tell(w, at, pj::fail(9));
        return tell(w, at, said);
    }

private:
    pj::verdict decide(const row& r, const pj::context& with) {
        world& in = on.in;
        if ((r.refused_by >> number & 1u) != 0) return pj::reject(1);
        if (!in.has_faults) return pj::handled;
        const fault_rates& f = in.with.faults;
        if (in.random.happens(f.fails)) return pj::fail(in.random.below(100));
        if (in.random.happens(f.rejects)) return pj::reject(2);
        if (in.random.happens(f.pends))
            return in.random.one_in(2) ? pj::pending : pj::pending_for(in.random.between(1, 300));
        if (in.random.happens(f.throws)) return pj::fail(pj::code_thrown);
        if (in.random.happens(20)) static_cast<void>(with.extend_lease());
        if (in.random.happens(20)) with.waker.wake();
        return pj::handled;
    }
    /// False: the model has seen a newer token, so this process is not the one to write.
    bool apply(witness& w, int32_t index, pj::verdict said, uint64_t token) {
        world& in = on.in;
        const bool is_whole = said.what() == pj::verdict::kind::handled;
        if (said.what() == pj::verdict::kind::pending) return true;
        if (on.judging.config_of(w).has_units) {
            w.unit.effects.push_back({number, index, is_whole});
            return true;
        }
        kept& k = in.store[on.judging.key_of(w)];
        if (!w.is_in_memory && token < k.model_token) return false;
        if (is_whole) {
            on.judging.mark(w, number, index) |= model::handled;
            k.model_token = token > k.model_token ? token : k.model_token;
        }
        return true;
    }
    pj::verdict tell(witness& w, position at, pj::verdict said) {
        const pj::verdict::kind kind = said.what();
        on.judging.answered(w, number, at,
                            kind == pj::verdict::kind::handled   ? answer::handled
                            : kind == pj::verdict::kind::pending ? answer::pending
                                                                 : answer::failed,
                            w.tick_ms);
        on.in.say(&w, "  %s %lld: %u", handler_names[number], shown(at),
                  static_cast<unsigned>(kind));
#if PROJECTIONS_EXCEPTIONS
        if (said == pj::fail(pj::code_thrown)) throw std::runtime_error("a handler throws");
#endif
        return said;
    }
};

struct first_hand : hand {
    using handles = pj::events<alpha, beta>;
    static constexpr const char* handler_name = handler_names[0];
    pj::verdict on(const alpha& e, const pj::context& c) { return row(e.row, c); }
    pj::verdict on(const beta& e, const pj::context& c) { return row(e.row, c); }
    pj::verdict row(uint32_t r, const pj::context& c) { return run(static_cast<int32_t>(r), c); }
};
struct second_hand : hand {
    using handles = pj::events<alpha, gamma>;
    static constexpr const char* handler_name = handler_names[1];
    pj::verdict on(const alpha& e, const pj::context& c) { return row(e.row, c); }
    pj::verdict on(const gamma& e, const pj::context& c) { return row(e.row, c); }
    pj::verdict row(uint32_t r, const pj::context& c) { return run(static_cast<int32_t>(r), c); }
};
struct mailer_hand : hand {
    using handles = pj::live_only<alpha, gamma>;
    static constexpr const char* handler_name = handler_names[mailer];
    pj::verdict on(const alpha& e, const pj::context& c) { return row(e.row, c); }
    pj::verdict on(const gamma& e, const pj::context& c) { return row(e.row, c); }
    pj::verdict row(uint32_t r, const pj::context& c) { return run(static_cast<int32_t>(r), c); }
};
struct audit_hand : hand {
    using handles = pj::every_event;
    static constexpr const char* handler_name = handler_names[audit];
    pj::verdict on(const pj::stored_event& e, const pj::context& c) { return run(row_of(e), c); }
};

// ---- the log

/// Shows rows in memory that lives during the visit only.
struct log_port {
    machine& on;
    const projection_config& how;

    status bounds(position& trimmed, position& newest, uint64_t& id) {
        return on.call("bounds", 0, false, [&] {
            trimmed = on.in.trimmed;
            newest = on.in.newest() > on.in.trimmed ? on.in.newest() : on.in.trimmed;
            id = 7;
            return status::ok;
        }, false);
    }
    status read(position after, pj::visitor& visit) {
        ++on.in.sum.calls;
        if (on.is_dead) return status::failed;
        on.in.say(on.current, "read %lld", shown(after));
        on.travel();
        if (on.is_dead) return status::failed;
        const fate f = on.draw(false, true);
        if (f == fate::failed) return status::failed;
        const bool is_cut = f != fate::fine || (on.in.has_faults && on.in.random.happens(300));
        const uint32_t most = is_cut ? on.in.random.below(6) : ~0u;
        if (after < on.in.trimmed) return status::trimmed;
        const bool is_short = show(after, visit, most);
        return f == fate::pending ? status::pending
             : f == fate::lost    ? status::failed
             : is_short           ? status::more : status::ok;
    }

private:
    /// True: there is more.
    bool show(position after, pj::visitor& visit, uint32_t most) {
        world& in = on.in;
        const uint32_t limit = visit.wanted() < most ? visit.wanted() : most;
        std::vector<int32_t> found;
        const pj::partition part = visit.of();
        int32_t i = in.floor_of(after) + 1;
        const int32_t end = static_cast<int32_t>(in.rows.size());
        for (; i < end && found.size() < limit; ++i) {
            const row& r = in.get(i);
            if (!in.is_visible(r)) continue;
            const uint32_t p = on.current->projection;
            if (how.store_filters && part.count > 1 && in.partition_of(p, r) != part.index) {
                // Only where nothing that was shown so far is still to be visited.
                if (how.numbers.batch != 0 && found.empty()) visit.scanned_to(r.at);
                else break;
                continue;
            }
            found.push_back(i);
        }
        const bool is_told_to_stop = !visit_all(found, visit);
        return !is_told_to_stop && i < end && anything_from(i);
    }
    bool anything_from(int32_t i) const {
        for (; i < static_cast<int32_t>(on.in.rows.size()); ++i) {
            if (on.in.is_visible(on.in.get(i))) return true;
        }
        return false;
    }
    bool visit_all(const std::vector<int32_t>& found, pj::visitor& visit) {
        const size_t slice = how.slice == 0 ? 1 : how.slice;
        for (size_t i = 0; i < found.size(); i += slice) {
            const size_t count = found.size() - i < slice ? found.size() - i : slice;
            std::vector<payload> payloads(count);
            std::vector<pj::stored_event> events(count);
            for (size_t j = 0; j < count; ++j)
                fill(events[j], payloads[j], found[i + j]);
            const bool goes_on = how.slice == 0 ? visit(events[0])
                                                : visit(events.data(), count) == count;
            for (size_t j = 0; j < count; ++j) {
                payloads[j] = {0, 0xDDDDDDDD};
                events[j] = {};
            }
            if (!goes_on || on.is_dead) return false;
        }
        return true;
    }

public:
    void fill(pj::stored_event& e, payload& p, int32_t index) const {
        const row& r = on.in.get(index);
        const uint32_t number = static_cast<uint32_t>(index);
        p = {number, check_of(number) ^ (r.is_bad ? 1u : 0u)};
        e.at = r.at;
        e.type = pj::type_key(type_names[r.type]);
        e.payload = pj::bytes(&p, sizeof p);
        e.aggregate_id = on.in.aggregates[r.aggregate];
    }
};

// ---- the rest of the ports

struct letter_port {
    machine& on;
    status put(const pj::dead_letter& f) {
        witness& w = *on.current;
        world& in = on.in;
        const int32_t index = row_of(f.event);
        const projection_config& p = on.judging.config_of(w);
        uint32_t who = handler_count;
        for (uint32_t h = 0; h < handler_count; ++h) {
            if (f.handler == pj::text(handler_names[h])) who = h;
        }
        if (!on.is_dead) {
            on.judging.begins(w, "a letter", on.engine->fencing_token());
            if (p.policy != policy_kind::letter && p.policy != policy_kind::retry_letter &&
                p.policy != policy_kind::custom)
                in.fail("event %lld is lettered against the policy", shown(f.event.at));
            if (!p.has_units && w.letters.count({who, f.event.at}) != 0)
                in.fail("G12 a letter of event %lld twice", shown(f.event.at));
        }
        const position request = f.event.at * 8 + who + (position{w.units} << 40);
        const status s = on.call("put", request, false, [&] {
            ++in.sum.letters;
            if (!p.has_units || !p.letters_inside) {
                on.judging.given_up(w, f, index, model::lettered);
                return status::ok;
            }
            const std::vector<uint8_t> before = marks(w, index);
            on.judging.given_up(w, f, index, model::lettered);
            for (uint32_t h = 0; h < handler_count; ++h) {
                uint8_t& m = on.judging.mark(w, h, index);
                if (m == before[h] && (before[h] & model::lettered) == 0) continue;
                w.unit.letters.emplace_back(h, index);
                m = before[h];
            }
            return status::ok;
        });
        if (s == status::ok) w.letters.insert({who, f.event.at});
        return s;
    }

private:
    std::vector<uint8_t> marks(witness& w, int32_t index) {
        std::vector<uint8_t> all;
        for (uint32_t h = 0; h < handler_count; ++h) all.push_back(on.judging.mark(w, h, index));
        return all;
    }
};

struct observer_port {
    machine& on;
    const projection_config& how;
    void operator()(const pj::notice& n) const {
        if (on.is_dead || on.current == nullptr) return;
        witness& w = *on.current;
        world& in = on.in;
        in.say(&w, "  notice %s at %lld: %s", pj::to_string(n.kind), shown(n.at),
               pj::to_string(n.reason));
        switch (n.kind) {
        case pj::notice_kind::loaded: on.judging.loaded(w, n.at); break;
        case pj::notice_kind::handler_failed:
            on.judging.failed(w, *n.cause);
            break;
        case pj::notice_kind::lease_lost:
            w.forget_all();
            if (!in.may_lose_leases) in.fail("without faults a lease is lost");
            break;
        case pj::notice_kind::gap_skipped: ++in.sum.gaps; break;
        case pj::notice_kind::halted: ++in.sum.halts; break;
        case pj::notice_kind::event_vanished:
            // (A model in memory begins with what the log still has, so what was trimmed may be.)
            if (!w.is_in_memory || n.at > in.trimmed)
                in.fail("event %lld is said to have vanished", shown(n.at));
            break;
        case pj::notice_kind::event_skipped:
            if (n.cause != nullptr) on.judging.skipped(w, *n.cause, row_of(n.cause->event));
            else on.judging.skipped_by_hand(w, in.row_at(n.at));
            break;
        default: break;
        }
    }
};

struct description {
    description(machine& host, uint32_t which, const projection_config& config)
        : on(host), number(which), how(config), name("p" + std::to_string(which)) {
        pj::projection& p = what;
        p = how.numbers;
        p.name = name;
        p.log = log;
        if (!how.has_bounds) p.log.bounds = nullptr;
        if (how.has_audit) p.handlers = four;
        else if (how.uses_map) p.handlers = map.add(one).add(two).add(three);
        else p.handlers = all;
        p.checkpoints = store;
        if (how.has_units) p.transaction = unit;
        if (how.has_letters) p.dead_letters = letters;
        p.observe = observes;
        p.clock = reads_clock;
        p.on_unknown = how.fails_unknown ? pj::unknown_types::fail : pj::unknown_types::ignore;
        p.delays.seed = host.number * 31 + which + 1;
        p.tick_ms_max = how.tick_ms_max;
        p.volatile_model = how.kind == engine_kind::in_memory;
        if (host.in.with.trims && how.has_bounds) p.first_start = pj::begin_at::oldest_kept;
        if (how.has_filter) p.filter = filters;
        if (how.has_guard) p.crashes = &guard;
        choose_policy();
        // What the broker keeps as a letter is no hole for the checkpoint to wait at.
        const bool has_holes = how.kind == engine_kind::queue ||
                               (how.kind == engine_kind::sink && !how.has_letters);
        if (host.in.with.is_dense && !has_holes) {
            p.gaps = &gaps;
            gaps.timeout_ms = host.in.with.tells_dead ? pj::never : host.in.with.gap_ms;
            if (host.in.with.tells_dead) gaps.is_dead = knows_dead;
        }
        if (how.has_lease) {
            lease.ttl_ms = host.in.with.lease_ms;
            lease.margin_ms = host.in.with.margin_ms;
            p.lease = &lease;
        }
        with.limit = &limit;
    }
    description(const description&) = delete;
    description& operator=(const description&) = delete;

    void choose_policy() {
        pj::error_policy& p = what.on_error;
        switch (how.policy) {
        case policy_kind::skip: p = pj::error_policy::skip(); break;
        case policy_kind::halt: p = pj::error_policy::retry(how.retries); break;
        case policy_kind::letter: p = pj::error_policy::dead_letter(); break;
        case policy_kind::retry_skip: p = pj::error_policy::retry_then_skip(how.retries); break;
        case policy_kind::retry_letter:
            p = pj::error_policy::retry_then_dead_letter(how.retries);
            break;
        case policy_kind::custom: p = pj::error_policy::custom(decides); break;
        }
    }

    machine& on;
    uint32_t number;
    const projection_config& how;
    std::string name;
    first_hand one{{on, 0}};
    second_hand two{{on, 1}};
    mailer_hand three{{on, mailer}};
    audit_hand last{{on, audit}};
    pj::registry<first_hand, second_hand, mailer_hand> all{one, two, three};
    pj::registry<first_hand, second_hand, mailer_hand, audit_hand> four{one, two, three, last};
    pj::handler_map<8> map{};
    log_port log{on, how};
    store_port store{on, how.in_flash};
    unit_port unit{on};
    lease_port leases{on};
    letter_port letters{on};
    observer_port observes{on, how};
    struct { machine& m; uint32_t operator()() const { return m.clock(); } } reads_clock{on};
    struct {
        description& d;
        bool operator()(const pj::stored_event& e) const {
            return !d.on.in.is_filtered(d.number, d.on.in.get(row_of(e)));
        }
    } filters{*this};
    struct {
        const projection_config& how;
        pj::decision operator()(const pj::failure& f) const {
            if (f.kind == pj::failure_kind::transient && f.attempts <= how.retries)
                return pj::decision::retry_after(5);
            return f.event.at % 2 == 0 && how.has_letters ? pj::decision::dead_letter()
                                                           : pj::decision::skip();
        }
    } decides{how};
    /// True: nothing will ever appear there.
    struct {
        machine& m;
        bool operator()(position from, position to) const {
            for (position at = from; at <= to; ++at) {
                const int32_t i = m.in.row_at(at);
                if (i < 0 || !m.in.get(i).is_dead) return false;
            }
            return true;
        }
    } knows_dead{on};
    pj::gap_guard gaps{};
    pj::crash_guard guard{static_cast<uint16_t>(how.crashes_max)};
    pj::lease lease{leases};
    pj::partition_limit limit{1000};
    pj::partition_options with{};
    pj::projection what{};
};

} // namespace simulation

#endif
