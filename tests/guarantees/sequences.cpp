// G7 for letters: once a handler has a letter about an aggregate, later events of it wait in order.
#include "kit/projections_kit.hpp"
#include "support/world.hpp"

#include <functional>
#include <memory>

using namespace support;
namespace kit = projections_kit;
using pj::position;
using pj::status;

namespace {

struct step_done {
    static constexpr pj::event_type type{"StepDone", pj::raw};
    uint32_t number;
};

/// Two handlers, an aggregate id per event, letters in order, and every kind of engine over them.
struct letter_shop {
    struct hand {
        letter_shop& of;
        std::string name;
        std::vector<position> called;
        std::vector<uint32_t> attempts;
        std::function<pj::verdict(const pj::context&)> says;
        pj::verdict run(const pj::context& c) {
            called.push_back(c.event.at);
            attempts.push_back(c.attempt);
            const pj::verdict v = says ? says(c) : pj::handled;
            if (v == pj::handled) of.effects.push_back({name, c.event.at});
            return v;
        }
    };
    template<char Name> struct named : hand {
        using handles = pj::events<step_done>;
        static constexpr char handler_name[] = {Name, '\0'};
        explicit named(letter_shop& in) : hand{in, handler_name, {}, {}, {}} {}
        pj::verdict on(const step_done&, const pj::context& c) { return this->run(c); }
    };

    std::vector<std::pair<std::string, position>> effects;
    std::vector<std::string> aggregates;                // of event 0, 1, ...
    std::vector<std::string> order;                     // begin, commit, rollback, put
    named<'a'> a{*this};
    named<'b'> b{*this};
    pj::registry<named<'a'>, named<'b'>> hands{a, b};
    kit::memory_checkpoints store;
    kit::memory_letters letters;
    pj::letter_sequences<2> waiting;
    std::vector<status> reasons;
    pj::projection what{"p", *this, hands, store};
    pj::worker worker{what};
    uint32_t now_ms = 0;
    pj::tick_result last{};

    letter_shop() {
        what.dead_letters = letters;
        what.sequences = waiting;
        what.on_error = pj::error_policy::dead_letter();
        what.delays.jitter_percent = 0;
        what.observe = {[](void* me, const pj::notice& n) {
            static_cast<letter_shop*>(me)->reasons.push_back(n.reason);
        }, this};
    }
    letter_shop(const letter_shop&) = delete;
    letter_shop& operator=(const letter_shop&) = delete;

    status read(position after, pj::visitor& visit) {
        for (size_t i = static_cast<size_t>(after + 1); i < aggregates.size(); ++i) {
            const step_done e{static_cast<uint32_t>(i)};
            if (!visit(pj::raw_event(static_cast<position>(i), e, aggregates[i]))) break;
        }
        return status::ok;
    }
    /// "x y x": an event for each.
    void append(const std::string& names) {
        for (const char c : names) {
            if (c == '-') aggregates.emplace_back();
            else aggregates.emplace_back(1, c);
        }
    }
    void run_for(uint32_t ms) { run_for(worker, ms); }
    void run_for(pj::engine& e, uint32_t ms) {
        const uint32_t until = now_ms + ms;
        for (int ticks = 0; ticks < 2000 && e.running() && now_ms <= until; ++ticks) {
            last = e.tick(now_ms);
            if (last.wait_ms == pj::never) return;
            now_ms += last.wait_ms;
        }
    }
    /// "a1 a4": in the order of their positions.
    std::string kept(uint32_t rebuild = 0) const {
        std::map<position, std::string> by_position;
        for (const auto& [key, l] : letters.kept) {
            if (std::get<4>(key) != rebuild) continue;
            by_position[std::get<3>(key)] += (by_position[std::get<3>(key)].empty() ? "" : " ") +
                                             std::get<2>(key) + std::to_string(std::get<3>(key));
        }
        std::string all;
        for (const auto& [at, names] : by_position) all += (all.empty() ? "" : " ") + names;
        return all;
    }
    uint32_t code_of(const std::string& handler, position at) const {
        return letters.kept.at({"p", 0, handler, at, 0}).code;
    }
    void fail_at(hand& h, position at, pj::verdict v = pj::reject(5)) {
        h.says = [at, v](const pj::context& c) { return c.event.at == at ? v : pj::handled; };
    }
};

} // namespace

TEST_CASE("G7 G12 later events of the aggregate become letters untried, for that handler only") {
    letter_shop s;
    s.append("xyxyx-");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    CHECK(s.kept() == "a0 a2 a4");
    CHECK(s.code_of("a", 0) == 5);
    CHECK(s.code_of("a", 2) == pj::code_sequenced);
    CHECK(s.letters.kept.at({"p", 0, "a", 2, 0}).attempts == 0);
    CHECK(s.a.called == std::vector<position>{0, 1, 3, 5});
    CHECK(s.b.called == std::vector<position>{0, 1, 2, 3, 4, 5});
    CHECK(s.worker.counts().lettered == 3);
    CHECK(s.worker.counts().handled == 3);
    CHECK(s.worker.counts().failed_calls == 1);
    CHECK(s.worker.checkpointed() == 5);
    CHECK(s.waiting.size() == 1);
    CHECK(s.waiting.is_blocked(s.worker, "a", "x"));
    CHECK_FALSE(s.waiting.is_blocked(s.worker, "b", "x"));
    CHECK_FALSE(s.waiting.is_blocked(s.worker, "a", "y"));
}

TEST_CASE("events without an aggregate are not concerned") {
    letter_shop s;
    s.append("---");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    CHECK(s.kept() == "a0");
    CHECK(s.a.called.size() == 3);
    CHECK(s.waiting.size() == 0);
}

TEST_CASE("G7 redelivery goes front to back, one letter a call, and moves no checkpoint") {
    letter_shop s;
    s.append("xyxx");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    REQUIRE(s.kept() == "a0 a2 a3");
    s.a.says = nullptr;
    s.effects.clear();
    const pj::checkpoint before = s.store.at("p");
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(s.kept() == "a2 a3");
    CHECK(s.a.attempts.back() == 2);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    s.append("x");                              // one that comes meanwhile waits behind the others
    s.run_for(2000);
    CHECK(s.kept() == "a3 a4");
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(s.waiting.is_blocked(s.worker, "a", "x"));
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::ok);
    CHECK_FALSE(s.waiting.is_blocked(s.worker, "a", "x"));
    CHECK(s.kept().empty());
    CHECK(s.store.at("p").at == 4);
    CHECK(before.at == 3);
    std::vector<position> of_a;
    for (const auto& [who, at] : s.effects) {
        if (who == "a") of_a.push_back(at);
    }
    CHECK(of_a == std::vector<position>{0, 2, 3, 4});
    s.append("x");
    s.run_for(2000);
    CHECK(s.a.called.back() == 5);
    CHECK(s.kept().empty());
}

