// >>handlers: handler_map: the same as a registry, chosen at run time.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <initializer_list>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>
namespace pj = projections;

namespace {

std::vector<std::string> trace;
void note(const char* who) { trace.emplace_back(who); }
std::vector<std::string> traced() {
    std::vector<std::string> result;
    result.swap(trace);
    return result;
}
using list = std::vector<std::string>;

struct shape {};
struct circle : shape {
    static constexpr pj::event_type type{"Circle"};
    static inline int decoded = 0;
    static bool decode(const pj::stored_event& in, circle&) {
        ++decoded;
        return in.payload.text() != "broken";
    }
};
struct square : shape {
    static constexpr pj::event_type type{"Square", pj::raw};
    static constexpr pj::event_type also[]{"Quadrat"};
    char side;
};
struct colour { static constexpr pj::event_type type{"Colour", pj::raw}; char c; };
using shapes = pj::events<circle, square, colour>;

struct drawing {
    using handles = pj::events<circle, square>;
    static constexpr char handler_name[] = "drawing";
    void on(const circle&) { note("drawing circle"); }
    pj::verdict on(const square&, const pj::context& ctx) {
        note(ctx.replaying ? "drawing square again" : "drawing square");
        return pj::handled;
    }
    // and more, for add<Event, Function>()
    pj::status member(const circle&) { note("member"); return pj::status::ok; }
    void member_with(const circle&, const pj::context&) { note("member with"); }
    void of_parent(const shape&) { note("parent"); }
};
struct area {
    using handles = pj::matching<shapes>;
    void on(const shape&) { note("area"); }
};
struct audit {
    using handles = pj::every_event;
    const char* name = "audit";
    void on(const pj::stored_event&) { note(name); }
};
struct motor {
    using handles = pj::live_only<circle>;
    void on(const circle&) { note("motor"); }
};
pj::verdict free_function(const circle&) { note("free"); return pj::handled; }
void free_with(const circle&, const pj::context&) { note("free with"); }
void taking_object(drawing&, const circle&) { note("object"); }
pj::verdict taking_object_with(drawing&, const circle&, const pj::context&) {
    note("object with");
    return pj::handled;
}
pj::verdict by_hand(void* self, const pj::stored_event&, const pj::context&) {
    note(static_cast<const char*>(self));
    return pj::handled;
}
void* hand(const char* name) { return const_cast<char*>(name); }

const pj::stored_event a_circle{0, "Circle"};
const pj::stored_event a_square{1, "Square", {"s", 1}};

} // namespace

TEST_CASE("handler_map: everything that can be added, called in the order of add()") {
    drawing d;
    area a;
    pj::handler_map<16> map;
    map.add(d)
        .add<circle, &drawing::member>(d, "2")
        .add<circle, &drawing::member_with>(d, "3")
        .add<circle, &drawing::of_parent>(d, "4")
        .add<circle, &taking_object>(d, "5")
        .add<circle, &taking_object_with>(d, "6")
        .add<circle>(free_function, "7")
        .add<circle>(&free_with, "8")
        .add<circle>([](const circle&) { note("lambda"); })
        .add<circle>([](const shape&, const pj::context&) { note("lambda with"); }, "10")
        .add("Circle", &by_hand, hand("hand"), "11")
        .add(a);
    CHECK(map.fault() == pj::status::ok);
    circle::decoded = 0;
    CHECK(pj::deliver(map, a_circle) == pj::handled);
    CHECK(traced() == list{"drawing circle", "member", "member with", "parent", "object",
                           "object with", "free", "free with", "lambda", "lambda with", "hand",
                           "area"});
    CHECK(circle::decoded == 2);        // before and after the one that takes it undecoded
    CHECK(pj::deliver(map, a_square, true) == pj::handled);
    CHECK(traced() == list{"drawing square again", "area"});
    CHECK(pj::deliver(map, {3, "Quadrat", {"s", 1}}) == pj::handled);
    CHECK(traced() == list{"drawing square", "area"});
    CHECK(pj::deliver(map, {4, "Unknown"}) == pj::handled);
    CHECK(pj::deliver(map, {5, "Colour", {"c", 1}}) == pj::handled);
    CHECK(traced().empty());
}

