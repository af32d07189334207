// expect: projections: no on\(\) of this handler takes any event of its pj::matching<> catalogue
// No on() takes any event of the catalogue.
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
using catalogue = pj::events<coin>;
struct purse {
    using handles = pj::matching<catalogue>;
#ifdef CORRECT
    void on(const coin&) {}
#else
    void on(const note&) {}
#endif
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) { return pj::deliver(handler, event); }
