// What an engine with a lease waits for, tells and asks when its lease store does not answer ok.
#include "support/setup.hpp"

using namespace support;
using pj::run_state;
using pj::status;

namespace {

struct lease_book {
    plan acquires, extends, releases;
    std::string trace;                  // a e r
    uint64_t next_token = 7;
    std::vector<uint64_t> tokens;       // that extend() and release() were given
    std::function<void()> extending;    // while extend() is being called
    status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
        CHECK(resource == "p");
        CHECK(ttl_ms == 3000);
        trace += 'a';
        const step s = acquires.take();
        if (s.answer != status::ok) return s.answer;
        if (next_token != 0) token = next_token;    // else it is left as it was
        ++next_token;
        return s.answer;
    }
    status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
        CHECK(resource == "p");
        CHECK(ttl_ms == 3000);
        trace += 'e';
        tokens.push_back(token);
        if (extending) extending();
        return extends.take().answer;
    }
    status release(pj::text resource, uint64_t token) {
        CHECK(resource == "p");
        trace += 'r';
        tokens.push_back(token);
        return releases.take().answer;
    }
};

struct leased : setup {
    lease_book book;
    pj::lease lease{book};
    uint32_t passed_ms = 0;             // since the tick began, as the clock has it
    leased() {
        lease.ttl_ms = 3000;
        lease.margin_ms = 300;
        what.lease = &lease;
        what.poll_ms = pj::never;
        what.clock = {[](void* me) {
            const leased& l = *static_cast<leased*>(me);
            return l.now_ms + l.passed_ms;
        }, this};
        log.append(3, "Beta");
    }
    void begin() { REQUIRE(worker.start() == status::ok); }
};

} // namespace

TEST_CASE("G29 a lease: every function is there, and its times can be kept") {
    const struct { uint32_t ttl_ms, margin_ms; status answer; } cases[] = {
        {3000, 300, status::ok}, {3000, 1499, status::ok}, {3000, 1500, status::bad_lease},
        {10, 4, status::ok}, {10, 5, status::bad_lease}, {10, 9, status::bad_lease},
        {2, 0, status::bad_lease}, {0, 0, status::bad_lease}, {3, 0, status::ok},
        {0x3FFFFFFF, 3000, status::ok}, {0x40000000, 3000, status::bad_lease},
        {pj::never, 3000, status::bad_lease},
    };
    for (const auto& c : cases) {
        CAPTURE(c.ttl_ms);
        CAPTURE(c.margin_ms);
        leased s;
        s.lease.ttl_ms = c.ttl_ms;
        s.lease.margin_ms = c.margin_ms;
        CHECK(s.worker.start() == c.answer);
    }
    for (int which = 0; which < 3; ++which) {
        leased s;
        if (which == 0) s.lease.store.acquire = nullptr;
        if (which == 1) s.lease.store.extend = nullptr;
        if (which == 2) s.lease.store.release = nullptr;
        CHECK(s.worker.start() == status::no_lease);
    }
    leased no_clock;
    no_clock.what.clock = nullptr;
    CHECK(no_clock.worker.start() == status::no_clock);
}

TEST_CASE("G21 a lease that cannot be had: the wait, its reason, what is told, what wake() ends") {
    struct line { status answer; status why; uint32_t first, second; bool is_woken; };
    const line lines[] = {
        {status::pending, status::pending, 10, 10, true},
        {status::conflict, status::lease_held, 301, 301, false},
        {status::failed, status::lease_failed, 100, 200, false},
        {status::more, status::lease_failed, 100, 200, false},
    };
    for (const line& l : lines) {
        CAPTURE(pj::to_string(l.answer));
        leased s;
        s.book.acquires.then(l.answer, 3);
        s.begin();
        CHECK(s.tick().wait_ms == l.first);
        CHECK(s.last.reason == l.why);
        CHECK(s.last.state == run_state::waiting);
        s.worker.wake();
        s.tick();
        CHECK(s.book.trace == (l.is_woken ? "aa" : "a"));
        CHECK(s.last.wait_ms == l.first);
        s.tick_after(l.first - 1);
        CHECK(s.last.wait_ms == 1);
        CHECK(s.book.trace == (l.is_woken ? "aa" : "a"));
        s.tick_after(1);
        CHECK(s.book.trace == (l.is_woken ? "aaa" : "aa"));
        CHECK(s.last.wait_ms == l.second);
        const bool is_failure = l.why == status::lease_failed;
        CHECK(s.watch.count(pj::notice_kind::lease_failed, status::lease_failed) ==
              (is_failure ? 2 : 0));
        CHECK(s.w.port_calls == 0);
        s.store.loads.then(status::failed);     // whose first wait is the first again
        s.run_for(l.second + (is_failure ? 400 : l.second));
        CHECK(s.watch.count(pj::notice_kind::lease_gained, status::ok) == 1);
        CHECK(s.last.reason == status::checkpoint_failed);
        CHECK(s.last.wait_ms <= 100);
        s.run_for(100);
        CHECK(s.worker.scanned() == 2);
        CHECK(s.worker.fencing_token() == 7);
        CHECK(s.watch.count(pj::notice_kind::lease_lost) == 0);
    }
}

