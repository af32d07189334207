#!/usr/bin/env python3
"""Every mistake in compile_fail/ must be refused by both compilers with a message a person can act on.

The first line of a case, `// expect: REGEX`, says which. It must stand in the first error or in a static
assertion, not below a page of notes. With -DCORRECT the same file must compile: then it was the mistake
that was refused, not something beside it.

    compile_fail.py [NAME...]       all cases, or those named; with names, shows the diagnostics
"""

import re
import sys

from toolbox import HEADER, HYGIENE, ROOT, Tally, compilers, in_parallel, read_once, run, scratch

CASES = HYGIENE / "compile_fail"
ERROR = re.compile(r"error: (.*)")
ASSERTION = re.compile(r"static.assert(ion)? failed")


def main():
    wanted = sys.argv[1:]
    cases = sorted(path for path in CASES.glob("*.cpp") if not wanted or path.stem in wanted)
    tally = Tally()
    found = compilers()
    options = ["-std=c++17", "-I", ROOT]
    with scratch() as folder:
        begin = {family: read_once(family, path, options, HEADER, folder) for family, path in found.items()}
        jobs = [
            (family, case, mode, [path, *options, *begin[family], "-fsyntax-only", *mode, case])
            for case in cases
            for family, path in found.items()
            for mode in ([], ["-DCORRECT"])
        ]
        results = in_parallel(lambda job: run(job[3]), jobs)
    for (family, case, mode, _), (code, output) in zip(jobs, results):
        if mode:
            tally.check(code == 0, f"{case.name}, {family}: the correct form compiles", output)
            continue
        first = case.read_text(encoding="utf-8").splitlines()[0]
        expected = re.fullmatch(r"// expect: (.+)", first)
        if not tally.check(expected, f"{case.name}: its first line is `// expect: REGEX`", first):
            continue
        errors = ERROR.findall(output)
        candidates = errors[:1] + [line for line in errors if ASSERTION.search(line)]
        held = code != 0 and any(re.search(expected[1], line) for line in candidates)
        tally.check(held, f"{case.name}, {family}: refused with `{expected[1]}`", output or "it compiled")
        if wanted:
            print(output)
    tally.exit()


if __name__ == "__main__":
    main()
