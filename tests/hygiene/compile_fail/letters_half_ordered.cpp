// expect: projections: a store of letters that can be asked for again needs
// With some of the members, the others were forgotten, or are spelled wrongly.
#include "projections.hpp"
namespace pj = projections;

struct letters {
    pj::status put(const pj::dead_letter&) { return pj::status::ok; }
    pj::status first(const pj::letter_sequence&, pj::letter_visitor&) { return pj::status::ok; }
    pj::status evict(const pj::letter_sequence&, pj::position) { return pj::status::ok; }
#ifdef CORRECT
    pj::status sequences(const pj::letter_sequence&, pj::sequence_visitor&) {
        return pj::status::ok;
    }
#endif
};
letters mine;
pj::dead_letter_sink sink{mine};
