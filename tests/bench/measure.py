"""How rows are measured: programs are built, counted under callgrind, timed by turns."""

import concurrent.futures
import os
import platform
import re
import resource
import shutil
import subprocess
import sys

from workloads import ENGINES, PEERS, TOO_LARGE

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
HEADER = [ROOT]                     # where projections.hpp is
CXX = os.environ.get('CXX', 'g++').split()
CLANGXX = os.environ.get('CLANGXX', 'clang++').split()
STANDARD = '-std=c++17'
CALLGRIND = ['valgrind', '--tool=callgrind', '--callgrind-out-file=' + os.devnull]

FEW, MANY = 2_000, 12_000           # events handled by the two runs that are compared
TIMED_EVENTS, TIMED_PASSES, TIMED_TURNS = 20_000, 10, 5
LARGE_PASSES, LARGE_TURNS = 2, 3
REPLAYED, KEPT = (1_000_000, 10_000_000), 60_000
PEAK_SLACK_KIB = 256                # where pages come to lie differs from run to run


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **options)
    if done.returncode != 0:
        sys.stderr.write('%s\n%s%s' % (' '.join(command), done.stdout[-4000:], done.stderr[-8000:]))
        raise SystemExit('bench: a command failed')
    return done


def progress(label):
    if sys.stderr.isatty():
        sys.stderr.write('\r\033[K' + label)
        sys.stderr.flush()


