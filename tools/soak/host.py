"""The half that runs on the host: mixed load for some minutes, and what the parts hold before and after.

`python3 - NAME MINUTES` prints one JSON object; NAME is that of the installation, such as flourisha-sandbox. Progress
goes to standard error. All sandboxes that it makes are named soak, and are gone at its end. Standard library only.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORKERS = 4
WARM_S = 60  # of load before the first look: what fills once, such as caches and thread pools, is full then
SETTLE_S = 20
FULL_S = 120
PATIENCE_S = 120
NAME = "soak"
Found = dict[str, int]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(*words: str, check: bool = True) -> str:
    """The output of a command. Raises CalledProcessError, and TimeoutExpired when it hangs."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check, timeout=PATIENCE_S
    )
    return done.stdout.strip()


class Host:
    """What is looked at: processes by part, and what a sandbox leaves behind if it is not removed whole."""

    def __init__(self, name: str) -> None:
        with open(f"/etc/{name}/config.toml", "rb") as file:
            config = tomllib.load(file)
        self.project, self.state = str(config["project"]), str(config["state_dir"])
        self.domain = str(config["domain"])
        address, _, port = str(config["gateway"]["address"]).rpartition(":")
        self.gateway = (address, int(port))

    def processes(self, resident: str) -> dict[str, list[int]]:
        """Part -> its processes. `resident` is the sandbox that stays, whose agent is looked at."""
        main = run("systemctl", "show", "--value", "--property", "MainPID", f"{self.project}-sandboxd")
        init = int(run("docker", "inspect", "--format", "{{.State.Pid}}", resident))
        agents = [int(pid) for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split()]
        haproxy = [int(pid) for pid in run("pgrep", "-x", "haproxy").split()]
        return {"sandboxd": [int(main)], "agent": [pid for pid in agents if says(pid, "envd")], "haproxy": haproxy}

    def held(self, resident: str) -> dict[str, Found]:
        """Part -> KB of memory, open files, threads; of all processes of the part together."""
        return {part: sum_of(pids) for part, pids in self.processes(resident).items()}

    def left(self) -> Found:
        """Of every kind, how many there are."""
        label = f"label=sandbox.project={self.project}"
        with open("/proc/1/mountinfo") as file:
            mounts = sum(f" {self.state}/mounts/" in line for line in file)
        backing = run("losetup", "--noheadings", "--output", "BACK-FILE").splitlines()
        disks = {os.path.realpath(path) for path in glob.glob(f"{self.state}/*/*.img")}
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/ledger.sqlite?mode=ro", uri=True)) as ledger:
            rows = ledger.execute("SELECT count(*) FROM sandboxes WHERE state != 'gone'").fetchone()[0]
        return {
            "containers": len(run("docker", "ps", "--all", "--quiet", "--filter", label).split()),
            "networks": len(run("docker", "network", "ls", "--quiet", "--filter", label).split()),
            "bridges": len(glob.glob("/sys/class/net/sb-*")),
            "mounts": mounts,
            "loop devices": sum(path.strip() in disks for path in backing),
            "disks": len(disks),
            "directories": len(os.listdir(f"{self.state}/sandboxes")),
            "rows": int(rows),
            "packet rules": run("nft", "list", "ruleset", check=False).count("chain from-"),
        }

    def clean(self) -> None:
        rows = json.loads(run("docker-sandbox", "list", "--json"))
        if ours := [row["sandboxID"] for row in rows if row["name"] == NAME]:
            run("docker-sandbox", "kill", *ours, check=False)


def says(pid: int, word: str) -> bool:
    return word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def sum_of(pids: list[int]) -> Found:
    found: Counter[str] = Counter()
    for pid in pids:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        found["KB"] += int(lines["RssAnon"].split()[0])
        found["threads"] += int(lines["Threads"])
        found["files"] += len(os.listdir(f"/proc/{pid}/fd"))
    return dict(found)


