"""Measure a deployed host beside plain Docker: `python -m tools.bench [--rounds N] [--json]`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from deploys.hosts import HostError, chosen
from deploys.settings import SettingError
from tools.remote import Remote, RemoteError

SCRIPT = Path(__file__).with_name("bench_host.py")


def main() -> int:
    parser = argparse.ArgumentParser("tools.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="repetitions of each measurement (default 15)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    try:
        for target in chosen(os.environ):
            with Remote(target) as remote:
                print(f"Measuring {target.name}: some minutes", file=sys.stderr, flush=True)
                command = f"python3 - {remote.settings.name} {arguments.rounds}"
                rows = json.loads(remote.run(command, stdin=SCRIPT.read_bytes()).stdout)
                print(json.dumps({target.name: rows}) if arguments.json else table(rows))
    except (HostError, RemoteError, SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def table(rows: list[dict[str, str | float]]) -> str:
    """The rows as text; a ratio below 1 means faster than the peer."""
    lines = [f"{'what':44} {'ours':>10} {'peer':>10} {'ratio':>6}  peer is"]
    for row in rows:
        ours, peer = float(row["ours"]), float(row["peer"])
        figures = f"{ours:>7.1f} {row['unit']} {peer:>7.1f} {row['unit']} {ours / peer:>6.2f}"
        lines.append(f"{row['what']:44} {figures}  {row['peer_is']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
