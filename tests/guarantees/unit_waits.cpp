// What a unit of work tells and how long it waits when any of its calls does not answer ok.
#include "support/setup.hpp"

using namespace support;
using pj::run_state;
using pj::status;

namespace {

/// One record, and transactions that cover it.
struct unit_store {
    pj::checkpoint durable, working;
    bool is_open = false;
    plan begins, saves, commits, rollbacks, loads;
    bool positions_only = false;        // load() tells nothing else
    std::string trace;                  // b s c r l

    status begin() {
        trace += 'b';
        const step s = begins.take();
        if (s.answer == status::ok) {
            CHECK_FALSE(is_open);
            is_open = true;
            working = durable;
        }
        return s.answer;
    }
    status commit() {
        trace += 'c';
        const step s = commits.take();
        if (s.answer == status::ok || s.does_it) {
            durable = working;
            is_open = false;
        }
        return s.answer;
    }
    status rollback() {
        trace += 'r';
        const step s = rollbacks.take();
        if (s.answer != status::pending) is_open = false;
        return s.answer;
    }
    status load(pj::text, pj::checkpoint& out) {
        trace += 'l';
        const step s = loads.take();
        if (s.answer != status::ok || durable.revision == 0) return s.answer;
        if (positions_only) out.at = durable.at;
        else out = durable;
        return s.answer;
    }
    status save(pj::text, const pj::checkpoint& next) {
        trace += 's';
        const step s = saves.take();
        if (s.answer != status::ok) return s.answer;
        pj::checkpoint& record = is_open ? working : durable;
        if (!positions_only && next.revision != record.revision + 1) return status::conflict;
        record = next;
        return status::ok;
    }
};

struct in_units : setup {
    unit_store db;
    explicit in_units(uint32_t events = 3) {
        what.checkpoints = db;
        what.transaction = db;
        log.append(events, "Beta");
        REQUIRE(worker.start() == status::ok);
    }
    /// Ticks until the engine waits for some time.
    pj::tick_result until_waiting() {
        for (int i = 0; i < 50 && tick().wait_ms == 0 && worker.running(); ++i) {}
        return last;
    }
    /// Everything up to the end is handled and committed, and each event once.
    void check_end(pj::event_count handled) {
        run_for(100000);
        CHECK(worker.state() == run_state::idle);
        CHECK(worker.reason() == status::ok);
        CHECK(db.durable.at == log.top());
        CHECK(worker.scanned() == log.top());
        CHECK_FALSE(db.is_open);
        CHECK(worker.counts().handled == handled);
        CHECK(worker.counts().scanned == static_cast<pj::event_count>(log.top() + 1));
    }
};

} // namespace

TEST_CASE("G17 a unit: begin, handlers, save, commit, and no rollback or load besides") {
    in_units s;
    s.until_waiting();
    CHECK(s.db.trace == "lbsc");
    CHECK(s.last.wait_ms == 1000);
    CHECK(s.watch.count(pj::notice_kind::store_failed) == 0);
    CHECK(s.watch.count(pj::notice_kind::checkpoint_saved) == 1);
    s.check_end(3);
}

TEST_CASE("G14 a begin() that fails is waited for, told, and no event's fault") {
    in_units s;
    s.db.begins.then(status::failed, 3);
    for (const uint32_t ms : {100u, 200u, 400u}) {
        CHECK(s.until_waiting().wait_ms == ms);
        CHECK(s.last.state == run_state::waiting);
        CHECK(s.last.reason == status::unit_of_work_failed);
        CHECK(s.w.calls.empty());
        s.now_ms += ms;
    }
    CHECK(s.watch.count(pj::notice_kind::store_failed, status::unit_of_work_failed) == 3);
    s.check_end(3);
    CHECK(s.db.trace == "lbbbbsc");
    CHECK(s.worker.counts().failed_calls == 0);
}

TEST_CASE("G15 a begin() that is pending is asked again after pending_ms or wake()") {
    in_units s;
    s.what.pending_ms = 70;
    s.db.begins.then(status::pending, 2);
    CHECK(s.until_waiting().wait_ms == 70);
    CHECK(s.last.reason == status::pending);
    s.worker.wake();
    CHECK(s.tick().wait_ms == 70);
    CHECK(s.db.trace == "lbb");
    s.now_ms += 70;
    s.check_end(3);
    CHECK(s.watch.count(pj::notice_kind::store_failed) == 0);
}

