// A test framework for machines of a few kilobytes. A file of tests is a suite: functions without
// arguments, listed at its end (one that is not listed is a warning, hence an error). A case that
// checks nothing has failed, and so has a firmware in which no case ran.
#ifndef PROJECTIONS_TESTS_TARGETS_CHECK_HPP
#define PROJECTIONS_TESTS_TARGETS_CHECK_HPP

#include "boards/board.hpp"

namespace targets {

struct test_case {
    const char* name;
    void (*run)();
};
struct suite {
    const char* name;
    const test_case* cases;
    uint8_t count;
};

/// Counts the check; prints one line if it has failed. Answers what it was given.
bool check(bool is_true, unsigned line);

} // namespace targets

#define CHECK(condition) static_cast<void>(targets::check(static_cast<bool>(condition), __LINE__))
/// Leaves the function, which answers nothing, if the condition does not hold.
#define REQUIRE(condition)                                                                        \
    do {                                                                                          \
        if (!targets::check(static_cast<bool>(condition), __LINE__)) return;                      \
    } while (false)

#define CASE(function) {#function, &function}
#define SUITE(name)                                                                               \
    extern const targets::suite suite_##name;                                                     \
    const targets::suite suite_##name{#name, cases, sizeof cases / sizeof *cases}

#endif
