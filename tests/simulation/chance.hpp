// Random numbers that are the same with every compiler and library: SplitMix64 (Steele, Lea,
// Flood).
#ifndef PROJECTIONS_TESTS_SIMULATION_CHANCE_HPP
#define PROJECTIONS_TESTS_SIMULATION_CHANCE_HPP

#include <cstdint>
#include <cstdlib>

namespace simulation {

class chance {
public:
    explicit chance(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        state_ += 0x9E3779B97F4A7C15u;
        uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    uint32_t below(uint32_t limit) {
        return static_cast<uint32_t>((next() >> 32) * limit >> 32);
    }
    /// Both ends included.
    uint32_t between(uint32_t least, uint32_t most) { return least + below(most - least + 1); }
    bool one_in(uint32_t n) { return below(n) == 0; }
    /// True so many times in ten thousand.
    bool happens(uint32_t per_ten_thousand) { return below(10000) < per_ten_thousand; }
    /// Mostly small, sometimes large.
    uint32_t skewed(uint32_t least, uint32_t most) {
        const uint32_t a = below(most - least + 1);
        const uint32_t b = below(most - least + 1);
        const uint32_t c = below(most - least + 1);
        const uint32_t smaller = a < b ? a : b;
        return least + (smaller < c ? smaller : c);
    }

private:
    uint64_t state_;
};

// ---- and where their seeds come from

inline bool read_number(const char* text, uint64_t& out) {
    char* end = nullptr;
    out = std::strtoull(text, &end, 10);
    return *text != '\0' && *end == '\0';
}
/// A number for any text.
inline uint64_t number_of(const char* text) {
    uint64_t hash = 1469598103934665603u;       // FNV-1a, 64 bits
    for (; *text != '\0'; ++text)
        hash = (hash ^ static_cast<unsigned char>(*text)) * 1099511628211u;
    return hash >> 24;
}

} // namespace simulation

#endif
