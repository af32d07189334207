#!/usr/bin/env python3
"""Runs examples/02_git_history.cpp on repositories that hold every oddity git allows.

    test_git_history.py BINARY [REPO]       exit 0: all well, 1: not; prints what it checked

It makes the repositories itself (python3 and git, nothing else), interrupts the program at many
places, asks --check after each, resumes, and compares --files with what `git diff --numstat` says.
REPO, if given, is one more repository to be read; it is not changed. SEED=number in the
environment gives other random repositories and other moments to interrupt.
"""
import fcntl
import os
import pty
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zlib

BINARY = ""
TEMP = ""
SEED = int(os.environ.get("SEED", "1"))
counts = {"repositories": 0, "runs": 0, "interruptions": 0, "checks": 0, "errors": 0,
          "killed": 0, "rebuilds": 0}

CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
CLEAN.update({
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
    "LC_ALL": "C"})
PEOPLE = {
    "GIT_AUTHOR_NAME": "A U Thor", "GIT_AUTHOR_EMAIL": "author@example.org",
    "GIT_COMMITTER_NAME": "C O Mitter", "GIT_COMMITTER_EMAIL": "committer@example.org",
    "GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}


def need(condition, message):
    if not condition:
        raise AssertionError(message)


def git(repo, *args, data=b"", env=None, ok=True):
    done = subprocess.run(["git", "-C", repo, *args], input=data, capture_output=True,
                          env={**CLEAN, **PEOPLE, **(env or {})}, check=False)
    need(done.returncode == 0 or not ok, f"git {args}: {done.stderr!r}")
    return done.stdout


def new_repo(name, *options):
    path = os.path.join(TEMP, name)
    subprocess.run(["git", "init", "-q", "-b", "main", *options, path], env=CLEAN, check=True)
    counts["repositories"] += 1
    return path


def state(name):
    path = os.path.join(TEMP, "state-" + name)
    shutil.rmtree(path, ignore_errors=True)
    return path


# ------------------------------------------------------------------ running the program

def call(repo, where, *options, env=None):
    counts["runs"] += 1
    return subprocess.run([BINARY, repo, where, *options], capture_output=True, timeout=120,
                          env={**CLEAN, **(env or {})}, check=False)


def run(repo, where, *options, expect=0, env=None):
    done = call(repo, where, *options, env=env)
    need(done.returncode == expect,
         f"{options} on {repo}: exit {done.returncode}, not {expect}\n"
         f"{done.stdout[-2000:].decode(errors='replace')}\n{done.stderr.decode(errors='replace')}")
    need(expect == 2 or done.stderr == b"", f"it complains: {done.stderr!r}")
    return done.stdout


def check(repo, where, env=None):
    counts["checks"] += 1
    said = run(repo, where, "--check", env=env)
    need(said.endswith(b": equal to git\n") and said.count(b"\n") == 1, f"--check says {said!r}")
    return said


def refused(repo, where, *words, env=None, options=()):
    """Exit 2, a message that holds the words, and every file below `where` as it was."""
    counts["errors"] += 1
    before = snapshot(where)
    done = call(repo, where, *options, env=env)
    message = done.stderr.decode(errors="replace")
    need(done.returncode == 2, f"exit {done.returncode}, not 2: {done.stdout!r} {message}")
    need(message.startswith("git_history: "), f"no message: {message!r}")
    for word in words:
        need(word in message, f"'{word}' is not in {message!r}")
    need(snapshot(where) == before, f"files were changed: {message}")


def snapshot(folder):
    files = {}
    for name in ("log", "state"):
        try:
            with open(os.path.join(folder, name), "rb") as f:
                files[name] = f.read()
        except OSError:
            pass
    return files


def expected(repo, commit="HEAD", env=None):
    """What --files must print, from git alone."""
    if commit == "HEAD" and not git(repo, "rev-parse", "-q", "--verify", "HEAD", ok=False):
        return b""
    empty = git(repo, "hash-object", "-t", "tree", "/dev/null").strip().decode()
    out = git(repo, "diff", "--numstat", "-z", "--no-renames", empty, commit, env=env)
    rows = []
    for row in out.split(b"\0")[:-1]:
        added, removed, path = row.split(b"\t", 2)
        need(removed in (b"0", b"-"), f"numstat says {row!r}")
        rows.append((path, added))
    return b"".join(lines + b"\t" + path + b"\0" for path, lines in sorted(rows))


def chain(repo):
    return git(repo, "rev-list", "--first-parent", "--reverse", "HEAD").decode().split()


def count_events(repo):
    out = git(repo, "log", "--first-parent", "--diff-merges=first-parent", "--raw", "-z",
              "--no-renames", "--format=", "HEAD")
    tokens, changes, at = out.split(b"\0"), 0, 0
    while at < len(tokens):
        is_change = tokens[at].lstrip(b"\n").startswith(b":")
        changes += is_change
        at += 1 + is_change                             # its path, whatever that begins with
    return changes + len(chain(repo))


def whole(repo, name, env=None):
    """One uninterrupted run; the read model must be equal to git. Returns it."""
    where = state(name)
    run(repo, where, env=env)
    check(repo, where, env=env)
    files = run(repo, where, "--files", env=env)
    need(files == expected(repo), f"{name}: --files is not what git says")
    return files


def interrupted(repo, name, ns, states=None):
    """Dies after N events for each N, from nothing; is checked, resumed, checked."""
    final = expected(repo)
    known = states if states is not None else {b""} | {expected(repo, c) for c in chain(repo)}
    total = count_events(repo)
    for n in ns:
        where = state(name)
        run(repo, where, "--max-events", str(n), expect=3 if n <= total else 0)
        counts["interruptions"] += n <= total
        check(repo, where)
        need(run(repo, where, "--files") in known, f"{name}: after {n} no commit has these files")
        run(repo, where)
        check(repo, where)
        need(run(repo, where, "--files") == final, f"{name}: resumed after {n}: other files")


def rebuilt(repo, name, ns, env=None):
    """Rebuilds in place, then beside, each interrupted after N events for each N, checked, resumed."""
    final = expected(repo, env=env)
    known = {b""} | {expected(repo, c, env=env) for c in chain(repo)}
    where = state(name)
    run(repo, where, env=env)
    for beside in ((), ("--beside",)):
        for n in ns:
            died = call(repo, where, "--rebuild", *beside, "--max-events", str(n), env=env)
            need(died.returncode in (0, 3), f"{name}: --rebuild ended with {died.returncode}")
            counts["interruptions"] += died.returncode == 3
            check(repo, where, env=env)
            files = run(repo, where, "--files", env=env)
            need(files == final if beside else files in known,
                 f"{name}: rebuilding {beside} died after {n}: other files")
            if n % 2:                   # sometimes nobody asks for a rebuild again
                run(repo, where, env=env)
                need(run(repo, where, "--files", env=env) == final, f"{name}: after {n}: other files")
        run(repo, where, "--rebuild", *beside, env=env)
        check(repo, where, env=env)
        need(run(repo, where, "--files", env=env) == final, f"{name}: rebuilt {beside}: other files")
        counts["rebuilds"] += 1
    need(not os.path.exists(os.path.join(where, "state.next")), "state.next was left behind")


def stuttering(repo, name, rng, step, where=None):
    """Dies again and again on the way through one history."""
    where = where or state(name)
    for _ in range(1000):
        done = call(repo, where, "--max-events", str(rng.randint(1, step)))
        need(done.returncode in (0, 3), f"exit {done.returncode}: {done.stderr!r}")
        check(repo, where)
        if done.returncode == 0:
            break
        counts["interruptions"] += 1
    else:
        need(False, "it does not get on")
    need(run(repo, where, "--files") == expected(repo), f"{name}: other files")


# ------------------------------------------------------------------ making repositories

class Import:
    """A stream for `git fast-import`."""

    def __init__(self, seconds=1600000000, onto=b""):
        self.out, self.mark, self.seconds = [], 0, seconds
        self.onto = onto                                # a commit that the first one continues

    @staticmethod
    def quoted(path):
        return b'"' + b"".join(b"\\%03o" % c if c < 32 or c > 126 or c in b'"\\' else bytes([c])
                               for c in path) + b'"'

    def commit(self, changes, author=b"A <a@x>", branch=b"main", merge=(), start=None, skew=0,
               encoding=None):
        """changes: (path, data), (path, None) removes, (path, data, mode). Returns the mark."""
        self.mark += 1
        self.seconds += 1
        out = self.out
        out.append(b"commit refs/heads/%s\nmark :%d\n" % (branch, self.mark))
        out.append(b"author %s %d +0000\n" % (author, self.seconds))
        out.append(b"committer C <c@x> %d +0000\n" % (self.seconds + skew))
        if encoding:
            out.append(b"encoding %s\n" % encoding)
        out.append(b"data 1\nm\n")
        if start:
            out.append(b"from :%d\n" % start)
        elif self.mark == 1 and self.onto:
            out.append(b"from %s\n" % self.onto)
        for parent in merge:
            out.append(b"merge :%d\n" % parent)
        for path, data, *mode in changes:
            if data is None:
                out.append(b"D %s\n" % self.quoted(path))
            elif mode and mode[0] == b"160000":
                out.append(b"M 160000 %s %s\n" % (data, self.quoted(path)))
            else:
                out.append(b"M %s inline %s\ndata %d\n" % (mode[0] if mode else b"100644",
                                                           self.quoted(path), len(data)))
                out.append(data + b"\n")
        out.append(b"\n")
        return self.mark

    def into(self, repo):
        git(repo, "fast-import", "--quiet", "--force", data=b"".join(self.out))


STRANGE = [b"plain", b"with space", b' " quote"', b"tab\there", b"new\nline", b"back\\slash",
           b"caf\xc3\xa9", b"latin\xe9\xff", b"-x", b"--files", b":(glob)*", b":0:plain", b"*", b"?",
           b"[a]", b"d/e e p/\xf0\x9f\x98\x80", b"d/-", b"commit 123", b"1\t2\tthree", b"\x01\x7f",
           b"trailing ", b" leading", b"HEAD", b"..x", b"{a => b}", b"a => b"]


def oddities(branch_commit):
    """Every change a path can go through; branch_commit: an object id of the right length."""
    i = Import()
    sub, link = b"160000", b"120000"
    other = branch_commit[:-1] + (b"0" if branch_commit[-1:] != b"0" else b"1")
    first = i.commit([(p, b"%d\n" % n * n) for n, p in enumerate(STRANGE)])
    i.commit([(b"empty", b""), (b"no newline", b"one\ntwo"), (b"crlf", b"a\r\nb\r\nc"),
              (b"only nl", b"\n"), (b"bin", b"\0\1\2"), (b"to bin", b"x\ny\n"), (b"f", b"1\n2\n3\n"),
              (b"exe", b"#!/bin/sh\n", b"100755"), (b"link", b"f", link), (b"sub", branch_commit, sub)])
    i.commit([], author=b"Nobody <>")
    i.commit([(b"empty", b"no more\n"), (b"no newline", b"one\ntwo\n"), (b"crlf", b"a\nb\n"),
              (b"only nl", b""), (b"bin", b"\0\1\3"), (b"to bin", b"x\0\n"), (b"sub", other, sub)],
             author="Zo\u00eb <z@x>".encode())
    i.commit([(b"bin", b"text\nnow\n"), (b"to bin", b"y\0"), (b"exe", b"#!/bin/sh\n")],
             author=b"Zo\xeb <z@x>", encoding=b"ISO-8859-1")
    i.commit([(b"bin", b"\0again", b"100755"), (b"to bin", b"back\n"), (b"f", b"f is a link", link)])
    i.commit([(b"bin", b"\0again"), (b"f", branch_commit, sub), (b"link", b"no\nlink\n")])
    i.commit([(b"f", b"\0bin"), (b"link", b"a\0b", link), (b"sub", b"was a module\n")])
    i.commit([(b"link", b"other", link), (b"sub", branch_commit, sub), (b"f", b"1\n2\n3\n")])
    i.commit([(b"f", None), (b"f/g", b"a folder\nnow\n"), (b"f/h\n", b"x"), (b"link", b"\0", link)])
    i.commit([(b"f/g", None), (b"f/h\n", None), (b"f", b"a file again"), (b"moved", b"1\n" * 30)])
    i.commit([(b"moved", None), (b"moved to", b"1\n" * 30)])
    i.commit([(b"moved to", None), (b"moved", b"1\n" * 30 + b"2\n")])
    i.commit([(b"nul at 7999", b"a\n" * 3999 + b"a\0b\n"), (b"nul at 8000", b"a\n" * 4000 + b"\0b\n"),
              (b"long line", b"x" * 100000), (b"utf16", "a\nb\n".encode("utf-16"))])
    i.commit([(b"nul at 7999", b"a\n" * 4000 + b"\0b\n"), (b"nul at 8000", b"a\n" * 3999 + b"a\0\n")],
             skew=-100000)
    base = i.commit([(b"shared", b"".join(b"%d\n" % n for n in range(40)))], skew=-200000)
    side = i.commit([(b"shared", b"side\n" + b"".join(b"%d\n" % n for n in range(40))),
                     (b"from side", b"1\n"), (b"side bin", b"\0")], branch=b"side", start=base)
    side = i.commit([(b"from side", b"1\n2\n"), (b"gone on side", b"1\n")], branch=b"side")
    third = i.commit([(b"from third", b"1\n2\n3\n")], branch=b"third", start=base)
    i.commit([(b"shared", b"".join(b"%d\n" % n for n in range(40)) + b"main\n")], start=base)
    i.commit([(b"shared", b"evil merge\n"), (b"from side", b"1\n2\n"), (b"side bin", b"\0")],
             merge=(side,))
    i.commit([(b"from third", b"1\n2\n3\n"), (b"octopus", b"8\n")], merge=(third, first))
    i.commit([], merge=(side,))
    i.commit([(p, None) for p in STRANGE[::2]], author=b"<only@mail>")
    i.commit([(p, b"back\n") for p in STRANGE[::3]] + [(b"-x", b"\0")])
    i.commit([(p, b"\0" if n % 2 else b"t\n\n") for n, p in enumerate(STRANGE)], skew=50000)
    return i


def random_history(rng, commits, onto=b""):
    i = Import(onto=onto)
    alive = {}
    names = STRANGE + [b"r%d" % n for n in range(12)] + [b"dir%d/r" % n for n in range(4)]

    def content():
        lines = b"".join(rng.choice([b"a", b"b", b"", b"longer", b"\r"]) + b"\n"
                         for _ in range(rng.randint(0, 9)))
        return lines + rng.choice([b"", b"", b"end", b"\0", b"x\0y\n"])

    for _ in range(commits):
        changes = []
        for name in rng.sample(names, rng.randint(0, 6)):
            kind = rng.random()
            if name in alive and kind < 0.25:
                changes.append((name, None))
                del alive[name]
            elif kind < 0.85:
                changes.append((name, content(), rng.choice([b"100644", b"100755", b"120000"])))
                alive[name] = True
            elif name in alive:
                changes.append((name, b"%040x" % rng.getrandbits(160), b"160000"))
        i.commit(changes, author=rng.choice([b"A <a@x>", b"B <b@x>", b"A <A@X>"]),
                 skew=rng.randint(-1000, 1000))
    return i


def long_history(commits):
    i = Import()
    for n in range(commits):
        changes = [(b"f%03d" % (n % 97), b"line\n" * (n % 13)), (b"log", b"%d\n" % n * (n % 7))]
        if n % 250 == 0:
            changes.append((b"bin", b"\0%d" % n if n % 500 else b"text\n"))
        i.commit(changes, author=b"Dev %d <d%d@x>" % (n % 5, n % 5))
    return i


def write(repo, path, data):
    path = os.path.join(os.fsencode(repo), path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def commit_all(repo, message="m"):
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "--allow-empty", "-m", message)


# ------------------------------------------------------------------ the tests

def test_oddities():
    rng = random.Random(SEED)
    for name, options, length in (("odd", ["--bare"], 40), ("odd256", ["--bare",
                                                                       "--object-format=sha256"], 64)):
        repo = new_repo(name, *options)
        oddities(b"%0*x" % (length, 0xabcdef)).into(repo)
        whole(repo, name)
        total = count_events(repo)
        if name == "odd":
            interrupted(repo, name, list(range(1, 12)) + list(range(12, total + 8, 6)))
            stuttering(repo, name, rng, 90)
            rebuilt(repo, name + "-rebuilt", list(range(1, 10)) + list(range(10, 2 * total, 13)))
        else:
            interrupted(repo, name, [1, total // 2, total - 3])
            rebuilt(repo, name + "-rebuilt", [2, total + 4])
    work = os.path.join(TEMP, "odd-work")               # the same with a work tree
    subprocess.run(["git", "clone", "-q", "--no-checkout", os.path.join(TEMP, "odd"), work],
                   env=CLEAN, check=True)
    files = whole(work, "odd-work")
    need(files == whole(os.path.join(work, ".git"), "odd-dotgit"), ".git given: other files")
    other = os.path.join(TEMP, "odd-linked")
    git(work, "worktree", "add", "-q", "--no-checkout", "--detach", other, "HEAD~3")
    whole(other, "odd-linked")
    shallow = os.path.join(TEMP, "odd-shallow")
    subprocess.run(["git", "clone", "-q", "--bare", "--depth", "5", "--single-branch",
                    "file://" + os.path.join(TEMP, "odd"), shallow], env=CLEAN, check=True)
    whole(shallow, "odd-shallow")


def test_random():
    rng = random.Random(SEED)
    for n in range(4):
        repo = new_repo(f"random{n}", "--bare")
        random_history(rng, 30).into(repo)
        whole(repo, f"random{n}")
        total = count_events(repo)
        interrupted(repo, f"random{n}", sorted(rng.sample(range(1, total + 1), 6)))
        stuttering(repo, f"random{n}", rng, 150)


def test_long():
    """Thousands of commits: summary, interruptions, kill -9 at random moments."""
    rng = random.Random(SEED)
    repo = new_repo("long", "--bare")
    long_history(3000).into(repo)
    where = state("long")
    begun = time.monotonic()
    said = run(repo, where).decode()
    counts["long"] = f"{time.monotonic() - begun:.1f} s for 3000 commits"
    need(said.startswith(f"{count_events(repo)} events, {count_events(repo)} new in "), said)
    need("3000 commits by 5 authors" in said and "largest files" in said and
         "most active authors" in said and "\r" not in said, said)
    check(repo, where)
    final = run(repo, where, "--files")
    need(final == expected(repo), "long: other files")
    need(run(repo, where).decode().split("\n")[0].endswith(" 0 new"), "a second run finds nothing")
    shown = on_terminal(repo, state("long-terminal"))
    need(b"\rreading [" in shown and b"\rprojecting [" in shown, f"no progress bar: {shown!r}")
    again = state("long-died")
    for n in (1500, 2502, 1203, 3004):                  # each of the crash places
        run(repo, again, "--max-events", str(n), expect=3)
        counts["interruptions"] += 1
        check(repo, again)
    killed = state("long-killed")
    for _ in range(40):
        running = subprocess.Popen([BINARY, repo, killed], env=CLEAN, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            running.wait(rng.uniform(0.01, 0.3))
        except subprocess.TimeoutExpired:
            pass
        running.send_signal(signal.SIGKILL)
        died = running.wait() == -signal.SIGKILL
        counts["interruptions"] += died
        counts["killed"] += died
        if os.path.exists(os.path.join(killed, "state")):
            check(repo, killed)
        if not died:
            need(run(repo, killed, "--files") == final, "killed: other files")
            killed = state("long-killed")
    for left in (again, killed):
        run(repo, left)
        check(repo, left)
        need(run(repo, left, "--files") == final, "interrupted: other files")
        need(authors(left) == authors(where), "interrupted: other authors")


def on_terminal(repo, where):
    """What it draws on stderr when that is a terminal."""
    ours, its = pty.openpty()
    done = subprocess.run([BINARY, repo, where], stdout=subprocess.DEVNULL, stderr=its, env=CLEAN,
                          timeout=120, check=False)
    os.close(its)
    need(done.returncode == 0, "on a terminal it fails")
    shown = os.read(ours, 100000)
    os.close(ours)
    return shown


def authors(where):
    """The part of the state file that holds the authors: must not depend on interruptions."""
    data = snapshot(where)["state"]
    return data[data.rindex(b"Dev 0 <"):-4]


def test_incremental():
    """What is new is appended; an empty repository comes first; interrupted runs in between."""
    rng = random.Random(SEED)
    for bare in (True, False):
        repo = new_repo(f"growing{bare}", *(["--bare"] if bare else []))
        where = state("growing")
        need(run(repo, where).startswith(b"0 events, 0 new\n0 commits by 0 authors, 0 files; at commit -\n"), "empty repository")
        need(check(repo, where) == b"0 files, 0 lines: equal to git\n", "empty repository")
        need(run(repo, where, "--files") == b"", "empty repository")
        sizes = []
        for n in range(4):
            random_history(rng, 12, onto=b"refs/heads/main^0" if n else b"").into(repo)
            if n % 2 == 0:
                run(repo, where, "--max-events", str(rng.randint(1, 9)), expect=3)
                counts["interruptions"] += 1
                check(repo, where)
            log = snapshot(where)["log"]
            run(repo, where)
            check(repo, where)
            need(run(repo, where, "--files") == expected(repo), "growing: other files")
            need(snapshot(where)["log"].startswith(log), "the log was not only appended to")
            sizes.append(len(snapshot(where)["log"]))
        need(sorted(set(sizes)) == sizes, f"the log grew: {sizes}")
        fresh = state("growing-at-once")
        run(repo, fresh)
        need(run(repo, fresh, "--files") == run(repo, where, "--files"), "at once: other files")
        git(repo, "commit-tree", "HEAD^{tree}", "-m", "x")      # an object that is not on the chain
        check(repo, where)


def test_attributes():
    """Git decides what is binary, and .gitattributes decide what git decides."""
    repo = new_repo("attributes")
    where = state("attributes")
    steps = [
        {b"a.dat": b"1\n2\n", b"b.txt": b"1\n", b"d/c.dat": b"1\n2\n3\n", b"n.bin": b"\0"},
        {b"a.dat": b"1\n2\n3\n", b".gitattributes": b"*.dat -diff\n"},
        {b"a.dat": b"1\n", b"d/.gitattributes": b"*.dat diff\n", b"n.bin": b"\0\0"},
        {b".gitattributes": b"*.txt binary\n*.bin diff\n"},
        {b"n.bin": b"\0\n\0\n", b"b.txt": b"1\n2\n3\n"},
        {b".gitattributes": None, b"d/.gitattributes": None, b"new.txt": b"x\n"},
        {b".gitattributes": b"*.dat -diff", b"e f/\xff/.gitattributes": b"* binary\n",
         b"e f/\xff/x": b"x\n"},
    ]
    for n, step in enumerate(steps):
        for path, data in step.items():
            if data is None:
                os.unlink(os.path.join(os.fsencode(repo), path))
            else:
                write(repo, path, data)
        commit_all(repo)
        if n:
            check(repo, where)                          # the old commit, under the old attributes
            for most in (1, 2, 3, 4):
                done = call(repo, where, "--max-events", str(most + 5 * (n % 2)))
                need(done.returncode in (0, 3), done.stderr.decode())
                counts["interruptions"] += done.returncode == 3
                check(repo, where)
        run(repo, where)
        check(repo, where)
        need(run(repo, where, "--files") == expected(repo), f"attributes {n}: other files")
        fresh = state("attributes-at-once")
        interrupted(repo, "attributes-at-once", [3 + n, 5], states=AnyFiles())
        need(run(repo, fresh, "--check"), "fresh")
    bare = os.path.join(TEMP, "attributes-bare")        # git: a bare repository has no attributes
    subprocess.run(["git", "clone", "-q", "--bare", repo, bare], env=CLEAN, check=True)
    whole(bare, "attributes-bare")
    changes = [                                         # outside the history
        lambda: write(repo, b".git/info/attributes", b"b.txt diff\na.dat -diff\n"),
        lambda: write(repo, b".gitattributes", b"# changed, not committed\n"),
        lambda: write(repo, b"d/.gitattributes", b"*.dat diff=odd\n"),
        lambda: git(repo, "config", "diff.odd.binary", "true"),
        lambda: git(repo, "config", "core.bigFileThreshold", "3"),
        lambda: git(repo, "config", "--unset", "core.bigFileThreshold"),
        lambda: os.unlink(os.path.join(repo, ".gitattributes")),        # the index has it
        lambda: git(repo, "read-tree", "--empty")]
    for n, change in enumerate(changes):
        change()
        run(repo, where)
        check(repo, where)
        need(run(repo, where, "--files") == expected(repo), f"outside {n}: other files")
    inside = os.path.join(repo, "state")                # a STATE_DIR inside the work tree
    for _ in range(3):
        run(repo, inside)
        check(repo, inside)
        need(run(repo, inside, "--files") == expected(repo), "inside: other files")
        need(len(snapshot(inside)["log"]) < 4000, "its own attributes are seen as the repository's")


class AnyFiles:
    def __contains__(self, files):
        return True


def test_environment():
    """Whatever the user has told his git, and whatever points git elsewhere, changes nothing."""
    repo = os.path.join(TEMP, "odd-work")
    where = state("environment")
    config = os.path.join(TEMP, "config")
    attributes = os.path.join(TEMP, "user-attributes")
    with open(attributes, "w", encoding="ascii") as f:
        f.write("* binary\n")
    with open(config, "w", encoding="utf-8") as f:
        f.write("""[safe] directory = *
[diff] renames = copies
 noprefix = true
 mnemonicPrefix = true
 external = /bin/false
 orderFile = /nowhere/order
 algorithm = patience
 relative = true
 ignoreSubmodules = all
 submodule = log
 context = 0
 statGraphWidth = 1
 wsErrorHighlight = all
 colorMoved = zebra
[color] ui = always
 diff = always
[core] quotePath = false
 pager = /bin/false
 attributesFile = %s
 abbrev = 4
[log] showSignature = true
 showRoot = false
 diffMerges = combined
 follow = true
 decorate = full
 date = relative
 mailmap = true
[format] pretty = oneline
 notes = *
[i18n] logOutputEncoding = UTF-16
[notes] displayRef = *
[pager] log = true
 diff = true
[submodule] recurse = true
""" % attributes)
    env = {"GIT_CONFIG_GLOBAL": config, "GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/",
           "GIT_EXTERNAL_DIFF": "/bin/false", "GIT_INDEX_FILE": "/nowhere", "GIT_PAGER": "/bin/false",
           "GIT_OBJECT_DIRECTORY": "/nowhere", "GIT_DIFF_OPTS": "--unified=0", "GIT_TRACE": "1",
           "GIT_LITERAL_PATHSPECS": "1", "GIT_NAMESPACE": "x", "GIT_DEFAULT_HASH": "sha256"}
    run(repo, where, env=env)
    check(repo, where, env=env)
    need(run(repo, where, "--files", env=env) == expected(repo), "environment: other files")
    plain = state("environment-plain")
    run(repo, plain)
    need(snapshot(plain)["state"][80:-4] == snapshot(where)["state"][80:-4], "authors differ")
    graft = os.path.join(TEMP, "replaced")
    subprocess.run(["git", "clone", "-q", "--bare", os.path.join(TEMP, "odd"), graft], env=CLEAN,
                   check=True)
    git(graft, "replace", "HEAD~3", "HEAD~9")
    write(graft, b"info/grafts", git(graft, "rev-parse", "HEAD~5") + git(graft, "rev-parse", "HEAD"))
    where = state("replaced")
    run(graft, where)
    check(graft, where)
    need(run(graft, where, "--files") == run(repo, plain, "--files"), "replaced: other files")


def test_many_paths():
    """A commit with more binaries than a command line can name; very long paths."""
    repo = new_repo("wide", "--bare")
    i = Import()
    names = [b"d%d/" % (n % 7) + b"x" * 150 + b"%d" % n for n in range(900)]
    deep = b"/".join([b"y" * 200] * 25)
    i.commit([(name, b"\0%d" % n) for n, name in enumerate(names)] + [(deep, b"\0")])
    i.commit([(name, b"\0\0" if n % 3 else b"a\nb\n") for n, name in enumerate(names)])
    i.commit([(deep, b"1\n")])
    i.into(repo)
    whole(repo, "wide")


def test_check_can_fail():
    """A doctored state file: a good CRC around wrong numbers."""
    repo = os.path.join(TEMP, "odd")
    where = state("doctored")
    run(repo, where)
    path = os.path.join(where, "state")
    with open(path, "rb") as f:
        good = f.read()
    at = good.index(b"\x0clong line") + len(b"\x0clong line") if b"\x0clong line" in good else \
        good.index(b"\x09long line") + len(b"\x09long line")
    for change, words in ((lambda b: b[:at] + bytes([b[at] + 1]) + b[at + 1:], [b"long line"]),
                          (lambda b: b[:at] + b"\x01" + b[at + 1:], [b"long line", b"-"]),
                          (lambda b: b.replace(b"\x09long line", b"\x09lung line"),
                           [b"long line", b"lung line", b"no such file", b"2 differences"])):
        bad = change(good)[:-4]
        with open(path, "wb") as f:
            f.write(bad + zlib.crc32(bad).to_bytes(4, "little"))
        said = run(repo, where, "--check", expect=1)
        need(all(word in said for word in words) and b"equal to git" not in said, f"{said!r}")


def test_errors():
    repo = new_repo("errors", "--bare")
    random_history(random.Random(SEED), 25).into(repo)
    where = state("errors")
    run(repo, where)
    before = run(repo, where, "--files")

    folder = os.path.join(TEMP, "no-repository")
    os.makedirs(os.path.join(folder, "below"))
    refused(folder, state("none"), "no git repository")
    need(not os.path.exists(state("none")), "no repository, but a STATE_DIR")
    refused(os.path.join(TEMP, "missing"), where, "missing")
    refused(os.path.join(folder), where, "no git repository")
    git(folder, "init", "-q")
    refused(os.path.join(folder, "below"), where, "inside one")
    plain = os.path.join(TEMP, "plain-file")
    write(TEMP, b"plain-file", b"")
    refused(plain, where, "plain-file")
    refused(repo, os.path.join(plain, "state"), "plain-file")
    for wrong in (("x", "y"), ("--what",), ("--max-events",), ("--max-events", "x"),
                  ("--check", "--files")):
        refused(repo, where, "usage", options=wrong)

    with open(os.path.join(where, "lock"), "rb") as lock:       # somebody else holds the lock
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(repo, where, "in use")
        refused(repo, where, "in use", options=("--check",))

    with_log = snapshot(where)
    for at in (3, 15, len(with_log["log"]) // 2, 25, len(with_log["log"]) - 5):    # damaged log
        bad = bytearray(with_log["log"])
        bad[at] ^= 0x40
        write(where, b"log", bad)
        refused(repo, where, "log is damaged")
        refused(repo, where, "log is damaged", options=("--check",))
    write(where, b"log", b"")
    refused(repo, where, "log is damaged")
    os.unlink(os.path.join(where, "log"))
    refused(repo, where, "log is missing")
    write(where, b"log", with_log["log"])
    for bad in (b"", with_log["state"][:-1], with_log["state"] + b"x", b"x" + with_log["state"][1:],
                *(with_log["state"][:at] + bytes([with_log["state"][at] ^ 4]) +
                  with_log["state"][at + 1:] for at in (9, 40, 90, len(with_log["state"]) - 1))):
        write(where, b"state", bad)
        for options in ((), ("--check",), ("--files",), ("--max-events", "3")):
            refused(repo, where, "state is damaged", options=options)
    write(where, b"state", with_log["state"])
    check(repo, where)

    # A log and a state that do not belong together.
    other = state("errors-other")
    run(repo, other)
    write(where, b"state", snapshot(other)["state"])
    refused(repo, where, "stopped")
    write(where, b"state", with_log["state"])

    # A folder that cannot be written.
    for name, message in (("lock", "cannot use"), ("log.new", "cannot create"),
                          ("state.new", "cannot save")):
        blocked = state("blocked")
        os.makedirs(os.path.join(blocked, name))
        done = call(repo, blocked)
        need(done.returncode == 2 and message in done.stderr.decode(), f"{name}: {done.stderr!r}")
        need("state" not in snapshot(blocked), f"{name}: a state")
        os.rmdir(os.path.join(blocked, name))
        run(repo, blocked)
        need(run(repo, blocked, "--files") == before, f"{name}: other files")
        counts["errors"] += 1
    for limit in (100, 3000):                           # the disk is full
        full = state("full")
        done = subprocess.run([BINARY, repo, full], capture_output=True, env=CLEAN, check=False,
                              restore_signals=False, preexec_fn=lambda most=limit:
                              resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
        need(done.returncode == 2 and b"cannot" in done.stderr, f"full: {done.stderr!r}")
        need(len(snapshot(full)["log"]) == 20, "full: part of a history")
        run(repo, full)
        need(run(repo, full, "--files") == before, "full: other files")
        counts["errors"] += 1

    # A torn tail: cut off, read again, the same log as before.
    for torn in (1, 3, 9, 100, len(with_log["log"]) // 2, len(with_log["log"]) - 20):
        write(where, b"log", with_log["log"][:-torn])
        check(repo, where)
        run(repo, where)
        need(snapshot(where)["log"] == with_log["log"], f"torn by {torn}: another log")
        check(repo, where)
        need(run(repo, where, "--files") == before, f"torn by {torn}: other files")
    for junk in (b"\0", b"\0" * 500, b"\x20\0\0\0abcd1234", os.urandom(300), with_log["log"][20:30]):
        write(where, b"log", with_log["log"] + junk)
        run(repo, where)
        need(snapshot(where)["log"] == with_log["log"], f"junk {junk!r}: another log")

    # Git fails half-way: an object of a new commit is missing.
    i = Import(1700000000, b"refs/heads/main^0")
    i.commit([(b"n%d" % n, b"%d\n" % n) for n in range(9)])
    for n in range(30):
        i.commit([(b"n1", b"only here %d\n" % n), (b"folder/x", b"%d\n" % n)])
    i.into(repo)
    git(repo, "-c", "core.bigFileThreshold=1", "repack", "-adq")
    pack_to_loose(repo)
    for what in ("HEAD~12:n1", "HEAD~12:folder", "HEAD~12^{tree}", "HEAD~12"):
        oid = git(repo, "rev-parse", what).strip().decode()
        loose = os.path.join(repo, "objects", oid[:2], oid[2:])
        os.rename(loose, loose + ".away")
        refused(repo, where, "git log failed")
        fresh = state("errors-fresh")
        refused_fresh(repo, fresh)
        if what != "HEAD~12":
            check(repo, where)
        os.rename(loose + ".away", loose)
    oid = git(repo, "rev-parse", "HEAD").strip().decode()
    loose = os.path.join(repo, "objects", oid[:2], oid[2:])
    os.rename(loose, loose + ".away")
    refused(repo, where, "HEAD cannot be read")
    os.rename(loose + ".away", loose)
    old = snapshot(where)
    run(repo, where)
    need(snapshot(where)["log"].startswith(old["log"]), "not only appended")
    check(repo, where)
    need(run(repo, where, "--files") == expected(repo), "repaired: other files")

    # A history rewritten since the last run.
    tip, back = git(repo, "rev-parse", "HEAD").strip().decode(), "HEAD~1"
    tree = git(repo, "rev-parse", "HEAD^{tree}").strip().decode()
    amended = git(repo, "commit-tree", tree, "-p", back, "-m", "amended").strip().decode()
    crossed = git(repo, "commit-tree", tree, "-p", back, "-p", tip, "-m", "x").strip().decode()
    unrelated = git(repo, "commit-tree", tree, "-m", "root").strip().decode()
    for now in (amended, crossed, unrelated, git(repo, "rev-parse", back).strip().decode()):
        git(repo, "update-ref", "refs/heads/main", now)
        refused(repo, where, "rewritten", tip)
        check(repo, where)                              # which speaks about the commit it has
    git(repo, "update-ref", "-d", "refs/heads/main")
    refused(repo, where, "rewritten")
    write(repo, b"refs/heads/main", b"garbage\n")
    refused(repo, where, "HEAD cannot be read")
    refused_fresh(repo, state("errors-garbage"))
    git(repo, "update-ref", "-d", "refs/heads/main", ok=False)
    write(repo, b"refs/heads/main", tip.encode() + b"\n")
    run(repo, where)
    check(repo, where)
    refused(os.path.join(TEMP, "odd"), where, "rewritten")      # another repository altogether


def refused_fresh(repo, where):
    """The same from nothing: whatever is left behind must not pass for a history."""
    counts["errors"] += 1
    done = call(repo, where)
    need(done.returncode == 2, f"exit {done.returncode}")
    need("state" not in snapshot(where) and len(snapshot(where).get("log", b"")) <= 20, "not empty")


def pack_to_loose(repo):
    packs = os.path.join(repo, "objects", "pack")
    aside = os.path.join(TEMP, "packs")
    shutil.move(packs, aside)
    os.mkdir(packs)
    for name in os.listdir(aside):
        if name.endswith(".pack"):
            with open(os.path.join(aside, name), "rb") as f:
                git(repo, "unpack-objects", "-q", data=f.read())
    shutil.rmtree(aside)


def test_extra(repo):
    """A repository of the caller's; only read."""
    rng = random.Random(SEED)
    where = state("extra")
    run(repo, where, env=dict(os.environ))
    said = check(repo, where)
    need(run(repo, where, "--files") == expected(repo), "--files is not what git says")
    total = count_events(repo)
    final = run(repo, where, "--files")
    for n in sorted(rng.sample(range(1, total + 1), min(total, 6))):
        again = state("extra-died")
        run(repo, again, "--max-events", str(n), expect=3)
        counts["interruptions"] += 1
        check(repo, again)
        run(repo, again)
        check(repo, again)
        need(run(repo, again, "--files") == final, f"resumed after {n}: other files")
    counts["extra"] = f"{total} events, {said.decode().strip()}"


def main():
    global BINARY, TEMP
    if len(sys.argv) not in (2, 3):
        print(__doc__)
        return 1
    BINARY = os.path.abspath(sys.argv[1])
    extra = os.path.abspath(sys.argv[2]) if len(sys.argv) == 3 else None
    names = os.environ.get("ONLY", "").split()
    tests = [test_oddities, test_random, test_long, test_incremental, test_attributes,
             test_environment, test_many_paths, test_check_can_fail, test_errors]
    tests = [test for test in tests if not names or test.__name__ in names]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="git_history.") as folder:
        TEMP = os.path.realpath(folder)
        for test in tests + ([lambda: test_extra(extra)] if extra else []):
            name = getattr(test, "__name__", "test_extra").replace("<lambda>", "test_extra")
            begun = time.monotonic()
            try:
                test()
                print(f"ok      {name}  {time.monotonic() - begun:.1f} s", flush=True)
            except (AssertionError, OSError, ValueError, KeyError, IndexError,
                    subprocess.SubprocessError) as problem:
                failed += 1
                where = traceback.extract_tb(problem.__traceback__)
                lines = ", ".join(str(frame.lineno) for frame in where[1:])
                print(f"FAILED  {name} (lines {lines}): {problem}", flush=True)
    print(", ".join(f"{value} {key}" if isinstance(value, int) else value
                    for key, value in counts.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
