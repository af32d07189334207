// What the programs of tests/bench/end_to_end have in common: the events, a read model in memory,
// the rebuild by the library, the same rebuild by hand, and the check of what came out.
//
//   PROGRAM WHERE EVENTS make                       fills the store
//   PROGRAM WHERE EVENTS replay|worker|by_hand MODEL BATCH
//       builds MODEL anew, compares it with what the events add up to, and prints what it took:
//       seconds, seconds of this process's CPU, peak of its memory in KiB
//
// A store shows its events to the library by read(), and by each() to the loop that is written by
// hand: the same rows, the same checkpoints, the same handlers.
#ifndef BENCH_END_TO_END_HPP
#define BENCH_END_TO_END_HPP

#include "projections.hpp"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace pj = projections;

[[noreturn]] inline void fail(const std::string& why) {
    fprintf(stderr, "end_to_end: %s\n", why.c_str());
    exit(1);
}
inline void need(bool is_well, const char* what) {
    if (!is_well) fail(std::string(what) + " failed");
}

// ---------------------------------------------------------------- events

struct deposited {
    static constexpr pj::event_type type{"MoneyDeposited", pj::id{1}, pj::raw};
    uint32_t account, cents;
};
struct withdrawn {
    static constexpr pj::event_type type{"MoneyWithdrawn", pj::id{2}, pj::raw};
    uint32_t account, cents;
};

constexpr uint32_t account_count = 10'000;

/// Both types have one layout, so a store can be filled from this.
struct booking {
    pj::event_type type;
    deposited fields;
};

/// The event of this number; the same in every run (SplitMix64).
inline booking booking_of(uint64_t number) {
    uint64_t x = (number + 1) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    const auto account = static_cast<uint32_t>(x % account_count);
    const auto cents = static_cast<uint32_t>(x >> 32) % 100'000 + 1;
    return {(x >> 20 & 1) != 0 ? deposited::type : withdrawn::type, {account, cents}};
}

using balances = std::vector<int64_t>;          // by account

inline balances expected(uint64_t events) {
    balances all(account_count);
    for (uint64_t i = 0; i < events; ++i) {
        const booking b = booking_of(i);
        const bool is_deposit = b.type.number() == deposited::type.number();
        all[b.fields.account] += is_deposit ? int64_t{b.fields.cents} : -int64_t{b.fields.cents};
    }
    return all;
}

/// The cheap read model: it counts in RAM.
class balances_in_ram {
public:
    using handles = pj::events<deposited, withdrawn>;
    pj::verdict on(const deposited& e) { return add(e.account, e.cents); }
    pj::verdict on(const withdrawn& e) { return add(e.account, -int64_t{e.cents}); }

    pj::status clear() {
        cents_.assign(account_count, 0);
        return pj::status::ok;
    }
    balances all() const { return cents_; }

private:
    pj::verdict add(uint32_t account, int64_t cents) {
        if (account >= cents_.size()) return pj::reject();
        cents_[account] += cents;
        return pj::handled;
    }
    balances cents_ = balances(account_count);
};

// ---------------------------------------------------------------- by the library

inline constexpr char projection_name[] = "balances";

inline uint32_t now_ms() {
    using namespace std::chrono;
    const auto now = steady_clock::now().time_since_epoch();
    return static_cast<uint32_t>(duration_cast<milliseconds>(now).count());
}

template<class Store, class Model>
pj::projection described(Store& store, Model& model, const pj::unit_of_work& unit, uint32_t batch) {
    pj::projection what{projection_name, store, model, store};
    what.transaction = unit;
    what.on_error = pj::error_policy::halt();
    what.batch = what.save.every_events = batch;        // a checkpoint per batch
    return what;
}
inline bool told(pj::status s) {
    if (s != pj::status::ok) fprintf(stderr, "the engine ends: %s\n", pj::to_string(s));
    return s == pj::status::ok;
}

template<class Store, class Model>
bool by_replay(Store& store, Model& model, const pj::unit_of_work& unit, uint32_t batch) {
    const pj::projection what = described(store, model, unit, batch);
    const auto drop = [&] { return model.clear(); };
    pj::replay_options options;
    options.on_drop = drop;
    options.batch = batch;
    pj::replay_engine replay{what, options};
    const auto no_sleep = [](uint32_t) {};
    pj::status s = replay.start();
    if (s == pj::status::ok) s = pj::run(replay, now_ms, no_sleep);
    return told(s) && replay.finished();
}

