// Runs the suites that the build names: SUITES is a list of SUITE_OF(name).
#include "check.hpp"

#define SUITE_OF(name) extern const targets::suite suite_##name;
SUITES
#undef SUITE_OF

int tests_main();

namespace {

unsigned checks, failures;
const targets::test_case* running;

void write_number(unsigned long value) {
    char digits[12];
    char* at = digits + sizeof digits;
    *--at = '\0';
    do {
        *--at = static_cast<char>('0' + value % 10);
        value /= 10;
    } while (value != 0);
    board::write(at);
}

void write_failure(const char* suite, const char* what, unsigned line) {
    board::write("FAILED ");
    board::write(suite);
    board::write(": ");
    board::write(running->name);
    board::write(": ");
    board::write(what);
    if (line != 0) write_number(line);
    board::write("\n");
}
const char* running_suite;

} // namespace

bool targets::check(bool is_true, unsigned line) {
    ++checks;
    if (!is_true) {
        ++failures;
        write_failure(running_suite, "line ", line);
    }
    return is_true;
}

int tests_main() {
#define SUITE_OF(name) &suite_##name,
    static const targets::suite* const suites[] = {SUITES nullptr};
#undef SUITE_OF
    unsigned ran = 0, failed = 0;
    unsigned long checked = 0;
    for (const targets::suite* const* at = suites; *at != nullptr; ++at) {
        running_suite = (*at)->name;
        for (unsigned i = 0; i < (*at)->count; ++i) {
            running = &(*at)->cases[i];
            checks = failures = 0;
            running->run();
            if (checks == 0) {
                ++failures;
                write_failure(running_suite, "checks nothing", 0);
            }
            ++ran;
            checked += checks;
            if (failures != 0) ++failed;
        }
    }
    write_number(ran);
    board::write(" cases, ");
    write_number(checked);
    board::write(" checks, ");
    write_number(failed);
    board::write(" cases failed, stack ");
    write_number(static_cast<unsigned long>(board::stack_used()));
    board::write(" B\n");
    return ran == 0 ? board::nothing_ran : failed != 0 ? board::failed : board::passed;
}
