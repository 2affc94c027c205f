"""What the ledger holds, as values: a claim, a sandbox. Times are Unix seconds."""

import json
import sqlite3
from dataclasses import dataclass, field

from sandboxd.policy import UNRESTRICTED, Policy, from_text

# The states of a sandbox, and which may follow which. Nothing else decides that.
TRANSITIONS = {
    "creating": ("warm", "running", "removing"),
    "warm": ("running", "removing"),  # a member of the pool, claimed by nobody
    "running": ("paused", "stopped", "removing"),
    "paused": ("running", "stopped", "removing"),  # frozen: processes and memory stay
    "stopped": ("running", "removing"),  # files stay
    "removing": ("gone",),
    "gone": (),  # a tombstone, which says for a week why and when
}
OPEN = tuple(state for state in TRANSITIONS if state != "gone")
PUBLIC, TOKEN, BASIC = ACCESS = ("public", "token", "basic")
USED = ("running", "paused", "stopped")  # somebody's: claimed, and not given back


@dataclass(frozen=True)
class Mount:
    """A volume of a key, which the key calls `title`, at an absolute path inside a sandbox."""

    volume: str
    title: str
    path: str


@dataclass(frozen=True)
class Claim:
    """What the claimer asked for. `timeout_s` None means that the sandbox ends only when it is removed."""

    timeout_s: float | None = None
    keep: bool = False
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    envs: dict[str, str] = field(default_factory=dict)
    disk_mb: int = 0  # 0: the template's
    volume: str = ""  # a named disk in place of one of its own
    owner: str = ""  # the name of the API key that asks; empty for the command line
    on_timeout: str = "kill"  # or "pause"
    pause_memory: bool = True  # at its end; else only the files stay
    request: str = ""  # what makes a repetition of the same request known, empty for nothing
    auto_resume: bool = False  # by a request that comes while it is paused or stopped
    access: str = PUBLIC  # who may open its ports, but the agent's: one of ACCESS
    password_digest: str = ""  # for `basic`: see tokens.password_digest
    shown_host: str = ""  # the host name that its servers see, with routes.PORT for the port; empty: the one asked for
    policy: Policy = UNRESTRICTED
    mounts: tuple[Mount, ...] = ()  # volumes beside the disk at /code
    idle_pause_s: float | None = None  # without traffic and commands for so long it is paused; None: it is not
    shared: bool = False  # the volume is on storage that all hosts of a fleet have mounted

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
    disk_mb: int  # 0: made by a release without disks
    volume: str  # the named volume that is its disk, empty for one of its own
    container: str
    address: str
    booted: str
    name: str
    keep: bool
    metadata: dict[str, str]
    envs: dict[str, str]
    timeout_s: float | None
    created_at: float
    claimed_at: float | None
    ends_at: float | None
    gone_at: float | None
    reason: str
    owner: str
    on_timeout: str
    request: str
    pause_memory: bool
    auto_resume: bool
    access: str
    access_round: int  # what was given out for an earlier one opens nothing
    password_digest: str
    shown_host: str
    policy: Policy
    mounts: tuple[Mount, ...]
    idle_pause_s: float | None
    active_at: float  # when traffic or a command was seen last
    active_mark: str  # what traffic is seen by; see `activity`
    generation: int = 0  # of a volume on shared storage: the number of its record when it was taken; else 0
    ref: str = ""  # Docker's short id of its container, if that is another: it was made anew here, and kept its id
    tokens: dict[str, str] = field(default_factory=dict)  # that it brought along: see `tokens.TokenKey`

    @property
    def docker(self) -> str:
        """What Docker knows its container by."""
        return self.ref or self.id

    @property
    def shared(self) -> bool:
        return self.generation > 0


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
        disk_mb=row["disk_mb"],
        volume=row["volume"],
        container=row["container"] or "",
        address=row["address"] or "",
        booted=row["booted"] or "",
        name=row["name"],
        keep=bool(row["keep"]),
        metadata=json.loads(row["metadata"]),
        envs=json.loads(row["envs"]),
        timeout_s=row["timeout_s"],
        created_at=row["created_at"],
        claimed_at=row["claimed_at"],
        ends_at=row["ends_at"],
        gone_at=row["gone_at"],
        reason=row["reason"],
        owner=row["owner"],
        on_timeout=row["on_timeout"],
        request=row["request"],
        pause_memory=bool(row["pause_memory"]),
        auto_resume=bool(row["auto_resume"]),
        access=row["access"],
        access_round=row["access_round"],
        password_digest=row["password_digest"],
        shown_host=row["shown_host"],
        policy=from_text(row["policy"]),
        mounts=tuple(Mount(**one) for one in json.loads(row["mounts"])),
        idle_pause_s=row["idle_pause_s"],
        active_at=row["active_at"],
        active_mark=row["active_mark"],
        generation=row["generation"],
        ref=row["ref"],
        tokens=json.loads(row["tokens"]),
    )


@dataclass(frozen=True)
class Volume:
    """A named disk that outlives its sandboxes. `slot` and `sandbox_id` are of the one that has it now, or empty.

    One with an `owner`, the name of a key, is called `title` by that owner, and mounted into several sandboxes at once.
    """

    name: str
    size_mb: int
    created_at: float
    slot: str
    sandbox_id: str
    owner: str = ""
    title: str = ""
    shared: bool = False


@dataclass(frozen=True)
class ApiKey:
    """Whoever has it acts as its `name`, which several keys may share. Only a digest of the key itself is kept."""

    id: str
    name: str
    max_sandboxes: int  # in use at a time by this name; 0: as many as the host has room for
    created_at: float
    host: bool = False  # in the console: the whole host, and not only the sandboxes of its name


@dataclass(frozen=True)
class MadeTemplate:
    """A template that was made on this host; `name:tag` is a build of it that is kept. Its limits are those of the
    template `base`, and so is its disk, unless `disk_mb` says that there is a disk with files to begin with."""

    name: str
    image: str
    base: str
    disk_mb: int
    created_at: float
    memory_mb: int = 0  # 0: the base's
    cpus: float = 0.0
