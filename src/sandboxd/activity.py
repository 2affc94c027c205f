"""Whether somebody uses a sandbox: by what it sends, and by the commands that run in it. Reads /proc.

What it sends, and not what it receives: the host's own broadcasts reach every sandbox, but whoever is talked to
answers, if only with the kernel's acknowledgement. That holds for a frozen sandbox as well. Its own keepalives do not
count: its kernel sends them for as long as a connection is open, whether the sandbox is frozen or not.

A command is a process that the agent started, as long as neither it nor what it started listens on a port. One that
listens is a server, which waits for visitors: what they do is seen by the packets.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

LOOPBACK = "lo"
SENT_PACKETS = 9  # of the 16 counters of an interface; see proc_pid_net(5)
MOST_FILES = 256  # that are looked at; a socket that listens is one of the first that a server opens
LISTENS = "0A"  # TCP_LISTEN, in the column `st` of /proc/PID/net/tcp
CLOSED = ("08", "09", "0B")  # by the other end: TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    started: int  # ticks since boot


def sent_packets(pid: int, root: Path = Path("/")) -> int:
    """Since the container's start, over all interfaces but loopback, without keepalives.

    Raises OSError when the process is gone.
    """
    lines = (root / f"proc/{pid}/net/dev").read_text().splitlines()[2:]
    split = (line.partition(":") for line in lines)
    sent = sum(int(counters.split()[SENT_PACKETS]) for name, _, counters in split if name.strip() != LOOPBACK)
    return sent - _keepalives(pid, root)


def _keepalives(pid: int, root: Path) -> int:
    """How many it has sent, as /proc/PID/net/netstat says in pairs of lines: names, and their values."""
    lines = [line.split() for line in (root / f"proc/{pid}/net/netstat").read_text().splitlines()]
    pairs = zip(lines[::2], lines[1::2], strict=False)
    counters = dict(pair for names, values in pairs for pair in zip(names, values, strict=True))
    return int(counters["TCPKeepAlive"])


def processes(root: Path = Path("/")) -> list[Process]:
    """All of the host that live."""
    found = []
    for directory in (root / "proc").iterdir():
        if directory.name.isdecimal():
            try:
                text = (directory / "stat").read_text(errors="replace")
            except OSError:
                continue  # it has ended meanwhile
            # The name, in parentheses, may hold spaces and parentheses. See proc_pid_stat(5): fields 3, 4 and 22.
            state, parent, *rest = text.rpartition(")")[2].split()
            if state not in "ZX":
                found.append(Process(int(directory.name), int(parent), int(rest[17])))
    return found


def runs_command(pid: int, known: list[Process], root: Path = Path("/")) -> bool:
    """Whether a command runs in the container whose first process is `pid`. `known` is from `processes`."""
    children: dict[int, list[Process]] = {}
    for one in known:
        children.setdefault(one.parent, []).append(one)
    # Beside the agent, orphans that it had started are children of the first process. The agent is the oldest.
    agent = min(children.get(pid, []), key=lambda one: (one.started, one.pid), default=None)
    if agent is None:
        return False
    listening = _listening(pid, root)
    if not listening:
        return bool(children.get(agent.pid))
    return any(not _serves(one, children, listening, root) for one in children.get(agent.pid, []))


def _serves(top: Process, children: dict[int, list[Process]], listening: set[str], root: Path) -> bool:
    """Whether it, or a process below it, listens on a port."""
    waiting = [top]
    while waiting:
        one = waiting.pop()
        if any(file in listening for file in _open_files(one.pid, root)):
            return True
        waiting += children.get(one.pid, [])
    return False


def unread(pid: int, root: Path = Path("/")) -> bool:
    """Whether something waits to be read, or a connection to be accepted, in the network namespace of that process.

    That the other end closes a connection counts as one byte, and is nothing to read.
    """
    for fields in _tcp_sockets(pid, root):
        waiting = int(fields[4].rpartition(":")[2], 16)
        if waiting > (1 if fields[3] in CLOSED else 0):
            return True
    return False


def _listening(pid: int, root: Path) -> set[str]:
    """What /proc/PID/fd shows of the sockets that listen in the network namespace of that process."""
    return {f"socket:[{fields[9]}]" for fields in _tcp_sockets(pid, root) if fields[3] == LISTENS}


def _tcp_sockets(pid: int, root: Path) -> Iterator[list[str]]:
    """The columns of /proc/PID/net/tcp and tcp6: see proc_pid_net(5)."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (root / f"proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue  # without IPv6 there is no tcp6
        yield from map(str.split, lines)


def _open_files(pid: int, root: Path) -> Iterator[str]:
    """Of a process no more than MOST_FILES: a sandbox may open millions, and has whoever looks wait."""
    try:
        with os.scandir(root / f"proc/{pid}/fd") as entries:
            for entry in islice(entries, MOST_FILES):
                yield os.readlink(entry.path)
    except OSError:
        pass  # it has ended, or closed the file, meanwhile