TEST_CASE("handler_map: names, find(), known but not handled") {
    drawing d;
    area a;
    pj::handler_map<8> map;
    map.add(d).add(a).add<circle>(free_function).add("Raw", &by_hand, nullptr, "raw");
    REQUIRE(map.find("Circle").size() == 3);
    CHECK(map.find("Circle")[0] == "drawing");
    CHECK(map.find("Circle")[2] == "Circle");           // a function is named after its event
    CHECK(map.find("Raw")[0] == "raw");
    CHECK(map.find(pj::id{circle::type.number()}).size() == 3);
    CHECK(map.find("Colour").known());
    CHECK(map.find("Colour").size() == 0);
    CHECK_FALSE(map.find("Nobody").known());
    CHECK_FALSE(map.find({}).known());
}

TEST_CASE("handler_map: empty, it knows nothing and start() says so") {
    pj::handler_map<4> map;
    CHECK(map.fault() == pj::status::ok);
    CHECK(map.find("Circle").size() == 0);
    CHECK_FALSE(map.find("Circle").known());
    CHECK_FALSE(map.find(pj::id{1}).known());
    CHECK(pj::deliver(map, a_circle) == pj::handled);
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    const pj::projection p{"empty", log, map, checkpoints};
    pj::worker w{p};
    CHECK(w.start() == pj::status::no_handlers);
}

TEST_CASE("handler_map: handlers of every event keep their place among the others") {
    audit first, last;
    last.name = "audit 2";
    struct between : audit {} middle;
    middle.name = "audit 1";
    struct after : audit {} end;
    end.name = "audit 3";
    drawing d;
    area a;
    pj::handler_map<16> map;
    map.add(first).add(d).add(middle).add(a).add(end);
    CHECK(map.fault() == pj::status::ok);
    CHECK(pj::deliver(map, a_circle) == pj::handled);
    CHECK(traced() == list{"audit", "drawing circle", "audit 1", "area", "audit 3"});
    CHECK(pj::deliver(map, {0, "Unknown"}) == pj::handled);
    CHECK(traced() == list{"audit", "audit 1", "audit 3"});
    REQUIRE(map.find("Circle").size() == 5);
    CHECK(map.find("Circle")[1] == "drawing");
    CHECK(map.find("Unknown").size() == 3);
    map.add(last);                                      // a second one of that name
    CHECK(map.fault() == pj::status::duplicate_handler);
}

TEST_CASE("handler_map: live_only, alone and mixed") {
    motor m;
    drawing d;
    audit a;
    pj::handler_map<8> map;
    map.add(m).add(d).add(a);
    CHECK(pj::deliver(map, a_circle, true) == pj::handled);
    CHECK(traced() == list{"drawing circle", "audit"});
    CHECK(pj::deliver(map, a_circle, false) == pj::handled);
    CHECK(traced() == list{"motor", "drawing circle", "audit"});
}

TEST_CASE("handler_map: one that cannot be decoded fails once, undecoded handlers see it") {
    drawing d;
    pj::handler_map<8> map;
    map.add(d).add("Circle", &by_hand, hand("hand"), "hand").add<circle>(free_function, "free");
    CHECK(pj::deliver(map, {0, "Circle", {"broken", 6}}) == pj::reject());
    CHECK(traced() == list{"hand"});
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    const pj::projection p{"broken", log, map, checkpoints};
    pj::worker w{p};
    log.append("Circle", {"broken", 6});
    REQUIRE(w.start() == pj::status::ok);
    static_cast<void>(w.tick(0));
    CHECK(w.counts().failed_calls == 1);
    CHECK(w.counts().skipped == 1);
    CHECK(traced() == list{"hand"});
}

namespace {

/// What start() says of a projection onto this map, and fault() with it.
template<size_t N> pj::status verdict_on(pj::handler_map<N>& map) {
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    const pj::projection p{"faults", log, map, checkpoints};
    pj::worker w{p};
    const pj::status answer = w.start();
    CHECK(answer == map.fault());
    return answer;
}

} // namespace

