// A machine that loses power: what its callbacks made durable stays, everything else is gone. At
// the n-th callback it dies, before or after the callback's effect; from then on nothing has an
// effect, until the next boot. The model is durable and idempotent: by position, what was handled.
#ifndef PROJECTIONS_TESTS_SUPPORT_DEVICE_HPP
#define PROJECTIONS_TESTS_SUPPORT_DEVICE_HPP

#include "projections.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace support {

namespace pj = projections;

struct ping {
    static constexpr pj::event_type type{"Ping", pj::raw};
    uint32_t value;
};
struct pong {
    static constexpr pj::event_type type{"Pong", pj::raw};
    uint32_t value;
};

class device {
public:
    struct reading {
        using handles = pj::events<ping, pong>;
        static constexpr const char* handler_name = "reading";
        device& on_;
        explicit reading(device& d) : on_(d) {}
        pj::verdict on(const ping& e, const pj::context& c) { return on_.handle(c, e.value); }
        pj::verdict on(const pong& e, const pj::context& c) { return on_.handle(c, e.value * 2); }
    };
    struct mailing {
        using handles = pj::live_only<ping>;
        static constexpr const char* handler_name = "mailing";
        device& on_;
        explicit mailing(device& d) : on_(d) {}
        pj::verdict on(const ping&, const pj::context& c) { return on_.mail(c); }
    };

    device() {
        what.name = "p";
        what.handlers = handlers;
        what.checkpoints = *this;
        what.delays.jitter_percent = 0;
        what.save = {4, 1000, true};
        what.batch = 3;
        what.log = log;
    }
    device(const device&) = delete;
    device& operator=(const device&) = delete;

    struct event_log {
        device& of;
        pj::status read(pj::position after, pj::visitor& visit) {
            const uint32_t me = of.begins();
            if (me == 0) return of.refused();
            if (after < of.trimmed) return of.ends(me, pj::status::trimmed);
            for (const auto& [at, value] : of.events) {
                if (at <= after) continue;
                if (of.dead) return pj::status::failed;
                const bool is_ping = value % 2 == 0;
                const ping a{value};
                const pong b{value};
                if (!visit(is_ping ? pj::raw_event(at, a) : pj::raw_event(at, b))) break;
            }
            return of.ends(me, pj::status::ok);
        }
        pj::status bounds(pj::position& oldest_gone, pj::position& newest, uint64_t& id) {
            const uint32_t me = of.begins();
            if (me == 0) return of.refused();
            oldest_gone = of.trimmed;
            newest = of.events.empty() ? of.trimmed : of.events.rbegin()->first;
            id = of.log_id;
            return of.ends(me, pj::status::ok);
        }
    };

    // ---- what survives
    std::map<pj::position, uint32_t> events;
    pj::position trimmed = pj::before_first;
    uint64_t log_id = 0;
    std::map<std::string, pj::checkpoint> records;
    std::map<pj::position, uint32_t> model;
    std::map<pj::position, uint32_t> mails;
    uint32_t drops = 0;

    // ---- what is to happen
    uint32_t dies_at = 0;             // the number of the callback; 0: never
    bool dies_after = false;          // its effect
    uint32_t odd_at = 0;                // the callback that does not answer ok; 0: none
    pj::status odd_answer = pj::status::failed;
    bool odd_throws = false;            // where exceptions are
    bool odd_works = false;             // but its effect is there: a lost answer
    bool keeps_position_only = false; // the checkpoint store
    std::map<pj::position, std::vector<pj::verdict>> answers; // of `reading`, one per call
    pj::position poison = pj::before_first;                   // `reading` crashes at this event

    // ---- what is seen
    bool dead = false;
    uint32_t callbacks = 0;
    std::vector<pj::position> handled; // since the last boot, in order
    std::vector<pj::checkpoint> saved;

    event_log log{*this};
    reading read_model{*this};
    mailing mailer{*this};
    pj::registry<reading, mailing> handlers{read_model, mailer};
    pj::projection what;
    uint32_t now_ms = 0;

