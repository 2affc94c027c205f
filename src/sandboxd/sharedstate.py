"""What a sandbox is made anew from on another host, as a value and as the text that lies beside its volume."""

import json
from dataclasses import dataclass
from typing import Any

from sandboxd.policy import from_text, to_text
from sandboxd.records import Claim, Sandbox

# Columns that the text has as they are. `slot` says whose text it is.
PLAIN = ("id", "slot", "state", "reason", "template", "memory_mb", "cpus", "disk_mb", "volume", "claimed_at", "ends_at")
# Of a Claim, beside the policy; all but the time are the same in a row.
CLAIMED = (
    *("timeout_s", "name", "metadata", "envs", "owner", "on_timeout", "pause_memory", "request", "auto_resume"),
    *("access", "password_digest", "shown_host", "idle_pause_s"),
)


@dataclass(frozen=True)
class Moved:
    """A sandbox whose host was lost. `tokens` open it as before: see `tokens.TokenKey`."""

    id: str
    slot: str
    state: str
    reason: str
    template: str
    memory_mb: int
    cpus: float
    disk_mb: int
    volume: str
    claimed_at: float
    ends_at: float | None
    access_round: int
    tokens: dict[str, str]
    claim: Claim
    node: str = ""  # the host that was lost


def text_of(row: Sandbox, tokens: dict[str, str]) -> str:
    """Of a sandbox in use."""
    values = {name: getattr(row, name) for name in (*PLAIN, *CLAIMED)}
    return json.dumps(
        {**values, "access_round": row.access_round, "policy": to_text(row.policy), "tokens": tokens}, sort_keys=True
    )


def parse(text: str, node: str) -> Moved:
    """Of a sandbox that the host `node` had. Raises ValueError, KeyError and TypeError for another text than such."""
    values: dict[str, Any] = json.loads(text)
    claim = Claim(
        **{name: values[name] for name in CLAIMED},
        keep=True,
        disk_mb=values["disk_mb"],
        volume=values["volume"],
        shared=True,
        policy=from_text(values["policy"]),
    )
    return Moved(
        **{name: values[name] for name in PLAIN},
        access_round=values["access_round"],
        tokens=values["tokens"],
        claim=claim,
        node=node,
    )
