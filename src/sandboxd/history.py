"""What the ledger tells of a sandbox's life, and where one is found that is gone. Reads the ledger.

The ledger keeps the last restart and the one end, not all that ever happened.
"""

from dataclasses import dataclass

from sandboxd.engine import timestamp
from sandboxd.errors import Conflict, NotFound
from sandboxd.ledger import Ledger
from sandboxd.records import Sandbox

ENDED = ("removing", "gone")


@dataclass(frozen=True)
class Event:
    """`at` in Unix seconds; `kind` is created, claimed, restarted or ended."""

    at: float
    kind: str
    text: str


def history(row: Sandbox, now: float) -> list[Event]:
    """Oldest first. An end that is still under way happens `now`."""
    made = "made in advance, for the pool" if row.origin == "pool" else "made when it was asked for"
    events = [Event(row.created_at, "created", f"{made}: template {row.template}, image {row.image_id}")]
    if row.claimed_at is not None:
        events.append(Event(row.claimed_at, "claimed", f"in use from now on{f' as {row.name!r}' * bool(row.name)}"))
        booted = booted_at(row)
        if booted is not None and booted > row.claimed_at:  # it is claimed only once it runs
            events.append(restart(booted))
    return [*events, end(row, now)] if row.state in ENDED else events


def restart(at: float) -> Event:
    return Event(at, "restarted", "its container was started again")


def end(row: Sandbox, now: float) -> Event:
    return Event(now if row.gone_at is None else row.gone_at, "ended", row.reason)


def booted_at(row: Sandbox) -> float | None:
    """When its container started last; None if it never ran."""
    return timestamp(row.booted) if row.booted else None


def find(ledger: Ledger, prefix: str) -> Sandbox:
    """The sandbox whose id begins with `prefix`: one in use, or else one that ended in the last days.

    Raises NotFound, and Conflict when several fit.
    """
    rows = ledger.find(prefix) or ledger.find(prefix, ENDED) if prefix else []
    if not rows:
        raise NotFound(f"sandbox '{prefix}' not found: there is none, and there was none in the last days")
    if len(rows) > 1:
        raise Conflict(f"sandbox '{prefix}' is ambiguous: {', '.join(row.id for row in rows)}. Give more characters.")
    return rows[0]
