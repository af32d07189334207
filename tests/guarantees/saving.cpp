// G14: what happens when a save fails, waits, is refused, or loses its answer; and when saves are
// made.
#include "support/setup.hpp"

using namespace support;
using pj::status;

namespace {

/// Is every durable checkpoint above the one before, its revision one more?
void check_growth(const setup& s) {
    for (size_t i = 1; i < s.store.saved.size(); ++i) {
        CHECK(s.store.saved[i].at >= s.store.saved[i - 1].at);
        CHECK(s.store.saved[i].revision == s.store.saved[i - 1].revision + 1);
    }
}

} // namespace

TEST_CASE("G14 a save that fails n times is tried again with growing waits and then works") {
    for (const int failing : {1, 2, 3, 8}) {
        setup s;
        s.log.append(5, "Beta");
        s.store.saves.then(status::failed, failing);
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.last.state == pj::run_state::waiting);
        CHECK(s.last.reason == status::checkpoint_failed);
        uint32_t longest = 0;
        for (int i = 0; i < 100 && s.store.saved.empty(); ++i) {
            CHECK(s.last.wait_ms > 0);
            longest = std::max(longest, s.last.wait_ms);
            s.tick_after(s.last.wait_ms);
        }
        CHECK(s.stored().at == 4);
        CHECK(s.store.tried.size() == static_cast<size_t>(failing + 1));
        if (failing >= 3) CHECK(longest >= 400);
        s.log.append(5, "Beta");
        s.run_for(3000);
        CHECK(s.stored().at == 9);              // later saves are not disabled
        check_growth(s);
    }
}

TEST_CASE("G14 an answer that was lost is recognised by the record itself") {
    for (const int lost : {1, 2, 5}) {
        setup s;
        s.log.append(5, "Beta");
        s.store.saves.then(lost_answer(), lost);
        REQUIRE(s.start() == status::ok);
        s.run_for(100000);
        CHECK(s.worker.reason() == status::ok);
        CHECK(s.stored().at == 4);
        CHECK(s.stored().revision == 1);
        CHECK(s.worker.checkpointed() == 4);
        s.log.append(5, "Beta");
        s.run_for(3000);
        CHECK(s.stored().at == 9);
        CHECK(s.stored().revision == 2);
        CHECK(s.w.calls.size() == 10);
    }
}

TEST_CASE("G14 a model that load() takes back is right where save() accepts what it holds") {
    struct sum {                        // of the events handled: the model
        using handles = pj::events<beta>;
        unsigned events = 0;
        void on(const beta&) { ++events; }
    };
    struct snapshot {                   // model and record, replaced together
        sum& model;
        pj::checkpoint record{}, tried{};
        unsigned kept = 0, attempt = 0, loads = 0;
        bool loses_answers = false;
        pj::status load(pj::text, pj::checkpoint& out) {
            ++loads;
            out = record;
            model.events = kept;
            return status::ok;
        }
        pj::status save(pj::text, const pj::checkpoint& next) {
            if (record.revision != 0 && bytes_of(record) == bytes_of(next)) return status::ok;
            if (record.revision + 1 != next.revision) return status::conflict;
            if (bytes_of(tried) != bytes_of(next)) attempt = model.events;
            record = tried = next;
            kept = attempt;
            return loses_answers ? status::failed : status::ok;
        }
    };
    sum model;
    snapshot store{model};
    pj::memory_log<32, 512> log;
    pj::projection described{"sum", log, model, store};
    described.batch = described.save.every_events = 3;
    pj::worker worker{described};
    for (int i = 0; i < 9; ++i) log.append("Beta", {});
    REQUIRE(worker.start() == status::ok);
    store.loses_answers = true;
    uint32_t now = 0;
    for (int i = 0; i < 3; ++i) static_cast<void>(worker.tick(now));    // goes on meanwhile
    CHECK(store.kept == 3);
    store.loses_answers = false;
    for (int i = 0; i < 50; ++i) static_cast<void>(worker.tick(now += 100));
    CHECK(worker.checkpointed() == 8);
    CHECK(model.events == 9);
    CHECK(store.kept == 9);
    CHECK(store.loads == 1);            // that of the start
}

TEST_CASE("G14 more events are done while the answer is lost: the rest is saved afterwards") {
    setup s;
    s.log.append(5, "Beta");
    s.store.saves.then(lost_answer());
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.log.append(5, "Beta");
    s.worker.wake();
    s.tick_after(1);
    s.run_for(5000);
    CHECK(s.stored().at == 9);
    CHECK(s.stored().revision == 2);
    check_growth(s);
}

