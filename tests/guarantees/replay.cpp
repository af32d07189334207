// Rebuilding, in place and beside the live projection, cut by power failures at every callback.
#include "support/device.hpp"

namespace pj = projections;
using support::device;

namespace {

struct rebuilding : device {
    pj::replay_options options;
    pj::status on_drop_call() {
        const pj::checkpoint marked = record(options.partitions == 0 ? "p" : "p_p0");
        if (!dead) CHECK_MESSAGE(marked.replay_stage == 1, "dropped before the marker was durable");
        for (uint32_t i = 1; i < options.partitions && !dead; ++i)
            CHECK(record("p_p" + std::to_string(i)).replay_stage == 1);
        return drop();
    }
    rebuilding() {
        options.on_drop = {[](void* me) { return static_cast<rebuilding*>(me)->on_drop_call(); },
                           this};
        options.batch = 3;
    }
    /// One replay from start to end, or to its death.
    pj::status replay(bool* finished = nullptr) {
        pj::replay_engine engine{what, options};
        REQUIRE(engine.start() == pj::status::ok);
        const pj::status s = run(engine);
        if (finished != nullptr) *finished = engine.finished();
        return s;
    }
    /// Boots again and again until the rebuild is finished; at each boot a worker must refuse.
    void recover() {
        for (int boots = 0; boots < 5; ++boots) {
            boot();
            const pj::checkpoint r = record();
            if (r.rebuild != 0 && r.replay_stage == 0) return;
            if (r.replay_stage != 0) {
                const std::map<pj::position, uint32_t> before = model;
                pj::worker worker{what};
                REQUIRE(worker.start() == pj::status::ok);
                CHECK(run(worker) == pj::status::rebuild_unfinished);
                CHECK(worker.state() == pj::run_state::halted);
                CHECK(model == before);
                CHECK(record().revision == r.revision);
            }
            bool finished = false;
            CHECK(replay(&finished) == pj::status::ok);
            CHECK(finished);
        }
        CHECK_MESSAGE(false, "the rebuild is never finished");
    }
};

} // namespace

TEST_CASE("G23 a replay cut at any callback and started again ends as an uninterrupted one") {
    for (const bool has_bounds : {true, false}) {
        for (const bool had_run : {true, false}) {
            for (uint32_t cut = 1;; ++cut) {
                bool is_over = false;
                for (const bool after : {false, true}) {
                    CAPTURE(has_bounds);
                    CAPTURE(had_run);
                    CAPTURE(cut);
                    CAPTURE(after);
                    rebuilding d;
                    if (!has_bounds) d.what.log.bounds = nullptr;
                    d.append(8);
                    if (had_run) REQUIRE(d.live() == pj::status::ok);
                    const pj::position was_at = d.record().at;
                    d.append(5);
                    d.model[999] = 1; // what a defect left behind
                    d.boot();
                    d.dies_at = cut;
                    d.dies_after = after;
                    static_cast<void>(d.replay());
                    is_over = !d.dead;
                    d.recover();
                    const pj::position end = had_run ? was_at : d.newest();
                    CHECK(d.record().at == end);
                    CHECK(d.record().replayed_through == end);
                    CHECK(d.record().rebuild == 1);
                    CHECK(d.model == d.folded(end));
                    REQUIRE(d.live() == pj::status::ok);
                    CHECK(d.model == d.folded(d.newest()));
                    for (const auto& [at, value] : d.events) {
                        const uint32_t wanted = value % 2 != 0 || (!had_run && at <= end) ? 0 : 1;
                        CHECK(d.mails[at] == wanted);
                    }
                }
                if (is_over) {
                    CHECK(cut > 15);
                    break;
                }
            }
        }
    }
}

TEST_CASE("G23 two power failures during one rebuild") {
    for (uint32_t first = 1; first < 30; ++first) {
        for (uint32_t second = 1; second < 30; ++second) {
            CAPTURE(first);
            CAPTURE(second);
            rebuilding d;
            d.append(4);
            REQUIRE(d.live() == pj::status::ok);
            for (const uint32_t cut : {first, second}) {
                d.boot();
                d.dies_at = cut;
                d.dies_after = cut % 2 == 0;
                if (d.record().rebuild == 0 || d.record().replay_stage != 0)
                    static_cast<void>(d.replay());
            }
            d.recover();
            CHECK(d.record().at == d.newest());
            CHECK(d.model == d.folded(d.newest()));
        }
    }
}

