// The fuzz targets without libFuzzer, for every compiler: so many seeded inputs, or those files.
//
//     fuzz_engines RUNS [SEED]            inputs SEED, SEED + 1, ...
//     fuzz_engines FILE...
//
// An input that breaks something is named in one line, which runs it again.
#include "fuzz/feed.hpp"

#include <csignal>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace {

char again[256];

// std::abort() and crashes; a sanitizer's report ends the process without a signal, and then the
// last line that was printed tells where.
extern "C" void tell(int signal) {
    std::fputs(again, stderr);
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

void watch() {
    for (const int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGTERM, SIGALRM})
        std::signal(signal, tell);
}

/// Some inputs are all noise, some calm with a little noise: the second kind gets further.
std::vector<uint8_t> input(uint32_t seed) {
    constexpr uint32_t size_max = 600;
    std::mt19937 random(seed);
    std::vector<uint8_t> bytes(random() % size_max);
    const uint32_t noise = static_cast<uint32_t>(random() % 100) + 1;
    for (uint8_t& byte : bytes) {
        const bool is_noise = random() % 100 < noise;
        const uint32_t value = static_cast<uint32_t>(random() % 256);
        byte = static_cast<uint8_t>(is_noise ? value : 0);
    }
    for (size_t i = 0; i < bytes.size() && i < 16; ++i)         // the configuration
        bytes[i] = static_cast<uint8_t>(random() % 256);
    return bytes;
}

int run_file(const char* name) {
    std::FILE* const file = std::fopen(name, "rb");
    if (file == nullptr) {
        std::perror(name);
        return 1;
    }
    std::vector<uint8_t> bytes;
    for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file))
        bytes.push_back(static_cast<uint8_t>(c));
    std::fclose(file);
    std::snprintf(again, sizeof again, "fuzz: with the input %s\n", name);
    return LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

} // namespace

int main(int argc, char** argv) {
    watch();
    if (argc < 2 || std::strspn(argv[1], "0123456789") != std::strlen(argv[1])) {
        for (int i = 1; i < argc; ++i) {
            if (run_file(argv[i]) != 0) return 1;
        }
        return 0;
    }
    const unsigned long runs = std::strtoul(argv[1], nullptr, 10);
    const uint32_t seed = static_cast<uint32_t>(argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1);
    for (uint32_t i = 0; i < runs; ++i) {
        std::snprintf(again, sizeof again, "fuzz: again: %s 1 %u\n", argv[0],
                      static_cast<unsigned>(seed + i));
        const std::vector<uint8_t> bytes = input(seed + i);
        static_cast<void>(LLVMFuzzerTestOneInput(bytes.data(), bytes.size()));
    }
    std::printf("%lu inputs\n", runs);
}
