// The crash guard: an event that crashes its handler is found and given to the policy.
#include "support/device.hpp"
#include "support/setup.hpp"

#include <set>

namespace pj = projections;
using support::device;

namespace {

struct guarded : device {
    pj::crash_guard guard;
    std::vector<std::pair<pj::position, uint32_t>> given_up;
    bool halts = false;
    explicit guarded(uint16_t crashes_max) : guard(crashes_max) {
        what.crashes = &guard;
        what.on_error = pj::error_policy::custom(
            {[](void* me, const pj::failure& f) { return static_cast<guarded*>(me)->decide(f); },
             this});
    }
    pj::decision decide(const pj::failure& f) {
        if (dead) return pj::decision::halt();
        CHECK(f.kind == pj::failure_kind::permanent);
        CHECK(f.handler.empty());
        if (given_up.empty() || given_up.back().first != f.event.at)
            given_up.push_back({f.event.at, f.code});
        return halts ? pj::decision::halt() : pj::decision::skip();
    }
    /// One run; true if it crashed.
    bool crashes(pj::start_cause cause) {
        boot();
        if (what.volatile_model) model.clear();
        static_cast<void>(live(cause));
        return dead;
    }
};

} // namespace

TEST_CASE("G32 the guard acts after exactly as many crashes as it was told") {
    for (const bool is_volatile : {false, true}) {
        for (uint16_t most = 1; most <= 4; ++most) {
            for (const pj::position poison : {2, 5, 8, 14, 17, 29}) {
                CAPTURE(is_volatile);
                CAPTURE(most);
                CAPTURE(poison);
                guarded d(most);
                d.what.volatile_model = is_volatile;
                d.append(10);
                d.poison = poison;
                REQUIRE(d.crashes(pj::start_cause::clean));
                // The first crash counts if nothing was done after the checkpoint. Otherwise the
                // next run makes progress, and it counts from there.
                // A volatile model begins with the oldest event each time.
                const bool is_first_known =
                    poison == 2 || (!is_volatile && d.record().at == poison - 3);
                const uint32_t wanted = is_first_known && most > 1 ? most : most + 1u;
                uint32_t crashes = 1;
                while (d.crashes(pj::start_cause::crash)) {
                    ++crashes;
                    REQUIRE(crashes < 20);
                }
                CHECK(crashes == wanted);
                REQUIRE(d.given_up.size() == 1);
                CHECK(d.given_up[0].first == poison);
                CHECK(d.given_up[0].second == pj::code_crashed);
                CHECK(d.record().at == d.newest());
                std::map<pj::position, uint32_t> all = d.folded(d.newest());
                all.erase(poison);
                CHECK(d.model == all);
            }
        }
    }
}

TEST_CASE("G32 after a crash no event is begun that the checkpoint does not name") {
    guarded d(3);
    d.append(10);
    d.poison = 17;
    REQUIRE(d.crashes(pj::start_cause::clean));
    REQUIRE(d.crashes(pj::start_cause::crash));
    CHECK(d.record().at == 14);
    CHECK(d.record().suspect == 17);
}

TEST_CASE("G32 clean restarts are never counted") {
    guarded d(1);
    d.append(6);
    d.poison = 8;
    for (int i = 0; i < 10; ++i) CHECK(d.crashes(pj::start_cause::clean));
    CHECK(d.given_up.empty());
    CHECK(d.record().crashes == 0);
    d.poison = pj::before_first;
    CHECK_FALSE(d.crashes(pj::start_cause::clean));
    CHECK(d.model == d.folded(d.newest()));
}

TEST_CASE("G32 crashes at the end of the log blame nobody") {
    guarded d(2);
    d.append(4);
    REQUIRE_FALSE(d.crashes(pj::start_cause::clean));
    for (int i = 0; i < 10; ++i) REQUIRE_FALSE(d.crashes(pj::start_cause::crash));
    d.append(1);
    REQUIRE_FALSE(d.crashes(pj::start_cause::crash));
    CHECK(d.given_up.empty());
    d.append(1);
    d.poison = d.newest(); // one crash only
    REQUIRE(d.crashes(pj::start_cause::clean));
    d.poison = pj::before_first;
    REQUIRE_FALSE(d.crashes(pj::start_cause::crash));
    CHECK(d.given_up.empty());
    CHECK(d.model == d.folded(d.newest()));
}

