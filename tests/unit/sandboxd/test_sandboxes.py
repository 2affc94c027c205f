"""The life cycle of one sandbox, over an engine in memory, a gateway's socket and a real ledger."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandboxd.errors import Conflict, EngineDown, EngineError, GatewayError, HostError, NotFound
from sandboxd.records import Claim
from sandboxd.tokens import agent_token
from tests.unit.sandboxd.conftest import KEY, World, member, nothing_is_left, until
from tests.unit.sandboxd.fake_engine import down, refusal


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
    assert agent["accessToken"] == agent_token(KEY, sandbox.id) and agent["envs"]["A"] == "1"
    assert [command[-3:] for command in world.commands if "-A" in command] == [
        ["DNAT", "--to-destination", "127.0.0.1"]
    ]


ENGINE_STEPS = ["image_id", "data_root", "create_network", "userns_uid", "create_container", "start", "container"]
OTHER_STEPS = ["dirs.create", "dirs.write", "ledger.set_id", "ledger.set_boot", "ledger.set_running", "gateway._put"]


@pytest.mark.parametrize("method", ENGINE_STEPS)
@pytest.mark.parametrize("raised", [down(), refusal(), RuntimeError("a bug")])
def test_a_create_that_fails_leaves_nothing(world: World, method: str, raised: Exception) -> None:
    world.engine.fail[method] = raised
    with pytest.raises(type(raised)):
        world.sandboxes.create(world.config.templates["base"], Claim())
    assert method not in world.engine.fail, "the step was reached"
    nothing_is_left(world)


@pytest.mark.parametrize("step", OTHER_STEPS)
def test_so_does_one_that_fails_outside_docker(world: World, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    part, method = step.split(".")
    reached = []

    def fail(*_: object) -> None:
        reached.append(step)
        raise HostError("no space left on device")

    monkeypatch.setattr(getattr(world.sandboxes, part), method, fail)
    with pytest.raises(HostError):
        world.sandboxes.create(world.config.templates["base"], Claim())
    assert reached == [step]
    nothing_is_left(world)


def test_so_does_one_whose_rule_is_refused(world: World) -> None:
    world.exit_codes["-A"] = 4
    with pytest.raises(EngineError, match="ended with 4"):
        world.sandboxes.create(world.config.templates["base"], Claim())
    nothing_is_left(world)


@pytest.mark.parametrize("method", [*ENGINE_STEPS, "rename"])
def test_a_member_that_fails_leaves_nothing_and_never_counts(world: World, method: str) -> None:
    world.engine.fail[method] = refusal()
    with pytest.raises(EngineError):
        world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    nothing_is_left(world)


def test_a_member_that_nobody_wants_any_more_is_not_begun(world: World) -> None:
    assert not world.sandboxes.create_member(world.config.templates["base"], lambda: False)
    assert world.engine.payloads == [] and world.ledger.rows() == []


def test_what_could_not_be_undone_is_removed_later(world: World) -> None:
    world.engine.fail = {"start": refusal(), "remove_network": down()}
    with pytest.raises(EngineError):
        world.sandboxes.create(world.config.templates["base"], Claim())
    assert [row.state for row in world.ledger.rows()] == ["removing"]
    world.reconciler.tick()
    assert world.engine.empty() and world.ledger.rows() == [] and world.leftovers() == []


def test_nothing_is_made_without_gateway(world: World) -> None:
    world.haproxy.stop()
    with pytest.raises(GatewayError, match="systemctl"):
        world.sandboxes.create(world.config.templates["base"], Claim())
    assert world.engine.empty() and world.engine.payloads == []


def test_a_claim_takes_the_oldest_member_and_renames_it(world: World) -> None:
    first, second = member(world), member(world)
    sandbox = world.sandboxes.claim(world.config.templates["base"], Claim(envs={"A": "1"}))
    world.sandboxes.settle()
    assert sandbox is not None and sandbox.id == first and sandbox.origin == "pool"
    assert world.engine.containers[first].name.startswith("acme-qa-")
    assert world.engine.containers[second].name == f"acme-pool-{second}"
    assert json.loads(world.sandboxes.dirs.read(sandbox.slot))["envs"]["A"] == "1"
    assert [key for key, _ in world.haproxy.map] == [first]


def test_many_claimers_never_get_the_same_member(world: World) -> None:
    members = {member(world) for _ in range(8)}
    template = world.config.templates["base"]
    with ThreadPoolExecutor(24) as several:
        claimed = list(several.map(lambda _: world.sandboxes.claim(template, Claim()), range(24)))
    ids = [sandbox.id for sandbox in claimed if sandbox]
    assert len(ids) == 8 and set(ids) == members
    assert (world.ledger.counter("hits:base"), world.ledger.counter("misses:base")) == (8, 16)
    assert len({sandbox.container for sandbox in claimed if sandbox}) == 8


def test_a_dead_member_is_discarded_and_the_next_one_claimed(world: World) -> None:
    dead, alive = member(world), member(world)
    world.dead.add(world.engine.containers[dead].address)
    sandbox = world.sandboxes.claim(world.config.templates["base"], Claim())
    world.sandboxes.settle()
    assert sandbox is not None and sandbox.id == alive
    assert world.ledger.counter("hits:base") == 1 and dead not in world.engine.containers


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
    world.engine.fail["remove_network"] = down()
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


def test_who_got_what_is_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pooled = member(world)
    assert world.sandboxes.claim(world.config.templates["base"], Claim(envs={"KEY": "secret"}))
    cold = world.sandboxes.create(world.config.templates["large"], Claim(envs={"KEY": "secret"}))
    said = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert f"sandbox {pooled} is in use: origin pool, template base" in said
    assert f"sandbox {cold.id} is in use: origin cold, template large" in said
    assert "secret" not in caplog.text


@pytest.mark.parametrize("step", ["dirs.write", "gateway._put"])
@pytest.mark.parametrize("raised", [HostError("no space left on device"), RuntimeError("a bug")])
def test_a_claim_that_fails_half_way_leaves_nobodys_sandbox(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str, raised: Exception
) -> None:
    member(world)
    part, method = step.split(".")

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(getattr(world.sandboxes, part), method, fail)
    with pytest.raises(type(raised)):
        world.sandboxes.claim(world.config.templates["base"], Claim(envs={"A": "1"}))
    nothing_is_left(world)


def test_without_gateway_no_member_is_taken(world: World) -> None:
    member(world)
    world.haproxy.stop()
    with pytest.raises(GatewayError):
        world.sandboxes.claim(world.config.templates["base"], Claim())
    assert len(world.ledger.rows("warm")) == 1 and world.ledger.counter("misses:base") == 0


def test_a_claim_in_the_middle_of_a_look_keeps_its_variables_and_its_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reconcile looked at the member while it was warm, and writes last: it must not write what was before."""
    found = member(world)
    (row,) = world.ledger.rows("warm")
    looking, go_on = threading.Event(), threading.Event()
    inspect = world.engine.container

    def slow(container: str) -> object:
        looking.set()
        assert go_on.wait(120), "longer than the test looks"
        return inspect(container)

    with ThreadPoolExecutor(2) as several:
        with monkeypatch.context() as patch:
            patch.setattr(world.engine, "container", slow)
            mended = several.submit(world.sandboxes.mend, row)
            assert looking.wait(30)
        template, claim = world.config.templates["base"], Claim(envs={"A": "1"})
        claimed = several.submit(world.sandboxes.claim, template, claim)
        until(lambda: bool(world.ledger.rows("running")), "the claim")
        go_on.set()
        assert mended.result(30)
        sandbox = claimed.result(30)
    world.sandboxes.settle()
    assert sandbox is not None and json.loads(world.sandboxes.dirs.read(sandbox.slot))["envs"]["A"] == "1"
    assert world.engine.containers[found].name == sandbox.container