TEST_CASE("G14 a save() in a unit that fails: rolled back, told, and done again after a wait") {
    in_units s;
    s.db.saves.then(status::failed, 3);
    for (const uint32_t ms : {100u, 200u, 400u}) {
        CHECK(s.until_waiting().wait_ms == ms);
        CHECK(s.last.state == run_state::waiting);
        CHECK_FALSE(s.db.is_open);
        CHECK(s.worker.scanned() == pj::before_first);
        CHECK(s.worker.counts().scanned == 0);
        const uint32_t reads = s.log.read_count;
        s.worker.wake();                // it ends no backoff
        CHECK(s.tick().wait_ms == ms);
        CHECK(s.log.read_count == reads);
        s.now_ms += ms;
    }
    CHECK(s.watch.count(pj::notice_kind::checkpoint_failed, status::checkpoint_failed) == 3);
    CHECK(s.watch.count(pj::notice_kind::store_failed) == 0);
    s.check_end(3);
    CHECK(s.db.trace == "lbsrbsrbsrbsc");
    CHECK(s.worker.counts().failed_calls == 0);
}

TEST_CASE("G15 a save() in a unit that is pending keeps it open, and is asked again") {
    in_units s;
    s.what.pending_ms = 70;
    s.db.saves.then(status::pending, 2);
    CHECK(s.until_waiting().wait_ms == 70);
    CHECK(s.last.reason == status::pending);
    CHECK(s.db.is_open);
    s.tick_after(69);
    CHECK(s.last.wait_ms == 1);
    CHECK(s.db.trace == "lbs");
    s.tick_after(1);
    CHECK(s.db.trace == "lbss");
    CHECK(s.last.wait_ms == 70);
    s.worker.wake();
    s.tick();
    CHECK(s.db.trace == "lbsssc");
    CHECK(s.w.called() == "a0 a1 a2");
    s.check_end(3);
}

TEST_CASE("G15 a commit() that is pending is asked again; nothing is saved or handled between") {
    in_units s;
    s.what.pending_ms = 70;
    s.db.commits.then(status::pending, 2);
    CHECK(s.until_waiting().wait_ms == 70);
    CHECK(s.last.reason == status::pending);
    CHECK(s.worker.scanned() == pj::before_first);
    CHECK(s.worker.counts().scanned == 0);
    CHECK(s.db.trace == "lbsc");
    s.tick_after(70);
    CHECK(s.db.trace == "lbscc");
    s.worker.wake();
    s.tick();
    CHECK(s.db.trace == "lbsccc");
    CHECK(s.w.called() == "a0 a1 a2");
    s.check_end(3);
}

TEST_CASE("G18 a commit() that fails is told, narrowed down, and the policy asked for one alone") {
    in_units s(8);
    s.what.batch = 8;
    s.what.on_error = pj::error_policy::retry(2);
    s.db.commits.then(status::failed, 5);
    std::vector<size_t> sizes;
    std::vector<uint32_t> waits;
    for (int i = 0; i < 200 && !s.db.commits.is_empty(); ++i) {
        const size_t calls = s.w.calls.size();
        s.tick();
        if (s.w.calls.size() != calls) sizes.push_back(s.w.calls.size() - calls);
        if (s.last.wait_ms != 0) {
            waits.push_back(s.last.wait_ms);
            CHECK(s.last.reason == status::unit_of_work_failed);
        }
        s.now_ms += s.last.wait_ms;
    }
    CHECK(sizes == std::vector<size_t>{8, 4, 2, 1, 1});
    CHECK(waits == std::vector<uint32_t>{100, 200, 400, 100});
    CHECK(s.watch.count(pj::notice_kind::store_failed, status::unit_of_work_failed) == 5);
    s.run_for(5000);
    CHECK(s.worker.last_failure().at == 0);
    CHECK(s.worker.last_failure().code == pj::code_uncommitted);
    CHECK(s.worker.last_failure().handler.empty());
    CHECK(s.worker.last_failure().kind == pj::failure_kind::transient);
    CHECK(s.worker.last_failure().attempts == 2);
    CHECK(s.worker.counts().failed_calls == 2);
    s.check_end(8);
}

