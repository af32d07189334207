// Reads lines of "id-in-hex count" and answers each with partition_of(id, count).
#include "projections.hpp"

#include <cstdio>
#include <iostream>
#include <string>

int main() {
    std::string hex;
    uint32_t count = 0;
    while (std::cin >> hex >> count) {
        std::string id;
        for (size_t i = 1; i + 1 < hex.size(); i += 2)      // the first character is an x
            id += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
        std::printf("%u\n", static_cast<unsigned>(projections::partition_of(id, count)));
    }
    return 0;
}
