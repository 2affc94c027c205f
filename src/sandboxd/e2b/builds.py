"""Builds of templates that clients ask for: their files, their state, their log. BuildKit does the work.

States and logs are in memory: a build ends with the daemon, and the client asks again. Files are kept by their digest
below `<state_dir>/build-files` for a day, so that what has not changed is sent once.
"""

import hashlib
import hmac
import io
import logging
import os
import re
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandboxd.audit import acting, carried, current
from sandboxd.e2b.steps import Step, dockerfile, step_of
from sandboxd.errors import BadRequest, Conflict, NotFound, SandboxdError
from sandboxd.templates import Templates

log = logging.getLogger(__name__)

KEPT = 100  # builds that are remembered
LINES = 10_000  # of the log of one
FILES_S = 86400.0
URL_S = 3600
# What BuildKit says of a step that fails, in its plain progress: what, and on which line of the Dockerfile.
WHY = re.compile(r"#\d+ ERROR: (.+)")
WHERE = re.compile(r"Dockerfile:(\d+)")


@dataclass
class Build:
    """`id` is a UUID; `status` E2B's: waiting, building, ready or error. A line is (Unix seconds, text).

    `reason` and `step`, the number of the step that failed, are empty unless it failed; `step` then too if it was none.
    """

    id: str
    template: str
    owner: str
    memory_mb: int
    cpus: float
    tags: list[str]
    status: str = "waiting"
    reason: str = ""
    step: str = ""
    lines: list[tuple[float, str]] = field(default_factory=list)


class Builds:
    def __init__(self, templates: Templates, state_dir: Path, key: bytes) -> None:
        self._templates, self._files, self._key = templates, state_dir / "build-files", key
        self._builds: dict[str, Build] = {}
        self._lock = threading.Lock()

    def request(self, template: str, owner: str, memory_mb: int, cpus: float, tags: list[str]) -> Build:
        made = Build(str(uuid.uuid4()), template, owner, memory_mb, cpus, tags)
        self.take(made)
        return made

    def find(self, template: str, build_id: str, owner: str) -> Build:
        found = self._builds.get(build_id)
        if found is None or found.template != template or found.owner != owner:
            raise NotFound(
                f"build '{build_id}' of template '{template}' not found: builds end when the daemon restarts"
            )
        return found

    def give(self, template: str, build_id: str, owner: str) -> Build:
        """Forgets one, with which another host goes on. Raises NotFound, and Conflict for one that has begun."""
        build = self.find(template, build_id, owner)
        with self._lock:
            self._check_waits(build)
            self._builds.pop(build_id, None)
        return build

    def take(self, build: Build) -> None:
        """A new one, or one that another host has given away."""
        with self._lock:
            self._builds[build.id] = build
            for old in list(self._builds)[:-KEPT]:
                del self._builds[old]

    def start(self, build: Build, base: str, steps: Sequence[Step], start: str = "", ready: str = "") -> None:
        """Begins in a thread. Raises BadRequest for steps that cannot be, Conflict for a build that has begun."""
        text = dockerfile(steps, start, ready)
        if missing := [step.arguments[0] for step in steps if step.files and not self.has(step.files)]:
            raise BadRequest(f"COPY {missing[0]}: its files were not uploaded")
        with self._lock:
            self._check_waits(build)
            build.status = "building"
        files = sorted({step.files for step in steps if step.files})
        threading.Thread(target=carried(self._run), args=(build, base, text, files), name="build", daemon=True).start()

    def path(self, digest: str) -> Path:
        return self._files / digest

    def signature(self, digest: str, expires: int) -> str:
        """Of the right to upload the files of that digest until then."""
        return hmac.new(self._key, f"build-files:{digest}:{expires}".encode(), hashlib.sha256).hexdigest()

    def check(self, digest: str, expires: int, signature: str) -> bool:
        return expires >= time.time() and hmac.compare_digest(
            signature.encode(), self.signature(digest, expires).encode()
        )

    def keep(self, digest: str, uploaded: Path) -> None:
        """Takes a file over; forgets those that nobody has used for a day."""
        self._files.mkdir(mode=0o700, exist_ok=True)
        with self._lock:
            for old in self._files.iterdir():
                if time.time() - old.stat().st_mtime > FILES_S:
                    old.unlink()
        uploaded.replace(self.path(digest))

    def has(self, digest: str) -> bool:
        """Whether the file is there; it is in use then, and kept for another day."""
        with self._lock:
            try:
                os.utime(self.path(digest))
            except FileNotFoundError:
                return False
        return True

    def _check_waits(self, build: Build) -> None:
        if build.status != "waiting":
            raise Conflict(f"build '{build.id}' has begun already")

    def _run(self, build: Build, base: str, text: str, files: list[str]) -> None:
        try:
            with (
                acting(current().actor),  # of the request that began it, and may be over by now
                tempfile.NamedTemporaryFile(dir=self._files.parent, prefix="context-", suffix=".tar") as context,
            ):
                self._pack(context, text, files)
                limits = (build.memory_mb, build.cpus)
                lines = self._templates.build(
                    build.template, base, Path(context.name), True, *limits, build.tags, build.id
                )
                for line in lines:
                    self._say(build, line.decode(errors="replace").rstrip())
            build.status = "ready"
        except SandboxdError as error:
            said = [line for _, line in build.lines]
            build.step = next((step_of(text, int(one[1])) for line in said if (one := WHERE.fullmatch(line))), "")
            self._fail(build, next((one[1] for line in said if (one := WHY.fullmatch(line))), str(error)))
        except Exception as error:  # a thread has nobody else to tell
            log.exception("build %s failed", build.id)
            self._fail(build, f"internal error: {error!r}")

    def _fail(self, build: Build, reason: str) -> None:
        self._say(build, reason)
        build.reason, build.status = reason, "error"

    def _say(self, build: Build, text: str) -> None:
        if len(build.lines) < LINES:
            build.lines.append((time.time(), text))

    def _pack(self, context: "tempfile._TemporaryFileWrapper[bytes]", text: str, files: list[str]) -> None:
        """The build context: the Dockerfile, and the archives as they came."""
        with tarfile.open(fileobj=context, mode="w") as archive:
            member = tarfile.TarInfo("Dockerfile")
            content = text.encode()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            for digest in files:
                archive.add(self.path(digest), f"files/{digest}", filter=readable)
        context.flush()


def readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """For the build's root, which the host's root is not: Docker 20.10 keeps the owner that a context names."""
    member.mode = 0o444
    return member
