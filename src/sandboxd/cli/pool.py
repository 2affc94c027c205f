"""The verbs about the pools of warm sandboxes: status, start, drain, resize. They only ask the control plane."""

import time
from argparse import Namespace
from typing import Any

from sandboxd.cli import place, printing
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import BUSY, FAILED, OK, CliError

FULL_S = 240.0  # the unit of the pools gives up after 300 s
POLL_S = 0.2


def run(options: Namespace, config: str) -> int:
    return ACTIONS[options.verb](options, ControlPlane(place.read(config).socket))


def status(options: Namespace, control: ControlPlane) -> int:
    return _show(options, control.get("/pool"))


def start(options: Namespace, control: ControlPlane) -> int:
    """With --wait it ends with 5 when the host is too full for more members: then waiting is of no use."""
    state = control.post("/pool", {"enabled": True, "template": options.template})
    if not options.wait:
        return _show(options, state)
    give_up = time.monotonic() + FULL_S
    while _waiting(state, options.template) and time.monotonic() < give_up:
        time.sleep(POLL_S)
        state = control.get("/pool")
    _show(options, state)
    if short := [pool for pool in _meant(state, options.template) if pool["warm"] < pool["size"]]:
        raise CliError("\n".join(map(_complaint, short)), BUSY if all(pool["limit"] for pool in short) else FAILED)
    return OK


def drain(options: Namespace, control: ControlPlane) -> int:
    return _show(options, control.post("/pool", {"enabled": False, "template": options.template}))


def resize(options: Namespace, control: ControlPlane) -> int:
    return _show(options, control.post("/pool/resize", {"size": options.size, "template": options.template}))


def _show(options: Namespace, state: dict[str, Any]) -> int:
    printing.show(options, state, lambda: printing.pool_table(state["pools"]))
    return OK


def _meant(state: dict[str, Any], template: str) -> list[dict[str, Any]]:
    return [pool for pool in state["pools"] if template in ("", pool["template"])]


def _waiting(state: dict[str, Any], template: str) -> bool:
    """Whether a pool is going to have more members: it is not full, on, and the host has room."""
    return any(
        pool["warm"] < pool["size"] and pool["enabled"] and not pool["limit"] for pool in _meant(state, template)
    )


def _complaint(pool: dict[str, Any]) -> str:
    slow = "filling is slow" if pool["enabled"] else "it was turned off meanwhile"
    return f"the pool of {pool['template']} has {pool['warm']} of {pool['size']} members: {pool['trouble'] or slow}"


ACTIONS = {
    "pool status": status,
    "pool start": start,
    "pool drain": drain,
    "pool resize": resize,
}