TEST_CASE("G24 replaying twice equals replaying once equals live, under every policy") {
    const pj::error_policy policies[] = {pj::error_policy::skip(), pj::error_policy::retry(2),
                                         pj::error_policy::retry_then_skip(1)};
    for (const pj::error_policy& policy : policies) {
        for (uint32_t seed = 1; seed < 40; ++seed) {
            rebuilding d;
            d.what.on_error = policy;
            d.append(3 + seed % 11);
            // Deterministic: in each run over the log the same events fail once.
            const auto script = [&] {
                d.answers.clear();
                for (const auto& [at, value] : d.events) {
                    if ((value + seed) % 5 == 0) d.answers[at] = {pj::fail(7)};
                }
            };
            script();
            REQUIRE(d.live() == pj::status::ok);
            const std::map<pj::position, uint32_t> live = d.model;
            for (int times = 0; times < 2; ++times) {
                script();
                bool finished = false;
                CHECK(d.replay(&finished) == pj::status::ok);
                CHECK(finished);
                CHECK(d.model == live);
                CHECK(d.record().at == d.newest());
            }
            CHECK(d.drops == 2);
        }
    }
}

TEST_CASE("G25 a rebuild of a projection that lags loses no live_only call") {
    rebuilding d;
    d.append(6);
    REQUIRE(d.live() == pj::status::ok);
    const std::map<pj::position, uint32_t> mails = d.mails;
    const pj::position was_at = d.record().at;
    d.append(6); // never seen live
    CHECK(d.replay() == pj::status::ok);
    CHECK(d.mails == mails);
    CHECK(d.record().at == was_at);
    REQUIRE(d.live() == pj::status::ok);
    for (const auto& [at, value] : d.events) CHECK(d.mails[at] == (value % 2 == 0 ? 1u : 0u));
}

TEST_CASE(
    "G25 beside: the new name is silent up to where the old one stopped, also after a crash") {
    device d;
    d.append(6);
    REQUIRE(d.live() == pj::status::ok);
    d.what.name = "p2";
    pj::replay_engine warm_up{d.what};
    REQUIRE(warm_up.start() == pj::status::ok);
    CHECK(d.run(warm_up) == pj::status::ok);
    CHECK(warm_up.finished());
    CHECK(d.drops == 0);
    CHECK(d.record("p2").at == d.newest());
    d.append(3);
    d.what.name = "p";
    REQUIRE(d.live() == pj::status::ok); // the old one goes on meanwhile
    const std::map<pj::position, uint32_t> mails = d.mails;
    d.what.name = "p2";
    d.what.replayed_through = d.record("p").at;
    {
        pj::worker next{d.what}; // dies right after it has saved what it was told
        REQUIRE(next.start() == pj::status::ok);
        d.boot();
        d.dies_at = 3;
        d.dies_after = true;
        static_cast<void>(d.run(next));
    }
    CHECK(d.record("p2").replayed_through == d.record("p").at);
    d.boot();
    d.what.replayed_through = pj::before_first; // the host does not say it again
    d.append(2);
    REQUIRE(d.live() == pj::status::ok);
    for (const auto& [at, value] : d.events) CHECK(d.mails[at] == (value % 2 == 0 ? 1u : 0u));
}

TEST_CASE("G5 nothing is dropped that the log could not bring back") {
    {
        rebuilding d;
        d.append(8);
        REQUIRE(d.live() == pj::status::ok);
        d.trimmed = 5;
        d.events.erase(d.events.begin(), d.events.upper_bound(5));
        CHECK(d.replay() == pj::status::log_trimmed);
        CHECK(d.drops == 0);
        CHECK(d.record().replay_stage == 0);
        d.options.from = 5; // what is left is wanted: exactly that
        d.boot();
        bool finished = false;
        CHECK(d.replay(&finished) == pj::status::ok);
        CHECK(finished);
        CHECK(d.handled.front() > 5);
    }
    {
        rebuilding d;
        d.append(4);
        REQUIRE(d.live() == pj::status::ok);
        d.events.erase(d.newest());
        CHECK(d.replay() == pj::status::checkpoint_ahead);
        CHECK(d.drops == 0);
    }
    {
        rebuilding d;
        d.log_id = 5;
        d.append(4);
        REQUIRE(d.live() == pj::status::ok);
        d.log_id = 6;
        CHECK(d.replay() == pj::status::log_replaced);
        CHECK(d.drops == 0);
    }
    {
        rebuilding d; // an empty log is done at once
        bool finished = false;
        CHECK(d.replay(&finished) == pj::status::ok);
        CHECK(finished);
        CHECK(d.drops == 1);
        CHECK(d.record().at == pj::before_first);
    }
}

