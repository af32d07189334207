// What the cases share: a log that is an array, a checkpoint slot and a letter box that can fail,
// and a worker over them. No heap, no strings, small enough for 16 KiB of RAM.
#ifndef PROJECTIONS_TESTS_TARGETS_FAKES_HPP
#define PROJECTIONS_TESTS_TARGETS_FAKES_HPP

#include "check.hpp"
#include "projections.hpp"

namespace fakes {

namespace pj = projections;

struct added {
    static constexpr pj::event_type type{"Added", pj::raw};
    uint32_t value;
};
struct removed {
    static constexpr pj::event_type type{"Removed", pj::id{77}, pj::raw};
    uint16_t value;
    uint8_t shelf;
};

/// Up to 12 events; `at` is the index unless a case says otherwise.
struct array_log {
    pj::stored_event events[12]{};
    uint8_t count = 0;
    pj::status answer = pj::status::ok;
    uint16_t reads = 0;

    pj::status read(pj::position after, pj::visitor& visit) {
        ++reads;
        for (uint8_t i = 0; i < count; ++i) {
            if (events[i].at > after && !visit(events[i])) return pj::status::ok;
        }
        return answer;
    }
    /// The event must outlive the log.
    template<class E> pj::stored_event& append(const E& event, pj::text aggregate = {}) {
        events[count] = pj::raw_event(count, event, aggregate);
        return events[count++];
    }
};

/// One record, compared and set; `answers` are given in turn, 0 is ok.
struct slot {
    pj::checkpoint record{};
    pj::status answers[6]{};
    uint8_t next_answer = 0;
    bool saves_although_it_fails = false;
    uint16_t saves = 0;

    pj::status load(pj::text, pj::checkpoint& out) const {
        if (record.revision != 0) out = record;
        return pj::status::ok;
    }
    pj::status save(pj::text, const pj::checkpoint& next) {
        ++saves;
        const pj::status answer = next_answer < 6 ? answers[next_answer++] : pj::status::ok;
        if (answer != pj::status::ok && !saves_although_it_fails) return answer;
        if (next.revision != record.revision + 1) return pj::status::conflict;
        record = next;
        return answer;
    }
};

struct letter_box {
    uint8_t refuses = 0;            // so many times
    uint8_t count = 0;
    pj::position last = pj::before_first;
    pj::failure_kind kind{};
    uint32_t code = 0;

    pj::status put(const pj::dead_letter& letter) {
        if (refuses != 0) {
            --refuses;
            return pj::status::failed;
        }
        ++count;
        last = letter.event.at;
        kind = letter.kind;
        code = letter.code;
        return pj::status::ok;
    }
};

/// Sums; fails or pends so many times at one position.
struct summing {
    using handles = pj::events<added, removed>;
    uint64_t sum = 0;
    uint8_t calls = 0;
    pj::position odd_at = -2;
    uint8_t odd_times = 0;
    pj::verdict odd = pj::fail(9);
    uint32_t last_attempt = 0;
    bool last_resumed = false, last_replaying = false;
    pj::waker waker{};

    pj::verdict answer(const pj::context& with, uint32_t value) {
        ++calls;
        last_attempt = with.attempt;
        last_resumed = with.resumed;
        last_replaying = with.replaying;
        waker = with.waker;
        if (with.event.at == odd_at && odd_times != 0) {
            --odd_times;
            return odd;
        }
        sum += value;
        return pj::handled;
    }
    pj::verdict on(const added& e, const pj::context& with) { return answer(with, e.value); }
    pj::verdict on(const removed& e, const pj::context& with) { return answer(with, e.value); }
};

inline constexpr added numbers[8] = {{1}, {2}, {4}, {8}, {16}, {32}, {64}, {128}};

/// A worker over all of these, with `count` events of numbers[].
struct bench {
    array_log log{};
    slot checkpoints{};
    letter_box letters{};
    summing model{};
    pj::projection what{"bench", log, model, checkpoints};
    pj::worker worker{what};
    uint32_t now_ms = 5000;

    explicit bench(uint8_t count) {
        for (uint8_t i = 0; i < count; ++i) log.append(numbers[i]);
        what.delays.jitter_percent = 0;
    }
    bench(const bench&) = delete;
    bench& operator=(const bench&) = delete;

    pj::tick_result tick(uint32_t later_ms = 0) {
        now_ms += later_ms;
        return worker.tick(now_ms);
    }
    /// Ticks while more is waiting, at most so often.
    pj::tick_result drain(uint8_t most = 50) {
        pj::tick_result last = tick();
        while (last.wait_ms == 0 && worker.running() && most-- != 0) last = tick();
        return last;
    }
    /// The same, sleeping as long as it says, until this much time has passed.
    void run_for(uint32_t ms) {
        pj::tick_result last = drain();
        while (worker.running() && last.wait_ms <= ms) {
            ms -= last.wait_ms;
            now_ms += last.wait_ms;
            last = drain();
        }
    }
};

} // namespace fakes

#endif
