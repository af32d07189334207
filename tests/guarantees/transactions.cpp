// G17, G18: with a unit of work, effects, letters and checkpoint take effect together or not at all.
#include "support/database.hpp"

#include <memory>

using namespace support;
using pj::position;
using pj::status;

namespace {

template<int Which> struct named_event {
    static constexpr const char* names[2] = {"Alpha", "Beta"};
    static constexpr pj::event_type type{pj::text(names[Which])};
    static bool decode(const pj::stored_event& in, named_event&) {
        return in.aggregate_id != pj::text("broken");
    }
};
using alpha = named_event<0>;       // handled by a, b and c
using beta = named_event<1>;        // handled by a

template<char Name> struct hand : row_writer {
    static constexpr char handler_name[] = {Name, '\0'};
    explicit hand(database& in) : row_writer(in, handler_name) {}
};
struct first : hand<'a'> {
    using handles = pj::events<alpha, beta>;
    using hand::hand;
    pj::verdict on(const alpha&, const pj::context& c) { return run(c); }
    pj::verdict on(const beta&, const pj::context& c) { return run(c); }
};
template<char Name> struct other : hand<Name> {
    using handles = pj::events<alpha>;
    using hand<Name>::hand;
    pj::verdict on(const alpha&, const pj::context& c) { return this->run(c); }
};

struct shop {
    database db;
    first a{db};
    other<'b'> b{db};
    other<'c'> c{db};
    pj::registry<first, other<'b'>, other<'c'>> hands{a, b, c};
    std::vector<pj::notice_kind> notices;
    std::vector<status> reasons;
    pj::projection what{"p", db, hands, db};
    pj::worker worker{what};
    uint32_t now_ms = 0;
    pj::tick_result last{};

    shop() {
        what.transaction = db;
        what.dead_letters = db;
        what.delays.jitter_percent = 0;
        what.batch = 10;
        what.observe = {[](void* me, const pj::notice& n) {
            static_cast<shop*>(me)->notices.push_back(n.kind);
            static_cast<shop*>(me)->reasons.push_back(n.reason);
        }, this};
        db.on_change = [this] { check_durable(); };
    }
    shop(const shop&) = delete;
    shop& operator=(const shop&) = delete;

    /// G17: at every moment what is durable is whole.
    void check_durable() {
        const position at = db.record().at;
        for (const auto& [key, n] : db.durable.applied) {
            CHECK(n == 1);
            CHECK(key.second <= at);
        }
        if (!db.letters_inside) return;
        for (const auto& [key, l] : db.durable.letters) CHECK(key.second <= at);
    }
    pj::tick_result tick() {
        last = worker.tick(now_ms);
        const pj::counters n = worker.counts();
        CHECK(n.scanned == n.handled + n.unhandled + n.unknown + n.filtered + n.skipped +
                               n.lettered + n.vanished);
        CHECK(worker.scanned() <= db.record().at);      // lower until a lost answer is found out
        return last;
    }
    void run_for(uint32_t ms) {
        const uint32_t until = now_ms + ms;
        for (int ticks = 0; ticks < 3000 && worker.running() && now_ms <= until; ++ticks) {
            tick();
            if (db.dead || last.wait_ms == pj::never) return;
            now_ms += last.wait_ms;
        }
    }
    uint32_t count(pj::notice_kind kind) const {
        uint32_t n = 0;
        for (const pj::notice_kind k : notices) n += k == kind ? 1u : 0u;
        return n;
    }
    /// Everything up to the end has its outcome, exactly once.
    void check_end(const std::set<database::letter_key>& given_up = {}) {
        CHECK(db.record().at == db.newest());
        for (const auto& [at, e] : db.events) {
            for (const char* h : {"a", "b", "c"}) {
                if (*h != 'a' && e.type != "Alpha") continue;
                if (e.type != "Alpha" && e.type != "Beta") continue;
                const std::string which = h + ("@" + std::to_string(at));
                CAPTURE(which);
                CHECK(db.applied(h, at) == (given_up.count({h, at}) != 0 ? 0 : 1));
            }
        }
        CHECK(worker.scanned() == db.record().at);
        CHECK_FALSE(db.is_open());
    }
};

} // namespace

TEST_CASE("G17 a batch is one unit: begin, handlers, save, commit") {
    shop s;
    s.db.append(25, "Alpha");
    REQUIRE(s.worker.start() == status::ok);
    s.tick();
    CHECK(s.db.trace == std::vector<std::string>{"begin", "save 9", "commit"});
    CHECK(s.worker.counts().handled == 10);
    CHECK(s.last.wait_ms == 0);
    s.run_for(10);
    CHECK(s.db.begun == 3);
    CHECK(s.db.rolled_back == 0);
    s.check_end();
    CHECK(s.worker.counts().handled == 25);
}

TEST_CASE("G17 an idle poll begins nothing") {
    shop s;
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(5000);
    CHECK(s.db.begun == 0);
    s.db.append(3, "Beta");
    s.run_for(5000);
    CHECK(s.db.begun == 1);
    s.run_for(20000);
    CHECK(s.db.begun == 1);
    s.check_end();
}

TEST_CASE("G17 a full batch that ends the log leaves no unit open") {
    shop s;
    s.db.append(10, "Beta");
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(5000);
    s.check_end();
    CHECK(s.db.committed == 1);
}

TEST_CASE("G17 every save_rule and batch: what is durable is whole, and counted") {
    for (const uint32_t batch : {1u, 2u, 7u, 100u}) {
        for (const uint32_t every : {1u, 3u, 100u}) {
            shop s;
            s.what.batch = batch;
            s.what.save = {every, 1000, every != 3};
            s.db.append(23, "Alpha").append(3, "Gamma").append(4, "Beta");
            REQUIRE(s.worker.start() == status::ok);
            s.run_for(5000);
            s.check_end();
            CHECK(s.worker.counts().handled == 27);
            CHECK(s.worker.counts().unknown == 3);
        }
    }
}

TEST_CASE("G18 a failing event does not undo its neighbours: they commit, it is isolated") {
    shop s;
    s.what.on_error = pj::error_policy::skip();
    s.db.append(10, "Alpha");
    s.b.says = failing(5, 100);
    REQUIRE(s.worker.start() == status::ok);
    s.tick();
    CHECK(s.db.record().at == pj::before_first);
    CHECK(s.db.trace == std::vector<std::string>{"begin", "rollback"});
    CHECK(s.worker.counts().scanned == 0);
    s.tick();
    CHECK(s.db.record().at == 4);
    CHECK(s.worker.counts().handled == 5);
    s.tick();
    CHECK(s.db.record().at == 5);
    CHECK(s.worker.counts().skipped == 1);
    s.run_for(5000);
    s.check_end({{"b", 5}});
    CHECK(s.b.times[5] == 1);           // R + 1 attempts, not one more
    CHECK(s.c.times[5] == 1);           // not in the unit that was lost
    CHECK(s.count(pj::notice_kind::handler_failed) == 1);
    CHECK(s.count(pj::notice_kind::event_skipped) == 1);
}

TEST_CASE("G3 G18 what is filtered or foreign before a failing event does not make it forgotten") {
    shop filtering;
    filtering.what.on_error = pj::error_policy::skip();
    filtering.what.filter = {[](void*, const pj::stored_event& e) { return e.at % 3 != 2; },
                             &filtering};
    filtering.db.append(10, "Alpha");
    filtering.b.says = failing(7, 100);
    REQUIRE(filtering.worker.start() == status::ok);
    filtering.run_for(5000);
    CHECK(filtering.db.record().at == 9);
    CHECK(filtering.b.times[7] == 1);
    CHECK(filtering.worker.counts().skipped == 1);
    CHECK(filtering.worker.counts().filtered == 3);

    for (position at = 0; at < 10; ++at) {
        shop s;
        s.what.on_error = pj::error_policy::retry_then_skip(2);
        s.db.append(10, "Alpha");
        s.db.on_change = nullptr;       // it looks at the record of a worker
        s.b.says = failing(at, 100);
        const uint32_t owner = pj::partition_of(s.db.events[at].aggregate, 2);
        pj::partitioned_worker part{s.what, {owner, 2}};
        REQUIRE(part.start() == status::ok);
        for (uint32_t ticks = 0, now = 0; ticks < 200; ++ticks) now += part.tick(now).wait_ms;
        CHECK(part.checkpointed() == 9);
        CHECK(s.b.times[at] == 3);
        CHECK(part.counts().skipped == 1);
        CHECK(part.counts().handled + part.counts().foreign == 9);
    }
}

