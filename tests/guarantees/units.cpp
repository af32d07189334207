// G9, G14, G17, G18: what a unit of work waits for and says why, whose attempts are counted, and
// what is told of commits, saves and rollbacks that fail.
#include "support/office.hpp"

using namespace support;
using pj::position;
using pj::status;

TEST_CASE("G14 G18 each commit that fails is told, halves the unit, and doubles the wait") {
    office s(16);
    s.what.on_error = pj::error_policy::retry(3);
    s.commits.then(status::failed, 3);
    s.start();
    for (const uint32_t ms : {100u, 200u, 400u}) {
        CHECK(s.wait_for(status::unit_of_work_failed) == ms);
        CHECK(s.worker.state() == pj::run_state::waiting);
        CHECK(s.tick(ms - 1).wait_ms == 1);
        CHECK(s.last.reason == status::unit_of_work_failed);
        s.worker.wake();                // a backoff is no wait for a completion
        CHECK(s.tick().wait_ms == 1);
        ++s.now_ms;
    }
    CHECK(s.sizes() == "8 4 2");
    CHECK(s.count(pj::notice_kind::store_failed, status::unit_of_work_failed) == 3);
    CHECK(s.count(pj::notice_kind::store_failed) == 3);
    CHECK(s.rollback_calls == 3);
    s.run_for(5000);
    CHECK(s.db.record().at == 16);
    CHECK(s.count(pj::notice_kind::store_failed) == 3);
    CHECK(s.worker.counts().failed_calls == 0);
    CHECK(s.worker.counts().handled == 16);
}

TEST_CASE("G18 a unit is halved to at most half of what could not be committed, down to one") {
    for (uint32_t events = 1; events <= 16; ++events) {
        office s(events);
        s.what.batch = 16;
        s.what.on_error = pj::error_policy::retry(20);
        s.db.events.erase(s.db.newest());
        s.commits.then(status::failed, 5);
        s.start();
        s.run_for(100000);
        CHECK(s.db.record().at == position{events} - 1);
        std::string sizes = s.sizes();
        uint32_t before = std::stoul(sizes) & 0xFFu;
        CHECK(before == events);
        for (int i = 1; i < 5; ++i) {
            sizes = sizes.substr(sizes.find(' ') + 1);
            const uint32_t now = std::stoul(sizes) & 0xFFu;
            CHECK(now >= 1);
            CHECK(now <= (before > 1 ? before / 2 : 1));
            CHECK(now * 4 >= before);       // and no smaller than it need be
            before = now;
        }
    }
}

TEST_CASE("G18 after a commit that failed the units grow again, one doubling a commit") {
    office s(40);
    s.what.on_error = pj::error_policy::retry(3);
    s.commits.then(status::failed, 3);
    s.start();
    s.run_for(100000);
    CHECK(s.db.record().at == 40);
    CHECK(s.worker.counts().handled == 40);
    // 8, 4 and 2 fail; then 1, and each unit twice as large as the one before, up to the batch.
    CHECK(s.db.committed <= 9);
    CHECK(s.db.committed >= 7);
}

TEST_CASE("G17 a rollback that is pending is asked again after pending_ms or wake(), not before") {
    office s(4);
    s.what.on_error = pj::error_policy::retry(3);
    s.what.pending_ms = 50;
    s.hands[0]->says = failing(0, 1);
    s.rollbacks.then(status::pending, 2);
    s.start();
    CHECK(s.wait_for(status::pending) == 50);
    CHECK(s.rollback_calls == 1);
    CHECK(s.tick(20).wait_ms == 30);
    CHECK(s.rollback_calls == 1);
    CHECK(s.db.begun == 1);
    s.worker.wake();
    CHECK(s.tick().wait_ms == 50);
    CHECK(s.last.reason == status::pending);
    CHECK(s.rollback_calls == 2);
    CHECK(s.db.rolled_back == 0);
    CHECK(s.hands[0]->called.size() == 1);
    s.run_for(5000);
    CHECK(s.rollback_calls == 3);
    CHECK(s.db.rolled_back == 1);
    CHECK(s.count(pj::notice_kind::store_failed) == 0);
    CHECK(s.db.record().at == 4);
}

