// Worlds of one to three engines, each drawn from a seed, in which every feature is combined with
// any other: leases, guards, filters, budgets, bounds, letters, sequences, units of work, models in
// memory, slices, numbers like 0 and never. Every call may fail, wait, lose its answer, answer
// nonsense or throw; commands come at any time, also from inside callbacks; the power fails. Then a
// calm, in which everything has to get done.
//
// tests/simulation has fewer combinations, and more hosts, whose clocks drift and whose requests
// arrive late; here a world is small, and so there are many.
//
//     combinations [--seed N] [--worlds M] [--trace]
//
// Without arguments: worlds of fixed seeds, and some of seeds that the variable SIMULATION_SEED (a
// commit, say) chooses. With --seed alone: that world. A failure prints one line that replays it;
// --trace shows every call.

#include "operator.hpp"

#include <csignal>
#include <cstdlib>

namespace {

using namespace combinations;

struct request {
    uint64_t seed = 1;
    uint64_t worlds = 0;
    bool has_seed = false;
    bool is_tracing = false;
};

constexpr uint64_t fixed_worlds = 2500;
constexpr uint64_t chosen_worlds = 1000;

bool read_arguments(int count, char** arguments, request& out) {
    for (int i = 1; i < count; ++i) {
        const std::string name = arguments[i];
        if (name == "--trace") {
            out.is_tracing = true;
            continue;
        }
        uint64_t number = 0;
        if (i + 1 >= count || !simulation::read_number(arguments[++i], number)) return false;
        if (name == "--seed") {
            out.has_seed = true;
            out.seed = number;
        } else if (name == "--worlds") out.worlds = number;
        else return false;
    }
    return true;
}

/// The engines of one world.
class town {
public:
    explicit town(world& w) : in_(w) {
        const pj::partition all{0, 1};
        switch (w.with.kind) {
        case world_kind::worker:
            add("p", all, role::worker);
            if (w.with.is_doubled) add("p", all, role::worker);
            break;
        case world_kind::sink:
        case world_kind::queue:
            add("p", all, role::sink);
            if (w.with.is_doubled) add("p", all, role::sink);
            break;
        case world_kind::replay:
            add("p", all, role::worker);
            add("p", all, role::replay);
            break;
        case world_kind::partitions:
        case world_kind::partitioned_replay:
            add("p_p0", {0, 2}, role::partition);
            add("p_p1", {1, 2}, role::partition);
            if (w.with.has_replay()) add("p_p0", all, role::replay);
            break;
        }
    }
    void run() {
        if (in_.with.is_successor) {
            in_.append(8);
            in_.named.insert(host::successor_from);
            in_.settle_holes_through(host::successor_from);
        }
        in_.append(in_.with.first_events);
        in_.append(in_.random.below(6));
        for (const auto& h : hosts_) h->start();
        storm();
        calm();
    }

private:
    void add(const char* key, pj::partition part, role is) {
        const int number = static_cast<int>(hosts_.size()) + 1;
        hosts_.emplace_back(new operated_host(in_, key, part, number, is));
    }
    bool goes_on() const { return in_.why.empty(); }

    void storm() {
        const uint32_t steps = 30 + in_.random.below(200);
        for (uint32_t i = 0; i < steps && goes_on(); ++i) {
            uint32_t wait_ms = pj::never;
            for (const auto& h : hosts_) {
                if (in_.random.happens(in_.with.faults.command)) h->command();
                if (in_.random.one_in(12)) h->revive();
                if (!in_.random.one_in(3)) h->receive();
                uint32_t most_ms = h->tick().wait_ms;
                if (h->promised_ms() > 1 && in_.random.one_in(3) && h->is_running())
                    most_ms = tick_early(*h);
                wait_ms = std::min(wait_ms, most_ms);
            }
            in_.now_ms += in_.random.one_in(2) ? in_.random.below(300) : std::min(wait_ms, 1000u);
        }
    }
    /// Before its wait is over: nothing may be due yet.
    uint32_t tick_early(operated_host& h) {
        const uint32_t promised = h.promised_ms() == pj::never ? 5000 : h.promised_ms() - 1;
        const uint32_t early = std::min(promised, 20000u);
        in_.now_ms += in_.random.one_in(2) ? early : in_.random.below(early);
        return h.tick().wait_ms;
    }
    void calm() {
        constexpr uint32_t steps_max = 12000;
        in_.is_calm = true;
        in_.append(2);
        in_.show_late_ones();
        in_.say("CALM");
        for (uint32_t i = 0; i < steps_max && goes_on(); ++i) {
            uint32_t wait_ms = pj::never;
            for (const auto& h : hosts_) {
                if (i % 8 == 0 || !h->is_running()) h->revive();
                if (i % 50 == 49) h->release_one();
                h->receive();
                wait_ms = std::min(wait_ms, h->tick().wait_ms);
            }
            if (is_done()) return demand_all();
            // 0 may be that of a run that has ended, while another engine waits for something.
            in_.now_ms += wait_ms == 0 ? 1 : std::min(wait_ms, 1000u);
        }
        for (const auto& h : hosts_)
            if (goes_on() && !h->is_done()) h->tell();
    }
    /// Of two workers of one name one is enough: what it owes the store is its own to know.
    bool is_done() const {
        const auto is = [](const std::unique_ptr<operated_host>& h) { return h->is_done(); };
        return in_.with.is_doubled ? std::any_of(hosts_.begin(), hosts_.end(), is)
                                   : std::all_of(hosts_.begin(), hosts_.end(), is);
    }
    void demand_all() {
        for (const auto& h : hosts_)
            in_.demand_done("G1", h->name(), in_.newest(), in_.records[h->name()].replayed_through);
    }

