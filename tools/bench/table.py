"""The rows as a table for people, which is Markdown too."""

from typing import Any

HEAD = ("what", "n", "ratio", "in words", "ours", "p95", "ok", "peer", "p95", "ok", "unit", "goal", "met", "peer is")
LEFT = {0, 3, 10, 11, 12, 13}  # columns of words


def table(rows: list[dict[str, Any]]) -> str:
    """`ratio` is ours to the peer's, by medians."""
    lines = [cells(row) for row in rows]
    widths = [max(3, *(len(line[at]) for line in [HEAD, *lines])) for at in range(len(HEAD))]
    rule = ["-" * width if at in LEFT else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    return "\n".join("| " + " | ".join(fitted(line, widths)) + " |" for line in [HEAD, tuple(rule), *lines])


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: "-" if row["goal"] is None else "?"}[row["met"]]
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
    count = str(row["n"])
    return (
        row["what"],
        count,
        ratio,
        in_words(row),
        *side(row["ours"]),
        *side(row["peer"]),
        row["unit"],
        row["goal"] or "-",
        met,
        row["peer_is"] or "-",
    )


def fitted(line: tuple[str, ...], widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if at in LEFT else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def side(summary: dict[str, Any] | None) -> tuple[str, str, str]:
    if summary is None:
        return "-", "-", "-"
    success = f"{summary['success']:.0%}"
    if summary["median"] is None:
        return "-", "-", success
    return f"{summary['median']:g}", f"{summary['p95']:g}", success


def in_words(row: dict[str, Any]) -> str:
    """What the ratio means: how many times as fast, how much of the peer's rate or memory."""
    ratio = row["ratio"]
    if ratio is None:
        return "-"
    if row["more_is_better"] or row["unit"] != "ms":
        return f"{ratio:.0%} of the peer's"
    if 0.95 <= ratio <= 1.05:
        return "as fast"
    return f"{1 / ratio:.1f} times as fast" if ratio < 1 else f"takes {ratio:.2f} times as long"
