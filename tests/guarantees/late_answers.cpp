// What an engine makes of answers that come late: a commit that the next tick does, a lease that is
// lost or given away at the end of something.
#include "support/database.hpp"

#include <vector>

using namespace support;
using pj::position;
using pj::status;

namespace {
struct plain_event {
    static constexpr pj::event_type type{"Plain", pj::raw};
    int32_t value;
};
struct counting {
    using handles = pj::events<plain_event>;
    int handled = 0;
    pj::verdict on(const plain_event& e) {
        if (e.value < 0) return pj::reject(7);
        ++handled;
        return pj::handled;
    }
};
} // namespace

namespace {
/// A sink with units and without a sink for letters: what fails the broker keeps. Commits take two
/// calls as often as `units.pending` says.
struct unlettered_sink {
    struct slow {
        int pending = 0;
        status begin() { return status::ok; }
        status commit() { return pending-- > 0 ? status::pending : status::ok; }
        status rollback() { return status::ok; }
    };
    slow units;
    counting model;
    pj::memory_checkpoint_store<1> store;
    pj::projection what{"p", {}, model, store};
    pj::sink_options options;
    pj::event_sink sink;
    uint32_t now_ms = 0;

    explicit unlettered_sink(bool has_offsets = true)
        : options(counting_if(!has_offsets)), sink(what, options) {
        what.transaction = units;
        what.on_error = pj::error_policy::dead_letter();
    }
    static pj::sink_options counting_if(bool counts) {
        pj::sink_options result;
        result.count_messages = counts;
        return result;
    }
    pj::receipt offer(position at, int32_t value) {
        pj::stored_event one;
        one.at = options.count_messages ? pj::before_first : at;
        one.type = "Plain";
        one.payload = {&value, sizeof value};
        return sink.receive(one, now_ms).answer;
    }
};

/// What a sink asks of a log.
struct bounded_log {
    int failures = 0;
    int asked = 0;
    uint64_t id = 0;
    status read(position, pj::visitor&) { return status::ok; }
    status bounds(position& trimmed, position& newest, uint64_t& log_id) {
        ++asked;
        trimmed = pj::before_first;
        newest = 100;
        log_id = id;
        return failures-- > 0 ? status::failed : status::ok;
    }
};
} // namespace

TEST_CASE("G12 no other message is tried before the broker knows that it keeps the last") {
    for (const bool has_offsets : {true, false}) {
        CAPTURE(has_offsets);
        unlettered_sink s(has_offsets);
        s.units.pending = 1;
        REQUIRE(s.sink.start() == status::ok);
        static_cast<void>(s.sink.tick(s.now_ms));
        CHECK(s.offer(5, -1) == pj::receipt::hold);     // fails, and is rolled back
        CHECK(s.offer(5, -1) == pj::receipt::hold);     // its commit is pending
        static_cast<void>(s.sink.tick(s.now_ms += 20)); // is committed
        CHECK(s.offer(6, 1) == pj::receipt::hold);
        CHECK(s.offer(5, -1) == pj::receipt::reject);
        CHECK(s.offer(6, 1) == pj::receipt::ack);
        CHECK(s.model.handled == 1);
    }
}

TEST_CASE("G12 G32 after a crash, too, the broker is told what to keep when a commit was pending") {
    for (const bool is_guarded : {false, true}) {
        CAPTURE(is_guarded);
        const pj::crash_guard guard{3};
        unlettered_sink s;
        if (is_guarded) s.what.crashes = &guard;
        REQUIRE(s.sink.start(pj::start_cause::crash) == status::ok);
        static_cast<void>(s.sink.tick(s.now_ms));
        if (is_guarded) CHECK(s.offer(5, -1) == pj::receipt::hold);     // named first
        CHECK(s.offer(5, -1) == pj::receipt::hold);     // fails, and is rolled back
        s.units.pending = 1;
        CHECK(s.offer(5, -1) == pj::receipt::hold);     // its commit is pending
        for (int i = 0; i < 2; ++i) static_cast<void>(s.sink.tick(s.now_ms += 20));
        CHECK(s.sink.tick(s.now_ms += 20).wait_ms != 0);        // nothing until it comes again
        CHECK(s.offer(5, -1) == pj::receipt::reject);
        static_cast<void>(s.sink.tick(s.now_ms += 2000));
        if (is_guarded) CHECK(s.offer(6, 1) == pj::receipt::hold);
        CHECK(s.offer(6, 1) == pj::receipt::ack);
    }
}

