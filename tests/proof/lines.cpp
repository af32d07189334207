// The line that a failing run prints does replay it.
#include "proof/trial.hpp"

#include <cstdio>
#include <cstdlib>

using namespace proof;

TEST_CASE("one run again, as PROOF_RUN says: the line that a failure prints") {
    const char* const line = std::getenv("PROOF_RUN");
    if (line == nullptr) return;
    size_t scenario = 0;
    troubles with;
    REQUIRE(from_line(line, scenario, with));
    must_hold(scenario, with);
    const result r = run(all_scenarios()[scenario], with, true);
    for (const std::string& one : r.trace) std::printf("    %s\n", one.c_str());
}

TEST_CASE("a line says which scenario and which troubles, and nothing else is a line") {
    const troubles some{{3, trouble::kind::throws}, {40, trouble::kind::dies_after}};
    CHECK(to_line(7, some) == "7:3=throws,40=dies_after");
    for (const troubles& with : {troubles{}, troubles{some[0]}, some}) {
        size_t scenario = 0;
        troubles again;
        REQUIRE(from_line(to_line(7, with), scenario, again));
        CHECK(scenario == 7);
        CHECK(to_line(scenario, again) == to_line(7, with));
    }
    size_t scenario = 0;
    troubles with;
    CHECK_FALSE(from_line("7:3", scenario, with));
    CHECK_FALSE(from_line("7:3=hurts", scenario, with));
    CHECK_FALSE(from_line("9999", scenario, with));
}

TEST_CASE("a run that fails fails again in the same way, call by call") {
    scenario lying = all_scenarios()[0];
    lying.forgets_saves = true;
    const troubles with{{20, trouble::kind::pending}, {31, trouble::kind::dies_before}};
    const result first = run(lying, with, true), second = run(lying, with, true);
    CHECK_FALSE(first.problem.empty());
    CHECK(first.problem == second.problem);
    CHECK(first.called == second.called);
    CHECK(first.trace == second.trace);
}
