"""What the tests of brokers and Redis share: a folder and child processes that do not outlive the test, a seed,
processes that are killed and replaced."""

import ctypes
import faulthandler
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
LONGEST = 170       # seconds; the test runner's limit is a little more, and it does not say where the test hung
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
DICE = random.Random(SEED)
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_children = []


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def child(*command, **more):
    """A process that the kernel kills when this one is gone."""
    more.setdefault("stdin", subprocess.DEVNULL)
    process = subprocess.Popen([str(word) for word in command], preexec_fn=_die_with_parent, **more)
    _children.append(process)
    return process


def kill(process):
    process.kill()
    process.wait()


def stop(process, seconds=10):
    """Asks it to end; its exit status."""
    process.terminate()
    return process.wait(seconds)


def server_or_skip(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        print(f"{name} is not installed")
        sys.exit(SKIPPED)
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def eventually(what, question, seconds=20):
    """Asks until the answer is true, and gives it back."""
    until = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        need(time.monotonic() < until, f"{what}: not within {seconds} s")
        time.sleep(0.02)


def need(condition, message):
    if not condition:
        raise AssertionError(message)


def run(test):
    """Runs test(folder), then removes all that it has started and written."""
    print(f"SEED={SEED}", flush=True)
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    folder = tempfile.mkdtemp(prefix="pj-")
    began = time.monotonic()
    try:
        test(folder)
        print(f"{time.monotonic() - began:.1f} s")
    finally:
        for process in _children:
            if process.poll() is None:
                kill(process)
        shutil.rmtree(folder, ignore_errors=True)
