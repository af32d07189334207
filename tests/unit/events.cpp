// >>events: how a C++ type is found in the log and decoded.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <stdio.h>
#include <string.h>
#include <initializer_list>
namespace pj = projections;

namespace {

/// "7:4999" -> 7 and 4999; false for anything else.
bool two_numbers(pj::text in, unsigned& first, unsigned& second) {
    char copy[32]{};
    if (in.size() >= sizeof copy || in.empty()) return false;
    memcpy(copy, in.data(), in.size());
    char rest = 0;
    return sscanf(copy, "%u:%u%c", &first, &second, &rest) == 2;
}

pj::stored_event stored(pj::type_key type, pj::text payload, uint32_t version = 1) {
    return {0, type, {payload.data(), payload.size()}, {}, version, pj::no_key, 0, nullptr};
}

struct by_member {
    static constexpr pj::event_type type{"ByMember"};
    unsigned order = 0, cents = 0;
    static bool decode(const pj::stored_event& in, by_member& out) {
        return two_numbers(in.payload.text(), out.order, out.cents);
    }
};

namespace warehouse {
struct counted {
    static constexpr pj::event_type type{"Counted"};
    unsigned item = 0, pieces = 0;
};
struct moved {
    static constexpr pj::event_type type{"Moved"};
    unsigned from = 0, to = 0;
};
bool parse(pj::text in, counted& out) { return two_numbers(in, out.item, out.pieces); }
bool parse(pj::text in, moved& out) { return two_numbers(in, out.from, out.to); }
template<class E> bool decode_event(const pj::stored_event& in, E& out) {
    return parse(in.payload.text(), out);
}
/// Its own decode() comes before the namespace's.
struct special : counted {
    static constexpr pj::event_type type{"Special"};
    static bool decode(const pj::stored_event&, special& out) {
        out.item = 99;
        return true;
    }
};
} // namespace warehouse

struct packed {
    static constexpr pj::event_type type{"Packed", pj::raw};
    uint32_t order;
};

/// `type` is one of its own fields.
struct tagged {
    static constexpr pj::event_type event_name{"Tagged", pj::raw, pj::schema{2}};
    uint32_t type;
};

/// Three versions: the first is no event of today, the second has its own name and decode().
struct account_v1 {
    unsigned euros = 0, unused = 0;
    static bool decode(const pj::stored_event& in, account_v1& out) {
        return two_numbers(in.payload.text(), out.euros, out.unused);
    }
};
struct account_v2 {
    static constexpr pj::event_type type{"Account", pj::schema{2}};
    using previous = account_v1;
    unsigned cents = 0, unused = 0;
    void upcast(const account_v1& old) { cents = old.euros * 100; }
    static bool decode(const pj::stored_event& in, account_v2& out) {
        return two_numbers(in.payload.text(), out.cents, out.unused);
    }
};
struct account_v3 {
    static constexpr pj::event_type type{"Account", pj::schema{3}};
    using previous = account_v2;
    unsigned cents = 0, currency = 0;
    void upcast(const account_v2& old) {
        cents = old.cents;
        currency = 978;
    }
    static bool decode(const pj::stored_event& in, account_v3& out) {
        return two_numbers(in.payload.text(), out.cents, out.currency);
    }
};

/// The same with raw payloads: each version has the type of its time.
struct level_v1 {
    static constexpr pj::event_type type{"Level", pj::raw};
    uint16_t value;
};
struct level {
    static constexpr pj::event_type type{"Level", pj::raw, pj::schema{2}};
    using previous = level_v1;
    uint32_t value;
    void upcast(const level_v1& old) { value = old.value; }
};

/// No `previous`: decode() sees the version and copes.
struct coping {
    static constexpr pj::event_type type{"Coping", pj::schema{5}};
    uint32_t seen = 0;
    static bool decode(const pj::stored_event& in, coping& out) {
        out.seen = in.version;
        return true;
    }
};

namespace generated {
struct Refund { uint32_t order, cents; };
} // namespace generated

template<class E> bool decoded(const pj::stored_event& in, E& out) {
    return pj::event_traits<E>::decode(in, out);
}

} // namespace

template<> struct projections::event_traits<generated::Refund> {
    static constexpr event_type type{"Refund"};
    static constexpr event_type also[]{{"Repayment"}, {"Chargeback"}};
    static bool decode(const stored_event& in, generated::Refund& out) {
        return in.payload.copy_to(out);
    }
};

TEST_CASE("decode: the event's own member") {
    by_member e;
    CHECK(decoded(stored("ByMember", "7:4999"), e));
    CHECK(e.order == 7);
    CHECK(e.cents == 4999);
    CHECK_FALSE(decoded(stored("ByMember", "no"), e));
    CHECK_FALSE(decoded(stored("ByMember", ""), e));
    CHECK(pj::event_traits<by_member>::type.name() == "ByMember");
}

TEST_CASE("decode: one codec for a namespace, a member before it") {
    warehouse::counted c;
    CHECK(decoded(stored("Counted", "3:12"), c));
    CHECK(c.pieces == 12);
    warehouse::moved m;
    CHECK(decoded(stored("Moved", "3:12"), m));
    CHECK(m.to == 12);
    CHECK_FALSE(decoded(stored("Moved", "3"), m));
    warehouse::special s;
    CHECK(decoded(stored("Special", "3:12"), s));
    CHECK(s.item == 99);
}

