"""What is measured: event types with handlers, and the rows of the table, as data."""

import os
from dataclasses import dataclass
from typing import Optional

NOUNS = ('Order Payment Invoice Customer Shipment Inventory Account Product Basket Voucher '
         'Contract Delivery Employee Supplier Warehouse Campaign Location Complaint Quotation '
         'Category Reminder Document Passport Schedule Terminal Telegram Sensor Battery Charger '
         'Vehicle Journey Mechanic Workshop').split()
VERBS = ('Created Received Registered Cancelled Updated Refunded Reserved Released Approved '
         'Rejected Archived Completed Suspended Reactivated Renamed Relocated Assigned Unassigned '
         'Escalated Confirmed Forwarded Printed Measured Replaced Returned Verified Scheduled '
         'Postponed Opened Closed Locked Unlocked Published').split()


def names(count, style):
    """Event type names: `short` as people write them, `long` the same in a common head and tail,
    `twins` of one length and equal but for four digits in the middle."""
    if style == 'twins':
        return ['com.example.warehouse.event%04d.integration.v1' % (i * 7) for i in range(count)]
    found = []
    for turn in range(0, len(VERBS), 2):        # two of each noun at a time: common heads and tails
        for i, noun in enumerate(NOUNS):
            for verb in (turn, turn + 1):
                name = noun + VERBS[(i + verb) % len(VERBS)]
                if 11 <= len(name) <= 23 and name not in found:
                    found.append(name)
    assert len(found) >= count
    found = found[:count]
    if style == 'long':
        return ['com.example.warehouse.%s.integration.v1' % name for name in found]
    return found


@dataclass(frozen=True)
class Workload:
    """One set of event types and handlers, compiled into programs of its own."""
    types: int
    handlers: int
    style: str = 'short'
    ids: str = 'explicit'           # or hashed: the default, the hash of the name
    answers: bool = False           # the first handler answers a verdict, and may fail

    def key(self):
        return '%dx%d_%s_%s%s' % (self.types, self.handlers, self.style, self.ids,
                                  '_answers' if self.answers else '')

    def generate(self, folder):
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, 'events.inc'), 'w') as out:
            for i, name in enumerate(names(self.types, self.style)):
                amount = 'uint64_t' if i % 2 else 'uint32_t'
                out.write('EVENT(%d, %s, "%s")\n' % (i, amount, name))
        with open(os.path.join(folder, 'every_event.inc'), 'w') as out:
            out.write(',\n'.join('event_%d' % i for i in range(self.types)) + '\n')

    def flags(self):
        chosen = [('-DBENCH_TWO_HANDLERS', self.handlers == 2),
                  ('-DBENCH_HASHED_IDS', self.ids == 'hashed'),
                  ('-DBENCH_ANSWERS', self.answers)]
        return [flag for flag, is_wanted in chosen if is_wanted]


@dataclass(frozen=True)
class Engine:
    """Who does the work: a program, and what it does of an event. Who does not say that he decodes
    for each handler decodes once for all of them."""
    program: str
    does: str                       # besides finding out by name or by id what the event is
    peer: str = ''                  # a library of others that the program needs


FULL = 'decode, policy, checkpoint'
ENGINES = {
    'worker': Engine('worker', FULL),
    'alone': Engine('worker', FULL),
    'sink': Engine('engines', FULL + ', duplicates'),
    'replay': Engine('engines', FULL),
    'partition': Engine('engines', FULL + ', partition'),
    'switch': Engine('by_hand', 'decode'),
    'hash': Engine('by_hand', 'decode'),
    'map': Engine('by_hand', 'decode per handler'),
    'sigc': Engine('signals', 'decode per handler', peer='sigc'),
    'boost': Engine('signals', 'decode per handler', peer='boost'),
}


@dataclass(frozen=True)
class Peer:
    name: str
    package: str                    # of Debian
    include: str
    define: str = ''
    pkg_config: str = ''


