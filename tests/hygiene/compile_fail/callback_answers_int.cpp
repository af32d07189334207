// expect: projections: this callable has to answer bool
// A function of C that answers 0 where all is well would be taken the wrong way round.
#include "projections.hpp"
namespace pj = projections;

#ifdef CORRECT
using answer = bool;
#else
using answer = int;
#endif
struct parser {
    answer operator()(pj::stored_event& message);
};

parser mine;
pj::callback<bool(pj::stored_event&)> open{mine};
