"""Builds, by a program that stands for Docker's command; the host suite builds for real."""

import os
from pathlib import Path

import pytest

from sandboxd import dockerbuild
from sandboxd.errors import EngineError
from tests.unit.sandboxd.conftest import until


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context.tar"
    path.write_text("archive\n")
    return path


def put_docker(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = directory / "bin/docker"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", "/proc/none")


@pytest.mark.parametrize("code", [0, 1])
def test_a_build_says_its_lines_and_needs_no_home(
    tmp_path: Path, context: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    put_docker(tmp_path, monkeypatch, f'cat; touch "$DOCKER_CONFIG/x"; echo "$DOCKER_BUILDKIT $*"; exit {code}')
    lines: list[bytes] = []
    try:
        for line in dockerbuild.build(context, "image:1", {"BASE": "base:1"}, "/a.slice", lambda: ""):
            lines.append(line)
    except EngineError as error:
        assert code and "the build of image:1 failed" in str(error)
    words = b"--progress=plain --cgroup-parent /a.slice --build-arg BASE=base:1 --tag image:1 -"
    assert lines == [b"archive\n", b"1 build " + words + b"\n"]


def test_trouble_ends_it(tmp_path: Path, context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dockerbuild, "GUARD_S", 0.01)
    put_docker(tmp_path, monkeypatch, "echo begun; exec sleep 1000")
    troubles = ["", "", "the disk is full"]
    with pytest.raises(EngineError, match="the build of image:1 was ended: the disk is full"):
        list(dockerbuild.build(context, "image:1", {}, "/a.slice", lambda: troubles.pop(0)))
    assert troubles == []


def test_it_ends_when_nobody_takes_its_lines(tmp_path: Path, context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_docker(tmp_path, monkeypatch, "echo $$; exec sleep 1000")
    lines = dockerbuild.build(context, "image:1", {}, "/a.slice", lambda: "")
    pid = int(next(iter(lines)))
    lines.close()  # type: ignore[attr-defined]
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the build")
