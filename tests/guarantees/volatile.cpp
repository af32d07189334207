// Read models that do not survive a restart: every boot reads again, silently up to the checkpoint.
#include "support/device.hpp"

namespace pj = projections;
using support::device;

namespace {

struct in_memory : device {
    in_memory() { what.volatile_model = true; }
    void power_cycle() {
        boot();
        model.clear(); // it was in RAM
    }
};

} // namespace

TEST_CASE("G25 a volatile model is read again at every start, silently up to the checkpoint") {
    in_memory d;
    d.append(7);
    REQUIRE(d.live() == pj::status::ok);
    const std::map<pj::position, uint32_t> mails = d.mails;
    const size_t saves = d.saved.size();
    d.power_cycle();
    REQUIRE(d.live() == pj::status::ok);
    CHECK(d.model == d.folded(d.newest()));
    CHECK(d.mails == mails);
    CHECK(d.saved.size() == saves); // nothing new, nothing saved
    d.power_cycle();
    d.append(4);
    REQUIRE(d.live() == pj::status::ok);
    CHECK(d.model == d.folded(d.newest()));
    for (const auto& [at, value] : d.events) CHECK(d.mails[at] == (value % 2 == 0 ? 1u : 0u));
}

TEST_CASE("G23 a volatile model survives power failures at any callback of several boots") {
    for (uint32_t first = 1; first < 40; first += 3) {
        for (uint32_t second = 1; second < 40; ++second) {
            CAPTURE(first);
            CAPTURE(second);
            in_memory d;
            d.append(9);
            pj::position durable = pj::before_first;
            for (const uint32_t cut : {first, second, 0u}) {
                d.power_cycle();
                d.dies_at = cut;
                d.dies_after = cut % 2 == 0;
                static_cast<void>(d.live());
                CHECK(d.record().at >= durable); // it never moves back
                durable = d.record().at;
                d.append(1);
            }
            d.power_cycle();
            REQUIRE(d.live() == pj::status::ok);
            CHECK(d.model == d.folded(d.newest()));
            for (const auto& [at, value] : d.events)
                CHECK(d.mails[at] >= (value % 2 == 0 ? 1u : 0u));
        }
    }
}

TEST_CASE("G14 a long volatile replay is not unsaved work") {
    in_memory d;
    d.append(200);
    REQUIRE(d.live() == pj::status::ok);
    d.power_cycle();
    d.what.unsaved_max = 5;
    d.what.batch = 4;
    d.append(1);
    REQUIRE(d.live() == pj::status::ok);
    CHECK(d.model == d.folded(d.newest()));
    CHECK(d.record().at == d.newest());
}

TEST_CASE("G5 a volatile model begins at the oldest event that is kept") {
    in_memory d;
    d.append(8);
    REQUIRE(d.live() == pj::status::ok);
    d.trimmed = 11;
    d.events.erase(d.events.begin(), d.events.upper_bound(11));
    d.power_cycle();
    REQUIRE(d.live() == pj::status::ok);
    CHECK(d.model == d.folded(d.newest()));
    d.power_cycle();
    d.append(5);
    d.trimmed = d.record().at + 3; // an event that was never handled is gone
    CHECK(d.live() == pj::status::log_trimmed);
}

TEST_CASE("G5 a volatile model's checkpoint above the newest event is seen") {
    in_memory d;
    d.append(5);
    REQUIRE(d.live() == pj::status::ok);
    d.power_cycle();
    d.events.erase(d.newest());
    CHECK(d.live() == pj::status::checkpoint_ahead);
}

TEST_CASE("G28 stop() during a volatile replay leaves the checkpoint as it was") {
    in_memory d;
    d.append(20);
    REQUIRE(d.live() == pj::status::ok);
    const pj::checkpoint before = d.record();
    d.power_cycle();
    pj::worker worker{d.what};
    REQUIRE(worker.start() == pj::status::ok);
    d.run(worker, [&] { return worker.scanned() > 10; });
    worker.stop();
    CHECK(d.run(worker) == pj::status::ok);
    CHECK(d.record().at == before.at);
    CHECK(d.record().revision == before.revision);
}

TEST_CASE("G31 reset during a volatile replay is saved and goes on from there") {
    in_memory d;
    d.append(12);
    REQUIRE(d.live() == pj::status::ok);
    d.power_cycle();
    pj::worker worker{d.what};
    REQUIRE(worker.start() == pj::status::ok);
    d.run(worker, [&] { return worker.scanned() > 10; });
    REQUIRE(worker.reset() == pj::status::ok);
    d.model.clear();
    d.run(worker, [&] { return worker.caught_up(); });
    CHECK(d.model == d.folded(d.newest()));
    CHECK(d.record().at == d.newest());
}

TEST_CASE("G23 a rebuild of a model in RAM reads up to the checkpoint, and leaves it where it was") {
    in_memory d;
    d.append(7);
    REQUIRE(d.live() == pj::status::ok);
    const std::map<pj::position, uint32_t> mails = d.mails;
    const pj::position end = d.record().at;
    d.append(3);
    d.power_cycle();
    pj::replay_engine replay{d.what};
    REQUIRE(replay.start() == pj::status::ok);
    CHECK(d.run(replay) == pj::status::ok);
    CHECK(replay.finished());
    CHECK(d.model == d.folded(end));
    CHECK(d.mails == mails);
    CHECK(d.record().at == end);
    CHECK(d.record().replay_stage == 0);
}
