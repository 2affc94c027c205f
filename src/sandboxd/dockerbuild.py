"""A build by Docker's own command: the API alone builds without BuildKit. It is ended when something is wrong."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from sandboxd.errors import EngineError

GUARD_S = 1.0


def build(
    context: Path, image: str, arguments: dict[str, str], cgroup: str, trouble: Callable[[], str]
) -> Iterator[bytes]:
    """Builds an image from a tar archive; yields the lines of the build. Raises EngineError when it fails.

    Its commands run below `cgroup`. It is ended when nobody takes the lines, and for the reason that `trouble` gives,
    which is asked every GUARD_S; an empty one is none.
    """
    words = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    command = ["docker", "build", "--progress=plain", "--cgroup-parent", cgroup, *words, "--tag", image, "-"]
    with (
        TemporaryDirectory() as configuration,  # our home is closed to us, and nobody's credentials belong here
        context.open("rb") as archive,
        subprocess.Popen(
            command,
            stdin=archive,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": configuration},
        ) as process,
    ):
        guard = Guard(process, trouble)
        guard.start()
        try:
            yield from process.stdout or ()
        finally:
            process.terminate()
            guard.end()
    if guard.reason:
        raise EngineError(f"the build of {image} was ended: {guard.reason}")
    if process.returncode:
        raise EngineError(f"the build of {image} failed: its last lines say why.")


class Guard(threading.Thread):
    """Ends the process at the first trouble, which is then the `reason`."""

    def __init__(self, process: "subprocess.Popen[bytes]", trouble: Callable[[], str]) -> None:
        super().__init__(name="build guard", daemon=True)
        self._process, self._trouble = process, trouble
        self._ended = threading.Event()
        self.reason = ""

    def run(self) -> None:
        while not self._ended.wait(GUARD_S):
            self.reason = self._trouble()
            if self.reason:
                self._process.terminate()
                return

    def end(self) -> None:
        self._ended.set()
        self.join()
