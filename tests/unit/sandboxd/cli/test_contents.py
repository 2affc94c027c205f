"""`files read`, `files write` and `files edit`, against the real agent."""

import hashlib
import json
import os
import resource
import socket
from pathlib import Path

import pytest

from sandboxd.cli import contents
from sandboxd.cli.verbs import every_name, find
from tests.unit.sandboxd.cli.doubles import ID, Apart, ControlPlane, Inside, Relay, Server, answer_of, write_place

EVERY_BYTE = bytes(range(256))
HUGE_BYTES = 100_000_000


@pytest.fixture
def run(box: Apart, capfdbinary: pytest.CaptureFixture[bytes]) -> Inside:
    return Inside(box, capfdbinary)


@pytest.fixture
def file(remote: Path) -> Path:
    made = remote / "file"
    made.write_text("one two\none three\n")
    return made


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_read_is_byte_by_byte(run: Inside, remote: Path) -> None:
    for content in (EVERY_BYTE * 3000, b"", b"no end of line"):
        (remote / "f").write_bytes(content)
        run.ok("files read", remote / "f")
        assert run.out == content


def test_read_refuses(run: Inside, remote: Path) -> None:
    assert f"{remote}/none: nothing is there" in run.refused("files read", remote / "none")
    assert f"'{remote}' is a directory" in run.refused("files read", remote)
    assert "getent passwd" in run.refused("files read", remote, "--user", "nobody-has-this")


def test_read_says_that_it_broke_off(run: Inside, relay: Relay, remote: Path) -> None:
    (remote / "f").write_bytes(bytes(400_000))
    relay.limit = 300_000
    assert run.run("files read", remote / "f") == 1
    assert "broke" in run.err and 0 < len(run.out) < 400_000


def test_write_from_standard_input(box: Apart, remote: Path) -> None:
    content = EVERY_BYTE * 5000
    assert box.out("files", "write", ID, f"{remote}/made/up/f", stdin=content) == ""
    assert (remote / "made/up/f").read_bytes() == content
    assert json.loads(box.out("files", "write", ID, f"{remote}/made/up/f", "--json")) == {"path": f"{remote}/made/up/f"}
    assert (remote / "made/up/f").read_bytes() == b""


@pytest.mark.parametrize("text", ["", "hello\n", "-x", "--json", "ü\n\n", os.fsdecode(b"\xff")])
def test_write_a_text(run: Inside, remote: Path, text: str) -> None:
    run.ok("files write", remote / "f", "--content", text)
    assert (remote / "f").read_bytes() == os.fsencode(text) and run.out == b""


def test_write_keeps_the_mode_of_a_file(run: Inside, file: Path) -> None:
    file.chmod(0o751)
    run.ok("files write", file, "--content", "new")
    assert file.read_text() == "new" and mode(file) == 0o751


def test_write_refuses(run: Inside, remote: Path, file: Path) -> None:
    assert "is a directory" in run.refused("files write", remote, "--content", "x")
    assert "Add the name of the file" in run.refused("files write", f"{remote}/new/", "--content", "x")
    assert "Not a directory" in run.refused("files write", file / "below", "--content", "x")
    assert [entry.name for entry in remote.iterdir()] == ["file"] and file.read_text() == "one two\none three\n"


def test_a_huge_file_does_not_grow_the_process(box: Apart, remote: Path, here: Path) -> None:
    with (remote / "huge").open("wb") as file:
        file.truncate(HUGE_BYTES)
        file.seek(HUGE_BYTES - 3)
        file.write(b"end")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (64 << 20, 64 << 20))

    with (here / "copy").open("wb") as copy:
        done = box.run("files", "read", ID, f"{remote}/huge", stdout=copy, preexec_fn=limited)
    assert done.returncode == 0, done.stderr
    with (here / "copy").open("rb") as source:
        done = box.run("files", "write", ID, f"{remote}/back", stdin=source, preexec_fn=limited)
    assert done.returncode == 0, done.stderr
    assert digest(remote / "back") == digest(remote / "huge")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_edit_a_text_that_is_there_once(run: Inside, file: Path) -> None:
    file.chmod(0o700)
    run.ok("files edit", file, "--old", "two\none", "--new", "2, 1")
    assert file.read_text() == "one 2, 1 three\n" and run.out == b"replaced 1\n" and mode(file) == 0o700
    run.ok("files edit", file, "--old", " three\n", "--new", "", "--json")
    assert file.read_text() == "one 2, 1" and json.loads(run.out) == {"replaced": 1}


