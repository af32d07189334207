// An append-only ring of records in NOR flash. Power may fail at any moment.
//
//   sector   header | slot | slot | ...        each 32 bytes
//   header   sequence (64 bits), identity of the log, CRC
//   slot     CRC, type, version, size, payload; or blank; or void (zeros)
//
// The sector of sequence n lies at n modulo the number of sectors, so wear is even by itself. A
// record's position is its place: sequence x slots + slot. It is part of the CRC, so that what is
// left of an older sector is never taken for a record of this one, a bad record hides none that
// follows, and positions need no room.
//
// Of N sectors the newest N - 1 count. The one after the newest is being erased, or will be; what
// it still shows is nobody's. So an erase that is cut short touches nothing that is kept.
//
// A write that was cut short may read in one way now and in another tomorrow. mount() therefore
// writes what was written last once more, as it reads (zeros if it makes no sense), and gives up
// the slot after it, which may only look blank. A start costs a slot, but never a sector.
#ifndef FLASH_LOG_HPP
#define FLASH_LOG_HPP

#include "projections.hpp"

namespace flash {
namespace pj = projections;

/// CRC-32 (IEEE 802.3), four bits at a time.
inline uint32_t crc32(const void* data, uint32_t count, uint32_t before = 0) {
    static constexpr uint32_t table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158,
        0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4,
        0xA00AE278, 0xBDBDF21C};
    const uint8_t* in = static_cast<const uint8_t*>(data);
    uint32_t crc = ~before;
    for (uint32_t i = 0; i < count; ++i) {
        crc = table[(crc ^ in[i]) & 15u] ^ crc >> 4;
        crc = table[(crc ^ in[i] >> 4) & 15u] ^ crc >> 4;
    }
    return ~crc;
}
template<class T> bool consists_of(const T& object, uint8_t value) {
    const uint8_t* in = reinterpret_cast<const uint8_t*>(&object);
    for (uint32_t i = 0; i < sizeof object; ++i)
        if (in[i] != value) return false;
    return true;
}
template<class T> bool is_blank(const T& object) { return consists_of(object, 0xFF); }

