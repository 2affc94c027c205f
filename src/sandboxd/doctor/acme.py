"""What became of Traefik's orders of certificates by ACME, from its own log. Reads that log and the credentials."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sandboxd.doctor.certificates import served
from sandboxd.doctor.effects import Effects
from sandboxd.doctor.findings import Verdict, fail, ok, skip, warn
from sandboxd.doctor.readers import Readers

SECRETS = "/etc/traefik/secrets"
STARTED = "Traefik version "
STAGING = "(STAGING)"
MASK = "***"
MASKED_LENGTH = 6  # shorter values, such as a port, may stand anywhere, and are no secrets
SHOWN_CHARACTERS = 600


@dataclass(frozen=True)
class Trouble:
    """An order that failed: when, in Unix seconds, and why, in one line."""

    at: float
    text: str


def store(state_dir: Path) -> str:
    """The directory of Traefik's log and of its certificates."""
    return f"{state_dir}/acme"


def log(state_dir: Path) -> str:
    return f"{store(state_dir)}/traefik.log"


def orders(readers: Readers) -> Verdict:
    """Issuer, life and last failure of the certificate by ACME, in one line."""
    config, effects = readers.config, readers.effects
    if config.wanted.tls_mode != "acme":
        return skip(f"the certificate is not by ACME: tls_mode is {config.wanted.tls_mode}")
    found, now = served(effects, config.domain), effects.now()
    held = f"issued by {found.issuer}, ends in {found.days_left(now):.0f} days"
    trouble = open_trouble(effects, config.state_dir)
    good = found.good_for(config.domain, now)
    if trouble:
        when = datetime.fromtimestamp(trouble.at).strftime("%Y-%m-%d %H:%M")
        seen = f"the order of {when} failed: {trouble.text}; what is served: {held}"
        return (warn if good else fail)(seen, "mend what it says, such as acme_credentials, and deploy again")
    if not good:
        remedy = f"an order takes up to some minutes; then deploy again, which orders anew; {log(config.state_dir)}"
        return fail(f"no certificate for *.{config.domain} yet, and no failed order; what is served: {held}", remedy)
    if STAGING in found.issuer:
        return warn(f"{held}: no client trusts it", 'set acme_server to "production", and deploy again')
    return ok(f"{held}; no failed order since")


def open_trouble(effects: Effects, state_dir: Path) -> Trouble | None:
    """The last failure that no later success has ended: each success writes the store of the certificates."""
    try:
        text = effects.text(log(state_dir))
    except FileNotFoundError:
        return None
    found = last_trouble(since_start(text))
    if found is None or found.at < _stored_at(effects, state_dir):
        return None
    return Trouble(found.at, mask(found.text, secrets_of(effects)))


def since_start(text: str) -> str:
    """The log since Traefik's last start; all, when that line is gone. What failed before is tried again."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if STARTED in line]
    return "\n".join(lines[starts[-1] :] if starts else lines)


def last_trouble(text: str) -> Trouble | None:
    found = None
    for entry in _entries(text):
        message = str(entry.get("message", ""))
        about = "ACME" in message or str(entry.get("providerName", "")).endswith(".acme")
        # Servers that do not answer are told at level "info".
        if about and (entry.get("error") or entry.get("level") == "error"):
            found = Trouble(_seconds(entry.get("time")), readable(str(entry.get("error") or message)))
    return found


def readable(error: str) -> str:
    """One line, without what is said before the first problem."""
    _, _, problems = error.rpartition("had a problem:")
    return " ".join(problems.split())[:SHOWN_CHARACTERS]


def mask(text: str, values: list[str]) -> str:
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, MASK)
    return text


def _entries(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def _seconds(time: Any) -> float:
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except ValueError:
        return 0.0


def _stored_at(effects: Effects, state_dir: Path) -> float:
    """When an order last succeeded, in Unix seconds; 0 when none did. Times in the log are whole seconds."""
    files = (effects.root / store(state_dir).lstrip("/")).glob("*.json")
    return max((float(int(file.stat().st_mtime)) for file in files), default=0.0)


def secrets_of(effects: Effects) -> list[str]:
    """What no message may show."""
    folder = effects.root / SECRETS.lstrip("/")
    values = [file.read_text(errors="replace").strip() for file in folder.iterdir()] if folder.is_dir() else []
    return [value for value in values if len(value) >= MASKED_LENGTH]