TEST_CASE("handler_map: too many") {
    pj::handler_map<2> map;
    map.add("A", &by_hand, nullptr).add("B", &by_hand, nullptr);
    CHECK(verdict_on(map) == pj::status::ok);
    map.add("C", &by_hand, nullptr).add("C", &by_hand, nullptr);
    CHECK(verdict_on(map) == pj::status::table_full);
    CHECK(map.find("A").size() == 1);
    CHECK_FALSE(map.find("C").known());

    pj::handler_map<40> one_type;
    const std::string names = "abcdefghijklmnopqrstuvwxyzABCDEFGHI";
    for (size_t i = 0; i < 32; ++i) {
        one_type.add("Circle", &by_hand, hand("h"), {names.data() + i, 1});
        CHECK(one_type.fault() == pj::status::ok);
    }
    CHECK(pj::deliver(one_type, a_circle) == pj::handled);
    CHECK(traced().size() == 32);
    one_type.add("Circle", &by_hand, hand("h"), "33rd");
    CHECK(one_type.fault() == pj::status::table_full);
    audit a;
    one_type.add(a);
    CHECK(pj::deliver(one_type, a_circle) == pj::handled);
    CHECK(traced().size() == 32);
}

TEST_CASE("handler_map: the same name, number or handler twice") {
    const auto with = [](const pj::event_type& a, const pj::event_type& b, pj::text name) {
        pj::handler_map<4> map;
        map.add(a, &by_hand, nullptr).add(b, &by_hand, nullptr, name);
        return verdict_on(map);
    };
    CHECK(with({"A", pj::id{1}}, {"A", pj::id{1}}, "other") == pj::status::ok);
    CHECK(with({"A", pj::id{1}}, {"A", pj::id{1}}, {}) == pj::status::duplicate_handler);
    CHECK(with({"A", pj::id{1}}, {"A", pj::id{2}}, "other") == pj::status::duplicate_type);
    CHECK(with({"A", pj::id{1}}, {"B", pj::id{1}}, "other") == pj::status::duplicate_type);
    CHECK(with(pj::id{1}, {"B", pj::id{1}}, "other") == pj::status::duplicate_type);
    CHECK(with(pj::id{1}, pj::id{2}, "other") == pj::status::ok);
    CHECK(with("A", "B", {}) == pj::status::ok);

    pj::handler_map<4> first_stays;
    first_stays.add("A", &by_hand, nullptr).add("A", &by_hand, nullptr);
    for (const char* name : {"B", "C", "D", "E"}) first_stays.add(name, &by_hand, nullptr);
    CHECK(first_stays.fault() == pj::status::duplicate_handler);

    audit every;
    pj::handler_map<4> clash;
    clash.add(every);
    clash.add("A", &by_hand, nullptr, clash.find("Unknown")[0]);
    CHECK(clash.fault() == pj::status::duplicate_handler);
}

TEST_CASE("handler_map: a type without name and number, or with an endless name, is refused") {
    pj::handler_map<4> unnamed, endless;
    const std::string name(254, 'x');
    unnamed.add(pj::event_type{}, &by_hand, nullptr, "h");
    endless.add(pj::event_type(name), &by_hand, nullptr, "h");
    CHECK(unnamed.fault() != pj::status::ok);
    CHECK(endless.fault() != pj::status::ok);
    pj::handler_map<4> longest;
    longest.add(pj::event_type({name.data(), 253}), &by_hand, hand("long"), "h");
    CHECK(longest.fault() == pj::status::ok);
    CHECK(pj::deliver(longest, {0, pj::text(name.data(), 253)}) == pj::handled);
    CHECK(traced() == list{"long"});
}

