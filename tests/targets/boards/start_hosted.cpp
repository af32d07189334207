// The same tests as an ordinary program, so that they are known to be right where tools are good.
#include "board.hpp"

#include <stdio.h>
#include <stdlib.h>

int tests_main();

int main() { board::finish(static_cast<board::verdict>(tests_main())); }

namespace board {

void write(const char* terminated) { fputs(terminated, stdout); }
void finish(verdict how) {
    fflush(stdout);
    exit(how);
}
size_t stack_used() { return 0; }
size_t stack_used_below(uintptr_t) { return 0; }
void paint_stack() {}
uint32_t ticks() { return 0; }

} // namespace board
