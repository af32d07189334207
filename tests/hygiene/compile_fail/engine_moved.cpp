// expect: deleted (function|copy constructor).*worker
// Interrupts hold its address.
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
struct array_log {
    pj::status read(pj::position, pj::visitor&) { return pj::status::ok; }
};
struct slot {
    pj::status load(pj::text, pj::checkpoint&) { return pj::status::ok; }
    pj::status save(pj::text, const pj::checkpoint&) { return pj::status::ok; }
};

array_log events_stored;
slot saved;
purse mine;
pj::projection described{"purse", events_stored, mine, saved};
pj::worker worker{described};
#ifdef CORRECT
pj::worker& moved{worker};
#else
pj::worker moved{static_cast<pj::worker&&>(worker)};
#endif
