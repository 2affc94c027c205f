"""The results as a table for people, which is Markdown too."""

from __future__ import annotations

from tools.fleetsim.results import Result

HEAD = (
    "policy", "creates", "from pool", "p50 ms", "p95 ms", "p99 ms", "refused", "failed", "lost", "waiting", "stale",
    "used per node", "deviation", "most", "writes/s", "leader busy", "calls in/s", "calls to nodes/s", "MB a round",
)  # fmt: skip


def table(results: list[Result]) -> str:
    lines = [HEAD, *map(cells, results)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEAD))]
    rule = tuple("-" * width if at == 0 else "-" * (width - 1) + ":" for at, width in enumerate(widths))
    return "\n".join("| " + " | ".join(fitted(line, widths)) + " |" for line in [HEAD, rule, *lines[1:]])


def cells(one: Result) -> tuple[str, ...]:
    reasons = ", ".join(f"{number} {reason}" for reason, number in one.refused.items() if number)
    return (
        one.policy,
        str(one.arrivals),
        f"{one.hit_rate:.1%}",
        f"{one.p50_ms:.1f}",
        f"{one.p95_ms:.1f}",
        f"{one.p99_ms:.1f}",
        reasons or "0",
        str(one.failed),
        str(one.lost),
        str(one.waiting),
        str(one.stale),
        f"{one.load_mean:.1f}",
        f"{one.load_deviation:.2f}",
        f"{one.load_most:.1f}",
        f"{one.raft_writes_per_s:.1f}",
        f"{one.raft_busy:.0%}",
        f"{one.calls_to_managers_per_s:.1f}",
        f"{one.calls_to_nodes_per_s:.1f}",
        f"{(one.bytes_of_nodes_per_round + one.bytes_of_leases_per_round) / 1e6:.2f}",
    )


def fitted(line: tuple[str, ...], widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if at == 0 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