TEST_CASE("G27 bounds() that failed are asked again while the broker does not know what it keeps") {
    bounded_log log;
    const pj::crash_guard guard{3};
    unlettered_sink s;
    s.what.log = log;
    s.what.crashes = &guard;
    REQUIRE(s.sink.start(pj::start_cause::crash) == status::ok);
    static_cast<void>(s.sink.tick(s.now_ms));
    for (int i = 0; i < 2; ++i) CHECK(s.offer(5, -1) == pj::receipt::hold);     // named, rolled back
    s.units.pending = 1;
    CHECK(s.offer(5, -1) == pj::receipt::hold);         // its commit is pending
    static_cast<void>(s.sink.tick(s.now_ms += 20));     // is committed
    static_cast<void>(s.sink.tick(s.now_ms += 20));     // nothing has come since: idle
    log.failures = 1;
    log.asked = 0;
    const pj::tick_result failed = s.sink.tick(s.now_ms += 20);
    REQUIRE(log.asked == 1);
    CHECK(failed.reason == status::store_failed);
    REQUIRE(failed.wait_ms != pj::never);
    CHECK(s.sink.tick(s.now_ms += failed.wait_ms).reason == status::ok);
    CHECK(log.asked == 2);
    CHECK(s.offer(5, -1) == pj::receipt::reject);
}

TEST_CASE("G21 a sink that halts before the broker knows what it keeps can claim its lease again") {
    bounded_log log;
    log.id = 7;
    database locks;
    pj::lease lease{locks};
    unlettered_sink s;
    s.what.log = log;
    s.what.lease = &lease;
    s.what.clock = {[](void* ms) { return *static_cast<uint32_t*>(ms); }, &s.now_ms};
    const auto tick = [&](uint32_t ms) {
        locks.now_ms = s.now_ms += ms;
        return s.sink.tick(s.now_ms);
    };
    REQUIRE(s.sink.start() == status::ok);
    for (int i = 0; i < 5; ++i) static_cast<void>(tick(10));
    REQUIRE(s.offer(4, 1) == pj::receipt::ack);
    s.units.pending = 1;
    for (int i = 0; i < 2; ++i) CHECK(s.offer(5, -1) == pj::receipt::hold);
    static_cast<void>(tick(20));        // committed, and the broker has not heard of it
    log.id = 8;
    static_cast<void>(tick(20));
    while (s.sink.running()) static_cast<void>(tick(20));
    REQUIRE(s.sink.reason() == status::log_replaced);
    log.id = 7;
    REQUIRE(s.sink.retry_failed() == status::ok);
    const auto answer_to = [&](position at, int32_t value) {
        pj::receipt answer = pj::receipt::hold;
        for (int i = 0; i < 20 && answer == pj::receipt::hold; ++i) {
            static_cast<void>(tick(20));
            answer = s.offer(at, value);
        }
        return answer;
    };
    CHECK(answer_to(5, -1) == pj::receipt::reject);
    CHECK(answer_to(6, 1) == pj::receipt::ack);
    CHECK(s.model.handled == 2);
}

