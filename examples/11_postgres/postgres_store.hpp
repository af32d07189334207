// Event store, checkpoints, leases, units of work and letters in PostgreSQL (14 or newer), for
// projections.hpp. Yours to copy, with schema.sql; needs libpq and nothing else (-lpq).
//
// Nothing here waits for the server: a port sends its statements and answers pending until their
// results are here, and the engine calls it again. Many engines may share one connection, which is
// a pipeline; each engine has a store and a projection of its own:
//
//   postgres::connection server{"dbname=shop", "events"};
//   postgres::store db{server};
//   pj::projection what{"orders", db, handlers, db};    // handlers: db.queue("INSERT ...", ...)
//   what.transaction = db; what.dead_letters = db; ...
//   for (;;) {
//       poll() server.socket() for server.poll_events(), at most worker.tick(now).wait_ms;
//       if (server.pump() || db.was_answered()) worker.wake();
//   }
//
// A unit of work is what handlers, letters and the checkpoint have queued, sent as one group at the
// commit: one round trip, one transaction, and none open meanwhile.
#ifndef EXAMPLES_POSTGRES_STORE_HPP
#define EXAMPLES_POSTGRES_STORE_HPP

#include "projections.hpp"
#include <charconv>
#include <chrono>
#include <deque>
#include <libpq-fe.h>
#include <memory>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace postgres {
namespace pj = projections;

inline std::string copy(pj::text t) { return std::string(t.begin(), t.end()); }

/// A statement and what stands for its $1, $2, ...: numbers and texts. `sql` must outlive it.
struct query {
    template<class... V> explicit query(const char* statement, const V&... of)
        : sql(statement), values{spelled(of)...} {}
    bool operator==(const query& o) const { return sql == o.sql && values == o.values; }

    const char* sql;
    std::vector<std::string> values;

private:
    template<class V> static std::string spelled(const V& number_or_text) {
        if constexpr (std::is_floating_point_v<V>) {
            char digits[64];            // as many as make this very number again
            return {digits, std::to_chars(digits, digits + sizeof digits, number_or_text).ptr};
        } else if constexpr (std::is_arithmetic_v<V> || std::is_enum_v<V>) {
            return std::to_string(static_cast<int64_t>(number_or_text));
        } else {
            return copy(number_or_text);
        }
    }
};

struct clear_result {
    void operator()(PGresult* r) const { PQclear(r); }
};
using result = std::unique_ptr<PGresult, clear_result>;

/// Statements that were sent together: one transaction. `rows` are those of the last of them.
struct group {
    pj::status answer = pj::status::pending;
    result rows;
    std::shared_ptr<bool> bell;         // set when it is answered
    std::chrono::steady_clock::time_point answered{};

    void ring() {
        *bell = true;
        answered = std::chrono::steady_clock::now();
    }
};

class connection {
public:
    /// Connects when it is first used, and again when it was lost; what is not there after
    /// `connect_ms` is begun anew. (libpq's connect_timeout is for those who wait. It does wait for
    /// the address of a name: hostaddr has one. Of a server that answers no more the system tells:
    /// name keepalives_idle and tcp_user_timeout.)
    explicit connection(std::string where, std::string listen_to = {}, int connect_ms = 10000)
        : where_(std::move(where)), channel_(std::move(listen_to)), limit_(connect_ms) {}
    ~connection() { PQfinish(db_); }
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;

