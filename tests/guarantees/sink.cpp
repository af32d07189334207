// The broker's side: what event_sink answers, and that no message is lost or done twice past the
// checkpoint, whatever the broker, the stores and the power do.
#include "support/device.hpp"
#include "support/setup.hpp"

#include <functional>
#include <memory>
#include <set>

namespace pj = projections;
using pj::receipt;

namespace {

struct fed : support::setup {
    pj::sink_options options;
    std::unique_ptr<pj::event_sink> fed_by;
    pj::receive_result last_answer{};

    explicit fed(bool loads = true) {
        what.save = {1, 1000, true};
        what.poll_ms = 700;
        what.log = {};
        if (loads) open();
    }
    pj::event_sink& open() {
        fed_by.reset(new pj::event_sink(what, options));
        REQUIRE(fed_by->start() == pj::status::ok);
        static_cast<void>(fed_by->tick(now_ms));
        return *fed_by;
    }
    receipt offer(pj::position at, const char* type = "Alpha", bool again = false) {
        support::row row{at, type, std::string(4, 'x')};
        const support::shown_rows memory(&row, 1);
        w.feeding = true;
        last_answer = fed_by->receive(memory.events()[0], now_ms, again);
        w.feeding = false;
        const pj::counters n = fed_by->counts();
        CHECK(n.scanned == n.handled + n.unhandled + n.unknown + n.filtered + n.skipped +
                               n.lettered + n.vanished + n.duplicate);
        return last_answer.answer;
    }
    pj::tick_result sink_tick(uint32_t after_ms = 0) {
        now_ms += after_ms;
        return fed_by->tick(now_ms);
    }
};

} // namespace

TEST_CASE("G1 a message is acknowledged when it is done and saved, later when only done") {
    fed s(false);
    s.what.save = {3, 1000, true};
    s.open();
    CHECK(s.offer(0) == receipt::later);
    CHECK(s.offer(5) == receipt::later);
    CHECK(s.stored().at == pj::before_first);
    CHECK(s.offer(6) == receipt::ack);
    CHECK(s.stored().at == 6);
    CHECK(s.fed_by->checkpointed() == 6);
    CHECK(s.w.called() == "a0 b0 c0 a5 b5 c5 a6 b6 c6");
    CHECK(s.offer(9) == receipt::later);
    CHECK(s.sink_tick().wait_ms == 1000); // a message came since the last tick: not idle yet
    CHECK(s.stored().at == 6);
    static_cast<void>(s.sink_tick()); // nothing since: idle, saved
    CHECK(s.stored().at == 9);
}

TEST_CASE("G27 an idle sink waits for ever, an unsaved one no longer than its save is due") {
    fed s(false);
    s.what.save = {100, 400, false};
    s.open();
    CHECK(s.sink_tick().wait_ms == pj::never);
    CHECK(s.fed_by->state() == pj::run_state::idle);
    CHECK(s.offer(1) == receipt::later);
    CHECK(s.sink_tick().wait_ms == 400);
    CHECK(s.sink_tick(399).wait_ms == 1);
    CHECK(s.stored().at == pj::before_first);
    CHECK(s.sink_tick(1).wait_ms == pj::never);
    CHECK(s.stored().at == 1);
}

TEST_CASE("G3 G16 unhandled, unknown and filtered messages are done") {
    fed s(false);
    s.what.filter = {[](void*, const pj::stored_event& e) { return e.at != 2; }, nullptr};
    s.open();
    CHECK(s.offer(0, "Gamma") == receipt::ack);
    CHECK(s.offer(1, "Nobody") == receipt::ack);
    CHECK(s.offer(2) == receipt::ack);
    CHECK(s.stored().at == 2);
    const pj::counters n = s.fed_by->counts();
    CHECK(n.unhandled == 1);
    CHECK(n.unknown == 1);
    CHECK(n.filtered == 1);
    CHECK(s.w.calls.empty());
}

TEST_CASE("defect 13: offsets tell duplicates, in a run and after a restart") {
    fed s;
    CHECK(s.offer(3) == receipt::ack);
    CHECK(s.offer(4) == receipt::ack);
    CHECK(s.offer(3) == receipt::ack); // offered before in this run
    CHECK(s.offer(4, "Alpha", true) == receipt::ack);
    CHECK(s.fed_by->counts().duplicate == 2);
    CHECK(s.w.called() == "a3 b3 c3 a4 b4 c4");
    s.open();
    CHECK(s.offer(4, "Alpha", true) == receipt::ack); // the broker says so
    CHECK(s.offer(3, "Alpha", true) == receipt::ack);
    CHECK(s.offer(7) == receipt::ack);
    CHECK(s.w.called() == "a3 b3 c3 a4 b4 c4 a7 b7 c7");
}

TEST_CASE("G5 a source that started over is not taken for duplicates") {
    fed s;
    CHECK(s.offer(50) == receipt::ack);
    s.open();
    for (int i = 0; i < 3; ++i) {
        CHECK(s.offer(0) == receipt::hold);
        CHECK(s.last_answer.reason == pj::status::log_replaced);
        CHECK(s.last_answer.wait_ms == 700);
    }
    CHECK(s.stored().at == 50);
    s.fed_by->accept_up_to(50); // the host knows that they are
    CHECK(s.offer(0) == receipt::ack);
    CHECK(s.fed_by->counts().duplicate == 1);
    CHECK(s.offer(51) == receipt::ack);
    CHECK(s.w.called() == "a50 b50 c50 a51 b51 c51");
}

TEST_CASE("G5 G6 a jump back below what this run has seen is another source, too") {
    fed s;
    s.store.put("p", 100, 1);
    s.open();
    CHECK(s.offer(101) == receipt::ack);
    CHECK(s.offer(5) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::log_replaced);
}

TEST_CASE("G5 the log's identity tells duplicates from another log") {
    fed s(false);
    s.what.log = s.log;
    s.log.log_id = 77;
    s.log.newest = 100;
    s.open();
    CHECK(s.offer(50) == receipt::ack);
    CHECK(s.stored().log_id == 77);
    s.open();
    CHECK(s.offer(20) == receipt::ack); // the same log: a duplicate
    CHECK(s.fed_by->counts().duplicate == 1);
    s.log.log_id = 78;
    s.open();
    CHECK(s.offer(20) == receipt::hold);
    CHECK(s.fed_by->state() == pj::run_state::halted);
    CHECK(s.fed_by->reason() == pj::status::log_replaced);
    CHECK(s.w.called() == "a50 b50 c50");
}