    device& append(uint32_t count) {
        for (uint32_t i = 0; i < count; ++i) {
            const pj::position at = events.empty() ? 2 : events.rbegin()->first + 3;
            events[at] = static_cast<uint32_t>(events.size() * 7 % 10 + 1);
        }
        return *this;
    }
    pj::position newest() const { return events.empty() ? trimmed : events.rbegin()->first; }
    pj::checkpoint record(const std::string& key = "p") const {
        const auto found = records.find(key);
        return found == records.end() ? pj::checkpoint{} : found->second;
    }
    void boot() {
        dead = false;
        dies_at = odd_at = 0;
        callbacks = 0;
        handled.clear();
    }
    /// What the model has to be when everything up to there was handled.
    std::map<pj::position, uint32_t> folded(pj::position through) const {
        std::map<pj::position, uint32_t> result;
        for (const auto& [at, value] : events) {
            if (at <= through) result[at] = value % 2 == 0 ? value : value * 2;
        }
        return result;
    }

    /// Ticks until the engine has ended, the device is dead or `until` holds.
    template<class Engine, class Until> void run(Engine& e, Until until, uint32_t ticks = 3000) {
        for (; ticks != 0 && e.running() && !dead && !until(); --ticks) {
            const pj::tick_result r = e.tick(now_ms);
            if (dead || !e.running()) break;
            REQUIRE(r.wait_ms != pj::never);
            now_ms += r.wait_ms;
        }
        CHECK_MESSAGE(ticks != 0, "the engine does not come to an end");
    }
    /// Until it has ended; answers why.
    template<class Engine> pj::status run(Engine& e) {
        run(e, [] { return false; });
        return e.reason();
    }

    /// A worker up to the end of the log, saved.
    pj::status live(pj::start_cause cause = pj::start_cause::clean) {
        pj::worker worker{what};
        REQUIRE(worker.start(cause) == pj::status::ok);
        run(worker, [&] { return worker.caught_up() && worker.checkpointed() >= newest(); });
        if (dead || !worker.running()) return worker.reason();
        worker.stop();
        return run(worker);
    }

    // ---- ports
    pj::status load(pj::text key, pj::checkpoint& out) {
        const uint32_t me = begins();
        if (me == 0) return refused();
        const auto found = records.find(std::string(key.data(), key.size()));
        if (found != records.end()) out = found->second;
        return ends(me, pj::status::ok);
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        const uint32_t me = begins();
        if (me == 0) return refused();
        const std::string name(key.data(), key.size());
        if (next.revision != record(name).revision + 1 && !keeps_position_only)
            return ends(me, pj::status::conflict);
        pj::checkpoint kept = next;
        if (keeps_position_only) {
            kept = {};
            kept.at = next.at;
            kept.revision = next.revision;
        }
        records[name] = kept;
        saved.push_back(kept);
        return ends(me, pj::status::ok);
    }
    pj::status drop() {
        const uint32_t me = begins();
        if (me == 0) return refused();
        ++drops;
        model.clear();
        return ends(me, pj::status::ok);
    }

    /// A callback begins; answers its number, 0 if it is not to have an effect.
    uint32_t begins() {
        if (dead) return 0;
        ++callbacks;
        if (callbacks == dies_at && !dies_after) dead = true;
        return dead || (callbacks == odd_at && !odd_works) ? 0 : callbacks;
    }
    /// What it answers then.
    pj::status refused() const { return dead ? pj::status::failed : odd(); }
    pj::status ends(uint32_t number, pj::status answer) {
        if (number == dies_at && dies_after) dead = true;
        if (dead) return pj::status::failed;
        return number == odd_at ? odd() : answer;
    }

private:
    pj::status odd() const {
#if PROJECTIONS_EXCEPTIONS
        if (odd_throws) throw odd_answer;
#endif
        return odd_answer;
    }
    pj::verdict handle(const pj::context& c, uint32_t value) {
        const uint32_t me = begins();
        if (me == 0) return refused();
        handled.push_back(c.event.at);
        if (c.event.at == poison) {
            dead = true;
            return pj::handled;
        }
        const auto script = answers.find(c.event.at);
        if (script != answers.end() && !script->second.empty()) {
            const pj::verdict v = script->second.front();
            script->second.erase(script->second.begin());
            static_cast<void>(ends(me, pj::status::ok));
            return v;
        }
        model[c.event.at] = value;
        return ends(me, pj::status::ok);
    }
    pj::verdict mail(const pj::context& c) {
        const uint32_t me = begins();
        if (me == 0) return refused();
        CHECK_FALSE(c.replaying);
        ++mails[c.event.at];
        return ends(me, pj::status::ok);
    }
};

} // namespace support

#endif
