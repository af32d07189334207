// The operator of a world: does what operators do, at the wrong moment too, and in the end sees to
// it that everything can go on.
#ifndef PROJECTIONS_TESTS_SIMULATION_OPERATOR_HPP
#define PROJECTIONS_TESTS_SIMULATION_OPERATOR_HPP

#include "town.hpp"

namespace simulation {

class operated_town final : public town {
public:
    using town::town;

    void run() {
        run_until(with_.safety_ms);
        if (in.has_failed) return;
        in.say(nullptr, "no faults from here on");
        in.has_faults = false;
        next_crash_ms_ = next_deed_ms_ = in.now;
        next_crash_ms_ = not_due;
        while (appended_ < with_.events) append();
        live();
    }

private:
    // ---- the liveness phase

    /// Without faults all gets done; how long nothing may move.
    void live() {
        const uint64_t patience_ms = 120000 + uint64_t{with_.lease_ms} * 12;
        const uint64_t began_ms = in.now;
        uint64_t moved_ms = in.now;
        uint64_t last = 0;
        while (!in.has_failed && !is_all_done()) {
            run_until(in.now + 200);
            const uint64_t now = work_done();
            if (now != last) moved_ms = in.now;
            last = now;
            in.may_lose_leases = in.now < began_ms + uint64_t{with_.lease_ms} * 4 + 5000;
            if (in.now > moved_ms + patience_ms) return complain();
        }
        if (!in.has_failed) run_until(in.now + 3000);
        for (uint32_t p = 0; p < count() && !in.has_failed; ++p) look_at_all_of(p);
    }
    void complain() {
        for (uint32_t p = 0; p < count(); ++p) {
            if (is_done(p)) continue;
            in.fail("without faults p%u does not get done (phase %u, record %lld of %lld)", p,
                    static_cast<unsigned>(affairs_[p].what),
                    shown(in.at_key(p, is_split(p) ? 0 : key_of_worker).record.at),
                    shown(last_visible()));
        }
    }
    uint64_t work_done() const {
        uint64_t sum = 0;
        for (const kept& k : in.store)
            sum += static_cast<uint64_t>(k.record.at) + k.record.revision;
        for (const affair& a : affairs_) {
            sum += static_cast<uint64_t>(a.messages.acked) * 3 + a.messages.waiting.size() * 5 +
                   static_cast<uint64_t>(a.what) * 1000003u;
        }
        return sum;
    }
    position last_visible() const {
        position at = pj::before_first;
        for (const row& r : in.rows) at = r.is_dead ? at : r.at;
        return at;
    }
    bool is_split(uint32_t p) const { return config_of(p).kind == engine_kind::partitioned; }
    bool is_all_done() {
        for (uint32_t p = 0; p < count(); ++p) {
            if (!is_done(p)) return false;
        }
        return true;
    }
    bool is_done(uint32_t p) {
        const affair& a = affairs_[p];
        const position last = last_visible();
        if (a.what != phase::working) return false;
        if (config_of(p).kind == engine_kind::queue)
            return a.messages.waiting.empty() &&
                   a.messages.taken + 1 == static_cast<int32_t>(in.rows.size());
        for (uint32_t i = 0; i < (is_split(p) ? in.partitions[p] : 1); ++i) {
            const pj::checkpoint& r = in.at_key(p, is_split(p) ? i : key_of_worker).record;
            if (r.at < last || r.replay_stage != 0) return false;
        }
        bool is_there = config_of(p).kind != engine_kind::in_memory;
        each_actor(p, [&](host&, actor& one) {
            is_there = is_there || one.engine->scanned() >= last;
        });
        return is_there;
    }
    /// Every event has its outcome, from the first on.
    void look_at_all_of(uint32_t p) {
        const position last = last_visible();
        witness* w = nullptr;
        if (config_of(p).kind == engine_kind::in_memory)
            each_actor(p, [&](host&, actor& a) { w = &a.w; });
        for (uint32_t i = 0; i < (is_split(p) ? in.partitions[p] : 1); ++i) {
            const pj::checkpoint& r = in.at_key(p, is_split(p) ? i : key_of_worker).record;
            static_cast<void>(judging_.is_complete(w, p, last, r, i));
        }
    }

    // ---- trouble

