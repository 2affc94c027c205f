"""What happens to a sandbox between its claim and its end: pause, resume, stop, start, a new end, another policy, a
larger disk.

The ledger says what shall be, and changes first; then the container follows. `enforce` does that again for whatever a
crash, a reboot or somebody with Docker's own command has left otherwise.
"""

import logging
from collections.abc import Callable
from contextlib import nullcontext

from sandboxd.engine import Container
from sandboxd.errors import Conflict, EngineDown, GatewayError, NotFound, SandboxdError
from sandboxd.policy import Policy
from sandboxd.records import USED, Sandbox
from sandboxd.sandboxes import Sandboxes

log = logging.getLogger(__name__)

SAME = -1.0  # as a timeout: what the sandbox had


class Transitions:
    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._ledger, self._engine, self._gateway = sandboxes.ledger, sandboxes.engine, sandboxes.gateway
        self._audit = sandboxes.audit

    def pause(self, sandbox: Sandbox) -> Sandbox:
        """Freezes all processes, and gives back what memory the kernel can. One that is paused stays so."""
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._present(sandbox)
            if row.state == "paused":
                return row
            if row.state == "stopped":
                raise Conflict(
                    f"sandbox {row.id} is stopped, so there is nothing to freeze. docker-sandbox start {row.id}"
                )
            with self._audit.doing("pause", row):
                row = self._ledger.set_paused(row.slot)
                self._enforce(row)
            return row

    def resume(self, sandbox: Sandbox, timeout_s: float | None = SAME) -> Sandbox:
        """Back to running, from paused or stopped; its time begins anew: `timeout_s`, None for no end.

        One that runs stays as it is; one that cannot be made to run becomes again what it was.

        Raises HostFull when there is no room to start one that is stopped.
        """
        place = self._sandboxes.admission.for_claim() if sandbox.state == "stopped" else nullcontext()
        with place, self._sandboxes.locks.hold(sandbox.slot), self._audit.doing("resume", sandbox):
            row = self._present(sandbox)
            if row.state == "running":
                return row
            if row.state == "stopped":
                self._sandboxes.check_room()
            timeout = row.timeout_s if timeout_s == SAME else timeout_s
            self._gateway.check()  # without it nobody reaches what would run, and its time would run out
            before, row = row, self._ledger.set_resumed(row.slot, timeout, self._sandboxes.host.now())
            try:
                self._enforce(row)
            except (EngineDown, GatewayError):
                raise  # it is to run, and reconcile goes on with it
            except SandboxdError:
                self._take_back(before)
                raise
            return self._present(row)

    def stop(self, sandbox: Sandbox, reason: str) -> Sandbox:
        """Ends all processes; files stay. One that is stopped stays so."""
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._present(sandbox)
            if row.state == "stopped":
                return row
            with self._audit.doing("stop", row, detail=reason):
                row = self._ledger.set_stopped(row.slot, reason)
                self._enforce(row)
            return row

    def extend(self, sandbox: Sandbox, timeout_s: float | None) -> Sandbox:
        """A new end, counted from now; None for none."""
        with self._sandboxes.locks.hold(sandbox.slot):
            return self._ledger.set_end(self._present(sandbox).slot, timeout_s, self._sandboxes.host.now())

    def prolong(self, sandbox: Sandbox, timeout_s: float) -> Sandbox:
        """Its end is at least so long from now. Raises Conflict for one that does not run."""
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._present(sandbox)
            if row.state != "running":
                raise Conflict(f"sandbox {row.id} is {row.state}: only the end of one that runs can be put off.")
            return self._ledger.set_later_end(row.slot, timeout_s, self._sandboxes.host.now())

    def restrict(self, sandbox: Sandbox, policy: Policy) -> Sandbox:
        """Another policy in place of the one that it has, for connections that are open, too."""
        self._sandboxes.check_names(policy)
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._ledger.set_policy(self._present(sandbox).slot, policy)
            self._sandboxes.guard.hold(row.slot, policy)
            container = self._engine.container(row.docker)
            if container is not None and container.running:
                self._sandboxes.guard.names(container.pid, policy)
            if policy.names:
                self._sandboxes.proxy.update(row.address)
            else:
                self._sandboxes.proxy.forget(row.address)
            return row

    def pause_ended(self, sandbox: Sandbox, now: float) -> None:
        """At the end of its time, unless it was given a later one meanwhile: paused or stopped, and not removed."""
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._ledger.get(sandbox.slot)
            if row is not None and row.state == "running" and row.ends_at is not None and row.ends_at <= now:
                log.info("sandbox %s is paused: its timeout is reached", row.id)
                with self._audit.doing("pause", row, detail="timeout reached"):
                    if row.pause_memory:
                        self._enforce(self._ledger.set_paused(row.slot))
                    else:
                        self._enforce(self._ledger.set_stopped(row.slot, "timeout reached; paused without its memory"))

    def pause_idle(self, sandbox: Sandbox, reason: str, quiet: Callable[[], bool]) -> bool:
        """Pauses one that nobody uses, unless it was used since `sandbox` was read. Returns whether it is paused.

        `quiet` says whether it still looks so. It is asked when all is frozen: a request that came in between would
        not be answered before somebody else came.
        """
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._ledger.get(sandbox.slot)
            if row is None or row.state != "running" or row.active_at != sandbox.active_at:
                return False
            with self._audit.doing("pause", row, detail=reason):
                row = self._ledger.set_paused(row.slot, reason)
                self._enforce(row)
            if quiet():
                return True
            with self._audit.doing("resume", row, detail="it was used meanwhile"):
                self._enforce(self._ledger.set_resumed(row.slot, row.timeout_s, self._sandboxes.host.now()))
            return False

    def open_to(self, sandbox: Sandbox, access: str, password_digest: str = "") -> Sandbox:
        """Who may open its ports from now on; what was given out before opens nothing any more."""
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._ledger.set_access(self._present(sandbox).slot, access, password_digest)
            self._gateway.update(row.id)
            return row

    def grow(self, sandbox: Sandbox, disk_mb: int) -> Sandbox:
        """A larger disk: while it is in use where the kernel lets us, else when it is stopped."""
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._present(sandbox)
            if not row.disk_mb:
                raise Conflict(f"sandbox {row.id} was made by a release without disks: /code cannot grow.")
            if disk_mb < row.disk_mb:
                raise Conflict(f"the disk of sandbox {row.id} has {row.disk_mb} MB already, and disks only grow.")
            if row.state == "stopped":
                self._enforce(row)  # a stop that Docker refused: nothing may use the disk while it is checked
            self._sandboxes.shared.check(row)
            self._sandboxes.disks.grow(row.slot, row.volume, disk_mb, in_use=row.state != "stopped")
            return self._ledger.set_disk(row.slot, disk_mb)

    def enforce(self, sandbox: Sandbox) -> None:
        """Makes the container do what the ledger says, if it is somebody's still."""
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._ledger.get(sandbox.slot)
            if row is not None and row.state in USED:
                self._enforce(row)

    def stays(self, sandbox: Sandbox) -> bool:
        """Whether the container of a paused or stopped sandbox is just that, as far as it is there."""
        container = self._engine.container(sandbox.docker)
        if container is None:
            return True
        return container.paused if sandbox.state == "paused" else not container.running

    def _enforce(self, row: Sandbox) -> None:
        container = self._sandboxes.inspect(row.docker)
        if row.state == "running":
            self._run(row, container)
            return
        self._sandboxes.unroute(row.id)
        if row.state == "stopped":
            self._sandboxes.proxy.forget(row.address)
        if row.state == "paused" and not container.running:
            log.info("sandbox %s ended with %s while it was paused: it is stopped now", row.id, container.exit)
            reason = "its processes ended while it was paused: was the host restarted?"
            with self._audit.doing("stop", row, detail=reason):
                self._ledger.set_stopped(row.slot, reason)
        elif row.state == "paused" and not container.paused:
            self._engine.pause(row.docker)
            self._sandboxes.host.reclaim(container.pid)
        elif row.state == "stopped" and container.running:
            self._stop(container)

    def _run(self, row: Sandbox, container: Container) -> None:
        self._sandboxes.shared.check(row)  # another host may have its volume by now: before any process writes
        disks = self._sandboxes.disks
        lost = bool(row.disk_mb) and disks.path(row.slot) not in disks.mounted()
        if container.running and (lost or not self._sandboxes.volumes.mounted(row.mounts)):
            # Somebody started it after a reboot, with empty directories in their place: it must not go on like that.
            log.warning("sandbox %s runs without its disks: it is started again", row.id)
            self._stop(container)
            container = self._sandboxes.inspect(row.docker)
        self._sandboxes.guard.hold(row.slot, row.policy)  # after a reboot there are no rules
        if row.policy.names:
            self._sandboxes.proxy.update(row.address)  # which it has again most likely; `prepare` knows
        if container.paused:
            self._engine.unpause(row.docker)
        elif not container.running:
            log.info("starting sandbox %s again: it had stopped with %s", row.id, container.exit)
            if row.disk_mb:
                disks.mount(row.slot, row.volume)  # after a reboot nothing is mounted
            self._sandboxes.volumes.mount(row.mounts)
            self._engine.start(row.docker)
        container = self._sandboxes.inspect(row.docker)
        self._sandboxes.prepare(container, row.slot)
        self._gateway.update(row.id)

    def _stop(self, container: Container) -> None:
        if container.paused:
            self._engine.unpause(container.id)  # a frozen process takes no signal
        self._engine.stop(container.id)

    def _take_back(self, before: Sandbox) -> None:
        """The sandbox cannot run: it is again what it was, if only because frozen processes are worth keeping."""
        if before.state == "paused":
            row = self._ledger.set_paused(before.slot)
        else:
            row = self._ledger.set_stopped(before.slot, before.reason)
        self._ledger.set_end(row.slot, before.timeout_s, 0.0)
        try:
            self._enforce(row)
        except SandboxdError as error:
            log.warning("sandbox %s is not %s again yet: %s", row.id, row.state, error)

    def _present(self, sandbox: Sandbox) -> Sandbox:
        row = self._ledger.get(sandbox.slot)
        if row is None or row.state not in USED:
            raise NotFound(f"sandbox {sandbox.id} was removed meanwhile")
        return row
