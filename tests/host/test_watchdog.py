"""What a sandbox writes outside /code is bounded, and the host and its neighbours do not suffer from it."""

import pytest

from tests.host.machine import Machine, eventually

SMALL = "more"  # of the lab's templates, the one with a small limit


@pytest.mark.disruptive
def test_a_sandbox_that_fills_its_system_disk_is_stopped_and_can_clean_up(machine: Machine) -> None:
    limit_mb = machine.settings.templates[SMALL].layer_mb
    with machine.sandbox(f"--template {SMALL}") as greedy, machine.sandbox() as neighbour:
        greedy.run(f"exec head -c {limit_mb + 200}M /dev/zero >/var/tmp/big", "--background")
        # Who else frees as much of that disk, another lab say, hides it until the look of each minute.
        state = eventually(
            lambda: machine.info(greedy.id), lambda found: found["state"] == "stopped", 150, "a sandbox that is stopped"
        )
        assert "its files outside /code take" in state["reason"] and f"{limit_mb} MB is the limit" in state["reason"]
        assert neighbour.out("echo alive") == "alive"
        machine.run(f"docker-sandbox start {greedy.id}")
        greedy.run("rm /var/tmp/big")
        assert machine.info(greedy.id)["state"] == "running"