    world& in_;
    std::vector<std::unique_ptr<operated_host>> hosts_;
};

uint64_t seed_now = 0;

/// What ends the program is replayed like anything else.
void tell_seed(int signal) {
    std::printf("FAILED: signal %d\ncombinations --seed %llu\n", signal,
                static_cast<unsigned long long>(seed_now));
    std::fflush(stdout);
    std::_Exit(3);
}

void run_world(uint64_t seed, bool is_tracing, statistics& sum) {
    seed_now = seed;
    chance random(seed * 0x2545F4914F6CDD1Du + 1);
    const setting s = draw_setting(random);
    world w(s, random, sum);
    w.is_tracing = is_tracing;
    w.say("%s, policy: %s\n%s\n%s", name_of(s.kind), name_of(s.policy), features_of(s).c_str(),
          numbers_of(s).c_str());
    town(w).run();
    ++sum.worlds;
    if (w.why.empty()) return;
    constexpr uint64_t shown_max = 20;
    if (++sum.failed > shown_max) return;
    std::printf("FAILED: %s\ncombinations --seed %llu\n", w.why.c_str(),
                static_cast<unsigned long long>(seed));
}

void run_worlds(uint64_t seed, uint64_t worlds, bool is_tracing, statistics& sum) {
    for (uint64_t i = 0; i < worlds; ++i) run_world(seed + i, is_tracing, sum);
}

void print(const statistics& s) {
    const auto n = [](uint64_t number) { return static_cast<unsigned long long>(number); };
    std::printf("worlds %llu, failed %llu, ticks %llu, messages %llu, handler calls %llu, "
                "port calls %llu\n",
                n(s.worlds), n(s.failed), n(s.ticks), n(s.messages), n(s.handler_calls),
                n(s.port_calls));
    std::printf("faults %llu, crashes %llu, commands %llu, requests from callbacks %llu, commits "
                "%llu, letters %llu, redeliveries %llu, rebuilds %llu\n",
                n(s.faults), n(s.crashes), n(s.commands), n(s.requests_inside), n(s.commits),
                n(s.letters), n(s.redeliveries), n(s.rebuilds));
}

} // namespace

int main(int count, char** arguments) {
    request asked_for;
    if (!read_arguments(count, arguments, asked_for)) {
        std::printf("combinations [--seed N] [--worlds M] [--trace]\n");
        return 2;
    }
    for (const int s : {SIGABRT, SIGSEGV, SIGFPE}) static_cast<void>(std::signal(s, tell_seed));
    statistics sum;
    const bool is_default = !asked_for.has_seed && asked_for.worlds == 0;
    const uint64_t worlds = asked_for.worlds != 0 ? asked_for.worlds
                          : asked_for.has_seed    ? 1 : fixed_worlds;
    run_worlds(asked_for.seed, worlds, asked_for.is_tracing, sum);
    const char* const chosen = std::getenv("SIMULATION_SEED");
    if (is_default && chosen != nullptr)
        run_worlds(simulation::number_of(chosen), chosen_worlds, false, sum);
    print(sum);
    return sum.failed == 0 ? 0 : 1;
}