TEST_CASE("G18 units grow again, one step for each that is committed") {
    in_units s(40);
    s.what.batch = 8;
    s.db.commits.then(status::failed, 3);
    std::vector<size_t> sizes;
    for (int i = 0; i < 300 && s.worker.scanned() < 30; ++i) {
        const size_t calls = s.w.calls.size();
        s.tick();
        if (s.w.calls.size() != calls) sizes.push_back(s.w.calls.size() - calls);
        s.now_ms += s.last.wait_ms;
    }
    CHECK(sizes == std::vector<size_t>{8, 4, 2, 1, 2, 4, 8, 8, 8});
    s.check_end(40);
}

TEST_CASE("G14 a commit() whose answer was lost is found in the record, and nothing done again") {
    for (const pj::position at : {0, 2}) {
        in_units s(static_cast<uint32_t>(at + 1));
        s.db.commits.then(lost_answer());
        s.until_waiting();
        s.check_end(static_cast<pj::event_count>(at + 1));
        CHECK(s.w.calls.size() == static_cast<size_t>(at + 1));
        CHECK(s.worker.counts().failed_calls == 0);
        CHECK(s.db.trace == "lbscrl");
        CHECK(s.watch.count(pj::notice_kind::store_failed, status::unit_of_work_failed) == 1);
    }
}

TEST_CASE("G21 after a commit() in doubt a record of somebody else is a conflict") {
    for (int which = 0; which < 3; ++which) {
        CAPTURE(which);
        in_units s;
        s.db.commits.then(status::failed);
        s.watch.also = [&](const pj::notice& n) {
            if (n.kind != pj::notice_kind::store_failed) return;
            s.db.durable.revision = which == 0 ? 2 : 1;     // one too many
            s.db.durable.at = which == 1 ? 1 : 2;           // another position
            s.db.durable.fencing_token = which == 2 ? 5 : 0;
        };
        s.run_for(1000);
        CHECK(s.worker.state() == run_state::halted);
        CHECK(s.worker.reason() == status::checkpoint_conflict);
        CHECK(s.w.calls.size() == 3);
        CHECK_FALSE(s.db.is_open);
    }
}

TEST_CASE("G17 a rollback() that fails is told; one that works is not") {
    for (const status answer : {status::ok, status::failed}) {
        in_units s;
        s.what.on_error = pj::error_policy::retry(3);
        s.a.says.at(1, pj::fail());
        s.db.rollbacks.then(answer);
        s.until_waiting();
        CHECK(s.watch.count(pj::notice_kind::store_failed) == (answer == status::ok ? 0 : 1));
        CHECK(s.watch.count(pj::notice_kind::store_failed, status::unit_of_work_failed) ==
              (answer == status::ok ? 0 : 1));
        s.check_end(3);
    }
}

TEST_CASE("G15 a rollback() that is pending is asked again, and nothing else is done before") {
    in_units s;
    s.what.pending_ms = 70;
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.at(1, pj::fail());
    s.db.rollbacks.then(status::pending, 3);
    s.tick();
    CHECK(s.last.wait_ms == 70);
    CHECK(s.last.reason == status::pending);
    const uint32_t reads = s.log.read_count;
    s.tick_after(69);
    CHECK(s.db.trace == "lbr");
    s.tick_after(1);
    CHECK(s.db.trace == "lbrr");
    s.worker.wake();
    s.tick();
    CHECK(s.db.trace == "lbrrr");
    CHECK(s.log.read_count == reads);
    s.tick_after(70);
    CHECK(s.db.trace.substr(0, 6) == "lbrrrr");
    CHECK(s.watch.count(pj::notice_kind::store_failed) == 0);
    s.check_end(3);
}

