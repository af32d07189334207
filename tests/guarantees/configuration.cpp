// G29: a wrong description is reported by start() with the status that names it; no port is called.
#include "support/setup.hpp"

using namespace support;
using pj::status;

namespace {

struct mistake {
    status expected;
    void (*make)(setup&);
};

const mistake mistakes[] = {
    {status::no_name, [](setup& s) { s.what.name = {}; }},
    {status::no_name, [](setup& s) { s.what.name = ""; }},
    {status::reserved_name, [](setup& s) { s.what.name = "orders_p0"; }},
    {status::reserved_name, [](setup& s) { s.what.name = "orders_p12345"; }},
    {status::reserved_name, [](setup& s) { s.what.name = "orders_p9"; }},
    {status::reserved_name, [](setup& s) { s.what.name = "_p9"; }},
    {status::reserved_name, [](setup& s) { s.what.name = "orders_p7890"; }},
    {status::reserved_name, [](setup& s) { s.what.name = "orders_partitions"; }},
    {status::reserved_name, [](setup& s) { s.what.name = "_partitions"; }},
    {status::no_read, [](setup& s) { s.what.log = {}; }},
    {status::no_read, [](setup& s) { s.what.log.read = nullptr; }},
    {status::no_load, [](setup& s) { s.what.checkpoints.load = nullptr; }},
    {status::no_save, [](setup& s) { s.what.checkpoints.save = nullptr; }},
    {status::no_handlers, [](setup& s) { s.what.handlers = {}; }},
    {status::no_bounds,
     [](setup& s) {
         s.what.log.bounds = nullptr;
         s.what.first_start = pj::begin_at::the_end;
     }},
    {status::no_bounds,
     [](setup& s) {
         status (*none)(void*, pj::position&, pj::position&, uint64_t&) = nullptr;
         s.what.log.bounds = none;
         s.what.first_start = pj::begin_at::oldest_kept;
     }},
    {status::no_clock, [](setup& s) { s.what.tick_ms_max = 5; }},
    {status::no_dead_letter_sink,
     [](setup& s) { s.what.on_error = pj::error_policy::dead_letter(); }},
    {status::unknown_policy,
     [](setup& s) {
         static const pj::policy_table<2> none;
         s.what.on_error = none["nobody"];
     }},
    {status::unknown_policy, [](setup& s) { s.what.on_error = pj::error_policy::custom({}); }},
    {status::unknown_policy,
     [](setup& s) {
         static const pj::error_policy missing = pj::error_policy::custom({});
         s.what.on_error_replaying = &missing;
     }},
    {status::no_dead_letter_sink,
     [](setup& s) {
         static const pj::error_policy letter = pj::error_policy::dead_letter();
         s.what.on_error_replaying = &letter;
     }},
    {status::no_dead_letter_sink,
     [](setup& s) {
         static const pj::error_policy other = pj::error_policy::skip();
         s.what.on_error = pj::error_policy::dead_letter();
         s.what.on_error_replaying = &other;
     }},
    {status::unknown_policy,
     [](setup& s) {
         static const pj::error_policy other = pj::error_policy::skip();
         s.what.on_error = pj::error_policy::custom({});
         s.what.on_error_replaying = &other;
     }},
    {status::bad_batch, [](setup& s) { s.what.batch = 0; }},
    {status::bad_save_rule, [](setup& s) { s.what.save.every_events = 0; }},
    {status::bad_backoff, [](setup& s) { s.what.delays.multiplier = 0; }},
    {status::bad_backoff, [](setup& s) { s.what.delays.jitter_percent = 101; }},
};

template<size_t N> status start_with(pj::handler_map<N>& map) {
    setup s;
    s.what.handlers = map;
    const status answer = s.start();
    CHECK(s.w.trace.empty() == (answer != status::ok));
    return answer;
}

} // namespace

