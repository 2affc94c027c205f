"""What the ledger holds, as values: a claim, a sandbox. Times are Unix seconds."""

import json
import sqlite3
from dataclasses import dataclass, field

OPEN = ("creating", "warm", "running", "removing")


@dataclass(frozen=True)
class Claim:
    """What the claimer asked for. `timeout_s` None means that the sandbox ends only when it is removed."""

    timeout_s: float | None = None
    keep: bool = False
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    envs: dict[str, str] = field(default_factory=dict)

    def ends_at(self, now: float) -> float | None:
        return None if self.timeout_s is None else now + self.timeout_s


@dataclass(frozen=True)
class Sandbox:
    """One row. `booted` is Docker's start time of the container when its network was prepared last."""

    slot: str
    id: str
    state: str
    origin: str
    template: str
    image_id: str
    memory_mb: int
    cpus: float
    container: str
    address: str
    booted: str
    name: str
    keep: bool
    metadata: dict[str, str]
    envs: dict[str, str]
    created_at: float
    claimed_at: float | None
    ends_at: float | None
    reason: str


def from_row(row: sqlite3.Row) -> Sandbox:
    return Sandbox(
        slot=row["slot"],
        id=row["id"] or "",
        state=row["state"],
        origin=row["origin"],
        template=row["template"],
        image_id=row["image_id"],
        memory_mb=row["memory_mb"],
        cpus=row["cpus"],
        container=row["container"] or "",
        address=row["address"] or "",
        booted=row["booted"] or "",
        name=row["name"],
        keep=bool(row["keep"]),
        metadata=json.loads(row["metadata"]),
        envs=json.loads(row["envs"]),
        created_at=row["created_at"],
        claimed_at=row["claimed_at"],
        ends_at=row["ends_at"],
        reason=row["reason"],
    )
