// What one projection on one host calls: handlers and ports, behind a network and a disk that
// delay, lose, repeat and tear, on a host that may die at any call or stand still.
#ifndef PROJECTIONS_TESTS_SIMULATION_PORTS_HPP
#define PROJECTIONS_TESTS_SIMULATION_PORTS_HPP

#include "judge.hpp"

#include <cstring>
#include <stdexcept>

namespace simulation {

enum class fate : uint8_t { fine, failed, lost, late, pending, torn };

/// A call that was answered pending: it is asked for again until it is done.
struct asked_once {
    const char* what = nullptr;
    uint64_t ready_ms = 0;
    bool is_open = false;
    bool is_done = false;               // else the call that finds it ready does it
    status result = status::ok;
    position at = 0;
};
/// All that one engine has asked for, one of each kind.
struct asked {
    static constexpr size_t kinds = 12;
    asked_once of[kinds];
    asked_once& find(const char* what) {
        size_t i = 0;
        while (of[i].what != nullptr && std::strcmp(of[i].what, what) != 0 && i + 1 < kinds) ++i;
        return of[i];
    }
};

/// One process and its clock.
struct machine {
    world& in;
    judge& judging;
    uint32_t number = 0;
    bool is_dead = false;
    bool is_busy = false;               // inside a call: the others work
    uint32_t offset_ms = 0;
    int32_t drift_ppm = 0;
    uint64_t booted_ms = 0;
    witness* current = nullptr;         // whose engine is at work
    asked* waits = nullptr;             // of that engine
    pj::engine* engine = nullptr;

    uint64_t local() const {
        const int64_t elapsed = static_cast<int64_t>(in.now - booted_ms);
        return in.now + offset_ms + static_cast<uint64_t>(elapsed * drift_ppm / 1000000 + 1000);
    }
    uint32_t clock() const { return static_cast<uint32_t>(local()); }

    void dies(const char* where) {
        if (is_dead) return;
        is_dead = true;
        ++in.sum.crashes;
        in.say(current, "dies %s", where);
    }
    /// So long nothing happens here; elsewhere it does.
    void pass(uint64_t ms) {
        if (ms == 0) return;
        const uint64_t until = in.now + ms;
        const bool was_busy = is_busy;
        const auto engine_before = engine;
        const auto witness_before = current;
        const auto waits_before = waits;
        is_busy = true;
        in.let_others_work(until);
        is_busy = was_busy;
        engine = engine_before;
        current = witness_before;
        waits = waits_before;
        if (in.now < until) in.now = until;
    }
    /// The way there or back.
    void travel() {
        if (!in.has_faults || is_dead) return;
        const fault_rates& f = in.with.faults;
        chance& random = in.random;
        if (random.happens(f.crash)) return dies("on the way");
        if (random.happens(f.pause)) {
            ++in.sum.pauses;
            in.say(current, "stands still");
            pass(random.one_in(3) ? random.between(1, in.with.lease_ms * 2) : random.below(300));
        } else if (random.happens(f.slow)) {
            pass(random.skewed(1, 40));
        }
    }
    fate draw(bool may_be_late, bool may_pend) {
        if (!in.has_faults) return fate::fine;
        const fault_rates& f = in.with.faults;
        chance& random = in.random;
        if (random.happens(f.failed)) { ++in.sum.failed; return fate::failed; }
        if (random.happens(f.lost)) { ++in.sum.lost; return fate::lost; }
        if (may_be_late && random.happens(f.late)) { ++in.sum.late; return fate::late; }
        if (may_pend && random.happens(f.pending)) { ++in.sum.pending; return fate::pending; }
        return fate::fine;
    }

    /// One call of a port. `request()` is what the other side does when it arrives; `at` tells one
    /// request from another.
    template<class Request>
    status call(const char* what, position at, bool may_be_late, Request request,
                bool may_be_early = true) {
        ++in.sum.calls;
        if (is_dead) return status::failed;
        asked_once& wait = waits->find(what);
        if (wait.is_open && wait.at == at) {
            if (in.now < wait.ready_ms) return tell(what, at, status::pending);
            const asked_once done = wait;
            wait.is_open = false;
            return tell(what, at, done.is_done ? done.result : request());
        }
        travel();
        if (is_dead) return status::failed;
        const fate f = draw(may_be_late, true);
        if (f == fate::failed) return tell(what, at, status::failed);
        if (f == fate::late) {
            in.defer(in.random.between(1, 500), [request]() mutable {
                static_cast<void>(request());
            });
            return tell(what, at, status::failed, " (late)");
        }
        if (f == fate::pending) {
            wait = {what, in.now + in.random.skewed(0, 200), true,
                    in.random.one_in(2) && may_be_early, {}, at};
            if (wait.is_done) wait.result = request();
            return tell(what, at, status::pending, " (asked)");
        }
        const status s = request();
        travel();
        if (is_dead) return status::failed;
        return f == fate::lost ? tell(what, at, status::failed, " (answer lost)")
                               : tell(what, at, s);
    }
    status tell(const char* what, position at, status s, const char* more = "") {
        in.say(current, "%s %lld: %s%s", what, shown(at), pj::to_string(s), more);
        return s;
    }
};

/// Keys, as text and as numbers.
inline uint32_t key_number(pj::text key) {
    const char* const from = key.data();
    const uint32_t projection = static_cast<uint32_t>(from[1] - '0');
    uint32_t slot = key_of_worker;
    if (key.size() > 4 && from[4] >= '0' && from[4] <= '9') {
        slot = 0;
        for (size_t i = 4; i < key.size(); ++i)
            slot = slot * 10 + static_cast<uint32_t>(from[i] - '0');
    } else if (key.size() > 4) {
        slot = key_of_count;
    }
    return projection * keys_per_projection + slot;
}

// ---- the checkpoint store

struct store_port {
    machine& on;
    bool in_flash = false;

