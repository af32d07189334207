// expect: projections: a checkpoint store needs `pj::status save\(
// A checkpoint store that cannot save.
#include "projections.hpp"
namespace pj = projections;

struct slot {
    pj::status load(pj::text, pj::checkpoint&) { return pj::status::ok; }
#ifdef CORRECT
    pj::status save(pj::text, const pj::checkpoint&) { return pj::status::ok; }
#endif
};

slot kept;
pj::checkpoint_store store{kept};
