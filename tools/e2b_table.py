"""Make docs/e2b-conformance.md: `python -m tools.e2b_table [RESULTS]`.

tests/host/test_e2b.py writes reports/e2b.json. Named as RESULTS it replaces docs/e2b-results.json, the results that are
committed, and of which the page is made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from deploys import ROOT
from tools.e2b_rows import ROWS, Row

PROGRAMS, RESULTS, PAGE = ROOT / "tests/e2b", ROOT / "docs/e2b-results.json", ROOT / "docs/e2b-conformance.md"
# Program -> the client that it drives; programs of one client share a column.
TITLES = {
    "python_sync": "Python",
    "python_templates": "Python",
    "python_base": "Python",
    "skill": "Python",
    "python_async": "Python, async",
    "javascript": "npm",
    "cli": "CLI",
    "code_interpreter": "interpreter, Python",
    "code_interpreter_js": "interpreter, npm",
}
PASS, FAIL, ABSENT, NOT_RUN = "pass", "FAIL", "none", "not run"
INTRODUCTION = """\
# What works with E2B's clients

Made by `make docs` from `tools/e2b_rows.py` and the results of a run of `tests/host/test_e2b.py` on {date}: edit those,
not this page. The clients come unmodified from PyPI and npm, and speak with a host by `E2B_DOMAIN` and `E2B_API_KEY`
alone, over TLS. How to move your own code here: [migrate-from-e2b.md](migrate-from-e2b.md).

{releases}

**pass**: every test of that row passed with that client. **none**: that release of the client does not have it. Empty:
not tried with that client; it sends the same requests.
"""
LEFT_OUT = """
## Left out

| what | calls | why |
|---|---|---|
"""


def features(program: str) -> list[str]:
    """The names of a program's features, in their order, without `feature_`."""
    python, script = PROGRAMS / f"{program}.py", PROGRAMS / f"{program}.mjs"
    if python.exists():
        begins = ("def feature_", "async def feature_")
        lines = [line for line in python.read_text().splitlines() if line.startswith(begins)]
        return [line.split("feature_", 1)[1].split("(")[0] for line in lines]
    lines = [line for line in script.read_text().splitlines() if line.startswith("  async ")]
    return [line.split("async ", 1)[1].split("(")[0] for line in lines]


def programs() -> list[str]:
    """The programs of tests/e2b that have features."""
    names = sorted({file.stem for file in PROGRAMS.glob("*.*") if file.suffix in (".py", ".mjs")})
    return [name for name in names if features(name)]


def page(results: dict[str, Any], rows: tuple[Row, ...] = ROWS) -> str:
    """The page's text. `results` is {"date", "clients": {"<program> <release>": {feature: word}}}."""
    columns: dict[str, dict[str, dict[str, str]]] = {}
    for client, found in results["clients"].items():
        program, *release = client.split()
        columns.setdefault(" ".join([TITLES[program], *release]), {})[program] = found
    letters = {title: chr(ord("A") + number) for number, title in enumerate(columns)}
    releases = "\n".join(f"* {letter}: {title}" for title, letter in letters.items())
    shown = [row for row in rows if row.features]
    lines = [
        INTRODUCTION.format(date=results["date"], releases=releases),
        f"| what | calls | {' | '.join(letters.values())} |",
        f"|---|---|{'---|' * len(columns)}",
        *(f"| {row.what} | {row.calls} | {' | '.join(cell(row, one) for one in columns.values())} |" for row in shown),
    ]
    left = [f"| {row.what} | {row.calls} | {row.reason} |" for row in rows if row.reason]
    return "\n".join([*lines, LEFT_OUT + "\n".join(left), ""])


def cell(row: Row, column: dict[str, dict[str, str]]) -> str:
    """One word for what the programs of one client have found of a row; empty when none of them tries it."""
    words = [
        found.get(name, NOT_RUN)
        for program, found in column.items()
        for name in features(program)
        if name in row.features
    ]
    for word in (FAIL, NOT_RUN, PASS, ABSENT):
        if word in words:
            return word
    return ""


def main() -> None:
    if len(sys.argv) > 1:
        RESULTS.write_text(json.dumps(json.loads(Path(sys.argv[1]).read_text()), indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
