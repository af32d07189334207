// expect: deleted function.*raw_event
// The payload would point to an object that is gone.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};

const coin one{1};
pj::stored_event stored();
#ifdef CORRECT
pj::stored_event stored() { return pj::raw_event(0, one); }
#else
pj::stored_event stored() { return pj::raw_event(0, coin{1}); }
#endif
