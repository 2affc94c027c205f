"""Where the two servers are that the command talks to, and what else it takes from the deploy's configuration file.

Not through `sandboxd.config`: that checks the whole file with dataclasses, whose import costs 7 ms at each start.
The daemon has checked the file; here a few values are taken from it.
"""

import tomllib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from sandboxd.cli.exits import CliError

T = TypeVar("T")


class Place(NamedTuple):
    """The control plane's Unix socket, and the gateway's host and port."""

    socket: str
    gateway: tuple[str, int]


class Browser(NamedTuple):
    """For `browser-test`: the template that has a browser, "" when the host has none; the directory of the scripts that
    run in it; and the file of the authority of the host's own certificates, "" when their issuer is a public one."""

    template: str
    scripts: str
    authority: str


def read(file: str) -> Place:
    """Raises CliError when the file is absent or not what the deploy writes."""

    def taken(values: dict[str, Any]) -> Place:
        host, _, port = values["gateway"]["address"].rpartition(":")
        return Place(values["socket"], (host, int(port)))

    return _from(file, taken, "socket and gateway.address")


def read_browser(file: str) -> Browser:
    """The table [browser], which the daemon does not look at. Raises CliError as `read` does."""

    def taken(values: dict[str, Any]) -> Browser:
        table = values["browser"]
        return Browser(table["template"], table["scripts"], table["authority"])

    return _from(file, taken, "table [browser]")


def managers(file: str) -> list[str]:
    """`name (address)` of the managers of the fleet that this host is part of; none where it is part of none."""
    try:
        with open(file, "rb") as source:
            return [str(one) for one in tomllib.load(source)["fleet"]["managers"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def audit_log(file: str) -> str:
    """The path of the audit log. Raises CliError as `read` does."""
    return _from(file, lambda values: str(values["audit_log"]), "audit_log")


def _from(file: str, taken: Callable[[dict[str, Any]], T], what: str) -> T:
    remedy = "This host is not deployed, or only half: run the deploy."
    try:
        with open(file, "rb") as source:
            return taken(tomllib.load(source))
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}. {remedy}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CliError(f"{file}: no usable {what} in it ({error!r}). {remedy}") from error


def templates(file: str) -> list[str]:
    """The names of the host's templates; none when the file cannot be read, as on a machine that is no sandbox host."""
    try:
        with open(file, "rb") as source:
            return sorted(tomllib.load(source)["templates"])
    except (OSError, ValueError, KeyError, TypeError):  # ValueError: no TOML
        return []
