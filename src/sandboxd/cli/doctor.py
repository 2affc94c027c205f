"""The verb `doctor`: prints the findings of an examination of this host as they come."""

import json
from argparse import Namespace
from typing import Any

from sandboxd.cli import place
from sandboxd.cli.control import ANSWER_S, ControlPlane
from sandboxd.cli.exits import FAILED, OK, UNREACHABLE, CliError
from sandboxd.cli.interrupts import terminable

NAME_WIDTH = 17
LEVEL_WIDTH = 6
DOWN = "systemctl restart '*-sandboxd.service'; journalctl -u '*-sandboxd' -n 50"


def run(options: Namespace, config: str) -> int:
    """Ends with 0 when nothing fails, 1 otherwise, and 4 when nobody is there to examine anything."""
    findings: list[dict[str, Any]] = []
    code = OK
    try:
        control = ControlPlane(place.read(config).socket)
        with terminable():
            for finding in control.stream("POST", "/doctor", {"probe": not options.no_probe}, ANSWER_S):
                findings.append(finding)
                _print(options, finding)
    except CliError as error:
        if error.exit_code != UNREACHABLE:
            raise
        findings.append({"name": "sandboxd", "level": "fail", "seen": str(error), "remedy": DOWN})
        _print(options, findings[-1])
        code = UNREACHABLE
    if any(finding["level"] == "fail" for finding in findings):
        code = code or FAILED
    if options.json:
        print(json.dumps({"ok": code == OK, "findings": findings}, indent=2))
    else:
        print(summary(findings))
    return code


def _print(options: Namespace, finding: dict[str, Any]) -> None:
    if not options.json and (text := lines(finding)):
        print(text, flush=True)


def lines(finding: dict[str, Any]) -> str:
    """A finding, and its remedy below it; nothing for one that only waits for another: the summary names it."""
    if finding["level"] == "blocked":
        return ""
    seen = f"{finding['level']:<{LEVEL_WIDTH}}{finding['name']:<{NAME_WIDTH}} {finding['seen']}"
    return seen + (f"\n{'':{LEVEL_WIDTH + NAME_WIDTH}} remedy: {finding['remedy']}" if finding["remedy"] else "")


def summary(findings: list[dict[str, Any]]) -> str:
    counts = [(level, sum(one["level"] == level for one in findings)) for level in ("ok", "warn", "fail")]
    text = ", ".join(f"{count} {level}" for level, count in counts)
    blocked = [f"{one['name']} ({one['seen']})" for one in findings if one["level"] == "blocked"]
    return text + (f"; not looked at: {', '.join(blocked)}" if blocked else "")
