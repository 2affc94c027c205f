"""Who did what, as records; and on whose behalf the running code acts.

Every way in begins an act in one place: `observed` for requests, and the few threads that act by themselves. Code
further in says with `Audit.doing` what it does; a context variable tells for whom. No record holds a secret, a value of
an environment variable or a command line.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from sandboxd.auditlog import AuditLog
from sandboxd.errors import SandboxdError
from sandboxd.records import Sandbox
from sandboxd.times import rfc3339

P = ParamSpec("P")
T = TypeVar("T")

TEXT = 200  # characters of what a record says in words
NAME = 128  # ... and of a name or an address
# Whoever is refused more often than that in so many seconds gets one record for the rest: no disk is filled so. Those
# without a key are told apart by their addresses, the first so many; all others count as one.
OFTEN, WINDOW_S = 20, 60.0
MOST_ADDRESSES = 50
# The same for what is done by the thousand.
MANY = ("volume-content",)
MADE = ("create", "claim")


@dataclass(frozen=True)
class Actor:
    """`kind` is `key`, `user`, `volume`, `nobody`, or the part of the daemon that acts by itself; only the first three
    have an `id`. A `cleanup` has those of whoever asked for it."""

    kind: str
    id: str = ""
    name: str = ""


NOBODY = Actor("nobody")  # who has no valid key
DAEMON = Actor("sandboxd")
GATEWAY, POOL, RECONCILE = Actor("gateway"), Actor("pool"), Actor("reconcile")
FLEET = Actor("fleet")  # a manager, by itself
EXPIRY, IDLE, WATCHDOG = Actor("expiry"), Actor("idle"), Actor("watchdog")


@dataclass
class Act:
    """Something that is being done. Without an `action` it only tells who acts. `began` is a monotonic time."""

    actor: Actor
    action: str = ""
    address: str = ""
    sandbox: str = ""
    template: str = ""
    detail: str = ""
    status: int = 0  # of HTTP, or what it would be; 0 for none
    error: str = ""
    began: float = field(default_factory=time.monotonic)
    over: bool = False

    def about(self, row: Sandbox) -> None:
        self.sandbox, self.template = row.id, row.template

    def fail(self, status: int, error: str) -> None:
        self.status, self.error = status, error

    def covers(self, action: str, row: Sandbox | None) -> bool:
        """Whether that is what this act is for, so that it needs no record of its own."""
        if self.over or not self.action:
            return False
        if row is not None and row.id:
            return self.sandbox == row.id
        return self.action == action or (self.action in MADE and action in MADE)


_act: ContextVar[Act | None] = ContextVar("act", default=None)


def current(otherwise: Actor = DAEMON) -> Act:
    """The act in whose course this is called. Without one it is that actor's; what is said of it then is lost."""
    return _act.get() or Act(otherwise)


@contextmanager
def within(act: Act) -> Iterator[Act]:
    """What the body does, in other threads by `carried`, is done in the course of this act."""
    before = _act.set(act)
    try:
        yield act
    finally:
        _act.reset(before)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """What the body does is done by that actor, and not by whoever called it."""
    with within(Act(actor, address=current().address)):
        yield


def carried(work: Callable[P, T]) -> Callable[P, T]:
    """`work` for another thread, on behalf of whoever acts here."""
    context = copy_context()
    return lambda *arguments, **options: context.copy().run(work, *arguments, **options)


