"""The shell commands by which a host says where the registry is, and by which an image is offered, run for real."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploys import fleetimages
from deploys.loading import load
from tests.unit.deploys.test_fleetrules import MANAGER

DIGEST = f"sha256:{'ab' * 32}"
HOSTS = "127.0.0.1 localhost\n192.0.2.9 other swarm-manager-of-somebody\n"


def named(tmp_path: Path, line: str = "") -> str:
    command = fleetimages.named(line).replace("/etc/hosts", f"{tmp_path}/hosts").replace("/run/", f"{tmp_path}/")
    subprocess.run(command, shell=True, check=True)
    assert [file.name for file in tmp_path.iterdir()] == ["hosts"]
    return (tmp_path / "hosts").read_text()


def test_one_line_says_where_the_registry_is(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    same = (tmp_path / "hosts").stat().st_ino
    assert named(tmp_path, "192.0.2.11 swarm-manager") == f"{HOSTS}192.0.2.11 swarm-manager\n"
    assert named(tmp_path, "192.0.2.12 swarm-manager") == f"{HOSTS}192.0.2.12 swarm-manager\n"
    assert named(tmp_path) == HOSTS
    assert (tmp_path / "hosts").stat().st_ino == same


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that says what a push says, or fails; it writes down what it was asked."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\ncase $1 in push) [ ! -e {tmp_path}/broken ] || exit 1\n'
        f'echo "The push refers to repository [$2]"; echo "abc: digest: {DIGEST} size: 1234";; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def offer(data: dict[str, Any], tmp_path: Path) -> tuple[int, Path]:
    wanted = load(data | MANAGER)
    (tmp_path / "offered").mkdir(exist_ok=True)
    command = fleetimages.offering(wanted, "team/image:abc").replace(wanted.state, str(tmp_path))
    done = subprocess.run(command, shell=True, check=False)
    return done.returncode, tmp_path / "offered/team-image-abc"


def test_the_digest_of_what_was_offered_is_noted(docker: Path, data: dict[str, Any], tmp_path: Path) -> None:
    code, file = offer(data, tmp_path)
    assert (code, file.read_text()) == (0, f"{DIGEST}\n")
    remote = "swarm-manager:5000/team/image:abc"
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"tag team/image:abc {remote}",
        f"push {remote}",
        f"image rm {remote}",
    ]


def test_what_could_not_be_offered_is_an_error(docker: Path, data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    code, file = offer(data, tmp_path)
    assert code != 0 and file.read_text() == ""
