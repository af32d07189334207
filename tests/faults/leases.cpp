// Two partitions with leases, and a standby: at every callback in turn, an answer that is not ok, one
// that it may not give, a lost answer, an exception, and the end of the process. Whatever happens:
// nothing is lost, no checkpoint moves back, no letter is missing, and in the end all leases are free.
#include "support/cluster.hpp"

using namespace support;

namespace {

struct trouble {
    int at = 0;                         // the number of the callback; 0: never
    pj::status answer = pj::status::failed;
    bool works = false;
    bool throws = false;
    bool dies = false;                  // and nothing has an effect from then on

    int calls = 0;
    bool dead = false;
    pj::status next(bool& does) {
        does = !dead;
        if (dead) return pj::status::failed;
        if (++calls != at) return pj::status::ok;
        does = works;
        dead = dies;
#if PROJECTIONS_EXCEPTIONS
        if (throws) throw answer;
#endif
        return answer;
    }
};

struct process : host {
    pj::partition_options none;
    pj::partitioned_worker first{what, {0, 2}, none}, second{what, {1, 2}, none};
    trouble* in;
    process(cluster& all, int number, trouble* t) : host(all, number), in(t) {
        what.batch = 4;
        what.save = {3, 500, true};
        what.on_error = pj::error_policy::retry_then_dead_letter(1);
        what.dead_letters = all.letters;
        what.stop_ms = 2000;
        does = [this](const pj::context& c, bool is_second) -> pj::verdict {
            bool works = true;
            pj::status s = pj::status::ok;
            if (in != nullptr) s = in->next(works);
            if (!works) of.effects.pop_back();
            if (s != pj::status::ok) return s;
            return is_second && c.event.at % 5 == 3 ? pj::reject(1) : pj::handled;
        };
    }
    bool is_through() const {
        return first.checkpointed() == of.newest() && second.checkpointed() == of.newest();
    }
};

struct run_result {
    int calls = 0;
    bool is_good = true;
};

run_result play(trouble t) {
    cluster all;
    all.append(24);
    const auto hook = [&](bool& works) { return t.next(works); };
    for (kit::faults* f : {&all.leases.acquires, &all.leases.extends, &all.leases.releases,
                           &all.store.loads, &all.store.saves, &all.letters.puts})
        f->decide = hook;
    bool went_back = false;
    std::map<std::string, pj::position> seen;
    const auto look = [&] {
        for (const auto& [key, record] : all.store.records) {
            pj::position& at = seen.emplace(key, pj::before_first).first->second;
            went_back = went_back || record.at < at;
            at = record.at;
        }
    };
    run_result result;
    {
        process one(all, 1, &t);
        CHECK(one.first.start() == pj::status::ok);
        CHECK(one.second.start() == pj::status::ok);
        for (int i = 0; i < 4000 && !t.dead && !one.is_through(); ++i) {
            uint32_t wait_ms = one.first.tick(all.clock()).wait_ms;
            if (!t.dead) wait_ms = pj::sooner(wait_ms, one.second.tick(all.clock()).wait_ms);
            look();
            // A halt that a policy did not ask for is not one of the answers to trouble here.
            const bool is_halted = one.first.state() == pj::run_state::halted ||
                                   one.second.state() == pj::run_state::halted;
            if (is_halted && !t.dead) {
                CAPTURE(pj::to_string(one.first.reason()));
                CAPTURE(pj::to_string(one.second.reason()));
                CHECK_FALSE(is_halted);
                break;
            }
            if (wait_ms != pj::never) all.clock.advance(wait_ms);
            if (i % 16 == 15) all.clock.advance(300);
        }
        CHECK((t.dead || one.is_through()));
        one.first.stop();
        one.second.stop();
        for (int i = 0; i < 400 && !t.dead && (one.first.running() || one.second.running()); ++i) {
            all.clock.advance(pj::sooner(one.first.tick(all.clock()).wait_ms, 20));
            all.clock.advance(pj::sooner(one.second.tick(all.clock()).wait_ms, 20));
        }
        look();
        CHECK((t.dead || (!one.first.running() && !one.second.running())));
    }
    result.calls = t.calls;
    t.dead = false;
    t.at = 0;
    process next(all, 2, nullptr);
    CHECK(next.first.start() == pj::status::ok);
    CHECK(next.second.start() == pj::status::ok);
    for (int i = 0; i < 4000 && !next.is_through(); ++i) {
        const uint32_t wait_ms = pj::sooner(next.first.tick(all.clock()).wait_ms,
                                            next.second.tick(all.clock()).wait_ms);
        look();
        if (wait_ms != pj::never) all.clock.advance(wait_ms);
    }
    CHECK(next.is_through());
    CHECK_FALSE(went_back);
    for (pj::position at = 0; at <= all.newest(); ++at) {
        bool has_letter = false;
        for (const auto& one : all.letters.kept) has_letter = has_letter || std::get<3>(one.first) == at;
        CHECK((all.times(at) >= 2 || has_letter));
        if (at % 5 == 3) CHECK(has_letter);
    }
    return result;
}

} // namespace

TEST_CASE("faults of leases and partitions: every callback, every answer") {
    const int calls = play({}).calls;
    CHECK(calls > 60);
    const pj::status answers[] = {pj::status::failed, pj::status::pending, pj::status::more,
                                  pj::status::trimmed, static_cast<pj::status>(77)};
    for (int n = 1; n <= calls; ++n) {
        for (const pj::status answer : answers) {
            for (const bool works : {false, true}) {
                CAPTURE(n);
                CAPTURE(static_cast<int>(answer));
                trouble t;
                t.at = n;
                t.answer = answer;
                t.works = works;
                play(t);
#if PROJECTIONS_EXCEPTIONS
                t.throws = true;
                play(t);
#endif
            }
        }
    }
}

TEST_CASE("faults of leases and partitions: the process ends before and after every callback") {
    const int calls = play({}).calls;
    for (int n = 1; n <= calls; ++n) {
        for (const bool works : {false, true}) {
            CAPTURE(n);
            trouble t;
            t.at = n;
            t.works = works;
            t.dies = true;
            play(t);
        }
    }
}

TEST_CASE("faults of leases: conflict where none should be is survived, or halts with a reason") {
    const int calls = play({}).calls;
    CHECK(calls > 0);
    for (const bool works : {false, true}) {
        cluster all;
        all.append(10);
        host a(all, 1);
        pj::worker w{a.what};
        // A save that says conflict, and is there or is not: nobody else has saved.
        all.store.saves.pass(1).then(pj::status::conflict, works, 1);
        REQUIRE(w.start() == pj::status::ok);
        run_for(all, 5000, w);
        CHECK(w.checkpointed() == 9);
        for (pj::position at = 0; at <= 9; ++at) CHECK(all.times(at) >= 2);
    }
}
