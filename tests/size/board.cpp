// What the board supplies and the library does not pay for: start-up and the four functions that
// every compiler may call by itself. Not measured.
#include <stddef.h>
#include <stdint.h>

extern "C" {

extern uint32_t data_begin, data_end, data_image, bss_begin, bss_end, stack_top;
int main();

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
    while (size != 0) {
        --size;
        out[size] = in[size];
    }
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

void reset() {
    const uint32_t* from = &data_image;
    for (uint32_t* to = &data_begin; to != &data_end; ++to) *to = *from++;
    for (uint32_t* to = &bss_begin; to != &bss_end; ++to) *to = 0;
    main();
    for (;;) {}
}

// The first words of flash on a Cortex-M; elsewhere merely something that keeps reset().
__attribute__((section(".vectors"), used)) const void* const vectors[2] = {
    &stack_top, reinterpret_cast<const void*>(&reset)};
}