TEST_CASE("handler_map and registry do the same with the same events") {
    drawing d;
    area a;
    audit e;
    motor m;
    pj::registry built{m, d, e, a};
    pj::handler_map<16> added;
    added.add(m).add(d).add(e).add(a);
    REQUIRE(added.fault() == pj::status::ok);
    pj::memory_log<2000, 60000> log;
    std::mt19937 random(7);
    const char* const names[] = {"Circle", "Square", "Quadrat", "Colour", "Unknown", ""};
    for (int i = 0; i < 2000; ++i) {
        const char* const payload = random() % 4 == 0 ? "broken" : "s";
        log.append(names[random() % 6], pj::text(payload), "one", random() % 9 == 0 ? 2u : 1u);
    }
    const auto outcome = [&](pj::routes to, pj::position replayed_through) {
        pj::memory_checkpoint_store<1> checkpoints;
        pj::checkpoint record;
        record.revision = 1;
        record.replayed_through = replayed_through;
        REQUIRE(checkpoints.save("both", record) == pj::status::ok);
        pj::projection p{"both", log, to, checkpoints};
        pj::worker w{p};
        REQUIRE(w.start() == pj::status::ok);
        while (w.tick(0).wait_ms == 0) {}
        CHECK(w.checkpointed() == 1999);
        const pj::counters c = w.counts();
        list all = traced();
        for (const pj::event_count n : {c.scanned, c.handled, c.unhandled, c.unknown, c.filtered,
                                        c.skipped, c.lettered, c.vanished, c.failed_calls}) {
            all.push_back(std::to_string(n));
        }
        return all;
    };
    for (const pj::position replayed : {pj::before_first, pj::position{700}, pj::position{5000}}) {
        CHECK(outcome(built, replayed) == outcome(added, replayed));
    }
}

namespace {
template<int I> struct listening {
    using handles = pj::live_only<pj::every_event>;
    static constexpr char handler_name[] = {'l', static_cast<char>('A' + I), '\0'};
    void on(const pj::stored_event&) { note("live"); }
};
struct one_of_three {
    using handles = pj::matching<pj::events<circle, colour, square>>;
    void on(const colour&) { note("colour"); }
};
} // namespace

TEST_CASE("handler_map: a handler of every event finds the routes that exist, each of them") {
    one_of_three typed;
    listening<0> every;
    pj::handler_map<4> map;
    map.add(typed).add(every);
    CHECK(map.fault() == pj::status::ok);
    const colour red{'r'};
    traced();
    CHECK(pj::deliver(map, pj::raw_event(0, red)) == pj::handled);
    CHECK(traced() == list{"colour", "live"});
    // live_only, added after the route of the type
    CHECK(pj::deliver(map, pj::raw_event(0, red), true) == pj::handled);
    CHECK(traced() == list{"colour"});

    SUBCASE("and one that is refused changes none of them") {
        map.add(every);
        CHECK(map.fault() == pj::status::duplicate_handler);
        CHECK(map.find(colour::type).size() == 2);
        CHECK(pj::deliver(map, pj::raw_event(0, red)) == pj::handled);
        CHECK(traced() == list{"colour", "live"});
    }
}

TEST_CASE("handler_map: 32 handlers of one type fit, those of every event included, no more") {
    const auto nothing = [](void*, const pj::stored_event&, const pj::context&) {
        return pj::handled;
    };
    const std::string names = "abcdefghijklmnopqrstuvwxyz0123456789";
    for (const size_t typed : {size_t{31}, size_t{32}}) {
        pj::handler_map<40> map;
        for (size_t i = 0; i < typed; ++i)
            map.add(circle::type, nothing, nullptr, pj::text(&names[i], 1));
        CHECK(map.fault() == pj::status::ok);
        listening<0> every;
        map.add(every);
        CHECK(map.fault() == (typed == 31 ? pj::status::ok : pj::status::table_full));
        CHECK(map.find(circle::type).size() == 32);
    }
}

TEST_CASE("handler_map: a type without a name and a number is no type") {
    pj::handler_map<4> map;
    map.add(pj::event_type{}, [](void*, const pj::stored_event&, const pj::context&) {
        return pj::handled; }, nullptr, "x");
    CHECK(map.fault() == pj::status::bad_type);
}

TEST_CASE("handler_map: a handler of every event needs another name than those of each type") {
    listening<0> every;
    pj::handler_map<4> map;
    map.add(circle::type, [](void*, const pj::stored_event&, const pj::context&) {
        return pj::handled; }, nullptr, "lA");
    map.add(every);
    CHECK(map.fault() == pj::status::duplicate_handler);
    CHECK(map.find(circle::type).size() == 1);
}

namespace {
struct stumbling {
    using handles = pj::events<colour>;
    pj::verdict says = pj::handled;
    pj::verdict on(const colour&) { return says; }
};
} // namespace

