"""`upload` and `download`: like `cp -r`, streamed, and never half a file under the right name."""

import hashlib
import io
import os
import resource
import signal
import socket
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from sandboxd.cli.transfer import own_name
from tests.unit.envd.client import eventually
from tests.unit.sandboxd.cli.doubles import (
    DEADLINE_S,
    ID,
    Apart,
    ControlPlane,
    Inside,
    Relay,
    Scripted,
    answer_of,
    write_place,
)

HUGE_BYTES = 100_000_000
ODD = b"\xff\n 'x"


class Refusing(Scripted):
    """There is nothing at the target; what is sent to it is refused at once."""

    def talk(self, connection: socket.socket) -> None:
        if connection.recv(12, socket.MSG_PEEK) == b"POST /files?":
            super().talk(connection)
        else:
            connection.recv(65536)
            connection.sendall(answer_of(404, {"code": "not_found", "message": "nothing there"}))


@pytest.fixture
def run(box: Apart, capfdbinary: pytest.CaptureFixture[bytes]) -> Inside:
    return Inside(box, capfdbinary)


@pytest.fixture
def site(here: Path) -> Path:
    made = here / "site"
    (made / "deep" / "empty").mkdir(parents=True)
    (made / "a b\n'c").write_text("odd name")
    Path(os.fsdecode(os.fsencode(made) + b"/" + ODD)).write_bytes(b"no utf-8")
    (made / ("long" * 60)).write_text("longer than a tar header holds")
    (made / "deep" / "run").write_text("#!/bin/sh\n")
    (made / "deep" / "run").chmod(0o755)
    (made / "deep" / "secret").write_bytes(os.urandom(70_000))
    (made / "deep" / "secret").chmod(0o600)
    (made / "nothing").touch()
    (made / "link").symlink_to("deep/run")
    (made / "deep" / "up").symlink_to("../nothing")
    (made / "broken").symlink_to("nowhere")
    (made / "deep").chmod(0o750)
    return made


def tree(path: Path) -> dict[bytes, tuple[str, bytes, int]]:
    """Everything below a directory: kind, content or target, mode."""
    found = {}
    for directory, folders, files in os.walk(os.fsencode(path)):
        for name in folders + files:
            full = os.path.join(directory, name)
            relative = os.path.relpath(full, os.fsencode(path))
            if os.path.islink(full):
                found[relative] = ("link", os.readlink(full), 0)
            elif os.path.isdir(full):
                found[relative] = ("directory", b"", os.stat(full).st_mode & 0o777)
            else:
                with open(full, "rb") as file:
                    found[relative] = ("file", file.read(), os.stat(full).st_mode & 0o777)
    return found


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_directory_there_and_back(run: Inside, site: Path, remote: Path, here: Path) -> None:
    os.utime(site / "deep" / "run", (1_500_000_000, 1_500_000_000))
    run.ok("upload", site, remote / "new")
    assert tree(remote / "new") == tree(site)
    run.ok("download", remote / "new", here / "back")
    assert tree(here / "back") == tree(site) and ODD in tree(here / "back")
    assert (here / "back/deep/run").stat().st_mtime == 1_500_000_000
    assert names(here) == ["back", "site"]


def test_an_empty_directory(run: Inside, remote: Path, here: Path) -> None:
    (here / "empty").mkdir()
    run.ok("upload", here / "empty", remote / "made/up/empty")
    assert (remote / "made/up/empty").is_dir() and names(remote / "made/up/empty") == []
    run.ok("download", remote / "made", here / "back")
    assert (here / "back/up/empty").is_dir()


def test_into_a_directory_it_goes_under_its_own_name(run: Inside, site: Path, remote: Path, here: Path) -> None:
    run.ok("upload", site, remote)
    run.ok("upload", f"{site}/", remote / "nested/")
    run.ok("upload", f"{site}/.", remote / "flat")
    for there in ("site", "nested", "flat"):
        assert tree(remote / there) == tree(site)
    (here / "target").mkdir()
    run.ok("download", remote / "site", here / "target")
    assert tree(here / "target/site") == tree(site)
    run.ok("download", f"{remote}/site/.", here / "target")
    assert tree(here / "target").items() >= tree(site).items()


