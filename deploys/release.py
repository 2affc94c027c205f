"""The release file: which revision of this project made the host what it is."""

import subprocess

from pyinfra.api import deploy

from deploys import ROOT
from deploys.operations import place
from deploys.preflight import settings


def revision() -> str:
    """`git describe` of the working copy, with `-dirty` when it has changes; "unknown" outside of git."""
    command = ["git", "-C", str(ROOT), "describe", "--tags", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"


@deploy("Release")
def record() -> None:
    """Written last: a host whose deploy failed half-way still names the release before."""
    place("etc/project-sandbox/release", settings(), revision=revision())
