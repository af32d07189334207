// The table of scenarios: the product of what makes sense. A line that replays a run names its
// scenario by the number in this table, and so is good for this commit only.
#include "proof/trial.hpp"

namespace proof {

namespace {

constexpr rule every_rule[] = {rule::skip, rule::halts, rule::halts_at_once, rule::retry_skip,
                               rule::letter, rule::retry_letter, rule::custom};
bool gives_letters(rule r) {
    return r == rule::letter || r == rule::retry_letter || r == rule::custom;
}

class table {
public:
    std::vector<scenario> rows;

    table() {
        for (const bool unit : {false, true}) {
            workers(unit);
            gaps(unit);
            crash_guards(unit);
            leases(unit);
            partitions(unit);
            sinks(unit);
            rebuilds(unit);
        }
        in_memory();
        successors();
        partial_stores();
    }

private:
    /// What no guarantee depends on takes turns.
    void add(scenario s) {
        const size_t n = rows.size();
        s.has_bounds = n % 2 == 0 && s.messages == offsets::some;   // numbers are no positions
        s.shows_slices = n % 3 == 0;
        if (s.gaps == holes::none) s.is_sparse = n % 5 < 2;
        s.save_every = n % 4 == 1 ? 1 : n % 4 == 3 ? 100 : 4;
        s.batch = n % 7 == 3 ? 1 : n % 7 == 5 ? 100 : 5;
        s.unknown_fails = n % 3 == 1;
        s.saves_when_idle = n % 5 != 4;
        rows.push_back(s);
    }
    void add_with_boxes(scenario s) {
        if (!gives_letters(s.policy)) return add(s);
        s.letters = box::outside;
        add(s);
        if (!s.has_unit) return;
        s.letters = box::inside;
        add(s);
    }
    void workers(bool unit) {
        for (const rule r : every_rule) {
            for (const char* events : {"AXBPUFTGWA", "ADHBWWA"}) {
                scenario s;
                s.events = events;
                s.policy = r;
                s.has_unit = unit;
                add_with_boxes(s);
            }
        }
        for (const rule r : every_rule) {
            scenario s;
            s.events = "AAACATA";
            s.policy = r;
            s.has_unit = true;
            if (unit) add_with_boxes(s);
        }
        scenario s;
        s.events = "AAPBATA";
        s.policy = rule::retry_letter;
        s.letters = box::outside;
        s.has_unit = unit;
        s.tick_ms_max = 3;
        add(s);
    }
    void gaps(bool unit) {
        for (const holes g : {holes::dead, holes::timeout, holes::late}) {
            for (const rule r : {rule::skip, rule::halts, rule::retry_letter}) {
                scenario s;
                s.events = g == holes::late ? "~AAB~~PBTA" : "_AAB__PB_TA";
                s.policy = r;
                s.has_unit = unit;
                s.gaps = g;
                s.letters = r != rule::retry_letter ? box::none : unit ? box::inside : box::outside;
                add(s);
            }
        }
    }
    void crash_guards(bool unit) {
        for (const rule r : {rule::retry_skip, rule::halts, rule::letter}) {
            scenario s;
            s.policy = r;
            s.has_unit = unit;
            s.letters = r != rule::letter ? box::none : unit ? box::inside : box::outside;
            s.events = "ABPAWA";
            s.crashes_max = 4;
            add(s);
            s.events = "ABKAA";
            s.crashes_max = 2;
            add(s);
        }
    }
    void leases(bool unit) {
        for (const rule r : {rule::skip, rule::halts, rule::retry_letter}) {
            for (const bool standby : {false, true}) {
                scenario s;
                s.events = "ABPTAWBA";
                s.policy = r;
                s.has_unit = unit;
                s.has_lease = true;
                s.has_standby = standby;
                s.letters = r != rule::retry_letter ? box::none : unit ? box::inside : box::outside;
                add(s);
            }
        }
    }
    void partitions(bool unit) {
        for (const rule r : {rule::skip, rule::halts, rule::retry_letter}) {
            for (const bool lease : {false, true}) {
                scenario s;
                s.kind = runs::partitions;
                s.events = "ABPTAXA";
                s.policy = r;
                s.has_unit = unit;
                s.has_lease = lease;
                s.letters = r != rule::retry_letter ? box::none : unit ? box::inside : box::outside;
                add(s);
            }
        }
    }
    void sinks(bool unit) {
        for (const offsets o : {offsets::some, offsets::none, offsets::counted}) {
            for (const rule r : {rule::skip, rule::halts, rule::letter, rule::retry_letter}) {
                scenario s;
                s.kind = runs::sink;
                s.messages = o;
                s.events = o == offsets::some ? "AXPUFTWBA" : "AXPTWB";
                s.policy = r;
                s.has_unit = unit;
                if (r == rule::retry_letter) s.letters = unit ? box::inside : box::outside;
                add(s);
            }
        }
        scenario s;
        s.kind = runs::sink;
        s.events = "ABPTA";
        s.has_unit = unit;
        s.has_lease = true;
        add(s);
    }
    void rebuilds(bool unit) {
        for (const rule r : {rule::skip, rule::halts, rule::retry_letter}) {
            for (const runs kind : {runs::replay, runs::partitions_replay}) {
                scenario s;
                s.kind = kind;
                s.events = "ABXPTABA";
                s.policy = r;
                s.has_unit = unit;
                s.letters = r != rule::retry_letter ? box::none : unit ? box::inside : box::outside;
                add(s);
            }
        }
        scenario s;
        s.kind = runs::replay;
        s.events = "ABPABA";
        s.has_unit = unit;
        s.has_lease = true;
        add(s);
    }
    void partial_stores() {
        for (const bool unit : {false, true}) {
            scenario s;
            s.kind = runs::replay;
            s.events = "ABAABA";
            s.has_unit = unit;
            s.keeps_positions_only = true;
            add(s);
        }
    }
    void in_memory() {
        for (const rule r : {rule::skip, rule::halts, rule::retry_skip, rule::retry_letter}) {
            scenario s;
            s.kind = runs::in_memory;
            s.events = "ABPUTWXA";
            s.policy = r;
            s.letters = r != rule::retry_letter ? box::none : box::outside;
            add(s);
        }
    }
    /// A projection that takes the place of another: up to there its live_only handlers are silent.
    void successors() {
        for (const bool unit : {false, true}) {
            scenario s;
            s.events = "ABPATABA";
            s.has_unit = unit;
            s.replayed_through = 3;
            add(s);
        }
    }
};

} // namespace

const std::vector<scenario>& all_scenarios() {
    static const table all;
    return all.rows;
}

std::string to_string(const scenario& s) {
    constexpr const char* engines[] = {"worker", "partitions", "sink", "replay",
                                     "replay of partitions", "volatile model"};
    constexpr const char* rules[] = {"skip", "retry(1)", "halt", "retry_then_skip(2)",
                                     "dead_letter", "retry_then_dead_letter(1)", "custom"};
    constexpr const char* boxes[] = {"", ", letters in the unit", ", letters"};
    constexpr const char* gaps[] = {"", ", dead holes", ", holes with a timeout", ", late events"};
    constexpr const char* messages[] = {"", ", no offsets", ", counted"};
    std::string all = std::string(engines[static_cast<size_t>(s.kind)]) + " of " + s.events + ", " +
                      rules[static_cast<size_t>(s.policy)] + (s.has_unit ? ", unit of work" : "") +
                      boxes[static_cast<size_t>(s.letters)] + gaps[static_cast<size_t>(s.gaps)] +
                      messages[static_cast<size_t>(s.messages)] + (s.has_lease ? ", lease" : "") +
                      (s.has_standby ? ", standby" : "") +
                      (s.crashes_max != 0 ? ", crash guard" : "") +
                      (s.is_sparse ? ", sparse" : "") + (s.has_bounds ? ", bounds" : "") +
                      (s.shows_slices ? ", slices" : "") +
                      (s.unknown_fails ? ", unknown types fail" : "") +
                      (s.keeps_positions_only ? ", positions only" : "");
    return all + ", batch " + std::to_string(s.batch) + ", save every " +
           std::to_string(s.save_every);
}

} // namespace proof
