"""Volumes by the API: shared by sandboxes, their content from outside, what hostile sandboxes try, and no leaks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.host.api import Api, with_key
from tests.host.machine import Machine, Sandbox, eventually

pytestmark = pytest.mark.disruptive

MIB = 1024 * 1024
PATH = "/mnt/data"
SECRET = "root:"  # how /etc/shadow begins


@contextmanager
def with_volume(api: Api, volume: str, **body: Any) -> Iterator[Sandbox]:
    with api.sandbox(volumeMounts=[{"name": volume, "path": PATH}], **body) as sandbox:
        yield sandbox


def compare(machine: Machine) -> None:
    """Have the daemon compare what there is with its ledger now, as it does at its start, and not in half a minute."""
    machine.run(f"systemctl restart {machine.unit('sandboxd')}")


class Volume:
    def __init__(self, api: Api, name: str) -> None:
        made = api.ask("POST", "/volumes", 201, json={"name": name})
        self.api, self.name, self.id, self.token = api, name, made["volumeID"], made["token"]

    def request(self, method: str, kind: str, path: str, params: dict[str, Any], **options: Any) -> httpx.Response:
        url = f"{self.api.url}/volumecontent/{self.id}/{kind}"
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.api.machine.request(method, url, params={"path": path, **params}, headers=headers, **options)

    def ask(self, method: str, kind: str, path: str, status: int, content: Any = None, **params: Any) -> Any:
        answer = self.request(method, kind, path, params, content=content)
        assert answer.status_code == status, f"{answer.status_code} {answer.text}"
        return (
            answer.json() if status >= 300 or (kind != "file" and answer.content) or method == "PUT" else answer.content
        )

    def traces(self) -> list[str]:
        """What the host has of its mount."""
        commands = (
            f"find {self.api.machine.settings.state}/mounts -maxdepth 1 -name {self.id}",
            f"findmnt --raw --noheadings --output TARGET | grep {self.id} || true",
            f"losetup --list --noheadings --output BACK-FILE | grep {self.id} || true",
        )
        return [line for command in commands for line in self.api.machine.out(command).splitlines()]


@pytest.fixture(scope="module")
def api(machine: Machine) -> Iterator[Api]:
    with with_key(machine, "test-volumes") as api:
        yield api


@pytest.fixture
def volume(api: Api) -> Iterator[Volume]:
    for old in api.ask("GET", "/volumes", 200):  # of a run that was broken off
        api.machine.run(f"docker-sandbox volume rm {old['volumeID']}", check=False)
    made = Volume(api, "data")
    yield made
    api.machine.run(f"docker-sandbox volume rm {made.id}", check=False)


def test_sandboxes_share_it_and_it_outlives_them(api: Api, volume: Volume) -> None:
    with with_volume(api, "data") as first, with_volume(api, "data") as second:
        first.run(f"echo ours >{PATH}/file; mkdir {PATH}/dir")
        assert second.out(f"cat {PATH}/file; stat -c %U {PATH} {PATH}/file") == "ours\nuser\nuser"
        assert volume.ask("GET", "file", "/file", 200) == b"ours\n"
        made = volume.ask("PUT", "file", "/dir/from-outside", 201, content=b"theirs")
        assert (made["uid"], made["gid"], made["mode"]) == (1000, 1000, 0o644)
        assert first.out(f"cat {PATH}/dir/from-outside; echo more >>{PATH}/dir/from-outside") == "theirs"
        inside = int(first.out(f"df -BM --output=size {PATH} | tail -n 1").rstrip("M"))
        assert 0.97 * api.machine.settings.sandbox_disk_mb < inside <= api.machine.settings.sandbox_disk_mb
        assert "nosuid" in first.out(f"findmnt -no OPTIONS {PATH}")
        said = api.ask("DELETE", f"/volumes/{volume.id}", 409)
        assert first.id in said["message"] or second.id in said["message"]
        assert len([line for line in volume.traces() if line.startswith("/") and "volumes" not in line]) == 2
    with with_volume(api, "data", envVars={"A": "1"}) as third:
        assert third.out(f"cat {PATH}/dir/from-outside") == "theirsmore"
    eventually(volume.traces, lambda seen: seen == [], 60, "end of the mount")
    api.ask("DELETE", f"/volumes/{volume.id}", 204)
    assert api.machine.run(f"test -e {api.machine.settings.state}/volumes/{volume.id}.img", check=False).returncode == 1


def test_content_without_a_sandbox(volume: Volume) -> None:
    content = bytes(range(256)) * (20 * MIB // 256)
    assert volume.ask("PUT", "file", "/large", 201, content=content)["size"] == len(content)
    assert volume.ask("GET", "file", "/large", 200) == content
    volume.ask("PUT", "file", "/large", 409, content=b"x")
    volume.ask("POST", "dir", "/a/b", 201, force=True, uid=0, gid=0, mode=0o700)
    found = {one["path"]: one for one in volume.ask("GET", "dir", "/", 200, depth=3)}
    assert sorted(found) == ["/a", "/a/b", "/large"] and found["/a/b"]["uid"] == 0
    answer = volume.request("PATCH", "path", "/a/b", {}, json={"uid": 1000, "mode": 0o755})
    assert (answer.json()["uid"], answer.json()["mode"]) == (1000, 0o755)
    volume.ask("DELETE", "path", "/a", 204)
    volume.ask("GET", "path", "/a", 404)
    compare(volume.api.machine)
    eventually(volume.traces, lambda seen: seen == [], 60, "end of the mount that nobody uses")


ATTACKS = f"""
cd {PATH}
ln -s /etc/shadow absolute; ln -s ../../../../../etc/shadow relative; ln -s /etc directory; ln -s / root
ln -s /proc/1/root/etc/shadow magic; ln -s /proc/self/environ environ; ln -s loop loop
mkfifo fifo; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
truncate -s 4T sparse; mkdir many; (cd many; seq 20000 | xargs touch)
touch "$(printf 'new\\nline')" "$(printf '\\377')"
python3 - <<'END'
import os
for _ in range(3000):
    os.mkdir("deep"); os.chdir("deep")
