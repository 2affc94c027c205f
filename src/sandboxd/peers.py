"""A connection of the daemon: uvicorn's protocol, which is taught to ask the kernel who is at the other end of a Unix
socket, and, at the daemon's end, not to close what has just come before its request is read, and not to wait for whom
takes no more of his answer.
"""

import asyncio
import pwd
import socket
import struct
from functools import lru_cache

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

UID = "peer_uid"
GRACE_S = 0.5  # for the request of a connection that has just come
STALLED_S = 2.0  # in which nothing of an answer is taken
CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


class PeerProtocol(H11Protocol):
    """Puts the uid of a Unix socket's peer, as it was when it connected, into the state of each request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            self.app_state = {**self.app_state, UID: CREDENTIALS.unpack(answer)[1]}

    def shutdown(self) -> None:
        """Whoever has just connected takes his request for received, and may not send a POST again."""
        if self.cycle is None:  # nothing was asked yet
            self.loop.call_later(GRACE_S, self._end)
        else:
            super().shutdown()
            self._watch(0)

    def _watch(self, before: int) -> None:
        """Whoever takes nothing of his answer, as a terminal that is held, would be waited for."""
        left = self.transport.get_write_buffer_size()
        if 0 < left == before:
            self.transport.abort()
        elif self in self.connections:
            self.loop.call_later(STALLED_S, self._watch, left)

    def _end(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()


def uid_of(scope: Scope) -> int | None:
    """None when it is not known, as of a request that came by TCP."""
    found = scope.get("state", {}).get(UID)
    return found if isinstance(found, int) else None


@lru_cache(maxsize=256)
def user_name(uid: int) -> str:
    """Empty for a uid that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
