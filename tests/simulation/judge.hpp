// The checks. They know the log, the records and what handlers and ports have seen; of an engine
// they ask nothing but its fencing token.
#ifndef PROJECTIONS_TESTS_SIMULATION_JUDGE_HPP
#define PROJECTIONS_TESTS_SIMULATION_JUDGE_HPP

#include "world.hpp"

namespace simulation {

inline long long shown(position at) { return static_cast<long long>(at); }

class judge {
public:
    explicit judge(world& in) : world_(in) {}

    const projection_config& config_of(const witness& w) const {
        return world_.with.projections[w.projection];
    }
    uint32_t key_of(const witness& w) const {
        const bool is_split = config_of(w).kind == engine_kind::partitioned;
        return w.projection * keys_per_projection + (is_split ? w.part : key_of_worker);
    }
    bool has_handler(uint32_t projection, uint32_t handler) const {
        return handler != audit || world_.with.projections[projection].has_audit;
    }
    model& model_of(witness& w, uint32_t handler) {
        if (!w.is_in_memory || handler == mailer) return world_.models[w.projection];
        w.own.grow(world_.rows.size());
        return w.own;
    }
    uint8_t& mark(witness& w, uint32_t handler, int32_t row) {
        return model_of(w, handler).of[handler][static_cast<size_t>(row)];
    }

    // ---- leases

    /// True, too, where there are none.
    bool has_lease(const witness& w) const {
        const lease_state& l = world_.leases[key_of(w)];
        const auto own = l.granted.find(w.life);
        return !config_of(w).has_lease || (own != l.granted.end() && own->second == l.token);
    }

    /// G20: by true time, whatever the process believes.
    void begins(const witness& w, const char* what, uint64_t token) {
        const projection_config& p = config_of(w);
        if (!p.has_lease) return;
        const lease_state& l = world_.leases[key_of(w)];
        const uint64_t drift_ms =
            uint64_t{world_.with.lease_ms} * world_.with.drift_ppm_max / 1000000 + 2;
        if (token == 0 || l.token != token || !has_lease(w))
            world_.fail("G20 %s of p%u/%u begins without the lease", what, w.projection, w.part);
        else if (world_.now + world_.with.margin_ms > l.expires_ms + drift_ms)
            world_.fail("G20 %s of p%u/%u begins %lld ms after its lease's end minus margin", what,
                        w.projection, w.part,
                        static_cast<long long>(world_.now + world_.with.margin_ms - l.expires_ms));
    }

    // ---- handlers

    /// A handler is called with this row; `at` is what the event says of its position.
    void called(witness& w, uint32_t handler, int32_t index, const pj::context& with,
                uint64_t local_ms) {
        const projection_config& p = config_of(w);
        const row& r = world_.get(index);
        const position at = with.event.at;
        const char* const name = handler_names[handler];
        begins(w, name, with.fencing_token);
        if (p.kind != engine_kind::queue && at != r.at)
            world_.fail("%s sees event %lld as %lld", name, shown(r.at), shown(at));
        if (!handles[handler][r.type] || !has_handler(w.projection, handler))
            world_.fail("%s is called for a type it does not handle", name);
        if (r.is_bad && handler != audit) world_.fail("%s is given what is not readable", name);
        if (world_.is_filtered(w.projection, r)) world_.fail("%s sees a filtered event", name);
        if (!world_.is_visible(r)) world_.fail("%s sees event %lld too early", name, shown(at));
        if (w.part != with.partition || w.part != world_.partition_of(w.projection, r))
            world_.fail("G19 %s of partition %u sees a foreign event", name, w.part);
        if (w.is_rested) world_.fail("%s is called though the engine is paused", name);
        if (p.has_units && !w.unit.is_open) world_.fail("%s is called outside a unit", name);
        if (!w.is_replay && world_.store[key_of(w)].record.replay_stage != 0)
            world_.fail("%s is called by a worker while the model is being rebuilt", name);
        if (w.is_replay && !with.replaying) world_.fail("%s is not told that it replays", name);
        called_in_order(w, handler, index, with);
        called_again(w, handler, at, with, local_ms);
        // (Without a lease the late save of one who is dead may land after the load: who could know?)
        const kept& k = world_.store[key_of(w)];
        if (handler == mailer && at <= k.highest && p.kind != engine_kind::queue &&
            (k.writer == w.life || at <= w.last_load)) {
            world_.fail("G25 a live_only handler is called for event %lld, done before", shown(at));
        }
    }

