// Uses the heap, so that a test shows that the trap works: this program must fail.
#include <stdlib.h>

int main(int count, char**) {
    void* volatile taken = malloc(static_cast<size_t>(count));
    free(taken);
    return 0;
}
