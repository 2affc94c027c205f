"""What hosts say of themselves, put together into what a single host would say: values in, values out."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

Values = Mapping[str, dict[str, Any]]  # by host
SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (.+)")


def pools(states: Values) -> dict[str, Any]:
    """GET /pool: sums, and what each host says in `nodes`. A latency is that of the slowest host."""
    names = list(dict.fromkeys(pool["template"] for state in states.values() for pool in state["pools"]))
    merged = [_pool(name, states) for name in names]
    counts = {key: sum(pool[key] for pool in merged) for key in ("size", "warm", "starting", "hits", "misses")}
    enabled = any(state["enabled"] for state in states.values())
    return {"enabled": enabled, **counts, "pools": merged, "nodes": dict(states)}


def _pool(template: str, states: Values) -> dict[str, Any]:
    found = {name: one for name, state in states.items() for one in state["pools"] if one["template"] == template}
    pools = list(found.values())
    # Of a host that is cordoned it is off: who waits for the others to be full waits for no member there.
    on = [pool for pool in pools if pool["enabled"]] or pools
    limits = [pool["limit"] for pool in on]
    return {
        "template": template,
        "enabled": any(pool["enabled"] for pool in pools),
        "size": sum(pool["size"] for pool in on),
        **{key: sum(pool[key] for pool in pools) for key in ("configured", "warm", "starting")},
        **{key: sum(pool[key] for pool in pools) for key in ("hits", "misses")},
        **{key: _most(pool[key] for pool in pools) for key in ("p50_ms", "p95_ms")},
        "trouble": "; ".join(f"node {name}: {pool['trouble']}" for name, pool in found.items() if pool["trouble"]),
        "limit": limits[0] if all(limits) else "",  # else another host has room
    }


def overview(states: Values) -> dict[str, Any]:
    """GET /overview: sums; of what cannot be summed, all different values. A path has its host before it."""

    def total(key: str) -> Any:
        return sum(state[key] for state in states.values())

    present: dict[str, int] = {}
    for state in states.values():
        for name, number in state["present"].items():
            present[name] = present.get(name, 0) + number
    limits = [state["max_sandboxes"] for state in states.values()]
    return {
        "present": present,
        "max_sandboxes": sum(limits) if all(limits) else 0,
        **{key: total(key) for key in ("memory_mb", "memory_available_mb", "memory_reserve_mb")},
        "disks": [
            {**disk, "path": f"{name}:{disk['path']}"} for name, state in states.items() for disk in state["disks"]
        ],
        "disk_reserve_mb": max(state["disk_reserve_mb"] for state in states.values()),
        "processors": total("processors"),
        "load": round(total("load"), 2),
        "uptime_s": min(state["uptime_s"] for state in states.values()),
        **{key: _different(state[key] for state in states.values()) for key in ("engine", "release", "kernel")},
        "troubles": {
            f"{name}: {source}": text for name, state in states.items() for source, text in state["troubles"].items()
        },
        "nodes": dict(states),
    }


def routes(states: Values) -> dict[str, Any]:
    """GET /routes: each gateway has the routes of its own host."""
    return {
        "in_step": all(state["in_step"] for state in states.values()),
        "routes": sum(state["routes"] for state in states.values()),
        **{key: sorted(one for state in states.values() for one in state[key]) for key in ("missing", "stale")},
        "gateway": "; ".join(f"node {name}: {state['gateway']}" for name, state in states.items() if state["gateway"]),
        "nodes": dict(states),
    }


def cleanup(states: Values) -> dict[str, Any]:
    return {key: [one for state in states.values() for one in state[key]] for key in ("removed", "kept")}


def metrics(pages: Mapping[str, str]) -> str:
    """Prometheus' text format, version 0.0.4: each sample gets the label `node`, each family its head once."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for node, text in pages.items():
        family = ""
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                if line not in heads.setdefault(family, []):
                    heads[family].append(line)
            elif (found := SAMPLE.fullmatch(line)) is not None:
                labels = f'{found[2]},node="{node}"' if found[2] else f'node="{node}"'
                samples.setdefault(family, []).append(f"{found[1]}{{{labels}}} {found[3]}")
    return "".join(f"{line}\n" for family, head in heads.items() for line in (*head, *samples.get(family, ())))


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _different(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))