    /// The handler has answered.
    void answered(witness& w, uint32_t handler, position at, answer what, uint64_t local_ms) {
        if (config_of(w).has_units) ++w.calls[{at, handler}];
        w.last_at[handler] = at;
        w.last_answer[handler] = what;
        if (what != answer::handled) held(w, at);
        if (what != answer::failed) return;
        if (w.fails_at[handler] != at) {
            w.fails[handler] = 0;
            w.was_touched = false;
        }
        w.fails_at[handler] = at;
        ++w.fails[handler];
        w.failed_ms[handler] = local_ms;
    }

    // ---- records

    /// What follows from a record that has become durable.
    void saved(witness* w, uint32_t key, const pj::checkpoint& old, const pj::checkpoint& next) {
        const uint32_t projection = key / keys_per_projection;
        const uint32_t slot = key % keys_per_projection;
        if (slot == key_of_count) return;
        // What is kept for messages without offsets are numbers of their own.
        if (world_.with.projections[projection].kind == engine_kind::queue) return;
        kept& k = world_.store[key];
        const bool is_reset = old.replay_stage == 1 && next.replay_stage != 1;
        const bool is_sent_back = next.at >= k.may_go_to && k.may_go_to >= pj::before_first;
        if (next.fencing_token < old.fencing_token) world_.fail("G21 a token that is older");
        if (next.at < old.at && !is_reset && !is_sent_back && world_.is_moving[projection] == 0)
            world_.fail("G2 the checkpoint of p%u moves back from %lld to %lld", projection,
                        shown(old.at), shown(next.at));
        // (Two resets, and the save of the first is done after the second.)
        if (next.at < old.at && next.at <= k.may_go_to) k.may_go_to = pj::before_first - 1;
        if (next.at > world_.newest()) world_.fail("G2 the checkpoint is above the log");
        if (!world_.with.is_dense && next.at != old.at && next.at >= 0 &&
            world_.row_at(next.at) < 0 && next.at != world_.trimmed) {
            world_.fail("G2 the checkpoint %lld is no position of the log", shown(next.at));
        }
        const position from = world_.is_moving[projection] != 0 ? pj::before_first : old.at;
        passed(w, projection, slot == key_of_worker ? 0 : slot, from, next);
        const bool is_lowered = is_sent_back && next.at < old.at;
        if (next.at > k.highest || is_lowered || world_.is_moving[projection] != 0)
            k.highest = next.at;
        if (world_.is_moving[projection] != 0) take_back(projection, slot, next);
    }

    /// Merged partitions begin at the lowest of their parents: an operator whose effects are rows
    /// takes those back that come again.
    void take_back(uint32_t projection, uint32_t part, const pj::checkpoint& next) {
        if (!world_.with.projections[projection].has_units) return;
        for (int32_t i = world_.floor_of(next.at) + 1;
             i < static_cast<int32_t>(world_.rows.size()); ++i) {
            const row& r = world_.get(i);
            if (world_.partition_of(projection, r) != part) continue;
            for (uint32_t h = 0; h < handler_count; ++h) {
                if (h == mailer && r.at <= next.replayed_through) continue;
                world_.models[projection].of[h][static_cast<size_t>(i)] &=
                    static_cast<uint8_t>(~model::handled);
            }
        }
    }

