"""Policies through the life of a sandbox: what stands on the host, and when; what is shut inside."""

from collections.abc import Callable
from typing import Any

import pytest

from sandboxd import iprules, netns, nftables
from sandboxd.config import Config
from sandboxd.errors import HostError, NotFound, NotReady
from sandboxd.policy import UNRESTRICTED, Policy, parse
from sandboxd.records import Claim, Sandbox
from tests.unit.sandboxd.conftest import World, living, make_world, until
from tests.unit.sandboxd.fake_engine import down

CLOSED = parse([], [], internet=False)
PARTLY = parse(["10.1.0.0/16"], ["10.0.0.0/8"])


def create(world: World, policy: Policy = CLOSED) -> Sandbox:
    return world.sandboxes.create(world.config.templates["base"], Claim(policy=policy))


def rules(policy: Policy) -> list[str]:
    return nftables.chains(policy).get("from", [])


def watched(world: World, monkeypatch: pytest.MonkeyPatch, method: str) -> list[set[str]]:
    """The slots that had rules at each call of that method of the engine."""
    seen: list[set[str]] = []
    real: Callable[..., Any] = getattr(world.engine, method)

    def call(*arguments: Any) -> Any:
        seen.append(world.nft.slots())
        return real(*arguments)

    monkeypatch.setattr(world.engine, method, call)
    return seen


def names(world: World) -> list[list[str]]:
    """The commands about names inside; each begins with a look, which finds nothing."""
    return [command for command in world.commands if netns.RESOLVER in command]


def test_the_rules_stand_before_the_first_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(world, monkeypatch, "start")
    row = create(world)
    assert seen == [{row.slot}] and world.nft.rules(row.slot) == rules(CLOSED)
    assert row.policy == CLOSED and world.ledger.get(row.slot) == row


def test_the_rules_stand_before_a_member_is_handed_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    template = world.config.templates["base"]
    world.sandboxes.create_member(template, lambda: True)
    seen: list[tuple[list[str], int]] = []
    update = world.gateway.update

    def adding(sandbox_id: str) -> None:
        (found,) = world.ledger.find(sandbox_id)
        seen.append((world.nft.rules(found.slot), len(names(world))))
        update(sandbox_id)

    monkeypatch.setattr(world.gateway, "update", adding)
    row = world.sandboxes.claim(template, Claim(policy=PARTLY))
    assert row is not None and row.policy == PARTLY
    assert seen == [(rules(PARTLY), 1)]


