"""Pauses sandboxes that nobody uses, if that was asked for. When they were used last is in the ledger, not in memory.

One that was paused here wakes up again when something comes over a connection that was open: the gateway, which wakes
it for new requests, does not see that.
"""

import logging

from sandboxd import activity
from sandboxd.audit import IDLE, acting
from sandboxd.engine import Container
from sandboxd.errors import EngineDown, SandboxdError
from sandboxd.records import Sandbox
from sandboxd.sandboxes import Sandboxes
from sandboxd.transitions import Transitions

log = logging.getLogger(__name__)

EVERY_S = 30.0
LEAST_S = 1.0
REASON = "nobody used it"


class Idle:
    def __init__(self, sandboxes: Sandboxes, transitions: Transitions) -> None:
        self._sandboxes, self._transitions = sandboxes, transitions
        self._ledger, self._root = sandboxes.ledger, sandboxes.host.root

    def look(self) -> float:
        """Pauses those that were not used for as long as they say. Returns the seconds until the next look.

        Raises EngineDown when Docker cannot be asked, and HostError when the ledger cannot be read.
        """
        waits_s, used = [EVERY_S], dict[str, str]()
        now = self._sandboxes.host.now()
        known: list[activity.Process] | None = None
        for row in self._ledger.restless(REASON):
            container = self._container(row)
            mark = self._mark(container)
            if container is None or row.idle_pause_s is None or not mark:
                continue
            if row.state == "paused":
                # Not for what its kernel alone has answered, as when the gateway closes a connection that it kept.
                if mark != row.active_mark and activity.unread(container.pid, self._root):
                    self._try_wake(row)
                continue
            moved = mark != row.active_mark or row.active_at > now  # the clock was set back
            if not moved:
                known = activity.processes(self._root) if known is None else known
                moved = activity.runs_command(container.pid, known, self._root)
            left_s = row.idle_pause_s if moved else row.active_at + row.idle_pause_s - now
            if moved:
                used[row.slot] = mark
            elif left_s <= 0:
                self._try_pause(row, container, mark)
            waits_s.append(max(LEAST_S, left_s))
        if used:
            self._ledger.set_active(used, now)
        return min(waits_s)

    def _container(self, row: Sandbox) -> Container | None:
        if self._sandboxes.locks.held(row.slot):
            return None  # somebody works on it, so it is not idle
        try:
            return self._sandboxes.engine.container(row.docker)
        except EngineDown:
            raise  # the others would wait as long
        except SandboxdError as error:
            log.debug("whether sandbox %s is idle cannot be seen: %s", row.id, error)
            return None

    def _mark(self, container: Container | None) -> str:
        """What changes with each packet, and with each start of the container. Empty when it does not run."""
        if container is None or not container.running:
            return ""
        try:
            return f"{container.booted} {activity.sent_packets(container.pid, self._root)}"
        except OSError:
            return ""

    def _try_pause(self, row: Sandbox, container: Container, mark: str) -> None:
        try:
            with acting(IDLE):
                paused = self._transitions.pause_idle(row, REASON, lambda: self._mark(container) == mark)
            if paused:
                log.info("sandbox %s is paused: nobody used it for %g s", row.id, row.idle_pause_s)
        except SandboxdError as error:  # the row says `paused` already: the next comparison goes on with it
            log.warning("pausing sandbox %s is not finished: %s", row.id, error)

    def _try_wake(self, row: Sandbox) -> None:
        log.info("sandbox %s is resumed: something came over an open connection", row.id)
        try:
            with acting(IDLE):
                self._transitions.resume(row)
        except SandboxdError as error:
            log.warning("sandbox %s cannot be resumed: %s", row.id, error)
