// expect: projections: .*decode
// decode() that answers nothing cannot refuse.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin"};
    uint32_t cents;
#ifdef CORRECT
    static bool decode(const pj::stored_event& in, coin& out) { return in.payload.copy_to(out.cents); }
#else
    static void decode(const pj::stored_event& in, coin& out) { static_cast<void>(in.payload.copy_to(out.cents)); }
#endif
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) { return pj::deliver(handler, event); }
