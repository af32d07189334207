// projections.hpp 0.1.0 -- keeps read models in step with an append-only log of events.
// SPDX-License-Identifier: MIT
//
// One header, C++17, no dependency, no heap, no threads, no exceptions needed. It reads events from
// a log you own, decodes them, calls your projection handlers, applies an error policy when one
// fails, and saves a checkpoint so that work resumes after a crash: from a microcontroller with
// 8 KiB of RAM to a game server's frame loop to a service on a database. Copy this file, include
// it, done.
//
//
// HOW TO USE IT
//
// 1. Say how an event is found in the log. Here the payload is the struct's own bytes; write
//    `static bool decode(const pj::stored_event&, order_created&)` for JSON, CBOR or a row.
// 2. Write a handler: a plain class with a list of events and an on() for each of them.
// 3. Give it a log: anything with read(). And a checkpoint store: anything with load() and save().
// 4. Describe the projection once: name, log, handlers, checkpoints; then options by name.
// 5. Make a worker, start() it, and call tick() with any millisecond clock. It does a bounded
//    amount of work and says how long nothing is due. That is the whole loop.
//
// Example:
//
//     #include "projections.hpp"
//     namespace pj = projections;
//
//     struct order_created {
//         static constexpr pj::event_type type{"OrderCreated", pj::raw};
//         uint32_t cents;
//     };
//     struct revenue {
//         using handles = pj::events<order_created>;
//         uint64_t cents = 0;
//         void on(const order_created& e) { cents += e.cents; }
//     };
//
//     int main() {
//         pj::memory_log<16, 512> log;
//         pj::memory_checkpoint_store<1> checkpoints;
//         revenue total;
//         pj::projection projection{"revenue", log, total, checkpoints};
//         pj::worker worker{projection};
//
//         log.append(order_created{4999});
//         if (worker.start() != pj::status::ok) return 1;
//         while (worker.tick(0).wait_ms == 0) {}
//         return total.cents == 4999 ? 0 : 1;
//     }
//
//
// WHAT IT GUARANTEES (the numbers are those of the tests)
//
//   Progress  G1  The checkpoint never passes an event that has no outcome.
//             G2  It moves back only by reset() and set_position(), and is always a position that
//                 the store named, or where a hole ends that a gap_guard has settled.
//             G3  Filtered and unhandled events advance it; no batch is read again for itself.
//             G4  Reading resumes strictly after it. "None" is -1, so event 0 is delivered.
//             G5  A checkpoint below what the log still has, above its newest event, or of another
//                 log is a status of its own, never a silent jump.
//             G6  Unordered or duplicate positions stop the engine before a handler sees them.
//             G7  Events reach a handler in log order, retries included.
//             G8  With a gap_guard no event above a missing position is handled before the hole is
//                 settled, and each hole that is skipped is reported once.
//   Failures  G9  retry(R) makes exactly R + 1 attempts.
//             G10 Without a unit of work, a retry calls only the handlers that have not yet
//                 succeeded for that event; a failing one never keeps its siblings from running.
//             G11 Every failure ends in one of handled, skipped, lettered, halted, vanished.
//             G12 One letter per failing event and handler, durable before the checkpoint passes;
//                 after a crash or a rollback it may come again, with the same key.
//             G14 A failed save is tried again with backoff, a lost answer is recognised, and with
//                 `unsaved_max` events unsaved nothing but the save is tried.
//             G15 `pending` is never an attempt, never busy-waits, never loses the event.
//             G16 Counters reconcile: `scanned` is the sum of the outcomes. In a unit of work an
//                 event counts when it is committed.
//   Units     G17 With a unit of work, effects, letters and the checkpoint take effect together or
//                 not at all, whenever the power fails; an event is whole over its handlers.
//             G18 A failing event does not undo its neighbours for good: they commit, it is alone.
//                 A commit that fails is narrowed down to one event before a policy is asked.
//   Leases    G13 During a backoff the lease is renewed; stop and pause take one tick.
//             G19 Every aggregate belongs to exactly one partition, the same as in Python.
//             G20 No handler, letter, save or commit begins at or after the lease's end minus its
//                 margin.
//             G21 A former owner's save is refused once the new owner has claimed, if the store
//                 compares; when a lease is gained again all is loaded anew.
//             G22 Another partition count or hash is refused until repartition() has moved over.
//   Replay    G23 A rebuild that is interrupted anywhere and started again ends in the same model
//                 and checkpoint, if the model is saved with it or handlers are idempotent.
//             G24 With deterministic handlers, replaying twice equals replaying once equals live.
//             G25 live_only handlers are not called at or below `replayed_through`; above it they
//                 are like any other.
//   Operation G26 A tick visits at most its budget of events, allocates nothing, throws nothing,
//                 recurses never; called from inside a callback it does nothing (`reentered`).
//             G27 wait_ms never oversleeps anything due; woken() shows a wake() after the tick.
//             G28 stop() ends within `stop_ms`; the last completed event is saved, or the status
//                 says that it is not; stopped or halted, the lease is given back.
//             G29 A wrong configuration is a status of start(); nothing was touched.
//             G30 Wrapping of the clock changes nothing; a lease that has expired is expired.
//             G31 reset(), set_position() and skip_failed() clear all retry and pending state, and
//                 refuse when the state is no longer what the caller saw.
//             G32 The crash guard acts after exactly as many crashes in a row as it was told, and
//                 never after clean restarts.
//
//   Without a unit of work effects are applied at least once: after a crash the events since the
//   last save are handled again. Then make handlers idempotent, or save the model together with the
//   checkpoint in save().
//
//
// THE SAME DESCRIPTION, OTHER ENGINES
//
//   event_sink          is fed by a broker and says what to acknowledge.
//   replay_engine       empties the model and rebuilds it from the log, resumable after a crash.
//   partitioned_worker  handles the aggregates whose id hashes to its partition.
//
//   With a lease, any number of processes may run the same engine: one works, the others stand by.
//
// Example:
//
//     #include "projections.hpp"
//     namespace pj = projections;
//
//     struct sample {
//         static constexpr pj::event_type type{"Sample", pj::raw};
//         int32_t value;
//     };
//     struct latest {
//         using handles = pj::events<sample>;
//         int32_t value = 0;
//         void on(const sample& e) { value = e.value; }
//     };
//
//     void acknowledge(int64_t offset);
//     void acknowledge_through(int64_t offset);       // those that were answered `later`
//     void refuse(int64_t offset);
//     bool on_message(pj::event_sink& sink, int64_t offset, pj::bytes payload, uint32_t now_ms) {
//         pj::stored_event message;
//         message.at = offset;
//         message.type = "Sample";
//         message.payload = payload;
//         const pj::receive_result r = sink.receive(message, now_ms);
//         if (r.answer == pj::receipt::ack) acknowledge(offset);
//         if (r.answer == pj::receipt::reject) refuse(offset);
//         acknowledge_through(sink.checkpointed());   // after each tick(), too
//         return r.answer != pj::receipt::hold;   // false: offer it again after r.wait_ms
//     }
//
//     pj::status rebuild(const pj::projection& described, latest& model, uint32_t (*now_ms)()) {
//         const auto drop = [&] { model = {}; return pj::status::ok; };
//         pj::replay_options options;
//         options.on_drop = drop;
//         pj::replay_engine replay{described, options};
//         const pj::status s = replay.start();
//         return s != pj::status::ok ? s : pj::run(replay, now_ms, [](uint32_t) {});
//     }
//
//
// WHAT A BARE TARGET MUST SUPPLY
//
//   <stddef.h>, <stdint.h>, and the four functions every compiler may call by itself: memcpy,
//   memmove, memset, memcmp. On cores without a division or 64-bit multiply also the compiler's own
//   run-time library (libgcc). Nothing else: no C++ header, no operator new, no static constructor.
//
//
// THREADS AND INTERRUPTS
//
//   An engine belongs to one thread at a time. Only stop(), pause(), resume(), wake(), woken() and
//   a waker may be called from anywhere, interrupt and signal handlers included: each is one byte.
//
//
// CONTENTS (search for the tag)
//
//   >>version        numbers, language check, includes
//   >>configuration  four macros, all optional
//   >>traits         the few type traits the declarations need
//   >>types          positions, text, bytes, event types, stored events
//   >>status         what ports and commands answer; verdicts of handlers
//   >>events         event_traits: how a C++ type is found in the log and decoded
//   >>handlers       context, lists of events, registry, handler_map
//   >>ports          event store, checkpoint store, lease store, dead letters, unit of work,
//                    observer, callbacks
//   >>policy         error policies, backoff, crash-loop guard, gap guard, lease, sequences of
//                    letters
//   >>projection     the description and its options
//   >>worker         engine and worker
//   >>sink           event_sink: the same projection, fed by a broker
//   >>replay         replay_engine: the same projection, rebuilt
//   >>partitions     partitioned_worker: the same projection, one of several parts
//   >>stores         memory_log, memory_checkpoint_store
//   >>helpers        run, tick_all, deliver, profiles
//   >>detail         what templates need: decoding, routing tables, ports made from objects
//   >>bodies         the engines: the tick, its features, encoding, the stores in memory
//   >>clean-up       internal macros end here

#ifndef PROJECTIONS_HPP
#define PROJECTIONS_HPP

// --------------------------------------------------------------------------------------- >>version

#define PROJECTIONS_VERSION_MAJOR 0
#define PROJECTIONS_VERSION_MINOR 1
#define PROJECTIONS_VERSION_PATCH 0

#if defined(_MSVC_LANG)
#  if _MSVC_LANG < 201703L
#    error "projections.hpp needs C++17: /std:c++17"
#  endif
#elif __cplusplus < 201703L
#  error "projections.hpp needs C++17: -std=c++17"
#endif

#include <stddef.h>
#include <stdint.h>

// --------------------------------------------------------------------------------- >>configuration

/// PROJECTIONS_EXCEPTIONS: 1 if callbacks may throw; every call out of the library then is a
/// boundary that no exception passes. Default: what the compiler does.
#if !defined(PROJECTIONS_EXCEPTIONS)
#  if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#    define PROJECTIONS_EXCEPTIONS 1
#  else
#    define PROJECTIONS_EXCEPTIONS 0
#  endif
#endif
#if PROJECTIONS_EXCEPTIONS
#  define PROJECTIONS_EXCEPTIONS_ _exceptions
#  define PROJECTIONS_TRY_ try
#  define PROJECTIONS_CATCH_ catch (...)
#else
#  define PROJECTIONS_EXCEPTIONS_
#  define PROJECTIONS_TRY_ if constexpr (true)
#  define PROJECTIONS_CATCH_ else
#endif

/// PROJECTIONS_ASSERT(condition): for errors of the programmer only (a null function given to a
/// handler_map). Bad data and bad answers are statuses. Default: not evaluated.
#if defined(PROJECTIONS_ASSERT)
#  define PROJECTIONS_ASSERTS_ _asserts
#else
#  define PROJECTIONS_ASSERTS_
#  define PROJECTIONS_ASSERT(condition) static_cast<void>(sizeof((condition) ? 1 : 0))
#endif

/// PROJECTIONS_SEPARATE: defined for a whole program, it has the engines compiled once. Every file
/// then reads declarations and templates only; one file defines PROJECTIONS_IMPLEMENTATION besides,
/// before its first include, and has the bodies. Default: not defined (to be defined as 0 is to be
/// defined), all is inline, and there is nothing else to do.
#if defined(PROJECTIONS_IMPLEMENTATION) && !defined(PROJECTIONS_SEPARATE)
#  error "projections.hpp: PROJECTIONS_IMPLEMENTATION is for programs with PROJECTIONS_SEPARATE"
#endif
#if defined(PROJECTIONS_SEPARATE)
#  define PROJECTIONS_SEPARATE_ _separate
#  define PROJECTIONS_SHARED_
#else
#  define PROJECTIONS_SEPARATE_
#  define PROJECTIONS_SHARED_ inline
#endif

// Two translation units with different switches must not share inline functions, or the linker
// picks one of them silently: every switch is part of the namespace's name, and so is -Os, with
// which a visitor delivers in another way.
#define PROJECTIONS_JOIN_(version, a, b, c, d) version##a##b##c##d
#define PROJECTIONS_NAME_(version, a, b, c, d) PROJECTIONS_JOIN_(version, a, b, c, d)
#define PROJECTIONS_ABI_                                                                           \
    PROJECTIONS_NAME_(v0_1_0, PROJECTIONS_EXCEPTIONS_, PROJECTIONS_ASSERTS_,                       \
                      PROJECTIONS_SEPARATE_, PROJECTIONS_SIZE_)

// To clang the word inline is a hint, with -Os too, and makes a quarter more of a program there.
#if defined(__clang__) && defined(__OPTIMIZE_SIZE__)
#  define PROJECTIONS_BODY_ __attribute__((minsize)) PROJECTIONS_SHARED_
#else
#  define PROJECTIONS_BODY_ PROJECTIONS_SHARED_
#endif

// Rare paths stay out of the hot loop; the hot lookup goes into it, once for each registry, so that
// the compiler knows its table, and so do the bodies that every batch comes by (QUICK). Where size
// matters, there is one for all of them, and what several places need is there once, though it is
// short.
#if (defined(__GNUC__) || defined(__clang__)) && defined(__OPTIMIZE_SIZE__)
#  define PROJECTIONS_COLD_
#  define PROJECTIONS_ONCE_ __attribute__((noinline))
#  define PROJECTIONS_INLINE_ inline
#  define PROJECTIONS_QUICK_BODY_ PROJECTIONS_BODY_
#  define PROJECTIONS_APART_
#  define PROJECTIONS_LIKELY_(condition) (condition)
#  define PROJECTIONS_SMALL_ 1
#  define PROJECTIONS_SIZE_ _small
#elif defined(__GNUC__) || defined(__clang__)
#  define PROJECTIONS_COLD_ __attribute__((cold))
#  define PROJECTIONS_ONCE_
#  define PROJECTIONS_INLINE_ __attribute__((always_inline)) inline
#  define PROJECTIONS_QUICK_BODY_ PROJECTIONS_INLINE_
#  define PROJECTIONS_APART_ __attribute__((noinline))
#  define PROJECTIONS_LIKELY_(condition) __builtin_expect((condition), true)
#  define PROJECTIONS_SMALL_ 0
#  define PROJECTIONS_SIZE_
#else
#  define PROJECTIONS_COLD_
#  define PROJECTIONS_ONCE_
#  define PROJECTIONS_INLINE_ inline
#  define PROJECTIONS_QUICK_BODY_ PROJECTIONS_BODY_
#  define PROJECTIONS_APART_
#  define PROJECTIONS_LIKELY_(condition) (condition)
#  define PROJECTIONS_SMALL_ 0
#  define PROJECTIONS_SIZE_
#endif

// What is rare and needs much stack keeps its frame out of its caller's, where size matters, too.
#if defined(__GNUC__) || defined(__clang__)
#  define PROJECTIONS_OWN_FRAME_ __attribute__((noinline))
#else
#  define PROJECTIONS_OWN_FRAME_
#endif

// Where it makes a function of a template, g++ takes a parameter called log for one that hides the
// user's own log, though the user's came after this header.
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wshadow"
#endif

namespace projections {
inline namespace PROJECTIONS_ABI_ {

// ---------------------------------------------------------------------------------------- >>traits

namespace detail {

template<bool Condition, class T = void> struct enable_if {};
template<class T> struct enable_if<true, T> { using type = T; };
template<bool Condition> using require = typename enable_if<Condition, int>::type;
template<bool Condition> using when = typename enable_if<Condition>::type;
template<class...> using void_t = void;

template<bool Condition, class A, class B> struct choice { using type = A; };
template<class A, class B> struct choice<false, A, B> { using type = B; };
template<bool Condition, class A, class B> using choose = typename choice<Condition, A, B>::type;

template<class A, class B> inline constexpr bool is_same = false;
template<class A> inline constexpr bool is_same<A, A> = true;

template<class T> struct remove_reference { using type = T; };
template<class T> struct remove_reference<T&> { using type = T; };
template<class T> struct remove_reference<T&&> { using type = T; };
template<class T> struct remove_const { using type = T; };
template<class T> struct remove_const<const T> { using type = T; };
template<class T> using referred = typename remove_reference<T>::type;
template<class T> using plain = typename remove_const<referred<T>>::type;

template<class T> inline constexpr bool is_lvalue = false;
template<class T> inline constexpr bool is_lvalue<T&> = true;
template<class T> inline constexpr bool always_false = false;
template<class T> T&& declval() noexcept;

/// INT64_MAX, which older C libraries show to C++ only when asked.
inline constexpr int64_t last_position = 0x7FFFFFFFFFFFFFFF;

/// The address of an object that the caller keeps alive, without its type. Temporaries do not
/// compile.
template<class T> constexpr void* address_of_named(T& object) {
    return const_cast<void*>(static_cast<const void*>(__builtin_addressof(object)));
}

/// Anything with data() and size(): std::string, std::string_view, std::vector, std::span, ...
template<class S> using range_of = void_t<decltype(declval<const S&>().data()),
                                          decltype(declval<const S&>().size())>;

/// In constant evaluation some addresses cannot be compared under g++'s -fsanitize=undefined (GCC
/// bug 71962): those are of something, and not null.
template<class T> constexpr bool is_null(T* pointer) {
    return (!__builtin_is_constant_evaluated() || __builtin_constant_p(pointer == nullptr)) &&
           pointer == nullptr;
}

constexpr size_t length_of(const char* terminated) {
    size_t length = 0;
    while (terminated[length] != '\0') ++length;
    return length;
}

/// FNV-1a, 32 bits (Fowler, Noll, Vo; draft-eastlake-fnv).
PROJECTIONS_ONCE_ constexpr uint32_t fnv1a(const char* data, size_t size,
                                           uint32_t hash = 2166136261u) {
    for (size_t i = 0; i < size; ++i) {
        hash = (hash ^ static_cast<unsigned char>(data[i])) * 16777619u;
    }
    return hash;
}

} // namespace detail

// ----------------------------------------------------------------------------------------- >>types

/// Where an event stands in its log: 0 or more, growing, gaps allowed. A store with two numbers
/// packs them (a Redis stream id: ms << 20 | sequence).
using position = int64_t;

/// Before any event. "No checkpoint" is this, so it is never mistaken for event 0, and
/// `WHERE position > ?` works.
inline constexpr position before_first = -1;

/// A wait that nothing but wake() ends. All waits are milliseconds.
inline constexpr uint32_t never = 0xFFFFFFFFu;

/// Counts events: 64 bits where pointers have them, else 32 (it wraps, as unsigned numbers do).
using event_count = detail::choose<(sizeof(void*) >= 8), uint64_t, uint32_t>;

/// Characters that somebody else owns, not terminated. Converts from a literal and from anything
/// with data() and size().
class text {
public:
    constexpr text() = default;
    constexpr text(const char* terminated)
        : data_(terminated),
          size_(detail::is_null(terminated) ? 0 : detail::length_of(terminated)) {}
    constexpr text(const char* data, size_t size) : data_(data), size_(size) {}
    text(const void* data, size_t size) : data_(static_cast<const char*>(data)), size_(size) {}
    template<class S, class = detail::range_of<S>>
    constexpr text(const S& range) : data_(range.data()), size_(range.size()) {}

    constexpr const char* data() const { return data_; }
    constexpr size_t size() const { return size_; }
    constexpr bool empty() const { return size_ == 0; }
    /// A string type of the user's: to<std::string>(), to<std::string_view>().
    template<class S> constexpr S to() const { return S(data_, size_); }
    constexpr const char* begin() const { return data_; }
    constexpr const char* end() const { return data_ + size_; }

    friend constexpr bool operator==(text a, text b) {
        if (a.size_ != b.size_) return false;
        for (size_t i = 0; i < a.size_; ++i) {
            if (a.data_[i] != b.data_[i]) return false;
        }
        return true;
    }
    friend constexpr bool operator!=(text a, text b) { return !(a == b); }

private:
    const char* data_ = nullptr;
    size_t size_ = 0;
};

/// Bytes that somebody else owns. Converts from anything with data() and size().
class bytes {
public:
    constexpr bytes() = default;
    constexpr bytes(const void* data, size_t size) : data_(data), size_(size) {}
    template<class S, class = detail::range_of<S>> constexpr bytes(const S& range)
        : data_(range.data()), size_(range.size() * sizeof(*range.data())) {}

    constexpr const void* data() const { return data_; }
    constexpr size_t size() const { return size_; }
    constexpr bool empty() const { return size_ == 0; }
    const unsigned char* begin() const { return static_cast<const unsigned char*>(data_); }
    const unsigned char* end() const { return begin() + size_; }
    projections::text text() const { return {data_, size_}; }

    /// Fills a trivially copyable object with these bytes. False, and nothing written, unless the
    /// size is exactly the object's.
    template<class E> PROJECTIONS_INLINE_ bool copy_to(E& out) const {
        static_assert(__is_trivially_copyable(E),
                      "projections: only a trivially copyable object can be "
                      "filled with bytes");
        if (size_ != sizeof(E)) return false;
        __builtin_memcpy(__builtin_addressof(out), data_, sizeof(E));
        return true;
    }

private:
    const void* data_ = nullptr;
    size_t size_ = 0;
};

struct raw_t {};
/// Marks an event type whose payload is the struct's own bytes: same machine, same compiler, your
/// risk.
inline constexpr raw_t raw{};
/// The number that a log stores in place of a name; 0 is none.
struct id { uint32_t value; };
/// The version of a payload's layout that decode() understands.
struct schema { uint32_t value; };

/// What an event type is called: a name, a number, or both. Without a number, the name's FNV-1a is
/// the number; logs that several programs share should state one.
class event_type {
public:
    constexpr event_type() = default;
    constexpr event_type(text name, schema version = {1})
        : event_type(name, number_of(name), version.value, false) {}
    constexpr event_type(const char* name, schema version = {1})
        : event_type(text(name), version) {}
    constexpr event_type(text name, raw_t, schema version = {1})
        : event_type(name, number_of(name), version.value, true) {}
    constexpr event_type(text name, id number, schema version = {1})
        : event_type(name, number.value, version.value, false) {}
    constexpr event_type(text name, id number, raw_t, schema version = {1})
        : event_type(name, number.value, version.value, true) {}
    constexpr event_type(id number, schema version = {1})
        : event_type(text(), number.value, version.value, false) {}
    constexpr event_type(id number, raw_t, schema version = {1})
        : event_type(text(), number.value, version.value, true) {}

    constexpr text name() const { return name_; }
    constexpr uint32_t number() const { return number_; }
    constexpr uint32_t version() const { return version_; }
    constexpr bool is_raw() const { return raw_; }

private:
    constexpr event_type(text name, uint32_t number, uint32_t version, bool is_raw)
        : name_(name), number_(number), version_(version), raw_(is_raw) {}
    static constexpr uint32_t number_of(text name) {        // 0 stands for no number
        const uint32_t hash = detail::fnv1a(name.data(), name.size());
        return name.empty() ? 0 : hash != 0 ? hash : 1;
    }

    text name_{};
    uint32_t number_ = 0;
    uint32_t version_ = 1;
    bool raw_ = false;
};

/// What one stored event says of its type: a name, or a number if it has no name. A name is matched
/// whole, never by a hash of it.
class type_key {
public:
    constexpr type_key() = default;
    constexpr type_key(const char* name) : name_(name) {}
    constexpr type_key(text name) : name_(name) {}
    constexpr type_key(id number) : number_(number.value) {}
    constexpr type_key(const event_type& type) : name_(type.name()), number_(type.number()) {}
    template<class S, class = detail::range_of<S>> constexpr type_key(const S& name)
        : name_(name) {}

    constexpr text name() const { return name_; }
    constexpr uint32_t number() const { return number_; }

private:
    text name_{};
    uint32_t number_ = 0;
};

/// No partition_key: partitions are told from the aggregate's id.
inline constexpr uint32_t no_key = 0xFFFFFFFFu;

/// One event as the log shows it. Owns nothing: what it points to need only live during its visit.
struct stored_event {
    position at = before_first;
    type_key type{};
    bytes payload{};
    text aggregate_id{};
    uint32_t version = 1;           ///< of the payload's layout
    uint32_t partition_key = no_key; ///< in place of a hash of the aggregate's id
    int64_t occurred_at = 0;        ///< in the user's unit; never looked at
    const void* extra = nullptr;    ///< whatever the store wants decode() to see (headers, a row)
};

/// A stored event whose payload is the bytes of `event`, which must outlive it.
template<class E>
constexpr stored_event raw_event(position at, const E& event, text aggregate_id = {});
template<class E>
stored_event raw_event(position at, const E&& event, text aggregate_id = {}) = delete;

// ---------------------------------------------------------------------------------------- >>status

/// What ports and commands answer. Not asking is a compiler warning; ok is 0.
enum class [[nodiscard]] status : uint8_t {
    // What a port may answer; each port says which.
    ok = 0,
    pending,                    ///< not done, nothing lost: ask again with the same arguments
    failed,                     ///< not done, or unknown whether done
    more,                       ///< read() only: stopped short for reasons of the store
    trimmed,                    ///< read() only: what follows `after` is no longer kept
    conflict,                   ///< somebody else has moved what was to be changed

    // projection: what an engine is doing, or why a command was refused
    stopped = 1 << 5,
    paused,
    reentered,                  ///< called from inside one of the engine's own callbacks
    already_started,
    not_loaded,                 ///< the checkpoint has not been loaded yet
    not_halted,

    // handler
    handler_failed = 2 << 5,
    decode_failed,
    unknown_type,
    dead_letter_failed,         ///< the sink does not take a letter
    unit_of_work_failed,        ///< begin() or commit() fails
    sequences_full,             ///< letter_sequences: no room for another one

    // checkpoint
    checkpoint_failed = 3 << 5, ///< load or save fails
    checkpoint_corrupt,         ///< what is stored is no checkpoint; load() may answer this itself
    checkpoint_conflict,        ///< two engines of one name
    checkpoint_ahead,           ///< above the newest event of the log
    partition_count_changed,    ///< not the count or the hash that the records speak of
    rebuild_unfinished,         ///< the model is being rebuilt, or a replay_engine was interrupted
    partial_record,             ///< the store does not keep all of what it was given

    // store
    store_failed = 4 << 5,      ///< read(), bounds(), a replay's on_drop, a sink's subscribe()
    store_unordered,            ///< positions that do not increase
    log_trimmed,                ///< events after the checkpoint are gone
    log_replaced,               ///< not the log that the checkpoint speaks of
    event_changed,              ///< another event now stands at the position that is being retried
    log_gap,                    ///< gap_guard: waits for a position that is missing

    // lease
    lease_lost = 5 << 5,        ///< expired, or refused: everything in hand was dropped
    lease_held,                 ///< by somebody else, or this host holds as many as it may
    lease_failed,               ///< the lease store fails

    // configuration: start() names what is missing or wrong
    no_name = 6 << 5,
    reserved_name,              ///< `..._p0` and `..._partitions` are keys of the library
    no_read,                    ///< or an event_sink with a volatile_model
    no_bounds,                  ///< first_start other than the_beginning needs bounds()
    no_load,
    no_save,
    no_handlers,
    no_clock,
    no_dead_letter_sink,        ///< or one without first() where sequences are named
    unknown_policy,             ///< a name that its policy_table does not hold
    table_full,                 ///< a handler_map or policy_table is too small
    bad_type,                   ///< without a name or number, or a name above 253 characters
    duplicate_type,             ///< two event types with one name or number
    duplicate_handler,          ///< one handler name twice for one event type
    bad_batch,                  ///< 0, or 2^28 and more
    bad_save_rule,              ///< every_events is 0
    bad_backoff,                ///< multiplier is 0, or jitter_percent above 100
    bad_key,                    ///< a name above 52 characters, where there are partitions
    bad_partition,              ///< no such partition, or the counts do not divide
    no_lease,                   ///< acquire(), extend() or release() is missing
    bad_lease,                  ///< margin_ms not below ttl_ms / 2; ttl_ms below 3, or 2^30 and
                                ///< above; or with a volatile_model
    no_unit_of_work,            ///< begin(), commit() or rollback() is missing
    bad_unit_of_work            ///< with a volatile_model
};

enum class status_group : uint8_t {
    answer, projection, handler, checkpoint, store, lease, configuration
};

/// The kind of trouble: which callback to look at.
constexpr status_group group_of(status s) {
    return static_cast<status_group>(static_cast<uint8_t>(s) >> 5);
}
/// The enumerator's name, for logs; "?" for a value that is none.
constexpr const char* to_string(status s);

/// What a handler answers: what happened, never what to do about it; that is the policy's. A kind
/// and a 28-bit argument (milliseconds or the user's own code) in one register.
class [[nodiscard]] verdict {
public:
    enum class kind : uint8_t { handled, pending, failed, rejected };

    /// So that a handler can return what a port answered: ok, pending, anything else failed, with
    /// its number as the code.
    constexpr verdict(status s)
        : word_(s == status::ok        ? 0u
                : s == status::pending ? 1u
                                       : 2u | static_cast<uint32_t>(s) << 4) {}
    constexpr verdict(kind what, uint32_t argument)
        : word_(static_cast<uint32_t>(what) | argument << 4) {}

    constexpr kind what() const { return static_cast<kind>(word_ & 15u); }
    constexpr uint32_t argument() const { return word_ >> 4; }
    friend constexpr bool operator==(verdict a, verdict b) { return a.word_ == b.word_; }
    friend constexpr bool operator!=(verdict a, verdict b) { return a.word_ != b.word_; }

private:
    uint32_t word_;
};

inline constexpr verdict handled{verdict::kind::handled, 0};
/// Not done, nothing wrong: call again after `pending_ms` or wake(). Never counts as an attempt.
inline constexpr verdict pending{verdict::kind::pending, 0};
/// The same, with a wait of its own: 1 to 2^28 - 1 ms.
constexpr verdict pending_for(uint32_t ms) { return {verdict::kind::pending, ms}; }
/// A failure that may pass: the policy may try again. `code` has 28 bits and is the user's.
constexpr verdict fail(uint32_t code = 0) { return {verdict::kind::failed, code}; }
/// A failure that will not pass: never tried again by itself.
constexpr verdict reject(uint32_t code = 0) { return {verdict::kind::rejected, code}; }
/// The code of a failure that was an exception of a handler. (One of decode() is a decode failure.)
inline constexpr uint32_t code_thrown = 0x0FFFFFFFu;
/// The code of a failure that no handler stated: a crash_guard's, a message that cannot be opened.
inline constexpr uint32_t code_crashed = 0x0FFFFFFEu;
/// The code of a failure of no handler: the unit of work of this event alone cannot be committed.
inline constexpr uint32_t code_uncommitted = 0x0FFFFFFDu;
/// The code of a letter for which no handler was called: an earlier one of its sequence waits.
inline constexpr uint32_t code_sequenced = 0x0FFFFFFCu;

// ---------------------------------------------------------------------------------------- >>events

namespace detail {
// (`*&`: of a static member only. A field of that name is the event's own.)
template<class E, class = void> inline constexpr bool has_event_name = false;
template<class E>
inline constexpr bool has_event_name<E, void_t<decltype(event_type(*&E::event_name))>> = true;
template<class E, class = void> inline constexpr bool has_type = false;
template<class E>
inline constexpr bool has_type<E, when<is_same<plain<decltype(*&E::type)>, event_type>>> = true;
template<class E> constexpr event_type declared_type();
template<class E, uint32_t Version>
PROJECTIONS_INLINE_ bool decode_version(const stored_event& in, E& out);
} // namespace detail

/// How a C++ type is found in the log and decoded. Specialise it for types that you cannot edit.
///
/// The type comes from `static constexpr event_type type` or, where `type` is one of the event's
/// own fields, `event_name`. Further names an event was once stored under: `static constexpr
/// event_type also[]`, here or in a specialised event_traits.
///
/// decode() fills a default-constructed E and answers false if the payload is none. It is found as
/// `static bool E::decode(const stored_event&, E&)`; else as `decode_event(const stored_event&,
/// E&)` beside E (one template serves a namespace); else the type must be declared `raw`. A payload
/// of an older schema version is decoded as `E::previous` and given to `out.upcast(const
/// previous&)`; without a `previous` decode() sees the version and copes. So it does with a newer
/// payload, which it may refuse. A raw payload of another version is refused.
template<class E> struct event_traits {
    static constexpr event_type type = detail::declared_type<E>();
    static constexpr bool (*decode)(const stored_event& in, E& out) =
        &detail::decode_version<E, type.version()>;
};

/// A list of event types: what a handler handles, or a catalogue of what a log may hold.
template<class... E> struct events {};
/// Every type of a catalogue `events<...>` that an on() of the handler takes, a parent's included.
/// The others are known but not handled, which differs from unknown.
template<class Catalogue> struct matching {};
/// As events<...> (or one matching<...>), but not called for replayed events: e-mails, webhooks,
/// motors.
template<class... E> struct live_only {};
/// Every event of the log, undecoded and of unknown types too: on(const stored_event&).
struct every_event {};

// -------------------------------------------------------------------------------------- >>handlers

class engine;
class visitor;

/// Lets whoever completes a pending job wake the engine that waits for it. As safe as
/// engine::wake().
class waker {
public:
    constexpr waker() = default;
    constexpr explicit waker(engine* sleeper) : engine_(sleeper) {}
    void wake() const;

private:
    friend struct context;
    engine* engine_ = nullptr;
};

/// What else a handler may want to know: `on(const Event&, const context&)`.
struct context {
    const stored_event& event;
    uint32_t now_ms;            ///< as given to tick()
    uint32_t attempt;           ///< 1 on the first call for this event
    bool resumed;               ///< this handler answered pending for this very event and nothing
                                ///< was reset since: look after the job, do not begin it again
    bool replaying;             ///< this event was handled before, by an earlier run of the model
    uint32_t partition;
    uint64_t fencing_token;     ///< 0 without a lease
    projections::waker waker;

    /// For a handler that takes long: asks for the whole ttl again. Only during the call.
    /// Returns: ok, also without a lease; lease_lost, it is over: do nothing more; pending or
    /// lease_failed: it goes on as it was.
    status extend_lease() const;
};

namespace detail {

struct delivery;
struct route;
/// Calls the handlers whose bits are set in the delivery's mask, in the order of registration.
using route_call = void (*)(void* self, delivery& to);
/// Finds the route of an event and calls its handlers.
using event_call = void (*)(const stored_event& event, delivery& to);
/// What the compiler makes for one table, which it knows as constants.
struct own_calls {
    event_call one;
    /// For the events before `last`, as long as positions grow from `at` on and `by` goes on; moves
    /// `at`. Returns the first that is not tried.
    const stored_event* (*slice)(const stored_event* event, const stored_event* last, visitor& by,
                                 delivery& to, position& at);
};

/// One event type of a routing table. Handlers of a type are numbered from 0; a mask has a bit for
/// each.
struct route {
    const char* name;           // nullptr: known by number only
    route_call call;            // never nullptr
    uint32_t number;
    uint32_t live_only;         // handlers that replayed events do not reach
    uint16_t first;             // where its handlers begin (a registry's list, a map's chain)
    uint8_t name_size;
    uint8_t handlers;           // how many
};

/// Of an empty handler_map; and of an event that has not been looked up yet. With `trouble`, that
/// asks the closer look to do it.
inline constexpr route no_route{};

/// An open-addressed table: slot = key * multiplier >> shift; a slot holds the route's index, or 0.
struct key_index {
    const uint16_t* cells;
    uint32_t multiplier;
    uint8_t shift;
};

/// What an engine needs of a registry, a handler_map or a single handler. A registry's is built by
/// the compiler and lies in read-only memory.
struct route_table {
    const route* routes;        // from 1 on; the first is that of every event that has none
    key_index by_name;
    key_index by_number;
    uint8_t sample[2];          // offsets of the two words of a name that make its key
    status fault;               // what start() will answer
    bool has_live_only;         // some handlers are not for replayed events
    uint16_t count;
    text (*handler_name)(const void* self, const route_table&, const route&, unsigned handler);
    const uint8_t* handlers;    // of all types, one after the other: an index into names
    const text* names;
    const own_calls* own;       // nullptr: deliver_by_table

    const route& unknown() const { return routes[0]; }
};

const route& find(const route_table& table, const type_key& key);
void deliver_by_table(const stored_event& event, delivery& to);
void deliver_replayed(const stored_event& event, delivery& to);
void deliver_chosen(const stored_event& event, delivery& to);
template<bool Alone, class... P> struct compiled_routes;

} // namespace detail

/// The names of the handlers of one event type, in the order in which they are called. Empty for an
/// unknown type; `known()` tells the two kinds of empty apart.
class handler_list {
public:
    handler_list(const void* self, const detail::route_table& table, const detail::route& found)
        : self_(self), table_(&table), route_(&found) {}
    size_t size() const { return route_->handlers; }
    bool known() const { return route_->number != 0; }
    text operator[](size_t i) const {
        return table_->handler_name(self_, *table_, *route_, static_cast<unsigned>(i));
    }

private:
    const void* self_;
    const detail::route_table* table_;
    const detail::route* route_;
};

/// Where a projection sends its events: made implicitly from one handler (a class with `handles`),
/// a registry or a handler_map, which must outlive it.
class routes {
public:
    constexpr routes() = default;
    template<class T, detail::require<!detail::is_same<detail::plain<T>, routes>> = 0>
    constexpr routes(T& handlers);
    template<class T, detail::require<!detail::is_lvalue<T> &&
                                      !detail::is_same<detail::plain<T>, routes>> = 0>
    routes(T&& handlers) = delete; // only the address is kept: name the object first

    /// The handlers of a type, by name or by id.
    handler_list find(const type_key& type) const {
        return {self, *table, is_empty() ? detail::no_route : detail::find(*table, type)};
    }
    /// A handler_map without handlers.
    bool is_empty() const { return table->routes == nullptr; }

    void* self = nullptr;
    const detail::route_table* table = nullptr;
};

/// Several handlers behind one projection: every event reaches all that handle its type, in the
/// order given here; each type is decoded once. Costs one pointer per handler; the routes are built
/// by the compiler. The handlers must outlive it. Two event types with one name or number do not
/// compile, nor do more than 32 handlers for one type or 31 for every event.
///
/// A handler's name, in letters and failures, is its class's as the compiler spells it, or its
/// `static constexpr char handler_name[]`. State one where letters are kept: a class that was
/// renamed does not find its letters any more.
template<class... P> class registry {
    static_assert(sizeof...(P) > 0, "projections: an empty registry handles nothing");

public:
    constexpr explicit registry(P&... handlers)
        : handlers_{detail::address_of_named(handlers)...} {}
    registry(const registry&) = delete;
    registry& operator=(const registry&) = delete;

    handler_list find(const type_key& type) const { return routes(*this).find(type); }

private:
    friend class routes;
    void* handlers_[sizeof...(P)];
};
template<class... P> registry(P&...) -> registry<P...>;

namespace detail {

/// One handler of a handler_map; `next` chains the handlers of one event type.
struct map_entry {
    using group_call = uint16_t (*)(map_entry* all, uint16_t first, uint16_t until, delivery& to,
                                    uint32_t& bit);
    group_call group;           // decodes once and calls all from `first` that want the same type
    union {
        verdict (*invoke)(const map_entry& entry, const void* event, const context& with);
        verdict (*undecoded)(void* self, const stored_event& event, const context& with);
    };
    void* self;
    void (*function)();         // a free function, in a type of its own
    text name;
    uint16_t next;
};

/// All of a handler_map but its capacity. All zero bytes until the first add().
class handler_map_core {
public:
    handler_map_core(const handler_map_core&) = delete;
    handler_map_core& operator=(const handler_map_core&) = delete;
    /// What start() will say: ok, table_full, duplicate_type or duplicate_handler. The first fault
    /// stays.
    status fault() const { return table_.fault; }

protected:
    struct storage {
        route* routes;
        map_entry* entries;
        uint16_t* cells;
        uint16_t count, slot_count;
    };
    constexpr handler_map_core() = default;
    void put(const storage& in, const event_type& type, map_entry handler, bool live);
    void put_every(const storage& in, const map_entry& handler, bool live);

private:
    friend class projections::routes;
    void prepare(const storage& in);
    route* route_for(const storage& in, const event_type& type);
    status append(const storage& in, route& to, const map_entry& handler, bool live);
    bool has_handler(uint16_t first, text name) const;
    uint32_t decoded_bits(const route& of) const;
    static void call(void* self, delivery& to);
    static text name_of(const void* self, const route_table&, const route&,
                        unsigned handler);

    route_table table_{};
    map_entry* entries_ = nullptr;
    uint16_t used_ = 0;
};

} // namespace detail

/// Handlers chosen at run time, at most N: a handler counts once for each event, and for each name
/// that the event once had. add() never fails alone: the first fault is kept, the handler at fault
/// is left out, and start() reports it. Handlers of one event are called in the order of add(). A
/// handler's name (in letters and failures) is the class's; for free functions, lambdas and
/// pointers the event's; pass another as the last argument where two would be equal.
template<size_t N> class handler_map : public detail::handler_map_core {
    static_assert(N > 0 && N < 0x4000, "projections: a handler_map holds 1 to 16383 handlers");

public:
    constexpr handler_map() = default;

    /// Everything in `P::handles`.
    template<class P> handler_map& add(P& handler);
    /// One event to one member function or to one function that takes the object first:
    /// add<order_created, &summary::created>(summary). The parameter may be a parent of E.
    template<class E, auto Function, class T> handler_map& add(T& object, text name = {});
    /// One event to a free function or to a lambda without captures.
    template<class E, class F> handler_map& add(F function, text name = {});
    /// By hand, undecoded.
    handler_map& add(event_type type,
                     verdict (*function)(void*, const stored_event&, const context&), void* self,
                     text name = {});

    handler_list find(const type_key& type) { return routes(*this).find(type); }

private:
    static constexpr uint16_t slots_for(size_t types) {
        uint16_t cells = 4;
        while (cells < 2 * types) cells = static_cast<uint16_t>(cells * 2u);
        return cells;
    }
    storage parts() { return {routes_, entries_, slots_, static_cast<uint16_t>(N), slots_for(N)}; }
    template<class E> void put_all(detail::map_entry& entry, text name);
    template<class P, bool Live, class... E> void add_all(P& handler, events<E...>);
    template<class P, bool Live> void add_all(P& handler, every_event);

    detail::route routes_[N + 1]{};
    detail::map_entry entries_[N]{};
    uint16_t slots_[size_t{2} * slots_for(N)]{};
};

// ----------------------------------------------------------------------------------------- >>ports
//
// Every port is a pointer to an object and plain functions that take it first. It is made from any
// object with members of the right names, which must outlive it, or filled in by hand. No port may
// call back into the engine, except for the requests and the questions (`counts()` and the like).
// An answer that a port may not give counts as `failed`. A call that answered pending may be given
// up (stop, reset, a lost lease), and the same be asked again much later: what was true for the
// first MUST NOT be the answer to the second.

class sequences_of;
namespace detail { struct sequence_hooks; }

/// One of `count` parts of the aggregates.
struct partition {
    uint32_t index = 0;
    uint32_t count = 1;
};

namespace detail {

bool look_at_bounds(engine& e);
struct unit_keeper;
struct unit_code { static const unit_keeper keeper; };
struct sequence_keeper;
struct sequence_code { static const sequence_keeper keeper; };

/// An optional function of a port, and with it a pointer to the code that needs it: what no port
/// has is not linked. Made from a function or a lambda without captures; calls and compares as the
/// pointer it holds.
template<class Pointer, class Code, Code Linked> class linking_function {
public:
    constexpr linking_function() = default;
    constexpr linking_function(decltype(nullptr)) {}
    template<class F, class = decltype(static_cast<Pointer>(declval<F>()))>
    constexpr linking_function(F&& function)
        : function_(static_cast<Pointer>(function)),
          code_(is_null(function_) ? nullptr : Linked) {}
    constexpr operator Pointer() const { return function_; }

private:
    friend class projections::engine;
    Pointer function_ = nullptr;
    Code code_ = nullptr;
};
using bounds_function =
    linking_function<status (*)(void* self, position& trimmed, position& newest, uint64_t& log_id),
                     bool (*)(engine&), &look_at_bounds>;
using begin_function =
    linking_function<status (*)(void* self), const unit_keeper*, &unit_code::keeper>;

} // namespace detail

/// The event log.
struct event_store {
    /// Shows the events with position > `after`, in increasing order, one by one or in slices,
    /// until the visitor says stop. MUST NOT show an event that a crash could still take back.
    ///
    /// Answers: ok, the end of the log was reached (or the visitor said stop); more, stopped short
    /// for reasons of its own; trimmed, some event after `after` is no longer kept; pending,
    /// nothing or not all is here yet; failed. What was visited before any of these answers counts.
    status (*read)(void* self, position after, visitor& visit) = nullptr;
    /// Optional. What the log holds at this moment: `trimmed`, the highest position that may be
    /// gone; `newest`, the highest ever given out (both before_first if none); `log_id`, another
    /// number for each log created anew, 0 if it has none. All are preset to those. Answers ok,
    /// pending or failed. Asked after load, before the first read after any wait, and after an
    /// empty read.
    detail::bounds_function bounds{};   // status (*)(void* self, trimmed, newest, log_id)
    void* self = nullptr;

    constexpr event_store() = default;
    /// From an object with `read` and perhaps `bounds`.
    template<class T, detail::require<!detail::is_same<detail::plain<T>, event_store>> = 0>
    constexpr event_store(T&& log);
    /// From an object whose members have other names: event_store::from<&ring::fetch>(ring).
    template<auto Read, class T> static constexpr event_store from(T& log);
    template<auto Read, auto Bounds, class T> static constexpr event_store from(T& log);
};

/// Given to event_store::read; valid until it returns.
class visitor {
public:
    /// One event. True: go on. False: stop; whether this event is done is not the store's concern.
    [[nodiscard]] PROJECTIONS_INLINE_ bool operator()(const stored_event& event);
    /// A slice, faster where the store has one or can fill a dozen views at once: the next event is
    /// looked up before one is handled. How many were taken; fewer than `count`: stop.
    [[nodiscard]] size_t operator()(const stored_event* events, size_t count);
    /// For a store that filters: nothing of interest up to here. Ignored once it was told to stop.
    void scanned_to(position at);
    /// How many more events are wanted, exactly; good for a LIMIT. It says stop while taking the
    /// last of them, so that fewer rows than this mean the end of the log.
    uint32_t wanted() const { return plainly_ + closely_; }
    /// For a store that selects the partition's events by itself, by the same hash; {0, 1} if there
    /// are no partitions.
    partition of() const;

    visitor(const visitor&) = delete;
    visitor& operator=(const visitor&) = delete;

private:
    friend class engine;
    friend class event_sink;
    template<bool Alone, class... P> friend struct detail::compiled_routes;
    PROJECTIONS_INLINE_ bool has_trouble(const stored_event& event);
    const stored_event* take_plainly(const stored_event* event, const stored_event* end);
    const stored_event* take_all_but_last(const stored_event* event, const stored_event* end);
    bool goes_on(const stored_event* after);
    bool close() {
        closely_ = wanted();
        plainly_ = 0;
        closed_ = true;
        return false;
    }
    visitor(engine& reader, detail::delivery& d, uint32_t wanted, bool plainly);

    engine* engine_;
#if !PROJECTIONS_SMALL_
    detail::event_call deliver_;
    const stored_event* uncounted_ = nullptr;   // of the slice: plainly_ still counts from here on
#endif
    uint32_t plainly_;          // so many are wanted while nothing but routing is to be done
    uint32_t closely_;          // and so many when each event needs a closer look
    detail::delivery* delivery_;
    uint32_t started_ms_ = 0;
    bool closed_ = false;       // no more events in this read, whatever the store does
    bool moved_ = false;        // scanned_to() moved on
};

/// What is kept of a projection between two runs. A store may keep less: then the README says what
/// is lost.
struct checkpoint {
    position at = before_first;                 ///< everything up to here has an outcome
    uint32_t revision = 0;                      ///< one more with every save; 0: never saved
    uint32_t partition_count = 0;               ///< 0: not recorded
    uint64_t fencing_token = 0;                 ///< of the lease under which it was saved
    position replayed_through = before_first;   ///< events up to here are replayed, not new
    uint64_t log_id = 0;                        ///< 0: not recorded
    position suspect = before_first;            ///< crash_guard: the event in work, by its position
                                                ///< or, without an offset, by 2^62 and a print
    uint32_t rebuild = 0;                       ///< how often the model was rebuilt
    uint16_t crashes = 0;                       ///< crash_guard: in a row, without progress
    uint8_t hash_scheme = 0;                    ///< see partition_options; 0: not recorded
    uint8_t replay_stage = 0;                   ///< 0: no rebuild under way; see replay_engine
};

/// The size of an encoded checkpoint.
inline constexpr size_t checkpoint_bytes = 64;
/// Writes the record in its fixed form: little-endian, layout version 1, CRC-32 (IEEE 802.3) last.
void encode(const checkpoint& in, uint8_t (&out)[checkpoint_bytes]);
/// Reads it back. False, and `out` untouched, for another size, another layout or a wrong CRC: an
/// erased or half-written slot of flash is never taken for a checkpoint.
[[nodiscard]] bool decode(bytes in, checkpoint& out);

/// Where checkpoints are kept, one record per key.
struct checkpoint_store {
    /// Fills `out`, or leaves it as it is if there is no record. Answers ok, pending, failed, or
    /// checkpoint_corrupt: there is something, but no checkpoint. Not only asked where a run
    /// begins: after a save that was refused it tells whose the record is, and the run goes on.
    status (*load)(void* self, text key, checkpoint& out) = nullptr;
    /// Replaces the record, atomically and durably. Answers ok, pending, failed (perhaps saved), or
    /// conflict if the stored revision is not `next.revision - 1`; a store that cannot compare
    /// never does. (It may answer ok to the very record that it holds. One that keeps the model,
    /// too, and takes it back in load(), has to: see the README.)
    status (*save)(void* self, text key, const checkpoint& next) = nullptr;
    void* self = nullptr;

    constexpr checkpoint_store() = default;
    /// From an object with `load` and `save`.
    template<class T, detail::require<!detail::is_same<detail::plain<T>, checkpoint_store>> = 0>
    constexpr checkpoint_store(T&& store);
};

/// Who may work on what: leases that end by themselves.
struct lease_store {
    /// Takes a lease on the resource for `ttl_ms` from now and fills in its token, which is larger
    /// than any given out for the resource before, and not 0. Answers ok; conflict while any lease
    /// on it is unexpired, the caller's own included; pending; failed (perhaps taken). The time
    /// counts from the call that answers ok: where an earlier one, which was pending, has taken it,
    /// less than margin_ms may lie between them.
    status (*acquire)(void* self, text resource, uint32_t ttl_ms, uint64_t& token) = nullptr;
    /// Makes it last `ttl_ms` from now, also while a unit of work is open, and never as a part of
    /// it: on the same connection, answer pending then. Answers ok; conflict if the lease of this
    /// token is over; pending; failed.
    status (*extend)(void* self, text resource, uint32_t ttl_ms, uint64_t token) = nullptr;
    /// Ends it, if it still is the lease of this token. Answers ok, pending or failed (it ends by
    /// itself).
    status (*release)(void* self, text resource, uint64_t token) = nullptr;
    void* self = nullptr;

    constexpr lease_store() = default;
    /// From an object with `acquire`, `extend` and `release`.
    template<class T, detail::require<!detail::is_same<detail::plain<T>, lease_store>> = 0>
    constexpr lease_store(T&& store);
};

/// Why an event was not handled.
enum class failure_kind : uint8_t {
    transient,                  ///< fail(): it may pass
    permanent,                  ///< reject(): it will not
    decode,                     ///< decode() answered false
    unknown_type                ///< of no registered type, and unknown_types::fail
};
constexpr const char* to_string(failure_kind k);

/// One failure, as policies, letters and observers see it. Valid during the call.
struct failure {
    failure_kind kind;
    uint32_t code;              ///< the handler's, or a code_...: thrown, crashed, uncommitted, ...
    uint32_t attempts;          ///< so far, this one included; a letter of a unit says at most 15
    bool replaying;
    uint32_t partition;
    uint32_t rebuild;
    text projection;            ///< the projection's name
    text handler;               ///< the handler's name; empty if no handler was reached
    const stored_event& event;
};
/// The letter's key is (projection, partition, handler, event.at, rebuild). Of messages without
/// offsets it is none: their event.at begins anew in every run.
using dead_letter = failure;

/// The letters of one handler about one aggregate, in the order of their positions.
struct letter_sequence {
    text projection;
    uint32_t partition;
    uint32_t rebuild;
    text handler;               ///< empty: letters that are no handler's, and so of all
    text aggregate_id;
};

/// Given to dead_letter_sink::first; valid until it returns.
class letter_visitor {
public:
    /// The letter's event as it was, and how many attempts the letter speaks of.
    void operator()(const stored_event& event, uint32_t attempts);
    letter_visitor(const letter_visitor&) = delete;
    letter_visitor& operator=(const letter_visitor&) = delete;

private:
    friend struct detail::sequence_hooks;
    letter_visitor(void (*then)(letter_visitor& me, const stored_event& event), engine& of,
                   const letter_sequence& about)
        : then_(then), engine_(&of), about_(&about) {}
    void (*then_)(letter_visitor& me, const stored_event& event);
    engine* engine_;
    const letter_sequence* about_;
    position at_ = before_first;
    uint32_t attempts_ = 0;
    verdict said_ = handled;
    status answer_ = status::ok;
};
/// Given to dead_letter_sink::sequences; valid until it returns.
class sequence_visitor {
public:
    /// False: stop.
    [[nodiscard]] bool operator()(text handler, text aggregate_id);
    sequence_visitor(const sequence_visitor&) = delete;
    sequence_visitor& operator=(const sequence_visitor&) = delete;

private:
    friend struct detail::sequence_hooks;
    explicit sequence_visitor(engine& of) : engine_(&of) {}
    engine* engine_;
    bool fits_ = true;
};

namespace detail {
using first_function =
    linking_function<status (*)(void* self, const letter_sequence& of, letter_visitor& show),
                     const sequence_keeper*, &sequence_code::keeper>;
} // namespace detail

/// Where events go that were given up on.
struct dead_letter_sink {
    /// Keeps the letter durably. One with the same key takes its place: after a crash it may be
    /// given twice, after a rollback it is, and after a redelivery that failed with another code
    /// and more attempts. MUST NOT need a lock that read() or first() holds. Answers ok, pending or
    /// failed; it is offered until it is taken.
    status (*put)(void* self, const dead_letter& letter) = nullptr;

    // For letter_sequences, else not needed. Each answers ok, pending or failed.

    /// Shows the letter with the lowest position of a sequence, with its event as it was, or
    /// nothing if there is none. The handler, or put() for this letter, is called before show()
    /// returns.
    detail::first_function first{};     // status (*)(void* self, sequence, show)
    /// Takes one letter away; without harm if it is gone.
    status (*evict)(void* self, const letter_sequence& of, position at) = nullptr;
    /// Shows handler and aggregate of every sequence that has letters, of this projection,
    /// partition and rebuild, each once, until the visitor says stop.
    status (*sequences)(void* self, const letter_sequence& of, sequence_visitor& show) = nullptr;
    void* self = nullptr;

    constexpr dead_letter_sink() = default;
    /// From an object with `put`, and perhaps `first`, `evict` and `sequences`; or from a callable.
    template<class T, detail::require<!detail::is_same<detail::plain<T>, dead_letter_sink>> = 0>
    constexpr dead_letter_sink(T&& sink);
};

/// Transactions in which handlers, letters and the checkpoint take effect together or not at all.
/// Called between reads; handlers, put() and save() run inside, and use the same connection. A
/// pending handler keeps one open over ticks; pause(), stop(), a reset and a lost lease roll it
/// back. Engines that are not to wait for each other need transactions of their own (mostly a
/// connection), and so a description, each. save() is also called without one, and is then durable
/// by itself; commit() without a save(), for messages that have no position. In a unit that the
/// database has ended by itself save() and put() MUST fail until rollback(), or they would be
/// durable without the effects. What handlers do outside of it is done again after a rollback. An
/// engine that is destroyed while it runs leaves it open; one that ended while its rollback() was
/// pending asks again in its next run, and needs this port until then.
struct unit_of_work {
    /// Begins one. Answers ok; pending, also while another is open on this connection; failed.
    /// Until it answers ok nothing is open for a save(), and it may never be called again (after
    /// stop, reset, a lost lease).
    /// MUST NOT answer ok while effects of an earlier unit could still be committed with this one.
    detail::begin_function begin{};     // status (*)(void* self)
    /// Makes all of it durable and visible at once. Answers ok; pending, and is then called again;
    /// anything else: perhaps done. Then rollback() is called, and the checkpoint loaded: it tells.
    status (*commit)(void* self) = nullptr;
    /// Takes all of it back; without harm where nothing is open any more. Answers ok; pending, and
    /// is then called again; failed: what is left of it ends with the connection, or at begin(),
    /// and takes no later save() along.
    status (*rollback)(void* self) = nullptr;
    void* self = nullptr;

    constexpr unit_of_work() = default;
    /// From an object with `begin`, `commit` and `rollback`.
    template<class T, detail::require<!detail::is_same<detail::plain<T>, unit_of_work>> = 0>
    constexpr unit_of_work(T&& transactions);
};

namespace detail {
template<class F, class Pointer, class = void> inline constexpr bool is_function_of = false;
template<class F, class Pointer> inline constexpr bool
    is_function_of<F, Pointer, void_t<decltype(static_cast<Pointer>(declval<F>()))>> = true;
/// (Of all types only functions are the same with a const, once an object has lost its own.)
template<class F> inline constexpr bool is_function = is_same<const plain<F>, plain<F>>;
} // namespace detail

/// A function of the user's: a plain function or a lambda without captures (kept by value), or a
/// named callable, which must outlive this; or by hand, a function and the pointer it is given
/// back.
template<class Signature> class callback;
template<class R, class... A> class callback<R(A...)> {
public:
    constexpr callback() = default;
    constexpr callback(decltype(nullptr)) {}
    constexpr callback(R (*function)(void*, A...), void* object)
        : call_(detail::is_null(function) ? nullptr : &by_hand), by_hand_(function),
          self_(object) {}
    template<class F, detail::require<detail::is_function_of<F, R (*)(A...)> &&
                                      !detail::is_same<detail::plain<F>, decltype(nullptr)>> = 0>
    constexpr callback(F&& function)
        : callback(as_function{}, static_cast<R (*)(A...)>(function)) {}
    template<class F, detail::require<!detail::is_function_of<F, R (*)(A...)> &&
                                      !detail::is_same<detail::plain<F>, callback>> = 0>
    constexpr callback(F&& callable)
        : callback(as_object{}, callable) {
        static_assert(detail::is_lvalue<F>,
                      "projections: only the address of a callable is kept: name it "
                      "first, and let it outlive the engine");
        static_assert(!detail::is_function<F>,
                      "projections: this function takes or answers something else than the "
                      "callback: write a lambda that calls it");
    }
    R operator()(A... arguments) const { return call_(*this, arguments...); }
    explicit constexpr operator bool() const { return call_ != nullptr; }

private:
    struct as_function {};
    struct as_object {};
    template<class F> constexpr callback(as_object, F& callable) {
        if constexpr (!detail::is_function<F>) {
            call_ = &named<F>;
            self_ = detail::address_of_named(callable);
        }
    }
    constexpr callback(as_function, R (*function)(A...))
        : call_(detail::is_null(function) ? nullptr : &plainly), plain_(function) {}
    static R by_hand(const callback& me, A... arguments) {
        return me.by_hand_(me.self_, arguments...);
    }
    static R plainly(const callback& me, A... arguments) { return me.plain_(arguments...); }
    template<class F> static R named(const callback& me, A... arguments) {
        using answer = decltype((*static_cast<F*>(me.self_))(arguments...));
        // (0 is `all is well` to many that answer an int.)
        static_assert(!detail::is_same<R, bool> || detail::is_same<detail::plain<answer>, bool>,
                      "projections: this callable has to answer bool");
        if constexpr (detail::is_same<R, void>) (*static_cast<F*>(me.self_))(arguments...);
        else return (*static_cast<F*>(me.self_))(arguments...);
    }
    R (*call_)(const callback&, A...) = nullptr;
    union {
        R (*by_hand_)(void*, A...) = nullptr;
        R (*plain_)(A...);
    };
    void* self_ = nullptr;
};

/// What an observer is told.
enum class notice_kind : uint8_t {
    started, loaded, paused, resumed, stopped, halted,
    event_handled,              ///< only with `observe_handled`
    event_skipped,              ///< given up on for all or some handlers
    event_lettered,
    event_vanished,             ///< the log no longer shows an event that was to be tried again
    event_unknown,              ///< of no registered type
    handler_failed,             ///< one call; `cause` says more; a policy decides next
    letter_failed,              ///< the sink did not take it; offered again
    checkpoint_saved, checkpoint_failed, store_failed,
    rebuild_began,              ///< its marker is about to be saved
    rebuild_dropped,            ///< on_drop has succeeded
    rebuild_finished,
    lease_gained,               ///< to be claimed in the checkpoint before work begins
    lease_lost,
    lease_released,
    lease_failed,               ///< the lease store failed; asked again
    gap_found,                  ///< `at`: the last one passed before it (none: before_first)
    gap_skipped                 ///< declared dead, or its time is over; `at`: its last position
};
constexpr const char* to_string(notice_kind k);

/// Valid during the call. `cause` is set where a failure led to it.
struct notice {
    notice_kind kind;
    status reason;
    text projection;
    position at;                ///< the event's, or up to where all is done (what of that is saved,
                                ///< checkpointed() says)
    const failure* cause;
};
using observer = callback<void(const notice&)>;

// ---------------------------------------------------------------------------------------- >>policy

/// What a custom policy wants done about one failure.
class decision {
public:
    enum class kind : uint8_t { skip, retry, letter, halt };

    static constexpr decision skip() { return {kind::skip, 0}; }
    /// `never`: until reset(), set_position() or another start().
    static constexpr decision retry_after(uint32_t ms) { return {kind::retry, ms}; }
    static constexpr decision dead_letter() { return {kind::letter, 0}; }
    static constexpr decision halt() { return {kind::halt, 0}; }

    constexpr kind what() const { return what_; }
    constexpr uint32_t wait_ms() const { return wait_ms_; }

private:
    constexpr decision(kind what, uint32_t wait_ms) : wait_ms_(wait_ms), what_(what) {}
    uint32_t wait_ms_;
    kind what_;
};
using policy_function = callback<decision(const failure&)>;

/// What is done when a handler fails. A permanent or decode failure is never retried by the
/// built-in policies: it goes straight to what follows the retries. (65535 retries are retries
/// without end: attempts are counted no further.)
class error_policy {
public:
    /// Counted and observed; on with the next handler, the next event. The default.
    static constexpr error_policy skip() { return {end::skip, 0}; }
    /// `retries` + 1 attempts with backoff, then the engine halts before the event and nothing is
    /// lost.
    static constexpr error_policy retry(uint16_t retries = 3) { return {end::halt, retries}; }
    static constexpr error_policy retry_then_skip(uint16_t retries = 3) {
        return {end::skip, retries};
    }
    /// One attempt, one letter, on. Needs a sink; an event_sink without one answers reject.
    static constexpr error_policy dead_letter() { return {end::letter, 0}; }
    /// `retries` + 1 attempts, then a letter; without a sink as retry(), in an event_sink reject.
    static constexpr error_policy retry_then_dead_letter(uint16_t retries = 3) {
        return {end::letter_or_halt, retries};
    }
    static constexpr error_policy halt() { return retry(0); }
    /// The function decides, attempt by attempt. One that throws halts.
    static constexpr error_policy custom(policy_function function) {
        return function ? error_policy{end::ask, 0, function} : error_policy{end::unknown, 0};
    }

private:
    friend class engine;
    enum class end : uint8_t { skip, halt, letter, letter_or_halt, ask, unknown };
    constexpr error_policy(end then, uint16_t retries, policy_function function = {})
        : function_(function), retries_(retries), then_(then) {}

    policy_function function_;
    uint16_t retries_;
    end then_;
};

/// Custom policies by name, at most N; the names must outlive it.
template<size_t N> class policy_table {
public:
    /// An entry more than N is dropped, so that asking for it is an unknown policy.
    policy_table& add(text name, error_policy policy) {
        if (used_ < N) entries_[used_++] = {name, policy};
        return *this;
    }
    policy_table& add(text name, policy_function function) {
        return add(name, error_policy::custom(function));
    }
    /// The policy of that name, the first if it was added twice. A name that is not there gives a
    /// policy with which start() answers unknown_policy.
    error_policy operator[](text name) const {
        for (size_t i = 0; i < used_; ++i) {
            if (entries_[i].name == name) return entries_[i].policy;
        }
        return error_policy::custom({});
    }

private:
    struct entry {
        text name{};
        error_policy policy = error_policy::skip();
    };
    entry entries_[N]{};
    size_t used_ = 0;
};

/// How long to wait before the next attempt: first_ms, then `multiplier` times as long each time up
/// to cap_ms, less a random share of up to jitter_percent. Also used when a store, a save or a
/// letter fails. Give every device another `seed`, or all of them come back at once.
struct backoff {
    uint32_t first_ms = 100;
    uint32_t cap_ms = 30000;
    uint8_t multiplier = 2;
    uint8_t jitter_percent = 20;
    uint32_t seed = 1;
};

/// When a checkpoint is saved: whichever comes first, and always at stop() and pause().
struct save_rule {
    uint32_t every_events = 100;    ///< so many at most are handled again after a crash, or
                                    ///< unsaved_max if saving fails
    uint32_t every_ms = 1000;       ///< after the first event that is not saved
    bool when_idle = true;          ///< as soon as the end of the log is reached
};

/// Keeps an event that crashes its handler (a fault, a watchdog) from crashing it at every start.
///
/// The host says of each start() whether it follows a crash. After one, and until as many events
/// have passed as may have been in work, the checkpoint names each event before it is begun. After
/// `crashes_max` crashes in a row, with no event completed and the log's end not reached, the event
/// that was named at the last of them counts as failed for good (permanent, code_crashed), untried,
/// and the error policy says what becomes of it. (The first crash names nothing, and counts only if
/// no event is completed after it: mostly it takes one more, with 1 always two.) A message without
/// an offset is known by what it says. Name the guard in projection::crashes; one serves many
/// engines.
class crash_guard {
public:
    /// Pre: crashes_max > 0.
    constexpr explicit crash_guard(uint16_t crashes_max = 3)
        : loaded_(&loaded), allows_(&allows), crashes_max_(crashes_max) {}
    constexpr uint16_t crashes_max() const { return crashes_max_; }

private:
    friend class engine;
    static void loaded(engine& e);
    static bool allows(engine& e, detail::delivery& d);
    /// With a print, the name of a message without an offset; above the position of any event.
    static constexpr position unplaced = position{1} << 62;
    // Reached through pointers, so that the code is linked only where a guard is named.
    void (*loaded_)(engine& e);
    bool (*allows_)(engine& e, detail::delivery& d);
    uint16_t crashes_max_;
};

/// For a log of dense positions (each one more than the last) whose events may become visible out
/// of order, as rows of concurrent transactions do: waits before a missing position until it
/// appears, is declared dead, or its time is over; each hole that is skipped is reported once
/// (gap_skipped). Positions that a filtering store reports by scanned_to() are not missing, and
/// replayed holes were settled before (so a rebuild of what has no checkpoint yet takes the holes
/// in the log for settled, and begin_at::the_end those below the newest event: begin when no
/// transaction is under way. If one is filled all the same, in a unit of work, while the event
/// behind it is tried again, the engine halts for store_unordered, and retry_failed() goes on).
/// Name the guard in projection::gaps; one serves many engines, and must outlive them.
class gap_guard {
public:
    constexpr explicit gap_guard(uint32_t timeout = never) : timeout_ms(timeout) {}

    /// So long from the begin of the tick that first stood before the hole. An event that becomes
    /// visible later is lost: longer than any transaction and any tick, or `never`.
    uint32_t timeout_ms;
    /// Where the log begins: what is missing before the first event is a hole, too.
    position first = 0;
    /// True: these positions, both ends included, will never appear (their transaction was rolled
    /// back). Asked at each look.
    callback<bool(position from, position to)> is_dead{};

private:
    friend class engine;
    friend class event_sink;
    static bool passes(engine& e, position at);
    // Reached through a pointer, so that the code is linked only where a guard is named.
    bool (*passes_)(engine& e, position at) = &passes;
};

namespace detail {

/// A sequence of which letters wait.
struct blocked_sequence {
    uint64_t key;               // of handler and aggregate; 0: this place is free
    uint32_t partition;
    uint32_t resumed;           // handlers that are pending in a redelivery, and ...
    position resumed_at;        // ... of which letter
};
status redeliver(engine& e, text handler, text aggregate_id);
void release(const engine& e, text handler, text aggregate_id);
bool is_blocked(const engine& e, text handler, text aggregate_id);

} // namespace detail

/// Keeps the order of an aggregate where one of its events had to be given up: once a handler has
/// a letter about an aggregate, later events of that aggregate become letters of this handler, too,
/// untried and in order (code_sequenced), until all of them are redelivered or the sequence is
/// released. Other handlers see them as ever, and events without an aggregate are not concerned.
///
/// At most N sequences at a time: an event that needs one more is held (sequences_full is told to
/// the observer), and so is everything after it. What waits is read from the letters' store when a
/// checkpoint was loaded, so it survives a restart and moves with a partition. Name it in
/// projection::sequences; the letters' store needs first(), evict() and sequences(). One serves all
/// engines of a description that run in one thread, and must outlive them. (Two that share its last
/// places, each with an event that needs several, wait for each other: make N large.)
template<size_t N> class letter_sequences {
    static_assert(N > 0 && N < never, "projections: letter_sequences without a place");

public:
    constexpr letter_sequences() = default;
    letter_sequences(const letter_sequences&) = delete;
    letter_sequences& operator=(const letter_sequences&) = delete;

    /// Gives the first letter's event to its handler again; in a unit of work, if there is one.
    /// Handled: the letter is evicted. Failed: it stays, and so do those behind it; it is put with
    /// the new code and one attempt more, which is left out where the rollback is pending or put()
    /// fails. Never moves the checkpoint. Not from inside a callback. In a unit of work what
    /// answers pending is rolled back and begins anew (ctx.resumed is false), and a commit that
    /// does has failed: for handlers and connections that answer at once.
    /// Without a handler: the letters of events that no handler has seen (they could not be
    /// decoded, or their commit failed), for all handlers, until one fails. They are a sequence
    /// of their own: where an aggregate has both kinds, the lower position should go first. (One
    /// of every_event has seen what could not be decoded, and sees it again.)
    /// Pre: `e` is of a projection that names this table.
    /// Returns: more, one is done, call again for the next; ok, none is left and the sequence is
    /// released; pending, a port or the handler is, or the engine has a unit or a save open: tick,
    /// then call again; handler_failed, decode_failed, unknown_type; failed, dead_letter_failed,
    /// unit_of_work_failed; not_loaded, lease_held; reentered.
    status redeliver(engine& e, text handler, text aggregate_id) {
        return detail::redeliver(e, handler, aggregate_id);
    }
    /// Later events of the sequence are tried again. Its letters stay where they are, and block it
    /// anew when their store is next asked what waits (after a load, a reset(), a skip_failed(), an
    /// event that vanished, ...): take them away, too, if they do not matter any more. An engine
    /// that waits for a place with an event in hand looks for one after projection::delays; one
    /// that was just started after poll_ms or wake().
    void release(const engine& e, text handler, text aggregate_id) {
        detail::release(e, handler, aggregate_id);
    }
    /// Known once the letters' store was asked, which is right before the first read.
    bool is_blocked(const engine& e, text handler, text aggregate_id) const {
        return detail::is_blocked(e, handler, aggregate_id);
    }
    /// How many sequences wait.
    size_t size() const {
        size_t used = 0;
        for (const detail::blocked_sequence& one : places_) used += one.key != 0 ? 1u : 0u;
        return used;
    }

private:
    friend class sequences_of;
    detail::blocked_sequence places_[N]{};
};

/// The table that a projection names; made implicitly.
class sequences_of {
public:
    constexpr sequences_of() = default;
    template<size_t N> constexpr sequences_of(letter_sequences<N>& table)
        : places_(table.places_), count_(N) {}

private:
    friend class engine;
    friend struct detail::sequence_hooks;
    detail::blocked_sequence* places_ = nullptr;
    size_t count_ = 0;
};

/// What start() follows.
enum class start_cause : uint8_t { clean, crash };

namespace detail {
struct lease_keeper;
struct lease_hooks;
struct repartitioning;
}

/// Lets one engine at a time work under a name, over all processes, and the next take over when it
/// is gone. Name it in projection::lease, which then needs `clock`; one serves many engines, and
/// must outlive them.
///
/// Acquire, load, claim (save the same position with the new token), read it back, work. It is
/// renewed after a third of its time, by the clock and also inside long batches; `margin_ms` before
/// its end nothing is begun any more. An engine that lost it drops all it has in hand and waits as
/// a standby.
/// The token protects what happens later still: a checkpoint store that compares revisions or
/// tokens refuses what a former owner saves, and handlers find it in their context.
struct lease {
    constexpr explicit lease(lease_store from) : store(from) {}

    lease_store store;
    uint32_t ttl_ms = 30000;
    /// More than any single callback takes, and than clocks drift within ttl_ms.
    uint32_t margin_ms = 3000;
    /// What the resource is called, from the checkpoint's key, to share a lock with another
    /// implementation; valid until the next call. None: it is called as the key.
    callback<text(text key)> resource{};

private:
    friend class engine;
    friend class replay_engine;
    friend struct context;
    friend struct detail::lease_hooks;
    friend struct detail::repartitioning;
    static const detail::lease_keeper keeper;
    // Reached through a pointer, so that the code is linked only where a lease is named.
    const detail::lease_keeper* keeper_ = &keeper;
};

enum class unknown_types : uint8_t { ignore, fail };
/// Where a projection without a checkpoint begins. the_beginning refuses a log whose beginning is
/// gone.
enum class begin_at : uint8_t { the_beginning, oldest_kept, the_end };

// ------------------------------------------------------------------------------------ >>projection

/// One projection, described once. Plain data: make it constexpr and it stays in flash. Engines
/// keep its address; change it only while none of them is running.
struct projection {
    text name{};                        ///< the checkpoint's key too: never change it; must outlive
                                        ///< the engines, as all that is named here
    event_store log{};
    routes handlers{};                  ///< one handler, a registry or a handler_map
    checkpoint_store checkpoints{};

    // optional ports and features (they and the pace come first: a Cortex-M0 reaches 32 words of
    // an object with one instruction)
    dead_letter_sink dead_letters{};
    unit_of_work transaction{};         ///< effects, letters and checkpoint together or not at all
    sequences_of sequences{};           ///< letter_sequences: keep the order of each aggregate
    const projections::lease* lease = nullptr;          ///< several processes: only one works
    const crash_guard* crashes = nullptr;
    const gap_guard* gaps = nullptr;    ///< positions are dense, and may become visible late

    // pace
    uint32_t batch = 100;               ///< events at most in one tick; save.every_events limits it
    uint32_t tick_ms_max = 0; ///< begins no event after so long; 0: no limit; needs `clock`
    uint32_t poll_ms = 1000;  ///< wait at the end of the log; `never` if appending calls wake()
    uint32_t pending_ms = 10; ///< wait after `pending`; `never` if completing calls wake()
    save_rule save{};
    uint32_t unsaved_max = 0;           ///< events unsaved because saving fails; 0: ten batches
    uint32_t stop_ms = 5000;            ///< a stop() or halt gives up saving after so long; 0: it
                                        ///< does not try
    uint32_t unit_ms_max = 1000;        ///< a unit of work waits so long for one pending event

    // failures
    error_policy on_error = error_policy::skip();
    const error_policy* on_error_replaying = nullptr;   ///< nullptr: as on_error
    unknown_types on_unknown = unknown_types::ignore;
    backoff delays{};

    // surroundings
    observer observe{};
    bool observe_handled = false;       ///< tell the observer of every single event, too
    /// Milliseconds: the clock that tick() is given. For tick() without an argument, tick_ms_max
    /// and a lease.
    callback<uint32_t()> clock{};

    // selection
    begin_at first_start = begin_at::the_beginning;
    callback<bool(const stored_event&)> filter{};       ///< false: not for this projection

    // replayed events, which live_only handlers do not see
    /// Events up to here were handled by another projection: for the one that takes its place,
    /// where the old one stopped. Kept in the checkpoint; less than is kept changes nothing.
    position replayed_through = before_first;
    /// The model does not survive a restart (it lives in RAM): every run reads again from the
    /// oldest event that is kept, silently up to the checkpoint, and saves nothing before it. For
    /// workers. (With begin_at::the_end only the first run leaves out what is older.)
    bool volatile_model = false;

    /// The checkpoint store keeps no more than the position, and that is known: what else is saved
    /// is not looked for. The README says what is lost.
    bool accept_partial_records = false;
};

// ---------------------------------------------------------------------------------------- >>worker

enum class run_state : uint8_t {
    stopped,
    running,                    ///< more is waiting: tick again at once
    idle,                       ///< at the end of the log
    waiting,                    ///< for a backoff, a pending port or handler, a failing store
    paused,
    halted                      ///< needs a decision: see reason()
};
constexpr const char* to_string(run_state s);

struct tick_result {
    run_state state;
    status reason;              ///< why it waits or has halted; ok otherwise
    uint32_t wait_ms;           ///< nothing is due before; 0: more is waiting, or the run has just
                                ///< ended; `never`: until wake(), or no run
    uint32_t scanned;           ///< events that got their outcome in this tick
};

/// What became of the events; `scanned` is the sum of the others, failed_calls apart. An event
/// counts once, when it gets its outcome, under the worst of its handlers'.
struct counters {
    event_count scanned, handled, unhandled, unknown, filtered, skipped, lettered, vanished;
    event_count duplicate;      ///< a sink's: messages that were done already
    event_count foreign;        ///< of other partitions
    event_count failed_calls;   ///< as often as a policy was asked: once for each call that failed,
                                ///< and for each attempt at an event that came to no handler
};

/// The most recent failure. `attempts` is 0 if there was none since start().
struct failure_record {
    position at;
    text handler;               ///< lives as long as the registry or handler_map
    uint32_t code;
    uint16_t attempts;
    failure_kind kind;
};

namespace detail {

/// One request: a byte that anybody may set and the engine takes.
class request {
public:
    void set(uint8_t value) {
#if defined(__GCC_ATOMIC_CHAR_LOCK_FREE) && __GCC_ATOMIC_CHAR_LOCK_FREE == 2
        __atomic_store_n(&byte_, value, __ATOMIC_RELEASE);
#else
        *const_cast<volatile uint8_t*>(&byte_) = value;
#endif
    }
    PROJECTIONS_ONCE_ uint8_t take() {
#if defined(__GCC_ATOMIC_CHAR_LOCK_FREE) && __GCC_ATOMIC_CHAR_LOCK_FREE == 2
        if (__atomic_load_n(&byte_, __ATOMIC_RELAXED) == 0) return 0;
        return __atomic_exchange_n(&byte_, uint8_t{0}, __ATOMIC_ACQ_REL);
#else
        // One core without read-modify-write: what is set between the two accesses is not lost,
        // since the log is read after them.
        const uint8_t value = *const_cast<volatile uint8_t*>(&byte_);
        if (value != 0) *const_cast<volatile uint8_t*>(&byte_) = 0;
#  if defined(__GNUC__) || defined(__clang__)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
#  endif
        return value;
#endif
    }
    bool is_set() const {
#if defined(__GCC_ATOMIC_CHAR_LOCK_FREE) && __GCC_ATOMIC_CHAR_LOCK_FREE == 2
        return __atomic_load_n(&byte_, __ATOMIC_ACQUIRE) != 0;
#else
        return *const_cast<const volatile uint8_t*>(&byte_) != 0;
#endif
    }

private:
    uint8_t byte_ = 0;
};

enum class outcome : uint8_t {
    handled, unhandled, unknown, filtered,
    not_ours,                   // a sink's duplicate, a partition's foreign event
    lettered, skipped, vanished
};
inline constexpr size_t outcome_count = 8;
/// So many of them, after `handled`, are those of which a unit of work may hold several events.
inline constexpr size_t common_outcomes = 4;

/// Not ~0u and 1u << n: an int may have 16 bits.
inline constexpr uint32_t all_bits = 0xFFFFFFFFu;
/// Stands for a handler's index where no handler is to blame.
inline constexpr uint8_t no_handler = 0xFF;
/// And for its bit.
inline constexpr uint32_t no_handler_bit = uint32_t{1} << 31;
/// So many letters of one event can wait for the sink; a handler beyond that is held untried.
inline constexpr uint8_t owed_letters_max = 4;
/// Ten batches are still a number.
inline constexpr uint32_t batch_max = never / 16;

/// How the save under way stands; with a unit of work its commit, too. From `committing` on it may
/// be done already, or somebody else's.
enum class saving : uint8_t {
    none, failed,
    pending, committing,        // save() or commit() is to be called again
    refused, uncertain          // the record is to be loaded: who has saved, was it committed
};
/// How the unit of work stands; over: to be rolled back; bare: open, without the checkpoint.
enum class unit : uint8_t { none, over, open, bare };
/// Whether the lease is ours; over: the time until its margin has passed, or it was refused.
enum class leasing : uint8_t { none, ours, over };
/// Whether bounds() must be asked before the next read; letters: and what sequences wait.
enum class asking : uint8_t { none, again, first, letters };

/// What one kind of engine does in its own way. In read-only memory, one per kind, so that an
/// engine pays one pointer, and only the kinds that are used are linked. nullptr: as the worker
/// does. (Bytes come first, as in engine.)
struct role {
    bool is_fed;                            // events are given to it, not read by it
    bool is_rebuilding;                     // ends at replayed_through
    status (*begin)(engine& e);             // at start(): forget the last run; what is wrong
    text (*key)(const engine& e);           // of the checkpoint
    uint32_t (*batch)(const engine& e);
    bool (*prepare)(engine& e);             // before reading; false: not now
    bool (*leave)(engine& e);               // before the last save; false: not yet
    void (*reject)(engine& e);              // takes the letters if there is no sink for them
    bool (*adopt)(engine& e, checkpoint& found);        // a record just loaded; false: not this one
    const projections::partition* (*part)(const engine& e);     // nullptr: of no partition
    bool (*is_ours)(const engine& e, const stored_event& event);
    bool (*may_hold)(engine& e, int change);            // counts leases; false: no more of them
    void (*committed)(engine& e);           // after the commit of a unit; after skip_failed()
};
inline constexpr role worker_role{};

/// What an engine with a lease does besides.
struct lease_keeper {
    status (*validate)(const projection& p);
    bool (*hold)(engine& e);                    // at the begin of a tick; false: do nothing else
    bool (*may_begin)(engine& e);               // extends what is due; false: it is over
    bool (*claim)(engine& e, checkpoint& found); // a record just loaded; false: it is settled
    bool (*confirm)(engine& e);
    bool (*goes_on)(engine& e, checkpoint& found);      // after a save that was refused
    uint32_t (*wait_ms)(const engine& e, uint32_t ms);
    void (*call)(engine& e, delivery& d, const route& to);
    bool (*give_back)(engine& e);               // false: not yet
    status (*extend)(engine& e);
    status (*take)(const lease& l, text key, uint64_t& token);  // of another partition
    status (*leave)(const lease& l, text key, uint64_t token);
};

/// What an engine with a unit of work does besides.
struct unit_keeper {
    status (*validate)(const projection& p);
    bool (*is_gone)(engine& e);                 // rolls back what is over; false: not yet
    void (*read)(engine& e);                    // begins one if there is something for it
    bool (*begin)(engine& e);                   // false: not now
    bool (*enter)(engine& e, delivery& d);      // false: this event is not for now
    uint32_t (*next_pass)(engine& e, delivery& d);      // handlers to call for the held event
    void (*hold)(engine& e, bool is_new, uint8_t handler);
    void (*failed)(engine& e, delivery& d, uint32_t bits, uint8_t handler, const failure& f,
                   decision decided);
    bool (*is_done)(engine& e, const delivery& d, outcome& result);     // the held event
    void (*finish)(engine& e);                  // commits what is whole
    bool (*settle)(engine& e, const checkpoint& found); // what a commit did; false: see the record
    void (*count)(const engine& e, event_count* counts);        // takes off what is uncommitted
    void (*drop)(engine& e);                    // all that is not committed
    bool (*leave)(engine& e);                   // before the run ends; false: not yet
};

/// What an engine with letter_sequences does besides.
struct sequence_keeper {
    status (*validate)(const projection& p);
    bool (*recall)(engine& e);                  // what waits; false: not now
    bool (*reserve)(engine& e, const failure& f);       // before a letter; false: no room
    void (*divert)(engine& e, delivery& d);     // takes out of its handlers those that wait
};

/// A key that the library spells: the projection's name and `_p{index}` or `_partitions`.
class key_buffer {
public:
    static constexpr uint32_t count_record = never;     // as an index: the key of `_partitions`
    /// Empty if there is no room.
    text spell(text name, uint32_t index);
    text spelled() const { return {room_, size_}; }

private:
    char room_[63]{};
    uint8_t size_ = 0;
};
struct sink_hooks;
struct replay_hooks;
struct partition_hooks;
struct unit_hooks;
struct sequence_hooks;

} // namespace detail

/// What all engines have in common. Neither copied nor moved: wakers and interrupts hold its
/// address.
class engine {
public:
    engine(const engine&) = delete;
    engine& operator=(const engine&) = delete;

    /// Checks the description and begins a run; nothing but the observer is called, and nothing is
    /// touched, before the first tick.
    /// Pre: stopped or halted (a halted engine starts over from its checkpoint). Forgets stop(),
    /// pause() and resume() from before, keeps wake(), and sets the counters to zero.
    /// Returns: ok, already_started, reentered, or one of the configuration group.
    /// `cause` says whether the last run ended by a crash; only a crash_guard looks at it.
    status start(start_cause cause = start_cause::clean);

    /// One bounded portion of work, in this order: requests; lease; load; bounds; read and handle;
    /// save.
    /// Calls: load, save, read at most once each; bounds at most twice; acquire and release once,
    /// extend where a third of the lease's time has passed, the clock before each handler if there
    /// is a lease; decode, handlers, filter, policy, letters and observer for at most `batch`
    /// events. Besides: with a lease load once more, to read the claim back; a partitioned_worker
    /// once more, for the count; a replay_engine load three times, save twice (its marker and the
    /// other partitions) and on_drop once. With a unit of work read twice, the first time for one
    /// event that it leaves, begin and commit once, rollback twice, save twice where a run ends.
    /// Not from inside a callback.
    /// Returns: the state, its reason, and when to call again. Calling earlier does no harm.
    /// Crash: what was saved stays; events after it are handled again.
    [[nodiscard]] tick_result tick(uint32_t now_ms);
    /// tick(projection.clock()); without a clock it answers no_clock and does nothing.
    [[nodiscard]] tick_result tick();

    // Requests: safe from interrupts, signal handlers and other threads; the next tick carries them
    // out.

    /// Save and end. Done when running() is false; reason() then is ok, or why the save is missing.
    /// (To one that does not run: start() forgets it; a run that goes on after a halt obeys.)
    void stop() { stop_.set(1); }
    /// Save and rest: no read, no handler. The last of pause() and resume() wins.
    void pause() { pause_.set(pause_on); }
    void resume() { pause_.set(pause_off); }
    /// Look at once: ends a wait at the end of the log or for something pending, never a backoff.
    void wake() { wake_.set(1); }
    /// A request since the last tick: look with interrupts masked, right before sleeping.
    bool woken() const { return wake_.is_set() || stop_.is_set() || pause_.is_set(); }

    run_state state() const { return state_; }
    status reason() const { return reason_; }
    /// Started, and neither stopped nor halted: worth another tick.
    bool running() const { return stage_ > stage::halted; }
    /// The checkpoint is known; the positions below mean something.
    bool loaded() const { return loaded_; }
    /// The last read reached the end of the log; of a sink: no message between two ticks; of a
    /// replay_engine: the end of what it rebuilds.
    bool caught_up() const { return caught_up_; }
    /// Everything up to here is done and saved (of a volatile model: by this run or one before; of
    /// messages without offsets: done in this run, and never saved).
    position checkpointed() const { return record_.at; }
    /// Everything up to here is done; in a unit of work: and committed.
    position scanned() const { return loaded_ ? done_through() : before_first; }
    bool has_processed(position at) const { return at <= scanned(); }
    /// Positions between here and the newest event; -1 if unknown (no bounds(), or not asked yet).
    int64_t lag() const {
        const position at = done_through();
        if (!loaded_ || newest_ < before_first) return -1;
        if (newest_ <= at) return 0;
        return at < 0 ? newest_ + (newest_ != detail::last_position) : newest_ - at;
    }
    counters counts() const;
    const failure_record& last_failure() const { return last_failure_; }
    const projection& described_by() const { return *what_; }
    /// The lease is ours and claimed.
    PROJECTIONS_ONCE_ bool has_lease() const {
        return lease_ == detail::leasing::ours && loaded_ && !unconfirmed_;
    }
    /// The lease's; 0 without one.
    uint64_t fencing_token() const {
        return lease_ == detail::leasing::ours ? record_.fencing_token : 0;
    }

    // Commands: never from inside a callback (they answer reentered).

    /// Goes on after a halt: the event it halted before is tried again, as many times as at first.
    /// Returns: ok; not_halted; reentered.
    status retry_failed();
    /// Goes on after a halt and gives the event up: it counts as skipped. `at` is
    /// last_failure().at. (Of a message without an offset nothing is kept: acknowledge it at the
    /// broker, too, or it comes again as a new one. If another handler's letter of it is for the
    /// broker to keep, a crash before it is offered again, and answered reject, loses that letter.)
    /// Returns: ok; not_halted, also if the engine no longer stands before that event, or the
    /// record is not ours to replace; reentered.
    status skip_failed(position at);

protected:
    constexpr engine(const projection& what, const detail::role& as)
        : what_(&what), role_(&as), furthest_(0), looked_(0), untold_(0),
          moved_back_(0), save_doubtful_(0), yields_(0), unconfirmed_(0), lease_pending_(0),
          follows_crash_(0), more_(0), aside_(0), paused_(0), loaded_(0), halts_(0), narrowed_(0),
          uncommitted_(0), put_(0), reached_(0), worst_(detail::outcome::handled), careful_(0),
          blames_(0) {}
    ~engine() = default;

    status set_position(position expected, position next);
    status reset(position to = before_first);

private:
    friend class visitor;
    friend class event_sink;
    friend class replay_engine;
    friend class partitioned_worker;
    friend class crash_guard;
    friend class gap_guard;
    friend struct detail::delivery;
    friend void detail::deliver_by_table(const stored_event&, detail::delivery& to);
    friend void detail::deliver_replayed(const stored_event&, detail::delivery& to);
    friend void detail::deliver_chosen(const stored_event&, detail::delivery& to);
    friend bool detail::look_at_bounds(engine& e);
    friend struct context;
    friend struct detail::sink_hooks;
    friend struct detail::replay_hooks;
    friend struct detail::partition_hooks;
    friend struct detail::lease_hooks;
    friend struct detail::unit_hooks;
    friend struct detail::sequence_hooks;

    enum class stage : uint8_t { stopped, halted, loading, working, ending };   // see running()
    static constexpr uint8_t pause_on = 1;
    static constexpr uint8_t pause_off = 2;

    status validate() const;
    void take_requests();
    uint32_t passed_ms(uint32_t now_ms) const { return now_ms - now_ms_; }
    void age(uint32_t now_ms);

    // the steps of a tick
    void advance();
    void work();
    void load();
    void adopt(checkpoint& found);
    void settle_conflict(checkpoint& found);
    bool confirm();
    partition part() const;
    uint32_t part_index() const { return part().index; }
    const detail::lease_keeper& keeper() const { return *what_->lease->keeper_; }
    bool has_units() const { return what_->transaction.begin.code_ != nullptr; }
    const detail::unit_keeper& units() const { return *what_->transaction.begin.code_; }
    bool has_sequences() const { return what_->sequences.places_ != nullptr; }
    const detail::sequence_keeper& sequences() const { return *what_->dead_letters.first.code_; }
    bool is_in_unit() const { return unit_ >= detail::unit::open; }
    bool lease_allows(bool (*detail::lease_keeper::*step)(engine&));
    bool may_begin();
    bool is_fenced() const { return lease_ == detail::leasing::over; }
    bool ask_bounds(position& trimmed);
    bool look_at_bounds();
    bool compare_bounds();
    bool begin_somewhere(position trimmed);
    bool read(uint32_t limit, bool closely);
    void after_read(status answer, bool is_told_to_stop, bool has_moved);
    bool save_is_due() const;
    bool wants_save() const {
        return paused_ != 0 || unsaved_ >= what_->save.every_events ||
               (caught_up_ && what_->save.when_idle);
    }
    void save();
    status try_to_save(const checkpoint& next);
    checkpoint next_record(position at) const;
    void saved(const checkpoint& now);
    PROJECTIONS_COLD_ void end();
    uint32_t wait_ms() const;

    void load_anew();
    void go_on();
    void go_to(position to);
    PROJECTIONS_ONCE_ void notify(notice_kind kind) { notify(kind, status::ok); }
    void notify(notice_kind kind, status reason, const failure* cause = nullptr);

    // one event
    bool take_closely(visitor& from, const stored_event& event);
    bool had_trouble(visitor& from, const stored_event& event);
    bool needs_a_closer_look() const;
    /// Not every event is for this engine.
    bool chooses() const {
        return what_->filter ||
               (role_->is_ours != nullptr && (PROJECTIONS_SMALL_ || part().count != 1));
    }
    PROJECTIONS_INLINE_ detail::outcome choose(detail::delivery& d);
    const detail::route_table& table() const { return *what_->handlers.table; }
    PROJECTIONS_ONCE_ bool was_handled(position at) const { return at <= record_.replayed_through; }
    bool is_replaying() const { return record_.replayed_through > at_; }
    const stored_event* end_of_replayed(const stored_event* event, const stored_event* end) const;
    void passed_first(bool was_dirty);
    void count(const detail::delivery& of, uint32_t taken);
    void count_as(detail::outcome what);
    event_count counted() const;
    PROJECTIONS_COLD_ bool has_vanished();
    void give_up_held(detail::outcome how);
    void forget_held();
    void forget_unsettled();
    void drop_held();
    detail::outcome call_handlers(detail::delivery& d, const detail::route& route);
    uint32_t next_in_round(detail::delivery& d);
    bool settle(visitor& from, const stored_event& event, detail::outcome result);
    PROJECTIONS_COLD_ bool keep_holding(visitor& from, const stored_event& event);
    void hold(const detail::delivery& from, uint8_t handler);
    void failed(detail::delivery& from, uint32_t bits, uint8_t handler, failure_kind kind,
                uint32_t code);
    PROJECTIONS_COLD_ void owe(detail::delivery& from, uint32_t bits, uint8_t handler,
                                      const failure& f);
    decision decide(const failure& f) const;
    PROJECTIONS_INLINE_ bool put_letter(const failure& f);
    PROJECTIONS_COLD_ void offer_owed(detail::delivery& from);
    failure describe(const detail::delivery& from, uint8_t handler, failure_kind kind,
                     uint32_t code) const;

    // waits
    bool wait(uint32_t ms, status why, bool until_woken);
    PROJECTIONS_COLD_ bool wait_after(status answer, status why);
    uint32_t delay(uint32_t failures) const;
    PROJECTIONS_COLD_ bool halt(status why);
    bool is_holding() const { return held_at_ >= 0; }
    bool is_refused() const { return saving_ >= detail::saving::refused; }
    bool is_save_pending() const {
        return saving_ == detail::saving::pending || saving_ == detail::saving::committing;
    }
    /// What is done is not committed, or not known to be.
    bool is_tentative() const { return is_in_unit() || saving_ == detail::saving::uncertain; }
    PROJECTIONS_ONCE_ position done_through() const { return is_tentative() ? record_.at : at_; }
    /// The checkpoint speaks of a crash, and there is nothing left that may have caused it.
    bool is_cleared() const;
    bool is_dirty() const { return save_first_ || at_ > record_.at || is_cleared(); }
    bool only_saves() const;
    /// It begins at the end of the log, and bounds() has not yet said where that is: a record saved
    /// before would be a place to go on from.
    bool seeks_the_end(const checkpoint& found) const;
    /// The record is ours to replace.
    bool may_save() const;
    text key() const { return role_->key != nullptr ? role_->key(*this) : what_->name; }
    uint32_t batch() const { return role_->batch != nullptr ? role_->batch(*this) : what_->batch; }
    uint32_t unsaved_max() const;

    const projection* what_;
    const detail::role* role_;

    // Bytes come first: a Cortex-M0 reaches only the first 32 of an object with one instruction. Of
    // words it reaches 32, so those that only a rare path needs come last.
    detail::request stop_{};
    detail::request pause_{};
    detail::request wake_{};
    stage stage_ = stage::stopped;
    run_state state_ = run_state::stopped;
    status reason_ = status::ok;
    status why_ = status::ok;           // reading waits
    status end_reason_ = status::ok;    // why the run ends; ok: by stop()
    bool ticking_ = false;
    bool wakeable_ = false;             // wake() ends read_in_
    bool caught_up_ = false;
    bool save_first_ = false;           // nothing is read before the position is saved
    detail::leasing lease_ = detail::leasing::none;
    detail::saving saving_ = detail::saving::none;
    detail::asking asking_ = detail::asking::none;
    detail::unit unit_ = detail::unit::none;
    uint8_t read_failures_ = 0;
    uint8_t save_failures_ = 0;
    uint8_t letter_failures_ = 0;       // 0 with a letter owed: the sink answered pending
    uint8_t owed_ = 0;                  // letters that the sink has not taken, or not for good
    uint8_t furthest_ : 6;              // unit of work: the last handler that the attempts are of
    uint8_t looked_ : 1;                // in this tick nothing stands in the way of a read
    uint8_t untold_ : 1;                // not to be saved: the broker does not know a letter;
                                        // or at the end of a run it was rolled back
    uint8_t moved_back_ : 1;            // the position to be saved is below the one that is kept
    uint8_t save_doubtful_ : 1;         // an attempt failed or threw: perhaps it is done
    uint8_t yields_ : 1;                // gives the lease away, and then waits for it
    uint8_t unconfirmed_ : 1;           // the claim or marker is to be read back
    uint8_t lease_pending_ : 1;         // wake() ends renew_in_
    uint8_t follows_crash_ : 1;         // the run does, and the record does not yet say so
    uint8_t more_ : 1;                  // unit of work: the log is known to hold more
    uint8_t aside_ : 1;                 // the held event is done, not yet committed; or those
                                        // before it are to be done again: held_at_ is negated
    uint8_t paused_ : 1;
    uint8_t loaded_ : 1;                // the checkpoint is known
    uint8_t halts_ : 1;                 // a policy wants to halt when the round ends
    uint8_t narrowed_ : 5;              // a unit of work takes a batch, halved so many times
    uint8_t uncommitted_ : 1;           // the unit of the held event alone was not committed
    uint8_t put_ : 3;                   // of the letters owed in a unit of work, so many are taken
    uint8_t reached_ : 1;               // the held event comes right after those in the unit
    detail::outcome worst_ : 3;         // of the held event's handlers

    // The held event, which is to be tried again. Handlers answer in rounds: a round ends when none
    // of them is pending and no letter is owed; those that failed and may try again form the next
    // one. So one number of attempts serves them all. In a unit of work a round ends with the first
    // failure, and all that were not given up form the next: their effects were rolled back.
    uint16_t attempt_ = 0;
    uint16_t careful_ : 15;             // so many events are named before they are begun
    uint16_t blames_ : 1;               // the one that is named has crashed too often
    uint32_t todo_ = 0;                 // handlers to call in this round
    uint32_t pending_ = 0;              // those of them that answered pending
    uint32_t retry_ = 0;                // handlers to call in the next round
    uint32_t print_ = 0;                // tells whether the same event comes again; 0: not taken
    uint32_t saving_events_ = 0;        // how many of unsaved_ the save under way covers
    position held_at_ = 0;              // before_first: no event is held; below: see gap_guard

    // Waits count down by what passes between two ticks, so the clock may wrap and sleeps may be
    // long.
    uint32_t now_ms_ = 0;
    uint32_t read_in_ = 0;              // no read or load before
    uint32_t retry_in_ = 0;             // no next round of attempts before; while the run ends:
                                        // no save after
    uint32_t letter_in_ = 0;            // no letter before
    uint32_t save_in_ = 0;              // with a unit of work open: its time is over

    uint32_t unsaved_ = 0;              // events since the last save
    position at_ = 0;                   // the last event with an outcome
    checkpoint record_{};               // as last loaded or saved
    position newest_ = 0;               // below before_first: unknown
    union {                             // no save of its own is under way while a unit is open
        position saving_at_ = 0;        // what the save says
        uint16_t before_unit_[detail::common_outcomes]; // counters as they were before the unit
    };
    uint32_t lease_in_ = 0;             // nothing begins after
    uint32_t renew_in_ = 0;             // the lease is neither acquired nor extended before
    uint32_t letters_[detail::owed_letters_max]{};
    uint8_t letter_handlers_[detail::owed_letters_max]{};
    event_count counts_[detail::outcome_count]{};
    event_count failed_calls_ = 0;
    failure_record last_failure_{};
};

/// Runs a projection: reads its log, handles what is new, saves the checkpoint.
class worker : public engine {
public:
    /// Keeps the address only, so members may be declared in any order and this may be constexpr.
    constexpr explicit worker(const projection& what) : engine(what, detail::worker_role) {}
    worker(const projection&&) = delete;

    /// Moves the checkpoint, down too; saved before the next event is read. Ends a halt, a retry
    /// and a pending call. Never from inside a callback. (A halted engine has given its lease away:
    /// if another one saves before this one has it back, the other's checkpoint stands.) Events
    /// that come again are new ones, above the record's replayed_through: live_only handlers are
    /// called for them again. To have those silent takes a replay_engine.
    /// Returns: ok; conflict, the engine is not at `expected` (see scanned()), `next` is below
    /// before_first, a rebuild is unfinished, or a commit is pending or a save was refused: tick,
    /// then again; stopped, or not started, or about to end; not_loaded; reentered.
    status set_position(position expected, position next) {
        return engine::set_position(expected, next);
    }
    /// The same without asking where it is.
    status reset(position to = before_first) { return engine::reset(to); }

protected:
    constexpr worker(const projection& what, const detail::role& as) : engine(what, as) {}
};

// ------------------------------------------------------------------------------------------ >>sink

/// A broker's client, where a sink should subscribe and unsubscribe by itself.
struct consumer {
    /// Called by the first tick that has the checkpoint, and after a halt. Answers ok, pending or
    /// failed; asked until it is ok.
    status (*subscribe)(void* self, text topic, text queue) = nullptr;
    /// Called when the run ends, before the last save, unless stop_ms is over. Answers ok or
    /// pending; a failure is reported to the observer, and the run ends all the same.
    status (*unsubscribe)(void* self, text topic, text queue) = nullptr;
    void* self = nullptr;

    constexpr consumer() = default;
    /// From an object with `subscribe` and `unsubscribe`.
    template<class T, detail::require<!detail::is_same<detail::plain<T>, consumer>> = 0>
    constexpr consumer(T&& client);
};

struct sink_options {
    consumer client{};
    text topic{};
    text queue{};
    /// For a broker whose messages carry their type inside: fills in what the message as offered
    /// does not say (type, payload, aggregate, version). False: not readable, a decode failure.
    callback<bool(stored_event& message)> open{};
    /// Messages without offsets are numbered and the number saved, as the Python package does. It
    /// never tells a duplicate; without it nothing is saved for them.
    bool count_messages = false;
};

/// What to tell the broker about the message that was offered.
enum class receipt : uint8_t {
    ack,                        ///< done and durable, and so are all before it: acknowledge
    later,                      ///< done; acknowledge when checkpointed() reaches its offset
    hold,                       ///< not done: keep it, offer it again after wait_ms
    reject                      ///< never: a letter that the broker keeps (nack, term)
};
constexpr const char* to_string(receipt r);

struct receive_result {
    receipt answer;
    uint32_t wait_ms;           ///< after hold: nothing changes before, except by wake()
    status reason;              ///< after hold: why; pending, too, while another one is held; ok,
                                ///< nothing is wrong, another unit of work is to be made for it
};

/// Runs a projection on what a broker delivers: the same description, handlers, policies and
/// checkpoints as a worker; the log is not read (but its bounds, if there are any, are looked at).
/// One sink per source: a topic's partition, a queue. tick() flushes the checkpoint when that is
/// due; `save.when_idle` means: no message between two ticks. With a lease it subscribes once it
/// has it; when it has lost it, it stays subscribed and answers hold until it has it again.
class event_sink : public engine {
public:
    constexpr explicit event_sink(const projection& what, const sink_options& options = {})
        : engine(what, kind), options_(options) {}
    event_sink(const projection&&, const sink_options& = {}) = delete;

    /// Offers one message. `message.at` is the broker's offset, before_first if it has none.
    /// Offsets increase, redeliveries included; a source that reorders is used without them. While
    /// one message is held, any other that is not a duplicate is answered hold, pending, untried.
    /// (If its offset is below, the source has gone back: it is taken next, and what was held is
    /// new when it comes again.)
    /// What was answered MUST have been told to the broker before the next call.
    ///
    /// At or below the last one done it is a duplicate (ack or later) if the broker says
    /// `redelivered`, if it was offered before in this run, if the log's identity is that of the
    /// checkpoint, or at or below accept_up_to(). Otherwise the source has started over: hold,
    /// log_replaced.
    /// Calls: as tick(), up to twice where something else was due, and then for this one event.
    /// Returns: hold also with reentered, stopped, what it halted for, paused, or while loading.
    [[nodiscard]] receive_result receive(const stored_event& message, uint32_t now_ms,
                                         bool redelivered = false);
    /// Offsets up to here, but none above the last one done, are duplicates: for taking over from a
    /// worker, its checkpoint. Kept for all runs. Also for what the broker still has after a
    /// set_position() to a higher place, or of before begin_at::the_end.
    void accept_up_to(position last) { accepted_ = last; }

    /// As a worker's.
    status set_position(position expected, position next) {
        return engine::set_position(expected, next);
    }
    status reset(position to = before_first) { return engine::reset(to); }

private:
    friend struct detail::sink_hooks;
    using hooks = detail::sink_hooks;
    static const detail::role kind;
    enum class place : uint8_t { fresh, duplicate, other_source };
    /// A message takes the fast way of a read.
    bool is_plain() const { return !PROJECTIONS_SMALL_ && is_simple_ && !is_holding(); }
    bool needs_a_tick(uint32_t elapsed_ms) const;
    receive_result get_to_work(uint32_t now_ms);
    place place_of(position offset, bool is_redelivered) const;
    receive_result offer(const stored_event& message, bool has_offset);
    bool is_same_message(const stored_event& message) const;
    void fail_owed();
    receive_result handle(const stored_event& event, detail::delivery& d, bool has_offset,
                          const stored_event& message);
    /// Before the next call the broker is told.
    receive_result rejected() {
        untold_ = 0;
        return {receipt::reject, 0, status::ok};
    }

    bool subscribed_ = false;
    bool received_ = false;     // since the last tick
    bool rejected_ = false;     // the letter of this message is the broker's
    bool unkept_ = false;       // it has no position that a save could keep
    bool is_simple_ = false;    // the description wants no tick and no closer look at each message
    bool committed_ = false;    // since then:
    uint32_t unanswered_ = 0;   // print of one without offset whose commit was not answered at once
    position accepted_ = before_first;
    position offered_from_ = before_first;      // in this run; before_first: none yet
    position offered_through_ = before_first;
    sink_options options_;
};

// ---------------------------------------------------------------------------------------- >>replay

/// How far a rebuild is.
struct progress {
    event_count processed;      ///< events of this run
    int64_t total;              ///< as told in the options
    int percent;                ///< of the positions; 0 while the end is not known
};

struct replay_options {
    /// Empties the read model. Called until it answers ok, and again after a crash before the reset
    /// was saved: dropping twice must do no harm. None: the model is new, or handlers overwrite.
    callback<status()> on_drop{};
    callback<void(const progress&)> on_progress{};      ///< after each tick that moved on; not with
                                                        ///< partitions, whose workers do the work
    position from = before_first;       ///< the events after this one are replayed
    int64_t total = -1;                 ///< how many these are, if the host knows
    uint32_t batch = 500;               ///< as projection::batch, in its place
    /// Not 0: the projection's partitions `{name}_p0` ... are rebuilt under this one drop. Their
    /// records are set back to `from`, and their workers replay them, each up to where it had been.
    /// Another number than the projection has is refused: partition_count_changed.
    uint32_t partitions = 0;
};

/// Rebuilds a read model from the log. In this order, each step saved before the next begins, so
/// that a start() after a crash goes on where it was:
///
///   marker  (stage 1) no worker runs from here on: it answers rebuild_unfinished
///   on_drop           the model is emptied
///   reset   (stage 2) the position is `from`
///   run               the events up to where the projection had been (`replayed_through`); for one
///                     without a checkpoint up to the newest event at the start or, without
///                     bounds(), up to the first end of the log
///   finish  (stage 0) workers may run again, and go on from there
///
/// It ends where the projection had been and not at the newest event, so that live_only handlers
/// miss nothing: what comes after is new to them and the worker's to handle.
class replay_engine : public engine {
public:
    constexpr explicit replay_engine(const projection& what, const replay_options& options = {})
        : engine(what, kind), options_(options) {}
    replay_engine(const projection&&, const replay_options& = {}) = delete;

    /// The run has ended, the model is rebuilt, and the record says so. (Without that, reason() is
    /// why: start() again.)
    bool finished() const { return finished_ && !running() && loaded() && !save_first_; }
    progress how_far() const;

private:
    friend struct detail::replay_hooks;
    using hooks = detail::replay_hooks;
    static const detail::role kind;
    bool begin();
    bool knows_partitions();
    bool drop();
    bool go_through();
    bool finish();
    bool visit_partitions(uint8_t to_stage);

    bool finished_ = false;
    uint32_t partition_ = 1;            // whose record is next
    uint64_t other_token_ = 0;          // the lease of that partition; 0: not held
    position told_ = before_first - 1;  // where on_progress was told of last
    replay_options options_;
    detail::key_buffer key_{};
};

// ------------------------------------------------------------------------------------ >>partitions

/// The partition of an aggregate: SHA-256 (FIPS 180-4) of the id's bytes, read as one big-endian
/// number, modulo `count`, as the Python package has it. 0 for a count of 0.
uint32_t partition_of(text aggregate_id, uint32_t count);

/// How many leases of partitions the workers of this process may hold together; whoever spreads
/// partitions over hosts sets it. What is above it is given up between two batches. Without a lease
/// it does nothing. For one thread. (A worker that is destroyed while it runs keeps its place.)
class partition_limit {
public:
    constexpr explicit partition_limit(uint32_t most) : most_(most) {}
    void set(uint32_t most) { most_ = most; }
    uint32_t held() const { return held_; }

private:
    friend struct detail::partition_hooks;
    uint32_t most_;
    uint32_t held_ = 0;
};

/// The same for all partitions of a projection.
struct partition_options {
    /// In place of partition_of(): an index, or any number, which is taken modulo `count`. Must
    /// never change its mind.
    callback<uint32_t(text aggregate_id, uint32_t count)> partition_by{};
    /// The number of that function, kept in the records so that no other is used by mistake. 0: 1
    /// (SHA-256) without partition_by, else 255. State 1 if it computes the same.
    uint8_t hash_scheme = 0;
    partition_limit* limit = nullptr;           ///< nullptr: as many as there are workers
};

/// One of several partitions of a projection: handles the aggregates that hash to it, and passes
/// over the others (counted as foreign). Each has its own checkpoint `{name}_p{index}` and lease;
/// any number of them can share a process and a loop. The count and the hash are fixed in a record
/// `{name}_partitions` before any of them handles anything; see repartition(). (Not polymorphic: do
/// not delete one as a worker.)
class partitioned_worker : public worker {
public:
    /// Pre: `what` and `with` outlive it.
    constexpr partitioned_worker(const projection& what, partition of)
        : worker(what, kind), of_(of) {}
    constexpr partitioned_worker(const projection& what, partition of,
                                 const partition_options& with)
        : worker(what, kind), of_(of), with_(&with) {}
    partitioned_worker(const projection&&, partition) = delete;
    partitioned_worker(const projection&&, partition, const partition_options&) = delete;
    partitioned_worker(const projection&, partition, const partition_options&&) = delete;

    partition which() const { return of_; }

private:
    friend struct detail::partition_hooks;
    using hooks = detail::partition_hooks;
    static const detail::role kind;
    uint8_t hash_scheme() const;
    bool look_at_count();

    partition of_;
    const partition_options* with_ = nullptr;
    bool counted_ = false;      // the count record was found to be right since the lease was gained
    bool wrote_count_ = false;
    bool has_slot_ = false;     // of the limit
    detail::key_buffer key_{};
};

/// Splits `from` partitions into a multiple of them, or merges them into a divisor, by rewriting
/// their records: in a split each child begins where its parent was; in a merge the new partition
/// begins at the lowest of its parents, so that handlers see some events again. For a time when no
/// worker runs; with a lease, nothing is written while one does.
/// Returns: ok, also if it is done already; pending, lease_held, conflict, failed: call again, it
/// goes on where it was, and until then no worker starts; partition_count_changed: the records
/// speak of neither, as those of a store that keeps positions only; partial_record: the store keeps
/// no marker; rebuild_unfinished; bad_partition, bad_key, no_load, no_save; or what else load() or
/// save() has answered, as checkpoint_corrupt.
[[nodiscard]] status repartition(const projection& what, uint32_t from, uint32_t to);

// ---------------------------------------------------------------------------------------- >>stores

namespace detail {

template<class T, class = void> inline constexpr bool is_key = false;
// (An event with data() and size() is no name.)
template<class T> inline constexpr bool is_key<T, void_t<decltype(type_key(declval<const T&>()))>> =
    !has_type<T> && !has_event_name<T>;

struct log_slot {
    uint32_t begin, number, version;
    uint16_t name, aggregate;
    uint32_t payload, partition_key;
    int64_t occurred_at;
};

/// All of a memory_log but its capacity: a ring of cells over a ring of bytes.
class memory_log_core {
public:
    memory_log_core(const memory_log_core&) = delete;
    memory_log_core& operator=(const memory_log_core&) = delete;

protected:
    struct storage { log_slot* cells; unsigned char* bytes; uint32_t slot_count, byte_count; };
    constexpr memory_log_core() = default;
    position append(const storage& in, const stored_event& event);
    status read(const storage& in, position after, visitor& visit);
    status bounds(position& trimmed, position& newest) const;

private:
    bool make_room(const storage& in, uint32_t size);
    log_slot& cell(const storage& in, uint32_t nth) const;
    uint64_t first() const { return next_ - kept_; }    // position of the oldest kept
    uint64_t next_ = 0;         // position of the next
    uint32_t kept_ = 0;         // so many events
    uint32_t oldest_ = 0;       // the cell of the oldest of them
    uint32_t end_ = 0;          // in the bytes, where the next begins
    bool reading_ = false;
};

} // namespace detail

/// The newest `Count` events in `Bytes` of memory; positions from 0. A ring: what is appended to a
/// full one pushes the oldest out, and bounds() says so. For tests, and for events that need not
/// outlive the process. Copies what it is given, `extra` apart.
template<size_t Count, size_t Bytes> class memory_log : public detail::memory_log_core {
    static_assert(Count > 0 && Bytes > 0 && Count < never && Bytes < never,
                  "projections: an empty memory_log");

public:
    constexpr memory_log() = default;
    /// Appends a raw event. Answers its position; before_first if it is larger than the ring or,
    /// from inside a handler, if that would push out events while they are being read.
    template<class E, detail::require<!detail::is_key<E>> = 0>
    position append(const E& event, text aggregate_id = {}) {
        static_assert(event_traits<E>::type.is_raw(),
                      "projections: memory_log::append(event) keeps raw events; others go by "
                      "append(type, payload)");
        return append(type_key(event_traits<E>::type),
                      bytes(__builtin_addressof(event), sizeof event), aggregate_id,
                      event_traits<E>::type.version());
    }
    position append(type_key type, bytes payload, text aggregate_id = {}, uint32_t version = 1) {
        return append(
            stored_event{before_first, type, payload, aggregate_id, version, no_key, 0, nullptr});
    }
    /// The same with every field; `event.at` is ignored.
    position append(const stored_event& event) { return memory_log_core::append(parts(), event); }

    status read(position after, visitor& visit) {
        return memory_log_core::read(parts(), after, visit);
    }
    status bounds(position& trimmed, position& newest, uint64_t&) const {
        return memory_log_core::bounds(trimmed, newest);
    }

private:
    storage parts() {
        return {slots_, bytes_, static_cast<uint32_t>(Count), static_cast<uint32_t>(Bytes)};
    }
    detail::log_slot slots_[Count]{};
    unsigned char bytes_[Bytes]{};
};

namespace detail {

/// All of a memory_checkpoint_store but its capacity.
struct checkpoint_slot {
    unsigned char record[sizeof(checkpoint)];   // its bytes, so that an empty store is all zero
    uint16_t name_size;
    bool used;
};

status load_from(const checkpoint_slot* cells, const char* names, size_t count, size_t width,
                 text key, checkpoint& out);
status save_to(checkpoint_slot* cells, char* names, size_t count, size_t width, text key,
               const checkpoint& next);

} // namespace detail

/// Up to `N` records in memory (of a projection in n partitions n + 1), compared and set as a real
/// store does. For tests, and for read models that are rebuilt at every start.
template<size_t N, size_t NameBytes = 48> class memory_checkpoint_store {
    static_assert(N > 0 && NameBytes > 0 && NameBytes < 0x10000, "projections: an empty store");

public:
    constexpr memory_checkpoint_store() = default;
    /// Answers ok.
    status load(text key, checkpoint& out) const {
        return detail::load_from(slots_, names_, N, NameBytes, key, out);
    }
    /// Answers ok; conflict; failed, if the table is full or the key is longer than NameBytes.
    status save(text key, const checkpoint& next) {
        return detail::save_to(slots_, names_, N, NameBytes, key, next);
    }
    /// Forgets all checkpoints.
    void clear() { for (detail::checkpoint_slot& slot : slots_) slot.used = false; }

private:
    detail::checkpoint_slot slots_[N]{};
    char names_[N * NameBytes]{};
};

// --------------------------------------------------------------------------------------- >>helpers

/// The shorter of two waits.
constexpr uint32_t sooner(uint32_t a_ms, uint32_t b_ms) { return a_ms < b_ms ? a_ms : b_ms; }

/// A wait as poll(), epoll_wait(), curl and libuv take it: -1 when nothing is due.
constexpr int poll_timeout(uint32_t wait_ms) {
    constexpr uint32_t longest = ~0u >> 1;
    return wait_ms == never ? -1 : static_cast<int>(wait_ms < longest ? wait_ms : longest);
}

/// Ticks several engines once; the shortest of their waits.
template<class... Engines> uint32_t tick_all(uint32_t now_ms, Engines&... engines) {
    uint32_t wait_ms = never;
    const uint32_t each[] = {never, engines.tick(now_ms).wait_ms...};
    for (const uint32_t one : each) wait_ms = sooner(wait_ms, one);
    return wait_ms;
}

/// Ticks until the engine stops or halts; answers why (at once, of one that was not started).
/// `now_ms()` is the clock; `sleep_ms(n)` waits that long at most and may return early (after a
/// wake() it should).
template<class Now, class Sleep> status run(engine& e, Now&& now_ms, Sleep&& sleep_ms) {
    while (e.running()) {
        const uint32_t wait_ms = e.tick(now_ms()).wait_ms;
        if (e.running() && wait_ms != 0 && !e.woken()) sleep_ms(wait_ms);
    }
    return e.reason();
}

/// One event through routing, decoding and handlers, nothing else: for tests, and for projecting
/// while appending. The first answer that is not handled; handled, if nobody handles the type.
verdict deliver(routes to, const stored_event& event, bool replaying = false);
/// The same for an event that is not stored: no name, no bytes.
template<class P, class E,
         detail::require<!detail::is_same<E, stored_event>> = 0>
verdict deliver(P& handler, const E& event, text aggregate_id = {}, bool replaying = false);

/// A profile for service: failures are retried, then lettered, so that no event blocks the others
/// and none is lost; unknown types are another version's and ignored.
projection production(text name, event_store log, routes handlers,
                      checkpoint_store checkpoints, dead_letter_sink dead_letters);
/// A profile for development: the first failure and the first unknown type halt; every event is
/// saved.
projection development(text name, event_store log, routes handlers,
                       checkpoint_store checkpoints);

// ---------------------------------------------------------------------------------------- >>detail

namespace detail {
/// Of names one after the other, in the order of their enumerators: half of the flash that a switch
/// takes.
constexpr const char* nth_name(const char* names, size_t n) {
    for (; n != 0 && *names != '\0'; --n) names += length_of(names) + 1;
    return *names != '\0' ? names : "?";
}
} // namespace detail

constexpr const char* to_string(status s) {
    const char* const groups[] = {
        "ok\0pending\0failed\0more\0trimmed\0conflict\0",
        "stopped\0paused\0reentered\0already_started\0not_loaded\0not_halted\0",
        "handler_failed\0decode_failed\0unknown_type\0dead_letter_failed\0unit_of_work_failed\0"
        "sequences_full\0",
        "checkpoint_failed\0checkpoint_corrupt\0checkpoint_conflict\0checkpoint_ahead\0"
        "partition_count_changed\0rebuild_unfinished\0partial_record\0",
        "store_failed\0store_unordered\0log_trimmed\0log_replaced\0event_changed\0log_gap\0",
        "lease_lost\0lease_held\0lease_failed\0",
        "no_name\0reserved_name\0no_read\0no_bounds\0no_load\0no_save\0no_handlers\0no_clock\0"
        "no_dead_letter_sink\0unknown_policy\0table_full\0bad_type\0duplicate_type\0"
        "duplicate_handler\0bad_batch\0bad_save_rule\0bad_backoff\0bad_key\0"
        "bad_partition\0no_lease\0bad_lease\0no_unit_of_work\0bad_unit_of_work\0"};
    const size_t group = static_cast<size_t>(group_of(s));
    if (group >= sizeof groups / sizeof *groups) return "?";
    return detail::nth_name(groups[group], static_cast<uint8_t>(s) & 31u);
}
constexpr const char* to_string(run_state s) {
    return detail::nth_name("stopped\0running\0idle\0waiting\0paused\0halted\0",
                            static_cast<size_t>(s));
}
constexpr const char* to_string(failure_kind k) {
    return detail::nth_name("transient\0permanent\0decode\0unknown_type\0", static_cast<size_t>(k));
}
constexpr const char* to_string(receipt r) {
    return detail::nth_name("ack\0later\0hold\0reject\0", static_cast<size_t>(r));
}
constexpr const char* to_string(notice_kind k) {
    return detail::nth_name(
        "started\0loaded\0paused\0resumed\0stopped\0halted\0event_handled\0event_skipped\0"
        "event_lettered\0event_vanished\0event_unknown\0handler_failed\0letter_failed\0"
        "checkpoint_saved\0checkpoint_failed\0store_failed\0rebuild_began\0rebuild_dropped\0"
        "rebuild_finished\0lease_gained\0lease_lost\0lease_released\0lease_failed\0gap_found\0"
        "gap_skipped\0", static_cast<size_t>(k));
}

template<class E> constexpr stored_event raw_event(position at, const E& event, text aggregate_id) {
    static_assert(event_traits<E>::type.is_raw(),
                  "projections: raw_event() needs a type declared raw");
    return {at,           event_traits<E>::type,
            {__builtin_addressof(event), sizeof event},
            aggregate_id, event_traits<E>::type.version(), no_key, 0,
            nullptr};
}

namespace detail {

// ---- how an event is declared and decoded
//
// A plain struct is an event once it says what it is called and how its payload is read. Each of
// these things is asked for by detection, so no base class and no registration are needed, and all
// of it is settled while compiling: an event type costs no RAM.
//
// Versions form a chain. A struct knows its own layout and, by `previous` and upcast(), the one
// before it, never more: whoever adds a version writes one function, and the older ones stay.
//
// Where something is missing, a static_assert says so in one sentence, and the code after it
// compiles all the same: the sentence would else be lost among the errors that follow from it.

/// A name given as `event_name` comes first: then `type` is a field of the event, and what it holds
/// is none of our concern, whatever its C++ type.
template<class E> constexpr event_type declared_type() {
    static_assert(
        has_event_name<E> || has_type<E>,
        "projections: give the event `static constexpr pj::event_type type{\"Name\"}` (or "
        "`event_name`), or specialise pj::event_traits for it");
    if constexpr (has_event_name<E>) return event_type(E::event_name);
    else if constexpr (has_type<E>) return E::type;
    else return {};
}

// Whether the call compiles, not what it answers: a decode() that answers something else is to be
// told by its own sentence below, not taken for one that is missing.
template<class E, class = void> inline constexpr bool has_decode = false;
template<class E> inline constexpr bool
    has_decode<E, void_t<decltype(E::decode(declval<const stored_event&>(), declval<E&>()))>> =
        true;
template<class E, class = void> inline constexpr bool has_decode_event = false;
template<class E> inline constexpr bool has_decode_event<
    E, void_t<decltype(decode_event(declval<const stored_event&>(), declval<E&>()))>> = true;
/// Converts to a reference to E and to nothing else, so that an on() that takes it takes exactly E
/// and not a parent of E.
template<class E> struct only {
    template<class T, require<is_same<T, E>> = 0> operator const T&() const;
};
/// For an on() that takes a copy: g++ does not make one of an `only`.
template<class E> struct only_copy {
    template<class T, require<is_same<T, E>> = 0> operator T() const;
};
/// Converts to a reference to E and to nothing else, or to a parent that is smaller than E.
template<class E> struct itself {
    template<class T, require<is_same<T, E>> = 0> operator T&() const;
};
template<class E> struct smaller_parent {
    template<class T, require<!is_same<T, E> && __is_base_of(T, E) && (sizeof(T) < sizeof(E))> = 0>
    operator T&() const;
};
template<class E, class A, class = void> inline constexpr bool decodes = false;
template<class E, class A> inline constexpr bool
    decodes<E, A, void_t<decltype(E::decode(declval<const stored_event&>(), declval<A>()))>> = true;
template<class E, class A, class = void> inline constexpr bool decodes_event = false;
template<class E, class A> inline constexpr bool decodes_event<
    E, A, void_t<decltype(decode_event(declval<const stored_event&>(), declval<A>()))>> = true;
/// Whether a decode() is a parent's only, which leaves the fields of the child as they are. (The
/// const reference is for templates; asked only where a parent's was found.)
template<class E> constexpr bool decodes_parent() {
    if constexpr (has_decode<E>) {
        if constexpr (decodes<E, smaller_parent<E>>)
            return !decodes<E, itself<E>> && !decodes<E, const itself<E>&>;
        else return false;
    } else if constexpr (has_decode_event<E>) {
        if constexpr (decodes_event<E, smaller_parent<E>>)
            return !decodes_event<E, itself<E>> && !decodes_event<E, const itself<E>&>;
        else return false;
    } else {
        return false;
    }
}

template<class E, class = void> inline constexpr bool has_previous = false;
template<class E> inline constexpr bool has_previous<E, void_t<typename E::previous>> = true;

// An upcast() of a parent takes the version before that one, which may be a parent of `previous`;
// and what answers anything expects to be heard.
template<class E, class A, class = void> inline constexpr bool upcasts = false;
template<class E, class A> inline constexpr bool
    upcasts<E, A, when<is_same<decltype(declval<E&>().upcast(declval<A>())), void>>> = true;
template<class E, class Previous> inline constexpr bool has_upcast =
    upcasts<E, const Previous&> && (upcasts<E, only<Previous>> || upcasts<E, only_copy<Previous>>);

/// The version of the type before this one: as declared, or one less. (Versions may have been left
/// out, so an older struct that declares a type speaks for itself.)
template<class E, uint32_t Version> constexpr uint32_t version_before() {
    if constexpr (has_type<typename E::previous> || has_event_name<typename E::previous>) {
        return declared_type<typename E::previous>().version();
    } else {
        return Version - 1;
    }
}

/// A payload that is of version `Version` of this type, or of an older one.
template<class E, uint32_t Version>
PROJECTIONS_INLINE_ bool decode_version(const stored_event& in, E& out) {
    // Only what is older goes up the chain. A newer payload than this program knows stays here: its
    // decode() sees the version, and a raw one is refused. Each step fills a struct of its own, so
    // an upcast() that forgets a field leaves its default, not what an older layout had there.
    if constexpr (has_previous<E>) {
        if (in.version < Version) {
            static_assert(version_before<E, Version>() < Version,
                          "projections: an event with a `previous` is of a later version than "
                          "that: `{\"Name\", pj::schema{2}}`");
            typename E::previous older{};
            if (!detail::decode_version<typename E::previous, version_before<E, Version>()>(in,
                                                                                           older))
                return false;
            constexpr bool is_right = has_upcast<E, typename E::previous>;
            static_assert(is_right, "projections: an event with a `previous` needs "
                                    "`void upcast(const previous& older)`");
            if constexpr (is_right) out.upcast(older);
            return is_right;
        }
    }
    static_assert(!decodes_parent<E>(),
                  "projections: an event would be decoded as its parent, without the fields that "
                  "it adds; give it a decode() of its own");
    // bool, and nothing that converts to it: a C function that answers 0 when all is well would be
    // taken the wrong way round, silently.
    if constexpr (has_decode<E>) {
        constexpr bool is_right = is_same<decltype(E::decode(in, out)), bool>;
        static_assert(is_right, "projections: an event's decode() answers bool");
        if constexpr (is_right) return E::decode(in, out);
        else return false;
    } else if constexpr (has_decode_event<E>) {
        // (One codec for a namespace; a member before it, so that a single event may differ.)
        constexpr bool is_right = is_same<decltype(decode_event(in, out)), bool>;
        static_assert(is_right, "projections: decode_event() answers bool");
        if constexpr (is_right) return decode_event(in, out);
        else return false;
    } else if constexpr (has_type<E> || has_event_name<E>) {
        static_assert(
            declared_type<E>().is_raw(),
            "projections: give the event `static bool decode(const pj::stored_event&, Event&)`, "
            "or declare its type raw: `{\"Name\", pj::raw}`");
        // Bytes of another version may have the same size: only the version tells them apart.
        // (What follows is copy_to() written out: a function less for each type, for compilers.)
        if (in.version != Version || in.payload.size() != sizeof(E)) return false;
        static_assert(__is_trivially_copyable(E), "projections: only a trivially copyable object "
                                                  "can be filled with bytes");
        __builtin_memcpy(__builtin_addressof(out), in.payload.data(), sizeof(E));
        return true;
    } else {
        static_assert(always_false<E>, "projections: a `previous` version of an event needs "
                                       "`static bool decode(const pj::stored_event&, Previous&)`");
        return false;
    }
}

// ---- which on() takes an event
//
// `handles` says which events a class wants; here it is found out how it takes them. Two ways of
// asking lead to the same answer. The quick one asks for a member of exactly the usual type, and
// finds what nearly everybody writes. What it cannot see (an on() that is const, inherited, a
// template, takes a copy or a parent) is found by trying a call, which costs a compiler far more.
//
// An event that is listed and has no on() of its own must not fall to the on() of a parent class:
// a forgotten function would then be a silent wrong result. Only matching<...> asks for that.

// By trying a call: with `const E&` for "takes it somehow", with `only<E>` for "takes exactly it".
template<class P, class A, class = void> inline constexpr bool takes = false;
template<class P, class A>
inline constexpr bool takes<P, A, void_t<decltype(declval<P&>().on(declval<A>()))>> = true;
template<class P, class A, class = void> inline constexpr bool takes_with_context = false;
template<class P, class A> inline constexpr bool takes_with_context<
    P, A, void_t<decltype(declval<P&>().on(declval<A>(), declval<const context&>()))>> = true;

/// An on() of one of the usual forms, found by asking the class for a member of that very type: it
/// costs a compiler a tenth of resolving a call among the on() of a thousand events.
template<class Member, Member On> struct usual_form;
template<class P, class R, class... A, R (P::*On)(A...)>
struct usual_form<R (P::*)(A...), On> {
    using result = R;
    static constexpr bool takes_context = sizeof...(A) == 2;
    static constexpr bool is_plainest = !takes_context && is_same<R, void>;
    static constexpr auto on = On;
};
struct no_form {
    static constexpr bool is_plainest = false;
};
template<class Form> inline constexpr bool is_found = !is_same<Form, no_form>;
/// A template makes an on() of that form. Another on() may come before it (one that answers
/// something else, is static or takes a copy), so the choice is left to a call.
template<bool TakesContext> struct form_of_template {
    static constexpr bool takes_context = TakesContext;
    static constexpr bool is_plainest = false;
};
template<class Form> inline constexpr bool is_template = false;
template<bool TakesContext> inline constexpr bool is_template<form_of_template<TakesContext>> =
    true;
// &P::on as an argument of type Member picks the one overload of that type, or there is none. An
// int goes to the first of the two if that exists, and to `...` if it does not.
template<class P, class Member> usual_form<Member, &P::on> ask_for_on(int);
template<class P, class Member> no_form ask_for_on(...);
template<class P, class Member> using on_as = decltype(ask_for_on<P, Member>(0));
template<class P, class Member> usual_form<Member, &P::template on<>> ask_for_template(int);
template<class P, class Member> no_form ask_for_template(...);

/// A form that was found, unless it is a template's.
template<class P, class Member, bool TakesContext> constexpr auto unless_template() {
    if constexpr (is_found<decltype(ask_for_template<P, Member>(0))>)
        return form_of_template<TakesContext>{};
    else return on_as<P, Member>{};
}

/// The on() of these parameters, whichever of the three it answers.
template<class P, class... A> constexpr auto on_of() {
    using silent = void (P::*)(A...);
    using judged = verdict (P::*)(A...);
    using asked = status (P::*)(A...);
    constexpr bool with = sizeof...(A) == 2;
    if constexpr (is_found<on_as<P, silent>>) return unless_template<P, silent, with>();
    else if constexpr (is_found<on_as<P, judged>>) return unless_template<P, judged, with>();
    else if constexpr (is_found<on_as<P, asked>>) return unless_template<P, asked, with>();
    else return no_form{};
}
/// Of two that fit, the one that wants to know more; a template's is for what has no on() of its
/// own. That a call cannot be with two arguments, a compiler sees at once; where it can be, but in
/// no usual form, only a call can tell which it is.
template<class P, class E> constexpr auto look_for_on() {
    // In a handler that is itself const a member would be found that cannot be called.
    if constexpr (!is_same<P, plain<P>>) {
        return no_form{};
    } else {
        using without = decltype(on_of<P, const E&>());
        if constexpr (!is_found<without>) {
            return on_of<P, const E&, const context&>();
        } else if constexpr (takes_with_context<P, const E&>) {
            using with = decltype(on_of<P, const E&, const context&>());
            if constexpr (is_template<with> && !is_template<without>) return without{};
            else return with{};
        } else {
            return without{};
        }
    }
}
/// no_form for what only a call can tell: a const or inherited on(), a parent's, one that takes a
/// copy.
template<class P, class E> using usual_on = decltype(look_for_on<P, E>());

/// Whether some on() takes exactly E, without a context or with one.
template<class P, class E>
inline constexpr bool takes_own = takes<P, only<E>> || takes<P, only_copy<E>>;
template<class P, class E> inline constexpr bool takes_own_with_context =
    takes_with_context<P, only<E>> || takes_with_context<P, only_copy<E>>;

/// Whether some on() takes exactly E. (The usual form first: where it is found nothing is tried.)
template<class P, class E> constexpr bool has_own_on() {
    if constexpr (is_found<usual_on<P, E>>) return true;
    else return takes_own<P, E> || takes_own_with_context<P, E>;
}
/// Whether some on() takes E at all, as one of a parent does.
template<class P, class E> constexpr bool has_on() {
    if constexpr (is_found<usual_on<P, E>>) return true;
    else return takes<P, const E&> || takes_with_context<P, const E&>;
}
/// The one that takes exactly E comes before a parent's.
template<class P, class E> constexpr bool wants_context() {
    if constexpr (is_found<usual_on<P, E>>) {
        return usual_on<P, E>::takes_context;
    } else {
        return takes_own_with_context<P, E> ||
               (!takes_own<P, E> && takes_with_context<P, const E&>);
    }
}

template<class T, class = void> inline constexpr bool is_handler = false;
template<class T> inline constexpr bool is_handler<T, void_t<typename T::handles>> = true;

/// `handles`, taken apart. own: each type in the list needs an on() of its own. live: replayed
/// events do not reach it (G25). every: it takes whatever is in the log, undecoded, and lists
/// nothing.
template<class H> struct handled_types {
    static_assert(always_false<H>,
                  "projections: `handles` must be pj::events<...>, pj::matching<...>, "
                  "pj::live_only<...> or pj::every_event");
};
template<class... E> struct handled_types<events<E...>> {
    using types = events<E...>;
    static constexpr bool own = true, live = false, every = false;
};
template<class... E> struct handled_types<matching<events<E...>>> {
    using types = events<E...>;
    static constexpr bool own = false, live = false, every = false;
};
template<> struct handled_types<every_event> {
    using types = events<>;
    static constexpr bool own = false, live = false, every = true;
};
template<class... E> struct handled_types<live_only<E...>> : handled_types<events<E...>> {
    static constexpr bool live = true;
};
template<class... E> struct handled_types<live_only<events<E...>>> : handled_types<events<E...>> {
    static constexpr bool live = true;
};
template<class C> struct handled_types<live_only<matching<C>>> : handled_types<matching<C>> {
    static constexpr bool live = true;
};
template<> struct handled_types<live_only<every_event>> : handled_types<every_event> {
    static constexpr bool live = true;
};
template<class P> using handled_by = handled_types<typename P::handles>;

template<class P, class E, class = void> inline constexpr bool takes_mutable = false;
template<class P, class E> inline constexpr bool takes_mutable<
    P, E, void_t<decltype(declval<P&>().on(declval<E&>(), declval<context&>()))>> = true;
/// Whether an on() would take E that cannot be called: it changes what it is given, the handler is
/// const, or another fits as well (an own one that is const, and a parent's that is not). Pre: none
/// can be called.
template<class P, class E> constexpr bool misses() {
    if constexpr (!is_same<P, plain<P>>) return has_on<plain<P>, E>();
    else return takes_own<P, E> || takes_own_with_context<P, E> || takes<P, E&> ||
                takes_mutable<P, E>;
}
/// What is listed in events<...> needs an on() of its own; matching<...> asks for a parent's too.
template<class P, class E> constexpr void demand_on() {
    if constexpr (!handled_by<P>::own && !has_on<P, E>()) {
        static_assert(!misses<P, E>(),
                      "projections: an on() for an event of pj::matching<...> cannot be called "
                      "with `const Event&`, or two fit equally well: one is const, another is not");
    } else if constexpr (handled_by<P>::own) {
        static_assert(has_on<P, E>(), "projections: `handles` names an event for which there is no "
                                    "on(const Event&)");
        // (It says nothing where there is no on() at all: of two sentences only one fits.)
        static_assert(!has_on<P, E>() || has_own_on<P, E>(),
                      "projections: an event in `handles` would be swallowed by the on() of its "
                      "parent; write an on() of its own or list it in pj::matching<...>");
    }
}

// ---- one event on its way to its handlers
//
// A `delivery` goes with an event through the routes to the handlers and brings back who objected.
// A read makes one and uses it for all of its events: while everything is handled, hardly more is
// written in it than which event and which route, and only `trouble` is looked at afterwards. So
// all that is rare costs one test of a bool. settle() calls reset() once an event has its outcome.
//
// What a handler answers other than `handled` goes into the engine at once (answered()), not into
// the delivery: the delivery is gone when the read ends, and a held event outlives many reads.

/// `mask` and `rest` are apart for an engine with a lease, which calls one handler at a time and
/// looks at the lease between two (G20). undecodable() and owe() mean both.
struct delivery {
    const stored_event* event = nullptr;
    const route* to = nullptr;
    engine* from = nullptr;         // nullptr: deliver(), outside any engine
    void* self = nullptr;           // what the calls of the routes want
    bool replaying = false;
    bool trouble = false;           // somebody answered anything but handled
    bool is_hopeless = false;       // no handler sees it: unreadable, or a crash_guard blames it
    bool is_letter = false;         // redelivered: what it comes to is not the engine's
    failure_kind why = failure_kind::decode;
    bool is_unplaced = false;       // a message without an offset: where it stands says nothing
    uint32_t mask = all_bits;       // handlers to call
    uint32_t rest = 0;              // and those to be called after them, one by one
    uint32_t resumed = 0;           // handlers that answered pending before
    uint32_t decoded = 0;           // a handler_map's: those that want the event decoded
    uint32_t now_ms = 0;
    uint32_t attempt = 1;
    uint32_t wait_ms = never;       // the shortest that a pending handler asked for
    uint32_t taken_apart = 0;       // events already counted under another outcome than handled
    verdict first_trouble = handled;

    delivery() = default;
    explicit delivery(engine& sender)
        : from(&sender), self(sender.what_->handlers.self), now_ms(sender.now_ms_) {}
    /// For the next event. (first_trouble stays: of the events of a read nobody looks at it; and
    /// taken_apart, which is of all of them.)
    void reset() {
        mask = all_bits;
        rest = 0;
        resumed = 0;
        attempt = 1;
        wait_ms = never;
        trouble = replaying = is_hopeless = false;
    }
    /// Calls all handlers of the event.
    PROJECTIONS_INLINE_ void deliver(const route& found) {
        to = &found;
        found.call(self, *this);
    }
    uint32_t part() const { return from != nullptr ? from->part_index() : 0; }
    uint64_t token() const { return from != nullptr ? from->fencing_token() : 0; }
    /// Each call has one of its own: `resumed` differs from handler to handler.
    context for_handler(uint32_t bit) const {
        return {*event,    now_ms, attempt, (resumed & bit) != 0,
                replaying, part(), token(), waker(from)};
    }
    /// The handler of that bit did not answer handled.
    PROJECTIONS_COLD_ void answered(uint32_t bit, verdict v);
    void postponed(uint32_t bit, uint32_t retry_in_ms);
    /// The event could not be decoded for the handlers of these bits.
    PROJECTIONS_COLD_ void undecodable(uint32_t bits);
};

/// The bits of all handlers of a route. (A shift by 32 would be undefined.)
inline uint32_t handlers_mask(const route& r) {
    return r.handlers >= 32 ? all_bits : (uint32_t{1} << r.handlers) - 1u;
}

/// In place of handlers, where an event type has none: that needs a closer look. So every route can
/// be called, and the fast path needs no test for an empty one.
inline void nobody(void*, delivery& d) { d.trouble = true; }

/// What an on() may answer. Anything else is told here, and not as a missing conversion.
template<class R> struct to_verdict {
    static_assert(always_false<R>, "projections: on() returns nothing, pj::status or pj::verdict");
};
template<> struct to_verdict<void> {};
template<> struct to_verdict<status> {};
template<> struct to_verdict<verdict> {};

/// Calls a handler and makes a verdict of what it answers. What it throws is a failure that may
/// pass: no exception gets into a read, which it would leave half done.
template<class F> PROJECTIONS_INLINE_ verdict verdict_of(F&& call) {
    using result = decltype(call());
    static_cast<void>(to_verdict<result>{});
    PROJECTIONS_TRY_ {
        if constexpr (is_same<result, void>) { call(); return handled; }
        else if constexpr (is_same<result, status> || is_same<result, verdict>) return call();
        else return handled;
    }
    PROJECTIONS_CATCH_ { return fail(code_thrown); }
}

/// Makes the context for a handler that wants one. context_as holds one that a handler_map has made
/// for any handler; context_of makes one when it is asked, so that a handler without a context pays
/// nothing for it.
struct context_as {
    const context& made;
    const context& operator()() const { return made; }
};
struct context_of {
    const delivery& to;
    uint32_t bit;
    context operator()() const { return to.for_handler(bit); }
};

/// Calls the on() for this event; `with()` makes the context, if it wants one. The usual forms are
/// written out: a thousand lambdas are a compiler's second.
template<class P, class E, class With>
PROJECTIONS_INLINE_ verdict call_on(P& handler, const E& event, [[maybe_unused]] const With& with) {
    using form = usual_on<P, E>;
    if constexpr (is_found<form> && !is_template<form>) {
        constexpr auto on = form::on;
        constexpr bool answers = !is_same<typename form::result, void>;
        PROJECTIONS_TRY_ {
            if constexpr (form::takes_context) {
                if constexpr (answers) return (handler.*on)(event, with());
                else (handler.*on)(event, with());
            } else {
                if constexpr (answers) return (handler.*on)(event);
                else (handler.*on)(event);
            }
            return handled;
        }
        PROJECTIONS_CATCH_ { return fail(code_thrown); }
    } else if constexpr (wants_context<P, E>()) {
        return verdict_of([&]() { return handler.on(event, with()); });
    } else {
        return verdict_of([&]() { return handler.on(event); });
    }
}

} // namespace detail

/// Nobody handles the event, or somebody does not say that it is handled.
/// Where speed counts, a registry's own function is called, which knows its table as constants.
/// Where size counts, one function serves all tables.
PROJECTIONS_INLINE_ bool visitor::has_trouble(const stored_event& event) {
#if PROJECTIONS_SMALL_
    detail::deliver_by_table(event, *delivery_);
#else
    deliver_(event, *delivery_);
#endif
    return delivery_->trouble;
}

/// The fast path. `plainly_` is not 0 as long as nothing but routing is to be done and more events
/// are wanted; close() makes it 0, and take_closely() then shows nothing to anybody. One comparison
/// of positions keeps the order (G6); at_ moves only after all handlers are done (G1). False is
/// said with the last event that is wanted, so that wanted() is exact as a LIMIT.
PROJECTIONS_INLINE_ bool visitor::operator()(const stored_event& event) {
    engine& e = *engine_;
    if (plainly_ == 0 || event.at <= e.at_) return e.take_closely(*this, event);
    if (has_trouble(event)) return e.had_trouble(*this, event);
    e.at_ = event.at;
    return --plainly_ != 0;
}

namespace detail {

// ---- the name of a handler
//
// Letters and failures name a handler, and outlive the program that wrote them: an index would mean
// another handler after the next change of a list. Without RTTI the name of a class is cut out of
// the signature of a function that has it as an argument. Compilers do not spell all names alike
// (that of a class in an unnamed namespace, for one): where letters are kept, state handler_name.

template<class P, class = void> inline constexpr bool has_handler_name = false;
template<class P>
inline constexpr bool has_handler_name<P, void_t<decltype(text(*&P::handler_name))>> = true;

/// The name of T as the compiler spells it inside a function signature.
template<class T> constexpr text spelled() {
// g++: `... spelled() [with T = shop::total]`; clang++: `... [T = shop::total]`; the others:
// `... spelled<struct shop::total>(void)`.
#if defined(__GNUC__) || defined(__clang__)
    constexpr text all{__PRETTY_FUNCTION__};
    constexpr char before = '=';
    constexpr size_t gap = 2;
#else
    constexpr text all{__FUNCSIG__};
    constexpr char before = '<';
    constexpr size_t gap = 1;
#endif
    size_t begin = 0;
    while (all.data()[begin] != before) ++begin;
    begin += gap;
    size_t end = begin;
    // The name may have brackets of its own. The first that closes what it has not opened ends it.
    for (size_t depth = 0; end < all.size(); ++end) {
        const char c = all.data()[end];
        if (c == '<' || c == '(' || c == '[') ++depth;
        if ((c == '>' || c == ')' || c == ']' || c == ';') && depth-- == 0) break;
    }
    return {all.data() + begin, end - begin};
}

/// Its copy, so that the rest of the signature is not kept.
template<class T> struct name_of_type {
    static constexpr size_t size = spelled<T>().size();
    // (A struct, because a function cannot answer an array.)
    struct characters { char at[size]; };
    static constexpr characters copy() {
        characters result{};
        constexpr text name = spelled<T>();
        for (size_t i = 0; i < size; ++i) result.at[i] = name.data()[i];
        return result;
    }
    static constexpr characters value = copy();
};

/// A stated name comes first: it stays when the class is renamed, and so do its letters.
template<class P> constexpr text handler_name() {
    if constexpr (has_handler_name<P>) return text(P::handler_name);
    else return text(name_of_type<P>::value.at, name_of_type<P>::size);
}

// ---- the key of a name: two words of it, chosen so that they tell the registered names apart
//
// A log's name is always compared whole, never by a hash alone: two names with one hash would be
// one type. Since it is compared anyway, the key has to tell only the registered names from each
// other; a name that nobody registered may have any key and is found out by the comparison. So the
// key need not read the whole name. Two words of four characters at fixed offsets cost the same for
// names of any length; the offsets are chosen where the names are known, in the next room.
//
// Keys are made while compiling, for the table, and while running, for each event. Both go through
// the same functions, and the order of the bytes is written out, so a table that was built on one
// machine is right on any other.

inline constexpr uint8_t whole_name = 0xFF;     // as the first offset: no two words do
inline constexpr uint8_t last_word = 0xFE;      // beyond any offset: the name's end
inline constexpr size_t name_size_max = 0xFD;

/// Four characters. Compilers turn this into one load where the machine has one.
PROJECTIONS_INLINE_ constexpr uint32_t word_at(const char* at) {
    return static_cast<uint32_t>(static_cast<unsigned char>(at[0]))
         | static_cast<uint32_t>(static_cast<unsigned char>(at[1])) << 8
         | static_cast<uint32_t>(static_cast<unsigned char>(at[2])) << 16
         | static_cast<uint32_t>(static_cast<unsigned char>(at[3])) << 24;
}
/// Those at `offset`, or the last if the name ends before. Pre: size >= 4.
PROJECTIONS_INLINE_ constexpr uint32_t word_of(const char* name, size_t size, size_t offset) {
    const size_t last = size - 4;
    return word_at(name + (offset <= last ? offset : last));
}

/// Of the whole name, four characters at a time as FNV-1a takes one. The last step takes the last
/// four, some of them twice, and needs no loop over a rest.
PROJECTIONS_INLINE_ constexpr uint32_t key_of_whole(const char* name, size_t size) {
    if (size < 4) return fnv1a(name, size);
    uint32_t hash = static_cast<uint32_t>(size);
    const size_t last = size - 4;
    for (size_t i = 0; i < last; i += 4) hash = (hash ^ word_at(name + i)) * 16777619u;
    hash = (hash ^ word_at(name + last)) * 16777619u;
    return hash ^ hash >> 15;
}

/// The key of a name by the words at two offsets; a name that is too short for a word has one of
/// its characters. The size is part of it, so that a name and its beginning differ. The second word
/// is turned, or two names with the same two words the other way round would have one key. Where
/// size matters there is one word at most, and the loop that the whole name goes through reads it.
PROJECTIONS_INLINE_ constexpr uint32_t name_key(const char* name, size_t size, uint8_t first,
                                                [[maybe_unused]] uint8_t second) {
#if PROJECTIONS_SMALL_
    const size_t count = size < 4 || first == whole_name ? size : 4;
    const size_t last = size - count;
    return fnv1a(name + (first < last ? first : last), count, static_cast<uint32_t>(size));
#else
    if (size < 4 || first == whole_name) return key_of_whole(name, size);
    const uint32_t key = word_of(name, size, first) + static_cast<uint32_t>(size);
    if (first == second) return key;
    const uint32_t word = word_of(name, size, second);
    return key + (word << 15 | word >> 17);
#endif
}

#if (defined(__x86_64__) || defined(__aarch64__)) && defined(__GNUC__)
using chunk = uint64_t;                 // what the machine can load from anywhere
#elif (defined(__i386__) || defined(__ARM_FEATURE_UNALIGNED)) && defined(__GNUC__)
using chunk = uint32_t;
#else
using chunk = unsigned char;
#endif

/// A copy of fixed size, not a cast: the addresses are not aligned.
PROJECTIONS_INLINE_ bool same_chunk(const char* a, const char* b, size_t offset) {
    chunk x, y;
    __builtin_memcpy(&x, a + offset, sizeof(chunk));
    __builtin_memcpy(&y, b + offset, sizeof(chunk));
    return x == y;
}
/// Pre: sizeof(chunk) <= size <= longest.
PROJECTIONS_INLINE_ bool same_characters(const char* a, const char* b, size_t size,
                                         [[maybe_unused]] size_t longest) {
    if constexpr (sizeof(chunk) == 1) {
        for (size_t i = 0; i < size; ++i) {
            if (a[i] != b[i]) return false;
        }
        return true;
    } else {
        // The end first. It overlaps what comes before it, so no rest is compared one by one.
        if (!same_chunk(a, b, size - sizeof(chunk))) return false;
        if constexpr (sizeof(chunk) == 8) {     // most names are of two or three
            if (!same_chunk(a, b, 0)) return false;
            // If it has two, this one lies across them: a branch would often be guessed wrong.
            if (!same_chunk(a, b, size < 16 ? size - 8 : 8)) return false;
            // The three above cover 24; where `longest` is a constant below, this is gone.
            for (size_t i = 16; longest > 24 && i + 8 < size; i += 8) {
                if (!same_chunk(a, b, i)) return false;
            }
        } else {
            for (size_t i = 0; i + 4 < size; i += 4) {
                if (!same_chunk(a, b, i)) return false;
            }
        }
        return true;
    }
}

/// The route that `is_it` says yes to, which most often is the first; nullptr if there is none.
/// Cells are looked at in a row from the key's own on. It ends, because at most half of them are
/// taken: an empty one always comes. No type is called as routes[0], so that an empty cell need be
/// told from a full one only after the comparison.
template<class Is>
PROJECTIONS_INLINE_ const route* look_up(const route* routes, const key_index& in, uint32_t key,
                                         Is&& is_it) {
    uint32_t slot = key * in.multiplier >> in.shift;
    for (;;) {
        const route& r = routes[in.cells[slot]];
        if (PROJECTIONS_LIKELY_(is_it(r))) return &r;
        if (r.number == 0) return nullptr;
        slot = (slot + 1) & (all_bits >> in.shift);
    }
}

/// The key by the two words that were chosen for this table.
PROJECTIONS_INLINE_ uint32_t key_of(const route_table& table, const char* name, size_t size) {
    return name_key(name, size, table.sample[0], table.sample[1]);
}

/// Pre: none of the table's names is above `longest`.
/// The sizes first: what follows reads so many characters of both.
PROJECTIONS_INLINE_ bool has_name(const route& r, const char* name, size_t size,
                                  size_t longest = name_size_max) {
    if (r.name_size != size) return false;
    return size >= sizeof(chunk) ? same_characters(r.name, name, size, longest)
                                 : text(r.name, size) == text(name, size);
}

// ---- routing tables built by the compiler
//
// A registry's types are known while compiling, so its table is a constant: routes in read-only
// memory, no RAM, nothing to set up before main. How it comes about:
//
//   1. Every class lists its events (`handles`). A type that several of them list has one row, and
//      so has each of its former names; its handlers are numbered in the order of the registry.
//   2. All handlers of a type are fused into one function (call<E>): it decodes once and calls each
//      whose bit is set. A row is that function, the type, and what engines ask about the handlers.
//   3. built_routes makes two indexes over the rows, by name and by number: open-addressed tables,
//      at most half full. It tries keys and multipliers and counts the looks that all registered
//      types take together; N looks for N types is perfect.
//   4. The cheapest key is tried first: one word of each name. Only if that leaves many looks has a
//      second word to prove that it saves more than reading it costs; then the whole name.
//
// Mistakes (two types with one name, one without a name and a number, too many handlers) are found
// on the way and told by static_asserts once the table stands: an error in the middle of a constant
// evaluation would point at lines of the library.
//
// Lists of events are walked by expanding them into an array: a fold stops at 256 members with
// clang, and a recursion is as deep as the list is long. Handlers are 255 at most, and folded.

/// A list as one type with a base per member: asking whether it holds E is then one look-up,
/// however long it is. Numbered, so that a member listed twice is no error here (there is a better
/// one).
template<class E> struct member {};
template<class E, size_t I> struct numbered_member : member<E> {};
template<size_t... I> struct numbers {};
#if defined(__clang__) || defined(_MSC_VER)
template<class T, T... I> using numbers_from = numbers<I...>;
template<size_t N> using numbers_to = __make_integer_seq<numbers_from, size_t, N>;
#else
template<size_t N> using numbers_to = numbers<__integer_pack(N)...>;
#endif
template<class Numbers, class... E> struct member_set_of;
template<size_t... I, class... E> struct member_set_of<numbers<I...>, E...>
    : numbered_member<E, I>... {};
template<class List> struct member_set;
template<class... E> struct member_set<events<E...>>
    : member_set_of<numbers_to<sizeof...(E)>, E...> {};

// (`*&`: of a static member only. A field of that name is the event's own.)
template<class T, class = void> inline constexpr bool has_also = false;
template<class T> inline constexpr bool has_also<T, void_t<decltype(*&T::also)>> = true;
template<class T, class = void> inline constexpr bool lists_types = false;
template<class T> inline constexpr bool
    lists_types<T, when<is_same<plain<decltype(T::also[0])>, event_type> &&
                        sizeof(T::also) % sizeof(event_type) == 0>> = true;

/// Where the former names of E are listed: in its event_traits, if those were specialised.
template<class E>
using lister_of_names = choose<has_also<event_traits<E>>, event_traits<E>, E>;
template<class E> constexpr size_t count_aliases() {
    using lister = lister_of_names<E>;
    if constexpr (has_also<lister>) {
        // Names of another type would be nobody's, silently.
        static_assert(lists_types<lister>,
                      "projections: former names are `static constexpr pj::event_type also[]`");
        return lists_types<lister> ? sizeof(lister::also) / sizeof(event_type) : 0;
    } else {
        return 0;
    }
}
template<class E> inline constexpr size_t alias_count = count_aliases<E>();

/// How many names a list has, those of old included. (The array begins with a 0 because a list may
/// be empty, and an array may not.)
template<class... E> constexpr size_t name_count(events<E...>) {
    const size_t each[] = {0, 1 + alias_count<E>...};
    size_t sum = 0;
    for (const size_t one : each) sum += one;
    return sum;
}

/// One event type while the table is being built. (`handlers` points into a crew, which is a
/// constant.)
struct row {
    event_type type{};
    route_call call = nullptr;
    const uint8_t* handlers = nullptr;
    uint32_t live_only = 0;
    uint8_t handler_count = 0;
};

/// At most a quarter of them is taken, where size matters half: what second looks cost per event is
/// more than four bytes per type. A search for a key that is not there comes to an empty one.
constexpr size_t slots_for(size_t keys) {
    constexpr size_t room = PROJECTIONS_SMALL_ ? 2 : 4;
    size_t cells = 4;
    while (cells < room * keys) cells *= 2;
    return cells;
}
/// The upper bits of the product number the cells: all bits of a key have gone into those.
constexpr uint8_t shift_for(size_t cells) {
    uint8_t shift = 32;
    for (; cells > 1; cells /= 2) --shift;
    return shift;
}
inline constexpr uint32_t first_multiplier = 0x9E3779B1u;       // 2^32 / golden ratio, odd

/// The table itself: N routes, the two indexes, the handlers of each type. Everything the compiler
/// tries is bounded, so that 1024 types with names of up to some 60 characters stay within the
/// limits of constant evaluation.
template<size_t N, size_t Handlers> struct built_routes {
    static constexpr size_t slot_count = slots_for(N);
    static constexpr uint8_t shift = shift_for(slot_count);
    static constexpr size_t tries = N == 0 ? 1 : 8192 / N < 3 ? 3 : 8192 / N > 32 ? 32 : 8192 / N;
    static constexpr size_t looks_max = 4 * N;  // what needs more is not pursued to its end

    route routes[N + 1]{};
    // A cell holds the index of a route, so a cell of zeros is an empty one.
    uint16_t by_name[slot_count]{};
    uint16_t by_number[slot_count]{};
    uint8_t handlers[Handlers == 0 ? 1 : Handlers]{};
    uint32_t name_multiplier = first_multiplier;
    uint32_t number_multiplier = first_multiplier;
    uint8_t sample[2]{last_word, last_word};
    uint8_t longest = 4, shortest = name_size_max;      // of the names
    bool duplicates = false;
    bool nameless = false;
    bool too_long = false;

    /// What is wrong with the rows is noted, and then no index is made: compiled_routes tells it.
    constexpr built_routes(const route& unknown, const row* rows) {
        routes[0] = unknown;
        uint16_t next = 0;
        for (size_t i = 0; i < N; ++i) {
            const row& in = rows[i];
            const text name = in.type.name();
            nameless = nameless || in.type.number() == 0;
            too_long = too_long || name.size() > name_size_max;
            routes[i + 1] = {name.empty() ? nullptr : name.data(),
                             in.call,
                             in.type.number(),
                             in.live_only,
                             next,
                             static_cast<uint8_t>(name.size()),
                             in.handler_count};
            // (The rows of former names repeat the handlers of the type: one byte each.)
            for (size_t h = 0; h < in.handler_count; ++h) handlers[next++] = in.handlers[h];
        }
        if (!nameless && !too_long) choose();
    }

    /// Shorter names take the long way. If none ends before the words that make its key, then names
    /// that do are unknown, and nobody else has to look where a name ends.
    constexpr size_t quick_size() const {
        constexpr size_t least = sizeof(chunk) < 4 ? 4 : sizeof(chunk);
        size_t end = least;
        for (const uint8_t word : sample) {
            if (word < last_word && word + size_t{4} > end) end = word + size_t{4};
        }
        return sample[0] != whole_name && end <= shortest ? end : least;
    }

private:
    /// The names' keys by two of their words, or the numbers; made as they are asked for.
    struct keys {
        bool of_names;
        uint8_t first = 0, second = 0;
        size_t made = 0;
        uint32_t at[N == 0 ? 1 : N]{};
    };
    /// Not all at once: a bad choice of words is given up after a few of them.
    constexpr void make(keys& all, size_t until) const {
        for (; all.made < until; ++all.made) {
            const route& r = routes[all.made + 1];
            all.at[all.made] = all.of_names ? name_key(r.name, r.name_size, all.first, all.second)
                                            : r.number;
        }
    }

    /// Fills the cells; how many looks all keys together take. N is perfect; gives up above `most`,
    /// long before all are made where two words are a bad choice.
    constexpr size_t place(keys& all, uint32_t multiplier, uint16_t* cells, size_t most) const {
        size_t looks = 0;
        for (size_t i = 0; i < N && looks <= most; ++i) {
            ++looks;
            // (A type that has a number only is not in the index of names.)
            if (all.of_names && routes[i + 1].name_size == 0) continue;
            make(all, i + 1);
            uint32_t slot = all.at[i] * multiplier >> shift;
            for (; cells[slot] != 0 && looks <= most; ++looks)
                slot = (slot + 1) & (all_bits >> shift);
            cells[slot] = static_cast<uint16_t>(i + 1);
        }
        return looks;
    }
    /// The same for cells that nobody will need: to compare one choice with another.
    constexpr size_t looks(keys& all, uint32_t multiplier, size_t most = looks_max) const {
        uint16_t cells[slot_count]{};
        return place(all, multiplier, cells, most);
    }
    /// How many keys find their cell taken; gives up at `most`. Most of what a compiler does for a
    /// table is this, so it is as plain as can be.
    constexpr size_t clashes(const keys& all, uint32_t multiplier, size_t most) const {
        bool taken[slot_count]{};
        size_t count = 0;
        for (size_t i = 0; count < most && i < N; ++i) {
            const uint32_t slot = all.at[i] * multiplier >> shift;
            if (taken[slot]) ++count;
            else taken[slot] = true;
        }
        return count;
    }

    /// Tries multipliers until one is perfect or the patience is at its end. Fewer clashes may lie
    /// in one long run, so what is taken needs fewer looks, too.
    constexpr uint32_t best_multiplier(keys& all) const {
        make(all, N);
        // An odd factor loses no bit of a key: two keys that differ still do after the product.
        uint32_t best = first_multiplier;
        size_t least = clashes(all, best, N);
        size_t fewest = looks(all, best);
        uint32_t multiplier = first_multiplier;
        for (size_t i = 1; i < tries && least > 0; ++i) {
            multiplier = multiplier * 747796405u + 2891336452u; // a full-period sequence; | 1: odd
            const size_t now = clashes(all, multiplier | 1u, least);
            if (now >= least) continue;
            const size_t way = looks(all, multiplier | 1u, fewest);
            if (way >= fewest) continue;
            least = now;
            fewest = way;
            best = multiplier | 1u;
        }
        return best;
    }

    /// Looks for a word that as the first, the second or both needs fewer looks than `least`.
    constexpr size_t choose_word(bool first, bool second, size_t least) {
        const size_t step = (size_t{longest} - 4) / tries + 1;
        for (size_t i = 0; i <= tries && least > N; ++i) {
            // The last word first, then from the front, in steps so wide that `tries` suffice.
            const size_t offset = i == 0 ? size_t{last_word} : (i - 1) * step;
            if (i != 0 && offset + 4 > longest) break;
            const uint8_t candidate = static_cast<uint8_t>(offset);
            keys names{true, first ? candidate : sample[0], second ? candidate : sample[1]};
            const size_t now = looks(names, first_multiplier, least);
            if (now >= least) continue;
            least = now;
            if (first) sample[0] = candidate;
            if (second) sample[1] = candidate;
        }
        return least;
    }

    /// One word of each name if that will do. A second costs as much as half a look at a route, the
    /// whole name as two: they have to spare that.
    constexpr void choose() {
        for (const route& r : routes) {
            if (r.name_size > longest) longest = r.name_size;
            if (r.name_size != 0 && r.name_size < shortest) shortest = r.name_size;
        }
        size_t least = choose_word(true, true, looks_max);
        keys names{true, sample[0], sample[1]};
        if (least < 2 * N) {                    // or another multiplier would not help, either
            name_multiplier = best_multiplier(names);
            least = looks(names, name_multiplier);
        }
        // More than half a look per type is lost: a second word, which costs that much, may pay.
        if (least > N + N / 2) {
            if (!PROJECTIONS_SMALL_) {
                least = choose_word(false, true, least - N / 2) + N / 2;
                least = choose_word(true, false, least - N / 2) + N / 2;    // better with it
            }
            // Its key is the same whatever the second offset says.
            keys whole{true, whole_name, 0};
            if (looks(whole, first_multiplier) + 2 * N < least) sample[0] = whole_name;
            names = {true, sample[0], sample[1]};
            name_multiplier = best_multiplier(names);
        }
        keys numbers{false};
        number_multiplier = best_multiplier(numbers);
        // To the end, whatever it takes: a table that costs many looks is still right.
        place(names, name_multiplier, by_name, ~size_t{0});
        place(numbers, number_multiplier, by_number, ~size_t{0});
        find_duplicates(names, numbers);
    }

    /// Equal keys lie in one run of cells. So each is compared with its neighbours only; with all
    /// others would be the square of N.
    constexpr void find_duplicates(const keys& names, const keys& numbers) {
        for (size_t i = 1; i <= N; ++i) {
            const route& one = routes[i];
            uint32_t slot = numbers.at[i - 1] * number_multiplier >> shift;
            for (; by_number[slot] != 0; slot = (slot + 1) & (all_bits >> shift)) {
                const size_t other = by_number[slot];
                duplicates = duplicates || (other != i && routes[other].number == one.number);
            }
            if (one.name_size == 0) continue;
            slot = names.at[i - 1] * name_multiplier >> shift;
            for (; by_name[slot] != 0; slot = (slot + 1) & (all_bits >> shift)) {
                const size_t other = by_name[slot];
                duplicates = duplicates ||
                             (other != i && names.at[other - 1] == names.at[i - 1] &&
                              text(routes[other].name, routes[other].name_size) ==
                                  text(one.name, one.name_size));
            }
        }
    }
};

/// The routes of a registry of P..., or of one handler alone. `self` is the handler itself if it is
/// alone, else the registry's list of pointers: one handler needs no registry around it, and costs
/// no look into one.
template<bool Alone, class... P> struct compiled_routes {
    static constexpr size_t class_count = sizeof...(P);
    static_assert(class_count <= 0xFF, "projections: a registry holds at most 255 handlers");
    static_assert((is_handler<P> && ...),
                  "projections: every handler of a registry is a class with a public `using "
                  "handles = pj::events<...>`");

    /// Asked only for types that some class of the registry lists: with one class, that is the one.
    template<class Q, class E> static constexpr bool lists() {
        if constexpr (class_count == 1) return true;
        else return __is_base_of(member<E>, member_set<typename handled_by<Q>::types>);
    }
    /// Whether Q has a part in E's function. A type in events<...> needs no question: demand_on()
    /// does not compile if there is no on() for it. every_event as E stands for the unknown types:
    /// only who wants everything sees those.
    template<class Q, class E> static constexpr bool calls() {
        if constexpr (handled_by<Q>::every) return true;
        else if constexpr (is_same<E, every_event>) return false;
        else if constexpr (!lists<Q, E>()) return false;
        else if constexpr (handled_by<Q>::own) return true;
        else {
            demand_on<Q, E>();
            return has_on<Q, E>();
        }
    }

    /// Who handles E, and what engines need to know of them.
    struct crew {
        uint8_t at[class_count]{};
        uint8_t count = 0;
        uint32_t live_only = 0;
        uint32_t typed = 0;         // those that want it decoded
    };
    /// In the order of the registry, which is the order of calls: bit i is that of at[i].
    static constexpr crew crew_of(const bool (&called)[class_count]) {
        constexpr bool live[] = {handled_by<P>::live...};
        constexpr bool every[] = {handled_by<P>::every...};
        crew result{};
        for (size_t i = 0; i < class_count; ++i) {
            if (!called[i]) continue;
            // More than 32 is an error that add_type() tells; a shift too far would hide it.
            if (result.count < 32) {
                if (live[i]) result.live_only |= uint32_t{1} << result.count;
                if (!every[i]) result.typed |= uint32_t{1} << result.count;
            }
            result.at[result.count++] = static_cast<uint8_t>(i);
        }
        return result;
    }
    // A variable, so that a type's crew is made once, however often it is asked for.
    template<class E> static constexpr crew crew_for = crew_of({calls<P, E>()...});
    static constexpr const crew& everyone = crew_for<every_event>;
    // One less than for a type: bit 31 of an unknown type stands for nobody (no_handler_bit).
    static_assert(everyone.count <= 31, "projections: at most 31 handlers for every event");

    /// Where Q stands in the registry; a handler's bit counts only those that handle the type.
    template<class Q> static constexpr uint8_t place_of() {
        constexpr bool all[] = {is_same<Q, P>...};
        uint8_t place = 0;
        while (!all[place]) ++place;
        return place;
    }
    static constexpr uint32_t bit_of(const crew& all, uint8_t place) {
        uint32_t bit = 1;
        for (const uint8_t* at = all.at; *at != place; ++at) bit <<= 1;
        return bit;
    }

    /// One handler's part of a type's function; empty where Q has none. A handler that is the only
    /// one is called without a look at its bit.
    template<class Q, class E>
    PROJECTIONS_INLINE_ static void step([[maybe_unused]] void* self, [[maybe_unused]] delivery& d,
                                         [[maybe_unused]] const E& event) {
        if constexpr (calls<Q, E>()) {
            if constexpr (!is_found<usual_on<Q, E>>) demand_on<Q, E>();
            constexpr uint32_t bit = bit_of(crew_for<E>, place_of<Q>());
            constexpr bool is_alone = crew_for<E>.count == 1;   // or nobody would be called
            if (is_alone || PROJECTIONS_LIKELY_((d.mask & bit) != 0)) {
                void* const handler = Alone ? self : static_cast<void* const*>(self)[place_of<Q>()];
                Q& to = *static_cast<Q*>(handler);
                constexpr bool every = handled_by<Q>::every;
                // (call_on() written out: a function less for each type, for compilers.)
                if constexpr (!every && usual_on<Q, E>::is_plainest) {
                    PROJECTIONS_TRY_ { (to.*usual_on<Q, E>::on)(event); }
                    PROJECTIONS_CATCH_ { d.answered(bit, fail(code_thrown)); }
                } else {
                    verdict v = handled;
                    const context_of with{d, bit};
                    if constexpr (every) v = detail::call_on(to, *d.event, with);
                    else v = detail::call_on(to, event, with);
                    if (v != handled) d.answered(bit, v);
                }
            }
        }
    }

    /// All handlers of one event type in one function: decode once, then each whose bit is set.
    template<class E> static void call(void* self, delivery& d) {
        if constexpr (crew_for<E>.typed != 0) {
            E event{};
            static_assert(is_same<decltype(event_traits<E>::decode(*d.event, event)), bool>,
                          "projections: the decode() of event_traits answers bool");
            // Not where only handlers that take it as it is stored are called (again): what cannot
            // be decoded would fail once more, for handlers that have had their outcome.
            constexpr bool all_typed = everyone.count == 0;     // then somebody wants it decoded
            if (all_typed || (d.mask & crew_for<E>.typed) != 0) {
                bool is_read = false;           // what decode() throws is not to be read, either
                PROJECTIONS_TRY_ { is_read = event_traits<E>::decode(*d.event, event); }
                PROJECTIONS_CATCH_ {}
                if (!is_read) {
                    // Who takes it as it is stored is called all the same: G10 holds here, too.
                    if constexpr (all_typed) return d.undecodable(crew_for<E>.typed);
                    d.undecodable(crew_for<E>.typed);
                }
            }
            (step<P, E>(self, d, event), ...);
        } else {
            (step<P, every_event>(self, d, every_event{}), ...);
        }
    }

    /// Knows its table. What is rare is apart, so that no register has to be saved for it. Where
    /// registers are few, the search by name is apart as well, and a number has one look: logs of
    /// such machines rather have numbers.
    static void deliver(const stored_event& event, delivery& d) {
        d.event = &event;
        const size_t size = event.type.name().size();
        if constexpr (sizeof(void*) >= 8) {
            if (size >= built.quick_size()) return deliver_to(d, named(event.type.name()));
            if (size != 0) return deliver_short(d);
            deliver_to(d, numbered(event.type.number()));
        } else {
            if (size != 0) return deliver_apart(event, d);
            const uint32_t number = event.type.number();
            const key_index& in = table.by_number;
            const route& r = table.routes[in.cells[number * in.multiplier >> in.shift]];
            if (PROJECTIONS_LIKELY_(r.number == number)) d.deliver(r);
            else deliver_short(d);
        }
    }
    PROJECTIONS_INLINE_ static void deliver_to(delivery& d, const route* found) {
        if (found == nullptr) return deliver_unknown(d);
        d.deliver(*found);
    }
    PROJECTIONS_INLINE_ static const route* named(text name) {
        const char* const at = name.data();
        const size_t size = name.size();
        return look_up(table.routes, table.by_name, key_of(table, at, size),
                       [&](const route& r) { return has_name(r, at, size, built.longest); });
    }
    PROJECTIONS_INLINE_ static const route* numbered(uint32_t number) {
        return look_up(table.routes, table.by_number, number,
                       [&](const route& r) { return r.number == number; });
    }
    PROJECTIONS_APART_ static void deliver_apart(const stored_event& event, delivery& d) {
        if (event.type.name().size() < built.quick_size()) return deliver_short(d);
        deliver_to(d, named(event.type.name()));
    }
    /// They take the way of all tables, which looks where a name ends.
    PROJECTIONS_APART_ static void deliver_short(delivery& d) {
        d.deliver(find(table, d.event->type));
    }
    PROJECTIONS_APART_ static void deliver_unknown(delivery& d) { d.deliver(table.unknown()); }

    /// Looks up the next event before it calls the handlers of one. Which function comes next a
    /// processor can only guess, and learns that it was wrong when the look-up is through: here
    /// that is so before the guess is made. (A fifth to two fifths less time for events in random
    /// order; the first look-up of a slice is a slower one.)
    static const stored_event* deliver_slice(const stored_event* event, const stored_event* last,
                                             visitor& by, delivery& d, position& at) {
        const route* next = &find(table, event->type);
        while (event != last && event->at > at) {
            const route_call call = next->call;
            d.event = event;
            d.to = next;
            next = &route_of((++event)->type);
            call(d.self, d);
            if (PROJECTIONS_LIKELY_(!d.trouble)) at = event[-1].at;
            else if (!by.goes_on(event - 1)) break;
        }
        return event;
    }
    PROJECTIONS_INLINE_ static const route& route_of(const type_key& type) {
        const size_t size = type.name().size();
        const route* found = nullptr;
        if (size >= built.quick_size()) found = named(type.name());
        else if (size == 0) found = numbered(type.number());
        else return find(table, type);
        return found != nullptr ? *found : table.unknown();
    }

    // Every (handler class, event type) once: by the first class that lists the type. (An upper
    // limit: a type that several classes list counts here for each of them.)
    static constexpr size_t row_limit = [] {
        const size_t each[] = {1, detail::name_count(typename handled_by<P>::types{})...};
        size_t sum = 0;
        for (const size_t one : each) sum += one;
        return sum;
    }();
    struct row_list {
        row at[row_limit]{};
        size_t count = 0;
        size_t handlers = 0;
        constexpr void add(const row& one) {
            at[count++] = one;
            handlers += one.handler_count;
        }
    };
    /// `lister` is the class whose list is being walked: it adds what none before it has listed.
    /// (It answers a character only to stand in an array.)
    template<class E> static constexpr char add_type(row_list& out, size_t lister) {
        static_assert(crew_for<E>.count <= 32,
                      "projections: at most 32 handlers for one event type");
        if constexpr (class_count > 1) {
            constexpr bool listed[] = {lists<P, E>()...};
            for (size_t i = 0; i < lister; ++i) {
                if (listed[i]) return '\0';
            }
        }
        constexpr const crew& handlers = crew_for<E>;
        // Nobody takes it (as can be in a matching<...> catalogue): known, which is not unknown.
        row one{event_traits<E>::type, &nobody, nullptr, 0, 0};
        if constexpr (handlers.count != 0)
            one = {one.type, &call<E>, handlers.at, handlers.live_only, handlers.count};
        out.add(one);
        // What was stored under a former name is the same event to the same handlers.
        if constexpr (alias_count<E> != 0) {
            for (const event_type& other : lister_of_names<E>::also) {
                one.type = other;
                out.add(one);
            }
        }
        return '\0';
    }
    /// What a list as a whole must have is asked here; add_type() sees one type of it.
    template<class Q, class... E>
    static constexpr void add_list(row_list& out, size_t& lister, events<E...>) {
        static_assert(
            handled_by<Q>::own || sizeof...(E) == 0 || any_on<Q, E...>(),
            "projections: no on() of this handler takes any event of its pj::matching<> catalogue");
        const char each[] = {'\0', add_type<E>(out, lister)...};
        static_cast<void>(each);
        ++lister;
    }
    /// A catalogue of which nothing is taken is a slip: on() is misspelled, or it is another's.
    template<class Q, class... E> static constexpr bool any_on() {
        if constexpr (handled_by<Q>::own) {
            return true;
        } else {
            const bool each[] = {false, has_on<Q, E>()...};
            for (const bool one : each) {
                if (one) return true;
            }
            return false;
        }
    }
    static constexpr row_list all_rows() {
        row_list result{};
        size_t lister = 0;
        (add_list<P>(result, lister, typename handled_by<P>::types{}), ...);
        return result;
    }

    static constexpr row_list rows = all_rows();
    static constexpr built_routes<rows.count, rows.handlers> built{
        {nullptr, everyone.count == 0 ? &nobody : &call<every_event>, 0, everyone.live_only, 0, 0,
         everyone.count},
        rows.at};
    static_assert(!built.nameless,
                  "projections: an event type needs a name or a number other than 0");
    static_assert(!built.too_long,
                  "projections: the name of an event type has at most 253 characters");
    static_assert(!built.duplicates,
                  "projections: two event types of one registry have the same name or "
                  "number, or a handler lists one twice");

    static constexpr text names[class_count] = {handler_name<P>()...};
    static constexpr bool has_equal_names = [] {
        for (size_t i = 1; i < class_count; ++i) {
            for (size_t other = 0; other < i; ++other) {
                if (names[i] == names[other]) return true;
            }
        }
        return false;
    }();
    static_assert(!has_equal_names,
                  "projections: two handlers of one registry have the same name, and "
                  "letters would be mixed up: give one a `handler_name`");
    /// For failures and letters only, so it may take a detour: from bit to class to name.
    static text name_of(const void*, const route_table& in, const route& r, unsigned handler) {
        const uint8_t* const list = r.number == 0 ? everyone.at : in.handlers + r.first;
        return in.names[list[handler]];
    }
    static constexpr own_calls own{&deliver, &deliver_slice};
    /// What an engine gets of all this.
    static constexpr route_table table{
        built.routes, {built.by_name, built.name_multiplier, built.shift},
        {built.by_number, built.number_multiplier, built.shift}, {built.sample[0], built.sample[1]},
        status::ok, (handled_by<P>::live || ...), static_cast<uint16_t>(rows.count),
        &name_of, built.handlers, names,
#if PROJECTIONS_SMALL_
        nullptr
#else
        &own
#endif
    };
};

template<class T> inline constexpr bool is_registry = false;
template<class... P> inline constexpr bool is_registry<registry<P...>> = true;
template<class T> struct routes_of;
template<class... P> struct routes_of<registry<P...>> : compiled_routes<false, P...> {};

} // namespace detail

/// An object and the table that knows how to call it. A handler_map is kept as its core, which is
/// what the core's functions take it for; its address need not be that of the whole object.
template<class T, detail::require<!detail::is_same<detail::plain<T>, routes>>>
constexpr routes::routes(T& handlers) {
    if constexpr (detail::is_handler<T>) {
        self = detail::address_of_named(handlers);
        table = &detail::compiled_routes<true, T>::table;
    } else if constexpr (detail::is_registry<detail::plain<T>>) {
        self = const_cast<void**>(handlers.handlers_);          // (only read)
        table = &detail::routes_of<detail::plain<T>>::table;
    } else if constexpr (__is_base_of(detail::handler_map_core, T)) {
        detail::handler_map_core& core = handlers;
        self = detail::address_of_named(core);
        table = &core.table_;
    } else {
        static_assert(detail::always_false<T>,
                      "projections: handlers are a class with `using handles = pj::events<...>`, a "
                      "pj::registry or a pj::handler_map");
    }
}

// ---- handler_map
//
// The same as a registry where the handlers are chosen at run time. Each handler is an entry of a
// fixed array, numbered from 1 in the order of add(); 0 ends a chain. A type's route begins the
// chain of those that want this type, and the route for unknown types that of those that want every
// event. A call merges the two chains by number, so that the order is that of add().
//
// Only what depends on a C++ type is a template here: how it is decoded and how it is called. All
// the rest works on pointers, counts and numbers (>>bodies), and exists once, whatever N is.

namespace detail {

uint16_t call_undecoded(map_entry* all, uint16_t first, uint16_t, delivery& d,
                        uint32_t& bit);

/// Handlers of one event that want it as E and follow each other: decode once, call each. `until`
/// is the next handler of every event: what comes after it is for the next call, so that nobody is
/// called out of order; then the event is decoded again. `bit` counts every entry that is passed,
/// called or not.
template<class E>
uint16_t call_group(map_entry* all, uint16_t first, uint16_t until, delivery& d, uint32_t& bit) {
    E event{};
    static_assert(is_same<decltype(event_traits<E>::decode(*d.event, event)), bool>,
                  "projections: the decode() of event_traits answers bool");
    bool is_decoded = false;
    const map_entry::group_call group = all[first - 1].group;
    uint16_t at = first;
    for (; at != 0 && all[at - 1].group == group && (until == 0 || at < until);
         at = all[at - 1].next, bit <<= 1) {
        if ((d.mask & bit) == 0) continue;
        PROJECTIONS_TRY_ {
            is_decoded = is_decoded || event_traits<E>::decode(*d.event, event);
        }
        PROJECTIONS_CATCH_ {}
        if (!is_decoded) {
            // Once for all who want it decoded, also behind `until`: their bits are taken away, so
            // there is one failure, and nobody decodes it again. Whoever comes before has had its
            // turn, and is not called again where no other letter can be noted (G10).
            d.mask &= ~(bit - 1);
            d.undecodable(d.decoded);
            continue;
        }
        const verdict v = all[at - 1].invoke(all[at - 1], __builtin_addressof(event),
                                             d.for_handler(bit));
        if (v != handled) d.answered(bit, v);
    }
    return at;
}

/// A map_entry's function for a handler class: entry and event come without their types, and get
/// them back here.
template<class P, class E>
verdict call_handler(const map_entry& entry, const void* event, const context& with) {
    return detail::call_on(*static_cast<P*>(entry.self), *static_cast<const E*>(event),
                           context_as{with});
}
template<class P>
verdict call_with_stored(void* self, const stored_event& event, const context& with) {
    return detail::call_on(*static_cast<P*>(self), event, context_as{with});
}

// (The void comes first because a list of arguments has to be last.)
template<class Void, class F, class... A> inline constexpr bool is_callable_as = false;
template<class F, class... A>
inline constexpr bool is_callable_as<void_t<decltype(declval<F>()(declval<A>()...))>, F, A...> =
    true;

template<class F, class = void> inline constexpr bool is_plain_function = false;
template<class F> inline constexpr bool is_plain_function<F, void_t<decltype(*+declval<F>())>> =
    true;

/// One function of the user's with an object: a member, or a function that takes the object first.
template<auto Function, class T, class E>
verdict call_bound(const map_entry& entry, const void* event, const context& with) {
    T& object = *static_cast<T*>(entry.self);
    const E& e = *static_cast<const E*>(event);
    const auto member_with = [&](auto& o) -> decltype((o.*Function)(e, with)) {
        return (o.*Function)(e, with);
    };
    const auto member_plain = [&](auto& o) -> decltype((o.*Function)(e)) {
        return (o.*Function)(e);
    };
    const auto free_with = [&](auto& o) -> decltype(Function(o, e, with)) {
        return Function(o, e, with);
    };
    const auto free_plain = [&](auto& o) -> decltype(Function(o, e)) { return Function(o, e); };
    // Four forms, each asked whether it compiles; a form with a context comes before one without.
    // The last is not asked but demanded: then a mistake is told by a sentence of ours.
    if constexpr (is_callable_as<void, decltype(member_with), T&>) {
        return verdict_of([&]() { return member_with(object); });
    } else if constexpr (is_callable_as<void, decltype(member_plain), T&>) {
        return verdict_of([&]() { return member_plain(object); });
    } else if constexpr (is_callable_as<void, decltype(free_with), T&>) {
        return verdict_of([&]() { return free_with(object); });
    } else {
        static_assert(
            is_callable_as<void, decltype(free_plain), T&>,
            "projections: add<Event, &function>(object) needs a member that takes `const Event&`, "
            "or a function that takes the object first; a `const pj::context&` may follow");
        return verdict_of([&]() { return free_plain(object); });
    }
}

/// The function was kept in a pointer to functions of another type, and is taken out as what it
/// was. (A pointer to an object may be too small for one; and of a cast newer compilers warn.)
template<class F, class E>
verdict call_free(const map_entry& entry, const void* event, const context& with) {
    F* function = nullptr;
    static_assert(sizeof function == sizeof entry.function);
    __builtin_memcpy(&function, &entry.function, sizeof function);
    const E& e = *static_cast<const E*>(event);
    if constexpr (is_callable_as<void, F*, const E&, const context&>) {
        return verdict_of([&]() { return function(e, with); });
    } else {
        static_assert(
            is_callable_as<void, F*, const E&>,
            "projections: add<Event>(function) needs a function that takes `const Event&`; a "
            "`const pj::context&` may follow");
        static_cast<void>(with);
        return verdict_of([&]() { return function(e); });
    }
}

} // namespace detail

/// An entry for every type and former name: a handler of many types takes as many of the N.
template<size_t N> template<class P> handler_map<N>& handler_map<N>::add(P& handler) {
    static_assert(detail::is_handler<P>, "projections: add(handler) needs a class with "
                                         "`using handles = pj::events<...>`");
    using set = detail::handled_by<P>;
    if constexpr (set::every) add_all<P, set::live>(handler, every_event{});
    else add_all<P, set::live>(handler, typename set::types{});
    return *this;
}

template<size_t N> template<class P, bool Live, class... E>
void handler_map<N>::add_all(P& handler, events<E...>) {
    // The pointer carries the type, no event.
    [[maybe_unused]] const auto one = [&](auto* type) {
        using event = detail::plain<decltype(*type)>;
        detail::demand_on<P, event>();
        detail::map_entry entry{};
        if constexpr (detail::has_on<P, event>()) {
            entry.group = &detail::call_group<event>;
            entry.invoke = &detail::call_handler<P, event>;
            entry.self = detail::address_of_named(handler);
            entry.name = detail::handler_name<P>();
        }
        // (An entry without a group, of a catalogue's type that nobody takes: known, not handled.)
        put(parts(), event_traits<event>::type, entry, Live);
        if constexpr (detail::alias_count<event> != 0) {
            for (const event_type& other : detail::lister_of_names<event>::also)
                put(parts(), other, entry, Live);
        }
        return '\0';
    };
    const char each[] = {'\0', one(static_cast<E*>(nullptr))...};
    static_cast<void>(each);
}

template<size_t N> template<class P, bool Live>
void handler_map<N>::add_all(P& handler, every_event) {
    detail::map_entry entry{};
    entry.group = &detail::call_undecoded;
    entry.undecoded = &detail::call_with_stored<P>;
    entry.self = detail::address_of_named(handler);
    entry.name = detail::handler_name<P>();
    put_every(parts(), entry, Live);
}

/// Under the names that the event once had, too; the handler is the same one, so its name is.
template<size_t N> template<class E>
void handler_map<N>::put_all(detail::map_entry& entry, text name) {
    entry.name = name.empty() ? event_traits<E>::type.name() : name;
    put(parts(), event_traits<E>::type, entry, false);
    if constexpr (detail::alias_count<E> != 0) {
        for (const event_type& other : detail::lister_of_names<E>::also)
            put(parts(), other, entry, false);
    }
}

template<size_t N> template<class E, auto Function, class T>
handler_map<N>& handler_map<N>::add(T& object, text name) {
    detail::map_entry entry{};
    entry.group = &detail::call_group<E>;
    entry.invoke = &detail::call_bound<Function, T, E>;
    entry.self = detail::address_of_named(object);
    put_all<E>(entry, name);
    return *this;
}

template<size_t N> template<class E, class F>
handler_map<N>& handler_map<N>::add(F function, text name) {
    static_assert(detail::is_plain_function<F>,
                  "projections: add<Event>(function) takes a function or a lambda without captures "
                  "(and not `auto`); of an object, add<Event, &type::member>(object)");
    // A lambda becomes a plain function here.
    if constexpr (detail::is_plain_function<F>) {
        const auto pointer = +function;
        detail::map_entry entry{};
        entry.group = &detail::call_group<E>;
        entry.invoke = &detail::call_free<detail::referred<decltype(*pointer)>, E>;
        __builtin_memcpy(&entry.function, &pointer, sizeof pointer);
        put_all<E>(entry, name);
    }
    return *this;
}

template<size_t N>
handler_map<N>& handler_map<N>::add(event_type type,
                                    verdict (*function)(void*, const stored_event&, const context&),
                                    void* self, text name) {
    PROJECTIONS_ASSERT(function != nullptr);
    detail::map_entry entry{};
    entry.group = &detail::call_undecoded;
    entry.undecoded = function;
    entry.self = self;
    entry.name = name;
    put(parts(), type, entry, false);
    return *this;
}

/// Straight to the on(): what is no stored event has nothing to be found by, and nothing to decode.
template<class P, class E,
         detail::require<!detail::is_same<E, stored_event>>>
verdict deliver([[maybe_unused]] P& handler, [[maybe_unused]] const E& event, text aggregate_id,
                bool replaying) {
    const stored_event stored{before_first, event_traits<E>::type, {}, aggregate_id,
                              event_traits<E>::type.version(), no_key, 0, nullptr};
    detail::delivery d;
    d.event = &stored;
    d.replaying = replaying;
    // What no engine would give to this handler is not given to it here, either.
    if constexpr (detail::is_handler<P>) {
        using set = detail::handled_by<P>;
        static_assert(__is_base_of(detail::member<E>, detail::member_set<typename set::types>),
                      "projections: this event is not in `handles`: no engine would give it to "
                      "this handler");
        detail::demand_on<P, E>();
        if (replaying && set::live) return handled;
        if constexpr (!set::own && !detail::has_on<P, E>()) return handled;
        else return detail::call_on(handler, event, detail::context_of{d, 1});
    } else {
        static_assert(!detail::is_registry<detail::plain<P>> &&
                          !__is_base_of(detail::handler_map_core, P),
                      "projections: a registry or a handler_map is given a stored event: "
                      "pj::deliver(handlers, pj::raw_event(at, event))");
        return detail::call_on(handler, event, detail::context_of{d, 1});
    }
}

// ---- ports made from objects
//
// A port is a pointer to the user's object and plain functions that take it first. From an object
// these functions are made here: lambdas without captures that cast the pointer back and call the
// member. Not an interface with virtual functions: classes need not inherit anything, C code can
// fill a port by hand, and a function that is not there is a null pointer, so nobody need stub it.
//
// The members are found by trying the very call that will be made, and its answer must be `status`:
// what a bool or an int means is anybody's guess. A near miss must not count as absent: an optional
// function with the wrong parameters would switch a guarantee off without a word. Each condition is
// asked twice, once to tell the user what is missing, once to keep the compiler from saying more.
//
// A temporary binds too, and is then refused by a sentence of its own: only the address is kept.

namespace detail {

/// Whether a call of an object of T compiles, and whether it answers a status, too.
template<template<class> class Call, class T, class = void> inline constexpr bool compiles = false;
template<template<class> class Call, class T>
inline constexpr bool compiles<Call, T, void_t<Call<T>>> = true;
template<template<class> class Call, class T, class = void> inline constexpr bool answers = false;
template<template<class> class Call, class T>
inline constexpr bool answers<Call, T, when<is_same<Call<T>, status>>> = true;

// (Braces, where a number must not be cut: before_first is the end of every log to a store that
// takes `uint64_t after`.)
template<class T> using read_call =
    decltype(declval<T&>().read({declval<position>()}, declval<visitor&>()));
template<class T, auto Read, class = void> inline constexpr bool can_fetch = false;
template<class T, auto Read> inline constexpr bool can_fetch<T, Read, when<is_same<
    decltype((declval<T&>().*Read)({declval<position>()}, declval<visitor&>())), status>>> = true;
template<class T> using bounds_call =
    decltype(declval<T&>().bounds(declval<position&>(), declval<position&>(),
                                  declval<uint64_t&>()));
template<class T> using bounds_call_without_id =
    decltype(declval<T&>().bounds(declval<position&>(), declval<position&>()));
// Out parameters by value or const would never be filled in.
template<class T> using bounds_by_value = decltype(declval<T&>().bounds(position{}, position{}));
template<class T> using bounds_by_value_with_id =
    decltype(declval<T&>().bounds(position{}, position{}, uint64_t{}));
template<class T> using load_by_value = decltype(declval<T&>().load(text(), checkpoint{}));
template<class T> using bounds_member = decltype(&T::bounds);
template<class T> using load_call = decltype(declval<T&>().load(text(), declval<checkpoint&>()));
template<class T> using save_call =
    decltype(declval<T&>().save(text(), declval<const checkpoint&>()));
template<class T> using acquire_call =
    decltype(declval<T&>().acquire(text(), uint32_t(), declval<uint64_t&>()));
template<class T> using acquire_by_value =
    decltype(declval<T&>().acquire(text(), uint32_t(), uint64_t()));
template<class T> using extend_call =
    decltype(declval<T&>().extend(text(), uint32_t(), {declval<uint64_t>()}));
template<class T> using release_call =
    decltype(declval<T&>().release(text(), {declval<uint64_t>()}));
template<class T, class = void> inline constexpr bool has_transactions = false;
template<class T> inline constexpr bool has_transactions<T, when<
    is_same<decltype(declval<T&>().begin()), status> &&
    is_same<decltype(declval<T&>().commit()), status> &&
    is_same<decltype(declval<T&>().rollback()), status>>> = true;
template<class T> using subscribe_call = decltype(declval<T&>().subscribe(text(), text()));
template<class T> using unsubscribe_call = decltype(declval<T&>().unsubscribe(text(), text()));
template<class T> using put_call = decltype(declval<T&>().put(declval<const dead_letter&>()));
template<class T, class = void> inline constexpr bool keeps_sequences = false;
template<class T> inline constexpr bool keeps_sequences<T, when<
    is_same<decltype(declval<T&>().first(declval<const letter_sequence&>(),
                                         declval<letter_visitor&>())), status> &&
    is_same<decltype(declval<T&>().evict(declval<const letter_sequence&>(),
                                         {declval<position>()})), status> &&
    is_same<decltype(declval<T&>().sequences(declval<const letter_sequence&>(),
                                             declval<sequence_visitor&>())), status>>> = true;
template<class T> using evict_member = decltype(&T::evict);
template<class T> using letter_call = decltype(declval<T&>()(declval<const dead_letter&>()));

} // namespace detail

template<class T, detail::require<!detail::is_same<detail::plain<T>, event_store>>>
constexpr event_store::event_store(T&& log) : self(detail::address_of_named(log)) {
    using log_type = detail::referred<T>;
    static_assert(detail::is_lvalue<T>,
                  "projections: only the address of a log is kept: name it first, and "
                  "let it outlive the engine");
    static_assert(detail::answers<detail::read_call, log_type>, "projections: an event store needs "
                  "`pj::status read(pj::position after, pj::visitor& visit)`");
    if constexpr (detail::answers<detail::read_call, log_type>) {
        read = [](void* object, position after, visitor& visit) -> status {
            return static_cast<log_type*>(object)->read(after, visit);
        };
    }
    // It compiles when it is called, and a log that is full would be taken for an empty one.
    static_assert(!detail::compiles<detail::bounds_by_value, log_type> &&
                      !detail::compiles<detail::bounds_by_value_with_id, log_type>,
                  "projections: bounds() of this store fills nothing in; it must be "
                  "`pj::status bounds(pj::position& trimmed, pj::position& newest[, "
                  "uint64_t& log_id])`");
    if constexpr (detail::answers<detail::bounds_call, log_type>) {
        bounds = [](void* object, position& trimmed, position& newest, uint64_t& log_id) -> status {
            return static_cast<log_type*>(object)->bounds(trimmed, newest, log_id);
        };
    } else if constexpr (detail::answers<detail::bounds_call_without_id, log_type>) {
        bounds = [](void* object, position& trimmed, position& newest, uint64_t&) -> status {
            return static_cast<log_type*>(object)->bounds(trimmed, newest);
        };
    } else {
        // Or one with a slip in it would be taken for none, and G5 would be lost silently.
        static_assert(
            !detail::compiles<detail::bounds_member, log_type>,
            "projections: this store has a `bounds` that is not "
            "`pj::status bounds(pj::position& trimmed, pj::position& newest[, uint64_t& log_id])`");
    }
}

/// The members are named outright, so whatever is wrong with them is told where they are called.
template<auto Read, class T> constexpr event_store event_store::from(T& log) {
    static_assert(detail::can_fetch<T, Read>, "projections: event_store::from<>() needs a member "
                  "`pj::status name(pj::position after, pj::visitor& visit)`");
    event_store result;
    result.self = detail::address_of_named(log);
    result.read = [](void* object, position after, visitor& visit) -> status {
        return (static_cast<T*>(object)->*Read)(after, visit);
    };
    return result;
}
template<auto Read, auto Bounds, class T> constexpr event_store event_store::from(T& log) {
    event_store result = from<Read>(log);
    result.bounds = [](void* object, position& trimmed, position& newest,
                       uint64_t& log_id) -> status {
        return (static_cast<T*>(object)->*Bounds)(trimmed, newest, log_id);
    };
    return result;
}

template<class T, detail::require<!detail::is_same<detail::plain<T>, checkpoint_store>>>
constexpr checkpoint_store::checkpoint_store(T&& store) : self(detail::address_of_named(store)) {
    using store_type = detail::referred<T>;
    static_assert(detail::is_lvalue<T>,
                  "projections: only the address of a checkpoint store is kept: name "
                  "it first, and let it outlive the engine");
    constexpr bool can_load = detail::answers<detail::load_call, store_type>;
    constexpr bool can_save = detail::answers<detail::save_call, store_type>;
    // (A record that is filled in by value is lost: every start would be the first one.)
    static_assert(can_load && !detail::compiles<detail::load_by_value, store_type>,
                  "projections: a checkpoint store needs "
                  "`pj::status load(pj::text key, pj::checkpoint& out)`");
    static_assert(can_save, "projections: a checkpoint store needs "
                  "`pj::status save(pj::text key, const pj::checkpoint& next)`");
    if constexpr (can_load && can_save) {
        load = [](void* object, text key, checkpoint& out) -> status {
            return static_cast<store_type*>(object)->load(key, out);
        };
        save = [](void* object, text key, const checkpoint& next) -> status {
            return static_cast<store_type*>(object)->save(key, next);
        };
    }
}

/// All three: without extend() it would end in the middle of the work, and without release() others
/// would have to wait until it does.
template<class T, detail::require<!detail::is_same<detail::plain<T>, lease_store>>>
constexpr lease_store::lease_store(T&& store) : self(detail::address_of_named(store)) {
    using store_type = detail::referred<T>;
    static_assert(detail::is_lvalue<T>,
                  "projections: only the address of a lease store is kept: name it first, and let "
                  "it outlive the engine");
    constexpr bool is_whole = detail::answers<detail::acquire_call, store_type> &&
                              !detail::compiles<detail::acquire_by_value, store_type> &&
                              detail::answers<detail::extend_call, store_type> &&
                              detail::answers<detail::release_call, store_type>;
    static_assert(is_whole, "projections: a lease store needs `pj::status acquire(pj::text "
                            "resource, uint32_t ttl_ms, uint64_t& token)`, `pj::status "
                            "extend(pj::text resource, uint32_t ttl_ms, uint64_t token)` and "
                            "`pj::status release(pj::text resource, uint64_t token)`");
    if constexpr (is_whole) {
        acquire = [](void* object, text resource, uint32_t ttl_ms, uint64_t& token) -> status {
            return static_cast<store_type*>(object)->acquire(resource, ttl_ms, token);
        };
        extend = [](void* object, text resource, uint32_t ttl_ms, uint64_t token) -> status {
            return static_cast<store_type*>(object)->extend(resource, ttl_ms, token);
        };
        release = [](void* object, text resource, uint64_t token) -> status {
            return static_cast<store_type*>(object)->release(resource, token);
        };
    }
}

/// (begin also carries the code for units with it: see linking_function.)
template<class T, detail::require<!detail::is_same<detail::plain<T>, unit_of_work>>>
constexpr unit_of_work::unit_of_work(T&& transactions)
    : self(detail::address_of_named(transactions)) {
    using store_type = detail::referred<T>;
    static_assert(detail::is_lvalue<T>,
                  "projections: only the address of a unit of work is kept: name it first, and let "
                  "it outlive the engine");
    static_assert(detail::has_transactions<store_type>,
                  "projections: a unit of work needs `pj::status begin()`, `pj::status commit()` "
                  "and `pj::status rollback()`");
    if constexpr (detail::has_transactions<store_type>) {
        begin = [](void* object) -> status { return static_cast<store_type*>(object)->begin(); };
        commit = [](void* object) -> status { return static_cast<store_type*>(object)->commit(); };
        rollback = [](void* object) -> status {
            return static_cast<store_type*>(object)->rollback();
        };
    }
}

/// A callable will do where letters are only put away. What keeps sequences has to be an object
/// with names for what else is asked of it.
template<class T, detail::require<!detail::is_same<detail::plain<T>, dead_letter_sink>>>
constexpr dead_letter_sink::dead_letter_sink(T&& sink) : self(detail::address_of_named(sink)) {
    using sink_type = detail::referred<T>;
    static_assert(detail::is_lvalue<T>,
                  "projections: only the address of a dead-letter sink is kept: name "
                  "it first, and let it outlive the engine");
    constexpr bool can_put = detail::answers<detail::put_call, sink_type>;
    constexpr bool can_be_called = detail::answers<detail::letter_call, sink_type>;
    static_assert(
        can_put || can_be_called,
        "projections: a dead-letter sink needs `pj::status put(const pj::dead_letter& letter)`");
    if constexpr (can_put) {
        put = [](void* object, const dead_letter& letter) -> status {
            return static_cast<sink_type*>(object)->put(letter);
        };
        // One that has evict() means to keep sequences. Taken for a plain sink it would be refused
        // by start(), which cannot say what is wrong with it.
        static_assert(detail::keeps_sequences<sink_type> ||
                          !detail::compiles<detail::evict_member, sink_type>,
                      "projections: a store of letters that can be asked for again needs "
                      "`pj::status first(const pj::letter_sequence&, pj::letter_visitor&)`, "
                      "`pj::status evict(const pj::letter_sequence&, pj::position)` and "
                      "`pj::status sequences(const pj::letter_sequence&, pj::sequence_visitor&)`");
        if constexpr (detail::keeps_sequences<sink_type>) {
            first = [](void* object, const letter_sequence& of, letter_visitor& show) -> status {
                return static_cast<sink_type*>(object)->first(of, show);
            };
            evict = [](void* object, const letter_sequence& of, position at) -> status {
                return static_cast<sink_type*>(object)->evict(of, at);
            };
            sequences = [](void* object, const letter_sequence& of,
                           sequence_visitor& show) -> status {
                return static_cast<sink_type*>(object)->sequences(of, show);
            };
        }
    } else if constexpr (can_be_called) {
        put = [](void* object, const dead_letter& letter) -> status {
            return (*static_cast<sink_type*>(object))(letter);
        };
    }
}

template<class T, detail::require<!detail::is_same<detail::plain<T>, consumer>>>
constexpr consumer::consumer(T&& client) : self(detail::address_of_named(client)) {
    using client_type = detail::referred<T>;
    static_assert(detail::is_lvalue<T>,
                  "projections: only the address of a consumer is kept: name it first, and let it "
                  "outlive the engine");
    constexpr bool is_whole = detail::answers<detail::subscribe_call, client_type> &&
                              detail::answers<detail::unsubscribe_call, client_type>;
    static_assert(is_whole,
                  "projections: a consumer needs `pj::status subscribe(pj::text topic, pj::text "
                  "queue)` and `pj::status unsubscribe(pj::text topic, pj::text queue)`");
    if constexpr (is_whole) {
        subscribe = [](void* object, text topic, text queue) -> status {
            return static_cast<client_type*>(object)->subscribe(topic, queue);
        };
        unsubscribe = [](void* object, text topic, text queue) -> status {
            return static_cast<client_type*>(object)->unsubscribe(topic, queue);
        };
    }
}

// ---------------------------------------------------------------------------------------- >>bodies
#if defined(PROJECTIONS_IMPLEMENTATION) || !defined(PROJECTIONS_SEPARATE)

// ---- finding a route; the handlers of a handler_map
//
// The table of a handler_map is filled in while the program runs, by the same rules as a registry's
// (the same keys, the same cells), so that one search serves both. It need not be quick to build:
// add() may walk all routes, and the key is of the whole name, since two words can only be chosen
// when all names are known. The first fault stays, and start() tells it (G29): add() is called
// before anything runs, often in a constructor, where nobody could act on an answer.

namespace detail {

/// Never nothing: what is not registered goes to the route of unknown types, which has the handlers
/// of every event. An event that has a name is found by its name, also where it states a number.
PROJECTIONS_BODY_ const route& find(const route_table& table, const type_key& key) {
    const char* const name = key.name().data();
    const size_t size = key.name().size();
    const route* const found =
        look_up(table.routes, size != 0 ? table.by_name : table.by_number,
                size != 0 ? key_of(table, name, size) : key.number(), [&](const route& r) {
                    return size != 0 ? has_name(r, name, size) : r.number == key.number();
                });
    return found != nullptr ? *found : table.unknown();
}

/// Sets the table up at the first add(): until then a handler_map is all zero bytes.
PROJECTIONS_BODY_ void handler_map_core::prepare(const storage& in) {
    if (table_.routes != nullptr) return;
    const uint8_t shift = shift_for(in.slot_count);
    table_.routes = in.routes;
    table_.by_name = {in.cells, first_multiplier, shift};
    table_.by_number = {in.cells + in.slot_count, first_multiplier, shift};
    table_.sample[0] = whole_name;
    in.routes[0].call = &nobody;
    table_.handler_name = &name_of;
    entries_ = in.entries;
}

/// The route of a type, made if it is new; nullptr if that is a fault. It looks at all of them,
/// because a name that is new may have the number of another, and the other way round: each half of
/// a type is an identity in some log.
PROJECTIONS_BODY_ route* handler_map_core::route_for(const storage& in, const event_type& type) {
    const text name = type.name();
    const bool is_valid = type.number() != 0 && name.size() <= name_size_max;
    for (uint16_t i = 1; i <= table_.count; ++i) {
        route& r = in.routes[i];
        const bool same_name = text(r.name, r.name_size) == name;
        if (same_name && r.number == type.number()) return &r;
        if (r.number == type.number() || (same_name && !name.empty())) {
            if (table_.fault == status::ok) table_.fault = status::duplicate_type;
            return nullptr;
        }
    }
    // (After the search: a type that is there already needs no room.)
    if (!is_valid || table_.count == in.count) {
        if (table_.fault == status::ok)
            table_.fault = is_valid ? status::table_full : status::bad_type;
        return nullptr;
    }
    // The handlers of every event that were added before have their bits in it from the beginning.
    const route& every = table_.unknown();
    route& added = in.routes[++table_.count];
    added = {name.data(), every.call, type.number(), every.live_only, 0,
             static_cast<uint8_t>(name.size()), every.handlers};
    const auto place = [&](uint16_t* cells, uint32_t key) {
        uint32_t slot = key * first_multiplier >> table_.by_name.shift;
        while (cells[slot] != 0) slot = (slot + 1) & (all_bits >> table_.by_name.shift);
        cells[slot] = table_.count;
    };
    if (!name.empty()) place(in.cells, name_key(name.data(), name.size(), whole_name, 0));
    place(in.cells + in.slot_count, type.number());
    return &added;
}

/// Two handlers of one event need two names: the key of a letter holds no more of a handler.
PROJECTIONS_BODY_ bool handler_map_core::has_handler(uint16_t first, text name) const {
    for (uint16_t at = first; at != 0; at = entries_[at - 1].next) {
        if (entries_[at - 1].name == name) return true;
    }
    return false;
}

/// Puts a handler at the end of a chain. Nothing is changed where it answers a fault.
PROJECTIONS_BODY_ status handler_map_core::append(const storage& in, route& to,
                                                  const map_entry& handler, bool live) {
    if (used_ == in.count) return status::table_full;
    if (has_handler(table_.unknown().first, handler.name)) return status::duplicate_handler;
    if (has_handler(to.first, handler.name)) return status::duplicate_handler;
    uint16_t* link = &to.first;
    for (; *link != 0; link = &entries_[*link - 1].next) {
        const map_entry& other = entries_[*link - 1];
        if (other.group != handler.group && other.group != &call_undecoded &&
            handler.group != &call_undecoded) {
            // (As two types it would have to be decoded twice, and one failure would be two.)
            return status::duplicate_type;      // two C++ types for one event
        }
    }
    entries_[used_] = handler;
    *link = ++used_;
    if (live) to.live_only |= uint32_t{1} << to.handlers;
    table_.has_live_only = table_.has_live_only || live;
    ++to.handlers;
    to.call = &call;
    return status::ok;
}

PROJECTIONS_BODY_ void handler_map_core::put(const storage& in, const event_type& type,
                                             map_entry handler, bool live) {
    prepare(in);
    route* const r = route_for(in, type);
    if (r == nullptr || handler.group == nullptr)
        return; // a fault; or known, and nobody handles it
    if (handler.name.empty()) handler.name = type.name();
    const status fault = r->handlers >= 32 ? status::table_full : append(in, *r, handler, live);
    if (table_.fault == status::ok) table_.fault = fault;
}

/// A handler of every event takes a place in each route that exists; routes made later begin with
/// it. All of them or none: first it is looked whether each has room, and none a handler of this
/// name.
PROJECTIONS_BODY_ void handler_map_core::put_every(const storage& in, const map_entry& handler,
                                                   bool live) {
    prepare(in);
    route& every = in.routes[0];
    status fault = every.handlers >= 31 ? status::table_full : status::ok;
    for (uint16_t i = 1; i <= table_.count; ++i) {
        if (in.routes[i].handlers >= 32) fault = status::table_full;
        if (has_handler(in.routes[i].first, handler.name)) fault = status::duplicate_handler;
    }
    if (fault == status::ok) fault = append(in, every, handler, live);
    if (table_.fault == status::ok) table_.fault = fault;
    if (fault != status::ok) return;
    // Its number is the highest so far, so in every route its bit is the next one.
    for (uint16_t i = 1; i <= table_.count; ++i) {
        route& r = in.routes[i];
        if (live) r.live_only |= uint32_t{1} << r.handlers;
        ++r.handlers;
        r.call = &call;
    }
}

/// Two chains, that of the type and that of every event, in the order in which they were added. A
/// group gets the first of the other chain as its end: whoever was added later waits.
PROJECTIONS_BODY_ void handler_map_core::call(void* self, delivery& d) {
    const handler_map_core& map = *static_cast<handler_map_core*>(self);
    uint16_t every = map.table_.unknown().first;
    uint16_t typed = d.to->number == 0 ? uint16_t{0} : d.to->first;
    d.decoded = map.decoded_bits(*d.to);
    uint32_t bit = 1;
    while (every != 0 || typed != 0) {
        const bool is_every = typed == 0 || (every != 0 && every < typed);
        uint16_t& next = is_every ? every : typed;
        next = map.entries_[next - 1].group(map.entries_, next, is_every ? typed : every, d, bit);
    }
}

/// The handlers of a route that want the event decoded; all want the same C++ type. Counted anew
/// for each event: bits depend on what lies between them in the other chain, and a mask in every
/// route would be RAM.
PROJECTIONS_BODY_ uint32_t handler_map_core::decoded_bits(const route& of) const {
    uint32_t bits = 0;
    uint32_t bit = 1;
    uint16_t every = table_.unknown().first;
    for (uint16_t typed = of.number == 0 ? uint16_t{0} : of.first; typed != 0; bit <<= 1) {
        if (every != 0 && every < typed) {
            every = entries_[every - 1].next;
        } else {
            if (entries_[typed - 1].group != &call_undecoded) bits |= bit;
            typed = entries_[typed - 1].next;
        }
    }
    return bits;
}

/// Walks as call() does, to the handler of that bit. Pre: the route has so many.
PROJECTIONS_BODY_ text handler_map_core::name_of(const void* self, const route_table& table,
                                                 const route& r, unsigned handler) {
    const handler_map_core& map = *static_cast<const handler_map_core*>(self);
    uint16_t every = table.unknown().first;
    uint16_t typed = r.number == 0 ? uint16_t{0} : r.first;
    for (;; --handler) {
        uint16_t& next = typed == 0 || (every != 0 && every < typed) ? every : typed;
        if (handler == 0) return map.entries_[next - 1].name;
        next = map.entries_[next - 1].next;
    }
}

/// A group of one: who takes the event as it is stored shares nothing with its neighbours.
PROJECTIONS_BODY_ uint16_t call_undecoded(map_entry* all, uint16_t first, uint16_t, delivery& d,
                                          uint32_t& bit) {
    const map_entry& entry = all[first - 1];
    if ((d.mask & bit) != 0) {
        const verdict v =
            verdict_of([&]() { return entry.undecoded(entry.self, *d.event, d.for_handler(bit)); });
        if (v != handled) d.answered(bit, v);
    }
    bit <<= 1;
    return entry.next;
}

} // namespace detail

/// No engine, so no policy, no checkpoint and no order of positions: what a handler answers goes to
/// the caller, and the others are called all the same.
PROJECTIONS_BODY_ verdict deliver(routes to, const stored_event& event, bool replaying) {
    if (to.is_empty()) return handled;
    const detail::route& r = detail::find(*to.table, event.type);
    detail::delivery d;
    d.event = &event;
    d.to = &r;
    d.replaying = replaying;
    d.mask = detail::handlers_mask(r);
    if (replaying) d.mask &= ~r.live_only;
    if (d.mask == 0) return handled;
    r.call(to.self, d);
    return d.first_trouble;
}

// ---- what several rooms need

namespace detail {

/// A call out that answers a status: what it throws is `failed`. (Perhaps done, for a save or a
/// put: whoever asks again has to reckon with both.)
template<class F> PROJECTIONS_INLINE_ status ask(F&& call) {
    PROJECTIONS_TRY_ { return call(); }
    PROJECTIONS_CATCH_ { return status::failed; }
}

/// Divides the number of `rest` and `word`, the more significant first: the quotient comes into
/// `word`, and what is left is answered. Pre: rest < by.
PROJECTIONS_ONCE_ inline uint32_t divide_bit_by_bit(uint32_t& word, uint32_t by, uint32_t rest) {
    for (int bit = 0; bit < 32; ++bit) {
        const bool is_over = rest > all_bits >> 1;
        rest = rest << 1 | word >> 31;
        word <<= 1;
        if (is_over || rest >= by) {
            rest -= by;
            ++word;
        }
    }
    return rest;
}
/// Leaves the quotient, answers the remainder.
inline uint32_t divide(uint32_t& number, uint32_t by) {
#if defined(__arm__) && !defined(__ARM_FEATURE_IDIV)
    // What the compiler links where the processor cannot divide is six times as large.
    return divide_bit_by_bit(number, by, 0);
#else
    const uint32_t rest = number % by;
    number /= by;
    return rest;
#endif
}
inline uint32_t quotient(uint32_t of, uint32_t by) {
    static_cast<void>(divide(of, by));
    return of;
}
inline uint32_t remainder(uint32_t of, uint32_t by) { return divide(of, by); }

PROJECTIONS_ONCE_ inline position later(position a, position b) { return a > b ? a : b; }
PROJECTIONS_ONCE_ inline position earlier(position a, position b) { return a < b ? a : b; }

/// The status that stands for a kind of failure. Both are in the same order, but for transient and
/// permanent, which share one.
inline status status_of(failure_kind kind) {
    static_assert(static_cast<uint8_t>(failure_kind::permanent) == 1 &&
                  static_cast<uint8_t>(failure_kind::decode) == 2 &&
                  static_cast<uint8_t>(failure_kind::unknown_type) == 3 &&
                  static_cast<uint8_t>(status::decode_failed) ==
                      static_cast<uint8_t>(status::handler_failed) + 1 &&
                  static_cast<uint8_t>(status::unknown_type) ==
                      static_cast<uint8_t>(status::handler_failed) + 2);
    const unsigned number = static_cast<uint8_t>(kind);
    return static_cast<status>(static_cast<uint8_t>(status::handler_failed) + number -
                               (number != 0 ? 1u : 0u));
}

/// Stays at its end: a count that came round to 0 would begin the backoff anew.
inline uint8_t increased(uint8_t failures) {
    return failures == 0x7F ? failures : static_cast<uint8_t>(failures + 1);
}

} // namespace detail

// ---- the engine: life
//
// Between two ticks an engine remembers little. No event is kept: what has to be tried again is
// read again, so memory does not grow with a batch or a log.
//
//   record_     what the checkpoint store holds, as last loaded or saved; where the next save is to
//               say more than a new position, that is in it already
//   at_         the last event with an outcome. What lies between record_.at and at_ is handled
//               again after a crash. It is below record_.at only after a reset (moved_back_) and
//               while a volatile model is read again
//   held_at_    the one event after at_ that was begun and has no outcome yet; todo_, pending_,
//               retry_ and owed_ say what it lacks (see "one event")
//   unsaved_    events with an outcome since the last save; at unsaved_max nothing but the save is
//               tried (G14), or a store that fails would cost ever more after a crash
//   saving_     how the save under way stands; saving_at_ and saving_events_ are what it covers,
//               because it is repeated for the same position though more may be done by then
//   careful_    after a crash: so many events are named in the record before they are begun
//   caught_up_  the last read came to the end of the log
//   asking_     whether bounds() has to be asked before the next read
//
// A tick takes the same steps in the same order, and any of them may be the last it can take:
//
//   requests    first, so that stop and pause take one tick, whatever is being waited for (G13)
//   lease       nothing that has an effect begins without it (G20); and what is loaded before it is
//               gained may be changed by its former owner
//   rollback    of a unit that is over: nothing else may come into it
//   load        the record, or the one that a save has met in place of ours
//   bounds      before the read: no handler sees an event of another log (G5)
//   read        and, event by event, order, gaps, routes, handlers, policy
//   save        last, so that it covers what was just done
//
// A run goes from loading to working. stop(), a policy and whatever cannot go on call halt(), which
// makes it ending: end() then has stop_ms for the last save, and leads to stopped or halted. So a
// run never ends in the middle of a step.

PROJECTIONS_BODY_ void waker::wake() const { if (engine_ != nullptr) engine_->wake(); }

/// Nothing is changed before the description was looked at (G29). A stop() or pause() from before
/// the run was not meant for it; a wake() is kept, since what it tells of may still be there.
PROJECTIONS_BODY_ status engine::start(start_cause cause) {
    if (ticking_) return status::reentered;
    if (running()) return status::already_started;
    status fault = validate();
    if (fault == status::ok && role_->begin != nullptr) fault = role_->begin(*this);
    if (fault != status::ok) return fault;
    stop_.set(0);
    pause_.set(0);
    paused_ = 0;
    follows_crash_ = what_->crashes != nullptr && cause == start_cause::crash ? 1 : 0;
    load_anew();
    for (event_count& one : counts_) one = 0;
    failed_calls_ = 0;
    last_failure_ = {};
    // Nobody may begin, tick or reset the engine from inside this notice.
    ticking_ = true;
    notify(notice_kind::started);
    ticking_ = false;
    return status::ok;
}

/// Forgets all that a checkpoint store would know better. At start(), when a lease is lost, and
/// when somebody else's record was met. What is in hand is dropped, not saved: it may be done by
/// another engine by now (G21).
PROJECTIONS_BODY_ void engine::load_anew() {
    drop_held();
    save_first_ = false;
    loaded_ = moved_back_ = save_doubtful_ = unconfirmed_ = untold_ = 0;
    // Until a save says so, the record does not know of the crash, and is to be told once more.
    careful_ = follows_crash_;
    saving_ = detail::saving::none;
    read_failures_ = save_failures_ = 0;
    unsaved_ = saving_events_ = save_in_ = 0;
    record_ = {};
    at_ = before_first;
    newest_ = before_first - 1;
    retry_in_ = 0;
    go_on();
}

/// From a halt, or from nothing, to work. (Meanwhile the log may have been trimmed or replaced: its
/// bounds are asked again.)
PROJECTIONS_BODY_ void engine::go_on() {
    caught_up_ = false;
    if (asking_ < detail::asking::first) asking_ = detail::asking::again;
    stage_ = loaded_ ? stage::working : stage::loading;
    state_ = run_state::running;
    reason_ = why_ = end_reason_ = status::ok;
    read_in_ = 0;
    // What was rolled back at the end is done again, or given up. (Of a sink it may be a letter
    // that the broker does not know yet.)
    if (!role_->is_fed || at_ <= record_.at) untold_ = 0;
}

namespace detail {
/// `..._p` and digits, or `..._partitions`: keys that the library makes itself. A projection of
/// such a name would share a record with a partition of another.
inline bool is_reserved(text name) {
    size_t end = name.size();
    while (end > 0 && name.data()[end - 1] >= '0' && name.data()[end - 1] <= '9') --end;
    const text last("_partitions", end < name.size() ? 2 : 11);     // `_p` is its begin
    return end >= last.size() && text(name.data() + end - last.size(), last.size()) == last;
}
} // namespace detail

/// What is wrong with the description; touches nothing and calls nobody but the features' own
/// checks (G29). What can be said of everything comes before what only a feature needs.
PROJECTIONS_BODY_ status engine::validate() const {
    using end = error_policy::end;
    const projection& p = *what_;
    const error_policy& replaying =
        p.on_error_replaying != nullptr ? *p.on_error_replaying : p.on_error;
    const auto wants = [&](end then) {
        return p.on_error.then_ == then || replaying.then_ == then;
    };
    if (p.name.empty()) return status::no_name;
    if (detail::is_reserved(p.name)) return status::reserved_name;
    // A sink needs no log; but then it has none to read a volatile model from.
    if (role_->is_fed ? p.volatile_model : p.log.read == nullptr) return status::no_read;
    if (p.checkpoints.load == nullptr) return status::no_load;
    if (p.checkpoints.save == nullptr) return status::no_save;
    if (p.handlers.table == nullptr) return status::no_handlers;
    if (p.handlers.table->fault != status::ok) return p.handlers.table->fault;
    if (p.handlers.is_empty()) return status::no_handlers;
    // Only bounds() knows where the oldest event or the end is.
    if (p.first_start != begin_at::the_beginning && p.log.bounds == nullptr)
        return status::no_bounds;
    if (p.tick_ms_max != 0 && !p.clock) return status::no_clock;
    if (wants(end::unknown)) return status::unknown_policy;
    // (A sink of messages has another way: the broker takes what it rejects.)
    if (wants(end::letter) && p.dead_letters.put == nullptr && role_->reject == nullptr)
        return status::no_dead_letter_sink;
    if (p.batch == 0 || p.batch > detail::batch_max) return status::bad_batch;
    if (p.save.every_events == 0) return status::bad_save_rule;
    if (p.delays.multiplier == 0 || p.delays.jitter_percent > 100) return status::bad_backoff;
    if (has_sequences() && (p.dead_letters.first == nullptr ||
                            sequences().validate(p) != status::ok)) {
        return status::no_dead_letter_sink;
    }
    // commit() without begin() is a slip: without units, effects would be applied at least once
    // where the user thinks that they are applied with the checkpoint.
    const status fault = has_units()                   ? units().validate(p)
                       : p.transaction.commit != nullptr ? status::no_unit_of_work : status::ok;
    return fault == status::ok && p.lease != nullptr ? keeper().validate(p) : fault;
}

/// With a clock that throws no time passes: nothing becomes due by it, and nothing is missed.
PROJECTIONS_BODY_ tick_result engine::tick() {
    uint32_t now_ms = now_ms_;
    if (ticking_) return {state_, status::reentered, never, 0};
    if (!what_->clock) return {state_, status::no_clock, never, 0};
    PROJECTIONS_TRY_ { now_ms = what_->clock(); }
    PROJECTIONS_CATCH_ { static_cast<void>(now_ms); }
    return tick(now_ms);
}

/// Whatever a callback calls on its own engine meets ticking_ and is refused (G26): no step has to
/// reckon with a state that changes under it.
PROJECTIONS_BODY_ tick_result engine::tick(uint32_t now_ms) {
    if (ticking_) return {state_, status::reentered, never, 0};
    looked_ = 0;
    if (!running()) return {state_, reason_, never, 0};
    ticking_ = true;
    age(now_ms);                // at the first tick of a run nothing waits yet
    const event_count before = counted();
    take_requests();
    advance();
    const uint32_t wait = running() ? wait_ms() : 0;    // nobody may sleep over the end of a run
    // While nobody looks the log may be trimmed or replaced. (A wait of 0 is no wait: then bounds
    // would be asked at every tick of a long catching up.)
    if (wait != 0 && asking_ == detail::asking::none) asking_ = detail::asking::again;
    // Why reading waits is what a caller wants to know first; then why saving does.
    if (running()) {
        reason_ = why_ != status::ok ? why_ : save_doubtful_ ? status::checkpoint_failed
                : is_save_pending() ? status::pending : status::ok;
        state_ = stage_ == stage::ending || wait == 0 ? run_state::running
               : paused_ != 0 ? run_state::paused
               : reason_ != status::ok ? run_state::waiting : run_state::idle;
    }
    ticking_ = false;
    return {state_, reason_, wait, static_cast<uint32_t>(counted() - before)};
}

/// All waits are what is left of them, never a point in time: the difference of two clock values is
/// right when the clock has wrapped, and after a sleep longer than a wait that is 0, not far in the
/// future (G30). `never` does not pass.
PROJECTIONS_BODY_ void engine::age(uint32_t now_ms) {
    const uint32_t elapsed_ms = passed_ms(now_ms);
    now_ms_ = now_ms;
    // (A wait is told by its place, a small number: an address may take a word of flash.)
    const auto count_down = [this, elapsed_ms](uint32_t engine::*wait) {
        uint32_t& wait_ms = this->*wait;
        if (wait_ms != never) wait_ms -= sooner(wait_ms, elapsed_ms);
    };
    if (elapsed_ms == 0) return;        // as often as not, in a loop that is busy
    count_down(&engine::read_in_);
    count_down(&engine::retry_in_);
    count_down(&engine::letter_in_);
    count_down(&engine::save_in_);
    count_down(&engine::lease_in_);
    count_down(&engine::renew_in_);
}

/// wake() ends only waits for somebody who may be done by now. A backoff stays: whoever wakes an
/// engine often would else hammer a store that fails (G27).
PROJECTIONS_BODY_ void engine::take_requests() {
    if (wake_.take() != 0) {
        if (wakeable_) read_in_ = 0;
        if (letter_failures_ == 0) letter_in_ = 0;
        if (is_save_pending()) save_in_ = 0;
        if (lease_pending_ != 0) renew_in_ = 0;
    }
    const uint8_t pausing = pause_.take();
    const bool pauses = pausing == pause_on;
    if (pausing != 0 && paused_ != pauses) {
        paused_ = pauses;
        notify(pauses ? notice_kind::paused : notice_kind::resumed);
    }
    // After pause and resume: it ends a paused run, too. What would have stood by for another turn
    // of its lease ends as well.
    if (stop_.take() != 0) {
        halt(status::ok);
        yields_ = 0;
    }
}

/// The steps of a tick. The end is looked at in any case: a standby that waits for its lease can be
/// stopped, too (G28).
PROJECTIONS_BODY_ void engine::advance() {
    const bool may_work = lease_allows(&detail::lease_keeper::hold);
    const bool is_clean = unit_ != detail::unit::over || units().is_gone(*this);
    if (may_work && is_clean) work();
    if (stage_ == stage::ending) end();
}

/// The steps that need the lease, if there is one.
PROJECTIONS_BODY_ void engine::work() {
    // A record that somebody else may have written is looked at before anything else is done.
    if ((stage_ == stage::loading || is_refused()) && read_in_ == 0) load();
    if (stage_ == stage::working && !is_refused()) {
        if (paused_ == 0 && !only_saves() && read_in_ == 0 &&
            lease_allows(&detail::lease_keeper::confirm)) {
            if ((role_->prepare == nullptr || role_->prepare(*this)) && look_at_bounds()) {
                why_ = status::ok;
                // (The bounds may just have said where it begins: that is saved before an event is
                // read. A sink reads nothing; receive() gives it what it takes.)
                if (!save_first_) {
                    looked_ = 1;
                    if (!role_->is_fed) {
                        if (has_units()) units().read(*this);
                        else static_cast<void>(read(never, false));
                    }
                }
            }
        }
    }
    // (While the record is to tell what became of a unit, its rollback may be pending.)
    if (!is_refused() &&
        (unit_ != detail::unit::none || (stage_ == stage::working && save_is_due()))) {
        save();
    }
}

/// The soonest of what the next tick could do, and of nothing else. What is due but could not be
/// done would be a busy loop (G15); what is left out would be slept over (G27).
PROJECTIONS_BODY_ uint32_t engine::wait_ms() const {
    const bool is_ending = stage_ == stage::ending;
    uint32_t ms = read_in_;
    // Before that, the load or the rollback is all there is to wait for.
    if (stage_ != stage::loading && !is_refused() && unit_ != detail::unit::over) {
        if (is_ending) {
            // (The last save waits until the broker is left.)
            const bool is_leaving = role_->leave != nullptr && ms != 0;
            if (saving_ != detail::saving::none && !is_leaving) ms = save_in_;
        } else {
            const bool is_fed = role_->is_fed && looked_ != 0;
            if (paused_ != 0 || only_saves() || (is_fed && ms == 0)) ms = never;
            if (is_dirty() && untold_ == 0) ms = sooner(ms, save_in_);
        }
    }
    // When stop_ms is over the run ends, whatever has not answered.
    if (is_ending) ms = sooner(ms, retry_in_);
    return what_->lease != nullptr ? keeper().wait_ms(*this, ms) : ms;
}

/// No read or load before `ms` have passed or, where that is allowed, before wake(). Answers false.
/// (The false is for the step that waits: it returns it, and the tick goes no further.)
PROJECTIONS_BODY_ bool engine::wait(uint32_t ms, status why, bool until_woken) {
    read_in_ = ms;
    why_ = why;
    wakeable_ = until_woken;
    return false;
}

/// The wait after a store did not answer ok. Answers false. `pending` is no failure: no backoff, no
/// notice, and wake() ends it (G15).
PROJECTIONS_ONCE_ PROJECTIONS_BODY_ bool engine::wait_after(status answer, status why) {
    if (answer == status::pending) return wait(what_->pending_ms, status::pending, true);
    read_failures_ = detail::increased(read_failures_);
    wait(delay(read_failures_), why, false);
    notify(why == status::checkpoint_failed ? notice_kind::checkpoint_failed
                                            : notice_kind::store_failed,
           why);
    return false;
}

/// How long to wait after so many failures in a row. The share that is taken off comes from the
/// seed, the position and the number of failures: there is no generator whose state would be RAM,
/// and devices with other seeds come back at other times.
PROJECTIONS_BODY_ uint32_t engine::delay(uint32_t failures) const {
    const backoff& b = what_->delays;
    constexpr uint32_t factor_max = never >> 8; // times a multiplier of 8 bits is still a number
    constexpr uint32_t steps_max = 33;  // after 32 doublings any cap is reached; 1 never reaches it
    uint32_t ms = b.first_ms;
    for (uint32_t i = sooner(failures, steps_max); i > 1 && ms < b.cap_ms; --i)
        ms = ms > factor_max ? b.cap_ms : ms * b.multiplier;
    ms = sooner(ms, b.cap_ms);
    uint32_t random = (b.seed ^ static_cast<uint32_t>(at_) ^ failures << 16) * 0x85EBCA6Bu;
    random = (random ^ random >> 13) * 0xC2B2AE35u >> 24;       // as in MurmurHash3's finalizer
    const uint32_t share =
        random * b.jitter_percent * 655u >> 16; // of 256; 655 / 65536: a hundredth
    ms -= ms > factor_max ? (ms >> 8) * share : ms * share >> 8;
    // `never` would not be a long wait but none that ends.
    return ms == never ? never - 1 : ms;
}

/// Ends the run before anything else is handled; what is done is saved first. Answers false. The
/// first reason stays, and a stop() is none: it does not hide why a run could not go on.
PROJECTIONS_BODY_ bool engine::halt(status why) {
    // From here on retry_in_ is what is left of stop_ms. A save that waits for its backoff is tried
    // at once.
    if (stage_ != stage::ending) {
        retry_in_ = what_->stop_ms;
        if (!is_save_pending()) save_in_ = 0;
        read_in_ = 0;
    }
    if (end_reason_ == status::ok) end_reason_ = why;
    stage_ = stage::ending;
    return false;
}

/// The last saves of a run; then it is stopped or halted, saved or not. Each step may take several
/// ticks, and the next waits for it: first the unit is committed or rolled back; the broker is left
/// before the last save; the lease is given back last, because the save needs it. When stop_ms is
/// over no step is waited for (G28).
PROJECTIONS_BODY_ void engine::end() {
    if (unit_ != detail::unit::none && !units().leave(*this)) return;
    if (role_->leave != nullptr && retry_in_ != 0 && (read_in_ != 0 || !role_->leave(*this)))
        return;
    // Saved only if the record is ours to replace and the lease is still there. What a former owner
    // has not saved by now the next one handles again.
    if (loaded_ && may_save() && untold_ == 0 && retry_in_ != 0 &&
        (what_->lease == nullptr || lease_ == detail::leasing::ours)) {
        if (is_refused()) return;
        if (is_dirty() && (saving_ == detail::saving::none || save_in_ == 0)) save();
        if (is_dirty()) return;
    }
    if (!lease_allows(&detail::lease_keeper::give_back)) return;
    const bool is_halt = end_reason_ != status::ok;
    // After stop(), ok means that all that was done is saved.
    reason_ = is_halt || !is_dirty() ? end_reason_ : status::checkpoint_failed;
    stage_ = is_halt ? stage::halted : stage::stopped;
    state_ = is_halt ? run_state::halted : run_state::stopped;
    notify(is_halt ? notice_kind::halted : notice_kind::stopped, reason_);
}

/// Nothing depends on an observer: what it throws is dropped. (`ok` with a cause stands for the
/// status of its kind.)
PROJECTIONS_BODY_ void engine::notify(notice_kind kind, status reason, const failure* cause) {
    if (!what_->observe) return;
    const position& at = cause != nullptr ? cause->event.at : at_;
    if (cause != nullptr && reason == status::ok) reason = detail::status_of(cause->kind);
    PROJECTIONS_TRY_ { what_->observe(notice{kind, reason, what_->name, at, cause}); }
    PROJECTIONS_CATCH_ { return; }
}

PROJECTIONS_BODY_ partition engine::part() const {
    return role_->part == nullptr ? partition{} : *role_->part(*this);
}

/// Whether anything that has an effect may still begin.
PROJECTIONS_BODY_ bool engine::may_begin() {
    return what_->lease == nullptr || keeper().may_begin(*this);
}

/// A step of the lease, if there is one.
PROJECTIONS_ONCE_ PROJECTIONS_BODY_ bool
engine::lease_allows(bool (*detail::lease_keeper::*step)(engine&)) {
    return what_->lease == nullptr || (keeper().*step)(*this);
}

/// What is in a unit that is not committed does not count yet, and after a rollback never did
/// (G16).
PROJECTIONS_BODY_ counters engine::counts() const {
    using detail::outcome;
    event_count each[detail::outcome_count];
    for (size_t i = 0; i < detail::outcome_count; ++i) each[i] = counts_[i];
    if (is_tentative()) units().count(*this, each);
    const auto of = [&](outcome what) { return each[static_cast<size_t>(what)]; };
    return {counted(),
            of(outcome::handled),
            of(outcome::unhandled),
            of(outcome::unknown),
            of(outcome::filtered),
            of(outcome::skipped),
            of(outcome::lettered),
            of(outcome::vanished),
            role_->is_fed ? of(outcome::not_ours) : 0,
            role_->is_fed ? 0 : of(outcome::not_ours),
            failed_calls_};
}

// ---- the engine: checkpoint and bounds
//
// The record's revision grows by one with every save, and a store that can compare refuses a save
// that is not the next one. What an answer leaves open decides what follows (G14):
//
//   ok         what was saved is record_ from here on
//   pending    the same call again; no event is handled meanwhile
//   failed     perhaps saved. The same position and revision again, with backoff, while events
//              go on up to unsaved_max. If it had arrived, the next attempt is refused
//   conflict   this revision is there already: of our own attempt whose answer was lost, or of
//              somebody else. The record is loaded and tells (settle_conflict())
//
// Only an attempt that failed makes a record that equals ours ours: a second engine of one name
// reads the same log, comes to the same positions, and would else be taken for our own echo.
//
// record_ is also the place for what the next save is to say besides a position: the log's
// identity, the event in work, the stage of a rebuild. next_record() takes it as it stands.
//
// The bounds of a log are compared with where we stand before a read that follows a wait, and after
// one that found nothing: a checkpoint of another log, or of one that was cut at either end, is no
// place to read on from (G5).

/// A damaged record halts at once: asking again does not mend it, and to begin from nothing would
/// handle everything once more. A store that fails is asked again for as long as it takes.
PROJECTIONS_BODY_ void engine::load() {
    checkpoint found;
    const checkpoint_store& store = what_->checkpoints;
    const status s = detail::ask([&]() { return store.load(store.self, key(), found); });
    if (s == status::checkpoint_corrupt || (s == status::ok && found.at < before_first)) {
        end_reason_ = status::checkpoint_corrupt;       // whatever else it was ending for
        halt(end_reason_);
    } else if (s != status::ok) {
        wait_after(s, status::checkpoint_failed);
    } else {
        read_failures_ = 0;
        why_ = status::ok;
        // Somewhere in a run, not at its begin: what is in hand may still be ours.
        if (is_refused()) return settle_conflict(found);
        adopt(found);
        if (stage_ != stage::working) return;
        notify(notice_kind::loaded);
        // The model is empty or half full: only the replay may go on with it (G23).
        if (found.replay_stage != 0 && !role_->is_rebuilding) halt(status::rebuild_unfinished);
    }
}

/// Takes the record as the place to go on from. The lease first: a record of a later owner is none
/// to go on from. `found` may be changed on the way, as by a claim, which puts our token into it.
PROJECTIONS_BODY_ void engine::adopt(checkpoint& found) {
    const projection& p = *what_;
    if (p.lease != nullptr && !keeper().claim(*this, found)) return;
    if (role_->adopt != nullptr && !role_->adopt(*this, found)) return;
    record_ = found;
    at_ = found.at;
    // It is read again from the beginning, silently: all up to the checkpoint was handled before.
    if (p.volatile_model && !role_->is_rebuilding) {
        record_.replayed_through = detail::later(found.at, found.replayed_through);
        at_ = before_first;
    }
    if (p.replayed_through > record_.replayed_through) {
        record_.replayed_through = p.replayed_through;
        // Or, after a crash, the host would have to say it again. (But a record saved before the
        // end of the log is known would make this first start look like a second one.)
        if (p.first_start != begin_at::the_end) save_first_ = true;
    }
    if (p.crashes != nullptr) p.crashes->loaded_(*this);
    loaded_ = 1;
    asking_ = has_sequences() ? detail::asking::letters : detail::asking::first;
    stage_ = stage::working;
}

/// A save was refused. Either an earlier attempt of the same save had arrived, its answer lost; or
/// somebody else works under this name.
PROJECTIONS_BODY_ void engine::settle_conflict(checkpoint& found) {
    if (saving_ == detail::saving::uncertain && units().settle(*this, found)) return;
    saving_ = detail::saving::none;
    // All that tells our own record from another's; `rebuild`, because the marker of a rebuild may
    // stand at the same position under the next revision.
    if (save_doubtful_ && found.at == saving_at_ && found.revision == record_.revision + 1 &&
        found.fencing_token == record_.fencing_token && found.rebuild == record_.rebuild) {
        return saved(found);
    }
    // With a lease it was the last save of a former owner. Without one, two engines share a name,
    // and each would overwrite what the other has done: that is for a person to end.
    if (what_->lease != nullptr && keeper().goes_on(*this, found)) return;
    end_reason_ = status::checkpoint_conflict;      // whatever else it was ending for
    halt(end_reason_);
}

/// Reads back what nothing may begin without: the claim of a lease, the marker of a rebuild. A
/// store that keeps less could not keep a former owner out, or a worker away.
PROJECTIONS_BODY_ bool engine::confirm() {
    if (unconfirmed_ == 0 || record_.revision == 0) return true;    // nothing was saved yet
    checkpoint found;
    const checkpoint_store& store = what_->checkpoints;
    const status s = detail::ask([&]() { return store.load(store.self, key(), found); });
    if (s != status::ok) return wait_after(s, status::checkpoint_failed);
    // (A later owner has claimed it between our claim and this look.)
    if (lease_ == detail::leasing::ours && found.fencing_token > record_.fencing_token) {
        lease_ = detail::leasing::over;
        return false;
    }
    // What was in hand when the lease was regained was saved meanwhile, and the answer was lost.
    if (save_doubtful_ && found.at == saving_at_) {
        saving_ = detail::saving::refused;      // to be settled by the record
        read_in_ = 0;
        return false;
    }
    const bool is_kept = found.fencing_token == record_.fencing_token &&
                         found.replay_stage == record_.replay_stage &&
                         found.rebuild == record_.rebuild &&
                         found.replayed_through == record_.replayed_through;
    // A position that is not kept is no checkpoint, whatever the user has accepted.
    if (found.at != record_.at || (!is_kept && !what_->accept_partial_records))
        return halt(status::partial_record);
    unconfirmed_ = 0;
    return true;
}

/// What the log holds now, and whether it is the same log. False: not now, or not at all.
PROJECTIONS_BODY_ bool engine::ask_bounds(position& trimmed) {
    const event_store& log = what_->log;
    position newest = before_first;
    uint64_t log_id = 0;
    status s = detail::ask([&]() { return log.bounds(log.self, trimmed, newest, log_id); });
    // Bounds that cannot be are a store that fails, and not a place to begin.
    if (trimmed < before_first || newest < trimmed) s = status::failed;
    if (s != status::ok) return wait_after(s, status::store_failed);
    newest_ = newest; // (that bounds() works says nothing of read(): its failures stand)
    // The first log that is met is ours from then on. (It goes into the next save; none is made for
    // it alone.)
    if (log_id != 0 && record_.log_id != log_id) {
        if (record_.log_id != 0) return halt(status::log_replaced);
        record_.log_id = log_id;
    }
    return true;
}

PROJECTIONS_BODY_ bool detail::look_at_bounds(engine& e) { return e.compare_bounds(); }

/// What is to be known before a read: which sequences of letters wait, or a letter could be
/// overtaken by what is read; then the bounds, if something has happened since they were asked.
PROJECTIONS_BODY_ bool engine::look_at_bounds() {
    const detail::bounds_function& bounds = what_->log.bounds;
    if (asking_ == detail::asking::letters && !sequences().recall(*this)) return false;
    return asking_ == detail::asking::none || bounds.code_ == nullptr || bounds.code_(*this);
}

/// Compares the log as it is now with where we stand. False: not now, or not at all.
PROJECTIONS_BODY_ bool engine::compare_bounds() {
    position trimmed = before_first;
    // Those after an empty read were pending: to read once more for them would never be idle.
    const bool only_bounds = caught_up_ && why_ == status::pending;
    if (!ask_bounds(trimmed)) return false;
    asking_ = detail::asking::none;
    if (!begin_somewhere(trimmed)) return false;
    return !only_bounds || newest_ > at_ || wait(what_->poll_ms, status::ok, true);
}

/// A projection without a checkpoint begins where it was told; then nothing after it may be gone.
/// (the_end only where nothing was ever saved: an engine that had begun there, had seen nothing and
/// was stopped would else jump over what has come since.)
PROJECTIONS_BODY_ bool engine::begin_somewhere(position trimmed) {
    const begin_at first = what_->first_start;
    if (at_ == before_first && at_ < record_.at) {      // a volatile model: from the oldest kept
        at_ = detail::earlier(trimmed, record_.at);
    } else if (at_ == before_first && ((first == begin_at::the_end && record_.revision == 0) ||
                                       (first == begin_at::oldest_kept && trimmed > at_))) {
        at_ = first == begin_at::the_end ? newest_ : trimmed;
        save_first_ = true;         // or, after a crash, it would begin at a later place
    }
    // What is missing was never handled, and nobody would notice: a person has to decide (G5).
    if (at_ < trimmed) return halt(status::log_trimmed);
    if (detail::later(at_, record_.at) > newest_) return halt(status::checkpoint_ahead);
    return true;
}

/// (At the end of the log nothing is in work. That is saved before the next event is read, or a
/// crash at the end of the log would count against it.)
PROJECTIONS_BODY_ bool engine::is_cleared() const {
    return careful_ != 0 && caught_up_ && !is_holding() &&
           (record_.suspect != before_first || record_.crashes != 0);
}

PROJECTIONS_BODY_ uint32_t engine::unsaved_max() const {
    return what_->unsaved_max != 0 ? what_->unsaved_max : batch() * 10;
}

/// While this is so no event is handled: a save is being made; or a position that was set, an event
/// that was named, has to be in the record before anything builds on it; or the limit of what may
/// be unsaved has been reached (G14).
PROJECTIONS_BODY_ bool engine::only_saves() const {
    return is_save_pending() || save_first_ || unsaved_ >= unsaved_max() ||
           is_cleared();
}

PROJECTIONS_BODY_ bool engine::seeks_the_end(const checkpoint& found) const {
    return found.revision == 0 && found.at == before_first && at_ == before_first &&
           what_->first_start == begin_at::the_end;
}

/// After these ends the record is somebody else's, damaged, or a replay's: to save over it would
/// take away what a person needs in order to decide.
PROJECTIONS_BODY_ bool engine::may_save() const {
    return end_reason_ != status::checkpoint_conflict &&
           end_reason_ != status::checkpoint_corrupt && end_reason_ != status::rebuild_unfinished;
}

/// save_in_ is the backoff of a save that failed, the wait of one that is pending, or else the time
/// that the first unsaved event may still wait. While a save is under way nothing but its wait
/// counts: more events do not make a store answer sooner.
PROJECTIONS_QUICK_BODY_ bool engine::save_is_due() const {
    if (!is_dirty() || untold_ != 0) return false;
    if (save_in_ == 0) return true;
    return saving_ == detail::saving::none && save_failures_ == 0 && (only_saves() || wants_save());
}

/// Asks the store. pending: nothing more is to be done in this tick.
PROJECTIONS_QUICK_BODY_ status engine::try_to_save(const checkpoint& next) {
    // Not a failure, and nothing to repeat: without the lease nothing of this is ours (G20).
    if (!may_begin()) return status::pending;
    const checkpoint_store& store = what_->checkpoints;
    const status s = detail::ask([&]() { return store.save(store.self, key(), next); });
    if (s == status::pending) {
        saving_ = detail::saving::pending;
        save_in_ = what_->pending_ms;
    }
    return s;
}

/// One attempt. An attempt that failed is repeated as it was, though more may be done by now: only
/// then can an answer that was lost be told from somebody else's work.
PROJECTIONS_BODY_ void engine::save() {
    using detail::saving;
    if (unit_ != detail::unit::none) return units().finish(*this);
    if (saving_ == saving::none) {
        // A volatile model that is read again stands below its checkpoint, which stays (G2). Only a
        // reset means the lower position.
        saving_at_ = moved_back_ ? at_ : detail::later(at_, record_.at);
        saving_events_ = unsaved_;
    }
    const checkpoint next = next_record(saving_at_);
    const status s = try_to_save(next);
    if (s == status::ok) return saved(next);
    if (s == status::conflict) {
        saving_ = saving::refused;
        read_in_ = 0;
    } else if (s != status::pending) {
        saving_ = saving::failed;
        save_doubtful_ = 1;
        save_failures_ = detail::increased(save_failures_);
        save_in_ = delay(save_failures_);
        notify(notice_kind::checkpoint_failed, status::checkpoint_failed);
    }
}

/// What is to be saved when everything up to `at` has an outcome. What a lost answer is told by
/// (position, revision, token, rebuild) is the same in every attempt.
PROJECTIONS_BODY_ checkpoint engine::next_record(position at) const {
    checkpoint next = record_;
    next.at = at;
    if (is_cleared()) {
        next.suspect = before_first;
        next.crashes = 0;
    }
    ++next.revision;
    return next;
}

/// Also what it comes to when a save turns out to have arrived after all. What was done since the
/// attempt began stays unsaved, and has its whole time from here on.
PROJECTIONS_QUICK_BODY_ void engine::saved(const checkpoint& now) {
    record_ = now;
    saving_ = detail::saving::none;
    save_doubtful_ = follows_crash_ = 0;
    save_failures_ = 0;
    // (A reset that came while this save was under way is not in it, and still to be saved.)
    if (moved_back_ != 0 && at_ == now.at) moved_back_ = 0;
    if (moved_back_ == 0) save_first_ = false;
    unsaved_ -= saving_events_;
    save_in_ = what_->save.every_ms;
    if (save_is_due()) save_in_ = 0;    // what was passed while this one failed (G27)
    notify(notice_kind::checkpoint_saved);
}

// ---- the engine: reading
//
// An event takes one of two ways. On the fast one, nothing is looked at but its position, whether
// it is for this engine, its route and whether anybody objects; the visitor's `plainly_` counts
// what is still wanted, and at_ is all that is written. On the other every event goes through
// take_closely(), and `closely_` counts. Which it is, needs_a_closer_look() decides once for a
// read: only features that have to see each event cost anything, and only where they are named.
//
// The fast way is left for an event and entered again after it, by had_trouble(). If its handlers
// were called and somebody objects, their answers are in the engine already, and it is only
// settled: to call them again would apply effects twice.
//
// A read ends when enough was taken, when a step closes it, or when the store has no more. From
// close() on nothing is shown to anybody, however long the store goes on (G6). During a read
// nothing is saved, begun or committed: a store may hold a lock, and save() may want the same.

namespace detail {
/// What a registry has compiled for its own table; a handler_map has nothing of the kind.
inline event_call deliver_of(const route_table& table) {
    return table.own != nullptr ? table.own->one : &deliver_by_table;
}
/// For a read that begins with events that were handled before; others are looked at closely. (New
/// ones of the same slice come to take_closely(); a later slice takes the fast way.)
PROJECTIONS_BODY_ void deliver_replayed(const stored_event& event, delivery& d) {
    const engine& e = *d.from;
    d.replaying = event.at <= e.record_.replayed_through;
    if (d.replaying) return deliver_of(e.table())(event, d);
    d.to = &no_route;
    d.trouble = true;
}
/// For an engine that is not for every event: what is left out is counted here, and has no trouble.
PROJECTIONS_BODY_ void deliver_chosen(const stored_event& event, delivery& d) {
    engine& e = *d.from;
    d.event = &event;
    d.to = &no_route;
    d.replaying = event.at <= e.record_.replayed_through;
    d.trouble = !d.replaying && e.role_->is_rebuilding;         // beyond its end
    if (d.trouble) return;
    const outcome left_out = e.choose(d);
    if (left_out == outcome::handled) {
        if (!PROJECTIONS_EXCEPTIONS || !d.trouble) deliver_of(e.table())(event, d);
        return;
    }
    ++d.taken_apart;
    e.count_as(left_out);
}
/// For a table that is known at run time only.
PROJECTIONS_BODY_ void deliver_by_table(const stored_event& event, delivery& d) {
    d.event = &event;
    d.deliver(find(d.from->table(), event.type));
}
} // namespace detail

PROJECTIONS_BODY_ visitor::visitor(engine& reader, detail::delivery& d, uint32_t wanted,
                                   bool plainly)
    : engine_(&reader),
#if !PROJECTIONS_SMALL_
      deliver_(reader.chooses()        ? &detail::deliver_chosen
               : reader.is_replaying() ? &detail::deliver_replayed
                                       : detail::deliver_of(reader.table())),
#endif
      plainly_(plainly ? wanted : 0),
      closely_(plainly ? 0 : wanted),
      delivery_(&d) {}

/// A slice. As many as are wanted go through take_plainly(); where that stops, the event either was
/// called and has trouble, or is out of order or for the other way, and was not called.
PROJECTIONS_BODY_ size_t visitor::operator()(const stored_event* events, size_t count) {
    engine& e = *engine_;
    const uint32_t before = wanted();
    const stored_event* const end = events + (count < before ? count : before);
    for (const stored_event* event = events;; ++event) {
        if (plainly_ != 0) event = take_plainly(event, end);
        if (event == end) break;
        const bool was_tried = plainly_ != 0 && delivery_->trouble;
        if (!(was_tried ? e.had_trouble(*this, *event) : e.take_closely(*this, *event))) break;
    }
    return static_cast<size_t>(before - wanted());
}

/// Those that need nothing but routing; the first that has trouble, or the end. The fast way for a
/// slice: what is still wanted is counted once, not with every event.
PROJECTIONS_BODY_ const stored_event* visitor::take_plainly(const stored_event* event,
                                                            const stored_event* end) {
    engine& e = *engine_;
#if !PROJECTIONS_SMALL_
    event = take_all_but_last(event, end);
    if (plainly_ == 0) return end;
#endif
    const stored_event* const first = event;
    for (; event != end && event->at > e.at_; ++event) {
        if (has_trouble(*event)) break;
        e.at_ = event->at;
    }
    plainly_ -= static_cast<uint32_t>(event - first);
    return event;
}

#if !PROJECTIONS_SMALL_
/// By the function that was made for the table, if there is one; it looks ahead, which the last has
/// no need of. It does not ask which events are replayed: it is given only those that are, or none.
PROJECTIONS_BODY_ const stored_event* visitor::take_all_but_last(const stored_event* event,
                                                                 const stored_event* end) {
    engine& e = *engine_;
    const detail::own_calls* const own = e.table().own;
    if (own == nullptr || deliver_ == &detail::deliver_chosen) return event;
    const bool is_replaying = e.is_replaying();
    if (is_replaying) end = e.end_of_replayed(event, end);
    else if (e.role_->is_rebuilding) return event;      // beyond its end, which ends the read
    if (end - event < 4) return event;                  // the first look-up is a slow one
    delivery_->replaying = is_replaying;
    uncounted_ = event;
    event = own->slice(event, end - 1, *this, *delivery_, e.at_);
    plainly_ -= static_cast<uint32_t>(event - uncounted_);
    return event;
}

/// After trouble with an event that was taken so. False: the read is over, and plainly_ is 0.
PROJECTIONS_BODY_ bool visitor::goes_on(const stored_event* after) {
    plainly_ -= static_cast<uint32_t>(after - uncounted_);
    uncounted_ = after + 1;
    if (!engine_->had_trouble(*this, *after)) return false;
    delivery_->replaying = engine_->is_replaying();
    return true;
}
#endif

/// The first event of a slice that is not replayed. (Where order is broken that may be too early or
/// too late: the slice stops there anyway.)
PROJECTIONS_BODY_ const stored_event* engine::end_of_replayed(const stored_event* event,
                                                              const stored_event* end) const {
    while (event != end && event->at <= record_.replayed_through) ++event;
    return event;
}

PROJECTIONS_BODY_ partition visitor::of() const { return engine_->part(); }

/// So a batch of what a store leaves out is not read again for itself (G3), and is no hole (G8).
PROJECTIONS_BODY_ void visitor::scanned_to(position at) {
    if (closed_ || wanted() == 0) return;
    engine& e = *engine_;
    // Or at that of one that is set aside: as if something behind it had been shown.
    if (e.aside_ != 0 && at >= ~e.held_at_) {
        stored_event behind;
        behind.at = at;
        delivery_->event = &behind;
        static_cast<void>(e.units().enter(e, *delivery_));
        close();
        return;
    }
    // It has looked at the position of the held event and not shown it: it is gone (G11).
    if (e.is_holding() && at >= e.held_at_ && !e.has_vanished()) {
        close();
        return;
    }
    // A unit ends at its last event: were its commit to fail, nothing else would say which it was.
    // What comes behind is looked at again without one.
    if (at > e.at_ && (!e.is_in_unit() || e.at_ == e.record_.at)) {
        e.at_ = at;
        moved_ = true;
    }
}

/// Whether an event may need more than routing.
PROJECTIONS_BODY_ bool engine::needs_a_closer_look() const {
    const projection& p = *what_;
    if (PROJECTIONS_SMALL_ && chooses()) return true;   // or has a function of its own for it
    // Which handlers are called depends on the position (G25).
    if (is_replaying() && (PROJECTIONS_SMALL_ || table().has_live_only)) return true;
    if (p.tick_ms_max != 0 || p.observe_handled || careful_ != 0 || is_holding()) return true;
    if (p.lease != nullptr || p.gaps != nullptr || has_sequences()) return true;
    // Else an unknown event has no handlers, and comes to had_trouble() for that.
    return p.on_unknown == unknown_types::fail && table().unknown().handlers != 0;
}

/// True: it was told to stop, or the store holds more. (`limit` and `closely` are of a unit of
/// work, which has a look at one event before it begins.)
PROJECTIONS_BODY_ bool engine::read(uint32_t limit, bool closely) {
    const projection& p = *what_;
    uint32_t wanted = sooner(limit, sooner(batch(), unsaved_max() - unsaved_));
    // Nothing is saved during a read, so it ends where a save falls due.
    if (saving_ == detail::saving::none && unsaved_ < p.save.every_events)
        wanted = sooner(wanted, p.save.every_events - unsaved_);
    // The held event comes alone: whether it gets its outcome decides whether more is read at all.
    if (is_holding()) wanted = 1;
    closely = closely || needs_a_closer_look();
    detail::delivery d(*this);
    visitor v(*this, d, wanted, !closely);
    // (A clock that throws has not moved since the tick began.)
    if (p.tick_ms_max != 0) {
        PROJECTIONS_TRY_ { v.started_ms_ = p.clock(); }
        PROJECTIONS_CATCH_ { v.started_ms_ = now_ms_; }
    }
    const bool was_dirty = is_dirty();
    caught_up_ = false;
    // A store that throws in the middle has failed; what it showed before counts all the same.
    const status s = detail::ask([&]() { return p.log.read(p.log.self, at_, v); });
    const bool is_told_to_stop = v.closed_ || v.wanted() == 0;
    const uint32_t taken = wanted - v.wanted();
    v.closed_ = true;
    count(d, taken);
    if (!is_dirty()) unsaved_ = 0;      // replayed in memory only: nothing of it is to be saved
    after_read(s, is_told_to_stop, v.moved_ || taken != 0);
    passed_first(was_dirty);
    return is_told_to_stop || s == status::more;
}

/// A save is due so long after the first event that is not saved; later ones do not begin that time
/// anew (G27). A save that has failed has its own.
PROJECTIONS_ONCE_ PROJECTIONS_QUICK_BODY_ void engine::passed_first(bool was_dirty) {
    if (!was_dirty && saving_ == detail::saving::none && save_failures_ == 0)
        save_in_ = what_->save.every_ms;
}

/// On the fast way nothing is counted for each event: what was not counted apart was handled.
PROJECTIONS_BODY_ void engine::count(const detail::delivery& of, uint32_t taken) {
    counts_[static_cast<size_t>(detail::outcome::handled)] += taken - of.taken_apart;
    unsaved_ += taken;
}

/// All events that have an outcome.
PROJECTIONS_BODY_ event_count engine::counted() const {
    static_assert(detail::outcome_count == 8, "the sum has as many");
    const event_count* const n = counts_;       // twice in every tick: a loop would cost the double
    const event_count sum = n[0] + n[1] + n[2] + n[3] + n[4] + n[5] + n[6] + n[7];
    return is_tentative() ? sum - unsaved_ : sum;
}

PROJECTIONS_BODY_ void engine::count_as(detail::outcome what) {
    ++counts_[static_cast<size_t>(what)];
}

/// What the store's answer says of the log.
PROJECTIONS_ONCE_ PROJECTIONS_BODY_ void
engine::after_read(status answer, bool is_told_to_stop, bool has_moved) {
    if (stage_ == stage::ending || is_fenced()) return;
    if (answer != status::ok && answer != status::more && answer != status::pending &&
        answer != status::trimmed) {
        // Where it was told to stop at the held event, that event's wait stands.
        if (!is_told_to_stop || !is_holding()) wait_after(status::failed, status::store_failed);
        return;
    }
    read_failures_ = 0;
    if (is_told_to_stop) return;        // whatever it says now, the next read will see
    if (answer == status::trimmed) {
        // Where it begins by now, the bounds will say.
        if (at_ == before_first && what_->first_start == begin_at::oldest_kept) {
            answer = status::pending;
            asking_ = detail::asking::again;    // also where that wait is 0
        } else {
            halt(status::log_trimmed);
        }
    }
    if (answer == status::ok) {
        // The end, and the held event was not shown: it is gone (G11).
        if (is_holding() && !has_vanished()) return;
        caught_up_ = true;
        wait(role_->is_rebuilding ? 0 : what_->poll_ms, status::ok, true);
        // Nothing was there: is it still the same log, and is its end where we stand (G5)?
        if (!has_moved) {
            asking_ = detail::asking::again;
            look_at_bounds();
        }
    } else if (answer == status::pending || (answer == status::more && !has_moved)) {
        // A `more` that brought nothing waits like `pending`: at once again would be a busy loop.
        wait_after(status::pending, status::pending);
    }
}

// ---- the engine: one event
//
// Most events are handled by everybody at once; then nothing of this is needed. An event with which
// that is not so is held: held_at_ is its position, at_ stays before it, and the read is closed.
// Nothing of it is kept but a print. What its handlers have come to is in masks:
//
//   done       no bit anywhere: it is not called for this event again (G10)
//   todo_      to be called in this round: it has answered pending (pending_ has its bit, too), or
//              was not reached because no further letter could be noted
//   retry_     it has failed, and the policy wants another attempt, in the next round
//   owed_      it was given up, and so many letters are not yet taken by the sink
//   worst_     what it has come to for those who are done with it
//
// The next read begins after at_, and so with the held event. It may be gone (vanished), or another
// may stand in its place: then the engine halts, since what was decided about one event must not be
// done to another. Otherwise next_in_round() says who is called, and settle() looks what is left.
// When nothing is, the event has its outcome: the worst of its handlers' (G11, G16).
//
// A policy is asked where a failure happens, in failed(), and nowhere else. So every way by which
// an event can fail (a handler, decode(), a filter that throws, an unknown type, a commit) ends in
// the same few answers. With a unit of work the masks are kept by unit_hooks in its own way,
// because a rollback takes back what the others have done as well.

namespace detail {
/// Tells whether an event is the one that was seen before at its position. It notices a log that
/// shows something else by mistake; it is no proof that it does not.
inline uint32_t print_of(const stored_event& event) {
    uint32_t print = event.type.number() ^ event.version;
    const auto mix = [&](text part) { print = fnv1a(part.data(), part.size(), print); };
    mix(event.type.name());
    mix(event.aggregate_id);
    mix(event.payload.text());
    return print;
}
/// Outside an engine, and for a letter that is redelivered, nothing is decided here: whoever has
/// called looks at first_trouble.
PROJECTIONS_BODY_ void delivery::answered(uint32_t bit, verdict v) {
    trouble = true;
    if (first_trouble == handled) first_trouble = v;
    if (from == nullptr || is_letter) return;
    if (v.what() == verdict::kind::pending) return postponed(bit, v.argument());
    uint8_t handler = 0;
    while (bit >> handler > 1) ++handler;
    from->failed(*this, bit, handler,
                 v.what() == verdict::kind::rejected ? failure_kind::permanent
                                                     : failure_kind::transient,
                 v.argument());
}

/// No attempt and no failure (G15): the policy hears nothing of it.
PROJECTIONS_APART_ PROJECTIONS_BODY_ void delivery::postponed(uint32_t bit, uint32_t retry_in_ms) {
    from->hold(*this, 0);
    from->todo_ |= bit;
    from->pending_ |= bit;
    wait_ms = sooner(wait_ms, retry_in_ms != 0 ? retry_in_ms : from->what_->pending_ms);
}

/// One failure for all of them, of no handler: none has seen the event. Who is not to be called in
/// this pass is left out.
PROJECTIONS_BODY_ void delivery::undecodable(uint32_t bits) {
    trouble = true;
    if (first_trouble == handled) first_trouble = reject();
    bits &= mask | rest;
    mask &= ~bits;
    rest &= ~bits;
    if (from != nullptr && !is_letter)
        from->failed(*this, bits, no_handler, failure_kind::decode, 0);
}

} // namespace detail

/// Nobody handles it, or somebody did not say that it is handled. Whoever was asked or called is
/// not asked again in this pass.
PROJECTIONS_BODY_ bool engine::had_trouble(visitor& from, const stored_event& event) {
    using detail::outcome;
    detail::delivery& d = *from.delivery_;
    if (is_holding()) return settle(from, event, outcome::handled);
    if (PROJECTIONS_SMALL_ || d.to == &detail::no_route) {      // not looked at yet
        d.trouble = false;
        return take_closely(from, event);
    }
    if (d.to->number != 0) return settle(from, event, outcome::unhandled);
    if (what_->on_unknown == unknown_types::fail)
        failed(d, detail::no_handler_bit, detail::no_handler, failure_kind::unknown_type, 0);
    return settle(from, event, outcome::unknown);
}

/// Every event that is not simply handled comes through here. False tells the store to stop. The
/// order of the questions matters: first whether the store shows what it may, then whether this is
/// the event that is held, and only then who may put it off: to name an event, or to wait for those
/// before it, means something only for the right one.
PROJECTIONS_BODY_ bool engine::take_closely(visitor& from, const stored_event& event) {
    using detail::outcome;
    const projection& p = *what_;
    // A store that goes on after stop shows it to nobody (G6).
    if (from.closed_ || from.wanted() == 0) return false;
    // Also between at_ and the held event: nothing was there when that one was begun (G6, G7).
    // (While none is held, held_at_ is below every event.)
    if (event.at <= at_ || event.at < held_at_) {
        halt(status::store_unordered);
        return from.close();
    }
    if (is_holding() && event.at > held_at_ && !has_vanished()) return from.close();
    // A rebuild ends where it was told, though the log goes on: the worker takes it from there.
    if (role_->is_rebuilding && !was_handled(event.at)) {
        caught_up_ = true;
        return from.close();
    }
    // (A print of 0 asks nothing: it was not taken yet, or is 0 by chance.)
    if (is_holding() && print_ != 0 && detail::print_of(event) != print_) {
        halt(status::event_changed);
        return from.close();
    }
    if (p.gaps != nullptr && !p.gaps->passes_(*this, event.at)) return from.close();
    detail::delivery& d = *from.delivery_;
    const detail::route& route = detail::find(*p.handlers.table, event.type);
    d.event = &event;
    d.to = &route;
    d.replaying = was_handled(event.at);        // failures and letters that are owed say so
    if (careful_ != 0 && !what_->crashes->allows_(*this, d)) return from.close();
    if (has_units() && !units().enter(*this, d)) return from.close();
    const detail::outcome result = call_handlers(d, route);
    // The lease has run out meanwhile: perhaps not all were called, so it has no outcome (G20).
    return is_fenced() ? from.close() : settle(from, event, result);
}

/// Calls whoever has no outcome for this event yet; what it is if none of them objects. (A failure
/// is noted on the way; settle() finds it in the masks.)
PROJECTIONS_BODY_ detail::outcome engine::call_handlers(detail::delivery& d,
                                                        const detail::route& route) {
    using detail::outcome;
    const projection& p = *what_;
    const bool is_known = route.number != 0;
    uint32_t wanted = detail::all_bits;
    if (is_holding()) wanted = has_units() ? units().next_pass(*this, d) : next_in_round(d);
    // Blamed by a crash_guard, or it cannot be opened: a failure without a call.
    if (d.is_hopeless) {
        if (wanted != 0) failed(d, wanted, detail::no_handler, d.why, code_crashed);
        return outcome::handled;
    }
    // Asked before anybody is called; with fewer bits the event has been let in before.
    if (wanted == detail::all_bits && chooses()) {      // or threw
        const outcome left_out = choose(d);
        if (left_out != outcome::handled || (PROJECTIONS_EXCEPTIONS && d.trouble)) return left_out;
    }
    d.mask = wanted & detail::handlers_mask(route);
    // (G25: neither called nor counted as failed; for them the event was done before.)
    if (d.replaying) d.mask &= ~route.live_only;
    // It has a bit of its own: a retry of this failure is none of those who want every event.
    if (!is_known && p.on_unknown == unknown_types::fail &&
        (wanted & detail::no_handler_bit) != 0) {
        failed(d, detail::no_handler_bit, detail::no_handler, failure_kind::unknown_type, 0);
    }
    // Before letters take the place of calls: an event that is lettered untried was not unhandled.
    const bool is_called = d.mask != 0;
    if (has_sequences()) sequences().divert(*this, d);
    if (p.lease != nullptr) keeper().call(*this, d, route);
    else if (d.mask != 0) route.call(p.handlers.self, d);
    return is_called ? outcome::handled : is_known ? outcome::unhandled : outcome::unknown;
}

/// What an event that is not for this engine counts as; handled, if it is. To throw is a failure,
/// which sets `trouble`.
PROJECTIONS_INLINE_ detail::outcome engine::choose(detail::delivery& d) {
    using detail::outcome;
    outcome left_out = outcome::handled;
    PROJECTIONS_TRY_ {
        if (what_->filter && !what_->filter(*d.event)) left_out = outcome::filtered;
        else if (role_->is_ours != nullptr && !role_->is_ours(*this, *d.event))
            left_out = outcome::not_ours;
    }
    PROJECTIONS_CATCH_ {
        d.trouble = true;
        failed(d, detail::all_bits, detail::no_handler, failure_kind::transient, code_thrown);
    }
    return left_out;
}

/// Which handlers of the held event are to be called now; offers the letters that are owed first.
/// The letters first: each that is taken makes room to note another, and a round does not end while
/// one is owed, so that they are offered with the number of attempts that they were written for.
PROJECTIONS_BODY_ uint32_t engine::next_in_round(detail::delivery& d) {
    if (letter_in_ == 0) offer_owed(d);
    // The round has ended: on to the next, unless a policy has said that there is none.
    if (todo_ == 0 && owed_ == 0 && halts_ == 0 && retry_in_ == 0) {
        todo_ = retry_;
        retry_ = 0;
        if (attempt_ != 0xFFFF) ++attempt_;
    }
    if (owed_ == detail::owed_letters_max) return 0;        // nowhere to note another failure
    // Whoever is pending or fails again puts its own bit back.
    const uint32_t wanted = todo_;
    d.resumed = pending_;
    d.attempt = attempt_;
    todo_ = pending_ = 0;
    return wanted;
}

/// After a pass over the handlers: the event has its outcome, or it is held and will be read again.
/// Besides the fast way this is where an event that was read is passed: when nothing of it is left
/// to do, and not before (G1).
PROJECTIONS_BODY_ bool engine::settle(visitor& from, const stored_event& event,
                                      detail::outcome result) {
    using detail::outcome;
    if (is_holding()) {
        if (has_units()) {
            if (!units().is_done(*this, *from.delivery_, result)) return from.close();
        } else {
            if ((todo_ | retry_ | owed_) != 0) return keep_holding(from, event);
            // It is counted once, under the worst that it has come to for anybody (G16).
            if (worst_ != outcome::handled) result = worst_;
            forget_held();
        }
    }
    at_ = event.at;
    if (result != outcome::handled) {
        ++from.delivery_->taken_apart;
        count_as(result);
        if (result == outcome::unknown) notify(notice_kind::event_unknown, status::unknown_type);
    } else if (what_->observe_handled) {
        notify(notice_kind::event_handled);
    }
    from.delivery_->reset();
    if (from.plainly_ != 0) --from.plainly_;
    else --from.closely_;
    // After an event, so that each tick gets at least one done. A clock that throws ends the read:
    // without it nobody could tell when to.
    if (what_->tick_ms_max != 0) {
        uint32_t now_ms = from.started_ms_ + what_->tick_ms_max;
        PROJECTIONS_TRY_ { now_ms = what_->clock(); }
        PROJECTIONS_CATCH_ { static_cast<void>(now_ms); }
        if (now_ms - from.started_ms_ >= what_->tick_ms_max) return from.close();
    }
    return from.wanted() != 0;
}

/// Ends this read before the event, and says when to look at it again. Whoever is pending or owed
/// comes before the wait of a retry: the round is not over. And a policy that halts does so only
/// when it is: its siblings have had their turn (G10).
PROJECTIONS_BODY_ bool engine::keep_holding(visitor& from, const stored_event& event) {
    print_ = detail::print_of(event);
    uint32_t ms = retry_in_;
    status why = detail::status_of(last_failure_.kind);
    bool is_wakeable = false;
    if (todo_ != 0 || owed_ != 0) {
        ms = from.delivery_->wait_ms;       // the shortest of those that are pending
        if (owed_ != 0) ms = sooner(ms, letter_in_);
        why = pending_ != 0 ? status::pending : status::dead_letter_failed;
        is_wakeable = pending_ != 0 || letter_failures_ == 0;
    } else if (halts_ != 0) {
        halt(why);
        return from.close();
    }
    wait(ms, why, is_wakeable);
    return from.close();
}

/// Called with everything that keeps an event from being done; only the first makes it held.
PROJECTIONS_BODY_ void engine::hold(const detail::delivery& from, uint8_t handler) {
    const bool is_new = !is_holding();
    if (is_new) {
        held_at_ = from.event->at;
        attempt_ = 1;
    }
    if (has_units()) units().hold(*this, is_new, handler);
}

/// Forgets the held event and all that belongs to it. (The mark of a gap is in held_at_, too, and
/// goes with it.)
PROJECTIONS_BODY_ void engine::forget_held() {
    held_at_ = before_first;
    todo_ = pending_ = retry_ = print_ = 0;
    letter_failures_ = 0;
    furthest_ = 0;
    owed_ = 0;
    put_ = halts_ = aside_ = uncommitted_ = reached_ = 0;
    worst_ = detail::outcome::handled;
    letter_in_ = 0;
    if (stage_ != stage::ending) retry_in_ = 0;     // else what is left of stop_ms
}

/// The same without an outcome: a place may have been kept for a letter that was never put, and the
/// letters tell.
PROJECTIONS_BODY_ void engine::forget_unsettled() {
    forget_held();
    if (has_sequences()) asking_ = detail::asking::letters;
}

/// Nothing that was begun is gone on with: neither the held event nor what is not committed.
PROJECTIONS_BODY_ void engine::drop_held() {
    if (has_units()) units().drop(*this);
    forget_unsettled();
}

/// The held event is no longer there. False: what was done of it is to be rolled back first.
PROJECTIONS_BODY_ bool engine::has_vanished() {
    if (is_in_unit()) {
        unit_ = detail::unit::over;
        return false;
    }
    give_up_held(detail::outcome::vanished);
    return !has_sequences();            // else what waits is to be asked before anything is read
}

/// The held event gets its outcome without being read again. (It is counted and saved as any other,
/// though no read has taken it.)
PROJECTIONS_BODY_ void engine::give_up_held(detail::outcome how) {
    passed_first(is_dirty());
    at_ = held_at_;
    forget_unsettled();
    count_as(how);
    if (is_dirty()) ++unsaved_;     // in memory only, while a volatile model is read again
    notify(how == detail::outcome::vanished ? notice_kind::event_vanished
                                            : notice_kind::event_skipped);
}

/// A letter that is offered later is described anew, from what is read again then and the little
/// that was noted: so it need not be kept in RAM.
PROJECTIONS_BODY_ failure engine::describe(const detail::delivery& from, uint8_t handler,
                                           failure_kind kind, uint32_t code) const {
    const routes& to = what_->handlers;
    const text name = handler == detail::no_handler
                          ? text() : to.table->handler_name(to.self, *to.table, *from.to, handler);
    return {kind,        code, attempt_,   from.replaying, part_index(), record_.rebuild,
            what_->name, name, *from.event};
}

/// A failure of the handlers of `bits`: asks the policy, and does what it says. (Held first, since
/// that says which attempt this was.)
PROJECTIONS_BODY_ void engine::failed(detail::delivery& from, uint32_t bits, uint8_t handler,
                                      failure_kind kind, uint32_t code) {
    hold(from, handler);
    const failure f = describe(from, handler, kind, code);
    ++failed_calls_;
    failure_record& last = last_failure_;   // one by one: as a whole it would be built elsewhere
    last.at = f.event.at;
    last.handler = f.handler;
    last.code = code;
    last.attempts = attempt_;
    last.kind = kind;
    notify(notice_kind::handler_failed, status::ok, &f);
    const decision decided = decide(f);
    if (has_units()) return units().failed(*this, from, bits, handler, f, decided);
    if (decided.what() == decision::kind::skip) {
        worst_ = detail::outcome::skipped;
        notify(notice_kind::event_skipped, status::ok, &f);
    } else if (decided.what() == decision::kind::letter) {
        // Not past one that is owed: letters keep the order of the handlers.
        if (owed_ != 0 || !put_letter(f)) owe(from, bits, handler, f);
    } else {
        // (After a halt: for retry_failed(), which calls those who failed and nobody else.)
        retry_ |= bits;
        if (decided.what() == decision::kind::halt) halts_ = 1;
        // One round for all: it begins when the last of those who failed may be tried again.
        else if (decided.wait_ms() > retry_in_) retry_in_ = decided.wait_ms();
    }
}

/// Notes a letter that the sink has not taken; once no other can be noted, the handlers after it
/// wait untried.
PROJECTIONS_BODY_ void engine::owe(detail::delivery& from, uint32_t bits, uint8_t handler,
                                   const failure& f) {
    // Four bits for the kind, and 28 for the code: a letter costs five bytes of RAM.
    letters_[owed_] = f.code << 4 | static_cast<uint32_t>(f.kind);
    letter_handlers_[owed_++] = handler;
    if (owed_ != detail::owed_letters_max) return;
    // Those who come after it in the order of calls; bits at and below its own were called.
    const uint32_t later = handler == detail::no_handler ? ~bits : ~(bits | (bits - 1));
    const uint32_t put_off = (from.mask | from.rest) & later & detail::handlers_mask(*from.to);
    todo_ |= put_off;
    pending_ |= put_off & from.resumed;         // what it has begun goes on
    from.mask &= ~later;
    from.rest &= ~later;
}

/// What cannot be done as it was decided halts: nothing is lost by that, and somebody looks.
PROJECTIONS_BODY_ decision engine::decide(const failure& f) const {
    using end = error_policy::end;
    const projection& p = *what_;
    const error_policy& policy =
        f.replaying && p.on_error_replaying != nullptr ? *p.on_error_replaying : p.on_error;
    decision decided = decision::halt();
    if (policy.then_ == end::ask) {
        PROJECTIONS_TRY_ { decided = policy.function_(f); }
        PROJECTIONS_CATCH_ { decided = decision::halt(); }
    } else if (f.kind == failure_kind::transient && f.attempts <= policy.retries_) {
        // R retries after the first attempt: R + 1 attempts (G9).
        decided = decision::retry_after(delay(f.attempts));
    } else if (policy.then_ == end::skip) {
        decided = decision::skip();
    } else if (policy.then_ == end::letter || policy.then_ == end::letter_or_halt) {
        decided = decision::dead_letter();
    }
    const bool has_sink = p.dead_letters.put != nullptr || role_->reject != nullptr;
    return decided.what() == decision::kind::letter && !has_sink ? decision::halt() : decided;
}

/// True: the sink has it, durably. Until it is true at_ stays before the event, so the letter is
/// durable before the checkpoint passes (G12).
PROJECTIONS_INLINE_ bool engine::put_letter(const failure& f) {
    const dead_letter_sink& sink = what_->dead_letters;
    status s = status::ok;
    if (!may_begin()) return false;
    // In the table of sequences first: a letter of which the table knows nothing would let the next
    // event of its aggregate overtake it.
    if (sink.put == nullptr) role_->reject(*this);
    else if (has_sequences() && !sequences().reserve(*this, f)) s = status::sequences_full;
    else s = detail::ask([&]() { return sink.put(sink.self, f); });
    if (s == status::ok) {
        letter_failures_ = 0;
        if (worst_ == detail::outcome::handled) worst_ = detail::outcome::lettered;
        notify(notice_kind::event_lettered, status::ok, &f);
        return true;
    }
    // Not the handler's wait: it has had its outcome, and only the letter is offered again.
    letter_in_ = what_->pending_ms;
    if (s == status::pending) {
        letter_failures_ = 0;
    } else {
        letter_failures_ = detail::increased(letter_failures_);
        letter_in_ = delay(letter_failures_);
        notify(notice_kind::letter_failed,
               s == status::sequences_full ? s : status::dead_letter_failed, &f);
    }
    return false;
}

/// Offers the letters that the sink has not taken, in order; the first that it does not take ends
/// it.
PROJECTIONS_OWN_FRAME_ PROJECTIONS_BODY_ void engine::offer_owed(detail::delivery& from) {
    while (owed_ != 0) {
        const failure_kind kind = static_cast<failure_kind>(letters_[0] & 15u);
        if (!put_letter(describe(from, letter_handlers_[0], kind, letters_[0] >> 4))) return;
        --owed_;
        for (uint8_t i = 0; i < owed_; ++i) {
            letters_[i] = letters_[i + 1];
            letter_handlers_[i] = letter_handlers_[i + 1];
        }
    }
}

// ---- commands
//
// They come between two ticks, and change where the engine stands or what becomes of the held
// event. Each refuses if the engine is not in the state that the caller saw (G31); none calls a
// store. What they set is saved by the next tick before anything is read, so a crash in between
// leaves either the old place or the new one.

PROJECTIONS_BODY_ status engine::retry_failed() {
    if (ticking_) return status::reentered;
    if (stage_ != stage::halted) return status::not_halted;
    // What is in hand was not saved and may not be: somebody else's record is there. From that one.
    if (!loaded_ || !may_save()) {
        load_anew();
        return status::ok;
    }
    // The log is not what it was: what was done for the held event says nothing of what stands
    // there now, which all handlers get.
    if (group_of(end_reason_) == status_group::store) forget_unsettled();
    if (blames_ != 0) {                 // whoever asks for it knows what he does
        record_.crashes = 0;
        blames_ = 0;
        save_first_ = true;             // or the next crash would find the old count
    }
    // The next round makes it 1: as many attempts as at first, for those in retry_ (G9, G10). A
    // round that was not over (the checkpoint was ahead of the log) goes on as it was.
    if ((todo_ | owed_) == 0) attempt_ = 0;
    halts_ = 0;
    retry_in_ = 0;
    go_on();
    return status::ok;
}

/// The position is asked for so that nobody skips what has come into the place of what he saw.
PROJECTIONS_BODY_ status engine::skip_failed(position at) {
    if (ticking_) return status::reentered;
    // (Nor where the record is somebody else's: what is given up could not be saved.)
    if (stage_ != stage::halted || !is_holding() || held_at_ != at || !may_save())
        return status::not_halted;
    // (The observer is told, and may not use the engine meanwhile.)
    ticking_ = true;
    give_up_held(detail::outcome::skipped);
    ticking_ = false;
    if (role_->committed != nullptr) {  // a sink's message, of which perhaps nothing is to be saved
        role_->committed(*this);
        untold_ = 0;                    // or, with a lease, its claim could not be saved
    }
    go_on();
    return status::ok;
}

/// (Where it does no work the question is not whether it stands there: reset() says what is wrong.)
PROJECTIONS_BODY_ status engine::set_position(position expected, position next) {
    if (ticking_) return status::reentered;
    const bool is_at_work = stage_ != stage::stopped && stage_ != stage::ending && loaded_;
    if (is_at_work && done_through() != expected) return status::conflict;
    return reset(next);
}

/// Not while a commit is pending or a save was refused: what the store holds is not known before
/// the record was loaded.
PROJECTIONS_BODY_ status engine::reset(position to) {
    if (ticking_) return status::reentered;
    if (stage_ == stage::stopped || stage_ == stage::ending) return status::stopped;
    if (!loaded_ || stage_ == stage::loading) return status::not_loaded;
    if (saving_ >= detail::saving::committing || !may_save() || to < before_first)
        return status::conflict;
    // The log that is there now is meant, and nothing of it was handled. (A shorter one may be
    // another, too.)
    if (end_reason_ == status::log_replaced || end_reason_ == status::checkpoint_ahead) {
        record_.log_id = 0;
        record_.replayed_through = before_first;
    }
    go_to(to);
    go_on();
    return status::ok;
}

/// Stands at another position, perhaps a lower one; saved before anything is read. A save that is
/// under way stays so, for the position that it was begun with: its answer says whether the record
/// is still ours. moved_back_ then makes another one for the new position.
PROJECTIONS_ONCE_ PROJECTIONS_BODY_ void engine::go_to(position to) {
    drop_held();
    at_ = to;
    // The event in work lies ahead again, and whoever resets has a reason to have it tried.
    if (record_.suspect > to) record_.suspect = before_first;
    save_first_ = true;
    untold_ = 0;
    moved_back_ = 1;
    if (saving_ == detail::saving::none) save_in_ = 0;
}

// ---- the crash guard
//
// An event whose handler takes the whole process down leaves no failure behind, only its name in
// the record: `suspect`, saved before it is begun. Naming costs a save for each event, so it is
// done only after a crash (careful_), for as many events as may have been in work then.
//
// `crashes` counts in a row. A second event that is named, the end of the log, or a retry_failed()
// of the one that is blamed begins the count again. Only with a name, a crash just now, and the
// count full is the event blamed: it then fails untried, and the policy does the rest (G32).

/// Called with a record just loaded; careful_ says that start() named a crash.
PROJECTIONS_BODY_ void crash_guard::loaded(engine& e) {
    checkpoint& r = e.record_;
    const bool is_crash = e.careful_ != 0;
    if (r.suspect != before_first && r.suspect <= r.at && !e.what_->volatile_model) {
        r.suspect = before_first;       // it was done, and that is progress
        r.crashes = 0;
    }
    // The count is saved before anything is begun, or the next crash would not find it; but not
    // before it is known where the projection begins.
    if (is_crash) {
        if (r.crashes != 0xFFFF) ++r.crashes;
        e.save_first_ = !e.seeks_the_end(r);
        // It was blamed, and the program has crashed before it came to it: by an event below, which
        // a volatile model reads again though it was given up, and which has no name, since what is
        // below is taken for done. Names begin anew, or it would crash for ever.
        if (e.what_->volatile_model && r.suspect != before_first &&
            r.crashes > e.what_->crashes->crashes_max_ + 1u) {
            r.suspect = before_first;
            r.crashes = 1;
        }
    }
    const bool is_in_work = r.suspect != before_first;
    const bool is_enough = r.crashes >= e.what_->crashes->crashes_max_;
    e.blames_ = is_crash && is_in_work && is_enough ? 1 : 0;
    // So many at most may have been done and not saved. One more, to take the last name away.
    e.careful_ = r.crashes == 0 && !is_in_work ? 0 : (sooner(e.unsaved_max(), 0x7FFE) + 1) & 0x7FFF;
}

/// False: the checkpoint has to name this event before it is begun. Once another event is named,
/// the one before it has done no harm. The first time it is asked for an event it puts the name
/// into the record and ends the read; the save follows, and the event comes again.
PROJECTIONS_BODY_ bool crash_guard::allows(engine& e, detail::delivery& d) {
    checkpoint& r = e.record_;
    // (After a crash a number would be that of whichever message comes first.)
    const position at = d.is_unplaced ? unplaced | detail::print_of(*d.event) : d.event->at;
    // Below it without a unit: done again.
    if (at > r.suspect || (at < r.suspect && (d.is_unplaced || e.has_units()))) {
        if (r.suspect != before_first) r.crashes = 0;
        // What a volatile model reads again comes before anything that may have been in work.
        if (!e.what_->volatile_model || !d.replaying) --e.careful_;
        r.suspect = e.careful_ != 0 ? at : before_first;
        e.blames_ = 0;
        e.save_first_ = true;
        return false;
    }
    // (A message that could not be opened is hopeless already, and not for this.)
    if (e.blames_ != 0 && at == r.suspect) {
        d.is_hopeless = true;
        d.why = failure_kind::permanent;
    }
    return true;
}

// ---- the gap guard
//
// A row that is not visible yet looks like one that never was. So the guard waits before a hole,
// and has to know on the next look that it is the same one, or looking would begin its time anew
// (G8). While it waits no event is held, and it uses what a held event would: held_at_ has a mark
// below before_first made of the first missing position, retry_in_ counts the time. A hole that is
// filled or settled leaves nothing behind; the event after it begins with waits of its own.

/// False: the event at `at` has to wait, because one before it is missing.
PROJECTIONS_BODY_ bool gap_guard::passes(engine& e, position at) {
    const gap_guard& g = *e.what_->gaps;
    const position next = detail::later(e.at_ + 1, g.first);
    // (It was let pass when it was begun.)
    if (e.is_holding()) return true;
    if (at <= next || e.was_handled(at - 1)) {
        if (e.aside_ != 0) return true;
        e.forget_held();
        // A replayed hole stays one, though it may be filled while the event behind it is held.
        if (at > next) e.at_ = at - 1;
        return true;
    }
    // One that is done in this unit, and set aside, is committed first: if that fails, it is still
    // known what it has come to.
    if (e.aside_ != 0 && e.is_in_unit()) return false;
    const position mark = before_first - 1 - next;      // in place of the position of a held event
    // (A held event that is set aside is negated, too, and may look like this mark: aside_ tells.)
    if (e.aside_ != 0 || e.held_at_ != mark) {
        e.forget_held();
        e.held_at_ = mark;
        e.retry_in_ = g.timeout_ms;     // no event is held, so nothing else counts down here
        e.notify(notice_kind::gap_found, status::log_gap);
    }
    bool is_over = e.retry_in_ == 0;
    // Asked at each look: a transaction may have been rolled back since. To throw is no answer.
    PROJECTIONS_TRY_ { is_over = is_over || (g.is_dead && g.is_dead(next, at - 1)); }
    PROJECTIONS_CATCH_ {}
    if (!is_over) return e.wait(sooner(e.retry_in_, e.what_->poll_ms), status::log_gap, true);
    if (e.is_in_unit()) return false;       // what it holds is committed first: no skip comes twice
    // Passed as one, however many positions it has, and told once.
    e.forget_held();
    e.at_ = at - 1;
    e.notify(notice_kind::gap_skipped, status::log_gap);
    return true;
}

// ---- the unit of work
//
// Effects, letters and checkpoint are one step here (G17), so the order of its parts never changes:
// begin, the handlers of its events, their letters, save, commit. Until commit() has answered ok
// nothing of it is known to be done: scanned() stands at the record, counts() leaves it out, and a
// rollback makes all of it new.
//
// A crash before the commit leaves the record as it was, and one after it leaves the record that
// was saved in the unit. The next start reads on from either and needs no other trace. Lost with
// the run are only the attempts that were made, and how far units were narrowed.
//
// `unit_` says how it stands: none; open, or bare, which is open without the checkpoint; over. In
// one that is over nothing is done any more but its rollback. That may be pending for many ticks,
// and advance() lets nobody work before it has answered.
//
// A unit ends without a commit in one of three ways:
// - A handler fails, or is pending for too long. Its event is set aside; those before it are done
//   again and committed, and then it is alone in its units until it has its outcome (G18). Its
//   effects cannot be taken out by themselves: so the healthy events are done twice and not given
//   up. One event can be set aside: if one of those before it has trouble now, that takes its
//   place, and it is a new event when its turn comes, with all its attempts.
// - save() fails. That is the store's trouble and no event's: the same again after a backoff (G14).
// - commit() does not answer ok. It may be done, and only the answer lost. So first comes the
//   rollback, which does no harm to what is durable, then the record is loaded, and settle() reads
//   in it what has happened. If it is not done, half of the events are tried, down to one; then the
//   policy is asked about that one.
//
// A tick reads twice at most: once without a unit, for one event that it leaves in the log, so that
// an idle poll begins nothing; then inside. What is passed over without a unit (a hole, the
// positions that a filtering store has looked at) is saved by itself before one begins.

namespace detail {

/// A unit is begun for the first event that a read would take, holds what this read takes, and is
/// committed with the checkpoint. A failure ends it: rolled back, the events before the one that
/// failed are done again and committed, and then that one is alone in each of its units until it
/// has its outcome. So is one that is pending for too long.
struct unit_hooks {
    /// A model in RAM is part of no transaction: a rollback would leave its effects where they are.
    static status validate(const projection& p) {
        const unit_of_work& u = p.transaction;
        if (u.commit == nullptr || u.rollback == nullptr) return status::no_unit_of_work;
        return p.volatile_model ? status::bad_unit_of_work : status::ok;
    }

    /// A look at the log without a unit, if nothing is known of it: an idle poll begins none.
    static void read(engine& e) {
        // `more_` outlives the tick: while it is set, begin() precedes the read and no look is paid
        // for. If the read has to wait, or its unit is lost, nothing is known of the log.
        const auto read_in = [&](uint32_t limit, bool closely) {
            const bool is_more = e.read(limit, closely);
            e.more_ = is_more && e.read_in_ == 0 && e.unit_ != unit::over ? 1 : 0;
        };
        const bool was_dirty = e.is_dirty(), was_open = e.is_in_unit();
        if (!was_open && e.more_ == 0) read_in(1, true);
        // (A rebuild that looks beyond its end has caught up, and is told to stop.)
        const bool may_begin = e.more_ != 0 && !e.caught_up_ &&
                               e.stage_ == engine::stage::working;
        if (e.is_in_unit() || (may_begin && begin(e))) {
            // Halved so many times after commits that failed. One event at least, or a batch that
            // was made smaller in the meantime would read none, for ever.
            const uint32_t limit = size_of_unit(e) >> e.narrowed_;
            const uint32_t left_ms = e.save_in_;
            read_in(limit != 0 ? limit : 1, e.aside_ != 0);
            if (e.at_ == e.record_.at) e.more_ = 0;     // what is next is for a look without a unit
            // The time of a unit counts from its begin, for a read that is pending in it, and once
            // more from the first event that is done in it, for one that is pending behind that. An
            // event that is pending alone is waited for without end.
            const bool is_new = !was_open || was_dirty != e.is_dirty();
            e.save_in_ = is_new ? e.what_->unit_ms_max : left_ms;
        }
    }
    /// As many as before_unit_ can count. And no more than one save covers, since each unit ends
    /// with its checkpoint.
    PROJECTIONS_ONCE_ static uint32_t size_of_unit(const engine& e) {
        return sooner(sooner(e.batch(), e.what_->save.every_events), 0xFFFF);
    }

    /// Opens a unit. False: not now. What fails here has no effect yet and is no event's fault, so
    /// no policy is asked: it is only waited for (G14).
    static bool begin(engine& e) {
        const unit_of_work& u = e.what_->transaction;
        if (e.is_dirty()) {     // passed without a unit: saved first, so that no rollback undoes it
            e.save_first_ = true;
            if (e.saving_ == saving::none) e.save_in_ = 0;
            return false;
        }
        if (!e.may_begin()) return false;
        const status s = ask([&]() { return u.begin(u.self); });
        if (s != status::ok) return e.wait_after(s, status::unit_of_work_failed);
        // What forget() and counts() take off later is the difference to these.
        e.unit_ = unit::open;
        for (size_t i = 0; i < common_outcomes; ++i)
            e.before_unit_[i] = static_cast<uint16_t>(e.counts_[i + 1] & 0xFFFFu);
        return true;
    }

    /// Before the handlers of an event. False: it is not for now. Every event comes here, also
    /// those of a look without a unit: that is where a look ends.
    static bool enter(engine& e, delivery& d) {
        if (e.aside_ != 0 && d.event->at >= ~e.held_at_) {      // those before it are done again
            // With others done in this unit, it is committed first, and the commit brings the event
            // back. With none (the last commit took them, or they are gone from the log) the event
            // is the next one at once.
            e.reached_ = e.at_ > e.record_.at ? 1 : 0;
            if (e.reached_ == 0) bring_back(e);
            return false;
        }
        if (e.is_in_unit()) return true;
        if (e.uncommitted_ != 0) {      // its unit could not be committed: now the policy speaks
            e.uncommitted_ = 0;
            ++e.attempt_;               // forget() has taken one off
            e.failed(d, all_bits, no_handler, failure_kind::transient, code_uncommitted);
            wait_for_held(e);
        }
        return false;
    }
    /// A handler has failed or is pending. Each failure ends the pass, so a handler may be reached
    /// for the first time when those before it have made several attempts. One number serves them
    /// all: it begins anew at each handler that is further than any before, or that one would have
    /// fewer attempts than its policy grants (G9).
    static void hold(engine& e, bool is_new, uint8_t handler) {
        if (is_new) {
            const position at = e.held_at_;
            e.forget_held();    // what waited for this one to be done again comes anew
            e.held_at_ = at;
            e.retry_ = all_bits;
            e.attempt_ = 1;
        }
        const uint8_t place = handler & 0x3Fu;  // of no_handler: after all others
        if (place > e.furthest_) {      // its first attempt, whatever the others have made
            e.furthest_ = place & 0x3Fu;
            e.attempt_ = 1;
        }
    }
    /// The held event gives way to others, and what is known of it stays: letters, attempts,
    /// outcome. With `held_at_` negated is_holding() is false, so all the rest of the engine reads
    /// on as ever; only this room knows where it stands.
    static void set_aside(engine& e) {
        e.held_at_ = ~e.held_at_;
        e.aside_ = 1;
    }
    /// The others are committed: it is the next event again, as soon as what it waits for allows.
    static void bring_back(engine& e) {
        e.held_at_ = ~e.held_at_;
        e.aside_ = e.reached_ = 0;
        wait_for_held(e);
    }
    /// The held event is done in this unit.
    static bool holds_done(const engine& e) { return e.aside_ != 0 && ~e.held_at_ <= e.at_; }

    /// The handlers of the held event that are to be called now; its letters come first.
    static uint32_t next_pass(engine& e, delivery& d) {
        // The last rollback has taken its letters back. They are put again in each of its units,
        // with the same keys, before a handler is called that would have to be undone if they are
        // refused (G12).
        while (e.put_ != e.owed_ && put(e, d, e.put_))
            e.put_ = (e.put_ + 1u) & 7u;
        if (e.put_ != e.owed_) {
            if (e.letter_failures_ != 0) e.unit_ = unit::over;      // not merely pending
            return 0;
        }
        if (e.todo_ == 0) {             // the first pass in this unit
            e.todo_ = e.retry_;
            if (e.attempt_ != 0xFFFF) ++e.attempt_;
        }
        const uint32_t wanted = e.todo_;
        d.resumed = e.pending_;
        d.attempt = e.attempt_;
        e.todo_ = e.pending_ = 0;
        return wanted;
    }

    /// A failure, and what the policy wants. Nothing else is called in a unit that is lost.
    static void failed(engine& e, delivery& d, uint32_t bits, uint8_t handler, const failure& f,
                       decision decided) {
        const bool is_letter = decided.what() == decision::kind::letter;
        // A letter of no handler is one of all handlers. Those that were given up before would get
        // the event twice, by their own and by this one, and theirs was rolled back.
        if (is_letter && handler == no_handler) e.owed_ = e.put_ = 0;
        // The handlers behind this one wait for the next unit: here all they do would be undone.
        d.mask = d.rest = 0;
        if (e.is_in_unit()) e.unit_ = unit::over;
        // What a policy decides takes place only after the rollback: wait_for_held() waits or halts
        // then.
        if (decided.what() == decision::kind::retry) {
            e.retry_in_ = decided.wait_ms();
        } else if (decided.what() == decision::kind::halt ||
                   (is_letter && e.owed_ == owed_letters_max)) {        // nowhere to note it
            e.halts_ = 1;
        } else {                        // given up; the others have all of their attempts
            // Nor is anybody left in who is never called: if nobody is left, a commit that fails is
            // not blamed on this event.
            e.retry_ &= ~bits & handlers_mask(*d.to) & ~(d.replaying ? d.to->live_only : 0u);
            e.attempt_ = 0;
            e.furthest_ = 0;
            if (is_letter) return owe(e, f, handler);
            e.worst_ = outcome::skipped;
            e.notify(notice_kind::event_skipped, status::ok, &f);
        }
    }

    /// A letter, for all units of the event: of its attempts as many as there is room for. Two bits
    /// of the attempts lie between code and kind, two above the six of the handler: codes have 28
    /// bits, handlers are 32 at most. A letter's event is not kept; next_pass() has it at hand
    /// again.
    static void owe(engine& e, const failure& f, uint8_t handler) {
        const uint32_t attempts = sooner(f.attempts, 15);
        e.letters_[e.owed_] = f.code << 4 | (attempts & 3u) << 2 | static_cast<uint32_t>(f.kind);
        e.letter_handlers_[e.owed_++] =
            static_cast<uint8_t>((attempts & 12u) << 4 | (handler & 0x3Fu));
    }
    /// Offers one of the letters owed. The policy is not asked a second time: it may say something
    /// else.
    static bool put(engine& e, delivery& d, uint8_t which) {
        const uint32_t word = e.letters_[which];
        const uint8_t other = e.letter_handlers_[which];
        const uint8_t handler = other & 0x3Fu;
        failure f = e.describe(d, handler == (no_handler & 0x3Fu) ? no_handler : handler,
                               static_cast<failure_kind>(word & 3u), word >> 4);
        f.attempts = (word >> 2 & 3u) | (other >> 4 & 12u);
        return e.put_letter(f);
    }

    /// Whether the held event has its outcome; else, when to go on with it.
    static bool is_done(engine& e, const delivery& d, outcome& result) {
        if (e.is_in_unit() && e.todo_ == 0 && e.put_ == e.owed_) {
            if (e.worst_ == outcome::handled) e.worst_ = result;
            result = e.worst_;
            set_aside(e);               // not forgotten before it is committed
            return true;
        }
        e.print_ = print_of(*d.event);
        // A letter or handler that is pending keeps the unit open: the effects of its siblings are
        // in it.
        if (e.is_in_unit()) {           // else it is rolled back, first of all
            const uint32_t letter_ms = e.put_ != e.owed_ ? e.letter_in_ : never;
            e.wait(sooner(d.wait_ms, letter_ms),
                   e.pending_ != 0 ? status::pending : status::dead_letter_failed, true);
        }
        return false;
    }

    /// After what a tick does in a unit: goes on with it later, commits it, or takes it back.
    static void finish(engine& e) {
        const bool is_waiting = e.is_holding() && (e.todo_ != 0 || e.put_ != e.owed_);
        const bool is_late = e.is_dirty() && e.save_in_ == 0;
        if (e.unit_ == unit::over) return take_back(e);
        // A pending event alone may take for ever. With others in the unit, unit_ms_max ends it:
        // they are not to stay invisible because one is slow. They cannot be committed as they are,
        // since what the pending one has done so far is among their effects. A pause, too, leaves
        // no transaction open.
        if (is_waiting && !is_late && e.paused_ == 0) return;
        if (is_waiting || (!e.is_dirty() && !is_reading(e))) return take_back(e);
        if (!e.is_dirty()) {
            // A read is pending. Its wait may be `never`, ended by wake() alone; the unit's time is
            // not (G27).
            e.read_in_ = sooner(e.read_in_, e.save_in_);
            return;
        }
        // While save() or commit() is pending, save_in_ is its wait, and it is called when that is
        // over.
        if (!e.is_save_pending() || is_late) commit(e);
    }

    /// Nothing is in it yet, because read() is pending: it is asked again, in this unit.
    static bool is_reading(const engine& e) {
        return e.why_ == status::pending && e.save_in_ != 0 && e.paused_ == 0;
    }

    /// Save and commit, over as many ticks as they are pending. A save that is in the unit is not
    /// called again while the commit is pending: the store would compare it with itself, and answer
    /// conflict.
    static void commit(engine& e) {
        const unit_of_work& u = e.what_->transaction;
        const checkpoint next = record_of(e);
        const bool is_saving = e.unit_ == unit::open;
        if (is_saving && e.saving_ != saving::committing && !save(e, next)) return;
        if (!e.may_begin()) return take_back(e);        // no other engine finds it open
        const status s = ask([&]() { return u.commit(u.self); });
        if (s == status::ok) {
            e.unit_ = unit::none;
            return committed(e, next, is_saving);
        }
        if (s == status::pending) {
            e.saving_ = saving::committing;
            e.save_in_ = e.what_->pending_ms;
            return;
        }
        e.notify(notice_kind::store_failed, status::unit_of_work_failed);
        // No checkpoint is in it, so no record could tell: it counts as not done, and the message
        // is handled once more.
        if (!is_saving) return narrow(e);
        e.unit_ = unit::over;           // perhaps it is done: the record tells
        e.saving_ = saving::uncertain;
        e.read_in_ = 0;
        static_cast<void>(is_gone(e));
    }

    /// What the checkpoint of a unit says.
    PROJECTIONS_ONCE_ static checkpoint record_of(const engine& e) { return e.next_record(e.at_); }

    /// Puts the checkpoint among the effects, as the last of them, so that both become durable by
    /// one commit. False: it is not in the unit.
    static bool save(engine& e, const checkpoint& next) {
        const status s = e.try_to_save(next);
        if (s == status::ok || s == status::pending) return s == status::ok;
        // Whether it failed or was refused, the effects may not be committed without it (G1, G21).
        take_back(e);
        if (s == status::conflict) {
            e.saving_ = saving::refused;
            // Loaded at once, unless the rollback is pending: then is_gone() has set the wait for
            // that.
            if (e.unit_ == unit::none) e.read_in_ = 0;
        } else {
            e.notify(notice_kind::checkpoint_failed, status::checkpoint_failed);
            wait_longer(e, status::checkpoint_failed);
        }
        return false;
    }

    /// Now what is in it counts. Forgets the event that was set aside only here: had the commit
    /// failed, it would still be known how many attempts were made and which letters are owed.
    static void committed(engine& e, const checkpoint& now, bool is_saved) {
        if (holds_done(e)) e.forget_held();
        // Units grow again by one doubling for each commit. A database that takes no large units
        // for a while is not offered one right after the first small one.
        e.narrowed_ = (e.narrowed_ - (e.narrowed_ != 0 ? 1u : 0u)) & 31u;
        e.saving_ = saving::none;
        e.saving_events_ = e.unsaved_;
        if (is_saved) e.saved(now);
        else e.unsaved_ = e.save_failures_ = 0;
        if (e.role_->committed != nullptr) e.role_->committed(e);
        if (e.reached_ != 0) bring_back(e);
    }
    /// Takes what is in the unit off the counters. Of the four outcomes that several of its events
    /// may have, begin() has noted the low 16 bits. Any rarer one is that of the held event, of
    /// which a unit has one at most. The rest was handled. So an engine needs no second set of
    /// counters.
    static void count(const engine& e, event_count* counts) {
        event_count others = 0;
        for (size_t i = 0; i < common_outcomes; ++i) {
            const event_count now = e.counts_[i + 1] - e.before_unit_[i];
            counts[i + 1] -= now & 0xFFFFu;
            others += now & 0xFFFFu;
        }
        if (holds_done(e) && static_cast<size_t>(e.worst_) > common_outcomes) {
            --counts[static_cast<size_t>(e.worst_)];
            ++others;
        }
        counts[static_cast<size_t>(outcome::handled)] -= e.unsaved_ - others;
    }

    /// After a commit that was not answered with ok, and its rollback. False: somebody else has
    /// saved.
    static bool settle(engine& e, const checkpoint& found) {
        // Ours is the next revision under our token. The position says nothing by itself: the next
        // owner may stand where this unit would have ended (G21). A store that keeps positions only
        // leaves no other choice, and there it counts if it has moved at all.
        const bool is_partial = e.what_->accept_partial_records;
        const bool is_ours = found.revision == e.record_.revision + 1 &&
                             found.fencing_token == e.record_.fencing_token;
        const bool has_moved = e.at_ != e.record_.at;       // else it was a record alone
        const bool is_done = found.at == e.at_ && (is_ours || (is_partial && has_moved));
        const bool is_old = found.at == e.record_.at &&
                            (found.revision == e.record_.revision || is_partial);
        if (is_done) committed(e, record_of(e), true);
        else if (is_old) narrow(e);
        else forget(e);
        return is_done || is_old;
    }

    /// Not committed: again with half of the events, so that one that cannot be is found. The
    /// policy speaks of it when it is alone.
    static void narrow(engine& e) {
        // What take_back() and forget() are about to clear.
        const uint32_t events = e.unsaved_;
        const position at = e.at_;
        if (e.is_in_unit()) take_back(e);
        else forget(e);
        if (events == 0) return wait_longer(e, status::unit_of_work_failed);    // a record alone
        if (events > 1) {
            // At most half of what could not be committed, also where that was less than a whole
            // unit.
            uint8_t times = 0;
            while (size_of_unit(e) >> times > events / 2) ++times;
            e.narrowed_ = times & 31u;
            return wait_longer(e, status::unit_of_work_failed);
        }
        if (e.held_at_ != at) {         // no handler has failed for it
            e.held_at_ = at;
            hold(e, true, 0);
            e.attempt_ = 0;
        }
        if (e.retry_ == 0) return wait_longer(e, status::unit_of_work_failed);  // not its fault
        // The policy is asked when the event is read again, since it and its letter need to see it;
        // and outside of a unit, where nothing has to be rolled back for that. Its backoff takes
        // the place of the store's.
        e.uncommitted_ = 1;
        e.more_ = 0;
        e.save_failures_ = 0;
    }
    /// Backoff without end and without a halt: a database that is away comes back. A rollback that
    /// is pending comes before, and is_gone() takes up this wait after it.
    static void wait_longer(engine& e, status why) {
        e.save_failures_ = increased(e.save_failures_);
        e.save_in_ = e.delay(e.save_failures_);
        if (e.unit_ == unit::none) e.wait(e.save_in_, why, false);
    }

    /// Forgets what was done in the unit. All that is done again has to come out as the first time,
    /// so position, counters and attempts go back to what they were at begin(). A failure stays an
    /// attempt.
    static void forget(engine& e) {
        if (e.stage_ == engine::stage::ending && e.at_ > e.record_.at && !e.is_holding()) {
            e.save_first_ = true;       // not to be saved any more, and reported so
            e.untold_ = 1;
        }
        // Before the rest, which clears what this looks at.
        count(e, e.counts_);
        // What was not the event's fault is no attempt of it.
        const bool is_waiting = e.is_in_unit() && e.todo_ != 0;
        if ((is_waiting || holds_done(e)) && e.attempt_ != 0) --e.attempt_;
        if (holds_done(e)) {
            e.held_at_ = ~e.held_at_;
            e.aside_ = 0;
            --e.unsaved_;
        }
        // Others were done in this unit: they come first, and are committed without this one (G18).
        if (e.is_holding() && e.unsaved_ != 0) set_aside(e);
        e.saving_ = saving::none;
        e.todo_ = e.pending_ = 0;
        e.put_ = e.reached_ = 0;
        e.at_ = e.record_.at;
        e.unsaved_ = 0;
        e.caught_up_ = false;
        // What it waited for was waited for in this unit; the rollback follows at once.
        e.read_in_ = 0;
        if (e.letter_failures_ == 0) e.letter_in_ = 0;
    }
    /// For a reset, or a record that is loaded anew: the log is read from elsewhere, so that what
    /// was known of it is forgotten, too. The rollback is left to the next tick, which can wait for
    /// it.
    static void drop(engine& e) {
        if (e.is_tentative()) forget(e);
        if (e.is_in_unit()) e.unit_ = unit::over;
        e.more_ = 0;
        e.narrowed_ = 0;
    }
    /// The unit is lost, whatever the reason, and what was in it is to be done again. One attempt
    /// at the rollback is made at once.
    static void take_back(engine& e) {
        forget(e);
        e.unit_ = unit::over;
        e.save_in_ = 0;                 // it was the unit's time, not a save's
        static_cast<void>(is_gone(e));
    }

    /// Asks for the rollback of a unit that is over. False: not yet. Whatever it answers but
    /// pending, the unit is over: the port promises that what is left of it takes no later save()
    /// along. Asking a failing rollback again would keep the engine from all work.
    static bool is_gone(engine& e) {
        const unit_of_work& u = e.what_->transaction;
        if (e.read_in_ != 0) return false;
        const status s = ask([&]() { return u.rollback(u.self); });
        // A wake() may end this wait, but no backoff that follows it.
        if (s == status::pending) return e.wait(e.what_->pending_ms, status::pending, true);
        e.unit_ = unit::none;
        if (s != status::ok) e.notify(notice_kind::store_failed, status::unit_of_work_failed);
        if (e.is_refused()) return true;        // first of all the record is loaded
        if (e.is_holding()) wait_for_held(e);
        else if (e.save_failures_ != 0) e.wait(e.save_in_, e.why_, false);
        return true;
    }

    /// The held event is the next: says when it may be tried. Policy, sink and store may each ask
    /// for a wait; the longest counts, and its reason is told. A halt comes only here, after the
    /// rollback, so that nobody who acts on it finds a transaction open.
    static void wait_for_held(engine& e) {
        const failure_record& last = e.last_failure_;
        // A handler may answer with the very code of a commit; then it is named as the one that
        // failed.
        const bool is_commit = last.code == code_uncommitted && last.handler.empty();
        status why = is_commit ? status::unit_of_work_failed : status_of(last.kind);
        uint32_t ms = e.retry_in_;
        if (e.stage_ != engine::stage::working) return;
        if (e.halts_ != 0) {
            e.halt(why);
            return;
        }
        if (e.letter_in_ > ms) {
            ms = e.letter_in_;
            why = status::dead_letter_failed;
        }
        if (e.save_failures_ != 0 && e.save_in_ > ms) {
            ms = e.save_in_;
            why = status::unit_of_work_failed;
        }
        e.wait(ms, ms != 0 ? why : status::ok, false);
    }

    /// The run ends. False: not before the unit is committed or rolled back. What is whole was
    /// committed by this tick already, or its commit is pending and is waited for. What is not
    /// whole is rolled back at once. After stop_ms nothing is waited for, not even a rollback.
    static bool leave(engine& e) {
        const bool is_late = e.retry_in_ == 0;
        const bool is_lost = e.what_->lease != nullptr && e.lease_ != leasing::ours;
        if (e.is_in_unit() && (e.is_holding() || is_late || is_lost)) take_back(e);
        return e.unit_ == unit::none || is_late;
    }
};

} // namespace detail

// Only begin_function refers to it, which a port has that names a begin(): a program without units
// does not link this room.
PROJECTIONS_SHARED_ const detail::unit_keeper detail::unit_code::keeper{
    &unit_hooks::validate, &unit_hooks::is_gone, &unit_hooks::read, &unit_hooks::begin,
    &unit_hooks::enter, &unit_hooks::next_pass, &unit_hooks::hold, &unit_hooks::failed,
    &unit_hooks::is_done, &unit_hooks::finish, &unit_hooks::settle,
    &unit_hooks::count, &unit_hooks::drop, &unit_hooks::leave};

// ---- the sequences of letters
//
// Once a handler has a letter about an aggregate, no later event of it may overtake that letter:
// each becomes a letter of the same handler, untried (G7). Which handler waits for which aggregate
// is kept twice: durably by the letters, and here as a table of hashes, so that an event costs a
// look in memory and no question to a store. The letters are the truth. The table is filled from
// them after each load of a record, before anything is read, so nothing of it has to survive a
// crash, and a partition that moves to another process takes its sequences along.
//
// - block: a sequence gets its place before its first letter is put. The other way round, a table
//   that is full would be found out when the letter is durable, and the next event would overtake
//   it.
// - divert: before the handlers of an event are called, those that wait are taken out, and a letter
//   is put in place of each call.
// - redeliver: one letter a call, from the front: handler, then evict. Events that come between two
//   calls still go behind the others, so the order holds until none is left; only then is the place
//   free. The checkpoint has passed all of these events and is not touched.
// - release: the place alone is given up, by hand.
//
// A crash between handler and evict() gives the event to its handler once more; in a unit of work
// both are durable or neither is. Two sequences whose 64 bits are the same would be taken for one.

namespace detail {

struct sequence_hooks {
    /// All four or none: with letters that can be put and not asked for again, the order would be
    /// lost with the first restart.
    static status validate(const projection& p) {
        const dead_letter_sink& sink = p.dead_letters;
        return sink.put != nullptr && sink.evict != nullptr && sink.sequences != nullptr
                   ? status::ok : status::no_dead_letter_sink;
    }

    /// 64 bits of handler and aggregate: FNV-1a, and FNV-1a of all that this was on the way. (The
    /// byte between the two is in no UTF-8 text.)
    static uint64_t key_of(text handler, text aggregate_id) {
        uint32_t low = 2166136261u, high = 0;
        const auto mix = [&](char c) {
            low = (low ^ static_cast<unsigned char>(c)) * 16777619u;
            high = (high ^ low) * 16777619u;
        };
        for (const char c : handler) mix(c);
        mix('\xFF');
        for (const char c : aggregate_id) mix(c);
        const uint64_t hash = uint64_t{high} << 32 | low;
        return hash != 0 ? hash : 1;
    }
    /// The place of this sequence, or a free one that could be; nullptr: there is no room.
    static blocked_sequence* place_of(const engine& e, uint64_t key) {
        const sequences_of& table = e.what_->sequences;
        blocked_sequence* found = nullptr;
        // One loop for both, and to the end: a free place may lie before the one that is looked
        // for.
        for (size_t i = 0; i < table.count_; ++i) {
            blocked_sequence& one = table.places_[i];
            if (one.key == key && one.partition == e.part_index()) return &one;
            if (one.key == 0) found = &one;
        }
        return found;
    }
    /// The sequence, if it waits. Without a handler: the letters of events that none has seen.
    static blocked_sequence* find(const engine& e, text handler, text aggregate_id) {
        blocked_sequence* const found = place_of(e, key_of(handler, aggregate_id));
        return found != nullptr && found->key != 0 ? found : nullptr;
    }
    /// False: there is no room. Asked again for the same sequence it changes nothing, so every
    /// letter may ask.
    static bool block(const engine& e, text handler, text aggregate_id) {
        if (aggregate_id.empty()) return true;
        const uint64_t key = key_of(handler, aggregate_id);
        blocked_sequence* const place = place_of(e, key);
        if (place != nullptr && place->key == 0) *place = {key, e.part_index(), 0, before_first};
        return place != nullptr;
    }
    /// A place that was reserved for a letter that is then never put goes with the next recall().
    static bool reserve(engine& e, const failure& f) {
        return block(e, f.handler, f.event.aggregate_id);
    }

    /// With the number of the rebuild: letters of before it speak of a model that is gone, and are
    /// not asked for.
    static letter_sequence sequence_of(const engine& e, text handler, text aggregate_id) {
        return {e.what_->name, e.part_index(), e.record_.rebuild, handler, aggregate_id};
    }

    /// What waits, as the letters' store has it. False: not now.
    static bool recall(engine& e) {
        const sequences_of& table = e.what_->sequences;
        const dead_letter_sink& sink = e.what_->dead_letters;
        // Only those of this partition: the table may serve others, which have not loaded anything.
        for (size_t i = 0; i < table.count_; ++i) {
            if (table.places_[i].partition == e.part_index()) table.places_[i].key = 0;
        }
        sequence_visitor show(e);
        const status s = ask(
            [&]() { return sink.sequences(sink.self, sequence_of(e, {}, {}), show); });
        // What was shown before the failure stays in the table: nothing is read before all is
        // there.
        if (s != status::ok) return e.wait_after(s, status::dead_letter_failed);
        // With a part of them some aggregates would be out of order, so nothing begins. Whoever
        // releases or redelivers elsewhere makes room; wake() looks at once.
        if (!show.fits_) return e.wait(e.what_->poll_ms, status::sequences_full, true);
        e.read_failures_ = 0;
        e.asking_ = asking::first;
        return true;
    }

    /// Handlers that have letters about the aggregate get one more, untried.
    static void divert(engine& e, delivery& d) {
        const sequences_of& table = e.what_->sequences;
        const routes& to = e.what_->handlers;
        const text aggregate_id = d.event->aggregate_id;
        // Mostly nothing waits: then no event pays for the hash of its handlers.
        bool is_empty = true;
        for (size_t i = 0; i < table.count_; ++i) is_empty = is_empty && table.places_[i].key == 0;
        if (is_empty || aggregate_id.empty() || d.mask == 0) return;
        // An event of this aggregate could not be decoded, or its commit failed: no handler has
        // seen it, so all of them wait, and one letter of no handler stands for all.
        if (find(e, {}, aggregate_id) != nullptr) {
            const uint32_t bits = d.mask;
            d.mask = 0;
            // (That of this very event is put once: it stands for whoever is left, too.)
            if (e.is_holding() &&
                (e.owed_ != 0 || (!e.has_units() && e.worst_ != outcome::handled)))
                return;
            return put_untried(e, d, bits, no_handler);
        }
        for (unsigned i = 0; i < d.to->handlers; ++i) {
            const uint32_t bit = uint32_t{1} << i;
            if ((d.mask & bit) == 0) continue;
            const text handler = to.table->handler_name(to.self, *to.table, *d.to, i);
            if (find(e, handler, aggregate_id) == nullptr) continue;
            d.mask &= ~bit;
            // (Where it is refused and the unit is lost nobody is left in the mask.)
            put_untried(e, d, bit, static_cast<uint8_t>(i));
        }
    }
    /// A letter in place of a call. The event is held for it like one that failed, so that it is
    /// not passed before the letter is durable (G1, G12); a handler whose letter is not taken stays
    /// to be called, and comes here again.
    static void put_untried(engine& e, delivery& d, uint32_t bits, uint8_t handler) {
        e.hold(d, 0);
        if (e.letter_in_ == 0) {
            failure f = e.describe(d, handler, failure_kind::transient, code_sequenced);
            f.attempts = 0;
            if (e.put_letter(f)) return;
            if (e.is_in_unit() && e.letter_failures_ != 0) {    // not merely pending
                --e.attempt_;                                   // nor an attempt of the others
                e.unit_ = unit::over;
                d.mask = 0;
            }
        }
        e.todo_ |= bits;
        d.wait_ms = sooner(d.wait_ms, e.letter_in_);
    }

    // ---- redelivery

    /// Works between two ticks, as if it were one: no callback may come back into the engine, and
    /// the lease has to be claimed, or a former owner would take letters away from the next.
    static status redeliver(engine& e, text handler, text aggregate_id) {
        if (e.ticking_) return status::reentered;
        if (!e.loaded_ || !e.may_save()) return status::not_loaded;
        if (e.what_->lease != nullptr && !e.has_lease()) return status::lease_held;
        e.ticking_ = true;
        if (e.unit_ == unit::over && !e.running()) {    // no tick will ask for its rollback
            e.read_in_ = 0;
            static_cast<void>(e.units().is_gone(e));
        }
        // What is open or pending is not the letter's: its begin() or commit() would be mixed up
        // with that.
        const bool is_free = e.unit_ == unit::none && !e.is_save_pending() && !e.is_refused();
        const status s = is_free ? redeliver_first(e, sequence_of(e, handler, aggregate_id))
                                 : status::pending;
        e.ticking_ = false;
        return s;
    }
    /// Handler, evict and commit, and if that does not come to its end, the rollback. What is
    /// pending is begun anew by the next call.
    static status redeliver_first(engine& e, const letter_sequence& of) {
        const unit_of_work& u = e.what_->transaction;
        if (!e.may_begin()) return status::lease_held;
        status s = e.has_units() ? ask([&]() { return u.begin(u.self); }) : status::ok;
        if (s != status::ok) return s == status::pending ? s : status::unit_of_work_failed;
        letter_visitor show(&deliver_letter, e, of);
        s = take_first(e, of, show);
        // The lease may have ended in the handler: then nothing of it is committed (G20).
        if (e.has_units() && s == status::more && e.may_begin()) {
            const status done = ask([&]() { return u.commit(u.self); });
            if (done == status::ok) return s;
            s = status::unit_of_work_failed;            // perhaps done: the next call looks again
        }
        if (e.has_units()) {
            if (s == status::more) s = status::lease_held;
            e.unit_ = unit::over;       // a rollback that is pending, the next tick repeats
            const uint32_t left_ms = e.read_in_;
            const status why = e.why_;
            const bool is_wakeable = e.wakeable_;
            e.read_in_ = 0;
            if (e.units().is_gone(e)) e.wait(left_ms, why, is_wakeable);
        }
        // No letter is left, by what the store says: later events may be handled again.
        if (s == status::ok) detail::release(e, of.handler, of.aggregate_id);
        // The new code and attempts are put outside of any unit: in the one that failed they would
        // be rolled back with it. While that one's rollback is pending they are left out.
        const bool has_failed = show.said_ != handled && s != status::pending &&
                                e.unit_ == unit::none;
        return has_failed ? requeue(e, of, show) : s;
    }
    /// more: it was handled, and is evicted. ok: there is none. Evicts after the handler, never
    /// before: a crash between them repeats an event and loses none.
    static status take_first(engine& e, const letter_sequence& of, letter_visitor& show) {
        const dead_letter_sink& sink = e.what_->dead_letters;
        status s = ask([&]() { return sink.first(sink.self, of, show); });
        if (s != status::ok && s != status::pending) s = status::failed;
        if (s != status::ok || show.at_ < 0) return s;
        if (show.answer_ != status::ok) return show.answer_;
        if (!e.may_begin()) return status::lease_held;
        s = ask([&]() { return sink.evict(sink.self, of, show.at_); });
        return s == status::ok ? status::more : s == status::pending ? s : status::failed;
    }
    /// The letter's event, for the one handler. `is_letter` keeps its answers from the error
    /// policy: a letter that fails again stays a letter, and the events that the engine holds or
    /// reads are not concerned.
    static void deliver_letter(letter_visitor& me, const stored_event& event) {
        engine& e = *me.engine_;
        const routes& to = e.what_->handlers;
        const route& found = detail::find(*to.table, event.type);
        delivery d(e);
        d.event = &event;
        d.to = &found;
        d.is_letter = true;
        d.attempt = me.attempts_ + 1;
        d.replaying = e.was_handled(event.at);
        uint32_t bits = 0;
        for (unsigned i = 0; i < found.handlers; ++i) {
            const text name = to.table->handler_name(to.self, *to.table, found, i);
            if (me.about_->handler.empty() || name == me.about_->handler) bits |= uint32_t{1} << i;
        }
        // Its handler or its type is gone from this program: the letter stays for one that has it.
        if (bits == 0) {
            me.answer_ = status::unknown_type;
            return;
        }
        if (d.replaying) bits &= ~found.live_only;      // perhaps it is for none of them: done
        blocked_sequence* const waits = find(e, me.about_->handler, me.about_->aggregate_id);
        // Only of this very letter: the one that was pending may have been taken away by somebody
        // else.
        if (waits != nullptr && waits->resumed_at == event.at) d.resumed = waits->resumed;
        if (d.resumed != 0) bits &= d.resumed;          // the others have said that it is handled
        const uint32_t pending = call_each(me, d, bits);
        if (waits == nullptr) return;
        // In a unit of work it begins anew: what was done in it is rolled back.
        waits->resumed = !e.has_units() ? pending : 0;
        waits->resumed_at = event.at;
    }
    /// The handlers one by one, until one fails. Those that are pending. Each by itself, because
    /// they share one `first_trouble`, and because each of them may come too late for the lease.
    /// One that is pending does not keep the others from being called.
    static uint32_t call_each(letter_visitor& me, delivery& d, uint32_t bits) {
        engine& e = *me.engine_;
        const route& to = *d.to;
        uint32_t pending = 0;
        for (; bits != 0; bits &= bits - 1) {
            if (!e.may_begin()) {
                me.answer_ = status::lease_held;
                return 0;
            }
            d.mask = bits & (~bits + 1);
            d.first_trouble = handled;
            to.call(e.what_->handlers.self, d);
            const verdict said = d.first_trouble;
            if (said == handled) continue;
            me.said_ = said;
            me.answer_ = status::pending;
            if (said.what() != verdict::kind::pending) {
                // undecodable() has taken the bits out of the mask; a handler's own reject() leaves
                // them in.
                me.answer_ = d.mask == 0 ? status::decode_failed : status::handler_failed;
                return 0;
            }
            pending |= bits & (~bits + 1);
        }
        return pending;
    }
    /// It failed again: the letter says so from now on. The event is needed for the letter, and is
    /// only there while first() shows it: so first() is asked once more. The caller is told how the
    /// handler failed when the sink has taken that.
    static status requeue(engine& e, const letter_sequence& of, const letter_visitor& failed) {
        const dead_letter_sink& sink = e.what_->dead_letters;
        letter_visitor show(&put_again, e, of);
        show.said_ = failed.said_;
        show.answer_ = failed.answer_;
        status s = ask([&]() { return sink.first(sink.self, of, show); });
        if (s == status::ok && show.at_ >= 0) s = show.answer_;
        if (s == status::ok) return failed.answer_;
        return s == status::pending || s == status::lease_held ? s : status::dead_letter_failed;
    }
    /// The same key, so it takes the place of the old letter and stays the first of its sequence.
    static void put_again(letter_visitor& me, const stored_event& event) {
        engine& e = *me.engine_;
        const dead_letter_sink& sink = e.what_->dead_letters;
        const failure_kind kind = me.answer_ == status::decode_failed ? failure_kind::decode
                                : me.said_.what() == verdict::kind::rejected
                                    ? failure_kind::permanent : failure_kind::transient;
        const failure f{kind, me.said_.argument(), me.attempts_ + 1,
                        e.was_handled(event.at), me.about_->partition,
                        me.about_->rebuild, me.about_->projection, me.about_->handler, event};
        // (The handler or first() may have outlasted the lease.)
        me.answer_ = e.may_begin() ? ask([&]() { return sink.put(sink.self, f); })
                                   : status::lease_held;
    }
};

/// What letter_sequences, a template, calls: so that the bodies stay out of it.
PROJECTIONS_BODY_ status redeliver(engine& e, text handler, text aggregate_id) {
    return sequence_hooks::redeliver(e, handler, aggregate_id);
}
PROJECTIONS_ONCE_ PROJECTIONS_BODY_ void
release(const engine& e, text handler, text aggregate_id) {
    blocked_sequence* const found = sequence_hooks::find(e, handler, aggregate_id);
    if (found != nullptr) found->key = 0;
}
PROJECTIONS_BODY_ bool is_blocked(const engine& e, text handler, text aggregate_id) {
    return sequence_hooks::find(e, handler, aggregate_id) != nullptr;
}

PROJECTIONS_SHARED_ const sequence_keeper sequence_code::keeper{
    &sequence_hooks::validate, &sequence_hooks::recall, &sequence_hooks::reserve,
    &sequence_hooks::divert};

} // namespace detail

PROJECTIONS_BODY_ void letter_visitor::operator()(const stored_event& event, uint32_t attempts) {
    if (at_ >= 0) return;       // one is enough
    at_ = event.at;
    attempts_ = attempts;
    then_(*this, event);
}

PROJECTIONS_BODY_ bool sequence_visitor::operator()(text handler, text aggregate_id) {
    fits_ = fits_ && detail::sequence_hooks::block(*engine_, handler, aggregate_id);
    return fits_;
}

// ---- the sink
//
// A sink does with a message what a read does with an event: the same handlers, policies, units and
// saves. What differs is who keeps a message that is not done. It is the broker, so nothing is
// buffered here, and each answer is a promise about what a crash may lose:
//
// - hold: not done. The broker keeps it; it is known again by its offset or, without one, by a
//   print of what it says. As long as it is held, no other is tried: those behind it would overtake
//   it (G7).
// - later: done, but the checkpoint is not saved. After a crash it has to come again.
// - ack: done, and the record that says so is durable, as are all before it (G1). One without an
//   offset has no record: it is answered so when it is done and, in a unit of work, committed.
// - reject: the policy wants a letter and there is no sink for it, so the broker keeps the message
//   as one. No save passes it before the broker was told: after a crash in between it comes again.
//
// A message at or below the last one done is a duplicate only if something says so: the broker,
// this run (`offered_from_` to `offered_through_`), the identity of the log, or the host at a
// hand-over. Else its source has begun anew, and taking new messages for old ones would lose them:
// it is held, with log_replaced (G5).
//
// A message without an offset gets the next number as its position, which lives in memory only
// (`unkept_`): the record goes along with it, so that nothing is ever to be saved, unless the count
// itself is wanted. Nothing tells whether such a message has come before.

namespace detail {

struct sink_hooks {
    static event_sink& of(engine& e) { return static_cast<event_sink&>(e); }

    /// What was offered to the last run says nothing of this one: the broker may have begun
    /// elsewhere.
    static status begin(engine& e) {
        event_sink& sink = of(e);
        sink.offered_from_ = sink.offered_through_ = before_first;
        sink.received_ = sink.rejected_ = sink.unkept_ = sink.is_simple_ = false;
        sink.unanswered_ = 0;
        return status::ok;
    }
    /// Subscribes; and a tick that follows another without a message between them is idle, unless
    /// one is to come again because the broker has not heard that it is to keep it.
    static bool prepare(engine& e) {
        event_sink& sink = of(e);
        const sink_options& with = sink.options_;
        sink.caught_up_ = !sink.received_ && sink.untold_ == 0;
        sink.received_ = false;
        const projection& p = *e.what_;
        if (!PROJECTIONS_SMALL_)
            sink.is_simple_ = p.log.bounds == nullptr && p.crashes == nullptr && !e.has_units() &&
                              e.unsaved_max() >= p.save.every_events && !e.needs_a_closer_look();
        // Not before the checkpoint is loaded and the lease is there: what came before would be
        // held.
        if (sink.subscribed_ || with.client.subscribe == nullptr) return true;
        const status s = ask(
            [&]() { return with.client.subscribe(with.client.self, with.topic, with.queue); });
        sink.subscribed_ = s == status::ok;
        return s == status::ok || sink.wait_after(s, status::store_failed);
    }
    /// Before the last save, so that no message arrives that would only be held. A broker that
    /// fails here does not keep the run from ending (G28).
    static bool leave(engine& e) {
        event_sink& sink = of(e);
        const sink_options& with = sink.options_;
        if (!sink.subscribed_) return true;
        const status s = ask(
            [&]() { return with.client.unsubscribe(with.client.self, with.topic, with.queue); });
        if (s == status::pending) return sink.wait(sink.what_->pending_ms, s, true);
        if (s != status::ok) sink.notify(notice_kind::store_failed, status::store_failed);
        sink.subscribed_ = false;
        return true;
    }
    /// In place of put(): nothing to wait for, since the broker has the message.
    static void reject(engine& e) { of(e).rejected_ = true; }
    /// After the commit of a unit, and after skip_failed(). The record goes along with a message
    /// that has no position, in memory. One that the broker is to keep stops all saves until
    /// receive() has said so: it may be committed by a tick, and nobody has told the broker yet.
    static void committed(engine& e) {
        event_sink& sink = of(e);
        if (sink.unkept_) {
            e.record_.at = e.at_;
            e.unsaved_ = 0;
        }
        sink.committed_ = true;
        e.untold_ = sink.rejected_ && !sink.unkept_ ? 1 : 0;    // no save could pass that one
    }
};

} // namespace detail

// In the order of detail::role: is_fed, is_rebuilding; begin, key, batch, prepare, leave, reject,
// adopt, part, is_ours, may_hold, committed.
PROJECTIONS_SHARED_ const detail::role event_sink::kind{
    true, false, &hooks::begin, nullptr, nullptr, &hooks::prepare, &hooks::leave, &hooks::reject,
    nullptr, nullptr, nullptr, nullptr, &hooks::committed};

/// The positions that this run has seen are a range, since offsets grow. That the record has an
/// identity is enough where there is bounds(): of another log it would have halted the sink.
PROJECTIONS_BODY_ event_sink::place event_sink::place_of(position offset,
                                                         bool is_redelivered) const {
    if (offset > at_) return place::fresh;
    const bool was_offered = offset >= offered_from_ && offset <= offered_through_;
    const bool is_same_log = what_->log.bounds != nullptr && record_.log_id != 0;
    return is_redelivered || was_offered || is_same_log || offset <= accepted_ ? place::duplicate
                                                                              : place::other_source;
}

/// Whether a tick would find something to do or to wait for. After most messages it would not: the
/// last one has found it so (idle, which a command ends), and nothing has come since, no request,
/// no save that is not done, no message that is held or halts. (Not asked where size counts.)
PROJECTIONS_BODY_ bool event_sink::needs_a_tick(uint32_t elapsed_ms) const {
    return !is_plain() || state_ != run_state::idle || woken() ||
           saving_ != detail::saving::none ||
           (save_in_ <= elapsed_ms && is_dirty()) || unsaved_ >= what_->save.every_events;
}

/// A tick comes first, if there is anything for it to do: it loads, keeps the lease and saves what
/// is due, so that a host that has messages without pause need not call tick() besides. After it
/// the sink works (ok), or the message is held with the reason why it does not.
PROJECTIONS_ONCE_ PROJECTIONS_BODY_ receive_result event_sink::get_to_work(uint32_t now_ms) {
    if (!PROJECTIONS_SMALL_ && !needs_a_tick(passed_ms(now_ms))) {
        // What a tick would change even so: the time, and that the source is not idle.
        age(now_ms);
        received_ = true;
        caught_up_ = false;
        return {receipt::hold, 0, status::ok};
    }
    // Before the tick, so that this one does not count as idle; and after it, since prepare() takes
    // it back, so that the next one does not, either.
    received_ = true;
    tick_result now = tick(now_ms);
    received_ = true;
    // It may have done no more than save: what comes before a message is then due at once.
    if (looked_ == 0 && now.wait_ms == 0 && stage_ == stage::working && unconfirmed_ == 0 &&
        unit_ == detail::unit::none) {
        now = tick(now_ms);
        received_ = true;
    }
    // Nothing stood in the way of a read, nor has a save since then put itself there. (Whether the
    // lease is still ours is asked before each call, as in a read.)
    if (looked_ != 0 && !only_saves() && !is_refused()) return {receipt::hold, 0, status::ok};
    const status why = now.reason != status::ok ? now.reason
                     : !running()               ? status::stopped
                     : paused_ != 0             ? status::paused
                     : !loaded_                 ? status::not_loaded
                                                : status::pending;
    return {receipt::hold, now.wait_ms, why};
}

/// Whether a message is the held one, a duplicate or new is asked in this order, so that none is
/// handled that a former answer speaks of.
PROJECTIONS_BODY_ receive_result event_sink::receive(const stored_event& message, uint32_t now_ms,
                                                     bool redelivered) {
    if (ticking_) return {receipt::hold, what_->pending_ms, status::reentered};
    const receive_result ready = get_to_work(now_ms);
    if (ready.reason != status::ok) return ready;
    // Without offsets nothing tells a duplicate: offer() only looks whether another one is held.
    if (message.at < 0) {
        const bool is_untold = untold_ != 0 && (detail::print_of(message) | 1u) != unanswered_;
        if (!is_untold) return offer(message, false);
        return {receipt::hold, what_->pending_ms, status::pending};
    }
    if (message.at == held_at_) return offer(message, true);        // none is held below 0
    const place where = place_of(message.at, redelivered);
    // Also while another is held: a broker that hands out one message at a time, and after a crash
    // begins with old ones, would else never come to that other.
    if (where == place::duplicate) {
        count_as(detail::outcome::not_ours);
        if (is_tentative())     // not of the unit that is open
            ++before_unit_[static_cast<size_t>(detail::outcome::not_ours) - 1];
        // Offered again because the answer was lost: it gets the same one.
        if (rejected_ && message.at == at_ && message.at == offered_through_) return rejected();
        return {message.at <= record_.at ? receipt::ack : receipt::later, 0, status::ok};
    }
    // The source has gone back, as after a record that was loaded anew: what is held comes again
    // behind this one, which would else wait for it for ever.
    if (where == place::fresh && is_holding() && message.at < held_at_) {
        drop_held();
        return {receipt::hold, 0, status::pending};
    }
    // One waits for another that is held, or done while the broker does not yet know its letter.
    if (is_holding() || untold_ != 0) return {receipt::hold, what_->pending_ms, status::pending};
    // As inside a tick, so that an observer that calls back does not begin one.
    if (where == place::other_source) {
        ticking_ = true;
        notify(notice_kind::store_failed, status::log_replaced);
        ticking_ = false;
        return {receipt::hold, what_->poll_ms, status::log_replaced};
    }
    // Noted before it is tried: it counts as offered whatever becomes of it.
    if (offered_from_ < 0) offered_from_ = message.at;
    offered_through_ = message.at;
    return offer(message, true);
}

/// Does with one message what a read does with one event.
PROJECTIONS_BODY_ receive_result event_sink::offer(const stored_event& message, bool has_offset) {
    stored_event event = message;
    detail::delivery d(*this);
    ticking_ = true;
    // A message that cannot be opened, or whose opening throws, fails for good without a handler;
    // the policy says what becomes of it.
    if (options_.open) {
        PROJECTIONS_TRY_ { d.is_hopeless = !options_.open(event); }
        PROJECTIONS_CATCH_ { d.is_hopeless = true; }
    }
    // After open(), which is not to say where a message stands.
    event.at = has_offset ? message.at : at_ + 1;
    d.is_unplaced = !has_offset;
    // Without an offset, and another than the one that is held: held untried.
    receive_result result{receipt::hold, what_->pending_ms, status::pending};
    const bool is_same = is_same_message(message);
    if (options_.open && is_same) print_ = 0;   // opened anew, perhaps with another result
    if (has_offset || is_same) {
        if (d.is_hopeless) fail_owed();
        result = handle(event, d, has_offset, message);
    }
    // The engine has noted what was opened; what comes again is compared before it is opened.
    if (options_.open && (has_offset || is_same) && held_at_ != before_first)
        print_ = detail::print_of(message);
    ticking_ = false;
    return result;
}

/// A held message that was opened before, and now cannot be: without its type nobody could say
/// whose letters are owed. Those handlers fail once more, with the message as it is.
PROJECTIONS_OWN_FRAME_ PROJECTIONS_BODY_ void event_sink::fail_owed() {
    uint32_t bits = 0;
    for (uint8_t i = 0; i < owed_; ++i) {
        const uint32_t handler = letter_handlers_[i] & 0x3Fu;   // a unit has put more beside it
        if (handler < 32) bits |= uint32_t{1} << handler;
    }
    if (bits == 0) return;              // none, or one of all handlers
    owed_ = put_ = 0;
    (has_units() ? retry_ : todo_) |= bits;
}

/// A message without an offset: whether it is the one that is held.
PROJECTIONS_ONCE_ PROJECTIONS_BODY_ bool
event_sink::is_same_message(const stored_event& message) const {
    if (!is_holding() || (print_ | unanswered_) == 0) return true;
    // Held because its commit failed, it has not been printed by a handler's failure.
    const uint32_t print = detail::print_of(message);
    return print_ == 0 ? (print | 1u) == unanswered_ : print == print_;
}

/// One message, from begin to commit. `unanswered_` is the print of a message without an offset
/// that was answered hold: perhaps it was done and its commit not answered with ok. A later tick
/// may commit it or find that it is committed, and then it must not be handled a second time when
/// it comes again. Another message than that one ends the memory of it.
PROJECTIONS_BODY_ receive_result event_sink::handle(const stored_event& event, detail::delivery& d,
                                                    bool has_offset,
                                                    const stored_event& message) {
    constexpr receive_result acknowledged{receipt::ack, 0, status::ok};
    // Never 0, which stands for none.
    const uint32_t print = has_offset || !has_units() ? 0 : detail::print_of(message) | 1u;
    const bool was_committed = print != 0 && print == unanswered_ && committed_;
    unanswered_ = 0;
    if (was_committed) return rejected_ ? rejected() : acknowledged;
    if (!is_holding()) rejected_ = false;
    unkept_ = !has_offset && !options_.count_messages;
    const bool was_dirty = is_dirty();
    const bool is_fast = is_plain() && !d.is_hopeless;
    visitor v(*this, d, 1, is_fast);
    why_ = status::ok;
    // A worker looks at the log first; here the event is at hand. Where the last commit of this
    // message failed, the policy is to be asked, outside of a unit.
    if (has_units() && !is_in_unit() && uncommitted_ == 0) {
        const gap_guard* const gaps = what_->gaps;      // a hole is not passed inside a unit
        if ((gaps != nullptr && !gaps->passes_(*this, event.at)) || !units().begin(*this))
            return {receipt::hold, wait_ms(), why_};
    }
    static_cast<void>(is_fast ? v(event) : take_closely(v, event));
    count(d, v.wanted() == 0 ? 1 : 0);
    // The checkpoint stays out of the unit: there is no position to save, or it would pass a
    // message that the broker was not yet told to keep. (If a crash comes before that is told, the
    // message comes again, and handlers that were done with it handle it twice.)
    if (unit_ == detail::unit::open && (unkept_ || rejected_)) unit_ = detail::unit::bare;
    if (unit_ != detail::unit::none) save();
    if (!has_offset && is_holding() && print_ == 0) print_ = detail::print_of(message);
    // Not `wanted()` alone: in a unit it counts when it is committed.
    const bool is_done = v.wanted() == 0 && done_through() >= event.at;
    if (is_done && unkept_) hooks::committed(*this);    // nothing that a save could keep
    if (unit_ == detail::unit::none) passed_first(was_dirty);
    // A letter that is the broker's is not passed by the checkpoint before the broker was told.
    if (stage_ == stage::working && unit_ == detail::unit::none && !is_refused() &&
        save_is_due() && !(is_done && rejected_)) {
        save();
    }
    if (stage_ == stage::ending) end();
    if (!is_done) {
        // Done, and its commit has not said so: for the broker that is hold, as for one that was
        // not tried. (A unit that was committed without it, to name it, says nothing of it.)
        if (v.wanted() == 0) {
            unanswered_ = print;
            committed_ = false;
        }
        // It halted for this message, or ended in the meantime.
        if (!running()) return {receipt::hold, never, reason_};
        return {receipt::hold, read_in_ == 0 && !only_saves() ? 0 : wait_ms(), why_};
    }
    if (rejected_) return rejected();
    return at_ <= record_.at ? acknowledged : receive_result{receipt::later, 0, status::ok};
}

// ---- the replay
//
// A rebuild is an engine whose next step is read from its record: `replay_stage` is saved before
// the step that it names is begun, so a start after a crash needs nothing else (G23). What a crash
// leaves:
//
// - before the marker is saved: nothing, the projection is as it was;
// - stage 1: a model that may be dropped, or half of it, or not at all. It is dropped again,
//   whatever it was: so on_drop has to bear being called twice, and an empty model never stands
//   under a full checkpoint;
// - stage 2: a model that is right up to the position that is saved, and perhaps beyond: the events
//   after that position are handled again;
// - stage 0: all is done.
//
// Until then every worker and sink of this name finds a stage in the record, and halts with
// rebuild_unfinished. The marker is read back before anything is dropped: a store that keeps only
// the position could keep no worker away.
//
// All partitions of a projection share one model and so one drop. The record of partition 0 is the
// engine's own and carries the stage of all: each of the others is marked before the drop, one a
// tick. Afterwards each is set back and released, and its worker reads again what is its own,
// silently up to where it had been (G25). What a marked partition had done is kept in
// `replayed_through`.

namespace detail {

// Kept in records: never to be given another meaning.
inline constexpr uint8_t stage_marked = 1;
inline constexpr uint8_t stage_running = 2;
inline constexpr position end_of_log = last_position;   // as replayed_through: not known yet

struct replay_hooks {
    static replay_engine& of(engine& e) { return static_cast<replay_engine&>(e); }

    /// A key as long as any is tried first; the last that is spelled stays: the engine's own.
    static status begin(engine& e) {
        replay_engine& r = of(e);
        r.finished_ = false;
        r.other_token_ = 0;
        r.partition_ = 1;
        r.told_ = before_first - 1;
        if (r.options_.batch == 0 || r.options_.batch > batch_max) return status::bad_batch;
        if (r.options_.partitions == 0) return status::ok;
        const text name = r.what_->name;
        if (r.key_.spell(name, r.options_.partitions).empty()) return status::bad_key;
        r.key_.spell(name, 0);
        return status::ok;
    }
    static text key(const engine& e) {
        const replay_engine& r = static_cast<const replay_engine&>(e);
        return r.options_.partitions == 0 ? r.what_->name : r.key_.spelled();
    }
    /// After a lease was lost, a step is repeated from what was saved of it.
    static bool adopt(engine& e, checkpoint& found) {
        replay_engine& r = of(e);
        if (r.options_.partitions != 0 && found.partition_count != 0 &&
            found.partition_count != r.options_.partitions) {
            return r.halt(status::partition_count_changed);
        }
        r.finished_ = r.finished_ && found.replay_stage == 0;
        r.partition_ = 1;
        r.unconfirmed_ = 1;
        return true;
    }
    /// A rebuild has a batch of its own: nobody waits for its events as for live ones.
    static uint32_t batch(const engine& e) {
        return static_cast<const replay_engine&>(e).options_.batch;
    }
    /// One step a tick, by what the record says. A step that changes the stage asks for a save, and
    /// nothing else is done before that has worked. With stage 0 the rebuild is either to begin, or
    /// it was finished in this run.
    static bool prepare(engine& e) {
        replay_engine& r = of(e);
        switch (r.record_.replay_stage) {
        case stage_marked: return r.confirm() && r.visit_partitions(stage_marked) && r.drop();
        case stage_running: return r.go_through();
        default: return r.finished_ ? r.halt(status::ok) : r.begin();
        }
    }
};

} // namespace detail

// In the order of detail::role: is_fed, is_rebuilding; begin, key, batch, prepare, leave, reject,
// adopt, part, is_ours, may_hold, committed.
PROJECTIONS_SHARED_ const detail::role replay_engine::kind{
    false, true, &hooks::begin, &hooks::key, &hooks::batch, &hooks::prepare, nullptr, nullptr,
    &hooks::adopt, nullptr, nullptr, nullptr, nullptr};

/// Chooses the end and writes the marker; nothing is dropped that the log could not bring back.
PROJECTIONS_BODY_ bool replay_engine::begin() {
    const bool has_bounds = what_->log.bounds != nullptr;
    position trimmed = before_first;
    if (!knows_partitions() || (has_bounds && !ask_bounds(trimmed))) return false;
    // Asked before the marker: what the log has lost could never be handled again, and a projection
    // that is refused here has lost nothing (G5).
    const bool is_anywhere =
        options_.from == before_first && what_->first_start == begin_at::oldest_kept;
    if (options_.from < trimmed && !is_anywhere) return halt(status::log_trimmed);
    position& target = record_.replayed_through;
    // To where it had been. Of a projection that takes the place of another, events above its own
    // position were handled, too: so the later of the two.
    target = detail::later(record_.at, target);
    if (target == before_first && options_.partitions == 0)
        target = has_bounds ? newest_ : detail::end_of_log;
    // The log has less than what was handled: it is not the one, or it was cut off.
    if (has_bounds && target > newest_) return halt(status::checkpoint_ahead);
    record_.replay_stage = detail::stage_marked;
    // The number is part of each letter's key, so letters of before do not stand for those to come.
    ++record_.rebuild;
    save_first_ = true;
    unconfirmed_ = 1;
    notify(notice_kind::rebuild_began);
    return false;
}

/// Whether the partitions that were named are those the projection has, by the record of their
/// count. Rebuilt as fewer, or as none, the others would go on under their checkpoints in a model
/// that was emptied. (A name too long for the record's key has no partitions.)
PROJECTIONS_BODY_ bool replay_engine::knows_partitions() {
    const checkpoint_store& store = what_->checkpoints;
    checkpoint count;
    detail::key_buffer spelled;
    const text key = spelled.spell(what_->name, detail::key_buffer::count_record);
    status s = status::ok;
    if (!key.empty()) s = detail::ask([&]() { return store.load(store.self, key, count); });
    if (s != status::ok) return wait_after(s, status::checkpoint_failed);
    // (A stage is a repartition() under way: there is half of each count.)
    const uint32_t known = count.partition_count;
    if ((known != 0 && known != options_.partitions) || count.replay_stage != 0)
        return halt(status::partition_count_changed);
    return true;
}

/// Pre: the marker is saved and was read back, that of each partition, too. A crash between on_drop
/// and the save of stage 2 finds stage 1, and drops once more.
PROJECTIONS_BODY_ bool replay_engine::drop() {
    // A former owner of the lease is not to drop what the next one builds (G20).
    if (!may_begin()) return false;
    if (options_.on_drop) {
        const status s = detail::ask([&]() { return options_.on_drop(); });
        if (s != status::ok) return wait_after(s, status::store_failed);
    }
    read_failures_ = 0;
    record_.replay_stage = detail::stage_running;
    // Not above where it had been: what lies between was never handled (G1).
    go_to(detail::earlier(options_.from, record_.replayed_through));
    partition_ = 1;
    notify(notice_kind::rebuild_dropped);
    return false;
}

/// True: there is more to read. At the end of what was to be replayed, the rebuild is finished,
/// though more may be in the log. A log that ends before (its last event is gone, or filtered away
/// by its store) has nothing more for it: caught_up_ says so.
PROJECTIONS_BODY_ bool replay_engine::go_through() {
    if (options_.partitions != 0) return visit_partitions(0) && finish();
    const bool is_through = at_ >= record_.replayed_through || caught_up_;
    if (is_through) finish();
    // In finish() the position may have moved once more, so the last call says where it ended. One
    // that throws is not called again for the same position.
    if (told_ != at_ && options_.on_progress) {
        PROJECTIONS_TRY_ { options_.on_progress(how_far()); }
        PROJECTIONS_CATCH_ { told_ = at_; }
    }
    told_ = at_;
    return !is_through;
}

/// Ends where the projection had been, even where no event stands there any more, so that the
/// checkpoint is what it was (G24). With partitions the own record stays at `from`, like the
/// others, and its worker goes on from there.
PROJECTIONS_BODY_ bool replay_engine::finish() {
    // A save that is under way says that it is not finished, and is repeated as it was: its answer
    // would be taken for that of another.
    if (saving_ != detail::saving::none) {
        save_first_ = true;
        return false;
    }
    position& target = record_.replayed_through;
    // Without bounds() the end was where the log ended at first.
    if (target == detail::end_of_log) target = at_;
    else if (options_.partitions == 0) at_ = detail::later(at_, target);
    record_.replay_stage = 0;
    save_first_ = true;
    finished_ = true;
    notify(notice_kind::rebuild_finished);
    return false;
}

/// Marks the records of the other partitions, or sets them back and releases them; one a tick. The
/// record of partition 0 is this engine's own: it is marked first and released last. Each can be
/// visited again: what stands in its record already is not written twice. It is loaded before it is
/// written, so one that cannot be loaded is never overwritten.
PROJECTIONS_BODY_ bool replay_engine::visit_partitions(uint8_t to_stage) {
    if (partition_ >= options_.partitions) return true;
    if (!may_begin()) return false;
    const checkpoint_store& store = what_->checkpoints;
    checkpoint other;
    detail::key_buffer spelled;
    const text key = spelled.spell(what_->name, partition_);
    status s = status::ok;
    // With a lease its worker has to be gone: it would go on in the model that is being dropped.
    // (Held for one load and one save; if these were put off, they may have outlived it.)
    if (what_->lease != nullptr) s = keeper().take(*what_->lease, key, other_token_);
    const bool is_held = s == status::conflict;
    if (s == status::ok)
        s = detail::ask([&]() { return store.load(store.self, key, other); });
    if (s == status::ok && other.replay_stage != to_stage) {
        // Taking and loading may have lasted until the end of our own lease (G20).
        if (!may_begin()) return false;
        if (to_stage == 0) {
            other.at = detail::earlier(options_.from, other.replayed_through);
        } else {
            // Where it had been. Its worker replays up to here, and what comes after is new to it.
            other.replayed_through = detail::later(other.at, other.replayed_through);
            other.rebuild = record_.rebuild;
        }
        other.replay_stage = to_stage;
        // So that a save of its former owner is refused, if the store compares tokens.
        if (other_token_ != 0) other.fencing_token = other_token_;
        ++other.revision;
        s = detail::ask([&]() { return store.save(store.self, key, other); });
    }
    // If the store failed or is pending, the same lease serves the next attempt: to acquire it
    // again would find it taken, by ourselves.
    if (other_token_ != 0 && (s == status::ok || s == status::conflict)) {
        static_cast<void>(keeper().leave(*what_->lease, key, other_token_));
        other_token_ = 0;
    }
    if (is_held)
        return wait(detail::quotient(what_->lease->ttl_ms, 10) + 1, status::lease_held, false);
    if (s == status::conflict) s = status::pending;     // its worker was quicker: look again
    if (s != status::ok) return wait_after(s, status::checkpoint_failed);
    read_failures_ = 0;
    ++partition_;
    return false;
}

/// By positions, since only these are known beforehand; a log with gaps moves unevenly. What is
/// finished is 100, also where it ended below its target.
PROJECTIONS_BODY_ progress replay_engine::how_far() const {
    int percent = 0;
    const position target = record_.replayed_through;
    if (finished_) percent = 100;
    else if (record_.replay_stage == detail::stage_running && target != detail::end_of_log &&
             at_ > options_.from && target > options_.from) {
        uint64_t done = static_cast<uint64_t>(at_) - static_cast<uint64_t>(options_.from);
        uint64_t all = static_cast<uint64_t>(target) - static_cast<uint64_t>(options_.from);
        while (all > 0xFFFFFF) { all >>= 1; done >>= 1; }       // so that 32 bits are enough
        percent = static_cast<int>(detail::quotient(static_cast<uint32_t>(done) * 100u,
                                                    static_cast<uint32_t>(all)));
    }
    return {counted(), options_.total, percent < 100 ? percent : 100};
}

// ---- the lease
//
// The lease keeps two engines from working at the same time; the token in the checkpoint keeps out
// the one that does not know that it has lost it. The first needs clocks that run alike, the second
// does not, so both are needed (G20, G21). A lease goes through these states:
//
// - none: a standby. It asks again after a tenth of the ttl, or after a backoff where the store
//   fails.
// - ours, loading: acquired. The record is loaded, since somebody else may have worked.
// - ours, claimed: the same position is saved with the new token. From here on a store that
//   compares refuses the former owner. A save of its may land between our load and our claim: then
//   the claim is refused, and what was done by it is taken up (goes_on()).
// - ours, confirmed: the claim was read back; now events are handled.
// - over: the margin has begun, the store has refused an extension, or a later owner was found in
//   the record. Nothing begins any more; the next tick drops what is in hand and stands by.
//
// All times count from before the store was called, not from its answer: however long that takes,
// we believe less than we have. It is renewed after a third of the ttl, so that several attempts
// fit in before its end. After a crash nobody releases it, and it ends by itself: until then the
// others wait, and what was not saved is handled again by the next owner.

namespace detail {

struct lease_hooks {
    /// A third of less than 3 ms is no time after which to renew; far above a quarter of the
    /// clock's range what is over could not be told from what is to come. A model in RAM belongs to
    /// its process, so nobody else could go on with it.
    static status validate(const projection& p) {
        const lease& l = *p.lease;
        if (l.store.acquire == nullptr || l.store.extend == nullptr || l.store.release == nullptr)
            return status::no_lease;
        if (!p.clock) return status::no_clock;
        return l.ttl_ms < 3 || l.ttl_ms > never / 4 || l.margin_ms >= l.ttl_ms / 2 ||
                       p.volatile_model
                   ? status::bad_lease : status::ok;
    }

    /// Milliseconds since the tick began. The clock may be a little behind what the tick was told;
    /// with one that throws, or is another clock, no lease is safe: `never`.
    static uint32_t since_tick(const engine& e) {
        constexpr uint32_t behind_max = 1000;
        uint32_t ms = never;
        PROJECTIONS_TRY_ { ms = e.what_->clock() - e.now_ms_; }
        PROJECTIONS_CATCH_ { return never; }
        return ms > never - behind_max ? 0 : ms > never / 2 ? never : ms;
    }
    /// Waits count from the begin of the tick.
    static uint32_t after(uint32_t began_ms, uint32_t ms) {
        return began_ms == never || ms == never ? ms : ms > never - 1 - began_ms ? never - 1
                                                                                : began_ms + ms;
    }
    /// How long a standby waits: a tenth of the ttl, so that it takes over soon after the end of a
    /// lease.
    static uint32_t retry_ms(const engine& e) { return quotient(e.what_->lease->ttl_ms, 10) + 1; }
    /// (Called where a throw is a failure of the store: under another name it would be no lease.)
    static text resource(const lease& l, text key) { return l.resource ? l.resource(key) : key; }
    /// Takes it, or makes what is held last; one that is over is taken anew. A token of 0 is what a
    /// record without a lease has: it would fence nobody out.
    static status take(const lease& l, text key, uint64_t& token) {
        const lease_store& store = l.store;
        status s = status::conflict;
        if (token != 0)
            s = ask([&]() { return store.extend(store.self, resource(l, key), l.ttl_ms, token); });
        if (s != status::conflict) return s;
        token = 0;
        s = ask([&]() { return store.acquire(store.self, resource(l, key), l.ttl_ms, token); });
        if (s != status::ok) token = 0;
        return s == status::ok && token == 0 ? status::failed : s;
    }
    /// What is not released ends by itself.
    PROJECTIONS_ONCE_ static status leave(const lease& l, text key, uint64_t token) {
        return ask([&]() { return l.store.release(l.store.self, resource(l, key), token); });
    }
    /// Counts what this host holds, where it has a limit: one lease more (+1; false: it has as many
    /// as it may), one less (-1), or as many as before (0; false: too many).
    static bool may_hold(engine& e, int change) {
        return e.role_->may_hold == nullptr || e.role_->may_hold(e, change);
    }

    /// Each tick begins here. False: there is no work in this one. Above the limit of its host the
    /// engine goes the way of a stop: it saves and gives the lease away. Then it stands by again.
    static bool hold(engine& e) {
        const bool is_ending = e.stage_ == engine::stage::ending;
        if (e.lease_ == leasing::none) return !is_ending && acquire(e);
        if (!may_begin(e)) {
            lose(e);
            return false;
        }
        if (!may_hold(e, 0) && !is_ending) {
            e.halt(status::ok);
            e.yields_ = 1;
            static_cast<void>(may_hold(e, -1));     // at once, or the others would yield, too
        }
        return true;
    }

    /// The place of the limit is taken before the store is asked, so that no lease is taken that
    /// would have to be given back at once.
    static bool acquire(engine& e) {
        const lease& l = *e.what_->lease;
        if (e.paused_ != 0 || e.renew_in_ != 0 || e.unit_ == unit::over) return false;
        if (!may_hold(e, +1)) return stand_by(e, retry_ms(e), status::lease_held);
        uint64_t token = 0;
        // Before the call: the lease cannot last less than this says, however late the answer is.
        const uint32_t began_ms = since_tick(e);
        const status s = take(l, e.key(), token);
        e.lease_pending_ = s == status::pending ? 1 : 0;
        if (s == status::ok) {
            granted(e, began_ms);
            e.lease_ = leasing::ours;
            e.record_.fencing_token = token;
            e.stage_ = engine::stage::loading;
            e.read_failures_ = 0;
            e.wait(0, status::ok, false);
            e.notify(notice_kind::lease_gained);
            return true;
        }
        // Not got: the place is free for another partition of this process.
        static_cast<void>(may_hold(e, -1));
        if (s == status::pending) return stand_by(e, e.what_->pending_ms, status::pending);
        if (s == status::conflict) return stand_by(e, retry_ms(e), status::lease_held);
        e.read_failures_ = increased(e.read_failures_);
        stand_by(e, e.delay(e.read_failures_), status::lease_failed);
        e.notify(notice_kind::lease_failed, status::lease_failed);
        return false;
    }
    /// No lease, so nothing is read or saved before the next attempt. Answers false.
    static bool stand_by(engine& e, uint32_t ms, status why) {
        e.renew_in_ = after(since_tick(e), ms);
        e.why_ = why;
        return false;
    }
    /// With a clock that cannot be used it ends at once.
    static void granted(engine& e, uint32_t began_ms) {
        const lease& l = *e.what_->lease;
        e.lease_in_ = began_ms == never ? 0 : after(began_ms, l.ttl_ms - l.margin_ms);
        e.renew_in_ = after(began_ms, quotient(l.ttl_ms, 3));
        e.lease_pending_ = 0;
    }

    /// Called when a third of the ttl is over, and by a handler that knows that it takes long. It
    /// never extends what is over: the next owner may be at work.
    static status extend(engine& e) {
        const lease& l = *e.what_->lease;
        const uint32_t began_ms = since_tick(e);
        if (e.lease_ != leasing::ours || began_ms >= e.lease_in_) return status::lease_lost;
        const status s = ask([&]() {
            return l.store.extend(l.store.self, resource(l, e.key()), l.ttl_ms,
                                  e.record_.fencing_token);
        });
        if (s == status::ok) {
            granted(e, began_ms);
            return status::ok;
        }
        if (s == status::conflict) {
            // The store knows better than our clock: it is over now, and may_begin() says so.
            e.lease_in_ = 0;
            return status::lease_lost;
        }
        // Again after a part of what is left, so that some attempts always fit in.
        const uint32_t now_ms = since_tick(e);
        const uint32_t part_ms = (e.lease_in_ > now_ms ? e.lease_in_ - now_ms : 0) / 4;
        const bool is_pending = s == status::pending;
        e.lease_pending_ = is_pending ? 1 : 0;
        e.renew_in_ = after(now_ms, (is_pending ? sooner(part_ms, e.what_->pending_ms)
                                                : part_ms) + 1);
        if (is_pending) return status::pending;
        e.notify(notice_kind::lease_failed, status::lease_failed);
        return status::lease_failed;
    }

    /// Asked before each handler, letter, drop, save, begin and commit (G20). That is also what
    /// renews a lease inside a long batch, and during a backoff.
    static bool may_begin(engine& e) {
        if (e.lease_ != leasing::ours) return false;
        uint32_t now_ms = since_tick(e);
        if (now_ms < e.lease_in_ && now_ms >= e.renew_in_) {
            static_cast<void>(extend(e));
            now_ms = since_tick(e);
        }
        if (now_ms < e.lease_in_) return true;
        // Not lost yet: whoever asks here is in the middle of something, and the next tick cleans
        // up.
        e.lease_ = leasing::over;
        return false;
    }

    /// Drops all that is in hand; what is saved of it, the next owner finds.
    static void lose(engine& e) {
        static_cast<void>(may_hold(e, -1));
        e.lease_ = leasing::none;
        e.lease_pending_ = 0;
        e.notify(notice_kind::lease_lost, status::lease_lost);
        // What is not saved by now stays so, and end() reports it.
        if (e.stage_ == engine::stage::ending) return;
        if (e.loaded_) e.load_anew();
        stand_by(e, retry_ms(e), status::lease_lost);
    }

    /// A record was loaded under a new lease: our token goes into it, and is saved before anything
    /// else. Without that the former owner would still find the revision that it expects.
    static bool claim(engine& e, checkpoint& found) {
        const uint64_t token = e.record_.fencing_token;
        if (found.fencing_token >= token) {
            // A later owner; or the lease store has forgotten what it had given out. It is given
            // back: to work, a larger token is needed.
            static_cast<void>(leave(*e.what_->lease, e.key(), token));
            e.lease_ = leasing::over;
            return false;
        }
        // After a halt, and nobody has worked in between: what is in hand still counts. (But not a
        // message that the broker does not yet know it keeps: no claim could be saved.)
        const bool is_same = e.loaded_ && found.at == e.record_.at &&
                             found.revision == e.record_.revision && !e.is_refused() &&
                             e.untold_ == 0;
        // Somebody has worked: attempts, letters owed and pending handlers are of events that he
        // has had.
        if (e.loaded_ && !is_same) e.load_anew();
        e.record_.fencing_token = found.fencing_token = token;
        // A first start at the end of the log has no position to claim yet. Saved as it is, it
        // would be taken for a beginning by whoever comes after a crash (G5).
        e.save_first_ = !e.seeks_the_end(found);
        e.save_in_ = 0;
        e.unconfirmed_ = 1;
        // The rest of adopt() would forget what is in hand.
        if (!is_same) return true;
        if (e.asking_ != asking::letters) e.asking_ = asking::first;
        e.stage_ = engine::stage::working;
        return false;
    }

    /// Through the keeper, so that programs without leases and rebuilds do not link it.
    static bool confirm(engine& e) { return e.confirm(); }

    /// A former owner's last save came in between: on from there, and what is in hand is dropped.
    static bool goes_on(engine& e, checkpoint& found) {
        if (e.lease_ != leasing::ours || e.stage_ == engine::stage::ending) return false;
        // The first time at once; again and again, with backoff: a store that refuses every claim
        // is not to be asked in a loop.
        const uint8_t failures = increased(e.save_failures_);
        // Else claim() would take it for a later owner's.
        if (found.fencing_token == e.record_.fencing_token) found.fencing_token = 0;    // our own
        e.adopt(found);
        if (found.replay_stage != 0 && !e.role_->is_rebuilding) e.halt(status::rebuild_unfinished);
        // adopt() asks for the claim anew; only its wait is to stay.
        if (e.stage_ == engine::stage::working) {
            e.save_failures_ = failures;
            e.saving_ = saving::failed;         // it is not doubtful; only to be saved later
            e.save_in_ = failures == 1 ? 0 : e.delay(failures);
            e.saving_at_ = e.at_;
            e.saving_events_ = e.unsaved_;
        }
        return true;
    }

    /// Nobody sleeps over a renewal or the end of the lease, whatever else there is to wait for
    /// (G27). One that is over is dropped by a tick at once; a paused standby leaves the lease to
    /// others.
    static uint32_t wait_ms(const engine& e, uint32_t ms) {
        if (e.lease_ == leasing::ours)
            return sooner(ms, from_now(e, sooner(e.renew_in_, e.lease_in_)));
        if (e.lease_ == leasing::over) return 0;
        // (Nor is a lease asked for before the rollback.)
        if (e.stage_ == engine::stage::ending || e.unit_ == unit::over) return ms;
        return e.paused_ != 0 ? never : from_now(e, e.renew_in_);
    }
    /// What counts from the begin of the tick, counted from its end.
    static uint32_t from_now(const engine& e, uint32_t ms) {
        const uint32_t passed_ms = since_tick(e);
        if (passed_ms == never || ms == never) return ms;
        return ms > passed_ms ? ms - passed_ms : 0;
    }

    /// The handlers of an event one by one, so that none of them begins too late. What it leaves in
    /// `rest` has not been called, and the event has no outcome: with the lease it is dropped, and
    /// the next owner handles it.
    static void call(engine& e, delivery& d, const route& to) {
        d.rest = d.mask;
        while (d.rest != 0 && may_begin(e)) {
            d.mask = d.rest & (~d.rest + 1);
            d.rest &= ~d.mask;
            to.call(e.what_->handlers.self, d);
        }
    }

    /// At the end of each run, halts included, so that another can work meanwhile (G28). One that
    /// cannot be released in stop_ms ends by itself.
    static bool give_back(engine& e) {
        if (e.lease_ == leasing::ours) {
            const bool is_late = e.retry_in_ == 0;
            // A release that was pending is asked again when its wait is over.
            if (!is_late && e.read_in_ != 0) return false;
            const status s = leave(*e.what_->lease, e.key(), e.record_.fencing_token);
            if (s == status::pending && !is_late)
                return e.wait(e.what_->pending_ms, status::pending, true);
            // A failure is told and not repeated.
            e.notify(s == status::ok ? notice_kind::lease_released : notice_kind::lease_failed,
                     s == status::ok ? s : status::lease_failed);
        }
        static_cast<void>(may_hold(e, -1));
        e.lease_ = leasing::none;
        e.renew_in_ = 0;
        // Not the end of the run: it gave a place to another partition, and stands by for a free
        // one.
        if (e.yields_ == 0) return true;
        e.yields_ = 0;
        e.load_anew();
        return stand_by(e, retry_ms(e), status::lease_held);
    }
};

} // namespace detail

PROJECTIONS_SHARED_ const detail::lease_keeper lease::keeper{
    &detail::lease_hooks::validate, &detail::lease_hooks::hold, &detail::lease_hooks::may_begin,
    &detail::lease_hooks::claim, &detail::lease_hooks::confirm, &detail::lease_hooks::goes_on,
    &detail::lease_hooks::wait_ms, &detail::lease_hooks::call, &detail::lease_hooks::give_back,
    &detail::lease_hooks::extend, &detail::lease_hooks::take, &detail::lease_hooks::leave};

/// ok without a lease: a handler need not know how it is run.
PROJECTIONS_BODY_ status context::extend_lease() const {
    engine* const e = waker.engine_;
    return e == nullptr || e->what_->lease == nullptr ? status::ok : e->keeper().extend(*e);
}

// ---- partitions
//
// A partition is a worker with a key of its own that passes over what is not its own: foreign
// events move its checkpoint, too, or a batch of nothing else would be read for ever (G3). Two
// workers must never disagree about what belongs to whom, or an aggregate would be handled twice or
// not at all. Count and hash are therefore written down twice: in a record `{name}_partitions`,
// which all of them look at before they handle anything, and in each partition's own record, which
// its worker compares as well (G22).
//
// repartition() changes the count while no worker runs, in steps that can each be taken again:
// - the record of the count is marked (stage 3, the new count, the old one in `rebuild`) and read
//   back. From here on no worker starts, neither of the old count nor of the new one;
// - with a lease, that of each old partition is taken once and given back: so nobody who was still
//   at work is left, and whoever takes it now finds the marker;
// - the new records are written, each from its parents;
// - the marker is taken away.
//
// A crash between any two of them leaves the marker, with both counts in it: the same call goes on,
// any other is refused, and so are all workers. A record that is written again comes out the same:
// its position is the lowest of its parents', and by then it may be one of them itself. Records
// above the new count stay where they are, unread; a later split goes on from their revisions.

namespace detail {

/// `{name}_p{index}` is the Python package's key, to the letter: a partition must find what the
/// other implementation has saved. Digit by digit, since a bare target need not have a function
/// that prints numbers.
PROJECTIONS_BODY_ text key_buffer::spell(text name, uint32_t index) {
    text last("_partitions");
    char digits[12];                    // `_p` and ten of them
    if (index != count_record) {
        char* begin = digits + sizeof digits;
        do *--begin = static_cast<char>('0' + divide(index, 10)); while (index != 0);
        *--begin = 'p';
        *--begin = '_';
        last = text(begin, static_cast<size_t>(digits + sizeof digits - begin));
    }
    if (name.size() > sizeof room_ - last.size()) return {};
    char* to = room_;
    for (const char c : name) *to++ = c;
    for (const char c : last) *to++ = c;
    size_ = static_cast<uint8_t>(to - room_);
    return spelled();
}

inline uint32_t rotated(uint32_t word, int by) { return word >> by | word << (32 - by); }

/// One of the 64 rounds; `words` holds the last 16 of the schedule. FIPS 180-4, 6.2.2. Instead of
/// moving the eight working variables, their indexes move.
PROJECTIONS_INLINE_ void sha256_round(uint32_t* v, uint32_t* words, uint32_t constant, size_t i,
                                      bool is_first) {
    uint32_t& w = words[i & 15];
    if (!is_first) {
        const uint32_t w1 = words[(i + 1) & 15];
        const uint32_t w14 = words[(i + 14) & 15];
        w += (rotated(w1, 7) ^ rotated(w1, 18) ^ w1 >> 3) + words[(i + 9) & 15] +
             (rotated(w14, 17) ^ rotated(w14, 19) ^ w14 >> 10);
    }
    const uint32_t a = v[(0 - i) & 7], b = v[(1 - i) & 7], c = v[(2 - i) & 7];
    const uint32_t e = v[(4 - i) & 7], f = v[(5 - i) & 7], g = v[(6 - i) & 7];
    const uint32_t t = v[(7 - i) & 7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) +
                       (g ^ (e & (f ^ g))) + constant + w;
    v[(3 - i) & 7] += t;
    v[(7 - i) & 7] =
        t + (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) | (c & (a | b)));
}

/// FIPS 180-4, 4.2.2: the fractions of the cube roots of the first 64 primes.
inline constexpr uint32_t sha256_constants[64] = {
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
    0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
    0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
    0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
    0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
    0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
    0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
    0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2};

#if !defined(__OPTIMIZE_SIZE__)
/// Sixteen rounds at once, so that all indexes are known to the compiler.
template<size_t... I> PROJECTIONS_INLINE_ void sha256_rounds(uint32_t* v, uint32_t* words,
                                                             size_t from, bool is_first,
                                                             numbers<I...>) {
    (sha256_round(v, words, sha256_constants[from + I], I, is_first), ...);
}
#endif

/// Mixes the block into the state. Sixteen words of the schedule at a time, not sixty-four: on a
/// small device the stack counts.
inline void sha256_block(uint32_t (&state)[8], const unsigned char (&block)[64]) {
    uint32_t v[8];
    uint32_t words[16];
    for (size_t i = 0; i < 8; ++i) v[i] = state[i];
    for (size_t i = 0; i < 16; ++i) {
        const unsigned char* const from = block + 4 * i;
        words[i] = static_cast<uint32_t>(from[0]) << 24 | static_cast<uint32_t>(from[1]) << 16 |
                   static_cast<uint32_t>(from[2]) << 8 | from[3];
    }
#if defined(__OPTIMIZE_SIZE__)
    for (size_t i = 0; i < 64; ++i) sha256_round(v, words, sha256_constants[i], i, i < 16);
#else
    sha256_rounds(v, words, 0, true, numbers_to<16>{});
    for (size_t i = 16; i < 64; i += 16) sha256_rounds(v, words, i, false, numbers_to<16>{});
#endif
    for (size_t i = 0; i < 8; ++i) state[i] += v[i];
}

/// SHA-256 of a text: eight words, the most significant first. Block by block, without a buffer
/// between calls: the text is whole. Behind it come one bit, zeros and the length in bits; where
/// the last block has no room for the length, one more block has it.
inline void sha256(text of, uint32_t (&out)[8]) {
    // FIPS 180-4, 5.3.3: the fractions of the square roots of the first 8 primes.
    constexpr uint32_t first[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                   0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
    constexpr size_t block_size = 64, length_at = 56;
    for (size_t i = 0; i < 8; ++i) out[i] = first[i];
    uint64_t bits = of.size();
    bits *= 8;
    const char* from = of.data();
    size_t left = of.size();
    for (bool is_marked = false, is_last = false; !is_last;) {
        unsigned char block[block_size]{};
        const size_t size = left < block_size ? left : block_size;
        if (size != 0) __builtin_memcpy(block, from, size);
        if (size < block_size && !is_marked) {
            block[size] = 0x80;
            is_marked = true;
        }
        is_last = size < length_at;
        for (size_t i = block_size; is_last && i != length_at; --i, bits >>= 8)
            block[i - 1] = static_cast<unsigned char>(bits & 0xFFu);
        sha256_block(out, block);
        from += size;
        left -= size;
    }
}

/// The 256-bit number of these words, the most significant first, modulo `count`. Without a fast
/// division of 64 bits it goes bit by bit, so that none is linked.
template<bool HasDivision = (sizeof(void*) >= 8)>
uint32_t modulo(const uint32_t (&words)[8], uint32_t count) {
    uint32_t rest = 0;
    for (const uint32_t word : words) {
        if constexpr (HasDivision) {
            rest = static_cast<uint32_t>((static_cast<uint64_t>(rest) << 32 | word) % count);
        } else {
            uint32_t left = word;
            rest = divide_bit_by_bit(left, count, rest);
        }
    }
    return rest;
}

// Kept in records: never to be given another meaning. No stage of a replay_engine is 3, so a marker
// tells what was begun.
inline constexpr uint8_t scheme_sha256 = 1;
inline constexpr uint8_t scheme_users = 255;
inline constexpr uint8_t stage_repartition = 3;         // of a count record

} // namespace detail

PROJECTIONS_BODY_ uint32_t partition_of(text aggregate_id, uint32_t count) {
    // Nothing is computed where there is nothing to choose.
    if (count < 2) return 0;
    uint32_t digest[8];
    detail::sha256(aggregate_id, digest);
    return detail::modulo(digest, count);
}

namespace detail {

struct partition_hooks {
    static partitioned_worker& of(engine& e) { return static_cast<partitioned_worker&>(e); }
    static const partitioned_worker& of(const engine& e) {
        return static_cast<const partitioned_worker&>(e);
    }

    /// Both keys have to fit before anything is touched (G29). The own one is spelled last, and
    /// stays.
    static status begin(engine& e) {
        partitioned_worker& w = of(e);
        if (w.of_.index >= w.of_.count) return status::bad_partition;
        const text name = w.what_->name;
        if (w.key_.spell(name, key_buffer::count_record).empty() ||
            w.key_.spell(name, w.of_.index).empty()) {
            return status::bad_key;
        }
        return status::ok;
    }
    static text key(const engine& e) { return of(e).key_.spelled(); }
    /// Asked in each tick until it is right, then not again in this run or lease.
    static bool prepare(engine& e) { return of(e).counted_ || of(e).look_at_count(); }
    /// The record may have another count than the description, after a repartition() or a wrong
    /// start: it is refused before it is saved over (G22). From the first save on it names both.
    static bool adopt(engine& e, checkpoint& found) {
        partitioned_worker& w = of(e);
        w.counted_ = w.wrote_count_ = false;
        if (!fits(w, found)) return w.halt(status::partition_count_changed);
        found.partition_count = w.of_.count;
        found.hash_scheme = w.hash_scheme();
        return true;
    }
    /// The record speaks of no partitions, or of ours. 0 was not recorded, as in a new record or
    /// one of a store that keeps positions only; it is not compared.
    static bool fits(const partitioned_worker& w, const checkpoint& found) {
        return (found.partition_count == 0 || found.partition_count == w.of_.count) &&
               (found.hash_scheme == 0 || found.hash_scheme == w.hash_scheme());
    }
    static const partition* part(const engine& e) { return &of(e).of_; }
    /// The store's own key comes first, and costs no hash. It is taken modulo the count, so in a
    /// split it falls to one of the children, as a hash does; and so is what a function of the
    /// user's answers, or what is not below the count would be nobody's. With one partition nothing
    /// is computed.
    static bool is_ours(const engine& e, const stored_event& event) {
        const partitioned_worker& w = of(e);
        if (w.of_.count == 1) return true;
        if (event.partition_key == no_key) return is_ours_by_id(w, event.aggregate_id);
        return remainder(event.partition_key, w.of_.count) == w.of_.index;
    }
    /// Apart, so that who has a key need not make room for what a hash needs.
    PROJECTIONS_APART_ static bool is_ours_by_id(const partitioned_worker& w, text id) {
        const uint32_t count = w.of_.count;
        const bool has_own = w.with_ != nullptr && w.with_->partition_by;
        const uint32_t index = has_own ? w.with_->partition_by(id, count) : partition_of(id, count);
        return remainder(index, count) == w.of_.index;
    }
    /// A place is counted once, however often it is asked for or given back: `has_slot_` says
    /// whether this worker has one. Otherwise a stop without a lease would free the place of
    /// another.
    static bool may_hold(engine& e, int change) {
        partitioned_worker& w = of(e);
        partition_limit* const limit = w.with_ != nullptr ? w.with_->limit : nullptr;
        if (limit == nullptr) return true;
        if (change > 0 && !w.has_slot_) {
            if (limit->held_ >= limit->most_) return false;
            ++limit->held_;
        } else if (change < 0 && w.has_slot_) {
            --limit->held_;
        }
        if (change != 0) w.has_slot_ = change > 0;
        return limit->held_ <= limit->most_;
    }
};

} // namespace detail

// In the order of detail::role: is_fed, is_rebuilding; begin, key, batch, prepare, leave, reject,
// adopt, part, is_ours, may_hold, committed.
PROJECTIONS_SHARED_ const detail::role partitioned_worker::kind{
    false, false, &hooks::begin, &hooks::key, nullptr, &hooks::prepare, nullptr, nullptr,
    &hooks::adopt, &hooks::part, &hooks::is_ours, &hooks::may_hold, nullptr};

/// Two functions of users look alike in a record: whoever has several tells them apart by a number.
PROJECTIONS_BODY_ uint8_t partitioned_worker::hash_scheme() const {
    if (with_ == nullptr) return detail::scheme_sha256;
    if (with_->hash_scheme != 0) return with_->hash_scheme;
    return with_->partition_by ? detail::scheme_users : detail::scheme_sha256;
}

/// Nothing is handled before the record of the count was found to be right, or written and read
/// back. False: not yet, or not at all.
PROJECTIONS_BODY_ bool partitioned_worker::look_at_count() {
    if (!may_begin()) return false;
    const checkpoint_store& store = what_->checkpoints;
    detail::key_buffer spelled;
    const text key = spelled.spell(what_->name, detail::key_buffer::count_record);
    checkpoint found;
    // Loaded in the tick after it was written, too: that is how it is read back.
    status s = detail::ask([&]() { return store.load(store.self, key, found); });
    if (s == status::ok) {
        if (!detail::partition_hooks::fits(*this, found) || found.replay_stage != 0)
            return halt(status::partition_count_changed);
        counted_ = found.partition_count != 0 || (wrote_count_ && what_->accept_partial_records);
        if (counted_) return true;
        // It was saved and is not there: the store keeps no counts, and workers of different counts
        // would never learn of each other.
        if (wrote_count_) return halt(status::partial_record);
        found.partition_count = of_.count;
        found.hash_scheme = hash_scheme();
        ++found.revision;
        // The load may have taken until the end of the lease (G20).
        if (!may_begin()) return false;
        s = detail::ask([&]() { return store.save(store.self, key, found); });
        wrote_count_ = s == status::ok;
    }
    if (s == status::conflict) s = status::pending;     // another partition was quicker
    return s == status::ok ? wait(0, s, false) : wait_after(s, status::checkpoint_failed);
}

namespace detail {

/// The steps of repartition(); each can be taken again.
struct repartitioning {
    const projection& what;
    uint32_t from, to;
    key_buffer key{};
    checkpoint count{};

    /// Empty first: where there is no record the store leaves it as it is.
    status load(uint32_t index, checkpoint& out) {
        const checkpoint_store& store = what.checkpoints;
        const text name = key.spell(what.name, index);
        out = {};
        return ask([&]() { return store.load(store.self, name, out); });
    }
    /// Compared and set as any other save, so a worker that runs after all is noticed as a
    /// conflict.
    status save(uint32_t index, checkpoint& next) {
        const checkpoint_store& store = what.checkpoints;
        const text name = key.spell(what.name, index);
        ++next.revision;
        return ask([&]() { return store.save(store.self, name, next); });
    }
    bool is_done() const { return count.partition_count == to && count.replay_stage == 0; }

    /// Marks the record of the count, so that no worker starts until all is done.
    status begin() {
        status s = load(key_buffer::count_record, count);
        if (s != status::ok || is_done()) return s;
        // From the same two counts, or from none: anything else is another change, which has to be
        // ended by the call that has begun it.
        const bool is_begun = count.replay_stage == stage_repartition;
        if (count.partition_count != (is_begun ? to : from) || (is_begun && count.rebuild != from))
            return status::partition_count_changed;
        if (is_begun) return status::ok;
        count.partition_count = to;
        count.rebuild = from;
        count.replay_stage = stage_repartition;
        s = save(key_buffer::count_record, count);
        // Read back: a store that keeps no marker could keep no worker away, and nothing is moved
        // yet.
        if (s == status::ok) s = load(key_buffer::count_record, count);
        return s == status::ok && count.replay_stage != stage_repartition ? status::partial_record
                                                                          : s;
    }
    /// Whoever holds the lease of an old partition has to be gone.
    status outlive(uint32_t index) {
        const lease& l = *what.lease;
        const text name = key.spell(what.name, index);
        uint64_t token = 0;
        const status s = l.keeper_->take(l, name, token);
        // Given back at once: it is the marker that keeps workers away from here on.
        if (s == status::ok) static_cast<void>(l.keeper_->leave(l, name, token));
        return s == status::conflict ? status::lease_held : s;
    }
    /// Writes one new record; its key keeps its revision and token. Its parents are all that are
    /// the same modulo the smaller count: one in a split, several in a merge. The lowest position
    /// counts, and the lowest end of what was replayed, so that nothing is left out or kept from
    /// live_only handlers; and the highest number of rebuilds, so that no key of a letter comes
    /// again.
    status move(uint32_t index) {
        const uint32_t step = from > to ? to : from;
        checkpoint child;
        checkpoint next;
        status s = load(index, child);
        const uint32_t first = remainder(index, step);
        for (uint32_t parent = first; s == status::ok && parent < from; parent += step) {
            checkpoint found;
            s = load(parent, found);
            // A rebuild would go on with the old count: it has to be finished first.
            if (found.replay_stage != 0) return status::rebuild_unfinished;
            if (parent == first) next = found;
            next.at = earlier(next.at, found.at);
            next.replayed_through = earlier(next.replayed_through, found.replayed_through);
            if (found.rebuild > next.rebuild) next.rebuild = found.rebuild;
        }
        if (s != status::ok) return s;
        // The new record takes the place of one under its key, by that one's revision and token.
        // What a crash guard knows of a parent says nothing of the new partition.
        next.revision = child.revision;
        next.fencing_token = child.fencing_token;
        next.partition_count = to;
        next.suspect = before_first;
        next.crashes = 0;
        return save(index, next);
    }
    /// The last step: from here on workers of the new count start.
    status finish() {
        count.replay_stage = 0;
        count.rebuild = 0;
        return save(key_buffer::count_record, count);
    }
};

} // namespace detail

PROJECTIONS_BODY_ status repartition(const projection& what, uint32_t from, uint32_t to) {
    detail::repartitioning work{what, from, to};
    if (what.checkpoints.load == nullptr) return status::no_load;
    if (what.checkpoints.save == nullptr) return status::no_save;
    if (from == 0 || to == 0 ||
        (detail::remainder(from, to) != 0 && detail::remainder(to, from) != 0)) {
        return status::bad_partition;
    }
    if (work.key.spell(what.name, from > to ? from : to).empty() ||
        work.key.spell(what.name, detail::key_buffer::count_record).empty()) {
        return status::bad_key;
    }
    // All that is wrong with the call itself was found before anything was read.
    status s = work.begin();
    if (s != status::ok || work.is_done()) return s;
    for (uint32_t i = 0; what.lease != nullptr && s == status::ok && i < from; ++i)
        s = work.outlive(i);
    // From the highest down: in a split a parent is among its own children, as the lowest of them,
    // and is written after all others were copied from it.
    for (uint32_t i = to; s == status::ok && i != 0;) s = work.move(--i);
    return s == status::ok ? work.finish() : s;
}

// ---- the encoded checkpoint
//
// Sixty-four bytes in one order on every machine, so that a record may be written by one and read
// by another, and a slot of flash is of one size:
//
//     0  layout version          8  position             40  suspect
//     1  hash scheme            16  fencing token        48  partition count
//     2  replay stage           24  log id               52  rebuild
//     3  0                      32  replayed through     56  crashes, then 2 bytes of 0
//     4  revision                                        60  CRC-32 of all before it
//
// Erased flash (all ones), a slot that is all zero and a write that was cut are refused by the sum
// or the version: no checkpoint at all is safer than one at a position that nobody has saved.

namespace detail {

/// CRC-32 of IEEE 802.3: polynomial 0x04C11DB7 reflected, as in zlib and Ethernet. Bit by bit: a
/// table would be 1 KiB of flash, for sixty bytes at each save.
inline uint32_t crc32(const uint8_t* data, size_t size) {
    uint32_t crc = all_bits;
    for (size_t i = 0; i < size; ++i) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; ++bit) crc = (crc & 1u) != 0 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
    }
    return ~crc;
}

/// Where a field lies in the encoded record, and where in a checkpoint. In between is 0.
struct field { uint8_t encoded, decoded, size; };
inline constexpr field fields[] = {
    {1, offsetof(checkpoint, hash_scheme), 1},      {2, offsetof(checkpoint, replay_stage), 1},
    {4, offsetof(checkpoint, revision), 4},         {8, offsetof(checkpoint, at), 8},
    {16, offsetof(checkpoint, fencing_token), 8},   {24, offsetof(checkpoint, log_id), 8},
    {32, offsetof(checkpoint, replayed_through), 8}, {40, offsetof(checkpoint, suspect), 8},
    {48, offsetof(checkpoint, partition_count), 4}, {52, offsetof(checkpoint, rebuild), 4},
    {56, offsetof(checkpoint, crashes), 2}};
/// The bytes of a number, the lowest first on the side that is stored.
PROJECTIONS_ONCE_ inline void copy_little(void* out, const void* in, size_t size) {
    unsigned char* to = static_cast<unsigned char*>(out);
    const unsigned char* from = static_cast<const unsigned char*>(in);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (; size != 0; --size) *to++ = from[size - 1];
#else
    for (; size != 0; --size) *to++ = *from++;
#endif
}
// Another layout gets another number. Older programs then refuse it, and read nothing wrong from
// it.
inline constexpr uint8_t layout_version = 1;

} // namespace detail

PROJECTIONS_BODY_ void encode(const checkpoint& in, uint8_t (&out)[checkpoint_bytes]) {
    constexpr size_t sum_at = checkpoint_bytes - 4;
    const unsigned char* const from = bytes(&in, sizeof in).begin();
    for (uint8_t& one : out) one = 0;
    out[0] = detail::layout_version;
    for (const detail::field& f : detail::fields)
        detail::copy_little(out + f.encoded, from + f.decoded, f.size);
    // Over the bytes as they stand, and last: a write that is cut before its end has a wrong one.
    const uint32_t sum = detail::crc32(out, sum_at);
    detail::copy_little(out + sum_at, &sum, 4);
}

PROJECTIONS_BODY_ bool decode(bytes in, checkpoint& out) {
    if (in.size() != checkpoint_bytes) return false;
    constexpr size_t sum_at = checkpoint_bytes - 4;
    uint32_t sum = 0;
    detail::copy_little(&sum, in.begin() + sum_at, 4);
    // Before anything goes to `out`: what is refused has changed nothing.
    if (sum != detail::crc32(in.begin(), sum_at) || in.begin()[0] != detail::layout_version)
        return false;
    unsigned char* const to = static_cast<unsigned char*>(detail::address_of_named(out));
    for (const detail::field& f : detail::fields)
        detail::copy_little(to + f.decoded, in.begin() + f.encoded, f.size);
    return true;
}

// ---- the stores in memory
//
// Both are plain arrays that are all zero while empty, so that a static one lies in .bss and takes
// no flash; the templates around them only say how large they are, and share this code. They keep
// the promises of a port to the letter, since tests of engines trust them: bounds() of the log says
// what was pushed out, and save() compares revisions.
//
// The log is a ring of cells over a ring of bytes. Positions count on for ever, and a cell is found
// by how far it is from the oldest: a remainder of 64 bits would be half a kilobyte of flash where
// the processor cannot divide. The bytes of one event are never split over the end of the ring, so
// that its payload can be shown in place; what is left there stays unused until the ring comes
// round.

namespace detail {

/// The nth cell from that of the oldest event on.
PROJECTIONS_BODY_ log_slot& memory_log_core::cell(const storage& in, uint32_t nth) const {
    const uint32_t behind = in.slot_count - oldest_;
    return in.cells[nth < behind ? oldest_ + nth : nth - behind];
}

/// True if `size` bytes fit behind the newest event once enough of the oldest are gone.
PROJECTIONS_BODY_ bool memory_log_core::make_room(const storage& in, uint32_t size) {
    for (;;) {
        // One event is given up at a time, and no more than needed: each may be of any size.
        const bool is_empty = kept_ == 0;
        const uint32_t begin = is_empty ? 0 : in.cells[oldest_].begin;
        if (is_empty) end_ = 0;
        // What is used lies in [begin, end_), or wraps around: then [end_, begin) is free.
        const bool is_wrapped = !is_empty && end_ <= begin;
        if (kept_ < in.slot_count) {
            if (!is_wrapped && in.byte_count - end_ >= size) return true;
            if (!is_wrapped && begin >= size) { end_ = 0; return true; }
            if (is_wrapped && begin - end_ >= size) return true;
        }
        // A handler that appends while the log is being read: what lies in the ring is being looked
        // at.
        if (reading_) return false;
        --kept_;
        if (++oldest_ == in.slot_count) oldest_ = 0;
    }
}

/// Looks at all sizes before it makes room: an event that can never fit must not push others out.
PROJECTIONS_BODY_ position memory_log_core::append(const storage& in, const stored_event& event) {
    const text name = event.type.name();
    const text aggregate = event.aggregate_id;
    if (name.size() > 0xFFFF || aggregate.size() > 0xFFFF || event.payload.size() > in.byte_count ||
        name.size() + aggregate.size() >= in.byte_count - event.payload.size()) {
        return before_first;
    }
    // One byte more than the event, so that no event is empty and a full ring differs from an empty
    // one.
    const uint32_t size =
        static_cast<uint32_t>(name.size() + aggregate.size() + event.payload.size()) + 1;
    if (!make_room(in, size)) return before_first;
    cell(in, kept_) = {end_,
                       event.type.number(),
                       event.version,
                       static_cast<uint16_t>(name.size()),
                       static_cast<uint16_t>(aggregate.size()),
                       static_cast<uint32_t>(event.payload.size()),
                       event.partition_key,
                       event.occurred_at};
    unsigned char* to = in.bytes + end_;
    for (const char c : name) *to++ = static_cast<unsigned char>(c);
    for (const char c : aggregate) *to++ = static_cast<unsigned char>(c);
    if (!event.payload.empty()) __builtin_memcpy(to, event.payload.data(), event.payload.size());
    end_ += size;
    ++kept_;
    return static_cast<position>(next_++);
}

/// Events that a handler appends meanwhile are shown as well, since the end is looked at each time.
PROJECTIONS_BODY_ status memory_log_core::read(const storage& in, position after, visitor& visit) {
    // First of all, or `after + 1` could overflow at the highest position there is.
    if (after >= static_cast<position>(next_)) return status::ok;
    if (after + 1 < static_cast<position>(first())) return status::trimmed;
    const bool is_read = reading_;      // by another engine, whose handler ticks this one
    reading_ = true;
    for (uint64_t at = static_cast<uint64_t>(after + 1); at < next_; ++at) {
        const log_slot& slot = cell(in, kept_ - static_cast<uint32_t>(next_ - at));
        const unsigned char* const name = in.bytes + slot.begin;
        const unsigned char* const aggregate = name + slot.name;
        stored_event event;
        event.at = static_cast<position>(at);
        // What was appended by its name comes back by its name, and else by its number.
        event.type = slot.name != 0 ? type_key(text(static_cast<const void*>(name), slot.name))
                                    : type_key(id{slot.number});
        event.payload = {aggregate + slot.aggregate, static_cast<size_t>(slot.payload)};
        event.aggregate_id = text(static_cast<const void*>(aggregate), slot.aggregate);
        event.version = slot.version;
        event.partition_key = slot.partition_key;
        event.occurred_at = slot.occurred_at;
        if (!visit(event)) break;
    }
    reading_ = is_read;
    return status::ok;
}

PROJECTIONS_BODY_ status memory_log_core::bounds(position& trimmed, position& newest) const {
    trimmed = static_cast<position>(first()) - 1;
    newest = static_cast<position>(next_) - 1;
    return status::ok;
}

/// The cell of the key, else the first that is free (they fill up in order, and are emptied
/// together), else `count`.
inline size_t place_of(const checkpoint_slot* cells, const char* names, size_t count, size_t width,
                       text key) {
    size_t at = 0;
    while (at < count && cells[at].used &&
           text(names + at * width, cells[at].name_size) != key) {
        ++at;
    }
    return at;
}

/// ok also where there is none, with `out` left alone: that is a projection that begins.
PROJECTIONS_BODY_ status load_from(const checkpoint_slot* cells, const char* names, size_t count,
                                   size_t width, text key, checkpoint& out) {
    const size_t at = place_of(cells, names, count, width, key);
    if (at != count && cells[at].used) __builtin_memcpy(&out, cells[at].record, sizeof out);
    return status::ok;
}

/// Refused before anything is written: a save that does not answer ok has changed nothing. A key
/// that has no record yet has revision 0, so that its first save is compared, too.
PROJECTIONS_BODY_ status save_to(checkpoint_slot* cells, char* names, size_t count, size_t width,
                                 text key, const checkpoint& next) {
    const size_t at = place_of(cells, names, count, width, key);
    if (at == count || key.size() > width) return status::failed;
    checkpoint_slot& slot = cells[at];
    checkpoint before;
    if (slot.used) __builtin_memcpy(&before, slot.record, sizeof before);
    if (next.revision != before.revision + 1) return status::conflict;
    for (size_t i = 0; i < key.size(); ++i) names[at * width + i] = key.data()[i];
    __builtin_memcpy(slot.record, &next, sizeof next);
    slot.name_size = static_cast<uint16_t>(key.size());
    slot.used = true;
    return status::ok;
}

} // namespace detail

// ---- profiles
//
// Descriptions with a few fields set: whatever else is wanted is set on what they return. There is
// no state and no default that only a profile has.

PROJECTIONS_BODY_ projection production(text name, event_store log, routes handlers,
                                        checkpoint_store checkpoints,
                                        dead_letter_sink dead_letters) {
    projection p{name, log, handlers, checkpoints};
    p.dead_letters = dead_letters;
    p.on_error = error_policy::retry_then_dead_letter();
    return p;
}

PROJECTIONS_BODY_ projection development(text name, event_store log, routes handlers,
                                         checkpoint_store checkpoints) {
    projection p{name, log, handlers, checkpoints};
    p.on_error = error_policy::halt();
    p.on_unknown = unknown_types::fail;
    p.save.every_events = 1;
    return p;
}

#endif // bodies

} // inline namespace
} // namespace projections

// -------------------------------------------------------------------------------------- >>clean-up
//
// Macros whose names end in `_` are internal and end here. What stays is the version, and what the
// room of the configuration names.

#undef PROJECTIONS_ABI_
#undef PROJECTIONS_NAME_
#undef PROJECTIONS_JOIN_
#undef PROJECTIONS_EXCEPTIONS_
#undef PROJECTIONS_ASSERTS_
#undef PROJECTIONS_SEPARATE_
#undef PROJECTIONS_SHARED_
#undef PROJECTIONS_BODY_
#undef PROJECTIONS_TRY_
#undef PROJECTIONS_CATCH_
#undef PROJECTIONS_COLD_
#undef PROJECTIONS_ONCE_
#undef PROJECTIONS_INLINE_
#undef PROJECTIONS_QUICK_BODY_
#undef PROJECTIONS_APART_
#undef PROJECTIONS_LIKELY_
#undef PROJECTIONS_SMALL_
#undef PROJECTIONS_SIZE_
#undef PROJECTIONS_OWN_FRAME_

#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic pop
#endif

#endif // PROJECTIONS_HPP