TEST_CASE("G17 a rollback that fails is told, once, and the unit is over all the same") {
    for (const status answer : {status::failed, status::conflict, status::more}) {
        office s(4);
        s.what.on_error = pj::error_policy::retry(3);
        s.hands[0]->says = failing(0, 1);
        s.rollbacks.then({answer, true, false});
        s.start();
        s.run_for(5000);
        CHECK(s.rollback_calls == 1);
        CHECK(s.count(pj::notice_kind::store_failed, status::unit_of_work_failed) == 1);
        CHECK(s.count(pj::notice_kind::store_failed) == 1);
        CHECK(s.db.record().at == 4);
    }
}

TEST_CASE("G9 in units a retry waits as long as its policy says, and wake() does not end that") {
    office s(3);
    s.what.on_error = pj::error_policy::retry(3);
    s.hands[0]->says = failing(0, 2);
    s.start();
    for (const uint32_t ms : {100u, 200u}) {
        CHECK(s.wait_for(status::handler_failed) == ms);
        s.worker.wake();
        CHECK(s.tick(ms - 1).wait_ms == 1);
        CHECK(s.last.reason == status::handler_failed);
        ++s.now_ms;
    }
    CHECK(s.tick().reason == status::ok);
    s.run_for(5000);
    CHECK(s.hands[0]->attempts == std::vector<uint32_t>{1, 2, 3, 1, 1});
    CHECK(s.db.record().at == 3);
}

TEST_CASE("G9 in units an event that is given up is gone on with at once") {
    office s(3);
    s.what.on_error = pj::error_policy::skip();
    s.hands[0]->says = failing(0, 1);
    s.start();
    s.tick();
    CHECK(s.last.wait_ms == 0);
    CHECK(s.last.reason == status::ok);
    CHECK(s.worker.state() == pj::run_state::running);
    s.run_for(50);
    CHECK(s.db.record().at == 3);
    CHECK(s.now_ms <= 1000);
}

TEST_CASE("G15 in units a pending handler is called again after its wait or wake()") {
    office s(2);
    s.what.pending_ms = 50;
    s.what.unit_ms_max = 10000;
    s.hands[0]->says = failing(0, 3, pj::pending);
    s.start();
    CHECK(s.wait_for(status::pending) == 50);
    CHECK(s.hands[0]->called.size() == 1);
    CHECK(s.tick(49).wait_ms == 1);
    CHECK(s.hands[0]->called.size() == 1);
    CHECK(s.tick(1).wait_ms == 50);
    CHECK(s.hands[0]->called.size() == 2);
    s.worker.wake();
    CHECK(s.tick(10).wait_ms == 50);
    CHECK(s.hands[0]->called.size() == 3);
    s.run_for(5000);
    CHECK(s.hands[0]->attempts == std::vector<uint32_t>{1, 1, 1, 1, 1});
    CHECK(s.db.rolled_back == 0);
    CHECK(s.db.record().at == 2);
}

TEST_CASE("G12 G17 a letter that is pending keeps its unit open, one that fails ends it") {
    for (const bool is_pending : {true, false}) {
        office s(2);
        s.what.on_error = pj::error_policy::dead_letter();
        s.what.pending_ms = 50;
        s.what.unit_ms_max = 10000;
        s.hands[0]->says = failing(0, 100);
        s.puts.then(is_pending ? status::pending : status::failed, 2);
        s.start();
        CHECK(s.wait_for(status::dead_letter_failed) == (is_pending ? 50 : 100));
        CHECK(s.put_calls == 1);
        CHECK(s.db.is_open() == is_pending);
        s.worker.wake();                // ends the wait for a completion, and no backoff
        s.tick();
        CHECK(s.put_calls == (is_pending ? 2 : 1));
        s.run_for(5000);
        CHECK(s.put_calls == 3);
        CHECK(s.db.rolled_back == (is_pending ? 1 : 3));        // one for the failure itself
        CHECK(s.hands[0]->failed == 1);
        CHECK(s.db.letter_keys() == "h0@0");
        CHECK(s.count(pj::notice_kind::letter_failed, status::dead_letter_failed) ==
              (is_pending ? 0 : 2));
        CHECK(s.db.record().at == 2);
    }
}