class Audit:
    """`counted` is told the action and the error of whatever fails."""

    def __init__(self, log: AuditLog, now: Callable[[], float], counted: Callable[[str, SandboxdError], None]) -> None:
        self.log, self._now, self._counted = log, now, counted
        self._refusals = Often(OFTEN, WINDOW_S)

    @contextmanager
    def doing(
        self, action: str, row: Sandbox | None = None, template: str = "", detail: str = "", by: Actor | None = None
    ) -> Iterator[Act]:
        """Gives what is recorded of the body: a record of its own, unless the act in whose course it runs covers it."""
        with self.telling(action, row, template, detail, by) as act, within(act):
            yield act

    @contextmanager
    def telling(
        self, action: str, row: Sandbox | None = None, template: str = "", detail: str = "", by: Actor | None = None
    ) -> Iterator[Act]:
        """The same where the body is a generator, which runs now in one thread, now in another: what it calls does not
        act in the course of this.
        """
        outer = current()
        covered = by is None and outer.covers(action, row)
        act = outer if covered else Act(by or outer.actor, action, outer.address, template=template, detail=detail)
        if covered and row is None:
            act.action = action  # a request for a sandbox is a claim, or a create
        if row is not None:
            act.about(row)
        try:
            yield act
        except SandboxdError as error:
            self._counted(action, error)
            act.fail(error.status, str(error))
            raise
        except BaseException as error:
            act.fail(500, f"internal error: {type(error).__name__}")
            raise
        finally:
            if not covered:
                self.record(act)

    def record(self, act: Act) -> None:
        """Writes what has become of an act, which is over with that. Its time is that of its end."""
        act.over = True
        now = self._now()
        refused = act.status >= 400
        if refused or act.action in MANY:
            self._summarise(now)
            whence = act.address[:NAME] if act.actor == NOBODY else ""
            if not self._refusals.admit(Counted(act.actor, "refused" if refused else act.action, whence), now):
                return
        self._write(now, act)

    def settle(self) -> str:
        """To be called now and then: says how many were left out. Returns the trouble with the file, if any."""
        self._summarise(self._now())
        return self.log.trouble

    def _summarise(self, now: float) -> None:
        for one, count in self._refusals.ended(now):
            detail = f"{count} more within {WINDOW_S:.0f} s, left out here"
            status = 429 if one.what == "refused" else 200
            self._write(now, Act(one.actor, one.what, one.address, detail=detail, status=status))

    def _write(self, now: float, act: Act) -> None:
        refused = act.status >= 400
        record = {
            "time": rfc3339(now),
            "actor": {"kind": act.actor.kind, "id": act.actor.id[:NAME], "name": act.actor.name[:NAME]},
            "address": act.address[:NAME],
            "action": act.action,
            "sandbox": act.sandbox[:NAME],
            "template": act.template[:NAME],
            "outcome": "error" if refused else "ok",
            "status": act.status,
            "error": brief(harmless(act.status, act.error)) if refused else "",
            "ms": round((time.monotonic() - act.began) * 1000, 1),
            "detail": brief(act.detail),
        }
        self.log.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")


@dataclass(frozen=True)
class Counted:
    """Who did what so often; `address` only where it tells actors apart."""

    actor: Actor
    what: str
    address: str = ""


class Often:
    """How often each did something in the present window. Safe to use from several threads."""

    def __init__(self, most: int, window_s: float) -> None:
        self._most, self._window_s = most, window_s
        self._began = 0.0
        self._seen: Counter[Counted] = Counter()
        self._addresses: set[str] = set()
        self._lock = threading.Lock()

    def admit(self, who: Counted, now: float) -> bool:
        with self._lock:
            if not self._seen:
                self._began = now
            if who.address not in self._addresses:
                if len(self._addresses) < MOST_ADDRESSES:
                    self._addresses.add(who.address)
                else:
                    who = Counted(who.actor, who.what)
            self._seen[who] += 1
            return self._seen[who] <= self._most

    def ended(self, now: float) -> list[tuple[Counted, int]]:
        """Who was not admitted, and how often, once the window is over: once only."""
        with self._lock:
            if 0 <= now - self._began < self._window_s:
                return []
            seen, self._seen = self._seen, Counter()
            self._addresses = set()
        return [(who, count - self._most) for who, count in seen.items() if count > self._most]


def brief(text: str) -> str:
    """The first line: further ones may be what a sandbox has logged."""
    return text.partition("\n")[0][:TEXT]


def harmless(status: int, message: str) -> str:
    """What a record may say of a refusal: of a wrong request nothing of what was sent, which may be a secret."""
    return message if status not in (400, 422) else message.partition("'")[0].partition('"')[0].rstrip(" :=")
