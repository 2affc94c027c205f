"""Builds of templates on the host: what comes of them, and that they are held within limits."""

import shlex
from collections.abc import Iterator

import pytest

from tests.host.machine import Machine, Sandbox

pytestmark = pytest.mark.disruptive

HEAD = "ARG BASE\nFROM ${BASE}\n"
GREEDY = "b = b'x' * (3 << 30)"


@pytest.fixture
def directory(machine: Machine) -> Iterator[str]:
    path = machine.out("mktemp --directory")
    yield path
    machine.run(f"rm -r {path}; docker-sandbox template rm built", check=False)


def test_a_build_is_a_template(machine: Machine, directory: str) -> None:
    machine.run(f"cat >{directory}/Dockerfile", stdin=f"{HEAD}COPY words /etc/words\nUSER root\n".encode())
    machine.run(f"echo built >{directory}/words")
    assert machine.out(f"docker-sandbox template build {directory} built") == "built"
    with machine.sandbox("--template built") as sandbox:
        assert sandbox.out("cat /etc/words") == "built"


@pytest.mark.suite("trixie")  # the engine of Debian 12 knows no cgroup for builds
def test_a_build_takes_no_more_memory_than_it_may(machine: Machine, directory: str) -> None:
    """Its own commands are ended; what else runs on the host is not."""
    machine.run(f"cat >{directory}/Dockerfile", stdin=f"{HEAD}RUN python3 -c {shlex.quote(GREEDY)}\n".encode())
    with machine.sandbox() as sandbox:
        failed = machine.run(f"docker-sandbox template build {directory} built", check=False)
        assert failed.returncode == 1 and "137" in failed.stderr, failed.stderr
        assert Sandbox(machine, sandbox.id).out("echo undisturbed") == "undisturbed"
    names = machine.out("docker-sandbox template ls | awk '{print $1}'").splitlines()
    assert "built" not in names
