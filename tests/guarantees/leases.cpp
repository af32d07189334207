// Leases: one owner at a time, and what a former owner cannot do any more.
#include "support/cluster.hpp"

using namespace support;

namespace {

uint64_t token_of(const cluster& all, const std::string& key = "p") {
    return all.store.at(key).fencing_token;
}

} // namespace

TEST_CASE("G21 acquire, load, claim with the new token, read back, and only then work") {
    cluster all;
    all.append(3);
    host h(all, 1);
    pj::worker w{h.what};
    REQUIRE(w.start() == pj::status::ok);
    CHECK_FALSE(w.has_lease());
    drain(all, w);
    CHECK(w.has_lease());
    CHECK(w.fencing_token() == 1);
    REQUIRE(all.store.history.size() == 2);
    CHECK(all.store.history[0].second.at == pj::before_first);
    CHECK(all.store.history[0].second.fencing_token == 1);
    CHECK(all.store.history[1].second.at == 2);
    CHECK(all.effects.size() == 6);
    for (const effect& e : all.effects) CHECK(e.token == 1);
}

TEST_CASE("G21 nobody else works while the lease stands, and a standby takes over when it ends") {
    cluster all;
    all.append(5);
    host a(all, 1), b(all, 2);
    pj::worker wa{a.what}, wb{b.what};
    REQUIRE(wa.start() == pj::status::ok);
    REQUIRE(wb.start() == pj::status::ok);
    run_for(all, 10000, wa, wb);
    CHECK(wa.has_lease());
    CHECK_FALSE(wb.has_lease());
    CHECK(wb.state() == pj::run_state::waiting);
    CHECK(wb.reason() == pj::status::lease_held);
    CHECK(all.effects.size() == 10);
    // The owner is gone, without a word.
    all.append(5);
    run_for(all, 2999 + 301 + 1, wb);
    CHECK(wb.has_lease());
    run_for(all, 1000, wb);
    CHECK(wb.checkpointed() == 9);
    CHECK(token_of(all) == wb.fencing_token());
    for (pj::position at = 0; at <= 9; ++at) CHECK(all.times(at) == 2);
}

TEST_CASE("G28 stop gives the lease back, so that the next one begins at once") {
    cluster all;
    all.append(5);
    host a(all, 1), b(all, 2);
    pj::worker wa{a.what}, wb{b.what};
    REQUIRE(wa.start() == pj::status::ok);
    run_for(all, 100, wa);
    wa.stop();
    drain(all, wa);
    CHECK(wa.state() == pj::run_state::stopped);
    CHECK(wa.reason() == pj::status::ok);
    CHECK_FALSE(wa.has_lease());
    CHECK(all.leases.released == 1);
    REQUIRE(wb.start() == pj::status::ok);
    drain(all, wb);
    CHECK(wb.has_lease());
    CHECK(all.effects.size() == 10);
}

TEST_CASE("G28 stop while a standby, and before the first tick, needs no lease") {
    cluster all;
    host a(all, 1), b(all, 2);
    pj::worker wa{a.what}, wb{b.what};
    REQUIRE(wa.start() == pj::status::ok);
    drain(all, wa);
    REQUIRE(wb.start() == pj::status::ok);
    drain(all, wb);
    wb.stop();
    drain(all, wb);
    CHECK(wb.state() == pj::run_state::stopped);
    CHECK(wb.reason() == pj::status::ok);
    REQUIRE(wb.start() == pj::status::ok);
    wb.stop();
    drain(all, wb);
    CHECK(wb.reason() == pj::status::ok);
    CHECK(all.leases.released == 0);
}

TEST_CASE("G28 a release that pends, fails or throws does not keep an engine from stopping") {
    for (const pj::status answer : {pj::status::pending, pj::status::failed, pj::status::more}) {
        cluster all;
        all.append(2);
        host a(all, 1);
        a.what.stop_ms = 500;
        pj::worker w{a.what};
        REQUIRE(w.start() == pj::status::ok);
        run_for(all, 100, w);
        all.leases.releases.then(answer, false, 1000);
        w.stop();
        const uint64_t before = all.clock.full();
        run_for(all, 2000, w);
        CHECK(w.state() == pj::run_state::stopped);
        CHECK(w.reason() == pj::status::ok);
        static_cast<void>(before);
    }
}

TEST_CASE("G28 stop after the lease has ended: at once, and what is not saved is reported") {
    cluster all;
    all.append(5);
    host a(all, 1);
    a.what.save = {1000, 100000, false};
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    REQUIRE(w.scanned() == 4);
    all.clock.advance(2800);
    w.stop();
    static_cast<void>(w.tick(all.clock()));
    CHECK(w.state() == pj::run_state::stopped);
    CHECK(w.reason() == pj::status::checkpoint_failed);
    CHECK(all.store.at("p").at == pj::before_first);
    CHECK_FALSE(w.has_lease());
}

TEST_CASE("G28 a halted engine gives its lease back, and takes it again to go on") {
    cluster all;
    all.append(5);
    host a(all, 1);
    bool broken = true;
    a.does = [&](const pj::context& c, bool second) -> pj::verdict {
        return broken && second && c.event.at == 2 ? pj::fail(7) : pj::handled;
    };
    a.what.on_error = pj::error_policy::halt();
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 100, w);
    CHECK(w.state() == pj::run_state::halted);
    CHECK_FALSE(w.has_lease());
    CHECK(all.leases.released == 1);
    CHECK(w.last_failure().at == 2);

    SUBCASE("G10 nobody worked in between: what is done stays done") {
        broken = false;
        REQUIRE(w.retry_failed() == pj::status::ok);
        run_for(all, 100, w);
        CHECK(w.fencing_token() == 2);
        CHECK(w.checkpointed() == 4);
        CHECK(all.times(2) == 3);        // the first handler once, the second twice
    }
    SUBCASE("G31 skip_failed is not undone by loading the record again") {
        REQUIRE(w.skip_failed(2) == pj::status::ok);
        run_for(all, 100, w);
        CHECK(w.checkpointed() == 4);
        CHECK(w.counts().skipped == 1);
        CHECK(w.counts().scanned == 5);
        CHECK(all.times(2) == 2);
    }
    SUBCASE("G31 set_position after a halt survives the new lease") {
        REQUIRE(w.set_position(1, 3) == pj::status::ok);
        run_for(all, 100, w);
        CHECK(w.checkpointed() == 4);
        CHECK(all.times(3) == 0);
        CHECK(all.times(4) == 2);
    }
    SUBCASE("G21 somebody else went on: his record counts") {
        host b(all, 2);
        pj::worker other{b.what};
        REQUIRE(other.start() == pj::status::ok);
        run_for(all, 100, other);
        CHECK(other.checkpointed() == 4);
        other.stop();
        drain(all, other);
        REQUIRE(w.skip_failed(2) == pj::status::ok);
        run_for(all, 100, w);
        CHECK(w.has_lease());
        CHECK(w.checkpointed() == 4);
        for (const effect& e : all.effects) CHECK((e.who == 1 ? e.at <= 2 : e.at >= 2));
    }
}