TEST_CASE("G14 a conflict without a failed attempt before it is somebody else, whatever it holds") {
    for (const pj::position foreign : {pj::position{2}, pj::position{4}, pj::position{50}}) {
        setup s;
        s.log.append(5, "Beta");
        REQUIRE(s.start() == status::ok);
        s.store.loads.then(status::ok);
        s.what.observe = s.watch;
        s.a.says.at(4, pj::pending);
        s.tick();
        s.store.put("p", foreign, 1);           // the other engine saves
        s.run_for(5000);
        CHECK(s.worker.state() == pj::run_state::halted);
        CHECK(s.worker.reason() == status::checkpoint_conflict);
        CHECK(s.stored().at == foreign);
        CHECK(s.stored().revision == 1);
        CHECK(s.store.saved.empty());
    }
}

TEST_CASE("G14 a conflict after a failed attempt with another record is somebody else, too") {
    setup s;
    s.log.append(5, "Beta");
    s.store.saves.then(status::failed);
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.store.put("p", 3, 1);
    s.run_for(5000);
    CHECK(s.worker.reason() == status::checkpoint_conflict);
    CHECK(s.stored().at == 3);
    CHECK(s.w.calls.size() == 5);
}

TEST_CASE("G14 the same position under another revision is somebody else's work, too") {
    for (const uint32_t revision : {2u, 3u, 9u}) {
        setup s;
        s.log.append(5, "Beta");
        s.store.saves.then(status::failed);
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.store.put("p", 4, revision);
        s.run_for(5000);
        CHECK(s.worker.reason() == status::checkpoint_conflict);
        CHECK(s.stored().revision == revision);
    }
}

TEST_CASE("G14 retry_failed after a conflict goes on from the record, not from what was in hand") {
    setup s;
    s.log.append(5, "Beta");
    s.store.saves.then(status::failed);
    REQUIRE(s.start() == status::ok);
    s.tick();
    s.store.put("p", 7, 9);
    s.log.append(5, "Beta");
    s.run_for(5000);
    CHECK(s.worker.reason() == status::checkpoint_conflict);
    CHECK(s.worker.retry_failed() == status::ok);
    s.w.calls.clear();
    s.run_for(5000);
    CHECK(s.w.called() == "a8 a9");
    CHECK(s.stored().at == 9);
    CHECK(s.stored().revision == 10);
    check_growth(s);
}

TEST_CASE("G14 the reload after a conflict may fail and wait") {
    for (const status answer : {status::failed, status::pending}) {
        setup s;
        s.log.append(5, "Beta");
        s.store.saves.then(lost_answer());
        s.store.loads.then(status::ok).then(answer, 3);
        REQUIRE(s.start() == status::ok);
        s.run_for(60000);
        CHECK(s.worker.reason() == status::ok);
        CHECK(s.worker.checkpointed() == 4);
        CHECK(s.store.load_count == 5);
        CHECK(s.w.calls.size() == 5);
    }
}

TEST_CASE("G14 with unsaved_max events unsaved nothing but the save is tried") {
    for (const uint32_t most : {0u, 1u, 7u, 25u}) {
        setup s;
        s.log.append(200, "Beta");
        s.what.batch = 4;
        s.what.unsaved_max = most;
        s.store.saves.always(status::failed);
        REQUIRE(s.start() == status::ok);
        s.run_for(600000);
        const uint32_t limit = most == 0 ? 40 : most;
        CHECK(s.w.calls.size() == limit);
        CHECK(s.last.reason == status::checkpoint_failed);
        const uint32_t reads = s.log.read_count;
        s.run_for(100000);
        CHECK(s.log.read_count == reads);
        s.store.saves.clear();
        s.run_for(100000);
        CHECK(s.stored().at == 199);
        CHECK(s.w.calls.size() == 200);
        check_growth(s);
    }
}

TEST_CASE("G14 unsaved_max makes a save due although the rule would wait") {
    setup s;
    s.log.append(100, "Beta");
    s.what.batch = 1;
    s.what.save = {1000000, pj::never, false};
    REQUIRE(s.start() == status::ok);
    s.run_for(1000);
    CHECK(s.w.calls.size() == 100);
}

TEST_CASE("G14 a pending save is repeated word for word and no event is handled meanwhile") {
    setup s;
    s.log.append(6, "Beta");
    s.what.batch = 3;
    s.what.save.every_events = 3;
    s.store.saves.then(status::pending, 4);
    REQUIRE(s.start() == status::ok);
    s.tick();
    for (int i = 0; i < 4; ++i) {
        CHECK(s.w.calls.size() == 3);
        CHECK(s.last.wait_ms == 10);
        CHECK(s.last.reason == status::pending);
        s.tick_after(10);
    }
    s.run_for(2000);
    CHECK(s.w.calls.size() == 6);
    CHECK(s.stored().at == 5);
}

