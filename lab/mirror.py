"""Which Debian archive a lab installs from: the workstation's own, if it is Debian. Runs `apt-get` to ask."""

from dataclasses import dataclass

from lab.docker import run
from lab.errors import LabError

INDEX_TARGETS = ("apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages")


@dataclass(frozen=True)
class Mirror:
    """Addresses of the archive and of the security archive, without a slash at the end."""

    main: str = "http://deb.debian.org/debian"
    security: str = "http://deb.debian.org/debian-security"

    def sources(self, suite: str) -> list[str]:
        """Return the lines of sources.list for `suite`."""
        return [
            f"deb {self.main} {suite} main",
            f"deb {self.main} {suite}-updates main",
            f"deb {self.security} {suite}-security main",
        ]


def parse(index_targets: str) -> Mirror:
    """Read the output of INDEX_TARGETS. The first archive that calls itself Debian wins; without one, the defaults."""
    found: dict[str, str] = {}
    for line in index_targets.splitlines():
        origin, _, rest = line.partition(" ")
        label, _, uri = rest.partition(" ")
        if origin == "Debian" and uri.startswith(("http://", "https://")):
            found.setdefault(label, uri.rstrip("/"))
    default = Mirror()
    return Mirror(found.get("Debian", default.main), found.get("Debian-Security", default.security))


def detect() -> Mirror:
    """Return the workstation's mirror, or Debian's own where this is another system."""
    try:
        return parse(run(INDEX_TARGETS, check=False).stdout)
    except LabError:  # no apt-get here
        return Mirror()
