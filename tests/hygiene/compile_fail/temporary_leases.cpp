// expect: projections: only the address of a lease store is kept
#include "projections.hpp"
namespace pj = projections;

struct locks {
    pj::status acquire(pj::text, uint32_t, uint64_t&) { return pj::status::ok; }
    pj::status extend(pj::text, uint32_t, uint64_t) { return pj::status::ok; }
    pj::status release(pj::text, uint64_t) { return pj::status::ok; }
};
#ifdef CORRECT
locks mine;
pj::lease lease{mine};
#else
pj::lease lease{locks{}};
#endif
