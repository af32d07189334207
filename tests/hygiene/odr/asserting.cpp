// With asserts, which change the bodies of inline functions.
#define PROJECTIONS_ASSERT(condition) static_cast<void>((condition) || (fail_assert(), true))
[[noreturn]] inline void fail_assert() { __builtin_trap(); }

#include "purse.hpp"

report asserting() { return {fill_a_purse(), worker_name()}; }
