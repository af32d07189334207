#!/usr/bin/env python3
"""Compiles the header alone and a file that uses most of it under every warning the project promises.

    flags.py            all compilers found
"""

from toolbox import HYGIENE, ROOT, Tally, accepts, compilers, in_parallel, run, scratch, spelled, standards

WARNINGS = {
    "g++": [
        "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Warith-conversion",
        "-Wshadow", "-Wcast-align", "-Wcast-qual", "-Wold-style-cast", "-Wuseless-cast", "-Wundef",
        "-Wswitch-enum", "-Wzero-as-null-pointer-constant", "-Weffc++", "-Werror",
    ],
    "clang++": [
        "-Weverything", "-Wno-c++98-compat", "-Wno-c++98-compat-pedantic", "-Wno-padded", "-Werror",
    ],
}
# Younger than the promise, and asks for std::span.
TOLERATED = ["-Wno-unsafe-buffer-usage"]
MODES = {
    "hosted": [],
    "asserting": ["-DPROJECTIONS_ASSERT(condition)=((condition) ? static_cast<void>(0) : __builtin_trap())"],
    "bare": ["-fno-exceptions", "-fno-rtti", "-ffreestanding"],
    "separate": ["-DPROJECTIONS_SEPARATE"],
}
SOURCES = ["alone.cpp", "globals.cpp", "use_all.cpp"]


def main():
    tally = Tally()
    jobs = []
    with scratch() as folder:
        for family, path in compilers().items():
            tolerated = [flag for flag in TOLERATED if family == "clang++" and accepts(path, flag)]
            for standard in standards(family, path):
                for mode, switches in MODES.items():
                    command = [path, f"-std={standard}", *switches, *WARNINGS[family], *tolerated, "-I", ROOT]
                    for source in SOURCES:
                        jobs.append(command + ["-fsyntax-only", HYGIENE / source])
                    # Some of g++'s warnings come from the optimiser.
                    if family == "g++" and standard == "c++17":
                        out = f"{folder}/{mode}.o"
                        jobs.append(command + ["-O2", "-c", HYGIENE / "use_all.cpp", "-o", out])
                    # The bodies by themselves, as each mode has them.
                    out = f"{folder}/{family}-{standard}-{mode}.o"
                    jobs.append(command + ["-O2", "-c", "-DPROJECTIONS_SEPARATE", HYGIENE / "bodies.cpp", "-o", out])
        for command, (code, output) in zip(jobs, in_parallel(run, jobs)):
            tally.check(code == 0 and not output, spelled(command), output)
    tally.exit()


if __name__ == "__main__":
    main()
