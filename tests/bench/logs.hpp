// Event stores over a log in memory, and a sink of letters that counts them.
#ifndef BENCH_LOGS_HPP
#define BENCH_LOGS_HPP

#include "workload.hpp"

// Events in place: the store already holds views and hands over everything it has; the visitor
// takes what fits into the tick.
struct slices_log {
    const pj::stored_event* events;
    size_t count;
    pj::status read(pj::position after, pj::visitor& visit) {
        const size_t at = static_cast<size_t>(after + 1);
        if (at < count) static_cast<void>(visit(events + at, count - at));
        return pj::status::ok;
    }
};

// The same views one at a time.
struct single_log {
    const pj::stored_event* events;
    size_t count;
    pj::status read(pj::position after, pj::visitor& visit) {
        for (size_t at = static_cast<size_t>(after + 1); at < count; ++at)
            if (!visit(events[at])) break;
        return pj::status::ok;
    }
};

template<bool ById> void fill(pj::stored_event& event, size_t at, const row& from, const char* bytes) {
    const char* const name = bytes + from.name_offset;
    event.at = static_cast<pj::position>(at);
    if constexpr (ById) event.type = pj::id{from.type_id};
    else event.type = pj::text(name, from.name_size);
    event.payload = pj::bytes(name + from.name_size, from.payload_size);
}

// A store that keeps rows and fills a view for each, as one over a file or a table does.
template<bool ById> struct rows_log {
    const row* rows;
    const char* bytes;
    size_t count;
    pj::status read(pj::position after, pj::visitor& visit) {
        for (size_t at = static_cast<size_t>(after + 1); at < count; ++at) {
            pj::stored_event event;
            fill<ById>(event, at, rows[at], bytes);
            if (!visit(event)) break;
        }
        return pj::status::ok;
    }
};

// The same, but it fills sixteen and shows them as a slice.
template<bool ById> struct batches_log {
    const row* rows;
    const char* bytes;
    size_t count;
    pj::status read(pj::position after, pj::visitor& visit) {
        pj::stored_event events[16];
        for (size_t at = static_cast<size_t>(after + 1); at < count && visit.wanted() != 0;) {
            size_t filled = 0;
            for (; filled < 16 && filled < visit.wanted() && at < count; ++filled, ++at)
                fill<ById>(events[filled], at, rows[at], bytes);
            if (visit(events, filled) < filled) break;
        }
        return pj::status::ok;
    }
};

// The same rows again and again under growing positions: a log of any length in constant memory.
struct endless_log {
    const pj::stored_event* events;
    size_t kept;
    size_t count;
    pj::status read(pj::position after, pj::visitor& visit) {
        size_t from = static_cast<size_t>(after + 1) % kept;
        for (size_t at = static_cast<size_t>(after + 1); at < count; ++at) {
            pj::stored_event event = events[from];
            event.at = static_cast<pj::position>(at);
            if (!visit(event)) break;
            if (++from == kept) from = 0;
        }
        return pj::status::ok;
    }
};

struct counting_sink {
    size_t letters = 0;
    pj::status put(const pj::dead_letter&) {
        ++letters;
        return pj::status::ok;
    }
};

[[noreturn]] inline void give_up(const pj::engine& engine, pj::status started) {
    fprintf(stderr, "the engine did not finish: %s, %s\n", pj::to_string(started),
            pj::to_string(engine.reason()));
    exit(1);
}

#endif
