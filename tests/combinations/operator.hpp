// The world around one engine: the broker that feeds it, and the people who give it commands, in
// the middle of trouble and to put things right.
#ifndef PROJECTIONS_TESTS_COMBINATIONS_OPERATOR_HPP
#define PROJECTIONS_TESTS_COMBINATIONS_OPERATOR_HPP

#include "host.hpp"

namespace combinations {

class operated_host final : public host {
public:
    using host::host;

    // ---- the broker

    void receive() {
        if (is != role::sink) return;
        in.show_late_ones();
        if (with.has_client && !source.is_subscribed && in.is_calm) return;
        if (next_message() == in.log.end()) return;
        if (!is_queue() && !in.is_calm) {
            if (in.random.one_in(30)) reconnect();
            if (in.random.one_in(4)) offer_old_one();
        }
        // (A queue hands out several: one that is held is not kept back by an earlier one.)
        const auto next = is_queue() && source.held ? in.log.find(*source.held) : next_message();
        if (next == in.log.end()) return;
        if (engine->running()) offer(next->first, next->second);
        else if (in.random.one_in(4)) offer_in_vain(next->first, next->second);
    }

    // ---- commands

    /// Any, at any time.
    void command() {
        ++in.sum.commands;
        was_disturbed = true;
        switch (in.random.below(20)) {
        case 0: say("stop"); engine->stop(); asks_to_stop(); break;
        case 1: say("pause"); engine->pause(); break;
        case 2: case 3: say("resume"); engine->resume(); break;
        case 4: say("wake"); engine->wake(); break;
        case 5: start(); break;
        case 6: retry_failed(); break;
        case 7: skip_failed(); break;
        case 8: case 9: in.append(1 + in.random.below(5)); break;
        case 10: in.now_ms += in.random.below(5000); break;
        case 11: say("partition_limit"); limit_.set(in.random.below(3)); break;
        case 12: is_dead = in.random.one_in(4); break;
        case 13: case 14: redeliver(); break;
        case 15: release(); break;
        case 16: trim(); break;
        case 17: vanish(); break;
        default: move(); break;
        }
        bury();
    }
    /// Whoever looks after it gets it going again.
    void revive() {
        const bool is_rebuild = is == role::replay;
        if (is_rebuild) in.is_rebuilding = engine->running() || stage() != 0;
        else if (in.is_calm && in.is_rebuilding) return give_way();
        engine->resume();
        engine->wake();
        was_disturbed = true;
        limit_.set(2);
        const bool is_wanted = !is_rebuild || stage() != 0 || !in.is_calm;
        if (engine->running() || !is_wanted) return;
        const bool has_failed = engine->state() == pj::run_state::halted &&
                                pj::group_of(engine->reason()) == pj::status_group::handler;
        if (!has_failed || !skip_failed()) start();
        bury();
    }
    /// In the calm: what nobody redelivers is released, and places for sequences are free again.
    void release_one() {
        if (!with.has_sequences) return;
        release();
        engine->wake();
        was_disturbed = true;
    }

    // ---- the end

    bool is_done() const {
        const position newest = in.newest();
        if (is == role::replay) return stage() == 0;
        if (is == role::sink) {
            if (with.has_client && !source.is_subscribed) return false;
            if (source.acked >= newest) return true;
            if (is_queue()) return !source.later.empty() && *source.later.rbegin() >= newest;
        }
        if (stage() != 0 || (with.is_volatile && engine->scanned() < newest)) return false;
        return record_at() >= newest || owes_no_save();
    }
    void tell() {
        in.demand(false, "not everything gets done: %s is %s (%s), wait %u, at %lld of %lld, "
                  "saved %lld, stage %u", key.c_str(), pj::to_string(engine->state()),
                  pj::to_string(engine->reason()), last_.wait_ms, shown(engine->scanned()),
                  shown(in.newest()), shown(record_at()), static_cast<unsigned>(stage()));
    }

private:
    void say(const char* what) const { in.say("%s #%d", what, number); }
    uint8_t stage() const { return record().replay_stage; }
    position record_at() const { return record().at; }
    const pj::checkpoint& record() const { return in.records[key]; }
    /// All is done, and so few events are not saved that nothing makes a save due.
    bool owes_no_save() const {
        if (!with.saves_by_number() || !engine->running() || !engine->loaded()) return false;
        uint32_t unsaved = 0;
        // What a command or the broker has passed over was no event for the engine.
        const position from = std::max(record_at(), std::max(moved_to, source.acked));
        for (auto i = in.log.upper_bound(from); i != in.log.end(); ++i) {
            const bool is_hidden = (with.store_filters && in.is_filtered(i->second)) ||
                                   !i->second.is_visible || in.is_excused(i->first) ||
                                   source.rejected.count(i->first) != 0;
            unsaved += is_hidden ? 0u : 1u;
        }
        return engine->scanned() >= in.newest() && unsaved < with.save.every_events;
    }

    // ---- the broker

