// Start-up for a RISC-V 32 in machine mode: memory, the stack of the tests, traps, and semihosting
// as the way out. The 4 KiB below the stack are a guard: physical memory protection refuses them.
#include "painted.hpp"

// Control registers are an extension of their own (Zicsr), which every core with traps has.
asm(".option arch, +zicsr");

extern "C" {

// The debugger's calls (RISC-V "Semihosting"): these three instructions, uncompressed and on one
// page.
__attribute__((noinline, aligned(16)))
static long semihosting(long operation, const void* argument) {
    register long a0 asm("a0") = operation;
    register const void* a1 asm("a1") = argument;
    asm volatile(".option push \n .option norvc \n .balign 16 \n"
                 "slli x0, x0, 0x1f \n ebreak \n srai x0, x0, 7 \n"
                 ".option pop" : "+r"(a0) : "r"(a1) : "memory");
    return a0;
}

static uintptr_t guard_begin() { return reinterpret_cast<uintptr_t>(stack_bottom) - 4096; }

void trapped(uint32_t cause, uintptr_t address) {
    board::verdict what = board::fault;
    if (cause == 4 || cause == 6) what = board::unaligned;              // load, store
    const bool is_guard = address - guard_begin() < 4096;
    if ((cause == 5 || cause == 7) && is_guard) what = board::stack_overflow;
    board::finish(what);
}

__attribute__((naked, aligned(4))) void trap() {
    asm volatile("la sp, fault_stack_top \n csrr a0, mcause \n csrr a1, mtval \n j trapped");
}

void run_main() {
    board::fill_memory();
    asm volatile("csrw mtvec, %0" :: "r"(&trap));
    // NAPOT, locked, so that it binds machine mode, too; no right is given.
    asm volatile("csrw pmpaddr0, %0 \n csrw pmpcfg0, %1"
                 :: "r"(guard_begin() >> 2 | 0x1FF), "r"(0x98));
    board::finish(board::judge(tests_main()));
}

__attribute__((naked, section(".vectors"), used)) void reset() {
    asm volatile("la t0, stack_bottom \n la sp, stack_top \n li t1, %0 \n"
                 "1: sw t1, 0(t0) \n addi t0, t0, 4 \n bltu t0, sp, 1b \n j run_main"
                 :: "i"(board::paint));
}

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
uint32_t ticks() {
    const uint32_t mtime = *reinterpret_cast<const volatile uint32_t*>(0x0200BFF8);     // 10 MHz
    return ~mtime & 0xFFFFFF;                                   // downwards, as SysTick
}

} // namespace board
