// Messages without offsets, opened ones and those that come twice: what an event_sink takes for the
// same, and that no other is taken for it; with and without units of work.
#include "support/office.hpp"

using namespace support;
using pj::position;
using pj::receipt;
using pj::status;

namespace {

/// A broker's client whose answers are planned.
struct planned_broker {
    plan subscribes, unsubscribes;
    uint32_t subscribed = 0, unsubscribed = 0;
    status subscribe(pj::text, pj::text) {
        ++subscribed;
        return subscribes.take().answer;
    }
    status unsubscribe(pj::text, pj::text) {
        ++unsubscribed;
        return unsubscribes.take().answer;
    }
};

struct queue : office {
    planned_broker client;
    pj::sink_options options;
    std::unique_ptr<pj::event_sink> sink;
    std::vector<std::string> handled;   // payloads, in the order of the calls
    std::function<pj::verdict(const std::string&)> does;

    explicit queue(bool has_units) : office(0) {
        what.log = {};
        if (!has_units) what.transaction = {};
        what.pending_ms = 50;
        what.save = {1, 1000, true};
        hands[0]->says = [this](const pj::context& c) -> pj::verdict {
            handled.emplace_back(c.event.payload.text().data(), c.event.payload.size());
            return does ? does(handled.back()) : pj::handled;
        };
        db.strict = false;
    }
    void open() {
        sink.reset(new pj::event_sink(what, options));
        REQUIRE(sink->start() == status::ok);
        sink_tick();
    }
    pj::tick_result sink_tick(uint32_t after_ms = 0) {
        now_ms += after_ms;
        return last = sink->tick(now_ms);
    }
    pj::receive_result offer(const std::string& payload, position at = pj::before_first,
                             bool again = false) {
        pj::stored_event message;
        message.at = at;
        message.type = pj::text("Alpha");
        message.payload = pj::text(payload);
        return sink->receive(message, now_ms, again);
    }
    uint32_t times(const std::string& payload) const {
        return static_cast<uint32_t>(std::count(handled.begin(), handled.end(), payload));
    }
};

} // namespace

TEST_CASE("G7 G9 a message without an offset that failed is held, and no other is tried") {
    for (const bool has_units : {false, true}) {
        for (const bool is_opened : {false, true}) {
            queue s(has_units);
            s.what.on_error = pj::error_policy::retry(5);
            std::string room;
            int opened = 0;
            const auto open = [&](pj::stored_event& message) {
                room = std::string(message.payload.text().data(), message.payload.size());
                room += "/" + std::to_string(++opened);         // never twice the same
                message.payload = pj::text(room);
                return true;
            };
            if (is_opened) s.options.open = open;
            s.does = [&](const std::string&) {
                return s.handled.size() < 4 ? pj::fail() : pj::handled;
            };
            s.open();
            for (const uint32_t ms : {100u, 200u, 400u}) {
                const pj::receive_result r = s.offer("first");
                CHECK(r.answer == receipt::hold);
                CHECK(r.reason == status::handler_failed);
                CHECK(r.wait_ms == ms);
                for (int i = 0; i < 8; ++i) {
                    const pj::receive_result other = s.offer("other " + std::to_string(i));
                    CHECK(other.answer == receipt::hold);
                }
                s.now_ms += ms;
                CHECK(s.offer("another").answer == receipt::hold);
            }
            CHECK(s.handled.size() == 3);
            CHECK(s.offer("first").answer == receipt::ack);
            CHECK(s.offer("other 1").answer == receipt::ack);
            REQUIRE(s.handled.size() == 5);
            for (size_t i = 0; i < 4; ++i) CHECK(s.handled[i].substr(0, 5) == "first");
            CHECK(s.sink->running());
        }
    }
}

