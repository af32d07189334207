// expect: projections: .*upcast
// An event with a `previous` must say how the old becomes the new.
#include "projections.hpp"
namespace pj = projections;

struct coin_v1 {
    uint32_t euros;
    static bool decode(const pj::stored_event& in, coin_v1& out) { return in.payload.copy_to(out.euros); }
};
struct coin {
    static constexpr pj::event_type type{"Coin", pj::schema{2}};
    using previous = coin_v1;
    uint32_t cents;
#ifdef CORRECT
    void upcast(const coin_v1& old) { cents = old.euros * 100; }
#endif
    static bool decode(const pj::stored_event& in, coin& out) { return in.payload.copy_to(out.cents); }
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) { return pj::deliver(handler, event); }
