// The board: vectors, start-up, a millisecond clock, the watchdog, and the way out of the emulator.
#include "board.hpp"

extern "C" {

extern uint32_t data_begin, data_end, data_image, bss_begin, bss_end, stack_top;
int main();

// The four functions that a compiler may call by itself.
void* memcpy(void* to, const void* from, size_t size) {
    unsigned char* out = static_cast<unsigned char*>(to);
    const unsigned char* in = static_cast<const unsigned char*>(from);
    for (; size != 0; --size) *out++ = *in++;
    return to;
}
void* memmove(void* to, const void* from, size_t size) {
    unsigned char* out = static_cast<unsigned char*>(to);
    const unsigned char* in = static_cast<const unsigned char*>(from);
    if (out <= in) return memcpy(to, from, size);
    while (size-- != 0) out[size] = in[size];
    return to;
}
void* memset(void* to, int value, size_t size) {
    unsigned char* out = static_cast<unsigned char*>(to);
    for (; size != 0; --size) *out++ = static_cast<unsigned char>(value);
    return to;
}
int memcmp(const void* a, const void* b, size_t size) {
    const unsigned char* left = static_cast<const unsigned char*>(a);
    const unsigned char* right = static_cast<const unsigned char*>(b);
    for (; size != 0; --size, ++left, ++right)
        if (*left != *right) return *left - *right;
    return 0;
}

static volatile uint32_t milliseconds;
static volatile uint32_t& at_address(uintptr_t address) {
    return *reinterpret_cast<volatile uint32_t*>(address);
}

void reset() {
    const uint32_t* from = &data_image;
    for (uint32_t* to = &data_begin; to != &data_end; ++to) *to = *from++;
    for (uint32_t* to = &bss_begin; to != &bss_end; ++to) *to = 0;
    at_address(0xE000ED14) |= 1u << 3;          // CCR.UNALIGN_TRP: as a smaller core would
    at_address(0xE000E014) = 25000 - 1;         // SysTick: 25 MHz, a thousand times in a second
    at_address(0xE000E010) = 7;
    board::leave(main());
}
void sys_tick() { milliseconds = milliseconds + 1; }
void bark() { for (;;) __asm__ volatile("wfi"); }                      // the watchdog's NMI; its reset follows
void fault() { board::leave(99); }

__attribute__((section(".vectors"), used)) const void* const vectors[16] = {
    &stack_top, reinterpret_cast<const void*>(&reset),
    reinterpret_cast<const void*>(&bark),
    reinterpret_cast<const void*>(&fault), reinterpret_cast<const void*>(&fault),
    reinterpret_cast<const void*>(&fault), reinterpret_cast<const void*>(&fault),
    nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
    reinterpret_cast<const void*>(&sys_tick)};

} // extern "C"

namespace board {

/// Asks the emulator for a service of Arm's semihosting.
static void semihost(uintptr_t service, const void* argument) {
    register uintptr_t r0 __asm__("r0") = service;
    register const void* r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}
void print(const char* terminated) { semihost(0x04, terminated); }      // SYS_WRITE0
void print(uint32_t number) {
    char digits[11] = {};
    char* first = digits + 10;
    do *--first = static_cast<char>('0' + number % 10); while ((number /= 10) != 0);
    print(first);
}
void leave(int status) {
    const uint32_t how[] = {0x20026, static_cast<uint32_t>(status)};    // application exit
    semihost(0x20, how);                                                // SYS_EXIT_EXTENDED
    for (;;) __asm__ volatile("wfi");
}

uint32_t now_ms() { return milliseconds; }

void restart() {
    at_address(0xE000ED0C) = 0x05FA0004;        // AIRCR.SYSRESETREQ
    for (;;) __asm__ volatile("wfi");
}

// The CMSDK watchdog counts down twice: the first time it interrupts, the second it resets.
static constexpr uintptr_t watchdog = 0x40008000;
void watch(uint32_t ms) {
    at_address(watchdog + 0xC00) = 0x1ACCE551;  // unlock
    at_address(watchdog + 0x000) = ms * 12500;  // half the time, at 25 MHz
    at_address(watchdog + 0x008) = 3;           // interrupt and reset
}
void feed() { at_address(watchdog + 0x00C) = 1; }

} // namespace board