class Load:
    """Workers that go through what people and programs do, in no order, until they are told to stop."""

    def __init__(self, host: Host, resident: str) -> None:
        self._host, self._resident = host, resident
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(seed,)) for seed in range(WORKERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _work(self, seed: int) -> None:
        chance = random.Random(seed)
        kinds: list[Callable[[], None]] = [
            *[self._claim] * 4, *[self._commands] * 4, *[self._visits] * 4, *[self._copies] * 2,
            self._cold, self._sleeps, self._restricted, self._volume, self._looks,
        ]  # fmt: skip
        while not self._stopped.is_set():
            kind = chance.choice(kinds)
            name = kind.__name__.strip("_")
            try:
                kind()
                self.done[name] += 1
            except (subprocess.SubprocessError, OSError, ValueError) as error:
                said = str(getattr(error, "stderr", "") or error).strip().splitlines()
                self.failed[f"{name}: {said[-1] if said else error!r}"] += 1

    @contextlib.contextmanager
    def _sandbox(self, *options: str) -> Any:
        made = run("docker-sandbox", "init", "--name", NAME, *options)
        try:
            yield made
        finally:
            run("docker-sandbox", "kill", made, check=False)

    def _claim(self) -> None:
        with self._sandbox() as made:
            run("docker-sandbox", "exec", made, "echo x >/code/x")

    def _cold(self) -> None:
        with self._sandbox("--cold") as made:
            run("docker-sandbox", "exec", made, "true")

    def _commands(self) -> None:
        run("docker-sandbox", "exec", self._resident, "head -c 300000 /dev/urandom | base64")
        run("docker-sandbox", "files", "ls", self._resident, "/etc")

    def _copies(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "file").write_bytes(os.urandom(2_000_000))
            target = f"/tmp/{os.path.basename(directory)}"
            run("docker-sandbox", "upload", self._resident, directory, target)
            run("docker-sandbox", "download", self._resident, f"{target}/file", f"{directory}/back")
            run("docker-sandbox", "exec", self._resident, f"rm -r {target}")

    def _sleeps(self) -> None:
        with self._sandbox() as made:
            for verb in ("pause", "resume", "stop", "start"):
                run("docker-sandbox", verb, made)

    def _restricted(self) -> None:
        with self._sandbox("--network", "none") as made:
            run("docker-sandbox", "network", made, "--network", "public")

    def _volume(self) -> None:
        volume = f"soak-{random.randrange(10**9)}"
        with self._sandbox("--cold", "--volume", volume, "--disk", "128m") as made:
            run("docker-sandbox", "exec", made, "echo x >/code/x")
        run("docker-sandbox", "volume", "rm", volume)

    def _looks(self) -> None:
        for words in (["list"], ["pool", "status"], ["stats"], ["metrics"], ["doctor", "--no-probe"]):
            run("docker-sandbox", *words, check=False)

    def _visits(self) -> None:
        """A port that is closed, a name that is nobody's, and one that hangs up without reading."""
        for label in (f"8000-{self._resident}", "qa-000000000000", f"49983-{self._resident}"):
            with socket.create_connection(self._host.gateway, 30) as one:
                one.sendall(
                    f"GET / HTTP/1.1\r\nHost: {label}.{self._host.domain}\r\nConnection: close\r\n\r\n".encode()
                )
                if not label.startswith("49983") and not one.recv(100).startswith(b"HTTP/1.1 502"):
                    raise ValueError(f"{label}: no answer in the gateway's words")


def settled(host: Host, resident: str) -> tuple[dict[str, Found], Found]:
    """What is held and left, once the pool is full and nothing has happened for a while.

    Raises TimeoutError when it does not become full: members that are missing would be told as figures.
    """
    deadline = time.monotonic() + FULL_S
    while time.monotonic() < deadline:
        pool = json.loads(run("docker-sandbox", "pool", "status", "--json"))
        if pool["warm"] == pool["size"] and not pool["starting"]:
            break
        time.sleep(0.5)
    else:
        raise TimeoutError(f"the pool is not full after {FULL_S} s: {pool}")
    time.sleep(SETTLE_S)
    return host.held(resident), host.left()


def main(arguments: list[str]) -> int:
    host, minutes = Host(arguments[0]), float(arguments[1])
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    host.clean()
    before_all = host.left()
    resident = run("docker-sandbox", "init", "--name", NAME, "--keep")
    looks = []
    done: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    try:
        for what, seconds in (("warm up", WARM_S), ("load", minutes * 60)):
            load = Load(host, resident)
            say(f"{what}: {seconds:.0f} s ...")
            load.start()
            try:
                time.sleep(seconds)
            finally:
                load.stop()
            looks.append(settled(host, resident))
            done, failed = done + load.done, failed + load.failed
    finally:
        host.clean()
    time.sleep(SETTLE_S)
    (held_before, left_before), (held_after, left_after) = looks
    print(
        json.dumps(
            {
                "held": [held_before, held_after],
                "left": [left_before, left_after],
                "ends": [before_all, host.left()],
                "done": done,
                "failed": failed,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