TEST_CASE("G17 a message whose commit was pending is acknowledged when it comes again") {
    for (const bool is_rejected : {false, true}) {
        queue s(true);
        s.what.on_error = pj::error_policy::dead_letter();
        s.what.dead_letters = {};
        s.does = [&](const std::string&) { return is_rejected ? pj::reject() : pj::handled; };
        s.open();
        s.commits.then(status::pending, 2);
        pj::receive_result r = s.offer("one");
        for (int i = 0; i < 5 && r.reason != status::pending; ++i) r = s.offer("one");
        CHECK(r.answer == receipt::hold);
        CHECK(r.reason == status::pending);
        CHECK(r.wait_ms == 50);
        CHECK(s.offer("one").answer == receipt::hold);
        CHECK(s.offer("two").answer == receipt::hold);
        CHECK(s.times("two") == 0);
        s.sink_tick(50);
        s.sink_tick(50);
        const size_t calls = s.handled.size();
        r = s.offer("one");
        CHECK(r.answer == (is_rejected ? receipt::reject : receipt::ack));
        CHECK(s.handled.size() == calls);
        CHECK(s.times("one") == calls);
        CHECK_FALSE(s.db.is_open());
    }
}

TEST_CASE("G17 no other message is taken for the one whose commit was pending") {
    for (int which = 0; which < 16; ++which) {
        queue s(true);
        s.open();
        s.commits.then(status::pending);
        CHECK(s.offer("one").answer == receipt::hold);
        s.sink_tick(50);
        const std::string other = "other " + std::to_string(which);
        CHECK(s.offer(other).answer == receipt::ack);
        CHECK(s.times(other) == 1);
        CHECK(s.offer("one").answer == receipt::ack);   // at least once: that is promised
        CHECK(s.times("one") == 2);
    }
}

TEST_CASE("G17 a message whose commit has failed is done again, and not before it is offered") {
    queue s(true);
    s.what.on_error = pj::error_policy::retry(3);
    s.open();
    s.commits.then(status::pending).then(status::failed);
    CHECK(s.offer("one").answer == receipt::hold);
    s.sink_tick(50);
    for (int i = 0; i < 5; ++i) s.sink_tick(50);
    CHECK(s.times("one") == 1);
    pj::receive_result r = s.offer("one");
    for (int i = 0; i < 20 && r.answer == receipt::hold; ++i) {
        s.now_ms += r.wait_ms;
        r = s.offer("one");
    }
    CHECK(r.answer == receipt::ack);
    CHECK(s.times("one") == 2);
    CHECK(s.db.rolled_back == 1);
}

TEST_CASE("messages without offsets save nothing, and however many come none is held for that") {
    for (const bool has_units : {false, true}) {
        queue s(has_units);
        s.what.unsaved_max = 1;
        s.what.save = {100, 1000, true};
        s.open();
        for (int i = 0; i < 300; ++i) {
            const pj::receive_result r = s.offer("message " + std::to_string(i));
            CHECK(r.answer == receipt::ack);
            CHECK(r.wait_ms == 0);
            CHECK(r.reason == status::ok);
        }
        CHECK(s.handled.size() == 300);
        CHECK(s.sink->counts().handled == 300);
        CHECK(s.db.durable.records.empty());
        CHECK(s.sink_tick().wait_ms == pj::never);
        CHECK(s.db.durable.records.empty());
    }
}

TEST_CASE("G28 leaving a broker: pending waits, a failure is told, and it stops all the same") {
    for (const status answer : {status::ok, status::failed, status::conflict}) {
        queue s(false);
        s.options.client = s.client;
        s.open();
        CHECK(s.client.subscribed == 1);
        s.client.unsubscribes.then(status::pending).then(answer);
        s.sink->stop();
        CHECK(s.sink_tick().wait_ms == 50);
        CHECK(s.client.unsubscribed == 1);
        CHECK(s.sink_tick(20).wait_ms == 30);
        CHECK(s.client.unsubscribed == 1);
        s.sink->wake();
        s.sink_tick();
        CHECK(s.client.unsubscribed == 2);
        CHECK_FALSE(s.sink->running());
        CHECK(s.sink->reason() == status::ok);
        CHECK(s.count(pj::notice_kind::store_failed, status::store_failed) ==
              (answer == status::ok ? 0 : 1));
        CHECK(s.count(pj::notice_kind::store_failed) == (answer == status::ok ? 0 : 1));
    }
}