TEST_CASE("G13 during a backoff the lease is renewed, and stop and pause take one tick") {
    cluster all;
    all.append(3);
    host a(all, 1), b(all, 2);
    a.does = [](const pj::context& c, bool) -> pj::verdict {
        return c.event.at == 1 ? pj::fail() : pj::handled;
    };
    a.what.on_error = pj::error_policy::retry(60000);
    a.what.delays = {20000, 20000, 1, 0, 1};
    pj::worker wa{a.what}, wb{b.what};
    REQUIRE(wa.start() == pj::status::ok);
    REQUIRE(wb.start() == pj::status::ok);
    run_for(all, 60000, wa, wb);
    CHECK(wa.has_lease());
    CHECK(all.leases.extended >= 59);
    CHECK(a.count(pj::notice_kind::lease_lost) == 0);
    for (const effect& e : all.effects) CHECK(e.who == 1);
    wa.pause();
    CHECK(wa.tick(all.clock()).state == pj::run_state::paused);
    run_for(all, 30000, wa, wb);
    CHECK(wa.has_lease());
    wa.stop();
    static_cast<void>(wa.tick(all.clock()));
    CHECK(wa.state() == pj::run_state::stopped);
    CHECK_FALSE(wa.has_lease());
}

TEST_CASE("a standby that is paused leaves the lease to others until it is resumed") {
    cluster all;
    all.append(2);
    host a(all, 1);
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    w.pause();
    CHECK(w.tick(all.clock()).wait_ms == pj::never);
    all.clock.advance(60000);
    CHECK(w.tick(all.clock()).wait_ms == pj::never);
    CHECK(all.leases.acquired == 0);
    w.resume();
    drain(all, w);
    CHECK(w.checkpointed() == 1);
}

TEST_CASE("G20 renewal inside a long batch, by the clock") {
    cluster all;
    all.append(60);
    host a(all, 1), b(all, 2);
    a.does = [&](const pj::context&, bool) -> pj::verdict {
        all.clock.advance(100);         // 12 seconds for the batch, with a lease of 3
        return pj::handled;
    };
    pj::worker wa{a.what};
    REQUIRE(wa.start() == pj::status::ok);
    pj::tick_result r = wa.tick(all.clock());
    if (r.scanned == 0) r = wa.tick(all.clock());
    CHECK(r.scanned == 60);
    CHECK(wa.has_lease());
    CHECK(all.leases.extended >= 10);
    CHECK(wa.checkpointed() == 59);
}

TEST_CASE("G20 nothing begins at expiry minus margin, whatever the lease service does") {
    for (const pj::status answer : {pj::status::pending, pj::status::failed, pj::status::trimmed}) {
        for (const uint32_t step_ms : {1u, 7u, 130u, 299u, 900u}) {
            cluster all;
            all.append(100);
            host a(all, 1);
            a.what.save.every_events = 5;
            a.what.on_error = pj::error_policy::dead_letter();
            a.what.dead_letters = all.letters;
            uint64_t whole = 0;         // events of which both handlers were called
            a.does = [&](const pj::context&, bool second) -> pj::verdict {
                all.clock.advance(step_ms);
                whole += second ? 1 : 0;
                return second ? pj::reject(1) : pj::handled;
            };
            all.leases.extends.then(answer, false, 100000);
            uint64_t last_begin = 0;
            const auto begins = [&](bool& works) {
                works = true;
                last_begin = all.clock.full();
                return pj::status::ok;
            };
            all.store.saves.decide = begins;
            all.letters.puts.decide = begins;
            pj::worker w{a.what};
            REQUIRE(w.start() == pj::status::ok);
            const uint64_t acquired_at = all.clock.full();
            for (int i = 0; i < 2000 && a.count(pj::notice_kind::lease_lost) == 0; ++i) {
                const pj::tick_result r = w.tick(all.clock());
                if (r.wait_ms != pj::never) all.clock.advance(r.wait_ms);
            }
            CAPTURE(step_ms);
            CHECK(a.count(pj::notice_kind::lease_lost) == 1);
            REQUIRE_FALSE(all.effects.empty());
            for (const effect& e : all.effects) CHECK(e.ms < acquired_at + 2700);
            CHECK(last_begin < acquired_at + 2700);
            const uint64_t outcomes = w.counts().scanned;
            CHECK((outcomes == whole || outcomes + 1 == whole));        // the last one's letter
            CHECK_FALSE(w.has_lease());
            CHECK(w.reason() == pj::status::lease_lost);
        }
    }
}

TEST_CASE("G20 an answer that comes too late: the time counts from before the call") {
    cluster all;
    all.append(4);
    host a(all, 1);
    pj::worker w{a.what};
    int calls = 0;
    all.leases.acquires.decide = [&](bool& works) {
        works = true;
        if (calls++ == 0) all.clock.advance(2700);      // the service took its time before it granted
        return pj::status::ok;
    };
    REQUIRE(w.start() == pj::status::ok);
    const pj::tick_result r = w.tick(all.clock());
    CHECK(all.effects.empty());
    CHECK(all.store.history.empty());
    CHECK(r.wait_ms == 0);
    run_for(all, 10000, w);
    CHECK(w.checkpointed() == 3);
    CHECK(all.effects.size() == 8);
}

TEST_CASE("G20 a handler that takes long extends the lease itself") {
    cluster all;
    all.append(3);
    host a(all, 1), b(all, 2);
    std::vector<pj::status> answers;
    a.does = [&](const pj::context& c, bool) -> pj::verdict {
        for (int i = 0; i < 10; ++i) {
            all.clock.advance(1000);
            answers.push_back(c.extend_lease());
        }
        return pj::handled;
    };
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(w.has_lease());
    CHECK(w.checkpointed() == 2);
    for (const pj::status s : answers) CHECK(s == pj::status::ok);

    SUBCASE("and is told when it is over") {
        all.append(1);
        bool slept = false;
        pj::status told = pj::status::ok;
        a.does = [&](const pj::context& c, bool) -> pj::verdict {
            if (!slept) all.clock.advance(4000);
            slept = true;
            told = c.extend_lease();
            return pj::handled;
        };
        w.wake();
        drain(all, w);
        CHECK(told == pj::status::lease_lost);
        CHECK_FALSE(w.has_lease());
    }
    SUBCASE("and without a lease it always is ok") {
        host c(all, 3);
        c.what.lease = nullptr;
        c.what.name = "q";
        pj::status told = pj::status::failed;
        c.does = [&](const pj::context& with, bool) -> pj::verdict {
            told = with.extend_lease();
            CHECK(with.fencing_token == 0);
            return pj::handled;
        };
        pj::worker alone{c.what};
        REQUIRE(alone.start() == pj::status::ok);
        drain(all, alone);
        CHECK(told == pj::status::ok);
    }
}

