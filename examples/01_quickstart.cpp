// The smallest whole program: two kinds of event, one read model, a log, a checkpoint, a worker.
// Build and run: c++ -std=c++17 -I. examples/01_quickstart.cpp -o quickstart && ./quickstart
#include "projections.hpp"
#include <stdio.h>
namespace pj = projections;

struct order_created {                                  // an event: here its bytes are its payload
    static constexpr pj::event_type type{"OrderCreated", pj::raw};
    uint32_t order, cents;
};
struct order_shipped {
    static constexpr pj::event_type type{"OrderShipped", pj::raw};
    uint32_t order;
};

struct sales {                                          // a handler: a plain class
    using handles = pj::events<order_created, order_shipped>;
    uint32_t cents = 0, shipped = 0;
    void on(const order_created& e) { cents += e.cents; }
    void on(const order_shipped&) { ++shipped; }
};

const order_created created[] = {{1, 4999}, {2, 1250}};
const order_shipped shipped{1};
const pj::stored_event history[] = {
    pj::raw_event(0, created[0]), pj::raw_event(1, shipped), pj::raw_event(2, created[1])};

struct array_log {                                      // a log: anything with read()
    pj::status read(pj::position after, pj::visitor& visit) const {
        for (const pj::stored_event& event : history) {
            if (event.at > after && !visit(event)) break;
        }
        return pj::status::ok;
    }
};

int main() {
    array_log log;
    sales total;
    pj::memory_checkpoint_store<1> checkpoints;         // yours: a row, a file, two flash pages
    pj::projection projection{"sales", log, total, checkpoints};
    pj::worker worker{projection};

    if (worker.start() != pj::status::ok) return 1;
    uint32_t now_ms = 0;                                // any millisecond clock
    while (worker.tick(now_ms).wait_ms == 0) {}         // 0: more is waiting
    printf("%lu cents, %lu shipped, checkpoint %d\n", static_cast<unsigned long>(total.cents),
           static_cast<unsigned long>(total.shipped), static_cast<int>(worker.checkpointed()));
}
