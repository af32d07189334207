// expect: projections: two event types of one registry have the same name or number
// The number made of one name is the explicit number of another.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct note {
#ifdef CORRECT
    static constexpr pj::event_type type{"Note", pj::id{8}, pj::raw};
#else
    static constexpr pj::event_type type{"Note", pj::id{coin::type.number()}, pj::raw};
#endif
    uint32_t value;
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};
struct wallet {
    using handles = pj::events<note>;
    void on(const note&) {}
};

purse a;
wallet b;
pj::registry both{a, b};
pj::routes to{both};