TEST_CASE("defect 6: a replay begins exactly after from, and saves positions of the log") {
    rebuilding d;
    d.append(10);
    d.options.from = 11;
    CHECK(d.replay() == pj::status::ok);
    CHECK(d.handled.front() == 14);
    CHECK(d.record().at == d.newest());
    for (const pj::checkpoint& saved : d.saved)
        CHECK((saved.at == pj::before_first || saved.at == 11 || d.events.count(saved.at) == 1));
}

TEST_CASE("defect 7: a replay follows its policy through failures") {
    rebuilding d;
    const pj::error_policy replaying = pj::error_policy::retry(1);
    d.what.on_error_replaying = &replaying;
    d.append(5);
    d.answers[8] = {pj::fail(), pj::fail(), pj::fail()};
    pj::replay_engine engine{d.what, d.options};
    REQUIRE(engine.start() == pj::status::ok);
    CHECK(d.run(engine) == pj::status::handler_failed);
    CHECK(engine.state() == pj::run_state::halted);
    CHECK_FALSE(engine.finished());
    REQUIRE(engine.retry_failed() == pj::status::ok);
    CHECK(d.run(engine) == pj::status::ok);
    CHECK(engine.finished());
    CHECK(d.model == d.folded(d.newest()));
}

TEST_CASE("defect 9: dropped and not yet set back is dropped again, never an empty model") {
    for (uint32_t cut = 1;; ++cut) {
        rebuilding d;
        d.append(6);
        REQUIRE(d.live() == pj::status::ok);
        d.boot();
        d.dies_at = cut;
        d.dies_after = true;
        static_cast<void>(d.replay());
        if (d.drops == 0) continue; // the first cut that comes after it
        CHECK(d.model.empty());
        CHECK(d.record().replay_stage == 1);
        CHECK(d.record().at == d.newest()); // a full checkpoint over an empty model
        d.recover();
        CHECK(d.drops == 2);
        CHECK(d.model == d.folded(d.newest()));
        break;
    }
}

TEST_CASE("G23 a store that keeps only the position is refused before anything is dropped") {
    rebuilding d;
    d.append(6);
    REQUIRE(d.live() == pj::status::ok);
    d.keeps_position_only = true;
    CHECK(d.replay() == pj::status::partial_record);
    CHECK(d.drops == 0);
    CHECK(d.model == d.folded(d.newest()));
}

TEST_CASE("G23 a sink, too, refuses a projection that is being rebuilt") {
    rebuilding d;
    d.records["p"].replay_stage = 2;
    d.records["p"].revision = 3;
    pj::event_sink sink{d.what};
    REQUIRE(sink.start() == pj::status::ok);
    CHECK(d.run(sink) == pj::status::rebuild_unfinished);
    d.records["p"].replay_stage = 0; // finished meanwhile
    CHECK(sink.retry_failed() == pj::status::ok);
    static_cast<void>(sink.tick(d.now_ms));
    CHECK(sink.loaded());
    CHECK(sink.running());
}

TEST_CASE("G23 the drop is tried until it works") {
    struct slow : rebuilding {
        uint32_t calls = 0;
        slow() {
            options.on_drop = {[](void* me) { return static_cast<slow*>(me)->drop_slowly(); },
                               this};
        }
        pj::status drop_slowly() {
            ++calls;
            if (calls <= 2) return pj::status::pending;
            if (calls <= 4) return pj::status::failed;
#if PROJECTIONS_EXCEPTIONS
            if (calls == 5) throw 5;
#endif
            return drop();
        }
    } d;
    d.append(4);
    bool finished = false;
    CHECK(d.replay(&finished) == pj::status::ok);
    CHECK(finished);
    CHECK(d.drops == 1);
    CHECK(d.model == d.folded(d.newest()));
}

TEST_CASE("G28 a replay that is stopped goes on at the next start") {
    rebuilding d;
    d.append(20);
    REQUIRE(d.live() == pj::status::ok);
    {
        pj::replay_engine engine{d.what, d.options};
        REQUIRE(engine.start() == pj::status::ok);
        d.run(engine, [&] { return engine.scanned() > 20 && d.record().replay_stage == 2; });
        engine.stop();
        CHECK(d.run(engine) == pj::status::ok);
        CHECK_FALSE(engine.finished());
        CHECK(d.record().replay_stage == 2);
        CHECK(d.record().at > 10);
    }
    d.handled.clear();
    CHECK(d.replay() == pj::status::ok);
    CHECK(d.handled.front() > 10);
    CHECK(d.drops == 1);
    CHECK(d.model == d.folded(d.newest()));
}

