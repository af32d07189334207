// The measured work: event types, two handler classes and a log in memory, the same for the worker
// and for what it is compared with.
//
// The script generates two files per workload and gives their folder to the compiler:
//   events.inc      EVENT(index, type of the amount, name) once per event type
//   every_event.inc event_0, event_1, ... as a list
// The names, their number and their order are known to the compiler, the log is not.
#ifndef BENCH_WORKLOAD_HPP
#define BENCH_WORKLOAD_HPP

#include "projections.hpp"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace pj = projections;

// ---------------------------------------------------------------- events and handlers

// Two layouts in turn, so that no two neighbours can share one function. A log of ids holds
// 1, 2, 3, ...; with BENCH_HASHED_IDS the default, which is the hash of the name.
#ifdef BENCH_HASHED_IDS
#define BENCH_TYPE(index, name) {name, pj::raw}
#else
#define BENCH_TYPE(index, name) {name, pj::id{index + 1}, pj::raw}
#endif
#define EVENT(index, amount_type, name)                                        \
    struct event_##index {                                                     \
        static constexpr pj::event_type type BENCH_TYPE(index, name);          \
        amount_type amount;                                                    \
        uint32_t quantity;                                                     \
    };
#include "events.inc"
#undef EVENT

inline const char* const event_names[] = {
#define EVENT(index, amount_type, name) name,
#include "events.inc"
#undef EVENT
};
constexpr size_t type_count = sizeof event_names / sizeof event_names[0];

struct total {
    uint64_t amount;
    uint64_t quantity;
};

// The work of a real handler of the cheap kind: two fields of the event are added to a row that
// belongs to its type. The rows are compared with an independent fold at the end.
//
// With BENCH_ANSWERS the first class answers a verdict and fails when the quantity is 0, which is
// how the log marks the events that fail. Without, both answer nothing.
struct first_handler {
    using handles = pj::events<
#include "every_event.inc"
        >;
    total totals[type_count] = {};
#ifdef BENCH_ANSWERS
#define EVENT(index, amount_type, name)                                        \
    pj::verdict on(const event_##index& event) {                               \
        if (event.quantity == 0) return pj::fail(7);                           \
        totals[index].amount += event.amount;                                  \
        totals[index].quantity += event.quantity;                              \
        return pj::handled;                                                    \
    }
#else
#define EVENT(index, amount_type, name)                                        \
    void on(const event_##index& event) {                                      \
        totals[index].amount += event.amount;                                  \
        totals[index].quantity += event.quantity;                              \
    }
#endif
#include "events.inc"
#undef EVENT
};

struct second_handler {
    using handles = pj::events<
#include "every_event.inc"
        >;
    total totals[type_count] = {};
#define EVENT(index, amount_type, name)                                        \
    void on(const event_##index& event) {                                      \
        totals[index].amount += event.quantity;                                \
        totals[index].quantity += event.amount;                                \
    }
#include "events.inc"
#undef EVENT
};

// ---------------------------------------------------------------- the log

// What a file or a table holds: where an event's bytes are and how many. The bytes themselves are
// the name (its own copy for every event, at any alignment) followed by the payload.
struct row {
    uint32_t name_offset;
    uint16_t name_size;
    uint16_t payload_size;
    uint32_t type_id;
};

struct log_memory {
    std::vector<char> bytes;
    std::vector<row> rows;
    std::vector<pj::stored_event> views;        // the same rows, as views
    total first[type_count] = {};               // what the handlers must arrive at
    total second[type_count] = {};
    size_t failing = 0;
};

