"""Programs that an image wants to run beside the agent."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from envd import startup
from envd.config import ConfigSource
from envd.processes import ProcessTable
from tests.unit.envd.client import MYSELF, TOKEN, Client, Running, eventually


class Programs:
    """A directory of shell scripts; an agent runs them from `start` on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.folder = directory / "start.d"
        self.folder.mkdir()
        self.agent: Running | None = None

    def add(self, name: str, script: str, mode: int = 0o755) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(mode)

    def start(self) -> Running:
        self.agent = Running(self.directory, accessToken=TOKEN, user=MYSELF, envs={"FROM_SANDBOX": "yes"})
        return self.agent


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    made = Programs(tmp_path)
    monkeypatch.setenv("ENVD_START_DIRECTORY", str(made.folder))
    yield made
    if made.agent is not None:
        made.agent.stop()


def test_a_program_runs_with_the_environment_of_the_sandbox_and_its_output_is_logged(programs: Programs) -> None:
    programs.add("a", 'echo "$FROM_SANDBOX $(pwd) [$ENVD_LISTEN]"; echo failure >&2')
    log = programs.start().log
    eventually(lambda: "a: yes / []" in log.read_text() and "a: failure" in log.read_text(), "its output is logged")


def test_one_that_fails_is_started_again_and_one_that_ends_well_is_not(programs: Programs, tmp_path: Path) -> None:
    programs.add("fails", f"echo x >>{tmp_path}/failed; exit 3")
    programs.add("ends", f"echo x >>{tmp_path}/ended")
    log = programs.start().log
    eventually(lambda: log.read_text().count("fails: exit status 3") >= 3, "it is started again")
    assert (tmp_path / "ended").read_text() == "x\n"
    assert (tmp_path / "failed").read_text().count("x") >= 3
    assert "fails: exit status 3; it is started again in 1 s" in log.read_text()


def test_it_is_among_the_processes_and_may_be_killed(programs: Programs) -> None:
    programs.add("server", "echo begun; exec sleep 600")
    agent = programs.start()
    client = Client(agent.port)

    def pid() -> int:
        found = client.ok("process.Process/List", {})["processes"]
        return next((int(each["pid"]) for each in found if each.get("tag") == "start"), 0)

    eventually(pid, "it runs")
    first = pid()
    client.ok("process.Process/SendSignal", {"process": {"pid": first}, "signal": "SIGNAL_SIGKILL"})
    eventually(lambda: pid() not in (0, first), "another one runs")


def test_a_signal_to_the_agent_ends_it(programs: Programs, tmp_path: Path) -> None:
    programs.add("server", f"trap 'echo ended >{tmp_path}/ended; exit 0' TERM\necho begun\nsleep 600 &\nwait")
    agent = programs.start()
    eventually(lambda: "server: begun" in agent.log.read_text(), "it runs")
    agent.stop()
    eventually((tmp_path / "ended").exists, "it ends")


def test_what_cannot_be_run_is_told_once_and_keeps_nobody(programs: Programs, tmp_path: Path) -> None:
    (programs.folder / "directory").mkdir()
    programs.add("closed", "echo x", mode=0o644)
    programs.add("runs", f"echo x >{tmp_path}/ran")
    agent = programs.start()
    eventually((tmp_path / "ran").exists, "the others run")
    assert Client(agent.port).http.get("/health").status_code == 204
    eventually(lambda: "/closed: program" in agent.log.read_text(), "it is told")


def test_the_agent_listens_when_its_programs_have_said_something_or_have_ended(programs: Programs) -> None:
    programs.add("ends", "exit 0")
    programs.add("slow", "sleep 0.5; echo ready; exec sleep 600")
    lines = programs.start().log.read_text().splitlines()
    assert next(line for line in lines if "ready" in line or "listening" in line).endswith("slow: ready")


def test_one_that_says_nothing_is_not_waited_for_for_ever(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(startup, "READY_TIMEOUT_S", 0.1)
    programs.add("silent", "exec sleep 600")
    (programs.directory / "agent.json").write_text(json.dumps({"accessToken": TOKEN, "user": MYSELF}))

    async def start() -> None:
        table = ProcessTable()
        source = ConfigSource(str(programs.directory / "agent.json"))
        (task,) = await startup.start_all(str(programs.folder), source, table)
        task.cancel()
        for process in table.living():
            process.signal(signal.SIGKILL)

    asyncio.run(start())
    assert "silent said nothing within 0.1 s" in caplog.text


def test_no_directory_no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVD_START_DIRECTORY", str(tmp_path / "none"))
    agent = Running(tmp_path, accessToken=TOKEN, user=MYSELF)
    agent.stop()
    assert "ERROR" not in agent.log.read_text() and "Traceback" not in agent.log.read_text()
