// How events are found and decoded, whatever the machine's alignment, byte order and sizes are.
#include "cases/fakes.hpp"

namespace pj = projections;
using fakes::added;
using fakes::removed;

namespace {

struct wide {
    static constexpr pj::event_type type{"Wide", pj::raw};
    uint64_t big;
    uint32_t middle;
    uint16_t little;
};

struct widest {
    using handles = pj::events<wide>;
    uint64_t big = 0;
    uint32_t middle = 0, little = 0;
    void on(const wide& e) {
        big += e.big;
        middle += e.middle;
        little += e.little;
    }
};

void copy(const void* from, unsigned char* to, size_t size) {
    for (size_t i = 0; i < size; ++i) to[i] = static_cast<const unsigned char*>(from)[i];
}

/// The payload, the type's name and the aggregate's id at every offset from an aligned address.
void payload_at_odd_addresses() {
    alignas(8) static unsigned char room[48];
    for (unsigned offset = 0; offset < 8; ++offset) {
        const wide sent{0x1122334455667788u + offset, 0x99AABBCCu, static_cast<uint16_t>(offset)};
        unsigned char* const name = room + offset;
        unsigned char* const payload = name + 4;
        copy("Wide", name, 4);
        copy(&sent, payload, sizeof sent);
        pj::stored_event event;
        event.at = 0;
        event.type = pj::text(static_cast<const void*>(name), 4);
        event.payload = {payload, sizeof sent};
        event.aggregate_id = pj::text(static_cast<const void*>(payload), 5);
        widest model;
        pj::registry all{model};
        CHECK(pj::deliver(all, event) == pj::handled);
        CHECK(model.big == sent.big);
        CHECK(model.middle == sent.middle);
        CHECK(model.little == offset);
        CHECK(pj::partition_of(event.aggregate_id, 1) == 0);
    }
}

/// A ring packs its events without gaps, so that most payloads lie at odd addresses.
void payloads_packed_in_a_ring() {
    pj::memory_log<8, 200> log;
    for (uint32_t i = 0; i < 8; ++i) {
        REQUIRE(log.append(wide{i, i * 3, 1}, pj::text("abcdefg", i % 7)) == pj::position{i});
    }
    widest model;
    fakes::slot checkpoints;
    const pj::projection what{"packed", log, model, checkpoints};
    pj::worker worker{what};
    REQUIRE(worker.start() == pj::status::ok);
    for (int i = 0; i < 3; ++i) static_cast<void>(worker.tick(0));
    CHECK(model.little == 8);
    CHECK(model.big == 28);
    CHECK(model.middle == 84);
    CHECK(worker.checkpointed() == 7);
}

void raw_payload_of_another_size() {
    fakes::summing model;
    pj::stored_event event = pj::raw_event(0, fakes::numbers[0]);
    event.payload = {event.payload.data(), sizeof(added) - 1};
    CHECK(pj::deliver(model, event).what() == pj::verdict::kind::rejected);
    CHECK(model.calls == 0);
    added out{5};
    CHECK(!event.payload.copy_to(out));
    CHECK(out.value == 5);
}

struct reading {
    static constexpr pj::event_type type{"Reading"};
    int32_t celsius_x10;
    static bool decode(const pj::stored_event& in, reading& out) {
        if (in.payload.size() != 4) return false;
        const unsigned char* b = in.payload.begin();
        out.celsius_x10 = static_cast<int32_t>(
            static_cast<uint32_t>(b[0]) << 24 | static_cast<uint32_t>(b[1]) << 16 |
            static_cast<uint32_t>(b[2]) << 8 | b[3]);
        return true;
    }
};
struct thermometer {
    using handles = pj::events<reading>;
    int32_t coldest = 0;
    void on(const reading& e) { if (e.celsius_x10 < coldest) coldest = e.celsius_x10; }
};

void a_decoder_of_ones_own() {
    static const unsigned char big_endian[] = {0xFF, 0xFF, 0xFE, 0x0C};      // -500
    thermometer model;
    pj::stored_event event;
    event.at = 0;
    event.type = "Reading";
    event.payload = {big_endian, 4};
    CHECK(pj::deliver(model, event) == pj::handled);
    CHECK(model.coldest == -500);
    event.payload = {big_endian, 3};
    CHECK(pj::deliver(model, event).what() == pj::verdict::kind::rejected);
}

struct price_1 {
    static constexpr pj::event_type type{"Price", pj::raw, pj::schema{1}};
    uint16_t euros;
};
struct price {
    static constexpr pj::event_type type{"Price", pj::raw, pj::schema{2}};
    using previous = price_1;
    uint32_t cents;
    void upcast(const price_1& old) { cents = old.euros * uint32_t{100}; }
};
struct prices {
    using handles = pj::events<price>;
    uint32_t last = 0;
    void on(const price& e) { last = e.cents; }
};

void an_older_version_is_lifted() {
    prices model;
    const price_1 old{700};
    const price now{4711};
    pj::stored_event event = pj::raw_event(0, now);
    CHECK(pj::deliver(model, event) == pj::handled);
    CHECK(model.last == 4711);
    event.payload = {&old, sizeof old};
    event.version = 1;
    CHECK(pj::deliver(model, event) == pj::handled);
    CHECK(model.last == 70000);
    event.version = 3;
    CHECK(pj::deliver(model, event).what() == pj::verdict::kind::rejected);
}

/// FNV-1a, 32 bits, of "foobar" as its authors list it.
void the_number_of_a_name() {
    const pj::text name{"foobar"};
    CHECK(pj::event_type(name).number() == 0xBF9CF968u);
    static_assert(pj::event_type("foobar").number() == 0xBF9CF968u, "the compiler's arithmetic");
    CHECK(removed::type.number() == 77);
}

void texts_are_compared_whole() {
    CHECK(pj::text("Added") == pj::text("Added!", 5));
    CHECK(pj::text("Added") != pj::text("Addec"));
    CHECK(pj::text("Added") != pj::text("Add"));
    CHECK(pj::text(static_cast<const char*>(nullptr)).empty());
}

void every_status_has_a_name() {
    CHECK(pj::text(pj::to_string(pj::status::ok)) == pj::text("ok"));
    CHECK(pj::text(pj::to_string(pj::status::log_gap)) == pj::text("log_gap"));
    CHECK(pj::text(pj::to_string(pj::status::bad_lease)) == pj::text("bad_lease"));
    CHECK(pj::group_of(pj::status::bad_lease) == pj::status_group::configuration);
}

void a_verdict_holds_28_bits() {
    CHECK(pj::fail(0x0FFFFFFF).argument() == 0x0FFFFFFF);
    CHECK(pj::pending_for(0x0ABCDEF0).argument() == 0x0ABCDEF0);
    CHECK(pj::reject(1).what() == pj::verdict::kind::rejected);
    CHECK(pj::verdict(pj::status::failed).argument() == 2);
}

const targets::test_case cases[] = {
    CASE(payload_at_odd_addresses), CASE(payloads_packed_in_a_ring),
    CASE(raw_payload_of_another_size), CASE(a_decoder_of_ones_own),
    CASE(an_older_version_is_lifted), CASE(the_number_of_a_name), CASE(texts_are_compared_whole),
    CASE(every_status_has_a_name), CASE(a_verdict_holds_28_bits)};

} // namespace

SUITE(events);
