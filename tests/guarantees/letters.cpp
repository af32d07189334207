// G12: one letter per failing (event, handler), durable before the checkpoint passes.
#include "kit/projections_kit.hpp"
#include "support/setup.hpp"

#include <memory>

using namespace support;
namespace kit = projections_kit;
using pj::status;

TEST_CASE("G12 one letter per failing handler, in order, with all that it needs") {
    setup s;
    s.log.append(3, "Alpha", "payload");
    s.letters(pj::error_policy::retry_then_dead_letter(2));
    s.a.says.always(1, pj::reject(11));
    s.c.says.always(1, pj::fail(12));
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    REQUIRE(s.sink.letters.size() == 2);
    CHECK(s.sink.keys() == "a@1 c@1");
    CHECK(s.sink.letters[0].kind == pj::failure_kind::permanent);
    CHECK(s.sink.letters[0].attempts == 1);
    CHECK(s.sink.letters[1].attempts == 3);
    CHECK(s.sink.letters[1].code == 12);
    CHECK(s.sink.letters[1].payload == "payload");
    CHECK(s.sink.duplicates == 0);
    CHECK(s.worker.counts().lettered == 1);
}

TEST_CASE("G12 for 1 to 12 handlers of one event and a sink that fails n times: each letter once") {
    for (uint32_t handlers = 1; handlers <= 12; ++handlers) {
        for (const int failing : {0, 1, 2, 5}) {
            for (const status answer : {status::failed, status::pending}) {
                crowd<12> s;
                s.log.append(3, "Alpha");
                s.letters();
                s.what.save.every_events = 1;
                s.sink.puts.then(answer, failing);
                for (uint32_t i = 0; i < handlers; ++i) s.hands[i]->says.always(1, pj::fail(i));
                REQUIRE(s.start() == status::ok);
                for (int i = 0; i < 100 && s.sink.letters.size() < handlers; ++i) {
                    CHECK(s.stored().at <= 0);
                    s.tick();
                    s.now_ms += s.last.wait_ms;
                }
                s.run_for(1000);
                CHECK(s.sink.letters.size() == handlers);
                CHECK(s.sink.duplicates == 0);
                for (uint32_t i = 0; i < 12; ++i) CHECK(s.w.times(s.hands[i]->name, 1) == 1);
                for (const kept_letter& l : s.sink.letters) {
                    CHECK(l.handler == s.hands[l.code]->name);
                }
                CHECK(s.worker.counts().lettered == 1);
                CHECK(s.worker.counts().handled == 2);
                CHECK(s.stored().at == 2);
            }
        }
    }
}

TEST_CASE("G12 up to four letters can be owed; only the handlers beyond them wait untried") {
    for (uint32_t failing = 1; failing <= 6; ++failing) {
        CAPTURE(failing);
        crowd<12> s;
        s.log.append(2, "Alpha");
        s.letters();
        s.sink.puts.always(status::failed);
        for (uint32_t i = 0; i < failing; ++i) s.hands[2 * i]->says.always(1, pj::fail(i));
        REQUIRE(s.start() == status::ok);
        while (s.w.times(s.hands[0]->name, 1) == 0) s.tick();
        const uint32_t called = failing < 4 ? 12 : 7;           // the fourth that fails is number 6
        for (uint32_t i = 0; i < 12; ++i) CHECK(s.w.times(s.hands[i]->name, 1) == (i < called));
    }
}

TEST_CASE("G12 letters that are owed, handlers that are pending and others that are tried again") {
    for (uint32_t seed = 1; seed <= 120; ++seed) {
        CAPTURE(seed);
        xorshift random(seed * 104729);
        crowd<9> s;
        s.log.append(2, "Alpha");
        s.letters(pj::error_policy::retry_then_dead_letter(1));
        std::string expected;
        std::vector<uint32_t> calls(9, 1);
        for (size_t i = 0; i < 9; ++i) {
            script& says = s.hands[i]->says;
            const uint32_t waits = random.below(3);
            says.at(0, pj::pending, static_cast<int>(waits));
            calls[i] += waits;
            const uint32_t end = random.below(4);
            if (end == 0) says.at(0, pj::reject());
            if (end == 1) says.at(0, pj::fail(), 2);
            if (end == 2) says.at(0, pj::fail());
            calls[i] += end == 1 || end == 2 ? 1 : 0;
        }
        for (int i = 0; i < 12; ++i) {
            s.sink.puts.then(random.one_in(2) ? status::ok
                             : random.one_in(2) ? status::pending : status::failed);
        }
        REQUIRE(s.start() == status::ok);
        s.run_for(1000000);
        CHECK(s.worker.counts().scanned == 2);
        CHECK(s.sink.duplicates == 0);
        for (size_t i = 0; i < 9; ++i) CHECK(s.w.times(s.hands[i]->name, 0) == calls[i]);
    }
}