TEST_CASE("G32 crashes at the end of the log do not count against the next event") {
    guarded d(3);
    d.append(4);
    REQUIRE_FALSE(d.crashes(pj::start_cause::clean));
    for (int i = 0; i < 10; ++i) REQUIRE_FALSE(d.crashes(pj::start_cause::crash));
    {
        d.boot();                               // it comes while the engine is careful
        pj::worker worker{d.what};
        REQUIRE(worker.start(pj::start_cause::crash) == pj::status::ok);
        d.run(worker, [&] { return worker.caught_up(); });
        static_cast<void>(worker.tick(d.now_ms));
        d.append(1);
        d.poison = d.newest();
        d.now_ms += 5000;
        d.run(worker, [] { return false; });
        REQUIRE(d.dead);
    }
    d.poison = pj::before_first;                // one crash, and it was not the event's fault
    REQUIRE_FALSE(d.crashes(pj::start_cause::crash));
    CHECK(d.given_up.empty());
    CHECK(d.model == d.folded(d.newest()));
}

TEST_CASE("G32 progress starts the count again") {
    guarded d(2);
    d.append(12);
    for (const pj::position poison : {5, 11, 17, 26}) { // each crashes once more than is seen
        d.poison = poison;
        REQUIRE(d.crashes(poison == 5 ? pj::start_cause::clean : pj::start_cause::crash));
    }
    d.poison = pj::before_first;
    REQUIRE_FALSE(d.crashes(pj::start_cause::crash));
    CHECK(d.given_up.empty());
    CHECK(d.model == d.folded(d.newest()));
}

TEST_CASE("G32 careful mode ends: later events are saved in batches again") {
    guarded d(3);
    d.append(4);
    d.poison = 8;
    REQUIRE(d.crashes(pj::start_cause::clean));
    d.poison = pj::before_first;
    REQUIRE_FALSE(d.crashes(pj::start_cause::crash));
    CHECK(d.record().crashes == 0);
    CHECK(d.record().suspect == pj::before_first);
    d.append(40);
    const size_t before = d.saved.size();
    REQUIRE_FALSE(d.crashes(pj::start_cause::clean));
    CHECK(d.saved.size() - before < 20);
}

TEST_CASE("G32 a policy that halts: whoever asks for it has the event tried") {
    guarded d(1);
    d.halts = true;
    d.append(5);
    d.poison = 2;
    REQUIRE(d.crashes(pj::start_cause::clean));
    REQUIRE(d.crashes(pj::start_cause::crash));
    d.boot();
    pj::worker worker{d.what};
    REQUIRE(worker.start(pj::start_cause::crash) == pj::status::ok);
    CHECK(d.run(worker) == pj::status::handler_failed);
    CHECK(d.handled.empty());
    d.poison = pj::before_first;
    REQUIRE(worker.retry_failed() == pj::status::ok);
    d.run(worker, [&] { return worker.caught_up(); });
    CHECK(d.model == d.folded(d.newest()));
}

TEST_CASE("G32 a replay is guarded, too") {
    guarded d(2);
    d.append(8);
    REQUIRE_FALSE(d.crashes(pj::start_cause::clean));
    d.poison = 11;
    for (uint32_t crashes = 0;; ++crashes) {
        REQUIRE(crashes < 10);
        d.boot();
        pj::replay_engine replay{d.what};
        REQUIRE(replay.start(crashes == 0 ? pj::start_cause::clean : pj::start_cause::crash) ==
                pj::status::ok);
        const pj::status ended = d.run(replay);
        if (d.dead) continue;
        CHECK(ended == pj::status::ok);
        CHECK(replay.finished());
        break;
    }
    REQUIRE(d.given_up.size() == 1);
    CHECK(d.given_up[0].first == 11);
}

TEST_CASE("G14 naming an event survives saves that fail, and power failures at any callback") {
    for (uint32_t cut = 1; cut < 60; ++cut) {
        guarded d(2);
        d.append(8);
        d.poison = 11;
        REQUIRE(d.crashes(pj::start_cause::clean));
        d.boot();
        d.dies_at = cut;
        d.dies_after = cut % 2 == 0;
        static_cast<void>(d.live(pj::start_cause::crash));
        uint32_t crashes = 0;
        while (d.crashes(pj::start_cause::crash)) REQUIRE(++crashes < 10);
        // The cut is a crash as well: the event that was named then has crashed once, too.
        REQUIRE(!d.given_up.empty());
        CHECK(d.given_up.size() <= 2);
        CHECK(d.given_up.back().first == 11);
        std::map<pj::position, uint32_t> all = d.folded(d.newest());
        for (const auto& [at, code] : d.given_up) {
            all.erase(at);
            d.model.erase(at); // the cut may have come after the handler
        }
        CHECK(d.model == all);
    }
}

