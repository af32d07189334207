// expect: projections: an event store needs `pj::status read\(
// read() answers a status.
#include "projections.hpp"
namespace pj = projections;

struct array_log {
#ifdef CORRECT
    pj::status read(pj::position, pj::visitor&) { return pj::status::ok; }
#else
    bool read(pj::position, pj::visitor&) { return true; }
#endif
};

array_log kept;
pj::event_store store{kept};