TEST_CASE("G12 a letter whose answer is lost is offered again; the key keeps it single") {
    setup s;
    s.log.append(2, "Alpha");
    s.letters();
    s.b.says.always(0, pj::fail());
    s.sink.puts.then(lost_answer(), 2);
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    CHECK(s.sink.keys() == "b@0");
    CHECK(s.sink.put_count == 3);
    CHECK(s.w.times("b", 0) == 1);
    CHECK(s.stored().at == 1);
}

TEST_CASE("G12 the offers of a letter keep their distance") {
    setup s;
    s.log.append(1, "Alpha");
    s.letters();
    s.b.says.always(0, pj::fail());
    s.sink.puts.always(status::failed);
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    CHECK(s.last.state == pj::run_state::waiting);
    CHECK(s.last.reason == status::dead_letter_failed);
    CHECK(s.sink.put_count <= 12);          // 100 200 400 ... 25600 and the cap of 30 s
    CHECK(s.w.times("b", 0) == 1);
    s.sink.puts.clear();
    s.run_for(60000);
    CHECK(s.sink.keys() == "b@0");
}

TEST_CASE("G12 a sink that answers what it may not has not taken the letter") {
    for (const status wrong : {status::more, status::trimmed, status::conflict, status::no_name,
                               static_cast<status>(0xEE)}) {
        setup s;
        s.log.append(1, "Alpha");
        s.letters();
        s.b.says.always(0, pj::fail());
        s.sink.puts.then(step{wrong, false, false});
        REQUIRE(s.start() == status::ok);
        s.tick();
        CHECK(s.worker.scanned() == pj::before_first);
        s.run_for(10000);
        CHECK(s.sink.keys() == "b@0");
        CHECK(s.stored().at == 0);
    }
}

TEST_CASE("G12 after a restart between letter and save there is still one per key") {
    setup s;
    s.log.append(1, "Alpha");
    s.letters();
    s.what.stop_ms = 500;
    s.b.says.always(0, pj::fail());
    s.store.saves.always(status::failed);
    REQUIRE(s.start() == status::ok);
    s.run_for(100);
    CHECK(s.stop() == status::checkpoint_failed);
    s.store.saves.clear();
    REQUIRE(s.start() == status::ok);
    s.run_for(1000);
    CHECK(s.sink.keys() == "b@0");
    CHECK(s.sink.duplicates == 1);
    CHECK(s.stored().at == 0);
}

TEST_CASE("G12 an undecodable and an unknown event have a letter without a handler") {
    setup s;
    s.log.append(1, "Alpha", "!").append(1, "Nobody").append(1, "Alpha");
    s.letters();
    s.what.on_unknown = pj::unknown_types::fail;
    REQUIRE(s.start() == status::ok);
    s.run_for(1000);
    CHECK(s.sink.keys() == "@0 @1");
    CHECK(s.sink.letters[0].kind == pj::failure_kind::decode);
    CHECK(s.sink.letters[1].kind == pj::failure_kind::unknown_type);
    CHECK(s.w.called() == "a2 b2 c2");
    CHECK(s.worker.counts().lettered == 2);
}

TEST_CASE("G12 a letter that is offered again says as at first whether the event was replayed") {
    for (const bool replayed : {false, true}) {
        setup s;
        s.log.append(1, "Alpha");
        s.letters();
        s.what.replayed_through = replayed ? 5 : pj::before_first;
        s.a.says.at(0, pj::reject(3));
        std::vector<bool> told;
        const auto sink = [&](const pj::dead_letter& l) {
            told.push_back(l.replaying);
            return told.size() < 3 ? pj::status::failed : pj::status::ok;
        };
        s.what.dead_letters = sink;
        REQUIRE(s.start() == status::ok);
        s.run_for(5000);
        CHECK(told == std::vector<bool>(3, replayed));
    }
}