    void do_something() override {
        const uint32_t p = in.random.below(count());
        actor* one = nullptr;
        host* where = nullptr;
        uint32_t seen = 0;
        each_actor(p, [&](host& h, actor& a) {
            if (in.random.below(++seen) != 0) return;
            one = &a;
            where = &h;
        });
        const uint32_t deed = in.random.below(10);
        if (deed < 2) return begin_something_long(p, deed == 0);
        if (deed == 2 && with_.trims) return in.trim();
        if (one == nullptr) return;
        if (deed == 3) {
            one->engine->pause();
            one->wants_rest = true;
            one->due = in.now;
        } else if (deed < 6) {
            resume(*one);
        } else if (deed == 6) {
            one->engine->wake();
            if (one->engine->running()) one->due = in.now;
        } else if (deed == 7) {
            one->stop();
        } else if (deed == 8) {
            where->descriptions[p]->limit.set(in.random.below(6));
        } else if (config_of(p).may_reset && !where->on.is_busy && one->worker() != nullptr) {
            send_back(*one);
        }
    }
    void resume(actor& a) {
        a.engine->resume();
        a.wants_rest = false;
        if (a.engine->running()) a.due = in.now;
    }
    void send_back(actor& a) {
        const int32_t least = in.floor_of(in.trimmed);
        const int32_t most = in.floor_of(a.engine->scanned());
        if (!a.engine->running() || affairs_[a.w.projection].what != phase::working ||
            most <= least) {
            return;
        }
        const int32_t to = least + static_cast<int32_t>(
                                       in.random.below(static_cast<uint32_t>(most - least)));
        if (a.reset(to < 0 ? pj::before_first : in.get(to).at)) ++in.sum.resets;
    }
    void begin_something_long(uint32_t p, bool is_rebuild) {
        affair& a = affairs_[p];
        if (a.what != phase::working) return;
        if (is_rebuild && config_of(p).may_rebuild) {
            // Without a checkpoint a rebuild passes holes that nobody has settled.
            const uint32_t slot = is_split(p) ? 0 : key_of_worker;
            if (with_.is_dense && in.at_key(p, slot).record.at < 0) return;
            a.what = phase::before_rebuild;
            a.leaves_standbys = config_of(p).has_lease && !is_split(p) && in.random.one_in(3);
        } else if (!is_rebuild && is_split(p)) {
            if (in.at_key(p, key_of_count).record.partition_count == 0) return;
            const uint32_t now = in.partitions[p];
            const uint32_t factor = in.random.between(2, 3);
            a.from = now;
            a.to = now % factor == 0 && in.random.one_in(2) ? now / factor : now * factor;
            if (a.to > 8) return;
            a.what = phase::before_split;
            a.leaves_standbys = false;
        } else {
            return;
        }
        in.say(nullptr, "the operator wants to %s p%u", is_rebuild ? "rebuild" : "repartition", p);
        a.since_ms = a.quiet_ms = in.now;
    }

    // ---- help

    void look_after() override {
        for (uint32_t p = 0; p < count(); ++p) {
            affair& a = affairs_[p];
            if (a.what != phase::working) go_on_with(p, a);
            each_actor(p, [&](host& h, actor& one) { see_to(h, one, a); });
            if (a.what != phase::working) continue;
            for (const std::unique_ptr<host>& h : hosts_) {
                if (h->is_up && !h->on.is_dead && !h->on.is_busy)
                    populate(*h, p, pj::start_cause::clean);
            }
        }
    }
    void see_to(host& h, actor& one, const affair& a) {
        if (h.on.is_busy) return;
        if (!in.has_faults) {
            if (one.wants_rest) resume(one);
            h.descriptions[one.w.projection]->limit.set(1000);
        }
        if (one.engine->state() == pj::run_state::halted) return see_to_halt(one, a);
        const bool may_run = a.what == phase::working ||
                             (a.what == phase::rebuilding && one.w.is_replay);
        if (!may_run || one.engine->running() || one.is_finished()) return;
        if (!in.has_faults || in.random.one_in(3)) one.start(pj::start_cause::clean);
    }
    void see_to_halt(actor& one, const affair& a) {
        const status why = one.engine->reason();
        switch (why) {
        case status::handler_failed:
        case status::decode_failed:
        case status::unknown_type:
        case status::unit_of_work_failed:
            if (in.random.one_in(2)) return one.retry();
            return one.skip();
        case status::rebuild_unfinished:
            if (a.what == phase::working) one.retry();
            return;
        case status::checkpoint_conflict:
            if (in.store[judging_.key_of(one.w)].writer == one.w.life) break;
            return one.retry();
        case status::log_trimmed:
            // A model that begins anew, or a reset that was not saved, may come too late.
            // And one that stood still while its lease ended may find this before it finds that.
            if (config_of(one.w.projection).has_lease) return one.retry();
            if (!one.w.is_in_memory && !config_of(one.w.projection).may_reset) break;
            one.w.own = model{};
            one.w.own.grow(in.rows.size());
            return one.start(pj::start_cause::clean);
        default: break;
        }
        in.fail("p%u/%u halts: %s", one.w.projection, one.w.part, pj::to_string(why));
    }

