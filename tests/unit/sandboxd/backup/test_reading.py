"""What is written is read; and what is no backup, not whole, not ours or dangerous, is refused."""

import gzip
import io
import json
import os
import tarfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sandboxd.backup import HEAD, MANIFEST, sparse
from sandboxd.backup.reading import Content, Damaged, NoSpace, read
from sandboxd.backup.writing import Writer
from sandboxd.errors import Conflict
from tests.unit.sandboxd.backup.host import disk

HEADER = {
    "format": 1,
    "schema": 3,
    "version": "1.0",
    "project": "acme",
    "domain": "example.com",
    "made": "2027-01-15T08:00:00.000Z",
    "bytes": 10,
    "userns_uid": 100000,
    "without": [],
}


def ignore(_: object) -> None:
    return


@pytest.fixture
def backup(directory: Path) -> bytes:
    """A small one, with a disk."""
    disk(directory / "data.img", os.urandom(3000))
    (directory / "ledger").write_bytes(b"a ledger")
    stream = io.BytesIO()
    with Writer(stream, HEADER, ignore) as writer:
        writer.file("ledger.sqlite", directory / "ledger")
        writer.content("secrets/token_key", b"secret")
        writer.image("volumes/data.img", directory / "data.img", still=True)
    return stream.getvalue()


def reading(content: bytes, into: Path | None = None) -> Content:
    return read(io.BytesIO(content), ignore, ignore, into)


def test_what_was_written_is_read(backup: bytes, directory: Path) -> None:
    into, counted = directory / "into", list[int]()
    into.mkdir()
    found = read(io.BytesIO(backup), counted.append, ignore, into)
    assert found.head == HEADER
    assert list(found.members) == [HEAD, "ledger.sqlite", "secrets/token_key", "volumes/data.img"]
    assert found.members["volumes/data.img"]["still"] is True
    assert (into / "ledger.sqlite").read_bytes() == b"a ledger"
    assert (into / "volumes/data.img").read_bytes() == (directory / "data.img").read_bytes()
    assert (into / "volumes/data.img").stat().st_blocks * 512 < 1024 * 1024, "holes stay holes"
    assert {path.stat().st_mode & 0o777 for path in into.rglob("*") if path.is_file()} == {0o600}
    assert sum(counted) == len(backup) < 100_000


def test_without_a_directory_nothing_is_written(backup: bytes, directory: Path) -> None:
    before = sorted(directory.rglob("*"))
    assert "volumes/data.img" in reading(backup).members
    assert sorted(directory.rglob("*")) == before


def test_one_that_is_cut_off_anywhere_is_refused(backup: bytes) -> None:
    for length in [0, 1, 10, 200, *range(300, len(backup), 301), len(backup) - 9, len(backup) - 1]:
        with pytest.raises(Damaged):
            reading(backup[:length])


def test_one_with_a_wrong_byte_anywhere_is_refused(backup: bytes) -> None:
    """But for the few bits of gzip that mean nothing."""
    whole = gzip.decompress(backup)
    for at in range(11, len(backup), 97):
        changed = bytearray(backup)
        changed[at] ^= 0x40
        with suppress(gzip.BadGzipFile, zlib.error, EOFError):
            if gzip.decompress(changed) == whole:
                continue
        with pytest.raises(Damaged):
            reading(bytes(changed))


def test_what_follows_a_backup_is_refused(backup: bytes) -> None:
    with pytest.raises(Damaged):
        reading(backup + b"more")


NONE = {
    "nothing": b"",
    "a text": b"no backup",
    "nothing in gzip": gzip.compress(b""),
    "a text in gzip": gzip.compress(b"x" * 5000),
}


@pytest.mark.parametrize("case", NONE)
def test_what_is_no_backup_is_refused(case: str) -> None:
    with pytest.raises(Damaged, match=r"no backup|not whole"):
        reading(NONE[case])