TEST_CASE("G29 every mistake has its status and nothing is touched") {
    for (const mistake& m : mistakes) {
        CAPTURE(pj::to_string(m.expected));
        setup s;
        s.log.append(3, "Alpha");
        m.make(s);
        CHECK(s.start() == m.expected);
        CHECK(pj::group_of(m.expected) == pj::status_group::configuration);
        CHECK_FALSE(s.worker.running());
        for (int i = 0; i < 3; ++i) s.tick_after(1000);
        CHECK(s.w.trace.empty());
        CHECK(s.w.port_calls == 0);
        CHECK(s.worker.state() == pj::run_state::stopped);
        CHECK_FALSE(s.worker.loaded());
    }
}

TEST_CASE("G29 a description that was repaired starts") {
    setup s;
    s.log.append(3, "Beta");
    s.what.batch = 0;
    CHECK(s.start() == status::bad_batch);
    s.what.batch = 10;
    CHECK(s.start() == status::ok);
    s.run_for(1000);
    CHECK(s.stored().at == 2);
}

TEST_CASE("G29 start() itself calls no port, tick() with a good description does") {
    setup s;
    REQUIRE(s.start() == status::ok);
    CHECK(s.w.port_calls == 0);
    s.tick();
    CHECK(s.w.port_calls > 0);
}

TEST_CASE("G29 names that only look like the library's are allowed") {
    for (const char* name : {"p0", "_p", "orders_p", "orders_px1", "ordersp1", "partitions",
                             "a_p1x", "a_q1", "a1", "orders_partitions2", "2024",
                             "orders_p1-2", "orders_p1-", "orders_p+1", "orders_p1/", "5"}) {
        setup s;
        s.what.name = name;
        CHECK(s.start() == status::ok);
    }
}

TEST_CASE("G29 what lies before a name in memory says nothing of it") {
    const std::string around = "orders_partitions912";
    setup s;
    s.what.name = pj::text(around.data() + around.size() - 2, 2);
    CHECK(s.start() == status::ok);
}

TEST_CASE("G29 a failed start of a wrong description leaves the last run's record alone") {
    setup s;
    s.log.append(3, "Beta");
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.stop() == status::ok);
    const size_t calls = s.w.trace.size();
    s.what.checkpoints.save = nullptr;
    CHECK(s.start() == status::no_save);
    s.tick();
    CHECK(s.w.trace.size() == calls);
    CHECK(s.worker.state() == pj::run_state::stopped);
}

TEST_CASE("G29 a handler_map reports what went wrong while it was filled") {
    world w;
    scripted one(w, "one"), two(w, "two");
    const auto call = &scripted::call_by_hand;
    SUBCASE("too many handlers") {
        pj::handler_map<1> map;
        map.add(alpha::type, call, &one, "one").add(beta::type, call, &two, "two");
        CHECK(start_with(map) == status::table_full);
    }
    SUBCASE("one handler name twice for one event") {
        pj::handler_map<4> map;
        map.add(alpha::type, call, &one, "one").add(alpha::type, call, &two, "one");
        CHECK(start_with(map) == status::duplicate_handler);
    }
    SUBCASE("two types with one number") {
        pj::handler_map<4> map;
        map.add(pj::event_type("X", pj::id{5}), call, &one, "one");
        map.add(pj::event_type("Y", pj::id{5}), call, &two, "two");
        CHECK(start_with(map) == status::duplicate_type);
    }
    SUBCASE("nothing at all") {
        pj::handler_map<4> map;
        CHECK(start_with(map) == status::no_handlers);
    }
}

TEST_CASE("G29 tick() without a clock is no_clock and does nothing") {
    setup s;
    REQUIRE(s.start() == status::ok);
    const pj::tick_result r = s.worker.tick();
    CHECK(r.reason == status::no_clock);
    CHECK(r.scanned == 0);
    CHECK(r.wait_ms == pj::never);
    CHECK(s.w.port_calls == 0);
}

TEST_CASE("G29 a batch may be so large that ten of them are still a number, and no larger") {
    setup s;
    s.what.batch = pj::never / 16;
    CHECK(s.start() == status::ok);
    setup other;
    other.what.batch = pj::never / 16 + 1;
    CHECK(other.start() == status::bad_batch);
}

