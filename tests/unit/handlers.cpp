// >>handlers: which on() is called, with what, and what its answer means.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <initializer_list>
namespace pj = projections;

namespace {

struct order_event { uint32_t order; };
struct created : order_event {
    static constexpr pj::event_type type{"Created", pj::raw};
    uint32_t cents;
};
struct shipped : order_event { static constexpr pj::event_type type{"Shipped", pj::raw}; };
struct packed : order_event { static constexpr pj::event_type type{"Packed", pj::raw}; };
struct weather {
    static constexpr pj::event_type type{"Weather", pj::raw};
    static constexpr pj::event_type also[]{{"Meteo"}, {"Wx", pj::id{77}}};
    uint32_t degrees;
};
using catalogue = pj::events<created, shipped, packed, weather>;

template<class E> pj::verdict give(pj::routes to, const E& event, bool replaying = false) {
    return pj::deliver(to, pj::raw_event(0, event), replaying);
}

/// The exact on() is preferred, the parent's takes the rest, weather is known but not handled.
struct by_parent {
    using handles = pj::matching<catalogue>;
    uint32_t exact = 0, others = 0;
    void on(const created&) { ++exact; }
    void on(const order_event&) { ++others; }
};
/// The same where one of the two wants the context, and the other way round.
struct by_parent_with_context {
    using handles = pj::matching<catalogue>;
    uint32_t exact = 0, others = 0;
    void on(const created&) { ++exact; }
    void on(const order_event&, const pj::context&) { ++others; }
};
struct exact_with_context {
    using handles = pj::matching<catalogue>;
    uint32_t exact = 0, others = 0;
    void on(const created&, const pj::context&) { ++exact; }
    void on(const order_event&) { ++others; }
};

template<class P> void check_parent_fallback() {
    P p;
    CHECK(give(p, created{{1}, 2}) == pj::handled);
    CHECK(give(p, shipped{{1}}) == pj::handled);
    CHECK(give(p, packed{{1}}) == pj::handled);
    CHECK(give(p, weather{1}) == pj::handled);
    CHECK(p.exact == 1);
    CHECK(p.others == 2);
    CHECK(pj::routes(p).find("Weather").known());
    CHECK(pj::routes(p).find("Weather").size() == 0);
    CHECK_FALSE(pj::routes(p).find("Wether").known());
}

struct with_context {
    using handles = pj::events<created>;
    uint32_t attempt = 0;
    bool replaying = true, resumed = true;
    pj::text aggregate;
    uint64_t token = 1;
    void on(const created& e, const pj::context& ctx) {
        attempt = ctx.attempt;
        replaying = ctx.replaying;
        resumed = ctx.resumed;
        token = ctx.fencing_token;
        if (e.cents == ctx.event.payload.size()) aggregate = ctx.event.aggregate_id;
        ctx.waker.wake();       // outside an engine: nothing happens
    }
};

/// All three kinds of answer.
struct answering {
    using handles = pj::events<created, shipped, packed>;
    pj::verdict next = pj::handled;
    pj::status next_status = pj::status::ok;
    uint32_t calls = 0;
    void on(const created&) { ++calls; }
    pj::status on(const shipped&) { return next_status; }
    pj::verdict on(const packed&) { return next; }
};

template<class Handles> struct observing {
    using handles = Handles;
    uint32_t calls = 0;
    void on(const created&) { ++calls; }
};
struct everything {
    using handles = pj::every_event;
    uint32_t calls = 0;
    pj::text last;
    void on(const pj::stored_event& e) {
        ++calls;
        last = e.type.name();
    }
};
struct everything_live {
    using handles = pj::live_only<pj::every_event>;
    uint32_t calls = 0;
    pj::verdict on(const pj::stored_event&, const pj::context&) {
        ++calls;
        return pj::handled;
    }
};
struct forecast {
    using handles = pj::events<weather>;
    uint32_t degrees = 0;
    void on(const weather& e) { degrees = e.degrees; }
};

} // namespace

TEST_CASE("matching: exact before parent, known but not handled") {
    check_parent_fallback<by_parent>();
    check_parent_fallback<by_parent_with_context>();
    check_parent_fallback<exact_with_context>();
}

