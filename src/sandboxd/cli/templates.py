"""The verbs about templates: snapshot, template ls, template build, template rm."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from sandboxd.cli import packing, place, printing
from sandboxd.cli.control import EXIT_CODES, ControlPlane, refusal, sandbox_path
from sandboxd.cli.exits import FAILED, OK, CliError
from sandboxd.cli.http1 import Connection, Response, quote
from sandboxd.cli.progress import Progress
from sandboxd.cli.several import each
from sandboxd.cli.streams import refusable

BUILD_S = 3600.0  # without a word for so long, the build is taken for dead


def run(options: Namespace, config: str) -> int:
    return ACTIONS[options.verb](options, ControlPlane(place.read(config).socket))


def snapshot(options: Namespace, control: ControlPlane) -> int:
    made = control.post(f"{sandbox_path(options.id)}/snapshots", {"name": options.name})
    printing.show(options, made, lambda: made["templateID"])
    return OK


def list_all(options: Namespace, control: ControlPlane) -> int:
    rows = control.get("/templates")
    lines = [(row["templateID"], row["kind"], row["base"] or "-", row["image"]) for row in rows]
    printing.show(options, rows, lambda: printing.table(("TEMPLATE", "KIND", "LIMITS OF", "IMAGE"), lines))
    return OK


def remove(options: Namespace, control: ControlPlane) -> int:
    """Every name is tried; the exit code is that of the first failure."""
    removed, code = each(options.names, lambda name: control.call("DELETE", f"/templates/{quote(name)}"))
    printing.show(options, {"removed": removed}, lambda: "")
    return code


def build(options: Namespace, control: ControlPlane) -> int:
    """Sends the directory, shows what the build says on standard error, and prints the template's name."""
    if not os.path.isfile(os.path.join(options.directory, "Dockerfile")):
        raise CliError(f"{options.directory}: no Dockerfile in it. Its first lines are: ARG BASE, FROM ${{BASE}}")
    connection = Connection(control.connect(), "localhost")
    try:
        query = f"?base={quote(options.base)}" if options.base else ""
        with Progress("sent") as progress:
            headers = {"Connection": "close", "Content-Type": "application/x-tar"}
            connection.begin("POST", f"/templates/{quote(options.name)}/build{query}", headers, None)
            with refusable():
                packing.send_directory(connection, options.directory, ".", progress)
        connection.socket.settimeout(BUILD_S)
        made = follow(connection.response())
    except OSError as error:
        raise CliError(f"the connection to sandboxd broke: {error}. The build was ended.") from error
    finally:
        connection.close()
    printing.show(options, made, lambda: made["templateID"])
    return OK


def follow(response: Response) -> dict[str, Any]:
    """Shows the lines of a build as they come; returns the template. Raises CliError when there is none."""
    if response.status != 200:
        raise refused(response)
    for line in lines_of(response):
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise CliError(found["error"])
        if "template" in found:
            template: dict[str, Any] = found["template"]
            return template
        print(found["line"], file=sys.stderr)
    raise CliError("sandboxd ended the build without a result. Look with: journalctl -u '*-sandboxd'")


def lines_of(response: Response) -> Iterator[bytes]:
    rest = b""
    while piece := response.read(65536):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


def refused(response: Response) -> CliError:
    return CliError(refusal(response.status, response.read_all()), EXIT_CODES.get(response.status, FAILED))


ACTIONS = {"snapshot": snapshot, "template ls": list_all, "template build": build, "template rm": remove}
