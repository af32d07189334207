// A worker in an epoll loop: a timerfd sleeps as long as wait_ms says, an eventfd ends that sleep.
//
//   needs   Linux
//   build   c++ -std=c++17 -pthread -I. examples/07_event_loop_epoll.cpp -o event_loop_epoll
//   run     ./event_loop_epoll [--idle-ms 10000]
//
// It prints how many ticks there were while nothing happened: with poll_ms `never` none, or one
// that a late ring explains; else one for each poll. The worker is in event_loop_worker.hpp.
#include "event_loop_worker.hpp"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

class epoll_loop {
public:
    epoll_loop() {
        for (const int fd : {timer_, bell_}) {
            epoll_event wanted{};
            wanted.events = EPOLLIN;
            wanted.data.fd = fd;
            if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &wanted) != 0) abort();
        }
    }
    ~epoll_loop() {
        for (const int fd : {timer_, bell_, epoll_}) close(fd);
    }
    epoll_loop(const epoll_loop&) = delete;
    epoll_loop& operator=(const epoll_loop&) = delete;

    /// From any thread. The order matters: what the bell ends the sleep for must be there.
    void ring(pj::worker& worker) {
        worker.wake();
        if (eventfd_write(bell_, 1) != 0) abort();
    }

    void run(pj::worker& worker, tick_record& record) {
        bool is_rung = false;
        while (worker.running()) {
            timespec now{};
            clock_gettime(CLOCK_MONOTONIC, &now);
            const auto now_ms = static_cast<uint32_t>(now.tv_sec * 1000 + now.tv_nsec / 1000000);
            const uint32_t wait_ms = record.tick(worker, now_ms, is_rung);
            if (!worker.running()) break;
            sleep_until(now, wait_ms);
            // With wait_ms 0 it only looks whether anything else of the loop is ready.
            epoll_event ready[2];
            const int count = epoll_wait(epoll_, ready, 2, wait_ms == 0 ? 0 : -1);
            is_rung = false;
            for (int i = 0; i < count; ++i) {
                uint64_t times;
                if (read(ready[i].data.fd, &times, sizeof times) != sizeof times) continue;
                is_rung = is_rung || ready[i].data.fd == bell_;
            }
        }
    }

private:
    /// Sets the timer to so long after the tick was begun; all zero, as for `never`, is off.
    void sleep_until(timespec begun, uint32_t ms) {
        itimerspec when{};
        if (ms != pj::never) {
            const long nanoseconds = begun.tv_nsec + static_cast<long>(ms % 1000) * 1000000;
            when.it_value.tv_sec = begun.tv_sec + static_cast<time_t>(ms / 1000) +
                                   nanoseconds / 1000000000;
            when.it_value.tv_nsec = nanoseconds % 1000000000;
        }
        if (timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr) != 0) abort();
    }

    int epoll_ = epoll_create1(EPOLL_CLOEXEC);
    int timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    int bell_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
};

int main(int argc, char** argv) { return drive_all<epoll_loop>("epoll", argc, argv); }