TEST_CASE("G7 G9 G10 while one message is held, any other is held untried") {
    fed s(false);
    s.what.on_error = pj::error_policy::retry(2);
    s.open();
    s.b.says.at(3, pj::fail(9), 2);
    CHECK(s.offer(3) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::handler_failed);
    CHECK(s.last_answer.wait_ms == 100);
    CHECK(s.offer(4) == receipt::hold);
    s.now_ms += 100;
    CHECK(s.offer(4) == receipt::hold); // due, but not the one
    CHECK(s.last_answer.reason == pj::status::pending);
    CHECK(s.last_answer.wait_ms != 0);
    CHECK(s.offer(3) == receipt::hold); // the second attempt fails, too
    CHECK(s.last_answer.wait_ms == 200);
    CHECK(s.sink_tick(200).wait_ms == pj::never); // it is the host's turn
    CHECK(s.offer(3) == receipt::ack);
    CHECK(s.offer(4) == receipt::ack);
    CHECK(s.w.called() == "a3 b3 c3 b3 b3 a4 b4 c4"); // G10: only who has failed
    CHECK(s.w.calls[4].attempt == 3);                 // G9
}

TEST_CASE("G7 G15 a duplicate is acknowledged while another message is held") {
    fed s(false);
    s.what.on_error = pj::error_policy::retry(2);
    s.open();
    CHECK(s.offer(2) == receipt::ack);
    s.b.says.at(3, pj::fail(9), 1);
    CHECK(s.offer(3) == receipt::hold);
    s.now_ms += 100;
    // The broker has crashed, forgotten the acknowledgement, and hands out one message at a time.
    CHECK(s.offer(2, "Alpha", true) == receipt::ack);
    CHECK(s.offer(1, "Alpha", true) == receipt::ack);
    CHECK(s.offer(4) == receipt::hold);
    CHECK(s.fed_by->counts().duplicate == 2);
    CHECK(s.offer(3) == receipt::ack);
    CHECK(s.offer(4) == receipt::ack);
    CHECK(s.w.called() == "a2 b2 c2 a3 b3 c3 b3 a4 b4 c4");
}

TEST_CASE("G7 G15 a source that goes back below a message that is held is followed") {
    for (const bool has_failed : {false, true}) {
        fed s(false);
        s.what.save = {100, 1000, false};
        s.what.on_error = pj::error_policy::retry(2);
        if (has_failed) s.b.says.at(6, pj::fail(9), 1);
        else s.b.says.at(6, pj::pending, 1);
        s.open();
        CHECK(s.offer(4) == receipt::later);
        CHECK(s.offer(5) == receipt::later);
        s.store.saves.then(pj::status::conflict);         // by mistake, as after a switch of databases
        static_cast<void>(s.sink_tick(1000));
        static_cast<void>(s.sink_tick());
        REQUIRE(s.fed_by->reason() == pj::status::checkpoint_conflict);
        REQUIRE(s.fed_by->retry_failed() == pj::status::ok);    // from the record: nothing is saved
        CHECK(s.offer(6) == receipt::hold);         // it was in hand; those before it come again
        s.now_ms += s.last_answer.wait_ms;
        for (pj::position at = 4; at <= 6; ++at) {
            for (int i = 0; i < 3 && s.offer(at, "Alpha", true) != receipt::later; ++i)
                s.now_ms += s.last_answer.wait_ms;
            CHECK(s.fed_by->scanned() == at);
        }
        CHECK(s.w.called() == "a4 b4 c4 a5 b5 c5 a6 b6 c6 a4 b4 c4 a5 b5 c5 a6 b6 c6");
    }
}

TEST_CASE("G7 without offsets, too") {
    fed s(false);
    s.what.on_error = pj::error_policy::retry(1);
    s.open();
    s.a.says.at(0, pj::fail());
    CHECK(s.offer(pj::before_first, "Alpha") == receipt::hold);
    s.now_ms += 100;
    CHECK(s.offer(pj::before_first, "Beta") == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::pending);
    CHECK(s.w.times("a", 0) == 1);
    CHECK(s.offer(pj::before_first, "Alpha") == receipt::ack);
    CHECK(s.offer(pj::before_first, "Beta") == receipt::ack);
}

TEST_CASE("G15 a pending message is resumed, after pending_ms or wake()") {
    fed s;
    s.a.says.at(0, pj::pending).at(0, pj::pending_for(70));
    CHECK(s.offer(0) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::pending);
    CHECK(s.last_answer.wait_ms == 10);
    s.now_ms += 10;
    CHECK(s.offer(0) == receipt::hold);
    CHECK(s.last_answer.wait_ms == 70);
    CHECK(s.offer(0) == receipt::hold); // too early: not called
    s.a.last_waker.wake();
    CHECK(s.fed_by->woken());
    CHECK(s.offer(0) == receipt::ack);
    CHECK(s.w.calls.back().resumed);
    CHECK(s.w.calls.back().attempt == 1);
    CHECK(s.w.times("b", 0) == 1);
}

