// Translation units with different switches in one program must not share the header's functions: the
// linker would keep one copy, and a handler that throws would end the program.
#include "purse.hpp"

#include <stdio.h>
#include <string.h>

static int failures = 0;

static void check(bool held, const char* what) {
    if (held) return;
    ++failures;
    printf("FAILED: %s\n", what);
}

#if defined(__cpp_exceptions)
struct thrower {
    using handles = pj::events<coin>;
    void on(const coin&) { throw 1; }
};

static bool exceptions_are_caught() {
    pj::memory_log<4, 64> log;
    pj::memory_checkpoint_store<1> checkpoints;
    thrower handlers;
    const pj::projection projection{"thrower", log, handlers, checkpoints};
    pj::worker worker{projection};
    const coin thrown{1};
    static_cast<void>(log.append(thrown));
    if (worker.start() != pj::status::ok) return false;
    static_cast<void>(worker.tick(0));
    return worker.checkpointed() == 0 && worker.counts().skipped == 1;
}
#endif

int main() {
    const report others[] = {same_switches(), without_exceptions(), asserting()};
    check(fill_a_purse() == 42, "42 cents here");
    for (const report& other : others) {
        printf("%s\n", other.worker);
        check(other.cents == 42, "42 cents in another translation unit");
    }
    check(strcmp(others[0].worker, worker_name()) == 0, "same switches, same worker");
    check(strcmp(others[2].worker, worker_name()) != 0, "asserts make another worker");
#if defined(__cpp_exceptions)
    check(strcmp(others[1].worker, worker_name()) != 0, "exceptions make another worker");
    check(exceptions_are_caught(), "a throwing handler is a failure of the handler");
#endif
    return failures == 0 ? 0 : 1;
}
