// expect: projections: an event store needs `pj::status read
// To an unsigned number before_first is the end of every log.
#include "projections.hpp"
namespace pj = projections;

struct ring {
#ifdef CORRECT
    pj::status read(pj::position after, pj::visitor& visit);
#else
    pj::status read(uint64_t after, pj::visitor& visit);
#endif
};

ring log;
pj::event_store store{log};
