// Checkpoints: their bytes, saves that fail, and what is kept over a crash.
#include "cases/fakes.hpp"

namespace pj = projections;
using fakes::bench;

namespace {

// Written with Python's struct and zlib, not with encode().
const uint8_t golden[pj::checkpoint_bytes] = {
    0x01, 0x07, 0x02, 0x00, 0x04, 0x03, 0x02, 0x01, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
    0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 0xF8, 0xF7, 0xF6, 0xF5, 0xF4, 0xF3, 0xF2, 0xF1,
    0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
    0x44, 0x43, 0x42, 0x41, 0x54, 0x53, 0x52, 0x51, 0x62, 0x61, 0x00, 0x00, 0xC6, 0xAB, 0xDE, 0x2C};

pj::checkpoint golden_record() {
    pj::checkpoint c;
    c.hash_scheme = 7;
    c.replay_stage = 2;
    c.revision = 0x01020304;
    c.at = 0x1112131415161718;
    c.fencing_token = 0x2122232425262728;
    c.log_id = 0xF1F2F3F4F5F6F7F8;
    c.replayed_through = -1;
    c.suspect = 0x3132333435363738;
    c.partition_count = 0x41424344;
    c.rebuild = 0x51525354;
    c.crashes = 0x6162;
    return c;
}

void the_bytes_are_the_same_everywhere() {
    uint8_t bytes[pj::checkpoint_bytes];
    pj::encode(golden_record(), bytes);
    for (size_t i = 0; i < sizeof bytes; ++i) CHECK(bytes[i] == golden[i]);
    pj::checkpoint read;
    REQUIRE(pj::decode({golden, sizeof golden}, read));
    const pj::checkpoint c = golden_record();
    CHECK(read.at == c.at);
    CHECK(read.revision == c.revision);
    CHECK(read.fencing_token == c.fencing_token);
    CHECK(read.log_id == c.log_id);
    CHECK(read.replayed_through == pj::before_first);
    CHECK(read.suspect == c.suspect);
    CHECK(read.partition_count == c.partition_count);
    CHECK(read.rebuild == c.rebuild);
    CHECK(read.crashes == c.crashes);
    CHECK(read.hash_scheme == c.hash_scheme);
    CHECK(read.replay_stage == c.replay_stage);
}

/// Every single bit, an erased slot, a zeroed one, a slot written halfway, at an odd address.
void damaged_bytes_are_refused() {
    static uint8_t room[pj::checkpoint_bytes + 1];
    uint8_t* const bytes = room + 1;
    pj::checkpoint out;
    out.at = 42;
    uint16_t taken = 0;
    const auto restore = [bytes]() {
        for (size_t i = 0; i < sizeof golden; ++i) bytes[i] = golden[i];
    };
    restore();
    for (size_t i = 0; i < sizeof golden; ++i) {
        for (unsigned bit = 1; bit < 0x100; bit <<= 1) {
            bytes[i] = static_cast<uint8_t>(golden[i] ^ bit);
            if (pj::decode({bytes, sizeof golden}, out)) ++taken;
        }
        bytes[i] = golden[i];
    }
    CHECK(taken == 0);
    for (size_t size = 0; size < sizeof golden; ++size) {
        for (size_t i = 0; i < sizeof golden; ++i) bytes[i] = i < size ? golden[i] : 0xFF;
        if (pj::decode({bytes, sizeof golden}, out)) ++taken;
        if (pj::decode({golden, size}, out)) ++taken;
    }
    for (size_t i = 0; i < sizeof golden; ++i) bytes[i] = 0;
    if (pj::decode({bytes, sizeof golden}, out)) ++taken;
    CHECK(taken == 0);
    CHECK(out.at == 42);
    restore();
    CHECK(pj::decode({bytes, sizeof golden}, out));
}

void a_save_that_fails_is_tried_again() {
    bench b(3);
    b.checkpoints.answers[0] = b.checkpoints.answers[1] = pj::status::failed;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.worker.scanned() == 2);
    CHECK(b.worker.checkpointed() == pj::before_first);
    b.run_for(1000);
    CHECK(b.checkpoints.saves == 3);
    CHECK(b.worker.checkpointed() == 2);
    CHECK(b.checkpoints.record.revision == 1);
}

/// The store has saved but its answer was lost: the next attempt conflicts, and the record tells.
void a_lost_answer_is_recognised() {
    bench b(3);
    b.checkpoints.answers[0] = pj::status::failed;
    b.checkpoints.saves_although_it_fails = true;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.run_for(1000);
    CHECK(b.worker.running());
    CHECK(b.worker.checkpointed() == 2);
    CHECK(b.checkpoints.record.revision == 1);
    b.log.append(fakes::numbers[3]);
    b.run_for(2000);
    CHECK(b.checkpoints.record.revision == 2);
    CHECK(b.checkpoints.record.at == 3);
}

void a_second_engine_of_one_name_halts() {
    bench b(3);
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    ++b.checkpoints.record.revision;
    b.log.append(fakes::numbers[3]);
    b.run_for(2000);
    CHECK(b.worker.state() == pj::run_state::halted);
    CHECK(b.worker.reason() == pj::status::checkpoint_conflict);
}

