#!/usr/bin/env python3
"""examples/12_redis on a real server: worker processes share four partitions while matches are appended; workers are
killed, replaced and put to sleep beyond their leases, the server is killed and put to sleep, too.

    test_redis.py BINARY CONTRACT       exit 0: all well; 77 without redis-server; SEED=n repeats the dice

At every look, and not only at the end, ranking, profiles and letters must equal a fold, written here anew, of each
partition's events up to its checkpoint.
"""
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from processes import DICE, child, eventually, kill, need, run, server_or_skip, stop

BINARY, CONTRACT = sys.argv[1:]
SERVER = server_or_skip("redis-server")
PARTITIONS = 4
PERMANENT, UNDECODABLE = 1, 2
PLAYERS = [f"player-{n}" for n in range(40)]
TTL_S = 1.5                             # of a lease, as the example has it


class Redis:
    """As much of the protocol (RESP) as this test needs."""
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def __call__(self, *words):
        words = [str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return self.answer()

    def answer(self):
        line = self.file.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2].decode("latin-1")
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        if kind == b"-" or not line:
            raise RuntimeError(rest.decode() or "gone")
        return int(rest) if kind == b":" else rest.decode()


class Deployment:
    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, "redis")
        self.start()

    def start(self):
        self.server = child(SERVER, "--port", 0, "--unixsocket", self.path, "--dir", self.folder, "--save", "",
                            "--appendonly", "yes", "--appendfsync", "always", stdout=subprocess.DEVNULL)
        eventually("a redis-server that answers", self.answers)

    def answers(self):
        try:
            return Redis(self.path)("PING") == "PONG"
        except (OSError, RuntimeError):         # not there yet, or still loading
            return False

    def restart(self):
        kill(self.server)
        os.unlink(self.path)
        self.start()

    def ask(self, *words):
        return Redis(self.path)(*words)

    def worker(self, path=None):
        return child(BINARY, "work", path or self.path, stderr=subprocess.PIPE)

    def tool(self, *words):
        return subprocess.run([BINARY, *words[:1], self.path, *words[1:]], capture_output=True, text=True,
                              check=True, timeout=30).stdout


def fields(flat):
    return dict(zip(flat[::2], flat[1::2]))


def position(entry_id):
    ms, sequence = entry_id.split("-")
    return int(ms) << 20 | int(sequence)


def look(deployment):
    """(events, checkpoints, models) of one moment."""
    redis = Redis(deployment.path)
    redis("MULTI")
    redis("XRANGE", "{game}:events", "-", "+")
    redis("ZRANGE", "{game}:ranking", 0, -1, "WITHSCORES")
    redis("HGETALL", "{game}:letters")
    for n in range(PARTITIONS):
        redis("HGET", f"{{game}}:checkpoint:leaderboard_p{n}", "at")
    for player in PLAYERS:
        redis("HGETALL", f"{{game}}:player:{player}")
    events, ranking, letters, *rest = redis("EXEC")
    events = [(position(at), entry_id, fields(flat)) for entry_id, flat in events for at in [entry_id]]
    checkpoints = [int(at) if at else -1 for at in rest[:PARTITIONS]]
    profiles = {player: fields(flat) for player, flat in zip(PLAYERS, rest[PARTITIONS:]) if flat}
    # A letter's key ends in the rebuild's number.
    letters = {key.rsplit("/", 1)[0]: value for key, value in fields(letters).items()}
    return events, checkpoints, (fields(ranking), profiles, letters)


def partition(player):
    return int.from_bytes(hashlib.sha256(player.encode()).digest(), "big") % PARTITIONS


def fold(events, checkpoints):
    ranking, profiles, letters = {}, {}, {}
    for at, entry_id, event in events:
        player, data, home = event["aggregate"], event["data"], partition(event["aggregate"])
        if at > checkpoints[home] or event["type"] not in ("MatchWon", "MatchLost"):
            continue
        won = event["type"] == "MatchWon"
        if won and not data.isdigit():
            letters[f"leaderboard/{home}//{entry_id}"] = f"{UNDECODABLE} 0 1 {data}"
            continue
        if won and int(data) > 100:
            letters[f"leaderboard/{home}/ranking/{entry_id}"] = f"{PERMANENT} {data} 1 {data}"      # the code is the points
        elif won:
            ranking[player] = ranking.get(player, 0) + int(data)
        profile = profiles.setdefault(player, {"matches": 0})
        profile["matches"] += 1
        if won:
            profile["won"] = profile.get("won", 0) + 1
        profile["streak"] = profile.get("streak", 0) + 1 if won else 0
    text = {player: {k: str(v) for k, v in profile.items()} for player, profile in profiles.items()}
    return {player: str(points) for player, points in ranking.items()}, text, letters


