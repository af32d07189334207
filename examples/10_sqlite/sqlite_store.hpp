// Events, checkpoints, leases, units of work and dead letters in one SQLite file, for
// projections.hpp. Yours to copy; needs SQLite 3.35 or newer and nothing else (-lsqlite3).
//
//   sqlite::connection file{"shop.db"};
//   sqlite::create_tables(file);
//   sqlite::store db{file};
//   pj::lease lease{db};
//   pj::projection what{"orders", db, handlers, db};    // log and checkpoints
//   what.transaction = db; what.dead_letters = db; ...      // handlers write through `file`, too
//
// One connection per engine, and another one for commands: what is written through a connection
// whose unit of work is open is part of that unit, and is taken back with it.
#ifndef EXAMPLES_SQLITE_STORE_HPP
#define EXAMPLES_SQLITE_STORE_HPP

#include "projections.hpp"
#include <sqlite3.h>
#include <stdint.h>
#include <type_traits>

namespace sqlite {
namespace pj = projections;

/// Another connection writes: nothing is wrong, and in a tick nobody waits for it.
inline pj::status answer(int code) {
    switch (code & 0xff) {
    case SQLITE_OK: case SQLITE_ROW: case SQLITE_DONE: return pj::status::ok;
    case SQLITE_BUSY: case SQLITE_LOCKED: return pj::status::pending;
    default: return pj::status::failed;
    }
}

/// The same for handlers. A violated constraint will be violated again.
inline pj::verdict outcome(int code) {
    return (code & 0xff) == SQLITE_CONSTRAINT ? pj::reject(static_cast<uint32_t>(code))
                                              : pj::verdict(answer(code));
}

class connection {
public:
    /// 0 in a tick; commands may wait for their turn.
    explicit connection(const char* path, int busy_ms = 0) {
        if (sqlite3_open(path, &db_) != SQLITE_OK) return;
        sqlite3_extended_result_codes(db_, 1);
        sqlite3_busy_timeout(db_, 5000);        // the change to WAL itself takes a lock
        run("PRAGMA journal_mode = WAL");       // readers and the writer do not wait for each other
        run("PRAGMA synchronous = FULL");       // a commit survives the loss of power
        sqlite3_busy_timeout(db_, busy_ms);
    }
    ~connection() { sqlite3_close_v2(db_); }
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;

    int run(const char* sql) { return sqlite3_exec(db_, sql, nullptr, nullptr, nullptr); }
    bool is_in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }
    operator sqlite3*() const { return db_; }

private:
    sqlite3* db_ = nullptr;
};

/// Prepared once, bound and stepped many times.
class statement {
public:
    statement(sqlite3* db, const char* sql) {
        sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &it_, nullptr);
    }
    ~statement() { sqlite3_finalize(it_); }
    statement(const statement&) = delete;
    statement& operator=(const statement&) = delete;

    /// Binds the values and shows row after row, until `row` answers false. SQLITE_OK, or what is
    /// wrong, which may show only at the end: it is the reset that commits.
    template<class Row, class... V> int each(Row&& row, const V&... values) {
        int i = 0;
        (set(++i, values), ...);
        int code = sqlite3_step(it_);
        while (code == SQLITE_ROW && row()) code = sqlite3_step(it_);
        const int after = sqlite3_reset(it_);
        return code == SQLITE_ROW || code == SQLITE_DONE ? after : code;
    }
    template<class... V> int run(const V&... values) {
        return each([] { return true; }, values...);
    }

    // Of the row that is shown.
    int64_t number(int column) const { return sqlite3_column_int64(it_, column); }
    pj::text text(int column) const { return blob(column).text(); }
    pj::bytes blob(int column) const {
        const void* bytes = sqlite3_column_blob(it_, column);
        return {bytes, static_cast<size_t>(sqlite3_column_bytes(it_, column))};
    }

