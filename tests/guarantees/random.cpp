// G1, G2, G7, G16 as properties of random runs: handlers, stores, saves and the sink fail, wait and
// lose their answers by a seeded schedule, engines crash and stop; then the faults end and all must
// be done. A failing seed is in the message and replays alone.
#include "support/setup.hpp"

#include <set>

using namespace support;
using pj::position;
using pj::status;

namespace {

struct simulation : setup {
    explicit simulation(uint32_t seed) : random(seed) {
        position at = -1;
        for (int i = 0; i < 80; ++i) {
            at += 1 + random.below(3);
            const char* const types[] = {"Alpha", "Alpha", "Beta", "Gamma", "Nobody"};
            log.add(at, types[random.below(5)], random.one_in(15) ? "!" : "ok");
        }
        log.slice = random.below(4) * 2;
        log.uses_limit = random.one_in(2);
        what.batch = 1 + random.below(12);
        what.save = {1 + random.below(20), 1 + random.below(500), random.one_in(2)};
        what.unsaved_max = random.one_in(3) ? 1 + random.below(30) : 0;
        what.delays = {1 + random.below(50), 200, 2, 20, seed};
        what.poll_ms = 50;
        what.stop_ms = 300;
        what.dead_letters = sink;
        const pj::error_policy policies[] = {
            pj::error_policy::skip(), pj::error_policy::dead_letter(),
            pj::error_policy::retry_then_skip(2), pj::error_policy::retry_then_dead_letter(1),
            pj::error_policy::retry(2)};
        what.on_error = policies[random.below(5)];
        for (scripted* hand : {static_cast<scripted*>(&a), static_cast<scripted*>(&b),
                               static_cast<scripted*>(&c)}) {
            hand->says.otherwise = [this, hand](const pj::stored_event& e,
                                                const pj::context& with) {
                return answer(*hand, e, with);
            };
        }
        watch.also = [this](const pj::notice& n) { remember(n); };
    }

    /// A handler: some answers are trouble, as long as faults are on.
    pj::verdict answer(const scripted& hand, const pj::stored_event& e, const pj::context&) {
        CHECK(e.at >= newest[hand.name]);
        newest[hand.name] = e.at;
        const uint32_t dice = has_faults ? random.below(12) : 11;
        if (dice == 0) return pj::reject();
        if (dice == 1 || dice == 2) return pj::fail(dice);
        if (dice == 3) return pj::pending;
        if (dice == 4) return pj::pending_for(1 + random.below(60));
        done.insert(hand.name + "@" + std::to_string(e.at));
        return pj::handled;
    }

    void remember(const pj::notice& n) {
        const bool is_end = n.kind == pj::notice_kind::event_skipped ||
                            n.kind == pj::notice_kind::event_lettered;
        if (is_end && n.cause != nullptr) {
            const std::string where = "@" + std::to_string(n.at);
            done.insert(std::string(n.cause->handler.data(), n.cause->handler.size()) + where);
            if (n.cause->handler.empty())
                for (const char* h : {"a", "b", "c"}) done.insert(h + where);
        }
        if (is_end && n.cause == nullptr) {             // skip_failed: the event for all handlers
            for (const char* h : {"a", "b", "c"}) done.insert(h + ("@" + std::to_string(n.at)));
        }
    }

    /// Faults of the ports for what comes next.
    void plan_faults() {
        for (plan* p : {&store.loads, &store.saves, &log.reads, &log.bounds_asked, &sink.puts}) {
            p->clear();
            for (int i = 0; i < 5 && has_faults; ++i) {
                const uint32_t dice = random.below(8);
                if (dice == 0) p->then(status::failed);
                else if (dice == 1) p->then(status::pending);
                else if (dice == 2 && p == &store.saves) p->then(lost_answer());
                else if (dice == 2 && p == &log.reads) p->then(status::more);
                else p->then(step{status::ok, true, false});
            }
        }
        log.shows.clear();
        for (int i = 0; i < 5 && has_faults; ++i) log.shows.push_back(random.below(10));
    }

    /// After every tick: what was saved is monotone, named by the store, and leaves nothing behind.
    void check_saved() {
        for (; checked < store.saved.size(); ++checked) {
            const position at = store.saved[checked].at;
            CHECK((at == pj::before_first || log.has(at)));
            CHECK(at >= last_saved);
            last_saved = at;
            for (const row& r : log.rows) {
                if (r.at > at || (r.type != "Alpha" && r.type != "Beta")) continue;
                const std::string where = "@" + std::to_string(r.at);
                CHECK(done.count("a" + where) == 1);
                if (r.type == "Alpha") CHECK(done.count("b" + where) == 1);
                if (r.type == "Alpha") CHECK(done.count("c" + where) == 1);
            }
        }
    }

