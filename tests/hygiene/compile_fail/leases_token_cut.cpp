// expect: projections: a lease store needs
// A token that is cut is that of an earlier lease.
#include "projections.hpp"
namespace pj = projections;

struct locks {
    pj::status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token);
    pj::status extend(pj::text resource, uint32_t ttl_ms, uint64_t token);
#ifdef CORRECT
    pj::status release(pj::text resource, uint64_t token);
#else
    pj::status release(pj::text resource, uint32_t token);
#endif
};

locks mine;
pj::lease_store store{mine};
