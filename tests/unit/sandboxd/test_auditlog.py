"""The file of the audit log: appended to, rotated under its writer, on a disk that is full."""

import errno
import itertools
import os
import threading
from pathlib import Path

import pytest

from sandboxd.auditlog import AuditLog
from tests.unit.sandboxd.conftest import until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log" / "audit.log"


def test_lines_are_appended_to_a_file_that_few_may_read(file: Path) -> None:
    log = AuditLog(file)
    before = os.umask(0)
    try:
        log.write(b"one\n")
    finally:
        os.umask(before)
    AuditLog(file).write(b"two\n")
    assert file.read_bytes() == b"one\ntwo\n" and file.stat().st_mode & 0o777 == 0o640
    assert file.parent.stat().st_mode & 0o777 == 0o750
    assert (log.trouble, log.lost) == ("", 0)


def test_no_line_is_lost_while_the_file_is_renamed(file: Path) -> None:
    """By logrotate, which renames and makes nothing in its place."""
    log, written, enough = AuditLog(file), list[str](), threading.Event()

    def write(name: str) -> None:
        for number in itertools.count():
            if enough.is_set():
                break
            log.write(f"{name} {number}\n".encode())
            written.append(f"{name} {number}")

    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for writer in writers:
        writer.start()
    for rotated in range(20):
        until(file.exists, "the file")
        file.rename(file.with_suffix(f".log.{rotated}"))
    enough.set()
    for writer in writers:
        writer.join()
    lines = [line for path in file.parent.iterdir() for line in path.read_text().splitlines()]
    assert sorted(lines) == sorted(written)


def test_another_file_of_that_name_is_the_log_from_then_on(file: Path) -> None:
    log = AuditLog(file)
    log.write(b"one\n")
    other = file.with_name("other")
    other.write_bytes(b"restored\n")
    other.rename(file)
    log.write(b"two\n")
    assert file.read_bytes() == b"restored\ntwo\n"


def test_a_full_disk_is_trouble_until_there_is_room(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(file)
    log.write(b"one\n")
    write = os.write

    def half(fd: int, data: bytes) -> int:
        return write(fd, data[:2])

    def none(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for broken in (half, none):
        monkeypatch.setattr("sandboxd.auditlog.os.write", broken)
        log.write(b"lost\n")
        assert f"{file}: No space left on device: records are lost" in log.trouble
    monkeypatch.setattr("sandboxd.auditlog.os.write", write)
    log.write(b"two\n")
    assert (file.read_bytes(), log.trouble, log.lost) == (b"one\ntwo\n", "", 2)


def test_where_nobody_rotates_the_file_does_not_grow_for_ever(file: Path) -> None:
    log = AuditLog(file, most_bytes=10)
    for _ in range(4):
        log.write(b"four\n")
    assert file.read_bytes() == b"four\nfour\n" and log.lost == 2
    assert "more than 10 bytes, and nobody rotates it" in log.trouble
    file.rename(file.with_suffix(".log.1"))
    log.write(b"four\n")
    assert file.read_bytes() == b"four\n" and log.trouble == ""


def test_no_link_is_followed(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    file.symlink_to(tmp_path / "elsewhere")
    log = AuditLog(file)
    log.write(b"one\n")
    assert log.lost == 1 and not (tmp_path / "elsewhere").exists()


def test_a_closed_log_opens_again(file: Path) -> None:
    log = AuditLog(file)
    log.write(b"one\n")
    log.close()
    log.close()
    log.write(b"two\n")
    assert file.read_bytes() == b"one\ntwo\n"
