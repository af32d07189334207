// >>handlers: registry: order, fan-out, names, find(), resumable by mask.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <string>
#include <utility>
#include <vector>
namespace pj = projections;

namespace {

struct ping {
    static constexpr pj::event_type type{"Ping", pj::raw};
    uint32_t n;
};
struct pong {
    static constexpr pj::event_type type{"Pong"};
    static inline int decoded = 0;
    static bool decode(const pj::stored_event&, pong&) {
        ++decoded;
        return true;
    }
};
struct silent { static constexpr pj::event_type type{"Silent", pj::raw}; uint32_t n; };

/// Writes its number down, then answers what it was told.
template<int I, class Handles = pj::events<ping, pong>> struct numbered {
    using handles = Handles;
    std::vector<int>* order;
    pj::verdict answer = pj::handled;
    explicit numbered(std::vector<int>& list) : order(&list) {}
    pj::verdict on(const ping&) { return note(); }
    pj::verdict on(const pong&) { return note(); }
    pj::verdict on(const pj::stored_event&) { return note(); }
    pj::verdict note() {
        order->push_back(I);
        return answer;
    }
};
template<int I> using every = numbered<I, pj::every_event>;

struct first {
    using handles = pj::events<ping>;
    static constexpr char handler_name[] = "the first";
    void on(const ping&) {}
};
struct second {
    using handles = pj::matching<pj::events<ping, silent>>;
    static constexpr pj::text handler_name{"the second"};
    void on(const ping&) {}
};

using list = std::vector<int>;
const ping one_ping{1};
const pj::stored_event a_ping = pj::raw_event(0, one_ping);

} // namespace

TEST_CASE("an event reaches all its handlers in the order given") {
    list order;
    numbered<1> a(order);
    every<2> b(order);
    numbered<3, pj::events<pong>> c(order);
    numbered<4> d(order);
    every<5> e(order);
    pj::registry all{a, b, c, d, e};
    CHECK(pj::deliver(all, a_ping) == pj::handled);
    CHECK(order == list{1, 2, 4, 5});
    order.clear();
    CHECK(pj::deliver(all, {1, "Pong"}) == pj::handled);
    CHECK(order == list{1, 2, 3, 4, 5});
    order.clear();
    CHECK(pj::deliver(all, {2, "Unknown"}) == pj::handled);
    CHECK(order == list{2, 5});
}

TEST_CASE("each event is decoded once, however many want it") {
    list order;
    numbered<1> a(order);
    numbered<2> b(order);
    numbered<3> c(order);
    pj::registry all{a, b, c};
    pong::decoded = 0;
    CHECK(pj::deliver(all, {0, "Pong"}) == pj::handled);
    CHECK(pong::decoded == 1);
    CHECK(order.size() == 3);
}

TEST_CASE("a failing handler does not keep its siblings from running") {
    list order;
    numbered<1> a(order);
    numbered<2> b(order);
    numbered<3> c(order);
    a.answer = pj::reject(1);
    b.answer = pj::fail(2);
    pj::registry all{a, b, c};
    CHECK(pj::deliver(all, a_ping) == pj::reject(1));       // the first trouble
    CHECK(order == list{1, 2, 3});
}

TEST_CASE("a registry is resumed at the handlers that are still to run") {
    list order;
    numbered<0> a(order);
    every<1> b(order);
    numbered<2> c(order);
    pj::registry all{a, b, c};
    pj::memory_log<4, 256> log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection p{"resume", log, all, checkpoints};
    pj::worker w{p};
    log.append(ping{1});
    a.answer = c.answer = pj::pending;
    REQUIRE(w.start() == pj::status::ok);
    CHECK(w.tick(0).wait_ms == 10);
    CHECK(order == list{0, 1, 2});
    order.clear();
    c.answer = pj::handled;
    CHECK(w.tick(10).reason == pj::status::pending);
    CHECK(order == list{0, 2});
    order.clear();
    a.answer = pj::handled;
    CHECK(w.tick(20).scanned == 1);
    CHECK(order == list{0});
    CHECK(w.counts().handled == 1);
}

TEST_CASE("find() names the handlers; nobody differs from unknown") {
    first f;
    second s;
    pj::registry all{f, s};
    REQUIRE(all.find("Ping").size() == 2);
    CHECK(all.find("Ping")[0] == "the first");
    CHECK(all.find("Ping")[1] == "the second");
    CHECK(all.find(ping::type).size() == 2);
    CHECK(all.find(pj::id{ping::type.number()}).size() == 2);
    CHECK(all.find("Silent").known());
    CHECK(all.find("Silent").size() == 0);
    CHECK_FALSE(all.find("Loud").known());
    CHECK(all.find("Loud").size() == 0);
    CHECK_FALSE(all.find({}).known());
}

TEST_CASE("the handlers of every event are part of what find() tells") {
    list order;
    every<1> a(order);
    numbered<2, pj::events<ping>> b(order);
    pj::registry all{a, b};
    CHECK(all.find("Ping").size() == 2);
    CHECK(all.find("Ping")[1] == pj::routes(b).find("Ping")[0]);
    CHECK(all.find("Unknown").size() == 1);
    CHECK_FALSE(all.find("Unknown").known());
    CHECK(all.find("Unknown")[0] == pj::routes(a).find("Unknown")[0]);
}

namespace handler_names {
struct plain {
    using handles = pj::events<ping>;
    void on(const ping&) {}
};
template<class T, int N> struct generic : plain {
    void on(const ping&) {}
};
} // namespace handler_names