    std::map<position, entry>::const_iterator next_message() {
        while (!source.later.empty() && *source.later.begin() <= engine->checkpointed())
            acknowledge(*source.later.begin());
        // What the engine no longer knows of is delivered again.
        if (engine->loaded())
            source.later.erase(source.later.upper_bound(engine->scanned()), source.later.end());
        auto next = in.log.upper_bound(source.later.empty() ? source.acked
                                                            : *source.later.rbegin());
        for (; next != in.log.end(); ++next) {
            const bool is_refused = source.rejected.count(next->first) != 0;
            if (next->second.is_visible && !is_refused) break;
            if (is_refused && source.later.empty()) acknowledge(next->first);
        }
        return next;
    }
    void acknowledge(position at) {
        source.acked = std::max(source.acked, at);
        source.later.erase(source.later.begin(), source.later.upper_bound(at));
    }
    pj::receive_result offer_to_engine(position at, const entry& e, bool is_again) {
        calls = 0;
        ++in.sum.messages;
        pj::stored_event message = stored(at, e);
        if (is_queue()) message.at = pj::before_first;
        in.say("receive() #%d %lld%s", number, shown(at), is_again ? ", again" : "");
        const pj::receive_result r =
            as_sink()->receive(message, static_cast<uint32_t>(in.now_ms), is_again);
        in.say("  = %s, wait %u, %s", pj::to_string(r.answer), r.wait_ms, pj::to_string(r.reason));
        was_disturbed = true;
        last_.scanned = 0;
        return r;
    }
    /// The sink lets go of what it holds, which comes again later: unless the earlier message is
    /// done, or it does not work at the moment.
    void gone_back(position held) {
        seen.forget(held);
        seen.odd.insert(held);
    }
    /// It delivers anew what it does not know to be done.
    void reconnect() {
        in.say("the broker of #%d begins after %lld", number, shown(source.acked));
        source.later.clear();
    }
    /// A message that was done long ago comes again.
    void offer_old_one() {
        if (source.acked < 0 || !engine->loaded()) return;
        const auto old =
            in.log.find(position{in.random.below(static_cast<uint32_t>(source.acked) + 1)});
        if (old == in.log.end() || old->first > engine->scanned()) return;
        if (source.rejected.count(old->first) != 0) return;
        const pj::receive_result r = offer_to_engine(old->first, old->second, true);
        in.demand(is_dead || r.answer != pj::receipt::reject || old->first == engine->scanned(),
                  "G12 a message that is done is rejected when it comes again");
        look();
    }
    /// To a sink that is stopped, or has halted, for this message or another.
    void offer_in_vain(position at, const entry& e) {
        const position scanned = engine->scanned();
        const pj::receive_result r = offer_to_engine(at, e, at <= source.offered);
        in.demand(is_dead || r.answer == pj::receipt::hold,
                  "G11 a sink that does not run answers other than hold");
        in.demand(is_dead || r.reason != status::ok, "no reason is told");
        in.demand(is_dead || engine->scanned() == scanned, "a sink that does not run goes on");
        look();
    }
    void offer(position at, const entry& e) {
        if (!is_queue() && source.held && at < *source.held) gone_back(*source.held);
        const bool is_again = at <= source.offered;
        source.offered = std::max(source.offered, at);
        const pj::receive_result r = offer_to_engine(at, e, is_again);
        source.held.reset();
        if (!is_dead) answered(at, e, r.answer);
        look();
    }
    void answered(position at, const entry& e, pj::receipt answer) {
        switch (answer) {
        case pj::receipt::ack:
            acknowledge(at);
            in.demand(is_queue() || record_at() >= at, "G1 %lld is acknowledged and not saved",
                      shown(at));
            if (is_queue()) demand_outcome(at, e);
            break;
        case pj::receipt::later:
            in.demand(!is_queue() || with.counts_messages,
                      "G1 later, for a message without an offset");
            source.later.insert(at);
            break;
        case pj::receipt::hold: source.held = at; break;
        case pj::receipt::reject:
            // Those before it that are not acknowledged come again, it does not.
            source.rejected.insert(at);
            if (source.later.empty()) acknowledge(at);
            else source.later.insert(at);
            in.done.add(everybody, at);
            break;
        }
    }
    void demand_outcome(position at, const entry& e) {
        for (uint32_t h = 0; h < handler_count; ++h)
            in.demand(in.is_excused(at) || !in.wants(h, key, e) || in.done.has(h, at),
                      "G1 %lld is acknowledged without an outcome for %s", shown(at),
                      handler_names[h]);
    }

    // ---- commands

