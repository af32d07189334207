#!/usr/bin/env python3
"""The order service of examples/11_postgres: many writers that commit out of order, worker processes that share the
partitions, and SIGKILL for any of them and for the server.

    test_postgres.py ORDERS_PG CONTRACT SCHEMA_FOLDER [SECONDS]     exit 0: all well; 77 without PostgreSQL;
                                                                SEED=n repeats the dice

Whenever it is looked at, each partition's rows are a fold of its events up to its checkpoint; and at the end no event
is missing.
"""
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time

from processes import DICE, Postgres, child, kill, need, run, stop, until

ORDERS = os.path.abspath(sys.argv[1])
CONTRACT, SCHEMA = sys.argv[2:4]
SECONDS = float(sys.argv[4]) if len(sys.argv) > 4 else 10
PARTITIONS, PROCESSES, MOST = 8, 3, 4
LEASE_MS = 800
UNDECODABLE, TRANSIENT = 2, 0
UNCOMMITTED = 0x0FFFFFFD
PLAIN = '{"customer": "c", "cents": 1, "currency": "EUR"}'
RULES = {'OrderPlaced': ({None}, 'placed'), 'OrderPaid': ({'placed'}, 'paid'), 'OrderShipped': ({'paid'}, 'shipped'),
         'OrderCancelled': ({'placed', 'paid'}, 'cancelled')}


def partition(aggregate):
    return int.from_bytes(hashlib.sha256(aggregate.encode()).digest(), 'big') % PARTITIONS