TEST_CASE("without a guard a crash changes nothing") {
    device d;
    d.append(9);
    REQUIRE(d.live(pj::start_cause::crash) == pj::status::ok);
    CHECK(d.saved.size() <= 4);
    CHECK(d.record().crashes == 0);
}

TEST_CASE("G32 a volatile model finds it, however many events it has to read before") {
    guarded d(3);
    d.what.volatile_model = true;
    d.what.unsaved_max = 10;
    d.append(40);
    REQUIRE_FALSE(d.crashes(pj::start_cause::clean));
    d.append(5);
    d.poison = d.newest() - 3;
    REQUIRE(d.crashes(pj::start_cause::clean));
    uint32_t crashes = 1;
    while (d.crashes(pj::start_cause::crash)) {
        ++crashes;
        REQUIRE(crashes < 20);
    }
    CHECK(crashes == 4);
    CHECK(d.given_up.size() == 1);
    CHECK(d.record().at == d.newest());
}

TEST_CASE("G32 after a crash so many events are named as may have been in work, and no more") {
    for (const uint32_t most : {1u, 5u, 0x7FFEu, 0x7FFFu, 1000000u}) {
        CAPTURE(most);
        support::setup s;
        const pj::crash_guard guard{3};
        s.log.append(20, "Beta");
        s.what.crashes = &guard;
        s.what.unsaved_max = most;
        REQUIRE(s.worker.start(pj::start_cause::crash) == pj::status::ok);
        for (int i = 0; i < 100 && s.worker.scanned() < 19; ++i) s.tick();
        std::set<pj::position> named;
        for (const pj::checkpoint& c : s.store.saved) named.insert(c.suspect);
        named.erase(pj::before_first);
        CHECK(named.size() == (most < 20 ? most : 20));
    }
}

TEST_CASE("G32 what is replayed uses up names, but not in a volatile model") {
    for (const bool is_volatile : {false, true}) {
        CAPTURE(is_volatile);
        support::setup s;
        const pj::crash_guard guard{3};
        s.log.append(20, "Beta");
        s.what.crashes = &guard;
        s.what.unsaved_max = 5;
        s.what.volatile_model = is_volatile;
        if (is_volatile) s.store.put("p", 4);
        else s.what.replayed_through = 30;
        REQUIRE(s.worker.start(pj::start_cause::crash) == pj::status::ok);
        for (int i = 0; i < 100 && s.worker.scanned() < 19; ++i) s.tick();
        std::set<pj::position> named;
        for (const pj::checkpoint& c : s.store.saved) named.insert(c.suspect);
        named.erase(pj::before_first);
        CHECK(named.size() == (is_volatile ? 10 : 5));
    }
}

TEST_CASE("G31 G32 retry_failed() of a log that was trimmed blames nobody, so crashes still count") {
    support::setup s;
    const pj::crash_guard guard{2};
    s.log.append(6, "Beta").trim_to(2);
    s.what.crashes = &guard;
    pj::checkpoint record;
    record.at = 0;
    record.revision = 1;
    record.crashes = 1;
    s.store.put("p", record);
    REQUIRE(s.worker.start(pj::start_cause::crash) == pj::status::ok);
    s.run_for(100);
    REQUIRE(s.worker.reason() == pj::status::log_trimmed);
    s.log.trimmed = 0;
    REQUIRE(s.worker.retry_failed() == pj::status::ok);
    s.store.saved.clear();
    s.run_for(100);
    REQUIRE(s.store.saved.size() > 1);
    CHECK(s.store.saved[0].suspect == 3);
    CHECK(s.store.saved[0].crashes == 2);
    CHECK(s.store.saved[1].crashes == 0);
}

TEST_CASE("G32 G31 a reset to before the event that was named forgets that it was") {
    guarded d(1);
    d.append(10);
    d.poison = 17;
    REQUIRE(d.crashes(pj::start_cause::clean));
    REQUIRE(d.crashes(pj::start_cause::crash));
    REQUIRE(d.record().suspect == 17);
    d.boot();
    d.poison = pj::before_first;
    d.answers[17] = {pj::pending, pj::pending};
    pj::worker worker{d.what};
    REQUIRE(worker.start() == pj::status::ok);
    static_cast<void>(worker.tick(d.now_ms));
    REQUIRE(worker.loaded());
    REQUIRE(worker.reset() == pj::status::ok);
    static_cast<void>(worker.tick(d.now_ms));
    CHECK(d.record().at == pj::before_first);
    CHECK(d.record().suspect == pj::before_first);
}

