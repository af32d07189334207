// Firmwares that must not pass, one for each status: so that what tells the tests' verdicts is
// tested.
#include "check.hpp"

int tests_main();

#if defined(TRAP_fault)

// Where no machine of ours has anything: an AVR begins again, others refuse it.
int tests_main() {
#if defined(__AVR__)
    asm volatile("jmp 0");
#elif defined(__riscv) || defined(__arm__)
    *reinterpret_cast<volatile uint32_t*>(0xD0000000u) = 1;
#endif
    return board::passed;
}

#elif defined(TRAP_undefined)

int tests_main() {
#if defined(__AVR__)
    asm volatile(".word 0xFFFF");
#elif defined(__arm__)
    asm volatile("udf #0");
#elif defined(__riscv)
    asm volatile("unimp");
#endif
    return board::passed;
}

#elif defined(TRAP_unaligned)

struct alignas(8) room { unsigned char bytes[8]; };
static room at_odd_addresses;

int tests_main() {
    const unsigned char* volatile odd = at_odd_addresses.bytes + 1;
    return *reinterpret_cast<const volatile uint32_t*>(reinterpret_cast<uintptr_t>(odd)) == 0
               ? board::passed
               : board::failed;
}

#elif defined(TRAP_overflow)

static volatile unsigned char sink;

__attribute__((noinline)) static unsigned deeper(unsigned level) {
    volatile unsigned char frame[40];
    frame[level % sizeof frame] = static_cast<unsigned char>(level);
    const unsigned below = level == 30000 ? 0 : deeper(level + 1);
    sink = frame[(level + 1) % sizeof frame];
    return below + frame[level % sizeof frame];
}

int tests_main() { return deeper(0) == 7 ? board::passed : board::failed; }

#elif defined(TRAP_hang)

int tests_main() {
    for (volatile bool is_waiting = true; is_waiting;) {}
    return board::passed;
}

#elif defined(TRAP_failure)

static void fails() { CHECK(1 + 1 == 3); }
static void passes() { CHECK(1 + 1 == 2); }
static const targets::test_case cases[] = {CASE(fails), CASE(passes)};
SUITE(failure);

#elif defined(TRAP_unchecked)

static void checks_nothing() {}
static const targets::test_case cases[] = {CASE(checks_nothing)};
SUITE(unchecked);

#endif
