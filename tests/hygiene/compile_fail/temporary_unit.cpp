// expect: projections: only the address of a unit of work is kept
#include "projections.hpp"
namespace pj = projections;

struct database {
    pj::status begin() { return pj::status::ok; }
    pj::status commit() { return pj::status::ok; }
    pj::status rollback() { return pj::status::ok; }
};
#ifdef CORRECT
database mine;
pj::unit_of_work unit{mine};
#else
pj::unit_of_work unit{database{}};
#endif
