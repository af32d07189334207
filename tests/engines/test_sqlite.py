#!/usr/bin/env python3
"""The order service of examples/10_sqlite: its command line, and what is left of it after SIGKILL at any moment.

    test_sqlite.py ORDERS [ROUNDS]      exit 0: all well; 77 where redis-server is missing; SEED=n repeats the dice

The read models are compared with a fold of the events that is written here once more, in Python, over everything up
to the checkpoint; the events, with what the commands have told before they were killed.
"""
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

from processes import DICE, child, eventually, kill, need, run, server_or_skip, until

ORDERS = os.path.abspath(sys.argv[1])
REDIS = server_or_skip('redis-server')
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 300
TTL_MS = 60
NO_RATE, SEQUENCED = 422, 0x0FFFFFFC
TRANSIENT, PERMANENT, UNDECODABLE = 0, 1, 2


class Shop:
    def __init__(self, folder, name, redis=None):
        self.file = os.path.join(folder, name)
        self.environment = dict(os.environ, ORDERS_TTL_MS=str(TTL_MS))
        self.environment.pop('ORDERS_REDIS', None)
        self.redis = {'ORDERS_REDIS': redis} if redis else {}

    def __call__(self, *words, redis=False):
        """(exit code, output, what was said beside it)"""
        environment = dict(self.environment, **(self.redis if redis else {}))
        done = subprocess.run([ORDERS, self.file, *map(str, words)], capture_output=True, text=True, timeout=60,
                              env=environment, check=False)
        return done.returncode, done.stdout, done.stderr

    def start(self, *words, **how):
        return child(ORDERS, self.file, *words, env=dict(self.environment, **self.redis), **how)

    def connect(self):
        db = sqlite3.connect(self.file, timeout=20, isolation_level=None)
        db.execute('PRAGMA journal_mode = WAL')
        return db


