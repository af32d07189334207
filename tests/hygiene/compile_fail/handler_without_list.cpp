// expect: projections: handlers are a class with `using handles
// A handler must say what it handles.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct purse {
#ifdef CORRECT
    using handles = pj::events<coin>;
#endif
    void on(const coin&) {}
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) {
    return pj::deliver(pj::routes(handler), event);
}