TEST_CASE("G21 a stale owner's save is refused from the moment the new owner has claimed") {
    cluster all;
    all.append(50);
    host a(all, 1), b(all, 2);
    a.what.batch = 10;
    a.what.save = {1000, 100000, false};
    pj::worker wa{a.what}, wb{b.what};
    // Its clock stands still (a paused machine): it believes that it still holds the lease.
    kit::manual_clock frozen(all.clock.full());
    a.what.clock = frozen;
    REQUIRE(wa.start() == pj::status::ok);
    while (wa.scanned() < 19) static_cast<void>(wa.tick(frozen()));
    CHECK(wa.checkpointed() == pj::before_first);
    all.clock.advance(3001);
    REQUIRE(wb.start() == pj::status::ok);
    drain(all, wb);
    CHECK(wb.checkpointed() == 49);
    const size_t saved = all.store.history.size();
    // It wakes up, still by its own clock: 20 events in hand, the save is due.
    wa.pause();
    for (int i = 0; i < 10; ++i) static_cast<void>(wa.tick(frozen()));
    CHECK(all.store.history.size() == saved);
    CHECK(a.count(pj::notice_kind::lease_lost) == 1);
    CHECK_FALSE(wa.has_lease());
    CHECK(all.store.at("p").at == 49);
    wa.resume();
    frozen.advance(3100);
    all.clock.advance(10);
    wb.stop();
    drain(all, wb);
    run_for(all, 1000, wa);
    CHECK(all.store.at("p").at == 49);
}

TEST_CASE("G21 a former owner's last save that lands between load and claim is taken up") {
    cluster all;
    all.append(10);
    host b(all, 2);
    pj::worker w{b.what};
    int saves = 0;
    all.store.saves.decide = [&](bool& works) {
        works = true;
        if (++saves == 1) {     // just before the claim, the former owner's write arrives
            pj::checkpoint late;
            late.at = 6;
            late.revision = 1;
            all.store.records["p"] = late;
        }
        return pj::status::ok;
    };
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 1000, w);
    CHECK(w.checkpointed() == 9);
    CHECK(all.times(6) == 0);
    CHECK(all.times(7) == 2);
    CHECK(b.count(pj::notice_kind::halted) == 0);
    CHECK(all.store.history.front().second.at == 6);    // G2: the claim, not below it
}

TEST_CASE("G21 a store that refuses every claim is asked with backoff, not in a loop") {
    cluster all;
    all.append(2);
    host a(all, 1);
    pj::worker w{a.what};
    uint32_t saves = 0;
    all.store.saves.decide = [&](bool& works) {
        works = false;
        ++saves;
        return pj::status::conflict;
    };
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 60000, w);
    CHECK(saves < 40);
    CHECK(saves > 3);
    CHECK(all.effects.empty());
}

TEST_CASE("G21 without a lease, a refused save still halts") {
    cluster all;
    all.append(2);
    host a(all, 1);
    a.what.lease = nullptr;
    pj::worker w{a.what};
    all.store.saves.then(pj::status::conflict, false, 10);
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 1000, w);
    CHECK(w.state() == pj::run_state::halted);
    CHECK(w.reason() == pj::status::checkpoint_conflict);
}

TEST_CASE("G21 a checkpoint store that does not keep the claim is found out before anything is done") {
    cluster all;
    all.append(3);
    all.store.positions_only = true;
    host a(all, 1);
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 100, w);
    CHECK(w.state() == pj::run_state::halted);
    CHECK(w.reason() == pj::status::partial_record);
    CHECK(all.effects.empty());
    CHECK(all.leases.released == 1);

    a.what.accept_partial_records = true;
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 100, w);
    CHECK(w.checkpointed() == 2);
    CHECK(all.store.at("p").at == 2);
}

TEST_CASE("G21 a lease service that has forgotten its tokens never lets an old one work") {
    cluster all;
    all.append(3);
    host a(all, 1), b(all, 2);
    pj::checkpoint later;
    later.at = 0;
    later.revision = 5;
    later.fencing_token = 4;
    all.store.records["p"] = later;
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 250, w);
    CHECK(all.effects.empty());
    CHECK(w.reason() == pj::status::lease_lost);
    run_for(all, 5000, w);              // until the tokens have grown beyond what was claimed
    CHECK(w.has_lease());
    CHECK(w.fencing_token() == 5);
    CHECK(w.checkpointed() == 2);
    CHECK(all.times(0) == 0);
}

TEST_CASE("G21 acquire: every answer, lost ones included") {
    for (const pj::status answer : {pj::status::failed, pj::status::pending, pj::status::conflict,
                                    pj::status::trimmed, static_cast<pj::status>(200)}) {
        for (const bool works : {false, true}) {
            cluster all;
            all.append(3);
            host a(all, 1);
            pj::worker w{a.what};
            all.leases.acquires.then(answer, works, 2);
            REQUIRE(w.start() == pj::status::ok);
            static_cast<void>(w.tick(all.clock()));
            CHECK(all.effects.empty());
            CHECK_FALSE(w.has_lease());
            CHECK(w.state() == pj::run_state::waiting);
            run_for(all, 8000, w);
            CHECK(w.has_lease());
            CHECK(w.checkpointed() == 2);
            CHECK(all.effects.size() == 6);
        }
    }
}

TEST_CASE("G21 a token of 0 is no lease") {
    cluster all;
    all.append(1);
    struct {
        pj::status acquire(pj::text, uint32_t, uint64_t& token) {
            token = 0;
            return pj::status::ok;
        }
        pj::status extend(pj::text, uint32_t, uint64_t) { return pj::status::ok; }
        pj::status release(pj::text, uint64_t) { return pj::status::ok; }
    } wrong;
    host a(all, 1);
    a.lease.store = wrong;
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 1000, w);
    CHECK(all.effects.empty());
    CHECK(w.reason() == pj::status::lease_failed);
}

TEST_CASE("G15 acquire and extend that pend are asked again after pending_ms or wake()") {
    cluster all;
    all.append(3);
    host a(all, 1);
    a.what.pending_ms = pj::never;
    pj::worker w{a.what};
    all.leases.acquires.then(pj::status::pending, false, 1);
    REQUIRE(w.start() == pj::status::ok);
    CHECK(w.tick(all.clock()).wait_ms == pj::never);
    all.clock.advance(5000);
    CHECK(w.tick(all.clock()).wait_ms == pj::never);
    w.wake();
    drain(all, w);
    CHECK(w.has_lease());
    // extend pends: with pending_ms never it still is asked again while there is time.
    all.leases.extends.then(pj::status::pending, false, 3);
    run_for(all, 20000, w);
    CHECK(w.has_lease());
    CHECK(a.count(pj::notice_kind::lease_lost) == 0);
}

TEST_CASE("G20 extend that is refused ends the work at once") {
    cluster all;
    all.append(30);
    host a(all, 1);
    a.what.save = {1000, 100000, false};
    a.does = [&](const pj::context&, bool) -> pj::verdict {
        all.clock.advance(50);
        return pj::handled;
    };
    all.leases.extends.then(pj::status::conflict, false, 1);
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    for (int i = 0; i < 5; ++i) static_cast<void>(w.tick(all.clock()));
    CHECK(all.effects.size() == 20);    // the first renewal was due after 1000 ms
    CHECK_FALSE(w.has_lease());
    CHECK(all.store.at("p").at == pj::before_first);
    CHECK(w.scanned() == pj::before_first);
    // Gained again: what was in hand is dropped, though nobody else has worked.
    run_for(all, 20000, w);
    CHECK(w.scanned() == 29);
    CHECK(all.times(0) == 4);
    CHECK(all.times(9) == 4);
    CHECK(all.times(10) == 2);
}

