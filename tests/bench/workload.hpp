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

#ifdef BENCH_TWO_HANDLERS
constexpr bool two_handlers = true;
#else
constexpr bool two_handlers = false;
#endif

struct total {
    uint64_t amount;
    uint64_t quantity;
};

// The work of a real handler of the cheap kind: two fields of the event are added to a row that
// belongs to its type. The rows are compared with an independent fold at the end.
//
// With BENCH_ANSWERS the first class answers a verdict and fails when the quantity is 0, which is
// how the log marks the events that fail; where that passes, each second attempt succeeds. Without,
// both answer nothing.
struct first_handler {
    using handles = pj::events<
#include "every_event.inc"
        >;
    total totals[type_count] = {};
#ifdef BENCH_ANSWERS
    bool passes = false;
    bool has_failed = false;
    bool fails() { return !passes || (has_failed = !has_failed); }
#define EVENT(index, amount_type, name)                                        \
    pj::verdict on(const event_##index& event) {                               \
        if (event.quantity == 0 && fails()) return pj::fail(7);                \
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

// ---------------------------------------------------------------- the command line

// PROGRAM name=value ...; what is not said is as here.
struct arguments {
    std::string engine = "worker";      // which part of the program is measured; see its main()
    std::string store = "slices";       // slices | single | rows | batches | endless
    std::string key = "name";           // name | id: what the log holds of an event's type
    std::string order = "random";       // random | round-robin
    std::string failing = "never";      // never | always | once: one event in ten fails, for good
                                        // or at the first attempt only
    std::string policy = "skip";
    std::string partition = "none";     // none | only | key | id: the only one; one of eight, told
                                        // by a key of the store's or by the aggregate's id
    size_t log = 0;                     // events that the log holds,
    size_t events = 0;                  // and events that are handled
    size_t passes = 0;                  // 0: once; else the fastest is printed in ns per event
    size_t peak = 0;                    // 1: the largest resident size is printed in KiB

    arguments(int count, char** values) {
        for (int i = 1; i < count; ++i) {
            const std::string given = values[i];
            const size_t equals = given.find('=');
            if (equals == std::string::npos ||
                !set(given.substr(0, equals), given.substr(equals + 1))) {
                fprintf(stderr, "not understood: %s\n", values[i]);
                exit(2);
            }
        }
    }
    bool by_id() const { return key == "id"; }
    bool one_in_ten() const { return failing != "never"; }

private:
    bool set(const std::string& name, const std::string& value) {
        const struct { const char* name; std::string* text; size_t* number; } known[] = {
            {"engine", &engine, nullptr},   {"store", &store, nullptr},
            {"key", &key, nullptr},         {"order", &order, nullptr},
            {"failing", &failing, nullptr}, {"policy", &policy, nullptr},
            {"partition", &partition, nullptr},
            {"log", nullptr, &log},         {"events", nullptr, &events},
            {"passes", nullptr, &passes},   {"peak", nullptr, &peak}};
        for (const auto& one : known) {
            if (name != one.name) continue;
            if (one.text != nullptr) *one.text = value;
            else *one.number = strtoull(value.c_str(), nullptr, 10);
            return true;
        }
        return false;
    }
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
    std::vector<std::string> aggregates;
    total first[type_count] = {};               // what the handlers must arrive at
    total second[type_count] = {};
    size_t failing = 0;
};

constexpr uint32_t partitions = 8;
constexpr size_t aggregate_count = 1000;

// What happened, event by event. No two builds and no two runs differ: the generator's seed is
// fixed. A log that has no end says the same again and again.
class history {
public:
    explicit history(const arguments& args) : args_(args) {}
    struct event {
        size_t index;
        uint64_t amount;
        uint32_t quantity;              // 0: it fails
        size_t aggregate;
    };
    event next() {
        if (at_ % args_.log == 0) state_ = seed;
        if (args_.one_in_ten() && at_ % 10 == 0) fails_at_ = at_ + random() % 10;
        event e;
        e.index = (args_.order == "random" ? random() : at_ % args_.log) % type_count;
        e.amount = random() % 1000;
        e.quantity = static_cast<uint32_t>(random() % 9) + 1;
        if (args_.one_in_ten() && at_ == fails_at_) e.quantity = 0;
        e.aggregate = at_ * 7919 % aggregate_count;
        ++at_;
        return e;
    }

private:
    static constexpr uint64_t seed = 88172645463325252u;
    uint64_t random() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_ >> 20;
    }
    const arguments& args_;
    uint64_t state_ = seed;
    size_t at_ = 0;
    size_t fails_at_ = 0;               // one of each ten, by chance
};

template<class Event> size_t encode_as(const history::event& from, char* out, uint32_t& type_id) {
    Event event;
    memset(static_cast<void*>(&event), 0, sizeof event);
    event.amount = static_cast<decltype(event.amount)>(from.amount);
    event.quantity = from.quantity;
    memcpy(out, &event, sizeof event);
    type_id = Event::type.number();
    return sizeof event;
}

// For what the worker is compared with; inline, so that no peer pays for a call.
template<class Event>
__attribute__((always_inline)) inline bool decode(const pj::stored_event& stored, Event& event) {
    if (stored.payload.size() != sizeof event) return false;
    memcpy(static_cast<void*>(&event), stored.payload.data(), sizeof event);
    return true;
}

// Gives `add` a function for each handler of the event type, which decodes and calls it.
template<class Event, class Add>
void subscribe(Add&& add, first_handler& first, second_handler& second) {
    add([&first](const pj::stored_event& stored) {
        Event event;
        if (decode(stored, event)) static_cast<void>(first.on(event));
    });
    if constexpr (two_handlers)
        add([&second](const pj::stored_event& stored) {
            Event event;
            if (decode(stored, event)) static_cast<void>(second.on(event));
        });
    else static_cast<void>(second);
}

inline void append(log_memory& log, const history::event& from) {
    using encode_function = size_t (*)(const history::event&, char*, uint32_t&);
    static constexpr encode_function encode_of[] = {
#define EVENT(index, amount_type, name) &encode_as<event_##index>,
#include "events.inc"
#undef EVENT
    };
    char payload[32];
    const char* const name = event_names[from.index];
    row next;
    next.name_offset = static_cast<uint32_t>(log.bytes.size());
    next.name_size = static_cast<uint16_t>(strlen(name));
    next.payload_size =
        static_cast<uint16_t>(encode_of[from.index](from, payload, next.type_id));
    log.rows.push_back(next);
    log.bytes.insert(log.bytes.end(), name, name + next.name_size);
    log.bytes.insert(log.bytes.end(), payload, payload + next.payload_size);
}

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

inline void fill(log_memory& log, const arguments& args) {
    for (size_t i = 0; i < aggregate_count; ++i)
        log.aggregates.push_back(std::to_string(10000000 + i) + "-e29b-41d4-a716-446655440000");
    history events(args);
    for (size_t at = 0; at < args.log; ++at) append(log, events.next());
    // Only now: the bytes have moved while they grew.
    history again(args);
    log.views.reserve(args.log);
    for (size_t at = 0; at < args.log; ++at) {
        log.views.push_back(view_of(log, at, args.by_id()));
        const size_t aggregate = again.next().aggregate;
        if (args.partition != "none") log.views[at].aggregate_id = log.aggregates[aggregate];
        if (args.partition == "key")
            log.views[at].partition_key = static_cast<uint32_t>(aggregate);
    }
}

// The fold that the handlers' results are compared with, over the first events.
inline void expect(log_memory& log, const arguments& args) {
    history events(args);
    for (size_t at = 0; at < args.events; ++at) {
        const history::event e = events.next();
        if (args.partition == "key" && e.aggregate % partitions != 0) continue;
        if (args.partition == "id" &&
            pj::partition_of(log.aggregates[e.aggregate], partitions) != 0)
            continue;
        const bool fails = e.quantity == 0;
        if (fails) ++log.failing;
        log.first[e.index].amount += fails && args.failing == "always" ? 0 : e.amount;
        log.first[e.index].quantity += e.quantity;
        log.second[e.index].amount += e.quantity;
        log.second[e.index].quantity += e.amount;
    }
}

// The log, and what is expected of it. Its views point into vectors, which may be moved.
inline log_memory log_of(const arguments& args) {
    log_memory log;
    fill(log, args);
    expect(log, args);
    return log;
}

// ---------------------------------------------------------------- passes

inline bool equal(const total* found, const total* expected, uint64_t times) {
    for (size_t i = 0; i < type_count; ++i)
        if (found[i].amount != expected[i].amount * times ||
            found[i].quantity != expected[i].quantity * times)
            return false;
    return true;
}

// Every engine must have done the work, or its figure means nothing.
inline void check(const log_memory& log, const arguments& args, const first_handler& first,
                  const second_handler& second) {
    const size_t times = args.passes == 0 ? 1 : args.passes;
    if (equal(first.totals, log.first, times) &&
        (!two_handlers || equal(second.totals, log.second, times)))
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
