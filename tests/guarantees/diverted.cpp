// G7, G12, G25: letters in sequences at the limits of their table, in rounds, and a redelivery to
// several handlers; ids that are long, alike or none.
#include "kit/projections_kit.hpp"
#include "support/world.hpp"

#include <functional>

using namespace support;
namespace kit = projections_kit;
using pj::position;
using pj::status;

namespace {

struct stored {
    std::string type, aggregate, payload;
};

/// Handlers "a" and "b" of "Alpha", "a" of "Beta", nobody of "Gamma". The payload "!" cannot be
/// decoded as long as it is so.
struct desk {
    template<int Which> struct named_event {
        static constexpr const char* names[3] = {"Alpha", "Beta", "Gamma"};
        static constexpr pj::event_type type{pj::text(names[Which])};
        static bool decode(const pj::stored_event& in, named_event&) {
            return in.payload.text() != pj::text("!");
        }
    };
    using alpha = named_event<0>;
    using beta = named_event<1>;
    using gamma = named_event<2>;
    struct hand {
        std::vector<position> called;
        std::vector<uint32_t> attempts;
        std::vector<bool> resumed, replaying;
        std::function<pj::verdict(const pj::context&)> says;
        pj::verdict run(const pj::context& c) {
            called.push_back(c.event.at);
            attempts.push_back(c.attempt);
            resumed.push_back(c.resumed);
            replaying.push_back(c.replaying);
            return says ? says(c) : pj::handled;
        }
    };
    struct first : hand {
        using handles = pj::events<alpha, beta, gamma>;
        static constexpr const char* handler_name = "a";
        pj::verdict on(const alpha&, const pj::context& c) { return run(c); }
        pj::verdict on(const beta&, const pj::context& c) { return run(c); }
        pj::verdict on(const gamma&, const pj::context& c) { return run(c); }
    };
    struct second : hand {
        using handles = pj::events<alpha>;
        static constexpr const char* handler_name = "b";
        pj::verdict on(const alpha&, const pj::context& c) { return run(c); }
    };

    std::vector<stored> log;
    first a;
    second b;
    pj::registry<first, second> hands{a, b};
    kit::memory_checkpoints store;
    kit::memory_letters letters;
    uint32_t puts = 0;
    std::function<status(bool&)> put_answers;
    pj::letter_sequences<2> two;
    pj::projection what{"p", *this, hands, store};
    pj::worker worker{what};
    uint32_t now_ms = 0;
    pj::tick_result last{};

    desk() {
        what.dead_letters = letters;
        what.sequences = two;
        what.on_error = pj::error_policy::dead_letter();
        what.delays = {100, 30000, 2, 0, 1};
        letters.puts.decide = [this](bool& works) {
            ++puts;
            works = true;
            return put_answers ? put_answers(works) : status::ok;
        };
    }
    desk(const desk&) = delete;
    desk& operator=(const desk&) = delete;

    status read(position after, pj::visitor& visit) {
        for (size_t i = static_cast<size_t>(after + 1); i < log.size(); ++i) {
            pj::stored_event one;
            one.at = static_cast<position>(i);
            one.type = pj::text(log[i].type);
            one.aggregate_id = log[i].aggregate;
            one.payload = pj::text(log[i].payload);
            if (!visit(one)) break;
        }
        return status::ok;
    }
    desk& append(const std::string& aggregate, const char* type = "Alpha",
                 const std::string& payload = {}) {
        log.push_back({type, aggregate, payload});
        return *this;
    }
    void run_for(uint32_t ms) {
        const uint32_t until = now_ms + ms;
        for (int i = 0; i < 2000 && worker.running() && now_ms <= until; ++i) {
            last = worker.tick(now_ms);
            if (last.wait_ms == pj::never) return;
            now_ms += last.wait_ms;
        }
    }
    void start(uint32_t ms = 1500) {
        REQUIRE(worker.start() == status::ok);
        run_for(ms);
    }
    /// "a0 b2".
    std::string kept() const {
        std::map<std::pair<position, std::string>, int> in_order;
        for (const auto& [key, l] : letters.kept)
            in_order[{std::get<3>(key), std::get<2>(key)}] = 1;
        std::string all;
        for (const auto& [key, one] : in_order)
            all += (all.empty() ? "" : " ") + key.second + std::to_string(key.first);
        return all;
    }
    const kit::memory_letters::letter& letter(const std::string& handler, position at) const {
        return letters.kept.at({"p", 0, handler, at, 0});
    }
};

auto rejects_at(std::vector<position> where) {
    return [where](const pj::context& c) {
        for (const position at : where) {
            if (c.event.at == at) return pj::reject(5);
        }
        return pj::handled;
    };
}

} // namespace

