#!/usr/bin/env python3
"""The header leaves no macro behind but those it means to, bears those of others, and includes two C headers."""

import re

from toolbox import HEADER, HYGIENE, ROOT, Tally, compilers, run, scratch

MEANT = {
    "PROJECTIONS_HPP",
    "PROJECTIONS_VERSION_MAJOR",
    "PROJECTIONS_VERSION_MINOR",
    "PROJECTIONS_VERSION_PATCH",
    "PROJECTIONS_ASSERT",
    "PROJECTIONS_EXCEPTIONS",
}
INCLUDES = ["stddef.h", "stdint.h"]
MODES = [[], ["-fno-exceptions", "-fno-rtti", "-ffreestanding"], ["-DPROJECTIONS_SEPARATE"]]


def macros(path, switches, text):
    """{name: definition} after preprocessing the text."""
    with scratch() as folder:
        source = f"{folder}/source.cpp"
        with open(source, "w", encoding="utf-8") as out:
            out.write(text)
        code, output = run([path, "-std=c++17", *switches, "-I", ROOT, "-dM", "-E", source])
    if code != 0:
        raise SystemExit(output)
    defined = (line.split(" ", 2)[1:] for line in output.splitlines())
    return {words[0]: words[1:] for words in defined}


def main():
    tally = Tally()
    before = "".join(f"#include <{name}>\n" for name in INCLUDES)
    for family, path in compilers().items():
        for switches in MODES:
            what = f"{family} {' '.join(switches)}".strip()
            old = macros(path, switches, before)
            new = macros(path, switches, before + '#include "projections.hpp"\n')
            leaked = {name.split("(")[0] for name in new.keys() - old.keys()}
            tally.check(leaked <= MEANT, f"{what}: macros left behind", sorted(leaked - MEANT))
            changed = [name for name in old if new.get(name) != old[name]]
            tally.check(not changed, f"{what}: macros changed or removed", changed)
        with scratch() as folder:
            program = f"{folder}/hostile"
            code, output = run([path, "-std=c++17", "-I", ROOT, HYGIENE / "hostile_macros.cpp", "-o", program])
            tally.check(code == 0, f"{family}: it compiles behind the macros of other headers", output)
            tally.check(code == 0 and run([program])[0] == 0, f"{family}: and works there")

    text = HEADER.read_text(encoding="utf-8")
    included = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)', text, re.MULTILINE)
    tally.check(included == INCLUDES, f"projections.hpp includes exactly {INCLUDES}", included)
    for name in ("PROJECTIONS_ASSERT", "PROJECTIONS_EXCEPTIONS", "PROJECTIONS_SEPARATE", "PROJECTIONS_IMPLEMENTATION"):
        tally.check(re.search(rf"^//.*\b{name}\b", text, re.MULTILINE), f"the header documents {name}")
    tally.exit()


if __name__ == "__main__":
    main()
