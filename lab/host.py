"""The lab itself: a container that is a Debian host. Starts, waits for, reaches, restarts and removes it.

Touches containers with our two labels, and nothing else in the engine.
"""

import json
import logging
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import build, docker, engine, facts
from lab.command import run_arguments
from lab.errors import LabError, NoSuchLab
from lab.settings import (
    BOOT_TIMEOUT_S,
    DEFAULT_DEBIAN,
    DEFAULT_NAME,
    LABEL_DEBIAN,
    LABEL_NAME,
    LABEL_ROOT,
    checked_name,
    container_name,
    debian_suite,
    root_id,
)
from lab.state import State

log = logging.getLogger("lab")

FAILURE_REPORT = """
echo "== systemctl is-system-running: $(systemctl is-system-running)"
systemctl --failed --no-legend --plain
for unit in $(systemctl --failed --no-legend --plain | cut -d' ' -f1); do
    echo "== $unit"; journalctl --boot --unit "$unit" --no-pager --lines 30
done
echo "== warnings of this boot"
journalctl --boot --priority warning --no-pager --lines 100
if command -v docker >/dev/null; then echo "== containers in the lab"; docker ps --all; fi
"""


@dataclass(frozen=True)
class Lab:
    """One throwaway host. Made by `up`, `find` and `labs`; `address` is empty while it is stopped."""

    name: str
    debian: str
    image: str
    running: bool
    address: str
    published: dict[str, str]

    @property
    def state(self) -> State:
        return State(self.name)

    @property
    def container(self) -> str:
        """Name of the container."""
        return container_name(self.name)

    @property
    def ssh_config(self) -> Path:
        """An OpenSSH configuration in which the host `name` is this lab."""
        return self.state.ssh_config

    def ssh_command(self, *command: str) -> list[str]:
        """Return the words that run `command`, or a shell, as root on the lab."""
        return ["ssh", "-F", str(self.ssh_config), self.name, *command]

    def ssh(self, command: str, *, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root on the lab. With `check`, raise LabError when it fails."""
        return docker.run(self.ssh_command("--", command), check=check, stdin=stdin)

    def pyinfra_data(self) -> dict[str, Any]:
        """Return the connection data of pyinfra's ssh connector. The lab's own host key is in the known-hosts file."""
        return {
            "ssh_hostname": self.address,
            "ssh_port": 22,
            "ssh_user": "root",
            "ssh_key": str(self.state.key),
            "ssh_known_hosts_file": str(self.state.known_hosts),
            "ssh_strict_host_key_checking": "yes",
        }

    def restart(self) -> "Lab":
        """Reboot: stop in order, start, and wait until it is up again. Returns it with its new address."""
        self.state.disconnect()
        docker.docker("restart", self.container)
        return _wait(self.name)

    def report(self) -> str:
        """Return what a person needs when something failed: failed units, warnings, containers."""
        done = docker.run(["docker", "exec", self.container, "sh", "-c", FAILURE_REPORT], check=False)
        return done.stdout + done.stderr

    def down(self) -> None:
        """Remove the container, its volumes, and what the workstation remembers of it."""
        self.state.remove()
        docker.docker("rm", "--force", "--volumes", self.container)

    def as_dict(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
        return {
            "name": self.name,
            "debian": self.debian,
            "running": self.running,
            "address": self.address,
            "published": self.published,
            "container": self.container,
            "image": self.image,
            "ssh_config": str(self.ssh_config),
        }


def up(name: str = DEFAULT_NAME, debian: str | None = None, *, publish_https: int | None = None) -> Lab:
    """Return a lab that is up: the one of that name, started when it was stopped, made when there was none.

    `debian` is trixie (13, the default for a new one) or bookworm (12). `publish_https` is a port on 127.0.0.1 of the
    workstation that leads to 443 of a new lab. Raises UsageError, NoEngine, LabError.
    """
    checked_name(name)
    suite = debian_suite(debian or DEFAULT_DEBIAN)
    engine.ensure()
    engine.install_missing({"ssh": "openssh-client"})
    for lab in labs():
        if lab.name == name:
            if debian and lab.debian != suite:
                raise LabError(f"lab {name} is Debian {lab.debian}, not {suite}", f"run: python3 -m lab down {name}")
            if lab.running:
                return _connect(lab)
            log.info("starting %s", name)
            docker.docker("start", lab.container)
            return _wait(name)
    image = build.ensure_image(suite)
    if docker.run(["docker", "inspect", container_name(name)], check=False).returncode == 0:
        raise LabError(
            f"container {container_name(name)} exists, but belongs to another working copy",
            "choose another NAME, or set LAB_PREFIX in the environment",
        )
    log.info("starting %s (Debian %s)", name, suite)
    docker.docker(
        *run_arguments(
            facts.gather(docker.info()),
            name=name,
            suite=suite,
            image=image,
            root=root_id(),
            publish_https=publish_https,
        )
    )
    return _wait(name)


def labs() -> list[Lab]:
    """Return the labs of this working copy, by name."""
    found = docker.inspect_containers(LABEL_NAME, f"{LABEL_ROOT}={root_id()}")
    return sorted((_lab(container) for container in found), key=lambda lab: lab.name)


def get(name: str) -> Lab:
    """Return lab `name` as the engine describes it, in whatever state it is; raise NoSuchLab."""
    found = labs()
    for lab in found:
        if lab.name == name:
            return lab
    have = ", ".join(lab.name for lab in found) or "none"
    raise NoSuchLab(f"there is no lab {name!r} (there is: {have})", f"run: python3 -m lab up {name}")


def find(name: str = DEFAULT_NAME) -> Lab:
    """Return lab `name`, ready for ssh at its current address; raise NoSuchLab, or LabError when it is stopped."""
    lab = get(name)
    if not lab.running:
        raise LabError(f"lab {name} is stopped", f"run: python3 -m lab up {name}")
    return _connect(lab)


def pyinfra_data(name: str = DEFAULT_NAME) -> dict[str, Any]:
    """Return the connection data of lab `name` for pyinfra; raise NoSuchLab."""
    return find(name).pyinfra_data()


def _lab(container: dict[str, Any]) -> Lab:
    """Read one entry of `docker inspect`."""
    labels = container["Config"]["Labels"]
    network = container["NetworkSettings"]
    published = {
        inside: f"{binding['HostIp']}:{binding['HostPort']}"
        for inside, bindings in (network.get("Ports") or {}).items()
        for binding in bindings or []
    }
    return Lab(
        name=labels[LABEL_NAME],
        debian=labels[LABEL_DEBIAN],
        image=container["Config"]["Image"],
        running=bool(container["State"]["Running"]),
        address=network["Networks"]["bridge"]["IPAddress"],
        published=published,
    )


def _connect(lab: Lab) -> Lab:
    """Write the files that ssh needs, with the lab's current address."""
    show_keys = ["docker", "exec", lab.container, "sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub"]
    lab.state.public_key()
    lab.state.write(lab.address, docker.run(show_keys).stdout)
    return lab


def _wait(name: str) -> Lab:
    """Return lab `name` once it has booted, lets us in, and sshd answers; raise LabError with its own report."""
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    lab = get(name)
    state = ""
    while state not in ("running", "degraded"):
        if time.monotonic() > deadline:
            console = docker.run(["docker", "logs", "--tail", "20", lab.container], check=False)
            raise LabError(
                f"lab {name} has not booted after {BOOT_TIMEOUT_S} s (state {state!r}):\n"
                f"{docker.tail(console.stdout + console.stderr)}\n{docker.tail(lab.report(), 40)}",
                f"it is still there for a look: docker exec -it {lab.container} bash",
            )
        time.sleep(0.1)
        state = docker.docker("exec", lab.container, "systemctl", "is-system-running", check=False)
    authorize = "umask 077; mkdir -p /root/.ssh; grep -qsxF \"$1\" /root/.ssh/authorized_keys || echo \"$1\" >>/root/.ssh/authorized_keys"
    docker.docker("exec", lab.container, "sh", "-c", authorize, "sh", lab.state.public_key().strip())
    _connect(lab)
    while True:
        answer = lab.ssh("true", check=False)
        if answer.returncode == 0:
            break
        if time.monotonic() > deadline:
            raise LabError(f"sshd of lab {name} does not let us in:\n{docker.tail(answer.stderr)}\n{lab.report()}")
        time.sleep(0.1)
    if state == "degraded":
        log.warning("lab %s is up, but units have failed: %s", name, lab.ssh(_FAILED_UNITS).stdout.split())
    return lab


_FAILED_UNITS = "systemctl --failed --no-legend --plain | cut -d' ' -f1"


def to_json(labs: list[Lab]) -> str:
    """Return labs as a JSON list."""
    return json.dumps([lab.as_dict() for lab in labs], indent=2)
