"""What the tests of the engines share: a folder and child processes that do not outlive the test, a seed, processes
that are killed and replaced, waiting, and a PostgreSQL of the test's own."""

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
    """A process that the kernel kills when the thread that started it is gone."""
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


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def server_or_skip(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return path or skip(f"{name} is not installed")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(question, seconds=20):
    """Asks until the answer is true, or the time is over; the last answer."""
    end = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < end:
        time.sleep(0.01)
    return answer


def eventually(what, question, seconds=20):
    """Asks until the answer is true, and gives it back."""
    answer = until(question, seconds)
    need(answer, f"{what}: not within {seconds} s")
    return answer


def need(condition, message, *more):
    if not condition:
        raise AssertionError(" ".join([message, *map(repr, more)]))


def run(test):
    """Runs test(folder), then removes all that it has started and written. In memory where there is such a place:
    SIGKILL takes nothing from the page cache, and fsync would only cost."""
    print(f"SEED={SEED}", flush=True)
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    folder = tempfile.mkdtemp(prefix="projections-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    began = time.monotonic()
    try:
        test(folder)
        print(f"{time.monotonic() - began:.1f} s")
    finally:
        for process in _children:
            if process.poll() is None:
                kill(process)
        shutil.rmtree(folder, ignore_errors=True)


class Postgres:
    """A cluster of its own; not as root, which the server refuses."""
    def __init__(self, folder):
        self.folder = folder
        self.process = None
        programs = subprocess.run([server_or_skip("pg_config"), "--bindir"], capture_output=True, text=True,
                                  check=True).stdout.strip()
        paths = [os.path.join(programs, name) for name in ("initdb", "postgres", "psql")]
        self.initdb, self.postgres, self.psql = paths
        if not all(os.access(path, os.X_OK) for path in paths):
            skip("PostgreSQL is not installed")

    def connection(self):
        return f"host={self.folder} user=postgres dbname=postgres connect_timeout=10"

    @staticmethod
    def as_user(*command):
        if os.geteuid() != 0:
            return command
        return "setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig", "KILL", *command

    def create(self):
        os.chmod(self.folder, 0o777)
        command = self.as_user(self.initdb, "-D", self.folder + "/pg", "-U", "postgres", "-A", "trust", "--no-sync",
                               "--locale=C", "-E", "UTF8")
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        need(done.returncode == 0, "initdb", done.stderr)

    def start(self):
        command = self.as_user(self.postgres, "-D", self.folder + "/pg", "-k", self.folder, "-c", "listen_addresses=",
                               "-c", "shared_buffers=16MB", "-c", "deadlock_timeout=100ms",
                               "-c", "dynamic_shared_memory_type=mmap")      # in its folder: it is gone with it

        def answers():
            if self.process is None or self.process.poll() is not None:     # not before the killed one's memory is free
                self.process = child(*command, stderr=subprocess.DEVNULL, cwd="/")
            return self.run("SELECT 1", check=False) == "1\n"
        eventually("a postgres that answers", answers)

    def kill(self):
        """The postmaster; the other processes see that and end, and the next start recovers from the log."""
        kill(self.process)

    def stop(self):
        """Leaves nothing of its shared memory with the system, as a killed one does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)

    def run(self, command, check=True):
        done = subprocess.run([self.psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.connection(), "-f", "-"],
                              input=command, capture_output=True, text=True, check=False, timeout=60)
        need(done.returncode == 0 or not check, command[:200], done.stderr)
        return done.stdout
