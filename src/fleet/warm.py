"""Which members of the hosts' pools a claim may still find: those of the last reading, without those that other claims
from here have taken meanwhile, or that their host has said are gone.
"""

from fleet.index import Index


class WarmMembers:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._taken: dict[tuple[str, str], set[str]] = {}  # by host and template: claims are under way for them
        self._gone: dict[tuple[str, str], set[str]] = {}  # their host does not have them any more, by its word

    def of(self, node: str, template: str) -> set[str]:
        """The members that the host may have, also those that are taken."""
        return self._index.warm(node, template) - self._gone.get((node, template), set())

    def take(self, node: str, template: str) -> str:
        """A member that no other claim from here is under way for; empty for none. It is taken until `let_go`."""
        taken, warm = self._taken.setdefault((node, template), set()), self.of(node, template)
        taken &= warm
        if member := next(iter(warm - taken), ""):
            taken.add(member)
        return member

    def let_go(self, node: str, template: str, member: str) -> None:
        """The claim has its answer: given out, be it this one or another, or not."""
        self._taken[node, template].discard(member)

    def none_left(self, node: str, template: str) -> None:
        """The host says so: nobody is sent there for those that it had, and it is read again."""
        self._gone[node, template] = self._index.warm(node, template)
        self._index.look_soon(node)
