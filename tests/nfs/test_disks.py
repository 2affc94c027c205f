"""Disks whose files are on NFS: from host to host, after a host was cut off, and while the server is away."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from sandboxd.errors import HostError
from sandboxd.sharedstore import IMAGE, LOCK, TakenOver
from tests.nfs.machine import ANSWER_S, Host, eventually

SIZE_MB, LARGER_MB, CONTENT_MB = 128, 192, 24
BASE_UID = 100_000
STOP, START = "rpc.nfsd 0", "rpc.nfsd --no-nfs-version 3 8"


class Sandbox:
    """What sandboxd does for a sandbox on a volume of shared storage, without the sandbox."""

    def __init__(self, host: Host, volume: str) -> None:
        self.host, self.volume, self.slot = host, volume, secrets.token_hex(6)
        self.generation = 0

    @property
    def code(self) -> str:
        return f"/var/lib/{self.host.name}/mounts/{self.slot}"

    def make(self, dead: str = "") -> None:
        if dead:
            self.generation = self.host.store("take_over", self.volume, self.slot, dead)
        else:
            self.generation = self.host.store("take", self.volume, self.slot)
        known = bool(dead) or self.generation > 1
        self.host.disks("create", self.slot, self.volume, SIZE_MB, BASE_UID, known)

    def end(self) -> None:
        self.host.disks("unmount", self.slot)
        self.host.disks("wait_detached", f"{self.host.storage}/{self.volume}/{IMAGE}")
        self.host.store("give_back", self.volume, self.slot, self.generation)

    def check(self) -> None:
        self.host.store("check", self.volume, self.slot, self.generation)

    def writing(self, name: str) -> str:
        """The command that writes a file, on the disk before it ends, and prints its digest."""
        file = f"{self.code}/{name}"
        return f"dd if=/dev/urandom of={file} bs=1M count={CONTENT_MB} conv=fsync status=none && sha256sum <{file}"

    def write(self, name: str) -> str:
        return self.host.run(self.writing(name))

    def digest(self, name: str) -> str:
        return self.host.run(f"sha256sum <{self.code}/{name}")


def test_a_disk_goes_from_host_to_host_with_all_that_was_written(
    a: Host, b: Host, volume: str, record_property: Callable[..., None]
) -> None:
    first, second = Sandbox(a, volume), Sandbox(b, volume)
    first.make()
    device = a.run(f"findmnt --noheadings --output SOURCE {first.code}").removeprefix("/dev/")
    assert a.run(f"cat /sys/block/{device}/loop/backing_file") == f"{a.storage}/{volume}/{IMAGE}"
    record_property("nfs", f"direct I/O of the loop device: {a.run(f'cat /sys/block/{device}/loop/dio')}")
    written = first.write("of-a")
    first.end()
    assert b.store("size_mb", volume) == SIZE_MB
    second.make()
    assert second.generation == 2 and second.digest("of-a") == written
    more = second.write("of-b")
    b.run(f"rm {second.code}/of-a")
    second.end()
    first.make()
    assert first.generation == 3 and a.run(f"ls {first.code}") == "of-b"
    assert first.digest("of-b") == more, "not what this host has kept of the file"
    first.end()


def test_the_space_of_deleted_files_goes_back_to_the_server(a: Host, server: Host, volume: str) -> None:
    """Holes are punched through NFSv4.2; 4.1 has none."""
    sandbox = Sandbox(a, volume)
    sandbox.make()
    empty = allocated_mb(server, volume)
    sandbox.write("large")
    assert allocated_mb(server, volume) >= empty + CONTENT_MB
    a.run(f"rm {sandbox.code}/large && sync --file-system {sandbox.code}")

    def given_back() -> None:
        assert allocated_mb(server, volume) < empty + CONTENT_MB / 2

    eventually(given_back, AssertionError)
    sandbox.end()


def allocated_mb(server: Host, volume: str) -> float:
    return int(server.run(f"sync; stat --format %b /export/{volume}/{IMAGE}")) * 512 / (1 << 20)


def test_a_disk_grows(a: Host, b: Host, volume: str) -> None:
    """Checked and enlarged from outside, and seen as large by the other host."""
    first, second = Sandbox(a, volume), Sandbox(b, volume)
    first.make()
    written = first.write("file")
    a.disks("grow", first.slot, volume, LARGER_MB, False)
    a.disks("mount", first.slot, volume)
    assert first.digest("file") == written
    first.end()
    assert b.store("size_mb", volume) == LARGER_MB
    second.make()
    assert second.digest("file") == written
    assert b.disks("usage", second.slot)["size"] > SIZE_MB << 20
    second.end()


def test_after_a_host_was_cut_off_another_has_what_was_written_and_the_old_one_is_told(
    a: Host, b: Host, server: Host, volume: str
) -> None:
    """The disk is mounted as it was left: its journal is replayed."""
    old, new = Sandbox(a, volume), Sandbox(b, volume)
    old.make()
    written = old.write("file")
    server.run("ip link set to-a down")
    try:
        new.make(dead="a")
        assert new.generation == 2 and new.digest("file") == written
        more = new.write("of-b")
        assert new.digest("of-b") == more
        with pytest.raises(HostError, match="does not answer"):
            a.store("check", volume, old.slot, old.generation, wait_s=2)
        b.disks("unmount", new.slot)
        b.disks("wait_detached", f"{b.storage}/{volume}/{IMAGE}")
    finally:
        server.run("ip link set to-a up")
    with pytest.raises(TakenOver, match="taken over by node b"):
        eventually(old.check, HostError)
    a.disks("unmount", old.slot)
    eventually(lambda: a.disks("wait_detached", f"{a.storage}/{volume}/{IMAGE}"), HostError)


@pytest.fixture
def away(server: Host) -> Iterator[Callable[[], None]]:
    """Ends the server. It is there again afterwards."""

    def stop() -> None:
        server.run(STOP)

    yield stop
    server.run(f"[ $(cat /proc/fs/nfsd/threads) -gt 0 ] || {START}")


def test_while_the_server_is_away_writes_wait_and_who_asks_is_told(
    a: Host, b: Host, server: Host, volume: str, away: Callable[[], None]
) -> None:
    first, second = Sandbox(a, volume), Sandbox(b, volume)
    first.make()
    before = first.write("before")
    away()
    writing: Future[Any] = a.begin("run", first.writing("meanwhile"), ANSWER_S)
    for host in (a, b):
        for ask in (("check", volume, first.slot, first.generation), ("identity",), ("take", f"{volume}-new", "1")):
            with pytest.raises(HostError, match="does not answer"):
                host.store(*ask, wait_s=1)
    assert not writing.done(), "it waits"
    server.run(START)
    done = writing.result(ANSWER_S)
    assert done["code"] == 0, done
    eventually(first.check, HostError)
    eventually(lambda: b.store("identity"), HostError)
    assert "loop" not in server.run("dmesg --level err,crit,alert,emerg || true")
    first.end()
    second.make()
    assert second.digest("before") == before and second.digest("meanwhile") == done["out"].strip()
    second.end()


def test_a_lock_outlives_a_restart_of_the_server(
    a: Host, b: Host, server: Host, volume: str, away: Callable[[], None]
) -> None:
    """Whoever had one takes it back before anybody else may ask."""
    a.store("take", volume, "1")
    process = a.do("hold", f"{a.storage}/{volume}/{LOCK}")
    away()
    server.run(START)
    eventually(lambda: b.store("identity"), HostError)
    assert b.do("run", f"flock --nonblock {b.storage}/{volume}/{LOCK} true", ANSWER_S)["code"] == 1
    a.run(f"kill -KILL {process}")
    eventually(lambda: a.store("give_back", volume, "1", 1), HostError)