TEST_CASE("a context says what is known of the call") {
    with_context p;
    const created e{{1}, sizeof(created)};
    CHECK(pj::deliver(p, pj::raw_event(0, e, "order-1")) == pj::handled);
    CHECK(p.attempt == 1);
    CHECK_FALSE(p.replaying);
    CHECK_FALSE(p.resumed);
    CHECK(p.token == 0);
    CHECK(p.aggregate == "order-1");
    CHECK(give(p, e, true) == pj::handled);
    CHECK(p.replaying);
}

TEST_CASE("answers: nothing, a status, a verdict") {
    answering p;
    CHECK(give(p, created{}) == pj::handled);
    CHECK(p.calls == 1);
    CHECK(give(p, shipped{}) == pj::handled);
    p.next_status = pj::status::pending;
    CHECK(give(p, shipped{}) == pj::pending);
    p.next_status = pj::status::conflict;
    CHECK(give(p, shipped{}) == pj::fail(static_cast<uint32_t>(pj::status::conflict)));
    for (const pj::verdict v :
         {pj::handled, pj::pending, pj::pending_for(7), pj::fail(3), pj::reject(4)}) {
        p.next = v;
        CHECK(give(p, packed{}) == v);
    }
}

namespace {
/// Ways to write an on(), usual and less so.
struct written_in_other_ways {
    using handles = pj::events<created, shipped, packed, weather>;
    mutable uint32_t as_const = 0;
    uint32_t as_noexcept = 0, by_value = 0, with = 0, without = 0;
    void on(const created&) const { ++as_const; }
    pj::status on(const shipped&) noexcept {
        ++as_noexcept;
        return pj::status::ok;
    }
    void on(packed) { ++by_value; }
    void on(const weather&) { ++without; }
    pj::verdict on(const weather&, const pj::context&) {
        ++with;
        return pj::reject(5);
    }
};
struct for_any_event {
    using handles = pj::events<created, shipped>;
    uint32_t sizes = 0;
    template<class E> auto on(const E& e) {     // E::order: of no other type can this be made
        sizes += e.order;
        return pj::pending;
    }
};
struct inheriting : answering { using answering::on; };
/// Called as the language calls them: the last override.
struct overridable {
    using handles = pj::events<created, shipped, packed, weather>;
    overridable() = default;
    overridable(const overridable&) = delete;
    overridable& operator=(const overridable&) = delete;
    virtual void on(const created&) {}
    virtual pj::status on(const shipped&) { return pj::status::ok; }
    virtual void on(const packed&, const pj::context&) {}
    virtual pj::verdict on(const weather&, const pj::context&) { return pj::handled; }

protected:
    ~overridable() = default;
};
struct overriding final : overridable {
    uint32_t calls = 0;
    void on(const created&) override { ++calls; }
    pj::status on(const shipped&) override {
        ++calls;
        return pj::status::pending;
    }
    void on(const packed&, const pj::context&) override { ++calls; }
    pj::verdict on(const weather&, const pj::context&) override {
        ++calls;
        return pj::reject(8);
    }
};
} // namespace

TEST_CASE("an on() may be const, noexcept, virtual, a template, inherited, or take a copy") {
    written_in_other_ways p;
    CHECK(give(p, created{}) == pj::handled);
    CHECK(give(p, shipped{}) == pj::handled);
    CHECK(give(p, packed{}) == pj::handled);
    CHECK(p.as_const == 1);
    CHECK(p.as_noexcept == 1);
    CHECK(p.by_value == 1);
    for_any_event any;
    CHECK(give(any, created{{3}, 0}) == pj::pending);
    CHECK(give(any, shipped{{4}}) == pj::pending);
    CHECK(any.sizes == 7);
    overriding last;
    overridable& base = last;
    CHECK(give(base, created{}) == pj::handled);
    CHECK(give(base, shipped{}) == pj::pending);
    CHECK(give(base, packed{}) == pj::handled);
    CHECK(give(base, weather{}) == pj::reject(8));
    CHECK(last.calls == 4);
    inheriting heir;
    heir.next = pj::fail(6);
    CHECK(give(heir, created{}) == pj::handled);
    CHECK(give(heir, packed{}) == pj::fail(6));
    CHECK(heir.calls == 1);
}

