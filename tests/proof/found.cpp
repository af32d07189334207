// What these runs have found in the header, each in the smallest scenario that shows it.
#include "proof/trial.hpp"

using namespace proof;

namespace {

using kind = trouble::kind;

/// Without trouble, and with this one at every call.
void holds(const scenario& s, kind what = kind::none) {
    const result plain = run(s, {});
    CHECK(plain.problem == "");
    for (uint32_t at = 1; at <= plain.called.size(); ++at) {
        if (!applies(what, plain.called[at - 1])) continue;
        CAPTURE(to_line(0, {{at, what}}));
        CHECK(run(s, {{at, what}}).problem == "");
    }
}

/// With the first at each of its calls, and then with the second.
void holds(const scenario& s, trouble::kind one, callee of, trouble::kind two, callee then) {
    const result plain = run(s, {});
    for (uint32_t at = 1; at <= plain.called.size(); ++at) {
        if (plain.called[at - 1] != of) continue;
        const result first = run(s, {{at, one}});
        for (uint32_t next = at + 1; next <= first.called.size(); ++next) {
            if (first.called[next - 1] != then) continue;
            CAPTURE(to_line(0, {{at, one}, {next, two}}));
            CHECK(run(s, {{at, one}, {next, two}}).problem == "");
        }
    }
}

scenario in_unit(const char* events) {
    scenario s;
    s.events = events;
    s.has_unit = true;
    return s;
}
scenario fed(const char* events, offsets messages) {
    scenario s;
    s.kind = runs::sink;
    s.events = events;
    s.messages = messages;
    return s;
}

} // namespace

TEST_CASE("G9 G15 a filtered or foreign event before a failing one is no loop") {
    holds(in_unit("AFH"));
    scenario s = in_unit("ABPTA");
    s.kind = runs::partitions;
    holds(s);
}

TEST_CASE("G8 G15 a unit that begins before a hole which is settled at once is no loop") {
    scenario s = in_unit("_AA_A");
    s.gaps = holes::dead;
    holds(s);
}

TEST_CASE("G13 G27 after a long tick the wait of a lease counts from its end") {
    scenario s;
    s.events = "AAA";
    s.has_lease = true;
    holds(s, kind::slow);
}

TEST_CASE("G15 when a lease is back after a halt, and the checkpoint cannot be loaded, it waits") {
    scenario s;
    s.events = "APA";
    s.policy = rule::halts;
    s.has_lease = true;
    holds(s, kind::lost_answer, callee::acquire, kind::failed, callee::load);
}

TEST_CASE("G20 the count of partitions is not saved when loading it has taken the lease's time") {
    scenario s;
    s.kind = runs::partitions;
    s.events = "AA";
    s.has_lease = true;
    holds(s, kind::slow);
}

TEST_CASE("G1 a message that was pending or has failed, and cannot be opened then, is not lost") {
    scenario s = fed("WA", offsets::counted);
    s.policy = rule::letter;
    s.letters = box::outside;
    holds(s, kind::failed);
    s.has_unit = true;
    holds(s, kind::failed);
}

TEST_CASE("G15 a message that could not be opened, and can be later, is the same message") {
    scenario s = fed("AA", offsets::counted);
    s.policy = rule::halts;
    holds(s, kind::throws);
    holds(s, kind::failed);
}

TEST_CASE("G12 G18 a commit fails for an event that all handlers have given up: no second letter") {
    scenario s = in_unit("X");
    s.policy = rule::letter;
    s.letters = box::inside;
    holds(s, kind::failed);
}

TEST_CASE("G12 a commit that was pending does not pass or acknowledge a message to be rejected") {
    for (const offsets o : {offsets::some, offsets::none}) {
        scenario s = fed("APA", o);
        s.has_unit = true;
        s.policy = rule::letter;
        holds(s, kind::pending);
    }
}

TEST_CASE("G15 a message to be rejected whose commit was pending is known when it is not opened") {
    scenario s = fed("PA", offsets::counted);
    s.has_unit = true;
    s.policy = rule::letter;
    holds(s, kind::pending, callee::commit, kind::throws, callee::open);
}

TEST_CASE("G1 a message whose save was pending, then failed, is not acknowledged") {
    scenario s = fed("AB", offsets::counted);
    s.has_unit = true;
    holds(s, kind::pending, callee::save, kind::failed, callee::save);
    holds(s, kind::pending, callee::commit, kind::failed, callee::commit);
}

TEST_CASE("G9 G15 a begin or save that fails, and a pending handler, are no attempts of an event") {
    for (const char* events : {"C", "ACA"}) {
        scenario s = in_unit(events);
        s.policy = rule::retry_letter;
        s.letters = box::inside;
        holds(s, kind::failed);
    }
}

TEST_CASE("G12 letters that are owed find their handlers when the message cannot be opened again") {
    for (const offsets o : {offsets::some, offsets::none, offsets::counted}) {
        for (const bool has_unit : {false, true}) {
            for (const box where : {box::outside, box::inside}) {
                scenario s = fed("XPTWB", o);
                s.has_unit = has_unit;
                s.policy = rule::retry_letter;
                s.letters = where;
                holds(s, kind::failed, callee::put, kind::throws, callee::open);
                holds(s, kind::pending, callee::put, kind::throws, callee::open);
            }
        }
    }
}
