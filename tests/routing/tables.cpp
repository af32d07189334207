// >>detail: routing tables find every registered name and number, and no other.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>
namespace pj = projections;

namespace {

constexpr size_t longest = 253;
struct characters {
    char at[longest + 1]{};
    size_t size = 0;
    constexpr void add(char c) { at[size++] = c; }
    constexpr void add(size_t digits) {
        for (; digits != 0; digits /= 10) add(static_cast<char>('0' + digits % 10));
    }
};
constexpr uint32_t scramble(uint32_t x) {
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

/// What names have in common: nothing, a head, a tail, both; each is the head of the next; or all
/// but one character, another one in each, so that no two words tell them apart.
enum class likeness { none, head, tail, middle, prefixes, spots };

/// Name number I of a set; the digits tell it from all others.
constexpr characters name_of(likeness like, uint32_t seed, size_t i) {
    constexpr characters head = [] {
        characters c{};
        while (c.size < 100) c.add("com.example.shop."[c.size % 17]);
        return c;
    }();
    characters name{};
    if (like == likeness::prefixes) {
        while (name.size <= i % longest) name.add(head.at[name.size % 50]);
        return name;
    }
    if (like == likeness::spots) {
        const size_t size = i < 9 ? i + 1 : 63 + seed % 3;
        while (name.size < size) name.add(name.size == (i - 9) * 4 ? 'b' : 'a');
        return name;
    }
    if (like == likeness::head || like == likeness::middle) name = head;
    uint32_t random = scramble(seed * 1000003u + static_cast<uint32_t>(i));
    name.add(i + 1);
    if (like == likeness::head) return name;
    name.add('!');
    if (like != likeness::none) {
        for (size_t k = 0; k < head.size; ++k) name.add(head.at[k]);
        return name;
    }
    const size_t size = i % 3 == 0 ? name.size : name.size + random % (longest - name.size + 1);
    while (name.size < size) {
        random = scramble(random);
        name.add(static_cast<char>(random % 255 + 1));
    }
    return name;
}

template<likeness Like, uint32_t Seed, size_t I> struct named {
    static constexpr characters name = name_of(Like, Seed, I);
    static constexpr pj::event_type type{pj::text(name.at, name.size)};
    static bool decode(const pj::stored_event&, named&) { return true; }
};

template<likeness Like, uint32_t Seed, class Indexes> struct catcher;
template<likeness Like, uint32_t Seed, size_t... I>
struct catcher<Like, Seed, std::index_sequence<I...>> {
    using handles = pj::matching<pj::events<named<Like, Seed, I>...>>;
    size_t caught = 0;
    template<size_t J> void on(const named<Like, Seed, J>&) { caught = J + 1; }
};

using names = std::map<std::string, size_t>;
using numbers = std::map<uint32_t, size_t>;

/// Asks for `name` and for every name that differs a little; `find` answers 0 for an unknown one.
template<class Find> size_t wrong_near(const names& known, const std::string& name, Find&& find) {
    size_t wrong = 0;
    const auto ask = [&](const std::string& like) {
        const auto found = known.find(like);
        if (find(pj::type_key(like)) != (found == known.end() ? 0 : found->second)) ++wrong;
    };
    ask(name);
    ask(name + 'x');
    ask(name + '\0');
    ask(name + name);
    ask(std::string(300, 'x') + name);
    for (size_t at = 0; at < name.size(); ++at) {
        std::string like = name;
        like[at] = static_cast<char>(like[at] ^ 1);
        ask(like);
        like[at] = '\0';
        ask(like);
        ask(name.substr(0, at));
        ask(name.substr(at + 1));
    }
    return wrong;
}

template<class Find> size_t wrong_numbers(const numbers& known, Find&& find) {
    size_t wrong = 0;
    for (const auto& [number, expected] : known) {
        if (find(pj::id{number}) != expected) ++wrong;
        for (uint32_t bit = 1; bit != 0; bit <<= 1) {
            const auto found = known.find(number ^ bit);
            if (find(pj::id{number ^ bit}) != (found == known.end() ? 0 : found->second)) ++wrong;
        }
    }
    return wrong;
}

/// A set's names and numbers, and which of them each is.
template<likeness Like, uint32_t Seed, size_t Count> struct known_set {
    names by_name;
    numbers by_number;
    known_set() {
        for (size_t i = 0; i < Count; ++i) {
            const characters c = name_of(Like, Seed, i);
            by_name[{c.at, c.size}] = i + 1;
            by_number[pj::event_type(pj::text(c.at, c.size)).number()] = i + 1;
        }
    }
};

template<likeness Like, uint32_t Seed, size_t Count> void check_set() {
    catcher<Like, Seed, std::make_index_sequence<Count>> handler;
    const known_set<Like, Seed, Count> known;
    REQUIRE(known.by_name.size() == Count);
    const auto find = [&](const pj::type_key& key) {
        handler.caught = 0;
        static_cast<void>(pj::deliver(handler, {0, key}));
        return handler.caught;
    };
    size_t wrong = 0;
    for (const auto& one : known.by_name) wrong += wrong_near(known.by_name, one.first, find);
    CHECK(wrong == 0);
    CHECK(wrong_numbers(known.by_number, find) == 0);
    CHECK(find({}) == 0);
    CHECK(find("") == 0);
}

/// A log of one event, another one each time.
struct newest_only {
    pj::stored_event event;
    pj::status read(pj::position after, pj::visitor& visit) {
        if (event.at > after) static_cast<void>(visit(event));
        return pj::status::ok;
    }
};

/// The same as check_set(), as a worker finds them and as a handler_map does.
template<likeness Like, uint32_t Seed, size_t Count> void check_set_elsewhere() {
    check_set<Like, Seed, Count>();
    catcher<Like, Seed, std::make_index_sequence<Count>> handler;
    const known_set<Like, Seed, Count> known;
    newest_only log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection what{"names", log, handler, checkpoints};
    what.poll_ms = 0;
    pj::worker worker{what};
    REQUIRE(worker.start() == pj::status::ok);
    static_cast<void>(worker.tick(0));
    const auto by_worker = [&](const pj::type_key& key) {
        handler.caught = 0;
        log.event.type = key;
        ++log.event.at;
        static_cast<void>(worker.tick(0));
        return worker.scanned() == log.event.at ? handler.caught : ~size_t{0};
    };
    pj::handler_map<Count> map;
    map.add(handler);
    REQUIRE(map.fault() == pj::status::ok);
    const auto by_map = [&](const pj::type_key& key) {
        handler.caught = 0;
        static_cast<void>(pj::deliver(map, {0, key}));
        return handler.caught;
    };
    size_t wrong = 0;
    for (const auto& one : known.by_name) {
        wrong += wrong_near(known.by_name, one.first, by_worker);
        wrong += wrong_near(known.by_name, one.first, by_map);
    }
    CHECK(wrong == 0);
    CHECK(wrong_numbers(known.by_number, by_worker) == 0);
    CHECK(wrong_numbers(known.by_number, by_map) == 0);
    CHECK(by_worker({}) == 0);
    CHECK(by_map({}) == 0);
}

} // namespace

TEST_CASE("routing: a worker and a handler_map find what deliver() finds, and nothing else") {
    check_set_elsewhere<likeness::prefixes, 1, 1>();
    check_set_elsewhere<likeness::prefixes, 1, 2>();
    check_set_elsewhere<likeness::prefixes, 1, 9>();
    check_set_elsewhere<likeness::prefixes, 1, 40>();
    check_set_elsewhere<likeness::none, 8, 4>();
    check_set_elsewhere<likeness::none, 9, 8>();
    check_set_elsewhere<likeness::none, 10, 30>();
    check_set_elsewhere<likeness::middle, 2, 15>();
}

TEST_CASE("routing: names that no two words tell apart, short ones among them") {
    check_set_elsewhere<likeness::spots, 3, 24>();      // of 63 characters
    check_set_elsewhere<likeness::spots, 4, 24>();      // of 64
    check_set_elsewhere<likeness::spots, 5, 24>();
}

TEST_CASE("routing: names with nothing in common, 1 to 300 of them") {
    check_set<likeness::none, 1, 1>();
    check_set<likeness::none, 2, 2>();
    check_set<likeness::none, 3, 3>();
    check_set<likeness::none, 4, 8>();
    check_set<likeness::none, 5, 33>();
    check_set<likeness::none, 6, 120>();
    check_set<likeness::none, 7, 300>();
}

TEST_CASE("routing: names that differ in few places") {
    check_set<likeness::head, 1, 5>();
    check_set<likeness::head, 1, 60>();
    check_set<likeness::tail, 1, 5>();
    check_set<likeness::tail, 1, 60>();
    check_set<likeness::middle, 1, 5>();
    check_set<likeness::middle, 1, 60>();
}

TEST_CASE("routing: every name is the beginning of the next") {
    check_set<likeness::prefixes, 1, 10>();
    check_set<likeness::prefixes, 1, longest>();
}

namespace {

/// A table of names made at run time by the same builder that registry uses at compile time.
template<size_t Count> size_t wrong_in_random_table(std::mt19937& random, unsigned letters) {
    names known;
    while (known.size() < Count) {
        std::string name(1 + random() % (random() % 4 == 0 ? longest : 12), ' ');
        for (char& c : name) c = static_cast<char>('A' + random() % letters);
        known.emplace(name, 0);
    }
    std::vector<pj::detail::row> rows;
    for (auto& one : known) {
        pj::detail::row row{};
        row.type = pj::event_type(one.first);
        rows.push_back(row);
        one.second = rows.size();
    }
    const pj::detail::built_routes<Count, 0> built(pj::detail::no_route, rows.data());
    pj::detail::route_table table{};
    table.routes = built.routes;
    table.by_name = {built.by_name, built.name_multiplier, built.shift};
    table.by_number = {built.by_number, built.number_multiplier, built.shift};
    table.sample[0] = built.sample[0];
    table.sample[1] = built.sample[1];
    const auto find = [&](const pj::type_key& key) -> size_t {
        const pj::detail::route& found = pj::detail::find(table, key);
        return static_cast<size_t>(&found - table.routes);
    };
    size_t wrong = built.duplicates || built.nameless || built.too_long;
    for (const auto& one : known) wrong += wrong_near(known, one.first, find);
    return wrong;
}

} // namespace

TEST_CASE("routing: random tables") {
    std::mt19937 random(20240229);
    size_t wrong = 0;
    for (int i = 0; i < 100; ++i) {
        wrong += wrong_in_random_table<1>(random, 2);
        wrong += wrong_in_random_table<7>(random, 3);
        wrong += wrong_in_random_table<20>(random, 26);
        wrong += wrong_in_random_table<64>(random, 4);
    }
    for (int i = 0; i < 3; ++i) wrong += wrong_in_random_table<500>(random, 26);
    CHECK(wrong == 0);
}

namespace {

/// Two names with one FNV-1a, told apart by their numbers where a log has numbers.
struct parcel {
    static constexpr pj::event_type type{"PriceClosed1486", pj::id{1}, pj::raw};
    char c;
};
struct user {
    static constexpr pj::event_type type{"PriceRemoved7400", pj::id{2}, pj::raw};
    char c;
};
struct both {
    using handles = pj::events<parcel, user>;
    int parcels = 0, users = 0;
    void on(const parcel&) { ++parcels; }
    void on(const user&) { ++users; }
};

} // namespace

TEST_CASE("routing: names that collide in FNV-1a are told apart") {
    static_assert(pj::event_type(parcel::type.name()).number() ==
                  pj::event_type(user::type.name()).number());
    both registered, added;
    pj::handler_map<2> map;
    map.add(added);
    CHECK(map.fault() == pj::status::ok);
    for (const pj::routes to : {pj::routes(registered), pj::routes(map)}) {
        const char c = 'c';
        CHECK(pj::deliver(to, {0, parcel::type.name(), {&c, 1}}) == pj::handled);
        CHECK(pj::deliver(to, {0, user::type.name(), {&c, 1}}) == pj::handled);
        CHECK(pj::deliver(to, {0, pj::id{2}, {&c, 1}}) == pj::handled);
        CHECK_FALSE(to.find(pj::id{pj::event_type(user::type.name()).number()}).known());
    }
    CHECK(registered.parcels == 1);
    CHECK(registered.users == 2);
    CHECK(added.parcels == 1);
    CHECK(added.users == 2);
}

TEST_CASE("routing: a name in the log is matched as a name, a number as a number") {
    both p;
    const char c = 'c';
    CHECK(pj::routes(p).find("1").known() == false);
    CHECK(pj::routes(p).find(pj::id{1}).size() == 1);
    const pj::event_type other_name{"Other", pj::id{1}};
    CHECK_FALSE(pj::routes(p).find(other_name).known());    // by its name
    CHECK(pj::deliver(p, {0, other_name, {&c, 1}}) == pj::handled);
    CHECK(p.parcels == 0);
    CHECK_FALSE(pj::routes(p).find(pj::id{0}).known());
}

namespace {

template<int I> struct crowded {
    static constexpr char name[] = {'C', 'r', 'o', 'w', 'd', 'e', 'd', '/', '0' + I / 10,
                                    '0' + I % 10, '/', 'E', 'v', 'e', 'n', 't', '\0'};
    static constexpr pj::event_type type{pj::text(name)};
    static bool decode(const pj::stored_event&, crowded&) { return true; }
};
struct crowd_of_twelve {
    using handles = pj::events<crowded<0>, crowded<1>, crowded<2>, crowded<3>, crowded<4>,
                               crowded<5>, crowded<6>, crowded<7>, crowded<8>, crowded<9>,
                               crowded<10>, crowded<11>>;
    int called[12] = {};
    void on(const crowded<0>&) { ++called[0]; }
    void on(const crowded<1>&) { ++called[1]; }
    void on(const crowded<2>&) { ++called[2]; }
    void on(const crowded<3>&) { ++called[3]; }
    void on(const crowded<4>&) { ++called[4]; }
    void on(const crowded<5>&) { ++called[5]; }
    void on(const crowded<6>&) { ++called[6]; }
    void on(const crowded<7>&) { ++called[7]; }
    void on(const crowded<8>&) { ++called[8]; }
    void on(const crowded<9>&) { ++called[9]; }
    void on(const crowded<10>&) { ++called[10]; }
    void on(const crowded<11>&) { ++called[11]; }
};
struct crowd_log {
    std::vector<std::string> names;
    pj::status read(pj::position after, pj::visitor& visit) {
        for (size_t i = static_cast<size_t>(after + 1); i < names.size(); ++i) {
            pj::stored_event event;
            event.at = static_cast<pj::position>(i);
            event.type = pj::text(names[i]);
            if (!visit(event)) break;
        }
        return pj::status::ok;
    }
};
/// A worker goes through all of the log; what it has counted.
template<class Log, class Handlers> pj::counters work_through(Log& log, Handlers& handlers) {
    pj::memory_checkpoint_store<1> store;
    pj::projection what{"routing", log, handlers, store};
    pj::worker worker{what};
    REQUIRE(worker.start() == pj::status::ok);
    for (int ticks = 0; ticks < 20; ++ticks) static_cast<void>(worker.tick(0));
    return worker.counts();
}

} // namespace

TEST_CASE("a worker finds each name in its registry's own table, and none that is not there") {
    crowd_log log;
    for (int i = 0; i < 100; ++i) {             // twelve that are known, and close neighbours
        log.names.push_back("Crowded/" + std::string(i < 10 ? "0" : "") + std::to_string(i) +
                            "/Event");
        log.names.push_back("Crowded/" + std::to_string(i) + "/Events");
        log.names.push_back("Drowded/" + std::to_string(10 + i % 90) + "/Event");
        log.names.push_back("Crowded/" + std::to_string(10 + i % 90) + "/Evena");
        log.names.push_back("Crowd" + std::to_string(i));
    }
    crowd_of_twelve hand;
    pj::registry all{hand};
    const pj::counters counts = work_through(log, all);
    for (const int n : hand.called) CHECK(n == 1);
    CHECK(counts.handled == 12);
    CHECK(counts.unknown == 488);
}

namespace {

template<size_t Size> struct sized {
    static constexpr auto letters = [] {
        characters c{};
        for (size_t i = 0; i < Size; ++i) c.at[i] = static_cast<char>('a' + i % 26);
        return c;
    }();
    static constexpr pj::event_type type{pj::text(letters.at, Size), pj::id{Size}};
    static bool decode(const pj::stored_event&, sized&) { return true; }
};
/// Handles one type alone, so that the name's size and last word are all that makes its key.
template<size_t Size> struct lonely {
    using handles = pj::events<sized<Size>>;
    int called = 0;
    void on(const sized<Size>&) { ++called; }
};
template<size_t Size> void check_every_character() {
    crowd_log log;
    for (size_t i = 0; i < Size; ++i) {
        std::string name(sized<Size>::letters.at, Size);
        name[i] = '#';
        log.names.push_back(name);
    }
    log.names.push_back(std::string(sized<Size>::letters.at, Size));
    lonely<Size> one;
    const pj::counters counts = work_through(log, one);
    INFO(Size);
    CHECK(one.called == 1);
    CHECK(counts.unknown == Size);
}
template<size_t... Size> void check_each_size() { (check_every_character<Size>(), ...); }

} // namespace

TEST_CASE("a worker's look at a name leaves out none of its characters") {
    check_each_size<1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 20, 23, 24, 25, 26, 31, 32, 33,
                    40, 41, 64, 65>();
}

TEST_CASE("a worker's look at a name sees nothing of what stands before it") {
    const std::string before = "#" + std::string(sized<8>::letters.at, 8);
    struct {
        pj::text name;
        pj::status read(pj::position after, pj::visitor& visit) const {
            pj::stored_event event;
            event.at = after + 1;
            event.type = name;
            if (event.at < 3) static_cast<void>(visit(event));
            return event.at < 2 ? pj::status::more : pj::status::ok;
        }
    } log{pj::text(before.data() + 1, 8)};
    lonely<8> one;
    const pj::counters counts = work_through(log, one);
    CHECK(one.called == 3);
    CHECK(counts.unknown == 0);
}

namespace {

/// Shows its names in one slice.
struct sliced_log {
    std::vector<std::string> names;
    pj::status read(pj::position after, pj::visitor& visit) {
        std::vector<pj::stored_event> events;
        for (size_t i = static_cast<size_t>(after + 1); i < names.size(); ++i) {
            events.emplace_back();
            events.back().at = static_cast<pj::position>(i);
            events.back().type = pj::text(names[i]);
        }
        static_cast<void>(visit(events.data(), events.size()));
        return pj::status::ok;
    }
};

} // namespace

TEST_CASE("a worker finds a name of one letter in a slice, too") {
    sliced_log log{std::vector<std::string>(10, "a")};
    lonely<1> one;
    const pj::counters counts = work_through(log, one);
    CHECK(one.called == 10);
    CHECK(counts.unknown == 0);
}

namespace {

struct everything {
    using handles = pj::every_event;
    int called = 0;
    void on(const pj::stored_event&) { ++called; }
};
struct some_sizes {
    using handles = pj::events<sized<1>, sized<3>, sized<20>>;
    int shortest = 0, shorter = 0, longer = 0;
    void on(const sized<1>&) { ++shortest; }
    void on(const sized<3>&) { ++shorter; }
    void on(const sized<20>&) { ++longer; }
};

} // namespace

TEST_CASE("a worker beside whose handlers one is for every event finds the others by any key") {
    const pj::type_key keys[] = {sized<1>::type.name(), sized<3>::type.name(),
                                 sized<20>::type.name(), pj::id{1}, pj::id{3}, pj::id{20},
                                 pj::text("b"), pj::text("abd"), pj::id{4}};
    pj::memory_log<16, 256> log;
    for (const pj::type_key& key : keys) {
        pj::stored_event event;
        event.type = key;
        REQUIRE(log.append(event) >= 0);
    }
    some_sizes typed;
    everything all;
    pj::registry handlers{typed, all};
    const pj::counters counts = work_through(log, handlers);
    CHECK(typed.shortest == 2);
    CHECK(typed.shorter == 2);
    CHECK(typed.longer == 2);
    CHECK(all.called == 9);
    CHECK(counts.handled == 9);             // somebody handles each
}

namespace {

pj::detail::row row_of(const pj::event_type& type) {
    static const uint8_t hands[] = {7, 9};
    pj::detail::row row{};
    row.type = type;
    row.handlers = hands;
    row.handler_count = 2;
    return row;
}
/// Where the table finds it, counted from 1; 0: nowhere.
template<size_t N, size_t Handlers>
size_t found_in(const pj::detail::built_routes<N, Handlers>& built, const pj::type_key& key) {
    pj::detail::route_table table{};
    table.routes = built.routes;
    table.by_name = {built.by_name, built.name_multiplier, built.shift};
    table.by_number = {built.by_number, built.number_multiplier, built.shift};
    table.sample[0] = built.sample[0];
    table.sample[1] = built.sample[1];
    const pj::detail::route& found = pj::detail::find(table, key);
    return static_cast<size_t>(&found - table.routes);
}

} // namespace

TEST_CASE("routing: types with a name, with a number and with both, in one table") {
    const pj::detail::row rows[] = {row_of({"Named"}), row_of({pj::id{7}}),
                                    row_of({"Both", pj::id{8}})};
    const pj::detail::built_routes<3, 6> built(pj::detail::no_route, rows);
    CHECK_FALSE(built.duplicates);
    CHECK(found_in(built, "Named") == 1);
    CHECK(found_in(built, pj::id{7}) == 2);
    CHECK(found_in(built, "Both") == 3);
    CHECK(found_in(built, pj::id{8}) == 3);
    CHECK(found_in(built, "Neither") == 0);
    CHECK(found_in(built, pj::id{9}) == 0);
    CHECK(built.routes[3].first == 4);
    CHECK(built.handlers[built.routes[3].first] == 7);
    CHECK(built.handlers[built.routes[3].first + 1] == 9);
}

#if !defined(__OPTIMIZE_SIZE__)     // there is no second word
TEST_CASE("routing: the first word of a name is chosen again once the second is known") {
    // The character in the middle tells most, but only the two at the ends tell everything.
    std::vector<std::string> names;
    std::vector<pj::detail::row> rows;
    for (uint32_t i = 0; i < 64; ++i) {
        std::string name(20, 'x');
        name[0] = static_cast<char>('a' + i % 8);
        name[8] = static_cast<char>('a' + scramble(i) % 12);
        name[16] = static_cast<char>('a' + i / 8);
        names.push_back(name);
    }
    for (const std::string& name : names) rows.push_back(row_of({pj::text(name)}));
    const pj::detail::built_routes<64, 128> built(pj::detail::no_route, rows.data());
    CHECK_FALSE(built.duplicates);
    for (const uint8_t word : built.sample) CHECK((word == 0 || word > 12));
    CHECK(built.sample[0] != built.sample[1]);
    for (size_t i = 0; i < names.size(); ++i) CHECK(found_in(built, pj::text(names[i])) == i + 1);
}
#endif

TEST_CASE("routing: what is wrong with a list of types is found, wherever it stands") {
    const std::string longer(254, 'x');
    const pj::detail::row good = row_of({"Good"}), other = row_of({"Other"}), none = row_of({}),
                          too_long = row_of({pj::text(longer)}), same = row_of({"Good", pj::id{5}}),
                          same_number = row_of({"More", pj::id{other.type.number()}});
    using table = pj::detail::built_routes<3, 6>;
    const auto build = [](const pj::detail::row& a, const pj::detail::row& b,
                          const pj::detail::row& c) {
        const pj::detail::row rows[] = {a, b, c};
        return table(pj::detail::no_route, rows);
    };
    for (const table& t : {build(none, good, other), build(good, none, other),
                           build(good, other, none)}) {
        CHECK(t.nameless);
        CHECK_FALSE(t.too_long);
    }
    for (const table& t : {build(too_long, good, other), build(good, too_long, other),
                           build(good, other, too_long)}) {
        CHECK(t.too_long);
        CHECK_FALSE(t.nameless);
    }
    for (const table& t : {build(same, good, other), build(good, same, other),
                           build(other, good, same_number), build(same_number, good, other)}) {
        CHECK(t.duplicates);
        CHECK_FALSE(t.nameless);
    }
}

TEST_CASE("routing: names that no two words of theirs tell apart are told by the whole name") {
    // Of one length. Some differ at the beginning, the others each at a place of its own.
    constexpr size_t count = 64;
    size_t by_whole_name = 0;
    for (size_t at_places = 0; at_places <= count; ++at_places) {
        std::vector<std::string> names;
        std::vector<pj::detail::row> rows;
        for (size_t i = 0; i < count; ++i) {
            names.emplace_back(200, '.');
            if (i < at_places) names.back()[3 * i] = '!';
            else names.back()[0] = static_cast<char>('A' + i);
        }
        for (const std::string& name : names) rows.push_back(row_of({pj::text(name)}));
        const pj::detail::built_routes<count, 2 * count> built(pj::detail::no_route, rows.data());
        by_whole_name += built.sample[0] == pj::detail::whole_name ? 1u : 0u;
        for (size_t i = 0; i < count; ++i) CHECK(found_in(built, pj::text(names[i])) == i + 1);
        CHECK(found_in(built, pj::text(std::string(200, '.'))) == 0);
        if (at_places == count) CHECK(built.sample[0] == pj::detail::whole_name);
    }
    CHECK(by_whole_name > 10);
    CHECK(by_whole_name < count);
}

#if !defined(__OPTIMIZE_SIZE__)
TEST_CASE("routing: names that are equal but for four digits do not lie in long runs") {
    // Of the multipliers with few clashes some have all of them at one place.
    constexpr size_t count = 128;
    for (uint32_t seed = 260; seed < 280; ++seed) {
        std::set<std::string> names;
        for (uint32_t i = 0; names.size() < count; ++i) {
            const uint32_t digits = 10000 + scramble(seed * 1000003u + i) % 10000;
            names.insert("warehouse.shelf." + std::to_string(digits).substr(1) + ".restocked");
        }
        std::vector<pj::detail::row> rows;
        for (const std::string& name : names) rows.push_back(row_of({pj::text(name)}));
        const pj::detail::built_routes<count, 2 * count> built(pj::detail::no_route, rows.data());
        size_t looks = 0, index = 0;
        for (const std::string& name : names) {
            const uint32_t key = pj::detail::name_key(name.data(), name.size(), built.sample[0],
                                                      built.sample[1]);
            uint32_t slot = key * built.name_multiplier >> built.shift;
            for (++index, ++looks; built.by_name[slot] != index; ++looks)
                slot = (slot + 1) % built.slot_count;
        }
        CHECK(looks * 100 < count * 125);
    }
}
#endif