    /// A unit of work is about to be committed.
    void commits(witness& w, const pj::checkpoint* old) {
        for (const connection::effect& e : w.unit.effects) {
            const position at = world_.get(e.row).at;
            if (!e.is_whole)
                world_.fail("G17 half of what %s did of event %lld is committed",
                            handler_names[e.handler], shown(at));
            if (old != nullptr && (at <= old->at || at > w.unit.next.at))
                world_.fail("G17 the effect of event %lld is committed with the checkpoint %lld",
                            shown(at), shown(w.unit.next.at));
            uint8_t& m = mark(w, e.handler, e.row);
            // A queue that delivers twice, without offsets, is not found out.
            if ((m & model::handled) != 0 && config_of(w).kind != engine_kind::queue)
                world_.fail("G17 %s has the effect of event %lld twice", handler_names[e.handler],
                            shown(at));
            m |= model::handled;
        }
    }

    /// The broker is told that this message is done.
    void acknowledged(witness& w, int32_t index, bool is_durable) {
        pj::checkpoint all;
        all.at = world_.get(index).at;
        passed_row(&w, w.projection, index, all);
        const bool has_offset = config_of(w).kind == engine_kind::sink;
        if (is_durable && has_offset && world_.store[key_of(w)].record.at < all.at)
            world_.fail("message %lld is acknowledged before it is saved", shown(all.at));
    }

    // ---- what a policy does