TEST_CASE("G9 G18 in units, handlers that fail one after the other have all of their attempts") {
    const uint32_t all[] = {0, 1, 100};
    for (const uint16_t retries : {uint16_t{0}, uint16_t{1}, uint16_t{2}}) {
        for (uint32_t which = 0; which < 27; ++which) {
            office s(3, 3);
            s.what.on_error = pj::error_policy::retry_then_skip(retries);
            const uint32_t fails[] = {all[which % 3], all[which / 3 % 3], all[which / 9]};
            for (size_t i = 0; i < 3; ++i) s.hands[i]->says = failing(1, fails[i]);
            s.start();
            s.run_for(1000000);
            CHECK(s.db.record().at == 3);
            for (size_t i = 0; i < 3; ++i) {
                const uint32_t most = retries + 1u;
                CHECK(s.hands[i]->failed == (fails[i] < most ? fails[i] : most));
                CHECK(s.db.applied(s.names[i], 1) == (fails[i] < most ? 1 : 0));
            }
        }
    }
}

TEST_CASE("G9 G18 once a handler is given up all others have all of their attempts") {
    office s(3, 4);
    s.what.on_error = pj::error_policy::retry_then_skip(1);
    s.hands[2]->says = failing(0, 100);
    s.hands[0]->says = failing(0, 1, pj::fail(7), 2);       // not before the third is given up
    s.hands[1]->says = failing(0, 100, pj::fail(7), 2);
    s.start();
    s.run_for(100000);
    CHECK(s.hands[2]->failed == 2);
    CHECK(s.hands[0]->failed == 1);
    CHECK(s.hands[1]->failed == 2);
    CHECK(s.db.applied("h0", 0) == 1);
    CHECK(s.db.applied("h3", 0) == 1);

    office last(3, 2);
    last.what.on_error = pj::error_policy::retry_then_skip(1);
    last.hands[1]->says = failing(0, 100);
    last.hands[0]->says = failing(0, 100, pj::fail(7), 2);
    last.start();
    last.run_for(100000);
    CHECK(last.hands[1]->failed == 2);
    CHECK(last.hands[0]->failed == 2);
}

TEST_CASE("G12 in units a letter says which of 32 handlers, why, with which code and attempts") {
    for (size_t which = 0; which < 32; ++which) {
        office s(2, 32);
        const uint16_t retries = static_cast<uint16_t>(which % 14);
        const uint32_t code = which % 3 == 0 ? 0x0FFFFFFAu : static_cast<uint32_t>(which);
        s.what.delays = {1, 1, 1, 0, 1};
        s.what.on_error = pj::error_policy::retry_then_dead_letter(retries);
        const bool is_rejected = which % 5 == 0;
        s.hands[which]->says =
            failing(0, 100, is_rejected ? pj::reject(code) : pj::fail(code));
        s.start();
        s.run_for(10000);
        REQUIRE(s.db.letter_keys() == s.names[which] + "@0");
        const database::letter l = s.db.durable.letters[{s.names[which], 0}];
        CHECK(l.code == code);
        CHECK(l.kind == (is_rejected ? pj::failure_kind::permanent : pj::failure_kind::transient));
        CHECK(l.attempts == (is_rejected ? 1u : retries + 1u));
        CHECK(s.db.record().at == 2);
    }
}

