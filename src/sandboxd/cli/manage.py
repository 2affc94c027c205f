"""The verbs that only ask the control plane: init, kill, get-host, list, info, cleanup, routes, version."""

import time
from argparse import Namespace
from typing import Any

from sandboxd import __version__
from sandboxd.cli import access, network, place, printing
from sandboxd.cli.control import ControlPlane, sandbox_path
from sandboxd.cli.exits import FAILED, OK
from sandboxd.cli.several import each


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
        "diskMB": options.disk,
        "volume": options.volume,
        **({"shared": True} if options.shared else {}),
        "network": network.lists(options),
        "access": options.access,
        **({"wake": False} if options.no_wake else {}),
        **({"idlePause": options.idle_pause} if "idle_pause" in options else {}),
    }
    made = control.post("/v2/sandboxes", wanted)
    if not options.json:
        for line in access.password_lines(made):  # beside standard output, which has the id and nothing else
            printing.say(line)
    printing.show(options, printing.public(made), lambda: made["sandboxID"])
    return OK


def kill(options: Namespace, control: ControlPlane) -> int:
    """Every id is tried; the exit code is that of the first failure."""
    killed, code = each(options.ids, lambda sandbox_id: control.call("DELETE", sandbox_path(sandbox_id)))
    printing.show(options, {"killed": killed}, lambda: "")
    return code


def get_host(options: Namespace, control: ControlPlane) -> int:
    access.check(options)
    if options.private:
        made = access.link(control, options.id, options.port, options.seconds)
    else:
        made = {"url": url_of(control.sandbox(options.id), options.port)}
    printing.show(options, made, lambda: str(made["url"]))
    return OK


def url_of(sandbox: dict[str, Any], port: int | None) -> str:
    """Where a port of a sandbox is reached from outside; None is the host's default port."""
    return str(sandbox["url"]) if port is None else f"https://{port}-{sandbox['sandboxID']}.{sandbox['domain']}"


def list_all(options: Namespace, control: ControlPlane) -> int:
    rows = control.get("/v2/sandboxes")
    printing.show(options, rows, lambda: printing.sandbox_table(rows, time.time()))
    return OK


def info(options: Namespace, control: ControlPlane) -> int:
    found = control.sandbox(options.id)
    printing.show(options, printing.public(found), lambda: printing.sandbox_details(found, time.time()))
    return OK


def cleanup(options: Namespace, control: ControlPlane) -> int:
    done = control.post("/cleanup", {"olderThan": options.older_than, "unknown": options.unknown})
    removed = " ".join(done["removed"])
    text = f"removed {len(done['removed'])}{': ' if removed else ''}{removed}; kept {len(done['kept'])}"
    printing.show(options, done, lambda: text)
    return OK


def routes_status(options: Namespace, control: ControlPlane) -> int:
    return _show_routes(options, control.get("/routes"))


def routes_sync(options: Namespace, control: ControlPlane) -> int:
    return _show_routes(options, control.post("/routes/sync", {}))


def _show_routes(options: Namespace, state: dict[str, Any]) -> int:
    """Ends with 1 when the routes are not in step."""
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
    "cleanup": cleanup,
    "routes status": routes_status,
    "routes sync": routes_sync,
}
