// expect: projections: a dead-letter sink needs `pj::status put\(
// A sink of dead letters is anything with put().
#include "projections.hpp"
namespace pj = projections;

struct letters {
#ifdef CORRECT
    pj::status put(const pj::dead_letter&) { return pj::status::ok; }
#else
    pj::status push(const pj::dead_letter&) { return pj::status::ok; }
#endif
};

letters kept;
pj::dead_letter_sink sink{kept};