TEST_CASE("G18 what nobody is called for any more is committed in the end, without a policy") {
    office s(1);
    s.what.on_error = pj::error_policy::skip();
    s.hands[0]->says = failing(0, 1);
    s.start();
    s.tick();                           // the unit of the failure: rolled back
    s.commits.then(status::failed, 3);
    for (const uint32_t ms : {100u, 200u, 400u}) {
        CHECK(s.wait_for(status::unit_of_work_failed) == ms);
        s.now_ms += ms;
    }
    s.run_for(5000);
    CHECK(s.worker.counts().failed_calls == 1);     // that of the handler; the commit is no other's
    CHECK(s.worker.counts().skipped == 1);
    CHECK(s.db.record().at == 1);
    CHECK(s.count(pj::notice_kind::store_failed, status::unit_of_work_failed) == 3);
}

TEST_CASE("G14 G17 a save that fails in a unit is told, waited for, and the wait grows") {
    office s(4);
    s.saves.then(status::failed, 2);
    s.start();
    for (const uint32_t ms : {100u, 200u}) {
        CHECK(s.wait_for(status::checkpoint_failed) == ms);
        CHECK(s.db.record().revision == 0);
        CHECK_FALSE(s.db.is_open());
        CHECK(s.tick(ms - 1).wait_ms == 1);
        CHECK(s.last.reason == status::checkpoint_failed);
        ++s.now_ms;
    }
    CHECK(s.count(pj::notice_kind::checkpoint_failed, status::checkpoint_failed) == 2);
    CHECK(s.count(pj::notice_kind::checkpoint_failed) == 2);
    s.run_for(5000);
    CHECK(s.db.record().at == 4);
    CHECK(s.worker.counts().failed_calls == 0);
    // What has worked once begins with the first wait when it fails again.
    s.db.append(1, "Alpha");
    s.saves.then(status::failed);
    CHECK(s.wait_for(status::checkpoint_failed) == 100);
}

TEST_CASE("G14 G17 a save or commit that is pending is asked again after pending_ms, not before") {
    for (const bool is_save : {true, false}) {
        office s(4);
        s.what.pending_ms = 50;
        (is_save ? s.saves : s.commits).then(status::pending, 2);
        s.start();
        CHECK(s.wait_for(status::pending) == 50);
        CHECK(s.tick(49).wait_ms == 1);
        CHECK(s.last.reason == status::pending);
        CHECK(s.tick(1).wait_ms == 50);
        s.worker.wake();
        s.tick(1);
        CHECK(s.db.record().at == 4);
        CHECK(s.db.begun == 1);
        CHECK(s.hands[0]->called.size() == 4);
        CHECK(s.rollback_calls == 0);
    }
}

TEST_CASE("G14 G18 a commit that fails once for one event: the policy's wait, and then no other") {
    office s(1);
    s.db.events.erase(s.db.newest());
    s.what.on_error = pj::error_policy::skip();
    s.commits.then(status::failed);
    s.start();
    s.tick();
    CHECK(s.last.wait_ms == 0);         // skipped: there is nothing to wait for
    CHECK(s.last.reason == status::ok);
    s.run_for(90);
    CHECK(s.now_ms < 1100);
    CHECK(s.db.record().at == 0);
    CHECK(s.worker.counts().skipped == 1);

    office again(1);
    again.db.events.erase(again.db.newest());
    again.what.on_error = pj::error_policy::retry_then_skip(2);
    again.commits.then(status::failed, 2);
    again.start();
    for (const uint32_t ms : {100u, 200u}) {
        CHECK(again.wait_for(status::unit_of_work_failed) == ms);
        again.now_ms += ms;
    }
    again.run_for(5000);
    CHECK(again.worker.counts().handled == 1);
    CHECK(again.worker.counts().failed_calls == 2);
    CHECK(again.hands[0]->attempts == std::vector<uint32_t>{1, 2, 3});
}

