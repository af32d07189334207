"""Servers and programs for the tests of the engines: each in the test's own folder, on private sockets, and dead
with the test, however that ends."""
import ctypes
import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
LONGEST = 170       # seconds; the test runner's limit is a little more, and it does not say where the test hung
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


class Postgres:
    """A cluster of its own; not as root, which the server refuses."""
    def __init__(self, folder):
        config = shutil.which('pg_config')
        programs = subprocess.run([config, '--bindir'], capture_output=True, text=True, check=True).stdout.strip() \
            if config else ''
        self.programs, self.folder, self.data = programs, folder, folder / 'pg'
        self.process = None

    def is_installed(self):
        return all(os.access(os.path.join(self.programs, name), os.X_OK) for name in ('initdb', 'postgres', 'psql'))

    def connection(self):
        return f'host={self.folder.path} user=postgres dbname=postgres connect_timeout=10'

    def as_user(self, command):
        if os.geteuid() != 0:
            return command
        return ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups', '--pdeathsig', 'KILL', *command]

    def create(self):
        os.chmod(self.folder.path, 0o777)
        command = [os.path.join(self.programs, 'initdb'), '-D', self.data, '-U', 'postgres', '-A', 'trust', '--no-sync',
                   '--locale=C', '-E', 'UTF8']
        done = subprocess.run(self.as_user(command), capture_output=True, text=True, cwd='/', check=False)
        if done.returncode:
            sys.exit(f'initdb: {done.stderr}')

    def start(self):
        command = [os.path.join(self.programs, 'postgres'), '-D', self.data, '-k', self.folder.path,
                   '-c', 'listen_addresses=', '-c', 'shared_buffers=16MB', '-c', 'deadlock_timeout=100ms']
        def answers():
            if self.process is None or self.process.poll() is not None:     # not before the killed one's memory is free
                self.process = self.folder.start(self.as_user(command), stderr=subprocess.DEVNULL, cwd='/')
            return self.run('SELECT 1', check=False) == '1\n'
        if not until(answers):
            sys.exit('postgres does not start')

    def kill(self):
        """The postmaster; the other processes see that and end, and the next start recovers from the log."""
        self.folder.kill(self.process)

    def run(self, command, check=True):
        done = subprocess.run([os.path.join(self.programs, 'psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
                               self.connection(), '-f', '-'], input=command, capture_output=True, text=True, check=False,
                              timeout=60)
        if check and done.returncode:
            sys.exit(f'{command[:200]}: {done.stderr}')
        return done.stdout


class Folder:
    """In memory where there is such a place: SIGKILL takes nothing from the page cache, and fsync would only cost."""
    def __init__(self):
        place = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
        self.path = tempfile.mkdtemp(prefix='projections-', dir=place)
        self.running = []

    def __enter__(self):
        faulthandler.dump_traceback_later(LONGEST, exit=True)
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
