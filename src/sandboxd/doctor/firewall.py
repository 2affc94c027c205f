"""The check of the firewall: whether the host's packet and routing rules are those of the settings and policies."""

from sandboxd.doctor.findings import Verdict, fail, ok, warn
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
