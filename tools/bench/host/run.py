"""What the zip file does: runs the cases that are asked for, and prints a JSON list of rows.

Arguments: the name of the configuration, `full` or `quick`, and names of cases (none: all; `fleet` on managers alone).
Progress goes to standard error. Standard input stays open as long as somebody waits for the result; when it ends, this
stops and cleans up.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from tools.bench.host import density, edge, fleet, library, lifecycle, sdk, transfers
from tools.bench.host.machine import Machine, say
from tools.bench.host.measure import QUICK, Scale

Case = Callable[[Machine, Scale], list[dict[str, Any]]]
CASES: dict[str, Case] = {
    "init": lifecycle.init,
    "cold": lifecycle.cold,
    "exec": lifecycle.execute,
    "pause": lifecycle.pause,
    "copy": transfers.copy,
    "sdk": sdk.sdk,
    "preview": edge.preview,
    "requests": edge.requests,
    "library": library.library,
    "parallel": lifecycle.parallel,
    "fleet": fleet.fleet,
    "idle": density.idle,
}


def main(arguments: list[str]) -> int:
    """0; 1 when a case could not be measured; 130 when stopped. Rows of the other cases are printed all the same."""
    name, scale = arguments[0], QUICK if arguments[1] == "quick" else Scale()
    try:
        machine = Machine(name)
    except OSError as error:
        say(f"error: {error}. Is this host deployed? Deploy with: make deploy HOST=...")
        return 1
    names = arguments[2:] or cases_of(machine)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    rows, failed = [], False
    try:
        threading.Thread(target=_follow_caller, daemon=True).start()
        machine.clean()
        for case in names:
            say(f"{case} ...")
            try:
                found = CASES[case](machine, scale)
                for text in sorted({text for one in found for text in one["errors"]}):
                    say(f"  failed: {text}")
                rows += found
            except Exception as error:
                failed = True
                say(f"  {case} failed: {error}")
            machine.clean()
    except KeyboardInterrupt:
        say("stopped: the rows are those of the cases before")
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        machine.clean()
        print(json.dumps(rows))
    return int(failed)


def cases_of(machine: Machine) -> list[str]:
    return [case for case in CASES if case != "fleet" or machine.manages]


def _follow_caller() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGINT)
