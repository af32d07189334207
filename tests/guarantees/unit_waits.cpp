// What a unit of work tells and how long it waits when any of its calls does not answer ok.
#include "kit/projections_kit.hpp"
#include "support/setup.hpp"

#include <algorithm>
#include <functional>

using namespace support;
namespace kit = projections_kit;
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

/// A log that notes how many events each read may show.
struct asked {
    fake_log& log;
    std::vector<uint32_t> wanted;
    status read(pj::position after, pj::visitor& visit) {
        wanted.push_back(visit.wanted());
        return log.read(after, visit);
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

TEST_CASE("G11 G16 what a store passes over before an event that is set aside does not concern it") {
    in_units s(3);
    s.log.remove(1);
    s.what.on_error = pj::error_policy::retry_then_skip();
    s.a.says.always(2, pj::reject(1));
    for (int i = 0; i < 20 && s.worker.counts().failed_calls == 0; ++i) s.tick();
    REQUIRE(s.worker.counts().failed_calls == 1);
    s.log.remove(2);
    s.log.scanned_to = 1;
    s.run_for(10000);
    CHECK(s.worker.scanned() == 1);     // nothing has come behind it, so it may be there again
    CHECK(s.worker.counts().vanished == 0);
}

TEST_CASE("G27 an event that is given up outside of any unit may wait as long unsaved as others") {
    in_units s(1);
    s.what.save = {100, 1000, false};
    s.what.on_error = pj::error_policy::halt();
    s.a.says.at(0, pj::fail());
    s.run_for(10);
    REQUIRE(s.worker.state() == run_state::halted);
    s.db.trace.clear();
    REQUIRE(s.worker.skip_failed(0) == status::ok);
    CHECK(s.tick().wait_ms == 1000);
    s.tick_after(999);
    CHECK(s.db.trace.empty());
    s.tick_after(1);
    CHECK(s.db.durable.at == 0);
}

TEST_CASE("G18 each handler has its attempts, whichever of the event before had failed") {
    in_units s(0);
    s.log.append(2, "Alpha");
    s.what.on_error = pj::error_policy::retry_then_skip(1);
    s.b.says.at(0, pj::fail());
    s.a.says.at(1, pj::fail());
    s.b.says.at(1, pj::fail());
    s.check_end(2);
    CHECK(s.worker.counts().failed_calls == 3);
}

TEST_CASE("G9 G31 a letter that was not taken makes no later event wait, once it is passed") {
    in_units s(3);
    s.letters(pj::error_policy::retry_then_dead_letter(1));
    s.a.says.always(0, pj::reject()).at(1, pj::fail());
    s.sink.puts.always(status::failed);
    for (int i = 0; i < 40 && s.last.wait_ms < 3200; ++i) s.tick_after(s.last.wait_ms);
    REQUIRE(s.last.reason == status::dead_letter_failed);
    REQUIRE(s.worker.reset(0) == status::ok);
    s.sink.puts.clear();
    for (int i = 0; i < 10 && s.tick().wait_ms == 0;) ++i;
    CHECK(s.last.reason == status::handler_failed);
    CHECK(s.last.wait_ms == 100);
    s.run_for(3000);
    CHECK(s.db.durable.at == 2);
    CHECK(s.worker.counts().handled == 2);
}

TEST_CASE("G18 a hole or a gap guard does not make the engine forget the one it has set aside") {
    in_units s(4);
    const pj::gap_guard guard;
    s.what.gaps = &guard;
    s.what.on_error = pj::error_policy::retry_then_skip(2);
    s.a.says.always(2, pj::fail());
    s.run_for(5000);
    CHECK(s.w.times("a", 2) == 3);
    CHECK(s.worker.counts().skipped == 1);
    CHECK(s.db.durable.at == 3);
}

TEST_CASE("G17 while a hole is waited for, or at the end of the log, no unit is begun") {
    for (const bool has_hole : {true, false}) {
        CAPTURE(has_hole);
        in_units s(2);
        const pj::gap_guard guard;
        s.what.gaps = &guard;
        s.what.poll_ms = has_hole ? 100 : 0;
        if (has_hole) s.log.add(5, "Beta");
        for (int i = 0; i < 10; ++i) s.tick_after(s.last.wait_ms);
        REQUIRE(s.db.durable.at == 1);
        s.db.trace.clear();
        for (int i = 0; i < 10; ++i) s.tick_after(s.last.wait_ms);
        CHECK(s.db.trace.empty());
    }
}

TEST_CASE("G15 G17 a look at the log that is pending begins no unit, however short the wait") {
    in_units s(2);
    s.what.pending_ms = 0;
    s.log.reads.then(status::pending, 3);
    s.log.shows.assign(3, 0);
    for (int i = 0; i < 3; ++i) s.tick();
    CHECK(s.log.read_count == 3);
    CHECK(s.db.trace == "l");
}

TEST_CASE("G17 where the log is known to hold more the unit begins before the read") {
    in_units s(4);
    s.log.shows = {4, 2};               // a look, then two of four: it answers more
    for (int i = 0; i < 20 && s.db.durable.at != 1; ++i) s.tick();
    REQUIRE(s.db.durable.at == 1);
    const uint32_t reads = s.log.read_count;
    for (int i = 0; i < 20 && s.db.durable.at != 3; ++i) s.tick();
    CHECK(s.log.read_count == reads + 1);
}

TEST_CASE("G17 a unit that was lost: nothing is known of the log, so none is begun for nothing") {
    in_units s(3);
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.at(2, pj::fail());
    for (int i = 0; i < 10 && s.db.trace.find('r') == std::string::npos; ++i) s.tick();
    REQUIRE(s.db.trace.back() == 'r');
    s.log.newest = 2;
    s.log.rows.clear();
    s.db.trace.clear();
    s.run_for(3000);
    CHECK(s.db.trace.empty());
}

TEST_CASE("G17 a look is one event, and only begins a unit") {
    in_units s(3);
    asked log{s.log, {}};
    s.what.log = log;
    s.what.batch = 8;
    s.run_for(100);
    CHECK(log.wanted == std::vector<uint32_t>{1, 8});
    CHECK(s.db.trace == "lbsc");
}

TEST_CASE("G7 in units, too, a store is told to stop at the event that is not for now") {
    in_units s(3);
    s.log.uses_limit = false;
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.at(0, pj::fail(), 2);
    s.until_waiting();
    CHECK(s.log.shown == 2);            // a look, and the event that fails
    s.tick_after(s.last.wait_ms);
    CHECK(s.log.shown == 4);
    s.check_end(3);

    in_units gone(3);                   // the held event is: the unit ends before the next
    gone.log.uses_limit = false;
    gone.a.says.always(0, pj::pending);
    gone.until_waiting();
    gone.log.remove(0);
    const uint32_t shown = gone.log.shown;
    gone.tick_after(gone.last.wait_ms);
    CHECK(gone.log.shown == shown + 1);
}

TEST_CASE("G27 the time of a unit counts once more from the first event that is done in it") {
    in_units s(2);
    s.what.pending_ms = 300;
    s.what.unit_ms_max = 1000;
    s.log.reads.then(status::ok).then(status::pending, 3);
    s.log.shows = {2, 0, 0, 0};
    s.a.says.always(1, pj::pending);
    s.run_for(900);
    REQUIRE(s.tick().wait_ms == 300);
    REQUIRE(s.w.called() == "a0 a1");
    REQUIRE(s.db.is_open);
    s.run_for(990);
    CHECK(s.db.trace == "lb");
    s.run_for(20);
    CHECK(s.db.trace.substr(0, 3) == "lbr");
}

TEST_CASE("G15 a read that is pending in a unit is asked again in it, however short the wait") {
    in_units s(2);
    s.what.pending_ms = 1;
    s.log.reads.then(status::ok).then(status::pending, 3);
    s.log.shows = {2, 0, 0, 0};
    s.check_end(2);
    CHECK(s.db.trace == "lbsc");
}

TEST_CASE("G18 a unit that failed is halved by its own size, and is one event at least") {
    using sizes = std::vector<uint32_t>;
    in_units s(9);
    asked log{s.log, {}};
    s.what.log = log;
    s.what.batch = 7;
    s.db.commits.then(status::failed);
    s.until_waiting();
    s.tick_after(s.last.wait_ms);
    CHECK(log.wanted == sizes{1, 7, 3});

    in_units less(9);
    asked smaller{less.log, {}};
    less.what.log = smaller;
    less.what.batch = 8;
    less.db.commits.then(status::failed, 3);
    for (int i = 0; i < 3; ++i) {
        less.until_waiting();
        less.now_ms += less.last.wait_ms;
    }
    less.what.batch = 4;
    less.tick();
    CHECK(smaller.wanted == sizes{1, 8, 4, 2, 1});
}

TEST_CASE("G16 G17 a unit holds no more events than its counters can tell apart") {
    struct long_log {
        status read(pj::position after, pj::visitor& visit) {
            for (pj::position at = after + 1; at < 0x10010; ++at) {
                pj::stored_event one;
                one.at = at;
                one.type = "Gamma";
                if (!visit(one)) break;
            }
            return status::ok;
        }
    };
    in_units s(0);
    long_log log;
    s.what.log = log;
    s.what.batch = 0x11000;
    s.what.save.every_events = 0x11000;
    s.db.commits.then(status::pending);
    s.until_waiting();
    REQUIRE(s.db.is_open);
    CHECK(s.worker.counts().unhandled == 0);
    CHECK(s.worker.counts().handled == 0);
    s.run_for(2000);
    CHECK(s.worker.counts().unhandled == 0x10010);
}

TEST_CASE("G17 no rollback without a unit, and the first one in the tick that ends it") {
    in_units s(1);
    s.what.on_error = pj::error_policy::retry_then_skip(2);
    s.db.commits.then(status::failed, 3);
    for (int i = 0; i < 10 && s.db.trace.find('c') == std::string::npos; ++i) s.tick();
    CHECK(s.db.trace == "lbscr");
    s.run_for(3000);
    const auto count = [&](char what) {
        return std::count(s.db.trace.begin(), s.db.trace.end(), what);
    };
    CHECK(count('b') == count('r') + 1);        // the last one is committed
    CHECK(s.worker.counts().skipped == 1);
}

TEST_CASE("G11 in units a handler that is to be skipped is, however many letters the event has") {
    crowd<5> s;
    unit_store db;
    s.what.checkpoints = db;
    s.what.transaction = db;
    s.what.dead_letters = s.sink;
    s.what.on_error = pj::error_policy::custom([](const pj::failure& f) {
        return f.code == 1 ? pj::decision::dead_letter() : pj::decision::skip();
    });
    for (size_t i = 0; i < 5; ++i) s.hands[i]->says.always(0, pj::reject(i < 4 ? 1 : 2));
    s.log.append(1, "Alpha");
    REQUIRE(s.start() == status::ok);
    s.run_for(1000);
    CHECK(s.worker.state() == run_state::idle);
    CHECK(s.sink.keys() == "h0@0 h1@0 h2@0 h3@0");
    CHECK(db.durable.at == 0);
    CHECK(s.watch.count(pj::notice_kind::event_skipped, status::handler_failed) == 1);
}

TEST_CASE("G16 an event that nobody handles stays that, though its commit had failed once") {
    in_units s(0);
    s.log.append(1, "Gamma");
    s.what.on_error = pj::error_policy::retry(2);
    s.what.pending_ms = 50;
    s.db.commits.then(status::failed).then(status::pending);
    for (int i = 0; i < 50 && !s.db.commits.is_empty(); ++i) s.tick_after(s.last.wait_ms);
    REQUIRE(s.last.wait_ms == 50);
    CHECK(s.worker.counts().unhandled == 0);
    CHECK(s.worker.counts().handled == 0);
    s.run_for(2000);
    CHECK(s.worker.counts().unhandled == 1);
    CHECK(s.worker.counts().handled == 0);
    CHECK(s.worker.counts().scanned == 1);
}

TEST_CASE("G21 a commit() in doubt: what somebody else has saved is a conflict, nothing is held") {
    for (const bool is_partial : {false, true}) {
        CAPTURE(is_partial);
        in_units s(1);
        s.log.add(4, "Beta");
        s.what.accept_partial_records = is_partial;
        s.db.positions_only = is_partial;
        s.what.save.every_events = 1;
        s.run_for(100);
        REQUIRE(s.db.durable.at == 4);
        s.log.add(9, "Beta");
        s.db.commits.then(status::failed);
        s.watch.also = [&](const pj::notice& n) {
            if (n.kind != pj::notice_kind::store_failed) return;
            if (is_partial) s.db.durable.at = 2;
            else s.db.durable.revision += 3;
        };
        s.run_for(2000);
        CHECK(s.worker.state() == run_state::halted);
        CHECK(s.worker.reason() == status::checkpoint_conflict);
        CHECK(s.worker.skip_failed(9) == status::not_halted);
    }
}

TEST_CASE("G14 G32 a commit of nothing but an event's name that fails is waited for") {
    in_units s(3);
    const pj::crash_guard guard(3);
    REQUIRE(s.stop() == status::ok);
    s.what.crashes = &guard;
    REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
    for (int i = 0; i < 20 && s.db.durable.at != 0; ++i) s.tick();
    REQUIRE(s.db.durable.suspect == 1);
    s.log.remove(1);                    // so the next name is all that a unit holds
    s.db.commits.then(status::failed);
    s.until_waiting();
    REQUIRE(s.db.commits.is_empty());
    CHECK(s.last.wait_ms == 100);
    CHECK(s.last.reason == status::unit_of_work_failed);
    s.run_for(5000);
    CHECK(s.db.durable.at == 2);
    CHECK(s.w.called() == "a0 a2");
}

TEST_CASE("G9 in units a letter that is pending when the engine pauses costs nobody an attempt") {
    in_units s(0);
    s.log.append(1, "Alpha");
    s.what.dead_letters = s.sink;
    s.what.on_error = pj::error_policy::retry_then_dead_letter(2);
    s.a.says.always(0, pj::reject());
    s.b.says.at(0, pj::fail());
    s.sink.puts.then(status::ok).then(status::pending);
    for (int i = 0; i < 30 && !s.sink.puts.is_empty(); ++i) s.tick_after(s.last.wait_ms);
    REQUIRE(s.last.reason == status::dead_letter_failed);
    REQUIRE(s.db.is_open);
    s.worker.pause();
    s.tick();
    s.sink.forget_promise();
    s.worker.resume();
    s.run_for(3000);
    CHECK(s.w.calls.back().who == "c");
    std::vector<uint32_t> attempts;
    for (const call& one : s.w.calls)
        if (one.who == "b") attempts.push_back(one.attempt);
    CHECK(attempts == std::vector<uint32_t>{1, 2});
    CHECK(s.db.durable.at == 0);
}

TEST_CASE("G18 G27 a failure after a save that had failed: the others are done again at once") {
    in_units s(2);
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.at(1, pj::handled).at(1, pj::fail());
    s.db.saves.then(status::failed);
    s.until_waiting();
    REQUIRE(s.last.reason == status::checkpoint_failed);
    CHECK(s.tick_after(s.last.wait_ms).wait_ms == 0);
    CHECK(s.w.called() == "a0 a1 a0 a1");
    s.check_end(2);
}

TEST_CASE("G27 wake() does not end the wait after a failed save, though the rollback was pending") {
    for (const bool is_alone : {false, true}) {
        CAPTURE(is_alone);
        in_units s(1);
        s.what.on_error = pj::error_policy::retry(3);
        if (is_alone) {                 // it had failed before, and is done now
            s.a.says.at(0, pj::fail());
            s.db.rollbacks.then(status::ok);
            s.until_waiting();
            s.now_ms += s.last.wait_ms;
        }
        s.db.saves.then(status::failed);
        s.db.rollbacks.then(status::pending);
        s.until_waiting();
        CHECK(s.last.wait_ms == 10);
        s.tick_after(10);
        CHECK(s.last.wait_ms == 90);
        if (is_alone) CHECK(s.last.reason == status::unit_of_work_failed);
        s.worker.wake();
        const size_t calls = s.db.trace.size();
        s.tick();
        CHECK(s.last.wait_ms == 90);
        CHECK(s.db.trace.size() == calls);
        s.check_end(1);
    }
}

TEST_CASE("G28 stop() while a rollback is pending: asked once a wait, and no halt comes after it") {
    in_units s(1);
    s.what.on_error = pj::error_policy::halt();
    s.a.says.always(0, pj::fail());
    s.db.rollbacks.then(status::pending);
    s.until_waiting();
    REQUIRE(s.worker.running());
    CHECK(s.stop() == status::ok);
    CHECK(s.worker.state() == run_state::stopped);

    in_units held(1);
    held.a.says.always(0, pj::pending);
    held.until_waiting();
    held.db.rollbacks.then(status::pending, 2);
    held.db.trace.clear();
    held.worker.stop();
    held.tick();
    CHECK(held.db.trace == "r");
    held.tick_after(held.last.wait_ms);
    CHECK(held.db.trace == "rr");
    CHECK(held.stop() == status::ok);
}

namespace {

/// Under a lease of 3000 ms, less 300; what takes time takes all of it.
struct leased_units : setup {
    struct slow_store : unit_store {
        std::function<void()> while_saving;
        status save(pj::text key, const pj::checkpoint& next) {
            if (while_saving) while_saving();
            return unit_store::save(key, next);
        }
    };
    slow_store db;
    kit::manual_clock clock{1000};
    kit::memory_leases leases{clock};
    pj::lease lease{leases};
    std::function<void()> while_reading;

    leased_units() {
        lease.ttl_ms = 3000;
        lease.margin_ms = 300;
        what.log = *this;
        what.checkpoints = db;
        what.transaction = db;
        what.lease = &lease;
        what.clock = clock;
        REQUIRE(worker.start() == status::ok);
        for (int i = 0; i < 20 && last.wait_ms == 0; ++i) tick_now();
        REQUIRE(worker.has_lease());
        log.append(3, "Beta");
        db.trace.clear();
    }
    status read(pj::position after, pj::visitor& visit) {
        const status s = log.read(after, visit);
        if (while_reading) while_reading();
        return s;
    }
    void tick_now() { last = worker.tick(clock()); }
    void pass_lease() { clock.advance(2700); }
};

} // namespace

TEST_CASE("G20 G17 when the lease is over no unit is begun, and none is saved or committed") {
    leased_units look;
    look.while_reading = [&] { look.pass_lease(); };
    look.worker.wake();
    const uint32_t reads = look.log.read_count;
    look.tick_now();
    CHECK(look.log.read_count == reads + 1);
    CHECK(look.db.trace.empty());

    leased_units handled;
    handled.a.says.before = [&] {
        if (handled.w.calls.back().at == 1) handled.pass_lease();
    };
    handled.worker.wake();
    handled.tick_now();
    CHECK(handled.w.called() == "a0 a1");
    handled.tick_now();
    CHECK(handled.db.trace.substr(0, 2) == "br");
    CHECK_FALSE(handled.db.is_open);

    leased_units saved;
    saved.db.while_saving = [&] { saved.pass_lease(); };
    saved.worker.wake();
    saved.tick_now();
    CHECK(saved.db.trace == "bsr");     // at once: whoever has the lease next finds none open
}

TEST_CASE("G6 G17 a look at the log that halts the engine begins no unit") {
    in_units s(2);
    s.run_for(100);
    REQUIRE(s.db.durable.at == 1);
    s.db.trace.clear();
    s.log.ignores_after = true;
    s.worker.wake();
    s.run_for(100);
    CHECK(s.worker.reason() == status::store_unordered);
    CHECK(s.db.trace.empty());
}

TEST_CASE("G31 skip_failed() of an event that was rolled back at the end: it is saved") {
    in_units s(1);
    s.db.commits.then(status::failed);
    s.log.add(0, "Beta");               // out of order, in the unit that cannot be committed
    s.run_for(1000);
    REQUIRE(s.worker.reason() == status::store_unordered);
    s.log.rows.pop_back();
    s.log.add(1, "Beta");
    REQUIRE(s.worker.skip_failed(0) == status::ok);
    s.run_for(3000);
    CHECK(s.db.durable.at == 1);
    CHECK(s.worker.counts().skipped == 1);
    CHECK(s.worker.counts().handled == 1);
}

TEST_CASE("G9 G18 an event that is left out, and cannot be committed, has its attempts") {
    in_units s(1);
    s.what.filter = [](const pj::stored_event&) { return false; };
    s.what.on_error = pj::error_policy::retry_then_skip(2);
    s.db.commits.then(status::failed, 20);
    s.run_for(5000);
    CHECK(s.worker.counts().failed_calls == 3);
    CHECK(s.worker.last_failure().attempts == 3);
    CHECK(s.worker.last_failure().code == pj::code_uncommitted);
}

TEST_CASE("G9 G27 a sink: a retry after a save that failed waits its time after a pending rollback") {
    setup s;
    unit_store db;
    s.what.checkpoints = db;
    s.what.transaction = db;
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.at(0, pj::handled).at(0, pj::fail());
    db.saves.then(status::failed);
    db.rollbacks.then(status::ok).then(status::pending);
    pj::event_sink sink{s.what};
    REQUIRE(sink.start() == status::ok);
    s.w.feeding = true;
    uint32_t now_ms = 0;
    static_cast<void>(sink.tick(now_ms));
    pj::stored_event one;
    one.at = 0;
    one.type = "Beta";
    pj::receive_result r = sink.receive(one, now_ms);
    CHECK(r.reason == status::checkpoint_failed);
    CHECK(r.wait_ms == 100);
    r = sink.receive(one, now_ms += 100);
    CHECK(r.wait_ms == 10);             // the rollback
    const pj::tick_result after = sink.tick(now_ms += 10);
    CHECK(after.wait_ms == 90);
    CHECK(after.reason == status::handler_failed);
    CHECK(sink.receive(one, now_ms += 90).answer == pj::receipt::ack);
}

TEST_CASE("G21 G31 skip_failed() after a conflict is refused: the record is somebody else's") {
    in_units s(2);
    s.what.accept_partial_records = true;
    s.db.positions_only = true;         // so it does not compare revisions, either
    s.what.on_error = pj::error_policy::retry(3);
    s.what.save.every_events = 1;
    s.a.says.at(1, pj::fail());
    s.until_waiting();
    REQUIRE(s.db.durable.at == 0);
    s.db.commits.then(status::failed);
    s.watch.also = [&](const pj::notice& n) {
        if (n.kind == pj::notice_kind::store_failed) s.db.durable.at = 7;
    };
    s.run_for(2000);
    REQUIRE(s.worker.reason() == status::checkpoint_conflict);
    CHECK(s.worker.skip_failed(1) == status::not_halted);
    s.run_for(2000);
    CHECK(s.db.durable.at == 7);
}
