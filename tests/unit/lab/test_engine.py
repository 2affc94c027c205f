"""How a machine comes by a Docker engine: the decision as a value, and the steps that follow from it."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lab import engine
from lab.engine import DAEMON, INIT_SCRIPT, SYSTEMD, Plan, Workstation, plan
from lab.errors import LabError, NoEngine
from tests.unit.lab.conftest import Machine

BARE = Workstation(answers=False, complaint="docker is not installed", root=True, debian=True)
"""Root on a Debian without an engine and without systemd."""


def test_an_engine_that_answers_is_used_as_it_is() -> None:
    assert plan(replace(BARE, answers=True, root=False, debian=False)) == Plan(install=False, start=())


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        (BARE, Plan(install=True, start=(INIT_SCRIPT, DAEMON))),
        (replace(BARE, systemd=True), Plan(install=True, start=(SYSTEMD,))),
        (replace(BARE, systemd=True, dockerd=True), Plan(install=False, start=(SYSTEMD,))),
        (replace(BARE, dockerd=True, init_script=True), Plan(install=False, start=(INIT_SCRIPT, DAEMON))),
        (replace(BARE, dockerd=True), Plan(install=False, start=(DAEMON,))),
        (replace(BARE, dockerd=True, debian=False), Plan(install=False, start=(DAEMON,))),
    ],
)
def test_root_installs_and_starts_what_the_machine_has(here: Workstation, expected: Plan) -> None:
    assert plan(here) == expected


@pytest.mark.parametrize(
    ("here", "remedy"),
    [
        (replace(BARE, root=False), "sudo apt-get install --yes docker.io"),
        (replace(BARE, root=False, dockerd=True), "sudo service docker start"),
        (replace(BARE, root=False, dockerd=True, systemd=True), "sudo systemctl enable --now docker"),
        (replace(BARE, root=False, complaint="dial unix: connect: permission denied"), "usermod -aG docker"),
        (replace(BARE, debian=False), "docs.docker.com"),
        (replace(BARE, elsewhere="DOCKER_HOST=ssh://build"), "unset DOCKER_HOST"),
    ],
)
def test_others_are_told_the_line_that_they_need(here: Workstation, remedy: str) -> None:
    with pytest.raises(NoEngine) as caught:
        plan(here)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ""),
        ({"DOCKER_HOST": ""}, ""),
        ({"DOCKER_HOST": "unix:///var/run/docker.sock"}, ""),
        ({"DOCKER_CONTEXT": "default"}, ""),
        ({"DOCKER_CONTEXT": "build"}, "DOCKER_CONTEXT=build"),
        ({"DOCKER_HOST": "tcp://203.0.113.7:2376"}, "DOCKER_HOST=tcp://203.0.113.7:2376"),
    ],
)
def test_the_engine_that_the_user_chose(environ: dict[str, str], expected: str) -> None:
    assert engine.chosen(environ) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ID=debian\n", True), ('ID=ubuntu\nID_LIKE="debian"\n', True), ("ID=fedora\n", False), ("", False)],
)
def test_debian_and_its_descendants(text: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "os-release").write_text(text)
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    assert engine.on_debian(tmp_path / "os-release") is expected
    assert not engine.on_debian(tmp_path / "missing")


def test_an_engine_that_answers_costs_one_question(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.answer("docker", "info", out="26.1.5\n")
    engine.ensure()
    assert len(machine.ran) == 1


def test_installing_says_so_and_fetches_the_lists_first(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "look", lambda: replace(BARE, systemd=True))
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    machine.answer("apt-get")
    machine.answer("systemctl")
    machine.answer("docker", "info", out="26.1.5\n")
    with caplog.at_level("INFO", logger="lab"):
        monkeypatch.setattr(engine.log, "propagate", True)
        engine.ensure()
    assert machine.ran[:2] == [
        ["apt-get", "update"],
        ["apt-get", "install", "--yes", "--no-install-recommends", "docker.io", "iptables"],
    ]
    assert machine.ran_with("systemctl") == [["systemctl", "enable", "--now", "docker"]]
    assert "no Docker engine answers here" in caplog.text


def test_of_several_that_ask_at_once_one_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    asked = threading.Barrier(2)

    def start(way: str) -> bool:
        started.append(way)
        return True

    def look() -> Workstation:
        if threading.current_thread() not in seen:
            seen.append(threading.current_thread())
            asked.wait(10)
            return replace(BARE, dockerd=True)
        return replace(BARE, dockerd=True, answers=bool(started))

    seen: list[threading.Thread] = []
    monkeypatch.setattr(engine, "STATE_DIR", tmp_path)
    monkeypatch.setattr(engine, "look", look)
    monkeypatch.setattr(engine, "_start", start)
    threads = [threading.Thread(target=engine.ensure) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert started == [DAEMON]


def test_an_init_script_that_refuses_gives_way_to_the_daemon(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(engine, "look", lambda: replace(BARE, dockerd=True, init_script=True))
    monkeypatch.setattr(engine, "start_daemon", lambda command, logfile: started.append(command))
    machine.answer("service", code=1, err="ulimit: error setting limit")
    engine.ensure()
    assert machine.ran == [["service", "docker", "start"]]
    assert started == [["dockerd"]]


def test_an_engine_that_does_not_start_names_its_log(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "look", lambda: replace(BARE, dockerd=True, systemd=True))
    machine.answer("systemctl", code=1, err="Job for docker.service failed")
    with pytest.raises(NoEngine, match="does not start") as caught:
        engine.ensure()
    assert "journalctl -u docker" in caught.value.remedy


def test_a_missing_program_that_this_user_cannot_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError) as caught:
        engine.install_missing({"ssh": "openssh-client"})
    assert "sudo apt-get install --yes openssh-client" in caught.value.remedy


def test_an_engine_that_hangs_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: list[str], *, check: bool, timeout_s: float) -> None:
        raise LabError(f"{' '.join(command[:2])} did not end within {timeout_s} s")

    monkeypatch.setattr(engine, "run", hangs)
    assert not engine.wait_for_answer(0.01)
