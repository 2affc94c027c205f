"""The life cycle of one sandbox, over an engine in memory, a gateway's socket and a real ledger."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandboxd.errors import Conflict, EngineDown, EngineError, GatewayError, NotFound, NotReady
from sandboxd.ledger import Claim
from sandboxd.slotdir import access_token
from tests.unit.sandboxd.conftest import KEY, World, down, refusal


def test_a_cold_create_is_reachable_and_claimed(world: World) -> None:
    template = world.config.templates["base"]
    sandbox = world.sandboxes.create(template, Claim(timeout_s=60, name="demo", envs={"A": "1"}))
    world.sandboxes.settle()
    assert (sandbox.state, sandbox.origin, sandbox.name) == ("running", "cold", "demo")
    assert sandbox.ends_at == world.now[0] + 60
    container = world.engine.containers[sandbox.id]
    assert container.running and container.name == sandbox.container
    assert world.haproxy.map == [(sandbox.id, container.address)]
    agent = json.loads(world.sandboxes.dirs.read(sandbox.slot))
    assert agent["accessToken"] == access_token(KEY, sandbox.id) and agent["envs"] == {"A": "1"}
    assert [command[-3:] for command in world.commands if "-A" in command] == [
        ["DNAT", "--to-destination", "127.0.0.1"]
    ]


@pytest.mark.parametrize("method", ["create_network", "create_container", "start", "container"])
@pytest.mark.parametrize("error", [down, refusal])
def test_a_create_that_fails_leaves_nothing(world: World, method: str, error: object) -> None:
    assert callable(error)
    raised = error()
    world.engine.fail[method] = raised
    with pytest.raises(type(raised)):
        world.sandboxes.create(world.config.templates["base"], Claim())
    assert world.engine.empty() and world.leftovers() == []
    assert world.ledger.rows() == [] and world.haproxy.map == []


def test_what_could_not_be_undone_is_removed_later(world: World) -> None:
    world.engine.fail = {"start": refusal(), "remove_network": down()}
    with pytest.raises(EngineError):
        world.sandboxes.create(world.config.templates["base"], Claim())
    assert [row.state for row in world.ledger.rows()] == ["removing"]
    world.reconciler.tick()
    assert world.engine.empty() and world.ledger.rows() == [] and world.leftovers() == []


def test_an_agent_that_never_answers_is_an_error_with_its_log(world: World) -> None:
    world.dead.add("10.200.0.1")
    with pytest.raises(NotReady, match="the last line"):
        world.sandboxes.create(world.config.templates["base"], Claim())
    assert world.engine.empty()


def test_nothing_is_made_without_gateway(world: World) -> None:
    world.haproxy.stop()
    with pytest.raises(GatewayError, match="systemctl"):
        world.sandboxes.create(world.config.templates["base"], Claim())
    assert world.engine.empty() and world.engine.payloads == []


def member(world: World) -> str:
    """A new pool member, a second younger than the one before."""
    world.now[0] += 1
    assert world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    return world.ledger.rows("warm")[-1].id


def test_a_claim_takes_the_oldest_member_and_renames_it(world: World) -> None:
    first, second = member(world), member(world)
    sandbox = world.sandboxes.claim(world.config.templates["base"], Claim(envs={"A": "1"}))
    world.sandboxes.settle()
    assert sandbox is not None and sandbox.id == first and sandbox.origin == "pool"
    assert world.engine.containers[first].name.startswith("acme-qa-")
    assert world.engine.containers[second].name == f"acme-pool-{second}"
    assert json.loads(world.sandboxes.dirs.read(sandbox.slot))["envs"] == {"A": "1"}
    assert [key for key, _ in world.haproxy.map] == [first]


def test_many_claimers_never_get_the_same_member(world: World) -> None:
    members = {member(world) for _ in range(8)}
    template = world.config.templates["base"]
    with ThreadPoolExecutor(24) as several:
        claimed = list(several.map(lambda _: world.sandboxes.claim(template, Claim()), range(24)))
    ids = [sandbox.id for sandbox in claimed if sandbox]
    assert len(ids) == 8 and set(ids) == members
    assert (world.ledger.counter("hits"), world.ledger.counter("misses")) == (8, 16)
    assert len({sandbox.container for sandbox in claimed if sandbox}) == 8


def test_a_dead_member_is_discarded_and_the_next_one_claimed(world: World) -> None:
    dead, alive = member(world), member(world)
    world.dead.add(world.engine.containers[dead].address)
    sandbox = world.sandboxes.claim(world.config.templates["base"], Claim())
    world.sandboxes.settle()
    assert sandbox is not None and sandbox.id == alive
    assert world.ledger.counter("hits") == 1 and dead not in world.engine.containers


def test_a_member_of_another_image_is_not_claimed(world: World) -> None:
    member(world)
    world.engine.images["base:1"] = "sha256:2"
    assert world.sandboxes.claim(world.config.templates["base"], Claim()) is None


def test_remove_takes_everything_and_only_once(world: World) -> None:
    sandbox = world.sandboxes.create(world.config.templates["base"], Claim())
    with ThreadPoolExecutor(4) as several:
        done = list(several.map(lambda _: world.sandboxes.remove(sandbox, "test", ("running",)), range(4)))
    assert sorted(done) == [False, False, False, True]
    assert world.engine.empty() and world.leftovers() == [] and world.haproxy.map == []
    assert world.ledger.rows() == []


def test_a_removal_that_docker_interrupts_is_finished_later(world: World) -> None:
    sandbox = world.sandboxes.create(world.config.templates["base"], Claim())
    world.engine.fail["remove_volume"] = down()
    with pytest.raises(EngineDown):
        world.sandboxes.remove(sandbox, "test")
    world.reconciler.tick()
    assert world.engine.empty() and world.ledger.rows() == []


def test_find_by_prefix(world: World) -> None:
    first = world.sandboxes.create(world.config.templates["base"], Claim())
    second = world.sandboxes.create(world.config.templates["base"], Claim())
    assert world.sandboxes.find(first.id) == world.sandboxes.find(f"{first.id}-local")
    with pytest.raises(Conflict, match=second.id):
        world.sandboxes.find("0000")
    for prefix in ("ffff", "", "0000%"):
        with pytest.raises(NotFound):
            world.sandboxes.find(prefix)


def test_an_unknown_template_is_named_with_those_that_there_are(world: World) -> None:
    with pytest.raises(NotFound, match=r"template 'huge' not found. This host has: base, large"):
        world.sandboxes.template("huge")
