"""Where things are, and the programs that are asked."""

from pathlib import Path

import pytest

from sandboxd.backup.places import image_bytes, run, userns_uid
from sandboxd.errors import HostError
from tests.unit.sandboxd.backup.host import Host


def test_the_engine_says_who_is_root_inside(host: Host) -> None:
    assert userns_uid() == 100000
    host.describe(231072)
    assert userns_uid() == 231072


def test_sizes_of_images_are_added(host: Host) -> None:
    assert image_bytes([]) == 0 and image_bytes(["a:1", "b:1"]) == 2000


def test_an_image_that_is_gone_is_told_with_what_to_do(host: Host) -> None:
    (host.folder / "bin/docker").write_text("#!/bin/sh\necho No such image: b:1 >&2; exit 1\n")
    with pytest.raises(HostError, match=r"No such image: b:1\. If .*template rm NAME"):
        image_bytes(["a:1", "b:1"])


def test_what_a_program_says_is_told(directory: Path) -> None:
    assert run("echo", "yes") == "yes\n"
    with pytest.raises(HostError, match=r"^sh -c echo no >&2; exit 3: no$"):
        run("sh", "-c", "echo no >&2; exit 3")
    with pytest.raises(HostError, match="exit code 1"):
        run("false")
    with pytest.raises(HostError, match="No such file"):
        run(str(directory / "none"))


def test_only_plain_files_count(host: Host) -> None:
    host.fill()
    (host.folder / "etc/secrets/more").mkdir()
    (host.folder / "etc/secrets/link").symlink_to("/etc/passwd")
    assert [path.name for path in host.places.files("secrets")] == ["link_key", "token_key"]
    assert [path.name for path in host.places.files("volumes")] == ["data.img", "half.new"]