TEST_CASE("handler_map: what a typed handler answers is not lost, whoever else handles the event") {
    for (const pj::verdict v : {pj::fail(3), pj::reject(4), pj::pending, pj::handled}) {
        stumbling handler;
        handler.says = v;
        listening<0> every;
        pj::handler_map<4> map;
        map.add(handler).add(every);
        const colour red{'r'};
        CHECK(pj::deliver(map, pj::raw_event(0, red)) == v);
    }
}

namespace {
struct circle_too {     // another C++ type of the same event
    static constexpr pj::event_type type{"Circle"};
    static bool decode(const pj::stored_event&, circle_too&) { return true; }
};
void on_circle_too(const circle_too&) { note("too"); }
void on_colour(const colour&) { note("colour"); }

template<size_t N, size_t... I>
void add_listening(pj::handler_map<N>& map, std::index_sequence<I...>) {
    static std::tuple<listening<static_cast<int>(I)>...> all;
    (map.add(std::get<I>(all)), ...);
}
} // namespace

TEST_CASE("handler_map: full of handlers of one type, it takes no more and loses none") {
    pj::handler_map<2> map;
    map.add("A", &by_hand, hand("1"), "1").add("A", &by_hand, hand("2"), "2");
    CHECK(map.fault() == pj::status::ok);
    map.add("A", &by_hand, hand("3"), "3");
    CHECK(map.fault() == pj::status::table_full);
    CHECK(map.find("A").size() == 2);
    traced();
    CHECK(pj::deliver(map, {0, "A"}) == pj::handled);
    CHECK(traced() == list{"1", "2"});
}

TEST_CASE("handler_map: two C++ types for one event are refused") {
    pj::handler_map<4> map;
    map.add<circle>(free_function, "free").add<circle_too>(on_circle_too, "too");
    CHECK(map.fault() == pj::status::duplicate_type);
    CHECK(map.find("Circle").size() == 1);
    pj::handler_map<4> undecoded;       // but not beside one that takes it undecoded
    undecoded.add("Circle", &by_hand, hand("hand"), "hand").add<circle_too>(on_circle_too, "too");
    CHECK(undecoded.fault() == pj::status::ok);
}

TEST_CASE("handler_map: the first fault stays, whatever is added after it") {
    drawing d;
    audit every;
    pj::handler_map<2> full;
    full.add("A", &by_hand, nullptr, "1").add("B", &by_hand, nullptr, "2");
    full.add("C", &by_hand, nullptr, "3");
    REQUIRE(full.fault() == pj::status::table_full);
    full.add(pj::event_type("A", pj::id{99}), &by_hand, nullptr, "4");
    CHECK(full.fault() == pj::status::table_full);
    pj::handler_map<8> twice;
    twice.add("A", &by_hand, nullptr, "1").add("A", &by_hand, nullptr, "1");
    REQUIRE(twice.fault() == pj::status::duplicate_handler);
    twice.add(pj::event_type{}, &by_hand, nullptr, "x");
    CHECK(twice.fault() == pj::status::duplicate_handler);
    twice.add(every);
    CHECK(twice.fault() == pj::status::duplicate_handler);
    twice.add(d);
    CHECK(twice.fault() == pj::status::duplicate_handler);
}

TEST_CASE("handler_map: live_only in any place") {
    drawing d;
    motor m;
    area a;
    pj::handler_map<8> map;
    map.add(d).add(a).add(m).add<circle>(free_function, "free");
    traced();
    CHECK(pj::deliver(map, a_circle, true) == pj::handled);
    CHECK(traced() == list{"drawing circle", "area", "free"});
    CHECK(pj::deliver(map, a_circle) == pj::handled);
    CHECK(traced() == list{"drawing circle", "area", "motor", "free"});
}

namespace {
struct one_of_two {
    using handles = pj::matching<pj::events<circle, colour>>;
    void on(const colour&) { note("colour"); }
};
} // namespace

