// What a fragment in README.md may take as given: its includes, and the things of the quickstart.
#include "projections.hpp"
#include "tests/kit/projections_kit.hpp"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

namespace pj = projections;

namespace given {

struct order_created {
    static constexpr pj::event_type type{"OrderCreated", pj::raw};
    uint32_t order;
    uint32_t cents;
};
struct order_shipped {
    static constexpr pj::event_type type{"OrderShipped", pj::raw};
    uint32_t order;
};
struct sales {
    using handles = pj::events<order_created, order_shipped>;
    uint32_t cents = 0;
    uint32_t shipped = 0;
    void on(const order_created& e) { cents += e.cents; }
    void on(const order_shipped&) { ++shipped; }
};

inline pj::memory_log<64, 4096> log;
inline pj::memory_checkpoint_store<4> checkpoints;
inline sales total;
inline pj::projection projection{"sales", log, total, checkpoints};
inline pj::worker worker{projection};
inline uint32_t now_ms = 0;
inline void sleep_for(uint32_t) {}
struct my_checkpoints {
    pj::status load(pj::text, pj::checkpoint&) { return pj::status::ok; }
    pj::status save(pj::text, const pj::checkpoint&) { return pj::status::ok; }
};
struct my_database : my_checkpoints {
    pj::status begin() { return pj::status::ok; }
    pj::status commit() { return pj::status::ok; }
    pj::status rollback() { return pj::status::ok; }
    pj::status set_number(int) { return pj::status::ok; }
    int number() { return 0; }
};

} // namespace given

using namespace given;
