#!/usr/bin/env python3
"""examples/14_mqtt on a real broker: devices publish, the consumer is killed at random moments, devices, too.

    test_mqtt.py BINARY         exit 0: all well; 77 without mosquitto; SEED=n repeats the dice

After every kill what is stored of each device must equal a fold, written here anew, of its readings up to the
checkpoint; at the end everything that the broker has taken is there.
"""
import os
import socket
import subprocess
import sys
import time

from processes import DICE, child, eventually, free_port, kill, need, run, server_or_skip, stop

BINARY = sys.argv[1]
SERVER = server_or_skip("mosquitto")
DEVICES = ["attic", "boiler", "cellar"]


class Deployment:
    def __init__(self, folder):
        self.port = free_port()
        self.state = os.path.join(folder, "state")
        config = os.path.join(folder, "mosquitto.conf")
        with open(config, "w", encoding="utf-8") as out:
            out.write(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
                      "max_queued_bytes 0\n")
        self.server = child(SERVER, "-c", config, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually("a mosquitto that answers", self.answers)

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def worker(self):
        return child(BINARY, "work", self.port, self.state, stderr=subprocess.PIPE)

    def stored(self):
        """{device: (checkpoint, numbers)}."""
        done = subprocess.run([BINARY, "show", self.state], capture_output=True, text=True, check=True, timeout=30)
        found = {}
        for line in done.stdout.splitlines():
            name, rest = line.split(", up to ")
            found[name] = int(rest.split(":")[0]), rest.split(": ")[2]
        return found

    def compare(self, when):
        stored = self.stored()
        for name, (at, numbers) in stored.items():
            need(numbers == fold(at), f"{when}: {name} up to {at} is {numbers}, should be {fold(at)}")
        # A letter is there before the checkpoint passes its reading; the next one may be, too.
        letters = {name: set() for name in DEVICES}
        for file in os.listdir(self.state + "/letters"):
            name, number, *new = file.split(".")
            if not new:
                letters[name].add(int(number))
        for name, (at, _) in stored.items():
            wanted = set(range(50, at + 1, 50))
            need(wanted <= letters[name] <= wanted | {at - at % 50 + 50},
                 f"{when}: {name} up to {at} has letters {sorted(letters[name])}")
        return {name: at for name, (at, _) in stored.items()}


def fold(at):
    count = total = last = rises = 0
    for n in range(1, at + 1):
        if n % 50 == 0:
            continue                    # unreadable
        celsius = n * 37 % 90 - 20
        count += 1
        total += celsius
        rises += celsius > last
        last = celsius
    return f"{count} {total} {last} {rises}"


class Device:
    """Publishes its readings in order, and after a kill again what it does not know to be published."""
    def __init__(self, deployment, name):
        self.deployment = deployment
        self.name = name
        self.told = os.path.join(os.path.dirname(deployment.state), name)
        self.begin()

    def published(self):
        if not os.path.exists(self.told):
            return 0
        with open(self.told, encoding="utf-8") as told:
            return max((int(line) for line in told if line.endswith("\n")), default=0)

    def begin(self, repeated=None):
        """Some more of them: the station, which writes each to the disk, shall keep up. A device that has lost
        acknowledgements begins with what it has published before."""
        repeated = DICE.choice((0, 0, 1, 2)) if repeated is None else repeated
        first = max(1, self.published() + 1 - repeated)
        with open(self.told, "a", encoding="utf-8") as out:
            self.process = child(BINARY, "publish", self.deployment.port, self.name, first, DICE.randrange(1, 25),
                                 stdout=out)


def test_kills(deployment):
    worker = deployment.worker()
    eventually("the station's folder", lambda: os.path.exists(deployment.state + "/letters"))
    time.sleep(0.2)                     # it has subscribed: from now on the broker keeps what comes
    devices = [Device(deployment, name) for name in DEVICES]
    kills = device_kills = 0
    until = time.monotonic() + 10
    while time.monotonic() < until:
        time.sleep(DICE.uniform(0.01, 0.25))
        need(worker.poll() is None, f"the station ended by itself with {worker.poll()}")
        kill(worker)
        kills += 1
        deployment.compare(f"after {kills} kills")
        for one in devices:
            one.begin()
            if DICE.random() < 0.2:     # between publishing and knowing it
                time.sleep(DICE.uniform(0.003, 0.008))
                kill(one.process)
                device_kills += 1
            one.process.wait()
        worker = deployment.worker()
    for one in devices:
        kill(one.process)
    published = {one.name: one.published() for one in devices}

    def all_there():
        stored = deployment.compare("at the end")
        return all(stored[name] >= published[name] for name in DEVICES)

    eventually("all readings", all_there, 30)
    code = stop(worker)
    need(code == 0, f"the station ended with {code}: {worker.stderr.read().decode()}")
    # What a device repeats when all of it was done: the broker has never seen it before.
    for one in devices:
        one.begin(repeated=2)
        one.process.wait()
        published[one.name] = one.published()
    worker = deployment.worker()
    eventually("what was repeated, and more", all_there)
    need(stop(worker) == 0, "the station after repetitions")
    stored = deployment.compare("stopped")
    need(sum(stored.values()) > 200 and kills > 10, f"too little was done: {stored}, {kills} kills")
    print(f"{sum(stored.values())} readings; the station killed {kills} times, devices {device_kills} times")


def test_name(deployment):
    """One that no file can have holds nobody up."""
    worker = deployment.worker()
    attic = Device(deployment, DEVICES[0])
    attic.process.wait()
    for name in ("x" * 250, "y" * 201):
        subprocess.run([BINARY, "publish", str(deployment.port), name, "1", "1"], check=True, timeout=30,
                       stdout=subprocess.DEVNULL)
    attic.begin(repeated=0)
    attic.process.wait()
    eventually("what came after it", lambda: deployment.compare("a long name")[attic.name] >= attic.published(), 10)
    need(stop(worker) == 0, "the station after a long name")


def test_lock(deployment):
    worker = deployment.worker()
    time.sleep(0.3)
    second = deployment.worker()
    need(second.wait(10) == 2, "two stations in one folder")
    need(stop(worker) == 0, "the first station")


def test(folder):
    deployment = Deployment(folder)
    test_kills(deployment)
    test_name(deployment)
    test_lock(deployment)


run(test)
