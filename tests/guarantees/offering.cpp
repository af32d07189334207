// What a sink answers in each of its states, which offsets it knows, what it tells of its broker.
#include "support/setup.hpp"

#include <random>

using namespace support;
using pj::receipt;
using pj::run_state;
using pj::status;

namespace {

struct subscription {
    plan subscribes, unsubscribes;
    std::string calls;
    status subscribe(pj::text topic, pj::text queue) {
        CHECK(topic == "topic");
        CHECK(queue == "queue");
        calls += 's';
        return subscribes.take().answer;
    }
    status unsubscribe(pj::text, pj::text) {
        calls += 'u';
        return unsubscribes.take().answer;
    }
};

struct offered : setup {
    pj::sink_options options;
    offered() {
        what.log = {};
        what.poll_ms = 700;
        what.save = {100, 100000, false};
    }
    /// One that has loaded.
    void open(pj::event_sink& it) {
        REQUIRE(it.start() == status::ok);
        static_cast<void>(it.tick(now_ms));
    }
    pj::receive_result offer(pj::event_sink& to, pj::position at, const char* payload = "",
                             bool again = false, const char* type = "Beta") {
        pj::stored_event message;
        message.at = at;
        message.type = pj::text(type);
        message.payload = pj::text(payload);
        w.feeding = true;
        const pj::receive_result r = to.receive(message, now_ms, again);
        w.feeding = false;
        return r;
    }
};

/// All that a sink answers and calls in a random run. `closely`: it is to look at each message for
/// an observer, who is not there, and so has a tick for each.
class random_run : offered {
public:
    random_run(uint32_t seed, bool closely) : random_(seed) {
        const pj::error_policy policies[] = {
            pj::error_policy::skip(), pj::error_policy::retry(1),
            pj::error_policy::retry_then_skip(2), pj::error_policy::dead_letter()};
        what.handlers = registry_;
        what.observe = nullptr;
        what.observe_handled = closely;
        what.save = {1 + below(6), below(40), one_in(2)};
        what.unsaved_max = one_in(2) ? 0 : 1 + below(8);
        what.on_error = policies[below(4)];
        what.delays.first_ms = below(4);
        if (one_in(3)) what.replayed_through = 5;
        if (one_in(2)) options.client = client_;
        client_.subscribes.then(status::pending).then(status::failed);
        options.topic = "topic";
        options.queue = "queue";
        options.count_messages = one_in(3);
    }
    std::vector<std::string> trace() {
        pj::event_sink it{what, options};
        if (one_in(9)) static_cast<void>(offer(it, 0));
        for (int i = 0; i < 200; ++i) step(it);
        return w.trace;
    }

private:
    uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() >> 8) % n; }
    bool one_in(uint32_t n) { return below(n) == 0; }
    void note(const std::string& name, std::initializer_list<int64_t> values) {
        std::string line = name;
        for (const int64_t value : values) line += ' ' + std::to_string(value);
        w.note(line);
    }
    void step(pj::event_sink& it) {
        const pj::verdict answers[] = {pj::fail(), pj::reject(), pj::pending, pj::pending_for(3)};
        const status failures[] = {status::pending, status::failed, status::failed};
        now_ms += one_in(3) ? below(30) : 0;
        if (one_in(9)) a.says.at(next_, answers[below(4)]);
        if (one_in(9)) store.saves.then(failures[below(3)]);
        if (one_in(30)) store.saves.then(lost_answer());
        if (one_in(30)) it.pause();
        if (one_in(10)) it.resume();
        if (one_in(30)) it.wake();
        if (one_in(60)) it.stop();
        if (one_in(60)) a.says.before = [&] { it.stop(); };
        if (!it.running()) note("start", {static_cast<int64_t>(it.start())});
        if (one_in(40) && it.reset(below(4)) == status::ok) next_ = it.scanned() + 1;
        if (one_in(7)) {
            const pj::tick_result r = it.tick(now_ms);
            note("tick", {static_cast<int64_t>(r.state), static_cast<int64_t>(r.reason),
                          r.wait_ms, r.scanned});
        } else {
            const pj::position at = one_in(9) ? next_ / 2 : one_in(20) ? -1 : next_;
            const pj::receive_result r = offer(it, at, "", one_in(4),
                                               next_ % 3 == 0 ? "Alpha" : "Beta");
            note("receive", {at, static_cast<int64_t>(r.answer), static_cast<int64_t>(r.reason),
                             r.wait_ms});
            if (r.answer != receipt::hold && at == next_) ++next_;
        }
        a.says.before = nullptr;
        const pj::counters n = it.counts();
        note("is", {static_cast<int64_t>(it.state()), static_cast<int64_t>(it.reason()),
                    it.caught_up() ? 1 : 0, it.scanned(), it.checkpointed(),
                    static_cast<int64_t>(n.scanned), static_cast<int64_t>(n.handled),
                    static_cast<int64_t>(n.skipped), static_cast<int64_t>(n.duplicate)});
    }

    std::minstd_rand random_;
    pj::position next_ = 0;
    subscription client_;
    mailer mail_{w};
    pj::registry<hand_a, mailer> registry_{a, mail_};
};

