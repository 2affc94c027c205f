"""Names through the life of a sandbox: who is led to the proxy, what the proxy knows, and when no more."""

from collections.abc import Iterator

import pytest

from sandboxd import netns
from sandboxd.egressproxy import EgressProxy
from sandboxd.errors import BadRequest, GatewayError, HostError, SandboxdError
from sandboxd.policy import Policy, parse
from sandboxd.records import Claim, Sandbox
from sandboxd.spec import bridge_name
from tests.unit.sandboxd.conftest import World, until
from tests.unit.sandboxd.fake_haproxy import FakeHaproxy

CLOSED = parse([], [], internet=False)
NAMED = parse(["pypi.org", "*.pythonhosted.org", "192.0.2.7"], [], internet=False)
LESS = parse(["pypi.org"], [], internet=False)
SERVER = "192.0.2.53"


@pytest.fixture
def proxy(world: World) -> Iterator[FakeHaproxy]:
    """The proxy's HAProxy, on a host whose name server sandboxes ask themselves."""
    (world.mounts.root / "etc/resolv.conf").write_text(f"nameserver {SERVER}\n")
    made = FakeHaproxy(world.config.proxy.admin_socket, world.config.proxy.names_map)
    yield made
    made.stop()


def create(world: World, policy: Policy = NAMED) -> Sandbox:
    return world.pool.obtain("base", Claim(policy=policy), cold=True)


def value(row: Sandbox, names: str = "pypi.org|.pythonhosted.org") -> tuple[str, str]:
    return row.address, f"{row.id}|{names}"


def led(world: World) -> set[str]:
    return world.nft.named


def file_of(world: World) -> str:
    return world.config.proxy.names_map.read_text()


@pytest.mark.parametrize("warm", [False, True])
def test_who_has_names_is_led_to_the_proxy_which_knows_them(world: World, proxy: FakeHaproxy, warm: bool) -> None:
    if warm:
        world.sandboxes.create_member(world.config.templates["base"], lambda: True)
        world.pool.enable()
    row = world.pool.obtain("base", Claim(policy=NAMED))
    assert not any("-A" in command and netns.RESOLVER in command for command in world.commands), "it asks for names"
    other = create(world, CLOSED)
    assert row.origin == ("pool" if warm else "cold")
    assert led(world) == {bridge_name(row.slot)} and other.address != row.address
    assert proxy.map == [value(row)] and file_of(world) == " ".join(value(row)) + "\n"


def test_who_has_none_does_not_touch_the_proxy(world: World, proxy: FakeHaproxy) -> None:
    row = create(world, CLOSED)
    world.transitions.restrict(row, Policy())
    world.reconciler.tick()
    world.sandboxes.remove(row, "test")
    assert proxy.commands == [] and not world.config.proxy.names_map.exists()


