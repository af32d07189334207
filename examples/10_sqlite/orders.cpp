// An order service in one SQLite file: commands, events, read models, queries.
//
//   needs   SQLite 3.35 and nlohmann/json (Debian: libsqlite3-dev nlohmann-json3-dev); for the
//           cache also hiredis (libhiredis-dev) and a Redis
//   build   c++ -std=c++17 -I. examples/10_sqlite/orders.cpp -lsqlite3 -o orders
//           with the cache: the same with -DORDERS_WITH_REDIS and -lhiredis
//   run     ./orders shop.db place o-1 Ann 4990        ./orders shop.db work &
//           ./orders shop.db pay o-1                    ./orders shop.db list
//           (without arguments it lists its commands)
//
// What it shows:
//   - A command changes an aggregate and appends its events in one transaction, and is decided
//     again if another process was faster.
//   - The worker handles events, keeps two read models, the letters and the checkpoint in one
//     transaction with it: killed at any moment, each event has had its effect exactly once.
//   - Several workers: one works, the others stand by (a lease with a fencing token).
//   - A schema change: version 1 of OrderPlaced is upcast while version 2 is written (orders.hpp).
//   - Two read sources: a query is answered from Redis where that runs, else from SQLite.
//   - Letters in order: a payment in a currency without a rate becomes a letter, and what comes
//     after it in the same order waits behind it, until `rate` and `requeue`. Other orders go on.
#include "read_models.hpp"
#ifdef ORDERS_WITH_REDIS
#  include "redis_read_model.hpp"
#endif
#include <chrono>
#include <functional>
#include <random>
#include <set>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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
void sleep_for(uint32_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// ------------------------------------------------------------------------------------ commands

enum class result { done, refused, trouble };

/// Reads the aggregate, decides, writes; again if somebody else was faster. `decide` answers the
/// event, or nothing.
class command_side {
public:
    explicit command_side(sqlite::connection& file) : log_(file), state_(file, sql) {}

    template<class Decide> result run(const std::string& id, Decide&& decide) {
        for (int attempt = 0; attempt < 100; ++attempt) {
            int64_t sequence = 0;
            const std::optional<order> before = find(id, sequence);
            if (!before) return result::trouble;
            order after = *before;
            const auto event = decide(after);
            if (!event) return result::refused;
            const pj::event_type& type = event->type;
            const std::string payload = text_of(event->encoded()), state = after.encoded();
            const sqlite::new_event one{type.name(), type.version(), payload, wall_ms()};
            const pj::status s = log_.append(id, sequence, &one, 1, state);
            if (s == pj::status::ok) return result::done;
            if (s != pj::status::conflict) return result::trouble;
            ++conflicts;
        }
        return result::trouble;
    }
    int conflicts = 0;

private:
    static constexpr const char* sql = "SELECT sequence, state FROM aggregates WHERE id = ?";
    static std::string text_of(const json& j) {
        return j.dump(-1, ' ', false, json::error_handler_t::replace);
    }
    std::optional<order> find(const std::string& id, int64_t& sequence) {
        std::optional<order> found = order{};
        const int code = state_.each([&] {
            sequence = state_.number(0);
            found = order::from(copy(state_.text(1)));
            return true;
        }, id);
        return code == SQLITE_OK ? found : std::nullopt;
    }
    sqlite::store log_;
    sqlite::statement state_;
};

int told(result r) {
    if (r == result::refused) fputs("refused\n", stderr);
    if (r == result::trouble) fputs("the database is busy or out of order\n", stderr);
    return r == result::done ? 0 : 1;
}

/// Customers: random commands on the orders of this moment, so that processes get into each other's
/// way. Each that is done is told at once.
int load(sqlite::connection& file, uint32_t seed, int count) {
    command_side commands{file};
    std::mt19937 random{seed};
    const char* const currencies[] = {"EUR", "EUR", "USD", "XTS"};
    int done = 0, refused = 0;
    for (int i = 0; i < count; ++i) {
        const std::string id = "o-" + std::to_string(wall_ms() / 20 -
                                               static_cast<int64_t>(random() % 12));
        const uint32_t what = random() % 8;
        result r = result::refused;
        if (what < 2) r = commands.run(id, [&](order& o) {
            return o.place("customer " + std::to_string(random() % 9),
                           int64_t{1} + static_cast<int64_t>(random() % 9999),
                           currencies[random() % 4]);
        });
        else if (what < 5) r = commands.run(id, [](order& o) { return o.pay(); });
        else if (what < 7) r = commands.run(id, [&](order& o) {
            return o.ship("parcel " + std::to_string(random() % 1000));
        });
        else r = commands.run(id, [](order& o) { return o.cancel(); });
        if (r == result::trouble) return told(r);
        ++(r == result::done ? done : refused);
        if (r == result::done) printf("%s %c\n", id.c_str(), "ppyyyssc"[what]);
        fflush(stdout);
        if (r == result::refused) sleep_for(1);
    }
    fprintf(stderr, "%d done, %d refused, %d decided again\n", done, refused, commands.conflicts);
    return 0;
}

// ----------------------------------------------------------------------------------- the worker

/// Everything the projection `orders` is made of, for the worker and the rebuild alike.
struct order_projection {
    sqlite::connection& file;
    sqlite::store db{file};
    order_summary summary{file};
    revenue_per_day revenue{file};
    pj::registry<order_summary, revenue_per_day> models{summary, revenue};
    pj::lease lease{db};
    pj::letter_sequences<4096> waiting;         // more orders in trouble than that: all wait
    pj::projection what{"orders", db, models, db};

    order_projection(sqlite::connection& connection, uint32_t ttl_ms) : file(connection) {
        lease.ttl_ms = ttl_ms;
        lease.margin_ms = ttl_ms / 5;
        what.lease = &lease;
        what.clock = now_ms;
        what.transaction = db;
        what.dead_letters = db;
        what.sequences = waiting;
        what.on_error = pj::error_policy::retry_then_dead_letter(3);
    }
};

/// Gives the letters' events to their handlers again. Only the worker that has the lease may, since
/// it keeps in mind what waits: so `requeue` leaves a note in the file, and that worker, whoever it
/// is by then, does one letter after each tick until the note is worked off.
class requeuing {
public:
    requeuing(sqlite::connection& file, order_projection& of) : db_(file), of_(of) {}

    /// When to call again, after a tick; never: nobody has asked for anything.
    uint32_t step(pj::worker& worker) {
        if (!worker.loaded()) note_ = 0;        // whoever has the lease now begins anew
        if (!worker.loaded() || (note_ == 0 && !begin())) return pj::never;
        if (next_ == all_.size()) {
            if (forget_.run(note_) == SQLITE_OK) note_ = 0;
            return 1;
        }
        const sequence& one = all_[next_];
        // What no handler has seen is for all of them, and so for one that is stuck before it.
        const bool is_behind = one.handler.empty() && stuck_.count(one.order) != 0;
        switch (is_behind ? pj::status::ok
                          : of_.waiting.redeliver(worker, one.handler, one.order)) {
        case pj::status::more: return 0;
        case pj::status::ok: ++next_; return 0;
        case pj::status::handler_failed:
        case pj::status::decode_failed:
        case pj::status::unknown_type:
            stuck_.insert(one.order);
            ++next_;
            return 0;
        default: return 1;          // somebody else writes, or has the lease by now
        }
    }

private:
    struct sequence { std::string handler, order; };

    bool begin() {
        asked_.each([&] { note_ = asked_.number(0); return true; });
        if (note_ == 0) return false;
        all_.clear();
        stuck_.clear();
        next_ = 0;
        const int code = list_.each([&] {
            all_.push_back({copy(list_.text(0)), copy(list_.text(1))});
            return true;
        });
        if (code != SQLITE_OK) note_ = 0;
        return note_ != 0;
    }

    sqlite::connection& db_;
    order_projection& of_;
    sqlite::statement asked_{db_, "SELECT max(id) FROM requeues"};
    sqlite::statement list_{db_, "SELECT handler, aggregate, min(position) FROM letters JOIN events "
                                 "USING(position) WHERE projection = 'orders' GROUP BY 1, 2 "
                                 "ORDER BY 3"};
    sqlite::statement forget_{db_, "DELETE FROM requeues WHERE id <= ?"};
    int64_t note_ = 0;
    std::vector<sequence> all_;
    std::set<std::string> stuck_;
    size_t next_ = 0;
};

volatile sig_atomic_t is_ending = 0;
void on_signal(int) { is_ending = 1; }

/// Sleeps until something is due, has been written by somebody else, or the process is to end.
void rest(uint32_t wait_ms, sqlite::store& db, pj::worker& worker) {
    const uint32_t began = now_ms();
    while (now_ms() - began < wait_ms && is_ending == 0) {
        sleep_for(pj::sooner(wait_ms, 5));
        if (db.has_changed()) return worker.wake();
    }
}

struct work_options {
    uint32_t ttl_ms = 10000;
    bool until_idle = false;
    const char* redis = nullptr;
};

#ifdef ORDERS_WITH_REDIS
uint64_t log_id_of(sqlite::connection& file) {
    uint64_t id = 0;
    pj::position trimmed = 0, newest = 0;
    while (sqlite::store(file).bounds(trimmed, newest, id) == pj::status::pending) sleep_for(1);
    return id;
}

/// The cache has an engine of its own: whatever is wrong with Redis stops nothing else. It has no
/// letters: what it cannot handle it leaves out, nothing waits behind that, and `requeue` does not
/// come by. Where that matters, empty it afterwards, and it fills again.
struct cache_projection {
    sqlite::connection file;
    sqlite::store db{file};
    redis_connection redis;
    redis_unit unit{redis, log_id_of(file)};
    cached_orders model{unit, file};
    pj::lease lease{db};
    pj::projection what{"orders_cache", db, model, unit};

    cache_projection(const char* path, const work_options& options)
        : file(path), redis(options.redis, 200) {
        lease.ttl_ms = options.ttl_ms;
        lease.margin_ms = options.ttl_ms / 5;
        what.lease = &lease;
        what.clock = now_ms;
        what.transaction = unit;
        what.delays.cap_ms = 1000;
        what.on_error = pj::error_policy::custom([](const pj::failure& f) {
            return f.kind == pj::failure_kind::transient ? pj::decision::retry_after(500)
                                                         : pj::decision::skip();
        });
    }
};
#endif

bool is_idle(const pj::worker& w) { return w.caught_up() && w.checkpointed() == w.scanned(); }

/// Ticks the worker, and the cache's beside it, until they have come to their end.
int run(order_projection& orders, pj::worker& worker, pj::worker* cache,
        const std::function<bool()>& is_over) {
    requeuing letters{orders.file, orders};
    while (worker.running() || (cache != nullptr && cache->running())) {
        if (is_ending != 0) {
            worker.stop();
            if (cache != nullptr) cache->stop();
        }
        uint32_t wait_ms = worker.running() ? worker.tick(now_ms()).wait_ms : pj::never;
        if (cache != nullptr && cache->running())
            wait_ms = pj::sooner(wait_ms, cache->tick(now_ms()).wait_ms);
        const uint32_t letters_ms = is_ending == 0 ? letters.step(worker) : pj::never;
        wait_ms = pj::sooner(wait_ms, letters_ms);
        if (letters_ms == pj::never && is_over() && (cache == nullptr || is_idle(*cache)))
            is_ending = 1;
        if (wait_ms != 0 && is_ending == 0) {
            rest(wait_ms, orders.db, worker);
            if (worker.woken() && cache != nullptr) cache->wake();
        }
    }
    if (worker.reason() != pj::status::ok)
        fprintf(stderr, "ended: %s\n", pj::to_string(worker.reason()));
    return worker.reason() == pj::status::ok ? 0 : 1;
}

int work(const char* path, const work_options& options,
         const std::function<bool(const pj::worker&)>& is_over) {
    sqlite::connection file{path};
    order_projection orders{file, options.ttl_ms};
    pj::worker worker{orders.what};
    const auto ends = [&] { return is_over(worker); };
    if (const pj::status s = worker.start(); s != pj::status::ok) {
        fprintf(stderr, "%s\n", pj::to_string(s));
        return 1;
    }
#ifdef ORDERS_WITH_REDIS
    if (options.redis != nullptr) {
        cache_projection cached{path, options};
        pj::worker cache{cached.what};
        if (cache.start() != pj::status::ok) return 1;
        return run(orders, worker, &cache, ends);
    }
#endif
    return run(orders, worker, nullptr, ends);
}

/// Waits until no worker holds the lease, then empties the models and handles all events again.
int rebuild(sqlite::connection& file, const work_options& options) {
    order_projection orders{file, options.ttl_ms};
    const auto drop = [&] {
        const pj::status s = sqlite::answer(drop_read_models(file));
        return s == pj::status::ok || orders.db.rollback() == pj::status::ok ? s
                                                                             : pj::status::failed;
    };
    pj::replay_options replaying;
    replaying.on_drop = drop;
    pj::replay_engine replay{orders.what, replaying};
    pj::status s = replay.start();
    if (s == pj::status::ok) s = pj::run(replay, now_ms, sleep_for);
    printf("%s, %lld events\n", pj::to_string(s), static_cast<long long>(replay.counts().scanned));
    return s == pj::status::ok ? 0 : 1;
}

// -------------------------------------------------------------------------- letters and queries

struct letter {
    pj::position at;
    std::string handler, order;
    int64_t kind, code, attempts;
};
std::vector<letter> all_letters(sqlite::connection& file) {
    sqlite::statement all{file, "SELECT position, handler, aggregate, kind, code, attempts FROM "
                                "letters JOIN events USING(position) WHERE projection = 'orders' "
                                "ORDER BY position, handler"};
    std::vector<letter> found;
    all.each([&] {
        found.push_back({all.number(0), copy(all.text(1)), copy(all.text(2)), all.number(3),
                         all.number(4), all.number(5)});
        return true;
    });
    return found;
}

int letters(sqlite::connection& file) {
    for (const letter& l : all_letters(file))
        printf("%lld\t%s\t%s\tkind %lld\tcode %lld\t%lld attempts\n",
               static_cast<long long>(l.at), l.handler.c_str(), l.order.c_str(),
               static_cast<long long>(l.kind), static_cast<long long>(l.code),
               static_cast<long long>(l.attempts));
    return 0;
}

/// Has a worker redeliver the letters, and is one meanwhile, if there is no other. In each order
/// from the first letter to the first that fails; then tells what has become of each.
int requeue(sqlite::connection& file, const char* path, work_options options) {
    const std::vector<letter> before = all_letters(file);
    if (file.run("INSERT INTO requeues DEFAULT VALUES") != SQLITE_OK)
        return told(result::trouble);
    const int64_t note = sqlite3_last_insert_rowid(file);
    sqlite::statement is_left{file, "SELECT 1 FROM requeues WHERE id = ?"};
    options.redis = nullptr;
    const int ended = work(path, options, [&](const pj::worker&) {
        bool is_over = true;
        const int code = is_left.each([&] { return is_over = false; }, note);
        return code == SQLITE_OK && is_over;
    });
    const std::vector<letter> after = all_letters(file);
    size_t left = 0;
    for (const letter& was : before) {
        const auto is = std::find_if(after.begin(), after.end(), [&](const letter& l) {
            return l.at == was.at && l.handler == was.handler;
        });
        if (is != after.end()) ++left;
        printf("%lld\t%s\t%s\t%s\n", static_cast<long long>(was.at), was.handler.c_str(),
               was.order.c_str(), is == after.end() ? "done"
                                : is->attempts != was.attempts ? "has failed again" : "waits");
    }
    printf("%zu done, %zu left\n", before.size() - left, left);
    return ended;
}

int lag(sqlite::connection& file) {
    sqlite::statement both{file, "SELECT coalesce((SELECT position FROM checkpoints WHERE key = "
                                 "'orders'), 0), coalesce(max(position), 0) FROM events"};
    const int code = both.each([&] {
        const long long at = both.number(0), newest = both.number(1);
        printf("%lld of %lld, %lld behind\n", at, newest, newest - at);
        return true;
    });
    return code == SQLITE_OK ? 0 : told(result::trouble);
}

int query(sqlite::connection& file, const std::string& what, const std::string& id,
          const work_options& options) {
    sqlite_source last{file};
    dispatcher sources;
    sources.add(last);
#ifdef ORDERS_WITH_REDIS
    redis_connection redis{options.redis != nullptr ? options.redis : "", 200};
    const redis_unit keys{redis, log_id_of(file)};
    redis_source cache{redis, keys};
    if (options.redis != nullptr) sources.add(cache);
#endif
    static_cast<void>(options);
    const pj::position at_least = last.through();
    const char* who = nullptr;
    if (what == "revenue") {
        std::vector<revenue_row> rows;
        who = sources.ask(&read_source::revenue, at_least, rows);
        for (const revenue_row& r : rows)
            printf("%s\t%s\t%s\n", r.day.c_str(), r.payments.c_str(), r.cents.c_str());
    } else {
        std::vector<order_row> rows;
        who = sources.ask(&read_source::list, at_least, rows);
        for (const order_row& r : rows)
            if (id.empty() || r.id == id)
                printf("%s\t%s\t%s\t%s\t%s\t%s\n", r.id.c_str(), r.customer.c_str(),
                       r.cents.c_str(), r.currency.c_str(), r.status.c_str(), r.parcel.c_str());
    }
    fprintf(stderr, "answered by %s\n", who != nullptr ? who : "nobody");
    return who != nullptr ? 0 : 1;
}

// -------------------------------------------------------------------------------- command line

int set_rate(sqlite::connection& file, const std::string& currency, int64_t percent) {
    sqlite::statement set{file, "INSERT OR REPLACE INTO rates VALUES(?, ?)"};
    return told(set.run(currency, percent) == SQLITE_OK ? result::done : result::trouble);
}

int usage() {
    fputs("orders FILE COMMAND\n"
          "  place ID CUSTOMER CENTS [CURRENCY]   pay ID   ship ID PARCEL   cancel ID\n"
          "  show ID   list   revenue             from Redis if ORDERS_REDIS names its socket\n"
          "  work [--until-idle]                  keeps the read models until it is stopped\n"
          "  rebuild   lag   letters   requeue   rate CURRENCY PERCENT   load SEED COUNT\n"
          "  ORDERS_TTL_MS: how long a dead worker's lease lasts (10000)\n", stderr);
    return 2;
}

int run_command(const char* path, const std::vector<std::string>& a, const work_options& options) {
    sqlite::connection file{path, 5000};        // a command waits for its turn
    if (sqlite::create_tables(file) != SQLITE_OK || create_read_models(file) != SQLITE_OK)
        return told(result::trouble);
    const std::string& what = a[0];
    command_side commands{file};
    const auto number = [&](size_t i) { return strtoll(a[i].c_str(), nullptr, 10); };
    if (what == "place" && (a.size() == 4 || a.size() == 5))
        return told(commands.run(a[1], [&](order& o) {
            return o.place(a[2], number(3), a.size() == 5 ? a[4] : "EUR");
        }));
    if (what == "pay" && a.size() == 2)
        return told(commands.run(a[1], [](order& o) { return o.pay(); }));
    if (what == "ship" && a.size() == 3)
        return told(commands.run(a[1], [&](order& o) { return o.ship(a[2]); }));
    if (what == "cancel" && a.size() == 2)
        return told(commands.run(a[1], [](order& o) { return o.cancel(); }));
    if (what == "rate" && a.size() == 3) return set_rate(file, a[1], number(2));
    if (what == "load" && a.size() == 3)
        return load(file, static_cast<uint32_t>(number(1)), static_cast<int>(number(2)));
    if (what == "show" && a.size() == 2) return query(file, what, a[1], options);
    if ((what == "list" || what == "revenue") && a.size() == 1)
        return query(file, what, "", options);
    if (what == "lag") return lag(file);
    if (what == "letters") return letters(file);
    if (what == "requeue") return requeue(file, path, options);
    if (what == "rebuild") return rebuild(file, options);
    if (what == "work")         // its connections wait for nobody
        return work(path, options, [&](const pj::worker& worker) {
            return options.until_idle && is_idle(worker);
        });
    return usage();
}

} // namespace

int main(int count, char** arguments) {
    if (count < 3) return usage();
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGPIPE, SIG_IGN);           // hiredis writes to a Redis that has died
    work_options options;
    options.redis = getenv("ORDERS_REDIS");
    if (const char* ttl = getenv("ORDERS_TTL_MS"))
        options.ttl_ms = static_cast<uint32_t>(strtoul(ttl, nullptr, 10));
    std::vector<std::string> words(arguments + 2, arguments + count);
    options.until_idle = words.back() == "--until-idle";
    return run_command(arguments[1], words, options);
}
