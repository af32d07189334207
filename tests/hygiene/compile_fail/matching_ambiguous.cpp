// expect: projections: an on\(\) for an event of pj::matching<...> cannot be called
// Of two that fit equally well neither would be called, in silence.
#include "projections.hpp"
namespace pj = projections;

struct money { uint32_t cents; };
struct coin : money { static constexpr pj::event_type type{"Coin", pj::raw}; };
struct note : money { static constexpr pj::event_type type{"Note", pj::raw}; };
struct purse {
    using handles = pj::matching<pj::events<coin, note>>;
    void on(const coin&) const {}
#ifdef CORRECT
    void on(const money&) const {}
#else
    void on(const money&) {}
#endif
};

purse mine;
pj::handler_map<2> map;
pj::handler_map<2>& use();
pj::handler_map<2>& use() { return map.add(mine); }
