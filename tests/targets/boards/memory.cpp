// The four functions that every compiler may call by itself; see "What a bare target must supply"
// in the header. Compiled so that the loops are not turned into calls of themselves.
#include <stddef.h>
#include <stdint.h>

extern "C" {

// By words where both ends allow it, as that of a C library does: the flat events are decoded by it.
void* memcpy(void* to, const void* from, size_t size) {
    using word = uint32_t __attribute__((may_alias));
    unsigned char* out = static_cast<unsigned char*>(to);
    const unsigned char* in = static_cast<const unsigned char*>(from);
    const uintptr_t ends = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
    if (ends % sizeof(word) == 0) {
        for (; size >= sizeof(word); size -= sizeof(word)) {
            *static_cast<word*>(static_cast<void*>(out)) =
                *static_cast<const word*>(static_cast<const void*>(in));
            out += sizeof(word);
            in += sizeof(word);
        }
    }
    for (; size != 0; --size) *out++ = *in++;
    return to;
}
void* memmove(void* to, const void* from, size_t size) {
    unsigned char* out = static_cast<unsigned char*>(to);
    const unsigned char* in = static_cast<const unsigned char*>(from);
    if (reinterpret_cast<uintptr_t>(to) <= reinterpret_cast<uintptr_t>(from)) {
        for (; size != 0; --size) *out++ = *in++;
        return to;
    }
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
    for (; size != 0; --size, ++left, ++right) {
        if (*left != *right) return *left - *right;
    }
    return 0;
}

}
