// A game's leaderboard in Redis: matches are appended to a stream; worker processes share its four
// partitions by leases and keep a sorted set (the ranking) and a hash per player (the profile).
//
//   needs   Redis 7 and hiredis (Debian: redis-server, libhiredis-dev)
//   build   c++ -std=c++17 -I. examples/12_redis/leaderboard.cpp -lhiredis -o leaderboard
//   run     redis-server --port 0 --unixsocket /tmp/r.sock --appendonly yes --appendfsync always &
//           ./leaderboard play /tmp/r.sock 10000 &   # appends matches; prints each event's id
//           ./leaderboard work /tmp/r.sock &         # as many of these as you like; kill some
//           ./leaderboard show /tmp/r.sock           # the ten best
//           ./leaderboard trim /tmp/r.sock           # removes what all partitions have done
//           ./leaderboard rebuild /tmp/r.sock        # empties the models; the workers fill them
//
// It shows ranking, profiles, letters and checkpoint changed by one script, so that nothing is
// counted twice or left out, whoever is killed when: a worker, the server, or the answer between.
#include "redis_store.hpp"

#include <csignal>
#include <chrono>
#include <cstdio>
#include <random>
#include <thread>

namespace {

constexpr uint32_t partitions = 4;

struct match_won {
    static constexpr pj::event_type type{"MatchWon"};
    unsigned points = 0;
    static bool decode(const pj::stored_event& in, match_won& out) {
        if (in.payload.empty() || in.payload.size() > 9) return false;
        for (const unsigned char digit : in.payload) {
            if (digit < '0' || digit > '9') return false;
            out.points = out.points * 10 + (digit - unsigned{'0'});
        }
        return true;
    }
};
struct match_lost {
    static constexpr pj::event_type type{"MatchLost"};
    static bool decode(const pj::stored_event&, match_lost&) { return true; }
};

struct ranking {
    static constexpr char handler_name[] = "ranking";       // in letters
    using handles = pj::events<match_won>;
    redis_store& db;
    pj::verdict on(const match_won& e, const pj::context& c) {
        if (e.points > 100) return pj::reject(e.points);        // no match gives so much
        db.write({"ZINCRBY", db.key("ranking"), std::to_string(e.points),
                  redis_store::copy(c.event.aggregate_id)});
        return pj::handled;
    }
};
/// The streak tells the order of a player's matches, too.
struct profiles {
    static constexpr char handler_name[] = "profiles";
    using handles = pj::events<match_won, match_lost>;
    redis_store& db;
    void on(const match_won&, const pj::context& c) {
        const std::string player = db.key("player:", c.event.aggregate_id);
        db.write({"HINCRBY", player, "matches", "1"});
        db.write({"HINCRBY", player, "won", "1"});
        db.write({"HINCRBY", player, "streak", "1"});
    }
    void on(const match_lost&, const pj::context& c) {
        const std::string player = db.key("player:", c.event.aggregate_id);
        db.write({"HINCRBY", player, "matches", "1"});
        db.write({"HSET", player, "streak", "0"});
    }
};

uint32_t now_ms() {
    using namespace std::chrono;
    return static_cast<uint32_t>(
        duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count());
}
void sleep_ms(uint32_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

volatile std::sig_atomic_t is_told_to_end = 0;

/// Everything that worker and rebuild have in common; each engine has one of its own. begin() is
/// not told for whom: in a store that two engines share, a unit that one of them has open would
/// take in what the other saves.
struct game {
    redis_store db;
    ranking by_points{db};
    profiles by_player{db};
    pj::registry<ranking, profiles> models{by_points, by_player};
    pj::lease lease{db};
    pj::projection described{"leaderboard", db, models, db};

    game(const game&) = delete;
    game& operator=(const game&) = delete;
    explicit game(const char* socket) : db(socket, "game") {
        lease.ttl_ms = 1500;            // so soon another one takes over
        lease.margin_ms = 300;
        described.lease = &lease;
        described.clock = &now_ms;
        described.transaction = db;
        described.dead_letters = db;
        described.on_error = pj::error_policy::retry_then_dead_letter();
        described.poll_ms = 50;
        described.delays.cap_ms = 500;
    }
};

int work(const char* socket) {
    game games[partitions]{game{socket}, game{socket}, game{socket}, game{socket}};
    pj::partitioned_worker workers[]{{games[0].described, {0, partitions}},
                                     {games[1].described, {1, partitions}},
                                     {games[2].described, {2, partitions}},
                                     {games[3].described, {3, partitions}}};
    for (pj::partitioned_worker& w : workers) {
        const pj::status s = w.start();
        if (s != pj::status::ok) return std::fprintf(stderr, "%s\n", pj::to_string(s)), 2;
    }
    pj::status halted = pj::status::ok;
    for (bool running = true; running;) {
        uint32_t wait_ms = 50;                          // is_told_to_end is looked at so often
        running = false;
        for (pj::partitioned_worker& w : workers) {
            if (is_told_to_end != 0) w.stop();
            wait_ms = pj::sooner(wait_ms, w.tick(now_ms()).wait_ms);
            running = running || w.running();
            // A rebuild is somebody else's to finish; all else is a person's to decide.
            if (w.state() != pj::run_state::halted) continue;
            if (w.reason() == pj::status::rebuild_unfinished && is_told_to_end == 0) {
                sleep_ms(100);
                running = w.start() == pj::status::ok || running;
            } else {
                halted = w.reason();
                is_told_to_end = 1;
            }
        }
        if (running && wait_ms != 0) sleep_ms(wait_ms);
    }
    if (halted == pj::status::ok) return 0;
    std::fprintf(stderr, "%s\n", pj::to_string(halted));
    return 3;
}

int play(game& g, long count, unsigned seed) {
    std::mt19937 random(seed);
    for (long i = 0; i < count && is_told_to_end == 0; ++i) {
        const std::string player = "player-" + std::to_string(random() % 40);
        const auto dice = random() % 100;
        std::string id;
        if (dice < 40) id = g.db.append("MatchLost", player, "");
        else if (dice == 40) id = g.db.append("MatchWon", player, "many");      // unreadable
        else if (dice == 41) id = g.db.append("MatchWon", player, "5000");      // not believable
        else if (dice == 42) id = g.db.append("PlayerJoined", player, "");      // of no interest
        else id = g.db.append("MatchWon", player, std::to_string(random() % 100 + 1));
        if (id.empty()) sleep_ms(50);                   // perhaps appended: whoever plays may ask
        else if (std::printf("%s\n", id.c_str()) < 0 || std::fflush(stdout) != 0) return 1;
    }
    return 0;
}

int show(game& g) {
    const auto best = g.db.ask({"ZREVRANGE", g.db.key("ranking"), "0", "9", "WITHSCORES"});
    if (!best) return std::fprintf(stderr, "%s\n", g.db.last_error().c_str()), 1;
    std::printf("%-12s %7s %7s %5s %6s\n", "player", "points", "matches", "won", "streak");
    for (size_t i = 0; i + 1 < best->elements; i += 2) {
        const char* const player = best->element[i]->str;
        const auto profile = g.db.ask({"HMGET", g.db.key("player:", player), "matches", "won",
                                       "streak"});
        if (!profile) return 1;
        const auto field = [&](size_t f) {
            const char* const value = profile->element[f]->str;
            return value != nullptr ? value : "0";
        };
        std::printf("%-12s %7s %7s %5s %6s\n", player, best->element[i + 1]->str, field(0),
                    field(1), field(2));
    }
    return 0;
}

int trim(game& g) {
    pj::position lowest = INT64_MAX;
    for (uint32_t i = 0; i < partitions; ++i) {
        pj::checkpoint record;
        const std::string key = "leaderboard_p" + std::to_string(i);
        if (g.db.load(key, record) != pj::status::ok) return 1;
        if (record.at < lowest) lowest = record.at;
    }
    if (lowest < 0) return 0;
    std::printf("through %s\n", redis_store::id_of(lowest).c_str());
    return g.db.trim_through(lowest) ? 0 : 1;
}

int rebuild(game& g) {
    const auto drop = [&] {                     // no worker runs from the marker on
        const auto keys = g.db.ask({"KEYS", g.db.key("player:") + "*"});
        if (!keys) return pj::status::failed;
        redis_store::command words{"DEL", g.db.key("ranking"), g.db.key("letters")};
        for (size_t i = 0; i < keys->elements; ++i) words.push_back(keys->element[i]->str);
        return g.db.ask(words) ? pj::status::ok : pj::status::failed;
    };
    pj::replay_options options;
    options.on_drop = drop;
    options.partitions = partitions;
    pj::replay_engine replay{g.described, options};
    pj::status s = replay.start();
    if (s == pj::status::ok) s = pj::run(replay, &now_ms, &sleep_ms);
    std::printf("%s\n", s == pj::status::ok ? "dropped; the workers fill it" : pj::to_string(s));
    return s == pj::status::ok ? 0 : 1;
}

} // namespace

int main(int count, char** arguments) {
    const std::string what = count > 2 ? arguments[1] : "";
    std::signal(SIGTERM, [](int) { is_told_to_end = 1; });
    std::signal(SIGPIPE, SIG_IGN);      // or a server that goes away takes us with it
    if (what == "work") return work(arguments[2]);
    game g{count > 2 ? arguments[2] : ""};
    if (what == "play" && count > 3)
        return play(g, std::atol(arguments[3]),
                    count > 4 ? static_cast<unsigned>(std::atol(arguments[4])) : 1);
    if (what == "show") return show(g);
    if (what == "trim") return trim(g);
    if (what == "rebuild") return rebuild(g);
    std::fprintf(stderr, "leaderboard play|work|show|trim|rebuild SOCKET [COUNT] [SEED]\n");
    return 2;
}
