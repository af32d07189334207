// The order service's read models, and where queries are answered from.
#ifndef EXAMPLES_READ_MODELS_HPP
#define EXAMPLES_READ_MODELS_HPP

#include "orders.hpp"
#include "sqlite_store.hpp"
#include <algorithm>
#include <string>
#include <vector>

namespace orders {

inline constexpr uint32_t no_such_order = 404, no_rate = 422;

inline std::string copy(pj::text t) { return std::string(t.begin(), t.end()); }

inline int create_read_models(sqlite::connection& file) {
    return file.run(
        "CREATE TABLE IF NOT EXISTS order_summary(id TEXT PRIMARY KEY, customer TEXT NOT NULL,"
        " cents INTEGER NOT NULL, currency TEXT NOT NULL, status TEXT NOT NULL,"
        " parcel TEXT NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS revenue(day TEXT PRIMARY KEY, payments INTEGER NOT NULL,"
        " cents INTEGER NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS rates(currency TEXT PRIMARY KEY, percent INTEGER NOT NULL)"
        " WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS requeues(id INTEGER PRIMARY KEY AUTOINCREMENT);"
        "INSERT OR IGNORE INTO rates VALUES('EUR', 100), ('USD', 92);");
}
/// What a rebuild begins with. Letters of before it are of events that come again.
inline int drop_read_models(sqlite::connection& file) {
    return file.run("BEGIN IMMEDIATE; DELETE FROM order_summary; DELETE FROM revenue;"
                    "DELETE FROM letters WHERE projection = 'orders'; COMMIT;");
}

// ---- projections

/// What a currency is worth, in percent of a euro.
class rates {
public:
    explicit rates(sqlite3* db) : find_(db, "SELECT percent FROM rates WHERE currency = ?") {}
    /// handled, with `euro_cents` filled in; rejected where there is no rate.
    pj::verdict convert(pj::text currency, int64_t cents, int64_t& euro_cents) {
        pj::verdict found = pj::reject(no_rate);
        const int code = find_.each([&] {
            euro_cents = cents * find_.number(0) / 100;
            found = pj::handled;
            return true;
        }, currency);
        return code == SQLITE_OK ? found : sqlite::outcome(code);
    }

private:
    sqlite::statement find_;
};

class order_summary {
public:
    using handles = all_events;
    explicit order_summary(sqlite::connection& file) : db_(file) {}

    pj::verdict on(const order_placed& e, const pj::context& ctx) {
        return sqlite::outcome(place_.run(ctx.event.aggregate_id, e.customer, e.cents, e.currency));
    }
    pj::verdict on(const order_paid&, const pj::context& ctx) { return become("paid", "", ctx); }
    pj::verdict on(const order_shipped& e, const pj::context& ctx) {
        return become("shipped", e.parcel, ctx);
    }
    pj::verdict on(const order_cancelled&, const pj::context& ctx) {
        return become("cancelled", "", ctx);
    }

private:
    pj::verdict become(pj::text status, pj::text parcel, const pj::context& ctx) {
        const int code = become_.run(ctx.event.aggregate_id, status, parcel);
        // Where its OrderPlaced was given up on, this one waits behind it; so it was never there.
        if (code == SQLITE_OK && sqlite3_changes(db_) == 0) return pj::reject(no_such_order);
        return sqlite::outcome(code);
    }
    sqlite::connection& db_;
    sqlite::statement place_{db_, "INSERT INTO order_summary VALUES(?, ?, ?, ?, 'placed', '')"};
    sqlite::statement become_{db_, "UPDATE order_summary SET status = ?2, parcel = ?3 "
                                   "WHERE id = ?1"};
};

/// Not idempotent, and needs not be: each event's effect is committed with the checkpoint.
class revenue_per_day {
public:
    using handles = pj::matching<all_events>;
    explicit revenue_per_day(sqlite::connection& file) : db_(file) {}

    pj::verdict on(const order_paid& e, const pj::context& ctx) {
        return add(e.currency, e.cents, 1, ctx);
    }
    pj::verdict on(const order_cancelled& e, const pj::context& ctx) {
        return e.cents == 0 ? pj::handled : add(e.currency, -e.cents, 0, ctx);
    }

private:
    pj::verdict add(pj::text currency, int64_t cents, int64_t payments, const pj::context& ctx) {
        int64_t euro_cents = 0;
        const pj::verdict v = rates_.convert(currency, cents, euro_cents);
        if (v != pj::handled) return v;
        return sqlite::outcome(add_.run(ctx.event.occurred_at, payments, euro_cents));
    }
    sqlite::connection& db_;
    rates rates_{db_};
    sqlite::statement add_{db_, "INSERT INTO revenue VALUES(date(?1 / 1000, 'unixepoch'), ?2, ?3) "
                                "ON CONFLICT(day) DO UPDATE SET payments = payments + ?2, "
                                "cents = cents + ?3"};
};

// ---- queries

struct order_row { std::string id, customer, cents, currency, status, parcel; };
struct revenue_row { std::string day, payments, cents; };

/// One place that answers queries: false where it cannot, or does not know events up to `at_least`.
class read_source {
public:
    virtual ~read_source() = default;
    virtual const char* name() const = 0;
    virtual int priority() const = 0;           // the highest is asked first
    virtual bool list(pj::position at_least, std::vector<order_row>& out) = 0;
    virtual bool revenue(pj::position at_least, std::vector<revenue_row>& out) = 0;
};

class sqlite_source : public read_source {
public:
    explicit sqlite_source(sqlite::connection& file) : db_(file) {}
    const char* name() const override { return "sqlite"; }
    int priority() const override { return 0; }

    pj::position through() {
        pj::position at = pj::before_first;
        through_.each([&] { at = through_.number(0); return true; });
        return at;
    }
    bool list(pj::position, std::vector<order_row>& out) override {
        return list_.each([&] {
            const auto column = [&](int i) { return copy(list_.text(i)); };
            out.push_back({column(0), column(1), column(2), column(3), column(4), column(5)});
            return true;
        }) == SQLITE_OK;
    }
    bool revenue(pj::position, std::vector<revenue_row>& out) override {
        return revenue_.each([&] {
            const auto column = [&](int i) { return copy(revenue_.text(i)); };
            out.push_back({column(0), column(1), column(2)});
            return true;
        }) == SQLITE_OK;
    }

private:
    sqlite::connection& db_;
    sqlite::statement through_{db_, "SELECT position FROM checkpoints WHERE key = 'orders'"};
    sqlite::statement list_{db_, "SELECT * FROM order_summary ORDER BY id"};
    sqlite::statement revenue_{db_, "SELECT * FROM revenue ORDER BY day"};
};

/// Asks the sources by priority until one answers. A cache that is behind what the last of them
/// knows is passed over, so that nobody sees an older state than he has seen.
class dispatcher {
public:
    void add(read_source& source) {
        sources_.push_back(&source);
        std::stable_sort(sources_.begin(), sources_.end(), [](auto* a, auto* b) {
            return a->priority() > b->priority();
        });
    }
    /// The name of the source that has answered; nullptr: none.
    template<class Row> const char* ask(bool (read_source::*query)(pj::position, std::vector<Row>&),
                                        pj::position at_least, std::vector<Row>& out) const {
        for (read_source* source : sources_) {
            out.clear();
            if ((source->*query)(at_least, out)) return source->name();
        }
        return nullptr;
    }

private:
    std::vector<read_source*> sources_;
};

} // namespace orders

#endif
