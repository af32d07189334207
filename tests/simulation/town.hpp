// All hosts of one world, their scheduler and the brokers.
#ifndef PROJECTIONS_TESTS_SIMULATION_TOWN_HPP
#define PROJECTIONS_TESTS_SIMULATION_TOWN_HPP

#include "actor.hpp"

namespace simulation {

/// What the operator does with one projection.
enum class phase : uint8_t { working, before_rebuild, rebuilding, before_split, splitting };

struct affair {
    phase what = phase::working;
    uint64_t since_ms = 0;
    uint64_t quiet_ms = 0;              // nothing of it has run since
    bool leaves_standbys = false;
    bool is_at_it = false;              // a call of repartition() is under way
    uint32_t from = 0, to = 0;          // partitions
    broker messages{};
};

class town {
public:
    town(const config& c, statistics& sum, bool is_tracing)
        : with_(c), in(c, sum), judging_(in), affairs_(c.projections.size()) {
        in.is_tracing = is_tracing;
        in.let_others_work = [this](uint64_t until) { run_until(until); };
        for (uint32_t i = 0; i < c.hosts; ++i) hosts_.emplace_back(new host(in, judging_, i));
        next_deed_ms_ = 1 + in.random.below(c.operator_ms);
        next_crash_ms_ = c.crash_ms != 0 ? c.crash_ms : not_due;
    }

    town(const town&) = delete;
    town& operator=(const town&) = delete;

protected:
    ~town() = default;
    /// A deed of the operator's that may be trouble.
    virtual void do_something() = 0;
    /// One that gets things going again.
    virtual void look_after() = 0;

    const config& with_;

public:
    world in;

protected:
    projection_config const& config_of(uint32_t p) const { return with_.projections[p]; }
    uint32_t count() const { return static_cast<uint32_t>(with_.projections.size()); }

    // ---- the scheduler

    /// The earliest of what is due on the hosts that are free.
    actor* next_actor(uint64_t& ms) {
        actor* found = nullptr;
        for (const std::unique_ptr<host>& h : hosts_) {
            if (!h->is_up || h->on.is_busy || h->on.is_dead) continue;
            for (const std::unique_ptr<actor>& a : h->actors) {
                const uint64_t due = due_of(*a);
                if (due < ms) {
                    ms = due;
                    found = a.get();
                }
            }
        }
        return found;
    }
    uint64_t due_of(const actor& a) {
        uint64_t ms = a.due;
        if (a.sink != nullptr && a.engine->running() && has_message(a)) {
            const uint64_t offer = affairs_[a.w.projection].messages.offer_ms;
            ms = offer < ms ? offer : ms;
        }
        return ms;
    }
    void run_until(uint64_t until) {
        while (!in.has_failed) {
            uint64_t ms = until;
            actor* const a = next_actor(ms);
            uint64_t other = in.next_arrival();
            for (const uint64_t one : {next_deed_ms_, next_crash_ms_, next_event_ms(), next_boot()})
                other = one < other ? one : other;
            if (other <= ms && other < until) {
                if (other > in.now) in.now = other;
                happen();
                continue;
            }
            if (a == nullptr) break;
            if (ms > in.now) in.now = ms;
            work(*a);
        }
        if (in.now < until) in.now = until;
    }
    uint64_t next_boot() const {
        uint64_t ms = not_due;
        for (const std::unique_ptr<host>& h : hosts_) {
            if (!h->is_up && h->boot_ms < ms) ms = h->boot_ms;
            if (h->is_up && h->on.is_dead && !h->on.is_busy) ms = 0;
        }
        return ms;
    }
    /// All that is due now and is no engine's.
    void happen() {
        in.arrive();
        if (next_event_ms() <= in.now) append();
        for (const std::unique_ptr<host>& h : hosts_) {
            if (h->is_up && h->on.is_dead && !h->on.is_busy) bury(*h);
            if (!h->is_up && h->boot_ms <= in.now) boot(*h);
        }
        if (next_crash_ms_ <= in.now) {
            next_crash_ms_ = in.now + 1 + in.random.below(with_.crash_ms * 2);
            host& h = *hosts_[in.random.below(with_.hosts)];
            if (h.is_up) h.on.dies("by a power cut");
        }
        if (next_deed_ms_ <= in.now) {
            next_deed_ms_ = in.now + 1 + in.random.below(in.has_faults ? with_.operator_ms : 500);
            if (in.has_faults) do_something();
            look_after();
        }
    }
    void work(actor& a) {
        host& h = *hosts_[a.w.host];
        const broker& b = affairs_[a.w.projection].messages;
        const bool offers = a.sink != nullptr && a.engine->running() && has_message(a) &&
                            b.offer_ms <= in.now && (a.due > in.now || in.random.one_in(2));
        if (offers) offer(a);
        else a.tick();
        if (h.on.is_dead) return;
        if (!a.engine->running()) a.due = not_due;
    }