TEST_CASE("G18 after a save() or commit() that fails nothing begins early, also if rollback() pends") {
    for (const bool saves : {false, true}) {
        for (const uint32_t pending : {0u, 1u, 4u}) {
            CAPTURE(saves);
            CAPTURE(pending);
            in_units s(3);
            s.what.pending_ms = 10;
            (saves ? s.db.saves : s.db.commits).then(status::failed);
            s.db.rollbacks.then(status::pending, static_cast<int>(pending));
            s.until_waiting();
            const uint32_t failed_ms = s.now_ms;
            const size_t rolled_back = s.db.trace.find('r');
            REQUIRE(rolled_back != std::string::npos);
            while (s.db.trace.find('b', rolled_back) == std::string::npos) {
                CHECK(s.last.reason != status::ok);
                s.tick_after(1);
            }
            // What became of a commit is looked up first, and that waits for the rollback.
            CHECK(s.now_ms - failed_ms == (saves ? 100 : 100 + 10 * pending));
            s.check_end(3);
        }
    }
}

TEST_CASE("G9 a handler that fails in a unit waits its time alone, with its reason") {
    in_units s;
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.at(0, pj::fail(), 3);
    uint32_t attempt = 0;
    for (const uint32_t ms : {100u, 200u, 400u}) {
        CHECK(s.until_waiting().wait_ms == ms);
        CHECK(s.last.reason == status::handler_failed);
        CHECK(s.last.state == run_state::waiting);
        CHECK_FALSE(s.db.is_open);
        CHECK(s.worker.last_failure().attempts == ++attempt);
        const uint32_t reads = s.log.read_count;
        s.worker.wake();                // it ends no backoff
        CHECK(s.tick().wait_ms == ms);
        CHECK(s.log.read_count == reads);
        s.now_ms += ms;
    }
    s.check_end(3);
    for (const call& c : s.w.calls) {
        if (c.at == 0) CHECK(c.attempt <= 4);
    }
    CHECK(s.w.calls[3].attempt == 4);
}

TEST_CASE("G12 a letter that fails in a unit waits its time, with its reason; wake() is no help") {
    in_units s;
    s.letters();
    s.a.says.at(0, pj::reject());
    s.sink.puts.then(status::failed, 2);
    for (const uint32_t ms : {100u, 200u}) {
        CHECK(s.until_waiting().wait_ms == ms);
        CHECK(s.last.reason == status::dead_letter_failed);
        CHECK_FALSE(s.db.is_open);
        const uint32_t puts = s.sink.put_count;
        s.worker.wake();
        CHECK(s.tick().wait_ms == ms);
        CHECK(s.sink.put_count == puts);
        s.now_ms += ms;
    }
    s.check_end(2);
    CHECK(s.worker.counts().lettered == 1);
    CHECK(s.sink.letters.size() == 1);
    CHECK(s.w.times("a", 0) == 1);
}

TEST_CASE("G12 a letter that is pending keeps its unit open; pending_ms or wake() asks again") {
    in_units s;
    s.what.pending_ms = 70;
    s.letters();
    s.a.says.at(0, pj::reject());
    s.sink.puts.then(status::pending, 3);
    CHECK(s.until_waiting().wait_ms == 70);
    CHECK(s.last.reason == status::dead_letter_failed);
    CHECK(s.db.is_open);
    s.tick_after(70);
    CHECK(s.sink.put_count == 2);
    s.worker.wake();
    s.tick();
    CHECK(s.sink.put_count == 3);
    s.worker.wake();
    s.tick();
    CHECK(s.sink.put_count == 4);
    s.check_end(2);
    CHECK(s.worker.counts().lettered == 1);
}

TEST_CASE("G15 a handler that is pending keeps its unit open, with its own wait and reason") {
    in_units s;
    s.a.says.at(1, pj::pending_for(33), 2);
    CHECK(s.until_waiting().wait_ms == 33);
    CHECK(s.last.reason == status::pending);
    CHECK(s.db.is_open);
    CHECK(s.worker.counts().scanned == 0);
    s.tick_after(32);
    CHECK(s.w.called() == "a0 a1");
    s.tick_after(1);
    CHECK(s.w.called() == "a0 a1 a1");
    CHECK(s.w.calls.back().resumed);
    CHECK(s.w.calls.back().attempt == 1);
    s.worker.wake();
    s.tick();
    CHECK(s.w.times("a", 1) == 3);
    s.check_end(3);
    CHECK(s.db.trace.find('r') == std::string::npos);
}

