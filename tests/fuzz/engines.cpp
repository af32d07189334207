// An engine of every kind, driven by bytes: what each port and handler answers, which command comes
// when, how far the clock goes, when the power fails. What has to hold is looked at after every
// call; where the bytes end the faults end, and then everything has to get done.
//
// The stores keep what they say they keep (the kit's compare revisions, tokens and expiry): what
// fails are answers, not promises. Ports that lie are tests/faults/garbage.cpp's.
#include "fuzz/feed.hpp"
#include "kit/projections_kit.hpp"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>

namespace pj = projections;
namespace kit = projections_kit;

namespace {

using fuzz::demand;
using pj::position;
using pj::status;

constexpr uint32_t ttl_ms = 3000, margin_ms = 300, poll_ms = 700, stop_ms = 2000;

struct a_event { static constexpr pj::event_type type{"A", pj::raw}; uint32_t value; };
struct b_event { static constexpr pj::event_type type{"B", pj::raw}; uint32_t value; };

struct entry {
    uint32_t value = 0;
    char type = 'A';                // A, B, or C, which nobody knows
    bool is_damaged = false;        // cannot be decoded
    std::string aggregate() const { return "order-" + std::to_string(value % 5); }
};

/// What a run is about; all zero is a plain worker.
struct setting {
    enum kind : uint8_t { worker, sink, replay, partitions, kinds };
    explicit setting(fuzz::feed& in)
        : kind_(static_cast<kind>(in.below(kinds))), policy(in.below(6)) {
        const uint32_t bits = static_cast<uint32_t>(in.number(2));
        const auto bit = [&](uint32_t n) { return (bits >> n & 1u) != 0; };
        has_lease = bit(0);
        has_gaps = bit(1) && kind_ != sink;
        has_crashes = bit(2);
        has_filter = bit(3);
        has_budget = bit(4);
        has_bounds = bit(5);
        has_letters = bit(6) || policy == 3;
        tells_all = bit(7);
        is_mapped = bit(8);
        fails_unknown = bit(9);
        has_holes = bit(10);
        is_volatile = bit(11) && !has_lease && kind_ == worker;
        is_doubled = bit(12) && has_lease && kind_ == worker;
        has_units = bit(13) && !is_volatile;
        batch = 1 + in.below(8);
        every = 1 + in.below(9);
        first = in.below(20);
        origin_ms = in.bit() ? 0xFFFFF000u : 1000;
    }
    kind kind_;
    uint32_t policy;
    bool has_lease, has_gaps, has_crashes, has_filter, has_budget, has_bounds, has_letters,
        tells_all, is_mapped, fails_unknown, has_holes, is_volatile, is_doubled, has_units;
    uint32_t batch, every, first;
    uint64_t origin_ms;
};

/// What all engines of a run share, and what survives when the power fails.
struct world {
    explicit world(fuzz::feed& bytes) : in(bytes), with(bytes), clock(with.origin_ms) {
        append(with.first);
    }
    fuzz::feed& in;
    setting with;
    kit::manual_clock clock;
    kit::memory_checkpoints store;
    kit::memory_leases leases{clock};
    std::map<position, entry> events;
    position next = 0;
    std::set<std::pair<std::string, position>> done;        // handler and event
    std::set<std::pair<std::string, position>> applied;     // and what units of work have committed
    std::set<position> named{pj::before_first};
    std::map<std::string, position> lowest; // by key: so far back a command has asked to go
    position skipped_through = pj::before_first;            // by the gap guard, or a command
    bool is_dead = false;
    uint32_t calls = 0;                 // of callbacks in this tick

    void append(uint32_t count) {
        for (; count != 0; --count, ++next) {
            const uint32_t n = static_cast<uint32_t>(next) * 7 + with.first;
            if (with.has_holes && n % 11 == 5) continue;
            events[next] = {n, "AABAC"[n % 5], n % 13 == 4};
            named.insert(next);
        }
    }
    position newest() const { return events.empty() ? pj::before_first : events.rbegin()->first; }