TEST_CASE("G11 G12 every policy ends a failing message once") {
    {
        fed s(false);
        s.letters();
        s.open();
        s.a.says.always(1, pj::reject(4));
        CHECK(s.offer(1) == receipt::ack);
        CHECK(s.sink.letters.size() == 1);
        CHECK(s.fed_by->counts().lettered == 1);
    }
    {
        fed s(false); // a sink of letters that fails holds the message
        s.letters();
        s.sink.puts.then(pj::status::failed, 2);
        s.open();
        s.a.says.always(1, pj::reject(4));
        CHECK(s.offer(1) == receipt::hold);
        CHECK(s.last_answer.reason == pj::status::dead_letter_failed);
        s.now_ms += s.last_answer.wait_ms;
        CHECK(s.offer(1) == receipt::hold);
        s.now_ms += s.last_answer.wait_ms;
        CHECK(s.offer(1) == receipt::ack);
        CHECK(s.w.times("a", 1) == 1);
        CHECK(s.sink.letters.size() == 1);
    }
    {
        fed s(false);
        s.what.on_error = pj::error_policy::retry(0);
        s.open();
        s.a.says.at(1, pj::reject(4));
        CHECK(s.offer(1) == receipt::hold);
        CHECK(s.fed_by->state() == pj::run_state::halted);
        CHECK(s.offer(1) == receipt::hold);
        CHECK(s.last_answer.reason == pj::status::handler_failed);
        REQUIRE(s.fed_by->retry_failed() == pj::status::ok);
        CHECK(s.offer(1) == receipt::ack);
    }
    {
        fed s(false);
        s.what.on_error = pj::error_policy::retry(0);
        s.open();
        s.a.says.always(1, pj::reject(4));
        CHECK(s.offer(1) == receipt::hold);
        REQUIRE(s.fed_by->skip_failed(1) == pj::status::ok);
        CHECK(s.offer(1) == receipt::ack); // done: a duplicate now
        CHECK(s.fed_by->counts().skipped == 1);
        CHECK(s.offer(2) == receipt::ack);
    }
}

TEST_CASE("G12 a letter without a sink is the broker's, and not passed before it was told") {
    fed s(false);
    s.what.on_error = pj::error_policy::dead_letter();
    s.open();
    s.b.says.always(4, pj::fail(1));
    CHECK(s.offer(3) == receipt::ack);
    CHECK(s.offer(4) == receipt::reject);
    CHECK(s.stored().at == 3); // a crash here: it is delivered again
    CHECK(s.w.times("c", 4) == 1);
    CHECK(s.offer(5) == receipt::ack);
    CHECK(s.stored().at == 5);
    CHECK(s.fed_by->counts().lettered == 1);
}

TEST_CASE("G12 a letter that a custom policy asks for is rejected where there is no sink of letters") {
    fed s(false);
    s.what.on_error = pj::error_policy::custom(
        [](const pj::failure&) { return pj::decision::dead_letter(); });
    s.open();
    s.a.says.always(4, pj::fail(1));
    CHECK(s.offer(4) == receipt::reject);
    CHECK(s.offer(5) == receipt::ack);
}

TEST_CASE("G12 the rejection waits for a handler that is pending") {
    fed s(false);
    s.what.on_error = pj::error_policy::dead_letter();
    s.open();
    s.a.says.always(4, pj::fail(1));
    s.b.says.at(4, pj::pending);
    CHECK(s.offer(4) == receipt::hold);
    s.now_ms += 10;
    CHECK(s.offer(4) == receipt::reject);
    CHECK(s.w.times("a", 4) == 1);
    CHECK(s.offer(5) == receipt::ack);
}

TEST_CASE("G1 without offsets a message is acknowledged at once and nothing is saved") {
    fed s;
    for (int i = 0; i < 50; ++i) CHECK(s.offer(pj::before_first) == receipt::ack);
    static_cast<void>(s.sink_tick(5000));
    CHECK(s.store.saved.empty());
    CHECK(s.fed_by->counts().handled == 50);
    s.fed_by->stop();
    static_cast<void>(s.sink_tick());
    CHECK(s.fed_by->reason() == pj::status::ok);
    CHECK(s.store.saved.empty());
    fed counting(false);
    counting.options.count_messages = true;
    counting.open();
    for (int i = 0; i < 5; ++i) CHECK(counting.offer(pj::before_first) == receipt::ack);
    CHECK(counting.stored().at == 4);
    counting.open();
    CHECK(counting.offer(pj::before_first) == receipt::ack);
    CHECK(counting.stored().at == 5);
}

TEST_CASE("G14 a save that fails answers later, and is tried again") {
    fed s;
    s.store.saves.then(pj::status::failed, 2);
    CHECK(s.offer(1) == receipt::later);
    CHECK(s.offer(2) == receipt::later); // work goes on meanwhile
    CHECK(s.sink_tick(100).reason == pj::status::checkpoint_failed);
    static_cast<void>(s.sink_tick(200));
    static_cast<void>(s.sink_tick(200));
    CHECK(s.stored().at == 2);
    CHECK(s.offer(2) == receipt::ack);
}

TEST_CASE("G14 with unsaved_max messages unsaved the next is held") {
    fed s(false);
    s.what.unsaved_max = 2;
    s.store.saves.always(pj::status::failed);
    s.open();
    CHECK(s.offer(1) == receipt::later);
    CHECK(s.offer(2) == receipt::later);
    CHECK(s.offer(3) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::checkpoint_failed);
    CHECK(s.last_answer.wait_ms != 0);
    CHECK(s.last_answer.wait_ms != pj::never);
    s.store.saves.clear();
    for (int i = 0; i < 20 && s.offer(3) == receipt::hold; ++i) s.now_ms += s.last_answer.wait_ms;
    CHECK(s.w.times("a", 3) == 1);
}

TEST_CASE("G28 stop() saves, unsubscribes, and ends") {
    struct client {
        std::vector<std::string> calls;
        std::deque<pj::status> answers;
        pj::status answer() {
            if (answers.empty()) return pj::status::ok;
            const pj::status s = answers.front();
            answers.pop_front();
            return s;
        }
        pj::status subscribe(pj::text topic, pj::text queue) {
            calls.push_back("+" + std::string(topic.data(), topic.size()) + "/" +
                            std::string(queue.data(), queue.size()));
            return answer();
        }
        pj::status unsubscribe(pj::text topic, pj::text) {
            calls.push_back("-" + std::string(topic.data(), topic.size()));
            return answer();
        }
    } broker;
    fed s(false);
    s.what.save = {100, 1000, false};
    s.options.client = broker;
    s.options.topic = "orders";
    s.options.queue = "q";
    broker.answers = {pj::status::pending, pj::status::failed, pj::status::ok, pj::status::pending};
    s.open();
    CHECK(broker.calls.size() == 1);
    CHECK(s.sink_tick(10).wait_ms == 100);
    CHECK(s.sink_tick(100).wait_ms == pj::never);
    CHECK(broker.calls == std::vector<std::string>{"+orders/q", "+orders/q", "+orders/q"});
    CHECK(s.offer(8) == receipt::later);
    s.fed_by->stop();
    CHECK(s.sink_tick().wait_ms == 10); // unsubscribing is pending; nothing is saved yet
    CHECK(s.offer(9) == receipt::hold);
    CHECK(s.stored().at == pj::before_first);
    static_cast<void>(s.sink_tick(10));
    CHECK_FALSE(s.fed_by->running());
    CHECK(s.fed_by->reason() == pj::status::ok);
    CHECK(s.stored().at == 8);
    CHECK(broker.calls.size() == 5);
    CHECK(s.offer(9) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::stopped);
    REQUIRE(s.fed_by->start() == pj::status::ok); // and again
    static_cast<void>(s.sink_tick());
    CHECK(broker.calls.back() == "+orders/q");
    CHECK(s.offer(9) == receipt::later);
}