    /// ok, pending while connecting, failed: the next call begins anew.
    pj::status ready() {
        if (is_ready_) return pj::status::ok;
        if (db_ == nullptr) {
            db_ = PQconnectStart(where_.c_str());
            wants_ = PGRES_POLLING_WRITING;
            begun_ = std::chrono::steady_clock::now();
        }
        const pj::status s = connect();
        if (s != pj::status::pending || std::chrono::steady_clock::now() - begun_ < limit_)
            return s;
        lose();
        return pj::status::failed;
    }
    /// Pre: ready() is ok.
    std::shared_ptr<group> send(const std::vector<query>& all, std::shared_ptr<bool> bell) {
        auto sent = std::make_shared<group>();
        sent->bell = std::move(bell);
        bool is_sent = true;
        for (const query& q : all) {
            std::vector<const char*> values;
            std::vector<int> sizes, are_binary;
            for (const std::string& v : q.values) {
                values.push_back(v.c_str());
                sizes.push_back(static_cast<int>(v.size()));
                // A text that holds a zero would end there, silently: so the server refuses it.
                are_binary.push_back(v.find('\0') != std::string::npos ? 1 : 0);
            }
            const int many = static_cast<int>(values.size());
            is_sent = is_sent && PQsendQueryParams(db_, q.sql, many, nullptr, values.data(),
                                                   sizes.data(), are_binary.data(), 0) == 1;
        }
        waiting_.push_back(sent);
        if (!is_sent || PQpipelineSync(db_) != 1 || PQflush(db_) < 0) lose();
        return sent;
    }
    /// Takes what has arrived. True: a notification, or the connection has come or gone, so that
    /// all should look. (To wake all for each answer would keep them all awake for ever.)
    bool pump() {
        if (!is_ready_) return db_ != nullptr && connect() != pj::status::pending;
        if (PQconsumeInput(db_) != 1 || PQflush(db_) < 0) {
            lose();
            return true;
        }
        for (int nulls = 0; !waiting_.empty() && nulls < 2 && PQisBusy(db_) == 0;) {
            result r{PQgetResult(db_)};
            nulls = r == nullptr ? nulls + 1 : 0;
            if (r != nullptr) take(std::move(r));
        }
        bool is_news = false;
        for (PGnotify* n = PQnotifies(db_); n != nullptr; n = PQnotifies(db_)) {
            PQfreemem(n);
            ++notices_;
            is_news = true;
        }
        return is_news;
    }
    int socket() const { return db_ != nullptr ? PQsocket(db_) : -1; }
    short poll_events() const {
        if (!is_ready_) return wants_ == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
        return static_cast<short>(POLLIN | (PQflush(db_) == 1 ? POLLOUT : 0));
    }
    /// How many notifications there were.
    uint64_t notices() const { return notices_; }

private:
    pj::status connect() {
        // PQconnectPoll() waits, for minutes if need be, where the socket is not ready for it.
        pollfd socket{PQsocket(db_), poll_events(), 0};
        if (PQstatus(db_) != CONNECTION_BAD && poll(&socket, 1, 0) == 0) return pj::status::pending;
        wants_ = db_ != nullptr ? PQconnectPoll(db_) : PGRES_POLLING_FAILED;
        if (wants_ != PGRES_POLLING_OK && wants_ != PGRES_POLLING_FAILED)
            return pj::status::pending;
        if (wants_ == PGRES_POLLING_FAILED || PQsetnonblocking(db_, 1) != 0 ||
            PQenterPipelineMode(db_) != 1) {
            lose();
            return pj::status::failed;
        }
        is_ready_ = true;
        ++notices_;                     // what was missed meanwhile
        if (!channel_.empty()) {
            const std::string listen = "LISTEN " + channel_;
            send({query(listen.c_str())}, std::make_shared<bool>());
        }
        return is_ready_ ? pj::status::ok : pj::status::failed;
    }
    void take(result r) {
        group& first = *waiting_.front();
        const ExecStatusType kind = PQresultStatus(r.get());
        if (kind == PGRES_PIPELINE_SYNC) {
            if (first.answer == pj::status::pending) first.answer = pj::status::ok;
            first.ring();
            waiting_.pop_front();
            return;
        }
        if (kind == PGRES_TUPLES_OK || kind == PGRES_COMMAND_OK) {
            first.rows = std::move(r);
        } else if (kind != PGRES_PIPELINE_ABORTED) {
            const char* code = PQresultErrorField(r.get(), PG_DIAG_SQLSTATE);
            const bool is_conflict = code != nullptr && strcmp(code, "PJ409") == 0;
            first.answer = is_conflict ? pj::status::conflict : pj::status::failed;
        }
    }
    void lose() {
        for (const auto& each : waiting_) {
            each->answer = pj::status::failed;
            each->ring();
        }
        waiting_.clear();
        PQfinish(db_);
        db_ = nullptr;
        is_ready_ = false;
    }

    std::string where_, channel_;
    std::chrono::milliseconds limit_;
    std::chrono::steady_clock::time_point begun_{};
    PGconn* db_ = nullptr;
    bool is_ready_ = false;
    PostgresPollingStatusType wants_ = PGRES_POLLING_WRITING;
    std::deque<std::shared_ptr<group>> waiting_;
    uint64_t notices_ = 0;
};

