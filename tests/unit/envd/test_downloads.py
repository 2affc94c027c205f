"""GET /files as a client meets it."""

import os
import socket
from pathlib import Path

import pytest

from envd.downloads import content_type, disposition
from tests.unit.envd.client import TOKEN, Client, Running, eventually


def test_the_bytes_and_their_length(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(content := os.urandom(1_500_000))
    response = client.download(f"{tmp_path}/a.bin")
    assert response.content == content
    assert response.headers["content-length"] == "1500000"
    assert response.headers["content-disposition"] == 'inline; filename="a.bin"'
    head = client.http.head("/files", params={"path": f"{tmp_path}/a.bin"})
    assert head.headers["content-length"] == "1500000" and head.content == b""
    (tmp_path / "empty").touch()
    empty = client.download(f"{tmp_path}/empty")
    assert (empty.content, empty.headers["content-length"]) == (b"", "0")


def test_a_part_of_a_file(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(content := os.urandom(1_500_000))
    whole = client.download(f"{tmp_path}/a.bin")
    assert (whole.headers["accept-ranges"], whole.headers["vary"]) == ("bytes", "Accept-Encoding")
    part = client.download(f"{tmp_path}/a.bin", Range="bytes=1000-1200999")
    assert (part.status_code, part.content) == (206, content[1000:1_201_000])
    assert part.headers["content-range"] == "bytes 1000-1200999/1500000"
    assert part.headers["content-length"] == "1200000"
    resumed = {"Range": "bytes=1499990-", "If-Range": whole.headers["last-modified"]}
    assert client.download(f"{tmp_path}/a.bin", **resumed).content == content[-10:]
    os.utime(tmp_path / "a.bin", (0, 0))
    assert client.download(f"{tmp_path}/a.bin", **resumed).content == content
    beyond = client.download(f"{tmp_path}/a.bin", Range="bytes=1500000-")
    assert (beyond.status_code, beyond.json()["code"]) == (416, 416)
    assert beyond.headers["content-range"] == "bytes */1500000"


def test_a_client_that_takes_no_file_as_it_is(client: Client) -> None:
    response = client.download("/etc/passwd", **{"Accept-Encoding": "gzip, identity;q=0"})
    assert (response.status_code, response.json()["code"]) == (406, 406)


def test_files_that_deny_their_size(client: Client) -> None:
    assert client.download("/proc/version").text == Path("/proc/version").read_text()


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/no/such", 404, "path '/no/such' does not exist"),
        ("/etc", 400, "path '/etc' is a directory"),
        ("/dev/zero", 400, "path '/dev/zero' is not a regular file"),
        ("/etc/passwd/x", 400, "Not a directory"),
    ],
)
def test_what_is_refused(client: Client, path: str, status: int, words: str) -> None:
    response = client.download(path)
    assert response.status_code == response.json()["code"] == status
    assert words in response.json()["message"]


def test_special_files_do_not_hang(client: Client, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
    assert client.download(f"{tmp_path}/fifo").status_code == 400
    assert client.download(f"{tmp_path}/s").status_code == 400


def test_another_user_sees_what_he_may(client: Client, open_directory: Path) -> None:
    """Root reads as the other; an agent that is not root refuses altogether."""
    (open_directory / "secret").write_text("s")
    (open_directory / "secret").chmod(0o600)
    (open_directory / "open").write_text("o")
    (open_directory / "open").chmod(0o644)
    assert client.download(f"{open_directory}/secret", username="nobody").status_code == 403
    response = client.download(f"{open_directory}/open", username="nobody")
    assert (response.status_code, response.text) == (200, "o") if os.geteuid() == 0 else response.status_code == 403
    assert client.download(f"{open_directory}/open", username="no-such-user").status_code == 401


def test_a_client_that_leaves_leaves_nothing_open(client: Client, agent: Running, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(50_000_000))
    client.download("/etc/passwd")
    before = agent.open_fds()
    with socket.create_connection(("127.0.0.1", agent.port)) as raw:
        raw.sendall(f"GET /files?path={tmp_path}/big HTTP/1.1\r\nHost: x\r\nX-Access-Token: {TOKEN}\r\n\r\n".encode())
        assert raw.recv(15) == b"HTTP/1.1 200 OK"
    eventually(lambda: agent.open_fds() <= before, "the file is closed")
    (tmp_path / "big").unlink()


def test_types_and_names() -> None:
    assert content_type("/a/index.html") == "text/html; charset=utf-8"
    assert content_type("/a/x.png") == "image/png"
    assert content_type("/a/x.tar.gz") == content_type("/a/x") == "application/octet-stream"
    assert disposition("a b.txt") == 'inline; filename="a b.txt"'
    assert disposition('ü"\r\n') == "inline; filename=\"____\"; filename*=UTF-8''%C3%BC%22%0D%0A"
    assert disposition("\udcff") == "inline; filename=\"_\"; filename*=UTF-8''%FF"
