"""Who looks at a page: the key behind the session, and what it may see. Asked of sandboxd at every request."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from starlette.requests import HTTPConnection

from console.daemon import Daemon
from console.errors import Refused, SignedOut
from console.sessions import COOKIE, Session, Sessions

ID_CHARACTERS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Viewer:
    """`name` is the key's, which the sandboxes that it made carry as `owner`; `host` sees everything."""

    session: Session
    name: str
    host: bool
    address: str = ""

    def sees(self, row: dict[str, Any]) -> bool:
        return self.host or (bool(self.name) and row["owner"] == self.name)

    @property
    def asking(self) -> dict[str, str]:
        return asking(self.address, f"{self.session.key} {self.name}")


class Viewers:
    def __init__(self, daemon: Daemon, sessions: Sessions) -> None:
        self._daemon, self._sessions = daemon, sessions

    async def of(self, connection: HTTPConnection) -> Viewer:
        """Raises SignedOut, and Refused when sandboxd does not answer: then nobody has to sign in anew."""
        session = self._sessions.read(cookie_of(connection))
        if session is None:
            raise SignedOut
        return replace(await self.look(session), address=address_of(connection))

    async def look(self, session: Session) -> Viewer:
        """The viewer of a session as it is now. Raises as `of` does."""
        if not self._sessions.lasts(session):
            raise SignedOut
        try:
            key = await self._daemon.get(f"/keys/{session.key}")
        except Refused as refused:
            if refused.status == 404:
                raise SignedOut from None
            raise
        # A key that was made later has the id of one that was revoked: unlikely, and not the one that signed in.
        if int(datetime.fromisoformat(key["createdAt"]).timestamp()) > session.began:
            raise SignedOut
        return Viewer(session, key["name"], key["host"])

    async def sandbox(self, viewer: Viewer, sandbox_id: str) -> dict[str, Any]:
        """All that sandboxd says of a sandbox, its token included. Raises Refused for one that the viewer does not see.

        Whether it is another's or nobody's is no business of an ordinary key: both have the same answer.
        """
        unknown = Refused(404, f"There is no sandbox {sandbox_id[:40]} of yours. It has ended, or it never was.")
        if len(sandbox_id) != 12 or not ID_CHARACTERS.issuperset(sandbox_id):
            raise unknown
        try:
            row: dict[str, Any] = await self._daemon.get(f"/sandboxes/{sandbox_id}")
        except Refused as refused:
            if refused.status == 404 and not viewer.host:
                raise unknown from None
            raise
        if not viewer.sees(row):
            raise unknown
        return row


def asking(address: str, key: str = "") -> dict[str, str]:
    """Headers by which sandboxd's audit log knows for whom the console asks; `key` is `<id> <name>`."""
    return {"X-Forwarded-For": address} | ({"X-On-Behalf-Of": key} if key else {})


def address_of(connection: HTTPConnection) -> str:
    """Of the client. Traefik drops what others say and writes it down itself; the gateway adds nothing."""
    return connection.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()[:64]


def cookie_of(connection: HTTPConnection) -> str:
    """Ours, "" if there is none. What else is in the header may be any preview's, and of any form."""
    return connection.cookies.get(COOKIE, "")