TEST_CASE("G17 what is in a unit counts when it is committed: each outcome, at any time before") {
    office s(2);
    s.what.pending_ms = 50;
    s.what.on_unknown = pj::unknown_types::ignore;
    s.what.filter = {[](void*, const pj::stored_event& e) { return e.at != 1; }, nullptr};
    s.db.append(2, "Nobody");
    s.commits.then(status::pending);
    s.start();
    CHECK(s.wait_for(status::pending) == 50);
    for (int i = 0; i < 2; ++i) {
        const pj::counters n = s.worker.counts();
        const uint64_t done = i == 0 ? 0 : 1;
        CHECK(n.handled == done);
        CHECK(n.filtered == done);
        CHECK(n.unknown == 3 * done);
        CHECK(n.scanned == 5 * done);
        s.tick(50);
    }
}

TEST_CASE("G12 in units a letter counts no more attempts than 15") {
    for (const uint16_t retries : {uint16_t{14}, uint16_t{15}, uint16_t{40}}) {
        office s(1);
        s.what.delays = {1, 1, 1, 0, 1};
        s.what.on_error = pj::error_policy::retry_then_dead_letter(retries);
        s.hands[0]->says = failing(0, 1000);
        s.start();
        s.run_for(10000);
        CHECK(s.hands[0]->failed == retries + 1u);
        const database::letter l = s.db.durable.letters[{"h0", 0}];
        CHECK(l.attempts == 15);
    }
}

TEST_CASE("G16 in units, too, a reset takes nothing off the counters that was committed") {
    office s(5);
    s.db.append(3, "Nobody");
    s.start();
    s.run_for(3000);
    CHECK(s.worker.counts().handled == 5);
    CHECK(s.worker.counts().unknown == 4);
    REQUIRE(s.worker.reset(2) == status::ok);
    CHECK(s.worker.counts().handled == 5);
    CHECK(s.worker.counts().unknown == 4);
    CHECK(s.worker.counts().scanned == 9);
    s.run_for(3000);
    CHECK(s.worker.counts().handled == 7);
    CHECK(s.worker.counts().unknown == 8);
}

namespace {

/// One event, and ports that keep nothing: for very many attempts.
struct nothing_kept {
    status answer = status::ok;
    status begin() { return status::ok; }
    status commit() { return answer; }
    status rollback() { return status::ok; }
    status read(position after, pj::visitor& visit) {
        pj::stored_event one;
        one.at = 0;
        one.type = pj::text("Alpha");
        if (after < 0) static_cast<void>(visit(one));
        return status::ok;
    }
    status load(pj::text, pj::checkpoint&) { return status::ok; }
    status save(pj::text, const pj::checkpoint&) { return status::ok; }
    static pj::verdict call(void* self, const pj::stored_event&, const pj::context&) {
        return static_cast<nothing_kept*>(self)->answer == status::ok ? pj::fail() : pj::handled;
    }
};

} // namespace

TEST_CASE("G9 in units attempts are counted up to 65535, and are never none again") {
    for (const status commits : {status::ok, status::failed}) {
        nothing_kept ports{commits};
        pj::handler_map<1> map;
        map.add(office::alpha, &nothing_kept::call, &ports, "h");
        uint32_t asked = 0, last = 0;
        bool is_falling = false;
        const auto policy = [&](const pj::failure& f) {
            ++asked;
            is_falling = is_falling || f.attempts < last;
            last = f.attempts;
            return pj::decision::retry_after(0);
        };
        pj::projection what{"p", ports, map, ports};
        what.transaction = ports;
        what.on_error = pj::error_policy::custom(policy);
        pj::worker w{what};
        REQUIRE(w.start() == status::ok);
        for (uint32_t i = 0; i < 300000 && asked < 65540; ++i) static_cast<void>(w.tick(0));
        CHECK(asked == 65540);
        CHECK_FALSE(is_falling);
        CHECK(last == 65535);
    }
}