    /// True: nothing of this projection runs, and nothing that it has sent is still on its way.
    bool is_quiet(uint32_t p, affair& a) {
        bool is_running = false;
        each_actor(p, [&](host& h, actor& one) {
            if (one.w.is_replay) return;
            const bool may_stay = a.leaves_standbys && !one.engine->has_lease();
            if (one.engine->running() && !may_stay) {
                is_running = true;
                one.stop();
            }
            is_running = is_running || h.on.is_busy;
        });
        if (is_running) a.quiet_ms = in.now;
        return !is_running && in.now > a.quiet_ms + 1000;
    }
    void go_on_with(uint32_t p, affair& a) {
        switch (a.what) {
        case phase::working: return;
        case phase::before_rebuild:
            if (!is_quiet(p, a)) return;
            clear(p);
            a.what = phase::rebuilding;
            return;
        case phase::rebuilding: return rebuild(p, a);
        case phase::before_split:
            if (!is_quiet(p, a)) return;
            clear(p);
            a.what = phase::splitting;
            in.is_moving[p] = 1;
            in.partitions[p] = a.to;
            return;
        case phase::splitting: return repartition(p, a);
        }
    }
    /// A host that is up and may run it, or nobody.
    host* choose_host(uint32_t p) {
        const projection_config& c = config_of(p);
        host& h = *hosts_[c.has_lease ? in.random.below(with_.hosts) : c.home];
        return h.is_up && !h.on.is_dead && !h.on.is_busy ? &h : nullptr;
    }
    void rebuild(uint32_t p, affair& a) {
        actor* engine = nullptr;
        each_actor(p, [&](host& h, actor& one) {
            if (one.w.is_replay && !h.on.is_busy) engine = &one;
            if (one.w.is_replay && h.on.is_busy) engine = nullptr;
        });
        bool is_busy = false;
        each_actor(p, [&](host& h, actor&) { is_busy = is_busy || h.on.is_busy; });
        if (is_busy) return;
        if (in.now > a.since_ms + 20000) a.leaves_standbys = false;
        if (!a.leaves_standbys) static_cast<void>(is_quiet(p, a));
        if (engine == nullptr) {
            host* const h = choose_host(p);
            if (h != nullptr) add(*h, p, 0, true).start(pj::start_cause::clean);
        } else if (engine->is_finished()) {
            ++in.sum.rebuilds;
            clear(p);
            a.what = phase::working;
        }
    }
    void repartition(uint32_t p, affair& a) {
        host* const h = choose_host(p);
        if (h == nullptr || a.is_at_it) return;
        machine& m = h->on;
        a.is_at_it = true;
        h->by_hand.host = m.number;
        h->by_hand.projection = p;
        h->by_hand.part = 99;
        h->by_hand.life = ++in.lives;
        h->waits_by_hand = {};
        m.current = &h->by_hand;
        m.waits = &h->waits_by_hand;
        m.engine = nullptr;
        const status s = pj::repartition(h->descriptions[p]->what, a.from, a.to);
        m.current = nullptr;
        m.waits = nullptr;
        a.is_at_it = false;
        in.say(nullptr, "repartition p%u from %u to %u: %s", p, a.from, a.to, pj::to_string(s));
        if (s == status::ok && !m.is_dead) {
            in.is_moving[p] = 0;
            a.what = phase::working;
            ++in.sum.repartitions;
        } else if (pj::group_of(s) != pj::status_group::answer && s != status::lease_held) {
            in.fail("repartition() answers %s", pj::to_string(s));
        }
    }
};

} // namespace simulation

#endif