TEST_CASE("G14 a broker that cannot be subscribed is asked again with backoff, and that is told") {
    queue s(false);
    s.options.client = s.client;
    s.client.subscribes.then(status::failed, 2).then(status::pending);
    s.open();
    for (const uint32_t ms : {100u, 200u}) {
        CHECK(s.last.wait_ms == ms);
        CHECK(s.last.reason == status::store_failed);
        CHECK(s.offer("one", 0).answer == receipt::hold);
        s.sink_tick(ms);
    }
    CHECK(s.count(pj::notice_kind::store_failed, status::store_failed) == 2);
    CHECK(s.last.wait_ms == 50);
    CHECK(s.last.reason == status::pending);
    s.sink_tick(50);
    CHECK(s.offer("one", 0).answer == receipt::ack);
    CHECK(s.client.subscribed == 4);
}

TEST_CASE("offsets tell what has come before, also before it is saved and from 0 on") {
    queue s(false);
    s.what.save = {100, 1000, false};
    s.open();
    CHECK(s.offer("zero", 0).answer == receipt::later);
    CHECK(s.offer("one", 1).answer == receipt::later);
    for (const position at : {position{0}, position{1}}) {
        const pj::receive_result r = s.offer("again", at);
        CHECK(r.answer == receipt::later);
        CHECK(r.wait_ms == 0);
        CHECK(r.reason == status::ok);
    }
    CHECK(s.sink->counts().duplicate == 2);
    CHECK(s.handled.size() == 2);
    s.sink_tick(1000);
    CHECK(s.offer("again", 1).answer == receipt::ack);
    CHECK(s.offer("again", 0).answer == receipt::ack);
    CHECK(s.count(pj::notice_kind::store_failed) == 0);
}

TEST_CASE("a source that begins anew is told, and its messages are held") {
    queue s(false);
    pj::checkpoint record;
    record.revision = 1;
    record.at = 50;
    s.db.durable.records["p"] = record;
    s.what.poll_ms = 700;
    s.open();
    const pj::receive_result r = s.offer("low", 3);
    CHECK(r.answer == receipt::hold);
    CHECK(r.wait_ms == 700);
    CHECK(r.reason == status::log_replaced);
    CHECK(s.count(pj::notice_kind::store_failed, status::log_replaced) == 1);
    CHECK(s.count(pj::notice_kind::store_failed) == 1);
    CHECK(s.handled.empty());
}

TEST_CASE("G31 a sink that is started again has forgotten what it was offered before") {
    queue s(true);
    s.open();
    s.commits.then(status::pending);
    CHECK(s.offer("one").answer == receipt::hold);
    s.sink_tick(50);
    s.sink->stop();
    for (int i = 0; i < 5 && s.sink->running(); ++i) s.sink_tick(50);
    REQUIRE_FALSE(s.sink->running());
    REQUIRE(s.sink->start() == status::ok);
    s.sink_tick();
    CHECK(s.offer("one").answer == receipt::ack);
    CHECK(s.times("one") == 2);         // of a run before nothing is known: at least once
}

TEST_CASE("G17 G18 a message whose commit has failed is held for itself, and no other is tried") {
    for (int which = 0; which < 12; ++which) {
        const std::string mine = "message " + std::to_string(which);
        queue s(true);
        s.what.on_error = pj::error_policy::retry(3);
        s.open();
        REQUIRE(s.offer("before").answer == receipt::ack);
        s.commits.then(status::pending).then(status::failed, 2);
        CHECK(s.offer(mine).answer == receipt::hold);
        s.sink_tick(50);
        for (int i = 0; i < 4; ++i) s.sink_tick(50);
        const auto check_others = [&] {
            for (int i = 0; i < 12; ++i) {
                const std::string other = "other " + std::to_string(i);
                CHECK(s.offer(other).answer == receipt::hold);
                CHECK(s.times(other) == 0);
            }
        };
        check_others();
        pj::receive_result r = s.offer(mine);
        for (int i = 0; i < 20 && r.answer == receipt::hold; ++i) {
            check_others();
            s.now_ms += r.wait_ms;
            s.sink_tick();
            r = s.offer(mine);
        }
        CHECK(r.answer == receipt::ack);
        CHECK(s.times(mine) == 3);
        CHECK(s.sink->counts().handled == 2);
        CHECK(s.offer("other 1").answer == receipt::ack);
    }
}

