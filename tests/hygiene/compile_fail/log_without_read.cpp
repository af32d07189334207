// expect: projections: an event store needs `pj::status read\(
// A log is anything with read().
#include "projections.hpp"
namespace pj = projections;

struct array_log {
#ifdef CORRECT
    pj::status read(pj::position, pj::visitor&) { return pj::status::ok; }
#else
    pj::status fetch(pj::position, pj::visitor&) { return pj::status::ok; }
#endif
};

array_log kept;
pj::event_store store{kept};
