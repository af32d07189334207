// A NOR flash chip, as a model: erasing sets a whole sector to 0xFF, programming clears bits, and
// power may fail inside either and leave bits that read now so, now otherwise. A driver of your own
// with the same read(), program(), erase() and sizes takes its place.
#ifndef NOR_FLASH_HPP
#define NOR_FLASH_HPP

#include <stdint.h>

/// What an operation leaves behind when power fails inside it.
enum class tear : uint8_t {
    nothing,                    ///< it had not begun
    everything,                 ///< it was done, but nobody was told
    beginning,                  ///< up to some byte, and some bits of that one
    some_bits,                  ///< here and there
    zeros,                      ///< an erase that had only begun: such chips first clear all bits
    weak_bits,                  ///< some bits; the others read at random, each time anew
    weak_whole,                 ///< all or nothing, each time anew
    weak_per_boot,              ///< all or nothing: the same until the next reset, then anew
    last = weak_per_boot,
    refused                     ///< power stays, but the chip does nothing and says so
};

/// Plain data without a constructor, so that on the emulated board it may lie in memory that a
/// reset leaves alone. `PowerFails` is called when power has failed; where it returns, as on a
/// host, nothing works any more until power_up().
template<uint32_t SectorBytes, uint32_t Sectors, void (*PowerFails)()> struct nor_flash {
    static constexpr uint32_t sector_bytes = SectorBytes;
    static constexpr uint32_t sector_count = Sectors;
    static constexpr uint32_t size = SectorBytes * Sectors;
    static constexpr uint32_t anywhere = 0xFFFFFFFF;

    /// As it leaves the factory.
    void make(uint32_t seed) {
        for (uint8_t& cell : cells_) cell = 0xFF;
        for (uint8_t& bits : weak_) bits = 0;
        for (uint32_t& one : erases) one = 0;
        programs = 0;
        is_whole_ = is_steady_ = false;
        random_ = seed * 2u + 1u;
        power_up(0, tear::nothing);
    }
    /// Power fails inside the operation (program or erase) number `cut_at` from now; 0: it does
    /// not. `at_byte` says where a `beginning` ends; else that is random.
    void power_up(uint32_t cut_at, tear how, uint32_t at_byte = anywhere) {
        operations = 0;
        cut_at_ = cut_at;
        at_byte_ = at_byte;
        how_ = how;
        boot_ = next_random();
        has_power = true;
    }
    void power_off() {
        has_power = false;
        if (PowerFails != nullptr) PowerFails();
    }

    bool read(uint32_t at, void* to, uint32_t count) {
        uint8_t* out = static_cast<uint8_t*>(to);
        const uint32_t coin = is_steady_ ? boot_ : next_random();
        for (uint32_t i = at; i < at + count; ++i)
            *out++ = static_cast<uint8_t>(cells_[i] ^ (weak_[i] & noise(coin)));
        return has_power;
    }
    /// Clears the bits that are 0 in `from`; the others stay as they are.
    bool program(uint32_t at, const void* from, uint32_t count) {
        const uint8_t* in = static_cast<const uint8_t*>(from);
        programs += has_power ? 1 : 0;
        return change(at, count, [&](uint32_t i) { return static_cast<uint8_t>(~in[i]); }, 0);
    }
    bool erase(uint32_t sector) {
        erases[sector] += has_power ? 1 : 0;
        return change(sector * SectorBytes, SectorBytes, [](uint32_t) { return uint8_t{0xFF}; },
                      0xFF);
    }

    bool has_power;
    uint32_t operations;            // since power_up()
    uint32_t programs;              // ever
    uint32_t erases[Sectors];

    /// For tests: the chip ages.
    void flip(uint32_t at, uint8_t bits) { cells_[at] = static_cast<uint8_t>(cells_[at] ^ bits); }

private:
    uint32_t next_random() {        // xorshift
        random_ ^= random_ << 13;
        random_ ^= random_ >> 17;
        random_ ^= random_ << 5;
        return random_;
    }
    uint8_t noise(uint32_t coin) {
        if (is_whole_) return (coin >> 7 & 1u) != 0 ? 0xFF : 0;
        return static_cast<uint8_t>(next_random() >> 9);
    }

    /// Drives the bits touched(i) of byte `at + i` to those of `value`.
    template<class Touched>
    bool change(uint32_t at, uint32_t count, Touched touched, uint8_t value) {
        if (!has_power) return false;
        const bool is_cut = ++operations == cut_at_;
        if (is_cut && how_ == tear::refused) return false;
        uint32_t until = count;
        if (is_cut) {
            until = (at_byte_ == anywhere ? next_random() : at_byte_) % count;
            is_whole_ = how_ == tear::weak_whole || how_ == tear::weak_per_boot;
            is_steady_ = how_ == tear::weak_per_boot;
        }
        for (uint32_t i = 0; i < count; ++i) {
            if (is_cut) change_partly(at + i, touched(i), value, i < until, i == until);
            else settle(at + i, touched(i), value);
        }
        if (is_cut) power_off();
        return has_power;
    }
    void settle(uint32_t at, uint8_t bits, uint8_t value) {
        cells_[at] = static_cast<uint8_t>((cells_[at] & ~bits) | (value & bits));
        weak_[at] = static_cast<uint8_t>(weak_[at] & ~bits);
    }
    void change_partly(uint32_t at, uint8_t bits, uint8_t value, bool is_before, bool is_there) {
        const uint8_t some = static_cast<uint8_t>(bits & next_random() >> 11);
        switch (how_) {
        case tear::nothing:
        case tear::refused: return;
        case tear::everything: return settle(at, bits, value);
        case tear::beginning: return settle(at, is_before ? bits : is_there ? some : 0, value);
        case tear::zeros: return settle(at, value == 0 ? some : bits, 0);
        case tear::some_bits: return settle(at, some, value);
        case tear::weak_bits: settle(at, some, value); break;
        case tear::weak_whole:
        case tear::weak_per_boot: break;
        }
        const uint8_t differing = static_cast<uint8_t>((cells_[at] ^ value) & bits);
        weak_[at] = static_cast<uint8_t>(weak_[at] | differing);
    }

    uint8_t cells_[size];
    uint8_t weak_[size];            // bits that are neither 0 nor 1
    uint32_t random_, boot_, cut_at_, at_byte_;
    tear how_;
    bool is_whole_, is_steady_;
};

#endif
