// What all the translation units of the ODR test do, each with the header under its own switches.
#include "projections.hpp"

#include <typeinfo>

namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct purse {
    using handles = pj::events<coin>;
    uint32_t cents = 0;
    void on(const coin& e) { cents += e.cents; }
};

/// What is in the purse at the end: 42. One instantiation of every engine part per translation unit.
static uint32_t fill_a_purse() {
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    purse mine;
    pj::registry handlers{mine};
    const pj::projection projection{"purse", log, handlers, checkpoints};
    pj::worker worker{projection};
    const coin coins[] = {{40}, {2}};
    for (const coin& each : coins) static_cast<void>(log.append(each));
    if (worker.start() != pj::status::ok) return 0;
    while (worker.tick(0).wait_ms == 0) {}
    return mine.cents;
}

/// The worker's name as the linker sees it, the inline namespace included.
static const char* worker_name() { return typeid(pj::worker).name(); }

struct report {
    uint32_t cents;
    const char* worker;
};
report same_switches();
report without_exceptions();
report asserting();
