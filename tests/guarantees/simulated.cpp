// What the simulation has found, each as the smallest story that shows it.
#include "support/cluster.hpp"
#include "support/database.hpp"

using namespace support;
using pj::position;
using pj::status;

namespace {

struct thing {
    static constexpr pj::event_type type{"Thing"};
    static bool decode(const pj::stored_event&, thing&) { return true; }
};
struct keeper : row_writer {
    using handles = pj::events<thing>;
    static constexpr const char* handler_name = "keeper";
    using row_writer::row_writer;
    pj::verdict on(const thing&, const pj::context& c) { return run(c); }
};

/// A projection in a database with units of work.
struct shelf {
    database db;
    keeper hand{db, "keeper"};
    pj::projection what{"p", db, hand, db};
    uint32_t now_ms = 0;
    std::vector<pj::notice_kind> notices;

    shelf() {
        what.transaction = db;
        what.delays.jitter_percent = 0;
        what.batch = 10;
        what.observe = {[](void* me, const pj::notice& n) {
            static_cast<shelf*>(me)->notices.push_back(n.kind);
        }, this};
    }
    shelf(const shelf&) = delete;
    shelf& operator=(const shelf&) = delete;
    size_t count(pj::notice_kind kind) const {
        size_t n = 0;
        for (const pj::notice_kind one : notices) n += one == kind ? 1u : 0u;
        return n;
    }
    /// False: it still runs round and round after so many ticks.
    bool run(pj::worker& worker, uint32_t ms) {
        const uint32_t until = now_ms + ms;
        for (int ticks = 0; ticks < 2000; ++ticks) {
            const uint32_t calls = db.calls;
            const pj::tick_result r = worker.tick(now_ms);
            if (db.calls == calls && r.scanned == 0 && worker.running()) CHECK(r.wait_ms != 0);
            if (!worker.running() || now_ms >= until) return true;
            now_ms += pj::sooner(r.wait_ms, 1000);
        }
        return false;
    }
};

const char* name_of(trouble::kind kind) {
    return kind == trouble::kind::none    ? "nothing"
         : kind == trouble::kind::pending ? "pending"
         : kind == trouble::kind::failed  ? "failed" : "lost answer";
}

} // namespace

TEST_CASE("G9 in a unit a filtered event does not make a failing one forget its attempts") {
    shelf s;
    s.db.append("Thing").append("Thing", "not ours").append("Thing", "bad").append("Thing");
    const auto is_ours = [](const pj::stored_event& e) {
        return e.aggregate_id != pj::text("not ours");
    };
    s.what.filter = is_ours;
    s.what.on_error = pj::error_policy::retry_then_skip(2);
    s.hand.says = [](const pj::context& c) { return c.event.at == 2 ? pj::fail() : pj::handled; };
    pj::worker worker{s.what};
    REQUIRE(worker.start() == status::ok);
    CHECK(s.run(worker, 5000));
    CHECK(s.hand.times[2] == 3);
    CHECK(s.db.record().at == 3);
}

TEST_CASE("G8 with a unit of work a hole is skipped though it lies behind events of the unit") {
    shelf s;
    s.db.append(5, "Thing");
    s.db.events.erase(2);
    pj::gap_guard gaps;
    gaps.is_dead = [](position, position) { return true; };
    s.what.gaps = &gaps;
    pj::worker worker{s.what};
    REQUIRE(worker.start() == status::ok);
    CHECK(s.run(worker, 5000));
    CHECK(s.db.record().at == 4);
    CHECK(s.count(pj::notice_kind::gap_skipped) == 1);
}

TEST_CASE("G8 G17 an event_sink with a unit of work passes a hole, and does not spin before one") {
    for (const bool is_dead : {true, false}) {
        CAPTURE(is_dead);
        shelf s;
        s.db.append(3, "Thing").events.erase(1);
        pj::gap_guard gaps{500};
        if (is_dead) gaps.is_dead = [](position, position) { return true; };
        s.what.gaps = &gaps;
        pj::event_sink sink{s.what};
        REQUIRE(sink.start() == status::ok);
        int offers = 0;
        for (const position at : {position{0}, position{2}}) {
            pj::stored_event e;
            e.at = at;
            e.type = "Thing";
            pj::receive_result r = sink.receive(e, s.now_ms);
            for (; r.answer == pj::receipt::hold && offers < 100; ++offers) {
                s.now_ms += r.wait_ms;
                r = sink.receive(e, s.now_ms);
            }
            CHECK((r.answer == pj::receipt::ack || r.answer == pj::receipt::later));
        }
        CHECK(offers < 20);
        CHECK(s.db.applied("keeper", 2) == 1);
    }
}