TEST_CASE("a redelivery that fails stops at the first failure; the letter says what it came to") {
    letter_shop s;
    s.append("xxx");
    s.a.says = [](const pj::context& c) {
        return c.event.at == 0 ? pj::fail(5) : c.event.at == 1 && c.attempt < 3 ? pj::fail(6)
                                                                                : pj::handled;
    };
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::handler_failed);
    CHECK(s.letters.kept.at({"p", 0, "a", 0, 0}).attempts == 2);
    CHECK(s.letters.kept.at({"p", 0, "a", 0, 0}).code == 5);
    s.fail_at(s.a, 1, pj::reject(8));
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::handler_failed);
    CHECK(s.letters.kept.at({"p", 0, "a", 1, 0}).attempts == 1);    // it was untried until now
    CHECK(s.letters.kept.at({"p", 0, "a", 1, 0}).kind == pj::failure_kind::permanent);
    CHECK(s.kept() == "a1 a2");
    CHECK(s.waiting.is_blocked(s.worker, "a", "x"));
}

TEST_CASE("release lets later events through; the letters stay") {
    letter_shop s;
    s.append("xx");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    s.waiting.release(s.worker, "a", "x");
    s.append("x");
    s.run_for(2000);
    CHECK(s.a.called == std::vector<position>{0, 2});
    CHECK(s.kept() == "a0 a1");
}

TEST_CASE("what waits survives a restart, with the letters' store as its memory") {
    letter_shop s;
    s.append("xy");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    pj::letter_sequences<2> fresh;              // another process
    s.what.sequences = fresh;
    pj::worker next{s.what};
    s.letters.listings.then(status::failed, false).then(status::pending, false);
    REQUIRE(next.start() == status::ok);
    s.append("xy");
    s.run_for(next, 3000);
    CHECK(s.kept() == "a0 a2");
    CHECK(s.a.called == std::vector<position>{0, 1, 3});
    CHECK(fresh.size() == 1);
    s.a.says = nullptr;
    while (fresh.redeliver(next, "a", "x") == status::more) {}
    CHECK(s.kept().empty());
    CHECK(fresh.size() == 0);
}

TEST_CASE("a full table holds the event that needs one more place, and all behind it") {
    letter_shop s;
    s.append("xyzw");
    s.a.says = [](const pj::context& c) { return c.event.at < 3 ? pj::reject() : pj::handled; };
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(3000);
    CHECK(s.kept() == "a0 a1");
    CHECK(s.worker.scanned() == 1);
    CHECK(s.last.state == pj::run_state::waiting);
    CHECK(s.last.reason == status::dead_letter_failed);
    CHECK(s.reasons.back() == status::sequences_full);
    CHECK(s.a.called == std::vector<position>{0, 1, 2});        // not run again while it waits
    s.a.says = nullptr;
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::ok);
    s.run_for(60000);
    CHECK(s.kept() == "a1 a2");
    CHECK(s.worker.checkpointed() == 3);
}

TEST_CASE("more sequences in the store than the table holds: nothing begins, and room can be made") {
    letter_shop s;
    s.append("xyz");
    s.a.says = [](const pj::context&) { return pj::reject(); };
    pj::letter_sequences<8> large;
    s.what.sequences = large;
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    REQUIRE(large.size() == 3);
    s.what.sequences = s.waiting;
    pj::worker next{s.what};
    REQUIRE(next.start() == status::ok);
    s.append("x");
    s.a.called.clear();
    s.run_for(next, 3000);
    CHECK(s.last.reason == status::sequences_full);
    CHECK(s.a.called.empty());
    s.a.says = nullptr;
    CHECK(s.waiting.redeliver(next, "a", "y") == status::more);
    CHECK(s.waiting.redeliver(next, "a", "y") == status::ok);
    s.run_for(next, 3000);
    CHECK(s.kept() == "a0 a2 a3");
    CHECK(next.checkpointed() == 3);
}

TEST_CASE("an undecodable event blocks its aggregate for all handlers") {
    letter_shop s;
    struct broken : letter_shop {
        status read(position after, pj::visitor& visit) {
            for (size_t i = static_cast<size_t>(after + 1); i < aggregates.size(); ++i) {
                const step_done e{static_cast<uint32_t>(i)};
                pj::stored_event event = pj::raw_event(static_cast<position>(i), e, aggregates[i]);
                if (i == 0) event.payload = {};
                if (!visit(event)) break;
            }
            return status::ok;
        }
    } b;
    b.what.log = b;
    b.append("xyx");
    REQUIRE(b.worker.start() == status::ok);
    b.run_for(100);
    CHECK(b.kept() == "0 2");
    CHECK(b.a.called == std::vector<position>{1});
    CHECK(b.waiting.redeliver(b.worker, "", "x") == status::decode_failed);
    CHECK(b.letters.kept.at({"p", 0, "", 0, 0}).kind == pj::failure_kind::decode);
    CHECK(b.letters.kept.at({"p", 0, "", 0, 0}).attempts == 2);
}

TEST_CASE("G12 G7 a sink that fails or waits holds what waits for it, in order") {
    for (const status answer : {status::failed, status::pending}) {
        for (const bool works : {true, false}) {
            for (int at = 1; at < 6; ++at) {
                letter_shop s;
                s.append("xyxxy");
                s.fail_at(s.a, 0);
                s.letters.puts.pass(at - 1).then(answer, works, 2);
                REQUIRE(s.worker.start() == status::ok);
                s.run_for(20000);
                CHECK(s.kept() == "a0 a2 a3");
                CHECK(s.a.called == std::vector<position>{0, 1, 4});
                CHECK(s.b.called == std::vector<position>{0, 1, 2, 3, 4});
                CHECK(s.worker.checkpointed() == 4);
                CHECK(s.worker.counts().lettered == 3);
            }
        }
    }
}

TEST_CASE("redelivery: every answer of the letters' store, and a handler that is pending") {
    struct line { int which; status answer; bool works; status said; };
    const line lines[] = {{0, status::failed, false, status::failed},
                          {0, status::pending, false, status::pending},
                          {0, status::more, false, status::failed},
                          {1, status::failed, false, status::failed},
                          {1, status::failed, true, status::failed},
                          {1, status::pending, false, status::pending}};
    for (const line& l : lines) {
        letter_shop s;
        s.append("xx");
        s.fail_at(s.a, 0);
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(100);
        s.a.says = nullptr;
        (l.which == 0 ? s.letters.firsts : s.letters.evicts).then(l.answer, l.works);
        CHECK(s.waiting.redeliver(s.worker, "a", "x") == l.said);
        CHECK(s.waiting.is_blocked(s.worker, "a", "x"));
        while (s.waiting.redeliver(s.worker, "a", "x") == status::more) {}
        CHECK(s.kept().empty());
        CHECK(s.a.called.back() == 1);
    }
    letter_shop s;
    s.append("xx");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    std::vector<bool> resumed;
    s.a.says = [&](const pj::context& c) {
        resumed.push_back(c.resumed);
        return resumed.size() < 3 ? pj::pending : pj::handled;
    };
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::pending);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::pending);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(resumed == std::vector<bool>{false, true, true, false});
}

