// PostgreSQL in libpq's single-row mode: a batch is one query, and its rows are shown as they
// arrive, so that memory does not grow with the batch. It waits for the server inside a tick, which
// a rebuild may; the adapter of examples/11_postgres never does.
#include "end_to_end.hpp"

#include <endian.h>
#include <libpq-fe.h>
#include <memory>

namespace {

struct clear_result {
    void operator()(PGresult* r) const { PQclear(r); }
};
using result = std::unique_ptr<PGresult, clear_result>;

class postgres_log {
public:
    explicit postgres_log(const std::string& where) : db_(PQconnectdb(where.c_str())) {
        if (PQstatus(db_) != CONNECTION_OK) fail(PQerrorMessage(db_));
    }
    ~postgres_log() { PQfinish(db_); }
    postgres_log(const postgres_log&) = delete;
    postgres_log& operator=(const postgres_log&) = delete;

    bool run(const char* sql) {
        const result done{PQexec(db_, sql)};
        const ExecStatusType kind = PQresultStatus(done.get());
        return kind == PGRES_COMMAND_OK || kind == PGRES_COPY_IN;
    }
    bool prepare() {
        const auto make = [&](const char* name, const char* sql) {
            return PQresultStatus(result{PQprepare(db_, name, sql, 0, nullptr)}.get()) ==
                   PGRES_COMMAND_OK;
        };
        return make("read", "SELECT position, type, payload FROM events "
                            "WHERE position > $1::bigint ORDER BY position LIMIT $2::bigint") &&
               make("load", "SELECT record FROM checkpoints WHERE key = $1") &&
               make("save", "INSERT INTO checkpoints VALUES($1, $2::bigint, $3) "
                            "ON CONFLICT(key) DO UPDATE SET revision = $2::bigint, record = $3 "
                            "WHERE checkpoints.revision = $2::bigint - 1");
    }

    // ---- for the library

    pj::status read(pj::position after, pj::visitor& visit) {
        const bool is_well = rows(after, visit.wanted(), [&](PGresult* row) {
            pj::stored_event event;
            event.at = position(row);
            event.type = pj::text(PQgetvalue(row, 0, 1), length(row, 1));
            event.payload = pj::bytes(PQgetvalue(row, 0, 2), length(row, 2));
            return visit(event);
        });
        return is_well ? pj::status::ok : pj::status::failed;
    }
    pj::status save(pj::text key, const pj::checkpoint& next) {
        unsigned char record[pj::checkpoint_bytes];
        pj::encode(next, record);
        const std::string name(key.begin(), key.end()), revision = std::to_string(next.revision);
        const char* const values[] = {name.c_str(), revision.c_str(),
                                      reinterpret_cast<const char*>(record)};
        const int lengths[] = {0, 0, sizeof record}, formats[] = {0, 0, 1};
        const result done{PQexecPrepared(db_, "save", 3, values, lengths, formats, 1)};
        if (PQresultStatus(done.get()) != PGRES_COMMAND_OK) return pj::status::failed;
        return strcmp(PQcmdTuples(done.get()), "1") == 0 ? pj::status::ok : pj::status::conflict;
    }
    pj::status load(pj::text key, pj::checkpoint& out) {
        const std::string name(key.begin(), key.end());
        const char* const values[] = {name.c_str()};
        const result found{PQexecPrepared(db_, "load", 1, values, nullptr, nullptr, 1)};
        if (PQresultStatus(found.get()) != PGRES_TUPLES_OK) return pj::status::failed;
        if (PQntuples(found.get()) == 0) return pj::status::ok;
        const pj::bytes record(PQgetvalue(found.get(), 0, 0), length(found.get(), 0));
        return pj::decode(record, out) ? pj::status::ok : pj::status::checkpoint_corrupt;
    }

    // ---- the same by hand

    template<class Show> bool each(pj::position after, uint32_t limit, Show&& show) {
        return rows(after, limit, [&](PGresult* row) {
            return show(position(row), std::string_view(PQgetvalue(row, 0, 1), length(row, 1)),
                        PQgetvalue(row, 0, 2), length(row, 2));
        });
    }
    pj::position position_of(uint64_t number) const { return static_cast<pj::position>(number); }

    void make(uint64_t events) {
        need(run("CREATE TABLE events(position bigint PRIMARY KEY, type text NOT NULL,"
                 " payload bytea NOT NULL);"
                 "CREATE TABLE checkpoints(key text PRIMARY KEY, revision bigint NOT NULL,"
                 " record bytea NOT NULL)") && run("COPY events FROM STDIN"), "create");
        for (uint64_t i = 0; i < events; ++i) {
            const booking b = booking_of(i);
            const pj::text type = b.type.name();
            std::string line = std::to_string(i) + '\t' + std::string(type.begin(), type.end()) +
                               "\t\\\\x";
            for (const unsigned byte : pj::bytes(&b.fields, sizeof b.fields)) {
                line += "0123456789abcdef"[byte >> 4];
                line += "0123456789abcdef"[byte & 15];
            }
            line += '\n';
            need(PQputCopyData(db_, line.data(), static_cast<int>(line.size())) == 1, "copy");
        }
        need(PQputCopyEnd(db_, nullptr) == 1, "copy");
        while (const result r{PQgetResult(db_)})
            need(PQresultStatus(r.get()) == PGRES_COMMAND_OK, "copy");
        need(run("VACUUM ANALYZE events"), "analyze");
    }

private:
    /// Shows rows until `show` answers false, and takes the others off the connection. (The library
    /// stops only where the limit is, so there are none.)
    template<class Show> bool rows(pj::position after, uint32_t limit, Show&& show) {
        const std::string from = std::to_string(after), most = std::to_string(limit);
        const char* const values[] = {from.c_str(), most.c_str()};
        if (PQsendQueryPrepared(db_, "read", 2, values, nullptr, nullptr, 1) != 1 ||
            PQsetSingleRowMode(db_) != 1)
            return false;
        bool is_well = false, goes_on = true;
        while (const result row{PQgetResult(db_)}) {
            const ExecStatusType kind = PQresultStatus(row.get());
            is_well = kind == PGRES_TUPLES_OK;              // the last one, without a row
            if (kind == PGRES_SINGLE_TUPLE && goes_on) goes_on = show(row.get());
        }
        return is_well;
    }
    static pj::position position(const PGresult* row) {
        uint64_t big_endian;
        memcpy(&big_endian, PQgetvalue(row, 0, 0), sizeof big_endian);
        return static_cast<pj::position>(be64toh(big_endian));
    }
    static size_t length(const PGresult* row, int column) {
        return static_cast<size_t>(PQgetlength(row, 0, column));
    }

    PGconn* db_;
};

} // namespace

int main(int count, char** values) {
    const arguments args(count, values);
    postgres_log log(args.where);
    if (args.what == "make") {
        log.make(args.events);
        return 0;
    }
    need(log.run("DELETE FROM checkpoints") && log.prepare(), "prepare");
    balances_in_ram model;
    rebuild(args, log, model);
    return 0;
}