def made(*members: tuple[str, bytes, dict[str, Any]]) -> bytes:
    """An archive of the same form, with whatever members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content, changes in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), 1)


def head(**changes: Any) -> tuple[str, bytes, dict[str, Any]]:
    return HEAD, json.dumps(HEADER | changes).encode(), {}


END: tuple[str, bytes, dict[str, Any]] = (MANIFEST, b'{"members": []}', {})
WRONG = {
    "up": ([head(), ("volumes/../../x", b"x", {}), END], "has a member 'volumes/../../x'"),
    "absolute": ([head(), ("/etc/passwd", b"x", {}), END], "has a member '/etc/passwd'"),
    "hidden": ([head(), ("secrets/.x", b"x", {}), END], "has a member"),
    "elsewhere": ([head(), ("sandboxes/x", b"x", {}), END], "has a member"),
    "deep": ([head(), ("secrets/a/b", b"x", {}), END], "has a member"),
    "newline": ([head(), ("secrets/a\n", b"x", {}), END], "has a member"),
    "link": ([head(), ("secrets/a", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/shadow"}), END], "no plain file"),
    "hard link": ([head(), ("secrets/a", b"", {"type": tarfile.LNKTYPE, "linkname": HEAD}), END], "no plain file"),
    "device": ([head(), ("volumes/a.img", b"", {"type": tarfile.BLKTYPE}), END], "no plain file"),
    "pipe": ([head(), ("secrets/a", b"", {"type": tarfile.FIFOTYPE}), END], "no plain file"),
    "directory": ([head(), ("secrets/a", b"", {"type": tarfile.DIRTYPE}), END], "no plain file"),
    "twice": ([head(), ("secrets/a", b"x", {}), ("secrets/a", b"y", {}), END], "comes twice"),
    "after the end": ([head(), END, ("secrets/a", b"x", {})], "after the manifest"),
    "no head": ([("ledger.sqlite", b"x", {}), END], "does not begin with"),
    "two heads": ([head(), head(), END], "comes twice|does not begin"),
    "not listed": ([head(), ("ledger.sqlite", b"x", {}), END], "not in the manifest"),
    "no manifest": ([head(), ("ledger.sqlite", b"x", {})], "manifest, which comes last, is missing"),
    "no ledger": (
        [head(), (MANIFEST, json.dumps({"members": []}).encode(), {})],
        "not in the manifest|no ledger",
    ),
    "format": ([head(format=2), END], "has format 2, and this release reads 1"),
    "schema": ([head(schema="3"), END], "schema = '3'"),
    "flag for a number": ([head(bytes=True), END], "bytes = True"),
    "escape": ([head(made="\x1b[2J"), END], r"made = '\\x1b\[2J'"),
    "unknown kind": ([head(without=["all"]), END], r"without = \['all'\]"),
    "no JSON": ([(HEAD, b"{", {}), END], "damaged"),
    "no object": ([(HEAD, b"[]", {}), END], "no object"),
    "no list": ([head(), (MANIFEST, b'{"members": 7}', {})], "no usable list"),
    "missing": (
        [head(), (MANIFEST, b'{"members": [{"name": "secrets/x", "size": 1, "sha256": ""}]}', {})],
        "not in the|in the manifest, but not",
    ),
    "huge head": ([(HEAD, b" " * (65 * 1024 * 1024), {}), END], "has 68157440 bytes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_ours_is_refused_and_leaves_nothing_elsewhere(directory: Path, case: str) -> None:
    members, message = WRONG[case]
    into = directory / "into"
    into.mkdir()
    with pytest.raises(Damaged, match=message):
        read(io.BytesIO(made(*members)), ignore, ignore, into)
    assert [path.name for path in directory.iterdir()] == ["into"]
    assert all(not path.is_symlink() for path in into.rglob("*"))


@pytest.mark.parametrize(
    "lines", ["1\n-1\n5\n", "1\n0\n-5\n", "1\n0\n99\n", "2\n5\n2\n0\n2\n", "1\n0\n", "x\n", "2\n0\n9\n5\n5\n"]
)
def test_a_wrong_map_is_refused(directory: Path, lines: str) -> None:
    """Of a member with holes: data outside the file, or in no order."""
    stored = lines.encode() + bytes(-len(lines) % 512) + b"12345"
    pax = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "volumes/a.img",
        "GNU.sparse.realsize": "10",
    }
    with pytest.raises(Damaged):
        read(
            io.BytesIO(made(head(), ("GNUSparseFile.0/volumes/a.img", stored, {"pax_headers": pax}), END)),
            ignore,
            ignore,
            directory,
        )


@pytest.mark.parametrize("what", ["comment", "map"])
def test_a_header_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """What tarfile keeps in memory, and gzip makes small: here with a lower limit."""
    monkeypatch.setattr("sandboxd.backup.reading.TEXT_MAX", 2 * sparse.PIECE)
    if what == "comment":
        large = ("secrets/a", b"x", {"pax_headers": {"comment": "x" * 8 * sparse.PIECE}})
    else:
        pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "volumes/a.img"}
        lines = b"9999999\n" + b"0\n" * 2 * sparse.PIECE
        large = ("x/a", lines, {"pax_headers": {**pax, "GNU.sparse.realsize": "9"}})
    with pytest.raises(Damaged, match="a header in it has more than 2 MB"):
        reading(made(head(), large, END))


def test_members_have_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.backup.reading.MEMBERS_MAX", 2)
    with pytest.raises(Damaged, match="more than 2 members"):
        reading(made(head(), *((f"secrets/{name}", b"x", {}) for name in "abc"), END))


def test_a_map_without_an_end_is_not_read_for_ever(directory: Path) -> None:
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "volumes/a.img"}
    content = gzip.decompress(made(head(), ("x/a", b"9" * 5120, {"pax_headers": {**pax, "GNU.sparse.realsize": "9"}})))
    with pytest.raises(Damaged):
        reading(gzip.compress(content[: content.index(b"9" * 5120) + 5120]))


def test_a_name_behind_a_map_is_looked_at_too(directory: Path) -> None:
    pax = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "../x",
        "GNU.sparse.realsize": "0",
    }
    stored = b"1\n0\n0\n".ljust(512, b"\0")
    with pytest.raises(Damaged, match=r"a member '\.\./x'"):
        reading(made(head(), ("GNUSparseFile.0/volumes/a.img", stored, {"pax_headers": pax}), END))


def test_whoever_does_not_accept_the_head_reads_no_further(backup: bytes, directory: Path) -> None:
    def refuse(head: dict[str, Any]) -> None:
        raise Conflict("not here")

    with pytest.raises(Conflict):
        read(io.BytesIO(backup), ignore, refuse, directory / "none")
    assert not (directory / "none").exists()


def test_a_member_that_the_disk_has_no_room_for_is_refused_before_it_is_written(
    backup: bytes, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd.backup.reading.SPACE_LEFT", 1 << 60)
    into = directory / "into"
    into.mkdir()
    with pytest.raises(NoSpace, match="are free there"):
        read(io.BytesIO(backup), ignore, ignore, into)
    assert [path for path in into.rglob("*") if path.is_file()] == []


def test_an_archive_that_a_failure_ended_is_no_backup(directory: Path) -> None:
    stream = io.BytesIO()
    with pytest.raises(ZeroDivisionError), Writer(stream, HEADER, ignore) as writer:
        writer.content("secrets/a", b"x")
        raise ZeroDivisionError
    with pytest.raises(Damaged):
        reading(stream.getvalue())
