"""The verbs that only ask the control plane: init, kill, get-host, list, info, pool, cleanup, routes, version."""

import time
from argparse import Namespace
from typing import Any

from sandboxd import __version__
from sandboxd.cli import place, printing
from sandboxd.cli.control import ControlPlane, sandbox_path
from sandboxd.cli.exits import FAILED, OK, CliError

POOL_FULL_S = 240.0  # its unit gives up after 300 s
POLL_S = 0.2


def run(options: Namespace, config: str) -> int:
    if options.verb == "version":
        return version(options)
    return ACTIONS[options.verb](options, ControlPlane(place.read(config).socket))


def init(options: Namespace, control: ControlPlane) -> int:
    wanted = {
        "templateID": options.template,
        "timeout": options.timeout,
        "keep": options.keep,
        "name": options.name,
        "envVars": dict(options.env),
        "metadata": dict(options.metadata),
        "cold": options.cold,
    }
    made = control.post("/v2/sandboxes", wanted)
    printing.show(options, printing.public(made), lambda: made["sandboxID"])
    return OK


def kill(options: Namespace, control: ControlPlane) -> int:
    """Every id is tried; the exit code is that of the first failure."""
    killed, code = [], OK
    for sandbox_id in options.ids:
        try:
            control.call("DELETE", sandbox_path(sandbox_id))
            killed.append(sandbox_id)
        except CliError as error:
            printing.complain(str(error))
            code = code or error.exit_code
    printing.show(options, {"killed": killed}, lambda: "")
    return code


def get_host(options: Namespace, control: ControlPlane) -> int:
    found = control.sandbox(options.id)
    url = found["url"] if options.port is None else f"https://{options.port}-{found['sandboxID']}.{found['domain']}"
    printing.show(options, {"url": url}, lambda: url)
    return OK


def list_all(options: Namespace, control: ControlPlane) -> int:
    rows = control.get("/v2/sandboxes")
    printing.show(options, rows, lambda: printing.sandbox_table(rows, time.time()))
    return OK


def info(options: Namespace, control: ControlPlane) -> int:
    found = control.sandbox(options.id)
    printing.show(options, printing.public(found), lambda: printing.sandbox_details(found, time.time()))
    return OK


def pool(options: Namespace, control: ControlPlane) -> int:
    if options.action == "status":
        state = control.get("/pool")
    else:
        state = control.post("/pool", {"enabled": options.action == "start"})
    code = OK
    if options.action == "start" and options.wait:
        state = _filled(control, state)
        code = OK if state["warm"] >= state["size"] else FAILED
    printing.show(options, state, lambda: printing.fields(printing.pool_lines(state)))
    if code != OK:
        reason = state["trouble"] or ("filling is slow" if state["enabled"] else "it was turned off meanwhile")
        raise CliError(f"the pool has {state['warm']} of {state['size']} members: {reason}.")
    return code


def _filled(control: ControlPlane, state: dict[str, Any]) -> dict[str, Any]:
    """The state once the pool is full, turned off by somebody else, or too slow."""
    give_up = time.monotonic() + POOL_FULL_S
    while state["enabled"] and state["warm"] < state["size"] and time.monotonic() < give_up:
        time.sleep(POLL_S)
        state = control.get("/pool")
    return state


def cleanup(options: Namespace, control: ControlPlane) -> int:
    done = control.post("/cleanup", {"olderThan": options.older_than, "unknown": options.unknown})
    removed = " ".join(done["removed"])
    text = f"removed {len(done['removed'])}{': ' if removed else ''}{removed}; kept {len(done['kept'])}"
    printing.show(options, done, lambda: text)
    return OK


def routes(options: Namespace, control: ControlPlane) -> int:
    """Ends with 1 when the routes are not in step."""
    state = control.get("/routes") if options.action == "status" else control.post("/routes/sync", {})
    if not options.quiet:
        printing.show(options, state, lambda: printing.fields(printing.route_lines(state)))
    return OK if state["in_step"] else FAILED


def version(options: Namespace) -> int:
    printing.show(options, {"version": __version__}, lambda: f"docker-sandbox {__version__}")
    return OK


ACTIONS = {
    "init": init,
    "kill": kill,
    "get-host": get_host,
    "list": list_all,
    "info": info,
    "pool": pool,
    "cleanup": cleanup,
    "routes": routes,
}