/// For comparison: as new events, up to the end of the log.
template<class Store, class Model>
bool by_worker(Store& store, Model& model, const pj::unit_of_work& unit, uint32_t batch) {
    const pj::projection what = described(store, model, unit, batch);
    pj::worker worker{what};
    pj::status s = model.clear();
    if (s == pj::status::ok) s = worker.start();
    while (s == pj::status::ok && worker.running()) {
        static_cast<void>(worker.tick(now_ms()));
        if (worker.caught_up()) worker.stop();
    }
    return told(s == pj::status::ok ? worker.reason() : s);
}

// ---------------------------------------------------------------- by hand

template<class Event, class Model> bool apply(Model& model, const void* payload, size_t size) {
    Event event;
    if (size != sizeof event) return false;
    memcpy(static_cast<void*>(&event), payload, size);
    return model.on(event) == pj::handled;
}
template<class Model>
bool apply(Model& model, std::string_view type, const void* payload, size_t size) {
    if (type == "MoneyDeposited") return apply<deposited>(model, payload, size);
    return type == "MoneyWithdrawn" && apply<withdrawn>(model, payload, size);
}
template<class Model> bool apply(Model& model, uint32_t type, const void* payload, size_t size) {
    if (type == 1) return apply<deposited>(model, payload, size);
    return type == 2 && apply<withdrawn>(model, payload, size);
}

/// The loop that one would write: no policy, no retry, no marker, no check of the order.
template<class Store, class Model>
bool by_hand(Store& store, Model& model, const pj::unit_of_work& unit, uint32_t batch) {
    const bool is_in_unit = unit.begin != nullptr;
    if (model.clear() != pj::status::ok) return false;
    pj::checkpoint record;
    for (uint32_t count = batch; count == batch;) {
        count = 0;
        if (is_in_unit && unit.begin(unit.self) != pj::status::ok) return false;
        const auto show = [&](pj::position at, auto type, const void* payload, size_t size) {
            record.at = at;
            ++count;
            return apply(model, type, payload, size);
        };
        if (!store.each(record.at, batch, show)) return false;
        ++record.revision;
        if (store.save(projection_name, record) != pj::status::ok) return false;
        if (is_in_unit && unit.commit(unit.self) != pj::status::ok) return false;
    }
    return true;
}

// ---------------------------------------------------------------- measuring and checking

struct arguments {
    std::string where, what, model;
    uint64_t events;
    uint32_t batch;

    arguments(int count, char** values) {
        if (count != 4 && count != 6) fail("WHERE EVENTS make | replay|worker|by_hand MODEL BATCH");
        where = values[1];
        events = strtoull(values[2], nullptr, 10);
        what = values[3];
        model = count == 6 ? values[4] : "";
        batch = count == 6 ? static_cast<uint32_t>(strtoul(values[5], nullptr, 10)) : 0;
    }
};

/// Everything that callgrind counts happens below this function and nothing else does.
extern "C" __attribute__((noinline)) inline bool measured(bool (*work)(void*), void* with) {
    return work(with);
}

/// Of this process: getrusage() would include what forked it.
inline long peak_kib() {
    long kib = -1;
    FILE* const status = fopen("/proc/self/status", "r");
    for (char line[256]; status != nullptr && fgets(line, sizeof line, status) != nullptr;)
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtol(line + 6, nullptr, 10);
    if (status != nullptr) fclose(status);
    return kib;
}

template<class Store, class Model>
void rebuild(const arguments& args, Store& store, Model& model, const pj::unit_of_work& unit = {}) {
    const auto engine = args.what == "replay"   ? &by_replay<Store, Model>
                        : args.what == "worker" ? &by_worker<Store, Model>
                                                : &by_hand<Store, Model>;
    auto work = [&] { return engine(store, model, unit, args.batch); };
    using work_type = decltype(work);
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t cpu_start = std::clock();
    const bool is_done = measured([](void* w) { return (*static_cast<work_type*>(w))(); }, &work);
    const auto cpu = static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    const long kib = peak_kib();
    need(is_done, "the rebuild");

    pj::checkpoint kept;
    need(store.load(projection_name, kept) == pj::status::ok, "load");
    if (kept.at != store.position_of(args.events - 1) || kept.replay_stage != 0)
        fail("the checkpoint is at " + std::to_string(kept.at));
    if (model.all() != expected(args.events))
        fail("the read model is not what the events add up to");
    printf("%.6f %.6f %ld\n", spent.count(), cpu, kib);
}

#endif
