// Every interleaving of two workers on one name, up to a stated depth: ticks, a tick by a clock that
// stands still (a paused machine), time that passes, a machine that dies, and a lease service or a
// checkpoint store whose next answer is late or lost. After each: an orderly end by a third worker.
#include "support/cluster.hpp"

using namespace support;

namespace {

constexpr uint32_t leased_ms = 3000, margin_ms = 300;

enum class act : uint8_t {
    tick_a,             // by the true time
    tick_b,
    frozen_a,           // a tick at the time of a's last one: it does not know how late it is
    some_time,          // less than a renewal
    expiry,             // longer than a lease
    lost_lease_answer,  // the next call to the lease service has its effect and answers failed
    dead_lease_service, // it answers pending until the next expiry
    lost_save_answer,   // the next save is there and answers failed
    late_lease_answer,  // the next call to it is granted, and answers when that is over
    crash_a             // a new process in its place
};
constexpr size_t acts = 10;

/// The owners' effects, in order: after the first effect under a token none under a lower one.
bool is_fenced(const cluster& all) {
    uint64_t highest = 0;
    for (const effect& e : all.effects) {
        if (e.token < highest) return false;
        highest = e.token;
    }
    return true;
}

struct game {
    cluster all{0xFFFFFFFFull - 4000};          // the clock wraps in the middle
    uint64_t frozen_ms = all.clock.full();
    uint64_t read_by_a = 0;                     // what a's clock says: its own, or the true one
    bool is_frozen = false;
    host a{all, 1}, b{all, 2};
    std::unique_ptr<pj::worker> wa{new pj::worker{a.what}};
    pj::worker wb{b.what};
    pj::position highest = pj::before_first;
    bool went_back = false;
    bool dead_service = false;

    game() {
        all.append(6);
        const auto clock_of_a = [](void* me) {
            game& g = *static_cast<game*>(me);
            return static_cast<uint32_t>(g.is_frozen ? g.frozen_ms : g.all.clock.full());
        };
        a.what.clock = {clock_of_a, this};
        for (host* h : {&a, &b}) {
            h->lease.ttl_ms = leased_ms;
            h->lease.margin_ms = margin_ms;
            h->what.batch = 2;
            h->what.save = {2, 100000, false};
        }
        CHECK(wa->start() == pj::status::ok);
        CHECK(wb.start() == pj::status::ok);
    }
    void note() {
        const pj::position at = all.store.at("p").at;
        if (at < highest) went_back = true;
        highest = at;
    }
    void play(act what) {
        switch (what) {
        case act::tick_a:
            frozen_ms = all.clock.full();
            static_cast<void>(wa->tick(all.clock()));
            break;
        case act::tick_b: static_cast<void>(wb.tick(all.clock())); break;
        case act::frozen_a:
            is_frozen = true;
            static_cast<void>(wa->tick(static_cast<uint32_t>(frozen_ms)));
            is_frozen = false;
            break;
        case act::some_time: all.clock.advance(900); break;
        case act::expiry:
            all.clock.advance(leased_ms + 1);
            serve();
            break;
        case act::lost_lease_answer:
            all.leases.acquires.then(pj::status::failed, true);
            all.leases.extends.then(pj::status::failed, true);
            break;
        case act::dead_lease_service:
            for (kit::faults* f :
                 {&all.leases.acquires, &all.leases.extends, &all.leases.releases}) {
                f->decide = [](bool& works) {
                    works = false;
                    return pj::status::pending;
                };
            }
            break;
        case act::late_lease_answer:
            all.leases.late = [this] {
                all.leases.late = nullptr;
                all.clock.advance(leased_ms - 200);
            };
            break;
        case act::lost_save_answer: all.store.saves.then(pj::status::failed, true); break;
        case act::crash_a:
            wa.reset(new pj::worker{a.what});
            CHECK(wa->start() == pj::status::ok);
            break;
        }
        note();
    }
    void serve() {
        all.leases.late = nullptr;
        for (kit::faults* f : {&all.leases.acquires, &all.leases.extends, &all.leases.releases})
            f->decide = nullptr;
    }
    /// Everything works again, and somebody else takes over.
    void finish(bool wakes_the_late = true) {
        serve();
        all.clock.advance(leased_ms + 1);
        host c(all, 3);
        pj::worker wc{c.what};
        CHECK(wc.start() == pj::status::ok);
        for (int i = 0; i < 60 && wc.checkpointed() != all.newest(); ++i) {
            static_cast<void>(wc.tick(all.clock()));
            all.clock.advance(i % 3 == 2 ? 400 : 0);
            note();
        }
        CHECK(wc.checkpointed() == all.newest());
        if (!wakes_the_late) return;
        // The late ones wake up once more, not knowing what time it is.
        play(act::frozen_a);
        play(act::frozen_a);
        play(act::tick_b);
        CHECK(all.store.at("p").at == all.newest());
    }
};

/// Plays all sequences of that length, `first` of them fixed.
uint32_t play_all(size_t length, const std::vector<act>& opening) {
    uint32_t played = 0;
    std::vector<uint8_t> digits(length, 0);
    for (bool is_over = false; !is_over; ++played) {
        game g;
        std::string line;
        for (const act one : opening) g.play(one);
        for (const uint8_t d : digits) {
            line += static_cast<char>('0' + d);
            g.play(static_cast<act>(d));
        }
        g.finish();
        bool is_lost = false;
        for (pj::position at = 0; at <= g.all.newest(); ++at)
            is_lost = is_lost || g.all.times(at) < 2;
        if (is_lost || g.went_back) {
            CAPTURE(line);
            CHECK_FALSE(is_lost);
            CHECK_FALSE(g.went_back);
        }
        is_over = true;
        for (uint8_t& d : digits) {
            if (++d < acts) {
                is_over = false;
                break;
            }
            d = 0;
        }
    }
    return played;
}

} // namespace

