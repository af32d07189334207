// The bytes of a checkpoint: whatever they are, they are read as the layout says or refused; what
// was written is read back; a few damaged bits are noticed.
#include "fuzz/feed.hpp"
#include "projections.hpp"

#include <cstring>

namespace pj = projections;

namespace {

constexpr size_t size = pj::checkpoint_bytes;

/// CRC-32 once more, by long division of the bits, so that the library's is not judged by itself.
uint32_t crc32(const uint8_t* data, size_t count) {
    uint32_t rest = 0xFFFFFFFFu;
    for (size_t bit = 0; bit < 8 * count; ++bit) {
        const uint32_t in = static_cast<uint32_t>(data[bit / 8] >> bit % 8) & 1u;
        const bool divides = ((rest ^ in) & 1u) != 0;
        rest >>= 1;
        if (divides) rest ^= 0xEDB88320u;
    }
    return ~rest;
}
uint64_t field(const uint8_t* at, size_t count) {
    uint64_t value = 0;
    while (count-- > 0) value = value << 8 | at[count];
    return value;
}
void seal(uint8_t (&bytes)[size]) {
    const uint32_t crc = crc32(bytes, size - 4);
    for (size_t i = 0; i < 4; ++i) bytes[size - 4 + i] = static_cast<uint8_t>(crc >> 8 * i);
}

bool equal(const pj::checkpoint& a, const pj::checkpoint& b) {
    return a.at == b.at && a.revision == b.revision && a.partition_count == b.partition_count &&
           a.fencing_token == b.fencing_token && a.replayed_through == b.replayed_through &&
           a.log_id == b.log_id && a.suspect == b.suspect && a.rebuild == b.rebuild &&
           a.crashes == b.crashes && a.hash_scheme == b.hash_scheme &&
           a.replay_stage == b.replay_stage;
}

/// The layout, field by field, as the header's documentation has it.
pj::checkpoint as_documented(const uint8_t (&b)[size]) {
    pj::checkpoint c;
    c.hash_scheme = b[1];
    c.replay_stage = b[2];
    c.revision = static_cast<uint32_t>(field(b + 4, 4));
    c.at = static_cast<pj::position>(field(b + 8, 8));
    c.fencing_token = field(b + 16, 8);
    c.log_id = field(b + 24, 8);
    c.replayed_through = static_cast<pj::position>(field(b + 32, 8));
    c.suspect = static_cast<pj::position>(field(b + 40, 8));
    c.partition_count = static_cast<uint32_t>(field(b + 48, 4));
    c.rebuild = static_cast<uint32_t>(field(b + 52, 4));
    c.crashes = static_cast<uint16_t>(field(b + 56, 2));
    return c;
}

/// Any bytes of any number.
void read_anything(const uint8_t* data, size_t count) {
    const bool is_sound = count == size && data[0] == 1 &&
                          crc32(data, size - 4) == field(data + size - 4, 4);
    pj::checkpoint untouched;
    untouched.at = 77;
    pj::checkpoint out = untouched;
    const bool is_read = pj::decode(pj::bytes(data, count), out);
    fuzz::demand(is_read == is_sound, "decode() takes what is no checkpoint, or refuses one");
    fuzz::demand(is_read || equal(out, untouched), "decode() answers false and writes");
}

void read_sealed(uint8_t (&bytes)[size], uint8_t version) {
    bytes[0] = version % 4 == 3 ? version : uint8_t{1};
    seal(bytes);
    pj::checkpoint out;
    const bool is_read = pj::decode(pj::bytes(bytes, size), out);
    fuzz::demand(is_read == (bytes[0] == 1), "another layout is taken, or ours refused");
    if (!is_read) return;
    fuzz::demand(equal(out, as_documented(bytes)), "decode() and the documented layout differ");
    uint8_t again[size];
    pj::encode(out, again);
    bytes[3] = bytes[58] = bytes[59] = 0;       // reserved
    seal(bytes);
    fuzz::demand(std::memcmp(again, bytes, size) == 0, "encode() after decode() differs");
}

void damage(uint8_t (&bytes)[size], fuzz::feed& in) {
    uint8_t damaged[size];
    std::memcpy(damaged, bytes, size);
    const uint32_t flips = 1 + in.below(3);         // CRC-32 notices up to five in 64 bytes
    for (uint32_t i = 0; i < flips; ++i) {
        const uint32_t bit = static_cast<uint32_t>(in.number(2)) % (8 * size);
        damaged[bit / 8] = static_cast<uint8_t>(damaged[bit / 8] ^ 1u << bit % 8);
    }
    pj::checkpoint out;
    const bool is_same = std::memcmp(damaged, bytes, size) == 0;
    fuzz::demand(pj::decode(pj::bytes(damaged, size), out) == is_same, "damage is not noticed");
    const size_t less = in.below(size);
    fuzz::demand(!pj::decode(pj::bytes(bytes, less), out), "a part of a checkpoint is taken");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t count) {
    read_anything(data, count);
    fuzz::feed in(data, count);
    const uint8_t version = in.byte();
    uint8_t bytes[size];
    for (uint8_t& one : bytes) one = in.byte();
    read_sealed(bytes, version);
    pj::encode(as_documented(bytes), bytes);
    damage(bytes, in);
    return 0;
}