TEST_CASE("G20 an extension counts from before it was asked for, however long the answer takes") {
    cluster all;
    all.append(200);
    host a(all, 1);
    a.does = [&](const pj::context&, bool) -> pj::verdict {
        all.clock.advance(20);
        return pj::handled;
    };
    uint64_t asked_at = 0;
    all.leases.extends.decide = [&](bool& works) {
        works = asked_at == 0;
        if (!works) return pj::status::failed;
        asked_at = all.clock.full();
        all.clock.advance(1000);
        return pj::status::ok;
    };
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    for (int i = 0; i < 2000 && a.count(pj::notice_kind::lease_lost) == 0; ++i)
        static_cast<void>(w.tick(all.clock()));
    REQUIRE(a.count(pj::notice_kind::lease_lost) == 1);
    for (const effect& e : all.effects) CHECK(e.ms < asked_at + 2700);
    CHECK(all.effects.back().ms >= asked_at + 2600);
}

TEST_CASE("G27 wait_ms never oversleeps a renewal, an expiry or the next attempt to acquire") {
    for (uint32_t ttl_ms : {30u, 301u, 3000u}) {
        cluster all;
        all.append(2);
        host a(all, 1), b(all, 2);
        a.lease.ttl_ms = b.lease.ttl_ms = ttl_ms;
        a.lease.margin_ms = b.lease.margin_ms = ttl_ms / 10;
        a.what.poll_ms = b.what.poll_ms = pj::never;
        pj::worker wa{a.what}, wb{b.what};
        REQUIRE(wa.start() == pj::status::ok);
        REQUIRE(wb.start() == pj::status::ok);
        drain(all, wa);
        drain(all, wb);
        for (int i = 0; i < 100; ++i) {
            const pj::tick_result r = wa.tick(all.clock());
            CHECK(r.wait_ms != 0);
            CHECK(r.wait_ms <= ttl_ms / 3);
            CHECK(wb.tick(all.clock()).wait_ms <= ttl_ms / 10 + 1);
            all.clock.advance(r.wait_ms);
        }
        CHECK(wa.has_lease());
        CHECK(a.count(pj::notice_kind::lease_lost) == 0);
    }
}

TEST_CASE("G30 wrapping of the clock neither ends nor prolongs a lease") {
    for (const uint64_t start : {0xFFFFFFFFull - 20000, 0xFFFFFFFFull - 1, 0x1FFFFF000ull}) {
        cluster all(start);
        all.append(3);
        host a(all, 1), b(all, 2);
        pj::worker wa{a.what}, wb{b.what};
        REQUIRE(wa.start() == pj::status::ok);
        REQUIRE(wb.start() == pj::status::ok);
        run_for(all, 60000, wa, wb);
        CHECK(wa.has_lease());
        CHECK(a.count(pj::notice_kind::lease_lost) == 0);
        // Asleep for almost a whole turn of the clock: expired is expired.
        static_cast<void>(wa.tick(all.clock()));
        all.clock.advance(0xFFFFFFFFull - 5);
        static_cast<void>(wa.tick(all.clock()));
        CHECK_FALSE(wa.has_lease());
        CHECK(a.count(pj::notice_kind::lease_lost) == 1);
    }
}

TEST_CASE("G30 a clock a little behind the tick's argument is no expiry, one far behind is") {
    cluster all;
    all.append(3);
    host a(all, 1);
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    for (int i = 0; i < 5; ++i) static_cast<void>(w.tick(all.clock() + 900));
    CHECK(w.has_lease());
    CHECK(all.effects.size() == 6);
    host b(all, 2);
    b.what.name = "q";
    pj::worker other{b.what};
    REQUIRE(other.start() == pj::status::ok);
    for (int i = 0; i < 5; ++i) static_cast<void>(other.tick(all.clock() + 5000));
    CHECK_FALSE(other.has_lease());
}

TEST_CASE("G29 what is wrong with a lease is named at start") {
    cluster all;
    host a(all, 1);
    pj::worker w{a.what};
    SUBCASE("no clock") {
        a.what.clock = nullptr;
        CHECK(w.start() == pj::status::no_clock);
    }
    SUBCASE("a missing function") {
        a.lease.store.extend = nullptr;
        CHECK(w.start() == pj::status::no_lease);
        a.lease.store = all.leases;
        a.lease.store.release = nullptr;
        CHECK(w.start() == pj::status::no_lease);
        a.lease.store = pj::lease_store{};
        CHECK(w.start() == pj::status::no_lease);
    }
    SUBCASE("times that leave none to work") {
        a.lease.margin_ms = 1500;
        CHECK(w.start() == pj::status::bad_lease);
        a.lease.margin_ms = 0;
        a.lease.ttl_ms = 2;
        CHECK(w.start() == pj::status::bad_lease);
        a.lease.ttl_ms = pj::never;
        CHECK(w.start() == pj::status::bad_lease);
    }
    SUBCASE("a model in RAM that another process would take over") {
        a.what.volatile_model = true;
        CHECK(w.start() == pj::status::bad_lease);
    }
    CHECK(all.leases.acquired == 0);
    CHECK(all.store.records.empty());
}

TEST_CASE("a lease is called as the checkpoint's key, or as the user says") {
    cluster all;
    host a(all, 1);
    std::string spelled;
    const auto name = [&](pj::text key) -> pj::text {
        spelled = "lock:" + std::string(key.begin(), key.end());
        return spelled;
    };
    a.lease.resource = name;
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(all.leases.resources() == std::vector<std::string>{"lock:p"});
}

TEST_CASE("defect 12: the lock is renewed, fenced, and two projections do not share it") {
    cluster all;
    all.append(3);
    host a(all, 1), b(all, 2);
    b.what.name = "q";
    pj::worker wa{a.what}, wb{b.what};
    REQUIRE(wa.start() == pj::status::ok);
    REQUIRE(wb.start() == pj::status::ok);
    run_for(all, 30000, wa, wb);
    CHECK(wa.has_lease());
    CHECK(wb.has_lease());
    CHECK(all.leases.resources().size() == 2);
    CHECK(all.leases.extended >= 50);
    CHECK(all.store.at("p").fencing_token != 0);
    CHECK(all.store.at("q").fencing_token != 0);
}