def test_they_go_with_the_sandbox_before_its_network(
    world: World, proxy: FakeHaproxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, seen = create(world), []
    remove_network = world.engine.remove_network

    def removing(name: str) -> None:
        seen.append((list(proxy.map), file_of(world)))
        remove_network(name)

    monkeypatch.setattr(world.engine, "remove_network", removing)
    proxy.sessions = {"0x2": row.address, "0x3": "10.200.9.9"}
    world.sandboxes.remove(row, "test")
    assert seen == [([], "")] and led(world) == set()
    assert proxy.sessions == {"0x3": "10.200.9.9"}, "its connections are cut"


def test_a_network_stays_until_the_proxy_has_forgotten(world: World, proxy: FakeHaproxy) -> None:
    row = create(world)
    proxy.refuses = True
    with pytest.raises(GatewayError):
        world.sandboxes.remove(row, "test")
    assert not world.engine.empty()
    proxy.refuses = False
    world.reconciler.tick()
    assert world.engine.empty() and proxy.map == []


def test_a_proxy_that_does_not_run_will_read_the_file(world: World, proxy: FakeHaproxy) -> None:
    row = create(world)
    proxy.stop()
    world.sandboxes.remove(row, "test")
    assert world.engine.empty() and file_of(world) == ""


@pytest.mark.parametrize("state", ["running", "paused", "stopped"])
def test_another_list_holds_at_once(world: World, proxy: FakeHaproxy, state: str) -> None:
    row = create(world)
    if state == "paused":
        world.transitions.pause(row)
    elif state == "stopped":
        world.transitions.stop(row, "test")
    proxy.sessions = {"0x2": row.address}
    world.transitions.restrict(row, parse([*NAMED.allow, "example.com"], [], internet=False))
    if state != "stopped":
        assert proxy.map == [value(row, "pypi.org|.pythonhosted.org|example.com")]
        assert proxy.sessions, "who gains a name loses no connection"
    world.transitions.restrict(row, LESS)
    assert proxy.map == ([] if state == "stopped" else [value(row, "pypi.org")]) and not proxy.sessions
    world.transitions.restrict(row, CLOSED)
    assert proxy.map == [] and led(world) == set()
    world.transitions.restrict(row, NAMED)
    assert proxy.map == ([] if state == "stopped" else [value(row)]) and led(world) == {bridge_name(row.slot)}


def test_over_stop_and_start_and_a_new_daemon(world: World, proxy: FakeHaproxy) -> None:
    row = create(world)
    world.transitions.stop(row, "test")
    assert proxy.map == [] and file_of(world) == ""
    row = world.transitions.resume(row)
    assert proxy.map == [value(row)]
    proxy.map = [("10.200.7.7", "gone|old.example.com"), (row.address, "x|y.example.com")]
    world.reconciler.tick()
    assert proxy.map == [value(row)], "what went astray is mended"


def test_a_new_daemon_forgets_what_an_earlier_one_has_told(world: World, proxy: FakeHaproxy) -> None:
    row = create(world)
    again = EgressProxy(world.config.proxy.admin_socket, world.config.proxy.names_map, dict, "acme-egress")
    again.forget("10.200.7.7")
    assert proxy.map == [value(row)]
    again.forget(row.address)
    assert proxy.map == []


def test_rules_that_somebody_has_changed_are_mended(world: World, proxy: FakeHaproxy) -> None:
    row = create(world)
    world.nft.named.clear()
    assert world.sandboxes.guard.faults()
    world.sandboxes.guard.mend()
    assert led(world) == {bridge_name(row.slot)}
    other = create(world, CLOSED)
    world.nft.named.add(bridge_name(other.slot))
    world.sandboxes.guard.mend()
    assert led(world) == {bridge_name(row.slot)}
    world.nft.addresses.clear()
    assert world.sandboxes.guard.faults() == ["address 198.18.0.1 on lo"]
    world.sandboxes.guard.mend()
    assert world.sandboxes.guard.faults() == [] and world.nft.addresses == ["198.18.0.1"]


@pytest.mark.parametrize("server", ["127.0.0.1", "2001:db8::53"])
def test_a_host_that_asks_in_a_sandboxs_stead_cannot_tell_names_apart(
    world: World, proxy: FakeHaproxy, server: str
) -> None:
    (world.mounts.root / "etc/resolv.conf").write_text(f"nameserver {server}\n")
    with pytest.raises(BadRequest, match=rf"'pypi.org' is a name, and this host cannot.*{server}"):
        create(world)
    row = create(world, CLOSED)
    with pytest.raises(BadRequest, match="cannot tell names apart"):
        world.transitions.restrict(row, NAMED)
    found = world.ledger.get(row.slot)
    assert found is not None and found.policy == CLOSED and proxy.map == [] and led(world) == set()


def test_a_host_without_the_proxys_user_or_the_proxy(world: World, proxy: FakeHaproxy) -> None:
    accounts = world.mounts.root / "etc/passwd"
    before = accounts.read_text()
    accounts.write_text("root:x:0:0::/root:/bin/sh\n")
    with pytest.raises(HostError, match=r"no user 'acme-egress' for names. Deploy again"):
        create(world)
    accounts.write_text(before)
    proxy.stop()
    with pytest.raises(GatewayError, match=r"the egress proxy does not answer.*systemctl status acme-egress"):
        create(world)
    assert world.engine.empty() and led(world) == set()


def test_a_proxy_that_is_down_is_in_the_health_report(world: World, proxy: FakeHaproxy) -> None:
    create(world)
    proxy.stop()
    world.reconciler.tick()
    assert "does not answer" in world.health.troubles()["egress proxy"]


@pytest.mark.parametrize("again", ["tick", "restrict"])
def test_a_cut_that_failed_is_made_up_for(
    world: World, proxy: FakeHaproxy, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    row = create(world)
    proxy.sessions = {"0x2": row.address}

    def fails(proxy: EgressProxy, address: str) -> None:
        raise GatewayError("does not answer")

    with monkeypatch.context() as patch, pytest.raises(GatewayError):
        patch.setattr(EgressProxy, "_cut", fails)
        world.transitions.restrict(row, LESS)
    assert proxy.map == [value(row, "pypi.org")] and proxy.sessions
    if again == "tick":
        world.reconciler.tick()
    else:
        world.transitions.restrict(row, LESS)
    assert not proxy.sessions
    proxy.sessions = {"0x3": row.address}
    world.reconciler.tick()
    assert proxy.sessions, "once is enough"


def test_a_claim_that_the_proxy_does_not_take_is_given_to_nobody(world: World, proxy: FakeHaproxy) -> None:
    world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    world.pool.enable()
    proxy.refuses = True
    with pytest.raises(SandboxdError, match="refuses"):
        world.pool.obtain("base", Claim(policy=NAMED))
    proxy.refuses = False
    world.pool.drain()
    world.reconciler.tick()
    until(lambda: world.engine.empty() and led(world) == set(), "nothing is left")
    assert proxy.map == []


def test_name_servers_that_nobody_was_told_of_are_followed(world: World, proxy: FakeHaproxy) -> None:
    """What the proxy's unit notes at its start is compared with what the host has. Without a note it does not run."""
    present, noted = (world.mounts.root / file for file in ("etc/resolv.conf", "run/acme-egress/name-servers"))
    world.reconciler.tick()
    noted.parent.mkdir(parents=True)
    noted.write_text(f"nameserver {SERVER}\n")
    present.write_text(f"search example.com\nnameserver {SERVER}\noptions timeout:2\n")
    world.reconciler.tick()
    assert world.nft.units == []
    present.write_text(f"nameserver {SERVER}\nnameserver 192.0.2.54\n")
    world.reconciler.tick()
    assert world.nft.units == ["acme-name-servers.service"]
    noted.write_text(present.read_text())
    world.reconciler.tick()
    assert world.nft.units == ["acme-name-servers.service"]