TEST_CASE("G29 what is not said is as documented") {
    const pj::projection p{};
    CHECK(p.batch == 100);
    CHECK(p.tick_ms_max == 0);
    CHECK(p.poll_ms == 1000);
    CHECK(p.pending_ms == 10);
    CHECK(p.unsaved_max == 0);
    CHECK(p.stop_ms == 5000);
    CHECK(p.unit_ms_max == 1000);
    CHECK(p.save.every_events == 100);
    CHECK(p.save.every_ms == 1000);
    CHECK(p.save.when_idle);
    CHECK(p.delays.first_ms == 100);
    CHECK(p.delays.cap_ms == 30000);
    CHECK(p.delays.multiplier == 2);
    CHECK(p.delays.jitter_percent == 20);
    CHECK(p.delays.seed == 1);
    CHECK(p.replayed_through == pj::before_first);
    CHECK_FALSE(p.observe_handled);
    CHECK_FALSE(p.volatile_model);
    CHECK_FALSE(p.accept_partial_records);
    CHECK(pj::crash_guard{}.crashes_max() == 3);
    CHECK(pj::gap_guard{}.timeout_ms == pj::never);
    CHECK(pj::gap_guard{}.first == 0);
    const pj::lease l{pj::lease_store{}};
    CHECK(l.ttl_ms == 30000);
    CHECK(l.margin_ms == 3000);
    const pj::replay_options r{};
    CHECK(r.from == pj::before_first);
    CHECK(r.total == -1);
    CHECK(r.batch == 500);
    CHECK(r.partitions == 0);
}

TEST_CASE("G29 a name of digits alone is a name as any other") {
    setup s;
    s.what.name = "2026";
    CHECK(s.start() == status::ok);
    s.log.append(1, "Alpha");
    s.drain();
    CHECK(s.store.at("2026").at == 0);
}

namespace {
struct ear {
    using handles = pj::every_event;
    int called = 0;
    void on(const pj::stored_event&) { ++called; }
};
} // namespace

TEST_CASE("G3 an unknown type fails for handlers of every event, too, whether or not it is observed") {
    for (const bool is_observed : {false, true}) {
        setup s;
        ear one;
        s.what.handlers = one;
        s.what.on_unknown = pj::unknown_types::fail;
        s.what.observe_handled = is_observed;
        s.log.append(3, "Nobody's");
        REQUIRE(s.start() == status::ok);
        s.run_for(1000);
        CHECK(one.called == 3);
        CHECK(s.worker.counts().failed_calls == 3);
        CHECK(s.worker.counts().skipped == 3);
    }
}

TEST_CASE("G29 a replay's batch that is too large is refused as a projection's is") {
    setup s;
    s.log.append(5, "Beta");
    pj::replay_options options;
    for (const uint32_t batch : {0u, pj::never / 16 + 1, 0x80000000u, pj::never}) {
        options.batch = batch;
        pj::replay_engine replay{s.what, options};
        CHECK(replay.start() == status::bad_batch);
    }
    options.batch = pj::never / 16;
    pj::replay_engine replay{s.what, options};
    CHECK(replay.start() == status::ok);
}

namespace {
using bounds_call = status (*)(void*, pj::position&, pj::position&, uint64_t&);
using unit_call = status (*)(void*);
constexpr pj::event_store port_of(bounds_call bounds) {
    pj::event_store port;
    port.read = [](void*, pj::position, pj::visitor&) { return status::ok; };
    port.bounds = bounds;
    return port;
}
constexpr pj::unit_of_work unit_of(unit_call begin) {
    pj::unit_of_work unit;
    unit.begin = begin;
    unit.commit = unit.rollback = [](void*) { return status::ok; };
    return unit;
}
constexpr pj::event_store without_bounds = port_of(nullptr);
constexpr pj::unit_of_work without_begin = unit_of(nullptr);
} // namespace

TEST_CASE("G29 a port has no function where it was given a null pointer, by the compiler, too") {
    bounds_call none = nullptr;
    for (const pj::event_store& log : {without_bounds, port_of(none)}) {
        setup s;
        s.what.log = log;
        REQUIRE(s.start() == status::ok);
        s.run_for(100);
        CHECK(s.worker.caught_up());
    }
    setup other;
    other.what.transaction = without_begin;
    CHECK(other.start() == status::no_unit_of_work);
}