TEST_CASE("G14 saves follow the rule: events, milliseconds, idle") {
    setup s;
    s.log.append(10, "Beta");
    SUBCASE("every 3 events") {
        s.what.save = {3, pj::never, false};
        REQUIRE(s.start() == status::ok);
        s.run_for(5000);
        CHECK(s.store.saved.size() == 3);
        CHECK(s.stored().at == 8);
    }
    SUBCASE("after 700 ms") {
        s.what.save = {1000, 700, false};
        REQUIRE(s.start() == status::ok);
        s.run_for(699);
        CHECK(s.store.saved.empty());
        s.run_for(2);
        CHECK(s.stored().at == 9);
    }
    SUBCASE("when idle") {
        s.what.save = {1000, pj::never, true};
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.stored().at == 9);
    }
    const size_t saves = s.store.saved.size();
    CHECK(s.stop() == status::ok);
    CHECK(s.stored().at == 9);
    CHECK(s.store.saved.size() <= saves + 1);
}

TEST_CASE("G14 nothing new means no save") {
    setup s;
    s.log.append(3, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    CHECK(s.store.tried.size() == 1);
    s.worker.pause();
    s.run_for(1000);
    CHECK(s.stop() == status::ok);
    CHECK(s.store.tried.size() == 1);
}

TEST_CASE("G14 a store that says its record is damaged halts the engine at once") {
    setup s;
    s.store.loads.then(pj::status::checkpoint_corrupt);
    REQUIRE(s.start() == pj::status::ok);
    s.tick();
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.worker.reason() == pj::status::checkpoint_corrupt);
    CHECK(s.store.tried.empty());
}

TEST_CASE("G15 a pending save is asked for after pending_ms, also when the run is to end") {
    setup s;
    s.log.append(1, "Beta");
    s.store.saves.then(pj::status::pending, 2);
    REQUIRE(s.start() == pj::status::ok);
    s.tick();
    CHECK(s.store.tried.size() == 1);
    s.worker.stop();
    s.tick();
    CHECK(s.store.tried.size() == 1);
    s.run_for(100);
    CHECK(s.store.tried.size() == 3);
    CHECK(s.worker.state() == pj::run_state::stopped);
}

TEST_CASE("G23 a rebuild's marker is not taken for a worker's own save whose answer was lost") {
    setup s;
    s.log.append(5, "Beta");
    REQUIRE(s.start() == pj::status::ok);
    s.run_for(100);
    REQUIRE(s.stored().at == 4);
    s.store.saves.then(pj::status::failed);
    REQUIRE(s.worker.reset(4) == pj::status::ok);       // the same position again
    s.tick();
    pj::checkpoint marker = s.stored();
    ++marker.revision;
    ++marker.rebuild;
    marker.replay_stage = 1;
    marker.replayed_through = 4;
    s.store.put("p", marker);
    s.run_for(1000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.worker.reason() == pj::status::checkpoint_conflict);
}

TEST_CASE("G14 failures in a row are counted no further than to 255, and the waits stay long") {
    setup s;
    s.what.delays = {10, 640, 2, 0, 1};
    s.store.loads.then(status::failed, 600);
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 600; ++i) {
        const uint32_t wait_ms = s.tick().wait_ms;
        CHECK(wait_ms == (i < 6 ? 10u << i : 640u));
        s.now_ms += wait_ms;
    }
    s.log.append(1, "Alpha");
    s.drain();
    CHECK(s.worker.scanned() == 0);
}

TEST_CASE("G14 an event given up in a volatile replay is not unsaved work") {
    for (const bool vanishes : {false, true}) {
        CAPTURE(vanishes);
        setup s;
        s.log.append(5, "Beta");
        s.what.volatile_model = true;
        s.what.unsaved_max = 1;
        s.what.save.every_events = 1;
        s.store.put("p", 4);
        s.what.on_error = vanishes ? pj::error_policy::retry(3) : pj::error_policy::halt();
        s.a.says.always(2, pj::fail());
        REQUIRE(s.start() == status::ok);
        if (vanishes) {
            for (int i = 0; i < 20 && s.w.times("a", 2) == 0; ++i) s.tick();
            s.log.rows.erase(s.log.rows.begin() + 2);
            s.run_for(60000);
        } else {
            s.run_for(1000);
            REQUIRE(s.worker.skip_failed(2) == status::ok);
            s.run_for(60000);
        }
        CHECK(s.worker.scanned() == 4);
    }
}

TEST_CASE("G27 what was done while a save failed is flushed as soon as the log's end is reached") {
    for (const bool is_idle : {true, false}) {
        CAPTURE(is_idle);
        setup s;
        s.what.save = {2, pj::never, is_idle};
        s.what.poll_ms = pj::never;
        s.what.batch = 2;
        s.log.append(4, "Beta");
        s.store.saves.then(pj::status::failed);
        REQUIRE(s.start() == pj::status::ok);
        s.run_for(10000);
        CHECK(s.worker.scanned() == 3);
        CHECK(s.stored().at == 3);
    }
}
