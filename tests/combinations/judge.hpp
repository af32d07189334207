// What must be true of a handler's call, of a notice, and after every tick.
#ifndef PROJECTIONS_TESTS_COMBINATIONS_JUDGE_HPP
#define PROJECTIONS_TESTS_COMBINATIONS_JUDGE_HPP

#include "station.hpp"

namespace combinations {

class judge {
public:
    explicit judge(station& s) : of_(s), in_(s.in), with_(s.with) {}

    // ---- handlers

    void called(uint32_t handler, uint32_t value, position at, const pj::context& c) {
        of_.demand_lease("a handler");
        const char* const name = handler_names[handler];
        in_.demand(!with_.has_units || of_.unit.is_open, "G17 %s is called outside a unit", name);
        in_.demand(!of_.rollback_pends, "G15 %s is called while a rollback is pending", name);
        if (of_.is_redelivering) return;
        in_.demand(of_.engine->running(), "G11 %s is called by an engine that does not run", name);
        in_.demand(!of_.commit_pends, "G15 %s is called while a commit is pending", name);
        in_.demand(!of_.pending_save, "G15 %s is called while a save is pending", name);
        in_.demand(handler != mailer || !c.replaying,
                   "G25 a live_only handler is called for a replayed event");
        in_.demand(c.attempt >= 1, "G9 attempt 0");
        if (!of_.is_queue()) called_in_order(handler, value, at, c);
        called_again(handler, at, c);
    }

    // ---- notices

    void noticed(const pj::notice& n) {
        const uint32_t handler = n.cause != nullptr ? handler_of(n.cause->handler) : everybody;
        const position at = n.cause != nullptr ? of_.position_of(n.cause->event)
                          : of_.is_queue()     ? of_.source.offered : n.at;
        in_.say("   * #%d %s: %s at %lld %s", of_.number, pj::to_string(n.kind),
                pj::to_string(n.reason), shown(n.at), n.cause != nullptr ? handler_names[handler]
                                                                         : "");
        switch (n.kind) {
        case pj::notice_kind::event_skipped: skipped(n, handler, at); break;
        case pj::notice_kind::event_vanished:
            in_.excused.insert(at);
            in_.demand(with_.store_filters || with_.vanishes,
                       "G11 event %lld is said to have vanished", shown(at));
            break;
        case pj::notice_kind::gap_found: has_trouble(at); break;
        case pj::notice_kind::store_failed:
            if (n.reason == status::unit_of_work_failed) has_trouble(pj::before_first);
            break;
        case pj::notice_kind::gap_skipped: gap_skipped(at); break;
        case pj::notice_kind::handler_failed: failed(n, handler, at); break;
        case pj::notice_kind::lease_gained:
        case pj::notice_kind::lease_lost:
            of_.pending_save.reset();
            of_.seen.forget();
            break;
        case pj::notice_kind::lease_released: of_.pending_save.reset(); break;
        case pj::notice_kind::loaded:
            of_.moved_to = pj::before_first;
            in_.moving.erase(of_.number);
            of_.seen.forget();
            break;
        case pj::notice_kind::started: of_.seen.forget(); break;
        case pj::notice_kind::checkpoint_saved:
            if (of_.engine->scanned() >= of_.engine->checkpointed()) in_.moving.erase(of_.number);
            break;
        default: break;
        }
    }

    /// What was tried of one event is kept. While those before it are done again, one of them may
    /// take its place (it fails, pends, is gone, is not committed); the other is then new.
    void has_trouble(position at) {
        if (with_.has_units) of_.seen.given_up.remove_after(at);
    }

    // ---- ticks

