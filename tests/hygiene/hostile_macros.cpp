// The header behind the macros that platform headers define, most of them in the worst possible way.
// Only names that the platforms really define as macros stand here.

// windows.h
#define ERROR 0
#define OK 0
#define IN
#define OUT
#define OPTIONAL
#define min(a, b) hostile macro
#define max(a, b) hostile macro
#define small char
#define near
#define far
#define interface struct
#define DELETE (0x00010000L)
#define TRUE 1
#define FALSE 0
#define VOID void
#define CONST const
#define NO_ERROR 0L
#define STRICT 1
#define THIS hostile
#define PURE = 0
#define IGNORE 0
#define INFINITE 0xFFFFFFFF
#define WAIT_TIMEOUT 258L
#define TRANSPARENT 1
#define RELATIVE 2
#define ABSOLUTE 1
#define DIFFERENCE 11
#define SYNCHRONIZE (0x00100000L)
#define CALLBACK __stdcall
#define cdecl
#define pascal
#define Yield() hostile macro
#define GetMessage GetMessageA
// X11/Xlib.h and X11/X.h
#define Bool int
#define Status int
#define True 1
#define False 0
#define None 0L
#define Success 0
#define Always 2
#define Above 0
#define Below 1
#define Complex 0
#define Convex 2
#define Unsorted 0
#define FocusIn 9
#define KeyPress 2
// macOS AssertMacros.h, objc.h
#define check(assertion) hostile macro
#define verify(assertion) hostile macro
#define require(assertion, label) hostile macro
#define nil 0
#define YES 1
#define NO 0
// Arduino.h, binary.h, ctype.h of newlib and AVR
#define DEFAULT 1
#define HIGH 0x1
#define LOW 0x0
#define INPUT 0x0
#define OUTPUT 0x1
#define EXTERNAL 0
#define INTERNAL 3
#define PI 3.1415926535897932384626433832795
#define B0 0
#define B1 1
#define SP hostile
#define F(literal) hostile macro
#define bit(b) hostile macro
#define abs(x) hostile macro
#define round(x) hostile macro
#define sq(x) hostile macro
#define word(...) hostile macro
#define constrain(a, low, high) hostile macro
#define interrupts() hostile macro
#define _U 01
#define _L 02
#define _N 04
#define _S 010
#define _P 020
#define _C 040
#define _X 0100
#define _B 0200
// C libraries: assert.h, errno.h, sys/sysmacros.h, math.h, predefined names of gnu++17
#define assert(condition) hostile macro
#define errno (*hostile macro())
#define major(device) hostile macro
#define minor(device) hostile macro
#define DOMAIN 1
#define OVERFLOW 3
#define UNDERFLOW 4
#undef unix
#undef linux
#define unix 1
#define linux 1
// Qt, perl, Zephyr, Linux, STM32
#define signals public
#define slots
#define emit
#define forever for (;;)
#define foreach hostile
#define MIN(a, b) hostile macro
#define MAX(a, b) hostile macro
#define BIT(n) hostile macro
#define ARRAY_SIZE(a) hostile macro
#define UNUSED(x) hostile macro
#define likely(x) hostile macro
#define unlikely(x) hostile macro
#define container_of(a, b, c) hostile macro

#include "projections.hpp"

namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct purse {
    using handles = pj::events<coin>;
    uint32_t cents = 0;
    void on(const coin& e) { cents += e.cents; }
};

int main() {
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    purse mine;
    pj::handler_map<1> handlers;
    handlers.add(mine);
    const pj::projection projection{"purse", log, handlers, checkpoints};
    pj::worker worker{projection};
    const coin one{42};
    static_cast<void>(log.append(one));
    if (worker.start() != pj::status::ok) return 1;
    static_cast<void>(worker.tick(0));
    return mine.cents == 42 ? 0 : 2;
}