def in_parallel(function, things):
    """{thing: function(thing)}, on as many threads as there are processors."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {thing: pool.submit(function, thing) for thing in things}
        try:
            return {thing: future.result() for thing, future in futures.items()}
        finally:
            for future in futures.values():
                future.cancel()


def compiler_name(command):
    version = run(command + ['-dumpversion']).stdout
    return '%s %s' % (os.path.basename(command[0]), version.strip().split('.')[0])


def machine():
    """What a recorded figure is a figure of."""
    return '%s -O2, %s' % (compiler_name(CXX), platform.machine())


def peer_flags(peer):
    """(for the compiler, for the linker); None if the library is not installed."""
    wanted = PEERS[peer]
    compiler, linker = [wanted.define] if wanted.define else [], []
    if wanted.pkg_config:
        if shutil.which('pkg-config') is None or subprocess.run(
                ['pkg-config', '--exists', wanted.pkg_config], check=False).returncode != 0:
            return None
        compiler += run(['pkg-config', '--cflags', wanted.pkg_config]).stdout.split()
        linker = run(['pkg-config', '--libs', wanted.pkg_config]).stdout.split()
    found = subprocess.run(CXX + [STANDARD, '-fsyntax-only', '-x', 'c++', '-'] + compiler, text=True, check=False,
                           input='#include %s\n' % wanted.include, stderr=subprocess.DEVNULL)
    return (compiler, linker) if found.returncode == 0 else None


class Programs:
    """Builds each program once."""

    def __init__(self, build_dir, with_lines=False):
        self.build_dir, self.built = build_dir, {}
        self.flags = ['-O2'] + (['-g'] if with_lines else [])
        self.peers = {peer: peer_flags(peer) for peer in PEERS}

    def is_missing(self, row):
        """The peer that is not installed, or ''."""
        peer = ENGINES[row.engine].peer
        return peer if peer and self.peers[peer] is None else ''

    def build(self, rows):
        """What these rows need: what takes longest first."""
        wanted = {(row.workload, ENGINES[row.engine]) for row in rows}
        self.built.update(in_parallel(self.compile, sorted(wanted, key=lambda one: (-one[0].types, one[1].program))))

    def compile(self, wanted):
        workload, engine = wanted
        folder = os.path.join(self.build_dir, workload.key())
        out = os.path.join(folder, engine.program + engine.peer)
        compiler, linker = self.peers[engine.peer] if engine.peer else ([], [])
        progress('compiling ' + os.path.relpath(out, self.build_dir))
        workload.generate(folder)
        run(CXX + [STANDARD] + self.flags + ['-I' + folder, '-I' + HEADER[0]] + workload.flags() + compiler
            + [os.path.join(HERE, engine.program + '.cpp'), '-o', out] + linker)
        return out

    def command(self, row):
        return [self.built[row.workload, ENGINES[row.engine]]] + row.arguments()


def collected(command, label):
    """Instructions below measured*()."""
    done = run(CALLGRIND + ['--toggle-collect=measured*'] + command)
    found = re.search(r'Collected *: *(\d+)', done.stderr)
    if not found or int(found.group(1)) == 0:
        raise SystemExit('bench: nothing was counted for "%s"\n%s' % (label, done.stderr))
    return int(found.group(1))


def instructions(programs, rows):
    """{label: instructions per event}."""
    def of(row):
        progress(row.label)
        few, many = (collected(programs.command(row) + ['log=%d' % MANY, 'events=%d' % events], row.label)
                     for events in (FEW, MANY))
        return (many - few) / (MANY - FEW)
    return {row.label: figure for row, figure in in_parallel(of, rows).items()}


def nanoseconds(programs, rows):
    """{work: its fastest pass}; the rows take turns, so that a slow moment hits them all."""
    best = {}
    for turn in range(TIMED_TURNS):
        for row in rows:
            if row.large and turn >= LARGE_TURNS:
                continue
            events, passes = (TOO_LARGE, LARGE_PASSES) if row.large else (TIMED_EVENTS, TIMED_PASSES)
            progress('turn %d of %d, %s' % (turn + 1, TIMED_TURNS, row.label))
            done = run(programs.command(row) + ['log=%d' % events, 'events=%d' % events, 'passes=%d' % passes])
            best[row.work()] = min(best.get(row.work(), 1e30), float(done.stdout))
    return best


def peaks(programs, row):
    """{events replayed: largest resident size in KiB} of a log that keeps no more for being longer."""
    found = {}
    for events in REPLAYED:
        progress('replaying %d events' % events)
        done = run(programs.command(row) + ['log=%d' % KEPT, 'events=%d' % events, 'peak=1'])
        found[events] = int(done.stdout)
    return found


def partitions(build_dir):
    """{'header' | 'unrolled': instructions per id of 16 to 36 bytes}."""
    program = os.path.join(build_dir, 'partition')
    run(CXX + [STANDARD, '-O2', '-I' + HEADER[0], os.path.join(HERE, 'partition.cpp'), '-o', program])
    figures = {}
    for which in ('unrolled', 'header'):
        few, many = (collected([program, which, str(ids)], which) for ids in (1000, 3000))
        figures[which] = (many - few) / 2000
    sums = {run([program, which, '3000']).stdout for which in figures}
    if len(sums) != 1:
        raise SystemExit('bench: the partitions differ')
    return figures


def compiler_instructions(sources):
    """What the compiler itself executes for each file: a figure that no other process can spoil."""
    def of(source):
        # The driver only starts the compiler proper, which is the process that counts most.
        done = run(CALLGRIND + ['--trace-children=yes'] + CXX + [STANDARD, '-fsyntax-only', '-I' + HEADER[0], source])
        return max(map(int, re.findall(r'Collected *: *(\d+)', done.stderr)))
    return list(in_parallel(of, sources).values())


def cpu_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def fastest_by_turns(commands, turns):
    """One turn is enough for what takes long: noise does not grow with it, patience ends."""
    best = [1e30] * len(commands)
    for _ in range(turns):
        for i, command in enumerate(commands):
            best[i] = min(best[i], cpu_seconds(command))
        if sum(best) > 10:
            break
    return best


def profile(programs, row):
    """Prints where the row's instructions go."""
    out_file = os.path.join(programs.build_dir, 'callgrind.profile')
    run(CALLGRIND[:2] + ['--toggle-collect=measured*', '--dump-instr=yes', '--callgrind-out-file=' + out_file]
        + programs.command(row) + ['log=%d' % MANY, 'events=%d' % MANY])
    text = run(['callgrind_annotate', '--auto=yes', '--context=0', '--threshold=97', out_file]).stdout

    def per_event(line):        # which begins with its number of instructions in total
        return '%8.2f %s' % (int(line.group(1).replace(',', '')) / MANY, line.group(2))
    for line in text.splitlines():
        print(re.sub(r'^\s*([\d,]+) (\(.*)$', per_event, line))
