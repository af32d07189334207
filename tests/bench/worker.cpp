// A whole worker over a log in memory, and no other engine in the program: started, ticked until
// the last event is behind the checkpoint.
//
//   engine=worker   a registry of the handlers
//   engine=alone    a class by itself, no registry
#include "logs.hpp"

namespace {

// Everything that callgrind counts happens below this function and nothing else does.
extern "C" __attribute__((noinline)) bool measured(pj::worker& worker, pj::position last) {
    const int64_t ticks_max = 2 * last + 10;            // a worker that stands still is an error
    uint32_t now_ms = 0;
    for (int64_t ticks = 0; worker.scanned() < last; ++ticks) {
        const uint32_t wait_ms = worker.tick(now_ms).wait_ms;
        now_ms += wait_ms == 0 ? 1 : wait_ms;           // nobody sleeps: the clock jumps
        if (ticks > ticks_max) return false;
    }
    return true;
}

pj::error_policy policy_of(const std::string& name) {
    using policy = pj::error_policy;
    if (name == "skip") return policy::skip();
    if (name == "retry") return policy::retry(3);
    if (name == "retry_then_skip") return policy::retry_then_skip(1);
    if (name == "dead_letter") return policy::dead_letter();
    if (name == "retry_then_dead_letter") return policy::retry_then_dead_letter(1);
    if (name == "custom")
        return policy::custom([](const pj::failure&) { return pj::decision::skip(); });
    fprintf(stderr, "no such policy: %s\n", name.c_str());
    exit(2);
}

template<class Log, class Handlers>
void run(const arguments& args, Log& log, Handlers& handlers, counting_sink& letters) {
    repeat(args, [&] {
        pj::memory_checkpoint_store<1> checkpoints;
        pj::projection projection{"bench", log, handlers, checkpoints};
        projection.batch = 100;
        projection.save.every_events = 100;             // a checkpoint per batch
        projection.on_error = policy_of(args.policy);
        projection.dead_letters = letters;
        pj::worker worker{projection};
        const pj::position last = static_cast<pj::position>(args.events) - 1;
        const pj::status started = worker.start();
        if (started != pj::status::ok || !measured(worker, last) || worker.checkpointed() != last)
            give_up(worker, started);
    });
}

template<class Log> void run(const arguments& args, const log_memory& memory, Log log) {
    first_handler first;
    second_handler second;
    counting_sink letters;
#ifdef BENCH_ANSWERS
    first.passes = args.failing == "once";
#endif
    if constexpr (two_handlers) {
        pj::registry handlers{first, second};
        run(args, log, handlers, letters);
    } else if (args.engine != "alone") {
        pj::registry handlers{first};
        run(args, log, handlers, letters);
    } else if constexpr (type_count <= 64) {            // no row of more, and they take long
        run(args, log, first, letters);
    }
    check(memory, args, first, second);
    const bool by_letter = args.policy == "dead_letter" || args.policy == "retry_then_dead_letter";
    const size_t times = args.passes == 0 ? 1 : args.passes;
    if (by_letter && letters.letters != memory.failing * times) {
        fprintf(stderr, "%zu letters for %zu failures\n", letters.letters, memory.failing * times);
        exit(1);
    }
}

} // namespace

int main(int count, char** values) {
    const arguments args(count, values);
    const log_memory memory = log_of(args);
    const pj::stored_event* const views = memory.views.data();
    const row* const rows = memory.rows.data();
    const char* const bytes = memory.bytes.data();
    const size_t events = args.events;
    if (args.store == "slices") run(args, memory, slices_log{views, events});
    else if (args.store == "single") run(args, memory, single_log{views, events});
    else if (args.store == "batches" && args.by_id())
        run(args, memory, batches_log<true>{rows, bytes, events});
    else if (args.store == "batches") run(args, memory, batches_log<false>{rows, bytes, events});
    else if (args.by_id()) run(args, memory, rows_log<true>{rows, bytes, events});
    else run(args, memory, rows_log<false>{rows, bytes, events});
    return 0;
}
