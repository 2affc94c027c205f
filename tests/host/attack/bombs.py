"""Programs that take all that they can get, for a bounded time. Runs inside a sandbox; standard library only.

`python3 bombs.py NAME SECONDS [ARGUMENT...]`. What the limits refuse is tried again until the time is over.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

MIB = 1 << 20
Until = Callable[[], bool]


def forks(until: Until) -> None:
    """Processes that make processes, as many as there may be."""
    os.setpgid(0, 0)
    while not until():
        try:
            if not os.fork():
                signal.alarm(60)  # whatever becomes of the others
        except OSError:
            time.sleep(0.01)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGKILL)


def memory(until: Until) -> None:
    """Children that take memory until the kernel ends them, again and again."""
    while not until():
        eater = "all = []\nwhile True: all.append(bytearray(b'x') * (32 << 20))"
        subprocess.run([sys.executable, "-c", eater], check=False, stderr=subprocess.DEVNULL)


def processor(until: Until) -> None:
    """Each processor of the host wants to be used, four times over."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * (os.cpu_count() or 1))]
    while not until():
        time.sleep(0.1)
    for one in spinning:
        one.kill()


def disk(until: Until) -> None:
    """/code, written full, emptied and written again."""
    while not until():
        try:
            with open("/code/bomb", "wb", buffering=0) as file:
                while not until():
                    file.write(bytes(4 * MIB))
        except OSError:
            time.sleep(0.2)
    os.unlink("/code/bomb")


def inodes(until: Until) -> None:
    """Empty files on /code, as many as there may be."""
    os.makedirs("/code/many", exist_ok=True)
    number = 0
    while not until():
        try:
            os.close(os.open(f"/code/many/{number}", os.O_CREAT | os.O_WRONLY))
            number += 1
        except OSError:
            time.sleep(0.2)
    print(number)


def log(until: Until) -> None:
    """Into the log of the container, which is what PID 1 says."""
    with open("/proc/1/fd/1", "wb", buffering=0) as output:
        while not until():
            output.write(b"flood " * 1000 + b"\n")


def descriptors(until: Until) -> None:
    """Processes that each open as many files as they may."""
    opener = (
        "import os, time\nopened = []\nend = time.monotonic() + float(%r)\n"
        "while time.monotonic() < end:\n"
        "    try: opened.append(os.open('/dev/null', os.O_RDONLY))\n"
        "    except OSError: time.sleep(0.1)"
    )
    holders = [subprocess.Popen([sys.executable, "-c", opener % 8]) for _ in range(20)]
    while not until():
        time.sleep(0.1)
    for one in holders:
        one.kill()


def connections(until: Until) -> None:
    """Flows to one address, each of which takes an entry in the host's table of connections."""
    address, port, flows = sys.argv[3], 1, 0
    while not until() and flows < 400_000:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            for port in range(1, 65536):
                try:
                    one.sendto(b"ping", (address, port))
                    flows += 1
                except OSError:
                    pass
                if port % 1000 == 0 and until():
                    break
    print(flows)


BOMBS = {
    "forks": forks,
    "memory": memory,
    "processor": processor,
    "disk": disk,
    "inodes": inodes,
    "log": log,
    "descriptors": descriptors,
    "connections": connections,
}


def main() -> None:
    if not os.path.isdir("/run/sandbox"):
        sys.exit("this is no sandbox: nothing was tried")
    end = time.monotonic() + float(sys.argv[2])
    BOMBS[sys.argv[1]](lambda: time.monotonic() > end)


if __name__ == "__main__":
    main()
