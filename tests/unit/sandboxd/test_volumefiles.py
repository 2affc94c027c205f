"""Files of a volume that somebody else writes at the same time: what is found, and that nothing leads out of it."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sandboxd
from sandboxd import volumefiles
from sandboxd.volumefiles import Refused
from sandboxd.volumehelper import LENGTH

SECRET = "not of this volume"
UID, GID = os.getuid(), os.getgid()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text(SECRET)
    made = tmp_path / "volume"
    made.mkdir()
    return made


@pytest.fixture
def root(volume: Path) -> Iterator[int]:
    fd = os.open(volume, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def write(root: int, path: str, content: bytes = b"x", force: bool = False) -> dict[str, Any]:
    return volumefiles.write(root, path, iter([content]), UID, GID, 0o644, force)


def read(root: int, path: str) -> bytes:
    fd, size = volumefiles.reading(root, path)
    with os.fdopen(fd, "rb") as file:
        return file.read(size)


def refused(status: int, call: Callable[..., object], *arguments: Any) -> str:
    with pytest.raises(Refused) as error:
        call(*arguments)
    assert error.value.status == status, error.value
    return str(error.value)


def make(root: int, path: str, force: bool = False) -> dict[str, Any]:
    return volumefiles.make_directory(root, path, UID, GID, 0o750, force)


def test_what_is_written_can_be_read_and_looked_at(root: int, volume: Path) -> None:
    made = write(root, "/a.txt", b"text")
    assert made == volumefiles.look(root, "a.txt") and read(root, "/a.txt") == b"text"
    assert (made["name"], made["type"], made["path"], made["size"]) == ("a.txt", "file", "/a.txt", 4)
    assert (made["mode"], made["uid"], made["gid"]) == (0o644, UID, GID) and made["mtime"].endswith("Z")
    top = volumefiles.look(root, "/")
    assert (top["name"], top["path"], top["type"]) == ("/", "/", "directory")


def test_a_file_is_replaced_by_force_alone_and_in_one_step(root: int, volume: Path) -> None:
    write(root, "/a", b"old")
    assert "already" in refused(409, write, root, "/a", b"new")
    before = (volume / "a").open()
    write(root, "/a", b"new", True)
    assert read(root, "/a") == b"new" and before.read() == "old"
    make(root, "/d")
    refused(409, write, root, "/d", b"x", True)
    refused(404, write, root, "/no/a", b"x", True)
    assert sorted(os.listdir(volume)) == ["a", "d"]


def test_directories(root: int, volume: Path) -> None:
    refused(404, make, root, "/a/b/c")
    assert make(root, "/a/b/c", True)["mode"] == 0o750 and (volume / "a/b/c").is_dir()
    assert make(root, "/a/b/c", True)["type"] == "directory"
    refused(409, make, root, "/a")
    refused(409, make, root, "/")
    write(root, "/a/f")
    refused(409, make, root, "/a/f", True)
    shown = [one["path"] for one in volumefiles.listing(root, "/", 1)]
    assert shown == ["/a"]
    assert sorted(one["path"] for one in volumefiles.listing(root, "/a", 2)) == ["/a/b", "/a/b/c", "/a/f"]
    assert len(volumefiles.listing(root, "/", 99)) == 4
    refused(404, volumefiles.listing, root, "/none", 1)
    refused(404, volumefiles.listing, root, "/a/f", 1)


def test_removal(root: int, volume: Path) -> None:
    make(root, "/a/b", True)
    write(root, "/a/b/c")
    (volume / "a/out").symlink_to("../../outside")
    volumefiles.remove(root, "/a")
    assert os.listdir(volume) == [] and (volume.parent / "outside/secret").exists()
    refused(404, volumefiles.remove, root, "/a")
    assert "root" in refused(400, volumefiles.remove, root, "/")
    (volume / "link").symlink_to("../outside")
    volumefiles.remove(root, "/link")
    assert (volume.parent / "outside/secret").exists()


def test_metadata(root: int) -> None:
    write(root, "/a")
    assert volumefiles.change(root, "/a", None, None, 0o600)["mode"] == 0o600
    assert volumefiles.change(root, "/a", UID, GID, None)["uid"] == UID
    refused(404, volumefiles.change, root, "/none", None, None, 0o600)


LINKS = {
    "absolute": "/etc/passwd",
    "relative": "../outside/secret",
    "directory": "../outside",
    "proc": "/proc/self/root",
    "loop": "loop",
}


@pytest.mark.parametrize("kind", LINKS)
def test_no_link_is_followed(root: int, volume: Path, kind: str) -> None:
    (volume / kind).symlink_to(LINKS[kind])
    seen = volumefiles.look(root, f"/{kind}")
    assert (seen["type"], seen["target"]) == ("symlink", LINKS[kind])
    refused(404, read, root, f"/{kind}")
    for path in (f"/{kind}/secret", f"/{kind}/x/y"):
        refused(404, read, root, path)
        refused(404, volumefiles.look, root, path)
        refused(404, write, root, path)
        refused(404, make, root, path)
        refused(404, volumefiles.remove, root, path)
    assert [one | {"atime": ""} for one in volumefiles.listing(root, "/", 9)] == [seen | {"atime": ""}]
    refused(404, volumefiles.listing, root, f"/{kind}", 1)
    refused(400, volumefiles.change, root, f"/{kind}", None, None, 0o777)
    refused(409, make, root, f"/{kind}", True)
    refused(409, write, root, f"/{kind}", b"x")
    write(root, f"/{kind}", b"a file now", True)
    assert read(root, f"/{kind}") == b"a file now"
    assert (volume.parent / "outside/secret").read_text() == SECRET
    assert os.listdir(volume.parent / "outside") == ["secret"]


@pytest.mark.parametrize("path", ["/../outside/secret", "../outside/secret", "/a/../../outside/secret", "//../outside"])
def test_dots_stay_within(root: int, volume: Path, path: str) -> None:
    refused(404, read, root, path)
    refused(404, volumefiles.remove, root, path)


@pytest.mark.parametrize("path", ["/a\0b", "/" + "x" * 300, "/" + "x/" * 3000])
def test_odd_paths(root: int, path: str) -> None:
    with pytest.raises(Refused) as error:
        volumefiles.look(root, path)
    assert error.value.status in (400, 404)


def test_a_directory_that_is_exchanged_with_a_link_all_the_time(root: int, volume: Path) -> None:
    """Whatever moment is hit: what is read, written and removed is the volume's."""
    outside = volume.parent / "outside"
    (volume / "real").mkdir()
    (volume / "real/secret").write_text("ours")
    (volume / "link").symlink_to(outside)
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            for source, target in (("real", "kept"), ("link", "real"), ("real", "link"), ("kept", "real")):
                os.rename(volume / source, volume / target)

    thread = threading.Thread(target=exchange)
    thread.start()
    hits = misses = 0
    deadline = time.monotonic() + 60
    try:
        while min(hits, misses) < 20:
            assert thread.is_alive() and time.monotonic() < deadline, (hits, misses)
            try:
                assert read(root, "/real/secret") == b"ours"
                hits += 1
            except Refused:
                misses += 1
            for call in (
                lambda: write(root, "/real/new", b"x", True),
                lambda: make(root, "/real/dir"),
                lambda: volumefiles.listing(root, "/real", 3),
                lambda: volumefiles.remove(root, "/real/new"),
                lambda: volumefiles.change(root, "/real/secret", None, None, 0o600),
            ):
                try:
                    found = call()
                except Refused:
                    continue
                assert SECRET not in str(found)
    finally:
        stop.set()
        thread.join()
    assert os.listdir(outside) == ["secret"] and (outside / "secret").stat().st_mode & 0o777 != 0o600
    assert (outside / "secret").read_text() == SECRET


