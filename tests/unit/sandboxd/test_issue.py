"""The wait for the first certificate: what it says, when it restarts Traefik, and when it gives up."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd import issue
from sandboxd.config import Config
from sandboxd.doctor import acme
from sandboxd.doctor.effects import Effects, Output
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.doctor.conftest import CERTIFICATE
from tests.unit.sandboxd.doctor.test_acme import DEFAULT, FIRST, STARTED, WHY, log
from tests.unit.sandboxd.fake_engine import START

Step = Callable[["Traefik"], None]


class Traefik:
    """It does one of the steps each time that it is asked for its certificate, and `restart` when it is restarted."""

    def __init__(self, root: Path, world: World, steps: list[Step], restart: Step) -> None:
        self.config: Config = world.config
        self.certificate: str | OSError = DEFAULT
        self.restarts = 0
        self._root, self._steps, self._restart = root, steps, restart
        self.effects = Effects(root=root, run=self._run, certificate=self._serve, now=lambda: START)

    def write(self, text: str) -> None:
        file = self._root / acme.log(self.config.state_dir).lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as opened:
            opened.write(text)

    def restart(self) -> None:
        self.restarts += 1
        self._restart(self)

    def _serve(self, address: tuple[str, int], name: str) -> bytes:
        if self._steps:
            self._steps.pop(0)(self)
        if isinstance(self.certificate, OSError):
            raise self.certificate
        return self.certificate.encode()

    def _run(self, command: list[str], content: bytes = b"") -> Output:
        return Output(0, content.decode())


def serves(traefik: Traefik) -> None:
    traefik.certificate = CERTIFICATE


def is_down(traefik: Traefik) -> None:
    traefik.certificate = ConnectionRefusedError("refused")


def starts(traefik: Traefik) -> None:
    traefik.certificate = DEFAULT
    traefik.write(log((0, STARTED)))


def fails(traefik: Traefik) -> None:
    traefik.write(log((1, FIRST)))


def nothing(traefik: Traefik) -> None:
    """Nothing happens."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issue, "POLL_S", 0.0)


MakeTraefik = Callable[..., Traefik]


@pytest.fixture
def traefik(tmp_path: Path, world: World) -> MakeTraefik:
    return lambda *steps, restart=nothing: Traefik(tmp_path, world, list(steps), restart)


def waited(made: Traefik, wait_s: float = 60.0) -> str:
    return issue.wait(made.config, made.effects, made.restart, wait_s)


def test_a_certificate_that_is_there(traefik: MakeTraefik) -> None:
    made = traefik(serves)
    assert issue.missing(made.config, made.effects) == "" and waited(made) == "" and made.restarts == 0


def test_what_is_missing(traefik: MakeTraefik) -> None:
    made = traefik(nothing, is_down, serves)
    assert issue.missing(made.config, made.effects).startswith("CN=TRAEFIK DEFAULT CERT is served")
    assert issue.missing(made.config, made.effects) == "nothing is served: refused"
    late = replace(made.effects, now=lambda: START + 1e9)
    assert "does not hold now" in issue.missing(made.config, late)


def test_an_order_that_succeeds_by_itself(traefik: MakeTraefik, capsys: pytest.CaptureFixture[str]) -> None:
    made = traefik(is_down, starts, nothing, serves)
    assert waited(made) == "" and made.restarts == 0
    assert capsys.readouterr().out.splitlines() == [
        "Traefik orders a certificate for *.example.com",
        "*.example.com: issued by CN=acme internal CA, holds 90 days",
    ]


def test_one_that_failed_is_tried_once_more(traefik: MakeTraefik, capsys: pytest.CaptureFixture[str]) -> None:
    """The failure is of a deploy before, whose credentials were wrong."""
    made = traefik(nothing, nothing, serves, restart=starts)
    starts(made)
    fails(made)
    assert waited(made) == "" and made.restarts == 1
    assert WHY in capsys.readouterr().out


def test_two_failures_end_it_with_their_words(traefik: MakeTraefik) -> None:
    made = traefik(starts, fails, nothing, nothing, fails, restart=starts)
    assert waited(made) == f"[*.example.com] [*.example.com] {WHY}" and made.restarts == 1


def test_a_failure_before_the_restart_is_not_one_after_it(traefik: MakeTraefik) -> None:
    made = traefik(starts, fails, nothing, nothing, nothing, serves)
    assert waited(made) == "" and made.restarts == 1


def test_a_failure_while_it_is_stopped_is_not_one_after_it(traefik: MakeTraefik) -> None:
    made = traefik(starts, fails, nothing, starts, nothing, serves, restart=fails)
    assert waited(made) == "" and made.restarts == 1


def test_its_patience_ends(traefik: MakeTraefik) -> None:
    made = traefik(starts)
    assert "no failed order in" in waited(made, 0.05) and made.restarts == 0


def test_progress(traefik: MakeTraefik, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(issue, "TOLD_EVERY_S", 0.0)
    assert waited(traefik(starts, nothing, serves)) == ""
    assert re.search(r"^no certificate yet after \d+ s$", capsys.readouterr().out, re.MULTILINE)


def test_no_secret_is_said(traefik: MakeTraefik, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "etc/traefik/secrets").mkdir(parents=True)
    (tmp_path / "etc/traefik/secrets/TOKEN").write_text("bad authentication\n")
    reason = waited(traefik(starts, fails, nothing, fails, nothing, restart=starts))
    assert "bad authentication" not in reason + capsys.readouterr().out and "***" in reason


def test_a_host_that_is_not_deployed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert issue.main([str(tmp_path / "config.toml")]) == 1
    assert "error: no certificate by ACME: " in capsys.readouterr().out
