"""The verbs that change the state of a sandbox: pause, resume, stop, start, extend, resize."""

import time
from argparse import Namespace
from typing import Any

from sandboxd.cli import place, printing
from sandboxd.cli.control import ControlPlane, sandbox_path
from sandboxd.cli.exits import OK


def run(options: Namespace, config: str) -> int:
    control = ControlPlane(place.read(config).socket)
    control.post(f"{sandbox_path(options.id)}/{PATHS.get(options.verb, options.verb)}", body(options))
    found = control.sandbox(options.id)
    printing.show(options, printing.public(found), lambda: sentence(options.verb, found))
    return OK


def body(options: Namespace) -> dict[str, Any]:
    """What the control plane is told."""
    if options.verb in ("resume", "start"):
        return {"timeout": options.timeout} if "timeout" in options else {}  # without it: what it had
    if options.verb == "extend":
        return {"timeout": options.time}
    return {"diskMB": options.size} if options.verb == "resize" else {}


def sentence(verb: str, found: dict[str, Any]) -> str:
    """What a person reads: the state now, and what was asked for."""
    if verb == "extend":
        if found["state"] != "running":
            return f"{found['sandboxID']} is {found['state']}: its time begins when it is resumed"
        return f"{found['sandboxID']} ends {printing.end(found, time.time())}"
    if verb == "resize":
        return f"{found['sandboxID']} has a disk of {found['diskSizeMB']} MB"
    return f"{found['sandboxID']} is {found['state']}"


PATHS = {"extend": "timeout", "resize": "disk"}