TEST_CASE("a live worker and a replay exclude each other by the lease") {
    cluster all;
    all.append(6);
    host a(all, 1), r(all, 2);
    pj::worker w{a.what};
    pj::replay_engine replay{r.what};
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 100, w);
    REQUIRE(replay.start() == pj::status::ok);
    run_for(all, 10000, w, replay);
    CHECK(replay.reason() == pj::status::lease_held);
    CHECK(all.store.at("p").replay_stage == 0);
    w.stop();
    drain(all, w);
    run_for(all, 1000, replay);
    CHECK(replay.finished());
    for (pj::position at = 0; at <= 5; ++at) CHECK(all.times(at) == 4);
    // The other way round: while a rebuild runs, no worker begins.
    pj::replay_engine again{r.what};
    r.does = [&](const pj::context&, bool) -> pj::verdict { return pj::pending; };
    REQUIRE(again.start() == pj::status::ok);
    run_for(all, 100, again);
    REQUIRE(w.start() == pj::status::ok);
    const size_t before = all.effects.size();
    for (int i = 0; i < 100; ++i) {
        static_cast<void>(w.tick(all.clock()));
        static_cast<void>(again.tick(all.clock()));
        all.clock.advance(20);
    }
    CHECK_FALSE(w.has_lease());
    for (size_t i = before; i < all.effects.size(); ++i) CHECK(all.effects[i].who == 2);
}

TEST_CASE("G20 a rebuild that has lost its lease does not drop what the next owner builds") {
    // The record, the claim, the count of the partitions, the marker: one is read very slowly.
    for (int slow = 1; slow <= 4; ++slow) {
        CAPTURE(slow);
        cluster all;
        all.append(6);
        host r(all, 1);
        counted_reads reads{all, 0};
        r.what.log = reads;
        int drops = 0;
        const auto drop = [&] {
            ++drops;
            return pj::status::ok;
        };
        pj::replay_options options;
        options.on_drop = drop;
        pj::replay_engine replay{r.what, options};
        int loads = 0;
        all.store.loads.decide = [&](bool& works) {
            works = true;
            if (++loads == slow) all.clock.advance(5000);
            return pj::status::ok;
        };
        REQUIRE(replay.start() == pj::status::ok);
        for (int i = 0; i < 20 && loads < slow; ++i) static_cast<void>(replay.tick(all.clock()));
        CHECK(loads >= slow);
        CHECK(drops == 0);
        CHECK(reads.count == 0);
        static_cast<void>(replay.tick(all.clock()));
        CHECK_FALSE(replay.has_lease());
        run_for(all, 5000, replay);
        CHECK(drops == 1);
        CHECK(replay.finished());
    }
}

TEST_CASE("G12 a payload that cannot be decoded is one letter, though handlers are called one by one") {
    cluster all;
    host a(all, 1);
    struct {
        pj::status read(pj::position after, pj::visitor& visit) {
            if (after >= 0) return pj::status::ok;
            pj::stored_event e;
            e.at = 0;
            e.type = "Tick";
            e.payload = pj::bytes("?", 1);
            static_cast<void>(visit(e));
            return pj::status::ok;
        }
    } log;
    a.what.log = log;
    a.what.on_error = pj::error_policy::dead_letter();
    a.what.dead_letters = all.letters;
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(all.letters.kept.size() == 1);
    CHECK(w.counts().failed_calls == 1);
    CHECK(w.counts().lettered == 1);
    CHECK(all.effects.empty());
}

TEST_CASE("G32 a crash is counted, though the first lease is lost before the record is loaded") {
    cluster all;
    all.append(3);
    host a(all, 1);
    static constexpr pj::crash_guard guard{3};
    a.what.crashes = &guard;
    pj::worker w{a.what};
    int calls = 0;
    all.leases.acquires.decide = [&](bool& works) {
        works = true;
        if (calls++ == 0) all.clock.advance(2700);
        return pj::status::ok;
    };
    pj::position named = pj::before_first;
    a.does = [&](const pj::context& c, bool) -> pj::verdict {
        if (c.event.at == 0) named = all.store.at("p").suspect;
        return pj::handled;
    };
    REQUIRE(w.start(pj::start_cause::crash) == pj::status::ok);
    run_for(all, 10000, w);
    CHECK(w.checkpointed() == 2);
    CHECK(named == 0);          // named before it was begun
}

TEST_CASE("a sink with a lease holds its messages until it has it, and when it has lost it") {
    cluster all;
    host a(all, 1), b(all, 2);
    pj::event_sink sink{a.what};
    pj::worker other{b.what};
    REQUIRE(other.start() == pj::status::ok);
    drain(all, other);
    REQUIRE(sink.start() == pj::status::ok);
    const tick_event e{1};
    const auto offer = [&](pj::position at) {
        return sink.receive(pj::raw_event(at, e, "x"), all.clock());
    };
    CHECK(offer(0).answer == pj::receipt::hold);
    CHECK(offer(0).reason == pj::status::lease_held);
    CHECK(all.effects.empty());
    other.stop();
    drain(all, other);
    all.clock.advance(400);
    CHECK(offer(0).reason == pj::status::pending);      // acquired and claimed; read back next
    CHECK(offer(0).answer != pj::receipt::hold);
    CHECK(all.effects.size() == 2);
    CHECK(sink.has_lease());
    all.clock.advance(3000);            // nobody ticked: it is over
    const pj::receive_result late = offer(1);
    CHECK(late.answer == pj::receipt::hold);
    CHECK(late.reason == pj::status::lease_lost);
    CHECK(all.effects.size() == 2);
}

TEST_CASE("G21 when the lease is lost nothing stays in hand, though nobody else has worked") {
    cluster all;
    all.append(3);
    host a(all, 1);
    a.what.on_error = pj::error_policy::retry(60000);
    a.what.delays = {100, 100, 1, 0, 1};
    std::vector<uint32_t> attempts;
    a.does = [&](const pj::context& c, bool) -> pj::verdict {
        if (c.event.at != 1) return pj::handled;
        attempts.push_back(c.attempt);
        return pj::fail();
    };
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 1000, w);
    REQUIRE(attempts.back() > 3);
    CHECK(w.scanned() == 0);
    all.clock.advance(10000);           // asleep, and the lease is over
    static_cast<void>(w.tick(all.clock()));
    CHECK_FALSE(w.loaded());
    CHECK(w.scanned() == pj::before_first);
    attempts.clear();
    run_for(all, 1000, w);
    REQUIRE(!attempts.empty());
    CHECK(attempts.front() == 1);
    CHECK(a.count(pj::notice_kind::lease_lost) == 1);
    CHECK(a.count(pj::notice_kind::lease_gained) == 2);
}

TEST_CASE("G20 an extension that fails is asked for again in a quarter of what is left") {
    for (const pj::status answer : {pj::status::failed, pj::status::more}) {
        cluster all;
        all.append(3);
        host a(all, 1);
        pj::worker w{a.what};
        REQUIRE(w.start() == pj::status::ok);
        drain(all, w);
        uint32_t asked = 0;
        all.leases.extends.decide = [&](bool& works) {
            ++asked;
            works = false;
            return answer;
        };
        all.clock.advance(1000);
        CHECK(w.tick(all.clock()).wait_ms == (3000 - 300 - 1000) / 4 + 1);
        CHECK(asked == 1);
        w.wake();                       // ends no backoff
        static_cast<void>(w.tick(all.clock()));
        CHECK(asked == 1);
    }
}