TEST_CASE("G12 a letter that is offered again is of the same kind, with the same code") {
    for (const bool hopeless : {false, true}) {
        setup s;
        s.log.append(1, "Alpha");
        s.letters();
        s.a.says.at(0, hopeless ? pj::reject(77) : pj::fail(77));
        int offers = 0;
        const auto sink = [&](const pj::dead_letter& l) {
            CHECK(l.kind == (hopeless ? pj::failure_kind::permanent : pj::failure_kind::transient));
            CHECK(l.code == 77);
            return ++offers < 3 ? pj::status::failed : pj::status::ok;
        };
        s.what.dead_letters = sink;
        REQUIRE(s.start() == status::ok);
        s.run_for(5000);
        CHECK(offers == 3);
    }
}

TEST_CASE("G9 G11 a policy's halt stands, though a letter of a sibling was taken late") {
    setup s;
    s.log.append(3, "Alpha");
    s.letters(pj::error_policy::custom([](const pj::failure& f) {
        return f.handler == "a" ? pj::decision::dead_letter() : pj::decision::halt();
    }));
    s.sink.puts.then(status::pending, 1);
    s.a.says.always(1, pj::fail(1));
    s.b.says.always(1, pj::fail(2));
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.w.times("b", 1) == 1);
    CHECK(s.sink.letters.size() == 1);
}

TEST_CASE("G9 G12 a letter tells the attempts it was written for: no round while one is owed") {
    setup s;
    s.log.append(1, "Alpha");
    s.letters(pj::error_policy::retry_then_dead_letter(1));
    s.a.says.always(0, pj::reject());
    s.b.says.at(0, pj::fail());
    s.sink.puts.then(status::failed, 3);
    REQUIRE(s.start() == status::ok);
    s.run_for(650);                     // offered at 0, 100 and 300 ms
    CHECK(s.w.called() == "a0 b0 c0");
    s.run_for(5000);
    CHECK(s.w.called() == "a0 b0 c0 b0");
    REQUIRE(s.sink.letters.size() == 1);
    CHECK(s.sink.letters[0].attempts == 1);
}

TEST_CASE("G12 a sink that has taken one letter of an event has the first wait for the next") {
    setup s;
    s.log.append(1, "Alpha");
    s.letters();
    s.a.says.always(0, pj::reject());
    s.b.says.always(0, pj::reject());
    s.sink.puts.then(status::failed, 3).then(status::ok).then(status::failed);
    REQUIRE(s.start() == status::ok);
    for (const uint32_t ms : {100u, 200u, 400u, 100u})
        CHECK(s.tick_after(s.last.wait_ms).wait_ms == ms);
    s.run_for(1000);
    CHECK(s.sink.keys() == "a@0 b@0");
}

TEST_CASE("G12 the last event that is replayed: its letter says so whenever it is offered") {
    setup s;
    s.log.append(2, "Alpha");
    s.letters();
    s.what.replayed_through = 0;
    s.a.says.always(0, pj::reject()).always(1, pj::reject());
    std::vector<bool> told;
    const auto sink = [&](const pj::dead_letter& l) {
        told.push_back(l.replaying);
        return told.size() % 2 == 1 ? status::failed : status::ok;
    };
    s.what.dead_letters = sink;
    REQUIRE(s.start() == status::ok);
    s.run_for(5000);
    CHECK(told == std::vector<bool>{true, true, false, false});
}

TEST_CASE("G12 G20 with a lease, too, only the handlers beyond four letters wait untried") {
    crowd<8> s;
    kit::manual_clock clock(1000);
    kit::memory_leases leases(clock);
    const pj::lease lease{leases};
    s.what.lease = &lease;
    s.what.clock = clock;
    s.log.append(1, "Alpha");
    s.letters();
    s.sink.puts.always(status::failed);
    for (size_t i = 0; i < 7; ++i) s.hands[i]->says.always(0, pj::reject());
    REQUIRE(s.start() == status::ok);
    for (int i = 0; i < 20 && s.last.reason != status::dead_letter_failed; ++i) s.tick();
    CHECK(s.w.called() == "h00 h10 h20 h30");
    s.sink.puts.clear();
    for (int i = 0; i < 50 && s.worker.scanned() != 0; ++i) {
        clock.advance(s.last.wait_ms);
        s.tick_after(s.last.wait_ms);
    }
    CHECK(s.w.called() == "h00 h10 h20 h30 h40 h50 h60 h70");
    CHECK(s.sink.letters.size() == 7);
    CHECK(s.sink.duplicates == 0);
}

