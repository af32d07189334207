#!/usr/bin/env python3
"""examples/15_kafka on librdkafka's mock cluster, in a process of its own: the consumer is killed at random moments.

    test_kafka.py BINARY MOCK   exit 0: all well; SEED=n repeats the dice

After every kill what is stored of each partition must equal a fold, written here anew, of its messages up to its
checkpoint.
"""
import os
import re
import signal
import subprocess
import sys
import time

from processes import DICE, child, eventually, kill, need, run, stop

BINARY, MOCK = sys.argv[1:]
PARTITIONS = 3


class Deployment:
    def __init__(self, folder):
        self.state = os.path.join(folder, "state")
        self.start()

    def start(self):
        self.mock = child(MOCK, "visits", PARTITIONS, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
        self.servers = self.mock.stdout.readline().strip()
        need(self.servers, "no mock cluster")
        self.messages = [[] for _ in range(PARTITIONS)]         # (site, text), by offset

    def worker(self):
        return child(BINARY, "work", self.servers, self.state, stderr=subprocess.PIPE)

    def publish(self, count):
        done = subprocess.run([BINARY, "publish", self.servers, str(count), str(DICE.randrange(10**6))],
                              capture_output=True, text=True, check=True, timeout=60)
        for line in sorted(done.stdout.splitlines(), key=lambda line: int(line.split()[1])):
            partition, offset, text, site = line.split(" ", 3)
            need(len(self.messages[int(partition)]) == int(offset), f"offset {offset} in partition {partition}")
            self.messages[int(partition)].append((site, text))

    def stored(self):
        """[(checkpoint, {site: numbers})] of those partitions that have a checkpoint; the first without one ends it."""
        done = subprocess.run([BINARY, "show", self.state], capture_output=True, text=True, check=True, timeout=30)
        found = []
        for line in done.stdout.splitlines():
            if match := re.fullmatch(r"visits_(\d) up to (-?\d+)", line):
                need(int(match[1]) == len(found), line)
                found.append((int(match[2]), {}))
            else:
                site, numbers = line.split(" ", 1)
                found[-1][1][site] = numbers
        return found

    def compare(self, when):
        stored = self.stored()
        letters = set(os.listdir(self.state + "/letters"))
        for partition, (at, have) in enumerate(stored):
            done = self.messages[partition][:at + 1]
            want = fold(done)
            differs = {k: (have.get(k), want.get(k)) for k in {**have, **want} if have.get(k) != want.get(k)}
            need(not differs, f"{when}: partition {partition} up to {at}: (is, should be): {differs}")
            refused = {f"visits_{partition}.{n}" for n, message in enumerate(done) if is_refused(*message)}
            need(refused <= letters, f"{when}: partition {partition} up to {at} lacks letters {refused - letters}")
        return [at for at, _ in stored]

    def all_there(self, when):
        return self.compare(when) == [len(messages) - 1 for messages in self.messages]


def is_refused(site, text):
    return text == "long" or site in ("", "a site")     # unreadable; no name that the model's file could hold


def fold(messages):
    sites = {}
    for site, text in messages:
        if is_refused(site, text):
            continue
        visits, total, last, rises = sites.get(site, (0, 0, 0, 0))
        sites[site] = visits + 1, total + int(text), int(text), rises + (int(text) > last)
    return {site: " ".join(map(str, numbers)) for site, numbers in sites.items()}


def ends_with(worker, words):
    code = worker.wait(30)
    said = worker.stderr.read().decode().strip()
    # The client writes to stderr, too.
    found = re.search(rf"^visits_\d: .*{words}", said, re.MULTILINE)
    need(code == 3 and found, f"the consumer ended with {code}, {said!r}, not {words!r}")


def test_kills(deployment):
    kills = in_work = 0
    until = time.monotonic() + 11
    while time.monotonic() < until:
        worker = deployment.worker()
        deployment.publish(DICE.randrange(50, 400))
        time.sleep(DICE.uniform(0.1, 0.5))
        deployment.publish(DICE.randrange(50, 400))
        time.sleep(DICE.choice((0, DICE.uniform(0, 0.1))))
        need(worker.poll() is None, f"the consumer ended by itself with {worker.poll()}")
        kill(worker)
        kills += 1
        in_work += not deployment.all_there(f"after {kills} kills")
    worker = deployment.worker()
    eventually("all messages", lambda: deployment.all_there("at the end"), 30)
    code = stop(worker)
    need(code == 0, f"the consumer ended with {code}: {worker.stderr.read().decode()}")
    count = sum(map(len, deployment.messages))
    need(kills >= 5 and in_work >= 3, f"too few kills: {kills}, {in_work} with work left")
    print(f"{count} messages; {kills} kills, {in_work} of them with work left")


def test_disk(deployment):
    """Saves fail for a while. The attempt is repeated later, and says the same, whatever was done meanwhile."""
    obstacle = os.path.join(deployment.state, "visits_1.model.new")
    for _ in range(3):
        worker = deployment.worker()
        deployment.publish(300)
        eventually("all messages", lambda: deployment.all_there("before"))
        os.mkdir(obstacle)
        for _ in range(3):
            deployment.publish(60)
            time.sleep(DICE.uniform(0.05, 0.15))
        deployment.compare("while saves fail")
        worker.send_signal(signal.SIGSTOP)
        os.rmdir(obstacle)
        worker.send_signal(signal.SIGCONT)
        for _ in range(DICE.randrange(1, 8)):
            deployment.compare("after saves have failed")
        kill(worker)
        deployment.compare("killed after saves have failed")


def test_gone(deployment):
    """What the broker no longer has is never jumped over."""
    worker = deployment.worker()
    time.sleep(0.7)
    before = deployment.stored()
    until = time.monotonic() + 60
    while worker.poll() is None and time.monotonic() < until:
        # Asleep, until more has come than the broker keeps, and than the client has fetched ahead.
        worker.send_signal(signal.SIGSTOP)
        flood = [child(BINARY, "publish", deployment.servers, 300000, 1, stdout=subprocess.DEVNULL) for _ in range(3)]
        until_killed = time.monotonic() + 6     # under such a flood the mock cluster forgets one now and then
        while any(one.poll() is None for one in flood) and time.monotonic() < until_killed:
            time.sleep(0.05)
        for one in flood:
            kill(one)
        worker.send_signal(signal.SIGCONT)
        time.sleep(1)
    ends_with(worker, "not available on the broker")
    need([b[0] <= a[0] for b, a in zip(before, deployment.stored())] == [True] * PARTITIONS, "a checkpoint went back")
    ends_with(deployment.worker(), "log_trimmed")
    kill(deployment.mock)
    deployment.start()
    ends_with(deployment.worker(), "checkpoint_ahead")
    print("messages that are gone, and a topic that began anew, stop the consumer")


def test(folder):
    deployment = Deployment(folder)
    test_kills(deployment)
    test_disk(deployment)
    test_gone(deployment)


run(test)
