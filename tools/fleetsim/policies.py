"""Which node gets a create. A policy sees what its manager knows, and where reservations leave room.

Every policy gets a member of the node's pool where that has one, and else a new sandbox there. Room is asked of the
Swarm, which knows all leases; what is warm, and how loaded a node is, of the manager's last look.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from tools.fleetsim.views import View

Room = Callable[[int], bool]
TRIES = 8  # of nodes picked without looking, before all are looked at


class Policy(Protocol):
    def choose(self, view: View, template: int, room: Room) -> int | None:
        """A node, or None where none has a member or room."""


class Least:
    """The least loaded of the nodes with a warm member; where none has one, of those with room. Among equals the first
    by its name, or one by chance."""

    def __init__(self, chance: Random | None) -> None:
        self._chance = chance

    def choose(self, view: View, template: int, room: Room) -> int | None:
        found = _warm(view, template) or _fits(view, room)
        if not found:
            return None
        least = min(map(view.used.__getitem__, found))
        equal = [node for node in found if view.used[node] == least]
        return self._chance.choice(equal) if self._chance else equal[0]


class Anywhere:
    """By chance among all nodes with a member or room; or with `warm_first` among those with a member, if any has."""

    def __init__(self, chance: Random, warm_first: bool = False) -> None:
        self._chance, self._warm_first = chance, warm_first

    def choose(self, view: View, template: int, room: Room) -> int | None:
        if self._warm_first and (found := _warm(view, template)):
            return self._chance.choice(found)
        for _ in range(TRIES):
            node = self._chance.randrange(len(view.used))
            if _takes(view, template, room, node):
                return node
        return self._chance.choice(found) if (found := _all(view, template, room)) else None


class InTurn:
    """One after another, past those without a member or room; each manager by itself, from anywhere."""

    def __init__(self, chance: Random) -> None:
        self._chance, self._last = chance, -1

    def choose(self, view: View, template: int, room: Room) -> int | None:
        count = len(view.used)
        if self._last < 0:
            self._last = self._chance.randrange(count)
        for step in range(1, count + 1):
            node = (self._last + step) % count
            if _takes(view, template, room, node):
                self._last = node
                return node
        return None


class TwoChoices:
    """Of two nodes by chance the one with a member; if both have one, or none has, the less loaded. With `warm_first`
    both are of those with a member, if any has."""

    def __init__(self, chance: Random, warm_first: bool = False) -> None:
        self._chance, self._warm_first = chance, warm_first

    def choose(self, view: View, template: int, room: Room) -> int | None:
        if self._warm_first and (found := _warm(view, template)):
            return min((self._chance.choice(found) for _ in range(2)), key=view.used.__getitem__)
        count = len(view.used)
        for _ in range(TRIES):
            pair = {self._chance.randrange(count) for _ in range(2)}
            if found := [node for node in sorted(pair) if _takes(view, template, room, node)]:
                return min(found, key=lambda node: (not view.warm[template][node], view.used[node]))
        return self._chance.choice(found) if (found := _all(view, template, room)) else None


POLICIES: dict[str, Callable[[Random], Policy]] = {
    "least-loaded": lambda chance: Least(None),
    "least-by-chance": Least,
    "two-warm": lambda chance: TwoChoices(chance, warm_first=True),
    "random-warm": lambda chance: Anywhere(chance, warm_first=True),
    "two-choices": TwoChoices,
    "round-robin": InTurn,
    "random": Anywhere,
}


def _warm(view: View, template: int) -> list[int]:
    return [node for node, members in enumerate(view.warm[template]) if members]


def _fits(view: View, room: Room) -> list[int]:
    return [node for node in range(len(view.used)) if room(node)]


def _takes(view: View, template: int, room: Room, node: int) -> bool:
    return not view.lost[node] and (view.warm[template][node] > 0 or room(node))


def _all(view: View, template: int, room: Room) -> list[int]:
    return [node for node in range(len(view.used)) if _takes(view, template, room, node)]
