"""Routes: the ledger is the truth, the map file and HAProxy's runtime map follow."""

import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandboxd.errors import GatewayError
from sandboxd.gateway import TALKS, Gateway
from tests.unit.sandboxd.conftest import World, until
from tests.unit.sandboxd.fake_haproxy import FakeHaproxy


@pytest.fixture
def truth() -> dict[str, str]:
    return {}


@pytest.fixture
def gateway(world: World, truth: dict[str, str]) -> Gateway:
    return Gateway(world.config.gateway.admin_socket, world.config.gateway.routes_map, lambda: dict(truth))


def file_of(world: World) -> str:
    return world.config.gateway.routes_map.read_text()


def test_a_route_goes_into_both(world: World, gateway: Gateway, truth: dict[str, str]) -> None:
    truth["a1"] = "10.0.0.1"
    gateway.update("a1")
    assert file_of(world) == "a1 10.0.0.1\n" and world.haproxy.map == [("a1", "10.0.0.1")]
    assert world.config.gateway.routes_map.stat().st_mode & 0o777 == 0o644
    assert gateway.status().in_step


def test_a_route_that_is_there_is_changed_and_not_doubled(
    world: World, gateway: Gateway, truth: dict[str, str]
) -> None:
    for address in ("10.0.0.1", "10.0.0.2"):
        truth["a1"] = address
        gateway.update("a1")
    assert world.haproxy.map == [("a1", "10.0.0.2")]


def test_a_route_leaves_both_and_may_be_gone_already(world: World, gateway: Gateway, truth: dict[str, str]) -> None:
    truth["a1"] = "10.0.0.1"
    gateway.update("a1")
    truth.clear()
    gateway.update("a1")
    gateway.update("a1")
    assert file_of(world) == "" and world.haproxy.map == []


def test_status_names_what_is_missing_and_what_is_stale(world: World, gateway: Gateway, truth: dict[str, str]) -> None:
    truth |= {"a1": "10.0.0.1", "a2": "10.0.0.2", "a3": "10.0.0.3"}
    gateway.sync()
    world.haproxy.map = [("a1", "10.0.0.1"), ("a2", "10.9.9.9"), ("b", "10.0.0.9")]
    status = gateway.status()
    assert (status.in_step, status.routes, status.missing, status.stale) == (False, 3, ["a2", "a3"], ["b"])
    gateway.sync()
    assert dict(world.haproxy.map) == truth and gateway.status().in_step


def test_an_emptied_file_is_noticed_and_mended(world: World, gateway: Gateway, truth: dict[str, str]) -> None:
    truth["a1"] = "10.0.0.1"
    gateway.sync()
    world.config.gateway.routes_map.write_text("")
    assert gateway.status().missing == ["a1"]
    gateway.sync()
    assert file_of(world) == "a1 10.0.0.1\n"


@pytest.mark.parametrize("spoilt", [b"a1 10.0.0.1\nno route at all\n", b"a1 10.0.0.1\n\xff\0\n", b"a1 10.0.0.1\n\n"])
def test_a_spoilt_file_is_noticed_and_mended(
    world: World, gateway: Gateway, truth: dict[str, str], spoilt: bytes
) -> None:
    """Though all that should be there is."""
    truth["a1"] = "10.0.0.1"
    gateway.sync()
    world.config.gateway.routes_map.write_bytes(spoilt)
    assert not gateway.status().in_step
    gateway.sync()
    assert file_of(world) == "a1 10.0.0.1\n" and gateway.status().in_step


@pytest.mark.parametrize("entry", [("no", "route at all"), ("\N{REPLACEMENT CHARACTER}", ""), ("a;b", "x")])
def test_what_haproxy_has_read_from_a_spoilt_file_goes(
    world: World, gateway: Gateway, truth: dict[str, str], entry: tuple[str, str]
) -> None:
    truth["a1"] = "10.0.0.1"
    gateway.sync()
    world.haproxy.map.append(entry)
    assert gateway.status().stale == [entry[0]]
    gateway.sync()
    assert world.haproxy.map == [("a1", "10.0.0.1")] and gateway.status().in_step


def test_while_haproxy_is_down_the_file_is_right(world: World, gateway: Gateway, truth: dict[str, str]) -> None:
    world.haproxy.stop()
    truth["a1"] = "10.0.0.1"
    with pytest.raises(GatewayError, match="systemctl restart haproxy"):
        gateway.update("a1")
    assert file_of(world) == "a1 10.0.0.1\n"
    status = gateway.status()
    assert not status.in_step and "does not answer" in status.gateway
    with pytest.raises(GatewayError):
        gateway.check()


def test_a_haproxy_that_reads_another_map_is_refused(world: World, truth: dict[str, str]) -> None:
    """As it is before its new configuration is loaded."""
    other = world.config.state_dir / "other.map"
    gateway = Gateway(world.config.gateway.admin_socket, other, lambda: {"a1": "10.0.0.1"})
    for act in (gateway.check, gateway.sync, lambda: gateway.update("a1")):
        with pytest.raises(GatewayError, match="systemctl reload-or-restart haproxy"):
            act()


