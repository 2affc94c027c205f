"""From two answers of GET /stats to rates. Values only.

Counters go up while a container runs, and begin again with its next start: a counter that fell has no rate.
"""

from typing import Any


def with_rates(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """The sandboxes of `after`, each with `rates`.

    cpu_percent: of one processor, so two busy ones are 200; cpu_percent_of_limit: of what the sandbox may use;
    received_bytes_per_s and sent_bytes_per_s. Each is None where it cannot be told: of a new or restarted sandbox.
    """
    earlier = {one["sandboxID"]: one for one in before["sandboxes"]}
    elapsed_s = after["clock"] - before["clock"]
    return [{**one, "rates": _rates(earlier.get(one["sandboxID"], {}), one, elapsed_s)} for one in after["sandboxes"]]


def _rates(before: dict[str, Any], after: dict[str, Any], elapsed_s: float) -> dict[str, float | None]:
    cpu = _rate(before, after, ("usage", "cpu_ns"), elapsed_s)
    limit = (after["usage"] or {}).get("cpu_limit")
    percent = None if cpu is None else cpu / 1e9 * 100
    return {
        "cpu_percent": _rounded(percent),
        "cpu_percent_of_limit": _rounded(None if percent is None or not limit else percent / limit),
        "received_bytes_per_s": _rounded(_rate(before, after, ("network", "received_bytes"), elapsed_s)),
        "sent_bytes_per_s": _rounded(_rate(before, after, ("network", "sent_bytes"), elapsed_s)),
    }


def _rate(before: dict[str, Any], after: dict[str, Any], path: tuple[str, str], elapsed_s: float) -> float | None:
    group, name = path
    if not before.get(group) or not after.get(group) or elapsed_s <= 0:
        return None
    difference: float = after[group][name] - before[group][name]
    return difference / elapsed_s if difference >= 0 else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
