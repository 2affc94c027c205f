"""The verb `stats`: once, as JSON, and live on a terminal of its own."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli import stats
from sandboxd.cli.stats import picture
from sandboxd.cli.statstable import lines
from sandboxd.doctor.effects import Effects
from tests.unit.sandboxd import kernel
from tests.unit.sandboxd.cli.doubles import DEADLINE_S, ID, Cli, ControlPlane, answer_of, write_place
from tests.unit.sandboxd.cli.test_statstable import NOW, USAGE, row
from tests.unit.sandboxd.clients import Client
from tests.unit.sandboxd.conftest import World, until


def look(clock: float, *rows: dict[str, Any]) -> dict[str, Any]:
    return {"at": NOW, "clock": clock, "sandboxes": list(rows)}


def sandbox(cpu_ns: int, name: str = "demo", sandbox_id: str = ID) -> dict[str, Any]:
    made = row(name=name, sandboxID=sandbox_id, usage={**USAGE, "cpu_ns": cpu_ns}, network=None)
    del made["rates"]
    return made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "ONCE_S", 0.0)


def test_one_table_where_there_is_no_terminal(
    lone: Cli, control: ControlPlane, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    control.answer("GET /stats", 200, look(1, sandbox(0)), look(2, sandbox(1_500_000_000)))
    assert lone.call("stats") == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.startswith("ID ") and line.split()[:5] == [ID, "demo", "running", "150.0%", "75.0%"]
    assert "DISK" not in head and "\033" not in head + line


def test_json_has_counters_and_rates(
    lone: Cli, control: ControlPlane, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    control.answer("GET /stats", 200, look(1, sandbox(0)), look(2, sandbox(10**9)))
    assert lone.call("stats", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    (one,) = answer["sandboxes"]
    assert answer["at"] == NOW and one["usage"]["cpu_ns"] == 10**9 and one["rates"]["cpu_percent"] == 100.0


def test_only_some(lone: Cli, control: ControlPlane, quick: None) -> None:
    control.answer("GET /stats?id=4f1c&id=a%2Fb", 200, look(1, sandbox(0)))
    assert lone.call("stats", "4f1c", "a/b", "--once") == 0
    assert [request.target for request in control.requests] == ["/stats?id=4f1c&id=a%2Fb"] * 2


def test_none_at_all(lone: Cli, control: ControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    control.answer("GET /stats", 200, look(1))
    assert lone.call("stats") == 0 and "docker-sandbox init" in capsys.readouterr().out
    assert len(control.requests) == 1, "nothing to wait for"


def test_one_that_is_not_there(lone: Cli, control: ControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    control.answer("GET /stats?id=x", 404, {"code": 404, "message": "sandbox 'x' not found"})
    assert lone.call("stats", "x") == 3 and "'x' not found" in capsys.readouterr().err


def test_with_the_daemon_itself(world: World, directory: Path, tmp_path: Path) -> None:
    kernel.write(tmp_path, {"proc/self/mountinfo": kernel.MOUNTS_V2})
    service = Client(world, Effects(root=tmp_path))
    try:
        found = service.create(name="demo")["sandboxID"]
        kernel.v2(tmp_path, found + "0" * 52, world.engine.containers[found].pid)
        cli = Cli(write_place(directory / "config.toml", world.config.socket, ("127.0.0.1", 1)), directory)
        line = cli.out("stats", found[:12], "--once").splitlines()[1]
        assert line.split()[:7] == [found, "demo", "running,", "3", "OOM", "0.0%", "0.0%"]
        assert "11.1M/2.0G" in line and "2/1024" in line
    finally:
        service.server.force_exit = True
        service.close()


# --- The picture -----------------------------------------------------------------------------------------------------


def rows(count: int) -> list[dict[str, Any]]:
    return [row(sandboxID=f"{number:012x}") for number in range(count)]


def test_a_picture_fits_and_says_how_many_are_left() -> None:
    for height in range(1, 12):
        made = picture(rows(6), NOW, 60, height)
        assert len(made) <= height and all(len(line) <= 60 for line in made)
    assert picture(rows(6), NOW, 60, 6)[-1] == "... and 3 less busy"
    assert len(picture(rows(6), NOW, 60, 8)) == 8, "all of them, where there is room"


def test_a_picture_of_nothing() -> None:
    assert picture([], NOW, 20, 5) == ["no sandboxes; make o"]


# --- On a terminal ---------------------------------------------------------------------------------------------------


class Terminal:
    """A terminal of a given size, with the verb on it."""

    def __init__(self, cli: Cli, columns: int, rows: int) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.theirs)
        self.received = b""
        # A process group of its own, with us as the parent outside: the kernel stops no others by SIGTSTP.
        streams = {"stdin": self.theirs, "stdout": self.theirs, "stderr": subprocess.PIPE}
        self.process = cli.start("stats", **streams, process_group=0)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, good: Callable[[list[str]], bool], what: str) -> list[str]:
        """The first picture that is so."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            pictures = self.received.decode(errors="replace").split("\033[H")
            for one in pictures[1:]:
                whole, end, _ = one.partition("\033[J")
                shown = whole.replace("\033[K", "").split("\r\n")
                if end and good(shown):
                    return shown
            assert time.monotonic() < deadline, f"{what}: {self.received!r}"
            if select.select([self.ours], [], [], 0.1)[0]:
                self.received += os.read(self.ours, 65536)

    def end(self) -> tuple[int, str]:
        """Exit code and standard error, and that the terminal is as it was."""
        _, error = self.process.communicate(timeout=DEADLINE_S)
        while select.select([self.ours], [], [], 0)[0]:
            self.received += os.read(self.ours, 65536)
        assert self.received.endswith(b"\033[?25h\033[?1049l"), self.received
        assert termios.tcgetattr(self.theirs)[3] == self.before[3], "keys echo again"
        return self.process.returncode, error.decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        for descriptor in (self.ours, self.theirs):
            with suppress(OSError):
                os.close(descriptor)


@pytest.fixture
def terminal(lone: Cli, control: ControlPlane) -> Iterator[Terminal]:
    control.answer("GET /stats", 200, look(1, sandbox(0)))
    made = Terminal(lone, 100, 20)
    yield made
    made.close()


def shows_demo(shown: list[str]) -> bool:
    return any("demo" in line for line in shown)


def test_it_is_renewed_until_q(terminal: Terminal, control: ControlPlane) -> None:
    first = terminal.until(shows_demo, "a first picture")
    assert first[0].startswith("1 sandbox: CPU 0%, memory 120M") and first[1].startswith("ID ")
    control.answer("GET /stats", 200, look(2, sandbox(1_800_000_000)))
    terminal.until(lambda shown: "180.0%" in shown[-1], "a second picture")
    os.write(terminal.ours, b"q")
    assert terminal.end() == (0, "")


def test_each_picture_is_home_its_lines_and_clear(terminal: Terminal) -> None:
    """Nothing is wiped before it is written again, so that nothing flickers."""
    terminal.until(shows_demo, "a picture")
    assert re.search(rb"\033\[H[^\033]+\033\[K\r\n", terminal.received) and b"\033[2J" not in terminal.received


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_give_the_terminal_back(terminal: Terminal, number: signal.Signals, code: int) -> None:
    terminal.until(shows_demo, "a picture")
    terminal.process.send_signal(number)
    assert terminal.end()[0] == code


def test_a_terminal_that_becomes_narrow(terminal: Terminal) -> None:
    terminal.until(lambda shown: "NET IN/s" in shown[1], "a wide picture")
    terminal.resize(40, 20)
    terminal.process.send_signal(signal.SIGWINCH)
    shown = terminal.until(lambda shown: "NET IN/s" not in shown[1], "a narrow picture")
    assert max(map(len, shown)) <= 40 and shown[1:] == lines([{**row(sandboxID=ID), "rates": NO_RATES}], NOW, 40)


def test_the_shell_gets_the_terminal_in_between(terminal: Terminal, control: ControlPlane) -> None:
    terminal.until(shows_demo, "a picture")
    terminal.process.send_signal(signal.SIGTSTP)
    status = Path(f"/proc/{terminal.process.pid}/status")
    until(lambda: "State:\tT (stopped)" in status.read_text(), "a stop")
    assert termios.tcgetattr(terminal.theirs)[3] == terminal.before[3]
    terminal.received = b""
    control.answer("GET /stats", 200, look(2, sandbox(0, "after")))
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until(lambda shown: any("after" in line for line in shown), "a picture after the return")
    os.write(terminal.ours, b"q")
    assert terminal.end()[0] == 0


def test_a_daemon_that_goes_gives_the_terminal_back(terminal: Terminal, control: ControlPlane) -> None:
    terminal.until(shows_demo, "a picture")
    control.answers["GET /stats"] = answer_of(503, {"code": 503, "message": "the host is busy"})
    code, error = terminal.end()
    assert (code, error) == (5, "docker-sandbox: error: the host is busy\n")


NO_RATES = {"cpu_percent": None, "cpu_percent_of_limit": None, "received_bytes_per_s": None, "sent_bytes_per_s": None}