    void skipped(witness& w, const pj::failure& f, int32_t index) {
        const policy_kind policy = config_of(w).policy;
        const bool may_skip = policy == policy_kind::skip || policy == policy_kind::retry_skip ||
                              policy == policy_kind::custom;
        if (!may_skip) world_.fail("event %lld is skipped against the policy", shown(f.event.at));
        given_up(w, f, index, model::skipped);
        ++world_.sum.skips;
    }
    void given_up(witness& w, const pj::failure& f, int32_t index, uint8_t as) {
        const projection_config& p = config_of(w);
        const row& r = world_.get(index);
        const bool retries = p.policy == policy_kind::retry_skip ||
                             p.policy == policy_kind::retry_letter ||
                             p.policy == policy_kind::custom;
        const uint32_t attempts = retries && f.kind == pj::failure_kind::transient
                                      ? p.retries + 1u : 1u;
        for (uint32_t h = 0; h < handler_count; ++h) {
            if (!handles[h][r.type] || !has_handler(w.projection, h)) continue;
            if (f.handler.empty()) {
                if (f.kind == pj::failure_kind::unknown_type) continue;
                if (f.kind == pj::failure_kind::decode && h == audit) continue;
                if (!is_settled(w, h, index)) set(w, h, index, as);
            } else if (f.handler == pj::text(handler_names[h])) {
                uint32_t made = w.fails_at[h] == f.event.at ? w.fails[h] : 0;
                // In a unit of work an attempt is the event's: what others failed in, and what
                // succeeded and was rolled back.
                for (uint32_t i = 0; p.has_units && i < handler_count; ++i)
                    made += w.calls[{f.event.at, i}];
                // A unit that was not committed was an attempt, too.
                if (w.uncommitted_at == f.event.at) w.was_touched = true;
                const bool is_exact = f.kind == pj::failure_kind::transient && !p.has_units &&
                                      !w.was_touched;
                if ((made < attempts && w.uncommitted_at != f.event.at) ||
                    (made > attempts && is_exact))
                    world_.fail("G9 %s: %u attempts at event %lld in place of %u",
                                handler_names[h], made, shown(f.event.at), attempts);
                set(w, h, index, as);
            }
        }
        if (f.kind == pj::failure_kind::decode && !r.is_bad)
            world_.fail("event %lld is readable", shown(r.at));
    }
    static void held(witness& w, position at) {
        for (position& failed : w.fails_at) failed = failed != at ? -1 : at;
    }
    /// A failure, of which a policy is asked next. In a unit of work it takes the place of one that
    /// was waiting for the events before it.
    void failed(witness& w, const pj::failure& f) {
        held(w, f.event.at);
        if (f.code == pj::code_uncommitted && f.handler.empty()) w.uncommitted_at = f.event.at;
    }
    /// For good, and not merely skipped by an engine that may not have saved it.
    bool is_settled(witness& w, uint32_t handler, int32_t index) {
        return (mark(w, handler, index) & ~model::skipped) != 0;
    }
    void set(witness& w, uint32_t handler, int32_t index, uint8_t as) {
        mark(w, handler, index) |= as;
        if (as == model::skipped) w.skips.emplace_back(handler, index);
    }
    /// By skip_failed(): for everybody.
    void skipped_by_hand(witness& w, int32_t index) {
        for (uint32_t h = 0; h < handler_count; ++h) {
            if (!is_settled(w, h, index)) set(w, h, index, model::skipped);
        }
    }
    /// What was skipped after the checkpoint is forgotten by a crash, and tried again; but not
    /// where an engine goes on (`at`) with what it has in hand.
    void loaded(witness& w, position at) {
        const position from = later(at, w.last_load);
        w.forget_all();
        w.loaded_at = at < w.last_load ? at : w.last_load;      // lower after a reset
        // What this one has skipped and still has in hand, another may have thought forgotten.
        for (const auto& [h, i] : w.skips) {
            if (at > w.last_load && world_.get(i).at <= at) mark(w, h, i) |= model::skipped;
        }
        if (at <= w.last_load) w.skips.clear();
        if (config_of(w).kind == engine_kind::queue) return;    // each is acknowledged by itself
        // It has stood still since, and others have saved or have the lease: it will lose its own
        // before it works.
        if (world_.store[key_of(w)].record.at > w.last_load || !has_lease(w)) return;
        // It will not work: another one may still have in hand what it has skipped.
        if (world_.store[key_of(w)].record.replay_stage != 0 && !w.is_replay) return;
        for (int32_t i = world_.floor_of(from) + 1;
             i < static_cast<int32_t>(world_.rows.size()); ++i) {
            if (world_.partition_of(w.projection, world_.get(i)) != w.part) continue;
            for (uint32_t h = 0; h < handler_count; ++h) {
                // A live_only handler has had its outcome: in a partition that was merged, too.
                const position done = later(world_.store[key_of(w)].highest,
                                            world_.store[key_of(w)].record.replayed_through);
                if (h == mailer && world_.get(i).at <= done) continue;
                uint8_t& m = mark(w, h, i);
                if ((m & model::skipped) == 0) continue;
                m &= static_cast<uint8_t>(~model::skipped);
                world_.store[key_of(w)].forgotten.emplace_back(h, i);
            }
        }
    }
    /// A save of a life that has ended arrives: what that one has skipped has its outcome after all.
    void remember(uint32_t key, position through) {
        model& all = world_.models[key / keys_per_projection];
        for (const auto& [h, i] : world_.store[key].forgotten) {
            if (world_.get(i).at <= through) all.of[h][static_cast<size_t>(i)] |= model::skipped;
        }
    }
    void dropped(witness& w) {
        model& m = world_.models[w.projection];
        for (uint32_t h = 0; h < handler_count; ++h) {
            if (h == mailer) continue;
            for (size_t i = 0; i < world_.rows.size(); ++i)
                m.of[h][i] = world_.rows[i].at <= world_.trimmed ? model::excused : uint8_t{0};
        }
    }
    /// All there is for one projection has its outcome.
    bool is_complete(witness* w, uint32_t projection, position through,
                     const pj::checkpoint& record, uint32_t part) {
        const bool was_complete = !world_.has_failed;
        pj::checkpoint next = record;
        next.at = through;
        passed(w, projection, part, pj::before_first, next);
        return was_complete && !world_.has_failed;
    }

private:
    static position later(position a, position b) { return a > b ? a : b; }
    /// G1: nothing at or below the checkpoint is without an outcome. G8: nor is anything passed
    /// that has yet to appear.
    void passed(witness* w, uint32_t projection, uint32_t part, position from,
                const pj::checkpoint& next) {
        const int32_t last = world_.floor_of(next.at);
        for (int32_t i = world_.floor_of(from) + 1; i <= last; ++i) {
            if (world_.partition_of(projection, world_.get(i)) == part)
                passed_row(w, projection, i, next);
        }
    }
    void passed_row(witness* w, uint32_t projection, int32_t i, const pj::checkpoint& next) {
        const row& r = world_.get(i);
        if (r.is_dead) return;
        if (!world_.is_visible(r))
            return world_.fail("G8 event %lld is passed %llu ms before it appears", shown(r.at),
                               static_cast<unsigned long long>(r.visible_ms - world_.now));
        if (world_.is_filtered(projection, r)) return;
        for (uint32_t h = 0; h < handler_count; ++h) {
            if (!handles[h][r.type] || !has_handler(projection, h)) continue;
            if (h == mailer && r.at <= next.replayed_through) continue;
            const bool is_own = w != nullptr && w->is_in_memory && h != mailer;
            if (is_own && r.at <= world_.trimmed) continue;
            const model& m = is_own ? model_of(*w, h) : world_.models[projection];
            if (m.of[h][static_cast<size_t>(i)] == 0)
                return world_.fail("G1 the checkpoint %lld of p%u passes event %lld, which %s has "
                                   "no outcome for",
                                   shown(next.at), projection, shown(r.at), handler_names[h]);
        }
    }

