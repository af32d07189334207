// What the library relies on, asked of the adapter of examples/10_sqlite by the kit's own check,
// and what an open unit of work means for the other ports of the same connection.
#include "../../examples/10_sqlite/sqlite_store.hpp"
#include "engines/contract.hpp"

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

void sleep_ms(uint32_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

pj::status append(sqlite::store& db, const std::string& to, int64_t expected, size_t count) {
    const std::string payload = "payload", state = "state";
    const sqlite::new_event one{"Kit", 1, payload, 0};
    const sqlite::new_event events[] = {one, one, one};
    return db.append(to, expected, events, count, state);
}
std::vector<kit::kept_letter> letters(sqlite::connection& file) {
    sqlite::statement all{file, "SELECT kind, code, attempts FROM letters"};
    std::vector<kit::kept_letter> found;
    all.each([&] {
        found.push_back({static_cast<pj::failure_kind>(all.number(0)),
                         static_cast<uint32_t>(all.number(1)),
                         static_cast<uint32_t>(all.number(2))});
        return true;
    });
    return found;
}

void promises(const std::string& path) {
    sqlite::connection file{path.c_str()};
    check(sqlite::create_tables(file) == SQLITE_OK, "the tables are not created");
    sqlite::store db{file};
    check(append(db, "a", 0, 3) == pj::status::ok, "three events are not appended");
    check(append(db, "b", 0, 3) == pj::status::ok, "three more are not appended");
    check(append(db, "a", 2, 2) == pj::status::conflict, "a late command is not refused");
    tell("log", kit::broken_promises(pj::event_store{db}));
    tell("checkpoints", kit::broken_promises(pj::checkpoint_store{db}));
    tell("leases", kit::broken_promises(pj::lease_store{db}, sleep_ms));
    tell("letters", kit::broken_promises(pj::dead_letter_sink{db}, [&] { return letters(file); }));
}

/// What is bound is what is kept.
void values(const std::string& path) {
    sqlite::connection file{path.c_str()};
    check(sqlite::create_tables(file) == SQLITE_OK, "the tables are not created");
    sqlite::store db{file};
    const sqlite::new_event without_payload{"Kit", 1, {}, 0};
    check(db.append("empty", 0, &without_payload, 1, {}) == pj::status::ok,
          "an event without a payload is not appended");
    sqlite::statement same{file, "SELECT ?1 = 19.99 AND ?2 = 'x' AND ?3 = x'' AND ?4 = 0.5"};
    bool is_same = false;
    same.each([&] { return is_same = same.number(0) == 1; }, 19.99, "x", pj::bytes{}, 0.5f);
    check(is_same, "a price, a text or no bytes are bound as something else");
}

/// Everything that one unit of work covers. The connection is made anew where the power fails; what
/// spoils a unit is a constraint that is checked at the commit, or SQLite itself, which ends a
/// transaction when the disk is full.
void units_by_the_kit(const std::string& path, const char* trouble) {
    std::optional<sqlite::connection> file;
    std::optional<sqlite::store> db;
    const auto reopen = [&] {
        db.reset();
        file.emplace(path.c_str());
        file->run("PRAGMA foreign_keys = ON");
        db.emplace(*file);
    };
    reopen();
    check(file->run("CREATE TABLE IF NOT EXISTS kit(n INTEGER PRIMARY KEY,"
                    " parent INTEGER REFERENCES kit(n) DEFERRABLE INITIALLY DEFERRED);"
                    "INSERT INTO kit SELECT 0, 0 WHERE NOT EXISTS(SELECT 1 FROM kit)") == SQLITE_OK,
          "a table for effects");
    sqlite::connection theirs{path.c_str()};
    sqlite::store other{theirs};
    kit::unit_parts parts{*db, *db};
    parts.write = [&](int n) {
        sqlite::statement set{*file, "UPDATE kit SET n = ?1, parent = ?1"};
        return sqlite::answer(set.run(n));
    };
    parts.read = [&] {
        sqlite::statement number{theirs, "SELECT n FROM kit"};
        int found = -1;
        number.each([&] { found = static_cast<int>(number.number(0)); return true; });
        return found;
    };
    parts.letters = *db;
    parts.kept = [&] { return letters(theirs); };
    parts.elsewhere = other;
    parts.reopen = reopen;
    parts.trouble = [&] { check(file->run(trouble) == SQLITE_OK, "no trouble"); };
    tell("units", kit::broken_promises(parts));
}

/// One connection in a unit of work, another beside it.
void units(const std::string& path) {
    sqlite::connection ours{path.c_str()}, theirs{path.c_str()};
    sqlite::store one{ours}, other{theirs};
    uint64_t token = 0;
    check(one.acquire("unit", 60000, token) == pj::status::ok, "no lease");
    check(one.begin() == pj::status::ok, "no unit");
    check(one.begin() == pj::status::pending, "a second unit on a connection is not pending");
    check(other.begin() == pj::status::pending, "a second writer does not wait");
    check(one.extend("unit", 60000, token) == pj::status::pending,
          "a lease is extended in a unit that may be rolled back");
    pj::checkpoint saved;
    saved.at = 5;
    saved.revision = 1;
    check(one.save("unit", saved) == pj::status::ok, "save() in the unit");
    pj::checkpoint seen;
    check(other.load("unit", seen) == pj::status::ok && seen.revision == 0,
          "what is not committed is seen");
    static_cast<void>(other.has_changed());
    check(!other.has_changed(), "nothing is committed, and has_changed()");
    check(one.commit() == pj::status::ok && one.commit() == pj::status::failed,
          "commit() of nothing looks done");
    check(one.rollback() == pj::status::ok, "rollback() of nothing does harm");
    check(other.load("unit", seen) == pj::status::ok && seen.at == 5, "what is committed is lost");
    check(other.has_changed() && !other.has_changed(), "a commit is not seen once");
    check(!one.has_changed() || !one.has_changed(), "its own commits wake a connection for ever");
}

/// Two handlers, of which one or both give events up.
struct taking {
    using handles = pj::every_event;
    std::string seen;                   // aggregates, in the order in which they came by
    std::string refused;
    pj::verdict on(const pj::stored_event& e) {
        const std::string of(e.aggregate_id.begin(), e.aggregate_id.end());
        if (refused.find(of) != std::string::npos) return pj::reject(7);
        seen += of + std::to_string(e.at);
        return pj::handled;
    }
};
struct first_one : taking { static constexpr char handler_name[] = "first"; };
struct second_one : taking { static constexpr char handler_name[] = "second"; };

/// Everything that letter_sequences asks the letters for.
void sequences(const std::string& path) {
    sqlite::connection file{path.c_str()};
    check(sqlite::create_tables(file) == SQLITE_OK, "the tables are not created");
    sqlite::store db{file};
    for (int i = 0; i < 2; ++i)         // a1 b2 c3 a4 b5 c6
        for (const char* of : {"a", "b", "c"})
            check(append(db, of, i, 1) == pj::status::ok, "an event is not appended");
    first_one one;
    second_one two;
    one.refused = "ab";
    two.refused = "a";
    pj::registry<first_one, second_one> both{one, two};
    const auto as_it_is_found = [&](auto&& ask) {       // by a worker that has just been started
        pj::letter_sequences<4> waiting;
        pj::projection what{"kit", db, both, db};
        what.dead_letters = db;
        what.sequences = waiting;
        what.on_error = pj::error_policy::dead_letter();
        pj::worker worker{what};
        check(worker.start() == pj::status::ok, "start()");
        for (uint32_t now = 0; !worker.caught_up() && now < 100; ++now)
            static_cast<void>(worker.tick(now));
        ask(waiting, worker);
    };
    as_it_is_found([&](const auto&, const auto&) {});
    check(one.seen == "c3c6" && two.seen == "b2c3b5c6", "others wait, too, or these do not");
    one.refused = two.refused = one.seen = two.seen = "";
    as_it_is_found([&](auto& waiting, auto& worker) {
        check(waiting.size() == 3 && waiting.is_blocked(worker, "first", "a") &&
                  waiting.is_blocked(worker, "first", "b") &&
                  waiting.is_blocked(worker, "second", "a"), "sequences() has not shown three");
        const auto again = [&](const char* handler, const char* of) {
            return waiting.redeliver(worker, handler, of);
        };
        check(again("first", "a") == pj::status::more && one.seen == "a1" && two.seen.empty(),
              "first() does not show the oldest letter of its sequence");
        check(again("first", "a") == pj::status::more && one.seen == "a1a4", "the next letter");
        check(again("first", "a") == pj::status::ok, "a sequence is never at its end");
        check(letters(file).size() == 4, "evict() has taken others, or too few");
        check(again("first", "c") == pj::status::ok && again("third", "b") == pj::status::ok,
              "letters of another sequence are shown");
    });
    as_it_is_found([&](auto& waiting, auto& worker) {
        check(waiting.size() == 2 && !waiting.is_blocked(worker, "first", "a"),
              "sequences() shows one that has no letters");
    });
}

/// What was deleted is gone: that shows, also where nothing is left.
void trimming(const std::string& path) {
    sqlite::connection file{path.c_str()};
    sqlite::store db{file};
    pj::position trimmed = pj::before_first, newest = pj::before_first;
    uint64_t id = 0, again = 0;
    check(db.bounds(trimmed, newest, id) == pj::status::ok && trimmed == pj::before_first &&
              newest == 6 && id != 0, "bounds() of a whole log");
    check(file.run("DELETE FROM events WHERE position <= 3") == SQLITE_OK, "delete");
    check(db.bounds(trimmed, newest, again) == pj::status::ok && trimmed == 3 && newest == 6 &&
              again == id, "bounds() of a trimmed log");
    check(file.run("DELETE FROM events") == SQLITE_OK, "delete");
    check(db.bounds(trimmed, newest, id) == pj::status::ok && trimmed == 6 && newest == 6,
          "bounds() of an emptied log");
    check(append(db, "c", 0, 1) == pj::status::ok, "append");
    check(db.bounds(trimmed, newest, id) == pj::status::ok && newest == 7,
          "a position was given out twice");
}

} // namespace

int main() {
    std::string folder = (std::filesystem::temp_directory_path() / "projections-XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) return 2;
    const std::string path = folder + "/kit.db";
    promises(path);
    values(folder + "/values.db");
    units_by_the_kit(path, "UPDATE kit SET parent = -1");
    units_by_the_kit(path, "ROLLBACK");
    units(path);
    trimming(path);
    sequences(folder + "/sequences.db");
    std::filesystem::remove_all(folder);
    return verdict();
}
