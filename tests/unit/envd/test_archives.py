"""Directories as tar streams, as a client meets them."""

import gzip
import io
import os
import stat
import tarfile
from pathlib import Path

import httpx
import pytest

from tests.unit.envd.client import DEADLINE_S, Client, Running, eventually

TAR = "application/x-tar"


def post(client: Client, path: str, content: bytes, username: str = "", **headers: str) -> httpx.Response:
    query = {"path": path, **({"username": username} if username else {})}
    return client.http.post("/files", params=query, content=content, headers={"Content-Type": TAR, **headers})


def archive(*members: tuple[str, int, bytes | str]) -> bytes:
    """A tar of files (bytes) and links (str), with these modes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode, content in members:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime, info.uid, info.gid = mode, 1_700_000_000, 12345, 12345
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_a_tar_becomes_a_tree_of_the_user(client: Client, tmp_path: Path) -> None:
    target = tmp_path / "new/dir"
    content = archive(("./bin/run", 0o755, b"#!"), ("./a", 0o600, b"x" * 100_000), ("./link", 0o777, "bin/run"))
    response = post(client, str(target), content)
    assert (response.status_code, response.json()) == (200, {"path": str(target)})
    assert stat.S_IMODE((target / "bin/run").stat().st_mode) == 0o755
    assert (target / "a").read_bytes() == b"x" * 100_000
    assert (target / "a").stat().st_mtime == 1_700_000_000 and (target / "a").stat().st_uid == os.geteuid()
    assert os.readlink(target / "link") == "bin/run"
    packed = post(client, str(tmp_path / "packed"), gzip.compress(content), **{"Content-Encoding": "gzip"})
    assert packed.status_code == 200 and (tmp_path / "packed/a").stat().st_size == 100_000


def test_directories_that_exist_keep_their_mode(client: Client, tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in (".", "./made"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            tar.addfile(info)
    assert post(client, str(tmp_path), buffer.getvalue()).status_code == 200
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700


WHOLE = archive(("a", 0o644, b"x" * 5000))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "tar"),
        (b"hello", "does not look like a tar archive"),
        (WHOLE[:2000], "Unexpected EOF in archive"),
        (WHOLE[: 512 + 5120], "truncated"),
        (gzip.compress(WHOLE, mtime=0), "Archive is compressed"),
    ],
)
def test_broken_and_truncated_archives_are_refused(client: Client, tmp_path: Path, content: bytes, words: str) -> None:
    response = post(client, f"{tmp_path}/x", content)
    assert response.status_code == response.json()["code"] == 400
    assert words in response.json()["message"]


def test_names_cannot_lead_out(client: Client, tmp_path: Path) -> None:
    target = tmp_path / "in"
    assert post(client, str(target), archive(("../out", 0o644, b"x"))).status_code == 400
    link = archive(("link", 0o777, str(tmp_path)), ("link/out", 0o644, b"x"))
    post(client, str(target), link)
    assert not (tmp_path / "out").exists()


def test_what_another_user_may_not_write(client: Client, open_directory: Path) -> None:
    """Root works as the other; an agent that is not root refuses."""
    (open_directory / "closed").mkdir(mode=0o755)
    response = post(client, f"{open_directory}/closed", WHOLE, username="nobody")
    assert response.status_code == 403 and os.listdir(open_directory / "closed") == []
    response = post(client, f"{open_directory}/made", WHOLE, username="nobody")
    if os.geteuid() == 0:
        assert response.status_code == 200 and (open_directory / "made/a").stat().st_uid == 65534
    else:
        assert response.status_code == 403


def test_a_missing_path_and_a_file_in_the_way(client: Client, tmp_path: Path) -> None:
    assert post(client, "", WHOLE).status_code == 400
    (tmp_path / "file").touch()
    assert post(client, f"{tmp_path}/file", WHOLE).status_code == 400


def get(client: Client, path: str, username: str = "") -> httpx.Response:
    return client.download(path, username, Accept=TAR)


def test_a_directory_becomes_a_tar(client: Client, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/run").write_bytes(content := os.urandom(300_000))
    (tmp_path / "d/run").chmod(0o750)
    (tmp_path / "link").symlink_to("d")
    os.utime(tmp_path / "d/run", (0, 1_700_000_000))
    response = get(client, str(tmp_path))
    assert response.status_code == 200 and response.headers["content-type"] == TAR
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        assert sorted(tar.getnames()) == [".", "./d", "./d/run", "./link"]
        run = tar.getmember("./d/run")
        assert (run.mode, run.mtime) == (0o750, 1_700_000_000)
        unpacked = tar.extractfile(run)
        assert unpacked is not None and unpacked.read() == content
        assert tar.getmember("./link").linkname == "d"
    head = client.http.head("/files", params={"path": str(tmp_path)}, headers={"Accept": TAR})
    assert head.status_code == 200 and head.content == b""


def test_a_file_becomes_one_entry(client: Client, tmp_path: Path) -> None:
    (tmp_path / "-a").write_text("x")
    (tmp_path / "link").symlink_to("-a")
    for name in ("-a", "link"):
        with tarfile.open(fileobj=io.BytesIO(get(client, f"{tmp_path}/{name}").content)) as tar:
            assert tar.getnames() == [name] and tar.getmembers()[0].isreg()


def test_a_client_that_takes_both_gets_directories_as_a_tar_and_files_as_they_are(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/run").write_text("content")
    (tmp_path / "d/run").chmod(0o750)
    os.utime(tmp_path / "d/run", (0, 1_700_000_000))
    (tmp_path / "link").symlink_to("d/run")
    (tmp_path / "way").symlink_to("d")
    both = f"application/octet-stream, {TAR}"
    for name in ("d/run", "link"):
        found = client.download(f"{tmp_path}/{name}", Accept=both)
        assert found.content == b"content"
        assert (found.headers["x-file-mode"], found.headers["x-file-mtime"]) == ("750", "1700000000")
    for name in ("d", "way"):
        found = client.download(f"{tmp_path}/{name}", Accept=both)
        assert found.headers["content-type"] == TAR and "x-file-mode" not in found.headers
        with tarfile.open(fileobj=io.BytesIO(found.content)) as tar:
            assert sorted(tar.getnames()) == [".", "./run"]
    assert client.download(f"{tmp_path}/none", Accept=both).status_code == 404


def test_what_is_not_there_or_closed(client: Client, open_directory: Path) -> None:
    """Root reads as the other; an agent that is not root refuses."""
    missing = get(client, f"{open_directory}/none")
    assert (missing.status_code, missing.json()["code"]) == (404, 404)
    assert get(client, "/dev/zero").status_code == 400
    (open_directory / "d").mkdir()
    (open_directory / "d/secret").touch(mode=0o600)
    assert get(client, f"{open_directory}/d", username="nobody").status_code == 403


def test_nothing_is_left_when_the_client_leaves(client: Client, agent: Running, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(50_000_000))
    get(client, "/etc/passwd")
    before = agent.open_fds()
    with httpx.stream(
        "GET",
        f"{client.http.base_url}/files",
        params={"path": str(tmp_path)},
        headers={**client.http.headers, "Accept": TAR},
        timeout=DEADLINE_S,
    ) as response:
        next(response.iter_raw())
    eventually(lambda: agent.open_fds() <= before, "pipes are closed")
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
    eventually(lambda: not children.read_text().split(), "tar is gone")
    (tmp_path / "big").unlink()
