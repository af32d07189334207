// A handler that answers pending while a request is under way. The client is a fake: it answers
// some milliseconds later, sometimes 429 or 503; its completion wakes the worker, nobody polls.
#include "projections.hpp"
#include <stdio.h>
namespace pj = projections;

struct order_created {
    static constexpr pj::event_type type{"OrderCreated", pj::raw};
    uint32_t order, cents;
};

/// At most one request at a time.
struct http_client {
    uint32_t sent = 0, cancelled = 0, done_at_ms = 0;
    int status = 0;
    bool is_busy = false;
    pj::waker waiting;

    void put(uint32_t order, uint32_t now_ms, pj::waker when_done) {
        static const int answers[] = {200, 503, 200, 429, 200, 404};
        status = answers[sent % 6];
        ++sent;
        done_at_ms = now_ms + 30 + order;
        is_busy = true;
        waiting = when_done;
    }
    void cancel() {
        cancelled += is_busy;
        is_busy = false;
    }
    void poll(uint32_t now_ms) {
        if (!is_busy || now_ms < done_at_ms) return;
        is_busy = false;
        waiting.wake();
    }
};

struct search_index {
    using handles = pj::events<order_created>;
    http_client* http;
    uint32_t indexed = 0;

    pj::verdict on(const order_created& e, const pj::context& ctx) {
        if (!ctx.resumed) {                 // a new event or attempt, or we were stopped
            http->cancel();
            http->put(e.order, ctx.now_ms, ctx.waker);
        }
        if (http->is_busy) return pj::pending;
        if (http->status == 404) return pj::reject(404);
        if (http->status != 200) return pj::fail(static_cast<uint32_t>(http->status));
        ++indexed;
        return pj::handled;
    }
};

int main() {
    pj::memory_log<64, 4096> log;
    pj::memory_checkpoint_store<1> checkpoints;
    http_client http;
    search_index index{&http};
    uint32_t letters = 0;
    auto dead_letters = [&letters](const pj::dead_letter& l) {
        letters += l.code == 404;
        return pj::status::ok;
    };
    pj::projection what{"search_index", log, index, checkpoints};
    what.pending_ms = pj::never;            // the client wakes the worker
    what.poll_ms = pj::never;
    what.dead_letters = dead_letters;
    what.on_error = pj::error_policy::retry_then_dead_letter(10);
    pj::worker worker{what};
    for (uint32_t i = 0; i < 40; ++i) log.append(order_created{i, 100 * i});

    uint32_t now_ms = 0, sleeps = 0;
    bool was_stopped = false;
    const auto sleep = [&](uint32_t wait_ms) {
        ++sleeps;
        for (uint32_t i = 0; i < wait_ms && !worker.woken(); ++i) {
            if (worker.caught_up() || (http.sent == 20 && http.is_busy && !was_stopped)) {
                was_stopped = was_stopped || !worker.caught_up();
                return worker.stop();       // the second time in the middle of a request
            }
            http.poll(++now_ms);
        }
    };
    for (int runs = 0; runs < 2; ++runs) {
        if (worker.start() != pj::status::ok) return 1;
        if (pj::run(worker, [&] { return now_ms; }, sleep) != pj::status::ok) return 2;
    }
    printf("%u indexed, %u letters, %u requests, %u cancelled, %u sleeps, %u ms\n",
           static_cast<unsigned>(index.indexed), static_cast<unsigned>(letters),
           static_cast<unsigned>(http.sent), static_cast<unsigned>(http.cancelled),
           static_cast<unsigned>(sleeps), static_cast<unsigned>(now_ms));
    if (index.indexed + letters != 40 || letters == 0 || http.cancelled != 1) return 3;
    return worker.checkpointed() == 39 && sleeps < 2 * http.sent + 5 ? 0 : 4;
}
