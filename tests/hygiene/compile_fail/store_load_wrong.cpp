// expect: projections: a checkpoint store needs `pj::status load\(
// load() fills a checkpoint.
#include "projections.hpp"
namespace pj = projections;

struct slot {
#ifdef CORRECT
    pj::status load(pj::text, pj::checkpoint&) { return pj::status::ok; }
#else
    pj::status load(pj::text, pj::position&) { return pj::status::ok; }
#endif
    pj::status save(pj::text, const pj::checkpoint&) { return pj::status::ok; }
};

slot kept;
pj::checkpoint_store store{kept};
