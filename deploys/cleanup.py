"""The hourly cleanup of sandboxes that nobody needs any more."""

from pyinfra.api import deploy

from deploys.operations import place
from deploys.preflight import settings


@deploy("Cleanup")
def cron() -> None:
    """One line of cron with a lock, logging to a file that is rotated."""
    wanted = settings()
    place("etc/cron.d/project-sandbox-cleanup", wanted)
    place("etc/logrotate.d/project-sandbox", wanted)
