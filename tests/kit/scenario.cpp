// Given, when, then: the kit's scenario, as a user of the library writes it.
#include "kit/projections_kit.hpp"

#include <doctest/doctest.h>

namespace pj = projections;
namespace kit = projections_kit;

namespace {

struct opened {
    static constexpr pj::event_type type{"Opened", pj::raw};
    uint32_t order;
};
struct closed {
    static constexpr pj::event_type type{"Closed", pj::raw};
    uint32_t order;
};
struct open_orders {
    using handles = pj::events<opened, closed>;
    int count = 0;
    void on(const opened&) { ++count; }
    pj::verdict on(const closed& e) {
        if (count == 0) return pj::reject(e.order);
        --count;
        return pj::handled;
    }
};

} // namespace

TEST_CASE("given two open orders, when one is closed, then one is open") {
    open_orders model;
    kit::scenario test{model};
    test.given(opened{1}, opened{2}).when(closed{1});
    CHECK(model.count == 1);
    CHECK(test.counts().handled == 1);
    CHECK(test.worker().checkpointed() == test.newest());
}

TEST_CASE("given nothing, when an order is closed, then it is a letter") {
    open_orders model;
    kit::scenario test{model};
    test.what.on_error = pj::error_policy::dead_letter();
    test.when(closed{7});
    CHECK(test.letters.kept.size() == 1);
    CHECK(test.last_failure().code == 7);
    CHECK(test.counts().lettered == 1);
}

TEST_CASE("given a policy that halts, when it fails, then nothing after it is handled") {
    open_orders model;
    kit::scenario test{model};
    test.what.on_error = pj::error_policy::halt();
    test.when(closed{7}, opened{1});
    CHECK(test.halted());
    CHECK(model.count == 0);
    CHECK(test.worker().checkpointed() == pj::before_first);
    REQUIRE(test.worker().skip_failed(0) == pj::status::ok);
    test.when(opened{2});
    CHECK(model.count == 2);
}

TEST_CASE("given a wrong description, when it starts, then the status says so") {
    open_orders model;
    kit::scenario test{model};
    test.what.batch = 0;
    test.when(opened{1});
    CHECK(test.start_answer == pj::status::bad_batch);
    CHECK_FALSE(test.running());
}

TEST_CASE("given a retry policy and a store that fails, when time passes, then it gets there") {
    open_orders model;
    kit::scenario test{model};
    test.checkpoints.saves.then(pj::status::failed, false, 3);
    test.checkpoints.loads.then(pj::status::pending, false, 2);
    test.append_stored("Opened", "?").when(opened{1});         // the first cannot be decoded
    CHECK(model.count == 1);
    CHECK(test.counts().skipped == 1);
    CHECK(test.checkpoints.at("scenario").at == 1);
}
