// expect: projections: a consumer needs `pj::status subscribe\(
// A sink that subscribes has to unsubscribe, too.
#include "projections.hpp"
namespace pj = projections;

struct client {
    pj::status subscribe(pj::text, pj::text) { return pj::status::ok; }
#ifdef CORRECT
    pj::status unsubscribe(pj::text, pj::text) { return pj::status::ok; }
#endif
};

client broker;
pj::consumer consumer{broker};
