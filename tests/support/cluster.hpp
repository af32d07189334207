// Several processes over one log, one checkpoint store and one lease service, on one simulated
// clock. Every effect is noted with who had it and under which token.
#ifndef PROJECTIONS_TESTS_SUPPORT_CLUSTER_HPP
#define PROJECTIONS_TESTS_SUPPORT_CLUSTER_HPP

#include "kit/projections_kit.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace support {

namespace pj = projections;
namespace kit = projections_kit;

struct tick_event {
    static constexpr pj::event_type type{"Tick", pj::raw};
    uint32_t value;
};

struct effect {
    int who;
    pj::position at;
    uint64_t token;
    uint64_t ms;
    std::string handler;
};

struct cluster {
    explicit cluster(uint64_t start_ms = 1000) : clock(start_ms) {}
    kit::manual_clock clock;
    kit::memory_leases leases{clock};
    kit::memory_checkpoints store;
    kit::memory_letters letters;
    std::vector<std::pair<std::string, uint32_t>> events;       // aggregate, value
    std::vector<effect> effects;

    pj::status read(pj::position after, pj::visitor& visit) {
        for (size_t i = static_cast<size_t>(after + 1); i < events.size(); ++i) {
            const tick_event e{events[i].second};
            if (!visit(pj::raw_event(static_cast<pj::position>(i), e, events[i].first))) break;
        }
        return pj::status::ok;
    }
    cluster& append(int count) {
        for (int i = 0; i < count; ++i) {
            const uint32_t n = static_cast<uint32_t>(events.size());
            events.emplace_back("order-" + std::to_string(n % 7), n);
        }
        return *this;
    }
    pj::position newest() const { return static_cast<pj::position>(events.size()) - 1; }
    uint32_t times(pj::position at) const {
        uint32_t n = 0;
        for (const effect& e : effects) n += e.at == at ? 1u : 0u;
        return n;
    }
};

/// The log, and how often it was read.
struct counted_reads {
    cluster& all;
    int count;
    pj::status read(pj::position after, pj::visitor& visit) {
        ++count;
        return all.read(after, visit);
    }
};

/// One process: a description of its own, as each process has, over what is shared.
struct host {
    template<bool Second> struct hand {
        using handles = pj::events<tick_event>;
        static constexpr const char* handler_name = Second ? "second" : "first";
        host& of;
        pj::verdict on(const tick_event&, const pj::context& c) {
            cluster& all = of.of;
            all.effects.push_back({of.who, c.event.at, c.fencing_token, all.clock.full(),
                                   handler_name});
            return of.does ? of.does(c, Second) : pj::handled;
        }
    };
    cluster& of;
    int who;
    std::function<pj::verdict(const pj::context&, bool second)> does;
    hand<false> one{*this};
    hand<true> two{*this};
    pj::registry<hand<false>, hand<true>> hands{one, two};
    pj::lease lease{of.leases};
    std::vector<std::pair<pj::notice_kind, pj::status>> notices;
    struct listener {
        host& of;
        void operator()(const pj::notice& n) const { of.notices.emplace_back(n.kind, n.reason); }
    } listening{*this};
    pj::projection what;

    host(cluster& in, int number) : of(in), who(number) {
        what.name = "p";
        what.log = in;
        what.handlers = hands;
        what.checkpoints = in.store;
        what.clock = in.clock;
        what.lease = &lease;
        what.observe = listening;
        what.delays.jitter_percent = 0;
        lease.ttl_ms = 3000;
        lease.margin_ms = 300;
    }
    host(const host&) = delete;
    host& operator=(const host&) = delete;

    uint32_t count(pj::notice_kind kind) const {
        uint32_t n = 0;
        for (const auto& seen : notices) n += seen.first == kind ? 1u : 0u;
        return n;
    }
    uint32_t count(pj::notice_kind kind, pj::status why) const {
        uint32_t n = 0;
        for (const auto& [k, reason] : notices) n += k == kind && reason == why ? 1u : 0u;
        return n;
    }
};

/// Ticks as often as it is told to, for so long; the clock moves by what the engines ask for.
template<class... Engines> void run_for(cluster& in, uint64_t ms, Engines&... engines) {
    const uint64_t until = in.clock.full() + ms;
    for (int ticks = 0; ticks < 200000 && in.clock.full() < until; ++ticks) {
        uint32_t wait_ms = pj::never;
        const auto one = [&](auto& e) {
            const pj::tick_result r = e.tick(in.clock());
            if (e.running() || r.wait_ms != pj::never) wait_ms = pj::sooner(wait_ms, r.wait_ms);
        };
        (one(engines), ...);
        const uint64_t left = until - in.clock.full();
        if (wait_ms == 0) continue;
        in.clock.advance(wait_ms < left ? wait_ms : left);
    }
}

/// One tick after the other at the same time, until nothing is due.
template<class Engine> pj::tick_result drain(cluster& in, Engine& e, int most = 1000) {
    pj::tick_result r = e.tick(in.clock());
    for (; r.wait_ms == 0 && e.running() && most != 0; --most) r = e.tick(in.clock());
    CHECK(most != 0);
    return r;
}

} // namespace support

#endif