TEST_CASE("G9 G18 in units, too, a handler has exactly its attempts, wherever it stands") {
    for (const uint32_t retries : {0u, 1u, 3u}) {
        for (const position at : {position{0}, position{4}, position{9}, position{12}}) {
            for (int which = 0; which < 3; ++which) {
                shop s;
                s.what.on_error = pj::error_policy::retry_then_skip(
                    static_cast<uint16_t>(retries));
                s.db.append(14, "Alpha");
                row_writer* const hands[] = {&s.a, &s.b, &s.c};
                hands[which]->says = failing(at, 1000);
                REQUIRE(s.worker.start() == status::ok);
                s.run_for(100000);
                s.check_end({{hands[which]->name, at}});
                CHECK(hands[which]->times[at] == retries + 1);
                CHECK(s.worker.counts().skipped == 1);
                CHECK(s.worker.counts().failed_calls == retries + 1);
            }
        }
    }
}

TEST_CASE("G9 several handlers of one event fail, each with all of its attempts") {
    shop s;
    s.what.on_error = pj::error_policy::retry_then_dead_letter(2);
    s.db.append(6, "Alpha");
    s.a.says = failing(3, 2);                   // passes at its third attempt
    s.b.says = failing(3, 1000);
    s.c.says = failing(3, 1000, pj::fail(9));
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100000);
    s.check_end({{"b", 3}, {"c", 3}});
    CHECK(s.b.times[3] == 3);
    CHECK(s.c.times[3] == 3);
    CHECK(s.db.letter_keys() == "b@3 c@3");
    CHECK(s.db.durable.letters[{"b", 3}] == database::letter{pj::failure_kind::transient, 7, 3});
    CHECK(s.db.durable.letters[{"c", 3}] == database::letter{pj::failure_kind::transient, 9, 3});
    CHECK(s.worker.counts().lettered == 1);
    CHECK(s.worker.counts().handled == 5);
}

TEST_CASE("G17 a retry halts before the event; its neighbours are committed, nothing is lost") {
    shop s;
    s.what.on_error = pj::error_policy::retry(2);
    s.db.append(9, "Alpha");
    s.c.says = failing(4, 3);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.worker.reason() == status::handler_failed);
    CHECK(s.db.record().at == 3);
    CHECK(s.worker.last_failure().at == 4);
    CHECK(s.worker.last_failure().attempts == 3);
    REQUIRE(s.worker.retry_failed() == status::ok);
    s.run_for(5000);
    s.check_end();
    CHECK(s.c.times[4] == 4);
}

TEST_CASE("G31 skip_failed gives up the event as a whole") {
    shop s;
    s.what.on_error = pj::error_policy::halt();
    s.db.append(9, "Alpha");
    s.b.says = failing(4, 1000);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(1000);
    REQUIRE(s.worker.state() == pj::run_state::halted);
    CHECK(s.worker.skip_failed(3) == status::not_halted);
    REQUIRE(s.worker.skip_failed(4) == status::ok);
    s.run_for(5000);
    s.check_end({{"a", 4}, {"b", 4}, {"c", 4}});
    CHECK(s.worker.counts().skipped == 1);
    CHECK(s.worker.counts().scanned == 9);
}

TEST_CASE("G12 G17 a letter is part of the unit: offered again after a rollback, durable once") {
    for (const bool inside : {true, false}) {
        shop s;
        s.db.letters_inside = inside;
        s.what.on_error = pj::error_policy::retry_then_dead_letter(3);
        s.db.append(8, "Alpha");
        s.b.says = failing(2, 1000, pj::reject(3));
        int refused = 0;
        s.db.refuses_commit = [&](const database::tables& next, const database::tables&) {
            return next.letters.count({"b", 2}) != 0 && next.records.at("p").at == 2 &&
                   refused++ < 3;
        };
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(100000);
        s.check_end({{"b", 2}});
        CHECK(s.db.letter_keys() == "b@2");
        CHECK(s.b.times[2] == 1);
        CHECK(refused == 4);
        CHECK(s.worker.counts().lettered == 1);
    }
}

TEST_CASE("G12 a letter of all handlers is the only one of its event") {
    shop s;
    s.what.on_error = pj::error_policy::dead_letter();
    s.db.append(3, "Alpha");
    s.a.says = [](const pj::context& c) { return c.event.at == 1 ? pj::reject(7) : pj::handled; };
    s.db.refuses_commit = [](const database::tables& next, const database::tables&) {
        return next.applied.count({"b", 1}) != 0;
    };
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100000);
    CHECK(s.db.record().at == 2);
    CHECK(s.worker.counts().lettered == 1);
    CHECK(s.db.letter_keys() == "@1");
}

TEST_CASE("G12 a letter that is not taken holds the event, and its handler is not run again") {
    for (const auto how : {trouble::kind::failed, trouble::kind::pending, trouble::kind::throws,
                           trouble::kind::illegal}) {
#if !PROJECTIONS_EXCEPTIONS
        if (how == trouble::kind::throws) continue;
#endif
        shop s;
        s.what.on_error = pj::error_policy::dead_letter();
        s.db.append(4, "Alpha");
        s.a.says = failing(1, 1000, pj::reject(3));
        bool is_refusing = true;
        struct refusing {
            shop& of;
            bool& on;
            trouble::kind how;
            uint32_t asked = 0;
            status put(const pj::dead_letter& l) {
                ++asked;
                return on ? of.db.ends(how, status::ok) : of.db.put(l);
            }
        } box{s, is_refusing, how};
        s.what.dead_letters = box;
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(3000);
        CHECK(s.db.record().at == 0);
        CHECK(s.a.times[1] == 1);
        CHECK(box.asked > 2);
        if (how != trouble::kind::pending) CHECK(box.asked < 12);       // backoff
        is_refusing = false;
        s.run_for(60000);
        s.check_end({{"a", 1}});
        CHECK(s.a.times[1] == 1);
        CHECK(s.db.letter_keys() == "a@1");
    }
}

TEST_CASE("G18 a commit that fails is narrowed down to one event before the policy speaks") {
    for (const position poison : {0, 1, 4, 9, 17, 29}) {
        for (int policy = 0; policy < 3; ++policy) {
            CAPTURE(poison);
            CAPTURE(policy);
            shop s;
            s.what.on_error = policy == 0   ? pj::error_policy::skip()
                              : policy == 1 ? pj::error_policy::retry_then_dead_letter(2)
                                            : pj::error_policy::retry(1);
            s.db.append(30, "Alpha");
            uint32_t alone = 0;
            s.db.refuses_commit = [&](const database::tables& next, const database::tables& now) {
                if (next.applied.count({"b", poison}) == 0) return false;
                alone += next.records.at("p").at == poison &&
                         (now.records.count("p") == 0 ? poison == 0
                                                      : now.records.at("p").at == poison - 1);
                return true;
            };
            REQUIRE(s.worker.start() == status::ok);
            s.run_for(100000);
            CHECK(s.worker.last_failure().at == poison);
            CHECK(s.worker.last_failure().code == pj::code_uncommitted);
            CHECK(s.worker.last_failure().handler.empty());
            if (policy == 2) {
                CHECK(s.worker.state() == pj::run_state::halted);
                CHECK(s.worker.reason() == status::unit_of_work_failed);
                CHECK(s.db.record().at == poison - 1);
                CHECK(alone >= 2);
                REQUIRE(s.worker.skip_failed(poison) == status::ok);
                s.run_for(100000);
            }
            s.check_end({{"a", poison}, {"b", poison}, {"c", poison}});
            CHECK(s.worker.counts().failed_calls == (policy == 0 ? 1 : policy == 1 ? 3 : 2));
            CHECK(s.db.letter_keys() ==
                  (policy == 1 ? "@" + std::to_string(poison) : std::string()));
            CHECK(s.worker.counts().handled == 29);
        }
    }
}

TEST_CASE("G18 of a replayed event that cannot be committed the policy for replayed ones is asked") {
    for (const position replayed_through : {3, 4}) {
        shop s;
        const pj::error_policy replaying = pj::error_policy::dead_letter();
        s.what.on_error_replaying = &replaying;
        s.what.replayed_through = replayed_through;
        s.db.append(6, "Alpha");
        s.db.refuses_commit = [](const database::tables& next, const database::tables&) {
            return next.applied.count({"b", 4}) != 0;
        };
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(100000);
        s.check_end({{"a", 4}, {"b", 4}, {"c", 4}});
        CHECK(s.worker.last_failure().code == pj::code_uncommitted);
        CHECK(s.db.letter_keys() == (replayed_through == 4 ? "@4" : ""));
    }
}

TEST_CASE("G14 G18 a commit that fails for a while gives no event up") {
    shop s;
    s.what.on_error = pj::error_policy::retry(3);
    s.db.append(30, "Alpha");
    s.db.refuses_commit = [&](const database::tables&, const database::tables&) {
        return s.now_ms < 200;
    };
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100000);
    s.check_end();
    CHECK(s.worker.counts().handled == 30);
    CHECK(s.db.committed < 12);         // and the units grow again
}

