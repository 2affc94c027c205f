"""The only place that talks to Docker.

`Engine` is the seam: the life cycle knows nothing else of a container engine, and an engine of several hosts implements
the same methods. `DockerEngine` uses docker-py's low-level client, which negotiates the API version (20.10 and newer).
Removing something that is not there is no error anywhere here.
"""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from typing import Any, Protocol, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from urllib3.exceptions import HTTPError

from sandboxd import errors

T = TypeVar("T")
TIMEOUT_S = 60


@dataclass(frozen=True)
class Container:
    """A container as Docker sees it now. `id` is the short one, `booted` Docker's start time, a text to compare."""

    id: str
    name: str
    image_id: str
    running: bool
    pid: int
    address: str
    gateway: str
    booted: str
    exit: str


@dataclass(frozen=True)
class Found:
    """A labelled object: `kind` is container, network or volume; `ref` what removes it; `created` Unix seconds."""

    kind: str
    ref: str
    slot: str
    created: float
    running: bool = False


class Engine(Protocol):
    """What the life cycle needs. Every method may raise EngineDown, and EngineError when Docker refuses."""

    def version(self) -> str: ...
    def userns_uid(self) -> int: ...
    def image_id(self, image: str) -> str: ...
    def create_network(self, payload: dict[str, Any]) -> None: ...
    def create_container(self, name: str, payload: dict[str, Any]) -> str: ...
    def start(self, container: str) -> None: ...
    def container(self, container: str) -> Container | None: ...
    def rename(self, container: str, name: str) -> None: ...
    def logs(self, container: str, lines: int) -> str: ...
    def remove_container(self, container: str) -> None: ...
    def remove_network(self, network: str) -> None: ...
    def remove_volume(self, volume: str) -> None: ...
    def inventory(self, project: str) -> list[Found]: ...
    def changes(self, project: str) -> Iterator[str]: ...


