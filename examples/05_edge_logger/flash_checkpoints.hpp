// The checkpoint of one projection in two sectors of NOR flash, many slots in each. Power may fail
// at any byte, and the last record that was saved is still there.
//
// A save takes the next slot; one erase serves as many saves as a sector has slots. Only the sector
// that does not hold the newest record is ever erased. Of all records that make sense the one with
// the largest revision is the newest; encode() has put a CRC into each.
//
// As in the log, mount() settles what was written last and gives up the slot after it.
#ifndef FLASH_CHECKPOINTS_HPP
#define FLASH_CHECKPOINTS_HPP

#include "flash_log.hpp"

namespace flash {

template<class Flash> class checkpoints {
public:
    static constexpr uint32_t slots = Flash::sector_bytes / pj::checkpoint_bytes;

    /// Uses the sectors `first` and `first + 1`.
    constexpr checkpoints(Flash& chip, uint32_t first) : chip_(&chip), begin_(first) {}

    /// Finds the newest record. Before anything else. False: the flash does not work.
    bool mount() {
        image last[2] = {};
        uint32_t used[2] = {0, 0};
        revision_ = 0;
        next_ = slots;              // none: the first save erases a sector for itself
        for (uint32_t place = 0; place < 2 * slots; ++place) {
            image seen;
            if (!chip_->read(address_of(place), seen.bytes, sizeof seen)) return false;
            if (is_blank(seen)) continue;
            last[place / slots] = seen;
            used[place / slots] = place % slots + 1;
            pj::checkpoint found;
            if (!pj::decode({seen.bytes, sizeof seen}, found) || found.revision <= revision_)
                continue;
            revision_ = found.revision;
            newest_ = place;
        }
        return revision_ == 0 || settle(last[newest_ / slots], used[newest_ / slots]);
    }

    // What a checkpoint_store wants. There is one record, so keys are not looked at.
    pj::status load(pj::text, pj::checkpoint& out) {
        if (revision_ == 0) return pj::status::ok;
        image seen;
        if (!chip_->read(address_of(newest_), seen.bytes, sizeof seen)) return pj::status::failed;
        return pj::decode({seen.bytes, sizeof seen}, out) ? pj::status::ok
                                                          : pj::status::checkpoint_corrupt;
    }
    pj::status save(pj::text, const pj::checkpoint& next) {
        if (next.revision != revision_ + 1) return pj::status::conflict;
        if (next_ == slots) {
            const uint32_t other = revision_ == 0 ? 0 : 1 - newest_ / slots;
            if (!chip_->erase(begin_ + other)) return pj::status::failed;
            sector_ = other;
            next_ = 0;
        }
        image made;
        pj::encode(next, made.bytes);
        const uint32_t place = sector_ * slots + next_++;   // spent, whatever comes of it
        if (!write(place, made)) return pj::status::failed;
        newest_ = place;
        revision_ = next.revision;
        return pj::status::ok;
    }
    /// For a log that is not the one the checkpoint speaks of.
    bool forget() {
        revision_ = 0;
        next_ = slots;
        return chip_->erase(begin_) && chip_->erase(begin_ + 1);
    }

private:
    struct image { uint8_t bytes[pj::checkpoint_bytes]; };

    uint32_t address_of(uint32_t place) const {
        return (begin_ + place / slots) * Flash::sector_bytes +
               place % slots * static_cast<uint32_t>(sizeof(image));
    }
    bool write(uint32_t place, const image& made) {
        image seen;
        return chip_->program(address_of(place), made.bytes, sizeof made) &&
               chip_->read(address_of(place), seen.bytes, sizeof seen) &&
               __builtin_memcmp(seen.bytes, made.bytes, sizeof seen) == 0;
    }
    bool settle(image last, uint32_t used) {
        sector_ = newest_ / slots;
        next_ = used;
        pj::checkpoint found;
        if (!pj::decode({last.bytes, sizeof last}, found)) last = image{};
        if (!write(sector_ * slots + used - 1, last)) return false;
        return next_ == slots || write(sector_ * slots + next_++, image{});
    }

    Flash* chip_;
    uint32_t begin_;
    uint32_t sector_ = 0;           // that the next save goes to
    uint32_t next_ = slots;         // and its slot there
    uint32_t newest_ = 0;           // place of the newest record: both sectors' slots in a row
    uint32_t revision_ = 0;         // of the newest record; 0: there is none
};

} // namespace flash

#endif
