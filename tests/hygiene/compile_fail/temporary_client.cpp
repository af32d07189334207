// expect: projections: only the address of a consumer is kept
// Only the address of the client is kept.
#include "projections.hpp"
namespace pj = projections;

struct client {
    pj::status subscribe(pj::text, pj::text) { return pj::status::ok; }
    pj::status unsubscribe(pj::text, pj::text) { return pj::status::ok; }
};

client broker;
#ifdef CORRECT
pj::consumer consumer{broker};
#else
pj::consumer consumer{client{}};
#endif
