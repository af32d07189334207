// What the contract programs of the adapters share: what is wrong is printed, and counted.
#ifndef PROJECTIONS_TESTS_ENGINES_CONTRACT_HPP
#define PROJECTIONS_TESTS_ENGINES_CONTRACT_HPP

#include "kit/projections_kit.hpp"

#include <cstdio>
#include <cstdlib>
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
/// A model of one number, for the stores that keep model and record as one value.
template<class Store> typename Store::model_text spelled(int& number) {
    return {[&] { return std::to_string(number); },
            [&](const std::string& text) {
                number = text.empty() ? 0 : std::atoi(text.c_str());
                return true;
            }};
}
/// Such a store's unit of work; `number` is its model, and `as_kept` that of `other`, which looks
/// from outside.
template<class Store>
kit::unit_parts parts_of(Store& store, int& number, Store& other, int& as_kept) {
    kit::unit_parts parts{store, store};
    parts.write = [&](int n) {
        number = n;
        return pj::status::ok;
    };
    parts.read = [&] {
        pj::checkpoint unused;
        return other.load("kit_unit", unused) == pj::status::ok ? as_kept : -1;
    };
    parts.elsewhere = other;
    return parts;
}
/// The exit status.
inline int verdict() {
    if (faults == 0) std::printf("the adapter keeps its promises\n");
    return faults == 0 ? 0 : 1;
}

#endif
