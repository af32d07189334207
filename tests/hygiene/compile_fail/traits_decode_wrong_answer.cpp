// expect: projections: the decode\(\) of event_traits answers bool
// A C function that answers 0 when all is well would be taken the wrong way round.
#include "projections.hpp"
namespace pj = projections;

struct coin { uint32_t cents; };
template<> struct projections::event_traits<coin> {
    static constexpr event_type type{"Coin"};
#ifdef CORRECT
    static bool decode(const stored_event& in, coin& out) { return in.payload.copy_to(out); }
#else
    static int decode(const stored_event& in, coin& out) {
        return in.payload.copy_to(out) ? 0 : -1;
    }
#endif
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

purse mine;
pj::routes routes{mine};