TEST_CASE("G28 a stop whose save and client fail ends within stop_ms and says so") {
    fed s(false);
    s.what.stop_ms = 500;
    s.what.save = {100, 1000, false};
    s.open();
    CHECK(s.offer(1) == receipt::later);
    s.store.saves.always(pj::status::failed);
    s.fed_by->stop();
    for (uint32_t left = 501; s.fed_by->running() && left != 0;) {
        const uint32_t wait = std::min(s.fed_by->tick(s.now_ms).wait_ms, left);
        s.now_ms += wait;
        left -= wait;
    }
    static_cast<void>(s.sink_tick());
    CHECK_FALSE(s.fed_by->running());
    CHECK(s.fed_by->reason() == pj::status::checkpoint_failed);
}

TEST_CASE(
    "messages that carry their type inside are opened; what cannot be read goes to the policy") {
    struct envelope {
        static bool open(pj::stored_event& m) {
            const pj::text all = m.payload.text();
            if (all.size() == 0 || *all.data() == '?') return false;
#if PROJECTIONS_EXCEPTIONS
            if (*all.data() == '!') throw 1;
#else
            if (*all.data() == '!') return false;
#endif
            m.type = pj::text("Alpha");
            m.payload = pj::bytes("abcd", 4);
            return true;
        }
    };
    fed s(false);
    s.letters();
    s.options.open = &envelope::open;
    s.open();
    s.w.feeding = true;
    pj::stored_event m;
    m.at = 1;
    m.payload = pj::bytes("ok", 2);
    CHECK(s.fed_by->receive(m, s.now_ms).answer == receipt::ack);
    CHECK(s.w.called() == "a1 b1 c1");
    m.at = 2;
    m.payload = pj::bytes("?", 1);
    CHECK(s.fed_by->receive(m, s.now_ms).answer == receipt::ack);
    m.at = 3;
    m.payload = pj::bytes("!", 1);
    CHECK(s.fed_by->receive(m, s.now_ms).answer == receipt::ack);
    CHECK(s.sink.letters.size() == 2);
    CHECK(s.fed_by->counts().lettered == 2);
    CHECK(s.fed_by->last_failure().kind == pj::failure_kind::decode);
    CHECK(s.w.calls.size() == 3);
}

TEST_CASE("unknown messages fail where that is wanted") {
    fed s(false);
    s.what.on_unknown = pj::unknown_types::fail;
    s.what.on_error = pj::error_policy::dead_letter();
    s.open();
    CHECK(s.offer(1, "Nobody") == receipt::reject);
}

TEST_CASE("G26 receive() from inside a callback does nothing") {
    fed s(false);
    pj::receive_result inside{};
    s.a.says.before = [&] {
        pj::stored_event m;
        m.at = 9;
        m.type = pj::text("Alpha");
        inside = s.fed_by->receive(m, s.now_ms);
    };
    s.open();
    CHECK(s.offer(1) == receipt::ack);
    CHECK(inside.answer == receipt::hold);
    CHECK(inside.reason == pj::status::reentered);
    CHECK(s.w.times("a", 9) == 0);
    CHECK(s.fed_by->counts().scanned == 1);
}

TEST_CASE("G26 an observer that calls back does not recurse when a source has started over") {
    fed s(false);
    s.store.put("p", 100, 1);
    s.open();
    std::vector<pj::status> inside;
    s.watch.also = [&](const pj::notice&) {
        pj::stored_event m;
        m.at = 5;
        if (inside.size() < 9) inside.push_back(s.fed_by->receive(m, s.now_ms).reason);
    };
    CHECK(s.offer(5) == receipt::hold);
    CHECK(inside == std::vector<pj::status>{pj::status::reentered});
}

TEST_CASE("G29 a sink needs no log, but a right description") {
    fed s(false);
    s.what.volatile_model = true;
    pj::event_sink no_log{s.what};
    CHECK(no_log.start() == pj::status::no_read);
    s.what.volatile_model = false;
    s.what.name = "";
    pj::event_sink no_name{s.what};
    CHECK(no_name.start() == pj::status::no_name);
    pj::stored_event m;
    CHECK(no_name.receive(m, 0).answer == receipt::hold);
    CHECK(s.w.trace.empty());
}

TEST_CASE("G30 a clock that wraps changes nothing for a sink") {
    fed s(false);
    s.now_ms = 0xFFFFFFF0u;
    s.what.on_error = pj::error_policy::retry(1);
    s.open();
    s.a.says.at(1, pj::fail());
    CHECK(s.offer(1) == receipt::hold);
    CHECK(s.last_answer.wait_ms == 100);
    s.now_ms += 99;
    CHECK(s.offer(1) == receipt::hold);
    CHECK(s.last_answer.wait_ms == 1);
    s.now_ms += 1;
    CHECK(s.offer(1) == receipt::ack);
}

TEST_CASE("G31 reset of a sink lets every message in again") {
    fed s;
    CHECK(s.offer(5) == receipt::ack);
    CHECK(s.fed_by->set_position(4, 0) == pj::status::conflict);
    CHECK(s.fed_by->reset() == pj::status::ok);
    CHECK(s.offer(2) == receipt::ack);
    CHECK(s.w.times("a", 2) == 1);
    CHECK(s.stored().at == 2);
}

