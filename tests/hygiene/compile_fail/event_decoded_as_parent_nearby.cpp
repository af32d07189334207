// expect: projections: an event would be decoded as its parent
// The same with a decode_event() beside the parent.
#include "projections.hpp"
namespace pj = projections;

struct money { uint32_t cents = 0; };
bool decode_event(const pj::stored_event& in, money& out);
struct coin : money {
    static constexpr pj::event_type type{"Coin"};
    uint32_t year = 0;
};
#ifdef CORRECT
bool decode_event(const pj::stored_event& in, coin& out);
#endif
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

purse mine;
pj::routes routes{mine};
