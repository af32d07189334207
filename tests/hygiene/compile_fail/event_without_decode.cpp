// expect: projections: give the event `static bool decode\(
// Nothing says how the payload becomes the struct.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin"};
    uint32_t cents;
#ifdef CORRECT
    static bool decode(const pj::stored_event& in, coin& out) { return in.payload.copy_to(out.cents); }
#endif
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) { return pj::deliver(handler, event); }
