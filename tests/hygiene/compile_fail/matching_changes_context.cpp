// expect: projections: an on\(\) for an event of pj::matching<...> cannot be called
// A context cannot be changed; an on() that wants to would be passed over in silence.
#include "projections.hpp"
namespace pj = projections;

struct coin { static constexpr pj::event_type type{"Coin", pj::raw}; };
struct note { static constexpr pj::event_type type{"Note", pj::raw}; };
struct purse {
    using handles = pj::matching<pj::events<coin, note>>;
    void on(const note&) {}
#ifdef CORRECT
    void on(const coin&, const pj::context&) {}
#else
    void on(const coin&, pj::context&) {}
#endif
};

purse mine;
pj::routes routes{mine};
