// expect: projections: .* would be swallowed by the on\(\) of its parent
// on(const Base&) would take the events of a forgotten on(const Derived&).
#include "projections.hpp"
namespace pj = projections;

struct money {
    uint32_t cents = 0;
};
struct coin : money {
    static constexpr pj::event_type type{"Coin", pj::raw};
};
struct purse {
    using handles = pj::events<coin>;
#ifdef CORRECT
    void on(const coin&) {}
#else
    void on(const money&) {}
#endif
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) { return pj::deliver(handler, event); }
