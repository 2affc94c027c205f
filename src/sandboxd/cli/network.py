"""The verb `network`: shows or replaces where a sandbox may connect to."""

from argparse import Namespace
from typing import Any

from sandboxd.cli import place, printing
from sandboxd.cli.control import ControlPlane, sandbox_path
from sandboxd.cli.exits import OK


def run(options: Namespace, config: str) -> int:
    """Without a flag it only shows: forgetting the flags must not open what is closed."""
    control = ControlPlane(place.read(config).socket)
    if options.network or options.allow or options.deny:
        wanted = lists(options)
        control.call("PUT", f"{sandbox_path(options.id)}/network", wanted)
    found = control.sandbox(options.id)
    printing.show(options, printing.public(found), lambda: f"{found['sandboxID']}: {printing.network(found)}")
    return OK


def lists(options: Namespace) -> dict[str, Any]:
    """Without a mode it is the host's."""
    return {"mode": options.network or "", "allowOut": options.allow, "denyOut": options.deny}
