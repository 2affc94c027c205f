"""Measure a deployed host beside plain Docker: `make bench ARGS="--quick --only init exec"`.

It loads the host and restarts its Docker engine (case `idle`): take a host that nobody uses meanwhile.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import subprocess
import sys
import zipfile
from typing import Any

from deploys import ROOT
from deploys.hosts import HostError, chosen
from deploys.settings import WORKER, SettingError
from deploys.target import Target
from tools.bench.host.run import CASES
from tools.bench.table import table
from tools.remote import Remote, RemoteError

STOPPED = 130
MAIN = "import sys\nfrom tools.bench.host.run import main\nsys.exit(main(sys.argv[1:]))\n"


def main() -> int:
    parser = argparse.ArgumentParser("make bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=[], metavar="CASE", help=f"of: {' '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it works, not for figures")
    parser.add_argument("--json", action="store_true", help="print JSON: host -> rows")
    arguments = parser.parse_args()
    results, failed = {}, False
    try:
        for target in measured(chosen(os.environ), arguments.only):
            with Remote(target) as remote:
                print(f"Measuring {target.name}", file=sys.stderr, flush=True)
                results[target.name], code = measure(remote, arguments.quick, arguments.only)
                failed |= code != 0
                if not arguments.json:
                    print(table(results[target.name]))
                if code == STOPPED:
                    break
    except (HostError, RemoteError, SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(results, indent=2))
    return int(failed)


def measured(targets: list[Target], only: list[str]) -> list[Target]:
    """Those that have something of it to measure: a fleet is asked by a manager."""
    return [one for one in targets if only != ["fleet"] or one.settings.get("fleet_role") != WORKER]


def measure(remote: Remote, quick: bool, only: list[str]) -> tuple[list[dict[str, Any]], int]:
    """Runs the cases on the host: rows, and 0 or the exit code of what failed. Raises RemoteError without rows.

    On Ctrl-C it waits until the host is clean again; the code is then 130.
    """
    program = zipped()
    words = shlex.join([remote.settings.name, "quick" if quick else "full", *only])
    # Standard input brings the program, and its end then says that nobody waits any more.
    command = (
        f"set -e; file=$(mktemp --suffix=.pyz); trap 'rm -f $file' EXIT; head -c {len(program)} >$file;"
        f" python3 $file {words}"
    )
    # In a session of its own, so that Ctrl-C reaches us alone and not the connection.
    process = subprocess.Popen(
        remote.command(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    if process.stdin is None or process.stdout is None:
        raise RemoteError("ssh has no pipes")
    try:
        process.stdin.write(program)
        process.stdin.flush()
        output = process.stdout.read()
        process.stdin.close()
        code = process.wait()
    except KeyboardInterrupt:
        print("stopping: cleaning up the host", file=sys.stderr, flush=True)
        process.stdin.close()
        output = process.stdout.read()
        code = process.wait()
    if not output.strip():
        raise RemoteError(f"{remote.target.name}: the measurements ended with exit code {code} and no rows")
    return json.loads(output), code


def zipped() -> bytes:
    """The host's half as a zip file that Python runs."""
    files = [ROOT / "tools/__init__.py", ROOT / "tools/bench/__init__.py", *(ROOT / "tools/bench/host").glob("*.py")]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", MAIN)
        for file in sorted(files):
            archive.write(file, file.relative_to(ROOT).as_posix())
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