def test_edit_is_exact(run: Inside, file: Path) -> None:
    """Bytes that are no text, line ends of another system and flags as texts are all the same to it."""
    file.write_bytes(b"\xff-v\r\n.*\r\n\xfe")
    run.ok("files edit", file, "--old", "-v\r\n.", "--new", "--all")
    assert file.read_bytes() == b"\xff--all*\r\n\xfe"
    run.ok("files edit", file, "--old", os.fsdecode(b"\xfe"), "--new", os.fsdecode(b"\xfd"))
    assert file.read_bytes() == b"\xff--all*\r\n\xfd"


def test_edit_follows_a_link(run: Inside, file: Path, remote: Path) -> None:
    (remote / "link").symlink_to("file")
    run.ok("files edit", remote / "link", "--old", "two", "--new", "2")
    assert (remote / "link").is_symlink() and file.read_text() == "one 2\none three\n"


def test_edit_all(run: Inside, file: Path) -> None:
    assert "in it 2 times" in run.refused("files edit", file, "--old", "one", "--new", "1")
    assert file.read_text() == "one two\none three\n"
    run.ok("files edit", file, "--old", "one", "--new", "1", "--all")
    assert file.read_text() == "1 two\n1 three\n" and run.out == b"replaced 2\n"


def test_edit_refuses(run: Inside, file: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = run.refused("files edit", file, "--old", "four", "--new", "4", "--all")
    assert f"{file}: the text of --old is not in it" in message and f"files read {ID} {file}" in message
    assert "nothing is there" in run.refused("files edit", remote / "none", "--old", "a", "--new", "b")
    assert "is a directory" in run.refused("files edit", remote, "--old", "a", "--new", "b")
    for old, new, said in (("", "x", "--old is empty"), ("one", "one", "are the same")):
        assert run.run("files edit", file, "--old", old, "--new", new) == 2
        assert said in run.err and run.out == b""
    monkeypatch.setattr(contents, "EDIT_MAX_BYTES", 5)
    assert f"{file}: is larger than 5 B" in run.refused("files edit", file, "--old", "two", "--new", "2")
    assert file.read_text() == "one two\none three\n"


class Full(Server):
    """An agent with one file, on a disk that is full `times` times: what does not fit is cut off."""

    def __init__(self, times: int, status: int = 507) -> None:
        self.content, self.times, self.status = b"old", times, status
        super().__init__(socket.create_server(("127.0.0.1", 0)))
        self.address: tuple[str, int] = self._listening.getsockname()

    def talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            method = stream.readline().split(b" ")[0]
            while stream.readline().strip():
                pass
            if method == b"GET":
                connection.sendall(answer_of(200, self.content))
                return
            self.content = b""
            while size := int(stream.readline(), 16):
                self.content += stream.read(size + 2)[:-2]
        self.times -= 1
        if self.times < 0:
            connection.sendall(answer_of(200, [{"path": "/f", "name": "f", "type": "file"}]))
        else:
            self.content = b""
            connection.sendall(answer_of(self.status, {"code": self.status, "message": "no space left"}))


def test_what_cannot_be_written_is_put_back(run: Inside, control: ControlPlane) -> None:
    agent = Full(1)
    write_place(run.cli.config, control.path, agent.address)
    message = run.refused("files edit", "/f", "--old", "old", "--new", "much longer")
    agent.stop()
    assert agent.content == b"old" and "/f: no space left" in message and "damaged" not in message


def test_what_cannot_be_put_back_is_said(run: Inside, control: ControlPlane) -> None:
    agent = Full(2)
    write_place(run.cli.config, control.path, agent.address)
    message = run.refused("files edit", "/f", "--old", "old", "--new", "much longer")
    agent.stop()
    assert message.endswith(
        "/f: no space left; what was there could not be put back: no space left. The file is damaged.\n"
    )


def test_what_was_not_touched_is_not_put_back(run: Inside, control: ControlPlane) -> None:
    agent = Full(1, status=403)
    write_place(run.cli.config, control.path, agent.address)
    assert "--user root" in run.refused("files edit", "/f", "--old", "old", "--new", "new")
    agent.stop()
    assert agent.times == 0, "asked once"


def test_every_verb_of_the_module_has_its_action() -> None:
    assert set(contents.ACTIONS) == {name for name in every_name() if find(name).module == "contents"}
