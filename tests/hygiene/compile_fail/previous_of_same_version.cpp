// expect: an event with a `previous` is of a later version than that
// Bytes of the older layout would be taken for the newer one.
#include "projections.hpp"
namespace pj = projections;

struct moved_v1 {
    static constexpr pj::event_type type{"Moved", pj::raw};
    int32_t left;
};
struct moved {
#if defined(CORRECT)
    static constexpr pj::event_type type{"Moved", pj::raw, pj::schema{2}};
#else
    static constexpr pj::event_type type{"Moved", pj::raw};
#endif
    using previous = moved_v1;
    int32_t right;
    void upcast(const moved_v1& older) { right = -older.left; }
};
struct place {
    using handles = pj::events<moved>;
    int32_t right = 0;
    void on(const moved& e) { right += e.right; }
};

place here;
pj::routes all = here;
