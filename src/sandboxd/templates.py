"""Templates that are made on this host: snapshots of a sandbox, and builds from a Dockerfile of somebody's own.

Each has an image, and a row in the ledger; a snapshot has a disk as well, with what was at /code. The image is made
first and the row last, so that a template that is listed is whole; what a failure leaves is removed at once. An image
that nothing names any more is removed as soon as no sandbox is made from it.
"""

import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from sandboxd import spec
from sandboxd.config import Template
from sandboxd.errors import BadRequest, Conflict, NotFound, SandboxdError
from sandboxd.records import USED, Claim, MadeTemplate, Sandbox
from sandboxd.sandboxes import Sandboxes
from sandboxd.templatetable import DEFAULT_TAG

log = logging.getLogger(__name__)

COPY = "copy-"  # how the disks of copies begin, which are no templates


class Templates:
    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._ledger, self._engine, self._disks = sandboxes.ledger, sandboxes.engine, sandboxes.disks
        self._building = threading.Lock()  # no RLock: the lines of a build are taken by several threads
        self._copies: set[str] = set()  # images of copies that are being made into sandboxes
        self._ending = False

    def end_builds(self) -> None:
        """Within a second, and nobody waits here: the daemon is being stopped."""
        self._ending = True

    def snapshot(self, sandbox: Sandbox, name: str) -> MadeTemplate:
        """What a sandbox has on its disks, as a template. It is frozen meanwhile; its processes are not in it."""
        self._check_new(name)
        with self._held(sandbox) as row, self._making(name, str(uuid.uuid4())) as image:
            self._save(row, name, image)
            return self._add(MadeTemplate(name, image, self._configured(row.template), row.disk_mb, self._now()))

    @contextmanager
    def copy(self, sandbox: Sandbox) -> Iterator[Template]:
        """The same for the time that the body takes, and nothing that anybody could list: a template like the
        sandbox's own, with what it has on its disks. Image and disk are gone once no sandbox is made from them.
        """
        name = COPY + secrets.token_hex(6)
        image = self._image(name, str(uuid.uuid4()))
        self._copies.add(image)
        try:
            with self._held(sandbox) as row:
                self._ledger.add_unused(image, name)  # before it is there: the daemon may end at any moment
                self._save(row, name, image)
            base = self._configured(row.template)
            made = MadeTemplate(name, image, base, row.disk_mb, self._now(), row.memory_mb, row.cpus)
            yield replace(self._sandboxes.template_of(made), name=row.template, disk_mb=row.disk_mb)
        finally:
            self._copies.discard(image)
            self.discard()

    def build(
        self,
        name: str,
        base: str,
        context: Path,
        replaces: bool = False,
        memory_mb: int = 0,
        cpus: float = 0.0,
        tags: Sequence[str] = (DEFAULT_TAG,),
        build_id: str = "",
    ) -> Iterator[bytes]:
        """Builds an image with BuildKit from a tar archive with a Dockerfile; yields what the build says, line by line.

        The Dockerfile begins with `ARG BASE` and `FROM ${BASE}`: that is the image of the template `base`, in which the
        agent is. A sandbox is made from the result, to see that it works. Raises EngineError when something fails.
        With `replaces` the tags name it in place of what they named, whose sandboxes go on. Limits of 0: the base's.
        One build at a time, within the limits of the slice of builds, as long as build_timeout_s and the disk allow.
        """
        detail = f"on {base}, with the tags {' '.join(tags)}"
        with self._sandboxes.audit.telling("template-build", template=name, detail=detail):
            yield from self._build(name, base, context, replaces, memory_mb, cpus, tags, build_id)

    def _build(
        self,
        name: str,
        base: str,
        context: Path,
        replaces: bool,
        memory_mb: int,
        cpus: float,
        tags: Sequence[str],
        build_id: str,
    ) -> Iterator[bytes]:
        if not replaces:
            self._check_new(name)
        if not self._building.acquire(blocking=False):
            yield b"waiting for the end of another build\n"
            self._building.acquire()
        try:
            with self._making(name, build_id or str(uuid.uuid4())) as image:
                arguments = {"BASE": self._sandboxes.template(base).image}
                cgroup = spec.build_cgroup(self._sandboxes.config.project)
                yield from self._engine.build(context, image, arguments, cgroup, self._trouble())
                made = MadeTemplate(name, image, self._configured(base), 0, self._now(), memory_mb, cpus)
                yield b"making a sandbox from it, to see that it works\n"
                probe = self._sandboxes.create(self._sandboxes.template_of(made), Claim())
                self._sandboxes.remove(probe, "probe of a template")
                if replaces:
                    self._ledger.set_tags(name, tags, made, self._now())
                    log.info("template %s was built, with the tags %s: image %s", name, ", ".join(tags), image)
                else:
                    self._add(made)
        finally:
            self._building.release()
        self.discard()

    def remove(self, name: str) -> None:
        """Raises NotFound, BadRequest for one of the configuration, and Conflict while a sandbox is made from it."""
        if name in self._sandboxes.config.templates:
            raise BadRequest(f"template {name!r} is one of the host's settings: remove it there, and deploy.")
        self._ledger.remove_template(name)
        self.discard()

    def discard(self) -> None:
        """Removes what nothing names any more. What cannot go yet is tried again when sandboxes are compared."""
        for image, disk in self._ledger.unused().items():
            if image in self._copies:
                continue
            try:
                made = self._ledger.templates().get(disk)
                if disk and not (made and made.disk_mb):  # else another snapshot has the name by now
                    self._disks.snapshot(disk).unlink(missing_ok=True)
                self._engine.remove_image(image)
            except SandboxdError as error:
                log.debug("image %s stays for now: %s", image, error)
                continue
            self._ledger.forget_unused(image)

    def _check_new(self, name: str) -> None:
        names = [*self._sandboxes.config.templates, *self._ledger.templates()]
        names += [one.partition(":")[0] for one in self._ledger.tagged()]
        if name in names:
            raise Conflict(f"there is a template {name!r} already. Take another name, or remove that one.")

    def _configured(self, name: str) -> str:
        """The template of the configuration whose limits hold for those made from the template of that name."""
        made = self._ledger.made_template(name)
        base = made.base if made else name
        return base if base in self._sandboxes.config.templates else self._sandboxes.config.default_template

    def _add(self, made: MadeTemplate) -> MadeTemplate:
        self._ledger.add_template(made)
        log.info("template %s was made: image %s", made.name, made.image)
        return made

    def _trouble(self) -> Callable[[], str]:
        """What is wrong with a build that begins now, whenever it is asked; empty for nothing."""
        most_s = self._sandboxes.config.build_timeout_s
        end = time.monotonic() + most_s

        def trouble() -> str:
            if self._ending:
                return "sandboxd is being stopped. Build it again in some seconds."
            if time.monotonic() > end:
                return f"it took longer than build_timeout_s allows, {most_s} s"
            try:
                self._sandboxes.check_disks()
            except SandboxdError as error:
                return str(error)
            return ""

        return trouble

    def _save(self, row: Sandbox, name: str, image: str) -> None:
        with self._frozen(row):
            self._engine.commit(row.docker, image)
            if row.disk_mb:
                self._disks.copy(row.slot, row.volume, self._disks.snapshot(name))

    def _image(self, name: str, build_id: str) -> str:
        return f"{self._sandboxes.config.project}-template-{name}:{build_id}"

    def _now(self) -> float:
        return self._sandboxes.host.now()

    @contextmanager
    def _making(self, name: str, build_id: str) -> Iterator[str]:
        """The name of the new image; when the body fails, image and disk are removed again."""
        image = self._image(name, build_id)
        try:
            yield image
        except BaseException:
            with suppress(SandboxdError):
                self._engine.remove_image(image)
            if name not in self._ledger.templates():
                self._disks.snapshot(name).unlink(missing_ok=True)
            raise

    @contextmanager
    def _held(self, sandbox: Sandbox) -> Iterator[Sandbox]:
        """Its row, while nobody else works on it."""
        with self._sandboxes.locks.hold(sandbox.slot):
            row = self._ledger.get(sandbox.slot)
            if row is None or row.state not in USED:
                raise NotFound(f"sandbox {sandbox.id} was removed meanwhile")
            yield row

    @contextmanager
    def _frozen(self, row: Sandbox) -> Iterator[None]:
        """The ledger says `running` all the while, so reconcile lets it run again should we not."""
        if row.state != "running":
            yield
            return
        self._engine.pause(row.docker)
        try:
            yield
        finally:
            self._engine.unpause(row.docker)


def build_id(image: str) -> str:
    """The id, a UUID, of the build that an image is. Images of another origin have one made of their name."""
    try:
        return str(uuid.UUID(image.rpartition(":")[2]))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, image))
