// expect: projections: an event with a `previous` needs
// Nobody would hear an upcast() that answers false.
#include "projections.hpp"
namespace pj = projections;

struct coin_v1 {
    uint32_t cents = 0;
    static bool decode(const pj::stored_event& in, coin_v1& out);
};
struct coin {
    static constexpr pj::event_type type{"Coin", pj::schema{2}};
    using previous = coin_v1;
    static bool decode(const pj::stored_event& in, coin& out);
#ifdef CORRECT
    void upcast(coin_v1) {}
#else
    bool upcast(const coin_v1& older) { return older.cents != 0; }
#endif
};
struct purse {
    using handles = pj::events<coin>;
    void on(const coin&) {}
};

purse mine;
pj::routes routes{mine};
