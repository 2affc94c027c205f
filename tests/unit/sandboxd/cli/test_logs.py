"""The verb `logs`: plain lines, events, JSON; what is gone; and what a log may not do to a terminal."""

import json
import os
import pty
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sandboxd import logs
from tests.unit.sandboxd.cli.doubles import DEADLINE_S, ID, Apart, Cli, ControlPlane, answer_of
from tests.unit.sandboxd.conftest import World, until
from tests.unit.sandboxd.fake_engine import START, FakeLog

LINES = [
    {"at": "2027-01-15T08:00:00.000Z", "kind": "created", "text": "made when it was asked for"},
    {"at": "2027-01-15T08:00:01.000Z", "kind": "line", "text": "envd: listening"},
    {"at": "2027-01-15T08:00:02.000Z", "kind": "line", "text": "\033[2J"},
]
ENDED = {"at": "2027-01-15T09:00:00.000Z", "kind": "ended", "text": "timeout reached"}
Run = Callable[..., tuple[int, str, str]]


def stream(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.fixture
def run(lone: Cli, capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = lone.call("logs", ID, *arguments)
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return call


def test_plain_lines(run: Run, control: ControlPlane) -> None:
    control.answer(f"GET /logs/{ID}?lines=100", 200, stream(*LINES[1:]))
    assert run() == (0, "envd: listening\n\033[2J\n", "")


def test_wishes_are_passed_on(run: Run, control: ControlPlane) -> None:
    control.answer(f"GET /logs/{ID}?follow=true&lines=0", 200, b"")
    control.answer(f"GET /logs/{ID}?events=true", 200, b"")
    assert run("--follow", "--lines", "0") == run("--lines", "all", "--events") == (0, "", "")


def test_events_have_times_and_kinds(run: Run, control: ControlPlane) -> None:
    control.answer(f"GET /logs/{ID}?events=true&lines=100", 200, stream(*LINES[:2]))
    assert run("--events")[1].splitlines() == [
        "2027-01-15T08:00:00.000Z  created    made when it was asked for",
        "2027-01-15T08:00:01.000Z  agent      envd: listening",
    ]


def test_json_is_one_object_a_line(run: Run, control: ControlPlane) -> None:
    control.answer(f"GET /logs/{ID}?lines=100", 200, stream(*LINES))
    assert [json.loads(line) for line in run("--json")[1].splitlines()] == LINES


def test_one_that_is_gone(run: Run, control: ControlPlane) -> None:
    control.answer(f"GET /logs/{ID}?lines=100", 404, {"code": 404, "message": f"sandbox '{ID}' ended at T: cleanup"})
    assert run() == (3, "", f"docker-sandbox: error: sandbox '{ID}' ended at T: cleanup\n")


@pytest.mark.parametrize(("flags", "shown"), [((), 1), (("--events",), 2), (("--json",), 2)])
def test_one_that_ends_meanwhile(run: Run, control: ControlPlane, flags: tuple[str, ...], shown: int) -> None:
    query = "?events=true&lines=100" if flags == ("--events",) else "?lines=100"
    control.answer(f"GET /logs/{ID}{query}", 200, stream(LINES[1], ENDED))
    code, out, err = run(*flags)
    assert (code, len(out.splitlines())) == (3, shown)
    assert err == f"docker-sandbox: error: sandbox {ID} ended at 2027-01-15T09:00:00.000Z: timeout reached\n"


def test_a_daemon_that_stops_in_the_middle(run: Run, control: ControlPlane) -> None:
    control.answer(f"GET /logs/{ID}?lines=100", 200, stream(LINES[1], {"code": 503, "message": "being stopped"}))
    assert run() == (5, "envd: listening\n", "docker-sandbox: error: being stopped\n")


def test_a_connection_that_breaks_in_the_middle(run: Run, control: ControlPlane) -> None:
    whole = answer_of(200, stream(LINES[1], LINES[1]))
    control.answers[f"GET /logs/{ID}?lines=100"] = whole[:-10]
    code, out, err = run()
    assert (code, out) == (4, "envd: listening\n") and "hung up" in err


# --- With the daemon itself ------------------------------------------------------------------------------------------


@pytest.fixture
def written(used: Cli, world: World, monkeypatch: pytest.MonkeyPatch) -> FakeLog:
    monkeypatch.setattr(logs, "POLL_S", 0.005)
    log = world.engine.logged.setdefault(ID, FakeLog())
    log.write(START + 1, "first")
    return log


def test_a_log(used: Cli, written: FakeLog) -> None:
    written.write(START + 2, "second")
    apart = Apart(used.config, used.work)
    assert apart.out("logs", ID[:4]) == "first\nsecond\n"
    assert apart.out("logs", ID, "--lines", "1") == "second\n"
    assert [line.split()[1] for line in apart.out("logs", ID, "--events").splitlines()][-2:] == ["agent", "agent"]


def test_following_ends_with_the_sandbox(used: Cli, written: FakeLog, world: World) -> None:
    with used.start("logs", ID, "--follow") as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == b"first\n"
        written.write(START + 3, "later")
        assert process.stdout.readline() == b"later\n"
        used.out("kill", ID)
        written.end()
        assert process.wait(DEADLINE_S) == 3
        assert b"removed by request" in process.stderr.read()
    apart = Apart(used.config, used.work)
    gone = apart.run("logs", ID)
    assert (gone.returncode, gone.stdout) == (3, b"") and b"removed by request" in gone.stderr
    assert apart.run("logs", ID, "--events").stdout.count(b"\n") == 3


def test_ctrl_c_ends_following(used: Cli, written: FakeLog) -> None:
    process = used.start("logs", ID, "--follow")
    assert process.stdout
    assert process.stdout.readline() == b"first\n"
    assert used.interrupt(process, signal.SIGINT) == (130, "")


def test_a_reader_that_goes_ends_following(used: Cli, written: FakeLog) -> None:
    """As `docker-sandbox logs ID --follow | head -1`."""
    with used.start("logs", ID, "--follow") as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        deadline = time.monotonic() + DEADLINE_S
        while process.poll() is None:
            assert time.monotonic() < deadline
            written.write(START + 9 + time.monotonic() % 1, "more")
            time.sleep(0.01)
        assert process.returncode == 141


def test_on_a_terminal_control_characters_do_not_act(used: Cli, written: FakeLog) -> None:
    written.write(START + 2, "\033[2Jcleared\ttab")
    ours, theirs = pty.openpty()
    seen = bytearray()

    def complete() -> bool:
        with suppress(OSError):
            seen.extend(os.read(ours, 4096))
        return b"tab" in seen

    process = used.start("logs", ID, stdout=theirs)
    os.close(theirs)
    until(complete, "the line")
    process.communicate(timeout=DEADLINE_S)
    os.close(ours)
    assert seen.decode().splitlines() == ["first", "\ufffd[2Jcleared\ttab"]
