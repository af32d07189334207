// expect: projections: former names are
// Names of another type would be passed over, and old events would be nobody's.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
#ifdef CORRECT
    static constexpr pj::event_type also[]{{"Money"}};
#else
    static constexpr pj::text also[]{"Money"};
#endif
    uint32_t cents;
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

purse mine;
pj::routes routes{mine};
