"""Templates that are made on this host: snapshots of a sandbox, and builds from a Dockerfile of somebody's own.

Each has an image, and a row in the ledger; a snapshot has a disk as well, with what was at /code. The image is made
first and the row last, so that a template that is listed is whole; what a failure leaves is removed at once.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandboxd import spec
from sandboxd.errors import BadRequest, Conflict, NotFound, SandboxdError
from sandboxd.records import USED, Claim, MadeTemplate, Sandbox
from sandboxd.sandboxes import Sandboxes

log = logging.getLogger(__name__)


class Templates:
    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._ledger, self._engine, self._disks = sandboxes.ledger, sandboxes.engine, sandboxes.disks
        self._building = threading.Lock()  # no RLock: the lines of a build are taken by several threads

    def snapshot(self, sandbox: Sandbox, name: str) -> MadeTemplate:
        """What a sandbox has on its disks, as a template. It is frozen meanwhile; its processes are not in it."""
        self._check_new(name)
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._ledger.get(sandbox.slot)
            if row is None or row.state not in USED:
                raise NotFound(f"sandbox {sandbox.id} was removed meanwhile")
            with self._frozen(row), self._making(name) as image:
                self._engine.commit(row.id, image)
                if row.disk_mb:
                    self._disks.copy(row.slot, row.volume, self._disks.snapshot(name))
                return self._add(name, image, self._configured(row.template), row.disk_mb)

    def build(
        self, name: str, base: str, context: Path, replace: bool = False, memory_mb: int = 0, cpus: float = 0.0
    ) -> Iterator[bytes]:
        """Builds an image with BuildKit from a tar archive with a Dockerfile; yields what the build says, line by line.

        The Dockerfile begins with `ARG BASE` and `FROM ${BASE}`: that is the image of the template `base`, in which the
        agent is. A sandbox is made from the result, to see that it works. Raises EngineError when something fails.
        With `replace` it takes the place of a template of that name, whose sandboxes go on. Limits of 0: the base's.
        One build at a time, within the limits of the slice of builds, as long as build_timeout_s and the disk allow.
        """
        before = self._ledger.templates().get(name) if replace else None
        if before is None:
            self._check_new(name)
        if not self._building.acquire(blocking=False):
            yield b"waiting for the end of another build\n"
            self._building.acquire()
        try:
            yield from self._build(name, base, context, before, memory_mb, cpus)
        finally:
            self._building.release()

    def _build(
        self, name: str, base: str, context: Path, before: MadeTemplate | None, memory_mb: int, cpus: float
    ) -> Iterator[bytes]:
        with self._making(name) as image:
            arguments = {"BASE": self._sandboxes.template(base).image}
            cgroup = spec.build_cgroup(self._sandboxes.config.project)
            yield from self._engine.build(context, image, arguments, cgroup, self._trouble())
            made = self._add(name, image, self._configured(base), 0, before is not None, memory_mb, cpus)
            try:
                yield b"making a sandbox from it, to see that it works\n"
                probe = self._sandboxes.create(self._sandboxes.template(made.name), Claim())
                self._sandboxes.remove(probe, "probe of a template")
            except BaseException:
                self._ledger.forget_template(name) if before is None else self._ledger.set_template(
                    before, replace=True
                )
                raise
        if before is not None:
            with suppress(SandboxdError):  # a sandbox is made from it still
                self._engine.remove_image(before.image)

    def remove(self, name: str) -> None:
        """Raises NotFound, BadRequest for one of the configuration, and Conflict while a sandbox is made from it."""
        if name in self._sandboxes.config.templates:
            raise BadRequest(f"template {name!r} is one of the host's settings: remove it there, and deploy.")
        made = self._ledger.templates().get(name)
        if made is None:
            raise NotFound(f"template {name!r} not found. Those there are: docker-sandbox template ls")
        self._ledger.remove_template(name)
        self._engine.remove_image(made.image)
        self._disks.snapshot(name).unlink(missing_ok=True)

    def _check_new(self, name: str) -> None:
        if name in self._sandboxes.config.templates or name in self._ledger.templates():
            raise Conflict(f"there is a template {name!r} already. Take another name, or remove that one.")

    def _configured(self, name: str) -> str:
        """The template of the configuration whose limits hold for those made from the template of that name."""
        made = self._ledger.templates().get(name)
        base = made.base if made else name
        return base if base in self._sandboxes.config.templates else self._sandboxes.config.default_template

    def _add(
        self,
        name: str,
        image: str,
        base: str,
        disk_mb: int,
        replace: bool = False,
        memory_mb: int = 0,
        cpus: float = 0.0,
    ) -> MadeTemplate:
        made = MadeTemplate(name, image, base, disk_mb, self._sandboxes.host.now(), memory_mb, cpus)
        self._ledger.set_template(made, replace)
        log.info("template %s was made: image %s", name, image)
        return made

    def _trouble(self) -> Callable[[], str]:
        """What is wrong with a build that begins now, whenever it is asked; empty for nothing."""
        most_s = self._sandboxes.config.build_timeout_s
        end = time.monotonic() + most_s

        def trouble() -> str:
            if time.monotonic() > end:
                return f"it took longer than build_timeout_s allows, {most_s} s"
            try:
                self._sandboxes.check_disks()
            except SandboxdError as error:
                return str(error)
            return ""

        return trouble

    @contextmanager
    def _making(self, name: str) -> Iterator[str]:
        """The name of the new image; when the body fails, image and disk are removed again."""
        image = f"{self._sandboxes.config.project}-template-{name}:{int(self._sandboxes.host.now())}"
        try:
            yield image
        except BaseException:
            with suppress(SandboxdError):
                self._engine.remove_image(image)
            self._disks.snapshot(name).unlink(missing_ok=True)
            raise

    @contextmanager
    def _frozen(self, row: Sandbox) -> Iterator[None]:
        """The ledger says `running` all the while, so reconcile lets it run again should we not."""
        if row.state != "running":
            yield
            return
        self._engine.pause(row.id)
        try:
            yield
        finally:
            self._engine.unpause(row.id)