TEST_CASE("G21 a token of 0 is none, though acquire() answers ok") {
    leased s;
    s.book.next_token = 0;
    s.begin();
    CHECK(s.tick().wait_ms == 100);
    CHECK(s.last.reason == status::lease_failed);
    CHECK_FALSE(s.worker.has_lease());
    s.run_for(100);
    CHECK(s.worker.fencing_token() == 1);
    CHECK(s.worker.scanned() == 2);
}

TEST_CASE("G13 the lease is renewed after a third of its time, with the token it has") {
    leased s;
    s.begin();
    s.drain();
    CHECK(s.worker.has_lease());
    for (int i = 1; i <= 4; ++i) {
        CHECK(s.last.wait_ms == 1000);
        s.tick_after(999);
        CHECK(s.book.tokens.size() == static_cast<size_t>(i - 1));
        CHECK(s.last.wait_ms == 1);
        s.tick_after(1);
        CHECK(s.book.tokens == std::vector<uint64_t>(static_cast<size_t>(i), 7));
        CHECK(s.last.reason == status::ok);
        CHECK(s.last.state == run_state::idle);
    }
    CHECK(s.watch.count(pj::notice_kind::lease_failed) == 0);
}

TEST_CASE("G13 a renewal that fails is told, and tried again after a quarter of what is left") {
    leased s;
    s.begin();
    s.drain();
    s.book.extends.then(status::failed, 2);
    s.tick_after(1000);                 // 1700 are left until the margin
    CHECK(s.last.wait_ms == 426);
    CHECK(s.watch.count(pj::notice_kind::lease_failed, status::lease_failed) == 1);
    CHECK(s.worker.has_lease());
    s.worker.wake();
    CHECK(s.tick().wait_ms == 426);     // no backoff ends by it
    s.tick_after(426);                  // 1274
    CHECK(s.last.wait_ms == 319);
    CHECK(s.watch.count(pj::notice_kind::lease_failed, status::lease_failed) == 2);
    s.tick_after(319);
    CHECK(s.last.wait_ms == 1000);
    CHECK(s.book.trace == "aeee");
    CHECK(s.watch.count(pj::notice_kind::lease_lost) == 0);
}

TEST_CASE("G13 a renewal that is pending is asked again after pending_ms or wake(), untold") {
    leased s;
    s.begin();
    s.drain();
    s.book.extends.then(status::pending, 2);
    s.tick_after(1000);
    CHECK(s.last.wait_ms == 11);
    s.worker.wake();
    s.tick();
    CHECK(s.book.trace == "aee");
    CHECK(s.last.wait_ms == 11);
    s.tick_after(11);
    CHECK(s.last.wait_ms == 1000);
    s.worker.wake();
    s.tick();
    CHECK(s.book.trace == "aeee");      // it is not pending any more
    CHECK(s.watch.count(pj::notice_kind::lease_failed) == 0);
}

