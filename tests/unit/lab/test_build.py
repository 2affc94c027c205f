"""Which builder, and whether to build at all."""

import pytest

from lab import build
from lab.image import DOCKER_BUILD, MMDEBSTRAP
from tests.unit.lab.conftest import Machine


@pytest.mark.parametrize(
    ("apt", "root", "mmdebstrap", "newuidmap", "expected"),
    [
        (True, True, False, False, MMDEBSTRAP),
        (False, True, True, False, MMDEBSTRAP),
        (False, True, False, False, DOCKER_BUILD),
        (True, False, False, True, DOCKER_BUILD),
        (True, False, True, False, DOCKER_BUILD),
        (True, False, True, True, MMDEBSTRAP),
    ],
)
def test_mmdebstrap_where_it_can_work(apt: bool, root: bool, mmdebstrap: bool, newuidmap: bool, expected: str) -> None:
    assert build.choose_builder(apt=apt, root=root, mmdebstrap=mmdebstrap, newuidmap=newuidmap) == expected


def test_an_image_that_exists_is_not_built(machine: Machine) -> None:
    machine.answer()  # whatever else it asks about the workstation
    machine.answer("docker", "image", "inspect", out="sha256:1")
    tag = build.ensure_image("trixie")
    assert ":trixie-" in tag
    assert machine.ran[-1] == ["docker", "image", "inspect", "--format", "{{.Id}}", tag]
