// expect: projections: event_store::from<>\(\) needs a member
// The same by a member of another name.
#include "projections.hpp"
namespace pj = projections;

struct ring {
#ifdef CORRECT
    pj::status fetch(pj::position after, pj::visitor& visit);
#else
    pj::status fetch(uint32_t after, pj::visitor& visit);
#endif
};

ring log;
pj::event_store store = pj::event_store::from<&ring::fetch>(log);
