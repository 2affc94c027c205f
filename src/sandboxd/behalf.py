"""For whom a request is made: who is at the other end, or whom he speaks for, if he is one that is believed.

The console is, of the host's own socket, by its Unix user; and on the socket of a fleet, which only the gateway may
open, whoever comes: that lets managers in by their certificates, and nobody else.
"""

from starlette.types import Scope

from sandboxd.api.access import unix_socket
from sandboxd.audit import FLEET, NOBODY, Act, Actor
from sandboxd.peers import uid_of, user_name

ON_BEHALF_OF, FORWARDED_FOR = b"x-on-behalf-of", b"x-forwarded-for"
HEADERS = (ON_BEHALF_OF, FORWARDED_FOR)


def asker(scope: Scope, console: str) -> tuple[Actor, str]:
    """Who asks, and from which address; `console` is the Unix user of the console."""
    actor = _peer(scope)
    if actor.kind == "user" and actor.name == console:
        key_id, _, name = _said(scope, ON_BEHALF_OF).partition(" ")  # nobody at a sign-in
        return Actor("key", key_id, name) if key_id else actor, _said(scope, FORWARDED_FOR)
    return actor, address_of(scope)


def asker_of_fleet(scope: Scope) -> tuple[Actor, str]:
    """The same of a request that a manager makes: for somebody, or by itself."""
    kind, _, who = _said(scope, ON_BEHALF_OF).partition(" ")
    key_id, _, name = who.partition(" ")
    return Actor(kind, key_id, name) if kind else FLEET, _said(scope, FORWARDED_FOR)


def spoken(act: Act) -> list[tuple[bytes, bytes]]:
    """The headers by which a manager says for whom it asks; none when it acts by itself."""
    if act.actor.kind == FLEET.kind:
        return []
    who = f"{act.actor.kind} {act.actor.id} {act.actor.name}".strip()
    told = [(ON_BEHALF_OF, who), (FORWARDED_FOR, act.address)]
    return [(name, text.encode("ascii", errors="replace")) for name, text in told if text]


def address_of(scope: Scope) -> str:
    """What Traefik says of the client, or else who is connected; empty for a Unix socket."""
    if unix_socket(scope) is not None:
        return ""
    client = scope.get("client")
    return _said(scope, FORWARDED_FOR) or (str(client[0]) if client else "")


def _peer(scope: Scope) -> Actor:
    """Of a Unix socket the user at its other end. Of TCP nobody, until a key is found to be valid."""
    if unix_socket(scope) is None:
        return NOBODY
    uid = uid_of(scope)
    return Actor("user") if uid is None else Actor("user", str(uid), user_name(uid))


def _said(scope: Scope, header: bytes) -> str:
    values = [value for name, value in scope["headers"] if name == header]
    return b", ".join(values)[:200].decode("ascii", errors="replace")
