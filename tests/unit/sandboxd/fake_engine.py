"""A container engine in memory."""

import ipaddress
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandboxd.description import Description
from sandboxd.engine import Container, Found
from sandboxd.errors import EngineDown, EngineError

START = 1_800_000_000.0
DESCRIPTION = Description(
    version="26.1.5",
    api_version="1.45",
    root_dir="/var/lib/docker/100000.100000",
    runtime="crun",
    userns_uid=100000,
    live_restore=True,
    apparmor=True,
    pools=((ipaddress.IPv4Network("10.200.0.0/16"), 28),),
    limits=frozenset({"memory", "swap", "cpu", "pids"}),
)


@dataclass
class FakeLog:
    """What a container wrote: (Unix seconds, text). At the end of each boot, readings that follow it end, and those
    that begin before something is written in the next one end as soon as they have read what there is."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    boot: int = 1
    runs: bool = True
    changed: threading.Condition = field(default_factory=threading.Condition)

    def write(self, at: float, text: str) -> None:
        with self.changed:
            self.runs = True
            self.lines.append((at, text))
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self.runs = False
            self.boot += 1
            self.changed.notify_all()


class FakeFrames:
    """Docker's answer to one reading of a log."""

    def __init__(self, log: FakeLog, lines: int | None, since: float, follow: bool) -> None:
        self._log, self._since, self._follow, self._boot = log, since, follow, log.boot
        self._seen = 0 if lines is None else max(0, len(log.lines) - lines)
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._log.changed:
                if self._seen == len(self._log.lines):
                    ended = self._log.boot != self._boot or not self._log.runs
                    if not self._follow or ended or self.closed:
                        return
                    self._log.changed.wait(5)
                    continue
                at, text = self._log.lines[self._seen]
                self._seen += 1
            if at >= self._since:
                stamp = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
                yield f"{stamp} {text}\n".encode()

    def close(self) -> None:
        with self._log.changed:
            self.closed = True
            self._log.changed.notify_all()


