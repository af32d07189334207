// expect: projections: every handler of a registry is a class with
// A registry tells a class without a list, too.
#include "projections.hpp"
namespace pj = projections;

struct coin { static constexpr pj::event_type type{"Coin", pj::raw}; };
class purse {
#ifdef CORRECT
public:
#endif
    using handles = pj::events<coin>;

public:
    void on(const coin&) {}
};

purse mine;
pj::registry all{mine};
pj::routes routes{all};