TEST_CASE("G16 what is in an open unit is not counted, whatever outcome it has") {
    in_units s(0);
    s.log.add(0, "Beta").add(1, "Gamma").add(2, "Nobody").add(3, "Beta").add(4, "Beta");
    auto filter = [](const pj::stored_event& e) { return e.at != 3; };
    s.what.filter = filter;
    s.a.says.at(4, pj::pending, 2);
    s.until_waiting();
    CHECK(s.last.reason == status::pending);
    const pj::counters n = s.worker.counts();
    CHECK(n.scanned == 0);
    CHECK(n.handled + n.unhandled + n.unknown + n.filtered == 0);
    s.run_for(1000);
    const pj::counters all = s.worker.counts();
    CHECK(all.scanned == 5);
    CHECK(all.handled == 2);
    CHECK(all.unhandled == 1);
    CHECK(all.unknown == 1);
    CHECK(all.filtered == 1);
}

TEST_CASE("caught_up() is not what was read in a unit that was rolled back") {
    in_units s;
    s.db.saves.then(status::failed);
    s.until_waiting();
    CHECK_FALSE(s.worker.caught_up());
    CHECK(s.worker.scanned() == pj::before_first);
    s.check_end(3);
    CHECK(s.worker.caught_up());
}

TEST_CASE("G14 a save() in a unit that is refused: rolled back, and the record is loaded at once") {
    in_units s;
    s.db.saves.then(status::conflict);
    s.run_for(1000);
    CHECK(s.db.trace == "lbsrl");
    CHECK(s.worker.state() == run_state::halted);
    CHECK(s.worker.reason() == status::checkpoint_conflict);
    CHECK_FALSE(s.db.is_open);
    CHECK(s.w.calls.size() == 3);
}

TEST_CASE("G18 a new run begins with whole units, though the last had narrowed them down") {
    in_units s(8);
    s.what.batch = 8;
    s.db.commits.then(status::failed, 3);
    for (int i = 0; i < 100 && !s.db.commits.is_empty(); ++i) {
        s.tick();
        s.now_ms += s.last.wait_ms;
    }
    s.worker.stop();
    s.run_for(10000);
    REQUIRE_FALSE(s.worker.running());
    const pj::position from = s.db.durable.at;
    REQUIRE(s.worker.start() == status::ok);
    s.w.calls.clear();
    s.tick();
    CHECK(s.w.calls.size() == static_cast<size_t>(7 - from));
    CHECK(s.db.durable.at == 7);
}

TEST_CASE("G12 a letter of a unit says its attempts, at most 15, and its code, kind and handler") {
    for (const uint32_t attempts : {1u, 2u, 3u, 4u, 5u, 7u, 8u, 11u, 12u, 15u, 16u, 17u}) {
        CAPTURE(attempts);
        in_units s(0);
        s.log.append(2, "Alpha");
        s.what.dead_letters = s.sink;
        s.what.on_error = pj::error_policy::custom({[](void* of, const pj::failure& f) {
            return f.attempts < *static_cast<const uint32_t*>(of) ? pj::decision::retry_after(1)
                                                                  : pj::decision::dead_letter();
        }, const_cast<uint32_t*>(&attempts)});
        s.b.says.always(0, pj::fail(0x0ABCDEF1));
        s.c.says.always(0, pj::fail(7));
        s.run_for(1000);
        REQUIRE(s.sink.letters.size() == 2);
        for (const kept_letter& l : s.sink.letters) {
            CHECK(l.attempts == (attempts < 15 ? attempts : 15));
            CHECK(l.kind == pj::failure_kind::transient);
            CHECK(l.code == (l.handler == "b" ? 0x0ABCDEF1u : 7u));
            CHECK(l.at == 0);
        }
        CHECK(s.sink.keys() == "b@0 c@0");
        CHECK(s.w.times("b", 0) == attempts);
        CHECK(s.worker.counts().lettered == 1);
        s.check_end(1);
    }
}

