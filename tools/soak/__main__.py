"""Load a host for an hour, and see whether anything grew or was left over: `make soak MINUTES=60`.

Take a host that nobody uses meanwhile. Exit code 1 when something grew, or an operation failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from deploys import ROOT
from deploys.hosts import HostError, chosen
from deploys.settings import SettingError
from tools.remote import Remote, RemoteError
from tools.soak.verdict import rows, table

PROGRAM = ROOT / "tools/soak/host.py"


def measured(remote: Remote, command: str) -> dict[str, Any]:
    """What the host's half finds; what it says meanwhile is shown. Raises RemoteError."""
    done = subprocess.run(remote.command(command), input=PROGRAM.read_bytes(), stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise RemoteError(f"{remote.target.name}: the load ended with exit code {done.returncode}")
    return dict(json.loads(done.stdout))


def main(arguments: list[str]) -> int:
    try:
        minutes = float(arguments[0]) if arguments else 60.0
    except ValueError:
        print(f"error: MINUTES = {arguments[0]!r}: give a number, such as 60", file=sys.stderr)
        return 2
    bad = False
    try:
        for target in chosen(os.environ):
            with Remote(target) as remote:
                print(f"Loading {target.name} for {minutes:g} minutes", file=sys.stderr, flush=True)
                command = f"python3 - {remote.settings.name} {minutes:g}"
                found = measured(remote, command)
            made = rows(found)
            print(table(made))
            print("done: " + ", ".join(f"{count} {kind}" for kind, count in sorted(found["done"].items())))
            for words, count in found["failed"].items():
                print(f"failed {count} times: {words}")
            bad |= bool(found["failed"]) or any(row.grew for row in made)
    except (HostError, RemoteError, SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