private:
    // (A null pointer would be NULL, and not empty.)
    void set(int i, pj::bytes v) {
        sqlite3_bind_blob(it_, i, v.empty() ? "" : v.data(), static_cast<int>(v.size()),
                          SQLITE_STATIC);
    }
    template<class T> void set(int i, const T& number_or_text) {
        if constexpr (std::is_floating_point_v<T>) {
            sqlite3_bind_double(it_, i, static_cast<double>(number_or_text));
        } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
            sqlite3_bind_int64(it_, i, static_cast<int64_t>(number_or_text));
        } else {
            const pj::text v = number_or_text;
            sqlite3_bind_text(it_, i, v.empty() ? "" : v.data(), static_cast<int>(v.size()),
                              SQLITE_STATIC);
        }
    }
    sqlite3_stmt* it_ = nullptr;
};

/// AUTOINCREMENT: without it the position of a deleted last row is given out again.
inline int create_tables(connection& file) {
    return file.run(
        "CREATE TABLE IF NOT EXISTS log(id INTEGER NOT NULL);"
        "INSERT INTO log SELECT abs(random() / 2) + 1 WHERE NOT EXISTS(SELECT 1 FROM log);"
        "CREATE TABLE IF NOT EXISTS events(position INTEGER PRIMARY KEY AUTOINCREMENT,"
        " aggregate TEXT NOT NULL, sequence INTEGER NOT NULL, type TEXT NOT NULL,"
        " version INTEGER NOT NULL, payload BLOB NOT NULL, occurred_at INTEGER NOT NULL,"
        " UNIQUE(aggregate, sequence));"
        "CREATE TABLE IF NOT EXISTS aggregates(id TEXT PRIMARY KEY, sequence INTEGER NOT NULL,"
        " state BLOB NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS checkpoints(key TEXT PRIMARY KEY, position INTEGER NOT NULL,"
        " revision INTEGER NOT NULL, token INTEGER NOT NULL, record BLOB NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS leases(resource TEXT PRIMARY KEY, token INTEGER NOT NULL,"
        " ends_at INTEGER NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS letters(projection TEXT NOT NULL, partition INTEGER NOT NULL,"
        " handler TEXT NOT NULL, position INTEGER NOT NULL, rebuild INTEGER NOT NULL,"
        " kind INTEGER NOT NULL, code INTEGER NOT NULL, attempts INTEGER NOT NULL,"
        " PRIMARY KEY(projection, partition, handler, position, rebuild)) WITHOUT ROWID;");
}

/// Milliseconds since 1970: the one clock that all processes and the file's future share. Leases
/// end by it; where somebody sets it back, one lasts longer, and the token still protects.
#define EXAMPLES_SQLITE_NOW "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

/// A new event of one aggregate, as a command has decided it.
struct new_event {
    pj::text type;
    uint32_t version;
    pj::bytes payload;
    int64_t occurred_at;
};

class store {
public:
    explicit store(connection& file) : db_(file) {}

    // ---- the log

    pj::status read(pj::position after, pj::visitor& visit) {
        return answer(read_.each([&] { return visit(event_of(read_)); }, after, visit.wanted()));
    }
    /// Positions are 1, 2, ...: a rolled back transaction gives its numbers back.
    pj::status bounds(pj::position& trimmed, pj::position& newest, uint64_t& log_id) {
        return answer(bounds_.each([&] {
            if (bounds_.number(1) > 0) newest = bounds_.number(1);
            if (bounds_.number(1) > 0 && bounds_.number(0) > 1) trimmed = bounds_.number(0) - 1;
            log_id = static_cast<uint64_t>(bounds_.number(2));
            return true;
        }));
    }
    /// Another connection has written since the last call: a poll that costs microseconds.
    bool has_changed() {
        const int64_t before = data_version_;
        version_.each([&] { data_version_ = version_.number(0); return true; });
        return data_version_ != before;
    }

    // ---- checkpoints: the whole record, with what is compared beside it

    pj::status load(pj::text key, pj::checkpoint& out) {
        bool is_readable = true;
        const int code = load_.each([&] { return is_readable = pj::decode(load_.blob(0), out); },
                                    key);
        return is_readable ? answer(code) : pj::status::checkpoint_corrupt;
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        unsigned char record[pj::checkpoint_bytes];
        pj::encode(next, record);
        if (is_lost()) return pj::status::failed;
        return changed(save_.run(key, next.at, next.revision, next.fencing_token,
                                 pj::bytes{record, sizeof record}));
    }