END
"""


def test_what_a_hostile_sandbox_puts_there(api: Api, volume: Volume) -> None:
    with with_volume(api, "data") as sandbox:
        sandbox.run(ATTACKS)
        names = (
            "absolute",
            "relative",
            "magic",
            "environ",
            "loop",
            "fifo",
            "socket",
            "directory/shadow",
            "root/etc/shadow",
        )
        for path in names:
            said = volume.request("GET", "file", f"/{path}", {}).text
            assert json.loads(said)["code"] == 404 and SECRET not in said
        for path in ("/../../etc/shadow", "/root/etc"):
            assert volume.request("GET", "file", path, {}).status_code == 404
        for path in ("directory/new", "root/tmp/new"):
            volume.ask("PUT", "file", f"/{path}", 404, content=b"x")
            volume.ask("POST", "dir", f"/{path}", 404)
            volume.ask("DELETE", "path", f"/{path}", 404)
        assert volume.request("PATCH", "path", "/absolute", {}, json={"mode": 0o777}).status_code == 400
        assert volume.ask("GET", "path", "/absolute", 200)["target"] == "/etc/shadow"
        assert "more entries" in volume.ask("GET", "dir", "/many", 400)["message"]
        assert len(volume.ask("GET", "dir", "/", 200)) == 14
        assert volume.ask("GET", "path", "/sparse", 200)["size"] == 4 * 1024**4
        volume.request("DELETE", "path", "/deep", {})  # done, or refused: the daemon is well in any case
        volume.ask("DELETE", "path", "/many", 204)
        volume.ask("PUT", "file", "/absolute", 201, content=b"a file now", force=True)
        assert sandbox.out(f"cat {PATH}/absolute") == "a file now"
    assert api.machine.out("stat -c '%a %U' /etc/shadow").split()[1] == "root"


def test_links_that_come_and_go(api: Api, volume: Volume) -> None:
    """A directory is exchanged with a link to /etc all the time."""
    exchange = (
        "import os\nos.makedirs('real'); open('real/shadow', 'w').write('ours'); os.symlink('/etc', 'link')\n"
        "while True:\n    for a, b in (('real', 'kept'), ('link', 'real'), ('real', 'link'), ('kept', 'real')):\n"
        "        os.rename(a, b)\n"
    )
    before = api.machine.out("stat -c '%a %s %Y' /etc/shadow")
    with with_volume(api, "data") as sandbox:
        sandbox.machine.run(f"docker-sandbox files write {sandbox.id} /tmp/exchange.py", stdin=exchange.encode())
        sandbox.run(f"cd {PATH}; exec python3 /tmp/exchange.py", "--background")
        eventually(
            lambda: sandbox.run(f"test -L {PATH}/link", check=False).returncode, lambda code: code == 0, 30, "link"
        )
        for _ in range(60):
            said = volume.request("GET", "file", "/real/shadow", {})
            assert said.content == b"ours" or said.status_code == 404, said.text
            for method, kind, name, params, body in (
                ("PATCH", "path", "shadow", {}, {"json": {"mode": 0o666}}),
                ("PUT", "file", "planted", {"force": True}, {"content": b"x"}),
            ):
                volume.request(method, kind, f"/real/{name}", params, **body)
    assert api.machine.out("stat -c '%a %s %Y' /etc/shadow") == before
    assert api.machine.run("test -e /etc/planted", check=False).returncode == 1


def test_a_full_one_is_told(api: Api, volume: Volume) -> None:
    with with_volume(api, "data") as sandbox:
        sandbox.run(f"fallocate -l $(($(df -B1 --output=avail {PATH} | tail -n 1) - 2097152)) {PATH}/fill")
        assert "full" in volume.ask("PUT", "file", "/large", 507, content=b"x" * 8 * MIB)["message"]
        assert sandbox.out(f"ls -A {PATH}") == "fill", "nothing half written stays"
        sandbox.run(f"rm {PATH}/fill")
        volume.ask("PUT", "file", "/large", 201, content=b"x" * 8 * MIB)


def test_what_looks_into_it_is_nobody(api: Api, volume: Volume) -> None:
    """Its uid is the sandboxes' root, its root directory the volume; it has three capabilities, over that range."""
    go_on = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"x" * MIB
        go_on.wait(60)

    thread = threading.Thread(target=lambda: volume.ask("PUT", "file", "/slow", 201, content=pieces()))
    thread.start()
    find = f"pgrep -f 'sandboxd.[v]olumehelper.*{volume.id}'"
    try:
        status = "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/$pid/status; ls /proc/$pid/root/; cat /proc/$pid/uid_map"
        look = f"for pid in $({find}); do {status}; done"
        seen = eventually(
            lambda: api.machine.run(look, check=False).stdout,
            lambda said: "\nCapEff:\t0000000000" in said,
            30,
            "helper",
        )
        base = api.machine.out("docker info --format '{{.DockerRootDir}}'").rpartition("/")[2].partition(".")[0]
        assert f"Uid:\t{base}\t{base}\t{base}\t{base}" in seen and "CapEff:\t000000000000000b" in seen, seen
        assert "NoNewPrivs:\t1" in seen and "etc" not in seen and seen.split()[-2:] == [base, "65536"], seen
        assert len(volume.traces()) == 3
        api.ask("DELETE", f"/volumes/{volume.id}", 409)
    finally:
        go_on.set()
        thread.join(60)
    assert volume.ask("GET", "path", "/slow", 200)["size"] == MIB