void check(const pj::receive_result& r, receipt answer, status reason, uint32_t wait_ms) {
    CHECK(r.answer == answer);
    CHECK(r.reason == reason);
    CHECK(r.wait_ms == wait_ms);
}

} // namespace

TEST_CASE("G1 G14 G16 G27 a sink does the same with a tick for each message and without") {
    for (uint32_t seed = 1; seed <= 1500; ++seed) {
        const auto with = random_run(seed, true).trace();
        const auto without = random_run(seed, false).trace();
        CAPTURE(seed);
        REQUIRE(with == without);
    }
}

TEST_CASE("what a sink answers before it works, while it may not, and when it has ended") {
    offered s;
    pj::event_sink sink{s.what};
    check(s.offer(sink, 0), receipt::hold, status::stopped, pj::never);
    REQUIRE(sink.start() == status::ok);
    s.store.loads.then(status::pending).then(status::failed);
    check(s.offer(sink, 0), receipt::hold, status::pending, 10);
    s.now_ms += 10;
    check(s.offer(sink, 0), receipt::hold, status::checkpoint_failed, 100);
    s.now_ms += 100;
    check(s.offer(sink, 0), receipt::later, status::ok, 0);
    sink.pause();
    check(s.offer(sink, 1), receipt::hold, status::paused, pj::never);
    sink.resume();
    check(s.offer(sink, 1), receipt::later, status::ok, 0);
    check(s.offer(sink, 1), receipt::later, status::ok, 0);     // and a duplicate of it
    pj::receive_result inside{};
    s.a.says.before = [&] { inside = sink.receive(pj::stored_event{}, 0); };
    check(s.offer(sink, 2), receipt::later, status::ok, 0);
    check(inside, receipt::hold, status::reentered, 10);
    s.a.says.before = nullptr;
    s.a.says.at(3, pj::pending_for(33));
    check(s.offer(sink, 3), receipt::hold, status::pending, 33);
    check(s.offer(sink, 4), receipt::hold, status::pending, 33);    // untried
    check(s.offer(sink, 1), receipt::hold, status::pending, 33);
    CHECK(s.w.called() == "a0 a1 a2 a3");
    s.now_ms += 33;
    CHECK(s.offer(sink, 4).answer == receipt::hold);                // the other is first
    check(s.offer(sink, 1), receipt::later, status::ok, 0);         // but duplicates are answered
    check(s.offer(sink, 3), receipt::later, status::ok, 0);
    sink.stop();
    check(s.offer(sink, 4), receipt::hold, status::stopped, 0);
    CHECK(s.stored().at == 3);
    CHECK(sink.state() == run_state::stopped);
}

TEST_CASE("a sink that has not loaded yet says so when nothing else is wrong") {
    offered s;
    pj::event_sink sink{s.what};
    s.store.put("p", 5);
    REQUIRE(sink.start() == status::ok);
    sink.pause();
    const pj::receive_result r = s.offer(sink, 6);
    CHECK(r.answer == receipt::hold);
    CHECK(r.reason == status::paused);
    CHECK(s.w.calls.empty());
}

