// 05_edge_logger: firmware that logs sensor events in NOR flash and survives the loss of power.
//
//   needs   arm-none-eabi-g++ and qemu-system-arm (Debian: gcc-arm-none-eabi, qemu-system-arm)
//   run     examples/05_edge_logger/run
//
// What it shows:
//   flash_log.hpp          an append-only ring log: one erase per sector, 64-bit positions that go
//                          on when the ring wraps, torn records recognised
//   flash_checkpoints.hpp  the checkpoint in two alternating sectors, many to an erase
//   logger.hpp             events, read models in RAM that every start rebuilds (volatile_model), a
//                          siren that sounds only for what is new (live_only), dead letters in
//                          flash, an event that crashes the program (crash_guard)
//   nor_flash.hpp          the chip, with power that fails inside an erase or a program
//
// Here the board's power fails a few hundred times in the middle of something, and one event hangs
// the program so that the watchdog bites. After each reset an outsider's notebook (trial.hpp) is
// compared with the device. The same code is tested on a host with a cut at every operation:
// tests/flash/power_cuts.cpp.
#include "board.hpp"
#include "nor_flash.hpp"
#include "trial.hpp"

namespace {
namespace pj = projections;

void power_fails();
using chip_type = nor_flash<1024, 16, power_fails>;

constexpr uint32_t in_use = 0x10661065;
constexpr uint32_t power_cuts = 400;
constexpr uint32_t evil = 333;          // the number of the event that hangs

/// The guard needs three of them, and one before: in the first nobody knows what was in work.
constexpr uint32_t crashes_to_see = 4;

/// What no reset touches: the chip, and what somebody beside the device has written down.
struct beyond {
    uint32_t state;
    uint32_t cut, crashes, random;
    bool is_cut;                        // the last reset was ours, not the watchdog's
    edge::notebook notes;
    chip_type chip;
};
} // namespace

extern "C" beyond beyond_reset;         // see board.ld

namespace {
void power_fails() {
    beyond_reset.is_cut = true;
    board::restart();
}
void hang() { for (;;) static_cast<void>(board::now_ms()); }

uint32_t next_random() {
    return beyond_reset.random = beyond_reset.random * 1664525u + 1013904223u;
}

/// Called first after each reset. Answers what the run follows.
pj::start_cause power_up(beyond& all) {
    if (all.state != in_use) {
        all.chip.make(1);
        all.notes = {};
        all.cut = all.crashes = all.random = 0;
        all.is_cut = true;
        all.state = in_use;
    }
    const bool is_crash = !all.is_cut;
    if (is_crash) ++all.crashes;
    else ++all.cut;
    all.is_cut = false;
    ++all.notes.boots;
    // While it looks for the event that hangs, power stays.
    const bool is_left_alone = is_crash || all.cut > power_cuts;
    const uint32_t random = next_random() >> 8;
    all.chip.power_up(is_left_alone ? 0 : 1 + random % 60,
                      tear(random / 64 % (static_cast<uint32_t>(tear::last) + 1)));
    return is_crash ? pj::start_cause::crash : pj::start_cause::clean;
}

void say(const char* what, uint32_t number) {
    board::print(what);
    board::print(number);
}
[[noreturn]] void fail(const char* fault) {
    say("boot ", beyond_reset.notes.boots);
    board::print(": ");
    board::print(fault);
    board::print("\n");
    board::leave(1);
}
void tell(const pj::notice& n) {
    if (n.kind != pj::notice_kind::event_lettered || n.cause->code != pj::code_crashed) return;
    say("event at ", static_cast<uint32_t>(n.cause->event.at));
    say(" has crashed ", beyond_reset.crashes);
    board::print(" times: a letter says so, and it is not tried again\n");
}

/// Until nothing is left to do. A device would sleep so long; this one only looks at the time.
void rest(edge::logger<chip_type>& device) {
    while (device.tick(board::now_ms()) == 0) board::feed();
    board::feed();
    if (device.halted_for != pj::status::ok) fail(pj::to_string(device.halted_for));
    const pj::position saved = device.worker.checkpointed();
    if (saved > beyond_reset.notes.checkpoint) beyond_reset.notes.checkpoint = saved;
}

int report(edge::logger<chip_type>& device, uint32_t events) {
    const beyond& all = beyond_reset;
    uint32_t log = 0, others = 0, letters = 0;
    const bool works = device.letters.for_each([&](const auto&) { return ++letters != 0; });
    for (uint32_t sector = 0; sector < chip_type::sector_count; ++sector)
        (sector < 5 ? others : log) += all.chip.erases[sector];
    say("", events);
    say(" events, power failed ", all.cut - 1);
    say(" times, the watchdog bit ", all.crashes);
    board::print(" times: no event lost, no checkpoint older than promised\n");
    say("letters in flash ", letters);
    say("; of the events still in the log, measured by sensor 0: ", device.climate.of[0].count);
    say(", doors opened: ", device.doors.opened);
    say("\nerases per thousand events: log ", log * 1000 / events);
    say(", checkpoints and letters ", others * 1000 / events);
    board::print("\n");
    return works && all.crashes == crashes_to_see ? 0 : 2;
}
} // namespace

int main() {
    beyond& all = beyond_reset;
    const pj::start_cause cause = power_up(all);
    board::watch(200);
    edge::logger<chip_type> device(all.chip);
    device.what.observe = tell;
    device.climate.bug = hang;
    if (!device.boot(cause, next_random())) fail("it does not boot");

    const edge::notebook before = all.notes;
    pj::checkpoint loaded;
    if (device.checkpoints.load({}, loaded) != pj::status::ok) fail("no checkpoint can be read");
    rest(device);
    edge::examination<chip_type> look(device, before, loaded.at, evil);
    if (const char* fault = look.find_fault()) fail(fault);

    const bool is_last = all.cut > power_cuts;
    const uint32_t until = look.last() + 100;
    for (uint32_t number = look.last() + 1; number <= until; ++number) {
        all.notes.offered = number;
        if (!record(device, number, board::now_ms(), evil)) fail("an event was not recorded");
        all.notes.kept = number;
        rest(device);
    }
    if (!is_last) all.chip.power_off();
    return report(device, until);
}