TEST_CASE("G20 a handler that extends the lease is told what has become of it") {
    cluster all;
    all.append(1);
    host a(all, 1);
    std::vector<pj::status> told;
    a.does = [&](const pj::context& c, bool second) -> pj::verdict {
        if (second) return pj::handled;
        told = {c.extend_lease(), c.extend_lease(), c.extend_lease()};
        return pj::handled;
    };
    all.leases.extends.then(pj::status::failed, false).then(pj::status::pending, false);
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    CHECK(told == std::vector<pj::status>{pj::status::lease_failed, pj::status::pending,
                                          pj::status::ok});
}

TEST_CASE("G27 a lease that cannot be acquired is asked for with growing waits") {
    cluster all;
    host a(all, 1);
    uint32_t asked = 0;
    all.leases.acquires.decide = [&](bool& works) {
        ++asked;
        works = false;
        return pj::status::failed;
    };
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    for (const uint32_t wait_ms : {100u, 200u, 400u, 800u}) {
        CHECK(w.tick(all.clock()).wait_ms == wait_ms);
        const uint32_t before = asked;
        w.wake();
        CHECK(w.tick(all.clock()).wait_ms == wait_ms);
        CHECK(asked == before);
        CHECK(w.reason() == pj::status::lease_failed);
        all.clock.advance(wait_ms);
    }
    CHECK(a.notices.back().first == pj::notice_kind::lease_failed);
    CHECK(a.notices.back().second == pj::status::lease_failed);
}

TEST_CASE("G15 an extension that pends is asked for again at once after wake()") {
    cluster all;
    host a(all, 1);
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    all.leases.extends.then(pj::status::pending, false);
    all.clock.advance(1000);
    CHECK(w.tick(all.clock()).wait_ms == a.what.pending_ms + 1);
    CHECK(all.leases.extended == 0);
    w.wake();
    static_cast<void>(w.tick(all.clock()));
    CHECK(all.leases.extended == 1);
}

TEST_CASE("G15 G28 a release that pends is asked for again after pending_ms, not before") {
    cluster all;
    host a(all, 1);
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    uint32_t asked = 0;
    all.leases.releases.decide = [&](bool& works) {
        works = ++asked == 3;
        return works ? pj::status::ok : pj::status::pending;
    };
    w.stop();
    CHECK(w.tick(all.clock()).wait_ms == a.what.pending_ms);
    static_cast<void>(w.tick(all.clock()));
    CHECK(asked == 1);
    run_for(all, 100, w);
    CHECK(asked == 3);
    CHECK(w.state() == pj::run_state::stopped);
    CHECK(all.leases.released == 1);
}

TEST_CASE("G21 G23 a rebuild's marker that lands between load and claim stops the new owner") {
    cluster all;
    all.append(10);
    host b(all, 2);
    pj::worker w{b.what};
    int saves = 0;
    all.store.saves.decide = [&](bool& works) {
        works = true;
        if (++saves == 1) {
            pj::checkpoint marker;
            marker.revision = marker.rebuild = 1;
            marker.replay_stage = 1;
            marker.replayed_through = 6;
            all.store.records["p"] = marker;
        }
        return pj::status::ok;
    };
    all.leases.releases.then(pj::status::pending);
    REQUIRE(w.start() == pj::status::ok);
    CHECK(w.tick(all.clock()).wait_ms == 0);            // the claim is refused
    CHECK(w.tick(all.clock()).wait_ms == b.what.pending_ms);    // G15: for the release
    run_for(all, 1000, w);
    CHECK(w.state() == pj::run_state::halted);
    CHECK(w.reason() == pj::status::rebuild_unfinished);
    CHECK(all.effects.empty());
}

TEST_CASE("G21 G31 a reset before the record is loaded under a new lease is refused") {
    cluster all;
    all.append(5);
    host a(all, 1);
    a.what.on_error = pj::error_policy::halt();
    a.does = [](const pj::context& c, bool) -> pj::verdict {
        return c.event.at == 2 ? pj::fail() : pj::handled;
    };
    pj::worker w{a.what};
    REQUIRE(w.start() == pj::status::ok);
    run_for(all, 100, w);
    REQUIRE(w.state() == pj::run_state::halted);        // and has given the lease back
    all.store.loads.then(pj::status::failed, false);
    REQUIRE(w.retry_failed() == pj::status::ok);
    static_cast<void>(w.tick(all.clock()));
    CHECK(w.fencing_token() == 2);
    CHECK(w.reset(0) == pj::status::not_loaded);
    const size_t saved = all.store.history.size();
    run_for(all, 1000, w);
    // The first thing that is saved under the new lease is the claim: what the record says.
    CHECK(all.store.history[saved].second.at == 1);
    CHECK(all.store.history[saved].second.fencing_token == 2);
}

TEST_CASE("G5 G21 with a lease, too, a first start at the end begins there, whatever bounds() says first") {
    for (const pj::status first : {pj::status::ok, pj::status::pending, pj::status::failed}) {
        for (const bool is_stopped : {false, true}) {
            CAPTURE(first);
            CAPTURE(is_stopped);
            cluster all;
            all.append(5);
            struct bounded {
                cluster& of;
                pj::status says;
                pj::status read(pj::position after, pj::visitor& visit) { return of.read(after, visit); }
                pj::status bounds(pj::position& trimmed, pj::position& newest) {
                    trimmed = pj::before_first;
                    newest = of.newest();
                    return says;
                }
            } log{all, first};
            host a(all, 1);
            a.what.log = log;
            a.what.first_start = pj::begin_at::the_end;
            a.what.pending_ms = 50;
            pj::worker worker{a.what};
            REQUIRE(worker.start() == pj::status::ok);
            int ticks = 0;
            for (; ticks < 100 && all.clock.full() < 1400; ++ticks) {
                const pj::tick_result r = worker.tick(all.clock());
                if (r.wait_ms > 400) break;
                all.clock.advance(r.wait_ms);
            }
            CHECK(ticks < 30);                          // it is not asked in a loop
            CHECK(all.store.records.count("p") == (first == pj::status::ok ? 1u : 0u));
            if (is_stopped) {                           // it has left nothing that says it had begun
                worker.stop();
                drain(all, worker);
                REQUIRE(worker.start() == pj::status::ok);
            }
            log.says = pj::status::ok;
            run_for(all, 3000, worker);
            CHECK(all.effects.empty());
            all.append(1);
            run_for(all, 3000, worker);
            CHECK(all.times(5) == 2);
            CHECK(all.effects.size() == 2);
            CHECK(all.store.at("p").fencing_token != 0);
        }
    }
}

TEST_CASE("G21 a claim whose answer is lost is not taken for the claim of a former owner") {
    cluster all;
    all.append(5);
    uint64_t former = 0;
    REQUIRE(all.leases.acquire("p", 10, former) == pj::status::ok);
    all.clock.advance(20);
    host h(all, 2);
    pj::worker w{h.what};
    all.store.saves.then(pj::status::failed);
    REQUIRE(w.start() == pj::status::ok);
    static_cast<void>(w.tick(all.clock()));
    // The claim of the former owner comes late: where this one is, and one revision more.
    pj::checkpoint& kept = all.store.records["p"];
    kept.revision = 1;
    kept.fencing_token = former;
    run_for(all, 1000, w);
    CHECK(w.has_lease());
    CHECK(w.fencing_token() == former + 1);
    CHECK(token_of(all) == former + 1);
    for (const auto& [key, saved] : all.store.history) CHECK(saved.fencing_token == former + 1);
    CHECK(w.checkpointed() == 4);
    for (pj::position at = 0; at < 5; ++at) CHECK(all.times(at) == 2);
}

