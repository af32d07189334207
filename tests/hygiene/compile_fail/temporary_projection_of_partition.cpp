// expect: deleted (function|constructor).*partitioned_worker
// Every engine keeps the address of its description.
#include "projections.hpp"
namespace pj = projections;

#ifdef CORRECT
pj::projection described;
pj::partitioned_worker one{described, {0, 1}};
#else
pj::partitioned_worker one{pj::projection{}, {0, 1}};
#endif
