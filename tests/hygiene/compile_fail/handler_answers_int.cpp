// expect: projections: on\(\) returns nothing, pj::status or pj::verdict
// What would an int mean?
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct purse {
    using handles = pj::events<coin>;
#ifdef CORRECT
    pj::status on(const coin&) { return pj::status::ok; }
#else
    int on(const coin&) { return 0; }
#endif
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) { return pj::deliver(handler, event); }
