"""Checks of the engine, healthy and not."""

from dataclasses import replace
from typing import Any

import pytest

from sandboxd.doctor import engine
from sandboxd.doctor.findings import Verdict
from sandboxd.doctor.readers import Readers
from tests.unit.sandboxd import kernel
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.doctor.conftest import FakeHost, Look
from tests.unit.sandboxd.fake_engine import down

ALL = (
    engine.answers,
    engine.runtime,
    engine.user_namespaces,
    engine.live_restore,
    engine.networks,
    engine.cgroups,
    engine.apparmor,
    engine.images,
)


@pytest.mark.parametrize("look", ALL)
def test_a_healthy_host(readers: Readers, look: Look) -> None:
    assert look(readers).level == "ok"


def with_engine(readers: Readers, world: World, **changes: Any) -> Readers:
    world.engine.description = replace(world.engine.description, **changes)
    return readers


def with_wanted(readers: Readers, **changes: Any) -> Readers:
    config = replace(readers.config, wanted=replace(readers.config.wanted, **changes))
    readers.sandboxes.config = config
    return readers


def check(verdict: Verdict, level: str, seen: str, remedy: str) -> None:
    assert (verdict.level, seen in verdict.seen, remedy in verdict.remedy) == (level, True, True), verdict


def test_an_engine_that_is_down(readers: Readers, world: World) -> None:
    world.engine.fail["describe"] = down()
    check(engine.answers(readers), "fail", "Docker does not answer", "systemctl restart docker")


def test_it_is_asked_once(readers: Readers, world: World) -> None:
    engine.answers(readers)
    world.engine.fail["describe"] = down()
    assert engine.runtime(readers).level == "ok"


@pytest.mark.parametrize(("version", "level"), [("19.03.15", "warn"), ("20.10.24+dfsg1", "ok"), ("29.1.0", "ok")])
def test_versions(readers: Readers, world: World, version: str, level: str) -> None:
    verdict = engine.answers(with_engine(readers, world, version=version))
    assert verdict.level == level and version in verdict.seen


def test_another_runtime_than_the_deploy_wanted(readers: Readers, world: World) -> None:
    check(
        engine.runtime(with_engine(readers, world, runtime="runc")),
        "warn",
        "runc, not crun",
        "systemctl restart docker",
    )
    assert engine.runtime(with_wanted(readers, runtime="runc")).level == "ok"


def test_no_user_namespace(readers: Readers, world: World) -> None:
    verdict = engine.user_namespaces(with_engine(readers, world, userns_uid=0))
    check(verdict, "fail", "root in a sandbox is root on this host", "make deploy")
    verdict = engine.user_namespaces(with_wanted(readers, userns_remap=False))
    assert verdict.level == "skip" and "docker_userns_remap" in verdict.seen


def test_no_live_restore(readers: Readers, world: World) -> None:
    verdict = engine.live_restore(with_engine(readers, world, live_restore=False))
    check(verdict, "warn", "would stop all sandboxes", "systemctl reload docker")


@pytest.mark.parametrize(
    ("taken", "level", "seen"),
    [
        (0, "ok", "4096 of 4096"),
        (3686, "ok", "410 of 4096"),
        (3687, "warn", "409 of 4096"),
        (4096, "fail", "0 of 4096"),
    ],
)
def test_networks_run_out(
    readers: Readers, world: World, monkeypatch: pytest.MonkeyPatch, taken: int, level: str, seen: str
) -> None:
    monkeypatch.setattr(world.engine, "subnets", lambda: ["10.200.0.0/28"] * taken)
    verdict = engine.networks(readers)
    assert (verdict.level, seen in verdict.seen) == (level, True), verdict
    assert level == "ok" or "docker_network_pool" in verdict.remedy


def test_a_controller_is_missing(readers: Readers, host: FakeHost) -> None:
    host.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
    check(engine.cgroups(readers), "fail", "not limited in: memory", "cgroup_disable")


def test_the_engine_cannot_use_a_controller(readers: Readers, world: World) -> None:
    verdict = engine.cgroups(with_engine(readers, world, limits=frozenset({"memory", "swap", "cpu"})))
    check(verdict, "fail", "not limited in: pids", "cgroup")


def test_swap_that_is_not_limited_matters_where_there_is_swap(readers: Readers, world: World, host: FakeHost) -> None:
    with_engine(readers, world, limits=frozenset({"memory", "cpu", "pids"}))
    assert engine.cgroups(readers).level == "ok"
    host.write("proc/swaps", "Filename\tType\n/dev/sda2\tpartition\n")
    check(engine.cgroups(readers), "warn", "swap is not limited", "swapaccount=1")


def test_cgroups_of_both_versions_are_named(readers: Readers, host: FakeHost) -> None:
    assert engine.cgroups(readers).seen == "cpu, memory, pids (v2)"
    kernel.v1(host.root)
    assert engine.cgroups(readers).seen == "cpu, memory, pids (v1)"


def test_apparmor_that_the_kernel_has_and_the_engine_does_not_use(readers: Readers, world: World) -> None:
    check(engine.apparmor(with_engine(readers, world, apparmor=False)), "warn", "does not use it", "apparmor")


def test_a_profile_that_is_not_loaded_stops_every_start(readers: Readers, host: FakeHost, world: World) -> None:
    templates = world.config.templates
    templates["base"] = replace(templates["base"], apparmor="acme-sandbox")
    check(engine.apparmor(readers), "fail", "not loaded, so no new sandbox starts: acme-sandbox", "make deploy")
    host.write("sys/kernel/security/apparmor/profiles", "crun (unconfined)\nacme-sandbox (enforce)\n")
    assert "acme-sandbox" in engine.apparmor(readers).seen
    (host.root / "sys/kernel/security/apparmor/profiles").unlink()
    check(engine.apparmor(readers), "warn", "No such file", "securityfs")


@pytest.mark.parametrize("state", ["N\n", None])
def test_no_apparmor_at_all_does_not_apply(readers: Readers, host: FakeHost, state: str | None) -> None:
    file = host.root / "sys/module/apparmor/parameters/enabled"
    file.unlink()
    if state:
        file.write_text(state)
    assert engine.apparmor(readers).level == "skip"


def test_images_that_are_gone_are_named(readers: Readers, world: World) -> None:
    del world.engine.images["large:1"]
    check(engine.images(readers), "fail", "not on this host: large:1 of template large", "make deploy")
