"""The route of a sandbox, as the gateway reads it from its map: `<address>|<digest>|<host>|<access>`. Values only.

The address is `asleep` for a sandbox that a request shall resume. The digest is there when not everybody may open its
ports: with the access `basic` that of user and password, else that of the traffic token, and the access is the number
of the round for which links are signed. The host name is there when its servers shall see another than the one that was
asked for.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sandboxd.records import BASIC, PUBLIC, TOKEN
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
    host: str = ""
    access: str = PUBLIC
    access_round: int = 0
    password_digest: str = ""


def text(route: Route, key: bytes) -> str:
    """The value in the map. Digests, because the map is no secret, and their comparison tells nothing of the token."""
    digest = access = ""
    if route.access == TOKEN:
        token = traffic_token(key, route.id, route.access_round)
        digest, access = hashlib.sha256(token.encode()).hexdigest(), str(route.access_round)
    elif route.access == BASIC:
        digest, access = route.password_digest, BASIC
    fields = (route.address or ASLEEP, digest, route.host.replace(PORT, "*"), access)
    return "|".join(fields).rstrip("|")


def table(routes: Iterable[Route], key: bytes) -> dict[str, str]:
    """id -> value in the map."""
    return {route.id: text(route, key) for route in routes}
