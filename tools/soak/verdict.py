"""What has grown, by the figures of the host: values in, rows and a table out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What may come on top without being a leak: Python's allocator, a thread of a pool, a connection that is kept.
MAY_GROW = {"KB": (1.2, 8192), "files": (1.0, 8), "threads": (1.0, 4)}


@dataclass(frozen=True)
class Row:
    what: str
    before: int
    after: int
    grew: bool


def rows(found: dict[str, Any]) -> list[Row]:
    """`held`: memory, files and threads of each part, from after the warm-up to the end. `left`: objects, the same; and
    `ends`: before and after all of it.
    """
    made = []
    before, after = found["held"]
    for part, figures in before.items():
        for unit, value in figures.items():
            share, more = MAY_GROW[unit]
            made.append(Row(f"{part}: {unit}", value, after[part][unit], after[part][unit] > value * share + more))
    for name, key in (("under load", "left"), ("at the ends", "ends")):
        before, after = found[key]
        made += [Row(f"{kind}, {name}", value, after[kind], after[kind] != value) for kind, value in before.items()]
    return made


def table(made: list[Row]) -> str:
    cells = [("what", "before", "after", "")]
    cells += [(row.what, str(row.before), str(row.after), "GREW" if row.grew else "") for row in made]
    widths = [max(len(line[at]) for line in cells) for at in range(4)]
    return "\n".join(
        f"{what.ljust(widths[0])}  {before.rjust(widths[1])}  {after.rjust(widths[2])}  {verdict}".rstrip()
        for what, before, after, verdict in cells
    )
