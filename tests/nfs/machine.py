"""A virtual machine without a network, and the hosts in it: QEMU, and requests over a virtual serial port."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from lab import engine
from lab.settings import ROOT
from sandboxd.errors import Conflict, HostError
from sandboxd.patience import NoAnswer
from sandboxd.sharedstore import TakenOver
from tests.nfs.image import FIRST, Image

EMULATOR = "qemu-system-x86_64"
PACKAGES = {EMULATOR: "qemu-system-x86"}
PROJECT = ("src/sandboxd", "tests/__init__.py", "tests/nfs")
KERNEL_S = 10  # until the kernel says its first words; where KVM works it takes half a second
BOOT_S = 240  # without KVM, on a busy machine; alone it takes about half a minute
ANSWER_S = 150
LEASE_S = 20  # of the server's; Debian's is 90. Longer than LOCK_S of sharedstore, on a busy machine, too
MEMORY_MB, CPUS = 1024, 2
EXPORT_MB = 2048  # sparse
SOON_S = 0.3  # enough for requests to arrive at both hosts
RAISED: dict[str, type[Exception]] = {error.__name__: error for error in (TakenOver, NoAnswer, Conflict, HostError)}


class GuestError(Exception):
    """The virtual machine does not start or does not answer, or something failed in it that no test expects."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Machine:
    """`accelerator` is what it was started with: kvm, or tcg where the workstation's KVM starts no such kernel."""

    def __init__(self, image: Image) -> None:
        engine.install_missing(PACKAGES)
        self._image = image
        self._work = Path(tempfile.mkdtemp(prefix="nfs-", dir="/tmp"))  # short: it has a socket
        self._asked: dict[int, Future[Any]] = {}
        self._asking = threading.Lock()
        self._ready = threading.Event()
        self._emulator: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self.accelerator, self.booted_s = "", 0.0

    def __enter__(self) -> Machine:
        try:
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def console(self, lines: int = 60) -> str:
        """The end of what the emulator, the kernel and its first process have said."""
        files = (self._work / "emulator.log", self._work / "console")
        said = "".join(file.read_text(errors="replace") for file in files if file.exists())
        return "\n".join(said.splitlines()[-lines:])

    def ask(self, host: str, do: str, *arguments: Any, at: float = 0.0) -> Future[Any]:
        """An answer to come. What was raised there as HostError, Conflict or TakenOver is raised here."""
        answer: Future[Any] = Future()
        with self._asking:
            number = len(self._asked)
            self._asked[number] = answer
            request = {"id": number, "host": host, "do": do, "with": arguments, "at": at}
            if self._line is None:
                raise GuestError("the virtual machine does not run")
            self._line.sendall(json.dumps(request).encode() + b"\n")
        return answer

    def _boot(self) -> None:
        (self._work / "project.tar").write_bytes(project())
        with (self._work / "export.img").open("wb") as export:
            export.truncate(EXPORT_MB << 20)
        started = time.monotonic()
        for accelerator in ("kvm", "tcg"):
            if accelerator == "kvm" and not Path("/dev/kvm").exists():
                continue
            self.accelerator = accelerator
            self._start(accelerator)
            if accelerator == "tcg" or self._until(lambda: "Linux version" in self.console(1000), KERNEL_S):
                break
            self._stop()  # there is a /dev/kvm, but no kernel of Debian starts with it
        if not self._until(self._ready.is_set, BOOT_S):
            raise GuestError(
                f"the virtual machine ({self.accelerator}) does not come up. Its console:\n{self.console()}"
            )
        self.booted_s = time.monotonic() - started

    def _start(self, accelerator: str) -> None:
        (self._work / "agent").unlink(missing_ok=True)
        (self._work / "console").unlink(missing_ok=True)
        with (self._work / "emulator.log").open("wb") as said:
            self._emulator = subprocess.Popen(
                command(self._image, self._work, accelerator), stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        if self._until(self._connect, KERNEL_S) and self._line is not None:
            threading.Thread(target=self._read, args=(self._line,), daemon=True).start()

    def _connect(self) -> bool:
        """Whether the emulator has answered: a moment before that its socket is there, and refuses."""
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(str(self._work / "agent"))
        except OSError:
            line.close()
            return False
        self._line = line
        return True

    def _until(self, known: Callable[[], bool], timeout_s: float) -> bool:
        """Also ends when the emulator does."""
        deadline = time.monotonic() + timeout_s
        while not known():
            if time.monotonic() > deadline or self._emulator is None or self._emulator.poll() is not None:
                return known()
            time.sleep(0.05)
        return True

    def _read(self, line: socket.socket) -> None:
        with suppress(OSError):  # closed by us
            for text in line.makefile("rb"):
                self._take(json.loads(text))
        with self._asking:
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(GuestError("the virtual machine has ended"))

    def _take(self, said: dict[str, Any]) -> None:
        if "ready" in said:
            self._ready.set()
            return
        answer = self._asked[said["id"]]
        if "error" not in said:
            answer.set_result(said["value"])
        elif said["error"] in RAISED:
            answer.set_exception(RAISED[said["error"]](said["words"]))
        else:
            answer.set_exception(GuestError(f"{said['error']}: {said['words']}"))

    def _stop(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._emulator is not None:
            self._emulator.kill()
            self._emulator.wait()
            self._emulator = None

    def _end(self) -> None:
        self._stop()
        shutil.rmtree(self._work, ignore_errors=True)


class Host:
    """One of the machine's: "a", "b", or "server"."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name

    @property
    def storage(self) -> str:
        return f"/srv/{self.name}"

    def begin(self, do: str, *arguments: Any, at: float = 0.0) -> Future[Any]:
        return self.machine.ask(self.name, do, *arguments, at=at)

    def do(self, do: str, *arguments: Any) -> Any:
        return self.begin(do, *arguments).result(ANSWER_S)

    def store(self, method: str, *arguments: Any, wait_s: float = 15.0) -> Any:
        """Of this host's SharedStore."""
        return self.do("store", wait_s, method, *arguments)

    def disks(self, method: str, *arguments: Any) -> Any:
        """Of this host's Disks, all of which are on the storage."""
        return self.do("disks", method, *arguments)

    def run(self, command: str, timeout_s: float = 120) -> str:
        done = Done(**self.do("run", command, timeout_s))
        if done.code:
            raise GuestError(f"{self.name}: {command}: exit code {done.code}:\n{done.out}{done.err}")
        return done.out.strip()

    def soon(self) -> float:
        """A time of the machine's clock that is a moment away."""
        return float(self.do("clock")) + SOON_S


def eventually(what: Callable[[], Any], of: type[Exception], timeout_s: float = ANSWER_S) -> Any:
    """What it returns once it raises none of those."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return what()
        except of:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def command(image: Image, work: Path, accelerator: str) -> list[str]:
    """No network, and nothing that it writes is kept."""
    disks = (f"{image.disk},snapshot=on", f"{work}/export.img,cache=unsafe", f"{work}/project.tar,readonly=on")
    first = f"console=ttyS0 root=/dev/vda rootfstype=ext4 rw init={FIRST} panic=-1 loglevel=6 lease_s={LEASE_S}"
    return [
        EMULATOR,
        *("-machine", f"accel={accelerator}", "-cpu", "max", "-smp", str(CPUS), "-m", str(MEMORY_MB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", first),
        *(word for disk in disks for word in ("-drive", f"file={disk},format=raw,if=virtio")),
        *("-serial", f"file:{work}/console", "-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=agent,path={work}/agent,server=on,wait=off"),
        *("-device", "virtserialport,chardev=agent,name=agent", "-device", "virtio-rng-pci"),
    ]


def project() -> bytes:
    """A tar of what runs inside, as it is in the working copy."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in PROJECT:
            archive.add(ROOT / name, name, filter=lambda member: None if "__pycache__" in member.name else member)
    return buffer.getvalue()
