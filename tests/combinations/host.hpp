// One engine: its description with every feature that the setting asks for, its life from boot to
// crash, its ticks.
#ifndef PROJECTIONS_TESTS_COMBINATIONS_HOST_HPP
#define PROJECTIONS_TESTS_COMBINATIONS_HOST_HPP

#include "ports.hpp"

#include <memory>

namespace combinations {

class host : protected station {
public:
    host(world& w, std::string k, pj::partition p, int n, role r)
        : station(w, std::move(k), p, n, r) {
        describe_ports();
        describe_features();
        describe_numbers();
        describe_engine();
        boot();
    }

    bool is_running() const { return engine->running(); }
    const std::string& name() const { return key; }
    uint32_t promised_ms() const { return judging_.promised_ms(); }

    pj::tick_result tick() {
        if (bury()) return last_;
        ++in.sum.ticks;
        const judge::before_tick before = judging_.begins();
        in.say("tick #%d at %llu (%s, %s)", number,
               static_cast<unsigned long long>(in.now_ms - with.origin_ms),
               pj::to_string(engine->state()), pj::to_string(engine->reason()));
        last_ = engine->tick(static_cast<uint32_t>(in.now_ms));
        in.say("  = %s, %s, wait %u, scanned %u (at %lld)", pj::to_string(last_.state),
               pj::to_string(last_.reason), last_.wait_ms, last_.scanned, shown(engine->scanned()));
        judging_.ended(before, last_);
        look();
        return last_;
    }
    void start() {
        const status s = engine->start(cause_);
        in.say("start() #%d after a %s: %s", number,
               cause_ == pj::start_cause::crash ? "crash" : "clean end", pj::to_string(s));
        was_disturbed = true;
        in.demand(s == status::ok || s == status::already_started, "G29 start() answers %s",
                  pj::to_string(s));
        if (s != status::ok) return;
        cause_ = pj::start_cause::clean;
        if (with.is_volatile) in.forget_model();
        seen.forget();
        pending_save.reset();
        source.later.clear();
        wants_stop = false;
    }

protected:
    ~host() = default;

    /// True: it had died, and has begun anew.
    bool bury() {
        if (!is_dead) return false;
        in.say("CRASH #%d", number);
        ++in.sum.crashes;
        cause_ = pj::start_cause::crash;
        boot();
        last_ = {};
        return true;
    }
    void look() {
        if (!bury()) judging_.look(last_);
    }
    pj::worker* as_worker() const {
        return is == role::partition ? static_cast<pj::worker*>(part_.get()) : worker_.get();
    }
    pj::event_sink* as_sink() const { return sink_.get(); }

    pj::partition_limit limit_{2};
    pj::tick_result last_{};

private:
    // ---- describing it

    template<auto Member> struct bound;
    template<class R, class... A, R (host::*Member)(A...)> struct bound<Member> {
        static R call(void* self, A... arguments) {
            return (static_cast<host*>(self)->*Member)(arguments...);
        }
    };
    status reads(position after, pj::visitor& visit) { return log_.read(after, visit); }
    status looks(position& trimmed, position& newest, uint64_t& log_id) {
        return log_.bounds(trimmed, newest, log_id);
    }
    void observes(const pj::notice& n) { others_.observe(n); }
    uint32_t clock() { return static_cast<uint32_t>(in.now_ms); }
    bool passes(const pj::stored_event& e) { return others_.passes(e); }
    bool opens(pj::stored_event& e) { return others_.open(e); }
    bool is_dead_hole(position from, position to) { return others_.is_dead(from, to); }
    status drops() { return others_.drop(rebuild_.from, rebuild_.partitions != 0); }