/// One port's call over several ticks.
class call {
public:
    call(connection& server, const std::shared_ptr<bool>& bell) : server_(server), bell_(bell) {}
    /// Sends, or looks after what was sent. An answer to other statements is not waited for: what
    /// comes after them in the pipeline sees what they did.
    pj::status ask(const std::vector<query>& all) {
        if (sent_ == nullptr || !(asked_ == all)) {
            sent_ = nullptr;
            if (const pj::status s = server_.ready(); s != pj::status::ok) return s;
            sent_ = server_.send(all, bell_);
            asked_ = all;
        }
        if (sent_->answer == pj::status::pending) return pj::status::pending;
        const std::shared_ptr<group> answered = std::move(sent_);
        rows = std::move(answered->rows);
        return answered->answer;
    }
    template<class... V> pj::status ask(const char* sql, const V&... values) {
        return ask({query(sql, values...)});
    }
    /// The same for what is true for a moment only. An engine that is stopped, or loses its lease,
    /// does not come for the answer, and asks again minutes later: that is another question.
    template<class... V> pj::status ask_now(const char* sql, const V&... values) {
        if (is_left_lying()) forget();
        return ask(sql, values...);
    }
    bool is_left_lying() const {
        return sent_ != nullptr && sent_->answer != pj::status::pending &&
               std::chrono::steady_clock::now() - sent_->answered > longest_way;
    }
    void forget() { sent_ = nullptr; }

    int count() const { return PQntuples(rows.get()); }
    /// A row, and something in its first column.
    bool has_value() const { return count() == 1 && PQgetisnull(rows.get(), 0, 0) == 0; }
    pj::text text(int row, int column) const {
        return {PQgetvalue(rows.get(), row, column),
                static_cast<size_t>(PQgetlength(rows.get(), row, column))};
    }
    int64_t number(int row, int column) const {
        return strtoll(PQgetvalue(rows.get(), row, column), nullptr, 10);
    }
    result rows;

private:
    /// From the answer's arrival to the next tick.
    static constexpr std::chrono::milliseconds longest_way{100};

    connection& server_;
    std::shared_ptr<bool> bell_;
    std::shared_ptr<group> sent_;
    std::vector<query> asked_;
};

class store {
public:
    explicit store(connection& server) : server_(server) {}

    /// Something that a port waits for is here, since the last time.
    bool was_answered() { return std::exchange(*bell_, false); }

    // ---- the log

    /// Events are fetched a hundred at a time and kept until the engine is past them: it looks at
    /// one, and begins a unit of work before it takes it.
    pj::status read(pj::position after, pj::visitor& visit) {
        int first = 0;                  // it may go back, after a rollback
        while (first < read_.count() && read_.number(first, 0) <= after) ++first;
        if (after < fetched_after_ || !is_settled(first)) {
            if (const pj::status s = fetch(after); s != pj::status::ok) return s;
            first = 0;
        }
        for (int i = first; i < read_.count(); ++i) {
            if (!is_settled(i)) return pj::status::pending;
            pj::stored_event event;
            event.at = read_.number(i, 0);
            event.type = read_.text(i, 1);
            event.version = static_cast<uint32_t>(read_.number(i, 2));
            event.payload = read_.text(i, 3);
            event.aggregate_id = read_.text(i, 4);
            event.occurred_at = read_.number(i, 5);
            if (!visit(event)) return pj::status::ok;
        }
        const bool is_end = read_.count() < fetched_max && notices_ == server_.notices();
        return is_end ? pj::status::ok : pj::status::more;
    }
    /// The newest below which nothing can appear any more: whoever begins at the end begins there,
    /// or what is committed late would be passed over.
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& log_id) {
        const pj::status s = bounds_.ask_now(
            "SELECT id, trimmed, greatest(trimmed, (SELECT max(position) FROM events WHERE "
            "position < (SELECT log_horizon()))) FROM log");
        if (s != pj::status::ok) return s;
        if (!bounds_.has_value()) return pj::status::failed;
        log_id = static_cast<uint64_t>(bounds_.number(0, 0));
        trimmed = bounds_.number(0, 1);
        newest = bounds_.number(0, 2);
        return s;
    }

    // ---- checkpoints

    pj::status load(pj::text key, pj::checkpoint& out) {
        const pj::status s = load_.ask_now("SELECT record FROM checkpoints WHERE key = $1", key);
        if (s != pj::status::ok || !load_.has_value()) return s;
        return from_hex(load_.text(0, 0), out) ? s : pj::status::checkpoint_corrupt;
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        return do_or_queue(save_, query("SELECT save_checkpoint($1, $2, $3, $4, $5)", key, next.at,
                                        next.revision, next.fencing_token, to_hex(next)));
    }

    // ---- leases, on the checkpoint's row. The time that a call takes is part of the margin.

    pj::status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
        const bool is_late = acquire_.is_left_lying();
        const pj::status s = acquire_.ask("SELECT acquire_lease($1, $2)", resource, ttl_ms);
        if (s != pj::status::ok) return s;
        if (!acquire_.has_value()) return pj::status::conflict;
        token = static_cast<uint64_t>(acquire_.number(0, 0));
        if (!is_late) return s;
        static_cast<void>(release(resource, token));    // it may be over by now: the next call asks
        return pj::status::pending;
    }
    pj::status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
        const pj::status s = extend_.ask(
            "UPDATE checkpoints SET lease_until = clock_timestamp() + $2::bigint * interval '1 ms' "
            "WHERE key = $1 AND token = $3 AND lease_until > clock_timestamp() RETURNING token",
            resource, ttl_ms, token);
        return s == pj::status::ok && extend_.count() == 0 ? pj::status::conflict : s;
    }
    pj::status release(pj::text resource, uint64_t token) {
        return release_.ask("UPDATE checkpoints SET lease_until = '-infinity' "
                            "WHERE key = $1 AND token = $2", resource, token);
    }

    // ---- units of work

    pj::status begin() {
        if (is_open_) return pj::status::pending;
        const pj::status s = server_.ready();
        is_open_ = s == pj::status::ok;
        return s;
    }
    /// For handlers: done together with the checkpoint, or not at all. `sql` must outlive the unit.
    template<class... V> void queue(const char* sql, const V&... values) {
        unit_.emplace_back(sql, values...);
    }
    pj::status commit() {
        const pj::status s = commit_.ask(unit_);
        if (s == pj::status::ok) return rollback();     // of nothing: the unit is over
        return s == pj::status::pending ? s : pj::status::failed;
    }
    /// A commit that was sent may still take place: the record tells.
    pj::status rollback() {
        commit_.forget();
        unit_.clear();
        is_open_ = false;
        return pj::status::ok;
    }

    // ---- letters

    pj::status put(const pj::dead_letter& l) {
        return do_or_queue(put_, query(
            "INSERT INTO letters VALUES($1, $2, $3, $4, $5, $6, $7, $8) "
            "ON CONFLICT(projection, partition, handler, position, rebuild) DO UPDATE SET "
            "kind = EXCLUDED.kind, code = EXCLUDED.code, attempts = EXCLUDED.attempts",
            l.projection, l.partition, l.handler, l.event.at, l.rebuild, l.kind, l.code,
            l.attempts));
    }