TEST_CASE("handler_map: handlers of every event and the routes that are full, clash or are new") {
    one_of_two typed;           // two routes, one handler
    listening<0> every;
    SUBCASE("as many routes and handlers as fit") {
        pj::handler_map<2> map;
        map.add(typed).add(every);
        CHECK(map.fault() == pj::status::ok);
        const colour red{'r'};
        traced();
        for (int i = 0; i < 2; ++i) {
            CHECK(pj::deliver(map, pj::raw_event(0, red)) == pj::handled);
            CHECK(traced() == list{"colour", "live"});
        }
        // A type that was known and handled by nobody is now handled, too.
        CHECK(pj::deliver(map, a_circle) == pj::handled);
        CHECK(traced() == list{"live"});
        REQUIRE(map.find("Circle").size() == 1);
        CHECK(map.find("Circle")[0] == "lA");
    }
    SUBCASE("all routes are there, and the first handler is a function") {
        one_of_three of_three;
        pj::handler_map<4> map;
        map.add<colour>(on_colour, "function").add(of_three).add(every);
        CHECK(map.fault() == pj::status::ok);
        CHECK(map.find("Unknown").size() == 1);
        CHECK(map.find("Colour").size() == 3);
        CHECK(map.find("Quadrat").size() == 1);
    }
    SUBCASE("a clash of names in a later route") {
        pj::handler_map<8> map;
        map.add(typed).add<colour>(on_colour, "lA");
        map.add(every);
        CHECK(map.fault() == pj::status::duplicate_handler);
        CHECK(map.find("Unknown").size() == 0);
        CHECK(map.find("Circle").size() == 0);
    }
    SUBCASE("a later route that is full") {
        const std::string names = "abcdefghijklmnopqrstuvwxyz0123456789";
        pj::handler_map<40> map;
        map.add(typed);
        for (size_t i = 1; i < 32; ++i) {
            map.add("Colour", &by_hand, hand("h"), pj::text(&names[i], 1));
            REQUIRE(map.fault() == pj::status::ok);
        }
        map.add(every);
        CHECK(map.fault() == pj::status::table_full);
        CHECK(map.find("Unknown").size() == 0);
    }
}

TEST_CASE("handler_map: 31 handlers of every event fit, and no more") {
    pj::handler_map<40> map;
    add_listening(map, std::make_index_sequence<31>());
    CHECK(map.fault() == pj::status::ok);
    CHECK(map.find("Unknown").size() == 31);
    traced();
    CHECK(pj::deliver(map, a_circle) == pj::handled);
    CHECK(traced().size() == 31);
    listening<31> last;
    map.add(last);
    CHECK(map.fault() == pj::status::table_full);
    CHECK(map.find("Unknown").size() == 31);
}

TEST_CASE("handler_map: the first answer that is not handled, before a payload that is broken") {
    for (const pj::verdict v : {pj::handled, pj::fail(3), pj::pending}) {
        drawing d;
        pj::verdict says = v;
        const auto answer = [](void* self, const pj::stored_event&, const pj::context&) {
            return *static_cast<pj::verdict*>(self);
        };
        pj::handler_map<4> map;
        map.add(circle::type, answer, &says, "hand").add(d);
        CHECK(pj::deliver(map, {0, "Circle", {"broken", 6}}) ==
              (v == pj::handled ? pj::reject() : v));
    }
}

TEST_CASE("G10 handler_map: a retry for a broken payload calls nobody who takes it undecoded") {
    drawing d;
    pj::handler_map<4> map;
    map.add("Circle", &by_hand, hand("hand"), "hand").add(d);
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection p{"broken", log, map, checkpoints};
    p.on_error = pj::error_policy::custom([](const pj::failure& f) {
        CHECK(f.kind == pj::failure_kind::decode);
        return f.attempts < 3 ? pj::decision::retry_after(10) : pj::decision::skip();
    });
    pj::worker w{p};
    log.append("Circle", {"broken", 6});
    REQUIRE(w.start() == pj::status::ok);
    traced();
    for (uint32_t now = 0; now < 100; now += 10) static_cast<void>(w.tick(now));
    CHECK(traced() == list{"hand"});
    CHECK(w.counts().failed_calls == 3);
    CHECK(w.counts().skipped == 1);
}