template<class Flash> class log {
public:
    static constexpr uint32_t payload_max = 24;
    static constexpr uint32_t slot_bytes = 32;
    static constexpr uint32_t slots = Flash::sector_bytes / slot_bytes - 1;

    /// One record, as for_each() shows it.
    struct record {
        pj::position at;
        uint16_t type;
        uint8_t version, size;
        const uint8_t* payload;
    };

    /// Uses `sectors` sectors from `first` on. Pre: at least three.
    constexpr log(Flash& chip, uint32_t first, uint32_t sectors)
        : chip_(&chip), begin_(first), count_(sectors) {}

    /// Finds the end of the log, or creates one with that identity (a random number, not 0) where
    /// there is none. Before anything else. False: the flash does not work.
    bool mount(uint32_t identity_if_new) {
        header newest{};
        bool is_found = false;
        for (uint32_t sector = 0; sector < count_; ++sector) {
            header seen;
            if (!chip_->read(address(sector), &seen, sizeof seen)) return false;
            if (seen.crc != crc_of(seen) || seen.sequence % count_ != sector) continue;
            if (is_found && seen.sequence < newest.sequence) continue;
            newest = seen;
            is_found = true;
        }
        identity_ = is_found ? newest.identity : identity_if_new;
        return is_found ? settle(newest) : open(0);
    }

    /// The record's position, once it is durable; before_first if it is not. Then its slot is
    /// spent, and the next attempt takes another. Erases a sector once in `slots` calls.
    pj::position append(uint16_t type, const void* payload, uint8_t size, uint8_t version = 1) {
        if (size > payload_max || (next_ == slots && !open(sequence_ + 1)))
            return pj::before_first;
        slot made{0, type, version, size, {}};
        __builtin_memcpy(made.payload, payload, size);
        const pj::position at = position_of(next_++);
        made.crc = crc_of(made, at);
        if (!write(address_of(at), made)) return pj::before_first;
        return newest_ = at;
    }

    /// Calls visit(record) for those after `after` until it answers false. False: the flash does
    /// not work.
    template<class Visit> bool for_each(pj::position after, Visit&& visit) {
        const pj::position first = oldest() - 1;
        for (pj::position at = (after > first ? after : first) + 1; at <= newest_; ++at) {
            slot seen;
            if (!chip_->read(address_of(at), &seen, sizeof seen)) return false;
            if (seen.crc == crc_of(seen, at)) {
                if (!visit(record{at, seen.type, seen.version, seen.size, seen.payload})) break;
            } else if (at > damaged_through_ && !is_blank(seen) && !consists_of(seen, 0)) {
                damaged_through_ = at;
                ++damaged_;
            }
        }
        return true;
    }
    /// Records that were durable once and no longer make sense, of those looked at: the chip ages.
    uint32_t damaged() const { return damaged_; }
    /// Records up to here have been overwritten.
    pj::position trimmed() const { return oldest() - 1; }
    pj::position newest() const { return newest_; }
    /// So many records are kept at least, if every start is followed by many of them.
    uint32_t capacity() const { return (count_ - 2) * slots; }

    // What an event_store wants.
    pj::status read(pj::position after, pj::visitor& visit) {
        if (after < trimmed()) return pj::status::trimmed;
        const bool works = for_each(after, [&](const record& r) {
            pj::stored_event event;
            event.at = r.at;
            event.type = pj::id{r.type};
            event.version = r.version;
            event.payload = {r.payload, r.size};
            return visit(event);
        });
        return works ? pj::status::ok : pj::status::failed;
    }
    pj::status bounds(pj::position& gone, pj::position& highest, uint64_t& log_id) const {
        gone = trimmed();
        highest = newest_ > gone ? newest_ : gone;      // every record may have been overwritten
        log_id = identity_;
        return pj::status::ok;
    }

private:
    struct header {
        uint64_t sequence;
        uint32_t identity, crc;
    };
    struct slot {
        uint32_t crc;
        uint16_t type;
        uint8_t version, size;
        uint8_t payload[payload_max];
    };
    static_assert(sizeof(slot) == slot_bytes && sizeof(header) <= slot_bytes, "no padding");
    static constexpr uint32_t header_seed = 0x52494E47;     // so that zeros are no header

    static uint32_t crc_of(const header& h) { return crc32(&h, 12, header_seed); }
    static uint32_t crc_of(const slot& s, pj::position at) {
        return crc32(&s.type, slot_bytes - 4, crc32(&at, sizeof at));
    }
    uint32_t address(uint64_t sequence) const {
        return (begin_ + static_cast<uint32_t>(sequence % count_)) * Flash::sector_bytes;
    }
    uint32_t address_of(pj::position at) const {
        const uint64_t place = static_cast<uint64_t>(at);
        return address(place / slots) + (static_cast<uint32_t>(place % slots) + 1) * slot_bytes;
    }
    pj::position position_of(uint32_t index) const {
        return static_cast<pj::position>(sequence_ * slots + index);
    }
    /// The first position of the oldest sector that counts.
    pj::position oldest() const {
        const uint64_t kept = count_ - 2;       // besides the newest
        return static_cast<pj::position>(sequence_ > kept ? (sequence_ - kept) * slots : 0);
    }

    template<class T> bool write(uint32_t at, const T& object) {
        T seen;
        return chip_->program(at, &object, sizeof object) && chip_->read(at, &seen, sizeof seen) &&
               __builtin_memcmp(&seen, &object, sizeof seen) == 0;
    }
    bool open(uint64_t sequence) {
        header made{sequence, identity_, 0};
        made.crc = crc_of(made);
        if (!chip_->erase(address(sequence) / Flash::sector_bytes) ||
            !write(address(sequence), made)) return false;
        sequence_ = sequence;
        next_ = 0;
        return true;
    }
    /// What was written last may have been cut short: makes it one thing or the other, for good.
    bool settle(const header& newest) {
        sequence_ = newest.sequence;
        slot last{};
        for (next_ = slots; next_ != 0; --next_) {
            if (!chip_->read(address_of(position_of(next_ - 1)), &last, sizeof last)) return false;
            if (!is_blank(last)) break;
        }
        if (next_ == 0) {
            if (!write(address(sequence_), newest)) return false;
        } else {
            const pj::position at = position_of(next_ - 1);
            if (last.crc != crc_of(last, at)) last = slot{};
            if (!write(address_of(at), last)) return false;
        }
        if (next_ != slots && !write(address_of(position_of(next_++)), slot{})) return false;
        return find_newest();
    }
    bool find_newest() {
        for (newest_ = position_of(next_) - 1; newest_ > trimmed(); --newest_) {
            slot seen;
            if (!chip_->read(address_of(newest_), &seen, sizeof seen)) return false;
            if (seen.crc == crc_of(seen, newest_)) break;
        }
        return true;
    }

    Flash* chip_;
    uint32_t begin_, count_;
    uint32_t identity_ = 0;
    uint32_t next_ = 0;                         // slot of the newest sector
    uint64_t sequence_ = 0;                     // of the newest sector
    pj::position newest_ = pj::before_first;    // record
    pj::position damaged_through_ = pj::before_first;
    uint32_t damaged_ = 0;
};

} // namespace flash

#endif