TEST_CASE("G14 begin() and save() that fail are tried again with backoff and give no event up") {
    for (const bool is_begin : {true, false}) {
        shop s;
        s.what.on_error = pj::error_policy::skip();
        s.db.append(7, "Alpha");
        bool works = false;
        uint32_t asked = 0;
        struct gate {
            shop& of;
            bool& works;
            uint32_t& asked;
            bool is_begin;
            status begin() {
                if (is_begin) ++asked;
                return is_begin && !works ? status::failed : of.db.begin();
            }
            status commit() { return of.db.commit(); }
            status rollback() { return of.db.rollback(); }
            status load(pj::text key, pj::checkpoint& out) { return of.db.load(key, out); }
            status save(pj::text key, const pj::checkpoint& next) {
                if (!is_begin) ++asked;
                return !is_begin && !works ? status::failed : of.db.save(key, next);
            }
        } between{s, works, asked, is_begin};
        s.what.transaction = between;
        s.what.checkpoints = between;
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(5000);
        CHECK(s.last.state == pj::run_state::waiting);
        CHECK(s.last.reason == (is_begin ? status::unit_of_work_failed : status::checkpoint_failed));
        CHECK(asked > 3);
        CHECK(asked < 9);               // 100, 200, 400, ...
        CHECK(s.worker.counts().scanned == 0);
        CHECK_FALSE(s.db.is_open());
        works = true;
        s.run_for(60000);
        s.check_end();
        CHECK(s.worker.counts().handled == 7);
    }
}

TEST_CASE("G14 a commit whose answer is lost is recognised, and counted once") {
    for (uint32_t at = 1; at < 40; ++at) {
        shop s;
        s.what.on_error = pj::error_policy::retry(3);
        s.db.append(23, "Alpha");
        s.db.troubles = {{at, trouble::kind::lost_answer}};
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(60000);
        s.check_end();
        CHECK(s.worker.counts().scanned == 23);
    }
}

TEST_CASE("G15 G17 a pending handler keeps the unit open; then all commit together") {
    shop s;
    s.db.append(6, "Alpha");
    int polls = 4;
    std::vector<bool> resumed;
    s.b.says = [&](const pj::context& c) {
        if (c.event.at != 3) return pj::handled;
        resumed.push_back(c.resumed);
        return polls-- > 0 ? pj::pending : pj::handled;
    };
    REQUIRE(s.worker.start() == status::ok);
    s.tick();
    CHECK(s.db.is_open());
    CHECK(s.last.state == pj::run_state::waiting);
    CHECK(s.last.reason == status::pending);
    CHECK(s.last.wait_ms == 10);
    CHECK(s.worker.counts().scanned == 0);
    CHECK(s.worker.scanned() == pj::before_first);
    CHECK_FALSE(s.worker.has_processed(0));
    s.run_for(100);
    CHECK(s.db.begun == 2);             // 0 to 3, then the rest
    CHECK(s.db.rolled_back == 0);
    CHECK(resumed == std::vector<bool>{false, true, true, true, true});
    CHECK(s.a.times[3] == 1);
    s.check_end();
}

TEST_CASE("G15 G18 pending for longer than a unit may last: the others commit, it goes on alone") {
    shop s;
    s.db.append(6, "Alpha");
    s.what.unit_ms_max = 500;
    uint32_t begun_at = 0;
    bool is_begun = false;
    int starts = 0;
    s.b.says = [&](const pj::context& c) {
        if (c.event.at != 3) return pj::handled;
        if (!c.resumed) {
            ++starts;
            is_begun = true;
            begun_at = c.now_ms;
        }
        return is_begun && c.now_ms - begun_at >= 5000 ? pj::handled : pj::pending_for(50);
    };
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(400);
    CHECK(s.db.record().at == pj::before_first);
    s.run_for(300);
    CHECK(s.db.record().at == 2);       // after 500 ms, not later
    CHECK(s.worker.counts().handled == 3);
    s.run_for(10000);
    CHECK(starts == 2);
    s.check_end();
    CHECK(s.worker.counts().failed_calls == 0);
}

TEST_CASE("G27 a unit that waits is not slept over") {
    shop s;
    s.db.append(6, "Alpha");
    s.what.unit_ms_max = 500;
    s.b.says = [&](const pj::context& c) {
        return c.event.at == 3 ? pj::pending_for(60000) : pj::handled;
    };
    REQUIRE(s.worker.start() == status::ok);
    s.tick();
    CHECK(s.last.wait_ms == 500);
    s.now_ms += 500;
    s.tick();
    CHECK(s.db.record().at == pj::before_first);
    CHECK_FALSE(s.db.is_open());
    s.tick();
    CHECK(s.db.record().at == 2);
    s.tick();
    CHECK(s.db.is_open());
    CHECK(s.last.wait_ms == 60000);
}

TEST_CASE("G15 a pending begin, save, commit or rollback is asked again, and nothing is handled") {
    for (uint32_t at = 1; at < 45; ++at) {
        for (const uint32_t times : {1u, 3u}) {
            shop s;
            s.what.on_error = pj::error_policy::retry_then_skip(1);
            s.db.append(12, "Alpha");
            s.b.says = failing(7, 1);
            for (uint32_t i = 0; i < times; ++i)
                s.db.troubles.push_back({at + i, trouble::kind::pending});
            REQUIRE(s.worker.start() == status::ok);
            s.run_for(60000);
            s.check_end();
            CHECK(s.worker.counts().handled == 12);
        }
    }
}

TEST_CASE("G28 stop and pause end an open unit; the pending event is done again later") {
    for (const bool is_stop : {true, false}) {
        shop s;
        s.db.append(6, "Alpha");
        bool is_waiting = true;
        s.b.says = [&](const pj::context& c) {
            return c.event.at == 3 && is_waiting ? pj::pending : pj::handled;
        };
        REQUIRE(s.worker.start() == status::ok);
        s.tick();
        REQUIRE(s.db.is_open());
        if (is_stop) s.worker.stop();
        else s.worker.pause();
        s.tick();
        CHECK_FALSE(s.db.is_open());
        if (is_stop) {
            CHECK_FALSE(s.worker.running());
            CHECK(s.worker.reason() == status::ok);
            REQUIRE(s.worker.start() == status::ok);
        } else {
            s.run_for(100);
            CHECK(s.last.state == pj::run_state::paused);
            CHECK(s.last.wait_ms == pj::never);
            CHECK_FALSE(s.db.is_open());
            s.worker.resume();
        }
        is_waiting = false;
        s.run_for(5000);
        s.check_end();
    }
}

TEST_CASE("G28 a commit that stays pending does not keep stop() for ever, and is reported") {
    shop s;
    s.db.append(6, "Alpha");
    struct slow {
        database& db;
        status begin() { return db.begin(); }
        status commit() { return status::pending; }
        status rollback() { return db.rollback(); }
    } units{s.db};
    s.what.transaction = units;
    s.what.stop_ms = 300;
    REQUIRE(s.worker.start() == status::ok);
    s.tick();
    CHECK(s.last.reason == status::pending);
    s.worker.stop();
    s.run_for(299);
    s.run_for(100);
    CHECK_FALSE(s.worker.running());
    CHECK(s.worker.reason() == status::checkpoint_failed);
    CHECK(s.db.record().at == pj::before_first);
    CHECK_FALSE(s.db.is_open());
}

TEST_CASE("G28 a stop while a save or commit is pending that then fails reports what is undone") {
    for (const bool is_commit : {true, false}) {
        for (const status answer : {status::failed, status::ok}) {
            CAPTURE(is_commit);
            CAPTURE(answer);
            shop s;
            s.db.append(6, "Alpha");
            struct slow {
                database& db;
                bool is_commit;
                status said = status::pending;
                status begin() { return db.begin(); }
                status commit() { return is_commit && said != status::ok ? said : db.commit(); }
                status rollback() { return db.rollback(); }
                status load(pj::text key, pj::checkpoint& out) { return db.load(key, out); }
                status save(pj::text key, const pj::checkpoint& next) {
                    return !is_commit && said != status::ok ? said : db.save(key, next);
                }
            } units{s.db, is_commit};
            s.what.transaction = units;
            s.what.checkpoints = units;
            REQUIRE(s.worker.start() == status::ok);
            s.tick();
            CHECK(s.last.reason == status::pending);
            s.worker.stop();
            s.tick();
            CHECK(s.worker.running());
            units.said = answer;
            s.now_ms += s.last.wait_ms;
            s.run_for(2000);
            CHECK_FALSE(s.worker.running());
            const bool is_done = answer == status::ok;
            CHECK(s.worker.reason() == (is_done ? status::ok : status::checkpoint_failed));
            CHECK(s.db.record().at == (is_done ? 5 : pj::before_first));
            CHECK(s.worker.counts().handled == (is_done ? 6u : 0u));
            units.said = status::ok;
            REQUIRE(s.worker.start() == status::ok);    // nothing of that is left behind
            s.run_for(2000);
            s.check_end();
            s.worker.stop();
            s.tick();
            CHECK(s.worker.reason() == status::ok);
        }
    }
}

