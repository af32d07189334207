// Rebuilding a read model: in place, and beside the live one without downtime.
// Build and run: c++ -std=c++17 -I. examples/03_rebuild.cpp -o rebuild && ./rebuild
#include "projections.hpp"
#include <stdio.h>
namespace pj = projections;

struct order_placed {
    static constexpr pj::event_type type{"OrderPlaced", pj::raw};
    uint32_t day, cents;
};

struct revenue {                        // version 1: one sum
    using handles = pj::events<order_placed>;
    uint64_t cents = 0;
    void on(const order_placed& e) { cents += e.cents; }
};
struct revenue_per_day {                // version 2: a sum for each day of the week
    using handles = pj::events<order_placed>;
    uint64_t cents[7] = {};
    void on(const order_placed& e) { cents[e.day % 7] += e.cents; }
    uint64_t sum() const {
        uint64_t all = 0;
        for (const uint64_t one : cents) all += one;
        return all;
    }
};
struct mailer {                         // a side effect: never for events that were handled before
    using handles = pj::live_only<order_placed>;
    uint32_t sent = 0;
    void on(const order_placed&) { ++sent; }
};

static pj::memory_log<4096, 65536> orders;
static void place(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) orders.append(order_placed{i, 100 + i});
}
static uint32_t now_ms() { return 0; }
static void sleep_ms(uint32_t) {}
static bool run_until_stopped(pj::worker& w) {
    while (w.tick(now_ms()).wait_ms == 0) {}
    w.stop();
    return pj::run(w, now_ms, sleep_ms) == pj::status::ok;
}

int main() {
    pj::memory_checkpoint_store<2> checkpoints;
    mailer mails;
    revenue total;
    pj::registry handlers{total, mails};
    const pj::projection described{"revenue", orders, handlers, checkpoints};
    pj::worker live{described};
    place(1000);
    if (live.start() != pj::status::ok || !run_until_stopped(live)) return 1;
    const uint64_t right = total.cents;

    // In place. A defect has spoiled the model; the admin rebuilds it from the log.
    total.cents = 7;
    const auto drop = [&] { total = {}; return pj::status::ok; };
    const auto bar = [](const pj::progress& p) { printf("\rrebuilding %3d %%", p.percent); };
    pj::replay_options options;
    options.on_drop = drop;
    options.on_progress = bar;
    pj::replay_engine rebuild{described, options};
    if (rebuild.start() != pj::status::ok || pj::run(rebuild, now_ms, sleep_ms) != pj::status::ok)
        return 1;
    printf("\n%llu cents, %lu mails\n", static_cast<unsigned long long>(total.cents),
           static_cast<unsigned long>(mails.sent));

    // Beside. The new version catches up under a new name while the old one works.
    revenue_per_day per_day;
    pj::registry new_handlers{per_day, mails};
    pj::projection described_anew{"revenue_per_day", orders, new_handlers, checkpoints};
    pj::replay_engine warm_up{described_anew};
    if (live.start() != pj::status::ok || warm_up.start() != pj::status::ok) return 1;
    while (warm_up.running()) {
        place(1);                                                   // business goes on
        live.wake();
        sleep_ms(pj::tick_all(now_ms(), live, warm_up));
    }
    if (!warm_up.finished() || !run_until_stopped(live)) return 1;  // the old one rests here ...
    described_anew.replayed_through = live.checkpointed();          // ... and has sent these mails
    place(5);
    pj::worker next{described_anew};
    if (next.start() != pj::status::ok || !run_until_stopped(next)) return 1;
    printf("switched at event %d: %llu cents, %lu mails for %d orders\n",
           static_cast<int>(live.checkpointed()), static_cast<unsigned long long>(per_day.sum()),
           static_cast<unsigned long>(mails.sent), static_cast<int>(next.checkpointed() + 1));

    const bool is_right = right == 599500 && mails.sent == next.checkpointed() + 1 &&
                          per_day.sum() == total.cents + 510;
    return is_right ? 0 : 1;
}
