// Where one engine stands: what is remembered of its life so far, to judge what it does next, and
// the faults that its calls meet.
#ifndef PROJECTIONS_TESTS_COMBINATIONS_STATION_HPP
#define PROJECTIONS_TESTS_COMBINATIONS_STATION_HPP

#include "world.hpp"

#include <cstdlib>
#include <cstring>
#include <optional>
#include <stdexcept>

namespace combinations {

enum class role : uint8_t { worker, sink, replay, partition };

/// What an engine may not forget while it lives and keeps its lease.
struct life {
    marks handled, given_up;
    std::set<std::pair<uint32_t, position>> lettered;   // the sink has it, and said so
    marks pending;                      // the handler has not been called since
    std::map<std::pair<uint32_t, position>, uint32_t> failures;
    std::set<position> odd;             // attempts and the like are not compared

    void forget() { *this = {}; }
    void forget(position at) {
        handled.remove(at);
        given_up.remove(at);
        pending.remove(at);
        odd.erase(at);
        for (uint32_t h = 0; h <= everybody; ++h) {
            failures.erase({h, at});
            lettered.erase({h, at});
        }
    }
};

/// What becomes durable with the commit.
struct open_unit {
    bool is_open = false;
    std::set<std::pair<uint32_t, position>> outcomes;
    std::optional<pj::checkpoint> record;
    std::map<letter_key, std::optional<letter>> letters;
    std::set<std::pair<uint32_t, position>> lettered;   // as in a life
    void clear() { *this = {}; }
};

/// The other end of event_sink.
struct broker {
    position acked = pj::before_first, offered = pj::before_first;
    std::optional<position> held;
    std::set<position> later;           // answered so, and not durable yet
    std::set<position> rejected;
    bool is_subscribed = false;
};

/// What becomes of one call.
struct fate {
    status says = status::ok;
    bool is_done = true;                // what was asked for, whatever is answered
    bool throws = false;
};

struct station {
    world& in;
    const setting& with;
    const std::string key;
    const pj::partition part;
    const int number;
    const role is;
    pj::engine* engine = nullptr;
    bool is_dead = false;

    life seen;
    open_unit unit;
    bool commit_pends = false, rollback_pends = false;
    std::optional<pj::checkpoint> pending_save;
    broker source;

    // since the tick began
    uint32_t calls = 0, port_calls = 0, ports_ok = 0;
    bool is_redelivering = false;
    bool has_released = false;          // a sequence of letters, ever
    position moved_to = pj::before_first;       // by a command, and not loaded since

    bool was_disturbed = true;          // by a command: what was promised before is void
    bool wants_stop = false;
    uint64_t stop_ms = never_ms;        // when the tick began that was the first to know of it
    uint64_t slowness_ms = 0;           // of calls, since then

    static constexpr uint64_t never_ms = ~uint64_t{0};

    station(world& w, std::string k, pj::partition p, int n, role r)
        : in(w), with(w.with), key(std::move(k)), part(p), number(n), is(r) {}
    station(const station&) = delete;
    station& operator=(const station&) = delete;

    bool is_queue() const { return with.kind == world_kind::queue; }
    position position_of(const pj::stored_event& e) const {
        uint32_t value = 0;
        if (!is_queue() || e.payload.data() == nullptr) return e.at;
        // The payload of a damaged event is cut short, not overwritten.
        std::memcpy(&value, e.payload.data(), sizeof value);
        return in.position_of(value);
    }
    pj::stored_event stored(position at, const entry& e) const {
        pj::stored_event out;
        out.at = at;
        out.type = e.type == 'A' ? "A" : e.type == 'B' ? "B" : "C";
        out.payload = {&e.value, e.is_damaged ? sizeof e.value - 1 : sizeof e.value};
        out.aggregate_id = e.aggregate;
        if (with.has_keys) out.partition_key = e.value;
        return out;
    }

    // ---- faults

