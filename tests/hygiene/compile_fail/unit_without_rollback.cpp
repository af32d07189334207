// expect: projections: a unit of work needs `pj::status begin\(\)`
#include "projections.hpp"
namespace pj = projections;

struct database {
    pj::status begin() { return pj::status::ok; }
    pj::status commit() { return pj::status::ok; }
#ifdef CORRECT
    pj::status rollback() { return pj::status::ok; }
#else
    void rollback() {}
#endif
};
database mine;
pj::unit_of_work unit{mine};