def compare(deployment, when):
    events, checkpoints, models = look(deployment)
    for name, have, want in zip(("ranking", "profiles", "letters"), models, fold(events, checkpoints)):
        differs = {k: (have.get(k), want.get(k)) for k in {**have, **want} if have.get(k) != want.get(k)}
        need(not differs, f"{when}: {name}: (is, should be): {dict(list(differs.items())[:5])}, {len(differs)} in all")
    return events, checkpoints, models


def all_done(deployment):
    """Every partition stands at the newest event: the models are whole."""
    events, checkpoints, _ = look(deployment)
    return events and min(checkpoints) == events[-1][0]


def disturb(deployment, workers, seconds):
    """Kills and stops workers and the server, and looks at the models in between."""
    counts = dict.fromkeys(
        ("workers killed", "workers put to sleep", "server killed", "server put to sleep", "looks"), 0)
    asleep = []
    until = time.monotonic() + seconds
    # The rare ones surely, the rest by dice.
    plan = ["server killed", "workers put to sleep", "server put to sleep", "server killed", "workers put to sleep"]
    while time.monotonic() < until or plan:
        time.sleep(DICE.uniform(0.02, 0.15))
        what = plan.pop() if plan and DICE.random() < 0.25 else "workers killed"
        counts[what] += 1
        n = DICE.randrange(len(workers))
        if what == "workers killed":
            kill(workers[n])
            workers[n] = deployment.worker()
        elif what == "workers put to sleep":    # longer than its lease lasts
            workers[n].send_signal(signal.SIGSTOP)
            asleep.append((time.monotonic() + TTL_S + 0.5, workers[n]))
            workers[n] = deployment.worker()
        elif what == "server killed":
            deployment.restart()
        else:                                   # longer than anybody waits for an answer
            deployment.server.send_signal(signal.SIGSTOP)
            time.sleep(2.3)
            deployment.server.send_signal(signal.SIGCONT)
        for wakes_at, worker in asleep:
            if worker.poll() is None and time.monotonic() > wakes_at:
                worker.send_signal(signal.SIGCONT)
        compare(deployment, f"after {counts}")
        counts["looks"] += 1
        dead = [worker.poll() for worker in workers if worker.poll() is not None]
        need(not dead, f"workers that nobody killed ended with {dead}")
    for _, worker in asleep:
        worker.send_signal(signal.SIGCONT)
    return counts, [worker for _, worker in asleep]


def test_load(deployment):
    ids = os.path.join(deployment.folder, "ids")
    workers = [deployment.worker() for _ in range(3)]
    with open(ids, "w", encoding="utf-8") as out:
        players = [child(BINARY, "play", deployment.path, 12000, DICE.randrange(1000), stdout=out) for _ in range(2)]
        counts, woken = disturb(deployment, workers, 7)
        for player in players:
            kill(player)
    eventually("all partitions at the newest event", lambda: all_done(deployment), 30)
    for worker in workers + woken:
        ends_well(worker)
    events, _, models = compare(deployment, "at the end")
    known = {entry_id for _, entry_id, _ in events}
    with open(ids, encoding="utf-8") as told:
        # Two players write to one file; a line may be cut off by the kill.
        acknowledged = [line.strip() for line in told if line.endswith("\n")]
    lost = [line for line in acknowledged if line not in known]
    need(not lost, f"{len(lost)} acknowledged events are not in the stream, {lost[:3]}")
    need(len(events) > 500 and len(models[2]) > 5, f"too little was done: {len(events)} events")
    print(f"{len(events)} events, {len(models[2])} letters, {counts}")
    return models


def test_rebuild(deployment, models):
    need("the workers fill it" in deployment.tool("rebuild"), "a rebuild")
    need(look(deployment)[2][0] == {}, "a rebuild empties the ranking")
    worker = deployment.worker()
    eventually("the rebuilt models", lambda: look(deployment)[2] == models, 20)
    eventually("all partitions at the newest event", lambda: all_done(deployment))
    ends_well(worker)


