// How large the objects are that a user places, and what kind of objects they are.
#include "projections.hpp"

#include <stdio.h>

#include <type_traits>

namespace pj = projections;

// A worker is initialised before any code runs, so an interrupt may wake it at any time.
#if defined(__clang__)
#define CONSTANT_INITIALISED [[clang::require_constant_initialization]]
#elif defined(__GNUC__)
#define CONSTANT_INITIALISED __constinit
#else
#define CONSTANT_INITIALISED
#endif

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct purse {
    using handles = pj::events<coin>;
    uint32_t cents = 0;
    void on(const coin& e) { cents += e.cents; }
};
struct coin_count {
    using handles = pj::events<coin>;
    uint32_t coins = 0;
    void on(const coin&) { ++coins; }
};
struct array_log {
    pj::status read(pj::position, pj::visitor&) const { return pj::status::ok; }
};

static array_log coins;
static purse first;
static coin_count second;
CONSTANT_INITIALISED static pj::memory_log<4, 64> ring;
CONSTANT_INITIALISED static pj::memory_checkpoint_store<1> checkpoints;
CONSTANT_INITIALISED static pj::registry both{first, second};
CONSTANT_INITIALISED static pj::handler_map<4> map;

// A description that never changes stays in read-only memory.
static constexpr pj::projection described{"purse", coins, both, checkpoints};
CONSTANT_INITIALISED static pj::worker worker{described};

template<class T> constexpr bool stays_where_it_is =
    !std::is_copy_constructible_v<T> && !std::is_move_constructible_v<T> &&
    !std::is_copy_assignable_v<T> && !std::is_move_assignable_v<T>;

static_assert(stays_where_it_is<pj::worker>, "engines are neither copied nor moved");
static_assert(stays_where_it_is<decltype(both)>, "registries are neither copied nor moved");
static_assert(stays_where_it_is<decltype(map)>, "handler maps are neither copied nor moved");
static_assert(!std::is_polymorphic_v<pj::worker>, "engines have no table of virtual functions");
static_assert(std::is_trivially_destructible_v<pj::worker>, "engines need no exit handler");
static_assert(!std::is_constructible_v<pj::worker, pj::projection>, "a temporary would dangle");
static_assert(!std::is_convertible_v<pj::projection&, pj::worker>, "a worker is made on purpose");

static_assert(sizeof(pj::verdict) == 4 && std::is_trivially_copyable_v<pj::verdict>,
              "a verdict is answered in one register");
static_assert(sizeof(pj::status) == 1 && static_cast<int>(pj::status::ok) == 0, "a status is a byte");
static_assert(std::is_trivially_copyable_v<pj::projection>, "a description is plain data");
static_assert(std::is_aggregate_v<pj::projection>, "a description is plain data");
static_assert(std::is_trivially_copyable_v<pj::stored_event>, "a view is plain data");
static_assert(std::is_trivially_copyable_v<pj::checkpoint>, "a record is plain data");
static_assert(sizeof(pj::text) == 2 * sizeof(void*), "a text is a pointer and a size");
static_assert(sizeof(both) == 2 * sizeof(void*), "a registry is one pointer per handler");
static_assert(sizeof(pj::position) == 8 && std::is_signed_v<pj::position>, "-1 is before the first");

static int failures = 0;

/// What embeds big arrays must be all zero bytes at first: then it lies in .bss, not in .data and flash.
static void print_if_not_zero(const char* what, const void* object, size_t size) {
    const unsigned char* bytes = static_cast<const unsigned char*>(object);
    for (size_t i = 0; i < size; ++i) {
        if (bytes[i] == 0) continue;
        ++failures;
        printf("FAILED: %s is not all zero bytes\n", what);
        return;
    }
}

int main() {
#define PRINT_SIZE(type) printf("%5u  %s\n", static_cast<unsigned>(sizeof(type)), #type)
    PRINT_SIZE(pj::worker);
    PRINT_SIZE(pj::partitioned_worker);
    PRINT_SIZE(pj::event_sink);
    PRINT_SIZE(pj::replay_engine);
    PRINT_SIZE(pj::lease);
    PRINT_SIZE(pj::projection);
    PRINT_SIZE(pj::event_store);
    PRINT_SIZE(pj::checkpoint_store);
    PRINT_SIZE(pj::error_policy);
    PRINT_SIZE(pj::observer);
    PRINT_SIZE(pj::stored_event);
    PRINT_SIZE(pj::context);
    PRINT_SIZE(pj::failure);
    PRINT_SIZE(pj::counters);
    PRINT_SIZE(pj::checkpoint);
    PRINT_SIZE(pj::tick_result);
    PRINT_SIZE(pj::verdict);
    PRINT_SIZE(both);
    PRINT_SIZE(map);
    PRINT_SIZE(ring);
    PRINT_SIZE(checkpoints);

    print_if_not_zero("an empty handler_map", &map, sizeof map);
    print_if_not_zero("an empty memory_log", &ring, sizeof ring);
    print_if_not_zero("an empty memory_checkpoint_store", &checkpoints, sizeof checkpoints);
    if (failures != 0) return 1;
    return worker.running() ? 2 : 0;
}
