// What a machine without an operating system gives to a firmware of tests: a line of text out, a
// verdict, and how deep its stack has been. Each start_*.cpp is one kind of machine.
#ifndef PROJECTIONS_TESTS_TARGETS_BOARD_HPP
#define PROJECTIONS_TESTS_TARGETS_BOARD_HPP

#include <stddef.h>
#include <stdint.h>

namespace board {

/// The status a firmware ends with. `emulate` adds those that only it can see (time-out, no
/// verdict) and is what gives them their meaning outside.
enum verdict : uint8_t {
    passed = 0,
    failed = 1,
    nothing_ran = 2,
    fault = 3,              // an access, instruction or call that the machine refused
    unaligned = 4,          // one at an address that is not a multiple of its size
    stack_overflow = 5
};

void write(const char* terminated);
[[noreturn]] void finish(verdict how);

/// The stack is painted before main(). Bytes from its top to the deepest that is no longer paint.
size_t stack_used();
/// The same, but from this address (see stack_pointer()) to the deepest.
size_t stack_used_below(uintptr_t address);
/// Paints what lies below the caller's frame again, so that stack_used() speaks of what follows.
void paint_stack();
/// Free running, 24 bits, downwards; 0 where there is none. One in `emulate --count` is a fixed
/// number of instructions.
uint32_t ticks();

/// Of the function that it is a part of.
__attribute__((always_inline)) inline uintptr_t stack_pointer() {
    uintptr_t sp = 0;
#if defined(__arm__)
    asm volatile("mov %0, sp" : "=r"(sp));
#elif defined(__riscv)
    asm volatile("mv %0, sp" : "=r"(sp));
#elif defined(__AVR__)
    asm volatile("in %A0, 0x3d \n in %B0, 0x3e" : "=r"(sp));
#endif
    return sp;
}

} // namespace board

#endif