    // ---- leases

    pj::status acquire(pj::text resource, uint32_t ttl_ms, uint64_t& token) {
        bool is_taken = false;
        const int code = acquire_.each([&] {
            token = static_cast<uint64_t>(acquire_.number(0));
            return is_taken = true;
        }, resource, ttl_ms);
        return code == SQLITE_OK && !is_taken ? pj::status::conflict : answer(code);
    }
    /// Not inside a unit of work: its rollback would take the time back that the engine relies on.
    pj::status extend(pj::text resource, uint32_t ttl_ms, uint64_t token) {
        return db_.is_in_transaction() ? pj::status::pending
                                       : changed(extend_.run(resource, ttl_ms, token));
    }
    pj::status release(pj::text resource, uint64_t token) {
        return answer(release_.run(resource, token));
    }

    // ---- dead letters; the last three are for letter_sequences

    pj::status put(const pj::dead_letter& l) {
        if (is_lost()) return pj::status::failed;
        return answer(put_.run(l.projection, l.partition, l.handler, l.event.at, l.rebuild, l.kind,
                               l.code, l.attempts));
    }
    /// The event as it was is in the log: what a letter is about must not be deleted there.
    pj::status first(const pj::letter_sequence& of, pj::letter_visitor& show) {
        return answer(first_.each([&] {
            show(event_of(first_), static_cast<uint32_t>(first_.number(6)));
            return false;
        }, of.projection, of.partition, of.rebuild, of.handler, of.aggregate_id));
    }
    pj::status evict(const pj::letter_sequence& of, pj::position at) {
        return answer(evict_.run(of.projection, of.partition, of.rebuild, of.handler, at));
    }
    pj::status sequences(const pj::letter_sequence& of, pj::sequence_visitor& show) {
        return answer(sequences_.each([&] { return show(sequences_.text(0), sequences_.text(1)); },
                                      of.projection, of.partition, of.rebuild));
    }

    // ---- units of work

    /// IMMEDIATE: a transaction that begins by reading cannot write any more once another
    /// connection has written (SQLITE_BUSY_SNAPSHOT), however long it waits.
    pj::status begin() {
        if (db_.is_in_transaction()) return pj::status::pending;
        const pj::status s = answer(db_.run("BEGIN IMMEDIATE"));
        is_open_ = s == pj::status::ok;
        return s;
    }
    pj::status commit() {
        // Nothing is open where an error has rolled back already: that must not look done.
        if (!db_.is_in_transaction()) return pj::status::failed;
        const pj::status s = answer(db_.run("COMMIT"));
        if (s == pj::status::ok) is_open_ = false;
        return s;
    }
    pj::status rollback() {
        is_open_ = false;
        return db_.is_in_transaction() ? answer(db_.run("ROLLBACK")) : pj::status::ok;
    }

    // ---- the side that writes

    /// Appends the events of one command to its aggregate, and the state that they lead to, in one
    /// transaction. `expected`: how many events the aggregate had when the command was decided.
    /// Answers ok; conflict, somebody was faster: read the state and decide again; pending, failed.
    pj::status append(pj::text aggregate, int64_t expected, const new_event* events, size_t count,
                      pj::bytes state) {
        if (const pj::status s = begin(); s != pj::status::ok) return s;
        int code = SQLITE_OK;
        for (size_t i = 0; i < count && code == SQLITE_OK; ++i) {
            const new_event& e = events[i];
            code = append_.run(aggregate, ++expected, e.type, e.version, e.payload, e.occurred_at);
        }
        const bool is_late = code == SQLITE_CONSTRAINT_UNIQUE;
        if (code == SQLITE_OK) code = keep_.run(aggregate, expected, state);
        if (code == SQLITE_OK && commit() == pj::status::ok) return pj::status::ok;
        static_cast<void>(rollback());
        return is_late ? pj::status::conflict : pj::status::failed;
    }

private:
    static pj::stored_event event_of(const statement& row) {
        pj::stored_event event;
        event.at = row.number(0);
        event.type = row.text(1);
        event.version = static_cast<uint32_t>(row.number(2));
        event.payload = row.blob(3);
        event.aggregate_id = row.text(4);
        event.occurred_at = row.number(5);
        return event;
    }
    /// Nothing was changed: the row was somebody else's by now.
    pj::status changed(int code) const {
        return code == SQLITE_OK && sqlite3_changes(db_) == 0 ? pj::status::conflict : answer(code);
    }