TEST_CASE("G31 reset and set_position are refused while nobody knows what becomes of a commit") {
    shop s;
    s.db.append(6, "Alpha");
    struct slow {
        database& db;
        bool is_slow = true;
        status begin() { return db.begin(); }
        status commit() { return is_slow ? status::pending : db.commit(); }
        status rollback() { return db.rollback(); }
    } units{s.db};
    s.what.transaction = units;
    REQUIRE(s.worker.start() == status::ok);
    s.tick();
    CHECK(s.last.reason == status::pending);
    CHECK(s.worker.reset(1) == status::conflict);
    CHECK(s.worker.set_position(pj::before_first, 1) == status::conflict);
    units.is_slow = false;
    s.run_for(2000);
    s.check_end();
    CHECK(s.worker.reset(5) == status::ok);
    s.run_for(100);
    CHECK(s.worker.running());
}

TEST_CASE("G31 reset and set_position drop an open unit") {
    for (const bool is_reset : {true, false}) {
        shop s;
        s.db.append(6, "Alpha");
        bool is_waiting = true;
        s.b.says = [&](const pj::context& c) {
            return c.event.at == 3 && is_waiting ? pj::pending : pj::handled;
        };
        REQUIRE(s.worker.start() == status::ok);
        s.tick();
        REQUIRE(s.db.is_open());
        if (is_reset) REQUIRE(s.worker.reset(1) == status::ok);
        else REQUIRE(s.worker.set_position(pj::before_first, 1) == status::ok);
        is_waiting = false;
        s.run_for(5000);
        CHECK(s.db.record().at == 5);
        CHECK(s.db.applied("a", 1) == 0);
        CHECK(s.db.applied("a", 2) == 1);
        CHECK(s.worker.counts().handled == 4);
        CHECK(s.db.begun == s.db.committed + s.db.rolled_back);
    }
}

TEST_CASE("G17 what cannot be decoded, is unknown or filtered has its outcome in the unit") {
    shop s;
    s.what.on_error = pj::error_policy::dead_letter();
    s.what.on_unknown = pj::unknown_types::fail;
    s.what.filter = {[](void*, const pj::stored_event& e) { return e.at != 6; }, &s};
    s.db.append(2, "Alpha").append("Alpha", "broken").append(1, "Beta").append("Gamma");
    s.db.append(3, "Alpha");
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(5000);
    CHECK(s.db.letter_keys() == "@2 @4");
    CHECK(s.worker.counts().lettered == 2);
    CHECK(s.worker.counts().filtered == 1);
    CHECK(s.worker.counts().handled == 5);
    CHECK(s.db.record().at == 7);
}

namespace {
/// A log whose every query takes a while: the first call of each answers pending, and it is only
/// good for a call with the same arguments.
struct slow_log {
    database& db;
    position asked_after = -2;
    uint32_t asked_wanted = 0;
    uint32_t queries = 0, calls = 0;
    bool is_stuck = false;
    status read(position after, pj::visitor& visit) {
        ++calls;
        const bool is_same = asked_after == after && asked_wanted == visit.wanted();
        asked_after = is_same && !is_stuck ? -2 : after;
        asked_wanted = visit.wanted();
        if (!is_same) ++queries;
        return is_same && !is_stuck ? db.read(after, visit) : status::pending;
    }
};
} // namespace

TEST_CASE("G15 a read that is pending in a unit is asked again with the same arguments, in that unit") {
    for (const uint32_t batch : {1u, 3u, 10u}) {
        CAPTURE(batch);
        shop s;
        slow_log slow{s.db};
        s.what.log = slow;
        s.what.batch = batch;
        s.db.append(10, "Alpha");
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(5000);
        s.check_end();
        CHECK(slow.calls < 60);
        CHECK(s.db.rolled_back <= 1);   // of nothing, where the batch ended with the log
    }
}

TEST_CASE("G27 a unit that waits for a read is not slept over, though nothing but wake() would end it") {
    shop s;
    slow_log slow{s.db};
    s.what.log = slow;
    s.what.unit_ms_max = 200;
    s.what.pending_ms = pj::never;
    s.db.append(10, "Alpha");
    REQUIRE(s.worker.start() == status::ok);
    while (s.db.begun == 0) {
        s.worker.wake();
        s.tick();
    }
    slow.is_stuck = true;
    s.worker.wake();
    s.tick();
    REQUIRE(s.db.is_open());
    CHECK(s.last.wait_ms == 200);
    s.now_ms += 200;
    s.tick();
    CHECK_FALSE(s.db.is_open());
    slow.is_stuck = false;
    for (int i = 0; i < 20; ++i) {
        s.worker.wake();
        s.run_for(0);
    }
    s.check_end();
}

TEST_CASE("G17 a run that begins anew begins no unit on what the last one knew of the log") {
    for (const bool is_reset : {true, false}) {
        shop s;
        s.what.batch = 2;
        s.db.append(5, "Alpha");
        REQUIRE(s.worker.start() == status::ok);
        while (s.db.committed == 0) s.tick();
        s.tick();                                       // 4 of 5: more is known to be there
        REQUIRE(s.db.record().at == 3);
        const uint32_t begun = s.db.begun;
        if (is_reset) {
            REQUIRE(s.worker.reset(4) == status::ok);
        } else {
            s.worker.stop();
            s.tick();
            s.db.durable.records["p"].at = 4;
            REQUIRE(s.worker.start() == status::ok);
        }
        s.run_for(100);
        CHECK(s.db.begun == begun);
    }
}

TEST_CASE("G15 a unit does not wait for a read for longer than unit_ms_max, nor for pause and stop") {
    for (const char* end : {"time", "pause", "stop"}) {
        CAPTURE(std::string(end));
        shop s;
        slow_log slow{s.db};
        s.what.log = slow;
        s.what.unit_ms_max = 200;
        s.db.append(10, "Alpha");
        REQUIRE(s.worker.start() == status::ok);
        while (s.db.begun == 0) {
            s.tick();
            s.now_ms += s.last.wait_ms;
        }
        slow.is_stuck = true;
        const uint32_t before = slow.calls;
        s.run_for(150);
        CHECK(s.db.is_open());
        CHECK(s.last.reason == status::pending);
        CHECK(slow.calls - before <= 16);
        if (*end == 'p') s.worker.pause();
        if (*end == 's') s.worker.stop();
        s.run_for(*end == 't' ? 100 : 0);
        CHECK(s.db.rolled_back == 1);
        if (*end != 't') CHECK_FALSE(s.db.is_open());
        if (*end == 's') CHECK_FALSE(s.worker.running());
        if (*end == 's') CHECK(s.worker.reason() == status::ok);
        slow.is_stuck = false;
        if (*end == 'p') s.worker.resume();
        if (*end == 's') REQUIRE(s.worker.start() == status::ok);
        s.run_for(5000);
        s.check_end();
    }
}

TEST_CASE("G18 events that are left out do not make the engine forget the one it has set aside") {
    shop s;
    s.what.filter = [](const pj::stored_event& e) { return e.aggregate_id != pj::text("foreign"); };
    s.what.on_error = pj::error_policy::dead_letter();
    s.db.append("Beta", "foreign").append("Beta", "broken").append("Beta", "foreign")
        .append("Beta", "whole").append("Beta", "foreign").append("Beta", "broken");
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(3000);
    CHECK(s.db.record().at == 5);
    CHECK(s.db.letter_keys() == "@1 @5");
    CHECK(s.db.applied("a", 3) == 1);
    const pj::counters n = s.worker.counts();
    CHECK(n.filtered == 3);
    CHECK(n.lettered == 2);
    CHECK(n.failed_calls == 2);
}

TEST_CASE("an event that vanishes while it is held, and one that changes") {
    for (const bool is_pending : {true, false}) {
        shop s;
        s.what.on_error = pj::error_policy::retry(5);
        s.db.append(6, "Alpha");
        s.b.says = [&](const pj::context& c) {
            return c.event.at != 3 ? pj::handled : is_pending ? pj::pending : pj::fail();
        };
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(50);
        s.db.events.erase(3);
        s.run_for(5000);
        s.check_end();
        CHECK(s.worker.counts().vanished == 1);
        CHECK(s.worker.counts().handled == 5);
        CHECK(s.db.applied("a", 3) == 0);       // its first handler's effect went with the unit
    }
}

