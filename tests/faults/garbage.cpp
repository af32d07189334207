// A store, handlers, a sink and commands that do anything at all: nothing breaks, nothing is
// overslept, the checkpoint never passes an event that somebody still has to handle. Between the
// storms everybody behaves, and the engine must come to the end of the log. One seed replays a
// whole run.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <stdint.h>
#include <initializer_list>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
namespace pj = projections;

namespace {

constexpr pj::position last = 60;
constexpr uint32_t batch = 7;

struct e_a { static constexpr pj::event_type type{"A", pj::raw}; char c; };
struct e_b { static constexpr pj::event_type type{"B", pj::raw}; char c; };

struct storm {
    explicit storm(uint32_t seed) : random(seed) {}

    std::mt19937 random;
    bool rages = false;
    pj::engine* inside = nullptr;       // asked from inside callbacks now and then
    pj::checkpoint record;
    std::set<std::pair<std::string, pj::position>> open;    // (handler, event) without an outcome
    std::set<pj::position> named{pj::before_first};         // by the store or by a command
    std::map<std::string, int> problems;

    uint32_t below(uint32_t n) { return static_cast<uint32_t>(random() % n); }
    bool one_in(uint32_t n) { return rages && below(n) == 0; }
    void expect(bool is_so, const char* what) { if (!is_so) ++problems[what]; }

    pj::position any_position() {
        const pj::position few[] = {INT64_MIN, -2, -1, 0, last, last + 1, INT64_MAX - 1, INT64_MAX};
        return below(3) != 0 ? static_cast<pj::position>(below(last + 2)) : few[below(8)];
    }
    pj::status any_status() {
        if (one_in(2)) return static_cast<pj::status>(below(7));
        return static_cast<pj::status>(below(256));
    }
    /// Called at the top of every callback.
    void meddle() {
        if (!one_in(20)) return;
        const pj::tick_result r = inside->tick(below(1000));
        expect(r.reason == pj::status::reentered && r.wait_ms == pj::never, "tick() in a callback");
        expect(inside->start() == pj::status::reentered, "start() in a callback");
        if (below(3) == 0) inside->wake();
#if PROJECTIONS_EXCEPTIONS
        if (below(3) == 0) throw 1;
#endif
    }

