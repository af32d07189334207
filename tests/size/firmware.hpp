// The measured firmware: EVENT_TYPES raw event types with one handler class or, with TWO_CLASSES,
// two; a log, a checkpoint slot and a letter box of the user's. What each feature costs is found by
// switching it on: FEATURE_x.
//
// Everything of the user's that calls no library function is in callbacks.cpp, whose bytes do not
// count. What calls the library is in firmware.cpp, whose bytes count to the last one.
#ifndef SIZE_FIRMWARE_HPP
#define SIZE_FIRMWARE_HPP

#include "projections.hpp"

namespace pj = projections;

// What handlers answer: nothing, unless the program is to play failures (see playing.cpp).
#if !defined(ANSWER)
#define ANSWER void
#endif

#define EVENT(index, name)                                                     \
    struct event_##index {                                                     \
        static constexpr pj::event_type type{name, pj::raw};                   \
        uint32_t pin;                                                          \
        uint32_t at_ms;                                                        \
    };
#include "events.inc"
#undef EVENT

struct first_handler {
    using handles = pj::events<
#include "every_event.inc"
        >;
#define EVENT(index, name) ANSWER on(const event_##index& event);
#include "events.inc"
#undef EVENT
    uint32_t sum = 0;
};

struct second_handler {
    using handles = pj::events<
#include "every_event.inc"
        >;
#define EVENT(index, name) ANSWER on(const event_##index& event);
#include "events.inc"
#undef EVENT
    uint32_t sum = 0;
};

// One checkpoint in RAM; a real one writes flash here.
struct user_slot {
    pj::status load(pj::text key, pj::checkpoint& out);
    pj::status save(pj::text key, const pj::checkpoint& next);
    uint8_t image[pj::checkpoint_bytes];
};

struct user_letters {
    pj::status put(const pj::dead_letter& letter);
#if defined(FEATURE_sequences)
    pj::status first(const pj::letter_sequence& of, pj::letter_visitor& show);
    pj::status evict(const pj::letter_sequence& of, pj::position at);
    pj::status sequences(const pj::letter_sequence& of, pj::sequence_visitor& show);
#endif
    uint32_t count = 0;
};

struct user_unit {
    pj::status begin();
    pj::status commit();
    pj::status rollback();
    uint32_t count;
};

struct user_locks {
    pj::status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token);
    pj::status extend(pj::text resource, uint32_t ttl_ms, uint64_t token);
    pj::status release(pj::text resource, uint64_t token);
};

struct user_record {
    const char* name;
    uint32_t name_size;
    uint32_t pin;
    uint32_t at_ms;
};

extern "C" {
bool user_fetch(uint32_t at, user_record& out);     // false: the end of the log
uint32_t user_clock();
pj::status user_bounds(pj::position& trimmed, pj::position& newest);
void user_observer(const pj::notice& what);
bool user_filter(const pj::stored_event& event);
pj::decision user_policy(const pj::failure& why);
void user_output(const void* bytes);
void user_sleep(uint32_t ms);
pj::verdict user_every(void* self, const pj::stored_event& event, const pj::context& with);
}

#endif
