"""Storage that all hosts of a fleet have mounted: checked, and marked so that the hosts know it."""

from deploys.operations import when

MARKER = "sandbox-volumes.id"  # as in sandboxd.sharedstore


def mark(directory: str) -> None:
    """Fails where nothing is mounted: volumes would be on each host's own disk, and several hosts would have the same
    one. Of several hosts that come at once, the first makes the mark: a link is made by one."""
    when(
        name=f"Mark the storage at {directory}",
        condition=missing(directory),
        commands=[command(directory)],
    )


def missing(directory: str) -> str:
    # The directory is opened first: of names that NFS has kept for up to a minute `[` knows no better.
    return f"mountpoint -q {directory} && true <{directory} && [ -s {directory}/{MARKER} ] || echo missing"


def command(directory: str) -> str:
    remedy = (
        f"{directory}: nothing is mounted there. Mount the storage of shared_storage on this host, then deploy again"
    )
    # By mktemp: two hosts may run this in shells of the same number.
    return (
        f"mountpoint -q {directory} || {{ echo '{remedy}' >&2; exit 1; }};"
        f' own=$(mktemp {directory}/.{MARKER}.XXXXXX) && openssl rand -hex 16 >"$own"'
        f' && {{ ln "$own" {directory}/{MARKER} 2>/dev/null || true; }}'
        f' && rm -f "$own" && [ -s {directory}/{MARKER} ]'
    )