    // ---- hosts

    void boot(host& h) {
        machine& m = h.on;
        m.is_dead = false;
        m.booted_ms = in.now;
        // Half of them wrap around 2^32 within the run.
        m.offset_ms = in.random.one_in(2)
                          ? 0u - static_cast<uint32_t>(in.now) - in.random.below(with_.safety_ms)
                          : static_cast<uint32_t>(in.random.next());
        const uint32_t drift = in.random.between(0, with_.drift_ppm_max * 2);
        m.drift_ppm = static_cast<int32_t>(drift) - static_cast<int32_t>(with_.drift_ppm_max);
        h.is_up = true;
        in.say(nullptr, "host %u boots", m.number);
        for (uint32_t p = 0; p < count(); ++p)
            h.descriptions.emplace_back(new description(m, p, config_of(p)));
        for (uint32_t p = 0; p < count(); ++p) populate(h, p, pj::start_cause::crash);
    }
    /// Starts the engines of one projection that one host should have and has not.
    void populate(host& h, uint32_t p, pj::start_cause cause) {
        const projection_config& c = config_of(p);
        const affair& a = affairs_[p];
        if (a.what != phase::working && !(a.leaves_standbys && a.what == phase::rebuilding))
            return;
        if (!c.has_lease && c.home != h.on.number) return;
        const uint32_t parts = c.kind == engine_kind::partitioned ? in.partitions[p] : 1;
        for (uint32_t i = 0; i < parts; ++i) {
            bool is_there = false;
            for (const std::unique_ptr<actor>& one : h.actors) {
                is_there = is_there || (one->w.projection == p && one->w.part == i &&
                                        !one->w.is_replay);
            }
            if (!is_there) add(h, p, i, false).start(cause);
        }
    }
    actor& add(host& h, uint32_t p, uint32_t part, bool replays) {
        h.actors.emplace_back(new actor(*h.descriptions[p], part, replays));
        return *h.actors.back();
    }
    void bury(host& h) {
        h.actors.clear();
        h.descriptions.clear();
        h.is_up = false;
        h.boot_ms = in.now + (in.has_faults ? in.random.skewed(1, 20000) : 1);
        for (uint32_t p = 0; p < count(); ++p) {
            if (config_of(p).home == h.on.number) reconnect(p, true);
        }
    }
    template<class Do> void each_actor(uint32_t p, Do&& what) {
        for (const std::unique_ptr<host>& h : hosts_) {
            if (!h->is_up || h->on.is_dead) continue;
            for (size_t i = 0; i < h->actors.size(); ++i) {
                if (h->actors[i]->w.projection == p) what(*h, *h->actors[i]);
            }
        }
    }
    /// Removes the engines of one projection, where they have ended.
    void clear(uint32_t p) {
        for (const std::unique_ptr<host>& h : hosts_) {
            if (h->on.is_busy) continue;
            for (size_t i = h->actors.size(); i-- > 0;) {
                actor& a = *h->actors[i];
                if (a.w.projection == p && !a.engine->running())
                    h->actors.erase(h->actors.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
    }

    // ---- events, and the brokers that bring them

    uint64_t next_event_ms() const {
        if (appended_ >= with_.events) return not_due;
        return uint64_t{appended_} * with_.safety_ms / with_.events + 1;
    }
    void append() {
        // They come in bursts.
        for (uint32_t i = in.random.skewed(1, 60); i != 0 && appended_ < with_.events; --i) {
            in.append();
            ++appended_;
        }
        for (uint32_t p = 0; p < count(); ++p) {
            if (!in.random.one_in(2)) continue;
            each_actor(p, [](host& h, actor& a) {
                if (!h.on.is_busy) a.engine->wake();
                if (a.engine->running()) a.due = a.in.now < a.due ? a.in.now : a.due;
            });
        }
    }
    bool has_message(const actor& a) {
        const uint32_t p = a.w.projection;
        broker& b = affairs_[p].messages;
        if (config_of(p).kind == engine_kind::queue) {
            fill_queue(b);
            return !b.waiting.empty();
        }
        const int32_t rows = static_cast<int32_t>(in.rows.size());
        while (b.next < rows && in.get(b.next).is_dead) ++b.next;
        return b.next < rows && in.is_visible(in.get(b.next));
    }
    void fill_queue(broker& b) {
        const int32_t rows = static_cast<int32_t>(in.rows.size());
        while (b.taken + 1 < rows && (in.get(b.taken + 1).is_dead ||
                                      in.is_visible(in.get(b.taken + 1)))) {
            ++b.taken;
            if (!in.get(b.taken).is_dead) b.waiting.push_back(b.taken);
        }
    }
    void offer(actor& a) {
        const uint32_t p = a.w.projection;
        broker& b = affairs_[p].messages;
        const bool has_offsets = config_of(p).kind == engine_kind::sink;
        size_t which = 0;
        int32_t index = b.next;
        if (!has_offsets) {
            const size_t count = b.waiting.size() < 5 ? b.waiting.size() : 5;
            which = in.random.below(static_cast<uint32_t>(count));
            for (size_t i = 0; i < b.waiting.size(); ++i) {
                if (b.waiting[i] == b.held && !in.random.one_in(4)) which = i;
            }
            index = b.waiting[which];
        }
        const bool is_again = index <= b.offered;
        if (is_again) ++in.sum.redelivered;
        b.offered = index > b.offered ? index : b.offered;
        const pj::receive_result r = a.receive(index, is_again);
        if (hosts_[a.w.host]->on.is_dead) return;
        if (r.answer == pj::receipt::hold) {
            b.held = index;
            const uint32_t most = r.wait_ms < 1000 ? r.wait_ms : 1000;
            b.offer_ms = a.after(most == 0 && !a.engine->running() ? 100 : most);
            a.due = in.now < a.due ? in.now : a.due;
            return;
        }
        b.held = -1;
        a.due = in.now < a.due ? in.now : a.due;        // what is due may have changed
        if (r.answer == pj::receipt::reject) keep_letter(a, index);
        if (!has_offsets) take_from_queue(b, which);
        else ++b.next;
        if (has_offsets) acknowledge(b, a, index, r.answer != pj::receipt::later);
    }
    void take_from_queue(broker& b, size_t which) {
        if (in.has_faults && in.random.happens(with_.faults.lost)) {
            ++in.sum.lost_acks;
            return;                     // it will be delivered again
        }
        b.waiting.erase(b.waiting.begin() + static_cast<std::ptrdiff_t>(which));
    }
    void acknowledge(broker& b, const actor& a, int32_t index, bool is_durable) {
        if (!is_durable) {
            b.done.push_back(index);
        } else if (in.has_faults && in.random.happens(with_.faults.lost)) {
            ++in.sum.lost_acks;
        } else {
            b.acked = index > b.acked ? index : b.acked;
        }
        while (!b.done.empty() && in.get(b.done.front()).at <= a.engine->checkpointed()) {
            b.acked = b.done.front() > b.acked ? b.done.front() : b.acked;
            b.done.erase(b.done.begin());
        }
        if (in.has_faults && in.random.happens(100)) reconnect(a.w.projection, false);
    }
    /// The broker delivers from the last acknowledgement on.
    void reconnect(uint32_t p, bool) {
        broker& b = affairs_[p].messages;
        b.next = b.acked + 1;
        b.done.clear();
        b.offer_ms = in.now;
    }
    void keep_letter(actor& a, int32_t index) {
        ++in.sum.letters;
        for (uint32_t h = 0; h < handler_count; ++h) {
            uint8_t& m = judging_.mark(a.w, h, index);
            if (m == 0) m |= model::lettered;
        }
    }

    judge judging_;
    std::vector<affair> affairs_;
    std::vector<std::unique_ptr<host>> hosts_;
    uint64_t next_deed_ms_ = 0;
    uint64_t next_crash_ms_ = not_due;
    uint32_t appended_ = 0;
};

} // namespace simulation

#endif
