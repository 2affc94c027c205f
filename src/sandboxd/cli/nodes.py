"""The verbs `node ls`, `node cordon`, `node drain`, `node activate`, `node fenced`: the hosts of a fleet."""

import time
from argparse import Namespace
from typing import Any

from sandboxd.cli import place, printing
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import FAILED, NOT_FOUND, OK, CliError
from sandboxd.cli.http1 import quote

POLL_S = 1.0
GIB = 1024  # MB


def run(options: Namespace, config: str) -> int:
    control = ControlPlane(place.read(config).socket)
    rows = hosts(control, config)
    if options.verb == "node ls":
        printing.show(options, rows, lambda: table(rows))
        return OK
    if options.verb == "node fenced":
        return fenced(options, control)
    row = ACTIONS[options.verb](options, control)
    printing.show(options, row, lambda: f"{row['name']} is {row['state']}")
    return OK


def hosts(control: ControlPlane, config: str) -> list[dict[str, Any]]:
    """Raises CliError, also where there is no fleet, or where only its managers can be asked."""
    try:
        found: list[dict[str, Any]] = control.get("/nodes")
    except CliError as error:
        if error.exit_code != NOT_FOUND:
            raise
        if managers := place.managers(config):
            raise CliError(
                f"this host is a worker of a fleet. Ask one of its managers: {', '.join(managers)}"
            ) from error
        raise CliError(f"{error}. See docs/fleet.md for how to make one.", FAILED) from error
    return found


def cordon(options: Namespace, control: ControlPlane) -> dict[str, Any]:
    return _act(control, options.node, "cordon", {})


def activate(options: Namespace, control: ControlPlane) -> dict[str, Any]:
    return _act(control, options.node, "activate", {})


def drain(options: Namespace, control: ControlPlane) -> dict[str, Any]:
    row = _act(control, options.node, "drain", {"now": options.now})
    if row["state"] == "draining":
        number = "1 sandbox" if row["sandboxes"] == 1 else f"{row['sandboxes']} sandboxes"
        printing.say(f"waiting for the end of {number} on {row['name']}; --now does not wait")
    while row["state"] == "draining":
        time.sleep(POLL_S)
        row = next(one for one in control.get("/nodes") if one["name"] == options.node)
    if row["state"] == "lost":
        raise CliError(
            f"{row['name']} is lost since {row['lostSince']}. It gets nothing new; once it answers, drain it again."
        )
    if row["state"] != "drained":
        raise CliError(f"{row['name']} is {row['state']}: somebody has taken the drain back.")
    return row


def fenced(options: Namespace, control: ControlPlane) -> int:
    """Raises CliError without --yes. What could not be made anew yet ends with FAILED; the managers go on with it."""
    if not options.yes:
        raise CliError(
            f"is {options.node} off for certain? While it runs it may write to the disks of its sandboxes, and a second"
            " host that does so destroys them. Switch it off, look that it is, and say so with --yes."
        )
    done: dict[str, Any] = control.post(f"/nodes/{quote(options.node)}/fenced", {})
    for sandbox_id, why in done["waiting"].items():
        printing.warn(f"sandbox {sandbox_id} is not made anew yet: {why}")
    printing.show(options, done, lambda: "".join(f"{one} is on {node}\n" for one, node in done["moved"].items()))
    return FAILED if done["waiting"] else OK


def _act(control: ControlPlane, node: str, action: str, body: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = control.post(f"/nodes/{quote(node)}/{action}", body)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    head = ("NODE", "ROLE", "STATE", "SANDBOXES", "WARM", "MEMORY GB", "CPUS", "ENGINE", "ADDRESS")
    lines = [
        (
            row["name"],
            row["role"] + (" (leader)" if row["leader"] else ""),
            row["state"] + (f" since {row['lostSince']}" if row["lostSince"] else ""),
            str(row["sandboxes"]),
            str(row["warm"]),
            _of(row["memoryReservedMB"] / GIB, row["memoryMB"] and row["memoryMB"] / GIB),
            _of(row["cpusReserved"], row["cpus"]),
            row["engine"] or "-",
            row["address"],
        )
        for row in rows
    ]
    return printing.table(head, lines)


def _of(reserved: float, there: float | None) -> str:
    return f"{reserved:.1f} of {'?' if there is None else f'{there:.1f}'}"


ACTIONS = {"node cordon": cordon, "node drain": drain, "node activate": activate}
