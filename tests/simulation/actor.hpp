// One engine on one host, and what is checked of each of its ticks.
#ifndef PROJECTIONS_TESTS_SIMULATION_ACTOR_HPP
#define PROJECTIONS_TESTS_SIMULATION_ACTOR_HPP

#include "process.hpp"

namespace simulation {

inline constexpr uint64_t not_due = ~uint64_t{0};

/// What a broker keeps for one projection: a topic's partition with offsets, or a queue.
struct broker {
    int32_t next = 0;                   // offsets: the next row to deliver
    int32_t acked = -1;                 // through this row
    int32_t offered = -1;
    std::vector<int32_t> done;          // answered `later`
    std::vector<int32_t> waiting;       // a queue: delivered, perhaps, and not acknowledged
    int32_t taken = -1;                 // through this row the queue was filled
    int32_t held = -1;
    uint64_t offer_ms = 0;              // nothing is offered before
};

class actor {
public:
    actor(description& d, uint32_t part, bool replays) : of(d), in(d.on.in) {
        w.host = d.on.number;
        w.projection = d.number;
        w.part = part;
        w.is_replay = replays;
        w.is_in_memory = d.how.kind == engine_kind::in_memory && !replays;
        if (w.is_in_memory) w.own.grow(in.rows.size());
        if (replays) {
            options_.on_drop = drops_;
            options_.batch = d.how.replay_batch;
            const bool is_split = d.how.kind == engine_kind::partitioned;
            options_.partitions = is_split ? in.partitions[d.number] : 0;
            replay_.reset(new pj::replay_engine(d.what, options_));
            engine = replay_.get();
        } else if (d.how.kind == engine_kind::partitioned) {
            const pj::partition one{part, in.partitions[d.number]};
            part_.reset(new pj::partitioned_worker(d.what, one, d.with));
            engine = part_.get();
        } else if (d.how.kind == engine_kind::sink || d.how.kind == engine_kind::queue) {
            sink.reset(new pj::event_sink(d.what));
            engine = sink.get();
        } else {
            worker_.reset(new pj::worker(d.what));
            engine = worker_.get();
        }
    }
    actor(const actor&) = delete;
    actor& operator=(const actor&) = delete;

    pj::worker* worker() {
        return worker_ != nullptr ? worker_.get() : static_cast<pj::worker*>(part_.get());
    }
    bool is_finished() const { return replay_ != nullptr && replay_->finished(); }

    void start(pj::start_cause cause) {
        const auto here = at_work();
        w.life = ++in.lives;
        w.forget_all();
        w.is_rested = wants_rest = wants_stop = false;
        stop_ms = 0;
        waits = {};
        const status s = engine->start(cause);
        if (s != status::ok) in.fail("start() answers %s", pj::to_string(s));
        in.say(&w, "starts");
        due = in.now;
    }
    void stop() {
        if (!engine->running()) return;
        engine->stop();
        due = in.now;
        if (!wants_stop) ++in.sum.stops;
        wants_stop = true;
    }

    /// What an operator does about a halt.
    void retry() {
        const auto here = at_work();
        w.was_touched = true;
        w.forget();
        wants_stop = false;
        stop_ms = 0;
        static_cast<void>(engine->retry_failed());
        due = in.now;
    }
    void skip() {
        const auto here = at_work();
        if (engine->skip_failed(engine->last_failure().at) != status::ok) return retry();
        wants_stop = false;
        stop_ms = 0;
        w.forget();
        due = in.now;
    }
    /// Sends it back to a position.
    bool reset(position to) {
        const auto here = at_work();
        const status s = in.random.one_in(2) ? worker()->reset(to)
                                             : worker()->set_position(engine->scanned(), to);
        in.say(&w, "reset to %lld: %s", shown(to), pj::to_string(s));
        if (s != status::ok) return false;
        kept& k = in.store[of.on.judging.key_of(w)];
        const bool is_lower = k.may_go_to < pj::before_first || to < k.may_go_to;
        k.may_go_to = is_lower ? to : k.may_go_to;
        w.loaded_at = to < w.loaded_at ? to : w.loaded_at;
        w.forget_all();
        due = in.now;
        return true;
    }