TEST_CASE("an event that changes while its handler is pending in a unit halts the engine") {
    in_units s;
    s.a.says.at(1, pj::pending, 2);
    s.until_waiting();
    s.log.find(1)->payload = "other";
    s.run_for(1000);
    CHECK(s.worker.state() == run_state::halted);
    CHECK(s.worker.reason() == status::event_changed);
    CHECK(s.w.times("a", 1) == 1);
    CHECK_FALSE(s.db.is_open);
}

TEST_CASE("a unit's wait says what is waited for: handler, payload, commit, or nothing") {
    struct line { const char* type; const char* payload; uint32_t code; uint32_t ms; status why; };
    const line lines[] = {
        {"Beta", "", 5, 100, status::handler_failed},
        {"Beta", "", 5, 1, status::handler_failed},
        {"Beta", "", 5, 0, status::ok},
        {"Beta", "", pj::code_uncommitted, 100, status::handler_failed},
        {"Beta", "!", 0, 100, status::decode_failed},
    };
    for (const line& l : lines) {
        CAPTURE(l.code);
        CAPTURE(l.ms);
        in_units s(0);
        s.log.add(0, l.type, l.payload);
        s.a.says.always(0, pj::fail(l.code));
        s.what.on_error = pj::error_policy::custom({[](void* of, const pj::failure&) {
            return pj::decision::retry_after(static_cast<const line*>(of)->ms);
        }, const_cast<line*>(&l)});
        for (int i = 0; i < 9 && s.worker.counts().failed_calls == 0; ++i) s.tick();
        CHECK(s.last.wait_ms == l.ms);
        CHECK(s.last.reason == l.why);
        CHECK(s.last.state == (l.ms == 0 ? run_state::running : run_state::waiting));
    }
}

TEST_CASE("G14 a store that keeps positions only: a commit in doubt is told by the position") {
    for (const bool was_lost : {true, false}) {
        CAPTURE(was_lost);
        in_units s;
        s.db.positions_only = true;
        s.what.accept_partial_records = true;
        s.run_for(100);
        REQUIRE(s.db.durable.at == 2);
        s.log.append(1, "Beta");
        s.db.commits.then(step{status::failed, was_lost, false});
        s.run_for(20000);
        CHECK(s.db.commits.is_empty());
        CHECK(s.worker.state() == run_state::idle);
        CHECK(s.db.durable.at == 3);
        CHECK(s.worker.scanned() == 3);
        CHECK(s.w.times("a", 3) == 1);
        // Not committed, alone, and the policy is to skip what fails.
        CHECK(s.worker.counts().handled == (was_lost ? 4 : 3));
        CHECK(s.worker.counts().skipped == (was_lost ? 0 : 1));
    }
}

TEST_CASE("G15 G9 what is pending for longer than a unit lasts makes no attempt of it") {
    in_units s;
    s.what.unit_ms_max = 50;
    s.what.on_error = pj::error_policy::retry(1);
    s.a.says.at(1, pj::pending_for(30), 9).at(1, pj::fail(), 2);
    s.run_for(20000);
    CHECK(s.worker.state() == run_state::halted);
    CHECK(s.worker.last_failure().attempts == 2);
    CHECK(s.worker.counts().failed_calls == 2);
    for (const call& c : s.w.calls) {
        if (c.at == 1) CHECK(c.attempt <= 2);
    }
    CHECK(s.w.times("a", 1) == 11);
    CHECK(s.db.durable.at == 0);
}

TEST_CASE("G28 stop() with a handler pending in a unit: rolled back, and what is whole saved") {
    in_units s;
    s.a.says.always(1, pj::pending);
    s.until_waiting();
    REQUIRE(s.db.is_open);
    s.worker.stop();
    s.tick();
    CHECK(s.worker.state() == run_state::stopped);
    CHECK(s.worker.reason() == status::ok);
    CHECK_FALSE(s.db.is_open);
    CHECK(s.db.trace.back() == 'r');
    CHECK(s.worker.counts().scanned == static_cast<pj::event_count>(s.db.durable.at + 1));
}

