// Power is cut at every operation of the edge logger's flash, in every way of tear; at every byte
// of a write; at every pair of operations; and at random, thousands of times. After each reset the
// device is compared with what it was given and what it had promised
// (examples/05_edge_logger/trial.hpp). Then what else flash does to a log: a ring whose tail passes
// the checkpoint, a log that was replaced, records that rot, a chip that refuses, wear.
//
//     power_cuts              all of it
//     power_cuts SEED         only the random cuts, with another seed
#include "../../examples/05_edge_logger/nor_flash.hpp"
#include "../../examples/05_edge_logger/trial.hpp"

#include <initializer_list>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace {
namespace pj = projections;

using small_flash = nor_flash<256, 10, nullptr>;        // 7 events to a sector, 4 checkpoints
using real_flash = nor_flash<4096, 16, nullptr>;        // 127 and 64

constexpr int tears = static_cast<int>(tear::last) + 1;
unsigned long cuts_tried = 0, boots = 0;

[[noreturn]] void fail(const char* what) {
    printf("FAILED: %s\n", what);
    exit(1);
}
void require(bool is_true, const char* what) {
    if (!is_true) fail(what);
}

/// One device on its chip, and the notebook beside it.
template<class Flash> struct bench {
    Flash chip;
    edge::notebook notes;
    pj::start_cause cause = pj::start_cause::clean;
    uint32_t evil = 0;              // number of the event that crashes; 0: none
    uint32_t every_events = 4;
    uint32_t crashes = 0, now_ms = 0;
    const char* fault = nullptr;
    uint32_t first = 0, last = 0;   // events that the log had after the last examination

    explicit bench(uint32_t seed) {
        chip.make(seed);
        here = this;
    }
    bench(const bench&) = delete;
    bench& operator=(const bench&) = delete;

    static bench* here;
    static void hang() {            // what the watchdog ends
        ++here->crashes;
        here->cause = pj::start_cause::crash;
        here->chip.power_off();
    }

    /// From a reset until power fails or event `until` is done. True: it is.
    bool run(uint32_t until, uint32_t cut_at, tear how,
             uint32_t at_byte = Flash::anywhere) {
        ++boots;
        ++notes.boots;
        chip.power_up(cut_at, how, at_byte);
        edge::logger<Flash> device(chip);
        device.climate.bug = hang;
        device.what.save.every_events = every_events;
        const pj::start_cause why = cause;
        cause = pj::start_cause::clean;
        const bool is_up = device.boot(why, 77);
        if (!chip.has_power) return false;
        if (!is_up) return complain("it does not boot");
        loaded = {};
        if (device.checkpoints.load({}, loaded) != pj::status::ok)
            return complain("the checkpoint cannot be read");
        const edge::notebook before = notes;
        if (!rest(device) || !examine(device, before)) return false;
        for (uint32_t number = last + 1; number <= until; ++number) {
            notes.offered = number;
            const bool is_kept = record(device, number, notes.boots, evil);
            if (!chip.has_power) return false;
            if (!is_kept && (how != tear::refused || !record(device, number, notes.boots, evil)))
                return complain("an event was not recorded");
            notes.kept = number;
            if (!rest(device)) return false;
        }
        return true;
    }
    /// The same, and a reset without another cut, after which all must be as it should be.
    void finish(uint32_t until) {
        for (uint32_t tries = 0; !run(until, 0, tear::nothing); ++tries) {
            if (fault != nullptr) return;
            if (tries > 8) { complain("it crashes at every boot"); return; }
        }
        run(until, 0, tear::nothing);
    }

private:
    bool complain(const char* what) {
        fault = what;
        return false;
    }
    /// Ticks until nothing is left to do. False: power has failed, or something is wrong.
    bool rest(edge::logger<Flash>& device) {
        for (uint32_t ticks = 0; ticks < 1000; ++ticks) {
            const uint32_t wait_ms = device.tick(now_ms += 100);
            const pj::position saved = device.worker.checkpointed();
            if (device.worker.running() && saved > notes.checkpoint) notes.checkpoint = saved;
            if (!chip.has_power) return false;
            if (device.halted_for != pj::status::ok) return complain("it has halted");
            if (wait_ms != 0) return true;
        }
        return complain("it never comes to rest");
    }
    bool examine(edge::logger<Flash>& device, const edge::notebook& before) {
        edge::examination<Flash> look(device, before, loaded.at, evil);
        fault = look.find_fault();
        first = look.first();
        last = look.last();
        return fault == nullptr;
    }
    pj::checkpoint loaded;
};
template<class Flash> bench<Flash>* bench<Flash>::here = nullptr;