TEST_CASE("G23 a rebuild that loses its lease when it is finished is not done once more") {
    database locks;
    pj::memory_log<4, 256> log;
    pj::memory_checkpoint_store<1> store;
    counting model;
    pj::lease lease{locks};
    pj::projection what{"p", log, model, store};
    what.lease = &lease;
    what.clock = {[](void* db) { return static_cast<database*>(db)->now_ms; }, &locks};
    int drops = 0;
    const auto drop = [&] { ++drops; return status::ok; };
    pj::replay_options options;
    options.on_drop = drop;
    pj::replay_engine replay{what, options};
    log.append(plain_event{1});
    REQUIRE(replay.start() == status::ok);
    bool has_slept = false;
    for (int i = 0; i < 100 && replay.running(); ++i) {
        locks.now_ms += replay.tick(locks.now_ms).wait_ms;
        pj::checkpoint kept;
        REQUIRE(store.load("p", kept) == status::ok);
        if (has_slept || kept.rebuild != 1 || kept.replay_stage != 0) continue;
        has_slept = true;
        locks.now_ms += 60000;
    }
    CHECK(has_slept);
    CHECK(replay.finished());
    CHECK(drops == 1);
}

TEST_CASE("G22 a rebuild of another number of partitions than there are drops nothing") {
    pj::memory_log<16, 1024> log;
    pj::memory_checkpoint_store<8> store;
    counting model;
    pj::projection what{"p", log, model, store};
    for (const char* id : {"a", "b", "c", "d", "e", "f"}) log.append(plain_event{1}, id);
    for (uint32_t index = 0; index < 4; ++index) {
        pj::partitioned_worker one{what, {index, 4}};
        REQUIRE(one.start() == status::ok);
        for (uint32_t ms = 0; ms < 20; ++ms) static_cast<void>(one.tick(ms));
    }
    CHECK(model.handled == 6);
    int drops = 0;
    const auto drop = [&] { ++drops; return status::ok; };
    const auto refused = [&](uint32_t partitions) {
        pj::replay_options options;
        options.on_drop = drop;
        options.partitions = partitions;
        pj::replay_engine replay{what, options};
        REQUIRE(replay.start() == status::ok);
        for (uint32_t ms = 0; ms < 20 && replay.running(); ++ms) static_cast<void>(replay.tick(ms));
        CHECK(replay.reason() == status::partition_count_changed);
        CHECK(drops == 0);
    };
    for (const uint32_t partitions : {0u, 1u, 2u, 8u}) refused(partitions);
    // Half of a change of the count is no count, either.
    pj::checkpoint count;
    REQUIRE(store.load("p_partitions", count) == status::ok);
    count.replay_stage = 3;
    ++count.revision;
    REQUIRE(store.save("p_partitions", count) == status::ok);
    refused(4);
}

TEST_CASE("G22 a name too long for the record of a count has none, and is rebuilt") {
    const std::string longest(63, 'n'), long_enough(51, 'n');   // 51 and `_partitions` are 62
    for (const std::string& name : {longest, long_enough}) {
        pj::memory_log<16, 1024> log;
        pj::memory_checkpoint_store<2, 64> store;
        counting model;
        pj::projection what{name, log, model, store};
        log.append(plain_event{1}, "a");
        pj::replay_engine replay{what};
        REQUIRE(replay.start() == status::ok);
        for (uint32_t ms = 0; ms < 20 && replay.running(); ++ms) static_cast<void>(replay.tick(ms));
        CHECK(replay.finished());
        CHECK(model.handled == 1);
    }
}

namespace {
/// Four partitions under one limit, whose leases may take long to be given back.
struct limited {
    struct slow {
        database& db;
        bool is_slow = false;
        status acquire(pj::text r, uint32_t ms, uint64_t& token) {
            return db.acquire(r, ms, token);
        }
        status extend(pj::text r, uint32_t ms, uint64_t token) { return db.extend(r, ms, token); }
        status release(pj::text r, uint64_t token) {
            return is_slow ? status::pending : db.release(r, token);
        }
    };
    database db;
    pj::memory_log<4, 256> log;
    pj::memory_checkpoint_store<5> store;
    counting model;
    slow locks{db};
    pj::lease lease{locks};
    pj::projection what{"p", log, model, store};
    pj::partition_limit limit{4};
    pj::partition_options options{{}, 0, &limit};
    pj::partitioned_worker all[4] = {{what, {0, 4}, options}, {what, {1, 4}, options},
                                     {what, {2, 4}, options}, {what, {3, 4}, options}};

