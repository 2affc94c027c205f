"""Pure parts: how figures look, rates, sessions' file, throttle, configuration."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from console import config, hostview, views
from console.board import Usage, usage_of
from console.errors import ConfigError, Refused
from console.sessions import Sessions
from console.throttle import ADDRESSES, FAILURES, WINDOW_S, Throttle, network

ROW = {
    "sandboxID": "0" * 12,
    "name": "",
    "state": "running",
    "templateID": "base",
    "url": "https://x",
    "owner": "",
    "startedAt": "2027-01-15T08:00:00.000Z",
    "endAt": "2027-01-15T09:00:00.000Z",
    "unlimited": False,
    "reason": "",
}
NOW = views.seconds("2027-01-15T08:10:05.000Z")


@pytest.mark.parametrize(
    ("length_s", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (12.9, "12s"),
        (60, "1m"),
        (63, "1m 3s"),
        (3600, "1h"),
        (7800, "2h 10m"),
        (273600, "3d 4h"),
    ],
)
def test_spans(length_s: float, text: str) -> None:
    assert views.span(length_s) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (812, "812 B"), (1536, "1.5 KB"), (125829120, "120 MB"), (2**31, "2.0 GB"), (2**60, "1048576 TB")],
)
def test_sizes(count: int, text: str) -> None:
    assert views.size(count) == text


def test_a_sandbox_as_it_is_shown() -> None:
    one = views.shown(ROW, Usage(50.0, 2.0, 100, 200, None, None, 7), NOW)
    assert (one.age, one.ends, one.cpu.text, one.cpu.percent) == ("10m 5s", "49m 55s", "50%", 25.0)
    assert (one.memory.text, one.memory.percent, one.disk.text, one.disk.percent) == ("100 B", 50.0, views.NONE, None)
    assert views.shown({**ROW, "state": "paused"}, Usage(), NOW).ends == "", "its time stands still"
    assert views.shown({**ROW, "unlimited": True}, Usage(), NOW).ends == ""
    assert views.shown({**ROW, "state": "removing"}, Usage(), NOW).actions == ()


@pytest.mark.parametrize(("percent", "level"), [(None, ""), (74.9, ""), (75.0, "high"), (90.0, "full")])
def test_levels(percent: float | None, level: str) -> None:
    assert views.Meter("", percent).level == level


def sample(cpu_ns: int) -> dict[str, Any]:
    usage = {"cpu_ns": cpu_ns, "cpu_limit": 2.0, "memory_bytes": 1, "memory_limit_bytes": 2, "pids": 3, "oom_kills": 0}
    return {"usage": usage, "disk": None}


def test_processor_time_is_a_difference() -> None:
    assert usage_of(sample(3_000_000_000), 1_000_000_000, 4.0).cpu_percent == 50.0
    assert usage_of(sample(3), None, 4.0).cpu_percent is None, "the first look"
    assert usage_of(sample(3), 5, 4.0).cpu_percent is None, "it was started again"
    assert usage_of(sample(5), 3, 0.0).cpu_percent is None
    assert usage_of({"usage": None, "disk": None}, 3, 1.0) == Usage()


def test_a_host_without_a_limit_of_sandboxes() -> None:
    overview = {"present": {"running": 2, "warm": 1}, "max_sandboxes": 0}
    (first, *_) = hostview.figures(
        {
            **overview,
            **{"memory_mb": 4096, "memory_available_mb": 1024, "memory_reserve_mb": 1024, "disk_reserve_mb": 0},
            **{"disks": [], "processors": 2, "load": 1.0, "uptime_s": 90},
        }
    )
    assert (first.meter.text, first.meter.percent, first.note) == ("3", None, "2 in use, 1 warm, 0 being made")


def test_an_examination_begins_with_what_is_wrong() -> None:
    findings = [
        {"name": name, "level": level} for name, level in (("a", "ok"), ("b", "fail"), ("certificate-life", "warn"))
    ]
    found = hostview.examination(findings, 5.0)
    assert [one["name"] for one in found.bad] == ["b", "certificate-life"] and found.certificate == findings[2]
    assert hostview.examination([], 5.0).certificate is None


def test_ended_sessions_are_kept_as_long_as_they_would_last(tmp_path: Path) -> None:
    now = [1000.0]

    def sessions() -> Sessions:
        return Sessions(b"s" * 32, tmp_path / "ended", lambda: now[0])

    first, second = sessions(), sessions().begin("abcd")
    text = first.text(second)
    assert first.read(text) == second
    first.end(second)
    first.end(second)
    assert first.read(text) is None and sessions().read(text) is None
    now[0] = second.ends + 1.0
    assert sessions().read(text) is None and (tmp_path / "ended").read_text() == ""


def test_another_secret_signs_another_way(tmp_path: Path) -> None:
    one, other = (Sessions(secret * 32, tmp_path / "ended", lambda: 5.0) for secret in (b"a", b"b"))
    session = one.begin("abcd")
    assert other.read(one.text(session)) is None and one.token(session) != other.token(session)


def test_the_throttle_forgets_and_is_bounded() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0], late_s=0.0)

    async def fail(address: str, times: int = 1) -> None:
        for _ in range(times):
            await throttle.failed(address)

    asyncio.run(fail("192.0.2.1", FAILURES))
    with pytest.raises(Refused, match="10 minutes"):
        now[0] = 1.0
        throttle.check("192.0.2.1")
    throttle.check("192.0.2.2")
    now[0] = WINDOW_S + 1
    throttle.check("192.0.2.1")

    async def many() -> None:
        for number in range(ADDRESSES + 10):
            await throttle.failed(f"2001:db8:{number:x}::1")

    asyncio.run(many())
    assert len(throttle._failed) == ADDRESSES


@pytest.mark.parametrize(
    ("address", "name"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("", "unknown"), ("<b>", "unknown")],
)
def test_whose_address_it_is(address: str, name: str) -> None:
    assert network(address) == name


CONFIG = 'domain = "example.com"\nsocket = "/run/s"\ndefault_template = "base"\n[gateway]\naddress = "127.0.0.1:8081"\n'


def environment(directory: Path, secret: bytes = b"x" * 64) -> dict[str, str]:
    (directory / "session_key").write_bytes(secret + b"\n")
    return {"CREDENTIALS_DIRECTORY": str(directory), "STATE_DIRECTORY": str(directory / "state")}


def test_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(CONFIG)
    found = config.load(file, environment(tmp_path))
    assert (found.origin, found.gateway, found.secret) == (
        "https://console.example.com",
        ("127.0.0.1", 8081),
        b"x" * 64,
    )


@pytest.mark.parametrize(
    ("text", "secret", "said"),
    [
        ("", b"x" * 64, "gateway"),
        ("=", b"x" * 64, "config.toml"),
        (CONFIG, b"short", "too few"),
        (CONFIG, b"", "too few"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, text: str, secret: bytes, said: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        config.load(file, environment(tmp_path, secret))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        config.load(tmp_path / "absent.toml", {})
    (tmp_path / "config.toml").write_text(CONFIG)
    with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY"):
        config.load(tmp_path / "config.toml", {})
    with pytest.raises(ConfigError, match="session_key"):
        config.load(tmp_path / "config.toml", {"CREDENTIALS_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": "/"})
