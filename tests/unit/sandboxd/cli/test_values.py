"""The values of flags."""

import argparse
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandboxd import config
from sandboxd.cli.values import (
    POOL_MAX,
    age,
    depth,
    duration,
    limit,
    line_count,
    pair,
    pool_size,
    port,
    size_mb,
    url_path,
)
from tests.unit.properties import always_the_same, anything


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


def test_sizes() -> None:
    assert (size_mb("512m"), size_mb("20g"), size_mb("1T")) == (512, 20480, 1048576)
    for text in ("", "g", "20", "0g", "-1g", "1.5g", "20gb", "many"):
        with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
            size_mb(text)


def test_sizes_of_pools() -> None:
    assert (pool_size("0"), pool_size("1000")) == (0, 1000) and POOL_MAX == config.POOL_MAX
    for text in ("", "-1", "1.5", "1001", "many", "\u0663"):
        with pytest.raises(argparse.ArgumentTypeError, match="0 to 1000"):
            pool_size(text)


def test_depths() -> None:
    assert (depth("1"), depth("20")) == (1, 20)
    for text in ("0", "-1", "1.5", "", "all", "\u0663", "9" * 400):
        with pytest.raises(argparse.ArgumentTypeError, match="whole number"):
            depth(text)


def test_limits() -> None:
    assert limit("2m") == 120
    for text in ("none", "0"):
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            limit(text)


def test_paths_of_urls() -> None:
    assert url_path("/search?q=x&y#z") == "/search?q=x&y#z"
    for text in ("", "about", "https://example.com/", "/a b", "/a\n"):
        with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
            url_path(text)


def test_counts_of_lines() -> None:
    assert (line_count("0"), line_count("20"), line_count("all")) == (0, 20, None)
    for text in ("-1", "few", "", "1.5", "9999999999"):
        with pytest.raises(argparse.ArgumentTypeError, match="write 0, 20 or all"):
            line_count(text)


@always_the_same
@given(anything | st.text("0123456789.eE+-_smhdgtM ٣", max_size=8))
@example("9" * 5000)
@example("9" * 5000 + "g")
@example("1" + "0" * 400 + "d")
@example("nan")
@example("infd")
def test_any_text_is_a_value_or_a_wrong_one(text: str) -> None:
    """argparse tells of both errors in one line, and ends with exit code 2."""
    for read in (duration, limit, age, size_mb, pair, port, pool_size, depth, line_count, url_path):
        try:
            value = read(text)
        except (argparse.ArgumentTypeError, ValueError):
            continue
        assert not isinstance(value, float) or 0 <= value < 1e9
        assert not isinstance(value, int) or value >= 0
