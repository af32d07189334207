// partition_by with OpenSSL's SHA-256, which uses the processor's instructions for it: the same
// partitions, so hash_scheme 1 says that workers with and without it may share a projection.
#include "projections.hpp"

#include <openssl/sha.h>

#include <cstdio>
#include <string>

namespace pj = projections;

static uint32_t by_openssl(pj::text id, uint32_t count) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256(reinterpret_cast<const unsigned char*>(id.data()), id.size(), digest);
    uint64_t rest = 0;
    for (const unsigned char byte : digest) rest = (rest << 8 | byte) % count;
    return static_cast<uint32_t>(rest);
}

struct counted {
    static constexpr pj::event_type type{"Counted", pj::raw};
    uint32_t number;
};
struct counter {
    using handles = pj::events<counted>;
    uint32_t seen = 0;
    void on(const counted&) { ++seen; }
};

int main() {
    for (uint32_t i = 0; i < 20000; ++i) {
        const std::string id = std::string(i % 130, 'x') + std::to_string(i);
        const uint32_t count = i % 997 + 1;
        if (by_openssl(id, count) != pj::partition_of(id, count)) {
            std::printf("they differ for %s\n", id.c_str());
            return 1;
        }
    }
    pj::memory_log<256, 16384> log;
    for (uint32_t i = 0; i < 200; ++i) static_cast<void>(log.append(counted{i}, std::to_string(i)));
    pj::memory_checkpoint_store<4> checkpoints;
    counter total;
    pj::projection described{"counted", log, total, checkpoints};
    pj::partition_options with;
    with.partition_by = &by_openssl;
    with.hash_scheme = 1;
    pj::partitioned_worker fast{described, {0, 2}, with}, plain{described, {1, 2}};
    if (fast.start() != pj::status::ok || plain.start() != pj::status::ok) return 2;
    while (pj::tick_all(0, fast, plain) == 0) {}
    return total.seen == 200 && fast.counts().foreign == plain.counts().handled ? 0 : 3;
}
