// expect: deleted (function|constructor).*event_sink
// Every engine keeps the address of its description.
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
#ifdef CORRECT
pj::event_sink engine{described};
#else
pj::event_sink engine{pj::projection{described}};
#endif
