"""/volumecontent/{id}/...: over real sockets, by real helpers, in a directory that stands for the volume's disk."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from sandboxd import volumeprocess
from sandboxd.listeners import open_tcp
from tests.unit.sandboxd.clients import KEPT_S
from tests.unit.sandboxd.conftest import World, until
from tests.unit.sandboxd.e2b.conftest import Public

LARGE = 3_000_000  # more than a body of the API may have, and than what is kept in memory


class Volume:
    """A volume with its token, as a client has it."""

    def __init__(self, public: Public, port: int) -> None:
        made = public.http.post("/volumes", json={"name": "data"}).json()
        self.id, self.world = made["volumeID"], public.world
        self.directory: Path = self.world.sandboxes.disks.host_path(self.id)
        self.directory.mkdir(parents=True)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/volumecontent/{self.id}",
            headers={"Authorization": f"Bearer {made['token']}"},
            trust_env=False,
            timeout=60,
        )

    def asked(self, method: str, kind: str, status: int, path: str, **options: Any) -> Any:
        params = {"path": path, **options.pop("params", {})}
        answer = self.http.request(method, f"/{kind}", params=params, **options)
        assert answer.status_code == status, answer.text
        if status >= 300:
            assert answer.json()["code"] == status
            return answer.json()["message"]
        if status == 204:
            return None
        return answer.json() if answer.headers.get("content-type") == "application/json" else answer.content


@pytest.fixture
def volume(public: Public, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Volume]:
    """Files belong to who runs this: only root may give them away."""
    listener = open_tcp(("127.0.0.1", 0))
    options = uvicorn.Config(public.front, log_config=None, access_log=False, timeout_keep_alive=KEPT_S)
    server = uvicorn.Server(options)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    until(lambda: server.started, "the server")
    made = Volume(public, listener.getsockname()[1])
    yield made
    made.http.close()
    server.should_exit = True
    thread.join(30)


def owner(volume: Volume) -> dict[str, int]:
    found = volume.directory.stat()
    return {"uid": found.st_uid, "gid": found.st_gid}


def test_files_come_and_go(volume: Volume) -> None:
    content = bytes(range(256)) * (LARGE // 256)
    made = volume.asked("PUT", "file", 201, "/a.bin", content=content, params=owner(volume))
    assert made["size"] == len(content) and (volume.directory / "a.bin").read_bytes() == content
    answer = volume.http.get("/file", params={"path": "/a.bin"})
    assert answer.content == content and answer.headers["content-type"] == "application/octet-stream"
    assert volume.asked("GET", "path", 200, "/a.bin") == made | {
        "atime": volume.asked("GET", "path", 200, "a.bin")["atime"]
    }
    assert "already" in volume.asked("PUT", "file", 409, "/a.bin", content=content, params=owner(volume))
    volume.asked("PUT", "file", 201, "/a.bin", content=b"", params={"force": "true", **owner(volume)})
    assert volume.asked("GET", "file", 200, "/a.bin") == b""
    assert volume.asked("PATCH", "path", 200, "/a.bin", json={"mode": 0o600})["mode"] == 0o600
    volume.asked("DELETE", "path", 204, "/a.bin")
    volume.asked("GET", "file", 404, "/a.bin")


def test_directories_come_and_go(volume: Volume) -> None:
    volume.asked("POST", "dir", 404, "/a/b", params=owner(volume))
    made = volume.asked("POST", "dir", 201, "/a/b", params={"force": "true", "mode": 0o700, **owner(volume)})
    assert (made["type"], made["mode"]) == ("directory", 0o700)
    assert [one["name"] for one in volume.asked("GET", "dir", 200, "/")] == ["a"]
    assert len(volume.asked("GET", "dir", 200, "/", params={"depth": 2})) == 2
    volume.asked("DELETE", "path", 204, "/a")
    assert volume.asked("GET", "dir", 200, "/") == []


def test_links_lead_nowhere(volume: Volume) -> None:
    (volume.directory / "shadow").symlink_to("/etc/shadow")
    (volume.directory / "up").symlink_to("..")
    volume.asked("GET", "file", 404, "/shadow")
    volume.asked("GET", "file", 404, "/up/x")
    volume.asked("PUT", "file", 404, "/up/x", content=b"x", params=owner(volume))
    volume.asked("GET", "file", 404, "/../../etc/shadow")
    assert volume.asked("GET", "path", 200, "/shadow")["target"] == "/etc/shadow"


@pytest.mark.parametrize(
    "params", [{"depth": 0}, {"depth": 1000}, {"mode": 0o4755}, {"uid": -1}, {"uid": 65536}, {"force": "perhaps"}]
)
def test_wrong_values(volume: Volume, params: dict[str, Any]) -> None:
    method = "GET" if "depth" in params else "POST"
    volume.asked(method, "dir", 400, "/a", params=params)
    assert volume.http.get("/dir").status_code == 400


def test_the_token_is_of_one_volume(volume: Volume, public: Public, world: World) -> None:
    other = public.http.post("/volumes", json={"name": "other"}).json()
    for headers in ({"Authorization": f"Bearer {other['token']}"}, {"Authorization": ""}, {"X-API-KEY": public.key}):
        answer = volume.http.get("/path", params={"path": "/"}, headers={"Authorization": "", **headers})
        assert answer.status_code == 401 and answer.json()["code"] == 401
        answer = volume.http.put("/file", params={"path": "/x"}, content=b"x" * LARGE, headers={"Authorization": ""})
        assert answer.status_code == 401
    world.sandboxes.volumes.remove(volume.id)
    assert "not found" in volume.asked("GET", "path", 404, "/")


def test_a_full_disk_is_told(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(process: Any) -> Any:
        raise volumeprocess.VolumeRefused(507, "path '/a': the volume is full")

    monkeypatch.setattr(volumeprocess, "answer", full)
    assert "full" in volume.asked("PUT", "file", 507, "/a", content=b"x" * LARGE, params=owner(volume))


def test_a_refusal_does_not_wait_for_ever(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an upload whose rest never comes."""
    monkeypatch.setattr("sandboxd.bodies.DRAIN_S", 0.2)
    (volume.directory / "a").touch()
    with socket.create_connection((volume.http.base_url.host, volume.http.base_url.port or 0), 60) as connection:
        head = f"PUT /volumecontent/{volume.id}/file?path=/a HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n"
        connection.sendall(f"{head}Authorization: {volume.http.headers['authorization']}\r\n\r\nxxx".encode())
        assert connection.recv(12) == b"HTTP/1.1 409"
        until(lambda: idle(volume), "the helper's end")