def test_a_look_that_comes_after_the_claim_writes_what_was_claimed(world: World) -> None:
    member(world)
    (stale,) = world.ledger.rows("warm")
    sandbox = world.sandboxes.claim(world.config.templates["base"], Claim(envs={"A": "1"}))
    world.sandboxes.settle()
    assert sandbox is not None and world.sandboxes.mend(stale)
    assert json.loads(world.sandboxes.dirs.read(sandbox.slot))["envs"]["A"] == "1"
    assert world.engine.containers[sandbox.id].name == sandbox.container


def test_a_name_that_docker_refused_is_given_by_reconcile(world: World) -> None:
    world.engine.fail["rename"] = refusal()
    sandbox = world.sandboxes.create(world.config.templates["base"], Claim())
    world.sandboxes.settle()
    assert world.engine.containers[sandbox.id].name == f"acme-pool-{sandbox.slot}"
    world.reconciler.tick()
    assert world.engine.containers[sandbox.id].name == sandbox.container


def test_who_waits_too_long_for_a_slot_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.slotlocks.DEADLINE_S", 0.01)
    sandbox = world.sandboxes.create(world.config.templates["base"], Claim())
    with world.sandboxes.locks.hold(sandbox.slot), pytest.raises(Conflict, match="being changed by another request"):
        world.sandboxes.remove(sandbox, "test")
    assert [row.state for row in world.ledger.rows()] == ["running"]


def test_who_asks_for_one_that_has_ended_is_told_when_and_why(world: World) -> None:
    sandbox = world.sandboxes.create(world.config.templates["base"], Claim())
    world.engine.fail["remove_network"] = down()
    world.sandboxes.try_remove(sandbox, "cleanup")
    with pytest.raises(NotFound, match="not found: it is being removed: cleanup"):
        world.sandboxes.find(sandbox.id)
    world.reconciler.tick()
    with pytest.raises(NotFound, match="not found: it ended on 2027-01-15 08:00:00 UTC: cleanup"):
        world.sandboxes.find(f"{sandbox.id}-local")
