"""What keeps the host itself bounded and watched: its journal, what an update may restart, and who changes what.

Kernel parameters are in `base`, Docker's socket in `docker`, sshd in `access`. A part that is switched off goes away.
"""

from __future__ import annotations

from pyinfra import host, logger
from pyinfra.api import deploy

from deploys import facts
from deploys.operations import located, packages, place, unit, when
from deploys.preflight import settings
from deploys.settings import Settings

JOURNALD = "etc/systemd/journald.conf.d/60-project-sandbox.conf"
NEEDRESTART = "etc/needrestart/conf.d/project-sandbox.conf"
AUDIT = "etc/audit/rules.d/60-project-sandbox.rules"
RULES_AGAIN = "augenrules --load >/dev/null || true"
# The kernel's audit is the host's alone: in a container there is none.
HAS_AUDIT = "[ -e /proc/self/loginuid ] && ! systemd-detect-virt --quiet --container && echo yes"
# What makes the engine what it is; a directory ends with a slash, and must be there. Not among them: /var/lib/docker,
# where each write of a sandbox would be noted; and /run/containerd, which is not there yet when the rules are loaded at
# boot, and would end the loading.
ENGINE_FILES = (
    "/etc/containerd/",
    "/etc/default/docker",
    "/etc/docker/",
    "/run/docker.sock",
    "/usr/bin/containerd",
    "/usr/bin/containerd-shim-runc-v2",
    "/usr/bin/crun",
    "/usr/bin/docker",
    "/usr/bin/dockerd",
    "/usr/bin/runc",
    "/usr/lib/systemd/system/containerd.service",
    "/usr/lib/systemd/system/docker.service",
    "/usr/lib/systemd/system/docker.socket",
    "/usr/sbin/dockerd",
    "/usr/sbin/runc",
)


def our_files(wanted: Settings) -> list[str]:
    """What makes this host a sandbox host; what runs writes to none of it, but for a deploy."""
    return [
        f"{wanted.etc}/config.toml",
        f"{wanted.etc}/secrets/",
        "/etc/haproxy/",
        "/etc/systemd/system/",
        "/etc/traefik/",
        "/usr/local/bin/",
        f"{wanted.opt}/",
    ]


@deploy("Hardening")
def bounds() -> None:
    """The journal, and what updates may restart."""
    wanted = settings()
    file = located(JOURNALD, wanted)
    if wanted.journal_max_size:
        place(JOURNALD, wanted)
        # What services write is kept by systemd meanwhile: nothing is lost.
        unit(name="Bound the journal", unit="systemd-journald.service", files=[file])
    else:
        commands = [f"rm {file}", "systemctl restart systemd-journald.service"]
        when(name="Leave the journal unbounded", condition=f"ls {file}", commands=commands)
    place(NEEDRESTART, wanted)


@deploy("Audit")
def audit() -> None:
    """Rules for auditd; after everything that they watch is there."""
    wanted = settings()
    file = located(AUDIT, wanted)
    if wanted.audit_rules and host.get_fact(facts.Output, command_line=HAS_AUDIT):
        packages("the audit daemon", ["auditd"])
        place(AUDIT, wanted, watched={"docker": ENGINE_FILES, "files": our_files(wanted)})
        when(
            name="Load the audit rules",
            condition="augenrules --check | grep -v 'No change'",
            commands=["augenrules --load >/dev/null"],
        )
        return
    if wanted.audit_rules:
        logger.warning(f"{host.name}: audit_rules = True: this kernel has no audit of its own, so no rules were made")
    when(
        name="Remove the audit rules",
        condition=f"ls {file}",
        commands=[f"rm {file}", RULES_AGAIN],
    )
