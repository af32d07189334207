// What avr-libc's start-up leaves to do on an ATmega1284P: the serial line, a verdict, the stack.
//
// No access is refused on an AVR. A stack that overflows is seen by a timer's interrupt, every
// millisecond, or by the paint at its end; a jump to nowhere comes back to the reset vector, which
// a mark in RAM that is not cleared gives away.
#include "board.hpp"

#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>

extern "C" {
extern uint8_t __heap_start;        // where variables end
}
int tests_main();

namespace {

constexpr uint8_t paint = 0xC7;
constexpr uint16_t mark = 0xB007;
constexpr uint8_t guard_bytes = 48;         // as much as an interrupt and finish() need
__attribute__((section(".noinit"))) uint16_t already_started;
const uint8_t* deepest_possible() { return &__heap_start + guard_bytes; }

void paint_below(const uint8_t* end) {
    for (volatile uint8_t* at = &__heap_start; at < end; ++at) *at = paint;
}

void put(char c) {
    while ((UCSR0A & (1 << UDRE0)) == 0) {}
    UDR0 = static_cast<uint8_t>(c);
}

} // namespace

// By hand what ISR() of avr-libc writes, with an attribute that clang does not know.
extern "C" __attribute__((signal, used)) void TIMER0_COMPA_vect();
extern "C" void TIMER0_COMPA_vect() {
    if (reinterpret_cast<const uint8_t*>(SP) < deepest_possible())
        board::finish(board::stack_overflow);
}

int main() {
    UCSR0B = 1 << TXEN0;
    if (already_started == mark) board::finish(board::fault);
    already_started = mark;
    paint_below(reinterpret_cast<const uint8_t*>(SP) - 16);
    TCCR0A = 1 << WGM01;                    // 16 MHz / 64 / 250: a millisecond
    TCCR0B = 1 << CS01 | 1 << CS00;
    OCR0A = 249;
    TIMSK0 = 1 << OCIE0A;
    sei();
    const int status = tests_main();
    const bool is_full = deepest_possible()[0] != paint || deepest_possible()[1] != paint;
    board::finish(is_full ? board::stack_overflow : static_cast<board::verdict>(status));
}

namespace board {

void write(const char* terminated) {
    for (; *terminated != '\0'; ++terminated) put(*terminated);
}

void finish(verdict how) {
    cli();
    write("\nEXIT:");                       // simavr itself always exits with 0
    put(static_cast<char>('0' + how));
    put('\n');
    for (;;) sleep_mode();                  // with interrupts off it ends the emulation
}

size_t stack_used() { return stack_used_below(RAMEND + 1); }
size_t stack_used_below(uintptr_t address) {
    const volatile uint8_t* at = &__heap_start;
    while (*at == paint) ++at;
    return address - reinterpret_cast<uintptr_t>(at);
}
__attribute__((noinline)) void paint_stack() {
    paint_below(reinterpret_cast<const uint8_t*>(SP) - 16);
}
uint32_t ticks() { return 0; }

} // namespace board