TEST_CASE("G29 a unit of work that is not whole, and one for a model in RAM, are refused") {
    shop s;
    s.what.volatile_model = true;
    CHECK(s.worker.start() == status::bad_unit_of_work);
    s.what.volatile_model = false;
    s.what.transaction.commit = nullptr;
    CHECK(s.worker.start() == status::no_unit_of_work);
    s.what.transaction = s.db;
    s.what.transaction.rollback = nullptr;
    CHECK(s.worker.start() == status::no_unit_of_work);
    s.what.transaction = s.db;
    s.what.transaction.begin = nullptr;
    CHECK(s.worker.start() == status::no_unit_of_work);
    s.what.transaction = {};
    CHECK(s.worker.start() == status::ok);
}

TEST_CASE("G17 the power fails before or after any call; what is durable is whole, then all is there") {
    const pj::error_policy policies[] = {
        pj::error_policy::skip(), pj::error_policy::retry_then_skip(1),
        pj::error_policy::dead_letter(), pj::error_policy::retry_then_dead_letter(2)};
    for (int policy = 0; policy < 4; ++policy) {
        for (const auto how : {trouble::kind::dies_before, trouble::kind::dies_after}) {
            for (uint32_t at = 1, is_over = 0; is_over == 0; ++at) {
                REQUIRE(at < 1000);
                CAPTURE(policy);
                CAPTURE(at);
                shop s;
                s.what.on_error = policies[policy];
                s.what.batch = 5;
                s.db.append(4, "Alpha").append(2, "Beta").append(5, "Alpha");
                s.b.says = [](const pj::context& c) {
                    return c.event.at == 2 ? pj::fail(1) : pj::handled;
                };
                s.a.says = [](const pj::context& c) {
                    return c.event.at == 5 ? pj::reject(1) : pj::handled;
                };
                s.db.troubles = {{at, how}};
                REQUIRE(s.worker.start() == status::ok);
                s.run_for(3000);
                is_over = s.db.dead ? 0 : 1;
                s.db.troubles.clear();
                s.db.boot();
                pj::worker next{s.what};
                REQUIRE(next.start() == status::ok);
                for (int ticks = 0; ticks < 200 && s.db.record().at < s.db.newest(); ++ticks)
                    s.now_ms += next.tick(s.now_ms).wait_ms;
                CHECK(s.db.record().at == s.db.newest());
                CHECK(s.db.letter_keys() == (policy >= 2 ? "a@5 b@2" : ""));
                for (const auto& [key, n] : s.db.durable.put_twice) CHECK(n == 0);
                for (const auto& [where, e] : s.db.events) {
                    CHECK(s.db.applied("a", where) == (where == 5 ? 0 : 1));
                    if (e.type == "Alpha") CHECK(s.db.applied("b", where) == (where == 2 ? 0 : 1));
                    if (e.type == "Alpha") CHECK(s.db.applied("c", where) == 1);
                }
            }
        }
    }
}

TEST_CASE("G17 G18 any call answers oddly, any two do; what is durable is whole, then all is there") {
    constexpr trouble::kind kinds[] = {trouble::kind::failed, trouble::kind::lost_answer,
                                       trouble::kind::pending, trouble::kind::illegal,
                                       trouble::kind::wrong,
#if PROJECTIONS_EXCEPTIONS
                                       trouble::kind::throws
#endif
    };
    for (const trouble::kind one : kinds) {
        for (const trouble::kind two : kinds) {
            for (uint32_t at = 1; at < 60; at += 1) {
                CAPTURE(at);
                shop s;
                s.what.on_error = pj::error_policy::retry_then_dead_letter(9);
                s.what.batch = 5;
                s.db.append(3, "Alpha").append(2, "Beta").append(3, "Alpha");
                s.c.says = [](const pj::context& c) {
                    return c.event.at == 2 ? pj::reject(1) : pj::handled;
                };
                s.db.troubles = {{at, one}, {at + 1 + at % 4, two}};
                REQUIRE(s.worker.start() == status::ok);
                s.run_for(30000);
                if (s.worker.state() == pj::run_state::halted) {    // a save that was not true
                    CHECK(s.worker.reason() == status::checkpoint_conflict);
                    REQUIRE(s.worker.retry_failed() == status::ok);
                    s.run_for(30000);
                }
                s.check_end({{"c", 2}});
                CHECK(s.db.letter_keys() == "c@2");
                CHECK(s.worker.counts().failed_calls >= 1);
            }
        }
    }
}

TEST_CASE("a unit of work by hand") {
    shop s;
    s.db.append(3, "Beta");
    pj::unit_of_work by_hand;
    by_hand.self = &s.db;
    by_hand.begin = [](void* self) { return static_cast<database*>(self)->begin(); };
    by_hand.commit = [](void* self) { return static_cast<database*>(self)->commit(); };
    by_hand.rollback = [](void* self) { return static_cast<database*>(self)->rollback(); };
    s.what.transaction = by_hand;
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    s.check_end();
    CHECK(s.db.committed == 1);
}

TEST_CASE("G21 somebody else's save is found inside a unit; nothing of it is committed") {
    for (const bool at_commit : {false, true}) {
        shop s;
        s.db.append(4, "Alpha");
        const auto intrude = [&] {
            pj::checkpoint& kept = s.db.durable.records["p"];
            kept.at = 2;                // not where this one is
            kept.revision = 1;
        };
        s.db.on_change = nullptr;
        struct intruded {
            shop& of;
            std::function<void()> intrude;
            bool at_commit;
            status begin() {
                if (!at_commit && of.db.record().revision == 0) intrude();
                return of.db.begin();
            }
            status commit() {
                if (!at_commit || of.db.record().revision != 0) return of.db.commit();
                intrude();
                return status::failed;
            }
            status rollback() { return of.db.rollback(); }
        } units{s, intrude, at_commit};
        s.what.transaction = units;
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(2000);
        CHECK(s.worker.state() == pj::run_state::halted);
        CHECK(s.worker.reason() == status::checkpoint_conflict);
        CHECK(s.db.durable.applied.empty());
        CHECK(s.worker.counts().scanned == 0);
        REQUIRE(s.worker.retry_failed() == status::ok);
        s.run_for(2000);
        CHECK(s.worker.checkpointed() == 3);
        CHECK(s.worker.counts().handled == 1);
    }
}

namespace {

/// A broker's messages into the same database.
struct received : shop {
    pj::sink_options with;
    pj::projection fed{what};
    pj::event_sink sink{fed, with};
    received() {
        fed.log = {};
        fed.name = "p";
    }
    pj::receive_result offer(position at, const char* type = "Alpha", bool again = false) {
        pj::stored_event m;
        m.at = at;
        m.type = type;
        m.aggregate_id = "x";
        db.events[at < 0 ? 0 : at] = {type, "x"};
        return sink.receive(m, now_ms, again);
    }
    /// Offers it until it is answered; how often.
    int insist(position at, pj::receipt& answer) {
        for (int i = 1; i < 100; ++i) {
            const pj::receive_result r = offer(at, "Alpha", i > 1);
            answer = r.answer;
            if (answer != pj::receipt::hold) return i;
            now_ms += r.wait_ms == pj::never ? 1000 : r.wait_ms;
        }
        return 100;
    }
    void start() {
        REQUIRE(sink.start() == status::ok);
        static_cast<void>(sink.tick(now_ms));
    }
};

} // namespace

TEST_CASE("G17 a sink: one unit per message, acknowledged when it is committed") {
    received s;
    s.start();
    for (position at = 0; at < 5; ++at) {
        CHECK(s.offer(at).answer == pj::receipt::ack);
        CHECK(s.db.record().at == at);
    }
    CHECK(s.db.committed == 5);
    CHECK(s.offer(2, "Alpha", true).answer == pj::receipt::ack);
    CHECK(s.sink.counts().duplicate == 1);
    CHECK(s.sink.counts().handled == 5);
    for (position at = 0; at < 5; ++at) CHECK(s.db.applied("b", at) == 1);
}