private:
    static constexpr int fetched_max = 100;

    /// In a unit it goes with the commit; whether the server takes it, shows there.
    pj::status do_or_queue(call& alone, query q) {
        if (!is_open_) return alone.ask({q});
        unit_.push_back(std::move(q));
        return pj::status::ok;
    }
    /// No transaction that still runs may put an event before this one.
    bool is_settled(int row) const { return row < read_.count() && read_.text(row, 6) == "t"; }
    pj::status fetch(pj::position after) {
        read_.rows = nullptr;           // else they would be taken for those after this position
        if (!is_fetching_) notices_ = server_.notices();
        const pj::status s = read_.ask(
            "SELECT position, type, version, payload, aggregate, occurred_at, "
            "position < (SELECT log_horizon()) FROM events WHERE position > $1 "
            "ORDER BY position LIMIT $2", after, fetched_max);
        is_fetching_ = s == pj::status::pending;
        fetched_after_ = after;
        return s;
    }
    static std::string to_hex(const pj::checkpoint& in) {
        unsigned char record[pj::checkpoint_bytes];
        pj::encode(in, record);
        std::string out;
        for (const unsigned byte : record) {
            out += "0123456789abcdef"[byte >> 4];
            out += "0123456789abcdef"[byte & 15];
        }
        return out;
    }
    static bool from_hex(pj::text in, pj::checkpoint& out) {
        std::vector<unsigned char> record;
        for (size_t i = 0; i + 1 < in.size(); i += 2) {
            const char digits[3] = {in.data()[i], in.data()[i + 1], '\0'};
            record.push_back(static_cast<unsigned char>(strtoul(digits, nullptr, 16)));
        }
        return pj::decode(record, out);
    }

    connection& server_;
    std::shared_ptr<bool> bell_ = std::make_shared<bool>(false);
    call read_{server_, bell_}, bounds_{server_, bell_}, load_{server_, bell_},
        save_{server_, bell_}, acquire_{server_, bell_}, extend_{server_, bell_},
        release_{server_, bell_}, commit_{server_, bell_}, put_{server_, bell_};
    std::vector<query> unit_;
    bool is_open_ = false, is_fetching_ = false;
    pj::position fetched_after_ = pj::before_first;
    uint64_t notices_ = 0;              // when it was asked for
};

} // namespace postgres

#endif
