"""Holds sandboxes to their policies, and all of them behind the host's wall: by the host's rules, and by what Docker's
resolver answers inside.

The rules of the host stand before a sandbox is started, and before it is handed out. The resolver can only be shut
once there is a network namespace, so a moment after each start; until then a question leaves the host only if the host
has no name server that a sandbox can ask by itself (see `resolver`).
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from sandboxd import door, iprules, netns, nftables, resolver, wall
from sandboxd.egress import Egress
from sandboxd.errors import BadRequest, HostError
from sandboxd.policy import ALLOW, Policy

log = logging.getLogger(__name__)


class Guard:
    """Every method raises HostError or EngineError when the host refuses."""

    def __init__(
        self,
        project: str,
        egress: Egress,
        nft: nftables.Runner,
        inside: netns.Runner,
        root: Path,
        policies: Callable[[bool], Mapping[str, Policy]] = lambda coming: {},
    ) -> None:
        """`nft` runs commands on the host, `inside` in network namespaces; the host's files are below `root`.
        `policies` are those of all slots that must have rules, or, with True, also of those that are being made."""
        self.table, self._project = nftables.table_name(project), project
        self._egress, self._nft, self._inside, self._root = egress, nft, inside, root
        self._policies = policies
        self._mending = threading.Lock()  # so that a policy which `mend` has read is not applied after a newer one

    def hold(self, slot: str, policy: Policy) -> None:
        """Makes the host's rules of a sandbox what its policy says, for connections that are open, too."""
        script = nftables.script(self.table, slot, policy)
        with self._mending:
            try:
                nftables.apply(script, self._nft)
            except HostError as error:
                if nftables.ABSENT not in str(error):
                    raise
                nftables.apply(self._wall().text + script, self._nft)

    def check_names(self, policy: Policy) -> None:
        """Raises BadRequest when this host cannot tell names apart, HostError when it was not set up for it."""
        if not policy.names:
            return
        if by_host := resolver.asked_by_host(resolver.servers(self._root)):
            raise BadRequest(
                f"{ALLOW}: {policy.names[0]!r} is a name, and this host cannot tell names apart: its name server"
                f" {by_host[0]} is asked from the host's own network, where no rule of a sandbox holds. Give it one"
                " with an IPv4 address in /etc/resolv.conf, or systemd-resolved."
            )
        if not self.has_user():
            raise HostError(f"{policy.names[0]!r}: the host has no user {self._egress.user!r} for names. Deploy again.")

    def has_user(self) -> bool:
        """Whether the host has the user of the egress proxy, without whom nobody is led there."""
        return self._door().uid is not None

    def release(self, slot: str) -> None:
        """The sandbox has no rules any more, and so reaches nothing."""
        with self._mending:
            try:
                nftables.apply(nftables.removal(self.table, slot), self._nft)
            except HostError as error:
                if nftables.ABSENT not in str(error):
                    raise

    def names(self, pid: int, policy: Policy) -> None:
        """Shuts or opens Docker's resolver in the namespace of `pid`."""
        netns.ensure_names(pid, resolver.shut(policy, resolver.servers(self._root)), self._inside)

    def name_servers(self) -> list[str]:
        """What a new container must be told to ask, if anything."""
        return resolver.from_sandbox(resolver.servers(self._root))

    def found_servers(self) -> list[str]:
        """The host's name servers, as the engine finds them."""
        return resolver.servers(self._root)

    def follow_servers(self) -> None:
        """Has the egress proxy ask the host's name servers, if it asks others: a change of theirs that comes while
        systemd sees to the one before is told to nobody. The unit that it starts looks again, and for itself.
        """
        if resolver.outdated(self._root, f"{self._project}-egress"):
            log.warning("the egress proxy asks other name servers than the host has")
            self._nft(["systemctl", "--no-block", "start", f"{self._project}-name-servers.service"], "")

    def raise_wall(self) -> None:
        """What all sandboxes share. What is there of single ones stays."""
        with self._mending:
            nftables.apply(self._wall().text, self._nft)
            iprules.ensure(self._egress.sources, self._nft)
            door.ensure(self._door(), self._nft)

    def mend(self) -> list[str]:
        """Puts right, in one step, whatever is not as it should be; returns the slots that have rules then."""
        with self._mending:
            shared = self._wall()
            found = nftables.standing(self.table, shared, self._nft)
            policies = self._policies(found is None)
            wrong = _wrong(found or {}, policies)
            if found is None or wrong:
                log.warning("the host's rules were not as they should be: %s", _told(found is None, wrong))
                rules = "".join(nftables.script(self.table, slot, policies[slot]) for slot in wrong)
                nftables.apply(shared.text + rules, self._nft)
            if iprules.ensure(self._egress.sources, self._nft):
                log.warning("the host's routing rules were not as they should be")
            if door.ensure(self._door(), self._nft):
                log.warning("the address of the egress proxy was not as it should be")
        return sorted({*(found or {}), *wrong})

    def standing(self) -> dict[str, Counter[str]]:
        """The slots that have rules on the host, and their marks."""
        return nftables.standing(self.table, self._wall(), self._nft) or {}

    def faults(self) -> list[str]:
        """What `mend` would put right, in words."""
        found = nftables.standing(self.table, self._wall(), self._nft)
        wrong = _wrong(found or {}, self._policies(False))
        told = [_told(found is None, wrong)] if found is None or wrong else []
        routing = iprules.missing(self._egress.sources, self._nft)
        told += [f"routing rules: {'; '.join(routing)}"] if routing else []
        address = door.standing(self._nft)
        return told + ([f"address {self._egress.address} on lo"] if address != [self._egress.address] else [])

    def _wall(self) -> wall.Wall:
        return wall.build(self.table, self._egress, resolver.reached(resolver.servers(self._root)), self._door())

    def _door(self) -> wall.Door:
        return wall.Door(
            self._egress.address, _uid(self._root, self._egress.user), resolver.asked_by_programs(self._root)
        )


def _uid(root: Path, user: str) -> int | None:
    """That of an account of the host whose files are below `root`."""
    try:
        lines = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
    except OSError:
        return None
    return next((int(words[2]) for words in lines if words[0] == user), None)


def _wrong(found: Mapping[str, object], policies: Mapping[str, Policy]) -> list[str]:
    return [slot for slot, policy in policies.items() if found.get(slot) != nftables.marks(policy)]


def _told(shared: bool, slots: list[str]) -> str:
    own = f"those of {len(slots)} sandboxes" if slots else ""
    return " and ".join(filter(None, ["those that all share" if shared else "", own]))