class DockerEngine:
    """Docker on this host. Connects at the first call, so it may come up later than the daemon, and restart."""

    def __init__(self) -> None:
        self._client: docker.APIClient | None = None
        self._userns_uid: int | None = None
        self._lock = threading.Lock()

    def version(self) -> str:
        return str(self._call("version", lambda api: api.version())["Version"])

    def userns_uid(self) -> int:
        """The uid on the host that is root inside: 0 without userns-remap. Asked once a connection: `info` is slow."""
        if self._userns_uid is None:
            self._userns_uid = base_uid(self._call("info", lambda api: api.info()))
        return self._userns_uid

    def image_id(self, image: str) -> str:
        def absent() -> str:
            raise errors.EngineError(f"image {image!r} is not on this host. Build it: deploy again.")

        return str(self._call(f"image {image}", lambda api: api.inspect_image(image)["Id"], absent))

    def create_network(self, payload: dict[str, Any]) -> None:
        name = payload["Name"]

        def create(api: docker.APIClient) -> None:
            api.create_network(
                name,
                driver=payload["Driver"],
                options=payload["Options"],
                labels=payload["Labels"],
                check_duplicate=payload["CheckDuplicate"],
                enable_ipv6=payload["EnableIPv6"],
            )

        self._call(f"create network {name}", create)

    def create_container(self, name: str, payload: dict[str, Any]) -> str:
        """Returns the short id, the first 12 characters."""
        answer = self._call(f"create container {name}", lambda api: api.create_container_from_config(payload, name))
        return str(answer["Id"])[:12]

    def start(self, container: str) -> None:
        self._call(f"start {container}", lambda api: api.start(container))

    def container(self, container: str) -> Container | None:
        found = self._call(f"inspect {container}", lambda api: api.inspect_container(container), lambda: None)
        return None if found is None else parse_container(found)

    def rename(self, container: str, name: str) -> None:
        self._call(f"rename {container} to {name}", lambda api: api.rename(container, name))

    def logs(self, container: str, lines: int) -> str:
        text = self._call(f"logs of {container}", lambda api: api.logs(container, tail=lines), lambda: b"")
        return bytes(text).decode(errors="replace")

    def remove_container(self, container: str) -> None:
        self._call(f"remove {container}", lambda api: api.remove_container(container, v=True, force=True), lambda: None)

    def remove_network(self, network: str) -> None:
        self._call(f"remove network {network}", lambda api: api.remove_network(network), lambda: None)

    def remove_volume(self, volume: str) -> None:
        self._call(f"remove volume {volume}", lambda api: api.remove_volume(volume, force=True), lambda: None)

    def inventory(self, project: str) -> list[Found]:
        """Every container, network and volume that carries the project's label, running or not."""
        chosen = {"label": f"sandbox.project={project}"}
        found = [
            Found("container", one["Id"][:12], _slot(one), float(one["Created"]), one["State"] == "running")
            for one in self._call("list containers", lambda api: api.containers(all=True, filters=chosen))
        ]
        for one in self._call("list networks", lambda api: api.networks(filters=chosen)):
            found.append(Found("network", one["Name"], _slot(one), timestamp(one["Created"])))
        for one in self._call("list volumes", lambda api: api.volumes(filters=chosen))["Volumes"] or []:
            found.append(Found("volume", one["Name"], _slot(one), timestamp(one["CreatedAt"])))
        return found

    def changes(self, project: str) -> Iterator[str]:
        """The slots whose containers start or die, as it happens. Ends when Docker goes away."""
        chosen = {"type": "container", "event": ["start", "die"], "label": f"sandbox.project={project}"}
        events = self._call("listen to events", lambda api: api.events(filters=chosen, decode=True))
        try:
            for event in events:
                yield _slot({"Labels": event["Actor"]["Attributes"]})
        except (OSError, DockerException, HTTPError, HTTPException) as error:
            # Each layer below has a word of its own for a connection that breaks in the middle of a stream.
            raise errors.EngineDown(f"Docker has hung up: {error}.") from error

    def _call(self, what: str, function: Callable[[Any], T], absent: Callable[[], T] | None = None) -> T:
        """Runs one call, and turns what docker-py raises into our errors. `absent` answers instead of a 404."""
        try:
            return function(self._connect())
        except NotFound as error:
            if absent is not None:
                return absent()
            raise errors.EngineError(f"Docker refuses: {what}: {error.explanation}") from error
        except APIError as error:
            raise errors.EngineError(f"Docker refuses: {what}: {error.explanation}") from error
        except (DockerException, requests.RequestException) as error:
            self._client = self._userns_uid = None  # it may come back as another version, or otherwise configured
            raise errors.EngineDown(
                f"Docker does not answer ({what}: {error}). Look with: systemctl status docker; journalctl -u docker."
            ) from error

    def _connect(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = docker.APIClient(version="auto", timeout=TIMEOUT_S)
            return self._client


def base_uid(info: dict[str, Any]) -> int:
    """From the engine's effective root directory, `/var/lib/docker/100000.100000` under userns-remap."""
    remapped = any("name=userns" in option for option in info.get("SecurityOptions") or [])
    match = re.search(r"/(\d+)\.\d+$", info.get("DockerRootDir", ""))
    return int(match.group(1)) if remapped and match else 0


def parse_container(found: dict[str, Any]) -> Container:
    """From `GET /containers/{id}/json`. A sandbox has exactly one network."""
    state = found["State"]
    networks = list((found["NetworkSettings"].get("Networks") or {}).values())
    network = networks[0] if networks else {}
    cause = ", out of memory" if state.get("OOMKilled") else ""
    return Container(
        id=found["Id"][:12],
        name=found["Name"].lstrip("/"),
        image_id=found["Image"],
        running=bool(state["Running"]) and not state.get("Restarting", False),
        pid=int(state.get("Pid") or 0),
        address=network.get("IPAddress") or "",
        gateway=network.get("Gateway") or "",
        booted=state.get("StartedAt", ""),
        exit=f"exit code {state.get('ExitCode')}{cause}",
    )


def timestamp(text: str) -> float:
    """Docker's RFC 3339 times carry nanoseconds, more digits than datetime reads."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()


def _slot(found: dict[str, Any]) -> str:
    return str((found.get("Labels") or {}).get("sandbox.slot", ""))
