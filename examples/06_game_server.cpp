// A game server: 60 frames in a second, thousands of events in a second. Leaderboard, statistics,
// economy and arrivals are projections that may take 1 ms or 256 events of every frame each,
// whichever ends first.
//
//   build   c++ -std=c++17 -O2 -I. examples/06_game_server.cpp -o game_server
//   run     ./game_server             ten seconds of play in real time
//           ./game_server --fast      the same without sleeping between frames
//
// What it shows:
//   - A time budget and a count budget (tick_ms_max, batch): the events beyond wait in the ring.
//   - A handler that rejects: an impossible trade is paged to the operator and skipped, by a policy
//     that the settings name.
//   - A handler that is pending: the welcome of a player needs a lookup that takes frames. The
//     frame goes on; the other projections, too.
//   - A rebuild during play: the operator changes what the leaderboard counts. The new one is
//     built beside the old one from the ring, within the same budget, and then takes its place.
//   - How long the ticks took. That is printed, not checked; what is checked is the count.
#include "projections.hpp"
#include <algorithm>
#include <chrono>
#include <initializer_list>
#include <stdio.h>
#include <string.h>
#include <thread>
#include <vector>
namespace pj = projections;
using namespace std::chrono_literals;

constexpr uint32_t players = 1000, frames = 600, batch = 256;
constexpr uint32_t events_per_frame = 120;              // 7200 in a second
constexpr uint32_t battle_frame = 100, battle = 5000;   // once there are so many in one frame

struct player_joined {
    static constexpr pj::event_type type{"PlayerJoined", pj::raw};
    uint32_t player;
};
struct player_killed {
    static constexpr pj::event_type type{"PlayerKilled", pj::raw};
    uint32_t killer, victim, headshot;
};
struct item_traded {
    static constexpr pj::event_type type{"ItemTraded", pj::raw};
    uint32_t from, to, gold;
};
using game_events = pj::events<player_joined, player_killed, item_traded>;

// ---- projections

struct leaderboard {
    using handles = pj::matching<game_events>;
    uint32_t headshot_points = 1;                       // the rule that changes during play
    uint32_t points[players]{};
    void on(const player_killed& e) {
        points[e.killer % players] += e.headshot != 0 ? headshot_points : 1;
    }
    uint32_t best() const {
        return static_cast<uint32_t>(std::max_element(points, points + players) - points);
    }
};
struct statistics {                                     // per player, two kinds of event
    using handles = pj::matching<game_events>;
    struct { uint32_t kills, deaths, trades; } of[players]{};
    void on(const player_killed& e) {
        ++of[e.killer % players].kills;
        ++of[e.victim % players].deaths;
    }
    void on(const item_traded& e) { ++of[e.from % players].trades; }
};
struct economy {
    using handles = pj::matching<game_events>;
    enum code : uint32_t { too_poor = 1 };
    int64_t gold[players];
    economy() { for (int64_t& one : gold) one = 100; }
    pj::verdict on(const item_traded& e) {
        if (gold[e.from % players] < e.gold) return pj::reject(too_poor);
        gold[e.from % players] -= e.gold;
        gold[e.to % players] += e.gold;
        return pj::handled;
    }
};
/// Greets whoever joins with what a slow service says of him; the answer comes some frames later.
struct welcome {
    using handles = pj::matching<game_events>;
    uint32_t answer_in = 0, greeted = 0, waits = 0;
    pj::waker waiting{};
    pj::verdict on(const player_joined&, const pj::context& with) {
        if (!with.resumed) {
            answer_in = 3;
            waiting = with.waker;
        }
        if (answer_in != 0) { ++waits; return pj::pending; }
        ++greeted;
        return pj::handled;
    }
    void frame() { if (answer_in != 0 && --answer_in == 0) waiting.wake(); }
};

// ---- the server

static uint32_t skipped_ms = 0;         // sleep that --fast has left out
static uint32_t now_ms() {
    return static_cast<uint32_t>(std::chrono::steady_clock::now().time_since_epoch() / 1ms) +
           skipped_ms;
}
static uint32_t pages = 0;
static pj::decision page_and_skip(const pj::failure& f) {
    if (pages++ == 0) printf("paged: event %ld, code %lu\n", static_cast<long>(f.event.at),
                             static_cast<unsigned long>(f.code));
    return pj::decision::skip();
}
static pj::decision page_and_halt(const pj::failure&) { return pj::decision::halt(); }

/// What the players do; the same in every run. Counts what the projections must find.
struct game {
    pj::memory_log<131072, 131072 * 32> ring;
    uint32_t random = 1, kills = 0, headshots = 0, joins = 0, trades = 0;
    uint32_t below(uint32_t n) {
        random = random * 1664525u + 1013904223u;
        return (random >> 8) % n;
    }
    void play(uint32_t frame) {
        if (frame % 20 == 0) ring.append(player_joined{joins++});
        const uint32_t events = frame == battle_frame ? battle : events_per_frame;
        for (uint32_t i = frame % 20 == 0 ? 1 : 0; i < events; ++i) {
            if (below(10) < 7) {
                const uint32_t headshot = below(4) == 0 ? 1 : 0;
                ring.append(player_killed{below(players), below(players), headshot});
                ++kills;
                headshots += headshot;
            } else {
                ring.append(item_traded{below(players), below(players), below(30)});
                ++trades;
            }
        }
    }
};