TEST_CASE("G7 a table of one place, and a full one whose places become free in any order") {
    desk one;
    pj::letter_sequences<1> single;
    one.what.sequences = single;
    one.a.says = rejects_at({0});
    one.append("x").append("x").append("y").append("x");
    one.start();
    CHECK(one.kept() == "a0 a1 a3");
    CHECK(one.a.called == std::vector<position>{0, 2});
    CHECK(single.size() == 1);

    for (const char* gone : {"x", "y"}) {
        desk s;
        s.a.says = rejects_at({0, 1});
        s.append("x").append("y");
        s.start();
        REQUIRE(s.kept() == "a0 a1");
        REQUIRE(s.two.size() == 2);
        s.two.release(s.worker, "a", gone);
        const std::string stays = *gone == 'x' ? "y" : "x";
        CHECK(s.two.is_blocked(s.worker, "a", stays));
        CHECK_FALSE(s.two.is_blocked(s.worker, "a", gone));
        s.append(stays).append(gone);
        s.run_for(3000);
        CHECK(s.kept() == "a0 a1 a2");
        CHECK(s.a.called == std::vector<position>{0, 1, 3});
    }
}

TEST_CASE("G7 a place that holds one sequence is no place for another, however often it comes") {
    desk s;
    s.a.says = rejects_at({0, 2});
    s.append("x").append("x").append("y").append("x").append("y").append("z");
    s.start();
    CHECK(s.kept() == "a0 a1 a2 a3 a4");
    CHECK(s.two.is_blocked(s.worker, "a", "x"));
    CHECK(s.two.is_blocked(s.worker, "a", "y"));
    CHECK_FALSE(s.two.is_blocked(s.worker, "a", "z"));
    CHECK(s.two.size() == 2);
    CHECK(s.puts == 5);
}

TEST_CASE("G7 aggregates and handlers whose names are long, or alike when put together") {
    const std::string tail(100, 't');
    desk s;
    s.a.says = rejects_at({0});
    s.append("x" + tail).append("y" + tail).append(tail + "x").append("x" + tail);
    s.start();
    CHECK(s.kept() == "a0 a3");
    CHECK(s.a.called == std::vector<position>{0, 1, 2});
    CHECK(s.two.is_blocked(s.worker, "a", "x" + tail));
    CHECK_FALSE(s.two.is_blocked(s.worker, "a", "y" + tail));
    CHECK_FALSE(s.two.is_blocked(s.worker, "ax", tail));        // the same letters in a row
    CHECK_FALSE(s.two.is_blocked(s.worker, "", "ax" + tail));
    CHECK_FALSE(s.two.is_blocked(s.worker, "a", tail));
}

TEST_CASE("G12 in the rounds of a retry a handler whose letter is there gets no second one") {
    desk s;
    s.what.on_error = pj::error_policy::retry_then_dead_letter(5);
    s.a.says = rejects_at({0});
    int failures = 3;
    s.b.says = [&](const pj::context& c) {
        return c.event.at == 1 && failures-- > 0 ? pj::fail() : pj::handled;
    };
    s.append("x").append("x");
    s.start(10000);
    CHECK(s.kept() == "a0 a1");
    CHECK(s.puts == 2);
    CHECK(s.a.called == std::vector<position>{0});
    CHECK(s.b.called == std::vector<position>{0, 1, 1, 1, 1});
    CHECK(s.b.attempts == std::vector<uint32_t>{1, 1, 2, 3, 4});
    CHECK(s.letter("a", 1).kind == pj::failure_kind::transient);
    CHECK(s.letter("a", 1).code == pj::code_sequenced);
    CHECK(s.letter("a", 1).attempts == 0);
}

