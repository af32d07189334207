// The logger itself: plain freestanding C++, the same on a board and in the tests on a host.
//
//   chip     | checkpoints: 2 sectors | letters: 3 | log: all others |
//
// record() puts an event into the log; tick() does what follows from it. The read models live in
// RAM: every start reads them again from the log.
#ifndef LOGGER_HPP
#define LOGGER_HPP

#include "flash_checkpoints.hpp"
#include "flash_log.hpp"
#include "projections.hpp"

namespace edge {
namespace pj = projections;

// ---- what happens

struct measured {
    static constexpr pj::event_type type{pj::id{1}, pj::raw};
    static constexpr int16_t broken = -32768;   // what a sensor says that is torn off
    static constexpr int16_t evil = 32767;      // a value that our code has a bug with
    uint32_t number;                            // of the event, so that anybody can see a gap
    uint32_t at_ms;
    uint16_t sensor;
    int16_t tenths;                             // of a degree
};
struct door_moved {
    static constexpr pj::event_type type{pj::id{2}, pj::raw};
    uint32_t number, at_ms;
    uint16_t door, is_open;
};

// ---- what follows from it

struct climate {
    using handles = pj::events<measured>;
    static constexpr uint16_t sensors = 4;
    static constexpr uint32_t sensor_is_broken = 1, no_such_sensor = 2;     // our codes
    struct { uint32_t count; int32_t sum; int16_t lowest, highest; } of[sensors]{};
    void (*bug)() = nullptr;

