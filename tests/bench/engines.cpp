// The other engines over the same log: the same description, handlers and checkpoints.
//
//   engine=sink       every event is offered to receive()
//   engine=replay     the model is rebuilt, in batches of 500
//   engine=partition  partition 0 of one or of eight
#include "logs.hpp"

namespace {

// Everything that callgrind counts happens below these functions and nothing else does.

extern "C" __attribute__((noinline)) bool measured_partition(pj::partitioned_worker& worker,
                                                             pj::position last) {
    uint32_t now_ms = 0;
    for (int64_t ticks = 0; worker.scanned() < last; ++ticks) {
        now_ms += worker.tick(now_ms).wait_ms == 0 ? 1u : 1000u;
        if (ticks > last + 10) return false;            // a worker that stands still is an error
    }
    return true;
}

extern "C" __attribute__((noinline)) bool measured_sink(pj::event_sink& sink,
                                                        const pj::stored_event* events,
                                                        size_t count, size_t& acknowledged) {
    uint32_t now_ms = 0;
    size_t at = 0;
    for (size_t offers = 0; at < count && offers < 2 * count + 10; ++offers) {
        const pj::receive_result result = sink.receive(events[at], now_ms);
        if (result.answer == pj::receipt::hold) now_ms += result.wait_ms == 0 ? 1 : result.wait_ms;
        else ++at;
        acknowledged += result.answer == pj::receipt::ack ? 1 : 0;
    }
    return at == count;
}

extern "C" __attribute__((noinline)) bool measured_replay(pj::replay_engine& replay) {
    uint32_t now_ms = 0;
    while (replay.running()) now_ms += replay.tick(now_ms).wait_ms == 0 ? 1u : 1000u;
    return replay.finished();
}

void receive(const arguments& args, const log_memory& memory, const pj::projection& projection) {
    pj::event_sink sink{projection};
    size_t acknowledged = 0;
    const pj::status started = sink.start();
    if (started != pj::status::ok ||
        !measured_sink(sink, memory.views.data(), args.events, acknowledged) ||
        sink.scanned() != static_cast<pj::position>(args.events) - 1)
        give_up(sink, started);
}

void rebuild(const arguments& args, pj::projection& projection) {
    projection.save.every_events = 500;
    pj::replay_engine replay{projection};
    const pj::status started = replay.start();
    if (started != pj::status::ok || !measured_replay(replay) ||
        replay.checkpointed() != static_cast<pj::position>(args.events) - 1)
        give_up(replay, started);
}

void work(const arguments& args, const pj::projection& projection) {
    const pj::partition part{0, args.partition == "only" ? 1 : partitions};
    pj::partitioned_worker worker{projection, part};
    const pj::position last = static_cast<pj::position>(args.events) - 1;
    const pj::status started = worker.start();
    if (started != pj::status::ok || !measured_partition(worker, last) ||
        worker.checkpointed() != last)
        give_up(worker, started);
}

template<class Log> void run(const arguments& args, const log_memory& memory, Log log) {
    first_handler first;
    second_handler second;
    constexpr auto registry_of = [](first_handler& one, [[maybe_unused]] second_handler& two) {
        if constexpr (two_handlers) return pj::registry{one, two};
        else return pj::registry{one};
    };
    auto handlers = registry_of(first, second);
    repeat(args, [&] {
        pj::memory_checkpoint_store<2> checkpoints;     // partitions keep their number, too
        pj::projection projection{"bench", log, handlers, checkpoints};
        projection.batch = 100;
        projection.save.every_events = 100;             // a checkpoint per batch
        if (args.engine == "sink") receive(args, memory, projection);
        else if (args.engine == "replay") rebuild(args, projection);
        else work(args, projection);
    });
    check(memory, args, first, second);
}

// The largest resident size so far. Not getrusage(), which would count the process that started
// this one, too.
void print_peak() {
    FILE* const file = fopen("/proc/self/status", "r");
    char line[256];
    while (file != nullptr && fgets(line, sizeof line, file) != nullptr)
        if (strncmp(line, "VmHWM:", 6) == 0) printf("%ld\n", strtol(line + 6, nullptr, 10));
    if (file != nullptr) fclose(file);
}

} // namespace

int main(int count, char** values) {
    const arguments args(count, values);
    const log_memory memory = log_of(args);
    const pj::stored_event* const views = memory.views.data();
    if (args.store == "endless") run(args, memory, endless_log{views, args.log, args.events});
    else run(args, memory, slices_log{views, args.events});
    if (args.peak != 0) print_peak();
    return 0;
}
