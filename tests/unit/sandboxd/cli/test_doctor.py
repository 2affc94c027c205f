"""The verb `doctor`: findings as they come, the sum of them, and a daemon that is not there."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli.doctor import summary
from sandboxd.doctor.effects import Effects, Output
from tests.unit.sandboxd import kernel
from tests.unit.sandboxd.cli.doubles import Cli, ControlPlane, write_place
from tests.unit.sandboxd.clients import Client
from tests.unit.sandboxd.conftest import World

Run = Callable[..., tuple[int, str, str]]


def finding(name: str, level: str, seen: str = "seen", remedy: str = "") -> dict[str, str]:
    return {"name": name, "level": level, "seen": seen, "remedy": remedy}


OK, WARN = finding("engine", "ok", "Docker 26"), finding("dns", "warn", "no address", "make a record")
FAIL = finding("images", "fail", "gone", "deploy again")
SKIP, BLOCKED = finding("apparmor", "skip", "none here"), finding("probe-made", "blocked", "needs images")


@pytest.fixture
def run(lone: Cli, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = lone.call("doctor", *arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def answer(control: ControlPlane, *findings: dict[str, Any]) -> None:
    control.answer("POST /doctor", 200, b"".join(json.dumps(one).encode() + b"\n" for one in findings))


def test_a_host_that_is_well(run: Run, control: ControlPlane) -> None:
    answer(control, OK, SKIP, WARN)
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "ok    engine            Docker 26",
        "skip  apparmor          none here",
        "warn  dns               no address",
        "                        remedy: make a record",
        "1 ok, 1 warn, 0 fail",
    ]
    assert control.requests[0].body == {"probe": True}


def test_a_host_that_is_not(run: Run, control: ControlPlane) -> None:
    answer(control, OK, FAIL, BLOCKED)
    code, out, _ = run("--no-probe")
    assert code == 1 and control.requests[0].body == {"probe": False}
    assert out.splitlines()[1:] == [
        "fail  images            gone",
        "                        remedy: deploy again",
        "1 ok, 0 warn, 1 fail; not looked at: probe-made (needs images)",
    ]


@pytest.mark.parametrize(("findings", "code"), [((OK, WARN, SKIP), 0), ((OK, FAIL, BLOCKED), 1)])
def test_json(run: Run, control: ControlPlane, findings: tuple[dict[str, str], ...], code: int) -> None:
    answer(control, *findings)
    ended, out, _ = run("--json")
    assert ended == code and json.loads(out) == {"ok": code == 0, "findings": list(findings)}


def test_the_daemon_is_down(run: Run, control: ControlPlane) -> None:
    control.path.unlink()
    code, out, err = run()
    assert (code, err) == (4, "")
    assert out.startswith("fail  sandboxd          sandboxd does not answer on ")
    assert "remedy: systemctl restart '*-sandboxd.service'" in out and out.endswith("0 ok, 0 warn, 1 fail\n")
    code, out, _ = run("--json")
    (only,) = json.loads(out)["findings"]
    assert (code, json.loads(out)["ok"], only["name"], only["level"]) == (4, False, "sandboxd", "fail")


def test_the_daemon_goes_in_the_middle(run: Run, control: ControlPlane) -> None:
    control.answers["POST /doctor"] = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + json.dumps(OK).encode() + b"\n"
    )
    code, out, _ = run()
    assert code == 4 and "ok    engine" in out and "fail  sandboxd" in out


def test_a_refusal_is_an_error(run: Run, control: ControlPlane) -> None:
    control.answer("POST /doctor", 503, {"code": 503, "message": "too many streams"})
    assert run() == (5, "", "docker-sandbox: error: too many streams\n")


def test_a_host_that_is_not_deployed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Cli(tmp_path / "none.toml", tmp_path).call("doctor") == 1
    assert "run the deploy" in capsys.readouterr().err


def test_the_summary_of_nothing() -> None:
    assert summary([]) == "0 ok, 0 warn, 0 fail"


@pytest.fixture
def examined(world: World, directory: Path, tmp_path: Path) -> Iterator[Cli]:
    """The daemon itself, on a host where each command says no, and nobody answers."""
    kernel.v2(tmp_path)
    nobody = ConnectionRefusedError(111, "Connection refused")

    def refuse(*_: object) -> Any:
        raise nobody

    effects = Effects(root=tmp_path, run=lambda *_: Output(1, "no"), certificate=refuse, fetch=refuse)
    service = Client(world, effects)
    yield Cli(write_place(directory / "config.toml", world.config.socket, ("127.0.0.1", 1)), directory)
    service.server.force_exit = True
    service.close()


def test_with_the_daemon_itself(examined: Cli, world: World) -> None:
    done = examined.run("doctor")
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (1, b"")
    assert "ok    engine            Docker 26.1.5, API 1.45" in lines
    assert any(line.startswith("fail  traefik ") for line in lines)
    assert "probe-made (needs gateway)" in lines[-1]
    assert not world.ledger.rows("running", "gone"), "no probe where the way is broken"
    shown = json.loads(examined.run("doctor", "--no-probe", "--json").stdout)
    assert not shown["ok"] and not any(one["name"].startswith("probe") for one in shown["findings"])