namespace {
/// Of every event, by name.
struct hearing {
    using handles = pj::every_event;
    const char* name = "";
    void on(const pj::stored_event&) { note(name); }
};
template<int I> struct heard : hearing {
    static constexpr char handler_name[] = {'E', static_cast<char>('0' + I), '\0'};
    heard() { name = handler_name; }
};
using five_hearing = std::tuple<heard<0>, heard<1>, heard<2>, heard<3>, heard<4>>;
template<size_t I> void on_circle(const circle&) {
    static constexpr char name[] = {'T', static_cast<char>('0' + I), '\0'};
    note(name);
}

/// A typed handler or one of every event at each of five places; the names in that order.
template<size_t... I>
list add_mixed(pj::handler_map<8>& map, five_hearing& every, unsigned pattern,
               std::index_sequence<I...>) {
    list names;
    const auto add = [&](auto& one, auto function, size_t i) {
        const std::string number = std::to_string(i);
        static const char* const typed[] = {"T0", "T1", "T2", "T3", "T4"};
        if ((pattern >> i & 1) != 0) map.add<circle>(function, typed[i]);
        else map.add(one);
        names.push_back(((pattern >> i & 1) != 0 ? "T" : "E") + number);
    };
    (add(std::get<I>(every), &on_circle<I>, I), ...);
    return names;
}
list named(pj::handler_list handlers) {
    list result;
    for (size_t i = 0; i < handlers.size(); ++i)
        result.emplace_back(handlers[i].begin(), handlers[i].end());
    return result;
}
} // namespace

TEST_CASE("handler_map: typed handlers and those of every event, in each order") {
    for (unsigned pattern = 0; pattern < 32; ++pattern) {
        CAPTURE(pattern);
        five_hearing every;
        pj::handler_map<8> map;
        const list names = add_mixed(map, every, pattern, std::make_index_sequence<5>());
        REQUIRE(map.fault() == pj::status::ok);
        list of_every;
        for (const std::string& name : names) {
            if (name[0] == 'E') of_every.push_back(name);
        }
        CHECK(named(map.find("Unknown")) == of_every);
        if (pattern != 0) CHECK(named(map.find("Circle")) == names);
        traced();
        for (const bool replaying : {false, true}) {
            CHECK(pj::deliver(map, a_circle, replaying) == pj::handled);
            CHECK(traced() == (pattern != 0 ? names : of_every));
        }
        CHECK(pj::deliver(map, {0, "Unknown"}) == pj::handled);
        CHECK(traced() == of_every);
        const pj::verdict broken = pj::deliver(map, {0, "Circle", {"broken", 6}});
        CHECK(broken == (pattern != 0 ? pj::reject() : pj::handled));
        CHECK(traced() == of_every);
    }
}

namespace {
struct tally {
    int members = 0, objects = 0, hands = 0;
    void member(const circle&) { ++members; }
    static pj::verdict by_hand(void* self, const pj::stored_event&, const pj::context&) {
        ++static_cast<tally*>(self)->hands;
        return pj::handled;
    }
};
void count_object(tally& of, const circle&) { ++of.objects; }
} // namespace

TEST_CASE("handler_map: functions are called with their object, for replayed events, too") {
    tally t;
    pj::handler_map<4> map;
    map.add<circle, &tally::member>(t, "1").add<circle, &count_object>(t, "2");
    map.add(circle::type, &tally::by_hand, &t, "3").add<circle>(free_function, "4");
    for (int i = 1; i <= 3; ++i) {
        traced();
        CHECK(pj::deliver(map, a_circle, i > 1) == pj::handled);
        CHECK(t.members == i);
        CHECK(t.objects == i);
        CHECK(t.hands == i);
        CHECK(traced() == list{"free"});
    }
}

namespace {
/// A second C++ type for events that `circle` stands for.
struct disc { static constexpr pj::event_type type{"Circle", pj::raw}; char c; };
struct of_discs {
    using handles = pj::events<disc>;
    void on(const disc&) { note("disc"); }
};
template<int N> struct ear {
    using handles = pj::every_event;
    static constexpr char handler_name[] = {'e', 'a', 'r', '0' + N / 10, '0' + N % 10, '\0'};
    void on(const pj::stored_event&) {}
};
template<class Map, int... N> void add_ears(Map& map, std::integer_sequence<int, N...>) {
    static std::tuple<ear<N>...> ears;
    (map.add(std::get<N>(ears)), ...);
}
} // namespace

