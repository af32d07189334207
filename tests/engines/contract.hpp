// What the contract programs of the adapters share: what is wrong is printed, and counted.
#ifndef PROJECTIONS_TESTS_ENGINES_CONTRACT_HPP
#define PROJECTIONS_TESTS_ENGINES_CONTRACT_HPP

#include "kit/projections_kit.hpp"

#include <cstdio>
#include <string>

namespace pj = projections;
namespace kit = projections_kit;

inline int faults = 0;

inline void check(bool is_right, const char* words) {
    if (is_right) return;
    std::printf("%s\n", words);
    ++faults;
}
inline void tell(const char* of, const kit::promises& broken) {
    for (const std::string& words : broken) {
        std::printf("%s: %s\n", of, words.c_str());
        ++faults;
    }
}
/// The exit status.
inline int verdict() {
    if (faults == 0) std::printf("the adapter keeps its promises\n");
    return faults == 0 ? 0 : 1;
}

#endif
