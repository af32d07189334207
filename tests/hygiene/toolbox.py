"""What the hygiene scripts share: where things are, which compilers there are, running jobs, counting."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HYGIENE = ROOT / "tests" / "hygiene"
HEADER = ROOT / "projections.hpp"
SKIPPED = 77  # what meson takes for "not run"


def compilers():
    """{"g++": path, "clang++": path} of those installed. .ci/run sets REQUIRE_COMPILERS so that none is missed."""
    found = {}
    for family, names in {"g++": ["g++"], "clang++": ["clang++", "clang++-14"]}.items():
        path = next((p for p in map(shutil.which, names) if p), None)
        if path:
            found[family] = path
        elif family in os.environ.get("REQUIRE_COMPILERS", "").split():
            sys.exit(f"{family} is required here and not installed")
        else:
            print(f"note: {family} is not installed: its half is left out")
    if not found:
        print("neither g++ nor clang++ is installed")
        sys.exit(SKIPPED)
    return found


def standards(family, path):
    """The dialects to try: what this compiler calls C++23 differs by version."""
    newest = "c++23" if accepts(path, "-std=c++23") else "c++2b"
    return ["c++17", "c++20", newest]


def accepts(path, flag):
    command = [path, "-Werror", flag, "-x", "c++", "-fsyntax-only", os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run(command, **more):
    """Runs one command in English, answers (exit status, all output)."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
        check=False,
        **more,
    )
    return done.returncode, done.stdout


def read_once(family, path, options, header, folder):
    """Options that put this header before a file, read once for all that are compiled with the same `options`."""
    made = f"{folder}/{family}.hpp"
    suffix = {"g++": ".gch", "clang++": ".pch"}[family]
    code, output = run([path, *options, "-x", "c++-header", header, "-o", made + suffix])
    if code != 0:
        sys.exit(f"{header} does not compile:\n{output}")
    return ["-include", made] if family == "g++" else ["-include-pch", made + suffix]


def spelled(command):
    """A command as a person would type it at the top of the repository."""
    return " ".join(str(word).replace(str(ROOT) + os.sep, "") for word in command)


def in_parallel(function, jobs):
    """[function(job) for job in jobs], as many at once as there are processors; results keep their order."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, jobs))


def scratch():
    return tempfile.TemporaryDirectory(prefix="projections-hygiene-")


class Tally:
    """Counts checks and says at the end whether all of them held. No check at all is a failure too."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, held, what, details=""):
        if held:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED: {what}")
            if details:
                print("    " + "\n    ".join(str(details).strip().splitlines()[:15]))
        return held

    def exit(self):
        print(f"{self.passed} checks passed, {self.failed} failed")
        sys.exit(0 if self.failed == 0 and self.passed > 0 else 1)
