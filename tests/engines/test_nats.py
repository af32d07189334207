#!/usr/bin/env python3
"""examples/13_nats on a real server: the worker is killed at random moments while cars come and go, the server, too.

    test_nats.py BINARY CONTRACT        exit 0: all well; 77 without nats-server; SEED=n repeats the dice

After every kill what is stored must equal a fold, written here anew, of the messages up to its checkpoint.
"""
import base64
import json
import os
import re
import socket
import subprocess
import sys
import time

from processes import DICE, child, eventually, free_port, kill, need, run, server_or_skip, stop

BINARY, CONTRACT = sys.argv[1:]
SERVER = server_or_skip("nats-server")
ACK_WAIT_S = 0.5                        # as the example has it


class Nats:
    """As much of the protocol as this test needs: requests, one after the other."""
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.file = self.socket.makefile("rb")
        self.file.readline()
        self.count = 0
        self.socket.sendall(b'CONNECT {"verbose":false,"headers":false}\r\nSUB answers.%d.* 1\r\n' % id(self))

    def request(self, subject, words=b""):
        """(reply subject, payload) of the answer."""
        self.count += 1
        inbox = b"answers.%d.%d" % (id(self), self.count)
        self.publish(subject, words, inbox)
        while line := self.file.readline():
            parts = line.split()
            if parts[0] == b"PING":
                self.socket.sendall(b"PONG\r\n")
            elif parts[0] == b"MSG":
                payload = self.file.read(int(parts[-1]) + 2)[:-2]
                # What a consumer delivers keeps the subject under which it was published.
                if parts[1] == inbox or not parts[1].startswith(b"answers."):
                    return parts[3] if len(parts) == 5 else b"", payload
        raise OSError("gone")

    def publish(self, subject, words=b"", reply=b""):
        self.socket.sendall(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), reply, len(words), words))

    def api(self, what, **more):
        return json.loads(self.request("$JS.API." + what, json.dumps(more).encode() if more else b"")[1])


