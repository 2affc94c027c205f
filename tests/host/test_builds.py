"""Builds of templates on the host: what comes of them, and that they are held within limits."""

import hashlib
import io
import shlex
import tarfile
from collections.abc import Iterator

import pytest

from tests.host.api import with_key
from tests.host.machine import Machine, Sandbox, eventually

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


def test_files_that_a_client_uploads_are_copied_into_a_template(machine: Machine) -> None:
    with io.BytesIO() as packed, tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("words")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"built"))
        archive.close()
        files = packed.getvalue()
    digest = hashlib.sha256(files).hexdigest()
    with with_key(machine, "builds") as api:
        made = api.ask("POST", "/v3/templates", 202, json={"name": "copied"})
        try:
            upload = api.ask("GET", f"/templates/copied/files/{digest}", 201)["url"]
            assert machine.request("PUT", upload, content=files).status_code == 200
            build = f"/templates/copied/builds/{made['buildID']}"
            steps = [{"type": "COPY", "args": ["words", "/etc/words", "user", "0640"], "filesHash": digest}]
            api.ask("POST", f"/v2{build}", 202, json={"fromTemplate": "base", "steps": steps})
            done = eventually(
                lambda: api.ask("GET", f"{build}/status", 200),
                lambda seen: seen["status"] in ("ready", "error"),
                300,
                "end of the build",
            )
            assert done["status"] == "ready", done
            with api.sandbox(templateID="copied") as sandbox:
                assert sandbox.out("stat -c '%U %a' /etc/words; cat /etc/words") == "user 640\nbuilt"
        finally:
            machine.run("docker-sandbox template rm copied", check=False)


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
