// What is measured: the ports that call the library, the description, the worker and its loop.
#if !defined(FEATURE_no_include)
#include "firmware.hpp"
#endif

#if defined(FEATURE_no_include) || defined(FEATURE_only_include)

int main() { return 0; }        // with and without the header, nothing of it is used

#else

namespace {

// Not inlined, so that the user's stack can be told from the visitor's.
__attribute__((noinline)) bool size_visit(pj::visitor& visit, const pj::stored_event& event) {
    return visit(event);
}

struct user_log {
    // Not inlined, so that its stack can be told from the library's.
    __attribute__((noinline)) pj::status read(pj::position after, pj::visitor& visit) {
        user_record record;
        for (uint32_t at = static_cast<uint32_t>(after + 1); user_fetch(at, record); ++at) {
            pj::stored_event event;
            event.at = at;
            event.type = pj::text(record.name, record.name_size);
            event.payload = pj::bytes(&record.pin, 2 * sizeof(uint32_t));
            if (!size_visit(visit, event)) break;
        }
        return pj::status::ok;
    }
#if defined(FEATURE_bounds)
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& log_id) {
        log_id = 0;
        return user_bounds(trimmed, newest);
    }
#endif
};

} // namespace

#if defined(FEATURE_sequences)
pj::status user_letters::first(const pj::letter_sequence& of, pj::letter_visitor& show) {
    user_record record;
    if (user_fetch(of.partition, record)) {
        pj::stored_event event;
        event.at = record.pin;
        event.type = pj::text(record.name, record.name_size);
        show(event, count);
    }
    return pj::status::ok;
}
pj::status user_letters::sequences(const pj::letter_sequence& of, pj::sequence_visitor& show) {
    return show(of.projection, "door") ? pj::status::ok : pj::status::failed;
}
#endif

namespace {

// Named size_..., so that the script finds them in the symbol table.
first_handler size_first;
#if defined(TWO_CLASSES)
second_handler size_second;
#endif
#if defined(FEATURE_handler_map)
pj::handler_map<EVENT_TYPES> size_registry;
#elif defined(TWO_CLASSES)
pj::registry size_registry{size_first, size_second};
#else
pj::registry size_registry{size_first};
#endif
#if defined(FEATURE_memory_log)
pj::memory_log<16, 512> size_log;
#else
user_log size_log;
#endif
#if defined(FEATURE_memory_checkpoint_store)
pj::memory_checkpoint_store<1> size_checkpoints;
#else
user_slot size_checkpoints;
#endif
user_letters size_letters;

#if defined(FEATURE_policy_table)
pj::policy_table<4> size_policies;
pj::error_policy size_replaying = pj::error_policy::skip();
#else
constexpr pj::error_policy size_replaying = pj::error_policy::custom(&user_policy);
#endif

#if defined(FEATURE_crash_guard)
constexpr pj::crash_guard size_guard{3};
#endif

#if defined(FEATURE_gap_guard)
constexpr pj::gap_guard size_gaps{1000};
#endif
#if defined(FEATURE_unit_of_work)
user_unit size_unit;
#endif
#if defined(FEATURE_sequences)
pj::letter_sequences<8> size_waiting;
#endif
#if defined(FEATURE_lease)
user_locks size_locks;
constexpr pj::lease size_lease{size_locks};
#endif

constexpr pj::projection described(pj::text name) {
    pj::projection p{name, size_log, size_registry, size_checkpoints};
    p.dead_letters = size_letters;
    p.on_error = pj::error_policy::retry_then_dead_letter(3);
    p.on_error_replaying = &size_replaying;
#if defined(FEATURE_observer)
    p.observe = &user_observer;
#endif
#if defined(FEATURE_time_budget)
    p.clock = &user_clock;
    p.tick_ms_max = 5;
#endif
#if defined(FEATURE_filter)
    p.filter = &user_filter;
#endif
#if defined(FEATURE_volatile_model)
    p.volatile_model = true;
#endif
#if defined(FEATURE_crash_guard)
    p.crashes = &size_guard;
#endif
#if defined(FEATURE_gap_guard)
    p.gaps = &size_gaps;
#endif
#if defined(FEATURE_lease)
    p.clock = &user_clock;
    p.lease = &size_lease;
#endif
#if defined(FEATURE_unit_of_work)
    p.transaction = size_unit;
#endif
#if defined(FEATURE_sequences)
    p.sequences = size_waiting;
#endif
    return p;
}

constexpr pj::projection size_projection = described("edges");
#if defined(FEATURE_partition)
pj::partitioned_worker size_worker{size_projection, {1, 3}};
#elif !defined(FEATURE_in_main)
pj::worker size_worker{size_projection};
#endif
#if defined(FEATURE_second_worker)
constexpr pj::projection size_projection_2 = described("others");
pj::worker size_worker_2{size_projection_2};
#endif
#if defined(FEATURE_sink) || defined(FEATURE_replay)
constexpr pj::projection described_otherwise(pj::text name) {
    pj::projection p = described(name);
    p.volatile_model = false;
    return p;
}
#endif
#if defined(FEATURE_sink)
constexpr pj::projection size_received = described_otherwise("received");
pj::event_sink size_sink{size_received};
#endif
#if defined(FEATURE_replay)
constexpr pj::projection size_rebuilt = described_otherwise("rebuilt");
pj::replay_engine size_replay{size_rebuilt};
#endif

} // namespace

