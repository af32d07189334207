// expect: projections: only the address of a callable is kept
// A lambda with captures has an address, which must last.
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

void use(pj::projection& described, uint32_t& now_ms);
void use(pj::projection& described, uint32_t& now_ms) {
#ifdef CORRECT
    static auto clock = [&now_ms] { return now_ms; };
    described.clock = clock;
#else
    described.clock = [&now_ms] { return now_ms; };
#endif
}
