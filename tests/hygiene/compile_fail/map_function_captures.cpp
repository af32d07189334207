// expect: projections: add<Event>\(function\) takes a function or a lambda without captures
// Only a plain function can be kept.
#include "projections.hpp"
namespace pj = projections;

struct coin { static constexpr pj::event_type type{"Coin", pj::raw}; };

void use(pj::handler_map<1>& map, int& count);
void use(pj::handler_map<1>& map, int& count) {
#ifdef CORRECT
    static_cast<void>(count);
    map.add<coin>([](const coin&) {});
#else
    map.add<coin>([&count](const coin&) { ++count; });
#endif
}
