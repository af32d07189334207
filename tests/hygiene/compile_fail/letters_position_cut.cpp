// expect: projections: a store of letters that can be asked for again needs
// A position that is cut is that of another letter.
#include "projections.hpp"
namespace pj = projections;

struct office {
    pj::status put(const pj::dead_letter& letter);
    pj::status first(const pj::letter_sequence& of, pj::letter_visitor& show);
#ifdef CORRECT
    pj::status evict(const pj::letter_sequence& of, pj::position at);
#else
    pj::status evict(const pj::letter_sequence& of, int at);
#endif
    pj::status sequences(const pj::letter_sequence& of, pj::sequence_visitor& show);
};

office mine;
pj::dead_letter_sink sink{mine};