TEST_CASE("G14 G17 a message whose save was pending and then failed is done again") {
    queue s(true);
    s.options.count_messages = true;
    s.open();
    REQUIRE(s.offer("before").answer == receipt::ack);
    s.saves.then(status::pending).then(status::failed);
    CHECK(s.offer("one").answer == receipt::hold);
    s.sink_tick(50);
    CHECK_FALSE(s.db.is_open());
    CHECK(s.db.record().at == 0);
    pj::receive_result r = s.offer("one");
    for (int i = 0; i < 20 && r.answer == receipt::hold; ++i) {
        s.sink_tick(r.wait_ms);
        r = s.offer("one");
    }
    CHECK(r.answer == receipt::ack);
    CHECK(s.times("one") == 2);
    CHECK(s.db.record().at == 1);
}

TEST_CASE("G1 messages that are counted are done, one after the other, before their number is saved") {
    queue s(false);
    s.options.count_messages = true;
    s.what.save = {3, 1000, true};
    s.open();
    CHECK(s.offer("one").answer == receipt::later);
    CHECK(s.offer("two").answer == receipt::later);
    CHECK(s.offer("three").answer == receipt::ack);
    CHECK(s.db.record().at == 2);
}

TEST_CASE("G12 G17 a counted message that is the broker's letter: no other until it is told") {
    for (int which = 0; which < 8; ++which) {
        const std::string mine = "message " + std::to_string(which);
        queue s(true);
        s.options.count_messages = true;
        s.what.on_error = pj::error_policy::dead_letter();
        s.what.dead_letters = {};
        s.does = [&](const std::string& p) { return p == mine ? pj::reject() : pj::handled; };
        s.open();
        s.commits.then(status::pending, 2);
        pj::receive_result r = s.offer(mine);
        for (int i = 0; i < 5 && r.reason != status::pending; ++i) r = s.offer(mine);
        s.sink_tick(50);
        s.sink_tick(50);
        REQUIRE(s.commits.is_empty());
        r = s.offer("other");
        CHECK(r.answer == receipt::hold);
        CHECK(r.reason == status::pending);
        CHECK(r.wait_ms == 50);
        CHECK(s.times("other") == 0);
        CHECK(s.offer(mine).answer == receipt::reject);
        CHECK(s.times(mine) == 1);
        CHECK(s.offer("other").answer == receipt::ack);
    }
}

TEST_CASE("G12 what is not counted and was not told as a letter keeps no other message waiting") {
    queue s(true);
    s.what.on_error = pj::error_policy::dead_letter();
    s.what.dead_letters = {};
    s.does = [&](const std::string& p) { return p == "one" ? pj::reject() : pj::handled; };
    s.open();
    s.commits.then(status::pending);
    pj::receive_result r = s.offer("one");
    for (int i = 0; i < 5 && r.reason != status::pending; ++i) r = s.offer("one");
    s.sink_tick(50);
    REQUIRE(s.commits.is_empty());
    CHECK(s.offer("two").answer == receipt::ack);
    CHECK(s.times("two") == 1);
}

TEST_CASE("G15 G32 nor does it where a crash guard has the other named first") {
    const pj::crash_guard guard{3};
    for (int named = 0; named < 3; ++named) {
        queue s(true);
        s.what.on_error = pj::error_policy::dead_letter();
        s.what.dead_letters = {};
        s.what.crashes = &guard;
        s.does = [&](const std::string& p) { return p == "one" ? pj::reject() : pj::handled; };
        s.sink.reset(new pj::event_sink(s.what, s.options));
        REQUIRE(s.sink->start(pj::start_cause::crash) == status::ok);
        s.sink_tick();
        for (int i = 0; i < named; ++i) s.commits.then(status::ok);
        s.commits.then(status::pending);
        for (int i = 0; i < 9 && !s.commits.is_empty(); ++i) static_cast<void>(s.offer("one"));
        REQUIRE(s.commits.is_empty());
        for (int i = 0; i < 3; ++i) s.sink_tick(50);
        pj::receive_result r = s.offer("two");
        for (int i = 0; i < 9 && r.answer == receipt::hold; ++i) {
            s.sink_tick(50);
            r = s.offer("two");
        }
        CHECK(r.answer == receipt::ack);
        CHECK(s.times("two") == 1);
    }
}

namespace {
/// The print of this payload, by which an engine knows a message of type "Alpha" again, is 0 by
/// chance: as if none had been taken. (Found by trying: FNV-1a of "Alpha", begun with the version.)
constexpr const char* without_print = "ew_XQO";
} // namespace

