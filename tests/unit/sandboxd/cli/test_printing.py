"""How answers look; every function is a value in and a text out."""

import argparse
from typing import Any

import pytest

from sandboxd.cli import printing
from sandboxd.cli.printing import fields, plain, seconds, show, size, span, table


def test_json_or_text(capsys: pytest.CaptureFixture[str]) -> None:
    show(argparse.Namespace(json=False), {"a": 1}, lambda: "text")
    show(argparse.Namespace(json=False), {"a": 1}, lambda: "")
    show(argparse.Namespace(json=True), {"a": "ü"}, lambda: "text")
    assert capsys.readouterr().out == 'text\n{\n  "a": "\\u00fc"\n}\n'


def test_messages_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    printing.complain("bad")
    printing.warn("odd")
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "docker-sandbox: error: bad\ndocker-sandbox: warning: odd\n"


def test_a_table_has_columns_and_no_trailing_space() -> None:
    assert table(("A", "LONG", "C"), [("x", "y", ""), ("wide", "z", "c")]) == "A     LONG  C\nx     y\nwide  z     c"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("ä b-1.txt", "ä b-1.txt"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\udcff", "\\udcff"),
        ("\u202egpj", "\\u202egpj"),
    ],
)
def test_a_sandbox_cannot_write_on_the_terminal(said: str, shown: str) -> None:
    assert plain(said) == shown


def test_fields_are_aligned() -> None:
    assert fields([("a", "1"), ("long", "2")]) == "a     1\nlong  2"


@pytest.mark.parametrize(
    ("value", "text"),
    [(-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m0s"), (3599, "59m59s"), (11520, "3h12m"), (90000, "1d1h")],
)
def test_spans(value: float, text: str) -> None:
    assert span(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (2_500_000, "2.5 MB"), (7.2e9, "7.2 GB"), (3e13, "30000.0 GB")],
)
def test_sizes(value: float, text: str) -> None:
    assert size(value) == text


def test_times_of_the_api() -> None:
    assert seconds("1970-01-01T00:01:30.500Z") == 90.5


def test_the_token_is_not_public(sandbox: dict[str, Any]) -> None:
    secrets = {"envdAccessToken", "trafficAccessToken"}
    shown = {**sandbox, **dict.fromkeys(secrets, "x")}
    assert set(shown) - set(printing.public(shown)) == secrets


@pytest.mark.parametrize(
    ("row", "wakes", "pauses"),
    [
        ({"wakeOnVisit": True, "idlePause": None}, "when somebody visits it", "by pause"),
        ({"wakeOnVisit": False, "idlePause": 1800.0}, "by resume or start", "when nobody has used it for 30m0s"),
    ],
)
def test_who_may_open_it_and_when_it_sleeps(
    sandbox: dict[str, Any], row: dict[str, Any], wakes: str, pauses: str
) -> None:
    details = printing.sandbox_details({**sandbox, "access": "token", **row}, 0.0)
    values = {name.strip(): value.strip() for name, value in (line.split("  ", 1) for line in details.splitlines())}
    assert (values["access"], values["wakes up"], values["pauses"]) == ("token", wakes, pauses)


def test_times_are_told_from_now(sandbox: dict[str, Any]) -> None:
    row = {**sandbox, "unlimited": False, "startedAt": "2026-01-31T12:00:00Z", "endAt": "2026-01-31T13:30:00Z"}
    now = seconds("2026-01-31T12:00:42Z")
    line = printing.sandbox_table([row], now).splitlines()[1]
    assert " 42s " in line and " in 1h29m " in line
    details = printing.sandbox_details(row, now)
    assert "(42s ago)" in details and "in 1h29m" in details


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain \u00fc", "plain \u00fc"),
        ("a\tb", "a\tb"),
        ("\033[2J\r\x07\x9b", "\ufffd[2J\ufffd\ufffd\ufffd"),
        ("", ""),
    ],
)
def test_control_characters_are_seen_and_do_not_act(text: str, seen: str) -> None:
    assert printing.visible(text) == seen
