// What the library relies on, asked of the adapter of examples/12_redis by the kit's own check.
//
//     redis_contract SOCKET       a server without keys that begin with {kit}
#include "../../examples/12_redis/redis_store.hpp"
#include "engines/contract.hpp"

#include <chrono>
#include <csignal>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

std::vector<kit::kept_letter> letters(redis_store& db) {
    std::vector<kit::kept_letter> found;
    const redis_store::reply all = db.ask({"HVALS", db.key("letters")});
    for (size_t i = 0; all && i < all->elements; ++i) {
        std::istringstream words{all->element[i]->str};
        int kind = 0;
        kit::kept_letter l{};
        words >> kind >> l.code >> l.attempts;
        l.kind = static_cast<pj::failure_kind>(kind);
        found.push_back(l);
    }
    return found;
}

/// What a unit of work holds back, and what its end makes of it.
void units(const std::string& socket) {
    redis_store one{socket, "kit"}, other{socket, "kit"};
    pj::checkpoint next, seen;
    next.at = 5;
    next.revision = 1;
    check(one.begin() == pj::status::ok, "no unit");
    check(one.begin() == pj::status::pending, "a second unit of one store is not pending");
    one.write({"INCR", one.key("effect")});
    check(one.save("unit", next) == pj::status::ok, "save() in the unit");
    check(other.load("unit", seen) == pj::status::ok && seen.revision == 0,
          "what is not committed is seen");
    check(other.save("unit", next) == pj::status::ok, "somebody else saves");
    check(one.commit() == pj::status::conflict, "a unit on an old record is committed");
    check(one.rollback() == pj::status::ok, "rollback()");
    check(one.ask({"EXISTS", one.key("effect")})->integer == 0, "an effect without its checkpoint");
    next.revision = 2;
    check(one.begin() == pj::status::ok && one.save("unit", next) == pj::status::ok, "a new unit");
    one.write({"INCR", one.key("effect")});
    check(one.commit() == pj::status::ok, "commit()");
    check(other.load("unit", seen) == pj::status::ok && seen.revision == 2 &&
              one.ask({"EXISTS", one.key("effect")})->integer == 1, "what is committed is lost");
}

/// Everything that one unit of work covers. What may spoil one is that the connection is lost.
void units_by_the_kit(const std::string& socket) {
    std::optional<redis_store> db;
    const auto reopen = [&] { db.emplace(socket, "kit"); };
    reopen();
    redis_store other{socket, "kit"};
    kit::unit_parts parts{*db, *db};
    parts.write = [&](int n) {
        db->write({"SET", db->key("number"), std::to_string(n)});
        return pj::status::ok;
    };
    parts.read = [&] {
        const redis_store::reply number = other.ask({"GET", other.key("number")});
        return number && number->type == REDIS_REPLY_STRING ? std::stoi(number->str) : 0;
    };
    parts.letters = *db;
    parts.kept = [&] { return letters(other); };
    parts.elsewhere = other;
    parts.reopen = reopen;
    parts.trouble = [&] { other.ask({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}); };
    tell("units", kit::broken_promises(parts));
}

} // namespace

int main(int count, char** arguments) {
    if (count != 2) return 2;
    std::signal(SIGPIPE, SIG_IGN);
    redis_store db{arguments[1], "kit"};
    for (int i = 0; i < 5; ++i)
        check(!db.append("Kit", "aggregate", std::to_string(i)).empty(), "nothing is appended");
    const auto sleep = [](uint32_t ms) {
        std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    };
    tell("log", kit::broken_promises(pj::event_store{db}));
    tell("checkpoints", kit::broken_promises(pj::checkpoint_store{db}));
    tell("leases", kit::broken_promises(pj::lease_store{db}, sleep));
    tell("letters", kit::broken_promises(pj::dead_letter_sink{db}, [&] { return letters(db); }));
    units(arguments[1]);
    units_by_the_kit(arguments[1]);
    return verdict();
}
