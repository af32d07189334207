// The whole worker over a log in memory: start, tick until the last event is behind the checkpoint.
#include "workload.hpp"

namespace {

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

// A store that keeps rows and fills a view for each, as one over a file or a table does.
template<bool ById> struct rows_log {
    const row* rows;
    const char* bytes;
    size_t count;
    pj::status read(pj::position after, pj::visitor& visit) {
        for (size_t at = static_cast<size_t>(after + 1); at < count; ++at) {
            const row& r = rows[at];
            const char* const name = bytes + r.name_offset;
            pj::stored_event event;
            event.at = static_cast<pj::position>(at);
            if constexpr (ById) event.type = pj::id{r.type_id};
            else event.type = pj::text(name, r.name_size);
            event.payload = pj::bytes(name + r.name_size, r.payload_size);
            if (!visit(event)) break;
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

// Everything that callgrind counts happens below this function and nothing else does.
extern "C" __attribute__((noinline)) bool measured(pj::worker& worker, pj::position last) {
    uint32_t now_ms = 0;
    const int64_t ticks_max = last + 10;                // a worker that stands still is an error
    for (int64_t ticks = 0; worker.scanned() < last; ++ticks) {
        static_cast<void>(worker.tick(++now_ms));
        if (ticks > ticks_max) return false;
    }
    return true;
}

template<class Log, class Handlers>
void run(const arguments& args, Log& log, Handlers& handlers, counting_sink& letters) {
    repeat(args, [&] {
        pj::memory_checkpoint_store<1> checkpoints;
        pj::projection projection{"bench", log, handlers, checkpoints};
        projection.batch = 100;
        projection.save.every_events = 100;             // a checkpoint per batch
        if (args.policy == "dead_letter" || args.policy == "quiet") {
            projection.on_error = pj::error_policy::dead_letter();
            projection.dead_letters = letters;
        }
        pj::worker worker{projection};
        const pj::status started = worker.start();
        const pj::position last = static_cast<pj::position>(log.count) - 1;
        if (started != pj::status::ok || !measured(worker, last) ||
            worker.checkpointed() != last) {
            fprintf(stderr, "the worker did not finish: %s, %s\n", pj::to_string(started),
                    pj::to_string(worker.reason()));
            exit(1);
        }
    });
}

template<class Log> void run(const arguments& args, const log_memory& memory, Log log) {
    first_handler first;
    counting_sink letters;
#ifdef BENCH_TWO_HANDLERS
    second_handler second;
    pj::registry handlers{first, second};
    run(args, log, handlers, letters);
#else
    if (args.engine == "alone") {                       // a class by itself, no registry
        run(args, log, first, letters);
    } else {
        pj::registry handlers{first};
        run(args, log, handlers, letters);
    }
#endif
    const size_t times = args.passes == 0 ? 1 : args.passes;
#ifdef BENCH_TWO_HANDLERS
    check(memory, first, &second, times);
#else
    check(memory, first, nullptr, times);
#endif
    if (args.policy == "dead_letter" && letters.letters != memory.failing * times) {
        fprintf(stderr, "%zu letters for %zu failures\n", letters.letters, memory.failing * times);
        exit(1);
    }
}

} // namespace

int main(int count, char** values) {
    const arguments args(count, values);
    log_memory memory;
    fill(memory, args.log_events, args.by_id, args.one_in_ten());
    expect(memory, args.events, args.one_in_ten());
    const pj::stored_event* const views = memory.views.data();
    const row* const rows = memory.rows.data();
    const char* const bytes = memory.bytes.data();
    if (args.store == "slices") run(args, memory, slices_log{views, args.events});
    else if (args.store == "single") run(args, memory, single_log{views, args.events});
    else if (args.by_id) run(args, memory, rows_log<true>{rows, bytes, args.events});
    else run(args, memory, rows_log<false>{rows, bytes, args.events});
    return 0;
}