    bool is_filtered(const entry& e) const { return with.has_filter && e.value % 6 == 2; }
    bool wants(const std::string& handler, const std::string& key, const entry& e) const {
        if (is_filtered(e)) return false;
        const bool is_part = with.kind_ == setting::partitions;
        const uint32_t mine = static_cast<uint32_t>(key.back() - '0');
        if (is_part && pj::partition_of(e.aggregate(), 2) != mine) return false;
        return handler == "first" ? e.type != 'C' : e.type == (handler == "second" ? 'A' : 'B');
    }
    void settle(const std::string& handler, position at) {
        if (!handler.empty()) done.insert({handler, at});
        else for (const char* who : {"first", "second", "mailer"}) done.insert({who, at});
    }
    void may_go_back(const std::string& key, position to) {
        const auto found = lowest.emplace(key, to).first;
        if (to < found->second) found->second = to;
    }
    /// What was mailed stays mailed.
    void forget_model() {
        for (auto* const all : {&done, &applied}) {
            for (auto i = all->begin(); i != all->end();)
                i = i->first != "mailer" ? all->erase(i) : ++i;
        }
    }
    /// The checkpoint has moved back: what comes after it will be applied again.
    void forget_applied(const std::string& key, position back_to, position replayed) {
        for (auto i = applied.begin(); i != applied.end();) {
            const auto& [who, at] = *i;
            const bool comes_again = at > back_to && wants(who, key, events.at(at)) &&
                                     (who != "mailer" || at > replayed);
            i = comes_again ? applied.erase(i) : ++i;
        }
    }
    void demand_done(const std::string& key, position through, position replayed) const {
        for (const auto& [at, e] : events) {
            if (at > through) break;
            for (const char* who : {"first", "second", "mailer"}) {
                const bool is_silent = *who == 'm' && at <= replayed;
                demand(is_silent || !wants(who, key, e) || done.count({who, at}) != 0,
                       "G1 an event is passed that has no outcome");
            }
        }
    }
    /// A record has become durable.
    void kept(const std::string& key, const pj::checkpoint& before, const pj::checkpoint& now) {
        demand(named.count(now.at) != 0, "G2 a position that nobody named is saved");
        const auto back = lowest.find(key);
        demand(now.at >= before.at || (back != lowest.end() && now.at >= back->second),
               "G2 the checkpoint moves back by itself");
        if (back != lowest.end() && now.at == back->second) lowest.erase(back);
        if (now.at < before.at) forget_applied(key, now.at, now.replayed_through);
        if (now.at > before.at) demand_done(key, now.at, now.replayed_through);
    }
};

/// One process: a description, and the engine while the power is on.
template<class Engine> struct host {
    world& in;
    const std::string key;
    const pj::partition of;
    std::optional<Engine> engine{};
    pj::projection what{};
    struct lease_port {
        host* to;
        status acquire(pj::text resource, uint32_t ttl, uint64_t& token) {
            return to->through([&] { return to->in.leases.acquire(resource, ttl, token); });
        }
        status extend(pj::text resource, uint32_t ttl, uint64_t token) {
            return to->through([&] { return to->in.leases.extend(resource, ttl, token); });
        }
        status release(pj::text resource, uint64_t token) {
            return to->through([&] { return to->in.leases.release(resource, token); });
        }
    } leases{this};
    pj::lease lease;
    pj::crash_guard crashes{2};
    pj::gap_guard gaps{300};
    pj::error_policy replaying = pj::error_policy::skip();
    pj::partition_limit limit{2};
    pj::partition_options parts{};
    pj::replay_options rebuild{};
    pj::tick_result last{};
    pj::start_cause cause = pj::start_cause::clean;
    // a unit of work, on a connection of this process
    bool is_open = false;
    std::set<std::pair<std::string, position>> staged{};
    std::optional<pj::checkpoint> staged_record{};
    // a sink's broker
    position acknowledged = pj::before_first;
    position offered = pj::before_first;
    std::set<position> later{};

    template<int I, class List> struct hand_of {
        using handles = List;
        host* to;
        pj::verdict on(const a_event& e, const pj::context& c) { return to->handle(I, e.value, c); }
        pj::verdict on(const b_event& e, const pj::context& c) { return to->handle(I, e.value, c); }
    };
    struct first_hand : hand_of<0, pj::events<a_event, b_event>> {
        static constexpr const char* handler_name = "first";
        using hand_of<0, pj::events<a_event, b_event>>::on;
    } first{{this}};
    struct second_hand : hand_of<1, pj::events<a_event>> {
        static constexpr const char* handler_name = "second";
        using hand_of<1, pj::events<a_event>>::on;
    } second{{this}};
    struct mailing_hand : hand_of<2, pj::live_only<b_event>> {
        static constexpr const char* handler_name = "mailer";
        using hand_of<2, pj::live_only<b_event>>::on;
    } mailer{{this}};
    pj::registry<first_hand, second_hand, mailing_hand> by_compiler{first, second, mailer};
    pj::handler_map<8> by_hand{};

    host(world& shared, std::string under, pj::partition part)
        : in(shared), key(std::move(under)), of(part), lease(leases) {
        by_hand.add(first).add(second).add(mailer);
        describe();
        boot();
    }
    host(const host&) = delete;
    host& operator=(const host&) = delete;

    void describe() {
        const setting& s = in.with;
        what.name = "p";
        what.log.self = this;
        what.log.read = [](void* me, position after, pj::visitor& visit) {
            return static_cast<host*>(me)->read(after, visit);
        };
        if (s.has_bounds) {
            what.log.bounds = [](void* me, position&, position& newest, uint64_t& log_id) {
                return static_cast<host*>(me)->bounds(newest, log_id);
            };
        }
        if (s.is_mapped) what.handlers = by_hand;
        else what.handlers = by_compiler;
        what.checkpoints = *this;
        if (s.has_letters) what.dead_letters = *this;
        what.observe = {[](void* me, const pj::notice& n) { static_cast<host*>(me)->observe(n); },
                        this};
        what.observe_handled = s.tells_all;
        what.clock = {[](void* me) { return static_cast<host*>(me)->in.clock(); }, this};
        if (s.has_units) what.transaction = *this;
        what.unit_ms_max = 500;
        if (s.has_lease) what.lease = &lease;
        lease.ttl_ms = ttl_ms;
        lease.margin_ms = margin_ms;
        describe_policies();
        if (s.has_crashes) what.crashes = &crashes;
        if (s.has_gaps) what.gaps = &gaps;
        gaps.is_dead = {[](void* me, position from, position to) {
            return static_cast<host*>(me)->is_dead(from, to); }, this};
        what.batch = s.batch;
        what.tick_ms_max = s.has_budget ? 30 : 0;
        what.poll_ms = poll_ms;
        what.save = {s.every, 400, true};
        what.stop_ms = stop_ms;
        if (s.has_filter) {
            what.filter = {[](void* me, const pj::stored_event& e) {
                return static_cast<host*>(me)->passes(e); }, this};
        }
        what.volatile_model = s.is_volatile;
        rebuild.on_drop = {[](void* me) { return static_cast<host*>(me)->drop(); }, this};
        rebuild.batch = s.batch;
        parts.limit = &limit;
    }
    void describe_policies() {
        const pj::error_policy policies[] = {
            pj::error_policy::skip(), pj::error_policy::retry(2),
            pj::error_policy::retry_then_skip(1), pj::error_policy::dead_letter(),
            pj::error_policy::retry_then_dead_letter(1),
            pj::error_policy::custom([](const pj::failure& f) {
                return f.code % 4 == 0 ? pj::decision::skip()
                     : f.code % 4 == 1 ? pj::decision::dead_letter()
                     : f.attempts < 5 ? pj::decision::retry_after(f.code % 100)
                                      : pj::decision::halt();
            })};
        what.on_error = policies[in.with.policy];
        if (in.with.tells_all) what.on_error_replaying = &replaying;
        if (in.with.fails_unknown) what.on_unknown = pj::unknown_types::fail;
        what.delays.cap_ms = 400;
    }

    // ---- the machine

    void boot() {
        engine.reset();
        discard();
        if constexpr (std::is_same_v<Engine, pj::replay_engine>) engine.emplace(what, rebuild);
        else if constexpr (std::is_same_v<Engine, pj::partitioned_worker>)
            engine.emplace(what, of, parts);
        else engine.emplace(what);
        limit = pj::partition_limit(2);         // what died held a place: who counted is gone, too
        later.clear();
        if (in.with.is_volatile) in.forget_model();
    }

    /// At the begin of every callback.
    void enter() {
        ++in.calls;
        demand(in.calls < 200 + 60 * in.with.batch, "G26 one tick calls without end");
        const uint8_t b = in.in.byte();
        if (b >= 0xF8) in.clock.advance((b & 7u) * 40);        // less than the margin
        if (b < 0xF0 || b >= 0xF8) return;
        const pj::tick_result r = engine->tick(in.clock());
        demand(r.reason == status::reentered && r.wait_ms == pj::never, "G26 tick() in a callback");
        demand(engine->start() == status::reentered, "G26 start() in a callback");
        if (b == 0xF1) engine->wake();
        if (b == 0xF2) engine->stop();
        if (b == 0xF3) in.is_dead = true;       // the power fails
        if (b == 0xF4) engine->pause();
    }
    /// What a port answers; `works`: its effect is there.
    status answer(bool& works) {
        enter();
        works = false;
        if (in.is_dead) return status::failed;
        const uint8_t b = in.in.byte();
        if (b >= 0xF0) return thrown(b);
        if (b >= 0xE8) return static_cast<status>(in.in.byte() | 2u);       // never ok
        if (b >= 0xD8) return status::pending;
        works = b < 0xD0 && (b < 0xC0 || (b & 1u) != 0);
        return b < 0xC0 ? status::ok : status::failed;
    }
    /// A port that does its work, or does not, and perhaps says something else.
    template<class Work> status through(Work work) {
        bool works = false;
        const status s = answer(works);
        if (!works) return s;
        const status real = work();
        return real == status::ok ? s : real;
    }
    static status thrown([[maybe_unused]] uint8_t what) {
#if PROJECTIONS_EXCEPTIONS
        throw what;
#else
        return status::failed;
#endif
    }

    // ---- ports

    status read(position after, pj::visitor& visit) {
        bool works = false;
        const status s = answer(works);
        if (!works) return s;
        uint32_t most = in.in.byte();
        demand(visit.wanted() > 0 && visit.wanted() <= in.with.batch, "wanted() is no good LIMIT");
        for (auto one = in.events.upper_bound(after); one != in.events.end(); ++one) {
            // A replayed hole ends there: it was settled before, and is not skipped once more.
            if (in.with.has_gaps) in.named.insert(one->first - 1);
            if (!visit(stored(one->first, one->second))) return s;
            if (most != 0 && --most == 0) return s == status::ok ? status::more : s;
        }
        return s;
    }
    static pj::stored_event stored(position at, const entry& e) {
        static thread_local std::string aggregate;
        static thread_local uint32_t value;
        aggregate = e.aggregate();
        value = e.value;
        pj::stored_event out;
        out.at = at;
        out.type = e.type == 'A' ? "A" : e.type == 'B' ? "B" : "C";
        out.payload = {&value, e.is_damaged ? sizeof value - 1 : sizeof value};
        out.aggregate_id = aggregate;
        return out;
    }
    status bounds(position& newest, uint64_t& log_id) {
        bool works = false;
        const status s = answer(works);
        if (!works) return s;
        newest = in.newest();
        log_id = 9;
        return s;
    }
    status load(pj::text under, pj::checkpoint& out) {
        bool works = false;
        const status s = answer(works);
        return works && in.store.load(under, out) != status::ok ? status::failed : s;
    }
    status save(pj::text under, const pj::checkpoint& now) {
        bool works = false;
        const status s = answer(works);
        if (!works) return s;
        const std::string name = kit::string_of(under);
        if (is_open) {
            demand(name == key, "G17 another record is saved in a unit of work");
            if (now.revision != in.store.at(name).revision + 1) return status::conflict;
            staged_record = now;
            return s;
        }
        return keep(name, now) ? s : status::conflict;
    }
    bool keep(const std::string& name, const pj::checkpoint& now) {
        const pj::checkpoint before = in.store.at(name);
        if (in.store.save(pj::text(name), now) != status::ok) return false;
        if (name != "p_partitions") in.kept(name, before, now);
        return true;
    }
    status put(const pj::dead_letter& l) {
        bool works = false;
        const status s = answer(works);
        if (works) settle(kit::string_of(l.handler), l.event.at);
        return s;
    }
    void settle(const std::string& handler, position at) {
        if (is_open) staged.insert({handler, at});
        else in.settle(handler, at);
    }

    // ---- a unit of work

    status begin() {
        bool works = false;
        const status s = answer(works);
        demand(!is_open, "G17 a unit of work is begun while another is open");
        is_open = s == status::ok;
        return s;
    }
    status commit() {
        bool works = false;
        const status s = answer(works);
        demand(is_open || in.is_dead, "G17 a commit without a unit of work");
        if (!works) return s;
        is_open = false;
        if (staged_record && in.store.at(key).revision + 1 != staged_record->revision) {
            discard();
            return status::failed;          // somebody else was quicker
        }
        for (const auto& [handler, at] : staged) {
            const bool is_new = handler.empty() || in.applied.count({handler, at}) == 0;
            demand(is_new, "G17 an effect is committed twice");
            // Without a checkpoint (the letter is the broker's) it may come again.
            if (staged_record) in.applied.insert({handler, at});
            in.settle(handler, at);
        }
        if (staged_record && !keep(key, *staged_record)) demand(false, "a commit is not whole");
        discard();
        return s;
    }
    /// Whatever it answers: only what is pending stays open.
    status rollback() {
        status s = status::failed;
        struct at_end {
            host& of;
            const status& said;
            ~at_end() {
                if (said != status::pending) of.discard();
            }
        } const ending{*this, s};
        bool works = false;
        s = answer(works);
        return s;
    }
    void discard() {
        is_open = false;
        staged.clear();
        staged_record.reset();
    }

    status drop() {
        bool works = false;
        const status s = answer(works);
        if (!works) return s;
        in.forget_model();
        in.may_go_back(key, rebuild.from);
        return s;
    }
    bool passes(const pj::stored_event& e) {
        enter();
        const uint8_t b = in.in.byte();
        if (b >= 0xF8) static_cast<void>(thrown(b));
        return !in.is_filtered(in.events.at(e.at));
    }
    bool is_dead(position from, position to) {
        enter();
        demand(from <= to && in.events.lower_bound(from) == in.events.upper_bound(to),
               "G8 a hole that is none");
        return (in.in.byte() & 3u) == 0;
    }
    pj::verdict handle(int who, uint32_t value, const pj::context& c) {
        static const char* const names[] = {"first", "second", "mailer"};
        const position at = c.event.at;
        const auto found = in.events.find(at);
        demand(found != in.events.end() && found->second.value == value, "not what the log holds");
        demand(at > engine->scanned(), "G7 an event that is done already");
        demand(who != 2 || !c.replaying, "G25 live_only, and replaying");
        demand(in.wants(names[who], key, found->second), "an event of somebody else");
        demand(what.lease == nullptr || in.leases.is_valid(key, c.fencing_token),
               "G20 a handler without the lease");
        demand(what.gaps == nullptr || c.replaying || at == 0 || in.events.count(at - 1) != 0 ||
               in.skipped_through >= at - 1, "G8 an event above a hole");
        enter();
        if (in.is_dead) return pj::fail();
        const uint8_t b = in.in.byte();
        if (b >= 0xF0) return thrown(b);
        if (b >= 0xE0) return pj::verdict(static_cast<status>(in.in.byte() | 2u));
        if (b >= 0xD8) return pj::reject(b);
        if (b >= 0xC0) return pj::fail(b);
        if (b >= 0xB8) return pj::pending_for(1 + b % 50u);
        if (b >= 0xB0) return pj::pending;
        settle(names[who], at);
        return pj::handled;
    }
    void observe(const pj::notice& n) {
        using kind = pj::notice_kind;
        const std::string who = n.cause != nullptr ? kit::string_of(n.cause->handler) : "";
        if (n.kind == kind::event_skipped && !in.is_dead) in.settle(who, n.at);
        const bool is_brokers = what.dead_letters.put == nullptr;
        if (n.kind == kind::event_lettered && is_brokers) in.settle(who, n.at);
        demand(n.kind != kind::event_vanished, "an event vanishes that is there");
        if (n.kind == kind::gap_skipped) {
            in.named.insert(n.at);
            in.skipped_through = n.at > in.skipped_through ? n.at : in.skipped_through;
        }
        enter();
        const uint8_t b = in.in.byte();
        if (b >= 0xF8) static_cast<void>(thrown(b));
    }

    // ---- what a person, a broker and time do

    pj::tick_result tick() {
        in.calls = 0;
        last = engine->tick(in.clock());
        look();
        return last;
    }
    void look() {
        if (in.is_dead) {
            in.is_dead = false;
            cause = pj::start_cause::crash;
            boot();
            last = {};
            return;
        }
        const pj::counters c = engine->counts();
        demand(c.scanned == c.handled + c.unhandled + c.unknown + c.filtered + c.skipped +
                            c.lettered + c.vanished + c.duplicate + c.foreign,
               "G16 the counters do not reconcile");
        // What was done before and is committed by now comes on top.
        const uint32_t units = in.with.has_units ? 2 : 1;
        demand(last.scanned <= units * in.with.batch + 1, "G26 more events than the batch");
        const bool is_fed = std::is_same_v<Engine, pj::event_sink>;
        const bool may_rest = is_fed || !engine->running() ||
                              last.state == pj::run_state::paused;
        demand(last.wait_ms <= ttl_ms || (last.wait_ms == pj::never && may_rest), "G27 oversleeps");
        demand(*pj::to_string(last.reason) != '?' && *pj::to_string(last.state) != '?', "no name");
        demand(engine->lag() >= -1 && engine->checkpointed() >= pj::before_first, "no position");
    }
    /// As a broker does: in order, and again what was not acknowledged.
    void receive() {
        if constexpr (std::is_same_v<Engine, pj::event_sink>) {
            const auto one = in.events.upper_bound(acknowledged_or_later());
            if (one == in.events.end()) return;
            in.calls = 0;
            const bool is_again = one->first <= offered;
            offered = one->first > offered ? one->first : offered;
            const auto r = engine->receive(stored(one->first, one->second), in.clock(), is_again);
            if (!in.is_dead) {
                if (r.answer == pj::receipt::ack) acknowledge(one->first);
                if (r.answer == pj::receipt::later) later.insert(one->first);
                if (r.answer == pj::receipt::reject) acknowledge(one->first);
                demand(r.answer != pj::receipt::ack || in.store.at(key).at >= one->first,
                       "acknowledged, and not durable");
            }
            last.wait_ms = 0;
            last.scanned = 0;
            look();
        }
    }
    position acknowledged_or_later() {
        while (!later.empty() && *later.begin() <= engine->checkpointed()) {
            acknowledge(*later.begin());
        }
        // After a lease was lost they are not done any more: a broker delivers them again.
        if (engine->loaded()) later.erase(later.upper_bound(engine->scanned()), later.end());
        return later.empty() ? acknowledged : *later.rbegin();
    }
    void acknowledge(position at) {
        acknowledged = at > acknowledged ? at : acknowledged;
        later.erase(later.begin(), later.upper_bound(at));
    }

    void moved(position to, status answer) {
        if (answer != status::ok) return;
        in.named.insert(to);
        in.forget_applied(key, to, pj::before_first);
        acknowledged = to;
        later.clear();
        in.may_go_back(key, to);
        in.skipped_through = to > in.skipped_through ? to : in.skipped_through;
        for (const auto& one : in.events) {
            if (one.first <= to) in.settle("", one.first);
        }
    }
    void command() {
        switch (in.in.below(16)) {
        case 0: break;
        case 1: engine->stop(); break;
        case 2: engine->pause(); break;
        case 3: case 4: engine->resume(); break;
        case 5: engine->wake(); break;
        case 6: case 7: start(); break;
        case 8: static_cast<void>(engine->retry_failed()); break;
        case 9: static_cast<void>(engine->skip_failed(engine->last_failure().at)); break;
        case 10: in.append(1 + in.in.below(5)); break;
        case 11: in.clock.advance(in.in.number(2)); break;
        case 12: limit.set(in.in.below(3)); break;
        case 13: in.is_dead = true; look(); break;
        default: go_to(); break;
        }
    }
    void go_to() {
        if constexpr (!std::is_same_v<Engine, pj::replay_engine>) {
            position to = static_cast<position>(in.in.below(8)) - 1;
            if (to > in.newest()) to = in.newest();
            if (in.in.bit()) moved(to, engine->set_position(engine->scanned(), to));
            else moved(to, engine->reset(to));
        }
    }
    void start() {
        if (engine->start(cause) == status::ok) cause = pj::start_cause::clean;
    }
    /// A person puts right what has halted.
    void revive() {
        engine->resume();
        limit.set(2);
        const bool is_rebuild = std::is_same_v<Engine, pj::replay_engine>;
        const bool is_wanted = !is_rebuild || in.store.at(key).replay_stage != 0 || !in.in.empty();
        if (engine->running() || !is_wanted) return;
        const bool is_cured = engine->state() == pj::run_state::halted &&
                              pj::group_of(engine->reason()) == pj::status_group::handler &&
                              engine->skip_failed(engine->last_failure().at) == status::ok;
        if (!is_cured) start();
    }
    void tell() const {
        std::fprintf(stderr, "%s: %s, %s; at %lld of %lld, last failure at %lld; stage %d\n",
                     key.c_str(), pj::to_string(engine->state()), pj::to_string(engine->reason()),
                     static_cast<long long>(in.store.at(key).at),
                     static_cast<long long>(in.newest()),
                     static_cast<long long>(engine->last_failure().at),
                     in.store.at(key).replay_stage);
    }
    bool is_done() const {
        const pj::checkpoint c = in.store.at(key);
        // What a broker has taken for itself, it does not deliver again to move the checkpoint.
        if (std::is_same_v<Engine, pj::event_sink>) return acknowledged >= in.newest();
        const bool is_behind = in.with.is_volatile && engine->scanned() < in.newest();
        return c.at >= in.newest() && c.replay_stage == 0 && !is_behind;
    }
};

template<class... Hosts> void storm(world& in, Hosts&... hosts) {
    constexpr int steps_max = 300;
    for (int i = 0; i < steps_max && !in.in.empty(); ++i) {
        uint32_t wait_ms = pj::never;
        const auto one = [&](auto& h) {
            const uint8_t b = in.in.byte();
            if (b >= 0xC0) h.command();
            if ((b & 12u) == 12) h.revive();
            if ((b & 3u) != 3) h.receive();
            wait_ms = pj::sooner(wait_ms, h.tick().wait_ms);
        };
        (one(hosts), ...);
        in.clock.advance(in.in.bit() ? in.in.byte() : pj::sooner(wait_ms, 1000));
    }
}

template<class... Hosts> void calm(world& in, Hosts&... hosts) {
    constexpr int ticks_max = 3000;
    in.in.close();
    in.append(2);
    for (int i = 0; i < ticks_max; ++i) {
        uint32_t wait_ms = pj::never;
        const auto one = [&](auto& h) {
            h.revive();
            h.receive();
            wait_ms = pj::sooner(wait_ms, h.tick().wait_ms);
        };
        (one(hosts), ...);
        if ((hosts.is_done() && ...)) {
            (in.demand_done(hosts.key, in.newest(), in.store.at(hosts.key).replayed_through), ...);
            return;
        }
        // 0 may be that of a run that has ended, while another engine waits for something.
        in.clock.advance(wait_ms == 0 ? 1 : pj::sooner(wait_ms, 1000));
    }
    (hosts.tell(), ...);
    demand(false, "all is well again, and not everything gets done");
}

template<class... Hosts> void run(world& in, Hosts&... hosts) {
    (hosts.start(), ...);
    storm(in, hosts...);
    calm(in, hosts...);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t count) {
    fuzz::feed in(data, count);
    world all(in);
    switch (all.with.kind_) {
    case setting::sink: {
        host<pj::event_sink> one(all, "p", {0, 1});
        run(all, one);
        break;
    }
    case setting::replay: {
        host<pj::worker> live(all, "p", {0, 1});
        host<pj::replay_engine> rebuild(all, "p", {0, 1});
        run(all, live, rebuild);
        break;
    }
    case setting::partitions: {
        host<pj::partitioned_worker> zero(all, "p_p0", {0, 2}), one(all, "p_p1", {1, 2});
        run(all, zero, one);
        break;
    }
    default: {
        host<pj::worker> one(all, "p", {0, 1});
        if (!all.with.is_doubled) {
            run(all, one);
            break;
        }
        host<pj::worker> two(all, "p", {0, 1});
        run(all, one, two);
    }
    }
    return 0;
}
