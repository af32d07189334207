// expect: projections: deliver\(handler, event\) needs a handler with an on\(\) for the event
// An event that is not stored, delivered to a registry, which finds handlers by what is stored.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&);
};

pj::verdict use(purse& one, pj::registry<purse>& all);
pj::verdict use(purse& one, pj::registry<purse>& all) {
#ifdef CORRECT
    static_cast<void>(all);
    return pj::deliver(one, coin{1});
#else
    static_cast<void>(one);
    return pj::deliver(all, coin{1});
#endif
}