TEST_CASE("G1 paused: messages are held until resume()") {
    fed s;
    CHECK(s.offer(1) == receipt::ack);
    s.fed_by->pause();
    CHECK(s.offer(2) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::paused);
    CHECK(s.last_answer.wait_ms == pj::never);
    s.fed_by->resume();
    CHECK(s.offer(2) == receipt::ack);
}

TEST_CASE("G4 a worker catches up and hands over without a gap or a repeat") {
    support::setup s;
    s.what.save = {4, 1000, true};
    s.log.append(23, "Alpha", "xxxx");
    REQUIRE(s.start() == pj::status::ok);
    s.drain();
    CHECK(s.worker.caught_up());
    CHECK(s.stop() == pj::status::ok);
    s.log.append(7, "Alpha", "xxxx");
    pj::projection described = s.what;
    described.log = {};
    pj::event_sink sink{described};
    REQUIRE(sink.start() == pj::status::ok);
    sink.accept_up_to(s.worker.checkpointed());
    s.w.feeding = true;
    for (const support::row& row : s.log.rows) { // the broker has all of them
        const support::shown_rows memory(&row, 1);
        for (;;) {
            const pj::receive_result r = sink.receive(memory.events()[0], s.now_ms);
            if (r.answer != receipt::hold) break;
            s.now_ms += r.wait_ms;
        }
    }
    for (pj::position at = 0; at < 30; ++at) CHECK(s.w.times("b", at) == 1);
    CHECK(sink.counts().duplicate == 23);
}

namespace {

/// A broker of numbered messages with redelivery: what is not acknowledged comes again after every
/// restart, from the oldest on. Acknowledging one acknowledges all before it.
struct redelivering_broker {
    pj::position acked = pj::before_first;
    std::set<pj::position> refused;
};

} // namespace

TEST_CASE("G1 G2 G12 no message is lost, whatever callback the power fails at") {
    for (uint32_t every = 1; every <= 3; ++every) {
        for (uint32_t cut = 1; cut < 80; ++cut) {
            CAPTURE(every);
            CAPTURE(cut);
            support::device d;
            d.append(12);
            d.what.log = {};
            d.what.save = {every, 1000, true};
            d.what.on_error = pj::error_policy::dead_letter();
            d.answers[14] = {pj::reject(1)};
            redelivering_broker b;
            for (int boots = 0; boots < 3; ++boots) {
                d.boot();
                if (boots == 0) {
                    d.dies_at = cut;
                    d.dies_after = cut % 2 == 0;
                }
                pj::event_sink sink{d.what};
                REQUIRE(sink.start() == pj::status::ok);
                for (auto m = d.events.upper_bound(b.acked); m != d.events.end() && !d.dead;) {
                    const support::ping a{m->second};
                    const support::pong z{m->second};
                    const pj::stored_event e = m->second % 2 == 0 ? pj::raw_event(m->first, a)
                                                                  : pj::raw_event(m->first, z);
                    const pj::receive_result r = sink.receive(e, d.now_ms, boots != 0);
                    if (d.dead) break;
                    if (r.answer == receipt::hold) {
                        REQUIRE(r.wait_ms != pj::never);
                        d.now_ms += r.wait_ms;
                        continue;
                    }
                    if (r.answer == receipt::reject) b.refused.insert(m->first);
                    if (r.answer == receipt::ack) b.acked = m->first;
                    CHECK(d.record().at >= b.acked); // acknowledged means durable
                    ++m;
                }
                if (!d.dead) {
                    sink.stop();
                    CHECK(d.run(sink) == pj::status::ok);
                    b.acked = std::max(b.acked, sink.checkpointed());
                }
            }
            std::map<pj::position, uint32_t> all = d.folded(d.newest());
            for (const pj::position at : b.refused) all.erase(at);
            CHECK(b.acked == d.newest());
            for (const auto& [at, value] : all) CHECK(d.model.count(at) == 1);
            CHECK((b.refused.count(14) == 1 || d.model.count(14) == 1));
        }
    }
}

TEST_CASE(
    "G1 G2 G11 G16 a broker that repeats, goes back and sends garbage, and a process that dies") {
    for (uint32_t seed = 1; seed <= 300; ++seed) {
        CAPTURE(seed);
        support::xorshift random(seed);
        support::device d;
        d.append(10 + random.below(20));
        d.what.log = {};
        d.what.save = {1 + random.below(5), 300, random.one_in(2)};
        d.what.on_error = pj::error_policy::retry_then_skip(1);
        for (const auto& [at, value] : d.events) {
            if (random.one_in(6)) d.answers[at] = {pj::fail(), pj::pending};
        }
        pj::position acked = pj::before_first;
        std::unique_ptr<pj::event_sink> sink;
        uint32_t steps = 0;
        for (auto next = d.events.begin(); next != d.events.end();) {
            REQUIRE(++steps < 5000);
            if (sink == nullptr || random.one_in(25)) { // the process dies and comes back
                d.boot();
                sink.reset(new pj::event_sink(d.what));
                REQUIRE(sink->start() == pj::status::ok);
                next = d.events.upper_bound(acked); // the broker: from the first unacked
                continue;
            }
            auto offered = next;
            bool is_again = next->first <= d.record().at;
            if (random.one_in(5) && next != d.events.begin()) { // one of before, once more
                offered = std::prev(next);
                is_again = true;
            }
            const support::ping a{offered->second};
            const support::pong z{offered->second};
            pj::stored_event message = offered->second % 2 == 0 ? pj::raw_event(offered->first, a)
                                                                : pj::raw_event(offered->first, z);
            const bool is_garbage = offered == next && random.one_in(9);
            if (is_garbage) message.payload = pj::bytes("???", 3);
            const pj::receive_result r = sink->receive(message, d.now_ms, is_again);
            CHECK(d.record().at >= acked);
            const pj::counters n = sink->counts();
            CHECK(n.scanned == n.handled + n.unhandled + n.unknown + n.filtered + n.skipped +
                                   n.lettered + n.vanished + n.duplicate);
            if (r.answer == receipt::hold) {
                // Garbage that took the place of a held event is seen; the host decides.
                if (sink->state() == pj::run_state::halted) {
                    CHECK(r.reason == pj::status::event_changed);
                    REQUIRE(sink->retry_failed() == pj::status::ok);
                }
                if (r.wait_ms != pj::never) d.now_ms += r.wait_ms;
                continue;
            }
            if (r.answer == receipt::ack) acked = std::max(acked, message.at);
            const bool is_next = offered == next;
            if (is_garbage) d.events.erase(next);           // it never was one of these
            if (is_next) next = d.events.upper_bound(message.at);
        }
        sink->stop();
        CHECK(d.run(*sink) == pj::status::ok);
        CHECK(d.record().at >= d.newest());
        // Every event is in the model, but for those whose two attempts failed.
        for (const auto& [at, value] : d.folded(d.newest())) {
            if (d.model.count(at) == 0) CHECK(d.answers.count(at) == 1);
            else CHECK(d.model[at] == value);
        }
    }
}

