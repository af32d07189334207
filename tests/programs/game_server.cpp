// A game server: three projections over one ring of events, a little of every frame; what is done
// when a trade is impossible is a policy chosen by its name in the settings.
#include "projections.hpp"
#include <stdint.h>
#include <initializer_list>
#include <stdio.h>
namespace pj = projections;

struct player_killed {
    static constexpr pj::event_type type{"PlayerKilled", pj::raw};
    uint32_t killer, victim;
};
struct item_traded {
    static constexpr pj::event_type type{"ItemTraded", pj::raw};
    uint32_t from, to, gold;
};
struct chat_line {
    static constexpr pj::event_type type{"ChatLine", pj::raw};
    uint32_t player;
    char text[20];
};
using game_events = pj::events<player_killed, item_traded, chat_line>;

struct leaderboard {
    using handles = pj::matching<game_events>;
    uint32_t kills[8]{};
    void on(const player_killed& e) { ++kills[e.killer & 7]; }
};
struct economy {
    using handles = pj::matching<game_events>;
    uint32_t gold[8] = {100, 100, 100, 100, 100, 100, 100, 100};
    pj::verdict on(const item_traded& e) {
        if (gold[e.from & 7] < e.gold) return pj::reject(1);
        gold[e.from & 7] -= e.gold;
        gold[e.to & 7] += e.gold;
        return pj::handled;
    }
};
struct moderation {
    using handles = pj::matching<game_events>;
    uint32_t warned = 0;
    void on(const chat_line& e, const pj::context& ctx) {
        if (!ctx.replaying && e.text[0] == '!') ++warned;
    }
};

static uint32_t pages = 0;
static pj::decision page_and_skip(const pj::failure&) {
    ++pages;
    return pj::decision::skip();
}
static pj::decision page_and_halt(const pj::failure&) {
    ++pages;
    return pj::decision::halt();
}
static uint32_t frame_ms = 0, looks = 0;
static uint32_t clock_ms() { return frame_ms + looks++ / 8; }   // time passes while handlers work

int main() {
    pj::memory_log<512, 32768> ring;
    leaderboard kills;
    economy gold;
    moderation chat;
    pj::memory_checkpoint_store<3> checkpoints;
    pj::policy_table<2> policies;
    policies.add("page_and_skip", page_and_skip).add("page_and_halt", page_and_halt);

    const auto within_frame = [&](pj::text name, pj::routes to) {
        pj::projection p{name, ring, to, checkpoints};
        p.batch = 64;
        p.clock = clock_ms;
        p.tick_ms_max = 2;                              // whichever budget ends first
        p.poll_ms = 10;                                 // looks in every frame
        return p;
    };
    const pj::projection on_kills = within_frame("leaderboard", kills);
    const pj::projection on_chat = within_frame("moderation", chat);
    pj::projection on_trades = within_frame("economy", gold);
    pj::worker leaderboard_{on_kills}, moderation_{on_chat}, economy_{on_trades};

    on_trades.on_error = policies["page_and_shrug"];    // a typing error in the settings
    if (economy_.start() != pj::status::unknown_policy) return 1;
    on_trades.on_error = policies["page_and_skip"];
    for (pj::worker* w : {&leaderboard_, &moderation_, &economy_}) {
        if (w->start() != pj::status::ok) return 2;
    }

    const uint32_t frames = 600;
    uint32_t impossible = 0;
    for (uint32_t frame = 0; frame < frames; ++frame) {
        ring.append(player_killed{frame % 8, frame % 5});
        ring.append(item_traded{frame % 2, 7, frame % 10 == 0 ? 1000u : 0u});
        impossible += frame % 10 == 0;
        if (frame % 3 == 0) ring.append(chat_line{1, {frame % 6 == 0 ? '!' : 'h', 'i'}});
        looks = 0;
        pj::tick_all(frame_ms += 16, leaderboard_, moderation_, economy_);
    }
    while (pj::tick_all(frame_ms, leaderboard_, moderation_, economy_) == 0) looks = 0;

    uint32_t sum_kills = 0, sum_gold = 0;
    for (int i = 0; i < 8; ++i) {
        sum_kills += kills.kills[i];
        sum_gold += gold.gold[i];
    }
    printf("%u kills, %u gold, %u warned, %u pages\n", static_cast<unsigned>(sum_kills),
           static_cast<unsigned>(sum_gold), static_cast<unsigned>(chat.warned),
           static_cast<unsigned>(pages));
    const bool is_right = sum_kills == frames && sum_gold == 800 && chat.warned == frames / 6 &&
                          pages == impossible && economy_.counts().skipped == impossible;
    return is_right && economy_.checkpointed() == leaderboard_.checkpointed() ? 0 : 3;
}
