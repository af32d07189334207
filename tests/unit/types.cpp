// >>types: positions, text, bytes, event types, stored events.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <string.h>
#include <array>
#include <string>
#include <string_view>
#include <vector>
namespace pj = projections;

namespace {

size_t size_as_text(pj::text t) { return t.size(); }
size_t size_as_bytes(pj::bytes b) { return b.size(); }
std::string name_of(const pj::type_key& key) { return {key.name().data(), key.name().size()}; }

struct point {
    static constexpr pj::event_type type{"Point", pj::raw, pj::schema{3}};
    int32_t x, y;
};

} // namespace

TEST_CASE("text converts from everything with characters") {
    const char letters[] = {'a', 'b', 'c', 'd'};
    const std::string owned = "owned";
    CHECK(size_as_text("literal") == 7);
    CHECK(size_as_text(owned) == 5);
    CHECK(size_as_text(std::string_view("a\0b", 3)) == 3);
    CHECK(size_as_text(std::vector<char>{'x', 'y'}) == 2);
    CHECK(size_as_text({letters, 4}) == 4);
    CHECK(size_as_text({static_cast<const void*>(letters), 3}) == 3);
    CHECK(size_as_text(nullptr) == 0);
    CHECK(pj::text(owned).data() == owned.data());
    CHECK(pj::text().empty());
    CHECK(pj::text().data() == nullptr);
}

TEST_CASE("text becomes the user's own strings") {
    const pj::text name("a\0b", 3);
    CHECK(name.to<std::string>() == std::string("a\0b", 3));
    CHECK(name.to<std::string_view>().data() == name.data());
    CHECK(pj::text().to<std::string>().empty());
}

TEST_CASE("text compares whole, embedded zeros included") {
    CHECK(pj::text("abc") == pj::text(std::string("abc")));
    CHECK(pj::text("abc") != "abd");
    CHECK(pj::text("abc") != "ab");
    CHECK(pj::text("") == pj::text());
    CHECK(pj::text("a\0b", 3) != pj::text("a\0c", 3));
    CHECK(pj::text("a\0b", 3) != "a");
    std::string copy;
    for (const char c : pj::text("range")) copy += c;
    CHECK(copy == "range");
    static_assert(pj::text("constant").size() == 8 && pj::text("a") != pj::text("b"));
}

TEST_CASE("bytes convert from ranges and count bytes, not elements") {
    const std::vector<uint32_t> words{1, 2, 3};
    CHECK(size_as_bytes(words) == 12);
    CHECK(size_as_bytes(std::string("four")) == 4);
    CHECK(size_as_bytes(std::string_view("abc")) == 3);
    CHECK(size_as_bytes(std::array<uint16_t, 5>{}) == 10);
    CHECK(size_as_bytes({"x", 1}) == 1);
    CHECK(pj::bytes().empty());
    const pj::bytes view{"abc", 3};
    CHECK(view.text() == "abc");
    CHECK(view.end() - view.begin() == 3);
    CHECK(view.begin()[2] == 'c');
}

TEST_CASE("copy_to() fills an object of exactly that size and no other") {
    const point from{3, -4};
    unsigned char image[sizeof from + 1] = {};
    memcpy(image, &from, sizeof from);
    point to{7, 7};
    CHECK_FALSE(pj::bytes(image, sizeof from - 1).copy_to(to));
    CHECK_FALSE(pj::bytes(image, sizeof from + 1).copy_to(to));
    CHECK_FALSE(pj::bytes().copy_to(to));
    CHECK(to.x == 7);
    CHECK(pj::bytes(image, sizeof from).copy_to(to));
    CHECK(to.x == 3);
    CHECK(to.y == -4);
    unsigned char unaligned[sizeof from + 1] = {};
    memcpy(unaligned + 1, &from, sizeof from);
    to = {};
    CHECK(pj::bytes(unaligned + 1, sizeof from).copy_to(to));
    CHECK(to.y == -4);
}

TEST_CASE("an event type has a name, a number, or both") {
    constexpr pj::event_type named{"OrderCreated"};
    static_assert(named.name() == "OrderCreated" && named.version() == 1 && !named.is_raw());
    CHECK(pj::event_type("a").number() == 0xE40C292Cu);         // published FNV-1a 32 values
    CHECK(pj::event_type("foobar").number() == 0xBF9CF968u);
    CHECK(pj::event_type("").number() == 0);         // no name, no number: refused by every table

    constexpr pj::event_type both{"OrderPacked", pj::id{0x0103}, pj::raw, pj::schema{4}};
    static_assert(both.number() == 0x0103 && both.is_raw() && both.version() == 4);
    constexpr pj::event_type numbered{pj::id{9}};
    static_assert(numbered.name().empty() && numbered.number() == 9 && !numbered.is_raw());
    constexpr pj::event_type raw_number{pj::id{9}, pj::raw, pj::schema{2}};
    static_assert(raw_number.is_raw() && raw_number.version() == 2);
    constexpr pj::event_type stated{"Stated", pj::id{5}, pj::schema{6}};
    static_assert(stated.number() == 5 && stated.version() == 6 && !stated.is_raw());
    static_assert(!pj::event_type(pj::id{1}, pj::schema{2}).is_raw());
    static_assert(pj::event_type().number() == 0);
}

