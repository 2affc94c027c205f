"""Ask, then remove what a deploy put on the hosts: `python -m tools.destroy`, which `make destroy HOST=...` runs.

DATA=remove in the environment removes sandboxes, ledger and secrets, too. `--yes` does not ask.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from deploys import ROOT
from deploys.hosts import HostError, chosen
from deploys.settings import SettingError

KEPT = "Sandboxes are stopped and kept, as are the ledger, the secrets and the certificate authority: a later deploy"
KEPT += " brings them back. DATA=remove removes them, too."
LOST = "ALL sandboxes with their files, the ledger, the secrets and the certificate authority are REMOVED FOR EVER."


def main() -> int:
    parser = argparse.ArgumentParser("tools.destroy", description=__doc__)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    arguments = parser.parse_args()
    data = os.environ.get("DATA", "")
    if data not in ("", "remove"):
        print(f"error: DATA = {data!r}: leave it out, or say DATA=remove", file=sys.stderr)
        return 2
    try:
        targets = chosen(os.environ)
        projects = {target.load_settings().project for target in targets}
    except (HostError, SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    names = ", ".join(f"{target.name} ({target.user}@{target.address})" for target in targets)
    print(f"This removes the sandbox host software ({', '.join(sorted(projects))}) from {names}.")
    print(LOST if data else KEPT, flush=True)
    if not arguments.yes:
        answer = ask(f"Type the name of the first host, {targets[0].name}, to go on: ")
        if answer.strip() != targets[0].name:
            print("Nothing was changed.")
            return 1
    pyinfra = Path(sys.executable).with_name("pyinfra")
    command = [str(pyinfra), "inventory.py", "destroy.py", "--yes", "--fail-percent", "0"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def ask(question: str) -> str:
    """The answer typed at the terminal; empty at the end of input."""
    try:
        return input(question)
    except EOFError:
        print()
        return ""


if __name__ == "__main__":
    sys.exit(main())
