// Every scenario with trouble at its k-th call, for every k: the power fails before or after it, it
// fails, it loses its answer, it is pending, answers what it may not, throws, takes too long; then
// every pair of such, for small scenarios. The default takes all single troubles and a share of the
// pairs; PROOF_STRIDE=1 takes all of those, too, a number in between a larger share.
#include "proof/trial.hpp"

using namespace proof;

namespace {

using kind = trouble::kind;
const kinds crashes{kind::dies_before, kind::dies_after};
const kinds oddities{kind::failed, kind::lost_answer, kind::pending, kind::illegal,
                     kind::wrong,  kind::throws,      kind::slow};
const kinds all{kind::dies_before, kind::dies_after, kind::failed,
                kind::lost_answer, kind::pending,    kind::illegal,
                kind::wrong,       kind::throws,     kind::slow};

} // namespace

TEST_CASE("G1 G7 G9 G10 G12 G16 G28 without any trouble every scenario ends as it was folded") {
    CHECK(all_scenarios().size() > 130);
    for (size_t n = 0; n < all_scenarios().size(); ++n) CHECK(must_hold(n, {}).called.size() > 7);
}

TEST_CASE("G1 G2 G8 G12 G17 G20 G21 G23 G25 G32 the power fails before and after any call") {
    size_t runs = 0;
    for (size_t n = 0; n < all_scenarios().size(); ++n) runs += with_one_more(n, {}, crashes, 1);
    MESSAGE("runs: ", runs);
    CHECK(runs > 10000);
}

TEST_CASE("G1 G8 G9 G10 G12 G14 G15 G17 G18 G23 any call fails, or answers as it should not") {
    size_t runs = 0;
    for (size_t n = 0; n < all_scenarios().size(); ++n) runs += with_one_more(n, {}, oddities, 1);
    MESSAGE("runs: ", runs);
    CHECK(runs > (PROJECTIONS_EXCEPTIONS != 0 ? 70000u : 50000u));
}

TEST_CASE("G1 G2 G12 G17 G23 the power fails twice") {
    size_t runs = 0;
    for (size_t n = 0; n < all_scenarios().size(); ++n) {
        if (is_small(n)) runs += with_two_more(n, crashes, crashes, stride_of(7));
    }
    MESSAGE("runs: ", runs);
    CHECK(runs > 10000);
}

TEST_CASE("G1 G12 G14 G15 G17 G18 G23 any two calls do not do what they should") {
    size_t runs = 0;
    for (size_t n = 0; n < all_scenarios().size(); ++n) {
        if (is_small(n)) runs += with_two_more(n, all, all, stride_of(29));
    }
    MESSAGE("runs: ", runs);
    CHECK(runs > 10000);
}