TEST_CASE("handler_map: the first fault is the one that is told") {
    pj::handler_map<4> map;
    map.add(pj::event_type(pj::text()), nullptr, nullptr);
    REQUIRE(map.fault() == pj::status::bad_type);
    const auto hand = [](void*, const pj::stored_event&, const pj::context&) -> pj::verdict {
        return pj::handled;
    };
    map.add(pj::event_type("A", pj::id{1}), hand, nullptr, "first");
    map.add(pj::event_type("B", pj::id{1}), hand, nullptr, "second");
    CHECK(map.fault() == pj::status::bad_type);
}

TEST_CASE("handler_map: more handlers than it has room for") {
    of_discs first;
    audit every;
    pj::handler_map<1> map;
    map.add(first);
    REQUIRE(map.fault() == pj::status::ok);
    map.add(every);
    CHECK(map.fault() == pj::status::table_full);
    CHECK(map.find(disc::type).size() == 1);
}

TEST_CASE("handler_map: an event that two handlers want as two C++ types is refused") {
    drawing circles;
    of_discs discs;
    pj::handler_map<4> map;
    map.add(circles).add(discs);
    CHECK(map.fault() == pj::status::duplicate_type);
    CHECK(map.find(circle::type).size() == 1);
}

TEST_CASE("handler_map: at most 31 handlers of every event") {
    pj::handler_map<40> map;
    add_ears(map, std::make_integer_sequence<int, 31>{});
    CHECK(map.fault() == pj::status::ok);
    CHECK(map.find("Anything").size() == 31);
    audit one_more;
    map.add(one_more);
    CHECK(map.fault() == pj::status::table_full);
    CHECK(map.find("Anything").size() == 31);
}

namespace {
struct renamed {
    static constexpr pj::event_type type{"New", pj::raw};
    static constexpr pj::event_type also[] = {pj::event_type{"Old", pj::raw}};
    int32_t value = 0;
};
struct model { int sum = 0; void on_renamed(const renamed& e) { sum += e.value; } };
int free_sum = 0;
} // namespace

TEST_CASE("handler_map: an event that is added alone keeps the names it once had") {
    model m;
    const int32_t v = 7;
    pj::stored_event e;
    e.type = "Old";
    e.payload = {&v, sizeof v};
    SUBCASE("a member") {
        pj::handler_map<4> map;
        map.add<renamed, &model::on_renamed>(m);
        CHECK(map.find("Old").known());
        CHECK(pj::deliver(map, e) == pj::handled);
        CHECK(m.sum == 7);
    }
    SUBCASE("a function") {
        free_sum = 0;
        pj::handler_map<4> map;
        map.add<renamed>([](const renamed& one) { free_sum += one.value; });
        CHECK(map.find("Old").known());
        CHECK(pj::deliver(map, e) == pj::handled);
        CHECK(free_sum == 7);
    }
}

TEST_CASE("handler_map: a handler without a name of its own is called as the event is called today") {
    pj::handler_map<4> map;
    map.add<renamed>([](const renamed& one) { free_sum += one.value; });
    map.add("Raw", &by_hand, hand("raw"));
    CHECK(map.find("New")[0] == "New");
    CHECK(map.find("Old")[0] == "New");
    CHECK(map.find("Raw")[0] == "Raw");
}

TEST_CASE("handler_map: a function is called for a replayed event under its former name, too") {
    pj::handler_map<4> map;
    map.add<renamed>([](const renamed& one) { free_sum += one.value; });
    const int32_t v = 7;
    free_sum = 0;
    CHECK(pj::deliver(map, {0, "Old", {&v, sizeof v}}, true) == pj::handled);
    CHECK(free_sum == 7);
}

TEST_CASE("handler_map: one that is full says so, also of a handler that it has") {
    audit one;
    pj::handler_map<1> map;
    map.add(one);
    CHECK(map.fault() == pj::status::ok);
    map.add(one);
    CHECK(map.fault() == pj::status::table_full);
}
