// What the firmware needs of its board; see board.cpp.
#ifndef BOARD_HPP
#define BOARD_HPP

#include <stddef.h>
#include <stdint.h>

namespace board {

void print(const char* terminated);
void print(uint32_t number);
[[noreturn]] void leave(int status);    // the emulator ends with that status

uint32_t now_ms();
[[noreturn]] void restart();            // as if power had come back
void watch(uint32_t ms);                // starts the watchdog: feed it, or it resets the board
void feed();

} // namespace board

#endif
