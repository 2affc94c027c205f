"""The scheduler of a fleet of three hosts in a double, and fleets of two hosts, of which `a` is this one, a manager."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.swarm import Swarm
from tests.unit.fleet.fake_swarm import FakeSwarm
from tests.unit.fleet.fleets import Fleet, Seat, running, single


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[FakeSwarm]:
    made = FakeSwarm(tmp_path / "swarmd.sock")
    made.join("a", role="manager", leader=True)
    made.join("b")
    made.join("c", memory_mb=8192)
    yield made
    made.close()


@pytest.fixture
def leases(swarm: FakeSwarm) -> Swarm:
    return Swarm(swarm.path, "acme-lease:1", "acme")


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Where a host is lost soon."""
    with running() as made:
        yield made


@pytest.fixture
def patient() -> Iterator[Fleet]:
    """Where nobody is lost while a test runs."""
    with running(lost_s=60) as made:
        yield made


@pytest.fixture(params=["single host", "fleet"])
def seat(request: pytest.FixtureRequest) -> Iterator[Seat]:
    with single() if request.param == "single host" else running(lost_s=60) as made:
        yield made
