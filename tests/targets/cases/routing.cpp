// By name and by number to every handler of a type, in order: registry, handler_map, one class.
#include "cases/fakes.hpp"

namespace pj = projections;

namespace {

// Twelve names that differ in one letter, so that the key which tells them apart is found in the
// middle; every third has a number of its own.
template<char Where> struct door {
    static constexpr char name[] = {'D',   'o', 'o', 'r', 'O', 'f', Where,
                                    'O', 'p', 'e', 'n', 'e', 'd'};
    static constexpr pj::text called{name, sizeof name};
    static constexpr pj::event_type type =
        Where % 3 == 0 ? pj::event_type(called, pj::id{uint32_t{Where} << 20}, pj::raw)
                       : pj::event_type(called, pj::raw);
    uint32_t value;
};
using doors = pj::events<door<'A'>, door<'B'>, door<'C'>, door<'D'>, door<'E'>, door<'F'>,
                         door<'G'>, door<'H'>, door<'I'>, door<'J'>, door<'K'>, door<'L'>>;

struct porter {
    using handles = doors;
    uint32_t sums[12]{};
    template<char Where> void enter(uint32_t value) { sums[Where - 'A'] += value; }
    void on(const door<'A'>& e) { enter<'A'>(e.value); }
    void on(const door<'B'>& e) { enter<'B'>(e.value); }
    void on(const door<'C'>& e) { enter<'C'>(e.value); }
    void on(const door<'D'>& e) { enter<'D'>(e.value); }
    void on(const door<'E'>& e) { enter<'E'>(e.value); }
    void on(const door<'F'>& e) { enter<'F'>(e.value); }
    void on(const door<'G'>& e) { enter<'G'>(e.value); }
    void on(const door<'H'>& e) { enter<'H'>(e.value); }
    void on(const door<'I'>& e) { enter<'I'>(e.value); }
    void on(const door<'J'>& e) { enter<'J'>(e.value); }
    void on(const door<'K'>& e) { enter<'K'>(e.value); }
    void on(const door<'L'>& e) { enter<'L'>(e.value); }
};

pj::stored_event named(const char* name, const uint32_t& value) {
    pj::stored_event event;
    event.at = 0;
    event.type = name;
    event.payload = {&value, sizeof value};
    return event;
}

void by_name_and_by_number() {
    porter model;
    pj::registry all{model};
    char name[] = "DoorOfXOpened";
    for (uint32_t i = 0; i < 12; ++i) {
        name[6] = static_cast<char>('A' + i);
        const uint32_t value = 100 + i;
        pj::stored_event event = named(name, value);
        CHECK(pj::deliver(all, event) == pj::handled);
        const uint32_t own = ('A' + i) % 3 == 0 ? ('A' + i) << 20 : pj::event_type(name).number();
        event.type = pj::id{own};
        CHECK(pj::deliver(all, event) == pj::handled);
        CHECK(model.sums[i] == 2 * value);
    }
    const uint32_t value = 1;
    static const char* const others[] = {"DoorOfMOpened", "DoorOfAOpene", "DoorOfAOpenedX",
                                         "doorOfAOpened", ""};
    for (const char* other : others) {
        CHECK(pj::deliver(all, named(other, value)) == pj::handled);    // unknown: nobody answers
        CHECK(!all.find(other).known());
    }
    for (uint32_t i = 0; i < 12; ++i) CHECK(model.sums[i] == 2 * (100 + i));
}

struct first {
    using handles = pj::events<fakes::added>;
    static constexpr const char* handler_name = "first";
    char* order;
    uint8_t* used;
    void on(const fakes::added&) { order[(*used)++] = '1'; }
};
struct second {
    using handles = pj::events<fakes::added, fakes::removed>;
    static constexpr const char* handler_name = "second";
    char* order;
    uint8_t* used;
    void on(const fakes::added&) { order[(*used)++] = '2'; }
    void on(const fakes::removed&) { order[(*used)++] = 'r'; }
};
struct third {
    using handles = pj::live_only<fakes::added>;
    static constexpr const char* handler_name = "third";
    char* order;
    uint8_t* used;
    void on(const fakes::added&) { order[(*used)++] = '3'; }
};
struct everything {
    using handles = pj::every_event;
    uint8_t seen = 0;
    void on(const pj::stored_event&) { ++seen; }
};

void all_handlers_of_a_type_in_order() {
    char order[8]{};
    uint8_t used = 0;
    first a{order, &used};
    second b{order, &used};
    third c{order, &used};
    everything d;
    pj::registry all{a, b, c, d};
    CHECK(pj::deliver(all, pj::raw_event(0, fakes::numbers[0])) == pj::handled);
    CHECK(pj::text(order, used) == pj::text("123"));
    CHECK(pj::deliver(all, pj::raw_event(1, fakes::numbers[0]), true) == pj::handled);   // replayed
    CHECK(pj::text(order, used) == pj::text("12312"));
    const fakes::removed gone{1, 2};
    CHECK(pj::deliver(all, pj::raw_event(2, gone)) == pj::handled);
    CHECK(pj::text(order, used) == pj::text("12312r"));
    CHECK(d.seen == 3);
    const pj::handler_list found = all.find("Added");
    REQUIRE(found.size() == 4);
    CHECK(found[0] == pj::text("first"));
    CHECK(found[2] == pj::text("third"));
    CHECK(all.find(pj::id{77}).size() == 2);
}

/// Every bit of the mask: 32 handlers of one type, of which the last fails.
void thirty_two_handlers() {
    struct one {
        uint8_t calls = 0;
        bool fails = false;
        pj::verdict run(const fakes::added&) {
            ++calls;
            return fails ? pj::fail(3) : pj::handled;
        }
    };
    static const char names[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";
    one handlers[32]{};
    pj::handler_map<32> map;
    for (unsigned i = 0; i < 32; ++i)
        map.add<fakes::added, &one::run>(handlers[i], pj::text(names + i, 1));
    REQUIRE(map.fault() == pj::status::ok);
    handlers[31].fails = true;
    handlers[17].fails = true;
    fakes::array_log log;
    log.append(fakes::numbers[0]);
    fakes::slot checkpoints;
    pj::projection what{"many", log, map, checkpoints};
    what.on_error = pj::error_policy::retry_then_skip(2);
    what.delays.jitter_percent = 0;
    pj::worker worker{what};
    REQUIRE(worker.start() == pj::status::ok);
    for (uint32_t now = 0; now < 1000; now += 50) static_cast<void>(worker.tick(now));
    for (unsigned i = 0; i < 32; ++i) CHECK(handlers[i].calls == (i == 31 || i == 17 ? 3 : 1));
    CHECK(worker.counts().skipped == 1);
    CHECK(worker.counts().failed_calls == 6);
    CHECK(worker.checkpointed() == 0);
}

void double_it(const fakes::added& e, const pj::context& with) {
    *static_cast<uint32_t*>(const_cast<void*>(with.event.extra)) += 2 * e.value;
}

void functions_and_lambdas() {
    uint32_t sum = 0;
    pj::handler_map<4> map;
    map.add<fakes::added>(&double_it);
    map.add<fakes::removed>([](const fakes::removed& e, const pj::context& with) {
        *static_cast<uint32_t*>(const_cast<void*>(with.event.extra)) += e.shelf;
    });
    REQUIRE(map.fault() == pj::status::ok);
    pj::stored_event event = pj::raw_event(0, fakes::numbers[3]);
    event.extra = &sum;
    CHECK(pj::deliver(map, event) == pj::handled);
    CHECK(sum == 16);
    const fakes::removed gone{1, 200};
    pj::stored_event other = pj::raw_event(1, gone);
    other.type = pj::id{77};
    other.extra = &sum;
    CHECK(pj::deliver(map, other) == pj::handled);
    CHECK(sum == 216);
}

void faults_of_a_map_are_statuses() {
    fakes::summing model;
    pj::handler_map<2> twice;
    twice.add(model).add(model);
    CHECK(twice.fault() != pj::status::ok);
    pj::handler_map<1> full;
    full.add(model);
    CHECK(full.fault() == pj::status::table_full);
    fakes::array_log log;
    fakes::slot checkpoints;
    const pj::projection what{"full", log, full, checkpoints};
    pj::worker worker{what};
    CHECK(worker.start() == pj::status::table_full);
}

const targets::test_case cases[] = {
    CASE(by_name_and_by_number), CASE(all_handlers_of_a_type_in_order), CASE(thirty_two_handlers),
    CASE(functions_and_lambdas), CASE(faults_of_a_map_are_statuses)};

} // namespace

SUITE(routing);
