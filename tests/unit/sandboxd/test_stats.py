"""Samples of many sandboxes: Docker is asked once for each boot, and does not hold up what is known."""

from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.engine import Container
from sandboxd.proc import Network
from sandboxd.records import Claim, Sandbox
from sandboxd.stats import Stats
from tests.unit.sandboxd import kernel
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.fake_engine import down


@pytest.fixture
def row(world: World, tmp_path: Path) -> Sandbox:
    return created(world, tmp_path)


def created(world: World, root: Path) -> Sandbox:
    made = world.sandboxes.create(world.config.templates["base"], Claim())
    world.sandboxes.settle()  # its container has its name by then: a test changes it by hand
    kernel.v2(root, made.id + "0" * 52, world.engine.containers[made.id].pid)
    world.now[0] += 1
    return made


@pytest.fixture
def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The containers that Docker was asked about from now on."""
    made: list[str] = []
    inspect = world.engine.container

    def noted(container: str) -> Container | None:
        made.append(container)
        return inspect(container)

    monkeypatch.setattr(world.engine, "container", noted)
    return made


def stats(world: World, root: Path) -> Stats:
    return Stats(world.ledger, world.engine, root)


def test_one_that_runs(world: World, row: Sandbox, tmp_path: Path) -> None:
    (sample,) = stats(world, tmp_path).read()
    assert (sample.row.id, sample.state, sample.network) == (row.id, "running", Network(2388, 1998))
    assert sample.usage is not None and (sample.usage.pids, sample.usage.cpu_limit) == (2, 2.0)
    assert sample.disk is None, "the directory of the engine is not there"


def test_docker_is_asked_once(world: World, row: Sandbox, tmp_path: Path, asked: list[str]) -> None:
    reading = stats(world, tmp_path)
    for _ in range(3):
        assert reading.read()[0].usage is not None
    assert asked == [row.id]


def test_members_of_the_pool_are_there_too_and_ids_choose(world: World, row: Sandbox, tmp_path: Path) -> None:
    world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    member = world.ledger.rows("warm")[0]
    kernel.v2(tmp_path, member.id + "0" * 52, world.engine.containers[member.id].pid)
    reading = stats(world, tmp_path)
    assert [(one.row.id, one.state) for one in reading.read()] == [(row.id, "running"), (member.id, "warm")]
    assert [one.row.id for one in reading.read({member.id})] == [member.id]
    assert reading.read(set()) == []


def test_a_restart_is_seen_by_the_cgroup_and_by_the_boot(
    world: World, row: Sandbox, tmp_path: Path, asked: list[str]
) -> None:
    reading = stats(world, tmp_path)
    reading.read()
    container = world.engine.containers[row.id]
    (tmp_path / f"proc/{container.pid}/cgroup").write_text("0::/system.slice/cron.service\n")  # the number is reused
    world.engine.containers[row.id] = replace(container, pid=9999)
    kernel.v2(tmp_path, row.id + "0" * 52, 9999)
    assert reading.read()[0].usage is not None and len(asked) == 2
    world.ledger.set_boot(row.slot, row.address, "2027-01-15T09:00:00.000000000Z", row.image_id)
    assert reading.read()[0].usage is not None and len(asked) == 3


def test_one_that_stopped(world: World, row: Sandbox, tmp_path: Path) -> None:
    reading = stats(world, tmp_path)
    reading.read()
    world.engine.stop(row.id)
    (tmp_path / f"proc/{world.engine.containers[row.id].pid}/cgroup").unlink()
    (sample,) = reading.read()
    assert (sample.state, sample.usage, sample.network) == ("stopped", None, None)


def test_one_whose_container_is_gone(world: World, row: Sandbox, tmp_path: Path) -> None:
    world.engine.remove_container(row.id)
    assert stats(world, tmp_path).read()[0].state == "stopped"


def test_docker_being_down_costs_only_what_is_not_known_yet(
    world: World, row: Sandbox, tmp_path: Path, asked: list[str]
) -> None:
    reading = stats(world, tmp_path)
    reading.read()
    new = [created(world, tmp_path), created(world, tmp_path)]
    asked.clear()
    world.engine.fail["container"] = down()
    samples = reading.read()
    assert [(one.state, one.usage is None) for one in samples] == [("running", False), *[("running", True)] * 2]
    assert asked == [new[0].id], "it may take a minute not to answer"
    assert all(one.usage is not None for one in reading.read()), "the next look asks again"


def test_what_is_gone_is_forgotten(world: World, row: Sandbox, tmp_path: Path) -> None:
    reading = stats(world, tmp_path)
    reading.read()
    world.sandboxes.remove(row, "removed by request")
    assert reading.read() == [] and reading._processes == {}