TEST_CASE("G26 a replay's tick visits at most its own batch, and tells how far it is") {
    struct watched : rebuilding {
        std::vector<int> percents;
        int64_t total = 0;
        watched() {
            options.on_progress = {[](void* me, const pj::progress& p) {
                                       static_cast<watched*>(me)->percents.push_back(p.percent);
                                       static_cast<watched*>(me)->total = p.total;
                                   },
                                   this};
            options.total = 40;
        }
    } d;
    d.append(40);
    d.options.batch = 7;
    pj::replay_engine engine{d.what, d.options};
    REQUIRE(engine.start() == pj::status::ok);
    while (engine.running()) CHECK(engine.tick(0).scanned <= 7);
    CHECK(engine.finished());
    CHECK(engine.how_far().processed == 40);
    CHECK(engine.how_far().percent == 100);
    REQUIRE(d.percents.size() > 4);
    for (size_t i = 1; i < d.percents.size(); ++i) CHECK(d.percents[i] >= d.percents[i - 1]);
    CHECK(d.percents.back() == 100);
    CHECK(d.total == 40);
}

TEST_CASE("G29 a replay's options are looked at by start()") {
    rebuilding d;
    d.options.batch = 0;
    pj::replay_engine no_batch{d.what, d.options};
    CHECK(no_batch.start() == pj::status::bad_batch);
    d.options.batch = 1;
    d.options.partitions = 10;
    d.what.name = "a name that is longer than the sixty-four bytes of the buffer!!";
    pj::replay_engine no_room{d.what, d.options};
    CHECK(no_room.start() == pj::status::bad_key);
    CHECK(d.callbacks == 0);
}

TEST_CASE("G23 partitions are rebuilt under one drop, each up to where it had been") {
    for (uint32_t cut = 1;; ++cut) {
        CAPTURE(cut);
        rebuilding d;
        d.append(9);
        d.options.partitions = 3;
        for (const auto& [key, at] :
             std::map<std::string, pj::position>{{"p_p0", 11}, {"p_p2", 20}}) {
            d.records[key].at = at;
            d.records[key].revision = 4;
        }
        d.model[999] = 1;
        d.dies_at = cut;
        d.dies_after = cut % 2 == 0;
        static_cast<void>(d.replay());
        const bool is_over = !d.dead;
        for (int boots = 0; boots < 3; ++boots) {
            d.boot();
            if (d.record("p_p0").rebuild == 0 || d.record("p_p0").replay_stage != 0)
                CHECK(d.replay() == pj::status::ok);
        }
        CHECK(d.model.empty());
        const pj::position had_been[] = {11, pj::before_first, 20};
        for (int i = 0; i < 3; ++i) {
            const pj::checkpoint r = d.record("p_p" + std::to_string(i));
            CHECK(r.replay_stage == 0);
            CHECK(r.at == pj::before_first);
            CHECK(r.replayed_through == had_been[i]);
            CHECK(r.rebuild == 1);
        }
        if (is_over) break;
    }
}

TEST_CASE("G23 a record of another partition that cannot be loaded is not overwritten") {
    for (uint32_t odd = 1; odd < 40; ++odd) {
        CAPTURE(odd);
        rebuilding d;
        d.append(3);
        d.options.partitions = 2;
        d.records["p_p0"].at = 5;
        d.records["p_p1"].at = 8;
        d.records["p_p0"].revision = d.records["p_p1"].revision = 4;
        d.odd_at = odd;
        CHECK(d.replay() == pj::status::ok);
        // Marked, set back and released: once each, though a callback failed.
        CHECK(d.record("p_p1").replayed_through == 8);
        CHECK(d.record("p_p1").revision == 6);
    }
}

TEST_CASE("G23 a rebuild tells its observer of each step once") {
    rebuilding d;
    d.append(5);
    std::vector<pj::notice_kind> told;
    const auto listen = [&](const pj::notice& n) {
        if (n.kind == pj::notice_kind::rebuild_began ||
            n.kind == pj::notice_kind::rebuild_dropped ||
            n.kind == pj::notice_kind::rebuild_finished) {
            told.push_back(n.kind);
            CHECK(n.reason == pj::status::ok);
        }
    };
    d.what.observe = listen;
    CHECK(d.replay() == pj::status::ok);
    CHECK(told == std::vector<pj::notice_kind>{pj::notice_kind::rebuild_began,
                                               pj::notice_kind::rebuild_dropped,
                                               pj::notice_kind::rebuild_finished});
}

TEST_CASE("G23 a rebuild ends where the projection had been, though no event is there any more") {
    rebuilding d;
    d.append(4);                        // 2, 5, 8, 11
    d.records["p"].at = 6;
    d.records["p"].revision = 1;
    CHECK(d.replay() == pj::status::ok);
    CHECK(d.model == d.folded(5));
    CHECK(d.record().at == 6);
    CHECK(d.record().replay_stage == 0);
}