    /// Of two slots the newer that can be read; the other one is written next.
    static bool read_slots(const kept& k, pj::checkpoint& out, uint32_t& older) {
        pj::checkpoint both[2];
        bool is_whole[2];
        for (uint32_t i = 0; i < 2; ++i)
            is_whole[i] = pj::decode(pj::bytes(k.slots[i], pj::checkpoint_bytes), both[i]);
        older = !is_whole[0] ? 0 : !is_whole[1] ? 1 : both[0].revision < both[1].revision ? 0 : 1;
        if (is_whole[1 - older]) out = both[1 - older];
        return is_whole[1 - older];
    }
    status load(pj::text key, pj::checkpoint& out) {
        const uint32_t number = key_number(key);
        kept& k = on.in.store[number];
        machine& m = on;
        pj::checkpoint found;
        const status s = on.call("load", number, false, [&] {
            found = k.record;
            uint32_t older = 0;
            if (in_flash) {
                pj::checkpoint written;
                static_cast<void>(read_slots(k, written, older));
                if (written.revision != found.revision || written.at != found.at)
                    m.in.fail("a slot that was torn is taken for a checkpoint, or a whole one not");
            }
            return status::ok;
        }, false);
        if (s != status::ok) return s;
        if (found.revision != 0) out = found;
        m.in.say(m.current, "  at %lld, revision %u, token %llu, stage %u", shown(found.at),
                 found.revision, static_cast<unsigned long long>(found.fencing_token),
                 found.replay_stage);
        if (m.current != nullptr && number == m.judging.key_of(*m.current)) {
            m.current->last_load = found.at;
            k.reader = m.current->life;
            if (m.current->was_conflicted) {
                m.current->was_conflicted = false;
                ++m.current->epoch;
                if (k.writer == m.current->life) return s;      // its own, the answer lost
                m.current->was_touched = true;
                m.current->forget();
            }
        }
        return s;
    }

    status save(pj::text key, const pj::checkpoint& next) {
        const uint32_t number = key_number(key);
        machine* const m = &on;
        witness* const w = on.current;
        // A late request must not look at what may be gone by then.
        const uint32_t life = w != nullptr ? w->life : 0;
        if (w != nullptr && w->unit.is_open && !w->unit.is_lost && number == on.judging.key_of(*w))
            return save_in_unit(number, next);
        if (w != nullptr && !on.is_dead && number == on.judging.key_of(*w))
            on.judging.begins(*w, "a save", on.engine->fencing_token());
        const bool is_flash = in_flash;
        const bool is_ram = w != nullptr && w->is_in_memory;
        const position content = next.at ^ position{next.revision} << 32 ^
                                 position{next.replay_stage} << 56 ^ position{number} << 48;
        const status s = on.call("save", content, !is_ram, [m, w, life, number, next, is_flash,
                                                                  is_ram] {
            return write(*m, is_ram ? w : nullptr, life, number, next, is_flash);
        });
        on.in.say(w, "  of %u at %lld, stage %u", number, shown(next.at), next.replay_stage);
        if (s == status::conflict && w != nullptr) w->was_conflicted = true;
        return s;
    }

    static status write(machine& m, witness* w, uint32_t life, uint32_t number,
                        const pj::checkpoint& next, bool is_flash) {
        kept& k = m.in.store[number];
        if (next.revision != k.record.revision + 1) {
            ++m.in.sum.conflicts;
            return status::conflict;
        }
        if (is_flash && !write_slot(m, k, next)) return status::failed;
        ++m.in.sum.saves;
        const pj::checkpoint old = k.record;
        k.record = next;
        k.writer = life;
        if (life != k.reader) m.judging.remember(number, next.at);      // it was under way
        m.judging.saved(w, number, old, next);
        return status::ok;
    }
    /// False: the power failed, or the flash did, in the middle of it.
    static bool write_slot(machine& m, kept& k, const pj::checkpoint& next) {
        pj::checkpoint unused;
        uint32_t older = 0;
        static_cast<void>(read_slots(k, unused, older));
        uint8_t bytes[pj::checkpoint_bytes];
        pj::encode(next, bytes);
        size_t size = sizeof bytes;
        if (m.in.has_faults && m.in.random.happens(m.in.with.faults.torn)) {
            size = m.in.random.below(sizeof bytes);
            ++m.in.sum.torn;
            if (m.in.random.one_in(2)) m.dies("while writing");
        }
        uint8_t* const slot = k.slots[older];
        if (m.in.random.one_in(2)) std::memset(slot, 0xFF, sizeof bytes);
        std::memcpy(slot, bytes, size);
        pj::checkpoint back;        // what is torn may happen to be whole all the same
        return size == sizeof bytes ||
               (pj::decode(pj::bytes(slot, sizeof bytes), back) && back.revision == next.revision &&
                back.at == next.at);
    }