    void tick_engine(pj::worker& engine) {
        const pj::tick_result r = engine.tick(now_ms);
        CHECK(r.scanned <= what.batch);
        const pj::counters& n = engine.counts();
        CHECK(n.scanned == n.handled + n.unhandled + n.unknown + n.filtered + n.skipped +
                               n.lettered + n.vanished);
        check_saved();
        if (engine.loaded()) CHECK(engine.checkpointed() <= std::max(engine.scanned(), last_saved));
        const uint32_t sleep = r.wait_ms > 1000 ? 1000 : r.wait_ms;
        now_ms += random.one_in(4) ? sleep / 2 : sleep;
        if (random.one_in(10)) engine.wake();
        if (random.one_in(40)) engine.pause();
        if (random.one_in(8)) engine.resume();
        if (engine.state() == pj::run_state::halted) {
            CHECK(engine.reason() != status::checkpoint_conflict);
            CHECK(engine.reason() != status::store_unordered);
            if (random.one_in(2) || !has_faults) {
                const position at = engine.last_failure().at;
                if (engine.skip_failed(at) != status::ok)
                    CHECK(engine.retry_failed() == status::ok);
            } else {
                CHECK(engine.retry_failed() == status::ok);
            }
        }
    }

    /// One life of an engine: it ends by a crash, or by a stop.
    void live(int rounds, bool crashes) {
        newest.clear();
        sink.forget_promise();
        pj::worker engine(what);
        plan_faults();
        REQUIRE(engine.start() == status::ok);
        for (int i = 0; i < rounds; ++i) {
            if (random.one_in(6)) plan_faults();
            tick_engine(engine);
        }
        if (crashes) return;
        for (int i = 0; i < 300 && engine.running(); ++i) {
            engine.stop();                      // again, if a halt was on its way and was answered
            tick_engine(engine);
        }
        CHECK_FALSE(engine.running());
    }

    xorshift random;
    bool has_faults = true;
    std::set<std::string> done;                 // "handler@position"
    std::map<std::string, position> newest;     // in this life
    size_t checked = 0;
    position last_saved = pj::before_first;
};

} // namespace

TEST_CASE("G2 checkpoints are monotone, named by the store and complete in random runs") {
    for (uint32_t seed = 1; seed <= 150; ++seed) {
        CAPTURE(seed);
        simulation s(seed * 2654435761u);
        const uint32_t lives = 1 + s.random.below(6);
        for (uint32_t i = 0; i < lives; ++i) {
            s.live(5 + static_cast<int>(s.random.below(60)), s.random.one_in(2));
        }
        s.has_faults = false;
        s.live(1500, false);
        CHECK(s.stored().at == s.log.top());
    }
}

TEST_CASE("G2 a checkpoint moves back only by reset and set_position") {
    setup s;
    s.log.append(40, "Beta");
    s.what.batch = 5;
    s.what.save.every_events = 5;
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 3; ++i) s.tick();
    CHECK(s.stored().at == 14);
    CHECK(s.worker.reset(3) == status::ok);
    s.tick();
    CHECK(s.store.saved.back().at >= 3);
    s.run_for(5000);
    int steps_back = 0;
    for (size_t i = 1; i < s.store.saved.size(); ++i) {
        steps_back += s.store.saved[i].at < s.store.saved[i - 1].at ? 1 : 0;
    }
    CHECK(steps_back == 1);
    CHECK(s.stored().at == 39);
}

TEST_CASE("G2 a checkpoint is a position of the log, not a count") {
    setup s;
    for (const position at : {position{1000}, position{2000}, position{1} << 40})
        s.log.add(at, "Beta");
    s.what.save.every_events = 1;
    REQUIRE(s.start() == status::ok);
    s.run_for(2000);
    REQUIRE(s.store.saved.size() == 3);
    CHECK(s.store.saved[0].at == 1000);
    CHECK(s.store.saved[1].at == 2000);
    CHECK(s.store.saved[2].at == position{1} << 40);
}

TEST_CASE("G16 an event counts once, under the worst of its handlers' outcomes") {
    struct line { pj::verdict a, b; bool lettered, skipped; };
    const line lines[] = {
        {pj::handled, pj::handled, false, false}, {pj::fail(1), pj::handled, true, false},
        {pj::handled, pj::fail(2), false, true},  {pj::fail(1), pj::fail(2), false, true},
        {pj::fail(2), pj::fail(1), false, true},  {pj::fail(1), pj::fail(1), true, false}};
    for (const line& l : lines) {
        setup s;
        s.log.append(1, "Alpha");
        s.letters(pj::error_policy::custom([](const pj::failure& f) {
            return f.code == 1 ? pj::decision::dead_letter() : pj::decision::skip();
        }));
        s.a.says.at(0, l.a);
        s.b.says.at(0, l.b);
        REQUIRE(s.start() == status::ok);
        s.run_for(1000);
        CHECK(s.worker.counts().scanned == 1);
        CHECK(s.worker.counts().lettered == (l.lettered ? 1 : 0));
        CHECK(s.worker.counts().skipped == (l.skipped ? 1 : 0));
        CHECK(s.worker.counts().handled == (l.lettered || l.skipped ? 0 : 1));
    }
}

TEST_CASE("G16 an event that is held over many ticks counts when it gets its outcome") {
    setup s;
    s.log.append(2, "Alpha");
    s.what.on_error = pj::error_policy::retry(5);
    s.b.says.at(0, pj::fail(), 3).at(0, pj::pending, 2);
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 5; ++i) {
        s.tick();
        CHECK(s.worker.counts().scanned == 0);
        CHECK(s.last.scanned == 0);
        s.now_ms += s.last.wait_ms;
    }
    s.run_for(1000);
    CHECK(s.worker.counts().handled == 2);
    CHECK(s.worker.counts().failed_calls == 3);
}
