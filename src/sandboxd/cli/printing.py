"""How answers look: tables for people, JSON for programs. Values in, text out; `show` and `complain` write it."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

from sandboxd.cli.verbs import PROGRAM

# They open the agent, and the ports; transcripts of agents are logs, and secrets stay out of logs.
SECRETS = ("envdAccessToken", "trafficAccessToken")


def show(options: Namespace, value: Any, text: Callable[[], str]) -> None:
    """Prints `value` as JSON if --json was given, else the text; nothing at all for an empty text."""
    shown = json.dumps(value, indent=2) if options.json else text()
    if shown:
        print(shown)


def complain(message: str) -> None:
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)


def say(message: str) -> None:
    """What a person is to read, beside the result on standard output."""
    print(message, file=sys.stderr)


def warn(message: str) -> None:
    print(f"{PROGRAM}: warning: {message}", file=sys.stderr)


def public(sandbox: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sandbox.items() if key not in SECRETS}


def visible(text: str) -> str:
    """For a terminal: control characters, such as a sandbox may put into its log, are seen and do not act."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def sandbox_table(rows: list[dict[str, Any]], now: float) -> str:
    if not rows:
        return "no sandboxes in use; make one with: docker-sandbox init"
    fleet = any("node" in row for row in rows)  # which one has it, where there are several hosts
    lines = [
        (
            row["sandboxID"],
            row["name"] or "-",
            row["templateID"],
            row["state"],
            _age(row, now),
            end(row, now),
            _kept(row),
            row["access"],
            *([row.get("node", "-")] if fleet else []),
            row["url"],
        )
        for row in rows
    ]
    head = ("ID", "NAME", "TEMPLATE", "STATE", "AGE", "ENDS", "CLEANUP", "ACCESS", *(["NODE"] if fleet else []), "URL")
    return table(head, lines)


def sandbox_details(row: dict[str, Any], now: float) -> str:
    lines = [
        ("id", row["sandboxID"]),
        ("name", row["name"] or "-"),
        ("state", row["state"] + (f" ({row['reason']})" if row["reason"] else "")),
        ("url", row["url"]),
        ("template", row["templateID"]),
        ("container", row["container"]),
        ("address", row["address"]),
        ("limits", f"{row['memoryMB']} MB of memory, {row['cpuCount']} CPUs, {row['diskSizeMB']} MB at /code"),
        *([("volume", row["volume"])] if row["volume"] else []),
        ("origin", row["origin"]),
        *([("key", row["owner"])] if row["owner"] else []),
        ("started", f"{row['startedAt']} ({_age(row, now)} ago)"),
        ("ends", end(row, now)),
        ("cleanup", _kept(row)),
        ("network", network(row)),
        ("access", row["access"]),
        ("wakes up", "when somebody visits it" if row["wakeOnVisit"] else "by resume or start"),
        ("pauses", f"when nobody has used it for {span(row['idlePause'])}" if row["idlePause"] else "by pause"),
        *((f"metadata {key}", value) for key, value in sorted(row["metadata"].items())),
    ]
    return fields(lines)


def network(row: dict[str, Any]) -> str:
    """Where a sandbox may connect to."""
    allow, deny = row["network"]["allowOut"], row["network"]["denyOut"]
    mode = row["network"]["mode"]
    if not deny:
        return str(mode)
    denied = "none" if mode == "none" else f"{mode}, denied: {' '.join(deny)}"
    return denied + (f", allowed: {' '.join(allow)}" if allow else "")


def pool_table(pools: list[dict[str, Any]]) -> str:
    """One line for each pool, and below the table what is wrong with them."""
    if not pools:
        return "no template has a pool; make one with: docker-sandbox pool resize N"
    head = ("TEMPLATE", "ON", "SIZE", "WARM", "STARTING", "HITS", "MISSES", "P50 MS", "P95 MS")
    lines = [
        (
            pool["template"],
            _yes(pool["enabled"]),
            f"{pool['size']}" + (f" (set: {pool['configured']})" if pool["size"] != pool["configured"] else ""),
            *(str(pool[key]) for key in ("warm", "starting", "hits", "misses")),
            *("-" if pool[key] is None else f"{pool[key]:.1f}" for key in ("p50_ms", "p95_ms")),
        )
        for pool in pools
    ]
    troubles = [f"{pool['template']}: {pool['trouble']}" for pool in pools if pool["trouble"]]
    return "\n".join([table(head, lines), *troubles])


def route_lines(state: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("in step", _yes(state["in_step"])),
        ("routes", str(state["routes"])),
        ("missing", " ".join(state["missing"]) or "-"),
        ("stale", " ".join(state["stale"]) or "-"),
    ]
    return lines + ([("gateway", state["gateway"])] if state["gateway"] else [])


def plain(text: str) -> str:
    """For a terminal: what a sandbox says has no control characters any more, which could rewrite what is shown."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "\n".join(line.rstrip() for line in lines)


def fields(lines: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines)


def span(seconds: float) -> str:
    """A duration in its two largest units, such as 3h12m."""
    whole = max(0, int(seconds))
    for unit, size, small, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part}{small}"
    return f"{whole}s"


def size(count_bytes: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count_bytes < 1000:
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1000
    return f"{count_bytes:.1f} GB"


def _age(row: dict[str, Any], now: float) -> str:
    return span(now - seconds(row["startedAt"]))


def end(row: dict[str, Any], now: float) -> str:
    return "never" if row["unlimited"] else f"in {span(seconds(row['endAt']) - now)}"


def _kept(row: dict[str, Any]) -> str:
    return "spares it" if row["keep"] else "after its age"


def seconds(rfc3339: str) -> float:
    """Unix seconds of the API's times, such as 2026-01-31T12:00:00.000Z."""
    from datetime import datetime  # only here: most commands never need it

    return datetime.fromisoformat(rfc3339.replace("Z", "+00:00")).timestamp()


def _yes(value: bool) -> str:
    return "yes" if value else "no"