TEST_CASE("G17 a message whose print is 0 by chance is handled in its unit as any other") {
    pj::stored_event message;
    message.type = pj::text("Alpha");
    message.payload = pj::text(without_print);
#if !defined(PROJECTIONS_SEPARATE)      // there it is with the bodies
    REQUIRE(pj::detail::print_of(message) == 0);
#endif
    queue s(true);
    s.open();
    CHECK(s.offer("before").answer == receipt::ack);
    CHECK(s.offer(without_print).answer == receipt::ack);
    CHECK(s.times(without_print) == 1);
    s.sink->stop();
    s.sink_tick();
    REQUIRE(s.sink->start() == status::ok);
    s.sink_tick();
    CHECK(s.offer(without_print).answer == receipt::ack);
    CHECK(s.times(without_print) == 2);
}

TEST_CASE("G15 a message whose print is 0 by chance is not held for ever") {
    queue s(false);
    s.what.on_error = pj::error_policy::retry(3);
    s.does = [&](const std::string&) { return s.handled.size() < 3 ? pj::fail() : pj::handled; };
    s.open();
    CHECK(s.offer(without_print).answer == receipt::hold);
    s.now_ms += 100;
    CHECK(s.offer(without_print).answer == receipt::hold);
    s.now_ms += 200;
    CHECK(s.offer(without_print).answer == receipt::ack);
    CHECK(s.times(without_print) == 3);
}

TEST_CASE("G7 another message under the offset of one that is held is found out, opened or not") {
    for (const bool is_opened : {false, true}) {
        queue s(false);
        s.what.on_error = pj::error_policy::retry(5);
        const auto open = [](pj::stored_event&) { return true; };
        if (is_opened) s.options.open = open;
        s.does = [](const std::string& p) { return p == "one" ? pj::fail() : pj::handled; };
        s.open();
        CHECK(s.offer("one", 3).answer == receipt::hold);
        s.now_ms += 100;
        CHECK(s.offer("one", 3).answer == receipt::hold);
        s.now_ms += 200;
        const pj::receive_result r = s.offer("other", 3);
        CHECK(r.answer == receipt::hold);
        CHECK(r.reason == status::event_changed);
        CHECK_FALSE(s.sink->running());
        CHECK(s.times("other") == 0);
    }
}

TEST_CASE("G14 a unit that cannot begin keeps an idle sink from all messages until its wait is over") {
    queue s(true);
    s.open();
    s.sink_tick();
    REQUIRE(s.sink->state() == pj::run_state::idle);
    s.begins.then(status::failed);
    for (int i = 0; i < 3; ++i) {
        const pj::receive_result r = s.offer("one");
        CHECK(r.answer == receipt::hold);
        CHECK(r.reason == status::unit_of_work_failed);
        CHECK(r.wait_ms == 100);
    }
    s.now_ms += 100;
    CHECK(s.offer("one").answer == receipt::ack);
    CHECK(s.times("one") == 1);
}

TEST_CASE("G26 one commit for one message, though pending is not to be waited for") {
    queue s(true);
    s.what.pending_ms = 0;
    s.options.count_messages = true;
    s.open();
    s.commits.then(status::pending, 2);
    CHECK(s.offer("one").answer == receipt::hold);
    CHECK_FALSE(s.commits.is_empty());
    s.sink_tick();
    CHECK(s.commits.is_empty());
    s.sink_tick();
    CHECK(s.offer("one").answer == receipt::ack);
    CHECK(s.times("one") == 1);
}

TEST_CASE("G28 a message that halts a sink: the broker is left before what was done is saved") {
    queue s(false);
    s.what.save = {100, 1000, false};
    s.what.on_error = pj::error_policy::halt();
    s.options.client = s.client;
    s.client.unsubscribes.then(status::pending);
    s.does = [](const std::string& p) { return p == "bad" ? pj::reject() : pj::handled; };
    s.open();
    CHECK(s.offer("good", 0).answer == receipt::later);
    CHECK(s.offer("bad", 1).answer == receipt::hold);
    CHECK(s.client.unsubscribed == 1);
    CHECK(s.db.record().revision == 0);
    s.sink_tick(50);
    CHECK(s.client.unsubscribed == 2);
    CHECK(s.sink->state() == pj::run_state::halted);
    CHECK(s.db.record().at == 0);
}