TEST_CASE("G32 crashes are counted no further than to 65535") {
    guarded d(0xFFFF);
    d.append(3);
    pj::checkpoint& kept = d.records["p"];
    kept.at = 2;
    kept.revision = 1;
    kept.suspect = d.poison = 5;
    kept.crashes = 0xFFFE;
    d.what.checkpoints = d;
    d.halts = true;
    for (int i = 0; i < 3; ++i) {
        CHECK_FALSE(d.crashes(pj::start_cause::crash));
        CHECK(d.record().crashes == 0xFFFF);
        REQUIRE(d.given_up.size() == 1);
        CHECK(d.given_up[0].first == 5);
        CHECK(d.record().at == 2);
    }
}

TEST_CASE("G32 a clean restart in the middle of naming events goes on naming them") {
    guarded d(5);
    d.append(10);
    d.poison = 5;
    REQUIRE(d.crashes(pj::start_cause::clean));
    d.boot();
    d.poison = pj::before_first;
    d.answers[8] = {pj::pending, pj::pending, pj::pending};
    {
        pj::worker worker{d.what};
        REQUIRE(worker.start(pj::start_cause::crash) == pj::status::ok);
        d.run(worker, [&] { return d.record().suspect == 8; });
        worker.stop();
        CHECK(d.run(worker) == pj::status::ok);
    }
    REQUIRE(d.record().suspect == 8);           // named, and not done
    REQUIRE(d.record().crashes == 0);
    d.boot();
    d.answers.clear();
    const size_t before = d.saved.size();
    REQUIRE(d.live() == pj::status::ok);
    bool is_next_named = false;
    for (size_t i = before; i < d.saved.size(); ++i)
        is_next_named = is_next_named || (d.saved[i].suspect == 11 && d.saved[i].at == 8);
    CHECK(is_next_named);
}

TEST_CASE("G32 in a volatile model an event below the one that is named is found, too") {
    guarded d(3);
    d.what.volatile_model = true;
    d.append(10);
    REQUIRE_FALSE(d.crashes(pj::start_cause::clean));
    d.append(2);
    d.records["p"].suspect = 32;    // the power failed there, after 8 had been given up
    d.poison = 8;
    uint32_t crashes = 0;
    for (pj::start_cause cause = pj::start_cause::clean; d.crashes(cause); cause = pj::start_cause::crash) {
        ++crashes;
        REQUIRE(crashes < 20);
    }
    REQUIRE(d.given_up.size() == 1);
    CHECK(d.given_up[0].first == 8);
}

TEST_CASE("G32 an event that was named and completed is progress, though none was named since") {
    const pj::crash_guard guard{3};
    support::setup s;
    s.what.crashes = &guard;
    s.log.append(9, "Beta");
    pj::checkpoint record;
    record.at = 5;
    record.revision = 1;
    record.suspect = 5;                 // completed and saved; then the second crash, ...
    record.crashes = 1;
    s.store.put("p", record);
    REQUIRE(s.worker.start(pj::start_cause::crash) == pj::status::ok);
    for (int i = 0; i < 10 && s.stored().suspect != 6; ++i) s.tick();
    REQUIRE(s.stored().suspect == 6);
    CHECK(s.stored().crashes == 1);
    pj::worker third{s.what};           // ... and the third, in the next event
    REQUIRE(third.start(pj::start_cause::crash) == pj::status::ok);
    for (int i = 0; i < 50 && third.scanned() < 8; ++i) static_cast<void>(third.tick(s.now_ms));
    CHECK(s.w.called() == "a6 a7 a8");
}

TEST_CASE("G32 retry_failed() of the one that is blamed begins the count again") {
    guarded d(2);
    d.halts = true;
    d.append(5);
    d.poison = 2;
    for (pj::start_cause cause = pj::start_cause::clean; d.crashes(cause);)
        cause = pj::start_cause::crash;
    REQUIRE(d.given_up.size() == 1);            // halted, blamed
    d.boot();
    {
        pj::worker worker{d.what};
        REQUIRE(worker.start(pj::start_cause::crash) == pj::status::ok);
        CHECK(d.run(worker) == pj::status::handler_failed);
        REQUIRE(worker.retry_failed() == pj::status::ok);
        static_cast<void>(d.run(worker));       // it is tried, and crashes once more
        REQUIRE(d.dead);
    }
    d.given_up.clear();
    CHECK(d.crashes(pj::start_cause::crash));   // tried again: one crash of two
    CHECK(d.given_up.empty());
    CHECK_FALSE(d.crashes(pj::start_cause::crash));
    CHECK(d.given_up.size() == 1);
}