TEST_CASE("G15 wake() ends the wait of a letter that was pending in a unit that a pause ended") {
    in_units s(1);
    s.letters();
    s.what.pending_ms = pj::never;
    s.a.says.always(0, pj::reject(1));
    s.sink.puts.then(status::pending);
    for (int i = 0; i < 10 && s.sink.put_count == 0; ++i) s.tick();
    REQUIRE(s.sink.put_count == 1);
    s.sink.forget_promise();            // rolled back
    s.worker.pause();
    s.tick_after(1);
    CHECK_FALSE(s.db.is_open);
    s.worker.resume();
    for (int i = 0; i < 5; ++i) {
        s.worker.wake();
        s.tick_after(1);
    }
    CHECK(s.sink.keys() == "a@0");
    CHECK(s.db.durable.at == 0);
}

TEST_CASE("G16 a hole behind an event that became a letter untried, and a commit that fails") {
    struct {
        int puts = 0;
        status put(const pj::dead_letter&) { ++puts; return status::ok; }
        status first(const pj::letter_sequence&, pj::letter_visitor&) { return status::ok; }
        status evict(const pj::letter_sequence&, pj::position) { return status::ok; }
        status sequences(const pj::letter_sequence&, pj::sequence_visitor& show) {
            return show("a", "A") ? status::ok : status::failed;
        }
    } letters;
    const pj::gap_guard guard;
    pj::letter_sequences<2> sequences;
    setup s;
    unit_store db;
    s.what.checkpoints = db;
    s.what.transaction = db;
    s.what.gaps = &guard;
    s.what.dead_letters = letters;
    s.what.sequences = sequences;
    s.what.on_error = pj::error_policy::retry_then_skip();
    s.log.rows = {{0, "Beta", "x", "A"}, {2, "Beta", "x", "A"}};
    db.commits.then(status::failed);
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 20 && db.durable.at < 0; ++i) {
        s.tick();
        CHECK(s.worker.counts().handled == 0);
        CHECK(s.worker.counts().lettered == s.worker.counts().scanned);
        s.now_ms += pj::sooner(s.last.wait_ms, 1000);
    }
    CHECK(db.durable.at == 0);
    CHECK(s.worker.counts().lettered == 1);
    CHECK(letters.puts == 2);
}

TEST_CASE("G14 a save that names an event in a unit keeps its backoff when ticked often") {
    const pj::crash_guard guard{3};
    setup s;
    unit_store db;
    s.what.checkpoints = db;
    s.what.transaction = db;
    s.what.crashes = &guard;
    s.what.save.every_events = 1;
    s.log.append(4, "Beta");
    REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
    for (int i = 0; i < 20 && db.durable.at < 0; ++i) s.tick();
    REQUIRE(db.durable.suspect == 0);
    db.saves.then(status::failed, 100);
    db.trace.clear();
    for (int i = 0; i < 650; ++i) s.tick_after(1);
    uint32_t saves = 0;
    for (const char c : db.trace) saves += c == 's' ? 1u : 0u;
    CHECK(saves == 3);                  // after 100 and 200 ms; the next after 400
}

TEST_CASE("G11 G16 an event that is set aside, and that the store then passes over") {
    for (const bool fails : {false, true}) {
        CAPTURE(fails);
        in_units s(2);
        s.what.on_error = pj::error_policy::retry_then_skip();
        s.a.says.always(1, pj::reject(1));
        for (int i = 0; i < 20 && s.worker.counts().failed_calls == 0; ++i) s.tick();
        REQUIRE(s.worker.counts().failed_calls == 1);
        s.log.remove(1);
        s.log.scanned_to = 1;
        if (fails) s.db.commits.then(status::failed);
        for (int i = 0; i < 20 && s.worker.scanned() < 1; ++i) {
            s.tick();
            CHECK(s.worker.counts().skipped + s.worker.counts().vanished <= 1);
            CHECK(s.worker.counts().handled <= 1);
            s.now_ms += pj::sooner(s.last.wait_ms, 1000);
        }
        CHECK(s.worker.scanned() == 1);
        CHECK(s.worker.counts().handled == 1);
        // Of one event that cannot be committed is more to be known than of the one behind it.
        CHECK(s.worker.counts().vanished == (fails ? 0u : 1u));
    }
}