namespace {
/// A copy of the event itself comes before a parent's on(), whichever of them wants a context.
struct own_copy {
    using handles = pj::events<created>;
    uint32_t own = 0, parents = 0;
    void on(created) { ++own; }
    void on(const order_event&, const pj::context&) { ++parents; }
};
struct own_copy_with_context {
    using handles = pj::events<created>;
    uint32_t own = 0, parents = 0;
    void on(created, const pj::context&) { ++own; }
    void on(const order_event&) { ++parents; }
};
/// The one that wants to know more is not of a usual form.
struct const_with_context {
    using handles = pj::events<created>;
    mutable uint32_t with = 0, without = 0;
    void on(const created&) { ++without; }
    void on(const created&, const pj::context&) const { ++with; }
};
struct inherited_with_context : const_with_context {
    using const_with_context::on;
    void on(const created&) { without += 100; }
};
/// Listed, and handled by nobody: of such an event only the name is wanted.
struct undecodable { static constexpr pj::event_type type{"Undecodable"}; };
struct of_some {
    using handles = pj::matching<pj::events<created, undecodable>>;
    uint32_t calls = 0;
    void on(const created&) { ++calls; }
};
} // namespace

TEST_CASE("an on() that takes a copy of the event comes before a parent's") {
    own_copy copy;
    CHECK(give(copy, created{}) == pj::handled);
    CHECK(copy.own == 1);
    own_copy_with_context with;
    CHECK(give(with, created{}) == pj::handled);
    CHECK(with.own == 1);
    CHECK(copy.parents + with.parents == 0);
}

TEST_CASE("an event that nobody takes needs no decode()") {
    of_some some;
    pj::stored_event one;
    one.type = "Undecodable";
    CHECK(pj::deliver(some, one) == pj::handled);
    CHECK(pj::routes(some).find("Undecodable").known());
    CHECK(pj::routes(some).find("Undecodable").size() == 0);
    pj::handler_map<4> map;
    map.add(some);
    CHECK(map.fault() == pj::status::ok);
    CHECK(map.find("Undecodable").known());
}

TEST_CASE("of an on() with a context and one without, the one with it is called") {
    written_in_other_ways p;
    CHECK(give(p, weather{}) == pj::reject(5));
    CHECK(p.with == 1);
    CHECK(p.without == 0);
    const_with_context other;
    CHECK(give(other, created{}) == pj::handled);
    CHECK(other.with == 1);
    inherited_with_context heir;
    CHECK(give(heir, created{}) == pj::handled);
    CHECK(heir.with == 1);
    CHECK(other.without + heir.without == 0);
}

#if PROJECTIONS_EXCEPTIONS
namespace {
struct throwing {
    using handles = pj::events<created, shipped>;
    void on(const created&) { throw 1; }
    pj::verdict on(const shipped&) { throw "two"; }
};
struct decode_throws {
    static constexpr pj::event_type type{"DecodeThrows"};
    static bool decode(const pj::stored_event&, decode_throws&) { throw 1; }
};
struct of_decode_throws {
    using handles = pj::events<decode_throws>;
    void on(const decode_throws&) {}
};
} // namespace

TEST_CASE("what a handler throws is a failure with its own code") {
    throwing p;
    CHECK(give(p, created{}) == pj::fail(pj::code_thrown));
    CHECK(give(p, shipped{}) == pj::fail(pj::code_thrown));
    CHECK(pj::deliver(p, created{}) == pj::fail(pj::code_thrown));
    pj::handler_map<4> map;
    map.add(p);
    const created one{};
    const shipped other{};
    CHECK(pj::deliver(map, pj::raw_event(0, one)) == pj::fail(pj::code_thrown));
    CHECK(pj::deliver(map, pj::raw_event(1, other)) == pj::fail(pj::code_thrown));
    of_decode_throws d;
    CHECK(pj::deliver(d, {0, "DecodeThrows"}) == pj::reject());
}
#endif