TEST_CASE("every offset of a run is known again, from the first on, and 0 is one") {
    offered s;
    pj::event_sink sink{s.what};
    s.open(sink);
    for (const pj::position at : {0, 1, 5, 9}) CHECK(s.offer(sink, at).answer == receipt::later);
    for (const pj::position at : {0, 1, 3, 5, 9}) CHECK(s.offer(sink, at).answer == receipt::later);
    CHECK(s.w.calls.size() == 4);
    CHECK(sink.counts().duplicate == 5);
    CHECK(s.watch.count(pj::notice_kind::store_failed) == 0);
}

TEST_CASE("an offset from before the run: a duplicate only where the log is known to be the same") {
    for (const bool has_bounds : {true, false}) {
        for (const uint64_t log_id : {uint64_t{0}, uint64_t{1}, uint64_t{7}}) {
            CAPTURE(has_bounds);
            CAPTURE(log_id);
            offered s;
            if (has_bounds) s.what.log = s.log;
            s.log.newest = 20;
            s.log.log_id = log_id;
            pj::checkpoint record;
            record.at = 10;
            record.revision = 3;
            record.log_id = log_id;
            s.store.put("p", record);
            pj::event_sink sink{s.what};
            s.open(sink);
            CHECK(s.offer(sink, 12).answer == receipt::later);
            const pj::receive_result r = s.offer(sink, 10);
            if (has_bounds && log_id != 0) {
                check(r, receipt::ack, status::ok, 0);
            } else {
                check(r, receipt::hold, status::log_replaced, 700);
                CHECK(s.watch.count(pj::notice_kind::store_failed, status::log_replaced) == 1);
            }
            CHECK(s.offer(sink, 12).answer == receipt::later);      // of this run
            CHECK(s.offer(sink, 10, "", true).answer == receipt::ack);
            sink.accept_up_to(9);
            CHECK(s.offer(sink, 9).answer == receipt::ack);
            CHECK(s.w.called() == "a12");
        }
    }
}

TEST_CASE("a message that is held is the same only if it says the same") {
    offered s;
    s.what.on_error = pj::error_policy::retry(9);
    pj::event_sink sink{s.what};
    s.open(sink);
    s.a.says.at(3, pj::fail());
    check(s.offer(sink, 3, "one"), receipt::hold, status::handler_failed, 100);
    s.now_ms += 100;
    CHECK(s.offer(sink, 3, "two").answer == receipt::hold);
    CHECK(sink.state() == run_state::halted);
    CHECK(sink.reason() == status::event_changed);
    CHECK(s.w.times("a", 3) == 1);
}

TEST_CASE("messages without offsets: while one is held no other is tried, and it is known again") {
    for (const bool opens : {false, true}) {
        CAPTURE(opens);
        offered s;
        s.what.on_error = pj::error_policy::retry(9);
        auto open = [](pj::stored_event& message) {
            message.aggregate_id = "opened";
            return true;
        };
        if (opens) s.options.open = open;
        pj::event_sink sink{s.what, s.options};
        s.open(sink);
        CHECK(s.offer(sink, -1, "x").answer == receipt::ack);
        s.a.says.otherwise = [&](const pj::stored_event& e, const pj::context& c) {
            return e.payload.text() == "bad" && c.attempt < 3 ? pj::fail() : pj::handled;
        };
        check(s.offer(sink, -1, "bad"), receipt::hold, status::handler_failed, 100);
        s.now_ms += 100;
        CHECK(s.offer(sink, -1, "other").answer == receipt::hold);
        CHECK(s.w.calls.size() == 2);
        check(s.offer(sink, -1, "bad"), receipt::hold, status::handler_failed, 200);
        CHECK(s.offer(sink, -1, "other").answer == receipt::hold);
        s.now_ms += 200;
        check(s.offer(sink, -1, "bad"), receipt::ack, status::ok, 0);
        check(s.offer(sink, -1, "other"), receipt::ack, status::ok, 0);
        CHECK(s.w.calls.size() == 5);
        CHECK(sink.counts().handled == 3);
        CHECK(sink.counts().failed_calls == 2);
    }
}

