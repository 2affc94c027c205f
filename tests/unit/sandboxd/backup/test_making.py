"""A backup of a host in use: what is in it, what is not, and what is left behind."""

import fcntl
import io
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sandboxd.backup import MARK, making
from sandboxd.backup.freezing import Mounted
from sandboxd.backup.making import WORK, make
from sandboxd.backup.reading import read
from sandboxd.errors import HostError
from tests.unit.sandboxd.backup.host import Host


def ignore(_: object) -> None:
    return


def unpacked(content: bytes, into: Path) -> dict[str, int]:
    into.mkdir(exist_ok=True)
    found = read(io.BytesIO(content), ignore, ignore, into)
    return {name: one["size"] for name, one in found.members.items()}


def test_it_has_what_a_deploy_cannot_make_again(host: Host, directory: Path) -> None:
    host.fill()
    stream, using = io.BytesIO(), host.ledger()
    made = make(host.places, (), ignore, stream)
    using.close()
    members = unpacked(stream.getvalue(), directory / "into")
    assert sorted(members) == [
        "acme/production-example.com.json",
        "backup.json",
        "ca/ca.key",
        "ca/ca.pem",
        "images.tar",
        "ledger.sqlite",
        "secrets/link_key",
        "secrets/token_key",
        "snapshots/mine.img",
        "volumes/data.img",
    ]
    assert members["volumes/data.img"] == 64 * 1024 * 1024 and len(stream.getvalue()) < 200_000
    assert (directory / "into/volumes/data.img").read_bytes() == (host.state / "volumes/data.img").read_bytes()
    assert (directory / "into/images.tar").read_text() == "saved acme-template-mine:1\n"
    assert (made["project"], made["domain"], made["userns_uid"], made["without"]) == ("acme", "example.com", 100000, [])
    with closing(sqlite3.connect(directory / "into/ledger.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM keys").fetchone() == (1,)
    assert not (host.state / WORK).exists()


def test_what_is_left_out_is_not_in_its_ledger_either(host: Host, directory: Path) -> None:
    host.fill()
    stream = io.BytesIO()
    make(host.places, ("templates", "volumes"), ignore, stream)
    members = unpacked(stream.getvalue(), directory / "into")
    assert not [name for name in members if name.startswith(("volumes", "snapshots", "images"))]
    with closing(sqlite3.connect(directory / "into/ledger.sqlite")) as db:
        for table in ("volumes", "templates", "tags"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    ledger = host.ledger()
    assert [volume.name for volume in ledger.volumes()] == ["data"] and "mine" in ledger.templates()
    ledger.close()
    assert not [call for call in host.calls() if "save" in call]


def test_links_in_its_directories_are_not_followed(host: Host, directory: Path) -> None:
    host.fill()
    (host.folder / "etc/secrets/passwd").symlink_to("/etc/passwd")
    (host.state / "volumes/other.img").symlink_to("/etc/passwd")
    stream = io.BytesIO()
    make(host.places, (), ignore, stream)
    assert not [name for name in unpacked(stream.getvalue(), directory / "into") if "passwd" in name or "other" in name]


def test_two_at_a_time_are_refused_and_a_killed_one_is_cleared_away(host: Host) -> None:
    work = host.state / WORK
    work.mkdir()
    (work / "data.img").write_text("left over")
    fd = os.open(work, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(HostError, match="another backup"):
        make(host.places, (), ignore, io.BytesIO())
    assert (work / "data.img").exists(), "it is the other's"
    os.close(fd)
    make(host.places, (), ignore, io.BytesIO())
    assert not work.exists()


def test_without_room_for_a_copy_nothing_is_copied(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.fill()
    monkeypatch.setattr(making, "SPACE_LEFT", 1 << 60)
    stream = io.BytesIO()
    with pytest.raises(HostError, match=r"Make room, or leave out volumes or templates with --without"):
        make(host.places, (), ignore, stream)
    assert stream.getvalue() == b"" and not (host.state / WORK).exists()


def test_of_a_host_that_is_half_restored_there_is_none(host: Host) -> None:
    (host.state / MARK).touch()
    with pytest.raises(HostError, match="no whole host"):
        make(host.places, (), ignore, io.BytesIO())


def test_without_a_ledger_there_is_no_backup(host: Host) -> None:
    host.places.config.ledger.unlink()
    with pytest.raises(HostError, match="there is no ledger"):
        make(host.places, (), ignore, io.BytesIO())
    assert not host.places.config.ledger.exists()


def test_a_disk_that_was_written_to_meanwhile_is_copied_again(
    host: Host, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.fill()
    source, copies = host.state / "volumes/data.img", list[int]()

    def copy(source: Path, target: Path) -> None:
        copies.append(1)
        target.write_bytes(source.read_bytes())
        if len(copies) == 1:  # somebody starts a sandbox with it
            os.utime(source, ns=(1, 1))

    monkeypatch.setattr(making, "copy", copy)
    assert making.copy_disk(source, directory / "copy") is True
    assert len(copies) == 2


def test_one_that_never_stands_still_is_told(host: Host, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.fill()
    source = host.state / "volumes/data.img"

    def copy(source: Path, target: Path) -> None:
        target.write_bytes(b"")
        os.utime(source, ns=(1, source.stat().st_mtime_ns + 1))

    monkeypatch.setattr(making, "copy", copy)
    assert making.copy_disk(source, directory / "copy") is False


def test_one_that_was_unmounted_before_it_was_frozen_is_copied_as_it_is(
    host: Host, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sandbox was killed in between."""
    host.fill()
    source, looks = host.state / "volumes/data.img", [Mounted(directory, device=0)]
    monkeypatch.setattr(making, "mounted_at", lambda file: looks.pop() if looks else None)
    assert making.copy_disk(source, directory / "copy") is True
    assert (directory / "copy").read_bytes() == source.read_bytes()


def test_a_disk_that_was_removed_meanwhile_is_told(host: Host, directory: Path) -> None:
    with pytest.raises(HostError, match=r"none\.img: it was removed while the backup was made"):
        making.copy_disk(host.state / "none.img", directory / "copy")


def test_a_small_file_that_is_written_meanwhile_is_read_again(
    host: Host, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Traefik does with its certificates: it empties the file, and writes."""
    file, reads = directory / "account.json", list[int]()
    file.write_bytes(b"")
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        found = real(path)
        reads.append(1)
        if len(reads) == 1:
            path.write_bytes(b"whole")
        return found

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert making.steady(file) == b"whole" and len(reads) == 2
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"never what it is")
    with pytest.raises(HostError, match="being written all the time"):
        making.steady(file)


def test_what_a_reader_would_refuse_is_not_in_it(host: Host, directory: Path) -> None:
    """What an editor has left beside a secret does not make a backup that nobody can restore."""
    host.fill()
    for name in (".token_key.swp", "token_key~", "a b"):
        (host.folder / "etc/secrets" / name).write_text("left")
    stream = io.BytesIO()
    make(host.places, (), ignore, stream)
    found = [name for name in unpacked(stream.getvalue(), directory / "into") if name.startswith("secrets/")]
    assert found == ["secrets/link_key", "secrets/token_key"]
