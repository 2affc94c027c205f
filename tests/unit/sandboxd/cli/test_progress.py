"""The line that shows how far a copy is."""

import io
from types import SimpleNamespace

import pytest

from sandboxd.cli import progress
from sandboxd.cli.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=made))
    return made


def test_nothing_where_there_is_no_terminal(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("uploaded", 10) as shown:
        clock[0] += 60
        shown.add(5)
    assert capsys.readouterr() == ("", "")


def test_amount_total_and_rate(clock: list[float], terminal: Terminal) -> None:
    shown = Progress("uploaded", 4_000_000)
    clock[0] += 2
    shown.add(1_000_000)
    assert terminal.getvalue() == "\r\033[Kuploaded 1.0 MB of 4.0 MB, 500.0 KB/s"


def test_a_total_that_is_not_known(clock: list[float], terminal: Terminal) -> None:
    shown = Progress("downloaded")
    clock[0] += 1
    shown.add(500)
    assert terminal.getvalue() == "\r\033[Kdownloaded 500 B, 500 B/s"


def test_not_more_often_than_a_person_can_read(clock: list[float], terminal: Terminal) -> None:
    shown = Progress("uploaded")
    for _ in range(100):
        clock[0] += 0.01
        shown.add(1)
    assert 4 <= terminal.getvalue().count("\r") <= 6


def test_the_line_is_wiped(clock: list[float], terminal: Terminal) -> None:
    with Progress("uploaded") as shown:
        shown.add(1)
    assert terminal.getvalue().endswith("\r\033[K")


def test_where_nothing_was_copied_nothing_is_wiped(clock: list[float], terminal: Terminal) -> None:
    with Progress("uploaded"):
        pass
    assert terminal.getvalue() == ""