TEST_CASE("G20 a lease that is never renewed is over its margin before its end, exactly") {
    leased s;
    s.begin();
    s.drain();
    s.book.extends.always(status::failed);
    for (int i = 0; i < 500 && s.now_ms < 1000 + 2699; ++i) {
        const uint32_t left = 1000 + 2699 - s.now_ms;
        s.tick_after(s.last.wait_ms < left ? s.last.wait_ms : left);
    }
    CHECK(s.worker.has_lease());
    s.log.append(1, "Beta");
    s.tick_after(1);
    CHECK_FALSE(s.worker.has_lease());
    CHECK(s.watch.count(pj::notice_kind::lease_lost, status::lease_lost) == 1);
    CHECK(s.last.reason == status::lease_lost);
    CHECK(s.last.wait_ms == 301);
    CHECK(s.w.times("a", 3) == 0);
    CHECK(s.worker.fencing_token() == 0);
    s.book.extends.clear();
    s.run_for(301);
    CHECK(s.worker.fencing_token() == 8);
    s.run_for(10);
    CHECK(s.worker.scanned() == 3);
}

TEST_CASE("G20 a renewal that is refused ends the lease at once") {
    leased s;
    s.begin();
    s.drain();
    s.book.extends.then(status::conflict);
    s.log.append(1, "Beta");
    s.worker.wake();
    s.tick_after(1000);
    CHECK_FALSE(s.worker.has_lease());
    CHECK(s.watch.count(pj::notice_kind::lease_lost, status::lease_lost) == 1);
    CHECK(s.watch.count(pj::notice_kind::lease_failed) == 0);
    CHECK(s.w.times("a", 3) == 0);
}

TEST_CASE("G27 what passed within the tick counts: nobody sleeps over a renewal") {
    for (const uint32_t took : {0u, 30u, 999u, 1000u, 1400u}) {
        CAPTURE(took);
        leased s;
        s.a.says.before = [&] { s.passed_ms = s.w.calls.size() >= 3 ? took : 0; };
        s.begin();
        s.drain();
        if (took < 1000) CHECK(s.last.wait_ms == 1000 - took);
        else CHECK(s.book.trace.find('e') != std::string::npos);    // it was renewed meanwhile
        CHECK(s.last.wait_ms <= 1000);
        CHECK(s.worker.has_lease());
    }
}

TEST_CASE("G28 giving the lease back: what is told, and how long it may take") {
    struct line { status answer; pj::notice_kind kind; status reason; };
    const line lines[] = {
        {status::ok, pj::notice_kind::lease_released, status::ok},
        {status::failed, pj::notice_kind::lease_failed, status::lease_failed},
        {status::pending, pj::notice_kind::lease_released, status::ok},
    };
    for (const line& l : lines) {
        CAPTURE(pj::to_string(l.answer));
        leased s;
        s.what.pending_ms = 70;
        s.begin();
        s.drain();
        s.book.releases.then(l.answer);
        s.worker.stop();
        s.tick();
        if (l.answer == status::pending) {
            CHECK(s.last.wait_ms == 70);
            CHECK(s.last.reason == status::pending);
            CHECK(s.worker.running());
            s.worker.wake();
            s.tick();
            CHECK(s.book.trace == "arr");
        }
        CHECK(s.last.state == run_state::stopped);
        CHECK(s.last.reason == status::ok);
        CHECK(s.last.wait_ms == 0);
        CHECK(s.watch.count(l.kind, l.reason) == 1);
        CHECK(s.watch.count(pj::notice_kind::lease_released) +
                  s.watch.count(pj::notice_kind::lease_failed) == 1);
        CHECK(s.book.tokens == std::vector<uint64_t>(l.answer == status::pending ? 2 : 1, 7));
        CHECK_FALSE(s.worker.has_lease());
    }
    leased s;
    s.what.stop_ms = 500;
    s.what.pending_ms = pj::never;
    s.begin();
    s.drain();
    s.book.releases.always(status::pending);
    s.worker.stop();
    s.tick();
    CHECK(s.last.wait_ms == 500);
    s.tick_after(499);
    CHECK(s.worker.running());
    s.tick_after(1);
    CHECK(s.last.state == run_state::stopped);
}

TEST_CASE("G13 a paused standby asks for nothing and waits for nothing") {
    leased s;
    s.book.acquires.then(status::conflict);
    s.begin();
    s.worker.pause();
    s.tick();
    CHECK(s.book.trace.empty());
    CHECK(s.last.wait_ms == pj::never);
    CHECK(s.last.state == run_state::paused);
    s.worker.resume();
    s.tick();
    CHECK(s.book.trace == "a");
    CHECK(s.last.wait_ms == 301);
    s.worker.pause();
    s.tick();
    CHECK(s.last.wait_ms == pj::never);
    s.worker.stop();
    s.tick();
    CHECK(s.last.state == run_state::stopped);
    CHECK(s.book.trace == "a");
}