def ends_well(worker):
    code = stop(worker)
    need(code == 0, f"a worker ended with {code}: {worker.stderr.read().decode()}")


class Gate:
    """Between a worker and the server. Once armed, it keeps the next commit that carries effects, as a network may,
    and lets it through later."""
    def __init__(self, path, to):
        self.to = to
        self.armed, self.caught, self.opened = threading.Event(), threading.Event(), threading.Event()
        self.answer = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.to)
        threading.Thread(target=self.pump, args=(server, client), daemon=True).start()
        while data := client.recv(1 << 20):
            if self.armed.is_set() and not self.caught.is_set() and b"\r\nHINCRBY\r\n" in data:
                self.caught.set()
                self.opened.wait()
                late = socket.socket(socket.AF_UNIX)
                late.connect(self.to)
                late.sendall(data)
                self.answer = late.recv(100)
                return client.close()
            server.sendall(data)
        return server.close()

    @staticmethod
    def pump(server, client):
        try:
            while data := server.recv(1 << 20):
                client.sendall(data)
        except OSError:
            pass                                # the worker has gone


def test_late_commit(deployment):
    """The commit of a former owner arrives when the next one has done the same events already."""
    gate = Gate(os.path.join(deployment.folder, "gate"), deployment.path)
    former = deployment.worker(os.path.join(deployment.folder, "gate"))
    eventually("four leases", lambda: len(deployment.ask("KEYS", "{game}:lease:leaderboard_p?")) == PARTITIONS)
    gate.armed.set()
    deployment.tool("play", "20", "7")
    eventually("a commit", gate.caught.is_set)
    former.send_signal(signal.SIGSTOP)
    following = deployment.worker()
    eventually("all partitions at the newest event", lambda: all_done(deployment))
    gate.opened.set()
    eventually("the late commit's answer", lambda: gate.answer)
    compare(deployment, "after a late commit")
    need(gate.answer == b":0\r\n", f"a late commit was answered {gate.answer}")
    former.send_signal(signal.SIGCONT)
    for worker in (former, following):
        ends_well(worker)
    print("a late commit was refused")


def test_trimmed(deployment):
    def ends_with(words):
        worker = deployment.worker()
        code = worker.wait(20)
        said = worker.stderr.read().decode().strip()
        need((code, said) == (3, words), f"a worker ended with {code}, {said!r}, not {words!r}")

    def works_on():
        deployment.tool("play", "10", "9")
        worker = deployment.worker()
        eventually("all partitions at the newest event", lambda: all_done(deployment))
        ends_well(worker)

    before = deployment.ask("XLEN", "{game}:events")
    deployment.tool("trim")                     # exactly up to the checkpoints: nobody misses anything
    after = deployment.ask("XLEN", "{game}:events")
    need(after == 0, f"trim left {after} of {before}")
    works_on()
    deployment.ask("XTRIM", "{game}:events", "MAXLEN", 5)       # all done, but by somebody who notes nothing
    works_on()
    deployment.tool("play", "10", "11")
    deployment.ask("XTRIM", "{game}:events", "MAXLEN", 2)       # eight that nobody has seen
    ends_with("log_trimmed")
    deployment.ask("FLUSHALL")
    works_on()
    deployment.tool("play", "10", "11")
    gone = deployment.ask("XRANGE", "{game}:events", "-", "+")[-5][0]
    deployment.ask("XDEL", "{game}:events", gone)
    ends_with("log_trimmed")
    deployment.ask("FLUSHALL")
    works_on()
    deployment.tool("play", "10", "11")
    deployment.ask("XTRIM", "{game}:events", "MAXLEN", 0)
    ends_with("log_trimmed")
    deployment.ask("DEL", "{game}:events")
    ends_with("checkpoint_ahead")
    deployment.tool("play", "10", "13")
    ends_with("log_replaced")
    print("trimmed, emptied and replaced streams are told apart")


def test_contract(deployment):
    done = subprocess.run([CONTRACT, deployment.path], capture_output=True, text=True, timeout=30, check=False)
    need(done.returncode == 0, "the adapter keeps its promises", done.stdout, done.stderr)


def test(folder):
    deployment = Deployment(folder)
    test_contract(deployment)
    models = test_load(deployment)
    test_rebuild(deployment, models)
    test_late_commit(deployment)
    test_trimmed(deployment)


run(test)
