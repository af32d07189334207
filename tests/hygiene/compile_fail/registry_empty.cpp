// expect: projections: an empty registry handles nothing
// A registry of nothing.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct purse {
    using handles = pj::events<coin>;
    uint32_t cents = 0;
    void on(const coin& e) { cents += e.cents; }
};

purse mine;
#ifdef CORRECT
pj::registry some{mine};
#else
pj::registry<> none;
#endif