TEST_CASE("G12 a letter that waits for its sink keeps its backoff, whoever else is pending") {
    desk s;
    s.what.pending_ms = 10;
    s.a.says = rejects_at({0});
    int pending = 25;
    s.b.says = [&](const pj::context& c) {
        return c.event.at == 1 && pending-- > 0 ? pj::pending : pj::handled;
    };
    int failing = 2;
    s.put_answers = [&](bool& works) {
        works = s.puts == 1 || failing-- <= 0;
        return works ? status::ok : status::failed;
    };
    s.append("x").append("x");
    REQUIRE(s.worker.start() == status::ok);
    for (int i = 0; i < 9; ++i, s.now_ms += s.last.wait_ms) s.last = s.worker.tick(s.now_ms);
    CHECK(s.now_ms < 100);
    CHECK(s.puts == 2);                 // a0, and once a1
    s.run_for(120);
    CHECK(s.puts == 3);
    s.run_for(2000);
    CHECK(s.puts == 4);
    CHECK(s.kept() == "a0 a1");
    CHECK(s.worker.checkpointed() == 1);
}

TEST_CASE("G7 an aggregate that is blocked for all: what nobody handles makes no letter") {
    desk s;
    s.append("x", "Alpha", "!").append("x", "Unknown").append("x", "Beta").append("", "Beta");
    s.start();
    CHECK(s.kept() == "0 2");
    CHECK(s.worker.counts().unknown == 1);
    CHECK(s.a.called == std::vector<position>{3});
    CHECK(s.letter("", 2).attempts == 0);
}

TEST_CASE("G15 a letter of all handlers: who is pending is resumed, who was done is not called") {
    desk s;
    s.append("x", "Alpha", "!");
    s.start();
    REQUIRE(s.kept() == "0");
    for (auto& [key, l] : s.letters.kept) l.payload = "mended";
    int pending = 2;
    s.a.says = [&](const pj::context&) { return pending-- > 0 ? pj::pending : pj::handled; };
    CHECK(s.two.redeliver(s.worker, "", "x") == status::pending);
    CHECK(s.two.redeliver(s.worker, "", "x") == status::pending);
    CHECK(s.two.redeliver(s.worker, "", "x") == status::more);
    CHECK(s.a.resumed == std::vector<bool>{false, true, true});
    CHECK(s.b.called == std::vector<position>{0});
    CHECK(s.a.attempts == std::vector<uint32_t>{2, 2, 2});
    CHECK(s.letters.kept.empty());
    CHECK(s.two.redeliver(s.worker, "", "x") == status::ok);
    CHECK_FALSE(s.two.is_blocked(s.worker, "", "x"));
}

TEST_CASE("a letter of all handlers that one of them fails again says what that one said") {
    struct { pj::verdict says; pj::failure_kind kind; uint32_t code; } const cases[] = {
        {pj::fail(8), pj::failure_kind::transient, 8},
        {pj::reject(9), pj::failure_kind::permanent, 9},
    };
    for (const auto& one : cases) {
        for (const bool is_second : {false, true}) {
            desk s;
            s.append("x", "Alpha", "!");
            s.start();
            for (auto& [key, l] : s.letters.kept) l.payload = "mended";
            (is_second ? s.b.says : s.a.says) = [&](const pj::context&) { return one.says; };
            CHECK(s.two.redeliver(s.worker, "", "x") == status::handler_failed);
            CHECK(s.b.called.size() == (is_second ? 1 : 0));    // nobody after the one that fails
            CHECK(s.letter("", 0).kind == one.kind);
            CHECK(s.letter("", 0).code == one.code);
            CHECK(s.letter("", 0).attempts == 2);
            CHECK(s.two.is_blocked(s.worker, "", "x"));
        }
    }
}

