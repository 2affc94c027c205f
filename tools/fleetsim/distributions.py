"""How long things take and last, in seconds: values that are drawn from a generator of one's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tools.fleetsim.errors import BadScene

Z95 = 1.6448536269514722  # the 95th percentile of the standard normal distribution
KINDS = "fixed:MEAN, exponential:MEAN, or pareto:MEAN:SHAPE with a shape above 1"


class Distribution(Protocol):
    @property
    def mean(self) -> float: ...

    def draw(self, chance: Random) -> float: ...


@dataclass(frozen=True)
class Fixed:
    mean: float

    def draw(self, chance: Random) -> float:
        return self.mean


@dataclass(frozen=True)
class Exponential:
    mean: float

    def draw(self, chance: Random) -> float:
        return chance.expovariate(1 / self.mean)


@dataclass(frozen=True)
class Pareto:
    """Heavy-tailed: many are short, and few last so long that they make up much of the whole. Shape 1.5 has no finite
    variance."""

    mean: float
    shape: float

    def draw(self, chance: Random) -> float:
        return self.mean * (self.shape - 1) / self.shape * chance.paretovariate(self.shape)


@dataclass(frozen=True)
class Lognormal:
    """What was measured as a median and a 95th percentile."""

    median: float
    p95: float

    @property
    def _sigma(self) -> float:
        return math.log(self.p95 / self.median) / Z95

    @property
    def mean(self) -> float:
        return self.median * math.exp(self._sigma**2 / 2)

    def draw(self, chance: Random) -> float:
        return self.median * math.exp(self._sigma * chance.gauss(0, 1))


def parsed(text: str) -> Distribution:
    """Of `exponential:600`, and so on. Raises BadScene."""
    kind, *words = text.split(":")
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if values and all(0 < value < math.inf for value in values):
        if kind == "fixed" and len(values) == 1:
            return Fixed(values[0])
        if kind == "exponential" and len(values) == 1:
            return Exponential(values[0])
        if kind == "pareto" and len(values) == 2 and values[1] > 1:
            return Pareto(*values)
    raise BadScene(f"life {text!r}: give {KINDS}; seconds, such as exponential:600.")