    void retry_failed() {
        const pj::status_group why = pj::group_of(engine->reason());
        const status s = engine->retry_failed();
        in.say("retry_failed() #%d: %s", number, pj::to_string(s));
        if (s != status::ok) return;
        seen.failures.clear();
        seen.odd.clear();
        // What a store has shown wrongly is in hand no more.
        if (why == pj::status_group::store || why == pj::status_group::checkpoint) seen.forget();
    }
    bool skip_failed() {
        const position at = engine->last_failure().at;
        const bool was_halted = engine->state() == pj::run_state::halted;
        const status s = engine->skip_failed(at);
        in.say("skip_failed(%lld) #%d: %s", shown(at), number, pj::to_string(s));
        if (s != status::ok) return false;
        in.demand(was_halted, "G31 skip_failed() of one that has not halted");
        in.done.add(everybody, at);
        in.excused.insert(at);
        return true;
    }
    void move() {
        // (A move that is lost with the lease would leave a hole for ever: the broker has moved.)
        if (is == role::replay || (is == role::sink && with.has_gaps)) return;
        position to = position{in.random.below(8)} - 1;
        to = std::max(std::min(to, in.newest()), in.trimmed);
        const bool is_careful = in.random.one_in(2);
        const status s = is == role::sink ? move(*as_sink(), is_careful, to)
                                          : move(*as_worker(), is_careful, to);
        in.say("%s #%d to %lld: %s", is_careful ? "set_position()" : "reset()", number, shown(to),
               pj::to_string(s));
        if (s == status::ok) moved(to);
    }
    template<class Engine> status move(Engine& one, bool is_careful, position to) {
        return is_careful ? one.set_position(one.scanned(), to) : one.reset(to);
    }
    void moved(position to) {
        seen.forget();
        pending_save.reset();
        moved_to = to;
        in.named.insert(to);
        if (is_queue()) return;
        in.forget_applied(key, to, pj::before_first);
        in.may_go_back(key, to);
        in.moving[number] = to;
        source.acked = to;
        source.later.clear();
        for (const auto& [at, e] : in.log) {
            if (at > to) break;
            in.excused.insert(at);
            in.done.add(everybody, at);
        }
        in.demand(engine->scanned() == to, "G31 it stands at %lld after a move to %lld",
                  shown(engine->scanned()), shown(to));
    }
    const letter_key* any_letter() {
        if (!with.has_sequences || in.letters.empty()) return nullptr;
        auto i = in.letters.begin();
        std::advance(i, in.random.below(static_cast<uint32_t>(in.letters.size())));
        return &i->first;
    }
    void redeliver() {
        const letter_key* const any = any_letter();
        if (any == nullptr) return;
        const letter_key k = *any;
        calls = 0;
        ++in.sum.redeliveries;
        is_redelivering = true;
        in.say("redeliver() #%d %s %s", number, k.handler.c_str(), k.aggregate.c_str());
        const status s = with.has_small_table
                             ? in.small_table.redeliver(*engine, k.handler, k.aggregate)
                             : in.large_table.redeliver(*engine, k.handler, k.aggregate);
        in.say("  = %s", pj::to_string(s));
        is_redelivering = false;
    }
    void release() {
        const letter_key* const any = any_letter();
        if (any == nullptr) return;
        const letter_key k = *any;
        in.say("release() #%d %s %s", number, k.handler.c_str(), k.aggregate.c_str());
        has_released = true;
        for (auto i = in.letters.begin(); i != in.letters.end();) {
            const letter_key& one = i->first;
            const bool is_of_it = one.partition == part.index && one.handler == k.handler &&
                                  one.aggregate == k.aggregate;
            i = is_of_it ? in.letters.erase(i) : std::next(i);
        }
        if (with.has_small_table) in.small_table.release(*engine, k.handler, k.aggregate);
        else in.large_table.release(*engine, k.handler, k.aggregate);
    }
    /// Through where every record stands or is about to be set, or not at all.
    void trim() {
        if (!with.trims) return;
        const position through = std::min(lowest_record(), engine->scanned());
        if (through <= in.trimmed || !in.random.one_in(2)) return;
        in.trimmed = through;
        in.log.erase(in.log.begin(), in.log.upper_bound(through));
        in.say("trimmed through %lld", shown(through));
    }
    position lowest_record() const {
        position at = record_at();
        for (const auto& [name, c] : in.records)
            if (name != key_of_count) at = std::min(at, c.at);
        for (const auto& [engine_number, to] : in.moving) at = std::min(at, to);
        return at;
    }
    /// An event that nobody has had yet is taken out of the log: a store that may do that, and
    /// says so to nobody.
    void vanish() {
        if (!with.vanishes) return;
        std::vector<position> can;
        for (const auto& [at, e] : in.log)
            if (at > engine->scanned() && at < in.newest() && e.is_visible) can.push_back(at);
        if (can.empty()) return;
        const position at = can[in.random.below(can.size() < 2 ? 1 : 2)];
        in.log[at].is_visible = false;
        in.log[at].is_dead = true;
        in.excused.insert(at);
        in.say("%lld vanishes", shown(at));
    }
    /// While a rebuild is under way its worker does not run.
    void give_way() {
        if (engine->running()) {
            engine->stop();
            asks_to_stop();
        }
        engine->resume();
    }
};

} // namespace combinations

#endif
