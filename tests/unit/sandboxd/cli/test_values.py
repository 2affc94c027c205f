"""The values of flags."""

import argparse
import re

import pytest

from sandboxd.cli.values import age, duration, pair, port


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43200), ("2d", 172800), ("1.5m", 90), ("none", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0", "-5", "500ms", "never", "nan", "inf", "99999999999", "1 h 2"])
def test_bad_durations_are_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
        duration(text)


def test_ages() -> None:
    assert (age("0"), age("0s"), age("24h")) == (0, 0, 86400)
    with pytest.raises(argparse.ArgumentTypeError, match="none"):
        age("none")


def test_pairs() -> None:
    assert (pair("A="), pair("A=b=c")) == (("A", ""), ("A", "b=c"))
    for text in ("A", "=b", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="KEY=VALUE"):
            pair(text)


def test_ports() -> None:
    assert (port("1"), port("65535")) == (1, 65535)
    for text in ("0", "65536", "-1", "http", "", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="1 to 65535"):
            port(text)