TEST_CASE("G20 G21 two workers, every interleaving of five steps from the beginning") {
    CHECK(play_all(5, {}) == 100000);
}

TEST_CASE("G20 G21 two workers, every interleaving of four steps in the middle of the work") {
    CHECK(play_all(4, {act::tick_a, act::tick_a, act::tick_b, act::some_time}) == 10000);
    CHECK(play_all(4, {act::tick_a, act::tick_a, act::expiry, act::tick_b}) == 10000);
    CHECK(play_all(4, {act::tick_a, act::tick_a, act::tick_a, act::lost_save_answer}) == 10000);
}

TEST_CASE("G20 with true clocks no effect under an old token follows one under a newer") {
    // As above, without machines whose clock stands still.
    uint32_t played = 0;
    for (uint32_t n = 0; n < 7776; ++n, ++played) {
        const act usable[] = {act::tick_a, act::tick_b, act::some_time, act::expiry,
                              act::lost_lease_answer, act::dead_lease_service};
        game g;
        for (uint32_t rest = n, i = 0; i < 5; ++i, rest /= 6) {
            g.play(act::tick_a);
            g.play(usable[rest % 6]);
        }
        g.finish(false);
        CHECK(is_fenced(g.all));
    }
    CHECK(played == 7776);
}

TEST_CASE("G21 a paused owner that wakes up after expiry: what its handlers do carries the old token") {
    // This is what a store of read models has the token for: a handler that began in time and ended
    // too late, and one that a stopped clock let begin.
    game g;
    g.play(act::tick_a);
    g.play(act::tick_a);
    REQUIRE(g.wa->has_lease());
    const uint64_t old_token = g.wa->fencing_token();
    g.play(act::expiry);
    for (int i = 0; i < 4; ++i) g.play(act::tick_b);
    REQUIRE(g.wb.has_lease());
    const size_t before = g.all.effects.size();
    for (int i = 0; i < 4; ++i) g.play(act::frozen_a);
    uint64_t highest = 0;           // a model that keeps the highest token it has seen
    uint32_t refused = 0;
    for (size_t i = 0; i < g.all.effects.size(); ++i) {
        const effect& e = g.all.effects[i];
        if (i >= before) CHECK(e.token == old_token);
        if (e.token < highest) ++refused;
        highest = e.token > highest ? e.token : highest;
    }
    CHECK(refused == g.all.effects.size() - before);
    CHECK_FALSE(g.wa->has_lease());
}
