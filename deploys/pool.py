"""The unit that turns the pools of warm sandboxes on and off; sandboxd keeps them full in between."""

from pyinfra.api import deploy

from deploys.operations import place, unit
from deploys.preflight import settings
from deploys.sandboxd import command


@deploy("Pool")
def warm() -> None:
    """A unit of its own, so that the pools can be stopped without sandboxd."""
    wanted = settings()
    name = f"{wanted.project}-container-pool.service"
    program = command(wanted)
    path = program if program.startswith("/") else f"/usr/local/bin/{program}"
    place("etc/systemd/system/project-container-pool.service", wanted, command=path)
    unit(name="Run the pool", unit=name, files=[])