TEST_CASE("G15 a letter for all handlers: those that have handled it are not called while others are pending") {
    letter_shop s;
    s.append("xx");
    s.what.on_unknown = pj::unknown_types::fail;
    s.what.on_error = pj::error_policy::custom({[](const pj::failure&) {
        return pj::decision::dead_letter();
    }});
    // A letter of no handler, as a log in which the event could not be read leaves one.
    const step_done e{0};
    const std::string x = "x";
    const pj::stored_event first = pj::raw_event(0, e, x);
    REQUIRE(s.letters.put({pj::failure_kind::decode, 0, 1, false, 0, 0, "p", {}, first}) ==
            status::ok);
    s.store.records["p"].at = 0;
    s.store.records["p"].revision = 1;
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    REQUIRE(s.waiting.is_blocked(s.worker, "", "x"));
    REQUIRE(s.a.called.empty());

    int b_calls = 0;
    std::vector<bool> resumed;
    s.b.says = [&](const pj::context& c) {
        resumed.push_back(c.resumed);
        return ++b_calls < 3 ? pj::pending : b_calls == 3 ? pj::fail(3) : pj::handled;
    };
    CHECK(s.waiting.redeliver(s.worker, "", "x") == status::pending);
    CHECK(s.waiting.redeliver(s.worker, "", "x") == status::pending);
    CHECK(s.a.called == std::vector<position>{0});
    CHECK(s.waiting.redeliver(s.worker, "", "x") == status::handler_failed);
    CHECK(s.a.called.size() == 1);
    CHECK(s.code_of("", 0) == 3);
    CHECK(s.waiting.redeliver(s.worker, "", "x") == status::more);      // all of them again
    CHECK(s.a.called == std::vector<position>{0, 0});
    CHECK(resumed == std::vector<bool>{false, true, true, false});

    s.b.says = nullptr;                                                 // the next letter is another
    s.a.says = [&](const pj::context& c) { return c.resumed ? pj::fail(1) : pj::reject(9); };
    CHECK(s.waiting.redeliver(s.worker, "", "x") == status::handler_failed);
    CHECK(s.b.called.back() == 0);                                      // not after one that failed
}

TEST_CASE("G15 what is pending of a letter that somebody else has taken away says nothing of the next") {
    letter_shop s;
    s.append("xx");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    bool was_resumed = false;
    s.a.says = [&](const pj::context& c) {
        was_resumed = was_resumed || c.resumed;
        return c.event.at == 0 ? pj::pending : pj::handled;
    };
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::pending);
    s.letters.kept.erase({"p", 0, "a", 0, 0});
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(s.a.called.back() == 1);
    CHECK_FALSE(was_resumed);
}

TEST_CASE("G31 a place that was kept for a letter that was never put is free again after a reset") {
    letter_shop s;
    s.append("xx");
    s.fail_at(s.a, 0);
    s.letters.puts.then(status::failed, false, 1000);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    CHECK(s.waiting.is_blocked(s.worker, "a", "x"));
    s.letters.puts = {};
    REQUIRE(s.worker.reset(0) == status::ok);       // whoever knows that it does not matter
    s.run_for(1000);
    CHECK_FALSE(s.waiting.is_blocked(s.worker, "a", "x"));
    CHECK(s.kept().empty());
    CHECK(s.a.called.back() == 1);
}

TEST_CASE("G29 letters that cannot be asked for again are refused at start; redeliver says what is wrong") {
    letter_shop s;
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::not_loaded);
    const auto put = [](const pj::dead_letter&) { return status::ok; };
    s.what.dead_letters = put;
    CHECK(s.worker.start() == status::no_dead_letter_sink);
    s.what.dead_letters = s.letters;
    s.what.dead_letters.evict = nullptr;
    CHECK(s.worker.start() == status::no_dead_letter_sink);
    s.what.dead_letters = s.letters;
    REQUIRE(s.worker.start() == status::ok);
    status inside = status::ok;
    s.append("x");
    s.a.says = [&](const pj::context&) {
        inside = s.waiting.redeliver(s.worker, "a", "x");
        return pj::handled;
    };
    s.run_for(100);
    CHECK(inside == status::reentered);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::ok);       // there is none
    CHECK(s.waiting.redeliver(s.worker, "nobody", "x") == status::ok);
}

TEST_CASE("a letter whose handler or type is gone stays") {
    letter_shop s;
    s.append("x");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    auto letter = s.letters.kept.begin()->second;
    s.letters.kept[{"p", 0, "renamed", 0, 0}] = letter;
    CHECK(s.waiting.redeliver(s.worker, "renamed", "x") == status::unknown_type);
    letter.type = "Gone";
    s.letters.kept[{"p", 0, "a", 0, 0}] = letter;
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::unknown_type);
    CHECK(s.letters.kept.size() == 2);
}

TEST_CASE("letters of before a rebuild are discarded; those of the rebuild keep their order") {
    letter_shop s;
    s.append("xyx");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    CHECK(s.kept() == "a0 a2");
    s.worker.stop();
    s.run_for(1000);
    s.a.says = nullptr;
    s.fail_at(s.b, 1);
    s.append("y");
    pj::replay_engine replay{s.what};
    REQUIRE(replay.start() == status::ok);
    s.run_for(replay, 5000);
    REQUIRE(replay.finished());
    CHECK(s.kept(1) == "b1");
    CHECK(s.a.called == std::vector<position>{0, 1, 0, 1, 2});
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(2000);
    CHECK(s.kept(1) == "b1 b3");
    CHECK(s.kept() == "a0 a2");
    CHECK(s.a.called.back() == 3);
}

TEST_CASE("partitions of one table do not see each other's sequences") {
    letter_shop s;
    s.append("xyzwxyzw");
    s.a.says = [](const pj::context& c) { return c.event.at < 4 ? pj::reject() : pj::handled; };
    pj::letter_sequences<8> table;
    s.what.sequences = table;
    pj::partitioned_worker one{s.what, {0, 2}}, two{s.what, {1, 2}};
    REQUIRE(one.start() == status::ok);
    REQUIRE(two.start() == status::ok);
    s.run_for(one, 2000);
    s.run_for(two, 2000);
    CHECK(table.size() == 4);
    CHECK(s.letters.kept.size() == 8);
    const char* const aggregates[] = {"x", "y", "z", "w"};
    s.a.says = nullptr;
    for (const char* aggregate : aggregates) {
        const bool is_ones = pj::partition_of(aggregate, 2) == 0;
        CHECK(table.is_blocked(one, "a", aggregate) == is_ones);
        CHECK(table.is_blocked(two, "a", aggregate) == !is_ones);
        pj::engine& owner = is_ones ? static_cast<pj::engine&>(one) : two;
        int done = 0;
        while (table.redeliver(owner, "a", aggregate) == status::more) ++done;
        CHECK(done == 2);
    }
    CHECK(s.letters.kept.empty());
    CHECK(table.size() == 0);
}