TEST_CASE("G17 G18 a sink: every odd answer; no message is lost, none is applied twice") {
    constexpr trouble::kind kinds[] = {trouble::kind::failed, trouble::kind::lost_answer,
                                       trouble::kind::pending, trouble::kind::wrong};
    for (const trouble::kind one : kinds) {
        for (uint32_t at = 1; at < 40; ++at) {
            CAPTURE(at);
            received s;
            s.fed.on_error = pj::error_policy::retry_then_dead_letter(5);
            s.c.says = failing(2, 100, pj::reject(1));
            s.db.troubles = {{at, one}};
            REQUIRE(s.sink.start() == status::ok);
            for (position m = 0; m < 4; ++m) {
                pj::receipt answer = pj::receipt::hold;
                CHECK(s.insist(m, answer) < 20);
                CHECK(answer == pj::receipt::ack);
                CHECK(s.db.record().at >= m);
            }
            for (position m = 0; m < 4; ++m) {
                CHECK(s.db.applied("a", m) == 1);
                CHECK(s.db.applied("c", m) == (m == 2 ? 0 : 1));
            }
            CHECK(s.db.letter_keys() == "c@2");
            CHECK(s.sink.counts().handled == 3);
            CHECK(s.sink.counts().lettered == 1);
        }
    }
}

TEST_CASE("G17 a sink without offsets: nothing is saved; a commit that is pending answers later") {
    received s;
    s.db.on_change = nullptr;
    s.start();
    CHECK(s.offer(pj::before_first).answer == pj::receipt::ack);
    CHECK(s.db.record().revision == 0);
    CHECK(s.db.committed == 1);
    s.db.troubles = {{s.db.calls + 5, trouble::kind::pending}};         // begin, a, b, c, commit
    CHECK(s.offer(pj::before_first).answer == pj::receipt::hold);
    s.now_ms += 10;
    CHECK(s.offer(pj::before_first).answer == pj::receipt::ack);
    CHECK(s.db.committed == 2);
    CHECK(s.a.called.size() == 2);
    s.db.troubles = {{s.db.calls + 5, trouble::kind::failed}};
    CHECK(s.offer(pj::before_first).answer == pj::receipt::hold);
    pj::receipt answer = pj::receipt::hold;
    s.fed.on_error = pj::error_policy::retry(3);
    static_cast<void>(s.insist(pj::before_first, answer));
    CHECK(answer == pj::receipt::ack);
    CHECK(s.sink.counts().scanned == 3);
    CHECK(s.db.record().revision == 0);
    s.sink.stop();
    static_cast<void>(s.sink.tick(s.now_ms));
    CHECK(s.sink.reason() == status::ok);
    CHECK(s.db.record().revision == 0);
}

TEST_CASE("G15 a sink's commit that fails, and its rollback is pending: nothing before that is done") {
    received s;
    s.db.on_change = nullptr;
    s.start();
    s.db.troubles = {{s.db.calls + 5, trouble::kind::failed},           // begin, a, b, c, commit
                     {s.db.calls + 6, trouble::kind::pending}};         // rollback
    const pj::receive_result first = s.offer(pj::before_first);
    CHECK(first.answer == pj::receipt::hold);
    CHECK(first.wait_ms == s.fed.pending_ms);
    const uint32_t calls = s.db.calls;
    CHECK(s.offer(pj::before_first).answer == pj::receipt::hold);       // too early
    CHECK(s.db.calls == calls);
    s.fed.on_error = pj::error_policy::retry(3);
    pj::receipt answer = pj::receipt::hold;
    static_cast<void>(s.insist(pj::before_first, answer));
    CHECK(answer == pj::receipt::ack);
    CHECK(s.db.applied("a", 0) == 1);
}

TEST_CASE("G18 a batch that is made smaller while units are narrowed is one event at least") {
    shop s;
    s.db.append(8, "Alpha");
    s.what.batch = 8;
    int failures = 2;
    struct refusing {
        database& db;
        int& failures;
        status begin() { return db.begin(); }
        status commit() { return failures-- > 0 ? status::failed : db.commit(); }
        status rollback() { return db.rollback(); }
    } units{s.db, failures};
    s.what.transaction = units;
    REQUIRE(s.worker.start() == status::ok);
    for (int ticks = 0; ticks < 50 && failures > 0; ++ticks) {
        s.tick();
        s.now_ms += s.last.wait_ms;
    }
    REQUIRE(failures == 0);
    s.tick();                           // the record tells that it is not done
    s.what.batch = 1;
    s.run_for(5000);
    s.check_end();
}

TEST_CASE("G12 a letter that is the broker's: its unit is committed without the checkpoint") {
    for (const bool is_pending : {false, true}) {
        received s;
        s.fed.dead_letters = {};
        s.fed.on_error = pj::error_policy::dead_letter();
        s.b.says = failing(1, 100, pj::reject());
        s.db.on_change = nullptr;
        s.start();
        CHECK(s.offer(0).answer == pj::receipt::ack);
        // begin, a, b, rollback; begin, a, c, commit
        if (is_pending) s.db.troubles = {{s.db.calls + 8, trouble::kind::pending}};
        pj::receipt answer = pj::receipt::hold;
        static_cast<void>(s.insist(1, answer));
        CHECK(answer == pj::receipt::reject);
        CHECK(s.db.record().at == 0);
        CHECK(s.db.applied("a", 1) == 1);
        CHECK(s.db.applied("b", 1) == 0);
        CHECK(s.offer(2).answer != pj::receipt::reject);
        pj::receipt next = pj::receipt::hold;
        static_cast<void>(s.insist(2, next));
        CHECK(next == pj::receipt::ack);
        CHECK(s.db.record().at == 2);
    }
}

TEST_CASE("G28 a sink that is stopped while a commit is pending still unsubscribes") {
    received s;
    struct client {
        int subscribed = 0;
        status subscribe(pj::text, pj::text) { ++subscribed; return status::ok; }
        status unsubscribe(pj::text, pj::text) { --subscribed; return status::ok; }
    } broker;
    s.with.client = broker;
    pj::event_sink sink{s.fed, s.with};
    s.fed.on_error = pj::error_policy::retry(5);
    s.a.says = failing(0, 1);
    REQUIRE(sink.start() == status::ok);
    static_cast<void>(sink.tick(s.now_ms));
    CHECK(broker.subscribed == 1);
    pj::stored_event m;
    m.at = 0;
    m.type = "Alpha";
    m.aggregate_id = "x";
    s.db.events[0] = {"Alpha", "x"};
    CHECK(sink.receive(m, s.now_ms).answer == pj::receipt::hold);
    s.now_ms += 1000;
    // begin, a, b, c, save, commit
    s.db.troubles = {{s.db.calls + 6, trouble::kind::pending}};
    CHECK(sink.receive(m, s.now_ms, true).answer == pj::receipt::hold);
    sink.stop();
    for (int i = 0; i < 20 && sink.running(); ++i) s.now_ms += sink.tick(s.now_ms).wait_ms;
    CHECK_FALSE(sink.running());
    CHECK(broker.subscribed == 0);
    CHECK(s.db.record().at == 0);
}

TEST_CASE("G24 a rebuild in units of work ends, though its end is no event's position") {
    shop s;
    for (const position at : {0, 1, 4}) s.db.events[at] = {"Alpha", "x"};
    s.db.durable.records["p"].at = 2;                   // 2 was passed without an event
    s.db.durable.records["p"].revision = 1;
    pj::replay_options options;
    options.batch = 2;                                  // so that nothing else is in the last unit
    pj::replay_engine rebuild{s.what, options};
    REQUIRE(rebuild.start() == status::ok);
    for (int ticks = 0; ticks < 50 && rebuild.running(); ++ticks)
        s.now_ms += rebuild.tick(s.now_ms).wait_ms;
    CHECK(rebuild.finished());
    CHECK(s.db.record().at == 2);
    CHECK(s.db.applied("a", 1) == 1);
    CHECK(s.db.applied("a", 4) == 0);
}

namespace {
/// It reports what it has left out.
struct filtering_log {
    database& db;
    position passed = pj::before_first;
    status read(position after, pj::visitor& visit) {
        const status s = db.read(after, visit);
        if (passed > after) visit.scanned_to(passed);
        return s;
    }
};
} // namespace

TEST_CASE("G11 G17 an event that vanishes while it is pending in a unit: the unit is rolled back first") {
    for (const int variant : {0, 1, 2}) {       // passed by, and the commit then fails; passed by; gone
        const bool is_passed = variant < 2;
        CAPTURE(variant);
        shop s;
        filtering_log log{s.db};
        s.what.log = log;
        s.db.append(4, "Alpha");
        s.c.says = [](const pj::context& c) { return c.event.at == 3 ? pj::pending : pj::handled; };
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(50);
        REQUIRE(s.db.is_open());
        s.db.events.erase(3);
        if (is_passed) log.passed = 3;
        s.what.on_error = pj::error_policy::retry(10);
        int refusals = variant == 0 ? 3 : 0;
        s.db.refuses_commit = [&](const database::tables&, const database::tables&) {
            return refusals-- > 0;
        };
        s.run_for(3000);
        CHECK(s.db.record().at == (is_passed ? 3 : 2));
        s.db.events[4] = {"Alpha", "x"};
        s.run_for(3000);
        CHECK(s.db.record().at == 4);
        for (const char* h : {"a", "b", "c"}) {
            for (const position at : {0, 1, 2, 4}) CHECK(s.db.applied(h, at) == 1);
            CHECK(s.db.applied(h, 3) == 0);
        }
        if (!is_passed) CHECK(s.worker.counts().vanished == 1);
        if (!is_passed) CHECK(s.worker.counts().handled == 4);
        CHECK_FALSE(s.db.is_open());
    }
}