struct tick_times {
    std::vector<std::chrono::nanoseconds> all;
    uint32_t most_events = 0;
    void tick(pj::engine& e) {
        const auto began = std::chrono::steady_clock::now();
        const pj::tick_result r = e.tick(now_ms());
        all.push_back(std::chrono::steady_clock::now() - began);
        most_events = std::max(most_events, r.scanned);
    }
    void print() {
        std::sort(all.begin(), all.end());
        const auto at = [&](size_t thousandths) {
            return static_cast<double>(all[(all.size() - 1) * thousandths / 1000].count()) / 1e3;
        };
        printf("%zu ticks: median %.1f us, 90 %% %.1f, 99 %% %.1f, 99.9 %% %.1f, longest %.1f; "
               "at most %lu events\n", all.size(), at(500), at(900), at(990), at(999), at(1000),
               static_cast<unsigned long>(most_events));
    }
};

/// The policy that the settings name.
static pj::error_policy policy_from_settings(pj::text name) {
    pj::policy_table<2> policies;
    policies.add("page_and_skip", page_and_skip).add("page_and_halt", page_and_halt);
    return policies[name];              // an unknown name: start() says unknown_policy
}

struct server {
    game world;
    leaderboard board, new_board;
    statistics per_player;
    economy gold;
    welcome greeter;
    pj::memory_checkpoint_store<5> checkpoints;         // die with the process, as the ring does
    pj::projection on_kills = within_frame("leaderboard", board);
    pj::projection on_kills_anew = within_frame("leaderboard_2", new_board);
    pj::projection on_players = within_frame("statistics", per_player);
    pj::projection on_trades = within_frame("economy", gold);
    pj::projection on_joins = within_frame("welcome", greeter);
    pj::worker live{on_kills}, next{on_kills_anew};
    pj::worker players_{on_players}, trades{on_trades}, joins{on_joins};
    pj::replay_engine rebuild{on_kills_anew, in_small_steps()};
    tick_times times;

    pj::projection within_frame(pj::text name, pj::routes to) {
        pj::projection p{name, world.ring, to, checkpoints};
        p.batch = batch;
        p.clock = now_ms;
        p.tick_ms_max = 1;
        p.save.every_events = 10 * batch;               // (a tick ends where a save is due)
        p.poll_ms = 1;                                  // looks in every frame
        p.pending_ms = pj::never;                       // whoever completes the job wakes it
        p.on_error = policy_from_settings("page_and_skip");
        return p;
    }
    static pj::replay_options in_small_steps() {
        pj::replay_options options;
        options.batch = batch;
        return options;
    }
    bool start() {
        for (pj::worker* one : {&live, &players_, &trades, &joins})
            if (one->start() != pj::status::ok) return false;
        return true;
    }
    void tick() {
        pj::engine* const all[] = {&live, &next, &players_, &trades, &joins, &rebuild};
        for (pj::engine* one : all)
            if (one->running()) times.tick(*one);
    }
    /// The operator's command: three points for a headshot, from the first kill on.
    bool change_rule() {
        new_board.headshot_points = 3;
        return rebuild.start() == pj::status::ok;
    }
    /// Once the new board has caught up, the old one may rest.
    bool switch_boards(uint32_t frame) {
        if (rebuild.finished() && next.state() == pj::run_state::stopped && live.running()) {
            printf("frame %lu: the leaderboard is rebuilt\n", static_cast<unsigned long>(frame));
            return next.start() == pj::status::ok;
        }
        if (next.running() && next.caught_up()) live.stop();
        return true;
    }
    bool is_resting() const {
        return players_.caught_up() && trades.caught_up() && joins.caught_up() &&
               next.caught_up() && !live.running();
    }
    bool is_right() const;
};

bool server::is_right() const {
    uint64_t old_points = 0, new_points = 0, kills = 0, deaths = 0;
    int64_t all_gold = 0;
    for (uint32_t i = 0; i < players; ++i) {
        old_points += board.points[i];
        new_points += new_board.points[i];
        kills += per_player.of[i].kills;
        deaths += per_player.of[i].deaths;
        all_gold += gold.gold[i];
    }
    printf("%lu kills by %lu players, %lu of them headshots; best: player %lu, with the new rule "
           "player %lu\n", static_cast<unsigned long>(world.kills),
           static_cast<unsigned long>(world.joins), static_cast<unsigned long>(world.headshots),
           static_cast<unsigned long>(board.best()), static_cast<unsigned long>(new_board.best()));
    printf("%lu trades, %lu of them impossible: skipped, and paged %lu times\n",
           static_cast<unsigned long>(world.trades),
           static_cast<unsigned long>(trades.counts().skipped), static_cast<unsigned long>(pages));
    printf("%lu players greeted, after %lu looks that came too early\n",
           static_cast<unsigned long>(greeter.greeted), static_cast<unsigned long>(greeter.waits));
    return old_points < new_points && new_points == world.kills + 2 * world.headshots &&
           kills == world.kills && deaths == kills && all_gold == 100 * players && pages > 0 &&
           trades.counts().skipped == pages && trades.counts().failed_calls == pages &&
           trades.counts().handled == world.trades - pages && greeter.greeted == world.joins &&
           greeter.waits >= world.joins && !live.running() && next.caught_up() &&
           times.most_events == batch;
}

int main(int argc, char** argv) {
    const bool is_fast = argc > 1 && strcmp(argv[1], "--fast") == 0;
    static server all;
    if (!all.start()) return 1;
    auto next_frame = std::chrono::steady_clock::now();
    for (uint32_t frame = 0; frame < frames || !all.is_resting(); ++frame) {
        if (frame == 20 * frames) return 5;
        if (frame < frames) all.world.play(frame);      // then the players sleep, and all catch up
        if (frame == frames / 2 && !all.change_rule()) return 2;
        all.greeter.frame();
        all.tick();
        if (!all.switch_boards(frame)) return 3;
        if (is_fast) skipped_ms += 17;
        else std::this_thread::sleep_until(next_frame += 16'667us);
    }
    all.times.print();
    return all.is_right() ? 0 : 4;
}
