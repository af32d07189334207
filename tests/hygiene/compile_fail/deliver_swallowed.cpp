// expect: projections: .* would be swallowed by the on\(\) of its parent
// The short form of deliver() asks for the event's own on(), too.
#include "projections.hpp"
namespace pj = projections;

struct money { uint32_t cents = 0; };
struct coin : money { static constexpr pj::event_type type{"Coin", pj::raw}; };
struct purse {
    using handles = pj::events<coin>;
#ifdef CORRECT
    void on(const coin&) {}
#else
    void on(const money&) {}
#endif
};

pj::verdict use(purse& handler);
pj::verdict use(purse& handler) { return pj::deliver(handler, coin{}); }
