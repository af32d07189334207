// The order service of examples/10_sqlite after it has outgrown one machine: many processes write,
// and others share the partitions of its read models.
//
//   needs   PostgreSQL 14, libpq and nlohmann/json (Debian: postgresql libpq-dev
//           nlohmann-json3-dev)
//   build   c++ -std=c++17 -I. -I$(pg_config --includedir) examples/11_postgres/orders_pg.cpp
//           -lpq -o orders_pg
//   run     psql shop -f examples/11_postgres/schema.sql
//           psql shop -f examples/11_postgres/orders_models.sql
//           ./orders_pg dbname=shop work 8 3 &     at most 3 of 8 partitions, in as many processes
//           ./orders_pg dbname=shop load 1 1000 50     as you like; customers, as well
//           psql shop -c 'SELECT day, currency, sum(cents) FROM revenue GROUP BY 1, 2'
//
// What it shows:
//   - Writers do not wait for each other, and events that commit out of order are not lost.
//   - Eight engines on one connection, none of which waits for the server (postgres_store.hpp).
//   - NOTIFY is what wakes them; a process that dies is replaced by those that are left.
//   - The model's tables, the letters and the checkpoint change in one transaction. An order that
//     a constraint refuses is found among its neighbours and gets a letter.
#include "../10_sqlite/orders.hpp"
#include "postgres_store.hpp"
#include <chrono>
#include <memory>
#include <random>
#include <signal.h>
#include <stdio.h>
#include <string>
#include <thread>
#include <vector>
using namespace orders;

namespace {

uint32_t now_ms() {
    return static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                     std::chrono::steady_clock::now().time_since_epoch()).count());
}
int64_t wall_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch()).count();
}

// ---------------------------------------------------------------------------------- projections

class order_summary {
public:
    using handles = all_events;
    explicit order_summary(postgres::store& db) : db_(db) {}
    void on(const order_placed& e, const pj::context& ctx) {
        db_.queue("INSERT INTO order_summary VALUES($1, $2, $3, $4, 'placed', '')",
                  ctx.event.aggregate_id, e.customer, e.cents, e.currency);
    }
    void on(const order_paid&, const pj::context& ctx) { become("paid", "", ctx); }
    void on(const order_shipped& e, const pj::context& ctx) { become("shipped", e.parcel, ctx); }
    void on(const order_cancelled&, const pj::context& ctx) { become("cancelled", "", ctx); }

private:
    void become(const char* status, const std::string& parcel, const pj::context& ctx) {
        db_.queue("UPDATE order_summary SET status = $2, parcel = $3 WHERE id = $1",
                  ctx.event.aggregate_id, status, parcel);
    }
    postgres::store& db_;
};

class revenue_per_day {
public:
    using handles = pj::matching<all_events>;
    explicit revenue_per_day(postgres::store& db) : db_(db) {}
    void on(const order_paid& e, const pj::context& ctx) { add(e.currency, e.cents, 1, ctx); }
    void on(const order_cancelled& e, const pj::context& ctx) {
        if (e.cents != 0) add(e.currency, -e.cents, 0, ctx);
    }

private:
    void add(const std::string& currency, int64_t cents, int payments, const pj::context& ctx) {
        db_.queue("INSERT INTO revenue VALUES(to_char(to_timestamp($1::bigint / 1000) AT TIME ZONE "
                  "'UTC', 'YYYY-MM-DD'), $2, $3, $4, $5) ON CONFLICT(day, currency, partition) DO "
                  "UPDATE SET payments = revenue.payments + EXCLUDED.payments, "
                  "cents = revenue.cents + EXCLUDED.cents",
                  ctx.event.occurred_at, currency, ctx.partition, payments, cents);
    }
    postgres::store& db_;
};

// ----------------------------------------------------------------------------------- the worker

struct settings {
    uint32_t partitions, most, ttl_ms;
};

/// One partition, all of its own: its handlers write into its own unit of work.
struct share {
    postgres::store db;
    order_summary summary{db};
    revenue_per_day revenue{db};
    pj::registry<order_summary, revenue_per_day> models{summary, revenue};
    pj::lease lease{db};
    pj::projection what{"orders", db, models, db};
    pj::partitioned_worker worker;
    bool was_halted = false;