    status save_in_unit(uint32_t number, const pj::checkpoint& next) {
        witness& w = *on.current;
        if (!on.is_dead) on.judging.begins(w, "a save", on.engine->fencing_token());
        return on.call("save in the unit", next.at + (position{w.units} << 40), false, [&] {
            if (next.revision != on.in.store[number].record.revision + 1) {
                ++on.in.sum.conflicts;
                w.was_conflicted = true;
                return status::conflict;
            }
            w.unit.has_record = true;
            w.unit.key = number;
            w.unit.next = next;
            return status::ok;
        });
    }
};

// ---- the unit of work

struct unit_port {
    machine& on;

    status begin() {
        witness& w = *on.current;
        return on.call("begin", 0, false, [&] {
            if (w.unit.is_open && !w.unit.is_lost) {
                on.in.fail("G17 begin() in an open unit");
            }
            w.unit.clear();
            w.unit.is_open = true;
            w.unit.is_lost = true;      // until the answer has arrived
            ++w.units;
            return status::ok;
        }) == status::ok ? opened(w) : unopened(w);
    }
    status commit() {
        witness& w = *on.current;
        if (!on.is_dead) on.judging.begins(w, "a commit", on.engine->fencing_token());
        return on.call("commit", w.units, false, [&] { return apply(w); });
    }
    status rollback() {
        witness& w = *on.current;
        const status s = on.call("rollback", w.units, false, [&] {
            ++on.in.sum.rollbacks;
            w.unit.clear();
            return status::ok;
        });
        if (s != status::pending) w.unit.is_lost = true;
        w.forget();
        return s;
    }

private:
    status opened(witness& w) {
        w.unit.is_lost = false;
        return status::ok;
    }
    /// It is the same for the engine whether it was begun or not.
    status unopened(const witness&) {
        return on.waits->find("begin").is_open ? status::pending : status::failed;
    }
    status apply(witness& w) {
        connection& u = w.unit;
        if (!u.is_open || u.is_lost) {
            on.in.fail("G17 commit() without an open unit");
            return status::failed;
        }
        kept* const k = u.has_record ? &on.in.store[u.key] : nullptr;
        const bool is_stale = k != nullptr && u.next.revision != k->record.revision + 1;
        bool is_refused = is_stale;
        for (const connection::effect& e : u.effects)
            is_refused = is_refused || on.in.get(e.row).is_uncommittable;
        if (on.in.has_faults && on.in.random.happens(on.in.with.faults.uncommitted))
            is_refused = true;
        if (is_refused) return status::conflict;
        ++on.in.sum.commits;
        const position done = u.has_record ? u.next.at : INT64_MAX - 1;
        w.calls.erase(w.calls.begin(), w.calls.lower_bound({done + 1, 0}));
        on.judging.commits(w, k != nullptr ? &k->record : nullptr);
        for (const auto& [handler, index] : u.letters)
            on.judging.mark(w, handler, index) |= model::lettered;
        if (k != nullptr) {
            const pj::checkpoint old = k->record;
            k->record = u.next;
            k->writer = w.life;
            on.judging.saved(&w, u.key, old, u.next);
        }
        u.clear();
        return status::ok;
    }
};

// ---- leases

struct lease_port {
    machine& on;

    lease_state& of(pj::text resource) { return on.in.leases[key_number(resource)]; }
    status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
        world* const in = &on.in;
        lease_state* const l = &of(resource);
        const uint32_t life = on.current != nullptr ? on.current->life : 0;
        const status s = on.call("acquire", key_number(resource), true, [in, l, life, ttl_ms] {
            if (l->token != 0 && in->now < l->expires_ms) return status::conflict;
            if (l->token != 0 && l->holder != life) ++in->sum.takeovers;
            l->token = l->next++;
            l->holder = life;
            l->granted[life] = l->token;
            l->expires_ms = in->now + ttl_ms;
            ++in->sum.leases;
            return status::ok;
        }, false);
        if (s == status::ok) token = l->granted[life];
        return s;
    }
    status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
        world* const in = &on.in;
        lease_state* const l = &of(resource);
        return on.call("extend", key_number(resource), true, [in, l, ttl_ms, token] {
            if (l->token != token || in->now >= l->expires_ms) return status::conflict;
            const uint64_t until = in->now + ttl_ms;
            if (until > l->expires_ms) l->expires_ms = until;
            return status::ok;
        }, false);
    }
    status release(pj::text resource, uint64_t token) {
        lease_state* const l = &of(resource);
        return on.call("release", key_number(resource), true, [l, token] {
            if (l->token == token) l->token = 0;
            return status::ok;
        });
    }
};

} // namespace simulation

#endif