namespace {

/// The same with a unit of work over letters, effects and checkpoints.
struct unit_letter_shop : letter_shop {
    struct saved_state {
        std::vector<std::pair<std::string, position>> effects;
        std::map<kit::memory_letters::key, kit::memory_letters::letter> letters;
        std::map<std::string, pj::checkpoint> records;
    };
    saved_state before;
    bool is_open = false;
    kit::faults begins, commits, rollbacks;
    int begun = 0, committed = 0;

    unit_letter_shop() { what.transaction = *this; }
    status begin() {
        bool works;
        const status answer = begins.next(works);
        if (works) {
            CHECK_FALSE(is_open);
            before = {effects, letters.kept, store.records};
            is_open = true;
            ++begun;
        }
        return answer;
    }
    status commit() {
        bool works;
        const status answer = commits.next(works);
        if (works) {
            CHECK(is_open);
            is_open = false;
            ++committed;
        }
        return answer;
    }
    status rollback() {
        bool works;
        const status answer = rollbacks.next(works);
        if (works && is_open) {
            effects = before.effects;
            letters.kept = before.letters;
            store.records = before.records;
            is_open = false;
        }
        return answer;
    }
    uint32_t times(const std::string& who, position at) const {
        uint32_t n = 0;
        for (const auto& e : effects) n += e.first == who && e.second == at ? 1u : 0u;
        return n;
    }
};

} // namespace

TEST_CASE("G17 G12 sequences in a unit of work: letters, effects and checkpoint together") {
    for (int commit = 0; commit < 8; ++commit) {
        for (const bool works : {false, true}) {
            unit_letter_shop s;
            s.append("xyxyx");
            s.what.on_error = pj::error_policy::retry_then_dead_letter(3);
            s.fail_at(s.a, 1);
            s.commits.pass(commit).then(status::failed, works);
            REQUIRE(s.worker.start() == status::ok);
            s.run_for(20000);
            CHECK(s.kept() == "a1 a3");
            CHECK(s.worker.checkpointed() == 4);
            CHECK(s.worker.counts().lettered == 2);
            CHECK(s.worker.counts().handled == 3);
            for (position at = 0; at < 5; ++at) {
                CHECK(s.times("a", at) == (at == 1 || at == 3 ? 0 : 1));
                CHECK(s.times("b", at) == 1);
            }
            CHECK_FALSE(s.is_open);
        }
    }
}

TEST_CASE("G17 a redelivery is a unit of its own: effect and eviction together or not at all") {
    for (const bool works : {false, true}) {
        unit_letter_shop s;
        s.append("xx");
        s.fail_at(s.a, 0);
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(2000);
        REQUIRE(s.kept() == "a0 a1");
        s.a.says = nullptr;
        s.begins.then(status::pending, false);
        CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::pending);
        s.begins.then(status::failed, false);
        CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::unit_of_work_failed);
        s.commits.then(status::failed, works);
        CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::unit_of_work_failed);
        CHECK(s.times("a", 0) == (works ? 1 : 0));
        CHECK(s.kept() == (works ? "a1" : "a0 a1"));
        s.letters.evicts.then(status::failed, true);
        CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::failed);
        s.fail_at(s.a, works ? 1 : 0, pj::fail(77));
        CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::handler_failed);
        CHECK(s.code_of("a", works ? 1 : 0) == 77);
        s.a.says = nullptr;
        while (s.waiting.redeliver(s.worker, "a", "x") == status::more) {}
        CHECK(s.times("a", 0) == 1);
        CHECK(s.times("a", 1) == 1);
        CHECK(s.kept().empty());
        CHECK_FALSE(s.is_open);
        s.append("x");
        s.run_for(3000);
        CHECK(s.times("a", 2) == 1);
    }
}

TEST_CASE("G12 G17 a letter of a sequence that is not taken takes its unit back, and comes again") {
    for (const status answer : {status::failed, status::pending}) {
        for (const bool works : {false, true}) {
            for (int at = 0; at < 4; ++at) {
                unit_letter_shop s;
                s.append("xyxx");
                s.fail_at(s.a, 0);
                s.letters.puts.pass(at).then(answer, works, 2);
                REQUIRE(s.worker.start() == status::ok);
                s.run_for(20000);
                CHECK(s.kept() == "a0 a2 a3");
                CHECK(s.worker.checkpointed() == 3);
                CHECK(s.worker.counts().lettered == 3);
                CHECK(s.times("a", 1) == 1);
                for (position where = 0; where < 4; ++where) CHECK(s.times("b", where) == 1);
                CHECK_FALSE(s.is_open);
            }
        }
    }
}

TEST_CASE("a rollback of a redelivery that is pending is asked again by the engine") {
    unit_letter_shop s;
    s.append("x");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(2000);
    s.rollbacks.then(status::pending, false);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::handler_failed);
    CHECK(s.is_open);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::pending);
    s.run_for(100);
    CHECK_FALSE(s.is_open);
    s.a.says = nullptr;
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
}

TEST_CASE("G7 what waits is asked for before anything is handled, whatever command comes first") {
    for (const bool is_failing : {false, true}) {
        letter_shop s;
        s.append("x");
        s.fail_at(s.a, 0);
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(100);
        pj::letter_sequences<2> fresh;
        s.what.sequences = fresh;
        pj::worker next{s.what};
        if (is_failing) s.letters.listings.then(status::failed, false, 3);
        REQUIRE(next.start() == status::ok);
        if (!is_failing) next.pause();
        static_cast<void>(next.tick(s.now_ms));
        s.append("x");
        REQUIRE(next.reset(0) == status::ok);
        next.resume();
        s.run_for(next, 10000);
        CHECK(s.kept() == "a0 a1");
        CHECK(s.a.called == std::vector<position>{0});
    }
}

namespace {

struct mails {
    using handles = pj::live_only<step_done>;
    int sent = 0;
    void on(const step_done&) { ++sent; }
};

/// Its only event was replayed, for a handler and one that is live_only.
struct replayed : letter_shop {
    mails live;
    pj::registry<named<'a'>, mails> both{a, live};
    pj::worker one{what};
    step_done event{0};
    replayed() {
        append("x");
        what.handlers = both;
        what.replayed_through = 5;
        REQUIRE(one.start() == status::ok);
        run_for(one, 100);
    }
};

} // namespace

TEST_CASE("G25 a redelivery calls no live_only handler for a replayed event") {
    replayed s;
    const pj::stored_event stored = pj::raw_event(0, s.event, "x");
    REQUIRE(s.letters.put({pj::failure_kind::decode, 0, 1, true, 0, 0, "p", "", stored}) ==
            status::ok);
    CHECK(s.waiting.redeliver(s.one, "", "x") == status::more);
    CHECK(s.a.called.size() == 2);
    CHECK(s.live.sent == 0);
}

