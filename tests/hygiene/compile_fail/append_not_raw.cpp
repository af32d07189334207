// expect: projections: memory_log::append\(event\) keeps raw events
// memory_log can only encode by copying bytes.
#include "projections.hpp"
namespace pj = projections;

struct coin {
    uint32_t cents;
#ifdef CORRECT
    static constexpr pj::event_type type{"Coin", pj::raw};
#else
    static constexpr pj::event_type type{"Coin"};
#endif
    static bool decode(const pj::stored_event& in, coin& out) { return in.payload.copy_to(out.cents); }
};

pj::position use(pj::memory_log<4, 64>& log, const coin& event);
pj::position use(pj::memory_log<4, 64>& log, const coin& event) { return log.append(event); }
