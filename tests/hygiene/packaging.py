#!/usr/bin/env python3
"""The three ways to use the project from outside: copied, as a meson subproject, installed.

As a subproject it must want nothing but a compiler, and bring neither tests nor examples.
"""

import json
import os
import pathlib
import shutil
import sys

from toolbox import HEADER, ROOT, SKIPPED, Tally, compilers, run, scratch

CONSUMER = """project('consumer', 'cpp', default_options: ['cpp_std=c++17', 'warning_level=3', 'werror=true'])
test('consumer', executable('consumer', 'consumer.cpp', dependencies: dependency('projections')))
"""
WRAP = "[wrap-file]\ndirectory = projections\n[provide]\ndependency_names = projections\n"
PROGRAM = """#include <projections.hpp>
int main() { return projections::to_string(projections::status::ok)[0] == 'o' ? 0 : 1; }
"""


def as_subproject(tally, meson, folder):
    source = folder / "consumer"
    copy = source / "subprojects" / "projections"
    copy.mkdir(parents=True)
    # Not even the files that only tests and examples need.
    for name in ("projections.hpp", "meson.build"):
        shutil.copy(ROOT / name, copy)
    (source / "meson.build").write_text(CONSUMER, encoding="utf-8")
    (source / "consumer.cpp").write_text(PROGRAM, encoding="utf-8")
    (source / "subprojects" / "projections.wrap").write_text(WRAP, encoding="utf-8")

    build = folder / "build"
    code, output = run([meson, "setup", build, source])
    if not tally.check(code == 0, "a subproject configures", output):
        return
    for word in ("doctest", "threads", "python3"):
        tally.check(word not in output.lower(), f"as a subproject it does not look for {word}", output)
    tests = json.loads((build / "meson-info" / "intro-tests.json").read_text(encoding="utf-8"))
    tally.check([test["name"] for test in tests] == ["consumer"], "a subproject brings no tests", tests)
    code, output = run([meson, "test", "-C", build])
    tally.check(code == 0, "a program with the subproject compiles and runs", output)

    code, output = run([meson, "install", "-C", build, "--destdir", folder / "root"])
    tally.check(code == 0, "it installs", output)


def installed(tally, folder):
    root = folder / "root"
    headers = list(root.rglob("projections.hpp"))
    packages = list(root.rglob("projections.pc"))
    tally.check(len(headers) == 1, "one header is installed", headers)
    tally.check(headers and headers[0].read_bytes() == HEADER.read_bytes(), "the installed header is this one")
    if not tally.check(len(packages) == 1, "one pkg-config file is installed", packages):
        return
    pkg_config = shutil.which("pkg-config")
    if not pkg_config:
        print("note: pkg-config is not installed: its answer is left out")
        return
    os.environ["PKG_CONFIG_PATH"] = str(packages[0].parent)
    os.environ["PKG_CONFIG_SYSROOT_DIR"] = str(root)
    code, flags = run([pkg_config, "--cflags", "projections"])
    tally.check(code == 0, "pkg-config knows it", flags)
    compiles(tally, folder, "with pkg-config", flags.split())


def compiles(tally, folder, how, flags):
    source = folder / "program.cpp"
    source.write_text(PROGRAM, encoding="utf-8")
    for family, path in compilers().items():
        code, output = run([path, "-std=c++17", *flags, source, "-o", folder / "program"])
        tally.check(code == 0 and run([folder / "program"])[0] == 0, f"a program compiles {how}, {family}", output)


def main():
    meson = shutil.which("meson")
    if not meson:
        print("meson is not in PATH")
        sys.exit(SKIPPED)
    tally = Tally()
    with scratch() as name:
        folder = pathlib.Path(name)
        compiles(tally, folder, "beside a copy", ["-I", str(ROOT)])
        as_subproject(tally, meson, folder)
        installed(tally, folder)
    tally.exit()


if __name__ == "__main__":
    main()