    pj::verdict on(const measured& e) {
        if (e.sensor >= sensors) return pj::reject(no_such_sensor);
        if (e.tenths == measured::broken) return pj::reject(sensor_is_broken);
        if (e.tenths == measured::evil) bug();  // hangs, and the watchdog bites
        auto& one = of[e.sensor];
        if (one.count == 0 || e.tenths < one.lowest) one.lowest = e.tenths;
        if (one.count == 0 || e.tenths > one.highest) one.highest = e.tenths;
        ++one.count;
        one.sum += e.tenths;
        return pj::handled;
    }
};
struct doors {
    using handles = pj::events<door_moved>;
    uint32_t opened = 0, is_open = 0;           // a bit for each door
    void on(const door_moved& e) {
        const uint32_t bit = 1u << (e.door & 31u);
        is_open = e.is_open != 0 ? is_open | bit : is_open & ~bit;
        if (e.is_open != 0) ++opened;
    }
};
/// Makes noise, so it must not hear at every start again what was measured long ago.
struct siren {
    using handles = pj::live_only<measured>;
    static constexpr int16_t hot = 600;
    uint32_t sounded = 0;
    pj::position first_heard = pj::before_first;
    void on(const measured& e, const pj::context& with) {
        if (first_heard == pj::before_first) first_heard = with.event.at;
        if (e.tenths > hot && e.tenths != measured::evil) ++sounded;
    }
};

// ---- events that were given up on

/// Dead letters in a log of their own, with a copy of the event: theirs is overwritten one day.
template<class Flash> class letter_box {
public:
    static constexpr uint32_t event_max = 12;
    struct letter {
        static constexpr uint16_t crashed = 0xFFFF;
        pj::position at;
        uint16_t handler;       // of the CRC of its name
        uint16_t code;          // ours are small numbers
        uint8_t event[event_max];
    };
    letter_box(Flash& chip, uint32_t first, uint32_t sectors) : kept_(chip, first, sectors) {}
    bool mount(uint32_t identity_if_new) {
        if (!kept_.mount(identity_if_new)) return false;
        return for_each([&](const letter& one) { remember(one); return true; });
    }
    /// The same letter again, as after a crash, is kept once.
    pj::status put(const pj::dead_letter& from) {
        letter made{from.event.at, name_of(from), code_of(from), {}};
        const size_t size = from.event.payload.size();
        if (size <= sizeof made.event)
            __builtin_memcpy(made.event, from.event.payload.data(), size);
        bool is_there = false;
        const bool works = for_each([&](const letter& one) {
            is_there = one.at == made.at && one.handler == made.handler;
            return !is_there;
        });
        if (!works) return pj::status::failed;
        if (!is_there && kept_.append(1, &made, sizeof made) == pj::before_first)
            return pj::status::failed;
        remember(made);
        return pj::status::ok;
    }
    /// Calls visit(letter) from the oldest on until it answers false.
    template<class Visit> bool for_each(Visit&& visit) {
        return kept_.for_each(pj::before_first, [&](const auto& record) {
            letter one;
            __builtin_memcpy(&one, record.payload, sizeof one);
            return visit(one);
        });
    }
    bool has_overwritten() const { return kept_.trimmed() != pj::before_first; }
    /// An event that has crashed the program must not come again at every start, only because the
    /// models in RAM are read anew.
    bool has_crashed(pj::position at) const {
        for (uint32_t i = 0; i < crashed_count_ && i < crashed_max; ++i)
            if (crashed_[i] == at) return true;
        return false;
    }

private:
    static constexpr uint32_t crashed_max = 8;
    static_assert(sizeof(letter) <= flash::log<Flash>::payload_max, "a letter fits into a slot");
    static uint16_t name_of(const pj::dead_letter& from) {
        const pj::text name = from.handler;
        return flash::crc32(name.data(), static_cast<uint32_t>(name.size())) & 0xFFFFu;
    }
    static uint16_t code_of(const pj::dead_letter& from) {
        return from.code < letter::crashed ? from.code & 0xFFFFu : letter::crashed;
    }
    void remember(const letter& one) {
        if (one.code == letter::crashed && !has_crashed(one.at))
            crashed_[crashed_count_++ % crashed_max] = one.at;
    }
    flash::log<Flash> kept_;
    pj::position crashed_[crashed_max] = {};
    uint32_t crashed_count_ = 0;
};

// ---- all of it

template<class Flash> class logger {
public:
    explicit logger(Flash& chip)
        : log(chip, log_begin, Flash::sector_count - log_begin), checkpoints(chip, 0),
          letters(chip, letters_begin, log_begin - letters_begin) {
        what.name = "edge";
        what.log = log;
        what.handlers = handlers;
        what.checkpoints = checkpoints;
        what.dead_letters = letters;
        what.filter = is_harmless_;
        what.crashes = &three_times;
        what.volatile_model = true;
        what.on_error = pj::error_policy::dead_letter();
        what.on_error_replaying = &silently;    // its letter was written when it was new
        what.batch = 32;
        what.poll_ms = pj::never;               // record() wakes it
        what.save = {64, 60000, false};         // flash wears out
    }

    /// After every reset. `random` names a log that is created. False: the flash does not work.
    bool boot(pj::start_cause cause, uint32_t random) {
        return log.mount(random | 1u) && letters.mount(random | 1u) && checkpoints.mount() &&
               worker.start(cause) == pj::status::ok;
    }
    /// True: the event is in the log for good. Not from inside a handler.
    template<class E> bool record(const E& event) {
        constexpr pj::event_type is = E::type;
        static_assert(is.number() <= 0xFFFF && is.version() <= 0xFF, "a slot has no room for it");
        static_assert(sizeof event <= letter_box<Flash>::event_max, "a letter has no room for it");
        const pj::position at = log.append(static_cast<uint16_t>(is.number()), &event, sizeof event,
                                           static_cast<uint8_t>(is.version()));
        worker.wake();
        return at != pj::before_first;
    }
    /// How long to sleep. What it halts for it reports, and goes on.
    uint32_t tick(uint32_t now_ms) {
        const pj::tick_result r = worker.tick(now_ms);
        if (r.state != pj::run_state::halted) return r.wait_ms;
        halted_for = r.reason;
        return go_on() ? 0 : pj::never;
    }

    flash::log<Flash> log;
    flash::checkpoints<Flash> checkpoints;
    letter_box<Flash> letters;
    edge::climate climate;
    edge::doors doors;
    edge::siren siren;
    pj::registry<edge::climate, edge::doors, edge::siren> handlers{climate, doors, siren};
    pj::projection what;
    pj::worker worker{what};
    pj::status halted_for = pj::status::ok;     // the last reason
    int64_t overwritten = 0;                    // positions that were not handled in time

private:
    static constexpr uint32_t letters_begin = 2, log_begin = 5;
    static_assert(Flash::sector_count >= log_begin + 3, "a ring has at least three sectors");
    static constexpr pj::crash_guard three_times{3};
    static constexpr pj::error_policy silently = pj::error_policy::skip();

    bool go_on() {
        if (halted_for == pj::status::log_trimmed) {    // the ring's tail has passed the checkpoint
            overwritten += log.trimmed() - worker.scanned();
            return worker.reset(log.trimmed()) == pj::status::ok;
        }
        // The checkpoint is not this log's: somebody has changed the chip, or erased a part of it.
        return pj::group_of(halted_for) != pj::status_group::handler && checkpoints.forget() &&
               worker.start() == pj::status::ok;
    }

    struct harmless {
        const letter_box<Flash>& letters;
        bool operator()(const pj::stored_event& event) const {
            return !letters.has_crashed(event.at);
        }
    } is_harmless_{letters};
};

} // namespace edge

#endif