// A function of its own, so that the depth of the stack has a beginning: the compiler makes tick()
// a part of it.
#if defined(FEATURE_in_main)
extern "C" __attribute__((noinline)) uint32_t size_tick(pj::worker& one) {
    return one.tick(user_clock()).wait_ms;
}
#else
extern "C" __attribute__((noinline)) uint32_t size_tick() {
#if defined(FEATURE_second_worker)
    return pj::tick_all(user_clock(), size_worker, size_worker_2);
#else
    return size_worker.tick(user_clock()).wait_ms;
#endif
}
#endif

int main() {
#if defined(FEATURE_in_main)
    pj::worker size_worker{size_projection};    // no first value of it is in flash
#endif
#if defined(FEATURE_handler_map)
    size_registry.add(size_first);
#if defined(TWO_CLASSES)
    size_registry.add(size_second);
#endif
#endif
#if defined(FEATURE_policy_table)
    size_policies.add("ours", &user_policy);
    size_replaying = size_policies["ours"];
#endif
#if defined(FEATURE_memory_log)
    static_cast<void>(size_log.append(event_0{1, user_clock()}));
#endif
#if defined(FEATURE_encode)
    pj::checkpoint saved;
    uint8_t image[pj::checkpoint_bytes];
    pj::encode(saved, image);
    if (!pj::decode({image, sizeof image}, saved)) return 2;
    user_output(image);
#endif
#if defined(FEATURE_crash_guard)
    if (size_worker.start(pj::start_cause::crash) != pj::status::ok) return 1;
#else
    if (size_worker.start() != pj::status::ok) return 1;
#endif
#if defined(FEATURE_second_worker)
    if (size_worker_2.start() != pj::status::ok) return 1;
#endif
#if defined(FEATURE_sink)
    user_record record;
    pj::stored_event message;
    if (size_sink.start() != pj::status::ok || !user_fetch(0, record)) return 1;
    message.at = record.pin;
    message.type = pj::text(record.name, record.name_size);
    message.payload = pj::bytes(&record.pin, 2 * sizeof(uint32_t));
    if (size_sink.receive(message, user_clock()).answer != pj::receipt::ack) return 5;
#endif
#if defined(FEATURE_replay)
    if (size_replay.start() != pj::status::ok) return 1;
    while (size_replay.running()) user_sleep(size_replay.tick(user_clock()).wait_ms);
    if (!size_replay.finished()) return 6;
#endif
#if defined(FEATURE_commands)
    size_worker.pause();
    size_worker.resume();
    if (size_worker.retry_failed() == pj::status::ok) return 3;
    if (size_worker.skip_failed(1) == pj::status::ok) return 3;
    if (size_worker.reset() == pj::status::ok) return 3;
    if (size_worker.set_position(1, 2) == pj::status::ok) return 3;
#endif
#if defined(FEATURE_sequences)
    if (size_waiting.redeliver(size_worker, "first", "door") == pj::status::more) return 8;
#endif
#if defined(FEATURE_repartition)
    if (pj::repartition(size_projection, 2, 4) != pj::status::ok) return 7;
#endif
#if defined(FEATURE_to_string)
    user_output(pj::to_string(size_worker.reason()));
#endif
    for (;;) {
#if defined(FEATURE_in_main)
        user_sleep(size_tick(size_worker));
#else
        user_sleep(size_tick());
#endif
        if (!size_worker.running()) return 4;
    }
}

#endif
