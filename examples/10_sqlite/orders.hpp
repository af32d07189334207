// The order service without any storage: events and their JSON, the aggregate and its commands.
#ifndef EXAMPLES_ORDERS_HPP
#define EXAMPLES_ORDERS_HPP

#include "projections.hpp"
#include <nlohmann/json.hpp>
#include <optional>
#include <stdint.h>
#include <string>

namespace orders {
namespace pj = projections;
using nlohmann::json;

// ---- the codec: what is not there, or of another kind, makes the payload undecodable

inline json parse(pj::bytes payload) {
    return json::parse(payload.begin(), payload.end(), nullptr, false);
}
inline bool take(const json& from, const char* name, std::string& out) {
    const auto found = from.is_object() ? from.find(name) : from.end();
    if (found == from.end() || !found->is_string()) return false;
    out = found->get<std::string>();
    return true;
}
inline bool take(const json& from, const char* name, int64_t& out) {
    const auto found = from.is_object() ? from.find(name) : from.end();
    if (found == from.end() || !found->is_number_integer()) return false;
    out = found->get<int64_t>();
    return true;
}

// ---- events

/// As it was written until orders came from abroad: {"customer": "Ann", "total": "49.90"}, euros.
struct order_placed_1 {
    static constexpr pj::event_type type{"OrderPlaced", pj::schema{1}};
    std::string customer;
    int64_t cents = 0;
    static bool decode(const pj::stored_event& in, order_placed_1& out) {
        const json from = parse(in.payload);
        std::string total;
        if (!take(from, "customer", out.customer) || !take(from, "total", total)) return false;
        if (total.size() < 4 || total.size() > 15 || total[total.size() - 3] != '.') return false;
        for (const char digit : total.erase(total.size() - 3, 1)) {
            if (digit < '0' || digit > '9') return false;
            out.cents = out.cents * 10 + (digit - '0');
        }
        return true;
    }
};
/// As it is written now. Handlers only ever see this one.
struct order_placed {
    static constexpr pj::event_type type{"OrderPlaced", pj::schema{2}};
    using previous = order_placed_1;
    std::string customer, currency;
    int64_t cents = 0;
    static bool decode(const pj::stored_event& in, order_placed& out) {
        const json from = parse(in.payload);
        return take(from, "customer", out.customer) && take(from, "cents", out.cents) &&
               take(from, "currency", out.currency);
    }
    void upcast(const order_placed_1& older) {
        customer = older.customer;
        cents = older.cents;
        currency = "EUR";
    }
    json encoded() const {
        return {{"customer", customer}, {"cents", cents}, {"currency", currency}};
    }
};
/// Of a payment, or of what is paid back when a paid order is cancelled (0 if it was not paid).
template<class Event> struct with_money {
    std::string currency;
    int64_t cents = 0;
    static bool decode(const pj::stored_event& in, Event& out) {
        const json from = parse(in.payload);
        return take(from, "cents", out.cents) && take(from, "currency", out.currency);
    }
    json encoded() const { return {{"cents", cents}, {"currency", currency}}; }
};
struct order_paid : with_money<order_paid> {
    static constexpr pj::event_type type{"OrderPaid"};
};
struct order_cancelled : with_money<order_cancelled> {
    static constexpr pj::event_type type{"OrderCancelled"};
};
struct order_shipped {
    static constexpr pj::event_type type{"OrderShipped"};
    std::string parcel;
    static bool decode(const pj::stored_event& in, order_shipped& out) {
        return take(parse(in.payload), "parcel", out.parcel);
    }
    json encoded() const { return {{"parcel", parcel}}; }
};
using all_events = pj::events<order_placed, order_paid, order_shipped, order_cancelled>;

// ---- the aggregate: what the commands need to know, and no more

struct order {
    std::string status, currency;               // status: empty, placed, paid, shipped, cancelled
    int64_t cents = 0;

    static std::optional<order> from(const std::string& state) {
        order o;
        const json j = json::parse(state, nullptr, false);
        const bool is_whole = take(j, "status", o.status) && take(j, "currency", o.currency) &&
                              take(j, "cents", o.cents);
        return is_whole ? std::optional<order>(o) : std::nullopt;
    }
    std::string encoded() const {
        return json{{"status", status}, {"currency", currency}, {"cents", cents}}.dump();
    }

    // Commands: the event that follows and the changed state, or nothing where it is against the
    // rules.
    std::optional<order_placed> place(std::string who, int64_t how_much, std::string of) {
        if (!status.empty() || how_much <= 0 || of.size() != 3) return std::nullopt;
        status = "placed";
        cents = how_much;
        currency = of;
        order_placed e;
        e.customer = who;
        e.currency = of;
        e.cents = how_much;
        return e;
    }
    std::optional<order_paid> pay() {
        if (status != "placed") return std::nullopt;
        status = "paid";
        return money<order_paid>(cents);
    }
    std::optional<order_shipped> ship(std::string parcel) {
        if (status != "paid") return std::nullopt;
        status = "shipped";
        order_shipped e;
        e.parcel = parcel;
        return e;
    }
    std::optional<order_cancelled> cancel() {
        if (status != "placed" && status != "paid") return std::nullopt;
        const int64_t paid_back = status == "paid" ? cents : 0;
        status = "cancelled";
        return money<order_cancelled>(paid_back);
    }

private:
    template<class Event> Event money(int64_t amount) const {
        Event e;
        e.currency = currency;
        e.cents = amount;
        return e;
    }
};

} // namespace orders

#endif