    share(postgres::connection& server, uint32_t index, const settings& with,
          const pj::partition_options& options)
        : db(server), worker{what, {index, with.partitions}, options} {
        lease.ttl_ms = with.ttl_ms;
        lease.margin_ms = with.ttl_ms / 4;
        what.lease = &lease;
        what.clock = now_ms;
        what.transaction = db;
        what.dead_letters = db;
        what.on_error = pj::error_policy::retry_then_dead_letter(1);
        what.delays.cap_ms = 1000;
    }
};

volatile sig_atomic_t is_ending = 0;
void on_signal(int) { is_ending = 1; }

/// Sleeps in poll() until something is due, or the server has said something.
void rest(postgres::connection& server, uint32_t wait_ms,
          const std::vector<std::unique_ptr<share>>& shares) {
    pollfd waiting{server.socket(), server.poll_events(), 0};
    const int timeout = pj::poll_timeout(pj::sooner(wait_ms, 1000));
    static_cast<void>(poll(&waiting, waiting.fd >= 0 ? 1u : 0u, timeout));
    const bool is_for_all = server.pump();
    for (const auto& one : shares)
        if (one->db.was_answered() || is_for_all) one->worker.wake();
}

int work(const char* where, const settings& with) {
    postgres::connection server{where, "events"};
    pj::partition_limit limit{with.most};
    pj::partition_options options;
    options.limit = &limit;
    std::vector<std::unique_ptr<share>> shares;
    for (uint32_t i = 0; i < with.partitions; ++i) {
        shares.push_back(std::make_unique<share>(server, i, with, options));
        if (const pj::status s = shares.back()->worker.start(); s != pj::status::ok) {
            fprintf(stderr, "%s\n", pj::to_string(s));
            return 1;
        }
    }
    bool is_running = true;
    for (uint32_t first = 0; is_running; ++first) {     // nobody is always the first to ask
        is_running = false;
        uint32_t wait_ms = pj::never;
        for (uint32_t i = 0; i < with.partitions; ++i) {
            share& one = *shares[(first + i) % with.partitions];
            pj::partitioned_worker& worker = one.worker;
            if (is_ending != 0) worker.stop();
            if (worker.running()) wait_ms = pj::sooner(wait_ms, worker.tick(now_ms()).wait_ms);
            is_running = is_running || worker.running();
            const bool is_halted = worker.state() == pj::run_state::halted;
            if (is_halted && !one.was_halted)
                fprintf(stderr, "partition %u: %s\n", worker.which().index,
                        pj::to_string(worker.reason()));
            one.was_halted = is_halted;
        }
        if (is_running) rest(server, wait_ms, shares);
    }
    return is_ending != 0 ? 0 : 1;
}

// ------------------------------------------------------------------------------- the customers

/// A connection that waits, for commands.
class session {
public:
    explicit session(const char* where) : db_(PQconnectdb(where)) {}
    ~session() { PQfinish(db_); }
    session(const session&) = delete;
    session& operator=(const session&) = delete;

    /// Empty where all is well; the SQLSTATE, "?" without one.
    std::string run(const char* sql, const std::vector<std::string>& values = {}) {
        std::vector<const char*> texts;
        for (const std::string& v : values) texts.push_back(v.c_str());
        rows.reset(PQexecParams(db_, sql, static_cast<int>(texts.size()), nullptr, texts.data(),
                                nullptr, nullptr, 0));
        const ExecStatusType kind = PQresultStatus(rows.get());
        if (kind == PGRES_TUPLES_OK || kind == PGRES_COMMAND_OK) return "";
        const char* code = PQresultErrorField(rows.get(), PG_DIAG_SQLSTATE);
        return code != nullptr ? code : "?";
    }
    postgres::result rows;

private:
    PGconn* db_;
};

