// expect: projections: an on\(\) for an event of pj::matching<...> cannot be called
// Of a const handler only what is const can be called; the rest would be passed over in silence.
#include "projections.hpp"
namespace pj = projections;

struct coin { static constexpr pj::event_type type{"Coin", pj::raw}; };
struct note { static constexpr pj::event_type type{"Note", pj::raw}; };
struct purse {
    using handles = pj::matching<pj::events<coin, note>>;
    void on(const note&) const {}
#ifdef CORRECT
    void on(const coin&) const {}
#else
    void on(const coin&) {}
#endif
};

const purse mine{};
pj::routes routes{mine};
