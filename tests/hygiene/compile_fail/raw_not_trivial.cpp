// expect: projections: only a trivially copyable object can be filled with bytes
// Bytes of a log cannot be poured over an object with a copy constructor.
#include "projections.hpp"
namespace pj = projections;

struct owner {
    owner() = default;
#ifdef CORRECT
    owner(const owner&) = default;
#else
    owner(const owner&) {}
#endif
};
struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents = 0;
    owner of{};
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

pj::verdict use(purse& handler, const pj::stored_event& event);
pj::verdict use(purse& handler, const pj::stored_event& event) { return pj::deliver(handler, event); }
