"""The list of checks: names, order, needs; and the whole of it on a healthy host."""

from contextlib import closing

from sandboxd.doctor.checks import LOOKS, PROBE_NEEDS, checks
from sandboxd.doctor.effects import Output
from sandboxd.doctor.findings import Finding, examine
from sandboxd.doctor.probe import Probe
from sandboxd.doctor.readers import Readers
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.doctor.conftest import UNIT, FakeHost
from tests.unit.sandboxd.fake_engine import down


def listed(readers: Readers) -> list[Finding]:
    return list(examine(checks(None), readers, lambda: False, "look"))


def levels(findings: list[Finding], *wanted: str) -> set[str]:
    return {one.name for one in findings if one.level in wanted}


def test_each_name_once_and_what_is_needed_comes_before(readers: Readers) -> None:
    with closing(Probe(readers, lambda row, command, background: True)) as probe:
        whole = checks(probe)
    seen: list[str] = []
    for check in whole:
        assert check.name not in seen and set(check.needs) <= set(seen), check.name
        seen.append(check.name)
    assert set(PROBE_NEEDS) <= {check.name for check in LOOKS}
    assert seen[-1] == "probe-removed" and len(checks(None)) == len(LOOKS)


def test_a_healthy_host(readers: Readers) -> None:
    findings = listed(readers)
    assert len(findings) == len(LOOKS)
    assert levels(findings, "fail", "blocked") == set()
    assert levels(findings, "skip") == {"acme", "shared-storage"}, "its own authority, and no fleet"
    assert levels(findings, "warn") == {"limits"}, "the double of the host has a small limit of open files"


def test_an_engine_that_is_down_is_one_failure(readers: Readers, world: World) -> None:
    world.engine.fail["describe"] = down()
    findings = listed(readers)
    assert levels(findings, "fail") == {"engine"}
    assert {"images", "networks", "pool", "disk-engine", "health"} <= levels(findings, "blocked")
    assert {"gateway", "routes", "certificate", "ledger", "versions"} <= levels(findings, "ok")


def test_a_stopped_gateway_is_one_failure(readers: Readers, world: World, host: FakeHost) -> None:
    world.haproxy.stop()
    world.reconciler.sync_routes()
    host.outputs = {"systemctl show haproxy": Output(0, UNIT.replace("=active", "=inactive")), **host.outputs}
    findings = listed(readers)
    assert levels(findings, "fail") == {"unit-haproxy"}
    assert levels(findings, "blocked") == {"gateway", "routes", "console", "health"}


def test_every_warning_and_failure_has_a_remedy_of_one_line(readers: Readers, world: World, host: FakeHost) -> None:
    """On a host of which nothing is left."""
    world.haproxy.stop()
    world.engine.images.clear()
    host.outputs = {"systemctl show ": Output(1, "no bus"), "": Output(127, "not installed")}
    host.served.clear()
    host.free = 0
    findings = listed(readers)
    bad = [one for one in findings if one.level in ("warn", "fail")]
    assert len(bad) > 8
    for one in bad:
        assert one.remedy and "\n" not in one.remedy + one.seen, one
