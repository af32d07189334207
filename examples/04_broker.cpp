// Events from a broker: one client that calls back and has no offsets (as MQTT), one that is polled
// and has them (as Kafka); a worker that catches up from the store and hands over.
// Build and run: c++ -std=c++17 -I. examples/04_broker.cpp -o broker && ./broker
#include "projections.hpp"
#include <stdio.h>
namespace pj = projections;

struct sample {
    static constexpr pj::event_type type{"Sample", pj::raw};
    int32_t celsius;
};
struct warmest {
    using handles = pj::events<sample>;
    int32_t celsius = -273;
    uint32_t seen = 0;
    bool is_busy = false;               // a database that refuses once in a while
    pj::verdict on(const sample& e) {
        if (e.celsius < -273) return pj::reject();      // such a sensor is broken
        if (is_busy) { is_busy = false; return pj::fail(); }
        if (e.celsius > celsius) celsius = e.celsius;
        ++seen;
        return pj::handled;
    }
};

// ---- a client that calls back, and acknowledges when we say so

struct queue_client {
    pj::event_sink& sink;
    uint32_t now_ms = 0;
    int acknowledged = 0, refused = 0, repeated = 0;

    /// False: the client keeps the message and offers it again later.
    bool on_message(const char* topic, const sample& payload) {
        pj::stored_event message;                       // at: none, so nothing is saved for it
        message.type = pj::text{topic};
        message.payload = {&payload, sizeof payload};
        const pj::receive_result r = sink.receive(message, now_ms);
        if (r.answer == pj::receipt::ack) ++acknowledged;
        if (r.answer == pj::receipt::reject) ++refused; // nack without requeue: the broker's letter
        if (r.answer == pj::receipt::hold) { ++repeated; now_ms += r.wait_ms; }
        return r.answer != pj::receipt::hold;
    }
};

static bool pushed() {
    warmest model;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection described{"pushed", {}, model, checkpoints};
    described.on_error = pj::error_policy::retry_then_dead_letter();
    pj::event_sink sink{described};
    if (sink.start() != pj::status::ok) return false;
    queue_client client{sink};
    const int32_t measured[] = {18, 21, -999, 19};
    for (const int32_t celsius : measured) {
        model.is_busy = celsius == 21;
        while (!client.on_message("Sample", sample{celsius})) {}
    }
    printf("pushed: %d acknowledged, %d refused, %d offered again, warmest %d\n",
           client.acknowledged, client.refused, client.repeated, static_cast<int>(model.celsius));
    return client.acknowledged == 3 && client.refused == 1 && client.repeated == 1 &&
           model.celsius == 21;
}

// ---- a client that is polled, one message after the other, from an offset that we choose

static const sample topic[] = {{5}, {9}, {7}, {12}, {3}, {11}, {14}, {2}};
static constexpr int topic_size = sizeof topic / sizeof *topic;

static bool polled() {
    warmest model;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::memory_log<16, 256> store;      // the same events, kept: what the sink has missed
    for (int i = 0; i < 4; ++i) store.append(topic[i]);
    pj::projection described{"polled", store, model, checkpoints};
    pj::worker worker{described};
    if (worker.start() != pj::status::ok) return false;
    while (worker.tick(0).wait_ms == 0) {}
    worker.stop();
    if (pj::run(worker, [] { return 0u; }, [](uint32_t) {}) != pj::status::ok) return false;

    described.log = {};                 // from here on the broker
    described.save.every_events = 3;
    pj::event_sink sink{described};
    if (sink.start() != pj::status::ok) return false;
    sink.accept_up_to(worker.checkpointed());
    int later = 0, committed = -1;
    for (int offset = 2; offset < topic_size;) {        // the broker still has two old ones
        pj::stored_event message = pj::raw_event(offset, topic[offset]);
        const pj::receive_result r = sink.receive(message, 0);
        if (r.answer == pj::receipt::hold) continue;    // a real client sleeps r.wait_ms
        if (r.answer == pj::receipt::ack) committed = offset;
        if (r.answer == pj::receipt::later) ++later;
        ++offset;
    }
    sink.stop();                        // the last save; then everything can be acknowledged
    if (pj::run(sink, [] { return 0u; }, [](uint32_t) {}) != pj::status::ok) return false;
    printf("polled: %lu duplicates, %d acknowledged later, committed %d, at last %d, warmest %d\n",
           static_cast<unsigned long>(sink.counts().duplicate), later, committed,
           static_cast<int>(sink.checkpointed()), static_cast<int>(model.celsius));
    return model.seen == topic_size && sink.counts().duplicate == 2 && committed == 6 &&
           sink.checkpointed() == topic_size - 1;
}

int main() { return pushed() && polled() ? 0 : 1; }
