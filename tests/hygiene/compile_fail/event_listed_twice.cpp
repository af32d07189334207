// expect: projections: two event types .* or a handler lists one twice
// One handler lists the same event twice.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct purse {
#ifdef CORRECT
    using handles = pj::events<coin>;
#else
    using handles = pj::events<coin, coin>;
#endif
    void on(const coin&) {}
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) { return pj::deliver(handler, event); }
