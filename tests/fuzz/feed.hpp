// What the fuzz targets share: bytes that decide, and a way to say that something may not be.
#ifndef PROJECTIONS_TESTS_FUZZ_FEED_HPP
#define PROJECTIONS_TESTS_FUZZ_FEED_HPP

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace fuzz {

/// The input, taken piece by piece. Behind its end are zeros, and zero always stands for what is
/// harmless: so every input ends in a time without faults.
class feed {
public:
    feed(const uint8_t* data, size_t size) : data_(data), left_(size) {}
    bool empty() const { return left_ == 0; }
    uint8_t byte() {
        if (left_ == 0) return 0;
        --left_;
        return *data_++;
    }
    bool bit() { return (byte() & 1) != 0; }
    uint32_t below(uint32_t n) { return byte() % n; }
    uint64_t number(size_t bytes) {
        uint64_t value = 0;
        for (size_t i = 0; i < bytes; ++i) value = value << 8 | byte();
        return value;
    }
    /// Nothing more comes.
    void close() { left_ = 0; }

private:
    const uint8_t* data_;
    size_t left_;
};

/// Not an assert: it has to hold in every build.
inline void demand(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "fuzz: broken: %s\n", what);
    std::abort();
}

} // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#endif
