// main() of the mutated suites. The mutant that is switched on comes by the environment (mutants.py),
// and so does the name of a file to write down which mutants each test case reaches.
#include "projections.hpp"      // the mutated one, which run writes

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

namespace pm = projections_mutation;

/// A line for each test case: seconds, name, numbers; between them tabs.
struct record : doctest::IReporter {
    std::FILE* file = nullptr;
    const char* name = "";

    explicit record(const doctest::ContextOptions&) {
        const char* const path = std::getenv("PROJECTIONS_REACHED");
        if (path != nullptr) file = std::fopen(path, "w");
    }
    ~record() override {
        if (file != nullptr) std::fclose(file);
    }
    void write(double seconds) {
        if (file == nullptr) return;
        std::fprintf(file, "%f\t%s\t", seconds, name);
        for (unsigned i = 0; i < pm::mutants_max; ++i) {
            if (pm::reached[i] != 0) std::fprintf(file, "%u ", i);
        }
        std::fputc('\n', file);
        std::memset(pm::reached, 0, sizeof pm::reached);
    }
    void test_run_start() override { write(0); }        // what came before main()
    void test_case_start(const doctest::TestCaseData& in) override { name = in.m_name; }
    void test_case_end(const doctest::CurrentTestCaseStats& in) override { write(in.seconds); }

    void report_query(const doctest::QueryData&) override {}
    void test_run_end(const doctest::TestRunStats&) override {}
    void test_case_reenter(const doctest::TestCaseData&) override {}
    void test_case_exception(const doctest::TestCaseException&) override {}
    void subcase_start(const doctest::SubcaseSignature&) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData&) override {}
    void log_message(const doctest::MessageData&) override {}
    void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("reached", 1, record);

} // namespace

int main(int argc, char** argv) {
    return doctest::Context(argc, argv).run();
}
