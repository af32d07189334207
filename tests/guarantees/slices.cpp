// A slice goes through the function that the compiler makes for a registry's table, and that looks
// up each event while the one before it is not done. It has to come to what the same events come to
// one by one: calls, positions, halts and counters, in whatever mix of types and troubles.
#include "support/world.hpp"

#include <memory>
#include <vector>

namespace pj = projections;
using pj::position;
using pj::status;

namespace {

template<int Which> struct known {
    static constexpr pj::event_type types[5] = {
        pj::text("OrderCreated"), pj::text("OrderShipped"), pj::text("Due"), pj::id{7}, pj::id{90}};
    static constexpr pj::event_type type = types[Which];
    static bool decode(const pj::stored_event& in, known&) { return in.version != 9; }
};

struct seen {
    int handler, type;
    position at;
    bool replaying;
    bool operator==(const seen& o) const {
        return handler == o.handler && type == o.type && at == o.at && replaying == o.replaying;
    }
};

/// What a handler answers is in the event, so that it is the same in every run.
template<int Handler> struct noting {
    using handles = pj::events<known<0>, known<1>, known<2>, known<3>, known<4>>;
    std::vector<seen>& all;
    template<int Which> pj::verdict on(const known<Which>&, const pj::context& with) {
        all.push_back({Handler, Which, with.event.at, with.replaying});
        if (Handler == 0) return pj::handled;
        return with.event.version == 8   ? pj::reject(1)
               : with.event.version == 7 ? pj::fail(1) : pj::handled;
    }
};

/// Shows what is after `after` in slices of `size` (0: one by one), each in memory of its own: a
/// look beyond its end, or beyond what is wanted, is found by a sanitizer.
struct sliced {
    const std::vector<pj::stored_event>& events;
    size_t size;
    status read(position after, pj::visitor& visit) {
        size_t at = 0;
        while (at < events.size() && events[at].at <= after) ++at;
        for (bool goes_on = true; goes_on && at < events.size();) {
            if (size == 0) {
                goes_on = visit(events[at++]);
                continue;
            }
            size_t count = events.size() - at;
            if (count > size) count = size;
            if (count > visit.wanted()) count = visit.wanted();
            const std::unique_ptr<pj::stored_event[]> memory(new pj::stored_event[count]);
            for (size_t i = 0; i < count; ++i) memory[i] = events[at + i];
            goes_on = visit(memory.get(), count) == count && visit.wanted() != 0;
            at += count;
        }
        return status::ok;
    }
};

struct outcome {
    std::vector<seen> calls;
    status reason;
    position at;
    pj::counters counts;
};

enum class choice : uint32_t { all, by_filter, by_partition, only_partition, from_a_map };

outcome run(const std::vector<pj::stored_event>& events, size_t size, position replayed,
            const pj::error_policy& policy, choice chosen) {
    outcome out;
    noting<0> first{out.calls};
    noting<1> second{out.calls};
    sliced log{events, size};
    pj::memory_checkpoint_store<2> store;
    pj::registry handlers{first, second};
    pj::handler_map<16> map;            // no table of its own
    map.add(first).add(second);
    pj::projection what{"p", log, handlers, store};
    if (chosen == choice::from_a_map) what.handlers = map;
    what.batch = 20;
    what.replayed_through = replayed;
    what.on_error = policy;
    if (chosen == choice::by_filter)
        what.filter = [](const pj::stored_event& event) { return event.at % 3 != 0; };
    pj::worker all{what};
    pj::partitioned_worker part{what, {1, 3}};
    pj::partitioned_worker only{what, {0, 1}};
    pj::worker& worker = chosen == choice::by_partition     ? part
                         : chosen == choice::only_partition ? only : all;
    REQUIRE(worker.start() == status::ok);
    for (uint32_t now_ms = 0; now_ms < 300 && worker.running(); ++now_ms)
        static_cast<void>(worker.tick(now_ms * 1000));
    out.reason = worker.reason();
    out.at = worker.scanned();
    out.counts = worker.counts();
    return out;
}

} // namespace

TEST_CASE("G6 G7 G11 G25 a slice comes to what its events come to one by one") {
    const pj::type_key types[] = {
        "OrderCreated", "OrderShipped", "Due", pj::id{7}, pj::id{90},  // known
        "OrderCreatex", "OrderCreatedAndMore", "Dun", pj::id{8}};       // not
    uint32_t halts = 0, calls = 0;
    for (uint32_t seed = 1; seed <= 300; ++seed) {
        CAPTURE(seed);
        support::xorshift random(seed);
        std::vector<pj::stored_event> events;
        position at = -1;
        for (uint32_t i = 0, count = random.below(90); i < count; ++i) {
            at += random.one_in(300) ? 0 : 1 + random.below(3);     // 0: a store that has a bug
            pj::stored_event one;
            one.at = at;
            one.partition_key = random.below(3);
            one.type = types[random.below(random.one_in(8) ? 9 : 5)];
            one.version = random.one_in(12) ? 7 + random.below(3) : 1;
            events.push_back(one);
        }
        const position replayed = random.one_in(2) ? random.below(100) : pj::before_first;
        const pj::error_policy policy = random.one_in(2) ? pj::error_policy::skip()
                                                         : pj::error_policy::retry_then_skip(1);
        const choice chosen = static_cast<choice>(random.below(5));
        const outcome singly = run(events, 0, replayed, policy, chosen);
        halts += singly.reason == status::store_unordered ? 1 : 0;
        calls += static_cast<uint32_t>(singly.calls.size());
        for (const size_t size : {1u, 2u, 3u, 7u, 20u, 64u}) {
            CAPTURE(size);
            const outcome together = run(events, size, replayed, policy, chosen);
            CHECK(together.calls == singly.calls);
            CHECK(together.reason == singly.reason);
            CHECK(together.at == singly.at);
            CHECK(together.counts.handled == singly.counts.handled);
            CHECK(together.counts.unknown == singly.counts.unknown);
            CHECK(together.counts.skipped == singly.counts.skipped);
            CHECK(together.counts.filtered == singly.counts.filtered);
            CHECK(together.counts.foreign == singly.counts.foreign);
            CHECK(together.counts.scanned == singly.counts.scanned);
        }
    }
    CHECK(halts > 10);
    CHECK(calls > 10000);
}

// The border between two slices may lie anywhere, also right behind the last event that is to be
// replayed: what comes in the next slice is the worker's, as it is when it comes in the same one.
TEST_CASE("G23 G24 a rebuild ends where it was told, wherever a slice ends") {
    std::vector<pj::stored_event> events(16);
    for (size_t i = 0; i < events.size(); ++i) {
        events[i].at = static_cast<position>(i);
        events[i].type = known<0>::type;
    }
    for (size_t size = 0; size <= events.size(); ++size) {
        CAPTURE(size);
        std::vector<seen> calls;
        noting<0> handler{calls};
        sliced log{events, size};
        pj::memory_checkpoint_store<1> store;
        pj::checkpoint had_been;
        had_been.at = 5;
        had_been.revision = 1;
        REQUIRE(store.save("p", had_been) == status::ok);
        pj::projection what{"p", log, handler, store};
        pj::replay_engine rebuild(what);
        REQUIRE(rebuild.start() == status::ok);
        for (uint32_t now_ms = 0; rebuild.running() && now_ms < 50; ++now_ms)
            static_cast<void>(rebuild.tick(now_ms));
        CHECK(rebuild.finished());
        CHECK(rebuild.checkpointed() == 5);
        REQUIRE(calls.size() == 6);
        for (const seen& call : calls) CHECK(call.replaying);
    }
}
