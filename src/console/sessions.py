"""Sessions: who signed in, until when. All of one is in its cookie, signed; only what was ended early is kept here.

So sessions survive a restart, and whoever reads a backup of that file has nothing. The key itself is not in the cookie:
its id is, and at every request sandboxd is asked whether there still is such a key.
"""

import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

COOKIE = "__Host-console"
LIFE_S = 12 * 3600
TEXT = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{1,64})\.(\d{1,12})\.(\d{1,12})\.([0-9a-f]{64})")


@dataclass(frozen=True)
class Session:
    """`key` is the id of the API key; times in Unix seconds."""

    id: str
    key: str
    began: int
    ends: int


class Ended:
    """The sessions that were ended before their time, in a file, each until it would have ended anyway."""

    def __init__(self, file: Path, now: float) -> None:
        self._file = file
        self._ends: dict[str, int] = {}
        if file.exists():
            for line in file.read_text().splitlines():
                name, _, ends = line.partition(" ")
                if ends.isdigit() and int(ends) > now:
                    self._ends[name] = int(ends)
        new = file.with_suffix(".new")
        new.write_text("".join(f"{name} {ends}\n" for name, ends in self._ends.items()))
        new.replace(file)

    def __contains__(self, session: Session) -> bool:
        return session.id in self._ends

    def add(self, session: Session) -> None:
        if session not in self:
            self._ends[session.id] = session.ends
            with self._file.open("a") as file:
                file.write(f"{session.id} {session.ends}\n")


class Sessions:
    def __init__(self, secret: bytes, file: Path, now: Callable[[], float]) -> None:
        self._secret, self._now = secret, now
        self._ended = Ended(file, now())

    def begin(self, key: str) -> Session:
        began = int(self._now())
        return Session(secrets.token_hex(16), key, began, began + LIFE_S)

    def text(self, session: Session) -> str:
        """The value of the cookie."""
        plain = f"{session.id}.{session.key}.{session.began}.{session.ends}"
        return f"{plain}.{self._sign('session', plain)}"

    def read(self, text: str) -> Session | None:
        """None for what we did not sign, and for a session that has ended in whatever way."""
        found = TEXT.fullmatch(text)
        if found is None:
            return None
        plain = text.rpartition(".")[0]
        if not hmac.compare_digest(found[5], self._sign("session", plain)):
            return None
        session = Session(found[1], found[2], int(found[3]), int(found[4]))
        return session if self.lasts(session) else None

    def lasts(self, session: Session) -> bool:
        return session not in self._ended and session.ends > self._now()

    def end(self, session: Session) -> None:
        self._ended.add(session)

    def token(self, session: Session) -> str:
        """What each form of this session carries, and no other site can know."""
        return self._sign("form", session.id)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.digest(self._secret, f"{purpose}:{text}".encode(), "sha256").hex()


def set_cookie(text: str, max_age_s: int) -> str:
    """The header Set-Cookie; with an age of 0 it removes the cookie. `__Host-` wants Secure, Path=/ and no Domain."""
    return f"{COOKIE}={text}; Path=/; Max-Age={max_age_s}; HttpOnly; Secure; SameSite=Strict"
