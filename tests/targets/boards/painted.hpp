// A painted stack: how deep it has been is where the paint ends. For machines whose stack grows
// downwards from stack_top to stack_bottom, symbols of the linker script.
#ifndef PROJECTIONS_TESTS_TARGETS_PAINTED_HPP
#define PROJECTIONS_TESTS_TARGETS_PAINTED_HPP

#include "board.hpp"

extern "C" {
extern uint32_t data_begin[], data_end[], data_image[], bss_begin[], bss_end[];
extern uint32_t stack_bottom[], stack_top[], fault_stack_top[];
}
int tests_main();

namespace board {

inline constexpr uint32_t paint = 0x50A1C7E5u;

inline void paint_up_to(const uint32_t* end) {
    for (volatile uint32_t* word = stack_bottom; word < end; ++word) *word = paint;
}
inline const uint32_t* deepest() {
    const uint32_t* word = stack_bottom;
    while (word < stack_top && *static_cast<const volatile uint32_t*>(word) == paint) ++word;
    return word;
}

// Not inlined: below its own frame nothing is in use.
__attribute__((noinline)) inline void paint_here() {
    uint32_t here = 0;
    const uintptr_t frame = reinterpret_cast<uintptr_t>(&here) - 64;
    for (volatile uint32_t* word = stack_bottom; reinterpret_cast<uintptr_t>(word) < frame; ++word)
        *word = paint;
}

inline void fill_memory() {
    const uint32_t* from = data_image;
    for (uint32_t* to = data_begin; to != data_end; ++to) *to = *from++;
    for (uint32_t* to = bss_begin; to != bss_end; ++to) *to = 0;
}

/// The last words of the stack are a guard, too: what has jumped over the edge and back left
/// traces.
inline verdict judge(int status) {
    const bool is_full = deepest() < stack_bottom + 4;
    if (is_full) return stack_overflow;
    return status >= 0 && status <= 2 ? static_cast<verdict>(status) : failed;
}

} // namespace board

#endif