TEST_CASE("G17 a counted message whose commit was done, its answer lost, is not handled again") {
    for (const uint32_t every_ms : {1000u, 0u}) {
        queue s(true);
        s.what.save.every_ms = every_ms;
        s.options.count_messages = true;
        s.open();
        REQUIRE(s.offer("before").answer == receipt::ack);
        s.commits.then(lost_answer());
        CHECK(s.offer("one").answer == receipt::hold);
        CHECK(s.offer("one").answer == receipt::ack);
        CHECK(s.times("one") == 1);
        CHECK(s.db.record().at == 1);
        CHECK(s.sink->running());
    }
}

TEST_CASE("G1 G17 G32 a message is not done because a unit was committed that only named it") {
    const pj::crash_guard guard{2};
    for (const bool is_counted : {false, true}) {
        queue s(true);
        s.what.crashes = &guard;
        s.options.count_messages = is_counted;
        s.sink.reset(new pj::event_sink(s.what, s.options));
        REQUIRE(s.sink->start(pj::start_cause::crash) == status::ok);
        s.sink_tick();
        s.commits.then(status::pending);
        CHECK(s.offer("one").answer == receipt::hold);
        pj::receive_result r = s.offer("one");
        for (int i = 0; i < 9 && r.answer == receipt::hold; ++i) {
            s.sink_tick(s.last.wait_ms);
            r = s.offer("one");
        }
        CHECK(r.answer == receipt::ack);
        CHECK(s.times("one") == 1);
    }
}

TEST_CASE("G32 a message without an offset is blamed for its own crashes, whichever comes first") {
    const pj::crash_guard guard{2};
    for (int i = 0; i < 4; ++i) {
        queue s(i % 2 != 0);
        s.what.crashes = &guard;
        s.options.count_messages = i >= 2;
        // The process has died; true: the message was given up or done, false: it dies again in its
        // handler.
        const auto gets_through = [&](const char* payload, pj::verdict says) {
            s.db.boot();
            s.sink.reset(new pj::event_sink(s.what, s.options));
            REQUIRE(s.sink->start(pj::start_cause::crash) == status::ok);
            s.sink_tick();
            s.does = [says](const std::string&) { return says; };
            s.handled.clear();
            pj::receive_result r{};
            for (int n = 0; n < 9; ++n) {
                r = s.offer(payload);
                if (r.answer != receipt::hold || !s.handled.empty()) break;
            }
            return r.answer != receipt::hold;
        };
        CHECK_FALSE(gets_through("poison", pj::pending));
        // Another consumer has it for a while; with the next crash it would be blamed.
        CHECK(gets_through("innocent", pj::handled));
        CHECK(s.times("innocent") == 1);
        for (int n = 0; n < 2; ++n) CHECK_FALSE(gets_through("poison", pj::pending));
        CHECK(gets_through("poison", pj::pending));
        CHECK(s.handled.empty());
        CHECK(s.sink->last_failure().code == pj::code_crashed);
        CHECK(s.sink->counts().skipped == 1);
    }
}

TEST_CASE("G17 G18 no other is taken for a counted message whose commit has failed") {
    queue s(true);
    s.options.count_messages = true;
    s.open();
    REQUIRE(s.offer("before").answer == receipt::ack);
    s.commits.then(status::failed);
    CHECK(s.offer("one").answer == receipt::hold);
    CHECK(s.offer("two").answer == receipt::hold);      // its own failure is not that of `one`
    CHECK(s.sink->counts().skipped == 0);
    pj::receive_result r = s.offer("one");
    for (int i = 0; i < 5 && r.answer == receipt::hold; ++i) {
        s.sink_tick(r.wait_ms);
        r = s.offer("one");
    }
    CHECK(r.answer == receipt::ack);
    CHECK(s.sink->counts().skipped == 1);
    CHECK(s.offer("two").answer == receipt::ack);
    CHECK(s.times("two") == 1);
}

TEST_CASE("G14 G17 a save that failed in a unit is waited for no longer, though the rollback pends") {
    queue s(true);
    s.options.count_messages = true;
    s.what.save.every_ms = 5000;
    s.open();
    s.saves.then(status::failed);
    s.rollbacks.then(status::pending);
    CHECK(s.offer("one").answer == receipt::hold);
    CHECK(s.sink_tick(50).wait_ms <= 100);
    CHECK_FALSE(s.db.is_open());
    s.now_ms += 100;
    CHECK(s.offer("one").answer == receipt::ack);
}