def test_directories_are_joined_and_nothing_is_deleted(run: Inside, remote: Path, here: Path) -> None:
    for side in (here, remote):
        (side / "d/sub").mkdir(parents=True)
        (side / "d/sub/both").write_text(str(side))
        (side / "d/sub" / side.name).touch()
    run.ok("upload", here / "d", remote)
    assert names(remote / "d/sub") == ["both", "here", "remote"] and (remote / "d/sub/both").read_text() == str(here)
    (remote / "d/sub/both").write_text("newer")
    (here / "d/sub/mine").touch()
    run.ok("download", remote / "d", here)
    assert names(here / "d/sub") == ["both", "here", "mine", "remote"]
    assert (here / "d/sub/both").read_text() == "newer"


def test_one_file(run: Inside, remote: Path, here: Path) -> None:
    data = os.urandom(2_500_000)
    (here / "data").write_bytes(data)
    (here / "data").chmod(0o751)
    run.ok("upload", here / "data", remote / "made/up/file")
    assert (remote / "made/up/file").read_bytes() == data and mode(remote / "made/up/file") == 0o751
    run.ok("upload", here / "data", remote)
    run.ok("upload", here / "data", f"{remote}/new/")
    assert (remote / "data").read_bytes() == (remote / "new/data").read_bytes() == data
    run.ok("download", remote / "made/up/file", here / "again")
    assert (here / "again").read_bytes() == data and mode(here / "again") == 0o751
    assert int((here / "again").stat().st_mtime) == int((remote / "made/up/file").stat().st_mtime)
    run.ok("download", remote / "made/up/file", here)
    run.ok("download", remote / "made/up/file", f"{here}/fresh/")
    assert (here / "file").read_bytes() == (here / "fresh/file").read_bytes() == data
    assert names(here) == ["again", "data", "file", "fresh"]


def test_a_file_is_replaced_with_its_mode(run: Inside, remote: Path, here: Path) -> None:
    (remote / "f").write_text("a much longer content of before")
    (remote / "f").chmod(0o755)
    (here / "f").write_text("new")
    (here / "f").chmod(0o644)
    run.ok("upload", here / "f", remote / "f")
    assert (remote / "f").read_text() == "new" and mode(remote / "f") == 0o644
    (remote / "f").write_text("newer")
    run.ok("download", remote / "f", here / "f")
    assert (here / "f").read_text() == "newer"


@pytest.mark.parametrize("name", ["a b", "a\nb", "-rf", "%41&user=x?#", "ü", os.fsdecode(ODD)])
def test_names_of_every_kind(run: Inside, remote: Path, here: Path, name: str) -> None:
    (here / name).write_text(name.encode(errors="replace").hex())
    run.ok("upload", here / name, remote / name)
    assert tree(remote) == tree(here)
    (here / name).rename(here / "before")
    run.ok("download", remote / name, here / name)
    assert (here / name).read_text() == (here / "before").read_text()


def test_pipes(box: Apart, remote: Path) -> None:
    data = os.urandom(1_500_000)
    box.out("upload", ID, "-", str(remote / "piped"), stdin=data)
    assert (remote / "piped").read_bytes() == data
    assert box.run("download", ID, str(remote / "piped"), "-").stdout == data
    assert box.run("upload", ID, "-", str(remote / "nothing")).returncode == 0
    assert (remote / "nothing").read_bytes() == b""


def test_a_directory_that_is_named_by_a_link(run: Inside, site: Path, remote: Path, here: Path) -> None:
    (here / "alias").symlink_to("site")
    run.ok("upload", here / "alias", remote / "new")
    assert tree(remote / "new") == tree(site) and not (remote / "new").is_symlink()
    (remote / "alias").symlink_to("new")
    run.ok("download", remote / "alias", here / "back")
    assert tree(here / "back") == tree(site)


def test_a_target_that_is_a_link_is_followed(run: Inside, remote: Path, here: Path) -> None:
    (here / "real").write_text("old")
    (here / "link").symlink_to("real")
    (remote / "f").write_text("new")
    run.ok("download", remote / "f", here / "link")
    assert (here / "link").is_symlink() and (here / "real").read_text() == "new"
    (here / "directory").mkdir()
    (here / "to").symlink_to("directory")
    run.ok("download", remote / "f", here / "to")
    run.ok("download", f"{remote}/.", here / "to")
    assert (here / "to").is_symlink() and (here / "directory/f").read_text() == "new"


