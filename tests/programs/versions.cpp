// Ten years of a shop's log: three versions of one event, a renamed one, numbers instead of names,
// one codec for a namespace, a struct from a generated header, a handler for the parent of all.
#include "projections.hpp"
#include <stdio.h>
#include <string.h>
namespace pj = projections;

struct order_event { unsigned order = 0; };

static bool two(const pj::stored_event& in, unsigned& a, unsigned& b) {
    char text[32]{};
    if (in.payload.empty() || in.payload.size() >= sizeof text) return false;
    memcpy(text, in.payload.data(), in.payload.size());
    return sscanf(text, "%u:%u", &a, &b) == 2;
}

struct created_v1 : order_event {
    unsigned marks = 0;
    static bool decode(const pj::stored_event& in, created_v1& out) {
        return two(in, out.order, out.marks);
    }
};
struct created_v2 : order_event {
    using previous = created_v1;
    unsigned euros = 0;
    void upcast(const created_v1& old) {
        order = old.order;
        euros = old.marks / 2;
    }
    static bool decode(const pj::stored_event& in, created_v2& out) {
        return two(in, out.order, out.euros);
    }
};
struct order_created : order_event {
    static constexpr pj::event_type type{"OrderCreated", pj::schema{3}};
    using previous = created_v2;
    unsigned cents = 0;
    void upcast(const created_v2& old) {
        order = old.order;
        cents = old.euros * 100;
    }
    static bool decode(const pj::stored_event& in, order_created& out) {
        return two(in, out.order, out.cents);
    }
};
struct order_shipped : order_event {            // the old log says OrderSent
    static constexpr pj::event_type type{"OrderShipped"};
    static constexpr pj::event_type also[]{"OrderSent"};
    static bool decode(const pj::stored_event& in, order_shipped& out) {
        unsigned parcels = 0;
        return two(in, out.order, parcels);
    }
};
struct order_packed : order_event {             // a log on flash stores the number only
    static constexpr pj::event_type type{"OrderPacked", pj::id{0x0103}, pj::raw};
};
using shop_events = pj::events<order_created, order_shipped, order_packed>;

namespace warehouse {
struct counted {
    static constexpr pj::event_type type{"StockCounted"};
    unsigned item, pieces;
};
struct moved {
    static constexpr pj::event_type type{"StockMoved"};
    unsigned from, to;
};
bool read(const pj::stored_event& in, counted& out) { return two(in, out.item, out.pieces); }
bool read(const pj::stored_event& in, moved& out) { return two(in, out.from, out.to); }
template<class E> bool decode_event(const pj::stored_event& in, E& out) { return read(in, out); }
} // namespace warehouse

namespace generated { struct Refund { unsigned order, cents; }; }
template<> struct projections::event_traits<generated::Refund> {
    static constexpr event_type type{"Refund"};
    static bool decode(const stored_event& in, generated::Refund& out) {
        return in.payload.copy_to(out);
    }
};

struct activity {
    using handles = pj::matching<shop_events>;
    unsigned cents = 0, others = 0;
    void on(const order_created& e) { cents += e.cents; }
    void on(const order_event&) { ++others; }   // shipped and packed end here
};
struct stock {
    using handles = pj::events<warehouse::counted, warehouse::moved>;
    unsigned pieces = 0, moves = 0;
    void on(const warehouse::counted& e) { pieces += e.pieces; }
    void on(const warehouse::moved&) { ++moves; }
};
struct refunds {
    using handles = pj::events<generated::Refund>;
    unsigned cents = 0;
    void on(const generated::Refund& e) { cents += e.cents; }
};
struct audit {
    using handles = pj::every_event;
    unsigned events = 0;
    void on(const pj::stored_event&) { ++events; }
};

int main() {
    pj::memory_log<32, 2048> log;
    const auto add = [&](pj::type_key type, const char* payload, uint32_t version = 1) {
        log.append(type, pj::text(payload), {}, version);
    };
    add("OrderCreated", "1:40", 1);
    add("OrderCreated", "2:30", 2);
    add("OrderSent", "1:1");
    add("OrderCreated", "3:1999", 3);
    add("OrderShipped", "3:2");
    log.append(pj::id{0x0103}, pj::bytes("\1\0\0\0", sizeof(order_packed)));
    add("StockCounted", "5:12");
    add("StockMoved", "1:2");
    const generated::Refund refund{3, 500};
    log.append("Refund", {&refund, sizeof refund});
    add("Forgotten", "x");

    activity a;
    stock s;
    refunds r;
    audit t;
    pj::registry handlers{a, s, r, t};
    pj::memory_checkpoint_store<1> checkpoints;
    const pj::projection what = pj::development("versions", log, handlers, checkpoints);
    pj::projection tolerant = what;
    tolerant.on_unknown = pj::unknown_types::ignore;
    pj::worker worker{tolerant};
    if (worker.start() != pj::status::ok) return 1;
    while (worker.running() && worker.tick(0).wait_ms == 0) {}
    printf("%u cents, %u others, %u pieces, %u moves, %u refunded, %u events\n", a.cents, a.others,
           s.pieces, s.moves, r.cents, t.events);
    const bool is_right = a.cents == 2000 + 3000 + 1999 && a.others == 3 && s.pieces == 12 &&
                          s.moves == 1 && r.cents == 500 && t.events == 10;
    return is_right && worker.checkpointed() == 9 ? 0 : 2;
}
