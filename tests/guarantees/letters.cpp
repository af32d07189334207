// G12: one letter per failing (event, handler), durable before the checkpoint passes.
#include "support/setup.hpp"

using namespace support;
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