    void tick() {
        const auto here = at_work();
        look before(*this);
        ++in.sum.ticks;
        if (w.is_in_memory) w.own.grow(in.rows.size());
        if (engine->woken()) requests();
        const uint64_t began_ms = of.on.local();
        w.tick_ms = began_ms;
        const pj::tick_result r = engine->tick(static_cast<uint32_t>(began_ms));
        if (of.on.is_dead) return;
        if (!engine->woken()) sleep(r.wait_ms);
        else due = in.now;
        in.say(&w, "tick: %s, %s, wait %u, scanned %u", pj::to_string(r.state),
               pj::to_string(r.reason), r.wait_ms, r.scanned);
        check(before, r, began_ms);
    }
    /// Offers one message; true if the broker is to be told that it is done.
    pj::receive_result receive(int32_t index, bool is_again) {
        const auto here = at_work();
        if (engine->woken()) requests();
        payload p;
        pj::stored_event e;
        of.log.fill(e, p, index);
        if (of.how.kind == engine_kind::queue) e.at = pj::before_first;
        const event_count_before counted{engine->counts()};
        w.tick_ms = of.on.local();
        const pj::receive_result r =
            sink->receive(e, of.on.clock(), is_again && of.how.says_redelivered);
        if (of.on.is_dead) return {pj::receipt::hold, 0, status::failed};
        const pj::counters n = engine->counts();
        in.sum.events += n.scanned - n.duplicate - counted.all;
        in.say(&w, "receive %lld: %u, wait %u, %s", shown(in.get(index).at),
               static_cast<unsigned>(r.answer), r.wait_ms, pj::to_string(r.reason));
        if (r.answer == pj::receipt::ack || r.answer == pj::receipt::later)
            of.on.judging.acknowledged(w, index, r.answer == pj::receipt::ack);
        reconcile();
        return r;
    }
    /// When this wait of the engine is over.
    uint64_t after(uint32_t wait_ms) const {
        const uint64_t until = of.on.local() + wait_ms;
        uint64_t ms = in.now + wait_ms - wait_ms * uint64_t{6} / 1000;
        while (local_at(ms) < until) ++ms;
        return ms;
    }

    description& of;
    world& in;
    witness w;
    asked waits;
    pj::engine* engine = nullptr;
    std::unique_ptr<pj::event_sink> sink;
    uint64_t due = not_due;
    bool wants_rest = false;
    bool wants_stop = false;
    uint64_t stop_ms = 0;               // by its own clock, since when it is to end

private:
    struct event_count_before {
        explicit event_count_before(const pj::counters& n) : all(n.scanned - n.duplicate) {}
        uint64_t all;
    };
    /// What is compared after a tick.
    struct look {
        explicit look(const actor& a)
            : scanned(a.engine->scanned()), epoch(a.w.epoch), is_loaded(a.engine->loaded()),
              counts(a.engine->counts()) {}
        position scanned;
        uint64_t epoch;
        bool is_loaded;
        pj::counters counts;
    };
    /// Who is at work on this host, as long as it lives.
    class working {
    public:
        explicit working(actor& a) : on_(a.of.on) {
            on_.current = &a.w;
            on_.waits = &a.waits;
            on_.engine = a.engine;
        }
        working(const working&) = delete;
        working& operator=(const working&) = delete;
        ~working() {
            on_.current = nullptr;
            on_.waits = nullptr;
            on_.engine = nullptr;
        }

    private:
        machine& on_;
    };
    working at_work() { return working(*this); }

    uint64_t local_at(uint64_t ms) const {
        const machine& m = of.on;
        const int64_t elapsed = static_cast<int64_t>(ms - m.booted_ms);
        return ms + m.offset_ms + static_cast<uint64_t>(elapsed * m.drift_ppm / 1000000 + 1000);
    }
    void requests() {
        w.is_rested = wants_rest;
        if (wants_stop && stop_ms == 0) stop_ms = of.on.local();
    }
    void sleep(uint32_t wait_ms) {
        due = wait_ms == pj::never ? not_due
            : wait_ms == 0         ? in.now + (in.random.one_in(4) ? 1u : 0u) : after(wait_ms);
        if (in.has_faults && due != not_due && in.random.happens(100)) due += in.random.below(30);
        if (in.has_faults && wait_ms != 0 && in.random.happens(300))
            due = in.now + in.random.below(wait_ms < 1000 ? wait_ms : 1000);
    }