TEST_CASE("decode: raw bytes of exactly the size and the version") {
    const packed from{5};
    packed to{};
    pj::stored_event event = pj::raw_event(0, from);
    CHECK(decoded(event, to));
    CHECK(to.order == 5);
    event.version = 2;
    CHECK_FALSE(decoded(event, to));
    event.version = 0;
    CHECK_FALSE(decoded(event, to));
    event.version = 1;
    event.payload = {&from, 3};
    CHECK_FALSE(decoded(event, to));
    event.payload = {};
    CHECK_FALSE(decoded(event, to));
}

TEST_CASE("event_name stands in where `type` is a field") {
    CHECK(pj::event_traits<tagged>::type.name() == "Tagged");
    CHECK(pj::event_traits<tagged>::type.version() == 2);
    const tagged from{8};
    tagged to{};
    CHECK(decoded(pj::raw_event(0, from), to));
    CHECK(to.type == 8);
}

TEST_CASE("old versions go up the whole chain") {
    account_v3 e;
    CHECK(decoded(stored("Account", "12:0", 1), e));
    CHECK(e.cents == 1200);
    CHECK(e.currency == 978);
    e = {};
    CHECK(decoded(stored("Account", "1250:0", 2), e));
    CHECK(e.cents == 1250);
    CHECK(e.currency == 978);
    e = {};
    CHECK(decoded(stored("Account", "1250:840", 3), e));
    CHECK(e.currency == 840);
    CHECK_FALSE(decoded(stored("Account", "x", 1), e));
    CHECK_FALSE(decoded(stored("Account", "x", 2), e));
    CHECK(decoded(stored("Account", "1:2", 0), e));      // before versions were counted: the oldest
    CHECK(e.cents == 100);
}

TEST_CASE("raw versions: each layout by its own struct, a newer one is refused") {
    const level_v1 old{7};
    const level now{70000};
    level e{};
    CHECK(decoded(pj::raw_event(0, old), e));
    CHECK(e.value == 7);
    CHECK(decoded(pj::raw_event(0, now), e));
    CHECK(e.value == 70000);
    pj::stored_event newer = pj::raw_event(0, now);
    newer.version = 3;
    CHECK_FALSE(decoded(newer, e));
}

TEST_CASE("without a `previous` decode() sees the version") {
    coping e;
    for (const uint32_t version : {1u, 4u, 5u, 6u}) {
        CHECK(decoded(stored("Coping", "", version), e));
        CHECK(e.seen == version);
    }
}

TEST_CASE("a type from a generated header") {
    const generated::Refund from{1, 250};
    generated::Refund to{};
    CHECK(decoded({0, "Refund", {&from, sizeof from}}, to));
    CHECK(to.cents == 250);
    CHECK(pj::event_traits<generated::Refund>::type.name() == "Refund");
}

namespace {
/// Fields that are called as our members are.
struct fields {
    static constexpr pj::event_type type{"Fields", pj::raw};
    char event_name[8];
    char also[80];
};
/// The address is not what `&` says.
struct elsewhere {
    static constexpr pj::event_type type{"Elsewhere", pj::raw};
    static inline uint32_t other = 99;
    uint32_t value;
    const uint32_t* operator&() const { return &other; }
    uint32_t* operator&() { return &other; }
};
struct watching {
    using handles = pj::events<fields, elsewhere>;
    char last = 0;
    uint32_t value = 0;
    void on(const fields& e) { last = e.also[79]; }
    void on(const elsewhere& e) { value = e.value; }
};
/// The same number of bytes: nothing is left unread.
struct named_anew : by_member { static constexpr pj::event_type type{"NamedAnew"}; };
} // namespace

TEST_CASE("fields of an event may be called as our members are") {
    watching p;
    fields e{};
    e.also[79] = 'x';
    pj::handler_map<2> map;
    map.add(p);
    CHECK(pj::deliver(p, pj::raw_event(0, e)) == pj::handled);
    CHECK(p.last == 'x');
    p.last = 0;
    CHECK(pj::deliver(map, pj::raw_event(0, e)) == pj::handled);
    CHECK(p.last == 'x');
    CHECK(map.find("Fields").size() == 1);
}

TEST_CASE("an event may have an operator& of its own") {
    watching p;
    pj::handler_map<2> map;
    map.add(p);
    const elsewhere e{7};
    pj::memory_log<2, 64> log;
    CHECK(log.append(e) == 0);
    pj::memory_checkpoint_store<1> checkpoints;
    const pj::projection projection{"p", log, map, checkpoints};
    pj::worker worker{projection};
    CHECK(worker.start() == pj::status::ok);
    CHECK(worker.tick(0).scanned == 1);
    CHECK(p.value == 7);
    p.value = 0;
    CHECK(pj::deliver(p, pj::raw_event(0, e)) == pj::handled);
    CHECK(p.value == 7);
    CHECK(elsewhere::other == 99);
}

TEST_CASE("an event that adds no field to its parent may be decoded as that") {
    named_anew e;
    CHECK(decoded(stored("NamedAnew", "7:4999"), e));
    CHECK(e.cents == 4999);
}

namespace {
struct of_refunds {
    using handles = pj::events<generated::Refund>;
    uint32_t cents = 0;
    void on(const generated::Refund& e) { cents += e.cents; }
};
} // namespace

TEST_CASE("event_traits may list former names, too") {
    of_refunds p;
    pj::handler_map<3> map;
    map.add(p);
    const generated::Refund e{1, 5};
    for (const pj::text name : {"Refund", "Repayment", "Chargeback"}) {
        CHECK(pj::deliver(p, {0, name, {&e, sizeof e}}) == pj::handled);
        CHECK(pj::deliver(map, {0, name, {&e, sizeof e}}) == pj::handled);
    }
    CHECK(p.cents == 30);
    CHECK(map.fault() == pj::status::ok);
}
