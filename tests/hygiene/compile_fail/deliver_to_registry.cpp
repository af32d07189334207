// expect: projections: a registry or a handler_map is given a stored event
// Only one handler can be given an event as it is.
#include "projections.hpp"
namespace pj = projections;

struct coin { static constexpr pj::event_type type{"Coin", pj::raw}; };
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

pj::verdict use(pj::registry<purse>& all, const coin& event);
pj::verdict use(pj::registry<purse>& all, const coin& event) {
#ifdef CORRECT
    return pj::deliver(all, pj::raw_event(0, event));
#else
    return pj::deliver(all, event);
#endif
}