PEERS = {
    'sigc': Peer('sigc++ 3', 'libsigc++-3.0-dev', '<sigc++/sigc++.h>', '-DBENCH_SIGC', 'sigc++-3.0'),
    'boost': Peer('Boost.Signals2', 'libboost-dev', '<boost/signals2.hpp>'),
}


@dataclass(frozen=True)
class Row:
    label: str
    workload: Workload
    engine: str = 'worker'
    store: str = 'slices'
    key: str = 'name'
    order: str = 'random'
    failing: str = 'never'
    policy: str = 'skip'
    partition: str = 'none'
    budget: Optional[float] = None          # instructions per event
    against: str = ''                       # the label of another row, and ...
    ratio: Optional[float] = None           # ... how often its figure this may be
    counted: bool = True
    timed: bool = False
    time_budget: Optional[float] = None     # as a ratio to the switch; printed, never checked
    large: bool = False                     # the log is larger than the caches

    def does(self):
        return '%s, %s' % (self.key, ENGINES[self.engine].does)

    def arguments(self):
        """All but how many events."""
        return ['engine=' + self.engine, 'store=' + self.store, 'key=' + self.key, 'order=' + self.order,
                'failing=' + self.failing, 'policy=' + self.policy, 'partition=' + self.partition]

    def work(self):
        """What is measured, whatever it is called."""
        return self.workload, tuple(self.arguments()), self.large

    def switch(self):
        """The row that its time is divided by: the same events, found by a number that comes for free."""
        return Row('switch', self.workload, engine='switch', key='id', order=self.order, large=self.large)


@dataclass(frozen=True)
class Quoted:
    """A figure that nothing here measures: the library is not packaged by Debian, and none is kept in the tree."""
    label: str
    does: str
    figure: str


W8X2, W64X1 = Workload(8, 2), Workload(64, 1)
W8X1, W1024X1 = Workload(8, 1), Workload(1024, 1)
L8X2, L64X1 = Workload(8, 2, 'long'), Workload(64, 1, 'long')
T8X2, T64X1 = Workload(8, 2, 'twins'), Workload(64, 1, 'twins')
A8X2 = Workload(8, 2, answers=True)
H8X2, H64X1 = Workload(8, 2, ids='hashed'), Workload(64, 1, ids='hashed')
SIZES = {'8 x 2': W8X2, '64 x 1': W64X1, '1024 x 1': W1024X1}

TOO_LARGE = 1_000_000               # events of a log that no cache holds: more than 100 MB


def each(label, sizes, budgets=(None, None, None), **how):
    """The same row for several sizes."""
    return [Row('%s, %s' % (label, size), SIZES[size], budget=budget, **how)
            for size, budget in zip(sizes, budgets)]


SMALL, ALL = ('8 x 2', '64 x 1'), ('8 x 2', '64 x 1', '1024 x 1')
# The budgets in time are for slices and random order. In turn, the switch is never guessed wrong.
BY_NAME = dict(timed=True, time_budget=1.6)
BY_ID = dict(key='id', timed=True, time_budget=1.3)
QUIET = 'handlers that answer, none fails'
FAILING = dict(failing='always', against=QUIET)

