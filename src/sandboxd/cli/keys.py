"""The verbs `key create`, `key ls`, `key revoke`: keys for programs that use the API from elsewhere."""

import sys
import time
from argparse import Namespace

from sandboxd.cli import place, printing
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import OK
from sandboxd.cli.http1 import quote
from sandboxd.cli.several import each


def run(options: Namespace, config: str) -> int:
    return ACTIONS[options.verb](options, ControlPlane(place.read(config).socket))


def create(options: Namespace, control: ControlPlane) -> int:
    """The key alone on standard output, so that it can be piped; that it is shown once, on standard error."""
    asked = {"name": options.name, "maxSandboxes": options.max_sandboxes, "first": options.first, "host": options.host}
    made = control.post("/keys", asked)
    printing.show(options, made, lambda: made.get("key", ""))
    if made and not options.json:
        print(
            "Keep it: it is not shown again. To take it back: docker-sandbox key revoke", made["keyID"], file=sys.stderr
        )
    return OK


def list_all(options: Namespace, control: ControlPlane) -> int:
    rows = control.get("/keys")
    now = time.time()
    lines = [
        (
            row["keyID"],
            row["name"],
            "host" if row["host"] else "own",
            printing.span(now - printing.seconds(row["createdAt"])),
            f"{row['sandboxes']} of {row['maxSandboxes'] or 'any number'}",
        )
        for row in rows
    ]
    empty = "no keys; make one with: docker-sandbox key create NAME"
    head = ("KEY", "NAME", "SEES", "AGE", "SANDBOXES OF THE NAME")
    printing.show(options, rows, lambda: printing.table(head, lines) if lines else empty)
    return OK


def revoke(options: Namespace, control: ControlPlane) -> int:
    revoked, code = each(options.ids, lambda key_id: control.call("DELETE", f"/keys/{quote(key_id)}"))
    printing.show(options, {"revoked": revoked}, lambda: "")
    return code


ACTIONS = {"key create": create, "key ls": list_all, "key revoke": revoke}
