// expect: no matching function for call to 'registry\(purse\)'|deduction of template arguments of 'registry'|deduction failed
// Only the address of a handler is kept.
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
pj::registry handlers{mine};
#else
pj::registry handlers{purse{}};
#endif
