"""Holds sandboxes to their policies: by the host's rules, and by what Docker's resolver answers inside.

The rules of the host stand before a sandbox is started, and before it is handed out. The resolver can only be shut
once there is a network namespace, so a moment after each start; until then a question leaves the host only if the host
has no name server that a sandbox can ask by itself (see `resolver`).
"""

from collections import Counter
from pathlib import Path

from sandboxd import netns, nftables, resolver
from sandboxd.policy import UNRESTRICTED, Policy


class Guard:
    """Every method raises HostError or EngineError when the host refuses."""

    def __init__(self, project: str, nft: nftables.Runner, inside: netns.Runner, root: Path) -> None:
        """`inside` runs commands in network namespaces; the host's files are below `root`."""
        self._table = nftables.table_name(project)
        self._nft, self._inside, self._root = nft, inside, root

    def hold(self, slot: str, policy: Policy) -> None:
        """Makes the host's rules of a sandbox what its policy says, for connections that are open, too."""
        nftables.apply(self._table, slot, policy, self._nft)

    def release(self, slot: str) -> None:
        self.hold(slot, UNRESTRICTED)

    def names(self, pid: int, policy: Policy) -> None:
        """Shuts or opens Docker's resolver in the namespace of `pid`."""
        netns.ensure_names(pid, resolver.shut(policy, resolver.servers(self._root)), self._inside)

    def name_servers(self) -> list[str]:
        """What a new container must be told to ask, if anything."""
        return resolver.from_sandbox(resolver.servers(self._root))

    def standing(self) -> dict[str, Counter[str]]:
        """The slots that have rules on the host, and which."""
        return nftables.standing(self._table, self._nft)