TEST_CASE("extend_lease() from inside a handler: its answers, and that the time counts from it") {
    const struct { status answer, said; } cases[] = {
        {status::ok, status::ok}, {status::pending, status::pending},
        {status::failed, status::lease_failed}, {status::conflict, status::lease_lost},
    };
    for (const auto& c : cases) {
        CAPTURE(pj::to_string(c.answer));
        leased s;
        s.what.observe = {};            // it is told inside the handler
        status said = status::more;
        s.a.says.otherwise = [&](const pj::stored_event& e, const pj::context& with) {
            if (e.at != 1) return pj::handled;
            s.passed_ms = 500;
            s.book.extends.then(c.answer);
            said = with.extend_lease();
            if (c.answer == status::conflict) CHECK(with.extend_lease() == status::lease_lost);
            return pj::handled;
        };
        s.begin();
        s.drain();
        CHECK(said == c.said);
        if (c.answer == status::ok) CHECK(s.last.wait_ms == 1000);
        CHECK(s.worker.has_lease() == (c.answer != status::conflict));
    }
}

#if PROJECTIONS_EXCEPTIONS
TEST_CASE("G20 G27 under a clock that throws no lease is kept, nothing begins, and nobody is busy") {
    for (const bool only_once : {false, true}) {
        leased s;
        uint32_t calls = 0;
        const auto clock = [&] {
            if (++calls == 1 || !only_once) throw 1;
            return s.now_ms;
        };
        s.what.clock = clock;
        s.begin();
        CHECK(s.tick().wait_ms == 0);           // it is over at once, though it was granted
        CHECK(s.book.trace == "a");
        CHECK(s.store.tried.empty());
        CHECK(s.tick().reason == status::lease_lost);
        CHECK(s.last.wait_ms == 301);
        CHECK(s.w.calls.empty());
        CHECK(s.store.tried.empty());
        s.run_for(1000);
        CHECK(s.worker.has_lease() == only_once);
        CHECK(s.w.called() == (only_once ? "a0 a1 a2" : ""));
    }
}
#endif

TEST_CASE("G30 how far the clock may be from what the tick was told, and keep a lease") {
    const struct { uint32_t passed_ms; bool is_kept; } cases[] = {
        {0, true}, {1, true}, {0x60000000, true}, {0x7FFFFFFF, true}, {0x80000000, false},
        {0u - 1, true}, {0u - 1000, true}, {0u - 1001, false}, {0u - 5000, false},
    };
    for (const auto& c : cases) {
        CAPTURE(c.passed_ms);
        leased s;
        s.passed_ms = c.passed_ms;
        s.begin();
        for (int i = 0; i < 6; ++i) s.tick();
        CHECK(s.worker.has_lease() == c.is_kept);
        CHECK(s.w.called() == (c.is_kept ? "a0 a1 a2" : ""));
    }
}

TEST_CASE("G30 with a clock that is behind the tick no time has passed in it") {
    leased s;
    s.begin();
    s.drain();
    s.book.extends.always(status::failed);
    s.passed_ms = 0u - 5;
    s.tick_after(2699);                 // one more is left
    CHECK(s.worker.has_lease());
    CHECK(s.watch.count(pj::notice_kind::lease_lost) == 0);
    s.tick_after(1);
    CHECK_FALSE(s.worker.has_lease());
}

TEST_CASE("G27 a lease that is pending: the longest wait ends, and `never` ends by wake() alone") {
    for (const uint32_t pending_ms : {pj::never - 1, pj::never}) {
        leased s;
        s.what.pending_ms = pending_ms;
        s.book.acquires.then(status::pending);
        s.passed_ms = 1;
        s.begin();
        CHECK(s.tick().wait_ms == (pending_ms == pj::never ? pj::never : pj::never - 2));
        s.worker.wake();
        s.drain();
        CHECK(s.worker.has_lease());
    }
}

