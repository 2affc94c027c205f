"""Programs that take all that they can get, for a bounded time. Runs inside a sandbox; standard library only.

`python3 bombs.py NAME SECONDS [ARGUMENT...]`. What the limits refuse is tried again until the time is over; a bomb that
was refused nothing by then goes on until it is, for a minute at most. Prints a JSON object: `taken`, in the bomb's own
unit, and how often it was `refused`.
"""

import errno
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

MIB = 1 << 20
PATIENCE_S = 60


class Bomb:
    def __init__(self, seconds: float, arguments: list[str]) -> None:
        self.arguments = arguments
        self.taken = self.refused = 0
        self.end = time.monotonic() + seconds
        self.last = self.end + PATIENCE_S

    def over(self) -> bool:
        now = time.monotonic()
        return now > self.last or (now > self.end and self.refused > 0)

    def tell(self) -> None:
        print(json.dumps({"taken": self.taken, "refused": self.refused}), flush=True)


def forks(bomb: Bomb) -> None:
    """Processes that make processes, as many as there may be."""
    first = os.getpid()
    os.setpgid(0, 0)
    while not bomb.over():
        try:
            if os.fork():
                bomb.taken += 1
            else:
                signal.alarm(60)  # whatever becomes of the others
        except OSError:
            bomb.refused += 1
            time.sleep(0.01)
    if os.getpid() != first:
        os._exit(0)
    bomb.tell()
    os.killpg(0, signal.SIGKILL)


def memory(bomb: Bomb) -> None:
    """Children that take memory until the kernel ends them, again and again."""
    eater = "all = []\nwhile True: all.append(bytearray(b'x') * (32 << 20))"
    while not bomb.over():
        done = subprocess.run([sys.executable, "-c", eater], check=False, stderr=subprocess.DEVNULL)
        bomb.taken += 1
        bomb.refused += done.returncode != 0


def processor(bomb: Bomb) -> None:
    """Each processor of the host wants to be used, four times over; which is refused by giving it less."""
    bomb.taken, bomb.refused = 4 * (os.cpu_count() or 1), 1
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(bomb.taken)]
    while not bomb.over():
        time.sleep(0.1)
    for one in spinning:
        one.kill()


def disk(bomb: Bomb) -> None:
    """/code, written full, emptied and written again."""
    while not bomb.over():
        try:
            with open("/code/bomb", "wb", buffering=0) as file:
                while not bomb.over():
                    bomb.taken += file.write(bytes(4 * MIB)) // MIB
        except OSError as error:
            bomb.refused += error.errno == errno.ENOSPC
            time.sleep(0.2)
    os.unlink("/code/bomb")


def inodes(bomb: Bomb) -> None:
    """Empty files on /code, as many as there may be."""
    os.makedirs("/code/many", exist_ok=True)
    while not bomb.over():
        try:
            os.close(os.open(f"/code/many/{bomb.taken}", os.O_CREAT | os.O_WRONLY))
            bomb.taken += 1
        except OSError as error:
            bomb.refused += error.errno == errno.ENOSPC
            time.sleep(0.2)


def log(bomb: Bomb) -> None:
    """Into the log of the container, which is what PID 1 says: so many bytes at least as the argument says."""
    with open("/proc/1/fd/1", "wb", buffering=0) as output:
        while not bomb.over():
            bomb.taken += output.write(b"flood " * 1000 + b"\n")
            bomb.refused = int(bomb.taken > int(bomb.arguments[0]))


def descriptors(bomb: Bomb) -> None:
    """Processes that each open as many files as they may, twenty at the same time."""
    opener = (
        "import os, sys, time\nopened, refused, end, last = [], 0, *map(float, sys.argv[1:])\n"
        "while time.monotonic() < (end if refused else last):\n"
        "    try: opened.append(os.open('/dev/null', os.O_RDONLY))\n"
        "    except OSError:\n"
        "        refused += 1\n"
        "        time.sleep(0.1)\n"
        "print(len(opened), refused)"
    )
    command = [sys.executable, "-c", opener, str(bomb.end), str(bomb.last)]
    holders = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(20)]
    for one in holders:
        opened, refused = map(int, one.communicate()[0].split())
        bomb.taken += opened
        bomb.refused += refused


def connections(bomb: Bomb) -> None:
    """Flows to one address, each of which takes an entry in the host's table of connections: more than its argument
    says, from two processes.
    """
    with multiprocessing.Pool(2) as pool:
        for flows in pool.imap_unordered(partial(flood, bomb.last), [bomb.arguments[0]] * 1000):
            bomb.taken += flows
            bomb.refused = int(bomb.taken > int(bomb.arguments[1]))  # nobody says so to him who sends
            if bomb.over():
                break


def flood(last: float, address: str) -> int:
    """One packet to every eighth port, from a port of its own. Returns how many were sent."""
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for port in range(1, 65536, 8):
            if time.monotonic() > last:
                break
            try:
                one.sendto(b"ping", (address, port))
                sent += 1
            except OSError:
                time.sleep(0.001)
    return sent


# What is refused by a limit of the sandbox's own; and two more.
LIMITED: dict[str, Callable[[Bomb], None]] = {
    "forks": forks,
    "memory": memory,
    "processor": processor,
    "disk": disk,
    "inodes": inodes,
    "descriptors": descriptors,
}
BOMBS = {**LIMITED, "log": log, "connections": connections}


def main() -> None:
    if not os.path.isdir("/run/sandbox"):
        sys.exit("this is no sandbox: nothing was tried")
    bomb = Bomb(float(sys.argv[2]), sys.argv[3:])
    BOMBS[sys.argv[1]](bomb)
    bomb.tell()


if __name__ == "__main__":
    main()