def test_what_is_no_file_is_not_waited_for(root: int, volume: Path) -> None:
    os.mkfifo(volume / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        fd = os.open(volume, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{fd}/socket")
        os.close(fd)
    for name in ("fifo", "socket"):
        assert volumefiles.look(root, name)["type"] == "unknown"
        assert "no file" in refused(404, read, root, name)
    make(root, "/dir")
    assert "directory" in refused(404, read, root, "/dir")
    write(root, "/fifo", b"a file now", True)
    assert read(root, "/fifo") == b"a file now"


def test_a_directory_with_very_many_entries(root: int, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumefiles, "MOST_ENTRIES", 50)
    for number in range(51):
        (volume / f"{number}").touch()
    assert "more entries" in refused(400, volumefiles.listing, root, "/", 1)
    (volume / "0").unlink()
    assert len(volumefiles.listing(root, "/", 1)) == 50
    monkeypatch.setattr(volumefiles, "MOST_TEXT", 40)
    assert "more entries" in refused(400, volumefiles.listing, root, "/", 1)


def test_directories_that_are_nested_without_end(root: int, volume: Path) -> None:
    fd = os.open(volume, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert len(volumefiles.listing(root, "/", 10_000)) == volumefiles.MOST_DEPTH
    try:
        volumefiles.remove(root, "/d")
    except Refused as error:
        assert error.status == 400 and "nested too deeply" in str(error)
        subprocess.run(["rm", "-rf", str(volume / "d")], check=True)  # else pytest cannot remove it


def test_names_and_times_that_are_none(root: int, volume: Path) -> None:
    with open(os.fsencode(volume) + b"/\xff\n", "wb"):
        pass
    os.utime(os.fsencode(volume) + b"/\xff\n", (-(2**33), 2**33 * 100))
    (one,) = volumefiles.listing(root, "/", 1)
    assert one["name"] == "�\n" and json.loads(json.dumps(one)) == one


def test_an_upload_that_breaks_off_leaves_nothing(root: int, volume: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise Refused(400, "broken off")

    with pytest.raises(Refused):
        volumefiles.write(root, "/a", pieces(), UID, GID, 0o644, True)
    assert os.listdir(volume) == []


def helped(volume: Path, base_uid: int, request: dict[str, Any], content: bytes = b"") -> Any:
    """What the helper process says; None when it says nothing. Then what follows, as bytes."""
    done = subprocess.run(
        [sys.executable, "-E", "-S", "-m", "sandboxd.volumehelper", str(volume), str(base_uid)],
        cwd=Path(sandboxd.__file__).parents[1],
        input=json.dumps(request).encode() + b"\n" + content,
        capture_output=True,
        check=False,
    )
    line, _, rest = done.stdout.partition(b"\n")
    return (json.loads(line) if line else None), rest, done.stderr.decode()


OWN = {"uid": UID, "gid": GID, "mode": 0o644, "force": False}


def test_the_helper(volume: Path) -> None:
    content = LENGTH.pack(3) + b"abc" + LENGTH.pack(2) + b"de" + LENGTH.pack(0)
    said, _, _ = helped(volume, -1, {"do": "write", "path": "/a", "values": OWN}, content)
    assert said["found"]["size"] == 5
    assert helped(volume, -1, {"do": "read", "path": "/a"})[:2] == ({"found": 5}, b"abcde")
    assert helped(volume, -1, {"do": "look", "path": "/none"})[0]["status"] == 404
    assert helped(volume, -1, {"do": "dance", "path": "/"})[0]["status"] == 400
    for broken in (b"", LENGTH.pack(3) + b"a", LENGTH.pack(3) + b"abc", struct.pack(">I", 2**32 - 2)):
        said, _, _ = helped(volume, -1, {"do": "write", "path": "/b", "values": OWN}, broken)
        assert (said["status"], os.listdir(volume)) == (400, ["a"])


def test_the_helper_confines_itself_or_does_nothing(volume: Path) -> None:
    """With root it is nobody but the sandboxes' root, in the volume alone; without root it refuses to work."""
    base_uid = 1_000_000
    volume.chmod(0o755)
    said, _, err = helped(volume, base_uid, {"do": "make", "path": "/a", "values": OWN})
    if said is None:
        assert "Error" in err and os.listdir(volume) == []
        return
    assert said["status"] == 403 and os.listdir(volume) == [], "the directory is not of that range of uids"
    os.chown(volume, base_uid + 1000, base_uid + 1000)
    values = {"uid": 7, "gid": 8, "mode": 0o700, "force": False}
    made = helped(volume, base_uid, {"do": "make", "path": "/a", "values": values})[0]["found"]
    assert (made["uid"], made["gid"], made["mode"]) == (7, 8, 0o700)
    assert ((volume / "a").stat().st_uid, (volume / "a").stat().st_gid) == (base_uid + 7, base_uid + 8)
    (volume / "foreign").write_text(SECRET)
    (volume / "foreign").chmod(0o600)
    assert helped(volume, base_uid, {"do": "read", "path": "/foreign"})[0]["status"] == 403, "a file of root outside"
