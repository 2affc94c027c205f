"""The image's name follows from what goes in, and from nothing else."""

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from lab.image import DOCKER_BUILD, MMDEBSTRAP, ImageSpec, certificates, docker_build, pack, spec
from lab.mirror import Mirror
from lab.registries import Registries


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "rootfs/etc").mkdir(parents=True)
    (tmp_path / "rootfs/etc/a.conf").write_text("a\n")
    (tmp_path / "rootfs/run-me").write_text("#!/bin/sh\n")
    return tmp_path / "rootfs"


@pytest.fixture
def ours(rootfs: Path) -> ImageSpec:
    return spec("trixie", MMDEBSTRAP, Mirror(), Registries(), rootfs, [])


def test_same_content_same_name(ours: ImageSpec, rootfs: Path) -> None:
    os.utime(rootfs / "etc/a.conf", (0, 0))
    (rootfs / "run-me").chmod(0o700)
    assert spec("trixie", MMDEBSTRAP, Mirror(), Registries(), rootfs, []).tag == ours.tag


def test_every_input_makes_another_name(ours: ImageSpec, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca/corp.crt").write_text("BEGIN CERTIFICATE")
    told = Registries(environment={"PIP_INDEX_URL": "https://pip.example/simple"})
    others = [
        replace(ours, suite="bookworm"),
        replace(ours, builder=DOCKER_BUILD),
        replace(ours, packages=("systemd",)),
        spec("trixie", MMDEBSTRAP, Mirror(main="http://mirror.example/debian"), Registries(), rootfs, []),
        spec("trixie", MMDEBSTRAP, Mirror(), told, rootfs, []),
        spec("trixie", MMDEBSTRAP, Mirror(), Registries(), rootfs, [tmp_path / "ca"]),
    ]
    (rootfs / "etc/a.conf").write_text("b\n")
    others.append(spec("trixie", MMDEBSTRAP, Mirror(), Registries(), rootfs, []))
    assert len({ours.tag, *(other.tag for other in others)}) == len(others) + 1


def test_files_keep_their_place_and_programs_their_bit(rootfs: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(rootfs, {"etc/b": b"b"}))) as archive:
        modes = {member.name: member.mode for member in archive}
    assert modes == {"etc/a.conf": 0o644, "etc/b": 0o644, "run-me": 0o755}


def test_certificates_of_every_kind_of_workstation(tmp_path: Path) -> None:
    (tmp_path / "debian/corp").mkdir(parents=True)
    (tmp_path / "debian/corp/root.crt").write_bytes(b"1")
    (tmp_path / "debian/README").write_bytes(b"no")
    (tmp_path / "fedora").mkdir()
    (tmp_path / "fedora/proxy.pem").write_bytes(b"2")
    found = certificates([tmp_path / "debian", tmp_path / "fedora", tmp_path / "none"])
    assert found == {
        "usr/local/share/ca-certificates/corp-root.crt": b"1",
        "usr/local/share/ca-certificates/proxy.crt": b"2",
    }


def test_mmdebstrap_gets_our_files_before_it_provisions(ours: ImageSpec) -> None:
    command = ours.mmdebstrap("/somewhere/files.tar", Path("/keys.gpg"))
    assert command[:3] == ["mmdebstrap", "--variant=minbase", "--format=tar"]
    assert "--keyring=/keys.gpg" in command
    assert command.index("--customize-hook=tar-in /somewhere/files.tar /") < command.index(
        '--customize-hook=chroot "$1" /usr/lib/lab/provision'
    )
    assert command[command.index("trixie") :] == ["trixie", "-", *Mirror().sources("trixie")]


def test_docker_build_passes_proxies_by_name_only(ours: ImageSpec) -> None:
    assert docker_build(ours, "/somewhere", ["https_proxy", "http_proxy"]) == [
        *["docker", "build", "--tag", ours.tag, "--label", "sandbox.lab.image=trixie"],
        *["--build-arg=http_proxy", "--build-arg=https_proxy", "/somewhere"],
    ]
    assert ours.dockerfile().startswith("FROM debian:trixie\n")
