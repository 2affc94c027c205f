"""Docker on this host: the only place that talks to it.

Uses docker-py's low-level client, which negotiates the API version (20.10 and newer).
"""

import subprocess
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from urllib3.exceptions import HTTPError

from sandboxd import description, dockerbuild, errors
from sandboxd.capacity import FILE_BYTES
from sandboxd.description import Description
from sandboxd.dockerlog import DockerFrames, Frames, NoFrames
from sandboxd.engine import Container, Found, timestamp

T = TypeVar("T")
TIMEOUT_S = 60
STOP_S = 10
MOUNTS = Path("/proc/self/mountinfo")
DU = ("du", "--summarize", "--one-file-system", "--block-size=1")
DU_FILES = ("du", "--summarize", "--one-file-system", "--inodes")


class DockerEngine:
    """Docker on this host. Connects at the first call, so it may come up later than the daemon, and restart."""

    def __init__(self) -> None:
        self._client: docker.APIClient | None = None
        self._known_info: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def version(self) -> str:
        return str(self._call("version", lambda api: api.version())["Version"])

    def userns_uid(self) -> int:
        """The uid on the host that is root inside: 0 without userns-remap."""
        return description.base_uid(self._info())

    def data_root(self) -> Path:
        """Where the engine keeps images and layers."""
        return Path(self._info()["DockerRootDir"])

    def limits_layers(self) -> bool:
        """Whether a container's layer can be given a limit that the kernel keeps."""
        return description.limits_layers(self._info(), MOUNTS.read_text())

    def layer_bytes(self, container: str) -> int:
        """What a container has written outside its mounts: allocated space, so that holes do not count; 0 for none. A
        file takes FILE_BYTES of the disk at least: empty ones use up its inodes.

        Counted by du, which follows no links, in the directory of the overlay; other storage drivers count themselves.
        """
        found = self._call(f"inspect {container}", lambda api: api.inspect_container(container), lambda: None)
        if found is None:
            return 0
        upper = ((found.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir")
        if upper:
            counted = [_counted([*command, upper]) for command in (DU, DU_FILES)]
            if all(counted):  # it complains of files that vanish while it counts, and counts the rest
                space, files = (int(text.split()[0]) for text in counted)
                return max(space, files * FILE_BYTES)
        listed = self._call("list", lambda api: api.containers(all=True, size=True, filters={"id": container}))
        return int(listed[0].get("SizeRw") or 0) if listed else 0

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

    def stop(self, container: str) -> None:
        """SIGTERM, and SIGKILL to what is left after STOP_S. One that does not run is fine."""
        self._call(f"stop {container}", lambda api: api.stop(container, timeout=STOP_S))

    def pause(self, container: str) -> None:
        self._call(f"pause {container}", lambda api: api.pause(container))

    def unpause(self, container: str) -> None:
        self._call(f"unpause {container}", lambda api: api.unpause(container))

    def container(self, container: str) -> Container | None:
        found = self._call(f"inspect {container}", lambda api: api.inspect_container(container), lambda: None)
        return None if found is None else parse_container(found)

    def rename(self, container: str, name: str) -> None:
        self._call(f"rename {container} to {name}", lambda api: api.rename(container, name))

    def commit(self, container: str, image: str) -> None:
        """Makes an image, `repository:tag`, of what a container has outside its mounts. It should be frozen."""
        repository, _, tag = image.rpartition(":")
        self._call(f"commit {container}", lambda api: api.commit(container, repository, tag, pause=False))

    def remove_image(self, image: str) -> None:
        self._call(f"remove image {image}", lambda api: api.remove_image(image), lambda: None)

    def build(
        self, context: Path, image: str, arguments: dict[str, str], cgroup: str, trouble: Callable[[], str]
    ) -> Iterator[bytes]:
        return dockerbuild.build(context, image, arguments, cgroup, trouble)

    def logs(self, container: str, lines: int) -> str:
        text = self._call(f"logs of {container}", lambda api: api.logs(container, tail=lines), lambda: b"")
        return bytes(text).decode(errors="replace")

    def log(self, container: str, lines: int | None, since: float, follow: bool) -> Frames:
        """What the main process wrote: of all since that time (Unix seconds; 0: ever) the last `lines` (None: all).

        With `follow` it goes on until the container stops. Nothing of a container that is not there.
        """
        tail: Any = "all" if lines is None else lines

        def read(api: docker.APIClient) -> Frames:
            stream = api.logs(container, stream=True, follow=follow, timestamps=True, tail=tail, since=since or None)
            return DockerFrames(stream)

        return self._call(f"log of {container}", read, NoFrames)

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
            Found("container", one["Id"][:12], _slot(one), float(one["Created"]), one["State"], one.get("Labels") or {})
            for one in self._call("list containers", lambda api: api.containers(all=True, filters=chosen))
        ]
        for one in self._call("list networks", lambda api: api.networks(filters=chosen)):
            found.append(Found("network", one["Name"], _slot(one), timestamp(one["Created"])))
        for one in self._call("list volumes", lambda api: api.volumes(filters=chosen))["Volumes"] or []:
            found.append(Found("volume", one["Name"], _slot(one), timestamp(one["CreatedAt"])))
        return found

    def changes(self, project: str) -> Iterator[str]:
        """The slots whose containers start, die, freeze, thaw or go, as it happens. Ends when Docker goes away."""
        chosen = {
            "type": "container",
            "event": ["start", "die", "pause", "unpause", "destroy"],
            "label": f"sandbox.project={project}",
        }
        events = self._call("listen to events", lambda api: api.events(filters=chosen, decode=True))
        try:
            for event in events:
                yield _slot({"Labels": event["Actor"]["Attributes"]})
        except (OSError, DockerException, HTTPError, HTTPException) as error:
            # Each layer below has a word of its own for a connection that breaks in the middle of a stream.
            raise errors.EngineDown(f"Docker has hung up: {error}.") from error

    def _info(self) -> dict[str, Any]:
        """Asked once a connection, for it is slow."""
        if self._known_info is None:
            self._known_info = self._call("info", lambda api: api.info())
        return self._known_info

    def describe(self) -> Description:
        """How the engine is configured in effect. Takes some hundredths of a second."""
        info = self._call("info", lambda api: api.info())
        return description.parse(info, self._call("version", lambda api: api.version()))

    def subnets(self) -> list[str]:
        """Of all networks on this host, whoever made them."""
        return description.subnets(self._call("list networks", lambda api: api.networks()))

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
            self._client = self._known_info = None  # it may come back as another version, or otherwise configured
            raise errors.EngineDown(
                f"Docker does not answer ({what}: {error}). Look with: systemctl status docker; journalctl -u docker."
            ) from error

    def _connect(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = docker.APIClient(version="auto", timeout=TIMEOUT_S)
            return self._client


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
        paused=bool(state.get("Paused", False)),
        pid=int(state.get("Pid") or 0),
        address=network.get("IPAddress") or "",
        gateway=network.get("Gateway") or "",
        booted=state.get("StartedAt", ""),
        exit=f"exit code {state.get('ExitCode')}{cause}",
        runtime=(found.get("HostConfig") or {}).get("Runtime") or "",
    )


def _slot(found: dict[str, Any]) -> str:
    return str((found.get("Labels") or {}).get("sandbox.slot", ""))


def _counted(command: list[str]) -> str:
    """What it prints, be it after complaints. Raises EngineError when it does not end."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.EngineError(f"{' '.join(command)}: {error}") from error