void a_pending_save_holds_the_next_event() {
    bench b(2);
    b.what.save.every_events = 1;
    b.checkpoints.answers[0] = b.checkpoints.answers[1] = pj::status::pending;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.what.batch = 1;
    CHECK(b.drain().wait_ms == 10);
    CHECK(b.model.calls == 1);
    b.tick(10);
    CHECK(b.model.calls == 1);
    b.run_for(100);
    CHECK(b.model.calls == 2);
    CHECK(b.checkpoints.record.at == 1);
}

void with_too_much_unsaved_only_the_save_is_tried() {
    bench b(8);
    b.what.batch = 2;
    b.what.unsaved_max = 4;
    b.what.save.every_events = 1;
    for (pj::status& s : b.checkpoints.answers) s = pj::status::failed;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.model.calls == 4);
    b.run_for(20000);
    CHECK(b.model.calls == 8);
    CHECK(b.worker.checkpointed() == 7);
}

void a_store_in_memory() {
    pj::memory_checkpoint_store<2, 8> store;
    pj::checkpoint c = golden_record();
    c.revision = 2;
    CHECK(store.save("one", c) == pj::status::conflict);
    c.revision = 1;
    CHECK(store.save("one", c) == pj::status::ok);
    CHECK(store.save("two", c) == pj::status::ok);
    CHECK(store.save("three", c) == pj::status::failed);
    CHECK(store.save("onlyeight", c) == pj::status::failed);
    pj::checkpoint out;
    CHECK(store.load("two", out) == pj::status::ok);
    CHECK(out.at == c.at);
    CHECK(out.suspect == c.suspect);
    out = {};
    CHECK(store.load("none", out) == pj::status::ok);
    CHECK(out.revision == 0);
}

/// The handler of event 2 takes the device down; `crashes` restarts later it is given up on.
void a_crash_loop_is_ended() {
    const pj::crash_guard guard{3};
    bench b(5);
    b.what.crashes = &guard;
    uint8_t crashes = 0;
    for (;; ++crashes) {
        REQUIRE(crashes < 10);
        pj::worker run{b.what};
        b.model.sum = 0;
        const bool is_first = crashes == 0;
        REQUIRE(run.start(is_first ? pj::start_cause::clean : pj::start_cause::crash) ==
                pj::status::ok);
        // Pending stands for the crash: what was saved before the call is all that remains.
        b.model.odd_at = 2;
        b.model.odd_times = 1;
        b.model.odd = pj::pending;
        for (uint8_t i = 0; i < 30 && b.model.odd_times != 0 && !run.caught_up(); ++i) {
            b.now_ms += run.tick(b.now_ms).wait_ms;
        }
        if (b.model.odd_times != 0) {
            CHECK(run.counts().skipped == 1);
            CHECK(run.last_failure().code == pj::code_crashed);
            break;
        }
    }
    // Nothing was saved before the first crash, so all of them count but that one.
    CHECK(crashes == 4);
    CHECK(b.checkpoints.record.at == 4);
}

void a_hole_is_waited_for_and_then_skipped() {
    pj::gap_guard guard{3000};
    bench b(4);
    b.log.events[2].at = 5;
    b.log.events[3].at = 6;
    b.what.gaps = &guard;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.model.calls == 2);
    CHECK(b.worker.reason() == pj::status::log_gap);
    b.run_for(2999);
    CHECK(b.model.calls == 2);
    b.run_for(1500);
    CHECK(b.model.calls == 4);
    CHECK(b.worker.checkpointed() == 6);
    CHECK(b.worker.counts().scanned == 4);
}

/// The model is in RAM: every run reads all again, silently up to the checkpoint.
void a_volatile_model_is_rebuilt() {
    bench b(4);
    b.what.volatile_model = true;
    REQUIRE(b.worker.start() == pj::status::ok);
    b.drain();
    CHECK(b.checkpoints.record.at == 3);
    b.log.append(fakes::numbers[4]);
    b.model.sum = 0;
    pj::worker again{b.what};
    REQUIRE(again.start() == pj::status::ok);
    const uint16_t saves = b.checkpoints.saves;
    b.model.odd_at = 3;
    b.model.odd_times = 1;
    b.model.odd = pj::pending;
    for (int i = 0; i < 4; ++i) static_cast<void>(again.tick(b.now_ms));
    CHECK(b.model.last_replaying);
    CHECK(b.checkpoints.saves == saves);
    for (int i = 0; i < 6; ++i) static_cast<void>(again.tick(b.now_ms += 100));
    CHECK(b.model.sum == 31);
    CHECK(!b.model.last_replaying);
    CHECK(again.checkpointed() == 4);
}

const targets::test_case cases[] = {
    CASE(the_bytes_are_the_same_everywhere), CASE(damaged_bytes_are_refused),
    CASE(a_save_that_fails_is_tried_again), CASE(a_lost_answer_is_recognised),
    CASE(a_second_engine_of_one_name_halts), CASE(a_pending_save_holds_the_next_event),
    CASE(with_too_much_unsaved_only_the_save_is_tried), CASE(a_store_in_memory),
    CASE(a_crash_loop_is_ended), CASE(a_hole_is_waited_for_and_then_skipped),
    CASE(a_volatile_model_is_rebuilt)};

} // namespace

SUITE(saving);