/// Ends the program with a line that says how to come here again.
template<class Flash>
void require_right(const bench<Flash>& one, const char* test, uint32_t seed, uint32_t cut,
                   tear how, uint32_t second = 0, tear then = tear::nothing) {
    if (one.fault == nullptr) return;
    printf("FAILED: %s: seed %lu, cut at %lu as %d, at %lu as %d: "
           "%s (events %lu to %lu, boot %lu)\n",
           test, static_cast<unsigned long>(seed), static_cast<unsigned long>(cut),
           static_cast<int>(how), static_cast<unsigned long>(second), static_cast<int>(then),
           one.fault, static_cast<unsigned long>(one.first), static_cast<unsigned long>(one.last),
           static_cast<unsigned long>(one.notes.boots));
    exit(1);
}

/// Every operation of a run that goes round the ring more than once, in every way of tear; or of
/// the start that follows so many crashes at event `evil`.
void cut_once(uint32_t events, uint32_t evil, uint32_t crashes) {
    for (uint32_t seed = 1; seed <= 4; ++seed) {
        for (int how = 0; how < tears; ++how) {
            for (uint32_t cut = 1;; ++cut) {
                bench<small_flash> one(seed);
                one.evil = evil;
                while (one.crashes < crashes && one.fault == nullptr)
                    one.run(events, 0, tear::nothing);
                const bool is_done = one.run(events, cut, tear(how));
                const bool was_cut = one.chip.operations >= cut;
                one.finish(events);
                require_right(one, "one cut", seed, cut, tear(how));
                require(one.last == events, "not all events are there");
                // A start that is cut short may be one that should have told of a crash.
                if (evil != 0) require(one.crashes == 4 || one.crashes == 5, "crashes");
                if (is_done || !was_cut) break;
                ++cuts_tried;
            }
        }
    }
}

/// Every byte of every operation: what was written ends there.
void cut_at_bytes(uint32_t events) {
    for (uint32_t byte = 0; byte < pj::checkpoint_bytes; ++byte) {
        for (uint32_t cut = 1;; ++cut) {
            bench<small_flash> one(byte + 1);
            const bool is_done = one.run(events, cut, tear::beginning, byte);
            one.finish(events);
            require_right(one, "a cut at a byte", byte, cut, tear::beginning);
            require(one.last == events, "not all events are there");
            if (is_done) break;
            ++cuts_tried;
        }
    }
}

/// The chip refuses one operation, and power stays: it is tried again, elsewhere.
void refuse_once(uint32_t events) {
    uint32_t failed_starts = 0;
    for (uint32_t refused = 1;; ++refused) {
        bench<small_flash> one(refused);
        const bool is_done = one.run(events, refused, tear::refused);
        const bool was_refused = one.chip.operations >= refused;
        if (!is_done) {                 // the start says that the flash does not work
            require(one.chip.has_power && refused < 10, "one refusal ends it");
            ++failed_starts;
            one.fault = nullptr;
        }
        one.finish(events);
        require_right(one, "refused", refused, refused, tear::refused);
        require(one.last == events, "not all events are there");
        if (!was_refused) break;
    }
    require(failed_starts == 4, "a new log and its letters are two operations each");
}

/// The same with a second cut at every operation after the first, those of the start included.
/// `before` events have filled the ring, and the sectors of the checkpoints, to another place.
void cut_twice(uint32_t before, uint32_t seed) {
    const uint32_t events = before + 9;
    for (int pair = 0; pair < tears * tears; ++pair) {
        const tear how = tear(pair % tears), then = tear(pair / tears);
        bool is_over = false;
        for (uint32_t cut = 1; !is_over; ++cut) {
            bool is_last = false;
            for (uint32_t second = 1; !is_last; ++second) {
                bench<small_flash> one(seed + second);
                one.every_events = 2;
                one.run(before, 0, tear::nothing);
                is_over = one.run(events, cut, how);
                if (is_over) break;
                require_right(one, "two cuts", seed, cut, how, second, then);
                is_last = one.run(events, second, then);
                one.finish(events);
                require_right(one, "two cuts", seed, cut, how, second, then);
                require(one.last == events, "not all events are there");
                ++cuts_tried;
            }
        }
    }
}

