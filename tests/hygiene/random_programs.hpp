// What every program of random_programs.py shares: handlers write their calls down, and what they
// wrote is compared with what the script foretold.
#ifndef PROJECTIONS_RANDOM_PROGRAMS_HPP
#define PROJECTIONS_RANDOM_PROGRAMS_HPP
#include "projections.hpp"
#include <stdio.h>
#include <initializer_list>
namespace pj = projections;

/// One call of a handler: whose, as which event (its number, 50 and more: that of a parent, 99: as
/// it is stored), what it held, and whether a template took it.
struct call {
    unsigned handler, event, value;
    bool by_template;
    bool operator!=(const call& other) const {
        return handler != other.handler || event != other.event || value != other.value ||
               by_template != other.by_template;
    }
};
/// What deliver() is to do with one event; 4 in place of a kind: anything but handled.
struct foretold {
    unsigned first, count, kind, argument;
    bool replaying;
};

inline call calls[4000];
inline unsigned call_count = 0;
inline bool is_patient = false;     // nobody answers pending
inline int failures = 0;

/// The answer of a handler follows from what it is given, so that the script can foretell it.
inline unsigned note(unsigned handler, unsigned event, unsigned value, bool by_template) {
    calls[call_count++] = {handler, event, value, by_template};
    const unsigned chosen = (handler * 7 + event * 3 + value) % 11;
    return chosen == 2 && is_patient ? 3 : chosen;
}
inline pj::verdict as_verdict(unsigned chosen) {
    return chosen == 0   ? pj::fail(5)
           : chosen == 1 ? pj::reject(6)
           : chosen == 2 ? pj::pending
                         : pj::handled;
}
inline pj::status as_status(unsigned chosen) {
    return chosen == 0   ? pj::status::failed
           : chosen == 2 ? pj::status::pending
                         : pj::status::ok;
}

inline void expect(bool holds, const char* who, unsigned event) {
    if (holds) return;
    ++failures;
    printf("%s, event %u\n", who, event);
}
inline bool same(const call* wanted, unsigned count) {
    if (count != call_count) return false;
    for (unsigned i = 0; i < count; ++i) {
        if (calls[i] != wanted[i]) return false;
    }
    return true;
}

template<size_t N>
void delivered(const char* who, pj::routes to, const pj::stored_event (&events)[N],
               const foretold (&wanted)[N], const call* wanted_calls) {
    is_patient = false;
    for (unsigned i = 0; i < N; ++i) {
        call_count = 0;
        const pj::verdict v = pj::deliver(to, events[i], wanted[i].replaying);
        const unsigned kind = static_cast<unsigned>(v.what());
        const foretold& it = wanted[i];
        expect(same(wanted_calls + it.first, it.count), who, i);
        expect(it.kind == 4 ? kind != 0 : kind == it.kind && v.argument() == it.argument, who, i);
    }
}

/// Shows its events one by one, or in slices of some size.
struct array_log {
    const pj::stored_event* events;
    size_t count, step;
    pj::status read(pj::position after, pj::visitor& visit) {
        for (size_t i = static_cast<size_t>(after + 1); i < count; i += step) {
            const size_t size = count - i < step ? count - i : step;
            if (step == 1 ? !visit(events[i]) : visit(events + i, size) < size) break;
        }
        return pj::status::ok;
    }
};
template<size_t N>
void worked(const char* who, pj::routes to, const pj::stored_event (&events)[N],
            const call* wanted, unsigned count) {
    is_patient = true;
    for (const size_t step : {size_t{1}, size_t{2}, size_t{7}, N}) {
        for (const uint32_t batch : {1u, 3u, 100u}) {
            call_count = 0;
            array_log log{events, N, step};
            pj::memory_checkpoint_store<1> checkpoints;
            pj::projection projection{"p", log, to, checkpoints};
            projection.batch = batch;
            pj::worker worker{projection};
            expect(worker.start() == pj::status::ok, who, 0);
            for (uint32_t now = 0; now < 5000 && !worker.caught_up(); ++now)
                static_cast<void>(worker.tick(now));
            expect(worker.caught_up() && worker.counts().scanned == N, who, batch);
            expect(same(wanted, count), who, batch);
        }
    }
}
#endif