class Fold:
    """What the read models must be, event by event; and whether the aggregates kept their rules."""
    rates = {'EUR': 100, 'USD': 92}
    rules = {'OrderPlaced': ({None}, 'placed'), 'OrderPaid': ({'placed'}, 'paid'),
             'OrderShipped': ({'paid'}, 'shipped'), 'OrderCancelled': ({'placed', 'paid'}, 'cancelled')}

    def __init__(self):
        self.at = 0
        self.orders, self.revenue, self.letters = {}, {}, set()
        self.aggregates = {}
        self.waiting = set()            # (handler, aggregate) that have a letter

    def is_lettered(self, position, handler, aggregate, failure):
        """Whether the handler ('': all of them) gives the event up: it fails, or an earlier one of its order has."""
        if (handler, aggregate) in self.waiting:
            failure = TRANSIENT, SEQUENCED
        if failure:
            self.waiting.add((handler, aggregate))
            self.letters.add((position, handler, *failure))
        return failure

    def decide(self, position, aggregate, sequence, kind):
        before, after = self.aggregates.get(aggregate, (0, None))
        need(sequence == before + 1, 'sequences of an aggregate have no holes', position, aggregate, sequence)
        need(after in self.rules[kind][0], 'two commands were decided on one state', position, aggregate, after, kind)
        self.aggregates[aggregate] = (sequence, self.rules[kind][1])

    def take(self, row):
        position, aggregate, sequence, kind, version, payload, occurred_at = row
        need(position == self.at + 1, 'positions are dense', self.at, position)
        self.at = position
        self.decide(position, aggregate, sequence, kind)
        try:
            event = json.loads(payload)
        except ValueError:
            event = None
        if self.is_lettered(position, '', aggregate, None if event else (UNDECODABLE, 0)):
            return
        if not self.is_lettered(position, 'orders::order_summary', aggregate, None):
            self.summarize(aggregate, kind, version, event)
        if kind in ('OrderPaid', 'OrderCancelled'):
            has_rate = not event['cents'] or event['currency'] in self.rates
            if not self.is_lettered(position, 'orders::revenue_per_day', aggregate,
                                    None if has_rate else (PERMANENT, NO_RATE)) and event['cents']:
                self.add(occurred_at, event, +1 if kind == 'OrderPaid' else -1)

    def summarize(self, aggregate, kind, version, event):
        if kind == 'OrderPlaced':
            if version == 1:
                event.update(cents=round(float(event['total']) * 100), currency='EUR')
            self.orders[aggregate] = [event['customer'], event['cents'], event['currency'], 'placed', '']
        else:
            self.orders[aggregate][3:] = [self.rules[kind][1], event.get('parcel', '')]

    def add(self, occurred_at, event, sign):
        day = self.revenue.setdefault(time.strftime('%Y-%m-%d', time.gmtime(occurred_at / 1000)), [0, 0])
        day[0] += sign > 0
        day[1] += sign * (event['cents'] * self.rates[event['currency']] // 100)

    def catch_up(self, db):
        """To the checkpoint, and compares all that is there, as of one moment."""
        if not db.in_transaction:
            db.execute('BEGIN')
        through = db.execute("SELECT position FROM checkpoints WHERE key = 'orders'").fetchone()
        through = max(through[0], 0) if through else 0
        need(through >= self.at, 'the checkpoint went back', through, self.at)
        for row in db.execute('SELECT position, aggregate, sequence, type, version, payload, occurred_at FROM events '
                              'WHERE position > ? AND position <= ? ORDER BY position', (self.at, through)):
            self.take(row)
        self.compare(db, through)
        db.execute('COMMIT')

    def compare(self, db, through):
        orders = {row[0]: list(row[1:]) for row in db.execute(
            'SELECT id, customer, cents, currency, status, parcel FROM order_summary')}
        need(orders == self.orders, 'order_summary is a fold of the events', through,
             {k: (orders.get(k), self.orders.get(k)) for k in orders.keys() | self.orders.keys()
              if orders.get(k) != self.orders.get(k)})
        revenue = {row[0]: list(row[1:]) for row in db.execute('SELECT day, payments, cents FROM revenue')}
        need(revenue == self.revenue, 'revenue is a fold of the events', through, revenue, self.revenue)
        letters = set(db.execute("SELECT position, handler, kind, code FROM letters WHERE projection = 'orders'"))
        need(letters == self.letters, 'one letter for each failure', through, letters ^ self.letters)

    @classmethod
    def look(cls, db, rates):
        """All up to the checkpoint, whatever was redelivered by now: how many letters are left."""
        fold = cls()
        fold.rates = rates
        fold.catch_up(db)
        return len(fold.letters)

    def as_listed(self):
        lines = ['\t'.join(map(str, [k, *self.orders[k]])) + '\n' for k in sorted(self.orders)]
        return ''.join(lines)


class Repaired(Fold):
    """While the letters, whose causes are gone, are redelivered: an event has had its effect on a model, or has its
    letter, and then all later ones of its order have theirs, too."""
    def catch_up(self, db):
        db.execute('BEGIN')         # as of one moment
        self.kept = {row[:2]: row for row in db.execute("SELECT position, handler, kind, code FROM letters "
                                                        "WHERE projection = 'orders'")}
        super().catch_up(db)

    def is_lettered(self, position, handler, aggregate, failure):
        kept = self.kept.get((position, handler))
        need(not failure and (kept or (handler, aggregate) not in self.waiting), 'what comes later waits', position,
             handler, aggregate, failure)
        if kept:
            self.waiting.add((handler, aggregate))
            self.letters.add(kept)
        return kept


OLD = ('INSERT INTO events(aggregate, sequence, type, version, payload, occurred_at) '
       "VALUES(?, 1, 'OrderPlaced', 1, ?, ?)")
STATE = "INSERT INTO aggregates VALUES(?, 1, ?)"


def walk_through(shop, redis):
    """Each command once, with what it prints."""
    need(shop('lag') == (0, '0 of 0, 0 behind\n', ''), 'an empty shop')
    db = shop.connect()
    # What the program wrote before it knew currencies, and something broken.
    db.execute(OLD, ('o-1', '{"customer": "Ann", "total": "49.90"}', 1709210000000))
    db.execute(STATE, ('o-1', '{"cents": 4990, "currency": "EUR", "status": "placed"}'))
    db.execute(OLD, ('o-9', '{"customer": "Zoe", "total": "a lot"}', 1709210000000))
    for words, code in [(('place', 'o-2', 'Bob', 1000, 'XTS'), 0), (('pay', 'o-2'), 0), (('ship', 'o-1', 'P1'), 1),
                        (('pay', 'o-1'), 0), (('ship', 'o-1', 'P1'), 0), (('cancel', 'o-1'), 1),
                        (('place', 'o-2', 'Bob', 1000), 1), (('place', 'o-3', 'Cay', 500, 'USD'), 0),
                        (('cancel', 'o-3'), 0), (('cancel', 'o-2'), 0), (('place', 'o-7', 'Dee', 200, 'XTS'), 0),
                        (('pay', 'o-7'), 0)]:
        done = shop(*words)
        need(done[0] == code and done[2] == ('refused\n' if code else ''), 'commands', words, done)
    db.execute(OLD.replace("1, 'OrderPlaced'", "2, 'OrderShipped'"), ('o-9', '{"parcel": "P9"}', 1709210000000))
    need(shop('lag')[1] == '0 of 12, 12 behind\n', 'lag', shop('lag'))
    need(shop('work', '--until-idle', redis=True)[0] == 0, 'work')
    need(shop('lag')[1] == '12 of 12, 0 behind\n', 'lag', shop('lag'))

    listed = ('o-1\tAnn\t4990\tEUR\tshipped\tP1\n' 'o-2\tBob\t1000\tXTS\tcancelled\t\n'
              'o-3\tCay\t500\tUSD\tcancelled\t\n' 'o-7\tDee\t200\tXTS\tpaid\t\n')
    need(shop('list') == (0, listed, 'answered by sqlite\n'), 'list', shop('list'))
    need(shop('show', 'o-1')[1] == listed.split('\n')[0] + '\n', 'show')
    today = db.execute("SELECT date('now')").fetchone()[0]
    need(shop('revenue')[1] == f'{today}\t1\t4990\n', 'revenue', shop('revenue'))
    requeued_by_hand(shop, db, today)
    need(shop('list')[1] == listed, 'a requeued event does not reach the other handler', shop('list'))
    need(shop('rebuild')[1] == 'ok, 12 events\n', 'rebuild')
    need(shop('list')[1] == listed and shop('revenue')[1] == f'{today}\t3\t5090\n', 'rebuilt')
    need(len(shop('letters')[1].splitlines()) == 2, 'a rebuild writes the letters anew', shop('letters'))
    return listed, redis


def requeued_by_hand(shop, db, today):
    """A payment without a rate, what comes after it, and what nobody can read, with a later event of the same order."""
    def requeue(done, *words):
        """Each letter, and what it came to."""
        handler = {2: '', 12: ''}
        order = {2: 'o-9', 4: 'o-2', 9: 'o-2', 11: 'o-7', 12: 'o-9'}
        want = ''.join(f'{n}\t{handler.get(n, "orders::revenue_per_day")}\t{order[n]}\t{came_to}\n'
                       for n, came_to in words) + f'{done} done, {len(words) - done} left\n'
        have = shop('requeue')
        need(have == (0, want, ''), 'requeue', have, want)

    def letters():
        """(position, code, attempts)"""
        return db.execute('SELECT position, code, attempts FROM letters ORDER BY position').fetchall()

    first = [(2, 0, 1), (4, NO_RATE, 1), (9, SEQUENCED, 0), (11, NO_RATE, 1), (12, SEQUENCED, 0)]
    need(letters() == first, 'letters', letters())
    need([tuple(line.split('\t')[:3]) for line in shop('letters')[1].splitlines()][1] ==
         ('4', 'orders::revenue_per_day', 'o-2'), 'letters', shop('letters'))
    again = 'has failed again'
    requeue(0, (2, again), (4, again), (9, 'waits'), (11, again), (12, 'waits'))
    need(letters() == [(n, code, attempts + (attempts > 0)) for n, code, attempts in first], 'letters', letters())
    need(shop('rate', 'XTS', 50)[0] == 0, 'rate')
    with_worker = shop.start('work')    # who does it, then, if he was not too late
    requeue(3, (2, again), (4, 'done'), (9, 'done'), (11, 'done'), (12, 'waits'))
    kill(with_worker)
    need(letters() == [(2, 0, 3), (12, SEQUENCED, 0)], 'letters', letters())
    need(shop('revenue')[1] == f'{today}\t3\t5090\n', 'what was requeued counts', shop('revenue'))


def two_sources(shop, listed, redis):
    """Redis where it runs, has all and is of this file; else SQLite."""
    process, socket = redis
    need(shop('list', redis=True) == (0, listed, 'answered by redis\n'), 'from redis', shop('list', redis=True))
    need(shop('place', 'o-4', 'Dan', 100)[0] == 0, 'place')
    shop.redis = {}
    need(shop('work', '--until-idle')[0] == 0, 'work without redis')
    shop.redis = {'ORDERS_REDIS': socket}
    done = shop('show', 'o-4', redis=True)
    need(done == (0, 'o-4\tDan\t100\tEUR\tplaced\t\n', 'answered by sqlite\n'), 'a cache that is behind', done)
    need(shop('work', '--until-idle', redis=True)[0] == 0, 'work')
    need(shop('show', 'o-4', redis=True)[2] == 'answered by redis\n', 'it has caught up')
    subprocess.run(['redis-cli', '-s', socket, 'flushall'], stdout=subprocess.DEVNULL, check=True)
    listed = shop('list')[1]
    need(shop('list', redis=True) == (0, listed, 'answered by sqlite\n'), 'an emptied cache')
    need(shop('work', '--until-idle', redis=True)[0] == 0, 'work')
    need(shop('list', redis=True) == (0, listed, 'answered by redis\n'), 'it fills again')
    need(shop('revenue', redis=True)[1] == shop('revenue')[1], 'revenue from both')
    kill(process)
    need(shop('list', redis=True) == (0, listed, 'answered by sqlite\n'), 'redis is dead')


class Customers:
    """Keeps a process of random commands running, and all that it has told."""
    def __init__(self, shop):
        self.shop, self.told, self.threads = shop, [], []
        self.begin()

    def begin(self):
        self.process = self.shop.start('load', DICE.randrange(1 << 31), 100000, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        thread = threading.Thread(target=self.listen, args=(self.process,))
        thread.start()
        self.threads.append(thread)

    def listen(self, process):
        for line in process.stdout:
            if line.endswith(b'\n'):
                self.told.append(line.decode().split())

    def kill(self):
        kill(self.process)

    def end(self):
        self.kill()
        for thread in self.threads:
            thread.join()


def killed(shop, rounds, redis):
    """Two workers (one works, one stands by) and two customers; one of them is killed in each round, or Redis."""
    need(shop('lag')[0] == 0, 'the tables are there')
    db, fold = shop.connect(), Fold()
    workers = [shop.start('work'), shop.start('work')]
    customers = [Customers(shop), Customers(shop)]
    kills = {'workers': 0, 'customers': 0, 'servers': 0}
    stopped = 0
    for i in range(rounds):
        time.sleep(DICE.choice([0.01, 0.05, 0.1, 0.2]) * DICE.random())
        if i % 10 == 0:     # an old one, and one that nobody can read
            db.execute(OLD, (f'v1-{i}', '{"customer": "Old", "total": "12.34"}', 1709210000000 + i * 3600000))
            db.execute(OLD, (f'bad-{i}', '{"customer"', 1709210000000))
        if DICE.random() < 0.1:     # a machine that hangs until its lease is somebody else's
            worker = DICE.choice(workers)
            worker.send_signal(signal.SIGSTOP)
            time.sleep(2 * TTL_MS / 1000)
            worker.send_signal(signal.SIGCONT)
            stopped += 1
        elif DICE.random() < 0.05:
            kill(redis[0])
            redis = start_redis(os.path.dirname(shop.file))
            kills['servers'] += 1
        elif DICE.random() < 0.25:
            one = DICE.choice(customers)
            one.kill()
            one.begin()
            kills['customers'] += 1
        else:
            which = DICE.randrange(2)
            kill(workers[which])
            workers[which] = shop.start('work')
            kills['workers'] += 1
        fold.catch_up(db)
        need(all(w.poll() is None for w in workers), 'a worker has ended by itself', i, [w.poll() for w in workers])
    for one in customers:
        one.end()
    newest = db.execute('SELECT max(position) FROM events').fetchone()[0]
    need(until(lambda: fold.catch_up(db) or fold.at == newest), 'the workers catch up', fold.at, newest)

    events = set(db.execute('SELECT aggregate, type FROM events'))
    names = {'p': 'OrderPlaced', 'y': 'OrderPaid', 's': 'OrderShipped', 'c': 'OrderCancelled'}
    told = [(order, names[kind]) for one in customers for order, kind in one.told]
    need(len(told) == len(set(told)) and set(told) <= events, 'what was told is there', set(told) - events)
    states = dict(db.execute("SELECT id, json_extract(state, '$.status') FROM aggregates"))
    need(all(fold.aggregates[k][1] == v for k, v in states.items()), 'aggregates are a fold of the events')
    revision, token = db.execute("SELECT revision, token FROM checkpoints WHERE key = 'orders'").fetchone()
    print(f'{kills["workers"]} workers, {kills["customers"]} customers and {kills["servers"]} times Redis killed, '
          f'{stopped} workers stopped for longer than their lease; {newest} events, '
          f'{len(fold.letters)} letters, {revision} checkpoints, {token} leases')
    return db, fold, workers, redis


def rebuilds_killed(shop, db, fold, rounds):
    """The models are emptied and filled again, whatever is killed between: the same as before."""
    for _ in range(rounds):
        process = shop.start('rebuild', stdout=subprocess.DEVNULL)
        time.sleep(TTL_MS / 1000 + 0.1 * DICE.random())
        kill(process)
    need(shop('rebuild')[0] == 0, 'rebuild')
    db.execute('BEGIN')
    fold.compare(db, fold.at)
    db.execute('COMMIT')


def add_order(db, name, currency, placed='{"customer": "Cay", "cents": 300, "currency": "XTS"}'):
    """Placed, paid and cancelled, at once."""
    money = json.dumps({'cents': 300, 'currency': currency})
    for n, (kind, payload) in enumerate([('OrderPlaced', placed), ('OrderPaid', money), ('OrderCancelled', money)]):
        db.execute('INSERT INTO events(aggregate, sequence, type, version, payload, occurred_at) '
                   'VALUES(?, ?, ?, 2, ?, ?)',
                   (name, n + 1, kind, payload, 1709210000000 + DICE.randrange(5) * 86400000))


def requeued(shop, db, rounds):
    """Letters are redelivered, and he who does it is killed, until none is left; then the same with new ones."""
    rates = dict(Fold.rates, XTS=50)
    halfway = kills = fills = 0
    while halfway < rounds:
        db.execute('BEGIN IMMEDIATE')
        db.execute("DELETE FROM rates WHERE currency = 'XTS'")
        for i in range(100):
            add_order(db, f'more-{fills}-{i}', 'XTS')
            if i % 10 == 0:
                add_order(db, f'bad-{fills}-{i}', 'EUR', '{"customer"')
        db.execute('COMMIT')
        fills += 1
        need(shop('work', '--until-idle')[0] == 0, 'work')
        need(shop('rate', 'XTS', 50)[0] == 0, 'rate')
        # As if the program could read it by now.
        db.execute("UPDATE events SET version = 2, payload = ? WHERE aggregate LIKE 'bad-%' AND type = 'OrderPlaced'",
                   ('{"customer": "Bea", "cents": 300, "currency": "EUR"}',))
        before = left = Repaired.look(db, rates)
        need(left >= 200, 'letters', left)
        while left:
            workers = [shop.start('work') for _ in range(DICE.randrange(2))]
            requeue = shop.start('requeue', stdout=subprocess.DEVNULL)
            if DICE.random() < 0.3:
                time.sleep(0.15 * DICE.random())
            else:           # in the middle of it
                few = DICE.randrange(left)
                until(lambda: db.execute('SELECT count(*) FROM letters').fetchone()[0] <= few, 0.5)
            for process in [requeue, *workers]:
                kill(process)
            left, was = Repaired.look(db, rates), left
            kills += 1
            halfway += was > left > 0
            need(kills < 10 * rounds, 'letters that are never redelivered', left)
    need(shop('requeue')[1] == '0 done, 0 left\n', 'nothing is left')
    fold = Fold()
    fold.rates = rates
    fold.catch_up(db)
    need(not fold.letters, 'no letters')
    print(f'{kills} kills while {before} letters and more were redelivered, {halfway} of them in the middle of it')


def cached(shop, fold):
    """What the killed workers have left in Redis is the same, once it has caught up."""
    need(shop('work', '--until-idle', redis=True)[0] == 0, 'work')
    for query in ('list', 'revenue'):
        ours, theirs = shop(query), shop(query, redis=True)
        need(theirs[2] == 'answered by redis\n' and theirs[1] == ours[1], 'the cache is the same', query, theirs[2])
    need(shop('list')[1] == fold.as_listed(), 'list')


def start_redis(folder):
    """(process, socket)"""
    path = os.path.join(folder, 'redis.sock')
    if os.path.exists(path):        # of one that was killed
        os.unlink(path)
    process = child(REDIS, '--port', 0, '--unixsocket', path, '--dir', folder, '--save', '', '--appendonly', 'yes',
                    stdout=subprocess.DEVNULL)
    eventually('a redis-server', lambda: os.path.exists(path))
    return process, path


def test(folder):
    redis = start_redis(folder)
    shop = Shop(folder, 'storm.db', redis[1])
    db, fold, workers, redis = killed(shop, ROUNDS, redis)
    for worker in workers:
        kill(worker)
    rebuilds_killed(shop, db, fold, ROUNDS // 20)
    cached(shop, fold)
    shop.redis = {}
    requeued(shop, db, ROUNDS // 20)
    first = Shop(folder, 'shop.db', redis[1])
    two_sources(first, *walk_through(first, redis))


run(test)
