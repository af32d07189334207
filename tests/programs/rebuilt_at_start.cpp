// The smallest program, run three times: totals with a checkpoint saved beside them. A later run
// handles only what is new; a cleared store means from the beginning.
#include "projections.hpp"
#include <stdio.h>
namespace pj = projections;

struct paid {
    static constexpr pj::event_type type{"Paid", pj::raw};
    uint32_t cents;
};
struct refunded {
    static constexpr pj::event_type type{"Refunded", pj::raw};
    uint32_t cents;
};
struct balance {
    using handles = pj::events<paid, refunded>;
    int64_t cents = 0;
    uint32_t calls = 0;
    void on(const paid& e) {
        cents += e.cents;
        ++calls;
    }
    void on(const refunded& e) {
        cents -= e.cents;
        ++calls;
    }
};

static pj::memory_log<32, 1024> log_;
static pj::memory_checkpoint_store<1> checkpoints;

/// One run of the program: how often a handler was called.
static uint32_t run(balance& total) {
    total.calls = 0;
    const pj::projection projection{"balance", log_, total, checkpoints};
    pj::worker worker{projection};
    if (worker.start() != pj::status::ok) return 0;
    while (worker.tick(0).wait_ms == 0) {}
    worker.stop();
    while (worker.running()) static_cast<void>(worker.tick(0));
    return total.calls;
}

int main() {
    balance total;
    log_.append(paid{4999});
    log_.append(paid{1250});
    if (run(total) != 2 || total.cents != 6249) return 1;
    log_.append(refunded{250});
    if (run(total) != 1 || total.cents != 5999) return 2;
    if (run(total) != 0) return 3;
    checkpoints.clear();
    balance again;
    if (run(again) != 3 || again.cents != total.cents) return 4;
    printf("%ld cents\n", static_cast<long>(again.cents));
    return 0;
}