namespace {

/// Can be read at first, and later not any more.
struct fading_alpha {
    static constexpr pj::event_type type{"Alpha"};
    static inline int readable = 0;
    static bool decode(const pj::stored_event&, fading_alpha&) { return readable-- > 0; }
};
template<char Name> struct fading_hand : scripted {
    using handles = pj::events<fading_alpha>;
    static constexpr char handler_name[] = {Name, '\0'};
    explicit fading_hand(world& in) : scripted(in, handler_name) {}
    pj::verdict on(const fading_alpha&, const pj::context& with) { return run(with); }
};
struct archive : scripted {
    using handles = pj::every_event;
    static constexpr const char* handler_name = "all";
    explicit archive(world& in) : scripted(in, "all") {}
    pj::verdict on(const pj::stored_event&, const pj::context& with) { return run(with); }
};

} // namespace

TEST_CASE("G12 the fourth letter is of a payload: who takes it as it is stored waits for room") {
    setup s;
    archive all(s.w);
    fading_hand<'w'> w(s.w);
    fading_hand<'x'> x(s.w);
    fading_hand<'y'> y(s.w);
    fading_hand<'z'> z(s.w);
    pj::registry<archive, fading_hand<'w'>, fading_hand<'x'>, fading_hand<'y'>, fading_hand<'z'>>
        five{all, w, x, y, z};
    s.what.handlers = five;
    s.letters();
    s.sink.puts.always(status::failed);
    all.says.at(0, pj::pending).at(0, pj::reject());
    w.says.always(0, pj::reject());
    x.says.always(0, pj::reject());
    y.says.always(0, pj::reject());
    z.says.at(0, pj::pending);
    fading_alpha::readable = 1;
    s.log.append(1, "Alpha");
    REQUIRE(s.start() == status::ok);
    s.run_for(90);
    CHECK(s.w.called() == "all0 w0 x0 y0 z0");
    s.sink.puts.clear();
    s.run_for(10000);
    CHECK(s.w.called() == "all0 w0 x0 y0 z0 all0");
    CHECK(s.sink.keys() == "w@0 x@0 y@0 @0 all@0");
}

namespace {

struct unreadable_alpha {
    static constexpr pj::event_type type{"Alpha"};
    static bool decode(const pj::stored_event&, unreadable_alpha&) { return false; }
};
template<char Name> struct typed_hand : scripted {
    using handles = pj::events<unreadable_alpha>;
    static constexpr char handler_name[] = {Name, '\0'};
    explicit typed_hand(world& in) : scripted(in, handler_name) {}
    pj::verdict on(const unreadable_alpha&, const pj::context& with) { return run(with); }
};

} // namespace

TEST_CASE("G10 G12 the fourth letter is of a payload, and handlers before it had theirs") {
    setup s;
    std::vector<std::unique_ptr<scripted>> hands;
    pj::handler_map<8> map;
    const auto add = [&](const char* name) {
        hands.emplace_back(new scripted(s.w, name));
        map.add(alpha::type, &scripted::call_by_hand, hands.back().get(),
                pj::text(hands.back()->name));
    };
    typed_hand<'d'> d(s.w);
    typed_hand<'e'> e(s.w);
    hands.reserve(5);
    for (const char* name : {"h0", "h1", "h2"}) add(name);
    map.add(d);
    add("h4");
    map.add(e);
    add("h6");
    for (int i = 0; i < 3; ++i) hands[static_cast<size_t>(i)]->says.always(0, pj::reject());
    s.what.handlers = map;
    s.letters();
    s.sink.puts.then(status::failed, 2);
    s.log.append(1, "Alpha");
    REQUIRE(s.start() == status::ok);
    s.tick();
    CHECK(s.w.called() == "h00 h10 h20");
    s.run_for(10000);
    CHECK(s.w.called() == "h00 h10 h20 h40 h60");
    CHECK(s.sink.keys() == "h0@0 h1@0 h2@0 @0");
    CHECK(s.sink.duplicates == 0);
    CHECK(s.worker.counts().failed_calls == 4);
}