TEST_CASE("G27 a message that may be tried again at once is not slept on") {
    fed s(false);
    s.what.on_error = pj::error_policy::custom({[](void*, const pj::failure& f) {
                                                    return f.attempts < 4
                                                               ? pj::decision::retry_after(0)
                                                               : pj::decision::skip();
                                                },
                                                nullptr});
    s.open();
    s.a.says.always(1, pj::fail());
    for (int i = 0; i < 3; ++i) {
        CHECK(s.offer(1) == receipt::hold);
        CHECK(s.last_answer.wait_ms == 0);
    }
    CHECK(s.offer(1) == receipt::ack);
    CHECK(s.w.times("a", 1) == 4);
}

TEST_CASE("G32 a sink is guarded, too: each message is named before it is begun") {
    support::device d;
    const pj::crash_guard guard{2};
    d.append(8);
    d.what.log = {};
    d.what.crashes = &guard;
    d.poison = 11;
    uint32_t crashes = 0;
    for (;; ++crashes) {
        REQUIRE(crashes < 10);
        d.boot();
        pj::event_sink sink{d.what};
        const auto cause = crashes == 0 ? pj::start_cause::clean : pj::start_cause::crash;
        REQUIRE(sink.start(cause) == pj::status::ok);
        auto m = d.events.upper_bound(d.record().at);
        for (uint32_t offers = 0; m != d.events.end() && !d.dead;) {
            REQUIRE(++offers < 100);
            const support::ping a{m->second};
            const support::pong z{m->second};
            const pj::stored_event message =
                m->second % 2 == 0 ? pj::raw_event(m->first, a) : pj::raw_event(m->first, z);
            const pj::receive_result r = sink.receive(message, d.now_ms, true);
            if (r.answer != receipt::hold) ++m;
            else if (!d.dead) REQUIRE(r.wait_ms != pj::never);
        }
        if (!d.dead) {
            CHECK(sink.counts().skipped == 1);
            break;
        }
    }
    CHECK((crashes == 2 || crashes == 3));
    CHECK(d.model.count(11) == 0);
    CHECK(d.model.size() == 7);
}

TEST_CASE("a sink is caught up when no message has come between two ticks, the first included") {
    fed f;
    CHECK(f.fed_by->caught_up());
    CHECK(f.offer(0) == receipt::ack);
    f.sink_tick(1);
    CHECK_FALSE(f.fed_by->caught_up());
    f.sink_tick(1);
    CHECK(f.fed_by->caught_up());
}

TEST_CASE("G27 messages that keep coming do not put off the save") {
    fed f;
    f.what.save = {100, 1000, false};
    f.open();
    CHECK(f.offer(0) == receipt::later);
    CHECK(f.last_answer.reason == pj::status::ok);
    for (pj::position at = 1; at <= 3; ++at) {
        f.now_ms += 400;
        static_cast<void>(f.offer(at));
    }
    CHECK(f.stored().at == 2);
}

TEST_CASE("G5 a log with bounds but without an identity does not say that an old offset is a duplicate") {
    for (const uint64_t log_id : {uint64_t{0}, uint64_t{77}}) {
        fed s(false);
        s.log.append(10, "Alpha");
        s.log.log_id = log_id;
        s.what.log = s.log;
        s.store.put("p", 5);
        s.open();
        static_cast<void>(s.sink_tick());
        CHECK(s.offer(3) == (log_id == 0 ? receipt::hold : receipt::ack));
        CHECK(s.last_answer.reason == (log_id == 0 ? pj::status::log_replaced : pj::status::ok));
        CHECK(s.w.calls.empty());
    }
}

TEST_CASE("G14 a message that comes while a save stands refused is held, and then it is told why") {
    fed s(false);
    s.what.save = {100, 1000, false};
    s.open();
    CHECK(s.offer(0) == receipt::later);
    s.store.put("p", 7, 5);                     // somebody else
    s.now_ms += 1000;
    CHECK(s.offer(1) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::pending);
    CHECK(s.offer(1) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::checkpoint_conflict);
    CHECK(s.w.called() == "a0 b0 c0");
    CHECK(s.stored().at == 7);
}

TEST_CASE("G12 after a rejected message an older one that comes again is a duplicate, not rejected") {
    fed s(false);
    s.what.on_error = pj::error_policy::dead_letter();
    s.a.says.always(5, pj::reject());
    s.open();
    CHECK(s.offer(4) == receipt::ack);
    CHECK(s.offer(5) == receipt::reject);
    CHECK(s.offer(4, "Alpha", true) == receipt::ack);
    CHECK(s.offer(5, "Alpha", true) == receipt::reject);
    CHECK(s.w.called() == "a4 b4 c4 a5 b5 c5");
}

TEST_CASE("G15 a message that is opened and has no offset: while it is held no other is tried") {
    fed s(false);
    const auto open = [](pj::stored_event&) { return true; };
    s.options.open = open;
    s.open();
    s.a.says.at(0, pj::pending);
    CHECK(s.offer(pj::before_first) == receipt::hold);
    s.now_ms += s.what.pending_ms;
    CHECK(s.offer(pj::before_first, "Beta") == receipt::hold);
    CHECK(s.w.called() == "a0 b0 c0");
    CHECK(s.offer(pj::before_first) == receipt::ack);
    CHECK(s.w.called() == "a0 b0 c0 a0");
    CHECK(s.offer(pj::before_first, "Beta") == receipt::ack);
    CHECK(s.fed_by->counts().handled == 2);
}

