// What an observer is told, in which order; and replayed events: the other policy, silent
// live_only.
#include "support/setup.hpp"

using namespace support;
using pj::status;

namespace {

struct replaying : setup {
    mailer mail{w};
    pj::registry<hand_a, mailer, hand_b> with_mail{a, mail, b};
    explicit replaying(pj::position through) {
        what.handlers = with_mail;
        log.append(6, "Alpha");
        pj::checkpoint record;
        record.revision = 1;
        record.replayed_through = through;
        store.put("p", record);
    }
};

} // namespace

TEST_CASE("G16 the observer hears of everything, in order") {
    setup s;
    s.log.append(1, "Alpha").append(1, "Nobody").append(1, "Alpha").append(1, "Alpha");
    s.what.dead_letters = s.sink;
    s.what.on_error = pj::error_policy::retry_then_dead_letter(1);
    s.b.says.at(2, pj::fail(), 2);
    s.sink.puts.then(status::failed);
    REQUIRE(s.start() == status::ok);
    s.run_for(5000);
    s.worker.pause();
    s.run_for(10);
    s.worker.resume();
    s.run_for(10);
    CHECK(s.stop() == status::ok);
    std::string without_saves;
    for (const told& t : s.watch.notices) {
        if (t.kind == pj::notice_kind::checkpoint_saved) continue;
        without_saves += std::string(name_of(t.kind)) + " ";
    }
    CHECK(without_saves ==
          "started loaded event_unknown handler_failed handler_failed letter_failed "
          "event_lettered paused resumed stopped ");
    CHECK(s.watch.notices.back().reason == status::ok);
    CHECK(s.watch.count(pj::notice_kind::checkpoint_saved) == s.store.saved.size());
}

TEST_CASE("G16 every halt is told once with its reason and cause of failure") {
    setup s;
    s.log.append(2, "Alpha");
    s.what.on_error = pj::error_policy::retry(1);
    s.b.says.always(1, pj::fail(9));
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    CHECK(s.watch.count(pj::notice_kind::halted) == 1);
    CHECK(s.watch.notices.back().kind == pj::notice_kind::halted);
    CHECK(s.watch.notices.back().reason == status::handler_failed);
    for (const told& t : s.watch.notices) {
        if (t.kind != pj::notice_kind::handler_failed) continue;
        CHECK(t.handler == "b");
        CHECK(t.at == 1);
    }
}