def test_the_double_speaks_like_haproxy(world: World) -> None:
    """What the double answers was seen from HAProxy 2.6 and 3.0; the host suite asks the real one."""
    assert isinstance(world.haproxy, FakeHaproxy)
    name = str(world.config.gateway.routes_map)
    assert world.haproxy.answer(["set", "map", name, "x", "y"]) == "entry not found."
    assert world.haproxy.answer(["add", "map", name, "x", "y"]) == ""
    pointer, *entry = world.haproxy.answer(["show", "map", name]).split()
    assert entry == ["x", "y"] and pointer.startswith("0x")
    assert (
        world.haproxy.answer(["del", "map", name, f"#{pointer}"]) == "" == world.haproxy.answer(["show", "map", name])
    )


def test_the_file_is_replaced_in_one_step(world: World, gateway: Gateway, truth: dict[str, str]) -> None:
    """HAProxy may read it at any moment: whoever has the old file open reads all of the old file."""
    truth["a1"] = "10.0.0.1"
    gateway.sync()
    with world.config.gateway.routes_map.open() as old:
        truth["a2"] = "10.0.0.2"
        gateway.sync()
        assert old.read() == "a1 10.0.0.1\n"
    assert file_of(world) == "a1 10.0.0.1\na2 10.0.0.2\n"
    assert [path.name for path in world.config.state_dir.glob("routes*")] == ["routes.map"]


def test_a_look_that_finds_all_in_order_changes_nothing(world: World, gateway: Gateway, truth: dict[str, str]) -> None:
    truth["a1"] = "10.0.0.1"
    gateway.sync()
    inode = world.config.gateway.routes_map.stat().st_ino
    world.haproxy.commands.clear()
    gateway.sync()
    assert [command[0] for command in world.haproxy.commands] == ["show"]
    assert world.config.gateway.routes_map.stat().st_ino == inode


def test_a_file_of_random_bytes_is_mended(world: World, gateway: Gateway, truth: dict[str, str]) -> None:
    truth["a1"] = "10.0.0.1"
    world.config.gateway.routes_map.write_bytes(b"\xff\xfe\x00 \x80\n")
    assert gateway.status().missing == ["a1"]
    gateway.sync()
    assert file_of(world) == "a1 10.0.0.1\n" and gateway.status().in_step


def test_a_file_that_cannot_be_written_is_named(world: World, truth: dict[str, str]) -> None:
    file = world.config.state_dir / "none" / "routes.map"
    gateway = Gateway(world.config.gateway.admin_socket, file, lambda: {"a1": "10.0.0.1"})
    with pytest.raises(GatewayError, match=rf"{file}: cannot be written: No such file"):
        gateway.sync()


def test_many_changes_at_once_leave_file_and_map_in_step(world: World, gateway: Gateway, truth: dict[str, str]) -> None:
    lock = threading.Lock()

    def change(number: int) -> None:
        key = f"id{number}"
        with lock:
            truth[key] = f"10.0.0.{number}"
        gateway.update(key)
        if number % 2:
            with lock:
                del truth[key]
            gateway.update(key)

    with ThreadPoolExecutor(8) as several:
        list(several.map(change, range(20)))
    assert len(truth) == 10 and gateway.status().in_step
    assert dict(world.haproxy.map) == truth


def test_a_haproxy_that_hangs_is_given_up(world: World, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.gateway.TIMEOUT_S", 0.05)
    world.haproxy.hanging.set()
    with pytest.raises(GatewayError, match=r"does not answer on .*timed out.*systemctl status haproxy"):
        gateway.check()


def test_many_at_once_wait_for_a_door_that_lets_few_in(
    directory: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Unix socket whose queue is full refuses at once, and HAProxy's queue is short."""
    connected = itertools.count(1)
    inside: list[int] = []

    class Counting(socket.socket):
        def connect(self, address: Any) -> None:
            super().connect(address)
            inside.append(next(connected))

    path = directory / "narrow.sock"
    with socket.socket(socket.AF_UNIX) as narrow, ThreadPoolExecutor(40) as several:
        narrow.bind(str(path))
        narrow.listen(TALKS)
        monkeypatch.setattr("sandboxd.gateway.socket.socket", Counting)
        monkeypatch.setattr(gateway, "_admin_socket", path)
        monkeypatch.setattr("sandboxd.gateway.TIMEOUT_S", 30.0)
        checks = [several.submit(gateway.check) for _ in range(40)]
        until(lambda: len(inside) == TALKS, "as many as may")
        for _ in checks:
            connection, _ = narrow.accept()
            with connection, connection.makefile("rw") as stream:
                stream.readline()
                stream.write("type=str, case=sensitive, found=no\n")
        for check in checks:
            check.result(30)
    assert len(inside) == 40
