#!/usr/bin/env python3
"""1,024 event types in one registry, whose names differ in a few characters in the middle, are within what compilers
are willing to evaluate by default. (That all of them are found is tested with 300, in tests/routing/tables.cpp.)"""

from toolbox import ROOT, Tally, compilers, in_parallel, run, scratch, spelled

COUNT = 1024
NAMES = {
    "digits": lambda i: f"com.example.warehouse.event{i * 7:04}.integration.v1",
    "words": lambda i: f"com.example.warehouse.{noun(i % 32)}.{noun(i // 32)}ed.integration.v1",
    "short": lambda i: f"{noun(i // 32)}{noun(i % 32)}",
}


def noun(i):
    return "bcdfghkl"[i % 8] + "aeio"[i // 8] + "mnprstvz"[i * 5 % 8] + "er" * (i % 3)


def program(name):
    types = "\n".join(f'struct event_{i} {{ static constexpr pj::event_type type{{"{name(i)}", pj::raw}}; int x; }};'
                      for i in range(COUNT))
    listed = ",\n".join(f"event_{i}" for i in range(COUNT))
    return f"""#include "projections.hpp"
namespace pj = projections;
{types}
struct counter {{
    using handles = pj::events<{listed}>;
    template<class E> void on(const E&) {{}}
}};
counter one;
pj::registry handlers{{one}};
pj::routes all{{handlers}};
"""


def main():
    tally = Tally()
    jobs = []
    with scratch() as folder:
        for style, name in NAMES.items():
            source = f"{folder}/{style}.cpp"
            with open(source, "w", encoding="utf-8") as out:
                out.write(program(name))
            for path in compilers().values():
                jobs.append([path, "-std=c++17", "-I", ROOT, "-fsyntax-only", source])
        for command, (code, output) in zip(jobs, in_parallel(run, jobs)):
            tally.check(code == 0, spelled(command), output[:4000])
    tally.exit()


if __name__ == "__main__":
    main()