/// Power that fails again and again, at any moment.
void cut_at_random(uint32_t seed, uint32_t resets) {
    bench<small_flash> one(seed);
    uint32_t random = seed * 2654435761u + 1, until = 0;
    for (uint32_t i = 0; i < resets; ++i) {
        random = random * 1664525u + 1013904223u;
        until = one.notes.kept + 1 + (random >> 20) % 12;
        const uint32_t cut = 1 + (random >> 8) % 24;
        const tear how = tear(static_cast<int>((random >> 3) % tears));
        if (!one.run(until, cut, how)) ++cuts_tried;
        require_right(one, "random cuts", seed, cut, how);
    }
    one.finish(until);
    require_right(one, "random cuts", seed, 0, tear::nothing);
}

/// The ring's tail passes the checkpoint, while the worker rests and while power is off.
void overwrite_unread_events() {
    for (const int kind : {0, 1, 2}) {
        const bool is_reset = kind == 1;
        static small_flash chip;
        chip.make(5);
        edge::logger<small_flash> device(chip), after(chip);
        if (kind == 2) device.what.log.bounds = nullptr;        // read() says it, too
        require(device.boot(pj::start_cause::clean, 1), "boots");
        uint32_t number = 0;
        const auto record_some = [&](uint32_t count) {
            while (count-- != 0) require(record(device, ++number, 0, 0), "is recorded");
        };
        record_some(10);
        while (device.tick(0) == 0) {}
        device.worker.pause();
        while (device.tick(0) == 0) {}
        const pj::position checkpoint = device.worker.checkpointed();
        require(checkpoint == device.log.newest(), "what was handled is saved");
        record_some(100);
        edge::logger<small_flash>& then = is_reset ? after : device;
        if (is_reset) require(after.boot(pj::start_cause::clean, 1), "boots");
        then.worker.resume();
        while (then.tick(0) == 0) {}
        require(then.halted_for == pj::status::log_trimmed, "the loss is reported");
        require(then.overwritten == then.log.trimmed() - checkpoint, "and how much it is");
        require(then.overwritten > 60, "which is most of it");
        require(then.worker.scanned() == then.log.newest(), "what is left is handled");
        require(then.worker.state() == pj::run_state::idle, "and it goes on");
    }
}

/// Another log than the checkpoint's: a part of the chip was erased behind the logger's back.
void replace_log() {
    static small_flash chip;
    chip.make(6);
    {
        edge::logger<small_flash> device(chip);
        require(device.boot(pj::start_cause::clean, 1), "boots");
        for (uint32_t n = 1; n <= 20; ++n) require(record(device, n, 0, 0), "is recorded");
        while (device.tick(0) == 0) {}
        device.worker.stop();
        while (device.worker.running()) static_cast<void>(device.tick(0));
    }
    for (uint32_t sector = 5; sector < small_flash::sector_count; ++sector) chip.erase(sector);
    edge::logger<small_flash> device(chip);
    require(device.boot(pj::start_cause::clean, 3), "boots");
    for (uint32_t n = 1; n <= 4; ++n) require(record(device, n, 0, 0), "is recorded");
    while (device.tick(0) == 0) {}
    require(device.halted_for == pj::status::log_replaced, "is reported");
    require(device.worker.counts().handled == 4, "and what is new is handled");
}

/// The chip ages: one bad record hides no other.
void damage_records() {
    static small_flash chip;
    chip.make(7);
    edge::logger<small_flash> device(chip);
    require(device.boot(pj::start_cause::clean, 1), "boots");
    for (uint32_t n = 1; n <= 20; ++n) require(record(device, n, 0, 0), "is recorded");
    for (const uint32_t slot : {3u, 5u}) chip.flip(5 * 256 + slot * 32 + 9, 4);
    while (device.tick(0) == 0) {}
    require(device.log.damaged() == 2, "damage is counted once");
    require(device.worker.counts().scanned == 18, "the others are read");

    uint8_t copied[32];                     // a record in a place that is not its own
    chip.read(7 * 256 + 6 * 32, copied, sizeof copied);
    chip.program(7 * 256 + 7 * 32, copied, sizeof copied);
    edge::logger<small_flash> after(chip);
    require(after.boot(pj::start_cause::clean, 1), "boots");
    require(after.log.newest() == device.log.newest(), "is no event");
}

