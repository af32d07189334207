#!/usr/bin/env python3
"""The tree keeps its own rules: what lies at the top, how the header is laid out, that no test is forgotten."""

import re
import subprocess

from toolbox import HEADER, ROOT, Tally

TOP_LEVEL = {"projections.hpp", "tests", "examples", "meson.build", "README.md", "LICENSE"}
COLUMNS = 100
COMMENT_SHARE = (0.30, 0.45)
FUNCTION_LINES = 70
# Where a machine's own paths begin; an example may say /var, /tmp, /path/to.
MACHINE_PATH = re.compile(r"(?<![\w.$/}~])/(?:home|root|work|Users|mnt)/[\w.]+|[A-Z]:\\Users\\")


def tracked():
    """The files of the repository, those not yet committed included; outside of git, all that is no build folder."""
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        done = None
    if done and done.returncode == 0 and done.stdout:
        names = done.stdout.decode().rstrip("\0").split("\0")
        return [ROOT / name for name in names if (ROOT / name).is_file()]
    files = (path for path in ROOT.rglob("*") if path.is_file())
    return [path for path in files if not path.relative_to(ROOT).parts[0].startswith(("build", ".git"))]


def is_comment(line):
    return line.lstrip().startswith(("//", "/*", "*"))


def check_tree(tally, files):
    tops = {path.relative_to(ROOT).parts[0] for path in files}
    extra = sorted(name for name in tops - TOP_LEVEL if not name.startswith("."))
    tally.check(not extra, "the top level holds only what the owner named", extra)
    missing = sorted(TOP_LEVEL - tops)
    tally.check(not missing, "the top level holds all that the owner named", missing)

    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary
        name = path.relative_to(ROOT)
        if path.name != "repository.py":
            found = MACHINE_PATH.findall(text)
            tally.check(not found, f"{name}: holds no path of somebody's machine", found)
        if path.suffix in (".cpp", ".hpp", ".py", ".build", ".md"):
            trailing = [n for n, line in enumerate(text.splitlines(), 1) if line != line.rstrip()]
            tally.check(not trailing, f"{name}: no blanks at line ends", trailing[:9])
            tally.check("\t" not in text, f"{name}: no tabs")


def check_tests_are_listed(tally):
    lists = (ROOT / "tests" / "meson.build").read_text(encoding="utf-8")
    tests = ROOT / "tests"
    for folder in ("unit", "guarantees", "faults", "proof", "programs", "threads"):
        for path in sorted((tests / folder).glob("*.cpp")):
            name = path.relative_to(tests).as_posix()
            tally.check(f"'{name}'" in lists, f"tests/meson.build lists {name}")
    example_lists = (ROOT / "examples" / "meson.build").read_text(encoding="utf-8")
    for path in sorted((ROOT / "examples").glob("*.cpp")):
        tally.check(f"'{path.name}'" in example_lists, f"examples/meson.build lists {path.name}")


def functions(text):
    """(first line, last line, how it is declared) of every function with a body."""
    apart = r'//.*|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)\'|^[ \t]*#(?:.*\\\n)*.*'
    code = re.sub(apart, lambda found: "\n" * found.group().count("\n"), text, flags=re.MULTILINE)
    opened = []
    declared = ""
    for number, line in enumerate(code.splitlines(), 1):
        for character in line + " ":
            if character == "{":
                opened.append((number, " ".join(declared.split())))
            elif character == "}" and opened:
                first, how = opened.pop()
                if re.search(r"\)[\w\s]*(?::.*)?$", how) and not re.match(r"(?:if|for|while|switch|else|catch)\b", how):
                    yield first, number, how[-60:]
            if character in "{};":
                declared = ""
            else:
                declared += character


def check_header(tally):
    text = HEADER.read_text(encoding="utf-8")
    lines = text.splitlines()
    long = [n for n, line in enumerate(lines, 1) if len(line) > COLUMNS]
    tally.check(not long, f"projections.hpp: no line over {COLUMNS} columns", long[:9])

    # The rooms a user reads; bodies below >>detail say why only where it is not plain.
    rule = max(n for n, line in enumerate(lines) if line.startswith("// ---") and line.endswith(">>detail"))
    written = [line for line in lines[:rule] if line.strip()]
    share = sum(is_comment(line) or "//" in line for line in written) / len(written)
    print(f"projections.hpp: {len(lines)} lines, {share:.0%} of those written are comments")
    least, most = COMMENT_SHARE
    tally.check(least <= share <= most, f"projections.hpp: {least:.0%} to {most:.0%} are comments", f"{share:.1%}")

    for first, last, name in functions(text):
        length = last - first + 1
        tally.check(length <= FUNCTION_LINES, f"projections.hpp:{first}: {name}: {length} lines, fits no screen")

    promised = re.findall(r"^// +>>([\w-]+)", text, re.MULTILINE)
    rooms = re.findall(r"^// -{20,} >>([\w-]+)$", text, re.MULTILINE)
    tally.check(promised and promised == rooms, "projections.hpp: the contents name every room, in order",
                f"contents: {promised}\nrooms:    {rooms}")

    tally.check("std::" not in re.sub(r"//.*", "", text), "projections.hpp: nothing of std:: in its code")


def check_versions(tally):
    text = HEADER.read_text(encoding="utf-8")
    parts = [re.search(rf"^#\s*define PROJECTIONS_VERSION_{part} (\d+)", text, re.MULTILINE)
             for part in ("MAJOR", "MINOR", "PATCH")]
    if not tally.check(all(parts), "projections.hpp defines PROJECTIONS_VERSION_MAJOR, _MINOR and _PATCH"):
        return
    header = ".".join(part[1] for part in parts)
    meson = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text(encoding="utf-8"))[1]
    tally.check(header == meson, "meson.build and projections.hpp agree on the version", f"{meson}, {header}")


def check_enumerators_have_names(tally):
    """Every enumerator of an enum that has a to_string() stands in one: as `case` of a switch, or as a name that
    ends in NUL, in the order of the enumerators."""
    text = re.sub(r"//.*", "", HEADER.read_text(encoding="utf-8"))
    named = re.findall(r"to_string\((?:const )?(\w+)", text)
    tally.check("status" in named, "projections.hpp has to_string(status)")
    for enum in sorted(set(named)):
        body = re.search(rf"enum class (?:\[\[nodiscard\]\] )?{enum}\b[^{{;]*\{{([^}}]*)\}}", text)
        if not tally.check(body, f"projections.hpp defines enum class {enum}"):
            continue
        enumerators = re.findall(r"(?:^|,)\s*(\w+)", body[1])
        body = re.search(rf"to_string\({enum} \w+\) {{\n(.*?)\n}}", text, re.DOTALL)[1]
        listed = re.findall(r"(\w+)\\0", body.replace('"', ""))
        missing = [name for name in enumerators if not re.search(rf"\bcase {enum}::{name}\b", body)]
        missing = [] if listed == enumerators else missing
        tally.check(not missing, f"to_string({enum}) knows every enumerator", missing)


def main():
    tally = Tally()
    check_tree(tally, tracked())
    check_tests_are_listed(tally)
    check_header(tally)
    check_versions(tally)
    check_enumerators_have_names(tally)
    tally.exit()


if __name__ == "__main__":
    main()
