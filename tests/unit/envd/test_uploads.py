"""POST /files as a client meets it."""

import gzip
import os
import stat
from pathlib import Path

import pytest

from tests.unit.envd.client import Client, Running

OCTETS = "application/octet-stream"


def test_bytes_become_a_file_with_its_parents(client: Client, tmp_path: Path) -> None:
    target = tmp_path / "new/dir/a.bin"
    response = client.upload(str(target), b"\0\xff")
    assert response.json() == [{"path": str(target), "name": "a.bin", "type": "file"}]
    assert target.read_bytes() == b"\0\xff" and stat.S_IMODE(target.stat().st_mode) == 0o644
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o755
    target.chmod(0o700)
    client.upload(str(target), b"")
    assert target.read_bytes() == b"" and stat.S_IMODE(target.stat().st_mode) == 0o700


def test_links_are_written_through(client: Client, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    client.upload(f"{tmp_path}/link", b"x")
    assert (tmp_path / "target").read_text() == "x" and (tmp_path / "link").is_symlink()


def test_a_stream_without_a_length_and_gzip(client: Client, tmp_path: Path) -> None:
    headers = {"Content-Type": OCTETS, "Content-Encoding": "gzip"}
    packed = gzip.compress(bytes(5_000_000))
    pieces = (packed[at : at + 1000] for at in range(0, len(packed), 1000))
    response = client.http.post("/files", params={"path": f"{tmp_path}/a"}, content=pieces, headers=headers)
    assert response.status_code == 200 and (tmp_path / "a").read_bytes() == bytes(5_000_000)
    response = client.upload(f"{tmp_path}/a", b"plain", **{"Content-Encoding": "br"})
    assert (response.status_code, response.json()["code"]) == (415, 415)


def test_a_form_may_be_packed_as_a_whole(client: Client, tmp_path: Path) -> None:
    form = f'--B\r\nContent-Disposition: form-data; name="file"; filename="{tmp_path}/a"\r\n\r\nx\r\n--B--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=B", "Content-Encoding": "gzip"}
    response = client.http.post("/files", content=gzip.compress(form.encode()), headers=headers)
    assert response.status_code == 200 and (tmp_path / "a").read_text() == "x"


def test_a_form_with_several_files(client: Client, tmp_path: Path, workdir: Path) -> None:
    files = [
        ("file", (f"{tmp_path}/ü a.txt", b"one")),
        ("other", ("ignored", b"x")),
        ("file", ("relative.txt", b"")),
    ]
    response = client.http.post("/files", files=files)
    assert [item["path"] for item in response.json()] == [f"{tmp_path}/ü a.txt", f"{workdir}/relative.txt"]
    assert (tmp_path / "ü a.txt").read_bytes() == b"one" and (workdir / "relative.txt").read_bytes() == b""
    response = client.http.post("/files", files={"file": (rf"{tmp_path}/back\slash", b"")})
    assert response.json()[0]["path"] == rf"{tmp_path}/back\slash"
    response = client.http.post("/files", params={"path": f"{tmp_path}/b"}, files={"file": ("/elsewhere", b"two")})
    assert response.json()[0]["path"] == f"{tmp_path}/b" and (tmp_path / "b").read_bytes() == b"two"
    response = client.http.post("/files", files=[("file", (f"{tmp_path}/c", b"1")), ("file", (f"{tmp_path}/c", b"2"))])
    assert response.status_code == 400 and "two files to the same path" in response.json()["message"]


@pytest.mark.parametrize(
    ("path", "content_type", "content", "status", "words"),
    [
        ("", OCTETS, b"", 400, "'path' is missing"),
        ("/", OCTETS, b"", 400, "is a directory"),
        ("/etc/passwd/x", OCTETS, b"", 400, "Not a directory"),
        ("x", "text/plain", b"", 400, "unsupported content type 'text/plain'"),
        ("x", "multipart/form-data", b"", 400, "has no boundary"),
        ("x", "multipart/form-data; boundary=B", b"--B\r\n", 400, "ends before its closing boundary"),
    ],
)
def test_what_is_refused(client: Client, path: str, content_type: str, content: bytes, status: int, words: str) -> None:
    response = client.http.post(
        "/files", params={"path": path}, content=content, headers={"Content-Type": content_type}
    )
    assert response.status_code == response.json()["code"] == status
    assert words in response.json()["message"]


def test_a_fifo_does_not_hang(client: Client, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert client.upload(f"{tmp_path}/fifo", b"x").status_code == 400


def test_no_space(client: Client) -> None:
    response = client.upload("/dev/full", b"x")
    assert (response.status_code, response.json()) == (507, {"code": 507, "message": "not enough disk space available"})


def test_the_file_is_the_users(client: Client, open_directory: Path) -> None:
    """Root writes as the other; an agent that is not root refuses."""
    response = client.upload(f"{open_directory}/d/a", b"x", username="nobody")
    if os.geteuid() == 0:
        assert response.status_code == 200
        assert {(open_directory / path).stat().st_uid for path in ("d", "d/a")} == {65534}
    else:
        assert response.status_code == 403
    (open_directory / "mine").write_text("mine")
    (open_directory / "mine").chmod(0o644)
    assert client.upload(f"{open_directory}/mine", b"x", username="nobody").status_code == 403
    assert (open_directory / "mine").read_text() == "mine"
    assert client.upload(f"{open_directory}/a", b"x", username="no-such-user").status_code == 401


def test_metadata(client: Client, tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.touch()
    try:
        os.setxattr(target, "user.e2b.old", b"1")
        supported = True
    except OSError:
        supported = False  # then they are left out without a word
    headers = {b"Content-Type": OCTETS.encode(), b"X-Metadata-Kind": "ü".encode()}
    response = client.http.post("/files", params={"path": str(target)}, content=b"x", headers=headers)
    assert response.json()[0].get("metadata", {}) == ({"kind": "ü"} if supported else {})
    assert "metadata" not in client.upload(str(target), b"x").json()[0]


def test_a_large_upload_fills_no_memory(client: Client, agent: Running, tmp_path: Path) -> None:
    client.upload(f"{tmp_path}/big", bytes(1_000_000))
    before_kb = agent.memory_kb()
    block = bytes(1_000_000)
    headers = {"Content-Type": OCTETS}
    response = client.http.post(
        "/files", params={"path": f"{tmp_path}/big"}, content=(block for _ in range(100)), headers=headers
    )
    assert response.status_code == 200 and (tmp_path / "big").stat().st_size == 100_000_000
    assert agent.memory_kb() - before_kb < 8_000
    (tmp_path / "big").unlink()
