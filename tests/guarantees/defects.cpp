// The defects of the Python original that must stay impossible, by their numbers in DESIGN.md.
#include "support/setup.hpp"

using namespace support;
using pj::status;

TEST_CASE("defect 2: an exhausted retry does not drop the event") {
    setup s;
    s.log.append(3, "Alpha");
    s.what.on_error = pj::error_policy::retry(2);
    s.b.says.at(1, pj::fail(), 3);
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    CHECK(s.worker.state() == pj::run_state::halted);
    CHECK(s.stored().at == 0);
    CHECK(s.worker.retry_failed() == status::ok);
    s.run_for(60000);
    CHECK(s.w.times("b", 1) == 4);
    CHECK(s.worker.counts().handled == 3);
    CHECK(s.stored().at == 2);
}

TEST_CASE("defect 3: dead_letter writes one letter") {
    setup s;
    s.log.append(3, "Alpha");
    s.letters();
    s.b.says.always(1, pj::fail());
    REQUIRE(s.start() == status::ok);
    s.run_for(60000);
    CHECK(s.stop() == status::ok);
    CHECK(s.sink.put_count == 1);
    CHECK(s.sink.keys() == "b@1");
}

TEST_CASE("defect 4: a failing letter sink does not lose the event") {
    setup s;
    s.log.append(3, "Alpha");
    s.letters();
    s.b.says.always(1, pj::fail());
    s.sink.puts.always(status::failed);
    REQUIRE(s.start() == status::ok);
    s.run_for(100000);
    CHECK(s.stop() == status::ok);
    CHECK(s.stored().at == 0);
    s.sink.puts.clear();
    REQUIRE(s.start() == status::ok);
    s.run_for(100000);
    CHECK(s.sink.keys() == "b@1");
    CHECK(s.stored().at == 2);
}

TEST_CASE("defect 5: retrying does not run handlers again that had succeeded") {
    setup s;
    s.log.append(1, "Alpha");
    s.what.on_error = pj::error_policy::retry(5);
    s.b.says.at(0, pj::fail(), 5);
    REQUIRE(s.start() == status::ok);
    s.run_for(600000);
    CHECK(s.w.times("a", 0) == 1);
    CHECK(s.w.times("b", 0) == 6);
    CHECK(s.w.times("c", 0) == 1);
}

TEST_CASE("defect 8: an undecodable payload goes through the policy") {
    setup s;
    s.log.append(1, "Alpha").append(1, "Alpha", "!").append(1, "Alpha");
    SUBCASE("skip") {
        s.what.on_error = pj::error_policy::skip();
        REQUIRE(s.start() == status::ok);
        s.run_for(1000);
        CHECK(s.worker.counts().skipped == 1);
        CHECK(s.stored().at == 2);
    }
    SUBCASE("retry halts at once: it will not get better") {
        s.what.on_error = pj::error_policy::retry(3);
        REQUIRE(s.start() == status::ok);
        s.tick();
        s.drain();
        CHECK(s.worker.reason() == status::decode_failed);
        CHECK(s.stored().at == 0);
        CHECK(s.worker.skip_failed(1) == status::ok);
        s.run_for(1000);
        CHECK(s.stored().at == 2);
    }
    SUBCASE("dead letter") {
        s.letters();
        REQUIRE(s.start() == status::ok);
        s.run_for(1000);
        CHECK(s.sink.keys() == "@1");
        CHECK(s.sink.letters[0].kind == pj::failure_kind::decode);
        CHECK(s.stored().at == 2);
    }
    CHECK(s.worker.counts().failed_calls == 1);
    CHECK(s.watch.count(pj::notice_kind::handler_failed) == 1);
    CHECK(s.w.times("a", 1) == 0);
}

TEST_CASE("defect 10: an event at position 0 is delivered") {
    for (const bool has_bounds : {true, false}) {
        setup s;
        s.log.append(1, "Beta");
        if (!has_bounds) s.what.log.bounds = nullptr;
        REQUIRE(s.start() == status::ok);
        s.run_for(2000);
        CHECK(s.w.called() == "a0");
        CHECK(s.stored().at == 0);
    }
}

TEST_CASE("defect 11: there is a backoff between attempts, reads, saves and letters that fail") {
    for (int which = 0; which < 4; ++which) {
        CAPTURE(which);
        setup s;
        s.log.append(2, "Beta");
        s.what.on_error = pj::error_policy::retry(1000);
        if (which == 0) s.a.says.always(0, pj::fail());
        if (which == 1) s.log.reads.always(status::failed), s.log.shows.assign(1000, 0);
        if (which == 2) s.store.saves.always(status::failed);
        if (which == 3) {
            s.letters();
            s.a.says.always(0, pj::fail());
            s.sink.puts.always(status::failed);
        }
        REQUIRE(s.start() == status::ok);
        s.run_for(120000);
        const size_t tried[] = {s.w.calls.size(), s.log.read_count, s.store.tried.size(),
                                s.sink.put_count};
        CHECK(tried[which] >= 9);           // 100 200 ... 25600, then every 30 s
        CHECK(tried[which] <= 14);
    }
}