class Deployment:
    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.messages = []              # (subject, payload), the first has sequence 1
        self.published = 0
        self.start()

    def start(self):
        self.server = child(SERVER, "-a", "127.0.0.1", "-p", self.port, "-js", "-sd", self.folder + "/js",
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually("a nats-server that answers", self.answers)

    def answers(self):
        try:
            return "error" not in Nats(self.port).api("INFO")
        except (OSError, ValueError, IndexError):
            return False

    def api(self, what, **more):
        return Nats(self.port).api(what, **more)

    def worker(self):
        return child(BINARY, "work", self.address, stderr=subprocess.PIPE)

    def publish(self, count):
        done = subprocess.run([BINARY, "publish", self.address, str(count), str(DICE.randrange(10**6))],
                              capture_output=True, text=True, check=True, timeout=30)
        sequences = [int(line) for line in done.stdout.split()]
        need(len(sequences) == count, f"{len(sequences)} of {count} published")
        self.published = sequences[-1]

    def newest(self):
        return self.api("STREAM.INFO.PARKING")["state"]["last_seq"]

    def fold(self, through):
        """What should be stored for the messages up to this one."""
        nats = Nats(self.port)
        while len(self.messages) < through:
            found = nats.api("STREAM.MSG.GET.PARKING", seq=len(self.messages) + 1)["message"]
            self.messages.append((found["subject"], base64.b64decode(found.get("data", ""))))
        garages = {}
        for subject, payload in self.messages[:through]:
            if len(payload) < 4:
                continue                # misread: refused for good
            _, name, what = subject.split(".")
            inside, most, entered = garages.get(name, (0, 0, 0))
            inside = inside + 1 if what == "entered" else max(inside - 1, 0)
            garages[name] = inside, max(most, inside), entered + (what == "entered")
        return {name: " ".join(map(str, numbers)) for name, numbers in garages.items()}

    def compare(self, when):
        done = subprocess.run([BINARY, "show", self.address], capture_output=True, text=True, check=True, timeout=30)
        first, *lines = done.stdout.splitlines()
        at = int(first.split(":")[0].split()[-1])
        have = dict(line.split(" ", 1) for line in lines)
        want = self.fold(max(at, 0))
        need(have == want, f"{when}: up to {at} is {have}, should be {want}")
        return at


def check_words_of(deployment, worker):
    """The consumer is past the checkpoint only by a message that was refused for good."""
    said = worker.stderr.read().decode().split("\n")[:-1]
    for line in said:
        found = re.fullmatch(r"consumer at (\d+) past checkpoint (\d+)", line)
        need(found, f"a worker said {line!r}")
        floor, checkpoint = int(found[1]), int(found[2])
        deployment.fold(floor)
        skipped = [payload for _, payload in deployment.messages[checkpoint:floor]]
        need(len(skipped) == 1 and len(skipped[0]) < 4, f"{line}: acknowledged before it was done: {skipped}")


def test_kills(deployment):
    deployment.publish(200)
    kills = in_hand = server_kills = 0
    until = time.monotonic() + 14
    while time.monotonic() < until:
        worker = deployment.worker()
        # A message that the last one had in hand comes back after ACK_WAIT_S; not all wait for it.
        time.sleep(DICE.choice((DICE.uniform(0, 0.1), ACK_WAIT_S + DICE.uniform(0, 0.3))))
        deployment.publish(150)
        if DICE.random() < 0.15:
            kill(deployment.server)
            deployment.start()
            server_kills += 1
            need(deployment.newest() >= deployment.published, "the server has lost what it had acknowledged")
            time.sleep(DICE.uniform(0.1, 0.6))
        time.sleep(DICE.uniform(0, 0.02))
        need(worker.poll() is None, f"a worker ended by itself: {worker.poll()}")
        kill(worker)
        kills += 1
        check_words_of(deployment, worker)
        info = deployment.api("CONSUMER.INFO.PARKING.garages")
        in_hand += info.get("num_ack_pending", 0) > 0
        deployment.compare(f"after {kills} kills")
    worker = deployment.worker()
    newest = deployment.newest()
    eventually("the last message", lambda: deployment.compare("at the end") == newest)
    code = stop(worker)
    need(code == 0, f"a worker ended with {code}")
    check_words_of(deployment, worker)
    need(in_hand >= 3 and kills >= 6, f"too few kills: {kills}, {in_hand} with a message in hand")
    print(f"{newest} messages; {kills} kills, {in_hand} of them with a message in hand; "
          f"the server killed {server_kills} times")


def test_two_workers(deployment):
    """One of two of one name ends: at a write, or because the other has taken the message that it holds."""
    workers = [deployment.worker(), deployment.worker()]

    def one_has_ended():
        deployment.publish(20)
        return any(worker.poll() is not None for worker in workers)
    eventually("one of two workers of one name has halted", one_has_ended)
    running = [worker for worker in workers if worker.poll() is None]
    newest = deployment.newest()
    if running:
        eventually("the last message", lambda: deployment.compare("with two workers") == newest)
    for worker in running:
        stop(worker)
    codes = [worker.returncode for worker in workers]
    need(3 in codes, f"they ended with {codes}")
    deployment.compare("after two workers")
    print("two workers of one name: one of them has halted")


def test_acknowledged_by_another(deployment):
    """Somebody has taken messages off the consumer. The checkpoint knows that they are not done."""
    worker = deployment.worker()
    newest = deployment.newest()
    eventually("the last message", lambda: deployment.compare("before") == newest)
    stop(worker)
    deployment.publish(20)
    nats = Nats(deployment.port)
    for _ in range(3):
        reply, _ = nats.request("$JS.API.CONSUMER.MSG.NEXT.PARKING.garages", b"1")
        nats.publish(reply.decode(), b"+ACK")
    eventually("three acknowledgements", lambda: nats.api(
        "CONSUMER.INFO.PARKING.garages")["ack_floor"]["stream_seq"] == newest + 3)
    worker = deployment.worker()
    eventually("the last message", lambda: deployment.compare("after another's acks") == newest + 20)
    stop(worker)
    need("past checkpoint" in worker.stderr.read().decode(), "the consumer's place was not looked at")
    print("messages that somebody else had acknowledged were not lost")


def test_deleted(deployment):
    """Model and checkpoint are deleted by hand, as `nats kv del` does it: all is done from the beginning."""
    header = b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n"
    with socket.create_connection(("127.0.0.1", deployment.port), 5) as link:
        link.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nHPUB $KV.models.garages %d %d\r\n%s\r\nPING\r\n'
                     % (len(header), len(header), header))
        answer = link.makefile("rb")
        while answer.readline() != b"PONG\r\n":
            pass
    need(deployment.compare("deleted") == -1, "it was not deleted")
    worker = deployment.worker()
    newest = deployment.newest()
    eventually("the last message", lambda: deployment.compare("from the beginning") == newest)
    code = stop(worker)
    need(code == 0, f"after a deletion the worker ended with {code}: {worker.stderr.read().decode()}")
    print("model and checkpoint were deleted, and are made anew")


def test_bounds(deployment):
    def ends_with(words):
        worker = deployment.worker()
        code = worker.wait(20)
        said = worker.stderr.read().decode().strip()
        need(code == 3 and said.endswith(words), f"a worker ended with {code}, {said!r}, not {words!r}")

    deployment.publish(5)
    need(deployment.api("STREAM.PURGE.PARKING")["success"], "a purge")
    ends_with("log_trimmed")
    need(deployment.api("STREAM.DELETE.PARKING")["success"], "a deletion")
    deployment.publish(5)
    ends_with("log_replaced")
    print("purged and replaced streams are told apart")


def test_contract(deployment):
    done = subprocess.run([CONTRACT, deployment.address], capture_output=True, text=True, timeout=60, check=False)
    need(done.returncode == 0, done.stdout + done.stderr)
    print(done.stdout.strip())


def test(folder):
    os.makedirs(folder + "/js")
    deployment = Deployment(folder)
    test_contract(deployment)
    test_kills(deployment)
    test_two_workers(deployment)
    test_acknowledged_by_another(deployment)
    test_deleted(deployment)
    test_bounds(deployment)


run(test)