    pj::stored_event shown(pj::position at) {
        named.insert(at);
        const char* const type = at % 7 == 3 ? "C" : at % 2 == 0 ? "A" : "B";
        return {at, type, {one_in(40) ? "xx" : "x", one_in(20) ? 2u : 1u}};
    }
    pj::status read(pj::position after, pj::visitor& visit) {
        meddle();
        if (one_in(6)) return any_status();
        expect(visit.wanted() > 0 && visit.wanted() <= batch, "wanted()");
        for (pj::position at = after < last ? after + 1 : last + 1; at <= last; ++at) {
            pj::stored_event slice[3] = {shown(at), shown(at), shown(at)};
            if (one_in(30)) slice[0] = shown(any_position());
            if (one_in(30)) visit.scanned_to(claimed(at - 1));
            size_t count = 1;
            while (count < 3 && at < last && below(2) == 0) slice[count++] = shown(++at);
            const bool goes_on = count == 1 ? visit(slice[0]) : visit(slice, count) == count;
            if (!goes_on && !one_in(4)) break;
            if (one_in(12)) return any_status();
        }
        return one_in(10) ? any_status() : pj::status::ok;
    }
    pj::position claimed(pj::position at) {
        if (one_in(8)) at = any_position();
        named.insert(at);
        // The store says that nothing is there to be handled.
        for (auto i = open.begin(); i != open.end();) i = i->second <= at ? open.erase(i) : ++i;
        return at;
    }
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& log_id) {
        meddle();
        trimmed = one_in(9) ? any_position() : pj::before_first;
        newest = one_in(9) ? any_position() : last;
        log_id = one_in(30) ? below(3) : 9;
        named.insert({trimmed, newest});
        return one_in(9) ? any_status() : pj::status::ok;
    }
    pj::status load(pj::text, pj::checkpoint& out) {
        meddle();
        if (one_in(5)) return any_status();
        out = record;
        if (one_in(9)) out.at = any_position();
        named.insert(out.at);
        return pj::status::ok;
    }
    pj::status save(pj::text, const pj::checkpoint& next) {
        meddle();
        expect(named.count(next.at) != 0, "a position that nobody named was saved");
        for (const auto& one : open) {
            if (one.second <= next.at) ++problems["saved beyond " + one.first];
        }
        if (one_in(5)) return any_status();
        if (next.revision != record.revision + 1) return pj::status::conflict;
        record = next;
        return one_in(9) ? any_status() : pj::status::ok;
    }
    pj::status put(const pj::dead_letter&) {
        meddle();
        return one_in(3) ? any_status() : pj::status::ok;
    }
    pj::verdict handle(const char* who, const pj::context& ctx) {
        const pj::position at = ctx.event.at;
        open.insert({who, at});
        meddle();
        pj::verdict v = pj::handled;
        if (one_in(6)) {
            const auto kind = static_cast<pj::verdict::kind>(below(6));
            v = one_in(2) ? pj::verdict(any_status()) : pj::verdict(kind, below(50));
        }
        if (v == pj::handled) open.erase({who, at});
        return v;
    }
    void observe(const pj::notice& n) {
        using kind = pj::notice_kind;
        const auto settled = [&](pj::text who) {
            open.erase({std::string(who.begin(), who.end()), n.at});
        };
        if (n.kind == kind::event_skipped || n.kind == kind::event_lettered) {
            const bool is_all = n.cause == nullptr || n.cause->handler.empty() ||
                                n.cause->kind == pj::failure_kind::decode;
            if (!is_all) settled(n.cause->handler);
            else for (const char* who : {"0", "1"}) settled(who);
        }
        if (n.kind == kind::event_handled || n.kind == kind::event_vanished) {
            for (const char* who : {"0", "1"}) settled(who);
        }
        if (n.kind == kind::loaded) open.clear();
        meddle();
    }
    bool filter(pj::position at) {
        meddle();
        if (!one_in(30)) return true;
        for (const char* who : {"0", "1"}) open.erase({who, at});
        return false;
    }
};

template<int I> struct victim {
    using handles = pj::events<e_a, e_b>;
    static constexpr char handler_name[] = {static_cast<char>('0' + I), '\0'};
    storm* in;
    pj::verdict on(const e_a&, const pj::context& c) { return in->handle(handler_name, c); }
    pj::verdict on(const e_b&, const pj::context& c) { return in->handle(handler_name, c); }
};

const pj::error_policy policies[] = {
    pj::error_policy::skip(), pj::error_policy::retry(2), pj::error_policy::retry_then_skip(1),
    pj::error_policy::dead_letter(), pj::error_policy::retry_then_dead_letter(1),
    pj::error_policy::custom([](const pj::failure& f) {
        return f.code % 4 == 0 ? pj::decision::skip()
             : f.code % 4 == 1 ? pj::decision::dead_letter()
             : f.attempts < 5 ? pj::decision::retry_after(f.code % 100) : pj::decision::halt();
    })};

/// A described engine in a storm.
struct ship {
    storm weather;
    victim<0> zero{&weather};
    victim<1> one{&weather};
    pj::registry<victim<0>, victim<1>> crew{zero, one};
    pj::projection what{"ship", weather, crew, weather};
    pj::worker worker{what};
    uint32_t now = 0;

