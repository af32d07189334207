#!/usr/bin/env python3
"""What README.md and the header's banner show is compiled, and is what the tree holds.

A ```cpp block with an #include is a file of its own. Any other is a fragment: it is compiled after
readme_preamble.hpp, at the top of a file or, if it is statements, in a function.
"""

import re

from toolbox import HEADER, HYGIENE, ROOT, Tally, compilers, in_parallel, read_once, run, scratch

README = ROOT / "README.md"
PREAMBLE = HYGIENE / "readme_preamble.hpp"
OPTIONS = ["-std=c++17", "-Wall", "-Wextra", "-I", ROOT]
QUICKSTART = ROOT / "examples" / "01_quickstart.cpp"


def blocks(language):
    """[(line number, text)] of the README's fenced blocks in that language."""
    text = README.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start()].count("\n") + 1, match[1]) for match in found]


def banner_examples():
    """[(line number, text)] of the examples in the header's leading comment.

    An example follows a line that ends in `Example:`, indented by four more blanks, up to the first line that is not.
    """
    examples = []
    current = None
    for number, line in enumerate(HEADER.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("//"):
            break
        if current is not None and (line.startswith("//     ") or line == "//"):
            current.append(line[7:])
        elif line.rstrip().lower().endswith("example:"):
            current = []
            examples.append((number, current))
        else:
            current = None
    return [(number, "\n".join(lines).strip("\n") + "\n") for number, lines in examples]


def forms(text, preamble):
    """[(options, code)]: the ways in which a piece of code may be meant."""
    if "#include" in text:
        return [([], text)]
    return [(preamble, text), (preamble, "void shown();\nvoid shown() {\n" + text + "}\n")]


def compiled(job):
    """(does some form of it compile, all that the compiler said)"""
    path, preamble, text = job
    outputs = []
    for options, form in forms(text, preamble):
        with scratch() as folder:
            source = f"{folder}/shown.cpp"
            with open(source, "w", encoding="utf-8") as out:
                out.write(form)
            code, output = run([path, *OPTIONS, *options, "-fsyntax-only", source])
        if code == 0:
            return True, output
        outputs.append(output)
    return False, "\n".join(outputs)


def main():
    tally = Tally()
    jobs = [(f"README.md:{line}", text) for line, text in blocks("cpp")]
    tally.check(jobs, "README.md shows at least one ```cpp block")
    banner = banner_examples()
    tally.check(banner, "the banner of projections.hpp holds an example, after a line that ends in `Example:`")
    jobs += [(f"projections.hpp:{line}", text) for line, text in banner]
    for family, path in compilers().items():
        with scratch() as folder:
            preamble = read_once(family, path, OPTIONS, PREAMBLE, folder)
            results = in_parallel(compiled, [(path, preamble, text) for _, text in jobs])
        for (where, _), (held, output) in zip(jobs, results):
            tally.check(held, f"{where} compiles with {family}", output)

    quickstart = QUICKSTART.read_text(encoding="utf-8")
    shown = [text for _, text in blocks("cpp")]
    tally.check(quickstart in shown, "README.md shows examples/01_quickstart.cpp, byte for byte")

    commands = [text for _, text in blocks("sh")]
    if tally.check(len(commands) >= 2, "README.md begins with two ```sh blocks: run, test"):
        for command, what in zip(commands, ("run", "test")):
            tally.check(command.count("\n") == 1, f"the README's {what} command is one line", command)
        tally.check("01_quickstart" in commands[0], "the README's run command runs the quickstart", commands[0])
        tally.check("meson test" in commands[1], "the README's test command tests", commands[1])
    tally.exit()


if __name__ == "__main__":
    main()