    limited() {
        what.lease = &lease;
        what.clock = {[](void* me) { return static_cast<database*>(me)->now_ms; }, &db};
        for (pj::partitioned_worker& one : all) REQUIRE(one.start() == status::ok);
        run();
        REQUIRE(limit.held() == 4);
    }
    void run(uint32_t step_ms = 1) {
        for (int i = 0; i < 30; ++i, db.now_ms += step_ms)
            for (pj::partitioned_worker& one : all) static_cast<void>(one.tick(db.now_ms));
    }
};
} // namespace

TEST_CASE("a limit that is one lower costs one lease, though giving it back takes several ticks") {
    limited s;
    s.limit.set(3);
    s.locks.is_slow = true;
    s.run();
    s.locks.is_slow = false;
    s.run();
    CHECK(s.limit.held() == 3);
}

TEST_CASE("a partition that stops is not told to yield as well") {
    limited s;
    s.locks.is_slow = true;
    s.all[0].stop();
    s.run();
    s.limit.set(1);
    s.run();
    s.locks.is_slow = false;
    s.run(1000);
    CHECK(s.all[0].state() == pj::run_state::stopped);
    for (size_t i = 1; i < 4; ++i) CHECK(s.all[i].running());
    CHECK(s.limit.held() == 1);
}

namespace {
/// Keeps letters in order, has units, and a log of two events of one aggregate. All in memory.
struct registrar {
    std::vector<position> events{0, 1};
    uint32_t reads = 0, puts = 0;
    status log_says = status::ok, letters_say = status::ok;
    status read(position after, pj::visitor& visit) {
        ++reads;
        if (log_says != status::ok) return log_says;
        for (const position at : events) {
            const int32_t value = at == 0 ? -1 : 1;
            pj::stored_event one;
            one.at = at;
            one.type = "Plain";
            one.aggregate_id = "A";
            one.payload = {&value, sizeof value};
            if (at > after && !visit(one)) break;
        }
        return status::ok;
    }
    status put(const pj::dead_letter&) {
        ++puts;
        return letters_say;
    }
    status first(const pj::letter_sequence&, pj::letter_visitor&) { return status::ok; }
    status evict(const pj::letter_sequence&, position) { return status::ok; }
    status sequences(const pj::letter_sequence&, pj::sequence_visitor&) { return status::ok; }
    status begin() { return status::ok; }
    status commit() { return status::ok; }
    uint32_t pending = 0;
    status rollback() { return pending != 0 && pending-- != 0 ? status::pending : status::ok; }
};
struct sequenced {
    registrar all;
    counting model;
    pj::memory_checkpoint_store<1> store;
    pj::letter_sequences<4> sequences;
    pj::projection what{"p", all, model, store};
    pj::worker worker{what};
    sequenced() {
        what.dead_letters = all;
        what.sequences = sequences;
    }
    void redeliver_and_tick(uint32_t now_ms) {
        static_cast<void>(sequences.redeliver(worker, "counting", "A"));
        static_cast<void>(worker.tick(now_ms));
    }
};
} // namespace

TEST_CASE("G15 redeliver() in a unit does not cut the backoff of a store short") {
    sequenced s;
    s.all.log_says = status::failed;
    s.what.transaction = s.all;
    s.what.delays.first_ms = 10000;
    REQUIRE(s.worker.start() == status::ok);
    for (uint32_t ms = 0; ms < 5; ++ms) static_cast<void>(s.worker.tick(ms));
    const uint32_t reads = s.all.reads;
    CHECK(reads > 0);
    for (uint32_t ms = 5; ms < 15; ++ms) s.redeliver_and_tick(ms);
    CHECK(s.all.reads == reads);
    s.all.pending = 1;                  // then the next tick has to look at once
    static_cast<void>(s.sequences.redeliver(s.worker, "counting", "A"));
    CHECK(s.all.pending == 0);
    CHECK(s.worker.tick(15).wait_ms > 0);
}