TEST_CASE("G9 a sink that does not take the letter of one handler costs the others no attempt") {
    unit_letter_shop s;
    s.append("xx");
    s.what.on_error = pj::error_policy::retry_then_skip(3);
    s.letters.kept[{"p", 0, "b", 0, 0}] = {pj::failure_kind::permanent, 1, 1, "StepDone", "",
                                           "x", 0, 1};
    s.letters.puts.then(status::failed, false, 6);
    s.a.says = [](const pj::context&) { return pj::fail(); };
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(60000);
    uint32_t of_first = 0;
    for (const position at : s.a.called) of_first += at == 0 ? 1u : 0u;
    CHECK(of_first == 4);
    CHECK(s.a.attempts.front() == 1);
    CHECK(s.worker.checkpointed() == 1);
}

TEST_CASE("a redelivery waits for a save, a lease and a rollback, and leaves a rebuild alone") {
    letter_shop s;
    s.append("xx");
    s.fail_at(s.a, 0);
    s.store.saves.then(status::pending, false, 2);
    REQUIRE(s.worker.start() == status::ok);
    static_cast<void>(s.worker.tick(s.now_ms));
    s.a.says = nullptr;
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::pending);
    s.run_for(2000);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);

    kit::manual_clock clock;
    kit::memory_leases leases{clock};
    leases.acquires.then(status::ok, true).then(status::conflict, false, 1000);
    pj::lease lease{leases};
    s.what.clock = clock;
    s.what.lease = &lease;
    pj::worker other{s.what};
    REQUIRE(other.start() == status::ok);
    for (int i = 0; i < 9; ++i) static_cast<void>(other.tick(clock()));
    CHECK(other.has_lease());
    clock.advance(40000);
    static_cast<void>(other.tick(clock()));
    CHECK(s.waiting.redeliver(other, "a", "x") != status::more);
    s.what.lease = nullptr;

    s.store.records["p"].replay_stage = 1;
    pj::worker third{s.what};
    REQUIRE(third.start() == status::ok);
    s.run_for(third, 2000);
    CHECK(third.reason() == status::rebuild_unfinished);
    CHECK(s.waiting.redeliver(third, "a", "x") == status::not_loaded);
    CHECK(s.kept() == "a1");

    unit_letter_shop u;
    u.append("x");
    u.fail_at(u.a, 0);
    u.what.stop_ms = 100;
    REQUIRE(u.worker.start() == status::ok);
    u.run_for(2000);
    u.rollbacks.then(status::pending, false, 1000);
    CHECK(u.waiting.redeliver(u.worker, "a", "x") == status::handler_failed);
    u.worker.stop();
    u.run_for(2000);
    CHECK_FALSE(u.worker.running());
    CHECK(u.is_open);
    CHECK(u.waiting.redeliver(u.worker, "a", "x") == status::pending);
    u.rollbacks.decide = [](bool& works) {
        works = true;
        return status::ok;
    };
    u.a.says = nullptr;
    CHECK(u.waiting.redeliver(u.worker, "a", "x") == status::more);
    CHECK_FALSE(u.is_open);
}

TEST_CASE("G29 letters that can be asked for again are whole, or start() says so") {
    letter_shop s;
    const pj::dead_letter_sink whole = s.what.dead_letters;
    s.what.dead_letters.put = nullptr;
    s.what.on_error = pj::error_policy::retry(1);       // it wants no letter of its own
    CHECK(s.worker.start() == status::no_dead_letter_sink);
    s.what.dead_letters = whole;
    s.what.dead_letters.evict = nullptr;
    CHECK(s.worker.start() == status::no_dead_letter_sink);
    s.what.dead_letters = whole;
    s.what.dead_letters.sequences = nullptr;
    CHECK(s.worker.start() == status::no_dead_letter_sink);
    s.what.dead_letters = whole;
    CHECK(s.worker.start() == status::ok);
}

TEST_CASE("G12 two handlers have letters to come: while one is not taken the other is not offered") {
    letter_shop s;
    s.append("xx");
    s.a.says = s.b.says = [](const pj::context&) { return pj::reject(5); };
    s.letters.puts.pass(2).then(status::failed);
    REQUIRE(s.worker.start() == status::ok);
    const pj::tick_result first = s.worker.tick(0);
    CHECK(s.kept() == "a0 b0");
    CHECK(first.wait_ms == 100);
    s.run_for(2000);
    CHECK(s.kept() == "a0 b0 a1 b1");
    CHECK(s.a.called.size() == 1);
    CHECK(s.b.called.size() == 1);
    CHECK(s.worker.checkpointed() == 1);
}

namespace {

/// One letter, a@0, and an engine that has a lease until 3000 ms, less 300.
template<class Shop> struct leased_shop : Shop {
    kit::manual_clock clock{1000};
    kit::memory_leases leases{clock};
    pj::lease lease{leases};
    leased_shop() {
        lease.ttl_ms = 3000;
        lease.margin_ms = 300;
        this->what.clock = clock;
        this->what.lease = &lease;
        this->append("x");
        this->fail_at(this->a, 0);
        REQUIRE(this->worker.start() == status::ok);
        for (int i = 0; i < 20; ++i) static_cast<void>(this->worker.tick(clock()));
        REQUIRE(this->worker.has_lease());
        REQUIRE(this->kept() == "a0");
        this->a.called.clear();
        this->a.says = nullptr;
    }
    void check_nothing_done() {
        CHECK(this->kept() == "a0");
        CHECK(this->code_of("a", 0) == 5);
        CHECK(this->waiting.is_blocked(this->worker, "a", "x"));
    }
};

} // namespace

TEST_CASE("G20 a redelivery does nothing without a lease, nor after its end") {
    leased_shop<letter_shop> stopped;
    stopped.worker.stop();
    static_cast<void>(stopped.worker.tick(stopped.clock()));
    REQUIRE_FALSE(stopped.worker.running());
    CHECK(stopped.waiting.redeliver(stopped.worker, "a", "x") == status::lease_held);
    CHECK(stopped.a.called.empty());
    stopped.check_nothing_done();

    leased_shop<letter_shop> late;
    late.clock.advance(2700);
    CHECK(late.waiting.redeliver(late.worker, "a", "x") == status::lease_held);
    CHECK(late.a.called.empty());
    late.check_nothing_done();

    pj::worker next{late.what};                 // it has not read back its claim yet
    REQUIRE(next.start() == status::ok);
    late.clock.advance(300);
    static_cast<void>(next.tick(late.clock()));
    REQUIRE(next.loaded());
    CHECK(late.waiting.redeliver(next, "a", "x") == status::lease_held);
    CHECK(late.a.called.empty());
    late.check_nothing_done();
}

