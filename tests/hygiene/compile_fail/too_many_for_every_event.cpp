// expect: projections: at most 31 handlers for every event
// The 32nd would share the bit of those that have no handler.
#include "projections.hpp"
namespace pj = projections;

template<int> struct ear {
    using handles = pj::every_event;
    void on(const pj::stored_event&) {}
};
template<int... N> struct ears : ear<N>... {
    pj::registry<ear<N>...> all{static_cast<ear<N>&>(*this)...};
    pj::routes to{all};
};

#ifdef CORRECT
ears<1, 2> mine;
#else
ears<1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
     27, 28, 29, 30, 31, 32> mine;
#endif
