// Partitions of ids of 16 to 36 bytes: by the header, and by a SHA-256 with all rounds written out,
// portable C, which is what the header is measured against.
//
//     partition header|unrolled COUNT     prints a sum, which must be the same for both
#include "projections.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr uint32_t partitions = 8;

#define ROTATED(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define ROUND(a, b, c, d, e, f, g, h, i)                                                       \
    t = h + (ROTATED(e, 6) ^ ROTATED(e, 11) ^ ROTATED(e, 25)) + ((e & f) ^ (~e & g)) +         \
        projections::detail::sha256_constants[i] + w[(i) & 15];                                \
    d += t;                                                                                    \
    h = t + (ROTATED(a, 2) ^ ROTATED(a, 13) ^ ROTATED(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
#define SCHEDULE(i)                                                                            \
    w[(i) & 15] += (ROTATED(w[((i) + 1) & 15], 7) ^ ROTATED(w[((i) + 1) & 15], 18) ^           \
                    w[((i) + 1) & 15] >> 3) + w[((i) + 9) & 15] +                              \
                   (ROTATED(w[((i) + 14) & 15], 17) ^ ROTATED(w[((i) + 14) & 15], 19) ^        \
                    w[((i) + 14) & 15] >> 10);
#define FIRST(i) ROUNDS_OF_8(ROUND, i)
#define LATER(a, b, c, d, e, f, g, h, i) SCHEDULE(i) ROUND(a, b, c, d, e, f, g, h, i)
#define ROUNDS_OF_8(R, i)                                                                      \
    R(a, b, c, d, e, f, g, h, (i)) R(h, a, b, c, d, e, f, g, (i) + 1)                          \
    R(g, h, a, b, c, d, e, f, (i) + 2) R(f, g, h, a, b, c, d, e, (i) + 3)                      \
    R(e, f, g, h, a, b, c, d, (i) + 4) R(d, e, f, g, h, a, b, c, (i) + 5)                      \
    R(c, d, e, f, g, h, a, b, (i) + 6) R(b, c, d, e, f, g, h, a, (i) + 7)

/// One block is enough for ids of up to 55 bytes.
uint32_t unrolled(const char* id, size_t size) {
    unsigned char block[64]{};
    std::memcpy(block, id, size);
    block[size] = 0x80;
    block[62] = static_cast<unsigned char>(size * 8 >> 8);
    block[63] = static_cast<unsigned char>(size * 8);
    uint32_t w[16];
    for (int i = 0; i < 16; ++i)
        w[i] = static_cast<uint32_t>(block[4 * i]) << 24 | static_cast<uint32_t>(block[4 * i + 1]) << 16 |
               static_cast<uint32_t>(block[4 * i + 2]) << 8 | block[4 * i + 3];
    const uint32_t first[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                               0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
    uint32_t a = first[0], b = first[1], c = first[2], d = first[3], e = first[4], f = first[5],
             g = first[6], h = first[7], t;
    FIRST(0) FIRST(8)
    ROUNDS_OF_8(LATER, 16) ROUNDS_OF_8(LATER, 24) ROUNDS_OF_8(LATER, 32) ROUNDS_OF_8(LATER, 40)
    ROUNDS_OF_8(LATER, 48) ROUNDS_OF_8(LATER, 56)
    const uint32_t digest[8] = {first[0] + a, first[1] + b, first[2] + c, first[3] + d,
                                first[4] + e, first[5] + f, first[6] + g, first[7] + h};
    uint64_t rest = 0;
    for (const uint32_t word : digest) rest = (rest << 32 | word) % partitions;
    return static_cast<uint32_t>(rest);
}

using list = std::vector<std::string>;

extern "C" __attribute__((noinline)) uint32_t measured_header(const list& ids) {
    uint32_t sum = 0;
    for (const std::string& id : ids) sum = sum * 31 + projections::partition_of(id, partitions);
    return sum;
}
extern "C" __attribute__((noinline)) uint32_t measured_unrolled(const list& ids) {
    uint32_t sum = 0;
    for (const std::string& id : ids) sum = sum * 31 + unrolled(id.data(), id.size());
    return sum;
}

} // namespace

int main(int count, char** values) {
    if (count != 3) return 2;
    list ids;
    for (int i = 0; i < std::atoi(values[2]); ++i) {
        std::string id = std::to_string(1000000 + i) + "-550e8400-e29b-41d4-a716-446655440000";
        ids.push_back(id.substr(0, 16 + static_cast<size_t>(i) % 21));
    }
    const bool is_header = std::strcmp(values[1], "header") == 0;
    std::printf("%u\n", static_cast<unsigned>(is_header ? measured_header(ids) : measured_unrolled(ids)));
    return 0;
}