TEST_CASE("G27 redeliver() in a unit while a read is due does not put it off") {
    sequenced s;
    s.all.events = {1, 2, 3};
    s.what.batch = 1;
    s.what.transaction = s.all;
    REQUIRE(s.worker.start() == status::ok);
    for (int i = 0; i < 10 && s.model.handled == 0; ++i) static_cast<void>(s.worker.tick(0));
    REQUIRE(s.model.handled == 1);
    for (int i = 0; i < 10; ++i) s.redeliver_and_tick(0);
    CHECK(s.model.handled == 3);
}

TEST_CASE("G7 G11 an event that vanishes before its letter was taken keeps no sequence back") {
    sequenced s;
    s.all.letters_say = status::failed;
    s.what.on_error = pj::error_policy::dead_letter();
    REQUIRE(s.worker.start() == status::ok);
    uint32_t now_ms = 0;
    for (int i = 0; i < 5; ++i) now_ms += s.worker.tick(now_ms).wait_ms;
    CHECK(s.all.puts > 0);
    CHECK(s.worker.checkpointed() == pj::before_first);
    s.all.events = {1};
    s.all.letters_say = status::ok;
    const uint32_t puts = s.all.puts;
    for (int i = 0; i < 20; ++i) now_ms += pj::sooner(s.worker.tick(now_ms).wait_ms, 1000);
    CHECK(s.worker.counts().vanished == 1);
    CHECK(s.model.handled == 1);
    CHECK(s.all.puts == puts);
}

TEST_CASE("G7 G11 an event that a store has passed over without showing keeps no sequence back") {
    struct passing : registrar {
        status read(position after, pj::visitor& visit) {
            if (events.size() == 1) visit.scanned_to(0);        // it looked, and showed nothing
            return registrar::read(after, visit);
        }
    } log;
    sequenced s;
    s.what.log = log;
    s.what.dead_letters = log;
    log.letters_say = status::failed;
    s.what.on_error = pj::error_policy::dead_letter();
    REQUIRE(s.worker.start() == status::ok);
    uint32_t now_ms = 0;
    for (int i = 0; i < 5; ++i) now_ms += s.worker.tick(now_ms).wait_ms;
    REQUIRE(log.puts > 0);
    log.events = {1};
    log.letters_say = status::ok;
    const uint32_t puts = log.puts;
    for (int i = 0; i < 20; ++i) now_ms += pj::sooner(s.worker.tick(now_ms).wait_ms, 1000);
    CHECK(s.worker.counts().vanished == 1);
    CHECK(s.model.handled == 1);
    CHECK(log.puts == puts);
}

namespace {
/// One letter of all handlers waits for the aggregate A.
struct waiting : registrar {
    status sequences(const pj::letter_sequence&, pj::sequence_visitor& show) {
        return show("", "A") ? status::ok : status::failed;
    }
};
} // namespace

TEST_CASE("G7 no message overtakes a letter before a sink has asked what sequences wait") {
    for (const bool is_reset : {false, true}) {
        CAPTURE(is_reset);
        waiting letters;
        counting model;
        pj::memory_checkpoint_store<1> store;
        pj::letter_sequences<4> sequences;
        pj::projection what{"p", {}, model, store};
        what.dead_letters = letters;
        what.sequences = sequences;
        if (!is_reset) what.replayed_through = 0;       // is saved by the first tick
        pj::event_sink sink{what};
        REQUIRE(sink.start() == status::ok);
        if (is_reset) {
            static_cast<void>(sink.tick(0));
            sequences.release(sink, "", "A");           // so that only the store knows
            REQUIRE(sink.reset(0) == status::ok);
        }
        const int32_t value = 1;
        pj::stored_event one;
        one.at = 1;
        one.type = "Plain";
        one.aggregate_id = "A";
        one.payload = {&value, sizeof value};
        for (int i = 0; i < 5 && sink.scanned() < 1; ++i) static_cast<void>(sink.receive(one, 0));
        CHECK(sink.scanned() == 1);
        CHECK(model.handled == 0);
        CHECK(letters.puts == 1);
    }
}

