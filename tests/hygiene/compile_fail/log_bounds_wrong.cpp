// expect: projections: .*bounds\(
// bounds() has two or three parameters, by reference; a wrong one must not be overlooked.
#include "projections.hpp"
namespace pj = projections;

struct array_log {
    pj::status read(pj::position, pj::visitor&) { return pj::status::ok; }
#ifdef CORRECT
    pj::status bounds(pj::position&, pj::position&, uint64_t&) { return pj::status::ok; }
#else
    pj::status bounds(pj::position, pj::position) { return pj::status::ok; }
#endif
};

array_log kept;
pj::event_store store{kept};
