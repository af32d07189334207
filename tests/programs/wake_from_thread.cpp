// Requests from another thread: none is lost. Every wake() is waited for, so a lost one would hang
// and is noticed by the clock. Also to be run under -fsanitize=thread.
#include "projections.hpp"
#include <atomic>
#include <chrono>
#include <functional>
#include <stdio.h>
#include <thread>
namespace pj = projections;

static std::atomic<int> appended{0};        // events 0 .. appended - 1 are in the log
static std::atomic<int> handled_{0};

struct tally {
    using handles = pj::every_event;
    void on(const pj::stored_event&) { handled_.fetch_add(1); }
};
struct counter_log {
    pj::status read(pj::position after, pj::visitor& visit) const {
        const int end = appended.load();
        for (pj::position at = after + 1; at < end; ++at) {
            if (!visit({at, "Event"})) break;
        }
        return pj::status::ok;
    }
};

/// Waits until `is_done()`; false after ten seconds.
template<class Done> static bool wait_until(Done&& is_done) {
    const auto begun = std::chrono::steady_clock::now();
    for (unsigned i = 0; !is_done(); ++i) {
        std::this_thread::yield();
        if (i % 1024 != 1023) continue;
        if (std::chrono::steady_clock::now() - begun > std::chrono::seconds(10)) return false;
    }
    return true;
}

static std::atomic<int> state{0};           // what the engine's own thread sees of it

/// The engine's thread: sleeps for ever unless it is woken, as a loop of a user's does.
static void serve(pj::worker& worker) {
    while (worker.running()) {
        const uint32_t wait_ms = worker.tick(0).wait_ms;
        state.store(static_cast<int>(worker.state()));
        if (wait_ms != 0 && !wait_until([&] { return worker.woken(); })) return;
    }
    state.store(static_cast<int>(worker.state()));
}
static bool sees(pj::run_state expected) {
    return wait_until([&] { return state.load() == static_cast<int>(expected); });
}

int main() {
    tally handler;
    counter_log log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection what{"threads", log, handler, checkpoints};
    what.poll_ms = pj::never;
    what.save = {1000000, pj::never, false};
    what.unsaved_max = 100000000;
    pj::worker worker{what};
    if (worker.start() != pj::status::ok) return 1;
    std::thread engine(serve, std::ref(worker));

    const int wakes = 200000, every = 5000;
    int lost = 0;
    for (int i = 1; i <= wakes && lost == 0; ++i) {
        if (i % every == 0) {               // rest, during which nothing is handled; then go on
            worker.pause();
            lost += !sees(pj::run_state::paused);
        }
        appended.store(i);
        worker.wake();
        if (i % every == 0) {
            lost += handled_.load() != i - 1;
            worker.resume();
        }
        lost += !wait_until([&] { return handled_.load() == i; });
    }
    worker.pause();                         // the last of the two wins
    worker.resume();
    appended.store(wakes + 1);
    worker.wake();
    lost += !wait_until([&] { return handled_.load() == wakes + 1; });
    worker.stop();
    engine.join();
    lost += worker.running() || worker.checkpointed() != wakes;
    printf("%d events, one wake-up each, %d lost\n", handled_.load(), lost);
    return lost == 0 ? 0 : 2;
}
