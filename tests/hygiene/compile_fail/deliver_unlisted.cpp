// expect: projections: this event is not in `handles`
// A test that passes what no engine would give to the handler hides a forgotten entry.
#include "projections.hpp"
namespace pj = projections;

struct coin { static constexpr pj::event_type type{"Coin", pj::raw}; };
struct note { static constexpr pj::event_type type{"Note", pj::raw}; };
struct purse {
#ifdef CORRECT
    using handles = pj::events<coin, note>;
#else
    using handles = pj::events<coin>;
#endif
    void on(const coin&) {}
    void on(const note&) {}
};

pj::verdict use(purse& handler);
pj::verdict use(purse& handler) { return pj::deliver(handler, note{}); }