namespace bench {

inline uint64_t next_random(uint64_t& state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

template<class Event>
void append(log_memory& log, size_t index, uint64_t amount, uint32_t quantity) {
    Event event;
    memset(static_cast<void*>(&event), 0, sizeof event);
    event.amount = static_cast<decltype(event.amount)>(amount);
    event.quantity = quantity;
    const size_t name_size = strlen(event_names[index]);
    row next;
    next.name_offset = static_cast<uint32_t>(log.bytes.size());
    next.name_size = static_cast<uint16_t>(name_size);
    next.payload_size = static_cast<uint16_t>(sizeof event);
    next.type_id = Event::type.number();
    log.rows.push_back(next);
    const char* const payload = reinterpret_cast<const char*>(&event);
    log.bytes.insert(log.bytes.end(), event_names[index], event_names[index] + name_size);
    log.bytes.insert(log.bytes.end(), payload, payload + sizeof event);
}

} // namespace bench

inline pj::stored_event view_of(const log_memory& log, size_t at, bool by_id) {
    const row& r = log.rows[at];
    const char* const name = log.bytes.data() + r.name_offset;
    pj::stored_event event;
    event.at = static_cast<pj::position>(at);
    if (by_id) event.type = pj::id{r.type_id};
    else event.type = pj::text(name, r.name_size);
    event.payload = pj::bytes(name + r.name_size, r.payload_size);
    return event;
}

// Types in random order; with one_in_ten every tenth event, by chance, fails in the first handler.
// No two builds and no two runs differ: the generator's seed is fixed.
inline void fill(log_memory& log, size_t count, bool by_id, bool one_in_ten) {
    using append_function = void (*)(log_memory&, size_t, uint64_t, uint32_t);
    static constexpr append_function append_of[] = {
#define EVENT(index, amount_type, name) &bench::append<event_##index>,
#include "events.inc"
#undef EVENT
    };
    uint64_t state = 88172645463325252u;
    for (size_t at = 0; at < count; ++at) {
        const size_t index = (bench::next_random(state) >> 20) % type_count;
        const uint64_t amount = (bench::next_random(state) >> 20) % 1000;
        uint32_t quantity = static_cast<uint32_t>((bench::next_random(state) >> 20) % 9) + 1;
        if (one_in_ten && (bench::next_random(state) >> 20) % 10 == 0) quantity = 0;
        append_of[index](log, index, amount, quantity);
    }
    for (size_t at = 0; at < count; ++at) log.views.push_back(view_of(log, at, by_id));
}

// The fold that the handlers' results are compared with, over the first `count` events.
inline void expect(log_memory& log, size_t count, bool one_in_ten) {
    uint64_t state = 88172645463325252u;
    for (size_t at = 0; at < count; ++at) {
        const size_t index = (bench::next_random(state) >> 20) % type_count;
        const uint64_t amount = (bench::next_random(state) >> 20) % 1000;
        uint64_t quantity = (bench::next_random(state) >> 20) % 9 + 1;
        if (one_in_ten && (bench::next_random(state) >> 20) % 10 == 0) quantity = 0;
        const bool fails = quantity == 0;
        if (fails) ++log.failing;
        log.first[index].amount += fails ? 0 : amount;
        log.first[index].quantity += quantity;
        log.second[index].amount += quantity;
        log.second[index].quantity += amount;
    }
}

// ---------------------------------------------------------------- the command line

// PROGRAM ENGINE STORE KEY LOG_EVENTS EVENTS [POLICY] [PASSES]
//   STORE  slices | single | rows       KEY  name | id
//   POLICY none | skip | dead_letter    (skip and dead_letter: one event in ten fails;
//                                        quiet: dead_letter, and none fails)
//   PASSES 0: once, for callgrind; else that often, and the fastest pass is printed in ns per event
struct arguments {
    std::string engine = "worker", store = "slices", policy = "none";
    bool by_id = false;
    size_t log_events = 0, events = 0, passes = 0;

    arguments(int count, char** values) {
        if (count < 6) {
            fprintf(stderr, "usage: %s ENGINE STORE KEY LOG_EVENTS EVENTS [POLICY [PASSES]]\n",
                    values[0]);
            exit(2);
        }
        engine = values[1];
        store = values[2];
        by_id = std::string(values[3]) == "id";
        log_events = strtoull(values[4], nullptr, 10);
        events = strtoull(values[5], nullptr, 10);
        if (count > 6) policy = values[6];
        if (count > 7) passes = strtoull(values[7], nullptr, 10);
    }
    bool one_in_ten() const { return policy == "skip" || policy == "dead_letter"; }
};

inline bool equal(const total* found, const total* expected, uint64_t times) {
    for (size_t i = 0; i < type_count; ++i)
        if (found[i].amount != expected[i].amount * times ||
            found[i].quantity != expected[i].quantity * times)
            return false;
    return true;
}

// Every engine must have done the work, or its figure means nothing.
inline void check(const log_memory& log, const first_handler& first, const second_handler* second,
                  size_t times) {
    if (equal(first.totals, log.first, times) &&
        (second == nullptr || equal(second->totals, log.second, times)))
        return;
    fprintf(stderr, "the handlers' totals are not those of the log\n");
    exit(1);
}

template<class Pass> void repeat(const arguments& args, Pass&& pass) {
    if (args.passes == 0) return pass();
    double fastest = 1e30;
    for (size_t i = 0; i < args.passes; ++i) {
        const auto start = std::chrono::steady_clock::now();
        pass();
        const std::chrono::duration<double, std::nano> spent =
            std::chrono::steady_clock::now() - start;
        const double each = spent.count() / static_cast<double>(args.events);
        if (each < fastest) fastest = each;
    }
    printf("%.3f\n", fastest);
}

#endif
