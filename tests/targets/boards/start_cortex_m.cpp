// Start-up for a Cortex-M: memory, the stack of the tests, faults, and semihosting as the way out.
//
// tests_main() runs on the process stack, which lies at the bottom of RAM; exceptions are handled
// on the main stack. So a stack that overflows ends in HardFault with a stack to handle it on, and
// is told from other faults by where it ended.
#include "painted.hpp"

extern "C" {

// The debugger's calls (Arm's "Semihosting for AArch32 and AArch64").
static int semihosting(int operation, const void* argument) {
    register int r0 asm("r0") = operation;
    register const void* r1 asm("r1") = argument;
    asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static volatile uint32_t& system_register(uint32_t address) {
    return *reinterpret_cast<volatile uint32_t*>(address);
}

void hard_fault_on(const uint32_t* process_stack) {
    board::verdict what = board::fault;
#if !defined(__ARM_ARCH_6M__)
    const uint32_t usage_fault_unaligned = uint32_t{1} << 24;
    if ((system_register(0xE000ED28) & usage_fault_unaligned) != 0) what = board::unaligned;
#endif
    if (process_stack < stack_bottom) what = board::stack_overflow;
    board::finish(what);
}

__attribute__((naked)) void hard_fault() {
    asm volatile("mrs r0, psp \n ldr r1, =hard_fault_on \n bx r1");
}

void run_main() {
    // CCR.UNALIGN_TRP, unless the compiler was told that it may do what is unaligned: the tests'
    // cross files say that it may not. A Cortex-M0 knows nothing else.
#if !defined(__ARM_ARCH_6M__) && !defined(__ARM_FEATURE_UNALIGNED)
    system_register(0xE000ED14) |= uint32_t{1} << 3;
#endif
    // SysTick: the processor's clock, no interrupt, all 24 bits.
    system_register(0xE000E014) = 0xFFFFFF;
    system_register(0xE000E018) = 0;
    system_register(0xE000E010) = 5;
    board::finish(board::judge(tests_main()));
}

void reset() {
    board::fill_memory();
#if defined(__ARM_FP)
    system_register(0xE000ED88) |= uint32_t{0xF} << 20;         // CPACR: the FPU may be used
    asm volatile("dsb \n isb");
#endif
    board::paint_up_to(stack_top);
    asm volatile("msr psp, %0 \n movs r0, #2 \n msr control, r0 \n isb \n"
                 "ldr r0, =run_main \n bx r0"
                 :: "r"(stack_top) : "r0", "memory");
    __builtin_unreachable();
}

// The stack pointer, reset, NMI, and the faults, which all escalate to HardFault here. No
// interrupts.
__attribute__((section(".vectors"), used)) const void* const vectors[16] = {
    fault_stack_top, reinterpret_cast<const void*>(&reset),
    reinterpret_cast<const void*>(&hard_fault), reinterpret_cast<const void*>(&hard_fault)};

}

namespace board {

void write(const char* terminated) { semihosting(0x04, terminated); }

void finish(verdict how) {
    const uint32_t reason_and_status[2] = {0x20026, how};       // ADP_Stopped_ApplicationExit
    semihosting(0x20, reason_and_status);
    for (;;) {}
}

size_t stack_used() {
    return static_cast<size_t>(stack_top - deepest()) * sizeof(uint32_t);
}
size_t stack_used_below(uintptr_t address) {
    return address - reinterpret_cast<uintptr_t>(deepest());
}
void paint_stack() { paint_here(); }
uint32_t ticks() { return system_register(0xE000E018); }

} // namespace board
