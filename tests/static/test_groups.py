"""Tests that share something costly, or a host, run in one process: `pytest -n` has to keep their groups together."""

import os

import pytest


@pytest.mark.xdist_group("plan")
def test_a_group_is_known_to_the_scheduler(request: pytest.FixtureRequest) -> None:
    """pytest-xdist writes it into the id of the test, which another release of pytest may ignore."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    assert alone or request.node.nodeid.endswith("@plan")
