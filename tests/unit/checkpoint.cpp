// >>ports, >>detail: the encoded checkpoint. These bytes lie in flash: they never change.
#include "projections.hpp"
#include <doctest/doctest.h>
#include <string.h>
#include <initializer_list>
#include <random>
namespace pj = projections;

namespace {

constexpr size_t size = pj::checkpoint_bytes;

bool same(const pj::checkpoint& a, const pj::checkpoint& b) {
    return a.at == b.at && a.revision == b.revision && a.partition_count == b.partition_count &&
        a.fencing_token == b.fencing_token && a.replayed_through == b.replayed_through &&
        a.log_id == b.log_id && a.suspect == b.suspect && a.rebuild == b.rebuild &&
        a.crashes == b.crashes && a.hash_scheme == b.hash_scheme &&
        a.replay_stage == b.replay_stage;
}
pj::checkpoint a_record() {
    pj::checkpoint c;
    c.at = 0x0102030405060708;
    c.revision = 0x11121314;
    c.partition_count = 0x21222324;
    c.fencing_token = 0x3132333435363738;
    c.replayed_through = 0x4142434445464748;
    c.log_id = 0x5152535455565758;
    c.suspect = 0x6162636465666768;
    c.rebuild = 0x71727374;
    c.crashes = 0x8182;
    c.hash_scheme = 0x91;
    c.replay_stage = 0xA1;
    return c;
}

// The CRCs are those of zlib.crc32() over the first 60 bytes.
const uint8_t full[size] = {
    1, 0x91, 0xA1, 0, 0x14, 0x13, 0x12, 0x11,               // layout, scheme, stage, -, revision
    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,         // at
    0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,         // fencing token
    0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51,         // log id
    0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,         // replayed through
    0x68, 0x67, 0x66, 0x65, 0x64, 0x63, 0x62, 0x61,         // suspect
    0x24, 0x23, 0x22, 0x21, 0x74, 0x73, 0x72, 0x71,         // partitions, rebuild
    0x82, 0x81, 0, 0, 0x06, 0x2B, 0x1E, 0x76};                              // crashes, -, CRC-32
const uint8_t empty[size] = {
    1, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xB3, 0xD6, 0xBD, 0x30};

} // namespace

TEST_CASE("checkpoint: the bytes, literally") {
    static_assert(size == 64);
    uint8_t image[size];
    pj::encode(a_record(), image);
    CHECK(memcmp(image, full, size) == 0);
    pj::encode({}, image);
    CHECK(memcmp(image, empty, size) == 0);
    pj::checkpoint back;
    REQUIRE(pj::decode({full, size}, back));
    CHECK(same(back, a_record()));
    REQUIRE(pj::decode({empty, size}, back));
    CHECK(same(back, {}));
}

TEST_CASE("checkpoint: every record comes back as it was") {
    std::mt19937_64 random(1);
    for (int i = 0; i < 2000; ++i) {
        pj::checkpoint c;
        c.at = static_cast<pj::position>(random());
        c.revision = static_cast<uint32_t>(random());
        c.partition_count = static_cast<uint32_t>(random());
        c.fencing_token = random();
        c.replayed_through = static_cast<pj::position>(random());
        c.log_id = random();
        c.suspect = static_cast<pj::position>(random());
        c.rebuild = static_cast<uint32_t>(random());
        c.crashes = static_cast<uint16_t>(random());
        c.hash_scheme = static_cast<uint8_t>(random());
        c.replay_stage = static_cast<uint8_t>(random());
        uint8_t image[size];
        pj::encode(c, image);
        pj::checkpoint back;
        CHECK(pj::decode({image, size}, back));
        CHECK(same(back, c));
    }
}

TEST_CASE("checkpoint: one or two wrong bits are refused, and nothing is written") {
    uint8_t image[size];
    memcpy(image, full, size);
    const auto flip = [&](size_t bit) {
        image[bit / 8] = static_cast<uint8_t>(image[bit / 8] ^ 1u << bit % 8);
    };
    size_t accepted = 0;
    pj::checkpoint out;
    for (size_t bit = 0; bit < 8 * size; ++bit) {
        flip(bit);
        accepted += pj::decode({image, size}, out);
        for (size_t other = bit + 1; other < 8 * size; other += 7) {
            flip(other);
            accepted += pj::decode({image, size}, out);
            flip(other);
        }
        flip(bit);
    }
    CHECK(accepted == 0);
    CHECK(same(out, {}));
    CHECK(pj::decode({image, size}, out));
}

TEST_CASE("checkpoint: other sizes, erased flash, half a write, another layout") {
    uint8_t image[size + 1] = {};
    memcpy(image, full, size);
    pj::checkpoint out;
    for (size_t bytes = 0; bytes <= size + 1; ++bytes) {
        CHECK(pj::decode({image, bytes}, out) == (bytes == size));
    }
    out = {};
    CHECK_FALSE(pj::decode({}, out));
    for (const int erased : {0x00, 0xFF}) {
        memset(image, erased, size);
        CHECK_FALSE(pj::decode({image, size}, out));
        for (size_t written = 1; written < size; ++written) {
            memcpy(image, full, written);
            CHECK_FALSE(pj::decode({image, size}, out));
        }
    }
    uint8_t layout_2[size] = {2};
    const uint8_t its_crc[] = {0x57, 0x92, 0xC4, 0x4A};
    memcpy(layout_2 + size - 4, its_crc, 4);
    CHECK_FALSE(pj::decode({layout_2, size}, out));
    CHECK(same(out, {}));
}

TEST_CASE("checkpoint: encode() writes its bytes, and not one more") {
    struct {
        uint8_t image[size];
        uint8_t behind[8];
    } memory;
    memset(&memory, 0xA5, sizeof memory);
    pj::checkpoint record;
    record.at = 7;
    pj::encode(record, memory.image);
    for (const uint8_t byte : memory.behind) CHECK(byte == 0xA5);
    pj::checkpoint out;
    CHECK(pj::decode({memory.image, size}, out));
    CHECK(out.at == 7);
}