def test_every_sandbox_is_behind_the_wall_from_its_first_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim without wishes changes nothing, so it costs nothing."""
    seen = watched(world, monkeypatch, "start")
    template = world.config.templates["base"]
    world.sandboxes.create_member(template, lambda: True)
    before = len(world.nft.scripts)
    first = world.sandboxes.claim(template, Claim())
    assert first is not None and len(world.nft.scripts) == before
    second = create(world, UNRESTRICTED)
    assert seen == [{first.slot}, {first.slot, second.slot}]
    assert world.nft.rules(first.slot) == rules(UNRESTRICTED) == world.nft.rules(second.slot)
    for row in (first, second):
        world.sandboxes.remove(row, "test")
    assert world.nft.slots() == set() and names(world) == []


def test_one_that_is_open_is_so_when_it_is_claimed_and_not_before(world: World) -> None:
    template, wide = world.config.templates["base"], parse([], [], past_wall=True)
    world.sandboxes.create_member(template, lambda: True)
    assert list(world.nft.policies().values()) == [rules(UNRESTRICTED)]
    row = world.sandboxes.claim(template, Claim(policy=wide))
    assert row is not None and world.nft.rules(row.slot) == rules(wide) != rules(UNRESTRICTED)
    assert world.ledger.get(row.slot) == row and row.policy.open


def test_a_claim_that_cannot_be_held_is_given_to_nobody(world: World) -> None:
    template = world.config.templates["base"]
    world.sandboxes.create_member(template, lambda: True)
    world.nft.fail = HostError("nft refuses")
    with pytest.raises(HostError, match="nft refuses"):
        world.sandboxes.claim(template, Claim(policy=CLOSED))
    assert world.engine.empty() and world.nft.slots() == set() and world.leftovers() == []


def test_a_create_that_fails_leaves_no_rules(world: World) -> None:
    world.dead.add("10.200.0.1")
    with pytest.raises(NotReady):
        create(world)
    assert world.nft.slots() == set() and len(world.nft.scripts) == 2
    world.nft.fail = HostError("nft refuses")
    with pytest.raises(HostError, match="nft refuses"):
        create(world)
    assert world.engine.empty() and world.nft.slots() == set()


def test_they_go_with_the_sandbox(world: World) -> None:
    first, second = create(world), create(world, PARTLY)
    assert world.sandboxes.remove(first, "test")
    assert world.nft.slots() == {second.slot}
    world.nft.fail = HostError("nft refuses")
    with pytest.raises(HostError):
        world.sandboxes.remove(second, "test")
    world.reconciler.tick()
    assert world.nft.slots() == set() and world.engine.empty()


@pytest.mark.parametrize("state", ["running", "paused", "stopped"])
def test_another_policy_holds_at_once(world: World, state: str) -> None:
    row = create(world)
    if state == "paused":
        world.transitions.pause(row)
    elif state == "stopped":
        world.transitions.stop(row, "test")
    for policy in (PARTLY, CLOSED, UNRESTRICTED):
        changed = world.transitions.restrict(row, policy)
        assert (changed.policy, changed.state) == (policy, state)
        assert world.nft.rules(row.slot) == rules(policy)


def test_names_are_shut_and_opened_inside(world: World) -> None:
    row = create(world)
    pid = world.sandboxes.inspect(row.id).pid
    shut = [netns.names_command(pid, verb) for verb in ("-C", "-A")]
    assert names(world) == shut
    world.exit_codes["-C"] = 0  # the rule is there
    world.transitions.restrict(row, UNRESTRICTED)
    assert names(world)[2:] == [netns.names_command(pid, verb) for verb in ("-C", "-D")]
    world.exit_codes["-C"] = 1
    world.transitions.restrict(row, PARTLY)
    assert names(world)[4:] == [netns.names_command(pid, "-C")], "a name server is left"


def test_a_container_asks_name_servers_that_it_reaches_itself(world: World) -> None:
    file = world.mounts.root / "etc/resolv.conf"
    file.parent.mkdir(exist_ok=True)
    file.write_text("nameserver 192.0.2.53\nnameserver 2001:db8::53\n")
    create(world)
    file.write_text("nameserver 192.0.2.53\n")
    create(world)
    asked = [payload["HostConfig"].get("Dns") for payload in world.engine.payloads]
    assert asked == [["192.0.2.53"], None]


def test_the_policy_of_one_that_was_removed(world: World) -> None:
    row = create(world)
    world.sandboxes.remove(row, "test")
    with pytest.raises(NotFound, match="removed meanwhile"):
        world.transitions.restrict(row, PARTLY)
    assert world.nft.slots() == set()


@pytest.mark.parametrize("before", ["paused", "stopped"])
def test_they_stand_before_it_runs_again(world: World, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    row = create(world)
    if before == "paused":
        world.transitions.pause(row)
    else:
        world.transitions.stop(row, "test")
    world.nft.flush()
    seen = watched(world, monkeypatch, "unpause" if before == "paused" else "start")
    world.transitions.resume(row)
    assert seen == [{row.slot}]


def test_after_a_reboot_they_stand_before_anything_starts(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with living(config) as world:
        row, stopped = create(world), create(world, PARTLY)
        world.transitions.stop(stopped, "test")
        world.engine.stop(row.id)
        world.mounts.reboot()
        world.nft.flush()
        again = make_world(config, world.engine, world.haproxy, world.mounts, world.nft)
        try:
            seen = watched(again, monkeypatch, "start")
            again.reconciler.tick()
            assert seen == [{row.slot, stopped.slot}]
            assert again.nft.rules(row.slot) == rules(CLOSED)
        finally:
            again.sandboxes.settle()
            again.ledger.close()


def test_what_somebody_flushes_is_mended_even_without_docker(world: World) -> None:
    row, free = create(world), create(world, UNRESTRICTED)
    world.reconciler.tick()
    before = len(world.nft.scripts)
    world.reconciler.tick()
    assert len(world.nft.scripts) == before, "what is right is left alone"
    world.nft.flush()
    world.engine.fail["inventory"] = down()
    with pytest.raises(type(down())):
        world.reconciler.tick()
    assert world.nft.policies() == {row.slot: rules(CLOSED), free.slot: rules(UNRESTRICTED)}
    assert len(world.nft.scripts) == before + 1, "in one step: nothing is open in between"


def test_what_somebody_flushes_is_mended_at_once(world: World) -> None:
    """Without a comparison with Docker, and whatever somebody works on meanwhile."""
    row = create(world)
    world.reconciler.start()
    until(lambda: world.reconciler.compared_at > 0, "the first comparison")
    compared = world.reconciler.compared_at
    with world.sandboxes.locks.hold(row.slot):
        world.nft.flush()
        world.nft.removed.put(None)
        until(lambda: world.nft.policies() == {row.slot: rules(CLOSED)}, "rules again")
    assert world.reconciler.compared_at == compared


@pytest.mark.parametrize("failure", [OSError("the kernel tells no more"), ValueError("what nobody foresaw")])
def test_listening_goes_on_when_it_fails_and_that_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    told: list[str] = []
    report = world.health.report

    def reporting(source: str, trouble: str) -> None:
        told.append(trouble)
        report(source, trouble)

    monkeypatch.setattr(world.health, "report", reporting)
    row = create(world)
    world.reconciler.start()
    until(lambda: world.reconciler.compared_at > 0, "the first comparison")
    world.nft.removed.put(failure)
    until(lambda: any("nobody tells" in one and str(failure) in one for one in told), "word of it")
    world.nft.flush()
    until(lambda: world.nft.policies() == {row.slot: rules(CLOSED)}, "rules again")
    until(lambda: "firewall" not in world.health.troubles(), "no trouble any more")


def test_a_table_that_is_gone_is_made_with_the_rules_of_who_comes_first(world: World) -> None:
    row = create(world)
    world.nft.flush()
    second = create(world, PARTLY)
    assert world.nft.policies() == {second.slot: rules(PARTLY)}, "the other one reaches nothing until it is mended"
    world.nft.flush()
    world.sandboxes.remove(row, "test")
    world.sandboxes.guard.mend()
    assert world.nft.policies() == {second.slot: rules(PARTLY)}


def test_rules_that_no_policy_wants_are_put_right(world: World) -> None:
    row = create(world, UNRESTRICTED)
    world.reconciler.tick()  # the ledger is seen to be this host's
    for slot in (row.slot, "f" * 12):
        world.sandboxes.guard.hold(slot, CLOSED)
    world.reconciler.tick()
    assert world.nft.policies() == {row.slot: rules(UNRESTRICTED)}


def test_routing_is_put_right_too(world: World) -> None:
    guard, own = world.sandboxes.guard, iprules.wanted(world.config.egress.sources)
    for _ in range(2):
        guard.mend()
        assert sorted(world.nft.routing) == sorted([*own, "0: from all lookup local", "32766: from all lookup main"])
    assert guard.faults() == []
    world.nft.routing.remove(own[-1])
    assert guard.faults() == [f"routing rules: {own[-1]}"]
    guard.mend()
    assert guard.faults() == []


def test_what_is_wrong_is_told_and_nothing_is_changed(world: World) -> None:
    row, guard = create(world), world.sandboxes.guard
    guard.mend()
    assert guard.faults() == []
    world.nft.chains[f"from-{row.slot}"].clear()
    before = len(world.nft.scripts)
    assert guard.faults() == ["those of 1 sandboxes"]
    world.nft.flush()
    assert guard.faults() == ["those that all share and those of 1 sandboxes"]
    assert len(world.nft.scripts) == before


def test_a_name_server_in_a_private_network_is_reached_at_its_port_alone(world: World) -> None:
    guard, file = world.sandboxes.guard, world.mounts.root / "etc/resolv.conf"
    file.parent.mkdir(exist_ok=True)
    file.write_text("nameserver 10.0.0.53\nnameserver 127.0.0.1\nnameserver fd00::53\n")
    guard.raise_wall()
    first = world.nft.chains["public"][0]
    assert first.startswith("ip daddr 10.0.0.53/32 meta l4proto { tcp, udp } th dport 53 accept")
    file.write_text("nameserver 10.0.0.54\n")
    assert guard.faults() == ["those that all share"], "the host has another name server now"
    guard.mend()
    assert "10.0.0.54/32" in world.nft.chains["public"][0]


def test_rules_of_a_slot_that_somebody_works_on_are_left_alone(world: World) -> None:
    world.sandboxes.guard.hold("f" * 12, CLOSED)
    with world.sandboxes.locks.hold("f" * 12):
        world.reconciler.tick()
    assert world.nft.slots() == {"f" * 12}


def test_a_host_without_nft_is_reported_and_the_rest_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    row = create(world, UNRESTRICTED)
    world.reconciler.tick()
    world.engine.remove_container(row.id)

    def missing(command: list[str], text: str) -> str:
        raise HostError("nft: not found. Deploy again.")

    monkeypatch.setattr(world.sandboxes.guard, "_nft", missing)
    world.reconciler.tick()
    assert "nft: not found" in world.health.troubles()["firewall"]
    assert world.ledger.rows("removing") and world.engine.empty()
    monkeypatch.undo()
    world.reconciler.tick()
    assert world.ledger.rows("removing") == [] and world.nft.slots() == set()
    assert "firewall" not in world.health.troubles()


def test_a_policy_that_docker_keeps_from_being_whole_is_told(world: World) -> None:
    row = create(world, UNRESTRICTED)
    world.engine.fail["container"] = down()
    with pytest.raises(type(down())):
        world.transitions.restrict(row, CLOSED)
    assert world.nft.rules(row.slot) == rules(CLOSED), "the host's rules stand all the same"


def test_a_restart_by_hand_shuts_names_again(world: World) -> None:
    row = create(world)
    before = len(names(world))
    world.engine.stop(row.id)
    world.reconciler.tick()
    until(lambda: world.engine.containers[row.id].running, "it is started again")
    assert len(names(world)) == before + 2