def test_it_comes_back(api: Api, volume: Volume) -> None:
    """After a stop, after a restart of the daemon, and after the mounts were lost, as by a reboot."""
    machine = api.machine
    with with_volume(api, "data") as sandbox:
        sandbox.run(f"echo kept >{PATH}/file")
        read = f"cat {PATH}/file"
        machine.run(f"docker-sandbox stop {sandbox.id} && docker-sandbox start {sandbox.id}")
        assert sandbox.out(read) == "kept"
        machine.run(f"systemctl restart {machine.unit('sandboxd')}")
        assert sandbox.out(read) == "kept" and volume.ask("GET", "file", "/file", 200) == b"kept\n"
        mount = f"{machine.settings.state}/mounts/{volume.id}"
        machine.run(
            f"systemctl stop {machine.unit('sandboxd')}; docker kill {sandbox.id}; umount {mount}"
            f" && docker start {sandbox.id}; systemctl start {machine.unit('sandboxd')}"
        )
        eventually(lambda: sandbox.run(read, check=False).stdout, lambda said: said == "kept\n", 60, "file")
    eventually(volume.traces, lambda seen: seen == [], 60, "end of the mount")


def test_a_fork_has_files_and_volumes(api: Api, volume: Volume) -> None:
    with with_volume(api, "data", metadata={"a": "b"}) as parent:
        parent.run(f"echo code >/code/file; echo home >/home/user/file; echo volume >{PATH}/file")
        copies = api.ask("POST", f"/sandboxes/{parent.id}/fork", 201, json={"timeout": 300, "count": 2})
        found = [Sandbox(api.machine, copy["sandbox"]["sandboxID"]) for copy in copies]
        try:
            for copy in found:
                assert copy.out(f"cat /code/file /home/user/file {PATH}/file") == "code\nhome\nvolume"
                copy.run("echo other >/code/file")
            assert parent.out("cat /code/file") == "code"
        finally:
            api.machine.run(f"docker-sandbox kill {' '.join(copy.id for copy in found)}", check=False)
    state = api.machine.settings.state
    assert api.machine.out(f"find {state}/snapshots -name 'copy-*' 2>/dev/null || true") == ""
    compare(api.machine)
    left = "docker image ls --format '{{.Repository}}' | grep -e -template-copy- || true"
    eventually(lambda: api.machine.out(left), lambda seen: seen == "", 60, "end of the copy's image")
