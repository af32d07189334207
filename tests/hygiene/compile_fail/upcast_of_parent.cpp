// expect: projections: an event with a `previous` needs
// A forgotten upcast() would be the parent's, which knows only the version before.
#include "projections.hpp"
namespace pj = projections;

struct coin_v1 {
    uint32_t cents = 0;
    static bool decode(const pj::stored_event& in, coin_v1& out);
};
struct coin_v2 : coin_v1 {
    static constexpr pj::event_type type{"Coin", pj::schema{2}};
    using previous = coin_v1;
    uint32_t year = 0;
    static bool decode(const pj::stored_event& in, coin_v2& out);
    void upcast(const coin_v1& older) { cents = older.cents; }
};
struct coin : coin_v2 {
    static constexpr pj::event_type type{"Coin", pj::schema{3}};
    using previous = coin_v2;
    uint32_t mint = 0;
    static bool decode(const pj::stored_event& in, coin& out);
#ifdef CORRECT
    void upcast(const coin_v2& older) { coin_v2::operator=(older); }
#endif
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

purse mine;
pj::routes routes{mine};
