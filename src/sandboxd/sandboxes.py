"""How a sandbox begins and ends: create, claim, find, remove. What happens to it between is in `transitions`.

The ledger's row comes first and goes last, so that whatever a crash leaves behind has a row that says so;
`reconcile` cleans it. While a thread of ours works on a slot it holds its lock, and nobody else touches it.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from sandboxd import spec
from sandboxd.admission import Admission
from sandboxd.audit import POOL, acting, carried, current
from sandboxd.capacity import Capacity
from sandboxd.config import Config, Template
from sandboxd.engine import Engine
from sandboxd.errors import Conflict, NotFound, SandboxdError
from sandboxd.gateway import Gateway
from sandboxd.ledger import Ledger
from sandboxd.objects import Host, Objects
from sandboxd.records import OPEN, USED, Claim, MadeTemplate, Sandbox
from sandboxd.sharedstate import Moved
from sandboxd.slotlocks import SlotLocks
from sandboxd.tokens import TokenKey

log = logging.getLogger(__name__)


class Sandboxes(Objects):
    def __init__(
        self, config: Config, key: TokenKey, ledger: Ledger, engine: Engine, gateway: Gateway, host: Host
    ) -> None:
        super().__init__(config, key, ledger, engine, gateway, host)
        self.admission = Admission(config.create_parallelism)
        self._capacity = Capacity(config, host.available_memory_mb, host.free_disk_mb)
        self._taking_room = threading.Lock()
        self.locks = SlotLocks()
        self._later = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rename")

    def template(self, name: str) -> Template:
        """One of the configuration, or one that was made on this host. Raises NotFound, which names those there are."""
        if name in self.config.templates:
            return self.config.templates[name]
        found = self.ledger.made_template(name)
        if found is None:
            known = ", ".join(sorted([*self.config.templates, *self.ledger.templates(), *self.ledger.tagged()]))
            raise NotFound(f"template '{name}' not found. This host has: {known}")
        return self.template_of(found)

    def template_of(self, found: MadeTemplate) -> Template:
        """With the limits that hold for it. It need not be in the ledger."""
        base = self.config.templates.get(found.base) or self.config.templates[self.config.default_template]
        disk = self.disks.snapshot(found.name) if found.disk_mb else None
        return replace(
            base,
            name=found.name,
            image=found.image,
            disk_mb=max(base.disk_mb, found.disk_mb),
            disk=disk,
            memory_mb=found.memory_mb or base.memory_mb,
            cpus=found.cpus or base.cpus,
        )

    def find(self, prefix: str) -> Sandbox:
        """The sandbox in use whose id is, or uniquely begins with, `prefix`. `<id>-<clientID>` is read as `<id>`."""
        rows = self.ledger.find(prefix.partition("-")[0]) if prefix else []
        if not rows:
            raise NotFound(f"sandbox '{prefix}' not found{self.obituary(prefix)}")
        if len(rows) > 1:
            raise Conflict(
                f"sandbox '{prefix}' is ambiguous: {', '.join(row.id for row in rows)}. Give more characters."
            )
        current().about(rows[0])
        return rows[0]

    def create(self, template: Template, claim: Claim) -> Sandbox:
        """A sandbox from nothing. When it fails, everything made so far is removed and the error says why."""
        began = time.monotonic()
        with self.audit.doing("create", template=template.name) as act:
            self.gateway.check()
            claim = self.shared.resolved(claim)
            with self.admission.for_claim(), self._making(template, "cold", claim) as new:
                self._start_new(new, template, claim)
                sandbox = self.ledger.set_running(self.config.project, new.slot, claim, self.host.now())
                self.gateway.update(sandbox.id)
            act.about(sandbox)
        self.figures.created(template.name, time.monotonic() - began)
        self._later.submit(self._try_rename, sandbox)
        log.info("sandbox %s is in use: origin %s, template %s", sandbox.id, sandbox.origin, sandbox.template)
        return sandbox

    def move_here(self, moved: Moved) -> Sandbox:
        """Makes a sandbox anew whose host was lost, and is off for certain: with its id, its tokens and its /code.

        One that is here already stays as it is. When it fails, what its sandbox is made from stays beside the volume.
        """
        if (present := self.ledger.of_id(moved.id)) is not None:
            return present
        template = replace(self.template(moved.template), memory_mb=moved.memory_mb, cpus=moved.cpus, disk=None)
        whence = f"node {moved.node}" if moved.node else "a lost node"
        with self.audit.doing("move", template=template.name, detail=f"from {whence}") as act:
            self.gateway.check()
            with self.admission.for_claim(), self._making(template, "cold", moved.claim) as new:
                self.key.brought |= moved.tokens
                self._start_new(new, template, moved.claim, moved)
                sandbox = self.ledger.set_running(self.config.project, new.slot, moved.claim, self.host.now())
                times = (moved.claimed_at, moved.ends_at if moved.state == "running" else None)
                sandbox = self.ledger.set_moved(sandbox.slot, *times, moved.access_round, moved.tokens)
                self.gateway.update(sandbox.id)
            act.about(sandbox)
        self._later.submit(self._try_rename, sandbox)
        log.warning("sandbox %s of %s is made anew here, with volume %s", moved.id, whence, moved.volume)
        return sandbox

    def create_member(self, template: Template, wanted: Callable[[], bool]) -> bool:
        """A pool member, started and ready. False when `wanted` says, once it is our turn, that none is needed."""
        with self.admission.for_pool():
            if not wanted():
                return False
            filling = self.audit.doing("fill", template=template.name, by=POOL)
            with filling as act, self._making(template, "pool", Claim()) as new:
                sandbox_id = self._start_new(new, template, Claim())
                name = spec.pool_name(self.config.project, sandbox_id)
                self.engine.rename(sandbox_id, name)
                act.about(self.ledger.set_warm(new.slot, name))
            return True

    def claim(self, template: Template, claim: Claim) -> Sandbox | None:
        """A warm member becomes the claimer's; None when there is none that lives and has the present image."""
        self.gateway.check()
        image_id = self.engine.image_id(template.image)
        while True:
            sandbox = self.ledger.claim(self.config.project, template.name, image_id, claim, self.host.now())
            if sandbox is None:
                return None
            if self.host.alive(sandbox.address):
                break
            log.warning("pool member %s is dead at its claim: discarded", sandbox.id)
            self.ledger.unclaim_dead(sandbox.slot, "pool member was dead at its claim")
            with acting(POOL):
                self._later.submit(carried(self.try_remove), sandbox, "pool member was dead at its claim")
        with self.audit.doing("claim") as act:
            act.about(sandbox)
            self._hand_over(sandbox)
        self._later.submit(self._try_rename, sandbox)
        log.info("sandbox %s is in use: origin %s, template %s", sandbox.id, sandbox.origin, sandbox.template)
        return sandbox

    def _hand_over(self, sandbox: Sandbox) -> None:
        try:
            with self.locks.hold(sandbox.slot):  # `mend` may be about to write what the member had before
                if sandbox.policy != Claim().policy:  # which it has as a member
                    self.guard.hold(sandbox.slot, sandbox.policy)
                if sandbox.policy.restricts:
                    self.guard.names(self.inspect(sandbox.docker).pid, sandbox.policy)
                if sandbox.policy.names:
                    self.proxy.update(sandbox.address)
                self.write_agent_file(sandbox)
                self.gateway.update(sandbox.id)
        except BaseException as error:
            self.try_remove(sandbox, f"claim failed: {error}")
            self.ledger.forget_request(sandbox.slot)
            raise

    def mend(self, sandbox: Sandbox) -> bool:
        """Puts the container's name and agent.json right.

        False when the container is frozen, stopped, or was started anew, since its network was prepared.
        """
        with self.locks.hold(sandbox.slot):
            row = self.ledger.get(sandbox.slot)  # anew: it may have been claimed since the caller looked
            container = self.engine.container(sandbox.docker)
            if row is None or row.state not in ("warm", "running") or container is None:
                return True  # going or gone: the next look of reconcile sees it
            if container.name != row.container:
                self.engine.rename(row.docker, row.container)
            self.write_agent_file(row)
            runs = container.running and not container.paused
            return (runs, container.booted, container.address) == (True, row.booted, row.address)

    def remove(
        self, sandbox: Sandbox, reason: str, states: tuple[str, ...] = OPEN, ended_by: float | None = None
    ) -> bool:
        """Removes all that a sandbox has. False when it is in none of `states` any more: nothing was done.

        With `ended_by` only if its end lies before that, whatever the caller has read.
        Raises EngineDown or EngineError half-way; the row then stays `removing`, and reconcile goes on with it.
        """
        with self.locks.hold(sandbox.slot):
            row = self.ledger.set_removing(sandbox.slot, reason, states, ended_by)
            if row is None:
                return False
            log.info("removing sandbox %s (slot %s): %s", row.id or "-", row.slot, row.reason)
            with self.audit.doing("remove", row, detail=row.reason):
                self._remove_objects(row)
            return True

    def try_remove(
        self, sandbox: Sandbox, reason: str, states: tuple[str, ...] = OPEN, ended_by: float | None = None
    ) -> bool:
        """The same, where nobody can do anything about a failure but try again later, which reconcile does."""
        try:
            return self.remove(sandbox, reason, states, ended_by)
        except SandboxdError as error:
            log.warning("removing slot %s is not finished: %s", sandbox.slot, error)
            return True

    def remove_pruned(self, sandbox: Sandbox) -> bool:
        """A stopped sandbox whose container somebody removed, as `docker container prune` does to all that are stopped.

        Whoever did that hardly meant the files: its disk, unless it is a volume already, becomes the volume
        `lost-<id>`. Returns and raises as `remove` does, and HostError; then it can be done again.
        """
        reason = "its container was removed outside sandboxd"
        with self.locks.hold(sandbox.slot):
            row = self.ledger.get(sandbox.slot)
            if row is None or row.state != "stopped":
                return False
            if row.disk_mb and not row.volume:
                name = f"lost-{row.id}"
                self.disks.keep(row.slot, name)
                self.ledger.set_volume(row.slot, name, self.host.now())
                reason += f"; the files of /code are in volume {name}"
        return self.remove(sandbox, reason, ("stopped",))

    def obituary(self, prefix: str) -> str:
        """What became of a sandbox that has ended, as long as the ledger remembers it."""
        ended = self.ledger.find(prefix.partition("-")[0], ("removing", "gone")) if prefix else []
        if len(ended) != 1:
            return ""
        if ended[0].gone_at is None:
            return f": it is being removed: {ended[0].reason}"
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ended[0].gone_at))
        return f": it ended on {when}: {ended[0].reason}"

    def settle(self) -> None:
        """Waits until the renames and removals of the background are done."""
        self._later.submit(lambda: None).result()

    def check_room(self, new: bool = False) -> None:
        """Raises HostFull unless one more may be started; a `new` one must be made before, and counts then."""
        if new:
            self._capacity.check_number(self.ledger.count("creating", "warm", *USED))
        self._capacity.check_memory(self.admission.inside)
        self.check_disks()

    def check_disks(self) -> None:
        """Raises HostFull when less is free than is never given away."""
        self._capacity.check_disks([self.config.state_dir, self.engine.data_root()], self.host.root)

    def _try_rename(self, sandbox: Sandbox) -> None:
        try:
            self.engine.rename(sandbox.docker, sandbox.container)
        except SandboxdError as error:
            log.warning("%s: reconcile tries again", error)

    @contextmanager
    def _making(self, template: Template, origin: str, claim: Claim) -> Iterator[Sandbox]:
        """A new row; when the body fails, all that it made is removed again."""
        slot, image_id = secrets.token_hex(6), self.engine.image_id(template.image)
        # A file that the ledger does not know, such as one from a copy of the host, keeps its size.
        size = self.shared.size_mb if claim.shared else self.disks.size_mb
        disk_mb = (size(claim.volume) if claim.volume else None) or claim.disk_mb or template.disk_mb
        with self.locks.hold(slot):
            with self._taking_room:  # until the row counts, nobody else may take the same place
                self.check_room(new=True)
                new = self.ledger.create(slot, origin, template, image_id, self.host.now(), disk_mb, claim)
            try:
                yield new
            except BaseException as error:
                row = self.ledger.set_removing(slot, f"create failed: {error}")
                if row is not None:
                    self._undo(row)
                self.ledger.forget_request(slot)
                raise

    def _undo(self, row: Sandbox) -> None:
        try:
            self._remove_objects(row)
        except SandboxdError as error:
            log.warning("removing slot %s is not finished: %s", row.slot, error)
