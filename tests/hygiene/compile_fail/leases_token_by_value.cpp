// expect: projections: a lease store needs `pj::status acquire\(
// A token by value would never be filled in.
#include "projections.hpp"
namespace pj = projections;

struct locks {
#ifdef CORRECT
    pj::status acquire(pj::text, uint32_t, uint64_t&) { return pj::status::ok; }
#else
    pj::status acquire(pj::text, uint32_t, uint64_t) { return pj::status::ok; }
#endif
    pj::status extend(pj::text, uint32_t, uint64_t) { return pj::status::ok; }
    pj::status release(pj::text, uint64_t) { return pj::status::ok; }
};
locks mine;
pj::lease lease{mine};
