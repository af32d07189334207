// expect: projections: this function takes or answers something else than the callback
// A function is called as what it is.
#include "projections.hpp"
namespace pj = projections;

uint64_t milliseconds();

#ifdef CORRECT
pj::callback<uint32_t()> clock_of_host = [] { return static_cast<uint32_t>(milliseconds()); };
#else
pj::callback<uint32_t()> clock_of_host = milliseconds;
#endif
