// What is asked of the logger after every reset, by the firmware and by the tests on a host: an
// outsider's notebook, and the comparison of device and notebook.
#ifndef TRIAL_HPP
#define TRIAL_HPP

#include "logger.hpp"

namespace edge {

/// What somebody beside the device has written down: what it was given, and what it has promised.
struct notebook {
    uint32_t offered = 0;       // number of the last event given to record()
    uint32_t kept = 0;          // number of the last that it has confirmed
    pj::position checkpoint = pj::before_first;     // the largest that was saved
    uint32_t boots = 0;
};

/// The event of that number; the `evil`th has a value that crashes.
inline measured measured_of(uint32_t number, uint32_t at_ms, uint32_t evil) {
    int16_t tenths = static_cast<int16_t>(number * 37 % 500);
    if (number % 13 == 5) tenths = 700;
    if (number % 11 == 7) tenths = measured::broken;
    if (number == evil) tenths = measured::evil;
    return {number, at_ms, static_cast<uint16_t>(number % 4), tenths};
}
inline bool is_door(uint32_t number, uint32_t evil) { return number % 5 == 0 && number != evil; }
inline door_moved door_of(uint32_t number, uint32_t at_ms) {
    const uint32_t door = number % 3, is_open = number / 5 % 2;
    return {number, at_ms, static_cast<uint16_t>(door), static_cast<uint16_t>(is_open)};
}
template<class Flash>
bool record(logger<Flash>& device, uint32_t number, uint32_t at_ms, uint32_t evil) {
    if (is_door(number, evil)) return device.record(door_of(number, at_ms));
    return device.record(measured_of(number, at_ms, evil));
}

template<class Flash> class examination {
public:
    examination(logger<Flash>& device, const notebook& notes, pj::position loaded, uint32_t evil)
        : device_(device), notes_(notes), loaded_(loaded), evil_(evil) {}

    /// What is wrong; nullptr: nothing. Pre: booted, and at the end of its log; the notes are those
    /// of before the start, `loaded` is the checkpoint that was found. Afterwards first() and
    /// last() are the numbers of the events in the log.
    const char* find_fault() {
        climate_.bug = [] {};
        bool is_right = true;
        const bool works = device_.log.for_each(pj::before_first, [&](const auto& r) {
            return is_right = look_at(r);
        });
        if (!works) return "the flash does not work";
        if (!is_right) return "an event is missing, or is not what it was";
        if (last_ < notes_.kept) return "an event that was confirmed is gone";
        if (last_ > notes_.offered) return "an event that nobody has recorded";
        if (device_.log.damaged() != 0) return "a torn record is taken for a durable one";
        // Each boot spends at most two slots: a torn one, and the one after it.
        const uint32_t spent = 2 * notes_.boots, room = device_.log.capacity();
        if (last_ - first_ + 1 + spent < (last_ < room ? last_ : room))
            return "more events were overwritten than had to be";
        if (loaded_ < notes_.checkpoint) return "the checkpoint is older than promised";
        if (loaded_ > device_.log.newest()) return "the checkpoint is ahead";
        if (above_ > device_.what.save.every_events + 1) return "too much was not saved";
        const pj::position heard = device_.siren.first_heard;
        if (heard != pj::before_first && heard <= loaded_) return "the siren sounds again";
        if (!is_same_model()) return "the models in RAM are not those of the log";
        return find_letter_fault();
    }
    uint32_t first() const { return first_; }
    uint32_t last() const { return last_; }

private:
    template<class Record> bool look_at(const Record& r) {
        struct { uint32_t number, at_ms; } begin;       // of all our events
        if (r.size != sizeof(measured) || r.version != 1) return false;
        __builtin_memcpy(&begin, r.payload, sizeof begin);
        const uint32_t number = begin.number;
        if (last_ != 0 && number != last_ + 1) return false;
        if (last_ == 0) first_ = number;
        last_ = number;
        if (r.at > loaded_) ++above_;
        if (is_door(number, evil_)) {
            const door_moved e = door_of(number, begin.at_ms);
            doors_.on(e);
            return r.type == 2 && __builtin_memcmp(&e, r.payload, sizeof e) == 0;
        }
        const measured e = measured_of(number, begin.at_ms, evil_);
        if (e.tenths == measured::broken) ++letters_due_;
        else if (!device_.letters.has_crashed(r.at)) static_cast<void>(climate_.on(e));
        return r.type == 1 && __builtin_memcmp(&e, r.payload, sizeof e) == 0;
    }
    bool is_same_model() const {
        for (uint16_t i = 0; i < climate::sensors; ++i) {
            const auto &a = device_.climate.of[i], &b = climate_.of[i];
            if (a.count != b.count || a.sum != b.sum || a.lowest != b.lowest ||
                a.highest != b.highest) return false;
        }
        return device_.doors.opened == doors_.opened && device_.doors.is_open == doors_.is_open;
    }
    /// Every broken sensor has one letter, as long as both rings still have the event.
    const char* find_letter_fault() {
        uint32_t letters = 0;
        pj::position before = pj::before_first;
        bool is_right = true, is_first = true, is_older = false;
        const bool works = device_.letters.for_each([&](const auto& letter) {
            if (letter.code == letter.crashed) return true;
            measured e{};
            __builtin_memcpy(&e, letter.event, sizeof e);
            if (is_first) is_older = letter.at <= device_.log.trimmed();
            is_first = false;
            is_right = letter.at > before && e.tenths == measured::broken &&
                       letter.code == climate::sensor_is_broken;
            before = letter.at;
            if (letter.at > device_.log.trimmed()) ++letters;
            return is_right;
        });
        if (!works) return "the letters cannot be read";
        if (!is_right) return "a letter twice, or of an event that was fine";
        const bool is_complete = is_older || !device_.letters.has_overwritten();
        return is_complete && letters != letters_due_ ? "a letter is missing" : nullptr;
    }

    logger<Flash>& device_;
    const notebook& notes_;
    pj::position loaded_;
    uint32_t evil_;
    climate climate_;
    doors doors_;
    uint32_t first_ = 0, last_ = 0, above_ = 0, letters_due_ = 0;
};

} // namespace edge

#endif