    /// SQLite has ended the unit by itself, as it does when the disk is full. What still belongs to
    /// it would now be durable alone: a checkpoint without its effects.
    bool is_lost() const { return is_open_ && !db_.is_in_transaction(); }

    connection& db_;
    bool is_open_ = false;
    int64_t data_version_ = 0;
    statement read_{db_, "SELECT position, type, version, payload, aggregate, occurred_at FROM "
                         "events WHERE position > ? ORDER BY position LIMIT ?"};
    statement bounds_{db_, "SELECT coalesce((SELECT min(position) FROM events), s.seq + 1), s.seq, "
                           "log.id FROM log LEFT JOIN sqlite_sequence s ON s.name = 'events'"};
    statement version_{db_, "PRAGMA data_version"};
    statement load_{db_, "SELECT record FROM checkpoints WHERE key = ?"};
    statement save_{
        db_, "INSERT INTO checkpoints(key, position, revision, token, record) SELECT ?1, ?2, ?3, "
             "?4, ?5 WHERE ?3 = 1 OR EXISTS(SELECT 1 FROM checkpoints WHERE key = ?1) "
             "ON CONFLICT(key) DO UPDATE SET position = ?2, revision = ?3, token = ?4, record = ?5 "
             "WHERE revision = ?3 - 1 AND token <= ?4"};
    statement acquire_{
        db_, "INSERT INTO leases(resource, token, ends_at) VALUES(?1, 1, " EXAMPLES_SQLITE_NOW
             " + ?2) ON CONFLICT(resource) DO UPDATE SET token = token + 1, ends_at = "
             "excluded.ends_at WHERE ends_at <= " EXAMPLES_SQLITE_NOW " RETURNING token"};
    statement extend_{db_, "UPDATE leases SET ends_at = " EXAMPLES_SQLITE_NOW " + ?2 WHERE "
                           "resource = ?1 AND token = ?3 AND ends_at > " EXAMPLES_SQLITE_NOW};
    statement release_{db_, "UPDATE leases SET ends_at = 0 WHERE resource = ? AND token = ?"};
    statement put_{db_, "INSERT OR REPLACE INTO letters(projection, partition, handler, position, "
                        "rebuild, kind, code, attempts) VALUES(?, ?, ?, ?, ?, ?, ?, ?)"};
    statement first_{
        db_, "SELECT position, type, version, payload, aggregate, occurred_at, attempts "
             "FROM letters JOIN events USING(position) WHERE projection = ? AND partition = ? "
             "AND rebuild = ? AND handler = ? AND aggregate = ? ORDER BY position LIMIT 1"};
    statement evict_{db_, "DELETE FROM letters WHERE projection = ? AND partition = ? AND "
                          "rebuild = ? AND handler = ? AND position = ?"};
    statement sequences_{
        db_, "SELECT DISTINCT handler, aggregate FROM letters JOIN events USING(position) "
             "WHERE projection = ? AND partition = ? AND rebuild = ?"};
    statement append_{db_, "INSERT INTO events(aggregate, sequence, type, version, payload, "
                           "occurred_at) VALUES(?, ?, ?, ?, ?, ?)"};
    statement keep_{db_, "INSERT INTO aggregates(id, sequence, state) VALUES(?1, ?2, ?3) "
                         "ON CONFLICT(id) DO UPDATE SET sequence = ?2, state = ?3"};
};

#undef EXAMPLES_SQLITE_NOW

} // namespace sqlite

#endif
