// expect: projections: a checkpoint store needs `pj::status save\(
// A save that cannot fail is a save that hides its failures.
#include "projections.hpp"
namespace pj = projections;

struct slot {
    pj::status load(pj::text, pj::checkpoint&) { return pj::status::ok; }
#ifdef CORRECT
    pj::status save(pj::text, const pj::checkpoint&) { return pj::status::ok; }
#else
    void save(pj::text, const pj::checkpoint&) {}
#endif
};

slot kept;
pj::checkpoint_store store{kept};