namespace {
/// One connection: a unit that is open stays so until its rollback has answered. And a record.
struct connection {
    bool is_open = false;
    int begun_twice = 0, rollbacks_pending = 0, saves_fail = 0, begins_fail = 0;
    pj::memory_checkpoint_store<1> records{};
    status begin() {
        if (begins_fail > 0 && begins_fail-- > 0) return status::failed;
        if (is_open) ++begun_twice;
        is_open = true;
        return status::ok;
    }
    status commit() {
        is_open = false;
        return status::ok;
    }
    status rollback() {
        if (rollbacks_pending > 0 && rollbacks_pending-- > 0) return status::pending;
        is_open = false;
        return status::ok;
    }
    status load(pj::text key, pj::checkpoint& out) { return records.load(key, out); }
    status save(pj::text key, const pj::checkpoint& next) {
        if (saves_fail > 0 && saves_fail-- > 0) return status::failed;
        return records.save(key, next);
    }
};
/// A sink with units on such a connection.
struct connected {
    connection db;
    counting model;
    pj::projection what{"p", {}, model, db};
    pj::event_sink sink{what};
    connected() { what.transaction = db; }
    pj::receive_result offer(position at, int32_t value, uint32_t now_ms) {
        pj::stored_event one;
        one.at = at;
        one.type = "Plain";
        one.payload = {&value, sizeof value};
        return sink.receive(one, now_ms);
    }
};
} // namespace

TEST_CASE("G17 a sink begins no unit while a rollback is pending, with pending_ms 0 neither") {
    connected s;
    s.what.pending_ms = 0;
    s.db.rollbacks_pending = 3;
    REQUIRE(s.sink.start() == status::ok);
    static_cast<void>(s.sink.tick(0));
    CHECK(s.offer(5, -1, 0).answer == pj::receipt::hold);       // fails: to be rolled back
    for (int i = 0; i < 10 && s.sink.scanned() < 5; ++i) static_cast<void>(s.offer(5, -1, 0));
    CHECK(s.db.begun_twice == 0);
    CHECK(s.sink.counts().skipped == 1);
}

TEST_CASE("G14 a save that failed in a sink's unit is tried again, though every_ms is never") {
    connected s;
    s.what.save.every_ms = pj::never;
    s.db.saves_fail = 1;
    s.db.rollbacks_pending = 1;
    REQUIRE(s.sink.start() == status::ok);
    static_cast<void>(s.sink.tick(0));
    uint32_t now_ms = 0;
    pj::receive_result r = s.offer(5, 1, now_ms);
    for (int i = 0; i < 10 && r.answer == pj::receipt::hold; ++i) {
        CHECK(r.wait_ms <= 1000);
        r = s.offer(5, 1, now_ms += pj::sooner(r.wait_ms, 1000));
    }
    CHECK(r.answer == pj::receipt::ack);
}

TEST_CASE("G27 redeliver() in a unit does not put off what waits for a store") {
    connection db;
    sequenced s;
    s.what.checkpoints = db;
    s.what.transaction = db;
    s.what.save.every_ms = pj::never;
    s.all.events = {1};
    db.saves_fail = 1;
    REQUIRE(s.worker.start() == status::ok);
    uint32_t now_ms = 0;
    while (db.saves_fail != 0 && now_ms < 10) static_cast<void>(s.worker.tick(now_ms++));
    db.begins_fail = 1;
    while (db.begins_fail != 0 && now_ms < 1000) static_cast<void>(s.worker.tick(now_ms++));
    REQUIRE(db.begins_fail == 0);
    CHECK(s.sequences.redeliver(s.worker, "counting", "A") == status::ok);
    for (int i = 0; i < 10; ++i) {
        const uint32_t wait_ms = s.worker.tick(now_ms).wait_ms;
        CHECK(wait_ms <= 1000);
        now_ms += pj::sooner(wait_ms, 1000);
    }
    CHECK(s.worker.checkpointed() == 1);
}