    bool storm(uint32_t per_ten_thousand) {
        return !in.is_calm && in.random.happens(per_ten_thousand);
    }
    /// Every callback begins with this.
    void enter(const char* who) {
        ++calls;
        in.demand(calls < 600 + 160 * with.batch, "G26 one tick calls without end");
        if (calls > 100000) std::abort();           // no callback can end it
        if (storm(with.faults.slow)) {
            const uint32_t ms = in.random.below(with.margin_ms / 2 + 1);
            in.now_ms += ms;
            slowness_ms += ms;
        }
        if (storm(with.faults.inside)) interrupt(who);
    }
    fate draw_fate(const char* who) {
        // (A sink looks at the bounds in every tick.)
        if (is != role::sink || std::strcmp(who, "bounds") != 0) ++port_calls;
        enter(who);
        if (is_dead) return {status::failed, false};
        const fault_rates& f = with.faults;
        if (storm(f.pending)) return {status::pending, false};
        if (storm(f.failed)) return {status::failed, false};
        if (storm(f.lost)) return {status::failed, true};
        if (storm(f.junk)) return {junk(), false};
        if (storm(f.conflict)) return {status::conflict, false};
        if (storm(f.throws)) return {status::failed, in.random.one_in(2), true};
        ++ports_ok;
        return {};
    }
    fate meet(const char* who) {
        const fate f = draw_fate(who);
        ++in.sum.port_calls;
        if (f.says != status::ok) ++in.sum.faults;
        in.say("  #%d %s: %s%s", number, who, f.throws ? "throws" : pj::to_string(f.says),
               f.is_done ? "" : " (nothing done)");
        return f;
    }
    /// Often none that there is, sometimes one that only another port may give.
    status junk() { return static_cast<status>(in.random.below(256) | 2u); }
    static status leave([[maybe_unused]] const fate& f, status says) {
#if PROJECTIONS_EXCEPTIONS
        if (f.throws) throw std::runtime_error("a port throws");
#endif
        return says;
    }
    static status leave(const fate& f) { return leave(f, f.says); }
    /// What is refused is refused, whatever else happens.
    template<class Does> status call(const char* who, Does&& does) {
        const fate f = meet(who);
        const status real = f.is_done ? does() : status::ok;
        if (real != status::ok) in.say("     in truth %s", pj::to_string(real));
        return leave(f, real == status::ok ? f.says : real);
    }

    void asks_to_stop() {
        was_disturbed = true;
        if (!engine->running()) return;
        if (!wants_stop) stop_ms = never_ms;
        wants_stop = true;
    }
    /// G20: nothing begins at or after the lease's end minus margin.
    void demand_lease(const char* what) {
        if (!with.has_lease || is_dead) return;
        const world::grant& g = in.leases[key];
        in.demand(g.holder == this && in.now_ms + with.margin_ms < g.until_ms,
                  "G20 %s begins without the lease (until %lld)", what,
                  static_cast<long long>(g.until_ms) - static_cast<long long>(in.now_ms));
    }
    /// Handler or everybody.
    void settle(uint32_t handler, position at) {
        if (unit.is_open) unit.outcomes.insert({handler, at});
        else in.done.add(handler, at);
    }

private:
    /// From inside a callback: commands are refused, requests are heard, the power may fail.
    void interrupt(const char* who) {
        ++in.sum.requests_inside;
        if (!is_redelivering) {
            const pj::tick_result r = engine->tick(static_cast<uint32_t>(in.now_ms));
            in.demand(r.reason == status::reentered && r.wait_ms == pj::never,
                      "G26 tick() in a callback (%s)", who);
        }
        in.demand(engine->start() == status::reentered, "G26 start() in a callback (%s)", who);
        in.demand(engine->retry_failed() == status::reentered, "G26 retry_failed() in a callback");
        switch (in.random.below(7)) {
        case 0: engine->wake(); break;
        case 1: engine->stop(); return asks_to_stop();
        case 2: is_dead = true; return;
        case 3: engine->pause(); break;
        case 4: engine->resume(); break;
        default: return;
        }
        was_disturbed = true;
    }
};

} // namespace combinations

#endif