    struct before_tick {
        uint64_t now_ms;
        bool was_running, is_free;      // free: somebody has sent or waked it
    };
    /// The engine is about to be ticked.
    before_tick begins() {
        const before_tick b{in_.now_ms, of_.engine->running(),
                            of_.was_disturbed || of_.engine->woken()};
        of_.was_disturbed = false;
        of_.calls = of_.port_calls = of_.ports_ok = 0;
        if (of_.wants_stop && of_.stop_ms == station::never_ms) {
            of_.stop_ms = in_.now_ms;
            of_.slowness_ms = 0;
        }
        return b;
    }
    void ended(const before_tick& b, const pj::tick_result& r) {
        kept_its_wait(b);
        goes_round(b, r);
        began_ms_ = b.now_ms;
        promised_ms_ = r.wait_ms;
    }
    uint32_t promised_ms() const { return promised_ms_; }
    /// After a tick or a message.
    void look(const pj::tick_result& last) {
        counts_add_up();
        // With units the events of two ticks may be committed in one.
        in_.demand(last.scanned <= (with_.has_units ? 2 : 1) * with_.batch + 1,
                   "G26 a tick of %u events", last.scanned);
        in_.demand(*pj::to_string(last.reason) != '?', "G29 a reason without a name");
        in_.demand(of_.engine->lag() >= -1, "a lag of %lld", shown(of_.engine->lag()));
        if (of_.engine->state() == pj::run_state::halted)
            in_.demand(may_halt(of_.engine->reason()), "an engine halts: %s",
                       pj::to_string(of_.engine->reason()));
        if (of_.engine->running()) runs_on(last);
        else if (of_.wants_stop) has_stopped();
    }
    void begin_anew() {
        zeros_ = 0;
        promised_ms_ = 0;
    }

private:
    void called_in_order(uint32_t handler, uint32_t value, position at, const pj::context& c) {
        const char* const name = handler_names[handler];
        const auto found = in_.log.find(at);
        const bool is_known = found != in_.log.end() && found->second.value == value;
        in_.demand(is_known, "%s is given what the log does not hold", name);
        if (!is_known) return;
        in_.demand(at > of_.engine->scanned(), "G7 %s is called for %lld, which is done", name,
                   shown(at));
        in_.demand(in_.wants(handler, of_.key, found->second),
                   "G19 %s is called for %lld, which is another's", name, shown(at));
        const pj::checkpoint& record = in_.records[of_.key];
        const position through = std::max(record.replayed_through, described_through());
        for (const auto& [p, e] : in_.log) {
            if (p >= at) break;
            if ((p <= record.at && !with_.is_volatile) || p <= of_.engine->scanned()) continue;
            if (!e.is_visible || in_.is_excused(p) || !in_.wants(handler, of_.key, e)) continue;
            if (handler == mailer && (p <= through || c.replaying || with_.is_volatile)) continue;
            in_.demand(in_.done.has(handler, p) || of_.unit.outcomes.count({handler, p}) != 0 ||
                           of_.unit.outcomes.count({everybody, p}) != 0,
                       "G7 %s sees %lld before %lld has an outcome", name, shown(at), shown(p));
        }
        if (with_.has_sequences && !with_.letters_inside)
            waits_for_letters(handler, at, found->second);
    }
    position described_through() const { return of_.engine->described_by().replayed_through; }
    /// What stands behind a letter is not tried before that is gone.
    void waits_for_letters(uint32_t handler, position at, const entry& e) {
        if (e.aggregate.empty()) return;
        const uint32_t rebuild = in_.records[of_.key].rebuild;
        for (const auto& [k, l] : in_.letters) {
            const bool is_before = k.at != at &&
                (k.is_of(of_.part.index, rebuild, e.aggregate, handler_names[handler]) ||
                 k.is_of(of_.part.index, rebuild, e.aggregate, ""));
            in_.demand(!is_before, "G7 %s is called for %lld while a letter of %s waits",
                       handler_names[handler], shown(at), e.aggregate.c_str());
        }
    }
    void called_again(uint32_t handler, position at, const pj::context& c) {
        const char* const name = handler_names[handler];
        const bool is_pending = of_.seen.pending.has(handler, at);
        in_.demand(of_.is_queue() || !of_.seen.given_up.has(handler, at),
                   "G11 %s is called again for %lld, given up before", name, shown(at));
        if (with_.has_units) {
            in_.demand(!c.resumed || is_pending, "G15 %s is resumed at %lld after a rollback", name,
                       shown(at));
        } else if (!of_.is_queue()) {
            in_.demand(!of_.seen.handled.has(handler, at), "G10 %s is called again for %lld", name,
                       shown(at));
            in_.demand(c.resumed == is_pending || of_.seen.odd.count(at) != 0,
                       "G15 %s is told that it %s resumed at %lld", name,
                       c.resumed ? "is" : "is not", shown(at));
        }
    }

    void skipped(const pj::notice& n, uint32_t handler, position at) {
        if (of_.is_dead) return;
        of_.settle(handler, at);
        if (n.cause == nullptr) return;
        of_.seen.given_up.add(handler, at);
        // It stays so when the unit in which it failed is rolled back.
        if (with_.has_units) in_.done.add(handler, at);
    }
    void gap_skipped(position through) {
        in_.named.insert(through);
        for (const auto& [at, e] : in_.log)
            if (at <= through && !e.is_visible) in_.excused.insert(at);
    }
    /// G9: every attempt is counted, and none twice.
    void failed(const pj::notice& n, uint32_t handler, position at) {
        has_trouble(at);
        if (handler == everybody || with_.has_units || of_.is_redelivering || of_.is_queue())
            return;
        const uint32_t made = ++of_.seen.failures[{handler, at}];
        const bool is_plain = n.cause->kind == pj::failure_kind::transient && n.cause->code < 16 &&
                              with_.policy != policy_kind::custom && of_.seen.odd.count(at) == 0;
        in_.demand(!is_plain || n.cause->attempts == made,
                   "G9 attempt %u of %s at %lld, which has failed %u times", n.cause->attempts,
                   handler_names[handler], shown(at), made);
    }

