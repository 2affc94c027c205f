"""The route of a sandbox, as the gateway reads it from its map: `<address>|<digest>|<host>`. Values only.

The address is `asleep` for a sandbox that a request shall resume. The digest, of the traffic token, is there when the
sandbox is private; the host name when its servers shall see another than the one that was asked for.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sandboxd.tokens import traffic_token

ASLEEP = "asleep"
PORT = "${PORT}"  # in a host name: the port that was asked for. The map has `*` in its place
HOST = re.compile(r"[A-Za-z0-9.:-]*(\$\{PORT\})?[A-Za-z0-9.:-]*")
HOST_LENGTH = 255


@dataclass(frozen=True)
class Route:
    """`address` is empty for a sandbox that is paused or stopped, and is to be resumed by a request."""

    id: str
    address: str
    private: bool = False
    host: str = ""


def text(route: Route, key: bytes) -> str:
    """The value in the map. A digest, because the map is no secret, and its comparison tells nothing of the token."""
    digest = hashlib.sha256(traffic_token(key, route.id).encode()).hexdigest() if route.private else ""
    fields = (route.address or ASLEEP, digest, route.host.replace(PORT, "*"))
    return "|".join(fields).rstrip("|")


def table(routes: Iterable[Route], key: bytes) -> dict[str, str]:
    """id -> value in the map."""
    return {route.id: text(route, key) for route in routes}