SECTIONS = [
    ('the whole worker, by name', [
        *each('by name, slices', SMALL, (100, 90), **BY_NAME),
        Row('by name, slices, 8 x 1', W8X1),
        Row('by name, slices, 1024 x 1', W1024X1, against='by name, slices, 8 x 1', ratio=1.3, **BY_NAME),
        *each('by name, slices, round-robin', ALL, order='round-robin', timed=True),
        *each('by name, a view per row', SMALL, (115, 105), store='rows', timed=True),
        *each('by name, 16 views at a time', SMALL, store='batches', timed=True),
        *each('by name, in place one by one', SMALL, store='single'),
        Row('by name, one class without a registry, 64 x 1', W64X1, engine='alone'),
        Row('long common head and tail, 8 x 2', L8X2, against='by name, slices, 8 x 2', ratio=1.5),
        Row('long common head and tail, 64 x 1', L64X1, against='by name, slices, 64 x 1', ratio=1.5),
        Row('the same, equal but for 4 digits, 8 x 2', T8X2, against='by name, slices, 8 x 2', ratio=1.5),
        Row('the same, equal but for 4 digits, 64 x 1', T64X1, against='by name, slices, 64 x 1', ratio=1.5),
    ]),
    ('the whole worker, by id', [
        *each('by id, slices', SMALL, (75, 60), **BY_ID),
        Row('by id, slices, 8 x 1', W8X1, key='id'),
        Row('by id, slices, 1024 x 1', W1024X1, against='by id, slices, 8 x 1', ratio=1.3, **BY_ID),
        *each('by id, slices, round-robin', ALL, order='round-robin', key='id', timed=True),
        *each('by id, a view per row', SMALL, store='rows', key='id', timed=True),
        *each('by id, 16 views at a time', SMALL, store='batches', key='id', timed=True),
        Row('by id that is the hash of the name, 8 x 2', H8X2, key='id', budget=75),
        Row('by id that is the hash of the name, 64 x 1', H64X1, key='id', budget=60),
    ]),
    ('one event in ten fails, 8 x 2', [
        Row(QUIET, A8X2),
        Row(QUIET + ', retry_then_dead_letter', A8X2, policy='retry_then_dead_letter'),
        Row('fails, skip', A8X2, policy='skip', ratio=1.3, **FAILING),
        Row('fails, dead_letter', A8X2, policy='dead_letter', ratio=1.3, **FAILING),
        Row('fails, custom, which skips', A8X2, policy='custom', ratio=1.3, **FAILING),
        Row('fails once, retry(3)', A8X2, policy='retry', failing='once', against=QUIET),
        Row('fails twice, retry_then_skip(1)', A8X2, policy='retry_then_skip', **FAILING),
        Row('fails twice, retry_then_dead_letter(1)', A8X2, policy='retry_then_dead_letter', **FAILING),
    ]),
    ('the other engines, by name', [
        *each('sink, receive() per message', SMALL, engine='sink', timed=True),
        *each('replay, batches of 500', SMALL, engine='replay', timed=True),
        Row('the only partition, 64 x 1', W64X1, engine='partition', partition='only', timed=True),
        Row('one partition of eight, by a key of the store, 64 x 1', W64X1, engine='partition', partition='key',
            timed=True),
        Row('one partition of eight, by the id of 36 bytes, 64 x 1', W64X1, engine='partition', partition='id',
            timed=True),
    ]),
    ('peers, given the same events, which call the same handlers', [
        *each('integer switch by hand', ALL, engine='switch', key='id', timed=True),
        *each('FNV-1a, open addressing by hand', ALL, engine='hash', timed=True),
        *each('unordered_map of vectors of std::function', ALL, engine='map', timed=True),
        *each('sigc++ 3, array of signals', SMALL, engine='sigc', key='id', timed=True),
        *each('sigc++ 3, unordered_map of signals', SMALL, engine='sigc', timed=True),
        *each('Boost.Signals2, array of signals', SMALL, engine='boost', key='id', timed=True),
        *each('Boost.Signals2, unordered_map of signals', SMALL, engine='boost', timed=True),
        Quoted('eventpp by string, 8 x 2 / 64 x 1', 'name', '538 / 545'),
        Quoted('ETL message_router, 8 x 2', 'id given for free', '100'),
        Quoted('EnTT trigger, 8 x 2', 'id given for free', '136'),
    ]),
    ('a log larger than the caches (a million events)', [
        *each('by name, slices, large log', ALL, large=True, counted=False, **BY_NAME),
        *each('by id, slices, large log', ALL, large=True, counted=False, **BY_ID),
        *each('FNV-1a, large log', ALL, engine='hash', large=True, counted=False, timed=True),
        *each('unordered_map, large log', ALL, engine='map', large=True, counted=False, timed=True),
    ]),
]