namespace {

/// Five handlers of one event, all of which may want a letter.
struct five : shop {
    std::vector<std::unique_ptr<row_writer>> writers;
    pj::handler_map<5> map;
    static pj::verdict call(void* self, const pj::stored_event&, const pj::context& c) {
        return static_cast<row_writer*>(self)->run(c);
    }
    explicit five(size_t failing) {
        for (const char* name : {"h0", "h1", "h2", "h3", "h4"}) {
            writers.emplace_back(new row_writer(db, name));
            if (writers.size() <= failing)
                writers.back()->says = [](const pj::context&) { return pj::reject(); };
            map.add(alpha::type, &call, writers.back().get(), name);
        }
        what.handlers = map;
        what.on_error = pj::error_policy::dead_letter();
        db.append("Alpha");
        REQUIRE(worker.start() == status::ok);
        run_for(3000);
    }
};

} // namespace

TEST_CASE("G12 G17 in units there is room for four letters of an event; a fifth halts, nothing is lost") {
    const five four_fail(4);
    CHECK(four_fail.worker.running());
    CHECK(four_fail.db.letter_keys() == "h0@0 h1@0 h2@0 h3@0");
    CHECK(four_fail.db.applied("h4", 0) == 1);
    CHECK(four_fail.db.record().at == 0);

    const five all_fail(5);
    CHECK(all_fail.worker.state() == pj::run_state::halted);
    CHECK(all_fail.worker.reason() == status::handler_failed);
    CHECK(all_fail.db.letter_keys().empty());
    CHECK(all_fail.db.record().at == pj::before_first);
    CHECK_FALSE(all_fail.db.is_open());
}

namespace {

/// Tells no more than the position, as a Python deployment's store.
struct positions {
    database& db;
    status load(pj::text key, pj::checkpoint& out) {
        pj::checkpoint kept;
        const status s = db.load(key, kept);
        out = {};
        out.at = kept.at;
        return s;
    }
    status save(pj::text key, const pj::checkpoint& next) {
        pj::checkpoint anew = next;
        anew.revision = db.now().records["p"].revision + 1;
        return db.save(key, anew);
    }
};

} // namespace

TEST_CASE("G14 G17 positions alone tell what became of a commit, whichever call fails or is not answered") {
    for (const bool is_after_crash : {false, true}) {
        for (const trouble::kind kind : {trouble::kind::lost_answer, trouble::kind::failed}) {
            for (uint32_t call = 1; call < 160; ++call) {
                CAPTURE(is_after_crash);
                CAPTURE(call);
                shop s;
                positions store{s.db};
                pj::crash_guard guard;
                s.what.checkpoints = store;
                s.what.accept_partial_records = true;
                s.what.crashes = &guard;
                s.what.on_error = pj::error_policy::retry(3);
                s.what.batch = call % 2 != 0 ? 3 : 1;       // 1: an event's name is committed alone
                s.db.append(7, "Alpha");
                s.what.replayed_through = 2;
                s.db.troubles = {{(call + 1) / 2, kind}};
                s.a.says = [&](const pj::context& c) {
                    const pj::checkpoint& kept = s.db.durable.records["p"];
                    if (is_after_crash) CHECK(kept.suspect >= c.event.at);
                    return pj::handled;
                };
                REQUIRE(s.worker.start(is_after_crash ? pj::start_cause::crash
                                                      : pj::start_cause::clean) == status::ok);
                s.run_for(5000);
                s.check_end();
                CHECK(s.worker.counts().handled == 7);
                CHECK(s.worker.running());
                CHECK(s.db.record().replayed_through == 2);
            }
        }
    }
}

namespace {

/// One of several owners; leases do not end by themselves.
struct owned : shop {
    pj::lease lease{db};
    owned() {
        what.lease = &lease;
        what.clock = {[](void* me) { return static_cast<owned*>(me)->now_ms; }, this};
        lease.ttl_ms = 3000;
        lease.margin_ms = 300;
    }
};

} // namespace

TEST_CASE("G21 a commit that failed is not taken for done because the next owner stands where it would") {
    owned s;
    s.db.append(4, "Alpha");
    struct intruded {
        owned& of;
        bool was_there = false;
        status begin() { return of.db.begin(); }
        status commit() {
            if (was_there) return of.db.commit();
            was_there = true;
            pj::checkpoint& kept = of.db.durable.records["p"];
            kept.at = 3;
            ++kept.revision;
            ++kept.fencing_token;
            return status::failed;
        }
        status rollback() { return of.db.rollback(); }
    } units{s};
    s.what.transaction = units;
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(10000);
    REQUIRE(units.was_there);
    CHECK(s.db.durable.applied.empty());
    CHECK(s.worker.counts().scanned == 0);
    CHECK(s.count(pj::notice_kind::lease_lost) >= 1);
    CHECK(s.db.record().at == 3);
}

TEST_CASE("G21 no lease is asked for while the rollback of what a lost one has begun is pending") {
    owned s;
    s.db.append(6, "Alpha");
    struct slow {
        owned& of;
        bool is_slow = true;
        status begin() { return of.db.begin(); }
        status commit() { return of.db.commit(); }
        status rollback() { return is_slow ? status::pending : of.db.rollback(); }
    } units{s};
    s.what.transaction = units;
    s.a.says = [](const pj::context& c) { return c.event.at == 2 ? pj::pending : pj::handled; };
    REQUIRE(s.worker.start() == status::ok);
    for (int i = 0; i < 10 && !s.db.is_open(); ++i) s.tick();
    REQUIRE(s.db.is_open());
    s.now_ms += 2700;
    s.tick();
    REQUIRE(s.count(pj::notice_kind::lease_lost) == 1);
    REQUIRE(s.count(pj::notice_kind::lease_gained) == 1);
    s.db.now_ms += 100000;                      // the lease store gives it to whoever asks
    for (int i = 0; i < 50; ++i) {
        s.now_ms += 200;
        s.tick();
        CHECK(s.count(pj::notice_kind::lease_gained) == 1);
    }
    units.is_slow = false;
    s.run_for(10000);
    CHECK(s.count(pj::notice_kind::lease_gained) >= 2);
}

TEST_CASE("G15 G28 pause and stop right after a read that is pending in a unit end the unit") {
    for (const bool is_stop : {false, true}) {
        shop s;
        slow_log slow{s.db};
        s.what.log = slow;
        s.db.append(10, "Alpha");
        REQUIRE(s.worker.start() == status::ok);
        while (s.db.begun == 0) {
            s.tick();
            s.now_ms += s.last.wait_ms;
        }
        slow.is_stuck = true;
        s.tick();
        REQUIRE(s.db.is_open());
        REQUIRE(s.last.reason == status::pending);
        if (is_stop) s.worker.stop();
        else s.worker.pause();
        s.tick();                               // no time has passed
        CHECK_FALSE(s.db.is_open());
        CHECK(s.worker.running() == !is_stop);
        CHECK(s.worker.state() == (is_stop ? pj::run_state::stopped : pj::run_state::paused));
        slow.is_stuck = false;
        if (is_stop) REQUIRE(s.worker.start() == status::ok);
        else s.worker.resume();
        s.run_for(5000);
        s.check_end();
    }
}

TEST_CASE("G28 stop ends a unit in which the first event is pending") {
    shop s;
    s.db.append(1, "Alpha");
    s.b.says = [](const pj::context&) { return pj::pending; };
    REQUIRE(s.worker.start() == status::ok);
    s.tick();
    REQUIRE(s.db.is_open());
    s.worker.stop();
    s.tick();
    CHECK_FALSE(s.worker.running());
    CHECK(s.worker.reason() == status::ok);
    CHECK_FALSE(s.db.is_open());
    s.b.says = nullptr;
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(1000);
    s.check_end();
}

namespace {

/// Commits that are never answered.
struct silent {
    database& db;
    status begin() { return db.begin(); }
    status commit() { return status::pending; }
    status rollback() { return db.rollback(); }
};

} // namespace

