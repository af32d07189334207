// What 07_event_loop_epoll.cpp and 08_event_loop_libuv.cpp drive: a worker whose log is filled by
// another thread, and a record of its ticks, so that a loop that spins, or that sleeps over
// something, is seen.
#ifndef EVENT_LOOP_WORKER_HPP
#define EVENT_LOOP_WORKER_HPP

#include "projections.hpp"
#include <atomic>
#include <chrono>
#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <thread>
#include <vector>

namespace pj = projections;

struct sample {
    static constexpr pj::event_type type{"Sample", pj::raw};
    uint32_t value;
};
struct total {
    using handles = pj::events<sample>;
    std::atomic<uint32_t> seen{0};
    void on(const sample&) { seen.fetch_add(1); }
};
class shared_log {
public:
    void append(sample one) {
        const std::lock_guard<std::mutex> lock(mutex_);
        events_.push_back(one);
    }
    pj::status read(pj::position after, pj::visitor& visit) {
        sample one{};
        for (pj::position at = after + 1; copy(at, one); ++at)
            if (!visit(pj::raw_event(at, one))) break;
        return pj::status::ok;
    }

private:
    bool copy(pj::position at, sample& out) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const size_t index = static_cast<size_t>(at);
        if (index >= events_.size()) return false;
        out = events_[index];
        return true;
    }
    std::mutex mutex_;
    std::vector<sample> events_;
};

/// Every tick must have a reason: the wait of the one before it is over, or somebody has rung.
class tick_record {
public:
    uint32_t tick(pj::worker& worker, uint32_t now_ms, bool is_rung) {
        const uint32_t slept_ms = now_ms - last_ms_;
        if (count_.load() != 0 && !is_rung) {
            if (slept_ms < wait_ms_) ++unexplained_;
            else if (slept_ms - wait_ms_ > late_ms_) late_ms_ = slept_ms - wait_ms_;
        }
        last_ms_ = now_ms;
        wait_ms_ = worker.tick(now_ms).wait_ms;
        count_.fetch_add(1);
        return wait_ms_;
    }
    uint32_t count() const { return count_.load(); }
    uint32_t unexplained() const { return unexplained_; }
    uint32_t late_ms() const { return late_ms_; }   // says more of the machine than of the loop

private:
    std::atomic<uint32_t> count_{0};
    uint32_t unexplained_ = 0, late_ms_ = 0, last_ms_ = 0, wait_ms_ = 0;
};

/// `Loop` has run(worker, record), which returns when the worker has ended, and ring(worker), for
/// any thread: worker.wake(), and whatever ends the loop's sleep. wake() alone would only be seen
/// by the next tick.
template<class Loop> bool drive(const char* name, uint32_t poll_ms, uint32_t idle_ms) {
    shared_log log;
    total model;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection described{"samples", log, model, checkpoints};
    described.poll_ms = poll_ms;
    pj::worker worker{described};
    if (worker.start() != pj::status::ok) return false;
    Loop loop;
    tick_record record;

    const auto sleep = [](uint32_t ms) {
        std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    };
    const auto until_seen = [&](uint32_t count) {
        for (int i = 0; i < 5000 && model.seen.load() < count; ++i) sleep(1);
        return model.seen.load() == count;
    };
    bool is_seen = true;
    uint32_t idle_ticks = 0;
    std::thread producer([&] {
        uint32_t appended = 0;
        for (int burst = 0; burst < 20; ++burst) {
            for (int i = 0; i < 50; ++i) log.append({appended++});
            loop.ring(worker);
            if (burst % 4 == 0) sleep(7);
        }
        is_seen = until_seen(appended);
        sleep(50);                                      // the last ring may still cause a tick
        const uint32_t before = record.count();
        sleep(idle_ms);
        idle_ticks = record.count() - before;
        log.append({appended++});                       // it still listens
        loop.ring(worker);
        is_seen = is_seen && until_seen(appended);
        worker.stop();
        loop.ring(worker);
    });
    loop.run(worker, record);
    producer.join();

    const uint32_t polls = poll_ms == pj::never ? 0 : idle_ms / poll_ms, allowed = polls + 2;
    printf("%s, poll_ms %ld: %lu events, %lu ticks, %lu of them in %lu idle ms (at most %lu), "
           "%lu without a reason, %lu ms late at most\n", name,
           poll_ms == pj::never ? -1L : static_cast<long>(poll_ms),
           static_cast<unsigned long>(model.seen.load()),
           static_cast<unsigned long>(record.count()), static_cast<unsigned long>(idle_ticks),
           static_cast<unsigned long>(idle_ms), static_cast<unsigned long>(allowed),
           static_cast<unsigned long>(record.unexplained()),
           static_cast<unsigned long>(record.late_ms()));
    return is_seen && record.unexplained() == 0 && idle_ticks <= allowed &&
           idle_ticks >= polls / 4 && worker.checkpointed() == 1000;
}

/// The programs' main: `--idle-ms N` in place of ten seconds.
template<class Loop> int drive_all(const char* name, int argc, char** argv) {
    uint32_t idle_ms = 10000;
    if (argc == 3 && strcmp(argv[1], "--idle-ms") == 0)
        idle_ms = static_cast<uint32_t>(strtoul(argv[2], nullptr, 10));
    const bool sleeps = drive<Loop>(name, pj::never, idle_ms);
    const bool polls = drive<Loop>(name, 100, idle_ms);
    return sleeps && polls ? 0 : 1;
}

#endif