class State:
    """All that is in the database at one moment."""
    def __init__(self, server):
        lines = server.run('BEGIN ISOLATION LEVEL REPEATABLE READ;' + ''.join(
            f"SELECT '{table} ' || to_json(t) FROM {table} t{order};" for table, order in
            [('events', ' ORDER BY position'), ('checkpoints', ''), ('order_summary', ''), ('revenue', ''),
             ('letters', ''), ('aggregates', '')]) + 'COMMIT;')
        self.tables = {name: [] for name in ('events', 'checkpoints', 'order_summary', 'revenue', 'letters',
                                             'aggregates')}
        for line in lines.splitlines():
            name, row = line.split(' ', 1)
            self.tables[name].append(json.loads(row))
        self.through = {row['key']: row['position'] for row in self.tables['checkpoints']}
        self.tokens = sum(row['token'] for row in self.tables['checkpoints'])

    def checkpoint(self, index):
        return self.through.get(f'orders_p{index}', -1)

    def check(self, server):
        orders, revenue, letters, status = {}, {}, set(), {}
        for e in self.tables['events']:
            aggregate, kind, at = e['aggregate'], e['type'], e['position']
            before, after = status.get(aggregate, (0, None))
            need(e['sequence'] == before + 1, 'an aggregate\'s events are in the order of their positions', e, before)
            need(after in RULES[kind][0], 'two commands were decided on one state', e, after)
            status[aggregate] = (e['sequence'], RULES[kind][1])
            index = partition(aggregate)
            if at > self.checkpoint(index):
                continue
            try:
                event = json.loads(e['payload'])
            except ValueError:
                letters.add((index, at, '', UNDECODABLE, 0))
                continue
            self.fold(e, event, index, orders, revenue, letters)
        rows = {r['id']: [r[k] for k in ('customer', 'cents', 'currency', 'status', 'parcel')]
                for r in self.tables['order_summary']}
        need(rows == orders, 'order_summary is a fold of the events',
             [(k, rows.get(k), orders.get(k)) for k in rows.keys() | orders.keys() if rows.get(k) != orders.get(k)][:9])
        rows = {(r['day'], r['currency'], r['partition']): [r['payments'], r['cents']] for r in self.tables['revenue']}
        need(rows == revenue, 'revenue is a fold of the events', rows, revenue)
        rows = {tuple(r[k] for k in ('partition', 'position', 'handler', 'kind', 'code'))
                for r in self.tables['letters']}
        need(rows == letters, 'one letter for each failure', rows ^ letters)
        self.letters, self.status = letters, status

    @staticmethod
    def fold(e, event, index, orders, revenue, letters):
        aggregate, kind = e['aggregate'], e['type']
        if kind == 'OrderPlaced':
            if e['version'] == 1:
                event.update(cents=round(float(event['total']) * 100), currency='EUR')
            if event['cents'] >= 1000000:       # the constraint; what follows finds no row
                letters.add((index, e['position'], '', TRANSIENT, UNCOMMITTED))
                return
            orders[aggregate] = [event['customer'], event['cents'], event['currency'], 'placed', '']
        elif aggregate in orders:
            orders[aggregate][3:] = [RULES[kind][1], event.get('parcel', '')]
        if kind == 'OrderPaid' or (kind == 'OrderCancelled' and event['cents']):
            day = time.strftime('%Y-%m-%d', time.gmtime(e['occurred_at'] // 1000))
            row = revenue.setdefault((day, event['currency'], index), [0, 0])
            row[0] += kind == 'OrderPaid'
            row[1] += event['cents'] if kind == 'OrderPaid' else -event['cents']

    def is_done(self, but=None):
        newest = self.tables['events'][-1]['position']
        return all(self.checkpoint(i) >= newest for i in range(PARTITIONS) if i != but)


class Writer:
    """Keeps one process of customers running, whatever happens to it, and what it has told."""
    def __init__(self, server, delay_ms):
        self.server, self.delay_ms = server, delay_ms
        self.random, self.told, self.ends = random.Random(DICE.random()), [], False
        self.process = None
        self.thread = threading.Thread(target=self.live)
        self.thread.start()

    def live(self):
        while not self.ends:
            self.process = subprocess.Popen([ORDERS, self.server.connection(), 'load',
                                             str(self.random.randrange(1 << 31)), '100000', str(self.delay_ms)],
                                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for line in self.process.stdout:
                if line.endswith(b'\n'):
                    self.told.append(line.decode().split())
            self.process.wait()
            time.sleep(0.05)

    def kill(self):
        if self.process is not None:
            self.process.kill()

    def end(self):
        self.ends = True
        while self.thread.is_alive():       # it may be starting one just now
            self.kill()
            self.thread.join(0.1)


class Workers:
    def __init__(self, server):
        self.server = server
        self.all = [self.begin() for _ in range(PROCESSES)]

    def begin(self, most=MOST, lease_ms=LEASE_MS):
        return child(ORDERS, self.server.connection(), 'work', PARTITIONS, most, lease_ms, stderr=subprocess.DEVNULL)

    def stop(self):
        for process in self.all:
            process.terminate()
        need([process.wait(10) for process in self.all] == [0] * len(self.all), 'workers stop when they are told to')
        for process in self.all:
            kill(process)

    def replace(self, which):
        kill(self.all[which])
        self.all[which] = self.begin()


def odd_events(server, i):
    """What an older program wrote, and what nobody can read."""
    now = int(time.time() * 1000)
    payload = '{"customer": "Old", "total": "12.34"}'
    server.run(f"SELECT append_event('v1-{i}', 0, 'OrderPlaced', 1, '{payload}', {now});"
               f"SELECT append_event('bad-{i}', 0, 'OrderPlaced', 2, '{{', {now});", check=False)


def storm(server):
    """Worker processes, writers and the server are killed while the load goes on."""
    workers = Workers(server)
    delays = [0, 0, 0, 20, 100, 300]
    writers = [Writer(server, delay) for delay in delays]
    kills = {'workers': 0, 'writers': 0, 'server': 0}
    looks = 0
    try:
        began = time.monotonic()
        while (passed := (time.monotonic() - began) / SECONDS) < 1:
            time.sleep(0.3 * DICE.random())
            chance = DICE.random()
            if kills['server'] < int(3 * passed):       # twice, whatever the dice say
                chance = 0.75
            if chance < 0.5:
                workers.replace(DICE.randrange(PROCESSES))
                kills['workers'] += 1
            elif chance < 0.75:
                DICE.choice(writers).kill()
                kills['writers'] += 1
            elif chance < 0.8:
                server.kill()
                server.start()
                kills['server'] += 1
            else:
                odd_events(server, looks)
                State(server).check(server)
                looks += 1
            need(all(w.poll() is None for w in workers.all), 'a worker has ended by itself')
    finally:
        for writer in writers:
            writer.end()
    need(until(lambda: State(server).is_done(), 30), 'the workers catch up', State(server).through)
    state = State(server)
    state.check(server)
    need(state.is_done(), 'nothing is left over')

    names = {'p': 'OrderPlaced', 'y': 'OrderPaid', 's': 'OrderShipped', 'c': 'OrderCancelled'}
    events = {(e['aggregate'], e['type']) for e in state.tables['events']}
    told = [(order, names[kind]) for writer in writers for order, kind in writer.told]
    need(len(told) == len(set(told)) and set(told) <= events, 'what was told is there', set(told) - events)
    need({r['id']: json.loads(r['state'])['status'] for r in state.tables['aggregates']}.items() <=
         {k: v[1] for k, v in state.status.items()}.items(), 'aggregates are a fold of the events')
    print(f'{kills["workers"]} worker processes, {kills["writers"]} writers and {kills["server"]} times the server '
          f'killed; {len(events)} events of {len(delays)} writers, {len(state.letters)} letters, {looks} looks, '
          f'{state.tokens} leases')
    return workers


def taken_over(workers, server):
    """One process after the other is gone: the others take over its partitions, before it is replaced."""
    took = []
    for round in range(PROCESSES):
        kill(workers.all.pop(0))
        server.run(f"SELECT append_event('last-{round}-' || i, 0, 'OrderPlaced', 2, '{PLAIN}', 0) "
                   "FROM generate_series(1, 40) i;")
        began = time.monotonic()
        need(until(lambda: State(server).is_done(), 20), 'a dead process is replaced', State(server).through)
        took.append(time.monotonic() - began)
        State(server).check(server)
        workers.all.append(workers.begin())
    print(f'partitions of dead processes were taken over within {max(took):.1f} s (lease: {LEASE_MS / 1000} s)')


def wakes(workers, server):
    """Events reach a worker by NOTIFY, not by its next poll a second later. (With the storm's short leases it would
    be woken by the answers to their renewal, too.) Stopped workers give their leases back, or nobody could follow."""
    workers.stop()
    workers.all = [workers.begin(PARTITIONS, 30000)]
    need(until(lambda: all(row['token'] and row['lease_until'] > '2' for row in State(server).tables['checkpoints']
                           if row['key'] != 'orders_partitions'), 10), 'one process takes all partitions')
    took = []
    for i in range(10):
        time.sleep(0.25)
        server.run(f"SELECT append_event('wake-{i}', 0, 'OrderPlaced', 2, '{PLAIN}', 0);")
        began = time.monotonic()
        need(until(lambda: State(server).is_done(), 5), 'it is handled')
        took.append(time.monotonic() - began)
    took.sort()
    need(took[5] < 0.35, 'NOTIFY wakes the workers', took)
    print(f'median from append to seen: {1000 * took[5]:.0f} ms, of which much is psql')
    workers.stop()
    workers.all = [workers.begin() for _ in range(PROCESSES)]


def halted(workers, server):
    """A partition whose record nobody can read says so once, and the others go on without it."""
    for process in workers.all:
        kill(process)
    server.run("CREATE TABLE whole AS SELECT record FROM checkpoints WHERE key = 'orders_p3';"
               "UPDATE checkpoints SET record = '00' WHERE key = 'orders_p3';")
    process = child(ORDERS, server.connection(), 'work', PARTITIONS, PARTITIONS, LEASE_MS, stderr=subprocess.PIPE,
                    text=True)
    server.run(f"SELECT append_event('halt-' || i, 0, 'OrderPlaced', 2, '{PLAIN}', 0) FROM generate_series(1, 40) i;")
    need(until(lambda: State(server).is_done(but=3), 10), 'the others go on', State(server).through)
    for i in range(20):     # passes of the loop
        server.run(f"SELECT append_event('pass-{i}', 0, 'OrderPlaced', 2, '{PLAIN}', 0);")
    need(stop(process) == 0, 'it stops when it is told to')
    said = process.stderr.read()
    need(said == 'partition 3: checkpoint_corrupt\n', 'it says once why a partition has halted', said[:300])
    server.run("UPDATE checkpoints SET record = (SELECT record FROM whole) WHERE key = 'orders_p3'; DROP TABLE whole")
    workers.all = [workers.begin() for _ in range(PROCESSES)]
    need(until(lambda: State(server).is_done(), 10), 'with its record again it goes on', State(server).through)
    State(server).check(server)


def test(folder):
    server = Postgres(folder)
    server.create()
    server.start()
    for name in ('schema.sql', 'orders_models.sql'):
        with open(os.path.join(SCHEMA, name), encoding='utf-8') as file:
            server.run(file.read())
    done = subprocess.run([CONTRACT, server.connection()], capture_output=True, text=True, timeout=60, check=False)
    need(done.returncode == 0, 'the adapter keeps its promises', done.stdout)
    server.run('TRUNCATE events, checkpoints, letters')
    workers = storm(server)
    wakes(workers, server)
    taken_over(workers, server)
    halted(workers, server)
    server.stop()


run(test)
