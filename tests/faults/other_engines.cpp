// The k-th callback of a replay, of a sink's run and of a volatile model's boot fails, pends, answers
// what it may not, throws, or works and loses its answer, for every k: the end is always the same.
#include "support/device.hpp"

namespace pj = projections;
using support::device;

namespace {

struct oddity {
    const char* name;
    pj::status answer;
    bool throws;
    bool works;
};
constexpr oddity oddities[] = {
    {"failed", pj::status::failed, false, false},
    {"pending", pj::status::pending, false, false},
    {"illegal", pj::status::log_replaced, false, false},
    {"no status at all", static_cast<pj::status>(0xFE), false, false},
    {"throws", pj::status::failed, true, false},
    {"lost answer", pj::status::failed, false, true},
    {"throws after it worked", pj::status::failed, true, true},
};

/// From the same start for every oddity at every callback, until none is left to be odd.
template<class Setup, class Run, class Check> void everywhere(Setup setup, Run run, Check right) {
    for (const oddity& how : oddities) {
        for (uint32_t at = 1;; ++at) {
            CAPTURE(how.name);
            CAPTURE(at);
            REQUIRE(at < 500);
            device d;
            d.what.on_error = pj::error_policy::retry(2);
            setup(d);
            d.boot();
            d.odd_at = at;
            d.odd_answer = how.answer;
            d.odd_throws = how.throws;
            d.odd_works = how.works;
            run(d);
            right(d);
            if (d.callbacks < at) break;
        }
    }
}

} // namespace

TEST_CASE("G14 G15 G23 one odd answer anywhere in a replay changes nothing in the end") {
    everywhere(
        [](device& d) {
            d.append(7);
            REQUIRE(d.live() == pj::status::ok);
            d.model[999] = 1;
        },
        [](device& d) {
            pj::replay_options options;
            options.on_drop = {[](void* me) { return static_cast<device*>(me)->drop(); }, &d};
            options.batch = 3;
            pj::replay_engine replay{d.what, options};
            REQUIRE(replay.start() == pj::status::ok);
            CHECK(d.run(replay) == pj::status::ok);
            CHECK(replay.finished());
        },
        [](device& d) {
            CHECK(d.record().at == d.newest());
            CHECK(d.record().replay_stage == 0);
            CHECK(d.record().rebuild == 1);
            CHECK(d.model == d.folded(d.newest()));
            for (const auto& [at, value] : d.events)
                CHECK(d.mails[at] == (value % 2 == 0 ? 1u : 0u));
        });
}

TEST_CASE("G14 G15 one odd answer anywhere in the boot of a volatile model changes nothing") {
    everywhere(
        [](device& d) {
            d.what.volatile_model = true;
            d.append(5);
            REQUIRE(d.live() == pj::status::ok);
            d.model.clear();
            d.append(4);
        },
        [](device& d) { CHECK(d.live() == pj::status::ok); },
        [](device& d) {
            CHECK(d.record().at == d.newest());
            CHECK(d.model == d.folded(d.newest()));
            for (const auto& [at, value] : d.events)
                CHECK(d.mails[at] >= (value % 2 == 0 ? 1u : 0u));
        });
}

TEST_CASE("G1 G14 G15 one odd answer anywhere in a sink's run changes nothing in the end") {
    const auto feed = [](device& d) {
        pj::projection fed = d.what;
        fed.log = {};
        pj::event_sink sink{fed};
        REQUIRE(sink.start() == pj::status::ok);
        uint32_t offers = 0;
        for (auto m = d.events.begin(); m != d.events.end();) {
            REQUIRE(++offers < 200);
            const support::ping a{m->second};
            const support::pong z{m->second};
            const pj::stored_event message =
                m->second % 2 == 0 ? pj::raw_event(m->first, a) : pj::raw_event(m->first, z);
            const pj::receive_result r = sink.receive(message, d.now_ms);
            if (r.answer != pj::receipt::hold) {
                ++m;
                continue;
            }
            REQUIRE(r.wait_ms != pj::never);
            d.now_ms += r.wait_ms;
        }
        sink.stop();
        CHECK(d.run(sink) == pj::status::ok);
        CHECK(sink.counts().scanned == 9);
    };
    everywhere([](device& d) { d.append(9); }, feed,
               [](device& d) {
                   CHECK(d.record().at == d.newest());
                   CHECK(d.model == d.folded(d.newest()));
               });
}