def test_a_refusal_is_heard_after_a_large_upload(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.bodies.DRAIN_S", 60.0)  # on a machine that others use, too
    (volume.directory / "a").touch()
    for _ in range(5):
        said = volume.asked("PUT", "file", 409, "/a", content=b"x" * 10 * LARGE, params=owner(volume))
        assert "already" in said
    assert (volume.directory / "a").read_bytes() == b""


def idle(volume: Volume) -> bool:
    """Nobody holds the volume: it could be removed."""
    return volume.world.sandboxes.volumes._held[volume.id] == 0


def test_who_leaves_half_way_leaves_nothing(volume: Volume) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x" * LARGE
        until(lambda: bool(list(volume.directory.glob(".upload-*"))), "the upload's begin")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        volume.http.put("/file", params={"path": "/a", **owner(volume)}, content=pieces())
    until(lambda: list(volume.directory.iterdir()) == [] and idle(volume), "the end of what was half written")


def test_a_download_that_nobody_takes_ends_with_its_client(volume: Volume) -> None:
    with (volume.directory / "sparse").open("wb") as file:
        file.truncate(10**12)
    with volume.http.stream("GET", "/file", params={"path": "/sparse"}) as answer:
        assert answer.headers["content-length"] == str(10**12)
        pieces = answer.iter_raw(1000)  # which is kept: its end is the connection's
        assert next(pieces) == b"\0" * 1000
        assert not idle(volume)
    until(lambda: idle(volume), "the helper's end")


def test_one_volume_has_so_many_requests_at_a_time(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.volumes.HELD", 1)
    with volume.world.sandboxes.volumes.held(volume.id):
        answer = volume.http.get("/path", params={"path": "/"})
        assert answer.status_code == 503 and answer.headers["retry-after"]
    volume.asked("GET", "path", 200, "/")
    monkeypatch.setattr(volumeprocess, "HELPERS", 0)
    volume.asked("GET", "path", 503, "/")


def test_a_helper_that_cannot_work_says_so(volume: Volume) -> None:
    volume.directory.rmdir()
    assert "ended without an answer" in volume.asked("GET", "path", 503, "/")
    assert idle(volume)
