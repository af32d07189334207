// The rebuild of a model: its steps, and that it goes on where power was lost.
#include "cases/fakes.hpp"

namespace pj = projections;
using fakes::bench;

namespace {

struct dropping {
    fakes::summing& model;
    uint8_t drops = 0;
    pj::status operator()() {
        ++drops;
        model.sum = 0;
        return pj::status::ok;
    }
};

/// What rings only once, however often the model is built.
struct bell {
    using handles = pj::live_only<fakes::added>;
    static constexpr const char* handler_name = "bell";
    uint8_t rings = 0;
    void on(const fakes::added&) { ++rings; }
};

void the_model_is_dropped_and_built_again() {
    bench b(6);
    bell once;
    pj::registry all{b.model, once};
    b.what.handlers = all;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    b.worker.stop();
    b.drain();
    b.log.append(fakes::numbers[6]);        // new, and none of the rebuild's
    dropping drop{b.model};
    pj::replay_options options;
    options.on_drop = drop;
    options.batch = 2;
    pj::replay_engine replay{b.what, options};
    REQUIRE(replay.start() == pj::status::ok);
    for (uint8_t i = 0; i < 50 && replay.running(); ++i) static_cast<void>(replay.tick(b.now_ms));
    CHECK(replay.finished());
    CHECK(once.rings == 6);
    CHECK(drop.drops == 1);
    CHECK(b.model.sum == 63);
    CHECK(b.model.last_replaying);
    CHECK(replay.how_far().percent == 100);
    CHECK(replay.how_far().processed == 6);
    CHECK(b.checkpoints.record.replay_stage == 0);
    CHECK(b.checkpoints.record.rebuild == 1);
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.model.sum == 127);
    CHECK(once.rings == 7);
    CHECK(!b.model.last_replaying);
}

/// The power fails after every number of ticks; the same replay goes on with the next start.
void interrupted_after_every_tick() {
    bench b(5);
    b.what.save.every_events = 1;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    b.worker.stop();
    b.drain();
    dropping drop{b.model};
    pj::replay_options options;
    options.on_drop = drop;
    options.batch = 1;
    bool is_finished = false;
    for (uint8_t ticks = 1; ticks < 60 && !is_finished; ++ticks) {
        pj::replay_engine replay{b.what, options};
        REQUIRE(replay.start() == pj::status::ok);
        for (uint8_t i = 0; i < ticks && replay.running(); ++i)
            static_cast<void>(replay.tick(b.now_ms));
        is_finished = replay.finished();
        if (!is_finished && b.checkpoints.record.replay_stage != 0) {
            pj::worker live{b.what};
            REQUIRE(live.start() == pj::status::ok);
            static_cast<void>(live.tick(0));
            CHECK(live.reason() == pj::status::rebuild_unfinished);
        }
    }
    CHECK(is_finished);
    CHECK(b.checkpoints.record.at == 4);
    // Saved after every event, so what is handled again is what no save had covered.
    CHECK(b.model.sum >= 31);
    CHECK(b.checkpoints.record.rebuild == 1);
}

void from_a_position_exactly() {
    bench b(6);
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    b.worker.stop();
    b.drain();
    b.model.sum = 0;
    pj::replay_options options;
    options.from = 3;
    pj::replay_engine replay{b.what, options};
    REQUIRE(replay.start() == pj::status::ok);
    for (uint8_t i = 0; i < 50 && replay.running(); ++i) static_cast<void>(replay.tick(b.now_ms));
    CHECK(replay.finished());
    CHECK(b.model.sum == 16 + 32);
    CHECK(b.checkpoints.record.at == 5);
}

const targets::test_case cases[] = {CASE(the_model_is_dropped_and_built_again),
                                    CASE(interrupted_after_every_tick),
                                    CASE(from_a_position_exactly)};

} // namespace

SUITE(replays);
