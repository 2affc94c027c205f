"""The hourly cleanup of sandboxes that nobody needs any more, and the rotation of logs."""

from pyinfra.api import deploy

from deploys.operations import place
from deploys.preflight import settings
from deploys.sandboxd import command


@deploy("Cleanup")
def cron() -> None:
    """Lines of cron. Debian rotates logs once a day; ours are looked at each hour: none grows beyond measure."""
    wanted = settings()
    place("etc/cron.d/project-sandbox-cleanup", wanted, command=command(wanted))
    place("etc/logrotate.d/project-sandbox", wanted)
    place("etc/cron.d/project-sandbox-logrotate", wanted)