TEST_CASE("live_only in each of its forms is silent while replaying") {
    observing<pj::live_only<created>> listed;
    observing<pj::live_only<pj::events<created>>> list;
    observing<pj::live_only<pj::matching<catalogue>>> matching;
    everything_live every;
    for (const bool replaying : {true, false, true}) {
        CHECK(give(listed, created{}, replaying) == pj::handled);
        CHECK(give(list, created{}, replaying) == pj::handled);
        CHECK(give(matching, created{}, replaying) == pj::handled);
        CHECK(give(every, created{}, replaying) == pj::handled);
    }
    CHECK(listed.calls == 1);
    CHECK(list.calls == 1);
    CHECK(matching.calls == 1);
    CHECK(every.calls == 1);
}

TEST_CASE("the short form of deliver() keeps live_only silent too") {
    observing<pj::live_only<created>> live;
    observing<pj::events<created>> always;
    CHECK(pj::deliver(live, created{}, {}, true) == pj::handled);
    CHECK(pj::deliver(always, created{}, {}, true) == pj::handled);
    CHECK(live.calls == 0);
    CHECK(always.calls == 1);
    CHECK(pj::deliver(live, created{}) == pj::handled);
    CHECK(live.calls == 1);
}

TEST_CASE("every_event: unknown and undecodable ones too") {
    everything p;
    CHECK(pj::deliver(p, {0, "Unknown"}) == pj::handled);
    CHECK(p.last == "Unknown");
    CHECK(pj::deliver(p, {0, "Created", {"x", 1}}) == pj::handled);
    CHECK(pj::deliver(p, {0, pj::id{5}}) == pj::handled);
    CHECK(pj::deliver(p, {}) == pj::handled);
    CHECK(p.calls == 4);
}

TEST_CASE("an event keeps the names it once had") {
    forecast p;
    const weather w{21};
    for (const pj::type_key key : {pj::type_key("Weather"), pj::type_key("Meteo"),
                                   pj::type_key("Wx"), pj::type_key(pj::id{77})}) {
        p.degrees = 0;
        CHECK(pj::deliver(p, {0, key, {&w, sizeof w}}) == pj::handled);
        CHECK(p.degrees == 21);
    }
    CHECK(pj::routes(p).find("Meteo").size() == 1);
}

TEST_CASE("what cannot be decoded is rejected, what is not known is nobody's") {
    by_parent p;
    CHECK(pj::deliver(p, {0, "Created", {"x", 1}}) == pj::reject());
    CHECK(pj::deliver(p, {0, "Created"}) == pj::reject());
    CHECK(pj::deliver(p, {0, "Nobody"}) == pj::handled);
    CHECK(pj::deliver(p, {}) == pj::handled);
    CHECK(p.exact + p.others == 0);
}

namespace {
/// For what has no on() of its own there is a template; whatever the own one answers or takes, and
/// wherever it is found, it comes first.
struct with_catch_all {
    using handles = pj::events<created, shipped, packed, weather>;
    uint32_t own = 0, rest = 0;
    static inline uint32_t own_static = 0;
    pj::status on(const created&) {
        ++own;
        return pj::status::ok;
    }
    void on(shipped) { ++own; }
    static void on(const packed&) { ++own_static; }
    template<class E> void on(const E&) { ++rest; }
};
struct with_catch_all_and_context {
    using handles = pj::events<created, shipped, packed>;
    uint32_t own = 0, rest = 0;
    pj::verdict on(const created&, const pj::context&) {
        ++own;
        return pj::handled;
    }
    void on(const shipped&) { ++own; }
    template<class E> void on(const E&, const pj::context&) { ++rest; }
};
/// What it answers is told by the body.
struct with_catch_all_of_any_answer {
    using handles = pj::events<created, shipped>;
    uint32_t own = 0, rest = 0;
    void on(const created&) { ++own; }
    template<class E> auto on(const E& e) {
        rest += e.order;        // of no other type can this be made
        return pj::pending;
    }
};
} // namespace

