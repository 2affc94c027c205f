"""Make docs/security-cis.md from tools/cis.toml: what of the CIS Docker Benchmark holds on a host, and what does not.

`python -m tools.cis` writes the page.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

from deploys import ROOT

SOURCE, PAGE = ROOT / "tools/cis.toml", ROOT / "docs/security-cis.md"
INTRODUCTION = """\
# CIS Docker Benchmark

Made from `tools/cis.toml` by `make docs`: edit that file, not this one. How a host with default settings stands to the
recommendations of the CIS Docker Benchmark 1.6. Numbers are the benchmark's, as docker-bench-security prints them; the
words are ours. What holds is tested under its number by `tests/host/test_cis.py`, at each `make verify`; what does not
hold, or not for all, has its reason. Section 7 is about Swarm, which is off (5.1).
"""


@dataclass(frozen=True)
class Row:
    """One recommendation: what it asks for, what of it `holds` here, and, where that is not all, `but` what."""

    number: str
    asks: str
    holds: str = ""
    but: str = ""


def sections(source: str) -> dict[str, list[Row]]:
    """Heading -> rows."""
    return {
        heading: [Row(number, **row) for number, row in rows.items()] for heading, rows in tomllib.loads(source).items()
    }


def page(source: str) -> str:
    """The text of docs/security-cis.md for the text of tools/cis.toml."""
    found = sections(source)
    rows = [row for section in found.values() for row in section]
    whole = sum(not row.but for row in rows)
    partly = sum(bool(row.holds and row.but) for row in rows)
    counted = (
        f"Of {len(rows)}, {whole} hold, {partly} hold but for what is said, and {len(rows) - whole - partly} do not."
    )
    parts = [INTRODUCTION, f"{counted}\n"]
    for heading, section in found.items():
        table = [f"| {row.number} | {row.asks} | {row.holds or '-'} | {row.but or '-'} |\n" for row in section]
        parts.append(f"## {heading}\n\n| number | asks for | holds | but |\n|---|---|---|---|\n{''.join(table)}")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(SOURCE.read_text()))
