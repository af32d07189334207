// How a user tests his own projection with doctest: call it; deliver to it; run it in a worker.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#if !defined(DOCTEST_CONFIG_NO_EXCEPTIONS_BUT_WITH_ALL_ASSERTS)
#  define DOCTEST_CONFIG_NO_EXCEPTIONS_BUT_WITH_ALL_ASSERTS
#endif
#include "projections.hpp"
#include <doctest/doctest.h>
namespace pj = projections;

struct room_booked {
    static constexpr pj::event_type type{"RoomBooked", pj::raw};
    uint32_t room;
};
struct room_left {
    static constexpr pj::event_type type{"RoomLeft", pj::raw};
    uint32_t room;
};
struct occupancy {
    using handles = pj::events<room_booked, room_left>;
    uint32_t guests[4]{};
    pj::verdict on(const room_booked& e) {
        if (e.room >= 4) return pj::reject(1);
        ++guests[e.room];
        return pj::handled;
    }
    pj::verdict on(const room_left& e) {
        if (e.room >= 4 || guests[e.room] == 0) return pj::reject(2);
        --guests[e.room];
        return pj::handled;
    }
};

TEST_CASE("a room that was left is free") {
    occupancy p;
    CHECK(p.on(room_booked{2}) == pj::handled);
    CHECK(p.on(room_left{2}) == pj::handled);
    CHECK(p.guests[2] == 0);
}

TEST_CASE("nobody leaves an empty room") {
    occupancy p;
    CHECK(pj::deliver(p, room_left{1}) == pj::reject(2));
    CHECK(pj::deliver(p, {0, "RoomLeft", {"?", 1}}).what() == pj::verdict::kind::rejected);
    CHECK(pj::deliver(p, {0, "RoomPainted"}) == pj::handled);
}

struct hotel {
    occupancy rooms;
    pj::memory_log<16, 512> log;
    pj::memory_checkpoint_store<1> checkpoints;
    pj::projection projection{"occupancy", log, rooms, checkpoints};
    pj::worker worker{projection};

    template<class... E> hotel& given(const E&... e) {
        (log.append(e), ...);
        return *this;
    }
    void when() {
        CHECK(worker.start() == pj::status::ok);
        while (worker.running() && worker.tick(0).wait_ms == 0) {}
    }
};

TEST_CASE_FIXTURE(hotel, "what is rejected is skipped, the rest counts") {
    given(room_booked{1}, room_left{1}, room_left{1}, room_booked{3}).when();
    CHECK(rooms.guests[1] == 0);
    CHECK(rooms.guests[3] == 1);
    CHECK(worker.counts().skipped == 1);
    CHECK(worker.checkpointed() == 3);
}

TEST_CASE_FIXTURE(hotel, "in development it halts before the event") {
    projection = pj::development("occupancy", log, rooms, checkpoints);
    given(room_booked{1}, room_booked{9}).when();
    CHECK(worker.state() == pj::run_state::halted);
    CHECK(worker.last_failure().at == 1);
    CHECK(worker.last_failure().code == 1);
    CHECK(worker.checkpointed() == 0);
}
