// What the library relies on, asked of the adapter of examples/11_postgres by the kit's own check,
// and the order in which events of several transactions become visible.
//
//     postgres_contract CONNECTION    a database with the example's tables and nothing in them
#include "../../examples/11_postgres/postgres_store.hpp"
#include "engines/contract.hpp"

#include <chrono>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

/// A connection that waits; answers the first value, or the SQLSTATE of what went wrong.
class session {
public:
    explicit session(const char* where) : db_(PQconnectdb(where)) {}
    ~session() { PQfinish(db_); }
    session(const session&) = delete;
    session& operator=(const session&) = delete;
    std::string run(const std::string& sql) {
        const postgres::result r{PQexec(db_, sql.c_str())};
        const char* code = PQresultErrorField(r.get(), PG_DIAG_SQLSTATE);
        if (code != nullptr) return code;
        return PQntuples(r.get()) > 0 ? PQgetvalue(r.get(), 0, 0) : "";
    }
    std::string append(const std::string& to, int expected) {
        return run("SELECT append_event('" + to + "', " + std::to_string(expected) +
                   ", 'Kit', 1, 'payload', 0)");
    }

private:
    PGconn* db_;
};

/// Calls until the answer is there.
template<class Call> pj::status until_answered(postgres::connection& server, Call&& ask) {
    for (int i = 0; i < 1000; ++i) {
        const pj::status s = ask();
        if (s != pj::status::pending) return s;
        pollfd waiting{server.socket(), server.poll_events(), 0};
        poll(&waiting, 1, 10);
        static_cast<void>(server.pump());
    }
    return pj::status::pending;
}

struct counting {
    using handles = pj::every_event;
    std::vector<pj::position> seen;
    void on(const pj::stored_event& e) { seen.push_back(e.at); }
};

/// What a worker sees until it has caught up, or for as long as `ms`.
std::vector<pj::position> all_of(postgres::connection& server, int ms = 500) {
    postgres::store db{server};
    counting hand;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection what{"all", db, hand, checkpoints};
    pj::worker worker{what};
    if (worker.start() != pj::status::ok) return {};
    const auto began = std::chrono::steady_clock::now();
    const auto now = [&] {
        return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                    std::chrono::steady_clock::now() - began).count());
    };
    while (!worker.caught_up() && now() < ms) {
        static_cast<void>(worker.tick(static_cast<uint32_t>(now())));
        pollfd waiting{server.socket(), server.poll_events(), 0};
        poll(&waiting, 1, 5);
        if (server.pump() || db.was_answered()) worker.wake();
    }
    return hand.seen;
}

std::vector<kit::kept_letter> letters(session& one) {
    std::istringstream all{one.run("SELECT string_agg(kind || ' ' || code || ' ' || attempts, "
                                   "' ') FROM letters")};
    std::vector<kit::kept_letter> found;
    int kind;
    for (kit::kept_letter l{}; all >> kind >> l.code >> l.attempts; found.push_back(l))
        l.kind = static_cast<pj::failure_kind>(kind);
    return found;
}

void promises(postgres::connection& server, session& one) {
    for (int i = 0; i < 250; ++i) one.append("a", i);
    postgres::store db{server};
    const auto meanwhile = [&] {
        pollfd waiting{server.socket(), server.poll_events(), 0};
        poll(&waiting, 1, 5);
        static_cast<void>(server.pump());
    };
    const auto sleep = [](uint32_t ms) {
        std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    };
    tell("log", kit::broken_promises(pj::event_store{db}, meanwhile));
    tell("checkpoints", kit::broken_promises(pj::checkpoint_store{db}, "kit", meanwhile));
    tell("leases", kit::broken_promises(pj::lease_store{db}, sleep, "lease", 300, meanwhile));
    tell("letters", kit::broken_promises(pj::dead_letter_sink{db}, [&] { return letters(one); },
                                       meanwhile));
}

