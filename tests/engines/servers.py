"""Servers and programs for the tests of the engines: each in the test's own folder, on private sockets, and dead
with the test, however that ends."""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
LIBC = ctypes.CDLL(None)


def die_with_parent():
    """In the child: SIGKILL when the thread that started it is gone."""
    LIBC.prctl(1, signal.SIGKILL)


def start(command, **how):
    return subprocess.Popen(command, preexec_fn=die_with_parent, **how)


def skip(why):
    print(f'skipped: {why}')
    sys.exit(SKIPPED)


def until(condition, seconds=20):
    """Waits for something that must become true; answers what it answered at last."""
    end = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return answer


class Folder:
    """In memory where there is such a place: SIGKILL takes nothing from the page cache, and fsync would only cost."""
    def __init__(self):
        place = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
        self.path = tempfile.mkdtemp(prefix='projections-', dir=place)
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()
        shutil.rmtree(self.path, ignore_errors=True)

    def __truediv__(self, name):
        return os.path.join(self.path, name)

    def start(self, command, **how):
        process = start(command, **how)
        self.running.append(process)
        return process

    def kill(self, process):
        process.kill()
        process.wait()
        self.running.remove(process)

    def redis(self):
        """(process, socket), or None where there is no redis-server."""
        server = shutil.which('redis-server')
        if server is None:
            return None
        path = self / 'redis.sock'
        if os.path.exists(path):        # of one that was killed
            os.unlink(path)
        process = self.start([server, '--port', '0', '--unixsocket', path, '--dir', self.path, '--save', '',
                              '--appendonly', 'yes'], stdout=subprocess.DEVNULL)
        if not until(lambda: os.path.exists(path)):
            sys.exit('redis-server does not start')
        return process, path