TEST_CASE("G13 a renewal that fails late is tried again after a quarter of what is left by then") {
    leased s;
    s.begin();
    s.drain();
    s.book.extends.then(status::failed);
    s.book.extending = [&] { s.passed_ms = 400; };
    s.tick_after(1000);                 // 1700 were left until the margin, 1300 when it answers
    CHECK(s.last.wait_ms == 326);
    CHECK(s.worker.has_lease());
}

TEST_CASE("G20 nothing begins after a renewal that takes until the end of the lease and fails") {
    leased s;
    s.book.extends.always(status::failed);
    s.book.extending = [&] { s.passed_ms = 2700; };
    s.a.says.before = [&] { s.passed_ms = 1000; };      // the renewal is due before the next event
    s.begin();
    s.drain();
    REQUIRE(s.book.trace == "ae");
    CHECK(s.w.called() == "a0");
}

TEST_CASE("G27 when the lease is lost, a wake() for its renewal asks for no new one") {
    leased s;
    s.begin();
    s.drain();
    s.book.extends.then(status::pending);
    s.tick_after(1000);
    s.tick_after(2000);                 // asleep
    CHECK(s.book.trace == "ae");
    CHECK(s.last.reason == status::lease_lost);
    CHECK(s.last.wait_ms == 301);
    s.worker.wake();
    CHECK(s.tick().wait_ms == 301);
    CHECK(s.book.trace == "ae");
}

TEST_CASE("G14 G21 a new lease does not wait for what the last one could not load") {
    leased s;
    s.what.delays.first_ms = s.what.delays.cap_ms = 20000;
    s.store.loads.then(status::failed);
    s.book.extends.then(status::conflict);
    s.begin();
    CHECK(s.tick().reason == status::checkpoint_failed);
    s.tick_after(1000);                 // refused
    s.tick();
    CHECK(s.last.reason == status::lease_lost);
    s.tick_after(301);
    CHECK(s.store.load_count == 2);
    s.drain();
    CHECK(s.w.called() == "a0 a1 a2");
}

TEST_CASE("G21 after a halt another record is gone on from, and nothing is kept in hand for it") {
    for (const uint32_t later : {0u, 3u}) {     // 0: another one of the same revision
        CAPTURE(later);
        leased s;
        s.what.on_error = pj::error_policy::halt();
        s.a.says.at(1, pj::fail());
        s.begin();
        s.drain();
        REQUIRE(s.worker.state() == run_state::halted);
        pj::checkpoint other = s.stored();
        REQUIRE(other.at == 0);
        other.at = 1;
        other.revision += later;
        s.store.put("p", other);
        REQUIRE(s.worker.retry_failed() == status::ok);
        s.drain();
        CHECK(s.w.called() == "a0 a1 a2");
        CHECK(s.worker.counts().vanished == 0);
        CHECK(s.worker.scanned() == 2);
        CHECK(s.stored().at == 2);
    }
}

TEST_CASE("G27 a sink that begins at the end of its log reads back its claim before it is idle") {
    leased s;
    s.what.first_start = pj::begin_at::the_end;
    pj::event_sink sink{s.what};
    REQUIRE(sink.start() == status::ok);
    pj::tick_result last = sink.tick(s.now_ms);
    CHECK(s.stored().at == 2);
    for (int i = 0; i < 3 && last.wait_ms == 0; ++i) last = sink.tick(s.now_ms);
    CHECK(last.state == run_state::idle);
    CHECK(sink.has_lease());
    const uint32_t loads = s.store.load_count;
    pj::stored_event message;
    message.at = 3;
    message.type = "Beta";
    s.w.feeding = true;
    CHECK(sink.receive(message, s.now_ms).answer == pj::receipt::later);
    CHECK(s.store.load_count == loads);
}

TEST_CASE("G21 a claim at the end of the log that was refused is made again before an event is read") {
    leased s;
    s.what.first_start = pj::begin_at::the_end;
    s.store.saves.then(status::conflict);
    s.begin();
    s.tick();                           // where the end is; the claim is refused
    s.log.append(1, "Beta");
    s.tick();                           // and made again
    CHECK(s.w.called().empty());
    CHECK(s.stored().fencing_token == 7);
    s.drain();
    CHECK(s.w.called() == "a3");
}