TEST_CASE("G21 G28 stopped while a save stands refused: nothing is saved over it, and it is told") {
    cluster all;
    all.append(2);
    host h(all, 1);
    pj::worker w{h.what};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    all.append(2);
    all.store.records["p"].at = 7;              // somebody else's
    all.store.records["p"].revision += 3;
    all.clock.advance(1000);
    static_cast<void>(w.tick(all.clock()));
    w.stop();
    drain(all, w);
    CHECK(w.state() == pj::run_state::halted);
    CHECK(w.reason() == pj::status::checkpoint_conflict);
    CHECK(all.store.at("p").at == 7);
    CHECK(all.leases.released == 1);
}

TEST_CASE("G21 another who goes on writing positions is found out, though partial records are known") {
    for (const bool is_known : {true, false}) {
        cluster all;
        all.append(10);
        all.store.positions_only = true;
        host h(all, 1);
        h.what.accept_partial_records = is_known;
        pj::worker w{h.what};
        REQUIRE(w.start() == pj::status::ok);
        static_cast<void>(w.tick(all.clock()));
        all.store.records["p"].at = 7;
        drain(all, w);
        CHECK(w.state() == pj::run_state::halted);
        CHECK(w.reason() == pj::status::partial_record);
        CHECK(all.effects.empty());
    }
}

TEST_CASE("G27 the longest backoff of a lease store that answers late does not wrap to a short one") {
    cluster all;
    host h(all, 1);
    h.what.delays = {pj::never - 15, pj::never, 1, 0, 1};
    all.leases.acquires.decide = [&](bool& works) {
        works = false;
        all.clock.advance(1000);
        return pj::status::failed;
    };
    pj::worker w{h.what};
    REQUIRE(w.start() == pj::status::ok);
    const pj::tick_result r = w.tick(all.clock());
    CHECK(r.reason == pj::status::lease_failed);
    CHECK(r.wait_ms == pj::never - 1 - 1000);
}

TEST_CASE("G20 a context that was kept for later extends no lease that was given back") {
    cluster all;
    all.append(1);
    host h(all, 1);
    std::vector<pj::context> kept;
    h.does = [&](const pj::context& c, bool) {
        kept.push_back(c);
        return pj::handled;
    };
    pj::worker w{h.what};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    REQUIRE(kept.size() == 2);
    w.stop();
    drain(all, w);
    uint32_t asked = 0;
    all.leases.extends.decide = [&](bool& works) {
        ++asked;
        works = false;
        return pj::status::ok;
    };
    CHECK(kept[0].extend_lease() == pj::status::lease_lost);
    CHECK(asked == 0);
}

TEST_CASE("G21 a store that answers conflict though nobody has saved: read again, and nothing is lost") {
    for (int before = 0; before < 5; ++before) {
        CAPTURE(before);
        cluster all;
        all.append(5);
        host h(all, 1);
        h.what.batch = 2;
        h.what.save.every_events = 2;
        all.store.saves.pass(before).then(pj::status::conflict);
        pj::worker w{h.what};
        REQUIRE(w.start() == pj::status::ok);
        run_for(all, 5000, w);
        CHECK(w.running());
        CHECK(w.checkpointed() == 4);
        CHECK(token_of(all) == w.fencing_token());
        CHECK(w.fencing_token() == 1);          // it is nobody else's, so the lease is kept
        CHECK(h.count(pj::notice_kind::lease_lost) == 0);
        for (pj::position at = 0; at < 5; ++at) CHECK(all.times(at) >= 2);
        for (pj::position at = 0; at < 5; ++at) CHECK(all.times(at) <= 4);
    }
}

namespace {

/// Does not tell the token it keeps, as long as it is told not to.
struct secretive {
    kit::memory_checkpoints& all;
    bool is_telling = false;
    pj::status load(pj::text key, pj::checkpoint& out) {
        const pj::status s = all.load(key, out);
        if (!is_telling) out.fencing_token = 0;
        return s;
    }
    pj::status save(pj::text key, const pj::checkpoint& next) { return all.save(key, next); }
};

} // namespace

TEST_CASE("G14 G21 a save before the claim is read back, its answer lost: the record is no partial one") {
    for (const bool is_lost : {true, false}) {      // the answer; or nothing was saved
        cluster all;
        all.append(4);
        host h(all, 1);
        h.what.save.every_events = 1;
        h.what.stop_ms = 0;
        h.what.on_error = pj::error_policy::retry(0);
        h.does = [](const pj::context& c, bool) {
            return c.event.at == 2 ? pj::reject() : pj::handled;
        };
        pj::worker w{h.what};
        int saves = 0, loads = 0;
        bool is_claiming = false;
        all.store.saves.decide = [&](bool& works) {
            // The claim is the first, the position of 0 the second; that of 1 fails until the end. Later
            // the claim repeats it, and the position of 2 is saved, but its answer lost.
            const bool fails = is_claiming ? ++saves == 2 : ++saves > 2;
            works = !fails || (is_claiming && is_lost);
            return fails ? pj::status::failed : pj::status::ok;
        };
        all.store.loads.decide = [&](bool& works) {
            works = !is_claiming || ++loads != 2;       // the claim cannot be read back at once
            return works ? pj::status::ok : pj::status::failed;
        };
        REQUIRE(w.start() == pj::status::ok);
        run_for(all, 1000, w);
        REQUIRE(w.reason() == pj::status::handler_failed);
        REQUIRE(all.store.at("p").at == 0);
        is_claiming = true;
        saves = 0;
        REQUIRE(w.skip_failed(2) == pj::status::ok);
        run_for(all, 5000, w);
        CHECK(w.reason() == pj::status::ok);
        CHECK(w.checkpointed() == 3);
        CHECK(all.times(3) == 2);
        CHECK(w.counts().skipped == 1);
    }
}

TEST_CASE("G7 G21 halted before it was asked what waits, an engine asks when it goes on") {
    cluster all;
    all.append(8);                              // 0 and 7 are of one aggregate
    host h(all, 1);
    secretive store{all.store};
    pj::letter_sequences<2> waiting;
    h.what.checkpoints = store;
    h.what.dead_letters = all.letters;
    h.what.sequences = waiting;
    all.letters.kept[{"p", 0, "first", 0, 0}] = {pj::failure_kind::permanent, 5, 1, "Tick",
                                                 std::string(4, '\0'), "order-0", 0, 1};
    pj::worker w{h.what};
    REQUIRE(w.start() == pj::status::ok);
    drain(all, w);
    REQUIRE(w.reason() == pj::status::partial_record);
    store.is_telling = true;
    REQUIRE(w.retry_failed() == pj::status::ok);
    drain(all, w);
    CHECK(w.checkpointed() == 7);
    for (const effect& e : all.effects) CHECK((e.handler == "second" || (e.at != 0 && e.at != 7)));
    CHECK(all.letters.kept.size() == 2);
    CHECK(all.effects.size() == 14);
}

