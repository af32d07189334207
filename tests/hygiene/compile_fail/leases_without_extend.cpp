// expect: projections: a lease store needs `pj::status acquire\(
#include "projections.hpp"
namespace pj = projections;

struct locks {
    pj::status acquire(pj::text, uint32_t, uint64_t&) { return pj::status::ok; }
#ifdef CORRECT
    pj::status extend(pj::text, uint32_t, uint64_t) { return pj::status::ok; }
#endif
    pj::status release(pj::text, uint64_t) { return pj::status::ok; }
};
locks mine;
pj::lease lease{mine};