TEST_CASE("G25 a letter that comes again knows whether its event is replayed, and says so again") {
    for (const position through : {position{-1}, position{0}, position{1}}) {
        desk s;
        s.what.replayed_through = through;
        s.a.says = rejects_at({0, 1});
        std::vector<bool> told;
        struct telling {
            desk& of;
            std::vector<bool>& replaying;
            status put(const pj::dead_letter& l) {
                replaying.push_back(l.replaying);
                return of.letters.put(l);
            }
            status first(const pj::letter_sequence& of_one, pj::letter_visitor& show) {
                return of.letters.first(of_one, show);
            }
            status evict(const pj::letter_sequence& of_one, position at) {
                return of.letters.evict(of_one, at);
            }
            status sequences(const pj::letter_sequence& of_all, pj::sequence_visitor& show) {
                return of.letters.sequences(of_all, show);
            }
        } sink{s, told};
        s.what.dead_letters = sink;
        s.append("x").append("y");
        s.start();
        REQUIRE(s.kept() == "a0 a1");
        const std::vector<bool> expected = {through >= 0, through >= 1};
        CHECK(told == expected);
        told.clear();
        CHECK(s.two.redeliver(s.worker, "a", "x") == status::handler_failed);
        CHECK(s.two.redeliver(s.worker, "a", "y") == status::handler_failed);
        CHECK(told == expected);
        REQUIRE(s.a.replaying.size() == 4);
        CHECK(s.a.replaying[2] == (through >= 0));
        CHECK(s.a.replaying[3] == (through >= 1));
    }
}

TEST_CASE("G26 during a redelivery, too, a call from inside a handler does nothing") {
    desk s;
    s.append("x").append("y");
    s.a.says = rejects_at({0});
    s.start();
    std::vector<status> said;
    s.a.says = [&](const pj::context&) {
        said = {s.worker.tick(s.now_ms).reason, s.worker.reset(-1), s.worker.set_position(1, 0),
                s.two.redeliver(s.worker, "a", "x")};
        return pj::handled;
    };
    CHECK(s.two.redeliver(s.worker, "a", "x") == status::more);
    CHECK(said == std::vector<status>(4, status::reentered));
    CHECK(s.worker.checkpointed() == 1);
}

TEST_CASE("G14 what waits cannot be asked: the wait grows, is told, and begins anew") {
    desk s;
    s.append("x");
    s.what.pending_ms = 50;
    s.letters.listings.then(status::failed, false, 2).then(status::pending, false);
    REQUIRE(s.worker.start() == status::ok);
    for (const uint32_t ms : {100u, 200u}) {
        s.last = s.worker.tick(s.now_ms);
        CHECK(s.last.wait_ms == ms);
        CHECK(s.last.reason == status::dead_letter_failed);
        CHECK(s.a.called.empty());
        s.now_ms += ms;
    }
    s.last = s.worker.tick(s.now_ms);
    CHECK(s.last.wait_ms == 50);
    CHECK(s.last.reason == status::pending);
    struct { desk& of; int fails; status read(position after, pj::visitor& visit) {
        return fails-- > 0 ? status::failed : of.read(after, visit);
    } } log{s, 1};
    s.what.log = log;
    s.worker.wake();
    s.last = s.worker.tick(s.now_ms);
    CHECK(s.last.wait_ms == 100);
    CHECK(s.last.reason == status::store_failed);
    s.run_for(2000);
    CHECK(s.worker.checkpointed() == 0);
}

TEST_CASE("G7 what waits is forgotten where the letters are gone when they are asked for again") {
    desk s;
    pj::letter_sequences<1> single;
    s.what.sequences = single;
    s.a.says = rejects_at({0});
    s.append("x").append("x");
    s.start();
    REQUIRE(s.kept() == "a0 a1");
    s.letters.kept.clear();             // by hand, elsewhere
    REQUIRE(s.worker.reset(0) == status::ok);
    s.run_for(1500);
    CHECK(single.size() == 0);
    CHECK(s.a.called == std::vector<position>{0, 1});
    CHECK(s.kept().empty());
}

TEST_CASE("a redelivery: whatever but ok and pending a letters' store answers is a failure") {
    for (const status answer : {status::failed, status::conflict, status::more, status::trimmed}) {
        for (const bool is_first : {true, false}) {
            desk s;
            s.a.says = rejects_at({0});
            s.append("x");
            s.start();
            s.a.says = nullptr;
            if (is_first) s.letters.firsts.then(answer, true);     // it shows the letter, and fails
            else s.letters.evicts.then(answer, false);
            CHECK(s.two.redeliver(s.worker, "a", "x") == status::failed);
            CHECK(s.kept() == "a0");
            CHECK(s.two.is_blocked(s.worker, "a", "x"));
            CHECK(s.two.redeliver(s.worker, "a", "x") == status::more);
            CHECK(s.kept().empty());
        }
    }
}