/// Transactions take their positions in one order and commit in another.
void order(const char* where, postgres::connection& server) {
    session one{where}, two{where}, three{where};
    const size_t before = all_of(server).size();
    one.run("BEGIN");
    const std::string first = one.append("slow", 0);
    const std::string second = two.append("quick", 0);
    check(std::stoll(first) < std::stoll(second), "positions are not in the order of appending");
    check(all_of(server, 100).size() == before, "an event is shown above one that may still come");
    one.run("COMMIT");
    const std::vector<pj::position> seen = all_of(server);
    check(seen.size() == before + 2 && seen[before] == std::stoll(first), "one is lost");

    one.run("BEGIN");       // an older transaction must not append behind a younger one's event
    one.append("other", 0);
    two.append("quick", 1);
    check(one.append("quick", 2) == "40001", "an aggregate's events would be in the wrong order");
    one.run("ROLLBACK");
    check(two.append("quick", 1) == "23505", "a command that is late is not refused");
    check(two.append("quick", 7) == "40001", "a command of the future is not refused");
    check(all_of(server).size() == before + 3, "after a rollback");
}

/// Whoever begins at the end of the log is shown all that is committed from then on, a transaction
/// that had begun before included.
void the_end(const char* where, postgres::connection& server) {
    session one{where}, two{where};
    postgres::store db{server};
    counting hand;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection what{"end", db, hand, checkpoints};
    what.first_start = pj::begin_at::the_end;
    what.poll_ms = 5;
    pj::worker worker{what};
    one.run("BEGIN");
    const std::string late = one.append("late", 0);
    two.append("early", 0);
    check(worker.start() == pj::status::ok, "start()");
    uint32_t now_ms = 0;
    const auto work = [&] {
        for (int i = 0; i < 60; ++i, now_ms += 5) {
            static_cast<void>(worker.tick(now_ms));
            pollfd waiting{server.socket(), server.poll_events(), 0};
            poll(&waiting, 1, 5);
            if (server.pump() || db.was_answered()) worker.wake();
        }
    };
    work();
    check(worker.loaded() && hand.seen.empty(), "it does not begin at the end");
    one.run("COMMIT");
    work();
    check(!hand.seen.empty() && hand.seen[0] == std::stoll(late), "a late commit is passed over");
}

/// A former owner's unit of work does not take place once somebody else has the lease.
void fencing(postgres::connection& server, session& one) {
    postgres::store db{server};
    uint64_t token = 0, other = 0;
    const auto acquire = [&](uint64_t& t) {
        return until_answered(server, [&] { return db.acquire("fenced", 50, t); });
    };
    const auto commit = [&](uint32_t revision, uint64_t by) {
        pj::checkpoint next;
        next.at = revision;
        next.revision = revision;
        next.fencing_token = by;
        if (until_answered(server, [&] { return db.begin(); }) != pj::status::ok) return false;
        db.queue("INSERT INTO aggregates VALUES($1, 0, '')", revision);
        if (db.save("fenced", next) != pj::status::ok) return false;
        const pj::status s = until_answered(server, [&] { return db.commit(); });
        static_cast<void>(db.rollback());
        return s == pj::status::ok;
    };
    check(acquire(token) == pj::status::ok && token != 0, "no lease");
    check(commit(1, token), "the owner cannot commit");
    check(acquire(other) == pj::status::conflict, "a lease is given twice");
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    check(acquire(other) == pj::status::ok && other > token, "no lease after it has expired");
    check(!commit(2, token), "a former owner commits");
    check(commit(2, other), "the new owner cannot commit");
    check(!commit(4, other), "a revision is left out");
    check(one.run("SELECT count(*) FROM aggregates") == "2", "effects without their checkpoint");
    one.run("TRUNCATE aggregates");
}

/// A host that does not answer, or that accepts the connection and says nothing more, as a load
/// balancer does without a server behind it: no call waits for it, and it is given up.
void silence() {
    const int listening = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    auto* const address = static_cast<sockaddr*>(static_cast<void*>(&at));
    check(bind(listening, address, size) == 0 && listen(listening, 0) == 0 &&
              getsockname(listening, address, &size) == 0, "no port");
    const std::string where = "host=127.0.0.1 port=" + std::to_string(ntohs(at.sin_port));
    alarm(20);
    for (int i = 0; i < 5; ++i) {       // the first are accepted, the others not even answered
        postgres::connection server{where, {}, 100};
        check(until_answered(server, [&] { return server.ready(); }) == pj::status::failed,
              "a server that says nothing is waited for without end");
        const int more = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        static_cast<void>(connect(more, address, size));
    }
    alarm(0);
    close(listening);
}