/// One command: reads the aggregate, decides, appends, keeps the aggregate; and takes its time
/// before the commit. Empty, "refused", or what is wrong.
template<class Decide> std::string command(session& db, const std::string& id, uint32_t delay_ms,
                                           bool gives_up, Decide&& decide) {
    std::string wrong = db.run("BEGIN");
    if (wrong.empty()) wrong = db.run("SELECT sequence, state FROM aggregates WHERE id = $1", {id});
    if (!wrong.empty()) return wrong;
    std::string sequence = "0";
    order state;
    if (PQntuples(db.rows.get()) == 1) {
        sequence = PQgetvalue(db.rows.get(), 0, 0);
        state = order::from(PQgetvalue(db.rows.get(), 0, 1)).value_or(order{});
    }
    if (const auto event = decide(state)) {
        wrong = db.run("SELECT append_event($1, $2, $3, $4, $5, $6)",
                       {id, sequence, postgres::copy(event->type.name()),
                        std::to_string(event->type.version()), event->encoded().dump(),
                        std::to_string(wall_ms())});
        if (wrong.empty())
            wrong = db.run("INSERT INTO aggregates VALUES($1, $2::bigint + 1, $3) ON CONFLICT(id) "
                           "DO UPDATE SET sequence = EXCLUDED.sequence, state = EXCLUDED.state",
                           {id, sequence, state.encoded()});
        if (wrong.empty() && delay_ms != 0)
            wrong = db.run("SELECT pg_sleep($1::float8 / 1000)", {std::to_string(delay_ms)});
    } else {
        wrong = "refused";
    }
    if (wrong.empty() && gives_up) wrong = "refused";
    if (wrong.empty()) return db.run("COMMIT");
    const std::string after = db.run("ROLLBACK");
    return after.empty() ? wrong : after;
}

int load(const char* where, uint32_t seed, int count, uint32_t delay_ms) {
    session db{where};
    std::mt19937 random{seed};
    for (int i = 0; i < count; ++i) {
        const std::string id = "o-" + std::to_string(wall_ms() / 10 -
                                                     static_cast<int64_t>(random() % 40));
        const uint32_t what = random() % 8;
        const uint32_t wait_ms = delay_ms != 0 ? static_cast<uint32_t>(random() % delay_ms) : 0;
        const bool gives_up = random() % 10 == 0;
        std::string wrong;
        if (what < 2) wrong = command(db, id, wait_ms, gives_up, [&](order& o) {
            const int64_t cents = random() % 50 == 0 ? 2000000
                                                     : static_cast<int64_t>(random() % 9999) + 1;
            return o.place("customer", cents, random() % 3 == 0 ? "USD" : "EUR");
        });
        else if (what < 5) wrong = command(db, id, wait_ms, gives_up,
                                           [](order& o) { return o.pay(); });
        else if (what < 7) wrong = command(db, id, wait_ms, gives_up,
                                           [](order& o) { return o.ship("parcel"); });
        else wrong = command(db, id, wait_ms, gives_up, [](order& o) { return o.cancel(); });
        if (wrong.empty()) printf("%s %c\n", id.c_str(), "ppyyyssc"[what]);
        fflush(stdout);
        if (wrong == "refused") std::this_thread::sleep_for(std::chrono::milliseconds(1));
        const bool is_late = wrong == "23505" || wrong == "40001" || wrong == "40P01";
        if (!wrong.empty() && wrong != "refused" && !is_late) {
            fprintf(stderr, "%s\n", wrong.c_str());
            return 1;
        }
    }
    return 0;
}

} // namespace

int main(int count, char** arguments) {
    const std::vector<std::string> a(arguments + 1, arguments + count);
    const auto number = [&](size_t i) {
        return static_cast<uint32_t>(strtoul(a[i].c_str(), nullptr, 10));
    };
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGPIPE, SIG_IGN);
    if ((a.size() == 4 || a.size() == 5) && a[1] == "work")
        return work(arguments[1], {number(2), number(3), a.size() == 5 ? number(4) : 10000});
    if (a.size() == 5 && a[1] == "load")
        return load(arguments[1], number(2), static_cast<int>(number(3)), number(4));
    fputs("orders_pg CONNECTION work PARTITIONS MOST [LEASE_MS]\n"
          "orders_pg CONNECTION load SEED COUNT DELAY_MS\n", stderr);
    return 2;
}
