"""`docker-sandbox audit`: the log and its rotated files, chosen from and shown."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sandboxd.cli.doubles import Cli

NOW = time.time()


def record(ago_s: float, action: str, **changes: Any) -> dict[str, Any]:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(NOW - ago_s))
    return {
        "time": stamp,
        "actor": {"kind": "key", "id": "1f0c9a4e", "name": "ci"},
        "address": "203.0.113.9",
        "action": action,
        "sandbox": "4f1c0a9be2d7",
        "template": "base",
        "outcome": "ok",
        "status": 201,
        "error": "",
        "ms": 12.3,
        "detail": "",
    } | changes


def lines(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


@pytest.fixture
def log(lone: Cli) -> Path:
    file = lone.config.parent / "log" / "audit.log"
    file.parent.mkdir()
    (file.parent / "audit.log.10.gz").write_bytes(gzip.compress(lines(record(9 * 86400, "create"))))
    (file.parent / "audit.log.2.gz").write_bytes(gzip.compress(lines(record(5 * 3600, "claim"))))
    (file.parent / "audit.log.1").write_bytes(lines(record(7200, "pause")) + b'{"time": "cut off')
    (file.parent / "audit.log.1.swp").write_bytes(b"an editor's")
    gone = {"outcome": "error", "status": 404, "error": "not found", "sandbox": "90ab12cd34ef"}
    user = {"kind": "user", "id": "0", "name": "root"}
    file.write_bytes(lines(record(60, "kill"), record(30, "kill", actor=user, address="", **gone)))
    return file


def actions(cli: Cli, *flags: str) -> list[str]:
    return [json.loads(line)["action"] for line in cli.out("audit", "--json", *flags).splitlines()]


def test_the_last_day_unless_more_is_asked_for(lone: Cli, log: Path) -> None:
    assert actions(lone) == ["claim", "pause", "kill", "kill"]
    assert actions(lone, "--since", "all") == ["create", "claim", "pause", "kill", "kill"]
    assert actions(lone, "--since", "1h") == ["kill", "kill"]


def test_only_some(lone: Cli, log: Path) -> None:
    assert actions(lone, "--id", "90ab") == ["kill"]
    assert actions(lone, "--action", "claim", "--action", "pause") == ["claim", "pause"]
    for actor in ("root", "user", "0"):
        assert actions(lone, "--actor", actor) == ["kill"]
    assert actions(lone, "--actor", "ci", "--id", "4f1c", "--action", "kill") == ["kill"]
    assert actions(lone, "--actor", "nobody") == []


def test_for_people(lone: Cli, log: Path) -> None:
    shown = lone.out("audit", "--since", "1h").splitlines()
    assert [line.split()[1:] for line in shown] == [
        ["key", "ci", "203.0.113.9", "kill", "4f1c0a9be2d7", "base", "ok", "12.3", "ms"],
        ["user", "root", "-", "kill", "90ab12cd34ef", "base", "404", "12.3", "ms", "not", "found"],
    ]
    log.write_bytes(lines(record(1, "kill", detail="\x1b[31mred")))
    (red,) = lone.out("audit", "--since", "1h").splitlines()
    assert red.endswith("\\x1b[31mred") and "\x1b" not in red


def test_without_a_log_there_is_nothing_to_show(lone: Cli) -> None:
    assert lone.out("audit", "--since", "all") == ""


def test_who_may_not_read_it_is_told_who_may(lone: Cli, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(log.parent))

    monkeypatch.setattr("sandboxd.cli.audit.files", refused)
    ended = lone.run("audit")
    assert ended.returncode == 1 and b"permission denied. The audit log is for root and the group adm" in ended.stderr


def test_what_the_daemon_writes_is_what_is_read(used: Cli) -> None:
    # All of it: the clock of the double stands still, in one year or another.
    (found,) = (json.loads(line) for line in used.out("audit", "--json", "--since", "all").splitlines())
    assert (found["action"], found["actor"]["kind"], found["outcome"]) == ("create", "user", "ok")