TEST_CASE("without a handler_name the class's own is taken") {
    handler_names::plain p;
    handler_names::generic<int, 7> g;
    handler_names::generic<std::vector<handler_names::plain>, 7> h;
    CHECK(pj::routes(p).find("Ping")[0] == "handler_names::plain");
    const pj::text generic = pj::routes(g).find("Ping")[0];
    CHECK(std::string(generic.data(), generic.size()).find("handler_names::generic<int, 7") == 0);
    CHECK(*(generic.end() - 1) == '>');
    CHECK(pj::routes(h).find("Ping")[0] != generic);
}

namespace {

/// I, I + 1, ... of one class template as one registry.
template<size_t... I> struct crowd {
    list order;
    struct member_set : numbered<static_cast<int>(I)>... {
        explicit member_set(list& l) : numbered<static_cast<int>(I)>(l)... {}
    } members{order};
    pj::registry<numbered<static_cast<int>(I)>...> all{
        static_cast<numbered<static_cast<int>(I)>&>(members)...};
};
template<size_t... I> crowd<I...> crowd_of(std::index_sequence<I...>);
template<size_t N> using crowd_to = decltype(crowd_of(std::make_index_sequence<N>()));

/// Forty classes, each with an event of its own and all with every fifth.
template<int I> struct own {
    static constexpr pj::event_type type{pj::id{1000 + I}, pj::raw};
    char c;
};
template<int I> struct one_of_forty {
    using handles = pj::events<own<I>, own<100 + I % 5>>;
    int mine = 0, ours = 0;
    void on(const own<I>&) { ++mine; }
    void on(const own<100 + I % 5>&) { ++ours; }
};
template<size_t... I> struct forty : one_of_forty<static_cast<int>(I)>... {
    pj::registry<one_of_forty<static_cast<int>(I)>...> all{
        static_cast<one_of_forty<static_cast<int>(I)>&>(*this)...};
    int mine() const { return (0 + ... + one_of_forty<static_cast<int>(I)>::mine); }
    int ours() const { return (0 + ... + one_of_forty<static_cast<int>(I)>::ours); }
};
template<size_t... I> forty<I...> forty_of(std::index_sequence<I...>);

} // namespace

TEST_CASE("32 handlers of one event: all called, the last one's bit included") {
    crowd_to<32> c;
    CHECK(c.all.find("Ping").size() == 32);
    CHECK(pj::deliver(c.all, a_ping) == pj::handled);
    REQUIRE(c.order.size() == 32);
    for (int i = 0; i < 32; ++i) CHECK(c.order[static_cast<size_t>(i)] == i);

    pj::memory_log<4, 256> log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection p{"crowd", log, c.all, checkpoints};
    p.on_error = pj::error_policy::retry(1);
    pj::worker w{p};
    log.append(ping{1});
    c.order.clear();
    static_cast<numbered<31>&>(c.members).answer = pj::fail();
    REQUIRE(w.start() == pj::status::ok);
    const uint32_t wait_ms = w.tick(0).wait_ms;
    CHECK(c.order.size() == 32);
    c.order.clear();
    static_cast<void>(w.tick(wait_ms));
    CHECK(c.order == list{31});
    CHECK(w.state() == pj::run_state::halted);
    CHECK(w.last_failure().attempts == 2);
    CHECK(w.last_failure().handler == c.all.find("Ping")[31]);
}

TEST_CASE("40 handler classes in one registry") {
    decltype(forty_of(std::make_index_sequence<40>())) h;
    const char payload = 'x';
    for (uint32_t i = 0; i < 40; ++i) {
        CHECK(pj::deliver(h.all, {0, pj::id{1000 + i}, {&payload, 1}}) == pj::handled);
        CHECK(h.mine() == static_cast<int>(i + 1));
    }
    CHECK(h.ours() == 0);
    for (uint32_t i = 0; i < 5; ++i) {
        CHECK(h.all.find(pj::id{1100 + i}).size() == 8);
        CHECK(pj::deliver(h.all, {0, pj::id{1100 + i}, {&payload, 1}}) == pj::handled);
    }
    CHECK(h.ours() == 40);
    CHECK(h.mine() == 40);
}

TEST_CASE("the handlers of every event are named wherever they stand") {
    list order;
    first f;
    every<2> all_events(order);
    pj::registry all{f, all_events};
    const pj::text name = pj::routes(all_events).find("Unknown")[0];
    CHECK(all.find("Unknown").size() == 1);
    CHECK(all.find("Unknown")[0] == name);
    CHECK(all.find("Ping").size() == 2);
    CHECK(all.find("Ping")[0] == "the first");
    CHECK(all.find("Ping")[1] == name);
}

namespace {
first of_flash;
/// It is written once, by the compiler, and so may be its description.
constexpr pj::registry in_flash{of_flash};
constexpr pj::routes of_constant{in_flash};
} // namespace

TEST_CASE("a registry may be const") {
    CHECK(pj::deliver(of_constant, a_ping) == pj::handled);
    CHECK(in_flash.find("Ping").size() == 1);
    CHECK(in_flash.find("Ping")[0] == "the first");
    list order;
    numbered<1> one{order};
    every<2> all{order};
    const pj::registry both{one, all};
    CHECK(pj::deliver(both, a_ping) == pj::handled);
    CHECK(order == list{1, 2});
}