/// An engine that stops or loses its lease while a question is under way asks again much later.
void later(postgres::connection& server, session& one) {
    postgres::store db{server}, other{server};
    pj::position trimmed = 0, newest = 0;
    uint64_t id = 0, token = 0;
    pj::checkpoint found, next;
    check(db.bounds(trimmed, newest, id) == pj::status::pending &&
              db.load("later", found) == pj::status::pending &&
              db.acquire("later", 150, token) == pj::status::pending, "answered at once");
    static_cast<void>(until_answered(server, [&] { return other.bounds(trimmed, newest, id); }));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const pj::position appended = std::stoll(one.append("later", 0));
    next.revision = 1;
    next.at = 7;
    next.fencing_token = 9;
    check(until_answered(server, [&] { return other.save("later", next); }) == pj::status::ok,
          "no save");
    newest = 0;
    check(until_answered(server, [&] { return db.bounds(trimmed, newest, id); }) ==
              pj::status::ok && newest == appended, "bounds() of when it was given up");
    check(until_answered(server, [&] { return db.load("later", found); }) == pj::status::ok &&
              found.at == 7, "load() of when it was given up");
    check(until_answered(server, [&] { return db.acquire("later", 150, token); }) ==
              pj::status::ok, "no lease");
    check(until_answered(server, [&] { return db.extend("later", 150, token); }) ==
              pj::status::ok, "a lease that was over when it was given");
}

/// What is queued is what is kept, or the unit fails.
void values(postgres::connection& server, session& one) {
    postgres::store db{server};
    one.run("CREATE TABLE kept(price float8, name text)");
    const auto keeps = [&](double price, const std::string& name) {
        if (until_answered(server, [&] { return db.begin(); }) != pj::status::ok) return false;
        db.queue("INSERT INTO kept VALUES($1, $2)", price, name);
        const pj::status s = until_answered(server, [&] { return db.commit(); });
        static_cast<void>(db.rollback());
        return s == pj::status::ok;
    };
    check(keeps(19.99, "a"), "a price is not kept");
    check(one.run("SELECT price = 19.99 AND name = 'a' FROM kept") == "t", "another price is kept");
    check(!keeps(1, std::string("b\0c", 3)), "a text is kept as far as its first zero");
    check(one.run("SELECT count(*) FROM kept") == "1", "a part of what was refused");
    one.run("DROP TABLE kept");
}

/// Everything that one unit of work covers. What spoils one is a statement that the server refuses,
/// or that the connection is lost with the unit open.
void units(const char* where, session& one, bool is_killed) {
    std::optional<postgres::connection> server;
    std::optional<postgres::store> db;
    const auto reopen = [&] {
        db.reset();
        server.emplace(where);
        db.emplace(*server);
    };
    reopen();
    postgres::connection theirs{where};
    postgres::store other{theirs};
    one.run("CREATE TABLE kit AS SELECT 0 AS n");
    kit::unit_parts parts{*db, *db};
    parts.write = [&](int n) {
        db->queue("UPDATE kit SET n = $1", n);
        return pj::status::ok;
    };
    parts.read = [&] { return std::stoi(one.run("SELECT n FROM kit")); };
    parts.letters = *db;
    parts.kept = [&] { return letters(one); };
    parts.elsewhere = other;
    parts.reopen = reopen;
    parts.trouble = [&] {
        if (!is_killed) return db->queue("SELECT 1 / 0");
        one.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()");
    };
    parts.meanwhile = [&] {
        pollfd waiting[] = {{server->socket(), server->poll_events(), 0},
                            {theirs.socket(), theirs.poll_events(), 0}};
        poll(waiting, 2, 5);
        static_cast<void>(server->pump());
        static_cast<void>(theirs.pump());
    };
    tell(is_killed ? "units of a connection that is lost" : "units", kit::broken_promises(parts));
    one.run("DROP TABLE kit");
}

} // namespace

int main(int count, char** arguments) {
    if (count != 2) return 2;
    postgres::connection server{arguments[1], "events"};
    session one{arguments[1]};
    if (until_answered(server, [&] { return server.ready(); }) != pj::status::ok) return 2;
    promises(server, one);
    order(arguments[1], server);
    the_end(arguments[1], server);
    fencing(server, one);
    values(server, one);
    later(server, one);
    silence();
    units(arguments[1], one, false);
    units(arguments[1], one, true);
    return verdict();
}
