// expect: projections: an event would be decoded as its parent
// A forgotten decode() would be the parent's, and what the child adds would never be filled in.
#include "projections.hpp"
namespace pj = projections;

struct money {
    uint32_t cents = 0;
    static bool decode(const pj::stored_event& in, money& out) {
        return in.payload.copy_to(out.cents);
    }
};
struct coin : money {
    static constexpr pj::event_type type{"Coin"};
#ifdef CORRECT
    static bool decode(const pj::stored_event& in, coin& out) { return money::decode(in, out); }
#endif
    uint32_t year = 0;
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

purse mine;
pj::routes routes{mine};
