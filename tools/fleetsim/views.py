"""What one manager knows of the nodes: their last answers, and what it has done itself since then."""

from __future__ import annotations

from tools.fleetsim.nodes import Nodes


class View:
    """A node that does not answer is as its last answer was, until its loss is noticed."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.lost = nodes.lost
        self.warm = [numbers[:] for numbers in nodes.warm]
        self.used = nodes.used[:]

    def look(self) -> None:
        """Asks all nodes."""
        nodes = self._nodes
        warm, used = [numbers[:] for numbers in nodes.warm], nodes.used[:]
        for node, up in enumerate(nodes.up):
            if not up and not nodes.lost[node]:
                used[node] = self.used[node]
                for new, old in zip(warm, self.warm, strict=True):
                    new[node] = old[node]
        self.warm, self.used = warm, used

    def read(self, node: int) -> None:
        """Asks one node, after a create there."""
        self.used[node] = self._nodes.used[node]
        for known, true in zip(self.warm, self._nodes.warm, strict=True):
            known[node] = true[node]

    def lose(self, node: int) -> None:
        for numbers in self.warm:
            numbers[node] = 0

    def placed(self, node: int, template: int) -> None:
        """A sandbox that it has given out itself; of the node's pool, if that had a member."""
        self.used[node] += 1
        if self.warm[template][node]:
            self.warm[template][node] -= 1

    def found_empty(self, node: int, template: int) -> None:
        """The node was asked for a member, and has none any more."""
        self.warm[template][node] = 0
