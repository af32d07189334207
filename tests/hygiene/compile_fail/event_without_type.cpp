// expect: projections: give the event `static constexpr pj::event_type type
// Nothing says how the event is found in the log.
#include "projections.hpp"
namespace pj = projections;

struct coin {
#ifdef CORRECT
    static constexpr pj::event_type type{"Coin", pj::raw};
#endif
    uint32_t cents;
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) { return pj::deliver(handler, event); }