TEST_CASE("G15 in units a wait for a completion that is broken off is no attempt") {
    office s(1);
    s.what.on_error = pj::error_policy::retry_then_skip(2);
    s.what.unit_ms_max = 100000;
    s.hands[0]->says = failing(0, 1000, pj::pending);
    s.start();
    s.wait_for(status::pending);
    for (int i = 0; i < 3; ++i) {
        s.worker.pause();
        s.tick();
        CHECK_FALSE(s.db.is_open());
        CHECK(s.db.rolled_back == static_cast<uint32_t>(i + 1));
        s.worker.resume();
        s.wait_for(status::pending);
    }
    for (const uint32_t attempt : s.hands[0]->attempts) CHECK(attempt == 1);
    CHECK(s.hands[0]->attempts.size() >= 4);

    office both(1, 2);                  // one is pending, and the other fails
    both.what.on_error = pj::error_policy::retry_then_skip(2);
    both.hands[0]->says = [n = 0](const pj::context&) mutable {
        return ++n % 2 != 0 ? pj::pending : pj::handled;
    };
    both.hands[1]->says = failing(0, 1000);
    both.start();
    both.run_for(10000);
    CHECK(both.hands[1]->failed == 3);
    CHECK(both.db.record().at == 1);
    CHECK(both.worker.counts().skipped == 1);

    office second(1);                   // its second attempt is broken off, and is the second again
    second.what.on_error = pj::error_policy::retry_then_skip(2);
    second.what.unit_ms_max = 100000;
    int calls = 0;
    second.hands[0]->says = [&](const pj::context&) {
        return calls++ == 0 ? pj::fail() : pj::pending;
    };
    second.start();
    second.wait_for(status::pending);
    second.worker.pause();
    second.tick();
    second.worker.resume();
    second.wait_for(status::pending);
    CHECK(second.hands[0]->attempts == std::vector<uint32_t>{1, 2, 2});
}

TEST_CASE("in units an event that changes between its attempts halts, as without") {
    office s(2);
    s.what.on_error = pj::error_policy::retry(3);
    s.hands[0]->says = failing(0, 1);
    s.start();
    s.wait_for(status::handler_failed);
    s.db.events[0].aggregate = "another";
    s.run_for(1000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.worker.reason() == status::event_changed);
    CHECK(s.hands[0]->called.size() == 1);
}

namespace {

struct any_alpha {
    static constexpr pj::event_type type{"Alpha"};
    static bool decode(const pj::stored_event&, any_alpha&) { return true; }
};

/// Handlers of which the second is not called for replayed events.
struct with_mail : office {
    struct seen {
        using handles = pj::events<any_alpha>;
        static constexpr const char* handler_name = "seen";
        hand& of;
        std::vector<bool> replaying{};
        pj::verdict on(const any_alpha&, const pj::context& c) {
            replaying.push_back(c.replaying);
            return hand::call(&of, c.event, c);
        }
    };
    struct mailer {
        using handles = pj::live_only<any_alpha>;
        static constexpr const char* handler_name = "mail";
        hand& of;
        pj::verdict on(const any_alpha&, const pj::context& c) { return of.run(c); }
    };
    hand mail{db, "mail"};
    seen first{*hands[0]};
    mailer second{mail};
    pj::registry<seen, mailer> both{first, second};
    explicit with_mail(position through) : office(2) {
        what.handlers = both;
        pj::checkpoint record;
        record.revision = 1;
        record.replayed_through = through;
        db.durable.records["p"] = record;
    }
};

} // namespace

TEST_CASE("G25 in units a retry, too, knows what is replayed; above it live_only is called") {
    for (const position through : {pj::before_first, position{0}, position{1}}) {
        with_mail s(through);
        s.what.on_error = pj::error_policy::retry_then_skip(1);
        s.hands[0]->says = failing(0, 100);
        s.start();
        s.run_for(10000);
        CHECK(s.db.record().at == 2);
        REQUIRE(s.first.replaying.size() == 3);
        CHECK(s.first.replaying[0] == (through >= 0));
        CHECK(s.first.replaying[1] == (through >= 0));
        CHECK(s.first.replaying[2] == (through >= 1));
        CHECK(s.mail.times[0] == (through >= 0 ? 0 : 1));
        CHECK(s.mail.times[1] == (through >= 1 ? 0 : 1));
        CHECK(s.hands[0]->failed == 2);
    }
}