TEST_CASE("a letter that is the broker's is answered reject again, and only that one") {
    offered s;
    s.what.on_error = pj::error_policy::dead_letter();
    pj::event_sink sink{s.what};
    s.open(sink);
    s.a.says.at(4, pj::reject());
    CHECK(s.offer(sink, 3).answer == receipt::later);
    check(s.offer(sink, 4), receipt::reject, status::ok, 0);
    check(s.offer(sink, 4), receipt::reject, status::ok, 0);
    CHECK(s.offer(sink, 3).answer != receipt::reject);
    check(s.offer(sink, 4), receipt::reject, status::ok, 0);
    CHECK(s.offer(sink, 5).answer == receipt::later);
    CHECK(s.offer(sink, 4).answer != receipt::hold);
    CHECK(s.w.called() == "a3 a4 a5");
    CHECK(sink.counts().lettered == 1);
}

TEST_CASE("a broker that does not subscribe at once is asked again, told of, and waited for") {
    offered s;
    subscription b;
    s.options.client = b;
    s.options.topic = "topic";
    s.options.queue = "queue";
    b.subscribes.then(status::failed, 2).then(status::pending);
    pj::event_sink sink{s.what, s.options};
    REQUIRE(sink.start() == status::ok);
    for (const uint32_t ms : {100u, 200u, 10u}) {
        const pj::tick_result r = sink.tick(s.now_ms);
        CHECK(r.wait_ms == ms);
        CHECK(r.reason == (ms == 10 ? status::pending : status::store_failed));
        s.now_ms += ms;
    }
    CHECK(s.watch.count(pj::notice_kind::store_failed, status::store_failed) == 2);
    static_cast<void>(sink.tick(s.now_ms));
    CHECK(sink.reason() == status::ok);
    CHECK(b.calls == "ssss");
    static_cast<void>(sink.tick(s.now_ms));
    CHECK(b.calls == "ssss");           // once is enough
}

TEST_CASE("a broker that does not unsubscribe well is told of, and the sink ends all the same") {
    for (const status answer : {status::ok, status::failed, status::pending}) {
        offered s;
        subscription b;
        s.options.client = b;
        s.options.topic = "topic";
        s.options.queue = "queue";
        s.what.pending_ms = 70;
        b.unsubscribes.then(answer);
        pj::event_sink sink{s.what, s.options};
        s.open(sink);
        sink.stop();
        const pj::tick_result r = sink.tick(s.now_ms);
        if (answer == status::pending) {
            CHECK(r.wait_ms == 70);
            CHECK(b.calls == "su");
            sink.wake();
            static_cast<void>(sink.tick(s.now_ms));
            CHECK(b.calls == "suu");
        }
        CHECK(sink.state() == run_state::stopped);
        CHECK(sink.reason() == status::ok);
        CHECK(s.watch.count(pj::notice_kind::store_failed, status::store_failed) ==
              (answer == status::failed ? 1 : 0));
        CHECK(s.watch.count(pj::notice_kind::store_failed) == (answer == status::failed ? 1 : 0));
    }
}

TEST_CASE("a sink that begins anew knows nothing of the messages of its last run") {
    offered s;
    s.what.on_error = pj::error_policy::dead_letter();
    pj::event_sink sink{s.what};
    s.open(sink);
    s.a.says.at(4, pj::reject());
    CHECK(s.offer(sink, 3).answer == receipt::later);
    CHECK(s.offer(sink, 4).answer == receipt::reject);
    sink.stop();
    static_cast<void>(sink.tick(s.now_ms));
    REQUIRE(sink.start() == status::ok);
    CHECK_FALSE(sink.caught_up());
    static_cast<void>(sink.tick(s.now_ms));
    CHECK(sink.caught_up());            // no message yet
    check(s.offer(sink, 3), receipt::hold, status::log_replaced, 700);
    CHECK(s.offer(sink, 4, "", true).answer != receipt::reject);
}
