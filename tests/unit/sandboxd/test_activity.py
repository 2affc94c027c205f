"""Whether somebody uses a sandbox: with real processes, and with /proc as a directory."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxd.activity import Process, processes, runs_command, sent_packets, unread
from tests.unit.sandboxd.conftest import until

SOURCE = Path(__file__).parents[3] / "src"
HEAD = "Inter-|   Receive\n face |bytes\n"
LISTENS = (
    "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print('ready', flush=True); time.sleep(1000)"
)


NETSTAT = "TcpExt: SyncookiesSent TCPKeepAlive\nTcpExt: 1 {}\nIpExt: InNoRoutes\nIpExt: 9\n"


def interface(name: str, sent: int) -> str:
    return f"{name:>6}: 1 2 3 4 5 6 7 8 9 {sent} 11 12 13 14 15 16\n"


def test_what_is_sent_is_counted_but_not_over_loopback(tmp_path: Path) -> None:
    (tmp_path / "proc/7/net").mkdir(parents=True)
    (tmp_path / "proc/7/net/dev").write_text(HEAD + interface("lo", 1000) + interface("eth0", 5) + interface("eth1", 2))
    (tmp_path / "proc/7/net/netstat").write_text(NETSTAT.format(3))
    assert sent_packets(7, tmp_path) == 7 - 3, "its kernel has sent three, whatever it was doing"
    with pytest.raises(OSError, match="proc/8"):
        sent_packets(8, tmp_path)


def row(state: str, waiting: int) -> str:
    return f"   0: 0100007F:1F40 0100007F:A0B2 {state} 00000005:{waiting:08X} 00:00000000 00000000  0 0 1 1 0 20 4 30\n"


@pytest.mark.parametrize(
    ("state", "waiting", "found"),
    [
        ("01", 0, False),
        ("01", 1, True),
        ("0A", 0, False),
        ("0A", 1, True),
        ("08", 1, False),  # the end alone
        ("08", 2, True),
        ("09", 1, False),
        ("06", 0, False),
    ],
)
def test_what_waits_to_be_read(tmp_path: Path, state: str, waiting: int, found: bool) -> None:
    (tmp_path / "proc/7/net").mkdir(parents=True)
    (tmp_path / "proc/7/net/tcp").write_text("  sl  local_address rem_address   st\n" + row("01", 0) + row("0A", 0))
    (tmp_path / "proc/7/net/tcp6").write_text("  sl  local_address rem_address   st\n" + row(state, waiting))
    assert unread(7, tmp_path) is found
    assert unread(8, tmp_path) is False


def test_what_waits_to_be_read_of_real_sockets() -> None:
    """In a network namespace of its own, whose other sockets are none."""
    looks = (
        "import os, socket; from sandboxd.activity import unread; pid = os.getpid()\n"
        "import ctypes; assert ctypes.CDLL(None).unshare(0x40000000 | (os.geteuid() and 0x10000000)) == 0\n"
        "import subprocess; subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)\n"
        "listening = socket.create_server(('127.0.0.1', 0)); said = [unread(pid)]\n"
        "one = socket.create_connection(listening.getsockname()); said.append(unread(pid))\n"
        "other = listening.accept()[0]; said.append(unread(pid))\n"
        "one.sendall(b'x'); said.append(unread(pid)); other.recv(1); one.close(); said.append(unread(pid)); print(said)"
    )
    done = subprocess.run(
        [sys.executable, "-c", looks], env=os.environ | {"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True
    )
    assert done.stdout == "[False, True, False, True, False]\n", done.stderr


def test_all_processes_that_live_are_found() -> None:
    own = next(one for one in processes() if one.pid == os.getpid())
    assert own.parent == os.getppid() and own.started > 0


def test_a_name_may_look_like_fields_and_the_dead_do_not_count(tmp_path: Path) -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    for pid, state in ((7, "S"), (8, "Z"), (9, "X")):
        (tmp_path / f"proc/{pid}").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/stat").write_text(f"{pid} (a) Z 1 (b) {state} {fields}\n")
    (tmp_path / "proc/10").mkdir()
    (tmp_path / "proc/sys").mkdir()
    assert processes(tmp_path) == [Process(7, 4, 22)]


Tree = Callable[[str], int]


@pytest.fixture
def tree() -> Iterator[Tree]:
    """Starts a first process and an agent as its child, whose own children a shell makes of the text.

    Returns the first one, once the text has said `ready`.
    """
    started: list[subprocess.Popen[str]] = []

    def start(text: str) -> int:
        script = 'sh -c "$1" & wait'
        made = subprocess.Popen(
            ["sh", "-c", script, "first", text], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(made)
        assert made.stdout is not None and made.stdout.readline() == "ready\n"
        return made.pid

    yield start
    for made in started:
        os.killpg(made.pid, signal.SIGKILL)
        made.wait()
        assert made.stdout is not None
        made.stdout.close()


def runs(pid: int) -> bool:
    return runs_command(pid, processes())


def python(program: str) -> str:
    return f'{sys.executable} -c "{program}"'


def test_a_quiet_command_is_one_until_it_ends(tree: Tree) -> None:
    pid = tree("sleep 1000 & echo ready; wait; read forever")
    assert runs(pid)
    until(lambda: bool(_sleeping(pid)), "it is the shell's copy no more")
    os.kill(_sleeping(pid)[0], signal.SIGKILL)
    until(lambda: not runs(pid), "it is over")


def test_without_children_the_agent_runs_nothing(tree: Tree) -> None:
    assert not runs(tree("echo ready; read forever"))
    assert not runs_command(os.getpid(), []), "and where there is no agent, nothing runs"


@pytest.mark.parametrize("wrapped", [False, True], ids=["server", "shell with a server"])
def test_a_server_is_no_command(tree: Tree, wrapped: bool) -> None:
    command = python(LISTENS)
    pid = tree(f"(true; {command}; true) & wait" if wrapped else f"{command} & wait")
    assert not runs(pid)


def test_a_command_beside_a_server_is_one(tree: Tree) -> None:
    assert runs(tree(f"sleep 1000 & {python(LISTENS)} & wait"))


def _sleeping(first: int) -> list[int]:
    """Of the process group of the first one, those that are the command and not the shell that has begun it."""
    return [one.pid for one in processes() if "sleep" in _name(one.pid) and _of(first, one)]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def _of(first: int, one: Process) -> bool:
    """Whether it is in the process group of the first one."""
    try:
        return os.getpgid(one.pid) == first
    except OSError:
        return False