    void called_in_order(witness& w, uint32_t handler, int32_t index, const pj::context& with) {
        const projection_config& p = config_of(w);
        const row& r = world_.get(index);
        const position at = with.event.at;
        const char* const name = handler_names[handler];
        if (p.kind == engine_kind::queue) return;
        if (at < w.last_at[handler])
            world_.fail("G7 %s sees event %lld after %lld", name, shown(at),
                        shown(w.last_at[handler]));
        if (at <= w.loaded_at && !w.is_in_memory)
            world_.fail("G4 %s sees event %lld, at or below the checkpoint %lld", name, shown(at),
                        shown(w.loaded_at));
        int32_t before = r.previous;
        while (before >= 0 && world_.get(before).is_dead) before = world_.get(before).previous;
        if (before < 0 || world_.get(before).at <= world_.trimmed) return;
        const row& q = world_.get(before);
        if (!handles[handler][q.type] || world_.is_filtered(w.projection, q)) return;
        const kept& k = world_.store[key_of(w)];
        if (handler == mailer && (q.at <= k.record.replayed_through || q.at <= k.highest)) return;
        if (mark(w, handler, before) != 0) return;
        for (const connection::effect& e : w.unit.effects) {
            if (e.handler == handler && e.row == before) return;
        }
        for (const auto& [h, i] : w.unit.letters) {
            if (h == handler && i == before) return;
        }
        world_.fail("G7 %s sees event %lld, but not %lld of the same aggregate before", name,
                    shown(at), shown(q.at));
    }

    void called_again(witness& w, uint32_t handler, position at, const pj::context& with,
                      uint64_t local_ms) {
        const projection_config& p = config_of(w);
        const char* const name = handler_names[handler];
        const bool is_again = w.last_at[handler] == at;
        const answer last = is_again ? w.last_answer[handler] : answer::none;
        if (p.kind == engine_kind::queue) return;
        if (last == answer::handled)
            world_.fail("G10 %s has handled event %lld, and is called again", name, shown(at));
        if (with.resumed != (last == answer::pending) && (with.resumed || !p.has_units))
            world_.fail("G15 %s is told that it %s resumed at event %lld", name,
                        with.resumed ? "is" : "is not", shown(at));
        if (w.fails_at[handler] != at || w.was_touched || last == answer::pending) return;
        // In a unit of work attempts start over whenever another handler was given up.
        const uint32_t failures = p.has_units ? 1 : w.fails[handler];
        uint64_t ms = p.numbers.delays.first_ms;
        for (uint32_t i = 1; i < failures; ++i) {
            if (ms < p.numbers.delays.cap_ms) ms *= p.numbers.delays.multiplier;
        }
        if (ms > p.numbers.delays.cap_ms) ms = p.numbers.delays.cap_ms;
        ms = p.policy == policy_kind::custom ? 5 : ms;
        ms = ms * (100u - p.numbers.delays.jitter_percent) / 100;
        if (local_ms - w.failed_ms[handler] + 2 < ms)
            world_.fail("G9 %s is tried again after %llu ms in place of %llu", name,
                        static_cast<unsigned long long>(local_ms - w.failed_ms[handler]),
                        static_cast<unsigned long long>(ms));
    }

    world& world_;
};

} // namespace simulation

#endif