    void check(const look& before, const pj::tick_result& r, uint64_t began_ms) {
        const bool is_fed = sink != nullptr;
        const pj::counters n = engine->counts();
        const uint64_t done = n.scanned - before.counts.scanned;
        if (!is_fed) in.sum.events += done - (n.foreign - before.counts.foreign);
        if (done != r.scanned) in.fail("G16 a tick counts %u events, the counters %u", r.scanned,
                                       static_cast<unsigned>(done));
        const uint32_t batch = w.is_replay ? of.how.replay_batch : of.how.numbers.batch;
        // With units it counts what is committed, perhaps begun in an earlier tick.
        if (r.scanned > batch + 1 && !of.how.has_units)
            in.fail("G26 a tick of %u events", r.scanned);
        reconcile();
        if (before.is_loaded && engine->loaded() && before.epoch == w.epoch && !is_fed &&
            !w.is_replay && engine->scanned() >= before.scanned) {
            compare(before.scanned, r.scanned);
        }
        if (stop_ms != 0 && engine->running() && began_ms > stop_ms + of.how.numbers.stop_ms + 1)
            in.fail("G28 an engine runs on %llu ms after stop()",
                    static_cast<unsigned long long>(began_ms - stop_ms));
        is_idle_loop(r);
        is_too_far(r);
    }
    /// As many events as the log has shown between the two positions.
    void compare(position from, uint32_t scanned) {
        if (from < in.trimmed || of.how.store_filters) return;
        uint32_t rows = 0;
        const int32_t last = in.floor_of(engine->scanned());
        for (int32_t i = in.floor_of(from) + 1; i <= last; ++i) rows += in.get(i).is_dead ? 0u : 1u;
        if (rows != scanned)
            in.fail("G16 %u events were counted between %lld and %lld, where %u are", scanned,
                    shown(from), shown(engine->scanned()), rows);
    }
    void reconcile() {
        const pj::counters n = engine->counts();
        const uint64_t sum = n.handled + n.unhandled + n.unknown + n.filtered + n.skipped +
                             n.lettered + n.vanished + n.duplicate + n.foreign;
        if (sum != n.scanned) in.fail("G16 the counters do not add up");
    }
    /// G15, G27: an engine that wants to go on at once gets something done.
    void is_idle_loop(const pj::tick_result& r) {
        if (r.wait_ms != 0 || r.scanned != 0 || !engine->running()) loops_ = 0;
        else if (++loops_ > 100) in.fail("G15 an engine goes round and round");
    }
    /// G14: with too much unsaved nothing but the save is tried.
    void is_too_far(const pj::tick_result&) {
        if (of.how.has_units || w.is_replay || sink != nullptr || w.is_in_memory) return;
        const uint32_t most = of.how.numbers.unsaved_max != 0 ? of.how.numbers.unsaved_max
                                                              : of.how.numbers.batch * 10;
        uint32_t rows = 0;
        const int32_t last = in.floor_of(engine->scanned());
        for (int32_t i = in.floor_of(engine->checkpointed()) + 1; i <= last; ++i)
            rows += in.get(i).is_dead ? 0u : 1u;
        if (rows > most + 1 && !of.how.store_filters && in.trimmed < engine->checkpointed())
            in.fail("G14 %u events are not saved", rows);
    }

    status drop() {
        machine& m = of.on;
        const uint64_t token = engine->fencing_token();
        if (!m.is_dead) m.judging.begins(w, "a drop", token);
        return m.call("drop", 0, false, [this, token, &m] {
            if (of.how.has_lease && in.leases[m.judging.key_of(w)].token != token)
                return status::failed;
            m.judging.dropped(w);
            w.loaded_at = pj::before_first;
            w.forget_all();
            return status::ok;
        });
    }
    struct { actor& a; status operator()() const { return a.drop(); } } drops_{*this};
    pj::replay_options options_{};
    std::unique_ptr<pj::worker> worker_;
    std::unique_ptr<pj::partitioned_worker> part_;
    std::unique_ptr<pj::replay_engine> replay_;
    uint32_t loops_ = 0;
};

/// A host: a machine, and what runs on it since it was booted.
struct host {
    host(world& in, judge& judging, uint32_t number) : on{in, judging} { on.number = number; }
    machine on;
    bool is_up = false;
    uint64_t boot_ms = 0;
    std::vector<std::unique_ptr<description>> descriptions;
    std::vector<std::unique_ptr<actor>> actors;
    witness by_hand{};                  // for what the operator does himself
    asked waits_by_hand{};
};

} // namespace simulation

#endif
