// expect: projections: only the address of a dead-letter sink is kept
// Only the address of the sink is kept.
#include "projections.hpp"
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
struct array_log {
    pj::status read(pj::position, pj::visitor&) { return pj::status::ok; }
};
struct slot {
    pj::status load(pj::text, pj::checkpoint&) { return pj::status::ok; }
    pj::status save(pj::text, const pj::checkpoint&) { return pj::status::ok; }
};

array_log events_stored;
slot saved;
purse mine;
struct letters {
    pj::status put(const pj::dead_letter&) { return pj::status::ok; }
};
letters dead;
#ifdef CORRECT
pj::dead_letter_sink sink{dead};
#else
pj::dead_letter_sink sink{letters{}};
#endif