TEST_CASE("G17 no unit begins before the last one is rolled back, though pending is a wait of 0") {
    for (const bool is_counted : {false, true}) {
        queue s(true);
        s.what.pending_ms = 0;
        s.options.count_messages = is_counted;
        s.open();
        s.db.strict = true;
        if (is_counted) s.saves.then(status::failed);
        else s.commits.then(status::failed);
        s.rollbacks.then(status::pending, 3);
        CHECK(s.offer("one").answer == receipt::hold);
        CHECK(s.rollback_calls == 1);
        const size_t before = s.handled.size();
        for (int i = 0; i < 2; ++i) {
            ++s.now_ms;
            CHECK(s.offer("one").answer == receipt::hold);
            CHECK(s.handled.size() == before);
        }
        CHECK(s.rollback_calls == 3);
    }
}

TEST_CASE("G25 a sink tells its handlers which messages another projection has handled before") {
    queue q(false);
    q.what.replayed_through = 2;
    q.what.save = {100, 1000, false};
    std::string seen;
    q.hands[0]->says = [&](const pj::context& c) {
        seen += c.replaying ? 'r' : 'n';
        return pj::handled;
    };
    q.open();
    for (const position at : {0, 1, 4, 5}) {
        q.sink_tick();
        CHECK(q.offer("x", at).answer == receipt::later);
    }
    CHECK(seen == "rrnn");
}

TEST_CASE("G11 G12 a letter is owed for a message that can no longer be opened: one of nobody's instead") {
    for (const bool has_units : {false, true}) {
        for (const position at : {position{3}, pj::before_first}) {
            CAPTURE(has_units);
            CAPTURE(at);
            queue s(has_units);
            s.what.on_error = pj::error_policy::dead_letter();
            s.does = [](const std::string&) { return pj::reject(7); };
            bool is_sealed = false;
            const auto open = [&](pj::stored_event&) { return !is_sealed; };
            s.options.open = open;
            s.open();
            s.puts.then(status::failed);
            for (int i = 0; i < 5 && !s.puts.is_empty(); ++i)
                CHECK(s.offer("x", at).answer == receipt::hold);
            REQUIRE(s.puts.is_empty());
            is_sealed = true;
            pj::receive_result r{receipt::hold, 0, status::ok};
            for (int i = 0; i < 9 && r.answer == receipt::hold; ++i) {
                s.sink_tick(1000);
                r = s.offer("x", at, true);
            }
            CHECK(r.answer == receipt::ack);
            if (!has_units) CHECK(s.times("x") == 1);
            REQUIRE(s.db.durable.letters.size() == 1);
            const auto& [key, letter] = *s.db.durable.letters.begin();
            CHECK(key.first.empty());
            CHECK(letter.kind == pj::failure_kind::decode);
            CHECK(s.sink->counts().lettered == 1);
        }
    }
}

TEST_CASE("G12 G32 a message that cannot be opened is for no handler, where a crash guard is careful, too") {
    const pj::crash_guard guard{3};
    for (const bool has_units : {false, true}) {
        for (const position at : {position{3}, pj::before_first}) {
            queue s(has_units);
            s.what.on_error = pj::error_policy::dead_letter();
            s.what.crashes = &guard;
            const auto open = [](pj::stored_event&) { return false; };
            s.options.open = open;
            s.sink.reset(new pj::event_sink(s.what, s.options));
            REQUIRE(s.sink->start(pj::start_cause::crash) == status::ok);
            pj::receive_result r{receipt::hold, 0, status::ok};
            for (int i = 0; i < 9 && r.answer == receipt::hold; ++i) {
                s.sink_tick(100);
                r = s.offer("x", at, true);
            }
            CHECK(r.answer == receipt::ack);
            CHECK(s.handled.empty());
            REQUIRE(s.db.durable.letters.size() == 1);
            const auto& [key, letter] = *s.db.durable.letters.begin();
            CHECK(key.first.empty());
            CHECK(letter.kind == pj::failure_kind::decode);
        }
    }
}
