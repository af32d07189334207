// main() of the mutated suites: the mutant that is switched on comes by the environment. Answers 0
// or 42 if every test passed, 42 if not even one of them came by the place that is mutated.
#include "projections.hpp"      // the mutated one, which run writes

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>

int main(int argc, char** argv) {
    constexpr int never_reached = 42;
    const char* const mutant = std::getenv("PROJECTIONS_MUTANT");
    if (mutant != nullptr) projections_mutation::active = static_cast<unsigned>(std::atoi(mutant));
    doctest::Context context(argc, argv);
    if (context.run() != 0) return 1;
    return projections_mutation::is_reached ? 0 : never_reached;
}
