"""What confines the sandboxes' containers beside what their payload says: seccomp profiles, and AppArmor's."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from pyinfra.api import deploy
from pyinfra.operations import files

from deploys import ROOT
from deploys.operations import packages, place, when
from deploys.preflight import settings, summary
from deploys.settings import Settings, Template

PROFILE = ROOT / "files/containers/seccomp.json"
# CLONE_NEWNS, NEWCGROUP, NEWUTS and NEWIPC. Chromium's own sandbox makes the others: user, pid and network namespaces.
CLOSED_NAMESPACES = 0x0E020000
KERNEL_PROFILES = "/sys/kernel/security/apparmor/profiles"


def seccomp() -> dict[str, str]:
    """The profiles as JSON texts: `sandbox`, and `browser`, in which Chromium can make a sandbox of its own."""
    plain = PROFILE.read_text()
    profile: dict[str, Any] = json.loads(plain)
    masked = {"index": 0, "value": CLOSED_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"] != ["clone"]]
    profile["syscalls"].append({"names": ["clone", "unshare"], "action": "SCMP_ACT_ALLOW", "args": [masked]})
    return {"sandbox": plain, "browser": json.dumps(profile, indent=1) + "\n"}


def kind(template: Template) -> str:
    """Which of the profiles a template has."""
    return "browser" if template.context == "playwright" else "sandbox"


def seccomp_path(wanted: Settings, template: Template) -> str:
    """Where the profile of a template is on the host. gVisor brings its own."""
    return "" if template.runtime else f"{wanted.etc}/seccomp/{kind(template)}.json"


def apparmor_name(wanted: Settings, template: Template) -> str:
    """The AppArmor profile of a template. Where the kernel has no AppArmor the engine passes over it."""
    return "" if template.runtime else f"{wanted.project}-{kind(template)}"


@deploy("Confinement")
def profiles() -> None:
    """Write the profiles; load those of AppArmor where the kernel has it on."""
    wanted = settings()
    directory = f"{wanted.etc}/seccomp"
    files.directory(name=f"Make {directory}", path=directory, user="root", group="root", mode="755")
    for name, text in seccomp().items():
        dest = f"{directory}/{name}.json"
        files.put(name=f"Write {dest}", src=StringIO(text), dest=dest, user="root", group="root", mode="644")
    if not summary().apparmor:
        return
    packages("AppArmor", ["apparmor"])
    file = f"/etc/apparmor.d/{wanted.name}"
    place("etc/apparmor.d/project-sandbox", wanted, suite=summary().suite)
    loaded = f"{wanted.state}/apparmor-loaded"  # at the next start of the host, apparmor.service loads it
    when(
        name="Load the AppArmor profiles",
        condition=f"[ {loaded} -nt {file} ] && grep -q '^{wanted.project}-sandbox ' {KERNEL_PROFILES} || echo load",
        commands=[f"apparmor_parser --replace {file}", f"mkdir -p {wanted.state} && touch {loaded}"],
    )