def test_what_is_no_file_is_left_out_with_a_warning(run: Inside, remote: Path, here: Path) -> None:
    (here / "d").mkdir()
    (here / "d/file").touch()
    os.mkfifo(here / "d/pipe")
    assert run.run("upload", here / "d", remote / "d") == 0
    assert "d/pipe: left out" in run.err and names(remote / "d") == ["file"]
    os.mkfifo(remote / "d/other")
    assert run.run("download", remote / "d", here / "back") == 0
    assert "other: left out" in run.err and names(here / "back") == ["file"]


def test_upload_refuses(run: Inside, remote: Path, here: Path) -> None:
    (here / "d").mkdir()
    (remote / "file").write_text("kept")
    os.mkfifo(here / "pipe")
    assert "nothing: no such file" in run.refused("upload", here / "nothing", remote / "x")
    assert "is a file in the sandbox" in run.refused("upload", here / "d", remote / "file")
    assert "Name the file" in run.refused("upload", "-", remote)
    assert "upload ID -" in run.refused("upload", here / "pipe", remote / "x")
    assert "nobody-has-this" in run.refused("upload", here / "d", remote / "x", "--user", "nobody-has-this")
    assert names(remote) == ["file"] and (remote / "file").read_text() == "kept"


def test_download_refuses(run: Inside, remote: Path, here: Path) -> None:
    (remote / "d").mkdir()
    (remote / "file").touch()
    (here / "kept").write_text("old")
    (here / "file").mkdir()
    assert "none" in run.refused("download", remote / "none", here / "kept")
    assert "directory" in run.refused("download", remote, "-")
    assert "is no directory" in run.refused("download", remote / "d", here / "kept")
    assert "is a directory" in run.refused("download", remote / "file", here)
    assert (here / "kept").read_text() == "old" and names(here) == ["file", "kept"]


def test_a_device_is_not_replaced(run: Inside, remote: Path, here: Path) -> None:
    """As root, a file renamed to /dev/null would take the place of the device, for the whole host."""
    os.mkfifo(here / "pipe")
    (here / "link").symlink_to("pipe")
    (remote / "f").write_text("content")
    for target in ("pipe", "link"):
        assert "is no file" in run.refused("download", remote / "f", here / target)
    assert (here / "pipe").is_fifo() and names(here) == ["link", "pipe"]


def test_a_download_that_breaks_off_leaves_nothing(run: Inside, relay: Relay, remote: Path, here: Path) -> None:
    (remote / "d").mkdir()
    (remote / "d/first").write_bytes(os.urandom(400_000))
    (remote / "d/second").write_bytes(os.urandom(400_000))
    (here / "old").write_text("old")
    relay.limit = 600_000
    assert "broke" in run.refused("download", remote / "d", here / "new")
    assert "broke" in run.refused("download", remote / "d", here)
    relay.limit = 300_000
    assert "broke" in run.refused("download", remote / "d/first", here / "old")
    assert (here / "old").read_text() == "old" and names(here) == ["old"]
    assert run.run("download", remote / "d/first", "-") == 1
    assert "broke" in run.err and 0 < len(run.out) < 400_000


def test_an_upload_that_breaks_off_is_an_error(run: Inside, relay: Relay, remote: Path, here: Path) -> None:
    (here / "f").write_bytes(bytes(1000))
    relay.limit = 0
    assert "broke" in run.refused("upload", here / "f", remote / "f")


def test_a_refusal_in_the_middle_says_why(run: Inside, remote: Path, here: Path) -> None:
    (remote / "file").touch()
    (here / "big").write_bytes(bytes(20_000_000))
    assert "not a directory" in run.refused("upload", here / "big", remote / "file/below")


def test_a_refusal_before_the_end_stops_the_upload(run: Inside, control: ControlPlane, here: Path) -> None:
    (here / "d").mkdir()
    with (here / "d/endless").open("wb") as file:
        file.truncate(1 << 40)
    for source in ("d", "d/endless"):
        gateway = Refusing(answer_of(507, {"code": "resource_exhausted", "message": "no space left"}))
        write_place(run.cli.config, control.path, gateway.address)
        assert "no space left" in run.refused("upload", here / source, "/code/x")
        gateway.stop()