TEST_CASE("G16 observe_handled tells of every event, and only then") {
    for (const bool all : {false, true}) {
        setup s;
        s.log.append(5, "Alpha").append(2, "Gamma").append(1, "Nobody");
        s.what.observe_handled = all;
        s.b.says.at(2, pj::fail()).at(3, pj::pending);
        REQUIRE(s.start() == status::ok);
        s.run_for(5000);
        CHECK(s.watch.count(pj::notice_kind::event_handled) == (all ? 4 : 0));
        CHECK(s.watch.count(pj::notice_kind::event_skipped) == 1);
        CHECK(s.watch.count(pj::notice_kind::event_unknown) == 1);
        CHECK(s.worker.counts().handled == 4);
    }
}

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("G26 an observer, a filter, a policy or a clock that throws breaks nothing") {
    setup s;
    s.log.append(5, "Alpha");
    s.watch.also = [](const pj::notice&) { throw std::runtime_error("observer"); };
    const auto clock = []() -> uint32_t { throw std::runtime_error("clock"); };
    s.what.clock = clock;
    s.what.tick_ms_max = 5;
    const auto policy = [](const pj::failure&) -> pj::decision {
        throw std::runtime_error("policy");
    };
    s.what.on_error = pj::error_policy::custom(policy);
    s.b.says.at(3, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.run_for(5000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.stored().at == 2);
    s.watch.also = nullptr;
    CHECK(s.worker.skip_failed(3) == status::ok);
    s.run_for(5000);
    CHECK(s.stored().at == 4);
}
#endif

TEST_CASE("G11 replayed events have a policy of their own") {
    static const pj::error_policy halts = pj::error_policy::halt();
    for (const pj::position failing : {2, 3}) {
        replaying s(2);
        s.what.on_error = pj::error_policy::skip();
        s.what.on_error_replaying = &halts;
        s.a.says.always(failing, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.run_for(5000);
        CHECK((s.worker.state() == pj::run_state::halted) == (failing == 2));
        CHECK(s.worker.counts().skipped == (failing == 2 ? 0 : 1));
    }
}

TEST_CASE("G10 live_only handlers are silent up to replayed_through and like any other above") {
    for (const size_t slice : {size_t{0}, size_t{6}}) {
        replaying s(2);
        s.log.slice = slice;
        s.what.on_error = pj::error_policy::retry(2);
        s.b.says.at(1, pj::fail()).at(2, pj::pending);
        s.mail.says.at(4, pj::fail());
        REQUIRE(s.start() == status::ok);
        s.run_for(5000);
        for (pj::position at = 0; at < 6; ++at) {
            CHECK(s.w.times("mail", at) == (at <= 2 ? 0u : at == 4 ? 2u : 1u));
        }
        for (const call& c : s.w.calls) CHECK(c.replaying == (c.at <= 2));
        CHECK(s.worker.counts().handled == 6);
        CHECK(s.stored().replayed_through == 2);
        CHECK(s.stored().at == 5);
    }
}

TEST_CASE("G16 an event whose only handler is live_only and silent still has an outcome") {
    replaying s(3);
    s.what.handlers = s.mail;
    REQUIRE(s.start() == status::ok);
    s.run_for(5000);
    CHECK(s.w.called() == "mail4 mail5");
    CHECK(s.worker.counts().scanned == 6);
    CHECK(s.stored().at == 5);
}

TEST_CASE("a notice says why: unknown types, failing stores, payloads without a code") {
    setup s;
    s.log.append(1, "Nobody").append(1, "Beta", "!");
    s.store.loads.then(pj::status::failed);
    s.log.reads.then(pj::status::failed);
    REQUIRE(s.start() == pj::status::ok);
    s.run_for(5000);
    const auto reason = [&](pj::notice_kind kind) {
        for (const told& t : s.watch.notices) {
            if (t.kind == kind) return t.reason;
        }
        return pj::status::ok;
    };
    CHECK(reason(pj::notice_kind::event_unknown) == pj::status::unknown_type);
    CHECK(reason(pj::notice_kind::checkpoint_failed) == pj::status::checkpoint_failed);
    CHECK(reason(pj::notice_kind::store_failed) == pj::status::store_failed);
    CHECK(reason(pj::notice_kind::handler_failed) == pj::status::decode_failed);
    CHECK(s.worker.last_failure().code == 0);
    CHECK(s.worker.last_failure().kind == pj::failure_kind::decode);
}

TEST_CASE("a notice of an event that was given up says why its handler had failed") {
    setup s;
    s.log.append(2, "Beta");
    s.what.dead_letters = s.sink;
    s.what.on_error = pj::error_policy::custom([](const pj::failure& f) {
        return f.event.at == 0 ? pj::decision::skip() : pj::decision::dead_letter();
    });
    s.a.says.always(0, pj::fail()).always(1, pj::reject());
    REQUIRE(s.start() == pj::status::ok);
    s.run_for(100);
    CHECK(s.watch.count(pj::notice_kind::event_skipped, pj::status::handler_failed) == 1);
    CHECK(s.watch.count(pj::notice_kind::event_lettered, pj::status::handler_failed) == 1);
}

TEST_CASE("G25 with a filter, too, each event up to replayed_through is replayed, and no other") {
    for (const size_t slice : {size_t{0}, size_t{6}}) {
        setup s;
        s.log.slice = slice;
        s.log.append(8, "Beta");
        s.what.replayed_through = 4;
        s.what.filter = [](const pj::stored_event& e) { return e.at != 2; };
        REQUIRE(s.start() == pj::status::ok);
        s.run_for(5000);
        CHECK(s.w.called() == "a0 a1 a3 a4 a5 a6 a7");
        for (const call& c : s.w.calls) CHECK(c.replaying == (c.at <= 4));
    }
}

TEST_CASE("an unknown type is told as one where events are looked at one by one, too") {
    setup s;
    s.log.append(1, "Nobody");
    s.what.on_unknown = pj::unknown_types::fail;
    s.what.on_error = pj::error_policy::retry(2);
    s.what.observe_handled = true;
    REQUIRE(s.start() == pj::status::ok);
    s.run_for(5000);
    CHECK(s.worker.reason() == pj::status::unknown_type);
    CHECK(s.worker.last_failure().kind == pj::failure_kind::unknown_type);
    CHECK(s.worker.last_failure().code == 0);
    CHECK(s.worker.counts().failed_calls == 1);
}