TEST_CASE("G18 G25 a live_only handler is no reason to blame a replayed event for a commit") {
    with_mail s(1);
    s.what.on_error = pj::error_policy::skip();
    s.hands[0]->says = failing(0, 1);
    s.start();
    s.tick();
    s.commits.then(status::failed, 2);
    s.run_for(10000);
    CHECK(s.worker.counts().failed_calls == 1);
    CHECK(s.worker.counts().skipped == 1);
    CHECK(s.db.record().at == 2);
}

namespace {

/// A log that says how far it has looked before it shows an event.
struct filtering : office {
    position looked = 4;
    filtering() : office(8) {
        db.events.erase(db.events.begin(), db.events.find(looked + 1));
        what.log = *this;
    }
    status read(position after, pj::visitor& visit) {
        if (after < looked) visit.scanned_to(looked);
        return office::read(after, visit);
    }
};

} // namespace

TEST_CASE("G2 G17 how far a log has looked is saved before a unit begins") {
    filtering s;
    s.what.on_error = pj::error_policy::skip();
    s.hands[0]->says = failing(5, 1);
    s.start();
    s.run_for(500);
    REQUIRE(s.db.trace.size() > 4);
    CHECK(s.db.trace[0] == "save 4");
    CHECK(s.db.trace[1] == "begin");
    CHECK(s.db.trace[2] == "rollback");
    CHECK(s.db.trace[3] == "begin");
    CHECK(s.db.record().at == 8);
    CHECK(s.db.record().revision == 3);
    CHECK(s.worker.counts().scanned == 4);
}

TEST_CASE("G14 G17 while that cannot be saved no unit is begun, and the wait grows") {
    filtering s;
    s.saves.then(status::failed, 3);
    s.start();
    for (const uint32_t ms : {100u, 200u, 400u}) {
        CHECK(s.wait_for(status::checkpoint_failed) == ms);
        CHECK(s.db.begun == 0);
        CHECK(s.tick(ms - 1).wait_ms == 1);
        CHECK(s.db.begun == 0);
        ++s.now_ms;
    }
    s.run_for(5000);
    CHECK(s.db.record().at == 8);
    CHECK(s.db.begun == s.db.committed);
}

TEST_CASE("G14 a save that is refused in a unit: the record is loaded at once") {
    for (const bool is_pending : {false, true}) {
        office s(7);
        s.what.on_error = pj::error_policy::retry(3);
        s.what.delays.first_ms = 900;
        s.what.pending_ms = 50;
        s.hands[0]->says = failing(4, 1);
        s.start();
        s.tick();                       // 0 to 3 are to be done again, and committed first
        s.saves.then(status::conflict);
        if (is_pending) s.rollbacks.then(status::pending, 2);
        s.tick();
        if (is_pending) {
            CHECK(s.last.wait_ms == 50);
            const uint32_t calls = s.rollback_calls;
            CHECK(s.tick(1).wait_ms == 49);
            CHECK(s.rollback_calls == calls);
            s.tick(49);
            s.tick(50);
        }
        for (int i = 0; i < 3 && s.worker.running(); ++i) s.tick();
        CHECK(s.worker.state() == pj::run_state::halted);
        CHECK(s.worker.reason() == status::checkpoint_conflict);
    }
}

