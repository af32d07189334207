#!/usr/bin/env python3
"""A C++ worker in a Python deployment: takes over a partition from the checkpoint that Python left
in Redis, and leaves one that Python reads.

    test_python_redis.py BINARY     exit 0: all well; 77 without redis-server

The records are literals, as the Python package's store writes them: the key
`projection:checkpoint:{name}_p{i}`, the decimal position of the last event. Starts a redis-server
of its own on a private socket.
"""
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

BINARY = sys.argv[1]


class Redis:
    """As much of the protocol (RESP) as this test needs."""
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile('rb')

    def __call__(self, *words):
        words = [str(w).encode() for w in words]
        self.socket.sendall(b'*%d\r\n' % len(words) + b''.join(b'$%d\r\n%s\r\n' % (len(w), w) for w in words))
        return self.answer()

    def answer(self):
        line = self.file.readline().rstrip(b'\r\n')
        kind, rest = line[:1], line[1:]
        if kind == b'$':
            return None if rest == b'-1' else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b'*':
            return [self.answer() for _ in range(int(rest))]
        if kind == b'-':
            raise RuntimeError(rest.decode())
        return int(rest) if kind == b':' else rest.decode()


def partition(aggregate, count):
    """As the Python package has it."""
    return int.from_bytes(hashlib.sha256(aggregate.encode()).digest(), 'big') % count


EVENTS = [(10 * n, f'order-{n % 11}') for n in range(1, 61)]        # positions 10, 20, ..., 600


def expected(index, after, until=600):
    return [f'{at} {who}' for at, who in EVENTS if after < at <= until and partition(who, 3) == index]


def worker(path, index, count=3):
    return subprocess.run([BINARY, path, str(index), str(count)], capture_output=True, text=True, timeout=60)


def run(redis, path):
    for at, who in EVENTS:
        redis('RPUSH', 'events', f'{at} {who}')

    # What three Python workers left: partition 1 stopped at position 300.
    for key, value in {'orders_p0': '600', 'orders_p1': '300', 'orders_p2': '450'}.items():
        redis('SET', f'projection:checkpoint:{key}', value)
    done = worker(path, 1)
    assert done.returncode == 0, done
    assert done.stdout.split('\n')[:-1] == expected(1, 300), done.stdout
    assert redis('GET', 'projection:checkpoint:orders_p1') == '600'
    assert redis('GET', 'projection:checkpoint:orders_p0') == '600'
    assert redis('GET', 'projection:checkpoint:orders_p2') == '450'
    assert redis('GET', 'lock:orders:1') is None                    # given back

    # Python goes on from there: what it reads is the position of the last event, of any partition.
    position = int(redis('GET', 'projection:checkpoint:orders_p1'))
    redis('RPUSH', 'events', '610 order-3')
    EVENTS.append((610, 'order-3'))
    assert [at for at, who in EVENTS if at > position] == [610]
    redis('SET', 'projection:checkpoint:orders_p1', '610')
    done = worker(path, 1)
    assert (done.returncode, done.stdout) == (0, ''), done

    # A partition that Python never ran begins at the beginning.
    redis('DEL', 'projection:checkpoint:orders_p2')
    done = worker(path, 2)
    assert done.stdout.split('\n')[:-1] == expected(2, -1, 610), done.stdout

    # While Python holds the lock, the worker waits; then it begins.
    redis('SET', 'projection:checkpoint:orders_p0', '10')
    redis('SET', 'lock:orders:0', 'python', 'PX', '1500', 'NX')
    began = time.monotonic()
    done = worker(path, 0)
    assert done.returncode == 0 and time.monotonic() - began > 1.2, done
    assert done.stdout.split('\n')[:-1] == expected(0, 10, 610), done.stdout

    # A Python replay of five events at 10, 20, 30, 40, 50 saved the count: 5. No event stands there,
    # so it is refused, and nothing is handled or changed.
    redis('SET', 'projection:checkpoint:orders_p1', '5')
    done = worker(path, 1)
    assert (done.returncode, done.stdout, done.stderr) == (3, '', 'checkpoint_corrupt\n'), done
    assert redis('GET', 'projection:checkpoint:orders_p1') == '5'
    assert redis('GET', 'lock:orders:1') is None                    # a halted engine gives it back
    # Once somebody has put it right, it goes on.
    redis('SET', 'projection:checkpoint:orders_p1', '50')
    done = worker(path, 1)
    assert done.stdout.split('\n')[:-1] == expected(1, 50, 610), done.stdout

    # A record that is no number is refused, too.
    redis('SET', 'projection:checkpoint:orders_p1', '12x')
    done = worker(path, 1)
    assert (done.returncode, done.stderr) == (3, 'checkpoint_corrupt\n'), done
    print('a C++ worker took over from Python, and Python from it')


def main():
    server = shutil.which('redis-server')
    if server is None:
        print('no redis-server')
        sys.exit(77)
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, 'socket')
    process = subprocess.Popen([server, '--port', '0', '--unixsocket', path, '--dir', folder, '--save', ''],
                               stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if os.path.exists(path):
                break
            time.sleep(0.05)
        run(Redis(path), path)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


main()