TEST_CASE("an on() that is no template comes before one that is") {
    with_catch_all p;
    with_catch_all::own_static = 0;
    CHECK(give(p, created{}) == pj::handled);
    CHECK(give(p, shipped{}) == pj::handled);
    CHECK(give(p, packed{}) == pj::handled);
    CHECK(p.own == 2);
    CHECK(with_catch_all::own_static == 1);
    CHECK(p.rest == 0);
    CHECK(give(p, weather{}) == pj::handled);
    CHECK(p.rest == 1);
    with_catch_all_and_context c;
    CHECK(give(c, created{}) == pj::handled);
    CHECK(give(c, shipped{}) == pj::handled);
    CHECK(c.own == 2);
    CHECK(give(c, packed{}) == pj::handled);
    CHECK(c.rest == 1);
    with_catch_all_of_any_answer a;
    CHECK(give(a, created{}) == pj::handled);
    CHECK(give(a, shipped{{4}}) == pj::pending);
    CHECK(a.own == 1);
    CHECK(a.rest == 4);
}

namespace {
/// Copies, where g++ needs another question than for a reference.
struct const_copy {
    using handles = pj::events<created>;
    mutable uint32_t calls = 0;
    void on(created) const { ++calls; }
};
struct const_copy_with_context {
    using handles = pj::events<created>;
    mutable uint32_t calls = 0;
    void on(created, const pj::context&) const { ++calls; }
};
struct static_copy {
    using handles = pj::events<created>;
    static inline uint32_t calls = 0;
    static void on(created) { ++calls; }
};
struct heir_of_copy : own_copy {};
} // namespace

TEST_CASE("a copy of the event may be taken by an on() that is const, static or inherited") {
    const_copy constant;
    const_copy_with_context with;
    static_copy none;
    heir_of_copy heir;
    static_copy::calls = 0;
    CHECK(give(constant, created{}) == pj::handled);
    CHECK(give(with, created{}) == pj::handled);
    CHECK(give(none, created{}) == pj::handled);
    CHECK(give(heir, created{}) == pj::handled);
    CHECK(constant.calls == 1);
    CHECK(with.calls == 1);
    CHECK(static_copy::calls == 1);
    CHECK(heir.own == 1);
    CHECK(heir.parents == 0);
}

namespace {
namespace crowded {
/// Functions of the user's that are called as ours are: nobody but their author calls them.
uint32_t called = 0;
template<class... A> pj::verdict call_on(A&&...) {
    ++called;
    return pj::reject(1);
}
template<class P, class E, class With> pj::verdict call_on(P&, const E&, With&&) {
    ++called;
    return pj::reject(2);
}
template<class E, uint32_t Version, class... A> bool decode_version(A&&...) {
    ++called;
    return false;
}
struct older {
    static constexpr pj::event_type type{"Crowded", pj::raw};
    uint32_t value;
};
struct event {
    static constexpr pj::event_type type{"Crowded", pj::raw, pj::schema{2}};
    using previous = older;
    void upcast(const older& old) { value = old.value + uint64_t{1}; }
    uint64_t value;
};
struct handler {
    using handles = pj::events<event>;
    mutable uint64_t sum = 0;
    void on(const event& e) const { sum += e.value; }
};
} // namespace crowded
/// A member of the user's is no name that we look for.
struct with_a_field {
    using handles = pj::events<created>;
    const char* handler_name = "mine";
    uint32_t calls = 0;
    void on(const created&) { ++calls; }
};
} // namespace

TEST_CASE("functions and fields of the user's may be called as ours are") {
    crowded::handler p;
    pj::registry all{p};
    pj::handler_map<1> map;
    map.add(p);
    const crowded::event now{2};
    const crowded::older then{3};
    for (const pj::routes to : {pj::routes(p), pj::routes(all), pj::routes(map)}) {
        CHECK(give(to, now) == pj::handled);
        CHECK(give(to, then) == pj::handled);
    }
    CHECK(pj::deliver(p, now) == pj::handled);
    CHECK(p.sum == 3 * (2 + 4) + 2);
    CHECK(crowded::called == 0);
    with_a_field field;
    CHECK(give(field, created{}) == pj::handled);
    CHECK(field.calls == 1);
    CHECK(pj::routes(field).find("Created")[0] != "mine");
}

TEST_CASE("deliver(): an event of a catalogue that nobody takes is handled by nobody") {
    by_parent p;
    CHECK(pj::deliver(p, created{}) == pj::handled);
    CHECK(pj::deliver(p, packed{}) == pj::handled);
    CHECK(pj::deliver(p, weather{}) == pj::handled);
    CHECK(p.exact == 1);
    CHECK(p.others == 1);
}
