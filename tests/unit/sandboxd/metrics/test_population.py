"""What the daemon knows of itself: sandboxes by state, pools, troubles."""

import pytest

from sandboxd import __version__
from sandboxd.errors import EngineError, SandboxdError
from sandboxd.records import Claim, MadeTemplate
from tests.unit.sandboxd.conftest import member
from tests.unit.sandboxd.fake_engine import START
from tests.unit.sandboxd.metrics.conftest import Observed


def test_sandboxes_by_state_and_template(observed: Observed) -> None:
    first, _ = observed.client.create(), observed.client.create(templateID="large")
    observed.client.unix.post(f"/sandboxes/{first['sandboxID']}/pause")
    observed.world.ledger.add_template(MadeTemplate("mine", "base:1", "base", 0, START))
    observed.client.create(templateID="mine")
    found = observed.samples()["sandbox_instances"]
    assert {key: value for key, value in found.items() if value} == {
        (("state", "paused"), ("template", "base")): 1,
        (("state", "running"), ("template", "large")): 1,
        (("state", "running"), ("template", "other")): 1,
    }
    assert found[("state", "warm"), ("template", "base")] == 0, "what may be is there with a zero"
    assert observed.value("sandbox_routes") == 3 and observed.value("sandbox_instances_limit") == 100


def test_pools_and_their_claims(observed: Observed) -> None:
    observed.world.pool.enable()
    member(observed.world)
    observed.client.create()
    observed.client.create()
    assert observed.value("sandbox_pool_size", template="base") == 2
    assert observed.value("sandbox_pool_warm", template="base") == 0
    assert observed.value("sandbox_pool_starting", template="base") == 0
    assert observed.value("sandbox_pool_claims_total", template="base", result="hit") == 1
    assert observed.value("sandbox_pool_claims_total", template="base", result="miss") == 1
    assert observed.value("sandbox_claim_duration_seconds_count", template="base") == 1
    assert observed.value("sandbox_create_duration_seconds_count", template="base") == 1


def test_a_hit_that_is_taken_back_makes_no_counter_fall(observed: Observed) -> None:
    """Prometheus would take that for a restart, and the whole value for an increase."""
    observed.world.pool.enable()
    member(observed.world)
    observed.client.create()
    assert observed.value("sandbox_pool_claims_total", template="base", result="hit") == 1
    world = observed.world
    dead = member(world)
    world.dead.update(row.address for row in world.ledger.rows("warm") if row.id == dead)
    world.ledger._count("hits:base", -1)
    observed.client.create()
    assert observed.value("sandbox_pool_claims_total", template="base", result="hit") == 1


def test_failures_by_what_was_done_and_why(observed: Observed) -> None:
    observed.world.engine.fail["create_network"] = EngineError("refused")
    with pytest.raises(SandboxdError):
        observed.world.sandboxes.create(observed.world.config.templates["base"], Claim())
    observed.world.memory_mb[0] = 10
    observed.client.unix.post("/v2/sandboxes", json={})
    assert observed.value("sandbox_failures_total", operation="create", reason="engine_error") == 1
    assert observed.value("sandbox_failures_total", operation="create", reason="memory_reserve_mb") == 1


def test_troubles_have_few_names(observed: Observed) -> None:
    health = observed.world.health
    for source in ("sandbox 1", "sandbox 2", "gateway", "pool of base"):
        health.report(source, "is wrong")
    assert observed.value("sandboxd_troubles") == 4
    assert {labels[0][1]: value for labels, value in observed.samples()["sandboxd_trouble"].items()} == {
        "sandboxes": 2,
        "gateway": 1,
        "pool of base": 1,
    }


def test_the_release_and_the_last_comparison(observed: Observed) -> None:
    samples = observed.samples()
    ((labels, _),) = samples["sandboxd_build_info"].items()
    assert ("version", __version__) in labels and "sandboxd_reconcile_timestamp_seconds" not in samples
    observed.world.reconciler._try_tick()
    assert observed.value("sandboxd_reconcile_timestamp_seconds") == START
    assert observed.value("sandboxd_audit_lost_total") == 0
