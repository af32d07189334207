// A worker in a libuv loop: a timer sleeps as long as wait_ms says, an async handle ends the sleep.
//
//   needs   libuv (Debian: libuv1-dev)
//   build   c++ -std=c++17 -pthread -I. examples/08_event_loop_libuv.cpp -luv -o event_loop_libuv
//   run     ./event_loop_libuv [--idle-ms 10000]
//
// It prints how many ticks there were while nothing happened: with poll_ms `never` none, or one
// that a late ring explains; else one for each poll. The worker is in event_loop_worker.hpp.
#include "event_loop_worker.hpp"
#include <uv.h>

class uv_loop {
public:
    uv_loop() {
        if (uv_loop_init(&loop_) != 0 || uv_timer_init(&loop_, &timer_) != 0 ||
            uv_async_init(&loop_, &bell_, on_bell) != 0) abort();
        timer_.data = bell_.data = this;
    }
    ~uv_loop() {
        if (uv_loop_close(&loop_) != 0) abort();
    }
    uv_loop(const uv_loop&) = delete;
    uv_loop& operator=(const uv_loop&) = delete;

    /// From any thread. The order matters: what the bell ends the sleep for must be there.
    void ring(pj::worker& worker) {
        worker.wake();
        uv_async_send(&bell_);
    }

    void run(pj::worker& worker, tick_record& record) {
        worker_ = &worker;
        record_ = &record;
        tick(false);
        uv_run(&loop_, UV_RUN_DEFAULT);         // until no handle is open
    }

private:
    static void on_timer(uv_timer_t* timer) { static_cast<uv_loop*>(timer->data)->tick(false); }
    static void on_bell(uv_async_t* bell) { static_cast<uv_loop*>(bell->data)->tick(true); }

    /// The loop's own time, which stands still during a turn, is the clock of worker and timer.
    void tick(bool is_rung) {
        const uint32_t wait_ms =
            record_->tick(*worker_, static_cast<uint32_t>(uv_now(&loop_)), is_rung);
        if (!worker_->running()) {
            uv_close(reinterpret_cast<uv_handle_t*>(&timer_), nullptr);
            uv_close(reinterpret_cast<uv_handle_t*>(&bell_), nullptr);
        } else if (wait_ms == pj::never) {
            uv_timer_stop(&timer_);
        } else {                                // 0: in the next turn, so that others have theirs
            uv_timer_start(&timer_, on_timer, wait_ms, 0);
        }
    }

    uv_loop_t loop_{};
    uv_timer_t timer_{};
    uv_async_t bell_{};
    pj::worker* worker_ = nullptr;
    tick_record* record_ = nullptr;
};

int main(int argc, char** argv) { return drive_all<uv_loop>("libuv", argc, argv); }
