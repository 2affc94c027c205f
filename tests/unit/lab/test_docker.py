"""Running programs: what is said when they fail."""

from pathlib import Path

import pytest

from lab import docker
from lab.errors import LabError, NoEngine
from tests.unit.lab.conftest import Machine


def test_output_and_exit_code() -> None:
    done = docker.run(["sh", "-c", "cat; exit 3"], stdin="in", check=False)
    assert (done.returncode, done.stdout) == (3, "in")


def test_a_failure_shows_the_command_the_code_and_the_end_of_stderr() -> None:
    with pytest.raises(LabError) as caught:
        docker.run(["sh", "-c", "for i in $(seq 30); do echo line $i >&2; done; exit 3"])
    assert "exit code 3" in caught.value.problem
    assert "line 30" in caught.value.problem
    assert "line 10\n" not in caught.value.problem


def test_a_long_command_is_cut() -> None:
    with pytest.raises(LabError) as caught:
        docker.run(["false", *["word"] * 200])
    assert len(caught.value.problem) < 250


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(LabError, match="no-such-program is not installed"):
        docker.run(["no-such-program"])


def test_a_program_that_does_not_end() -> None:
    with pytest.raises(LabError, match=r"did not end within 0\.05 s"):
        docker.run(["sleep", "5"], timeout_s=0.05)


@pytest.mark.parametrize(
    "said",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "failed to connect to the docker API at unix:///var/run/docker.sock",
    ],
)
def test_no_engine_has_its_own_error(said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(NoEngine) as caught:
        docker.docker("ps")
    assert "python3 -m lab up" in caught.value.remedy


def test_containers_by_all_labels(machine: Machine) -> None:
    machine.answer("docker", "ps", out="1\n2\n")
    machine.answer("docker", "inspect", "1", "2", out='[{"Id": "1"}, {"Id": "2"}]')
    assert [one["Id"] for one in docker.inspect_containers("a", "b=c")] == ["1", "2"]
    assert machine.ran[0] == [
        *["docker", "ps", "--all", "--quiet", "--filter", "label=a", "--filter", "label=b=c"],
    ]


def test_no_containers_no_inspect(machine: Machine) -> None:
    machine.answer("docker", "ps")
    assert docker.inspect_containers("a") == []
    assert len(machine.ran) == 1
