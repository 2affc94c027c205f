"""Make docs/settings.md from group_data/all.py: `python -m tools.settings_page`; `--check` only compares.

A comment block, and the assignments that directly follow it, become one entry.
"""

from __future__ import annotations

import ast
import re
import sys

from deploys import ROOT

SOURCE, PAGE = ROOT / "group_data/all.py", ROOT / "docs/settings.md"
ANNOTATION = re.compile(r": (list|dict)\[[^=]*\] =")
HEADING = re.compile(r"# -+ ([A-Za-z ]+?) -+$")
INTRODUCTION = """\
# Settings

Made from `group_data/all.py` by `make docs`: edit that file, not this one. It holds every setting with its default.

Set a value in one of three places; the later ones win:

1. a file in `group_data/`: `group_data/servers.py` is for every host that is not a lab;
2. `hosts.toml`, for all hosts in `[defaults]`, or for one in its table `[hosts.NAME]`, `[managers.NAME]` or
   `[workers.NAME]`;
3. the command line: `make deploy HOST=... SET="pool_size=5 tls_mode=acme"`. Separate the items of a list by commas,
   write a dictionary as JSON, and quote a value with spaces once more.

A deploy checks all of them before its first change, and names the key, the value and the remedy.
"""


def page(source: str) -> str:
    """The text of docs/settings.md for the text of group_data/all.py."""
    lines = source.splitlines()
    parts = [INTRODUCTION]
    comment: list[str] = []
    statements = {node.lineno: node for node in ast.parse(source).body if isinstance(node, ast.Assign | ast.AnnAssign)}
    number = 1
    while number <= len(lines):
        line = lines[number - 1]
        if heading := HEADING.match(line):
            parts.append(f"## {heading[1]}\n")
            comment = []
        elif line.startswith("#"):
            comment.append(line[2:])
        elif number in statements:
            first = number
            while number in statements:
                number = (statements[number].end_lineno or number) + 1
            names = [name for at, node in statements.items() if first <= at < number for name in [_name(node)]]
            parts.append(f"### {', '.join(f'`{name}`' for name in names)}\n")
            if comment:
                parts.append(_prose(comment) + "\n")
            default = "\n".join(lines[first - 1 : number - 1])
            parts.append(f"```python\n{ANNOTATION.sub(' =', default)}\n```\n")
            comment = []
            continue
        number += 1
    return "\n".join(parts)


def _name(node: ast.Assign | ast.AnnAssign) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return ast.unparse(target)


def _prose(comment: list[str]) -> str:
    """The comment as it stands; its indented lines are a list of values, and become a block."""
    text: list[str] = []
    inside = False
    for line in comment:
        indented = line.startswith("  ")
        if indented != inside:
            text.append("\n```text" if indented else "```\n")
            inside = indented
        text.append(line[2:] if indented else line)
    return "\n".join([*text, "```"] if inside else text)


def main() -> int:
    wanted = page(SOURCE.read_text())
    if "--check" in sys.argv:
        if PAGE.read_text() == wanted:
            return 0
        print(f"{PAGE.relative_to(ROOT)} is not current: run `make docs`", file=sys.stderr)
        return 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