TEST_CASE("G21 G23 a rebuild whose save is refused without cause goes on and is finished") {
    for (int before = 0; before < 5; ++before) {
        CAPTURE(before);
        cluster all;
        all.append(6);
        host h(all, 1);
        pj::worker w{h.what};
        REQUIRE(w.start() == pj::status::ok);
        drain(all, w);
        w.stop();
        drain(all, w);
        all.effects.clear();
        pj::replay_options options;
        options.batch = 2;
        h.what.save.every_events = 2;
        pj::replay_engine r{h.what, options};
        all.store.saves.pass(before).then(pj::status::conflict);
        REQUIRE(r.start() == pj::status::ok);
        run_for(all, 5000, r);
        CHECK(r.finished());
        CHECK(r.reason() == pj::status::ok);
        CHECK(all.store.at("p").replay_stage == 0);
        CHECK(all.store.at("p").rebuild == 1);
        CHECK(all.store.at("p").at == 5);
        for (pj::position at = 0; at < 6; ++at) CHECK(all.times(at) >= 2);
    }
}

TEST_CASE("G27 G28 a sink that loses its lease while it unsubscribes waits, and ends in stop_ms") {
    cluster all;
    host h(all, 1);
    h.what.log = {};
    h.what.stop_ms = 8000;
    struct client {
        uint32_t asked = 0;
        pj::status subscribe(pj::text, pj::text) { return pj::status::ok; }
        pj::status unsubscribe(pj::text, pj::text) {
            ++asked;
            return pj::status::pending;
        }
    } broker;
    pj::sink_options with;
    with.client = broker;
    pj::event_sink sink{h.what, with};
    REQUIRE(sink.start() == pj::status::ok);
    for (int i = 0; i < 5; ++i) static_cast<void>(sink.tick(all.clock()));
    REQUIRE(sink.has_lease());
    all.leases.extends.then(pj::status::failed, false, 10000);
    sink.stop();
    const uint64_t began_ms = all.clock.full();
    uint32_t ticks = 0;
    for (; sink.running() && ticks < 5000; ++ticks) {
        const pj::tick_result r = sink.tick(all.clock());
        if (!sink.running()) break;
        CHECK(r.wait_ms <= 10);
        all.clock.advance(r.wait_ms);
    }
    CHECK_FALSE(sink.running());
    CHECK(h.count(pj::notice_kind::lease_lost) == 1);
    CHECK(all.clock.full() - began_ms <= 8000);
    CHECK(all.clock.full() - began_ms >= 7900);
    CHECK(ticks <= 1700);
}

TEST_CASE("G21 a message that comes when a later owner's record was found is held: not loaded") {
    cluster all;
    host h(all, 1);
    h.what.log = {};
    all.store.records["p"].fencing_token = 9;
    all.store.records["p"].revision = 1;
    pj::event_sink sink{h.what};
    REQUIRE(sink.start() == pj::status::ok);
    const tick_event e{1};
    const pj::receive_result r = sink.receive(pj::raw_event(0, e), all.clock());
    CHECK(r.answer == pj::receipt::hold);
    CHECK(r.reason == pj::status::not_loaded);
    CHECK(all.effects.empty());
    CHECK(all.store.history.empty());
}

TEST_CASE("G20 a redelivery for all handlers begins none of them when the lease has ended") {
    cluster all;
    all.append(1);
    host a(all, 1);
    pj::letter_sequences<2> waiting;
    a.what.dead_letters = all.letters;
    a.what.sequences = waiting;
    all.store.records["p"].at = 0;
    all.store.records["p"].revision = 1;
    const tick_event e{0};
    const pj::stored_event first = pj::raw_event(0, e, all.events[0].first);
    REQUIRE(all.letters.put({pj::failure_kind::decode, 0, 1, false, 0, 0, "p", {}, first}) ==
            pj::status::ok);
    pj::worker worker{a.what};
    REQUIRE(worker.start() == pj::status::ok);
    run_for(all, 500, worker);
    REQUIRE(worker.has_lease());
    a.does = [&](const pj::context&, bool is_second) {
        if (!is_second) all.clock.advance(3000);
        return pj::handled;
    };
    CHECK(waiting.redeliver(worker, "", all.events[0].first) == pj::status::lease_held);
    CHECK(all.effects.size() == 1);
    CHECK(all.letters.kept.size() == 1);
    a.does = nullptr;
    run_for(all, 4000, worker);
    CHECK(waiting.redeliver(worker, "", all.events[0].first) == pj::status::more);
    CHECK(all.effects.size() == 3);
    CHECK(all.letters.kept.empty());
}

TEST_CASE("G20 a sink that was idle until its lease was over begins nothing") {
    cluster all;
    host a(all, 1);
    pj::event_sink sink{a.what};
    REQUIRE(sink.start() == pj::status::ok);
    const tick_event e{1};
    for (int i = 0; i < 5; ++i) static_cast<void>(sink.tick(all.clock()));
    REQUIRE(sink.state() == pj::run_state::idle);
    REQUIRE(sink.has_lease());
    all.clock.advance(3000);
    const pj::receive_result r = sink.receive(pj::raw_event(0, e, "x"), all.clock());
    CHECK(r.answer == pj::receipt::hold);
    CHECK(r.reason == pj::status::lease_lost);
    CHECK(all.effects.empty());
}

TEST_CASE("G28 a log that is trimmed: the engine halts, and gives its lease back, in one tick") {
    struct trimmed_log {
        pj::status read(pj::position, pj::visitor&) { return pj::status::trimmed; }
    };
    cluster all;
    host h(all, 1);
    trimmed_log log;
    h.what.log = log;
    pj::worker w{h.what};
    REQUIRE(w.start() == pj::status::ok);
    for (int i = 0; i < 10 && w.running(); ++i) static_cast<void>(w.tick(all.clock()));
    CHECK(w.state() == pj::run_state::halted);
    CHECK(w.reason() == pj::status::log_trimmed);
    CHECK(all.leases.released == 1);
}

TEST_CASE("G20 a lease that ends in a handler: what the store answers then is not told any more") {
    struct failing_log {
        cluster& all;
        pj::status read(pj::position after, pj::visitor& visit) {
            static_cast<void>(all.read(after, visit));
            return pj::status::failed;
        }
    };
    cluster all;
    all.append(3);
    host h(all, 1);
    failing_log log{all};
    h.what.log = log;
    h.does = [&](const pj::context&, bool) -> pj::verdict {
        all.clock.advance(2700);
        return pj::handled;
    };
    pj::worker w{h.what};
    REQUIRE(w.start() == pj::status::ok);
    for (int i = 0; i < 20 && h.count(pj::notice_kind::lease_lost) == 0; ++i)
        static_cast<void>(w.tick(all.clock()));
    CHECK(h.count(pj::notice_kind::lease_lost) == 1);
    CHECK(h.count(pj::notice_kind::store_failed) == 0);
    CHECK(all.effects.size() == 1);
}
