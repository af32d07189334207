// expect: projections: add<Event>\(function\) needs a function that takes `const Event&`
// A function that does not take the event.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};

void on_number(uint32_t);
void on_coin(const coin&);

void use(pj::handler_map<1>& map);
void use(pj::handler_map<1>& map) {
#ifdef CORRECT
    map.add<coin>(on_coin);
#else
    map.add<coin>(on_number);
#endif
}
