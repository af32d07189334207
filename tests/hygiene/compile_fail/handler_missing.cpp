// expect: projections: `handles` names an event for which there is no on\(const Event&\)
// An event stands in `handles`, but there is no on() for it.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct note {
    static constexpr pj::event_type type{"Note", pj::raw};
    uint32_t value;
};
struct purse {
    using handles = pj::events<coin, note>;
    void on(const coin&) {}
#ifdef CORRECT
    void on(const note&) {}
#endif
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) { return pj::deliver(handler, event); }
