// Worlds of processes, each drawn from a seed: engines of every kind over one log, one checkpoint
// store, one lease service; calls that fail, wait, get lost, arrive late; processes that die, stand
// still and start again; an operator who pauses, resets, rebuilds and splits. A safety phase with
// all of that, then a liveness phase without, in which everything has to be done in bounded time.
//
//     simulation [--seed N] [--events M] [--for SECONDS] [--trace]
//
// Without arguments: three million events from fixed seeds, and some from seeds that the variable
// SIMULATION_SEED (a commit, say) chooses. With --seed alone: that world. A failure prints one line
// that replays it; --trace shows every call.

#include "operator.hpp"

#include <chrono>
#include <cstdlib>
#include <cstring>

namespace {

using namespace simulation;

struct request {
    uint64_t seed = 1;
    uint64_t events = 0;
    uint32_t seconds = 0;
    bool is_one_world = false;
    bool is_default = true;
    bool is_tracing = false;
};

constexpr uint64_t fixed_events = 3000000;
constexpr uint64_t chosen_events = 300000;

bool read_arguments(int count, char** arguments, request& out) {
    bool has_seed = false;
    for (int i = 1; i < count; ++i) {
        const std::string name = arguments[i];
        uint64_t number = 0;
        if (name == "--trace") {
            out.is_tracing = true;
            continue;
        }
        if (i + 1 >= count || !read_number(arguments[++i], number)) return false;
        if (name == "--seed") {
            has_seed = true;
            out.seed = number;
        } else if (name == "--events") out.events = number;
        else if (name == "--for") out.seconds = static_cast<uint32_t>(number);
        else return false;
        out.is_default = false;
    }
    out.is_one_world = has_seed && out.events == 0 && out.seconds == 0;
    return true;
}

/// False: the world of this seed has failed.
bool run_world(uint64_t seed, bool is_tracing, statistics& sum) {
    const config c = draw_config(seed);
    operated_town all(c, sum, is_tracing);
    all.run();
    ++sum.worlds;
    sum.milliseconds += all.in.now;
    if (!all.in.has_failed) return true;
    std::printf("FAILED after %llu events: %s\nsimulation --seed %llu\n",
                static_cast<unsigned long long>(sum.events), all.in.why.c_str(),
                static_cast<unsigned long long>(seed));
    return false;
}

bool run_worlds(uint64_t seed, uint64_t events, uint32_t seconds, bool is_tracing,
                statistics& sum) {
    using clock = std::chrono::steady_clock;
    const clock::time_point until = clock::now() + std::chrono::seconds(seconds);
    const uint64_t enough = sum.events + events;
    bool is_good = true;
    do {
        is_good = run_world(seed++, is_tracing, sum);
    } while (is_good && (seconds != 0 ? clock::now() < until : sum.events < enough));
    return is_good;
}

void print(const statistics& s) {
    const auto n = [](uint64_t number) { return static_cast<unsigned long long>(number); };
    std::printf("worlds %llu, simulated hours %llu, events %llu, handler calls %llu, port calls "
                "%llu, ticks %llu\n",
                n(s.worlds), n(s.milliseconds / 3600000), n(s.events), n(s.handler_calls),
                n(s.calls), n(s.ticks));
    std::printf("crashes %llu, pauses %llu, stops %llu, halts %llu, leases %llu, taken over %llu\n",
                n(s.crashes), n(s.pauses), n(s.stops), n(s.halts), n(s.leases), n(s.takeovers));
    std::printf("calls failed %llu, answers lost %llu, requests late %llu, pending %llu, writes "
                "torn %llu, messages redelivered %llu, acknowledgements lost %llu\n",
                n(s.failed), n(s.lost), n(s.late), n(s.pending), n(s.torn), n(s.redelivered),
                n(s.lost_acks));
    std::printf("saves %llu, conflicts %llu, commits %llu, rollbacks %llu, letters %llu, skipped "
                "%llu, holes skipped %llu\n",
                n(s.saves), n(s.conflicts), n(s.commits), n(s.rollbacks), n(s.letters), n(s.skips),
                n(s.gaps));
    std::printf("rebuilds %llu, repartitions %llu, resets %llu, trims %llu\n", n(s.rebuilds),
                n(s.repartitions), n(s.resets), n(s.trims));
}

} // namespace

int main(int count, char** arguments) {
    request asked_for;
    if (!read_arguments(count, arguments, asked_for)) {
        std::printf("simulation [--seed N] [--events M] [--for SECONDS] [--trace]\n");
        return 2;
    }
    statistics sum;
    bool is_good = true;
    if (!asked_for.is_default) {
        is_good = run_worlds(asked_for.seed, asked_for.is_one_world ? 0 : asked_for.events,
                             asked_for.seconds, asked_for.is_tracing, sum);
    } else {
        is_good = run_worlds(1, fixed_events, 0, asked_for.is_tracing, sum);
        const char* const chosen = std::getenv("SIMULATION_SEED");
        if (is_good && chosen != nullptr)
            is_good = run_worlds(number_of(chosen), chosen_events, 0, false, sum);
    }
    print(sum);
    return is_good ? 0 : 1;
}
