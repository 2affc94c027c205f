"""Where the two servers are that the command talks to: read from the deploy's configuration file.

Not through `sandboxd.config`: that checks the whole file with dataclasses, whose import costs 7 ms at each start.
The daemon has checked the file; here two values are taken from it.
"""

import tomllib
from typing import NamedTuple

from sandboxd.cli.exits import CliError


class Place(NamedTuple):
    """The control plane's Unix socket, and the gateway's host and port."""

    socket: str
    gateway: tuple[str, int]


def read(file: str) -> Place:
    """Raises CliError when the file is absent or not what the deploy writes."""
    remedy = "This host is not deployed, or only half: run the deploy."
    try:
        with open(file, "rb") as source:
            values = tomllib.load(source)
        host, _, port = values["gateway"]["address"].rpartition(":")
        return Place(values["socket"], (host, int(port)))
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}. {remedy}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CliError(f"{file}: no usable socket and gateway.address in it ({error!r}). {remedy}") from error