def test_an_interrupted_download_cleans_up(box: Apart, remote: Path, here: Path) -> None:
    with (remote / "huge").open("wb") as file:
        file.truncate(20 << 30)
    process = box.start("download", ID, str(remote / "huge"), str(here / "huge"))
    eventually(lambda: any(here.glob(".docker-sandbox-*/huge")), "the download has begun")
    code, err = box.interrupt(process, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and "Traceback" not in err and names(here) == []


def test_nohup_is_respected(box: Apart, remote: Path) -> None:
    process = box.start(
        "upload",
        ID,
        "-",
        str(remote / "slow"),
        stdin=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdin is not None
    process.stdin.write(b"one ")
    process.stdin.flush()
    eventually((remote / "slow").exists, "the upload has begun")
    process.send_signal(signal.SIGHUP)
    process.communicate(b"two", timeout=DEADLINE_S)
    assert process.returncode == 0 and (remote / "slow").read_text() == "one two"


def test_a_huge_file_does_not_grow_the_process(box: Apart, remote: Path, here: Path) -> None:
    with (here / "huge").open("wb") as file:
        file.truncate(HUGE_BYTES)
        file.seek(HUGE_BYTES - 3)
        file.write(b"end")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (64 << 20, 64 << 20))

    (here / "d").mkdir()
    (here / "huge").rename(here / "d/huge")
    for words in (("upload", "d/huge", "huge"), ("upload", "d", "d")):
        done = box.run(words[0], ID, str(here / words[1]), str(remote / words[2]), preexec_fn=limited)
        assert done.returncode == 0, done.stderr
    for name in ("huge", "d/huge"):
        assert digest(remote / name) == digest(here / "d/huge")
    done = box.run("download", ID, str(remote / "d"), str(here / "back"), preexec_fn=limited)
    assert done.returncode == 0, done.stderr
    assert digest(here / "back/huge") == digest(here / "d/huge")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def archive(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), int(time.time())
            made.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [("report.pdf", b"x"), (".bashrc", b"evil")],
        [(".bashrc", b"evil")],
        [(".ssh/authorized_keys", b"evil")],
        [("report.pdf/inner", b"evil")],
        [],
    ],
)
def test_a_sandbox_cannot_choose_the_name_of_a_file(
    run: Inside, control: ControlPlane, here: Path, members: list[tuple[str, bytes]]
) -> None:
    """It was asked for one file, into a directory that holds other files of the caller's."""
    gateway = Scripted(answer_of(200, archive(*members)))
    write_place(run.cli.config, control.path, gateway.address)
    (here / ".ssh").mkdir()
    assert "refused: asked for the file 'report.pdf'" in run.refused("download", "/code/report.pdf", here)
    gateway.stop()
    assert names(here) == [".ssh"] and names(here / ".ssh") == []


def test_an_older_agent_sends_a_file_in_an_archive(run: Inside, control: ControlPlane, here: Path) -> None:
    gateway = Scripted(answer_of(200, archive(("report.pdf", b"content"))))
    write_place(run.cli.config, control.path, gateway.address)
    run.ok("download", "/code/report.pdf", here)
    gateway.stop()
    assert (here / "report.pdf").read_bytes() == b"content"


@pytest.mark.parametrize("source", ["/code/..", "/"])
def test_a_file_in_place_of_a_directory_has_no_name(
    run: Inside, control: ControlPlane, here: Path, source: str
) -> None:
    gateway = Scripted(b"HTTP/1.1 200 OK\r\nX-File-Mode: 644\r\nX-File-Mtime: 1\r\nContent-Length: 4\r\n\r\nevil")
    write_place(run.cli.config, control.path, gateway.address)
    run.refused("download", source, here / "new")
    gateway.stop()
    assert names(here) == []


def test_an_answer_that_is_no_json(run: Inside, control: ControlPlane, here: Path) -> None:
    gateway = Scripted(answer_of(200, b"<html>"))
    write_place(run.cli.config, control.path, gateway.address)
    (here / "f").touch()
    assert "no JSON: b'<html>'" in run.refused("upload", here / "f", "/code/f")
    gateway.stop()


@pytest.mark.parametrize(
    ("source", "name"),
    [("a", "a"), ("/x/a", "a"), ("a/", "a"), ("a/.", ""), (".", ""), ("..", ""), ("/", ""), ("a/..", ""), ("", "")],
)
def test_under_which_name_a_directory_lands(source: str, name: str) -> None:
    assert own_name(source) == name
