// expect: deleted (function|constructor).*registry
// A copy would be somebody else's table of addresses.
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
pj::registry first{mine};
#ifdef CORRECT
auto& second = first;
#else
pj::registry second{first};
auto third = first;
#endif