@dataclass
class FakeEngine:
    """An Engine whose objects are dictionaries. `fail[method]` is raised instead of the next call of that method."""

    clock: Callable[[], float]
    images: dict[str, str] = field(default_factory=lambda: {"base:1": "sha256:1", "large:1": "sha256:9"})
    containers: dict[str, Container] = field(default_factory=dict)
    slots: dict[str, str] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    networks: dict[str, Found] = field(default_factory=dict)
    volumes: dict[str, Found] = field(default_factory=dict)
    fail: dict[str, Exception] = field(default_factory=dict)
    payloads: list[dict[str, Any]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    lock: Any = field(default_factory=threading.RLock)
    layer_limits: bool = False
    layers: dict[str, int] = field(default_factory=dict)
    events: "queue.Queue[str | Exception]" = field(default_factory=queue.Queue)
    logged: dict[str, "FakeLog"] = field(default_factory=dict)
    description: Description = field(default_factory=lambda: DESCRIPTION)

    def _enter(self, method: str) -> None:
        if error := self.fail.pop(method, None):
            raise error

    def version(self) -> str:
        self._enter("version")
        return "1"

    def limits_layers(self) -> bool:
        self._enter("limits_layers")
        return self.layer_limits

    def layer_bytes(self, container: str) -> int:
        self._enter("layer_bytes")
        return self.layers.get(container, 0)

    def userns_uid(self) -> int:
        self._enter("userns_uid")
        return os.getuid()

    def data_root(self) -> Path:
        self._enter("data_root")
        return Path("/var/lib/docker")

    def image_id(self, image: str) -> str:
        self._enter("image_id")
        if image not in self.images:
            raise EngineError(f"image {image!r} is not on this host. Build it: deploy again.")
        return self.images[image]

    def create_network(self, payload: dict[str, Any]) -> None:
        self._enter("create_network")
        slot = payload["Labels"]["sandbox.slot"]
        self.networks[payload["Name"]] = Found("network", payload["Name"], slot, self.clock())

    def create_container(self, name: str, payload: dict[str, Any]) -> str:
        self._enter("create_container")
        with self.lock:
            number = next(self.numbers)
            found = f"{number:012x}"
            image_id = self.images[payload["Image"]]
            runtime = payload["HostConfig"].get("Runtime", "crun")
            self.containers[found] = Container(
                found, name, image_id, False, False, 0, "", "", "", "exit code 0", runtime
            )
            self.slots[found] = payload["Labels"]["sandbox.slot"]
            self.labels[found] = payload["Labels"]
            self.payloads.append(payload)
            return found

    def start(self, container: str) -> None:
        self._enter("start")
        with self.lock:
            number, boot = int(container, 16), next(self.numbers)
            self.containers[container] = replace(
                self.containers[container],
                running=True,
                paused=False,
                pid=1000 + number,
                address=f"10.200.0.{number}",
                gateway="10.200.0.1",
                booted=f"2027-01-15T07:59:59.{boot:09d}Z",  # a second before START
            )

    def stop(self, container: str) -> None:
        self._enter("stop")
        self._set(container, running=False, paused=False, exit="exit code 1")

    def pause(self, container: str) -> None:
        self._enter("pause")
        self._set(container, paused=True)

    def unpause(self, container: str) -> None:
        self._enter("unpause")
        self._set(container, paused=False)

    def _set(self, container: str, **changes: Any) -> None:
        with self.lock:
            self.containers[container] = replace(self.containers[container], **changes)

    def container(self, container: str) -> Container | None:
        self._enter("container")
        return self.containers.get(container)

    def rename(self, container: str, name: str) -> None:
        self._enter("rename")
        self._set(container, name=name)

    def commit(self, container: str, image: str) -> None:
        self._enter("commit")
        assert self.containers[container].paused or not self.containers[container].running
        self.images[image] = f"sha256:{next(self.numbers)}"

    def remove_image(self, image: str) -> None:
        self._enter("remove_image")
        self.images.pop(image, None)

    def build(
        self, context: Path, image: str, arguments: dict[str, str], cgroup: str, trouble: Callable[[], str]
    ) -> Iterator[bytes]:
        yield f"building from {arguments['BASE']}: {context.read_text()}\n".encode()
        self._enter("build")
        if reason := trouble():
            raise EngineError(f"the build of {image} was ended: {reason}")
        self.images[image] = f"sha256:{next(self.numbers)}"

    def logs(self, container: str, lines: int) -> str:
        return "the last line"

    def log(self, container: str, lines: int | None, since: float, follow: bool) -> "FakeFrames":
        self._enter("log")
        return FakeFrames(self.logged.setdefault(container, FakeLog()), lines, since, follow)

    def remove_container(self, container: str) -> None:
        self._enter("remove_container")
        with self.lock:
            for found in [key for key, value in self.containers.items() if container in (key, value.name)]:
                del self.containers[found]

    def remove_network(self, network: str) -> None:
        self._enter("remove_network")
        self.networks.pop(network, None)

    def remove_volume(self, volume: str) -> None:
        self._enter("remove_volume")
        self.volumes.pop(volume, None)

    def inventory(self, project: str) -> list[Found]:
        self._enter("inventory")
        with self.lock:
            made = [
                Found("container", key, self.slots[key], self.clock(), state_of(value), self.labels.get(key, {}))
                for key, value in self.containers.items()
            ]
            return [*made, *self.networks.values(), *self.volumes.values()]

    def changes(self, project: str) -> Iterator[str]:
        """What a test puts into `events`; an exception there is raised."""
        self._enter("changes")
        while True:
            event = self.events.get()
            if isinstance(event, Exception):
                raise event
            yield event

    def describe(self) -> Description:
        self._enter("describe")
        return self.description

    def subnets(self) -> list[str]:
        self._enter("subnets")
        return ["10.200.0.0/28"] * len(self.networks)

    def empty(self) -> bool:
        """Whether nothing at all is left."""
        return not (self.containers or self.networks or self.volumes)


def state_of(container: Container) -> str:
    """Docker's word for it."""
    return "paused" if container.paused else "running" if container.running else "exited"


def down() -> EngineDown:
    return EngineDown("Docker does not answer.")


def refusal() -> EngineError:
    return EngineError("Docker refuses.")