TEST_CASE("G20 a redelivery whose handler outlasts the lease evicts no letter and changes none") {
    for (const pj::verdict v : {pj::handled, pj::fail(9)}) {
        leased_shop<letter_shop> s;
        s.a.says = [&](const pj::context&) {
            s.clock.advance(2700);
            return v;
        };
        CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::lease_held);
        CHECK(s.a.called.size() == 1);
        s.check_nothing_done();
    }
}

TEST_CASE("G20 a redelivery whose letter is found too late for the lease changes none") {
    for (const int slow : {0, 1}) {             // the second look is for the letter that says so
        leased_shop<letter_shop> s;
        s.a.says = [](const pj::context&) { return pj::fail(9); };
        int looks = 0;
        s.letters.firsts.decide = [&](bool& works) {
            works = true;
            if (looks++ == slow) s.clock.advance(2700);
            return status::ok;
        };
        CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::lease_held);
        CHECK(s.a.called.size() == (slow == 0 ? 0 : 1));
        s.check_nothing_done();
    }
}

TEST_CASE("G17 G20 a redelivery that outlasts the lease is rolled back, its eviction, too") {
    leased_shop<unit_letter_shop> s;
    s.effects.clear();
    s.letters.evicts.decide = [&](bool& works) {
        works = true;
        s.clock.advance(2700);
        return status::ok;
    };
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::lease_held);
    CHECK(s.a.called.size() == 1);
    CHECK(s.effects.empty());
    CHECK_FALSE(s.is_open);
    s.check_nothing_done();
}

TEST_CASE("a redelivery waits while the record is to tell who has saved") {
    letter_shop s;
    s.append("x");
    s.fail_at(s.a, 0);
    s.store.saves.then(status::conflict);
    REQUIRE(s.worker.start() == status::ok);
    static_cast<void>(s.worker.tick(0));
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::pending);
    CHECK(s.a.called.size() == 1);
    CHECK(s.kept() == "a0");
}

TEST_CASE("G25 a replayed letter of a live_only handler is done without calling it") {
    replayed s;
    const pj::text mailing = s.both.find(step_done::type)[1];
    pj::stored_event stored = pj::raw_event(0, s.event, "x");
    stored.payload = {};                        // nobody has to decode it any more
    REQUIRE(s.letters.put({pj::failure_kind::permanent, 0, 1, true, 0, 0, "p", mailing, stored}) ==
            status::ok);
    CHECK(s.waiting.redeliver(s.one, mailing, "x") == status::more);
    CHECK(s.live.sent == 0);
    CHECK(s.letters.kept.empty());
}

TEST_CASE("G15 G17 a redelivery that is pending in a unit begins anew, as its effects do") {
    unit_letter_shop s;
    s.append("x");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(2000);
    REQUIRE(s.kept() == "a0");
    std::vector<bool> resumed;
    s.a.says = [&](const pj::context& c) {
        resumed.push_back(c.resumed);
        return resumed.size() < 3 ? pj::pending : pj::handled;
    };
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::pending);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::pending);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(resumed == std::vector<bool>{false, false, false});
    CHECK(s.times("a", 0) == 1);
    CHECK(s.letters.kept.empty());
}

TEST_CASE("a redelivery that fails again: what the letters' store answers then, and what the letter says") {
    struct { status first, put; bool shows; status expected; bool is_kept; } const cases[] = {
        {status::ok, status::ok, true, status::handler_failed, true},
        {status::ok, status::ok, false, status::handler_failed, false},         // it is gone by now
        {status::pending, status::ok, false, status::pending, false},
        {status::failed, status::ok, false, status::dead_letter_failed, false},
        {status::failed, status::ok, true, status::dead_letter_failed, true},
        {status::ok, status::pending, true, status::pending, false},
        {status::ok, status::failed, true, status::dead_letter_failed, false},
    };
    for (const auto& one : cases) {
        letter_shop s;
        s.append("x");
        s.fail_at(s.a, 0);
        REQUIRE(s.worker.start() == status::ok);
        s.run_for(2000);
        s.a.says = [](const pj::context&) { return pj::reject(); };
        s.letters.firsts.pass().then(one.first, one.shows);
        s.letters.puts.then(one.put, one.put == status::ok);
        CHECK(s.waiting.redeliver(s.worker, "a", "x") == one.expected);
        CHECK(s.code_of("a", 0) == (one.is_kept ? 0 : 5));
        CHECK(s.letters.kept.begin()->second.kind == pj::failure_kind::permanent);
        CHECK(s.letters.kept.begin()->second.attempts == (one.is_kept ? 2 : 1));
        CHECK(s.waiting.is_blocked(s.worker, "a", "x"));
    }
}

namespace {

/// Shows all letters of a sequence where one is asked for, and all sequences, whatever it is told.
struct talkative {
    kit::memory_letters& all;
    status put(const pj::dead_letter& l) { return all.put(l); }
    status first(const pj::letter_sequence& of, pj::letter_visitor& show) {
        const status s = all.first(of, show);
        const step_done e{1};
        show(pj::raw_event(1, e, of.aggregate_id), 1);
        return s;
    }
    status evict(const pj::letter_sequence& of, position at) { return all.evict(of, at); }
    status sequences(const pj::letter_sequence&, pj::sequence_visitor& show) {
        for (const char* aggregate : {"x", "y", "z", "x"}) static_cast<void>(show("a", aggregate));
        return status::ok;
    }
};

} // namespace

TEST_CASE("of the letters of a sequence that a store shows, the first counts") {
    letter_shop s;
    s.append("xx");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(2000);
    REQUIRE(s.kept() == "a0 a1");
    talkative store{s.letters};
    s.what.dead_letters = store;
    s.a.says = nullptr;
    s.a.called.clear();
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(s.a.called == std::vector<position>{0});
    CHECK(s.kept() == "a1");
}

TEST_CASE("a store that shows sequences after it was told to stop: there is no room, all the same") {
    letter_shop s;
    s.append("x");
    talkative store{s.letters};
    s.what.dead_letters = store;
    REQUIRE(s.worker.start() == status::ok);
    const pj::tick_result r = s.worker.tick(0);
    CHECK(r.reason == status::sequences_full);
    CHECK(s.a.called.empty());
    CHECK(s.waiting.size() == 2);
    CHECK_FALSE(s.waiting.is_blocked(s.worker, "a", "z"));
}

namespace {

/// As an earlier run has left it.
kit::memory_letters::letter earlier_letter(const char* aggregate) {
    return {pj::failure_kind::permanent, 1, 1, "StepDone", "", aggregate, 0, 1};
}

} // namespace