TEST_CASE("a type key is made from names, numbers and event types") {
    CHECK(name_of("Literal") == "Literal");
    CHECK(name_of(std::string("String")) == "String");
    CHECK(name_of(std::string_view("View")) == "View");
    CHECK(name_of(pj::text("Text")) == "Text");
    CHECK(name_of(std::vector<char>{'V', 'e', 'c'}) == "Vec");
    const pj::type_key numbered = pj::id{77};
    CHECK(numbered.number() == 77);
    CHECK(numbered.name().empty());
    const pj::type_key of_type = pj::event_type{"Both", pj::id{5}};
    CHECK(of_type.number() == 5);
    CHECK(of_type.name() == "Both");
    CHECK(pj::type_key().name().empty());
    CHECK(pj::type_key().number() == 0);
}

TEST_CASE("a stored event can be written as one line, the rest has defaults") {
    const pj::stored_event event{4, "Shipped", {"x", 1}, std::string("order-7")};
    CHECK(event.at == 4);
    CHECK(event.version == 1);
    CHECK(event.occurred_at == 0);
    CHECK(event.extra == nullptr);
    CHECK(pj::stored_event().at == pj::before_first);
}

TEST_CASE("raw_event() shows the struct's own bytes") {
    static const point p{1, 2};
    const pj::stored_event event = pj::raw_event(6, p, "point-1");
    CHECK(event.at == 6);
    CHECK(event.type.name() == "Point");
    CHECK(event.version == 3);
    CHECK(event.aggregate_id == "point-1");
    CHECK(event.payload.data() == &p);
    point copy{};
    CHECK(event.payload.copy_to(copy));
    CHECK(copy.y == 2);
}

TEST_CASE("no checkpoint differs from event 0; never is all ones") {
    static_assert(pj::before_first == -1 && pj::never == 0xFFFFFFFFu);
    static_assert(sizeof(pj::position) == 8 && pj::position(-1) < 0);
}

TEST_CASE("event_type: the version is 1 where none is said, whatever else is") {
    CHECK(pj::event_type(pj::text("A")).version() == 1);
    CHECK(pj::event_type("A").version() == 1);
    CHECK(pj::event_type("A", pj::raw).version() == 1);
    CHECK(pj::event_type("A", pj::id{3}).version() == 1);
    CHECK(pj::event_type("A", pj::id{3}, pj::raw).version() == 1);
    CHECK(pj::event_type(pj::id{3}).version() == 1);
    CHECK(pj::event_type(pj::id{3}, pj::raw).version() == 1);
}

TEST_CASE("event_type: raw where it is said, and nowhere else") {
    CHECK_FALSE(pj::event_type().is_raw());
    CHECK_FALSE(pj::event_type(pj::text("A")).is_raw());
    CHECK_FALSE(pj::event_type("A", pj::schema{2}).is_raw());
    CHECK_FALSE(pj::event_type("A", pj::id{3}).is_raw());
    CHECK_FALSE(pj::event_type(pj::id{3}).is_raw());
    CHECK(pj::event_type("A", pj::raw).is_raw());
    CHECK(pj::event_type("A", pj::id{3}, pj::raw).is_raw());
    CHECK(pj::event_type(pj::id{3}, pj::raw).is_raw());
    CHECK(pj::event_type().version() == 1);
}

TEST_CASE("event_type: a name whose hash is 0 has a number all the same, and is found by it") {
    CHECK(pj::event_type("Fvhmpow").number() == 1);     // its FNV-1a is 0, which is no number
    CHECK(pj::event_type(pj::text()).number() == 0);
}

TEST_CASE("event_type: a name whose hash is 0 has the number 1: 0 means that there is none") {
    const std::string name = "Orderberxjz";
    REQUIRE(pj::detail::fnv1a(name.data(), name.size()) == 0);
    CHECK(pj::event_type(pj::text(name)).number() == 1);
    CHECK(pj::event_type().number() == 0);
}

TEST_CASE("what is null at run time only is nothing: a text, a callback, a function of a port") {
    const char* volatile no_name = nullptr;
    CHECK(pj::text(no_name).empty());
    bool (*volatile no_function)() = nullptr;
    CHECK_FALSE(pj::callback<bool()>(no_function));
}