/// Sequences near the end of 32 bits: positions go on above.
void count_beyond_32_bits() {
    static small_flash chip;
    chip.make(8);
    const uint32_t sectors = small_flash::sector_count - 5, late = 0xFFFFFFFEu / sectors * sectors;
    struct { uint64_t sequence; uint32_t identity, crc; } header{late, 9, 0};
    header.crc = flash::crc32(&header, 12, 0x52494E47);
    chip.program(5 * 256, &header, sizeof header);
    pj::position before = pj::before_first;
    for (uint32_t boot = 0; boot < 3; ++boot) {
        edge::logger<small_flash> device(chip);
        require(device.boot(pj::start_cause::clean, 1), "boots");
        require(device.log.newest() >= before, "the end of the log is found");
        for (uint32_t n = 1; n <= 60; ++n) require(record(device, n, 0, 0), "is recorded");
        require(device.log.newest() >= before + 60, "positions grow");
        before = device.log.newest();
        while (device.tick(0) == 0) {}
        require(device.worker.scanned() == before, "the events are handled");
    }
    require(before / 7 > 0xFFFFFFFF, "there are more than 2^32 sectors");
}

/// After an update an event has another layout: the log must say which one it was written in.
struct measured_anew {
    static constexpr pj::event_type type{pj::id{3}, pj::raw, pj::schema{2}};
    uint32_t number, tenths;
};
void keep_versions() {
    small_flash chip;
    chip.make(5);
    edge::logger<small_flash> device(chip);
    require(device.boot(pj::start_cause::clean, 1), "it boots");
    require(device.record(measured_anew{1, 215}), "it is recorded");
    require(device.record(edge::measured{2, 0, 1, 215}), "so is one of the first version");
    unsigned versions[4] = {};
    const auto look = [&](const auto& r) { return versions[r.type] = r.version, true; };
    require(device.log.for_each(pj::before_first, look), "the log can be read");
    require(versions[3] == 2 && versions[1] == 1, "an event is kept with its version");
}

/// What a real chip goes through: figures for the README.
void wear() {
    static bench<real_flash> one(9);
    one.every_events = 64;
    const uint32_t events = 100000;
    require(one.run(events, 0, tear::nothing), "it runs");
    uint32_t least = ~0u, most = 0, log = 0, checkpoints = 0, letters = 0;
    for (uint32_t sector = 0; sector < real_flash::sector_count; ++sector) {
        const uint32_t erases = one.chip.erases[sector];
        if (sector < 2) checkpoints += erases;
        else if (sector < 5) letters += erases;
        else {
            log += erases;
            least = erases < least ? erases : least;
            most = erases > most ? erases : most;
        }
    }
    const double thousands = events / 1000.0;
    printf("erases per thousand events: %.2f log, %.2f checkpoints, %.2f letters; "
           "%lu to %lu of each sector of the log\n", log / thousands, checkpoints / thousands,
           letters / thousands, static_cast<unsigned long>(least),
           static_cast<unsigned long>(most));
    require(most - least <= 1, "the log wears evenly");
    const uint32_t a = one.chip.erases[0], b = one.chip.erases[1];
    require((a > b ? a - b : b - a) <= 1, "and so do the checkpoints");
    require(log <= events / 127 + 1, "a sector of the log takes 127 events");
    require(checkpoints <= events / 64 / 64 + 1, "64 checkpoints take one erase");
}
} // namespace

int main(int count, char** words) {
    const uint32_t seed = count > 1 ? static_cast<uint32_t>(strtoul(words[1], nullptr, 10)) : 1;
    if (count == 1) {
        overwrite_unread_events();
        replace_log();
        damage_records();
        count_beyond_32_bits();
        keep_versions();
        wear();
        cut_once(90, 0, 0);
        for (const uint32_t crashes : {0u, 1u, 2u, 3u, 4u}) cut_once(40, 23, crashes);
        cut_at_bytes(50);
        refuse_once(90);
        for (const uint32_t before : {0u, 31u, 38u}) cut_twice(before, before);
        printf("%lu cuts, one or two in a run, at every operation\n", cuts_tried);
    }
    for (uint32_t i = 0; i < 40; ++i) cut_at_random(seed + i, 500);
    printf("%lu cuts and %lu starts altogether; nothing is missing\n", cuts_tried, boots);
    return 0;
}