TEST_CASE("G18 after a failure the events before it are done again at once, for no reason") {
    office s(8);
    s.what.on_error = pj::error_policy::retry(3);
    s.hands[0]->says = failing(3, 1);
    s.start();
    s.tick();
    CHECK(s.db.rolled_back == 1);
    CHECK(s.last.wait_ms == 0);
    CHECK(s.last.reason == status::ok);
    CHECK(s.worker.state() == pj::run_state::running);
    s.tick();
    CHECK(s.last.wait_ms == 100);
    CHECK(s.last.reason == status::handler_failed);
    CHECK(s.db.record().at == 2);
}

namespace {

struct known_gamma {
    static constexpr pj::event_type type{"Gamma"};
    static bool decode(const pj::stored_event&, known_gamma&) { return true; }
};
struct only_alpha {
    using handles = pj::matching<pj::events<any_alpha, known_gamma>>;
    static constexpr const char* handler_name = "only";
    office::hand& of;
    pj::verdict on(const any_alpha&, const pj::context& c) { return of.run(c); }
};

} // namespace

TEST_CASE("G16 G17 events that nobody handles count when their unit is committed, as all others") {
    office s(2);
    only_alpha only{*s.hands[0]};
    s.what.handlers = only;
    s.what.pending_ms = 50;
    s.db.append(2, "Gamma").append(1, "Alpha");
    s.commits.then(status::pending);
    s.start();
    CHECK(s.wait_for(status::pending) == 50);
    for (const uint64_t done : {uint64_t{0}, uint64_t{1}}) {
        const pj::counters n = s.worker.counts();
        CHECK(n.handled == 3 * done);
        CHECK(n.unhandled == 2 * done);
        CHECK(n.unknown == done);
        CHECK(n.scanned == 6 * done);
        s.tick(50);
    }
}

TEST_CASE("G8 G17 a hole is passed outside of any unit, so that no rollback makes it come twice") {
    office s(6);
    const pj::gap_guard guard{0};
    s.db.events.erase(2);
    s.what.gaps = &guard;
    s.what.on_error = pj::error_policy::retry(3);
    s.hands[0]->says = failing(3, 2);
    s.start();
    s.run_for(5000);
    CHECK(s.db.record().at == 6);
    CHECK(s.count(pj::notice_kind::gap_found, status::log_gap) == 1);
    CHECK(s.count(pj::notice_kind::gap_skipped, status::log_gap) == 1);
    CHECK(s.hands[0]->called == std::vector<position>{0, 1, 3, 3, 3, 4, 5});
    CHECK(s.worker.counts().handled == 5);
}

TEST_CASE("G14 G17 an event that comes while such a save waits does not cut its wait short") {
    filtering s;
    const database::event one = s.db.events.begin()->second;
    s.db.events.clear();
    s.saves.then(status::failed, 2);
    s.start();
    CHECK(s.wait_for(status::checkpoint_failed) == 100);
    s.db.events[5] = one;
    s.worker.wake();
    s.tick(10);
    for (int i = 0; i < 5 && s.last.wait_ms == 0; ++i) s.tick();
    CHECK(s.last.wait_ms == 90);
    CHECK(s.saves.is_empty() == false);
    CHECK(s.count(pj::notice_kind::checkpoint_failed) == 1);
    CHECK(s.tick(90).wait_ms == 200);
    CHECK(s.saves.is_empty());
    s.run_for(2000);
    CHECK(s.db.record().at == 5);
    CHECK(s.db.begun == 1);
}

TEST_CASE("G18 a commit fails behind an event that a filtering store has passed more after") {
    struct filtering : office {
        filtering() : office(1) {
            db.events.erase(db.newest());
            what.log = *this;
            what.log.bounds = nullptr;
        }
        pj::status read(position after, pj::visitor& visit) {
            const status s = db.read(after, visit);
            visit.scanned_to(3);
            return s;
        }
    } s;
    s.what.on_error = pj::error_policy::retry(3);
    s.commits.then(status::failed);
    s.start();
    s.run_for(5000);
    CHECK(s.worker.running());          // not: store_unordered, because it takes 3 for the event's
    CHECK(s.db.record().at == 3);
    CHECK(s.worker.counts().handled == 1);
}
