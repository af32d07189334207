// A program's own globals may be called as parameters of the header are: where g++ makes a function
// of a template, it would else warn of a parameter that hides them (-Wshadow).
#include "projections.hpp"
namespace pj = projections;

struct coin {
    static constexpr pj::event_type type{"Coin", pj::raw};
    uint32_t cents;
};
struct purse {
    using handles = pj::events<coin>;
    uint32_t cents = 0;
    void on(const coin& e) { cents += e.cents; }
    void take(const coin& e) { cents += e.cents; }
};
struct office {
    pj::status put(const pj::dead_letter&) { return pj::status::ok; }
};
struct transactions_of_none {
    pj::status begin() { return pj::status::ok; }
    pj::status commit() { return pj::status::ok; }
    pj::status rollback() { return pj::status::ok; }
};
struct broker {
    pj::status subscribe(pj::text, pj::text) { return pj::status::ok; }
    pj::status unsubscribe(pj::text, pj::text) { return pj::status::ok; }
};
struct counting {
    uint32_t now_ms = 0;
    uint32_t operator()() { return ++now_ms; }
};
struct ring {
    pj::status fetch(pj::position, pj::visitor&) { return pj::status::ok; }
};

extern purse handlers;
extern ring log_of_none;
extern pj::memory_checkpoint_store<1> store;
extern office sink;
extern transactions_of_none transactions;
extern broker client;
extern counting callable;
extern int object, function, entry, one, out, event;

purse handlers;
ring log_of_none;
pj::memory_checkpoint_store<1> store;
office sink;
transactions_of_none transactions;
broker client;
counting callable;
int object, function, entry, one, out, event;

int main() {
    pj::handler_map<2> map;
    map.add(handlers).add<coin, &purse::take>(handlers, "take");
    const pj::event_store ours = pj::event_store::from<&ring::fetch>(log_of_none);
    pj::projection projection{"globals", ours, map, store};
    projection.dead_letters = sink;
    projection.transaction = transactions;
    projection.clock = callable;
    pj::sink_options options;
    options.client = client;
    pj::event_sink fed{projection, options};
    const coin made{5};
    object = function = entry = one = out = event = 0;
    const bool is_handled = pj::deliver(map, pj::raw_event(0, made)) == pj::handled;
    return is_handled && handlers.cents == 10 && fed.start() == pj::status::ok ? object : 1;
}