TEST_CASE("G27 wake() looks at once whether what waits has room by now") {
    letter_shop s;
    s.letters.kept[{"p", 0, "a", 0, 0}] = earlier_letter("x");
    s.letters.kept[{"p", 0, "a", 1, 0}] = earlier_letter("y");
    s.letters.kept[{"p", 0, "a", 2, 0}] = earlier_letter("z");
    s.append("---w");
    s.store.records["p"].at = 2;
    s.store.records["p"].revision = 1;
    REQUIRE(s.worker.start() == status::ok);
    const pj::tick_result full = s.worker.tick(0);
    CHECK(full.reason == status::sequences_full);
    CHECK(full.wait_ms == 1000);
    s.letters.kept.erase({"p", 0, "a", 2, 0});
    s.worker.wake();
    static_cast<void>(s.worker.tick(0));
    CHECK(s.a.called == std::vector<position>{3});
}

TEST_CASE("G7 a handler's name and an aggregate's id are told apart, whatever is in them") {
    letter_shop s;
    const std::string handler("a\0b", 3), aggregate("b\0c", 3);
    s.letters.kept[{"p", 0, handler, 0, 0}] = earlier_letter("c");
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    CHECK(s.waiting.is_blocked(s.worker, pj::text(handler), "c"));
    CHECK_FALSE(s.waiting.is_blocked(s.worker, "a", pj::text(aggregate)));
}

TEST_CASE("G15 events that go behind a letter do not make it forget who was done with it") {
    letter_shop s;
    const step_done e{0};
    const std::string x = "x";
    REQUIRE(s.letters.put({pj::failure_kind::decode, 0, 1, false, 0, 0, "p", {},
                           pj::raw_event(0, e, x)}) == status::ok);
    s.append("x");
    s.store.records["p"].at = 0;
    s.store.records["p"].revision = 1;
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    std::vector<bool> resumed;
    s.b.says = [&](const pj::context& c) {
        resumed.push_back(c.resumed);
        return resumed.size() < 2 ? pj::pending : pj::handled;
    };
    CHECK(s.waiting.redeliver(s.worker, "", "x") == status::pending);
    s.append("x");
    s.run_for(1100);
    REQUIRE(s.worker.checkpointed() == 1);
    CHECK(s.waiting.redeliver(s.worker, "", "x") == status::more);
    CHECK(s.a.called == std::vector<position>{0});
    CHECK(resumed == std::vector<bool>{false, true});
}

TEST_CASE("G7 G17 in a unit, too, all handlers that have letters to come get the next one") {
    unit_letter_shop s;
    s.append("xx");
    s.fail_at(s.a, 0);
    s.fail_at(s.b, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(20000);
    CHECK(s.kept() == "a0 b0 a1 b1");
    CHECK(s.effects.empty());
    CHECK(s.worker.checkpointed() == 1);
}

TEST_CASE("G15 G17 a letter in place of a call: pending it keeps its unit open, else ends it") {
    for (const status answer : {status::pending, status::failed}) {
        unit_letter_shop s;
        s.letters.kept[{"p", 0, "a", 0, 0}] = earlier_letter("x");
        s.append("xx");
        s.store.records["p"].at = 0;
        s.store.records["p"].revision = 1;
        s.letters.puts.then(answer, false);
        REQUIRE(s.worker.start() == status::ok);
        for (int i = 0; i < 5 && s.last.wait_ms == 0; ++i) s.last = s.worker.tick(0);
        CHECK(s.is_open == (answer == status::pending));
        CHECK(s.last.wait_ms == (answer == status::pending ? 10 : 100));
        s.run_for(3000);
        CHECK(s.kept() == "a0 a1");
        CHECK(s.committed == 1);
    }
}

TEST_CASE("G9 a handler that has letters to come costs those before it no attempt") {
    unit_letter_shop s;
    letter_shop::named<'c'> c{s};
    pj::registry<letter_shop::named<'a'>, letter_shop::named<'b'>, letter_shop::named<'c'>> three{s.a, s.b, c};
    s.what.handlers = three;
    s.what.on_error = pj::error_policy::retry_then_skip(1);
    s.letters.kept[{"p", 0, "c", 0, 0}] = earlier_letter("x");
    s.append("-x");
    const auto once = [](const pj::context&, int& left) {
        return left-- > 0 ? pj::fail() : pj::handled;
    };
    int of_a = 1, of_b = 1;
    s.a.says = [&](const pj::context& with) {
        return with.event.at == 1 ? once(with, of_a) : pj::handled;
    };
    s.b.says = [&](const pj::context& with) {
        return with.event.at == 1 ? once(with, of_b) : pj::handled;
    };
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(20000);
    CHECK(s.worker.counts().skipped == 0);
    CHECK(s.worker.counts().lettered == 1);
    CHECK(s.times("b", 1) == 1);
    CHECK(s.kept() == "c0 c1");
}

TEST_CASE("a redelivery after the engine has stopped") {
    letter_shop s;
    s.append("x");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(100);
    s.worker.stop();
    s.run_for(100);
    REQUIRE_FALSE(s.worker.running());
    s.a.says = nullptr;
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::more);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::ok);
    CHECK(s.kept().empty());
}

TEST_CASE("G17 G20 after the end of the lease a redelivery begins no unit and asks for no letter") {
    leased_shop<unit_letter_shop> s;
    const int begun = s.begun;
    int asked = 0;
    s.letters.firsts.decide = [&](bool& works) {
        ++asked;
        works = true;
        return status::ok;
    };
    s.clock.advance(2700);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::lease_held);
    CHECK(s.begun == begun);
    CHECK(asked == 0);
}

TEST_CASE("G20 a letter for all handlers: one is pending, and the lease is over before the next") {
    leased_shop<letter_shop> s;
    const step_done e{0};
    const std::string x = "x";
    REQUIRE(s.letters.put({pj::failure_kind::decode, 0, 1, false, 0, 0, "p", {},
                           pj::raw_event(0, e, x)}) == status::ok);
    s.b.called.clear();
    s.a.says = [&](const pj::context&) {
        s.clock.advance(2700);
        return pj::pending;
    };
    CHECK(s.waiting.redeliver(s.worker, "", "x") == status::lease_held);
    CHECK(s.b.called.empty());
}

TEST_CASE("G17 a redelivery that failed, and its rollback is pending: nothing of it is kept") {
    unit_letter_shop s;
    s.append("x");
    s.fail_at(s.a, 0);
    REQUIRE(s.worker.start() == status::ok);
    while (s.worker.tick(0).wait_ms == 0) {}
    const int committed = s.committed;
    s.fail_at(s.a, 0, pj::fail(77));
    s.rollbacks.then(status::pending, false);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::handler_failed);
    CHECK(s.code_of("a", 0) == 5);              // not put while that unit may be open
    static_cast<void>(s.worker.tick(0));
    REQUIRE(s.is_open);
    static_cast<void>(s.worker.tick(10));       // not as late as the log is looked at again
    CHECK_FALSE(s.is_open);
    CHECK(s.committed == committed);
    CHECK(s.code_of("a", 0) == 5);

    s.rollbacks.then(status::pending, false);
    CHECK(s.waiting.redeliver(s.worker, "a", "x") == status::handler_failed);
    const int begun = s.begun;
    s.append("y");
    s.worker.wake();
    for (uint32_t ms = 10; ms <= 40; ms += 10) static_cast<void>(s.worker.tick(ms));
    CHECK(s.times("a", 1) == 1);
    CHECK(s.begun == begun + 1);                // in a unit of its own
}

