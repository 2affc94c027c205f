"""What a sandbox sends is not trusted: nothing lands, or leads, outside of the target."""

import io
import os
import tarfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from sandboxd.cli.exits import CliError
from sandboxd.cli.http1 import Response
from sandboxd.cli.progress import Progress
from sandboxd.cli.unpacking import MAX_HEAD_BYTES, Body, Room, is_file, put_in_place, store, unpack
from tests.unit.sandboxd.cli.doubles import response_of


def archive(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as made:
        for member in members:
            info, content = member if isinstance(member, tuple) else (member, b"")
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def file(name: str, content: bytes = b"content", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = mode, 1_500_000_000
    return info, content


def entry(name: str, kind: bytes, goal: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, goal, mode, 1_500_000_000
    return info


def link(name: str, goal: str) -> tarfile.TarInfo:
    return entry(name, tarfile.SYMTYPE, goal)


def hard(name: str, goal: str) -> tarfile.TarInfo:
    return entry(name, tarfile.LNKTYPE, goal)


def folder(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    return entry(name, tarfile.DIRTYPE, mode=mode)


def body(content: bytes) -> Body:
    return Body(response_of(content), Progress("downloaded"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "around" / "target"
    path.mkdir(parents=True)
    return path


def names(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


def test_a_directory_and_a_file_are_told_apart(target: Path) -> None:
    assert unpack(body(archive(folder("."), file("./a"))), str(target))
    assert not unpack(body(archive(file("b"))), str(target))
    assert names(target) == ["a", "b"]


def test_modes_and_times(target: Path) -> None:
    members = (folder("."), folder("./closed", 0o555), file("./closed/run", mode=0o4755), file("./blind", mode=0))
    unpack(body(archive(*members)), str(target))
    modes = {name: (target / name).stat().st_mode & 0o7777 for name in names(target)}
    assert modes == {"closed": 0o755, "closed/run": 0o755, "blind": 0o600}, "no set-user-id, and the owner can read"
    assert {(target / name).stat().st_mtime for name in names(target)} == {1_500_000_000}


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "./../x", "..", "a/../..", "//x"])
def test_a_name_that_leads_out_is_refused(target: Path, name: str) -> None:
    for member in (file(name), folder(name), link(name, "a"), hard(name, "a")):
        with pytest.raises(CliError, match="leads out of the target"):
            unpack(body(archive(file("a"), member)), str(target))
    with pytest.raises(CliError, match="leads out of the target"):
        unpack(body(archive(hard("b", name))), str(target))
    assert names(target.parent) == ["target", "target/a"]


@pytest.mark.parametrize("goal", ["/etc/passwd", "..", "../x", "a/../..", "d/../../target/../x", "/"])
def test_a_link_that_leads_out_is_left_out(target: Path, goal: str, capsys: pytest.CaptureFixture[str]) -> None:
    unpack(body(archive(folder("."), folder("./d"), file("./a"), link("./evil", goal))), str(target))
    assert names(target) == ["a", "d"]
    assert f"evil: left out, since this link leads out of what is copied, to {goal}" in capsys.readouterr().err


def test_links_that_stay_inside_are_kept_as_they_are(target: Path) -> None:
    goals = {"near": "a", "d/up": "../a", "d/dot": "..", "gone": "nowhere", "loop": "loop", "far": "d/../d/up"}
    unpack(
        body(archive(folder("."), file("./a"), *(link(f"./{name}", goal) for name, goal in goals.items()))), str(target)
    )
    assert {name: os.readlink(target / name) for name in goals} == goals
    assert (target / "far").read_text() == "content"


def test_links_that_lead_out_only_together_are_left_out(target: Path) -> None:
    """By its text `out` is at x/y; the kernel goes through x/y/b to the top, and one further."""
    (target.parent / "secret").write_text("secret")
    members = (folder("./x"), folder("./x/y"), link("./x/y/b", "../.."), link("./out", "x/y/b/../secret"))
    unpack(body(archive(folder("."), *members)), str(target))
    assert names(target) == ["x", "x/y", "x/y/b"]


def test_nothing_is_written_through_a_link(target: Path) -> None:
    outside = target.parent / "outside"
    outside.mkdir()
    members = (folder("."), link("./d", "../outside"), file("./d/evil"))
    with pytest.raises(OSError, match="d"):  # there is a real directory d by the time that links are made
        unpack(body(archive(*members)), str(target))
    assert names(outside) == []


def test_a_link_behind_a_link_is_refused(target: Path) -> None:
    """`a/b/c` leads to the top, so that what lies behind it is two levels higher than its name says."""
    members = (folder("."), link("./a/b/c", "../.."), link("./a/b/c/evil", "../../.."))
    with pytest.raises(CliError, match="lies behind a link"):
        unpack(body(archive(*members)), str(target))
    assert not any(path.is_symlink() and ".." in os.readlink(path) for path in target.iterdir())


def test_hard_links(target: Path) -> None:
    members = (folder("."), file("./a"), hard("./d/b", "./a"), link("./s", "a"), hard("./t", "./s"))
    unpack(body(archive(*members)), str(target))
    assert (target / "d/b").stat().st_ino == (target / "a").stat().st_ino
    assert os.readlink(target / "s") == os.readlink(target / "t") == "a"


def test_a_hard_link_to_nothing_is_a_damaged_archive(target: Path) -> None:
    with pytest.raises(CliError, match="damaged archive"):
        unpack(body(archive(hard("./b", "./nothing"))), str(target))


def test_a_name_that_comes_twice_does_not_change_what_it_was_linked_to(target: Path) -> None:
    unpack(body(archive(file("./a", b"1"), hard("./b", "./a"), file("./b", b"2"), hard("./b", "./b"))), str(target))
    assert (target / "a").read_bytes() == b"1" and (target / "b").read_bytes() == b"2"


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_are_left_out(target: Path, kind: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    unpack(body(archive(entry("./device", kind), file("./a"))), str(target))
    assert names(target) == ["a"] and "device: left out" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"no tar at all" * 100, archive(file("a", bytes(5000)))[:3000], b"x" * 100])
def test_a_damaged_archive_is_an_error(target: Path, content: bytes) -> None:
    with pytest.raises(CliError, match="damaged archive"):
        unpack(body(content), str(target))


def sparse(size: int) -> bytes:
    """As GNU's tar writes it in the format PAX: a file that is one hole."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as made:
        info = tarfile.TarInfo("./sparse")
        info.pax_headers = {"GNU.sparse.map": f"{size},0", "GNU.sparse.size": str(size), "GNU.sparse.numblocks": "1"}
        made.addfile(info)
    return stream.getvalue()


@pytest.mark.parametrize("content", [sparse(1 << 40), archive(entry("./sparse", tarfile.GNUTYPE_SPARSE))])
def test_holes_are_refused(target: Path, content: bytes) -> None:
    """Two kilobytes of an archive could become a tebibyte of zeros."""
    with pytest.raises(CliError, match=r"sparse.*a file with holes"):
        unpack(body(content), str(target))
    assert names(target) == []


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_head_without_an_end_is_not_kept_in_memory(target: Path, kind: bytes) -> None:
    info = entry("./x", kind)
    info.size = MAX_HEAD_BYTES + 1
    with pytest.raises(CliError, match=f"a head of {info.size} bytes"):
        unpack(body(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)), str(target))


def test_a_long_name_arrives(target: Path) -> None:
    name = "/".join(["x" * 200] * 5)
    unpack(body(archive(folder("."), file(f"./{name}"))), str(target))
    assert (target / name).read_text() == "content"


@pytest.mark.parametrize(
    ("blocks", "files", "fits"),
    [
        ((1000, 900), (1000, 900), True),
        ((1000, 50), (1000, 900), False),
        ((1000, 900), (1000, 49), False),
        ((1000, 900), (0, 0), True),
        ((10**6, 2000), (1000, 900), True),
        ((10**6, 1000), (1000, 900), False),
    ],
)
def test_a_disk_is_not_written_full(
    monkeypatch: pytest.MonkeyPatch, blocks: tuple[int, int], files: tuple[int, int], fits: bool
) -> None:
    """Of blocks of a mebibyte and of files: so many, and so many that are free. Of btrfs the files are not known."""
    disk = SimpleNamespace(
        f_frsize=1 << 20, f_blocks=blocks[0], f_bavail=blocks[1], f_files=files[0], f_favail=files[1]
    )
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    with nullcontext() if fits else pytest.raises(CliError, match="left free"):
        Room("/anywhere").take(1)


def test_what_follows_the_archive_is_read(target: Path) -> None:
    """The padding belongs to the stream; only its end shows that nothing broke."""
    response: Response = response_of(archive(file("./a")) + bytes(1 << 20))
    unpack(Body(response, Progress("downloaded")), str(target))
    assert response.read(1) == b""


@pytest.mark.parametrize(
    "head",
    [
        {"x-file-mode": "rwx", "x-file-mtime": "1"},
        {"x-file-mode": "644", "x-file-mtime": "9" * 30},
        {"x-file-mode": "644"},
    ],
)
def test_a_file_with_a_damaged_head_is_an_error(target: Path, head: dict[str, str]) -> None:
    made = body(b"content")
    made.headers = head
    assert is_file(made)
    with pytest.raises(CliError, match="damaged head"):
        store(made, str(target / "file"))


def test_a_file_gets_no_rights_that_only_a_sandbox_should_have(target: Path) -> None:
    made = body(b"content")
    made.headers = {"x-file-mode": "6755", "x-file-mtime": "1500000000"}
    store(made, str(target / "file"))
    found = (target / "file").stat()
    assert (found.st_mode & 0o7777, found.st_mtime, (target / "file").read_text()) == (0o755, 1_500_000_000, "content")


def test_put_in_place_replaces_links_and_does_not_follow_them(tmp_path: Path) -> None:
    work, final, other = (tmp_path / name for name in ("work", "final", "other"))
    for directory in (work, final, other):
        directory.mkdir()
    (other / "precious").write_text("precious")
    (final / "a").symlink_to(other / "precious")
    (work / "a").write_text("new")
    put_in_place(str(work), str(final))
    assert (final / "a").read_text() == "new" and (other / "precious").read_text() == "precious"
    (work / "d").mkdir()
    (final / "d").symlink_to(other)
    with pytest.raises(CliError, match="is no directory"):
        put_in_place(str(work), str(final))
    assert names(other) == ["precious"]
