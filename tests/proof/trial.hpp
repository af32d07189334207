// A scenario is data; a trial runs it with given troubles and says what went wrong. The library's
// real code runs, over support/database.hpp; what must come out is folded from the scenario alone.
#ifndef PROJECTIONS_TESTS_PROOF_TRIAL_HPP
#define PROJECTIONS_TESTS_PROOF_TRIAL_HPP

#include "support/database.hpp"

namespace proof {

namespace pj = projections;
using support::callee;
using support::trouble;
using troubles = std::vector<trouble>;

enum class runs : uint8_t { worker, partitions, sink, replay, partitions_replay, in_memory };
/// retry() is `halts`, halt() is `halts_at_once`; the custom one retries twice and gives letters
/// for permanent failures only.
enum class rule : uint8_t {
    skip, halts, halts_at_once, retry_skip, letter, retry_letter, custom
};
enum class box : uint8_t { none, inside, outside };     // of a unit of work
enum class holes : uint8_t { none, dead, timeout, late };
/// A sink's messages: with offsets; without; without, but counted.
enum class offsets : uint8_t { some, none, counted };

struct scenario {
    runs kind = runs::worker;
    /// One letter per event. A: handlers a, b and c (which is live_only). B: a. G: known, nobody's.
    /// U: unknown. X: cannot be decoded. F: filtered. P: b rejects it. T: a fails twice, then not.
    /// H: b fails always. D: a and b reject it. W: b is pending, twice. K: b crashes the machine.
    /// C: a unit of work with it cannot be committed.
    /// _: a position that is never there. ~: one that is seen later than those behind it.
    const char* events = "";
    rule policy = rule::skip;
    bool has_unit = false;
    box letters = box::none;
    holes gaps = holes::none;
    bool has_lease = false, has_standby = false;
    uint16_t crashes_max = 0;           // of a crash_guard; 0: none
    offsets messages = offsets::some;
    bool is_sparse = false, has_bounds = false, shows_slices = false;
    bool unknown_fails = false, saves_when_idle = true, forgets_saves = false;
    bool keeps_positions_only = false;  // the checkpoint store: a rebuild must not begin
    uint32_t batch = 5, save_every = 4, tick_ms_max = 0;
    pj::position replayed_through = pj::before_first;
};
std::string to_string(const scenario& s);
const std::vector<scenario>& all_scenarios();

struct result {
    std::string problem;                // empty: all is as it should be
    std::vector<callee> called;
    std::vector<std::string> trace;
};
/// `is_telling`: the trace has every notice, handler, tick and message, too.
result run(const scenario& s, const troubles& with, bool is_telling = false);

/// Whether such a trouble makes a difference at such a call.
bool applies(trouble::kind what, callee at);

/// "12:45=lost_answer,60=dies_before": the scenario by number, and where what happens.
std::string to_line(size_t scenario, const troubles& with);
bool from_line(const std::string& line, size_t& scenario, troubles& with);

/// Runs it; a problem fails the test case, and the message says how to see it again.
result must_hold(size_t scenario, const troubles& with);

/// Each run of a scenario with one trouble more than `with`, after those, of one of these kinds;
/// of all of them every `stride`-th, from another one for each scenario. How many runs.
using kinds = std::vector<trouble::kind>;
size_t with_one_more(size_t scenario, const troubles& with, const kinds& of, uint32_t stride);
/// The same with two troubles more.
size_t with_two_more(size_t scenario, const kinds& first, const kinds& second, uint32_t stride);
/// Few events, so that there may be pairs of troubles.
bool is_small(size_t scenario);
/// PROOF_STRIDE where it is set and smaller: 1 takes every run there is.
uint32_t stride_of(uint32_t usually);

} // namespace proof

#endif