TEST_CASE("G25 a letter of a live_only handler whose event is not replayed is given to it") {
    replayed s;
    const pj::text mailing = s.both.find(step_done::type)[1];
    REQUIRE(s.letters.put({pj::failure_kind::permanent, 0, 1, false, 0, 0, "p", mailing,
                           pj::raw_event(9, s.event, "x")}) == status::ok);
    CHECK(s.waiting.redeliver(s.one, mailing, "x") == status::more);
    CHECK(s.live.sent == 1);
    CHECK(s.letters.kept.empty());
}

TEST_CASE("G7 G11 an event that vanishes with its letter not taken leaves its place at once") {
    letter_shop s;
    s.append("x");
    s.fail_at(s.a, 0);
    s.letters.puts.then(status::failed, false, 2);
    REQUIRE(s.worker.start() == status::ok);
    uint32_t now_ms = 0;
    for (int i = 0; i < 5 && s.last.wait_ms == 0; ++i) s.last = s.worker.tick(now_ms);
    REQUIRE(s.waiting.size() == 1);
    s.aggregates.clear();
    now_ms += s.last.wait_ms;
    for (int i = 0; i < 3; ++i) static_cast<void>(s.worker.tick(now_ms));
    CHECK(s.worker.counts().vanished == 1);
    CHECK(s.waiting.size() == 0);
}

TEST_CASE("G7 G31 what is no longer in the log leaves no place behind when it is tried again") {
    letter_shop s;
    s.append("x");
    s.fail_at(s.a, 0);
    s.letters.puts.then(status::failed);
    REQUIRE(s.worker.start() == status::ok);
    for (int i = 0; i < 5 && s.last.wait_ms == 0; ++i) s.last = s.worker.tick(s.now_ms);
    REQUIRE(s.waiting.size() == 1);
    s.aggregates[0] = "y";                      // another event under this position
    s.run_for(s.last.wait_ms);
    REQUIRE(s.worker.reason() == status::event_changed);
    s.a.says = nullptr;
    REQUIRE(s.worker.retry_failed() == status::ok);
    s.append("x");
    s.run_for(2000);
    CHECK(s.letters.kept.empty());
    CHECK(s.a.called == std::vector<position>{0, 0, 1});
    CHECK(s.waiting.size() == 0);
}

TEST_CASE("G7 G17 G31 an event given up after its letter was rolled back leaves no place behind") {
    unit_letter_shop s;
    s.append("xx");
    s.what.on_error = pj::error_policy::custom({[](void*, const pj::failure& f) {
        return f.handler == "a" ? pj::decision::dead_letter() : pj::decision::halt();
    }, nullptr});
    s.fail_at(s.a, 0);
    s.fail_at(s.b, 0);
    REQUIRE(s.worker.start() == status::ok);
    s.run_for(2000);
    REQUIRE(s.worker.state() == pj::run_state::halted);
    REQUIRE(s.worker.skip_failed(0) == status::ok);
    s.run_for(2000);
    CHECK(s.letters.kept.empty());
    CHECK(s.times("a", 1) == 1);
    CHECK(s.waiting.size() == 0);
}

TEST_CASE("G7 G17 where another event takes the place of one with a letter, no place is left behind") {
    for (const pj::verdict trouble : {pj::pending, pj::fail(), pj::reject()}) {
        unit_letter_shop s;
        s.append("yxx");
        int calls_of_0 = 0;
        s.b.says = [&](const pj::context& c) {
            if (c.event.at != 0) return pj::handled;
            return ++calls_of_0 == 2 ? trouble : pj::handled;
        };
        s.fail_at(s.a, 1);
        s.what.on_error = pj::error_policy::retry_then_dead_letter(1);
        REQUIRE(s.worker.start() == status::ok);
        for (int i = 0; i < 50 && calls_of_0 < 2; ++i) {
            static_cast<void>(s.worker.tick(s.now_ms));
            s.now_ms += 10;
        }
        REQUIRE(calls_of_0 == 2);
        s.a.says = nullptr;
        s.run_for(5000);
        CHECK(s.worker.checkpointed() == 2);
        CHECK(s.times("a", 2) == 1);
        CHECK(s.kept() == (trouble == pj::reject() ? "b0" : ""));
        CHECK(s.waiting.size() == (trouble == pj::reject() ? 1 : 0));
    }
}

namespace {

/// Events of x, y and x, one of which cannot be decoded.
template<class Shop> struct damaged : Shop {
    const size_t bad;
    explicit damaged(size_t which) : bad(which) {
        this->what.log = *this;
        this->append("xyx");
    }
    status read(position after, pj::visitor& visit) {
        for (size_t i = static_cast<size_t>(after + 1); i < this->aggregates.size(); ++i) {
            const step_done e{static_cast<uint32_t>(i)};
            pj::stored_event event =
                pj::raw_event(static_cast<position>(i), e, this->aggregates[i]);
            if (i == bad) event.payload = {};
            if (!visit(event)) break;
        }
        return status::ok;
    }
};

/// It is event 2, and `a` waits for its letter of event 0.
template<class Shop> struct half_broken : damaged<Shop> {
    half_broken() : damaged<Shop>(2) { this->fail_at(this->a, 0); }
    void check() {
        REQUIRE(this->worker.start() == status::ok);
        this->run_for(20000);
        const auto& l = this->letters.kept.at({"p", 0, "", 2, 0});
        CHECK(l.kind == pj::failure_kind::decode);
        CHECK(l.attempts == 1);
        CHECK(this->worker.checkpointed() == 2);
    }
};

} // namespace

TEST_CASE("G12 an undecodable event behind a letter has one letter of its own, and it says why") {
    half_broken<letter_shop> s;
    s.letters.puts.pass(1).then(status::failed, false);         // that of `a`, untried
    s.check();
    half_broken<unit_letter_shop> u;
    u.check();
}

namespace {

/// It is event 0, so its letter is of all handlers, and so is that of event 2.
template<class Shop> struct broken_first : damaged<Shop> {
    broken_first() : damaged<Shop>(0) {
        this->letters.puts.pass(1).then(status::failed, false, 2);
    }
    void check() {
        REQUIRE(this->worker.start() == status::ok);
        this->run_for(20000);
        CHECK(this->kept() == "0 2");
        CHECK(this->code_of("", 2) == pj::code_sequenced);
        for (const position at : this->a.called) CHECK(at == 1);        // in a unit more than once
        CHECK(this->worker.checkpointed() == 2);
    }
};

} // namespace

TEST_CASE("G7 G12 a letter of all handlers that is refused is put again, in a unit and without") {
    broken_first<letter_shop>().check();
    broken_first<unit_letter_shop>().check();
}
