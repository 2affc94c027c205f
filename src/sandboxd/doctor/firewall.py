"""The checks of the firewall: whether the host's packet and routing rules are those of the settings and policies; and
of the egress proxy, to which they lead sandboxes with names.
"""

from sandboxd.doctor.findings import DEPLOY, Verdict, fail, ok, warn
from sandboxd.doctor.readers import Readers
from sandboxd.egress import OPEN
from sandboxd.errors import HostError


def standing(readers: Readers) -> Verdict:
    project, guard = readers.config.project, readers.sandboxes.guard
    remedy = f"systemctl restart {project}-firewall {readers.daemon_unit}; journalctl -u {readers.daemon_unit} -n 50"
    try:
        faults = guard.faults()
    except HostError as error:
        return fail(str(error), remedy)
    if faults:
        return fail(f"not as it should be: {'; '.join(faults)}", remedy)
    mode = readers.config.egress.mode
    if mode == OPEN:
        return warn("up, and sandboxes pass it: the setting sandbox_network is 'open'", "docs/security.md says to whom")
    return ok(f"up; the network of a sandbox is {mode} unless it is asked for otherwise")


def proxy(readers: Readers) -> Verdict:
    """It runs, and lets through what the ledger says."""
    config, unit = readers.config, f"{readers.config.project}-egress"
    if not readers.sandboxes.guard.has_user():
        return fail(f"there is no user {config.egress.user}, so no sandbox may have names in its allow list", DEPLOY)
    status = readers.sandboxes.proxy.status()
    if status.in_step:
        return ok(f"at {config.egress.address}; {status.routes} sandboxes have names in their allow list")
    differing = {"missing": status.missing, "stale": status.stale}
    seen = "; ".join(f"{word}: {', '.join(addresses)}" for word, addresses in differing.items() if addresses)
    return fail(status.gateway or seen, f"systemctl restart {unit} {readers.daemon_unit}; journalctl -u {unit} -n 50")