TEST_CASE("G5 a message is held until the bounds were asked, though the same tick has saved") {
    fed s(false);
    s.what.log = s.log;
    s.log.append(4, "Alpha").log_id = 7;
    pj::checkpoint other;
    other.at = 1;
    other.revision = 1;
    other.log_id = 8;
    s.store.put("p", other);
    s.what.replayed_through = 0;        // is saved by the first tick
    s.fed_by.reset(new pj::event_sink(s.what));
    REQUIRE(s.fed_by->start() == pj::status::ok);
    CHECK(s.offer(2) == receipt::hold);
    CHECK(s.offer(2) == receipt::hold);
    CHECK(s.w.calls.empty());
    CHECK(s.fed_by->reason() == pj::status::log_replaced);
}

TEST_CASE("G27 a sink that has saved before it could subscribe sleeps over neither") {
    struct { int subscribed = 0;
        pj::status subscribe(pj::text, pj::text) { ++subscribed; return pj::status::ok; }
        pj::status unsubscribe(pj::text, pj::text) { return pj::status::ok; }
    } client;
    const pj::crash_guard guard{3};
    fed s(false);
    s.what.crashes = &guard;
    s.options.client = client;
    pj::event_sink sink{s.what, s.options};
    REQUIRE(sink.start(pj::start_cause::crash) == pj::status::ok);
    for (int i = 0; i < 10; ++i) {
        const uint32_t wait_ms = sink.tick(s.now_ms).wait_ms;
        if (wait_ms == pj::never) break;
        s.now_ms += wait_ms;
    }
    CHECK(client.subscribed == 1);
}

TEST_CASE("G32 a sink that is idle while a message is held is not done with what may crash") {
    const pj::crash_guard guard{2};
    fed s(false);
    s.what.crashes = &guard;
    s.what.on_error = pj::error_policy::retry(3);
    s.a.says.always(0, pj::fail(1));
    s.fed_by.reset(new pj::event_sink(s.what));
    REQUIRE(s.fed_by->start(pj::start_cause::crash) == pj::status::ok);
    for (int i = 0; i < 4 && s.w.calls.empty(); ++i) CHECK(s.offer(0) == receipt::hold);
    REQUIRE(s.stored().suspect == 0);
    REQUIRE(s.stored().crashes == 1);
    for (int i = 0; i < 3; ++i) static_cast<void>(s.sink_tick(150)); // its next attempt is due
    CHECK(s.stored().suspect == 0);
    CHECK(s.stored().crashes == 1);
}

TEST_CASE("G12 a duplicate is not rejected for the message behind it, which was reset") {
    fed s;
    s.what.on_error = pj::error_policy::dead_letter();  // without a sink: the broker's
    s.a.says.always(6, pj::reject(1));
    s.b.says.always(6, pj::pending);
    CHECK(s.offer(5) == receipt::ack);
    CHECK(s.offer(6) == receipt::hold);
    REQUIRE(s.fed_by->reset(5) == pj::status::ok);
    CHECK(s.offer(5, "Alpha", true) == receipt::ack);
}

TEST_CASE("G16 a duplicate that comes while a unit is open counts as one, whatever the unit does") {
    for (const bool is_rolled_back : {false, true}) {
        CAPTURE(is_rolled_back);
        struct { pj::status begin() { return pj::status::ok; }
            pj::status commit() { return pj::status::ok; }
            pj::status rollback() { return pj::status::ok; }
        } units;
        fed s(false);
        s.what.transaction = units;
        s.open();
        CHECK(s.offer(4) == receipt::ack);
        s.a.says.at(5, pj::pending, 2);
        CHECK(s.offer(5) == receipt::hold);
        s.now_ms += 10;
        CHECK(s.offer(4, "Alpha", true) == receipt::ack);
        CHECK(s.fed_by->counts().duplicate == 1);
        CHECK(s.fed_by->counts().handled == 1);
        if (is_rolled_back) s.fed_by->pause();
        static_cast<void>(s.sink_tick(10));
        s.fed_by->resume();
        for (int i = 0; i < 5 && s.fed_by->scanned() < 5; ++i) {
            s.now_ms += 10;
            static_cast<void>(s.offer(5));
        }
        CHECK(s.fed_by->scanned() == 5);
        CHECK(s.fed_by->counts().duplicate == 1);
        CHECK(s.fed_by->counts().handled == 2);
    }
}

TEST_CASE("G5 a log that is replaced while its sink is idle takes no message for one of the old log") {
    fed s(false);
    s.what.log = s.log;
    s.log.log_id = 77;
    s.log.newest = 100;
    s.open();
    CHECK(s.offer(50) == receipt::ack);
    static_cast<void>(s.sink_tick());
    static_cast<void>(s.sink_tick());
    REQUIRE(s.fed_by->state() == pj::run_state::idle);
    s.log.log_id = 78;
    CHECK(s.offer(51) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::log_replaced);
    CHECK(s.w.called() == "a50 b50 c50");
}

namespace {

/// A sink with a crash guard whose run before has crashed.
struct crashed : fed {
    pj::crash_guard guard{2};
    crashed() : fed(false) {
        what.crashes = &guard;
        what.save = {1, 5000, true};
        fed_by.reset(new pj::event_sink(what, options));
        REQUIRE(fed_by->start(pj::start_cause::crash) == pj::status::ok);
        static_cast<void>(fed_by->tick(now_ms));
        REQUIRE(stored().crashes == 1);
    }
};

} // namespace

TEST_CASE("G15 G32 a message whose name cannot be saved at once waits as long as that does") {
    crashed s;
    s.store.saves.then(pj::status::pending);
    CHECK(s.offer(3) == receipt::hold);
    CHECK(s.last_answer.wait_ms == 10);
    CHECK(s.offer(3) == receipt::hold);
    CHECK(s.w.calls.empty());
    s.now_ms += 10;
    CHECK(s.offer(3) == receipt::ack);
    CHECK(s.w.called() == "a3 b3 c3");
}