    void describe_ports() {
        what_.name = "p";
        what_.log.self = this;
        what_.log.read = bound<&host::reads>::call;
        if (with.has_bounds) what_.log.bounds = bound<&host::looks>::call;
        what_.handlers = hands_.choose(with);
        what_.checkpoints = store_;
        if (with.has_letters) what_.dead_letters = letters_;
        if (with.has_sequences && with.has_small_table) what_.sequences = in.small_table;
        else if (with.has_sequences) what_.sequences = in.large_table;
        what_.observe = {bound<&host::observes>::call, this};
        what_.observe_handled = with.observes_handled;
        what_.clock = {bound<&host::clock>::call, this};
        if (with.has_units) what_.transaction = units_;
    }
    void describe_features() {
        lease_.ttl_ms = with.ttl_ms;
        lease_.margin_ms = with.margin_ms;
        if (with.has_lease) what_.lease = &lease_;
        what_.on_error = policy();
        if (with.skips_replayed) what_.on_error_replaying = &replaying_;
        if (with.fails_unknown) what_.on_unknown = pj::unknown_types::fail;
        if (with.has_crashes) what_.crashes = &crashes_;
        gaps_.timeout_ms = with.gap_ms;
        if (with.tells_dead) gaps_.is_dead = {bound<&host::is_dead_hole>::call, this};
        if (with.has_gaps) what_.gaps = &gaps_;
        if (with.has_filter) what_.filter = {bound<&host::passes>::call, this};
        what_.first_start = with.first_start;
        what_.volatile_model = with.is_volatile;
        what_.accept_partial_records = with.is_partial;
        if (with.is_successor) what_.replayed_through = successor_from;
    }
    void describe_numbers() {
        what_.delays = with.delays;
        what_.batch = with.batch;
        what_.tick_ms_max = with.has_budget ? 30 : 0;
        what_.poll_ms = with.poll_ms;
        what_.pending_ms = with.pending_ms;
        what_.save = with.save;
        what_.unsaved_max = with.unsaved_max;
        what_.stop_ms = with.stop_ms;
        what_.unit_ms_max = with.unit_ms_max;
    }
    void describe_engine() {
        rebuild_.on_drop = {bound<&host::drops>::call, this};
        rebuild_.batch = with.batch;
        rebuild_.from = with.replay_from;
        if (with.kind == world_kind::partitioned_replay) rebuild_.partitions = 2;
        options_.limit = &limit_;
        receives_.count_messages = with.counts_messages;
        if (with.has_client) receives_.client = client_;
        if (with.opens) receives_.open = {bound<&host::opens>::call, this};
    }
    pj::error_policy policy() const {
        switch (with.policy) {
        case policy_kind::skip: return pj::error_policy::skip();
        case policy_kind::retry: return pj::error_policy::retry(with.retries);
        case policy_kind::retry_skip: return pj::error_policy::retry_then_skip(with.retries);
        case policy_kind::letter: return pj::error_policy::dead_letter();
        case policy_kind::retry_letter:
            return pj::error_policy::retry_then_dead_letter(with.retries);
        case policy_kind::custom: break;
        }
        return pj::error_policy::custom([](const pj::failure& f) {
            if (f.code % 4 == 0) return pj::decision::skip();
            if (f.code % 4 == 1) return pj::decision::dead_letter();
            return f.attempts < 5 ? pj::decision::retry_after(f.code % 100)
                                  : pj::decision::halt();
        });
    }

    // ---- its life

    void boot() {
        is_dead = false;
        forget_all();
        worker_.reset();
        part_.reset();
        sink_.reset();
        replay_.reset();
        switch (is) {
        case role::worker: worker_.reset(new pj::worker(what_)); engine = worker_.get(); break;
        case role::sink:
            sink_.reset(new pj::event_sink(what_, receives_));
            engine = sink_.get();
            break;
        case role::replay:
            replay_.reset(new pj::replay_engine(what_, rebuild_));
            engine = replay_.get();
            break;
        case role::partition:
            part_.reset(new pj::partitioned_worker(what_, part, options_));
            engine = part_.get();
            break;
        }
        limit_ = pj::partition_limit(2);
    }
    void forget_all() {
        unit.clear();
        commit_pends = rollback_pends = false;
        seen.forget();
        pending_save.reset();
        source.later.clear();
        if (with.is_volatile) in.forget_model();
        was_disturbed = true;
        wants_stop = false;
        judging_.begin_anew();
    }

public:
    /// Where the one before it stopped, in worlds with a successor.
    static constexpr position successor_from = 6;

protected:
    judge judging_{*this};

private:
    log_port log_{*this};
    store_port store_{*this};
    letter_port letters_{*this};
    unit_port units_{*this};
    lease_port leases_{*this};
    client_port client_{*this};
    hand_port hand_{*this, judging_};
    all_hands hands_{hand_};
    other_ports others_{*this, judging_};
    pj::lease lease_{leases_};
    pj::crash_guard crashes_{2};
    pj::gap_guard gaps_{};
    pj::error_policy replaying_ = pj::error_policy::skip();
    pj::partition_options options_{};
    pj::replay_options rebuild_{};
    pj::sink_options receives_{};
    pj::start_cause cause_ = pj::start_cause::clean;
    pj::projection what_{};
    std::unique_ptr<pj::worker> worker_;
    std::unique_ptr<pj::partitioned_worker> part_;
    std::unique_ptr<pj::event_sink> sink_;
    std::unique_ptr<pj::replay_engine> replay_;
};

} // namespace combinations

#endif