TEST_CASE("G20 G28 the lease is lost while a run ends with its commit pending: rolled back, and told") {
    owned s;
    s.db.append(6, "Alpha");
    silent units{s.db};
    s.what.transaction = units;
    s.what.stop_ms = 60000;
    REQUIRE(s.worker.start() == status::ok);
    for (int i = 0; i < 10 && !s.db.is_open(); ++i) s.tick();
    REQUIRE(s.db.is_open());
    s.worker.stop();
    s.tick();
    REQUIRE(s.worker.running());
    s.now_ms += 2700;
    s.tick();
    CHECK_FALSE(s.db.is_open());
    CHECK_FALSE(s.worker.running());
    CHECK(s.worker.reason() == status::checkpoint_failed);
    CHECK(s.db.durable.applied.empty());
}

TEST_CASE("G28 G32 a run that ends while the commit of an event's name is pending tells that it is not saved") {
    shop s;
    s.db.append(2, "Alpha");
    silent units{s.db};
    pj::crash_guard guard;
    s.what.transaction = units;
    s.what.crashes = &guard;
    s.what.stop_ms = 200;
    s.db.durable.records["p"].crashes = 1;
    s.db.durable.records["p"].revision = 1;
    REQUIRE(s.worker.start() == status::ok);
    for (int i = 0; i < 10 && !s.db.is_open(); ++i) s.tick();
    REQUIRE(s.db.is_open());
    s.worker.stop();
    s.run_for(500);
    CHECK_FALSE(s.worker.running());
    CHECK(s.worker.reason() == status::checkpoint_failed);
    CHECK_FALSE(s.db.is_open());
    CHECK(s.db.record().at == pj::before_first);
    CHECK(s.db.record().suspect == 0);          // event 1 was to be named in the unit of event 0
    CHECK(s.db.durable.applied.empty());
}

TEST_CASE("G9 G18 a retry after a save that failed waits as long as the retry is to wait") {
    shop s;
    struct failing_once {
        database& db;
        int failures = 1;
        status load(pj::text key, pj::checkpoint& out) { return db.load(key, out); }
        status save(pj::text key, const pj::checkpoint& next) {
            return failures-- > 0 ? status::failed : db.save(key, next);
        }
    } store{s.db};
    s.what.checkpoints = store;
    s.what.unit_ms_max = 10;
    s.what.on_error = pj::error_policy::retry(3);
    s.db.append(1, "Alpha");
    s.a.says = [&](const pj::context&) { return s.now_ms == 100 ? pj::fail() : pj::handled; };
    REQUIRE(s.worker.start() == status::ok);
    s.tick();
    CHECK(s.last.reason == status::checkpoint_failed);
    CHECK(s.last.wait_ms == 100);
    s.now_ms = 100;
    s.tick();
    CHECK(s.last.reason == status::handler_failed);
    CHECK(s.last.wait_ms == 100);
    s.now_ms = 200;
    s.run_for(1000);
    s.check_end();
}

TEST_CASE("a handler that fails with the code of a commit has failed all the same, not the unit") {
    shop s;
    s.what.on_error = pj::error_policy::retry(1);
    s.db.append(1, "Alpha");
    s.b.says = [](const pj::context&) { return pj::fail(pj::code_uncommitted); };
    REQUIRE(s.worker.start() == status::ok);
    s.tick();
    CHECK(s.last.reason == status::handler_failed);
    s.run_for(1000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.worker.reason() == status::handler_failed);
}

TEST_CASE("G18 a unit that was narrowed takes at least one event, whatever the batch is by now") {
    shop s;
    s.db.append(30, "Alpha");
    s.what.on_error = pj::error_policy::retry(100);
    bool refuses = true;
    s.db.refuses_commit = [&](const database::tables&, const database::tables&) { return refuses; };
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    s.worker.stop();
    s.run_for(10000);
    REQUIRE_FALSE(s.worker.running());
    s.what.batch = 1;
    refuses = false;
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(10000);
    s.check_end();
    CHECK(s.worker.counts().handled == 30);
}

TEST_CASE("G12 G28 stopped before the broker was told of its letter: the checkpoint does not pass it") {
    received s;
    s.fed.dead_letters = {};
    s.fed.on_error = pj::error_policy::dead_letter();
    s.b.says = failing(1, 100, pj::reject());
    s.db.on_change = nullptr;
    s.start();
    REQUIRE(s.offer(0).answer == pj::receipt::ack);
    // begin, a, b, rollback; begin, a, c, commit
    s.db.troubles = {{s.db.calls + 8, trouble::kind::pending}};
    for (int i = 0; i < 5 && s.db.committed < 2; ++i) {
        CHECK(s.offer(1, "Alpha", i > 0).answer == pj::receipt::hold);
        s.now_ms += 10;
        static_cast<void>(s.sink.tick(s.now_ms));
    }
    REQUIRE(s.db.committed == 2);
    s.sink.stop();
    for (int i = 0; i < 5 && s.sink.running(); ++i) static_cast<void>(s.sink.tick(s.now_ms));
    CHECK_FALSE(s.sink.running());
    CHECK(s.sink.reason() == status::checkpoint_failed);
    CHECK(s.db.record().at == 0);
    s.start();
    pj::receipt answer = pj::receipt::hold;
    static_cast<void>(s.insist(1, answer));
    CHECK(answer == pj::receipt::reject);
}

TEST_CASE("G16 G17 an event that is passed by while it is pending in a unit: the counters are right") {
    shop s;
    filtering_log log{s.db};
    s.what.log = log;
    s.db.append(4, "Alpha");
    s.c.says = [](const pj::context& c) { return c.event.at == 3 ? pj::pending : pj::handled; };
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(50);
    s.db.events.erase(3);
    log.passed = 3;
    s.run_for(3000);
    CHECK(s.worker.counts().handled == 3);
    CHECK(s.worker.scanned() == 3);
}

TEST_CASE("G9 G27 a retry after a save that failed does not wait as long as a unit may last") {
    shop s;
    struct failing_once {
        database& db;
        int failures = 1;
        status load(pj::text key, pj::checkpoint& out) { return db.load(key, out); }
        status save(pj::text key, const pj::checkpoint& next) {
            return failures-- > 0 ? status::failed : db.save(key, next);
        }
    } store{s.db};
    s.what.checkpoints = store;
    s.what.on_error = pj::error_policy::retry(3);
    s.db.append(1, "Alpha");
    s.a.says = [&](const pj::context&) { return s.now_ms == 100 ? pj::fail() : pj::handled; };
    REQUIRE(s.worker.start() == status::ok);
    s.tick();
    s.now_ms = 100;
    s.tick();
    CHECK(s.last.reason == status::handler_failed);
    CHECK(s.last.wait_ms == 100);
}

TEST_CASE("G32 G18 the checkpoint names the event that is begun, also after a unit was rolled back") {
    shop s;
    pj::crash_guard guard;
    s.what.crashes = &guard;
    s.what.batch = 3;
    s.db.append(4, "Alpha");
    s.what.on_error = pj::error_policy::retry(3);
    bool refuses = true;
    s.db.refuses_commit = [&](const database::tables& next, const database::tables&) {
        const bool now = refuses && next.applied.count({"a", 0}) != 0;
        refuses = refuses && !now;
        return now;
    };
    s.a.says = [&](const pj::context& c) {
        CHECK(s.db.record().suspect == c.event.at);
        return pj::handled;
    };
    REQUIRE(s.worker.start(pj::start_cause::crash) == status::ok);
    s.run_for(5000);
    s.check_end();
}

TEST_CASE("G28 G31 halted while the commit of its unit failed: retry_failed() does it again") {
    for (const bool is_leased : {false, true}) {
        CAPTURE(is_leased);
        shop s;
        s.db.append(4, "Alpha");
        struct shuffled {               // once, after two events, the first comes again
            database& db;
            bool is_right = false;
            status read(position after, pj::visitor& visit) {
                if (is_right || after >= 0) return db.read(after, visit);
                pj::stored_event one;
                one.type = "Alpha";
                one.aggregate_id = "x";
                for (const position at : {0, 1, 0}) {
                    one.at = at;
                    if (!visit(one)) break;
                }
                return status::ok;
            }
        } log{s.db};
        s.what.log = log;
        s.db.refuses_commit = [&](const database::tables&, const database::tables&) {
            return !log.is_right;
        };
        pj::lease lease{s.db};
        if (is_leased) s.what.lease = &lease;
        s.what.clock = {[](void* me) { return static_cast<shop*>(me)->now_ms; }, &s};
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(5000);
        REQUIRE(s.worker.state() == pj::run_state::halted);
        CHECK(s.worker.reason() == status::store_unordered);
        CHECK(s.worker.scanned() == pj::before_first);
        log.is_right = true;
        CHECK(s.worker.retry_failed() == status::ok);
        s.db.now_ms = s.now_ms += 60000;
        s.run_for(5000);
        s.check_end();
    }
}