TEST_CASE("G14 G17 whatever becomes of a commit and of the rollback after it, the record tells") {
    // After a crash some records are saved alone in a unit: what named the event is cleared.
    using kind = trouble::kind;
    for (const kind first : {kind::lost_answer, kind::failed}) {
        for (const kind second : {kind::none, kind::pending}) {
            uint32_t calls = 100;
            for (uint32_t k = 1; k < calls; ++k) {
                const std::string where = "call " + std::to_string(k) + ": " + name_of(first) +
                                          ", then " + name_of(second);
                CAPTURE(where);
                shelf s;
                s.db.append(4, "Thing");
                pj::crash_guard guard;
                s.what.crashes = &guard;
                s.what.batch = 1;
                s.what.delays.first_ms = 1;
                s.db.troubles = {{k, first}, {k + 1, second}};
                if (second == kind::none) s.db.troubles.pop_back();
                pj::worker worker{s.what};
                REQUIRE(worker.start(pj::start_cause::crash) == status::ok);
                CHECK(s.run(worker, 3000));
                CHECK(worker.state() != pj::run_state::halted);
                CHECK(s.db.record().at == 3);
                CHECK(worker.counts().vanished == 0);
                const uint64_t skipped = worker.counts().skipped;       // where the handler failed
                CHECK(s.db.durable.applied.size() + skipped == 4);
                calls = s.db.calls < 60 ? s.db.calls : 60;
            }
        }
    }
}

TEST_CASE("G14 a record alone that cannot be committed is no event that has vanished") {
    shelf s;
    s.db.append(4, "Thing");
    pj::crash_guard guard;
    s.what.crashes = &guard;
    s.what.batch = 1;
    int refused = 0;
    s.db.refuses_commit = [&](const database::tables& next, const database::tables& now) {
        const auto there = now.records.find("p");
        const bool is_alone = there != now.records.end() &&
                              there->second.at == next.records.at("p").at;
        if (is_alone) ++refused;
        return is_alone && refused < 3;
    };
    pj::worker worker{s.what};
    REQUIRE(worker.start(pj::start_cause::crash) == status::ok);
    CHECK(s.run(worker, 5000));
    CHECK(refused > 0);
    CHECK(worker.counts().vanished == 0);
    CHECK(s.db.record().at == 3);
    CHECK(s.count(pj::notice_kind::event_vanished) == 0);
}

TEST_CASE("a message that cannot be committed is not mistaken for another without an offset") {
    shelf s;
    s.db.refuses_commit = [](const database::tables& next, const database::tables&) {
        return next.applied.count({"keeper", 0}) != 0;
    };
    pj::event_sink sink{s.what};
    REQUIRE(sink.start() == status::ok);
    pj::stored_event bad, good;
    bad.type = good.type = "Thing";
    bad.aggregate_id = "bad";
    good.aggregate_id = "good";
    CHECK(sink.receive(bad, 0).answer == pj::receipt::hold);
    CHECK(sink.receive(good, 0).answer == pj::receipt::hold);   // untried
    CHECK(sink.receive(bad, 1000).answer == pj::receipt::hold); // skipped, in a unit of its own
    CHECK(sink.receive(good, 1000).answer == pj::receipt::hold);
    CHECK(s.hand.called.size() == 1);
    CHECK(sink.receive(bad, 2000).answer == pj::receipt::ack);
}

TEST_CASE("G15 a load that fails after a halt is waited for, though something is to be saved") {
    struct store {
        kit::memory_checkpoints& in;
        bool is_down = false;
        status load(pj::text key, pj::checkpoint& out) {
            return is_down ? status::failed : in.load(key, out);
        }
        status save(pj::text key, const pj::checkpoint& next) { return in.save(key, next); }
    };
    cluster c;
    c.append(3);
    host h(c, 1);
    store checkpoints{c.store};
    h.what.checkpoints = checkpoints;
    h.what.on_error = pj::error_policy::halt();
    h.does = [](const pj::context& with, bool) {
        return with.event.at == 1 ? pj::fail() : pj::handled;
    };
    pj::worker worker{h.what};
    REQUIRE(worker.start() == status::ok);
    run_for(c, 1000, worker);
    REQUIRE(worker.state() == pj::run_state::halted);
    uint64_t token = 0;
    REQUIRE(c.leases.acquire("p", 3000, token) == status::ok);
    REQUIRE(worker.skip_failed(1) == status::ok);
    checkpoints.is_down = true;
    run_for(c, 2500, worker);
    pj::tick_result r{};
    for (int i = 0; i < 20 && !worker.has_lease() && r.reason != status::checkpoint_failed; ++i) {
        c.clock.advance(100);
        r = worker.tick(c.clock());
    }
    REQUIRE(r.reason == status::checkpoint_failed);
    CHECK(r.wait_ms != 0);
}

TEST_CASE("a volatile model with more to replay than may be unsaved catches up") {
    pj::memory_log<64, 1024> log;
    pj::memory_checkpoint_store<1> checkpoints;
    for (uint32_t i = 0; i < 20; ++i) log.append(tick_event{i});
    struct counting {
        using handles = pj::events<tick_event>;
        uint32_t seen = 0;
        void on(const tick_event&) { ++seen; }
    };
    for (int run = 0; run < 2; ++run) {
        counting model;
        pj::projection what{"p", log, model, checkpoints};
        what.volatile_model = true;
        what.batch = 10;
        what.unsaved_max = 5;
        pj::worker worker{what};
        REQUIRE(worker.start() == status::ok);
        for (uint32_t i = 0; i < 50; ++i) static_cast<void>(worker.tick(i * 1000));
        CHECK(model.seen == 20);
    }
}