    ship(uint32_t seed, const pj::error_policy& policy) : weather(seed) {
        weather.inside = &worker;
        what.dead_letters = weather;
        what.observe = {[](void* s, const pj::notice& n) { static_cast<storm*>(s)->observe(n); },
                        &weather};
        what.filter = {[](void* s, const pj::stored_event& e) {
            return static_cast<storm*>(s)->filter(e.at); }, &weather};
        what.on_error = policy;
        what.observe_handled = true;
        what.batch = batch;
        what.delays.cap_ms = 500;
        what.save = {5, 300, true};
        now = weather.below(2) == 0 ? 0xFFFFFF00u : 0;
    }

    void command() {
        const pj::position at = weather.any_position();
        switch (weather.below(12)) {
        case 0: worker.stop(); break;
        case 1: worker.pause(); break;
        case 2: case 3: worker.resume(); break;
        case 4: worker.wake(); break;
        case 5: case 6: static_cast<void>(worker.start()); break;
        case 7: case 8: if (worker.retry_failed() == pj::status::ok) weather.open.clear(); break;
        case 9:
            if (worker.skip_failed(worker.last_failure().at) != pj::status::ok) break;
            weather.open.clear();
            break;
        case 10: moved(at, worker.set_position(worker.scanned(), at)); break;
        default: moved(at, worker.reset(at)); break;
        }
    }
    void moved(pj::position to, pj::status answer) {
        if (answer != pj::status::ok) return;
        weather.open.clear();
        weather.named.insert(to);
    }
    pj::tick_result tick() {
        const pj::tick_result r = worker.tick(now);
        weather.expect(r.scanned <= batch + 1, "more events than the budget");
        const bool may_wait_for_ever = !worker.running() || r.state == pj::run_state::paused;
        weather.expect(r.wait_ms <= 5000 || (r.wait_ms == pj::never && may_wait_for_ever),
                       "oversleeps");
        weather.expect(*pj::to_string(r.reason) != '?', "a reason without a name");
        weather.expect(*pj::to_string(r.state) != '?', "a state without a name");
        weather.expect(worker.lag() >= -1, "lag()");
        const pj::counters c = worker.counts();
        weather.expect(c.scanned == c.handled + c.unhandled + c.unknown + c.filtered + c.skipped +
                                    c.lettered + c.vanished, "the counters do not reconcile");
        return r;
    }
    void rage(int steps) {
        weather.rages = true;
        for (int i = 0; i < steps; ++i) {
            if (weather.below(10) == 0) command();
            const uint32_t wait_ms = tick().wait_ms;
            now += weather.below(3) == 0 ? weather.below(700) : pj::sooner(wait_ms, 1000);
        }
    }
    /// Everybody behaves again: a person clears what is halted, and the engine reaches the end.
    void calm_down() {
        weather.rages = false;
        for (int ticks = 0; ticks < 400; ++ticks) {
            worker.resume();
            if (!worker.running()) {
                if (weather.record.at > last) weather.record.at = pj::before_first;
                weather.record.log_id = 9;
                if (worker.start() == pj::status::ok) weather.open.clear();
            }
            const uint32_t wait_ms = tick().wait_ms;
            if (worker.running() && worker.caught_up() && worker.checkpointed() == last) return;
            now += pj::sooner(wait_ms, 1000);
        }
        weather.expect(false, "does not reach the end when all is well again");
    }
};

} // namespace

TEST_CASE("garbage from every port and random commands, 400 000 steps") {
    constexpr int seeds = 20, storms = 40, steps = 85;
    std::map<std::string, std::string> told;
    for (uint32_t seed = 1; seed <= seeds; ++seed) {
        for (const pj::error_policy& policy : policies) {
            ship s(seed, policy);
            for (int i = 0; i < storms; ++i) {
                s.rage(steps);
                s.calm_down();
                for (const auto& problem : s.weather.problems) {
                    told.emplace(problem.first, "seed " + std::to_string(seed) + ", policy " +
                                 std::to_string(&policy - policies) + ", storm " +
                                 std::to_string(i));
                }
            }
        }
    }
    for (const auto& one : told) FAIL_CHECK(std::string(one.first + ": " + one.second));
    CHECK(told.empty());
}