TEST_CASE("G14 G32 a message that comes while a save fails puts that save off no further") {
    crashed s;
    CHECK(s.offer(3) == receipt::hold);         // named, and saved
    CHECK(s.offer(3) == receipt::ack);
    s.store.saves.then(pj::status::failed);
    static_cast<void>(s.sink_tick());
    static_cast<void>(s.sink_tick());           // idle: nothing is in work
    REQUIRE(s.store.saves.is_empty());
    CHECK(s.offer(4) == receipt::hold);
    CHECK(s.last_answer.wait_ms <= 100);
    s.now_ms += 100;
    for (int i = 0; i < 3 && s.offer(4) == receipt::hold; ++i) s.now_ms += s.last_answer.wait_ms;
    CHECK(s.last_answer.answer == receipt::ack);
    CHECK(s.w.called() == "a3 b3 c3 a4 b4 c4");
}

TEST_CASE("G32 a message is held for its name, and not for what was waited for before") {
    crashed s;
    s.what.log = s.log;
    s.what.save = {100, 5000, false};
    s.log.newest = 100;
    CHECK(s.offer(3) == receipt::hold);
    CHECK(s.offer(3) == receipt::later);
    s.log.bounds_asked.then(pj::status::failed);
    s.store.saves.then(pj::status::pending);
    CHECK(s.sink_tick(5000).reason == pj::status::store_failed);
    REQUIRE(s.store.saves.is_empty());
    s.now_ms += 100;
    CHECK(s.offer(4) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::ok);
    CHECK(s.w.called() == "a3 b3 c3");
}

TEST_CASE("G32 a sink that goes on from another's record names messages, if that one has") {
    fed s(false);
    const pj::crash_guard guard{2};
    s.what.crashes = &guard;
    s.what.replayed_through = 3;
    s.store.put("p", 3);
    s.open();
    CHECK(s.offer(4) == receipt::ack);
    static_cast<void>(s.sink_tick());
    CHECK(s.offer(5) == receipt::ack);          // none is named
    CHECK(s.stored().suspect == pj::before_first);
    pj::checkpoint other;
    other.at = 5;
    other.revision = 9;
    other.suspect = 6;
    other.crashes = 1;
    s.store.put("p", other);
    CHECK(s.offer(6) == receipt::later);
    CHECK(s.offer(7) == receipt::hold);
    REQUIRE(s.fed_by->reason() == pj::status::checkpoint_conflict);
    REQUIRE(s.fed_by->retry_failed() == pj::status::ok);
    CHECK(s.offer(7) == receipt::hold);
    CHECK(s.w.times("a", 7) == 0);
    CHECK(s.stored().suspect == 7);
    CHECK(s.offer(7) == receipt::ack);
    CHECK(s.w.times("a", 7) == 1);
}

TEST_CASE("G5 no message is handled before the bounds are known, though the waits for them are 0") {
    for (const pj::status answer : {pj::status::pending, pj::status::failed}) {
        fed s(false);
        s.what.log = s.log;
        s.what.pending_ms = 0;
        s.what.delays.first_ms = 0;
        s.log.log_id = 78;
        s.log.newest = 100;
        pj::checkpoint record;
        record.at = 5;
        record.revision = 1;
        record.log_id = 77;
        s.store.put("p", record);
        s.log.bounds_asked.then(answer, 5);
        s.open();
        for (int i = 0; i < 6; ++i) {
            CHECK(s.offer(51) == receipt::hold);
            ++s.now_ms;
        }
        CHECK(s.w.calls.empty());
        CHECK(s.fed_by->reason() == pj::status::log_replaced);
    }
}

TEST_CASE("G15 a sink that stops while a save is pending is not busy before it has unsubscribed") {
    struct {
        pj::status subscribe(pj::text, pj::text) { return pj::status::ok; }
        pj::status unsubscribe(pj::text, pj::text) { return pj::status::pending; }
    } broker;
    fed s(false);
    s.options.client = broker;
    s.open();
    s.store.saves.then(pj::status::pending);
    CHECK(s.offer(0) == receipt::later);
    s.now_ms += 5;
    s.fed_by->stop();
    CHECK(s.sink_tick().wait_ms == 10);
    CHECK(s.sink_tick(5).wait_ms == 5); // the save was due now, but comes after the broker
}

TEST_CASE("G31 skip_failed() of a message without an offset saves nothing") {
    for (const bool is_counted : {false, true}) {
        fed s(false);
        s.options.count_messages = is_counted;
        s.what.unsaved_max = 1;
        s.what.on_error = pj::error_policy::halt();
        s.a.says.always(0, pj::fail());
        s.open();
        CHECK(s.offer(-1) == receipt::hold);
        REQUIRE(s.fed_by->skip_failed(s.fed_by->last_failure().at) == pj::status::ok);
        for (int i = 0; i < 3; ++i) static_cast<void>(s.sink_tick(1000));
        CHECK(s.fed_by->counts().skipped == 1);
        CHECK(s.fed_by->scanned() == 0);
        CHECK(s.store.tried.size() == (is_counted ? 1 : 0));
        CHECK(s.sink_tick().wait_ms == pj::never);
        CHECK(s.offer(-1) == receipt::ack);
    }
}

TEST_CASE("G21 a message is not handled where the save before it was refused") {
    fed s(false);
    s.what.save = {100, 1000, false};
    s.open();
    CHECK(s.offer(1) == receipt::later);
    s.store.saves.then(pj::status::conflict);
    s.now_ms += 1000;
    CHECK(s.offer(2) == receipt::hold);
    CHECK(s.w.called() == "a1 b1 c1");
}

TEST_CASE("G11 a sink that has halted for a message takes nothing, that one neither") {
    fed s(false);
    s.what.on_error = pj::error_policy::halt();
    int filtered = 0;
    const auto let_in = [&](const pj::stored_event&) { return ++filtered != 0; };
    s.what.filter = let_in;
    s.a.says.always(1, pj::fail());
    s.open();
    for (int i = 0; i < 3; ++i) {
        CHECK(s.offer(1) == receipt::hold);
        CHECK(s.last_answer.reason == pj::status::handler_failed);
        CHECK(s.last_answer.wait_ms == pj::never);
    }
    CHECK(s.offer(2) == receipt::hold);
    CHECK(s.last_answer.reason == pj::status::handler_failed);
    CHECK(s.fed_by->state() == pj::run_state::halted);
    CHECK(s.watch.count(pj::notice_kind::halted) == 1);
    CHECK(filtered == 1);
}