TEST_CASE("G5 a rebuild from the oldest event that is kept, where the description says so") {
    rebuilding d;
    d.append(4);
    d.records["p"].at = 11;
    d.records["p"].revision = 1;
    d.trimmed = 3;
    SUBCASE("which it does not") {
        CHECK(d.replay() == pj::status::log_trimmed);
        CHECK(d.drops == 0);
    }
    SUBCASE("which it does") {
        d.what.first_start = pj::begin_at::oldest_kept;
        CHECK(d.replay() == pj::status::ok);
        CHECK(d.record().at == 11);
        CHECK(d.model.count(5) == 1);
        CHECK(d.model.count(11) == 1);
    }
}

TEST_CASE("a rebuild tells how far it is, in hundredths of the positions") {
    rebuilding d;
    d.append(10);                       // 2, 5, ..., 29
    d.records["p"].at = 29;
    d.records["p"].revision = 1;
    std::vector<int> told;
    const auto listen = [&](const pj::progress& p) { told.push_back(p.percent); };
    d.options.on_progress = listen;
    CHECK(d.replay() == pj::status::ok);
    CHECK(told == std::vector<int>{0, 30, 40, 70, 80, 100});     // batches of 3, saves at 4
}

TEST_CASE("a rebuild of a log with large positions tells how far it is") {
    rebuilding d;
    const pj::position step = pj::position{1} << 50;
    for (uint32_t i = 1; i <= 4; ++i) d.events[step * i] = 2;
    d.records["p"].at = step * 4;
    d.records["p"].revision = 1;
    d.options.batch = 1;
    std::vector<int> told;
    const auto listen = [&](const pj::progress& p) { told.push_back(p.percent); };
    d.options.on_progress = listen;
    CHECK(d.replay() == pj::status::ok);
    CHECK(told == std::vector<int>{0, 25, 50, 75, 100});
}

TEST_CASE("G23 a store that keeps the marker of a rebuild but not all of it is found out, nothing is dropped") {
    struct forgetful {
        rebuilding& all;
        bool is_rebuild;
        pj::status load(pj::text key, pj::checkpoint& out) {
            const pj::status s = all.load(key, out);
            if (is_rebuild) out.rebuild = 0;
            else out.replayed_through = pj::before_first;
            return s;
        }
        pj::status save(pj::text key, const pj::checkpoint& next) { return all.save(key, next); }
    };
    for (const bool is_rebuild : {true, false}) {
        rebuilding d;
        d.append(6);
        REQUIRE(d.live() == pj::status::ok);
        const std::map<pj::position, uint32_t> before = d.model;
        forgetful store{d, is_rebuild};
        d.what.checkpoints = store;
        bool finished = true;
        CHECK(d.replay(&finished) == pj::status::partial_record);
        CHECK_FALSE(finished);
        CHECK(d.drops == 0);
        CHECK(d.model == before);
    }
}

TEST_CASE("G23 how far a rebuild is stays 0 as long as its end is not known, and is 100 then") {
    rebuilding d;
    d.what.log.bounds = nullptr;
    d.events[pj::position{1} << 62] = 1;        // half of all positions there are
    d.append(7);
    pj::replay_engine engine{d.what, d.options};
    REQUIRE(engine.start() == pj::status::ok);
    uint32_t looks = 0;
    d.run(engine, [&] {
        ++looks;
        CHECK(engine.how_far().percent == (engine.finished() ? 100 : 0));
        return d.record().replay_stage == 2 && d.model.size() == 8;
    });
    CHECK(looks > 3);
    CHECK(d.run(engine) == pj::status::ok);
    CHECK(engine.how_far().percent == 100);
}

TEST_CASE("G23 how far a rebuild is that had gone on beyond its end, and is asked to begin there") {
    rebuilding d;
    d.append(8);
    pj::checkpoint& kept = d.records["p"];
    kept.at = 8;                                // a filtering store had looked so far
    kept.revision = 5;
    kept.replay_stage = 2;
    kept.rebuild = 1;
    kept.replayed_through = 6;
    d.options.from = 6;
    pj::replay_engine engine{d.what, d.options};
    REQUIRE(engine.start() == pj::status::ok);
    engine.pause();
    static_cast<void>(engine.tick(d.now_ms));
    REQUIRE(engine.loaded());
    CHECK(engine.how_far().percent == 0);
    engine.resume();
    CHECK(d.run(engine) == pj::status::ok);
    CHECK(engine.how_far().percent == 100);
    CHECK(d.record().at == 8);
}
