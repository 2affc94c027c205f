"""The verb `logs`: what the main process of a sandbox wrote, and on request what the host knows of its life."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from sandboxd.cli import place
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import NOT_FOUND, OK, CliError
from sandboxd.cli.http1 import quote
from sandboxd.cli.interrupts import terminable
from sandboxd.cli.output import write_all
from sandboxd.cli.printing import visible

STDOUT = 1


def run(options: Namespace, config: str) -> int:
    """Ends with 3 when the sandbox is gone, also when it went while its log was followed."""
    control = ControlPlane(place.read(config).socket)
    form = _form(options)
    with terminable():
        for line in control.stream("GET", target(options)):
            if line["kind"] != "ended" or options.events or options.json:
                write_all(STDOUT, (form(line) + "\n").encode(errors="replace"))
            if line["kind"] == "ended":
                raise CliError(f"sandbox {options.id} ended at {line['at']}: {line['text']}", NOT_FOUND)
    return OK


def target(options: Namespace) -> str:
    switches = [name for name in ("follow", "events") if getattr(options, name)]
    wishes = [f"{name}=true" for name in switches] + ([] if options.lines is None else [f"lines={options.lines}"])
    return f"/logs/{quote(options.id)}" + (f"?{'&'.join(wishes)}" if wishes else "")


def _form(options: Namespace) -> Callable[[dict[str, Any]], str]:
    """Plain lines; with events, each line with its time and its kind."""
    if options.json:
        return json.dumps
    text: Callable[[str], str] = visible if sys.stdout.isatty() else str
    if not options.events:
        return lambda line: text(line["text"])
    return lambda line: f"{line['at']}  {line['kind'].replace('line', 'agent'):<9}  {text(line['text'])}"