    /// G27: nothing was due before.
    void kept_its_wait(const before_tick& b) {
        const bool is_early = promised_ms_ == pj::never || b.now_ms < began_ms_ + promised_ms_;
        if (!b.was_running || b.is_free || !is_early || of_.is_dead) return;
        // A tick without a message since the last one finds the source of a sink idle.
        const bool may_be_idle = with_.save.when_idle || with_.has_crashes;
        if (of_.is == role::sink && may_be_idle) return;
        in_.demand(of_.port_calls == 0, "G27 a wait of %u ms is promised, and after %lld ms the "
                   "engine does something", promised_ms_, shown(position(b.now_ms - began_ms_)));
    }
    /// G15: an engine that wants to go on at once gets something done. (So many calls in a row do not all
    /// meet a fault by chance.)
    void goes_round(const before_tick& b, const pj::tick_result& r) {
        const bool is_idle = of_.engine->running() && r.wait_ms == 0 && r.scanned == 0 &&
                             of_.ports_ok == 0 && in_.now_ms == b.now_ms && !of_.engine->woken();
        zeros_ = is_idle ? zeros_ + 1 : 0;
        in_.demand(zeros_ <= 24, "G15 an engine goes round and round, and no port answers ok");
    }
    void counts_add_up() {
        const pj::counters c = of_.engine->counts();
        const uint64_t sum = c.handled + c.unhandled + c.unknown + c.filtered + c.skipped +
                             c.lettered + c.vanished + c.duplicate + c.foreign;
        in_.demand(c.scanned == sum, "G16 %llu events are scanned and have %llu outcomes",
                   static_cast<unsigned long long>(c.scanned),
                   static_cast<unsigned long long>(sum));
        for (const uint64_t n : {c.scanned, c.handled, c.unhandled, c.unknown, c.filtered,
                                 c.skipped, c.lettered, c.vanished, c.duplicate, c.foreign})
            in_.demand(n < 100000, "G16 a counter wraps");
    }
    void runs_on(const pj::tick_result& last) {
        const uint64_t end_ms = of_.stop_ms + with_.stop_ms + of_.slowness_ms + 1;
        in_.demand(!of_.wants_stop || of_.stop_ms == station::never_ms || began_ms_ < end_ms,
                   "G28 an engine runs on after stop() and stop_ms");
        const bool may_sleep = with_.poll_ms == pj::never || with_.pending_ms == pj::never ||
                               last.state == pj::run_state::paused || of_.engine->woken() ||
                               (of_.is == role::sink && last.state != pj::run_state::waiting);
        in_.demand(last.wait_ms != pj::never || may_sleep, "G27 an engine waits for ever: %s, %s",
                   pj::to_string(last.state), pj::to_string(last.reason));
    }
    /// Because the policy wants it (or in a unit more letters are owed than can be noted); because
    /// of a rebuild; or because of somebody else, whom a store may also have made up.
    bool may_halt(status why) const {
        const bool is_wanted = with_.policy == policy_kind::retry ||
                               with_.policy == policy_kind::custom ||
                               (with_.policy == policy_kind::retry_letter && !with_.has_letters) ||
                               (with_.has_units && with_.has_extras);
        const bool has_others = with_.faults.conflict != 0 || with_.faults.junk != 0 ||
                                with_.is_doubled || with_.has_replay();
        if (why == status::checkpoint_conflict) return has_others;
        if (why == status::rebuild_unfinished) return with_.has_replay();
        // What becomes visible late is no part of the order in which it is replayed.
        if (why == status::store_unordered) return with_.has_replay() && with_.has_gaps;
        return is_wanted && pj::group_of(why) == pj::status_group::handler;
    }
    /// G28: what it says of its checkpoint is true, and the lease is free.
    void has_stopped() {
        of_.wants_stop = false;
        const pj::engine& e = *of_.engine;
        in_.demand(!with_.has_lease || e.state() == pj::run_state::stopped || !e.has_lease(),
                   "G28 a halted engine keeps its lease");
        const bool is_clean = e.state() == pj::run_state::stopped && e.reason() == status::ok;
        const bool saves_nothing = of_.is_queue() && !with_.counts_messages;
        if (!is_clean || !e.loaded() || saves_nothing || with_.is_volatile) return;
        in_.demand(e.checkpointed() == e.scanned(), "G28 stop() is ok, and not all is saved");
        // Where several work under one name the record may have become another's.
        in_.demand(with_.is_doubled || with_.has_replay() ||
                       in_.records[of_.key].at >= e.scanned(),
                   "G28 stop() is ok, and the store has %lld of %lld",
                   shown(in_.records[of_.key].at), shown(e.scanned()));
    }

    station& of_;
    world& in_;
    const setting& with_;
    uint64_t began_ms_ = 0;             // of the last tick
    uint32_t promised_ms_ = 0;
    uint32_t zeros_ = 0;
};

} // namespace combinations

#endif
