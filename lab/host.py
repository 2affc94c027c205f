"""The lab itself: a container that is a Debian host. Found, waited for, reached, rebooted and removed.

Touches containers and volumes with our two labels, and nothing else in the engine. `lab.create` makes one.
"""

import logging
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import docker, network
from lab.errors import LabError, NoSuchLab
from lab.settings import (
    BOOT_TIMEOUT_S,
    DEFAULT_NAME,
    LABEL_DEBIAN,
    LABEL_NAME,
    LABEL_ROOT,
    STATE_DIR,
    container_name,
    root_id,
)
from lab.state import State, locked

log = logging.getLogger("lab")

FAILURE_REPORT = """
echo "== systemctl is-system-running: $(systemctl is-system-running)"
failed=$(systemctl --failed --no-legend --plain | cut -d' ' -f1)
for unit in $failed; do
    echo "== failed: $unit"; journalctl --since "$1" --unit "$unit" --no-pager --lines 30
done
echo "== warnings since $1"
journalctl --since "$1" --priority warning --no-pager --lines 100
if command -v docker >/dev/null; then echo "== containers in the lab"; docker ps --all; fi
"""
AUTHORIZE = """
umask 077; mkdir -p /root/.ssh
grep -qsxF "$1" /root/.ssh/authorized_keys || echo "$1" >>/root/.ssh/authorized_keys
"""
# With cgroup v1 a frozen process cannot be killed, so a lab in which one container is paused could not be removed.
THAW = """
[ ! -d /sys/fs/cgroup/freezer ] ||
    find /sys/fs/cgroup/freezer -name freezer.state -exec sh -c 'echo THAWED >"$1"' sh {} ';' 2>/dev/null
"""
FAILED_UNITS = "systemctl --failed --no-legend --plain | cut -d' ' -f1"
TERMINAL_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1bP[^\x1b]*\x1b\\|\r")


@dataclass(frozen=True)
class Lab:
    """One throwaway host, as it was when asked for by `up`, `find`, `get` or `labs`."""

    name: str
    debian: str
    """trixie or bookworm."""
    image: str
    running: bool
    address: str
    """IPv4 address, another one after each restart unless it is fixed; empty while the lab is stopped."""
    fixed_address: str
    """The address that it keeps, empty where the engine chooses one."""
    published: dict[str, str]
    """What the workstation passes on: `443/tcp` to `127.0.0.1:8443`, say."""

    @property
    def state(self) -> State:
        return State(self.name)

    @property
    def container(self) -> str:
        """Name of the container."""
        return container_name(self.name)

    @property
    def ssh_config(self) -> Path:
        """An OpenSSH configuration in which the host `name` is this lab. Written by `up`, `find` and `restart`."""
        return self.state.ssh_config

    def ssh_command(self, *command: str) -> list[str]:
        """Return the words that run `command`, or a shell, as root on the lab."""
        return ["ssh", "-F", str(self.ssh_config), self.name, *command]

    def ssh(self, command: str, *, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root on the lab. With `check`, raise LabError when it fails."""
        return docker.run(self.ssh_command("--", command), check=check, stdin=stdin)

    def push_command(self, source: Path, target: str) -> list[str]:
        """Return the words that copy `source`, a file or a directory, to `target` on the lab."""
        return ["scp", "-q", "-r", "-p", "-F", str(self.ssh_config), str(source), f"{self.name}:{target}"]

    def push(self, source: Path, target: str) -> None:
        """Copy `source`, a file or a directory, to `target` on the lab, as scp does it. Raises LabError."""
        docker.run(self.push_command(source, target))

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
        return self.wait()

    def wait(self) -> "Lab":
        """Return the lab, as it is then, once it has booted and sshd lets us in; raise LabError with its report."""
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        state = self._booted(deadline)
        docker.docker("exec", self.container, "sh", "-c", AUTHORIZE, "sh", self.state.public_key().strip())
        lab = get(self.name).connect()
        while (answer := lab.ssh("true", check=False)).returncode != 0:
            if time.monotonic() > deadline:
                raise LabError(
                    f"sshd of lab {self.name} at {lab.address} does not let us in:\n{docker.tail(answer.stderr)}\n"
                    f"{docker.tail(lab.report(), 40)}",
                    "use an engine of this very machine; in a virtual machine, or elsewhere, a lab is out of reach",
                )
            time.sleep(0.1)
        if state == "degraded":
            units = ", ".join(lab.ssh(FAILED_UNITS).stdout.split())
            log.warning("%s is up, but units have failed: %s; see: python3 -m lab logs %s", self.name, units, self.name)
        return lab

    def _booted(self, deadline: float) -> str:
        """Return systemd's word for a finished boot, running or degraded."""
        while True:
            asked = docker.run(["docker", "exec", self.container, "systemctl", "is-system-running"], check=False)
            state = asked.stdout.strip()
            if state in ("running", "degraded"):
                return state
            if time.monotonic() > deadline:
                raise LabError(
                    f"lab {self.name} has not booted after {BOOT_TIMEOUT_S} s (state {state!r}):\n{self.report()}",
                    f"it is still there for a look: docker exec -it {self.container} bash",
                )
            if not get(self.name).running:
                raise LabError(f"lab {self.name} stopped while it booted:\n{self.report()}")
            time.sleep(0.1)

    def connect(self) -> "Lab":
        """Write the files that ssh and pyinfra need, with the lab's address and host keys; returns the lab."""
        show_keys = ["docker", "exec", self.container, "sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub"]
        self.state.public_key()
        self.state.write(self.address, docker.run(show_keys).stdout)
        return self

    def report(self) -> str:
        """Return what a person needs when something failed: the console, failed units, warnings, containers."""
        console = docker.run(["docker", "logs", "--tail", "40", self.container], check=False)
        lines = TERMINAL_CODES.sub("", console.stdout + console.stderr).splitlines()
        text = "\n".join(["== console", *filter(str.strip, lines), ""])
        started = docker.docker("inspect", "--format", "{{.State.StartedAt}}", self.container)
        since = started[:19].replace("T", " ") + " UTC"
        inside = docker.run(["docker", "exec", self.container, "sh", "-c", FAILURE_REPORT, "sh", since], check=False)
        return (text + inside.stdout + inside.stderr).rstrip()

    def down(self) -> None:
        """Remove the container, its volumes, and what the workstation remembers of it."""
        down(self.name)

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


def labs() -> list[Lab]:
    """Return the labs of this working copy, by name. Raises NoEngine."""
    found = docker.inspect_containers(LABEL_NAME, f"{LABEL_ROOT}={root_id()}")
    return sorted((from_inspect(container) for container in found), key=lambda lab: lab.name)


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
    return lab.connect()


def thaw(container: str) -> None:
    """Let what is paused in a lab run again. One that is stopped has nothing that is paused."""
    docker.run(["docker", "exec", container, "sh", "-c", THAW], check=False)


def down(name: str = DEFAULT_NAME) -> None:
    """Remove lab `name`, or what is left of it where its container is gone already; raise NoSuchLab."""
    labels = (f"{LABEL_NAME}={name}", f"{LABEL_ROOT}={root_id()}")
    there = docker.inspect_containers(*labels)
    volumes = docker.volumes(*labels)
    # A name that can be no lab's must not lead out of the state directory: only what carries it is ours.
    state = State(name)
    if not there and not volumes and name not in state.remembered():
        get(name)  # raises NoSuchLab with the names that there are
    state.disconnect()
    if there:
        thaw(container_name(name))
        docker.docker("rm", "--force", "--volumes", container_name(name))
    for joined in {name for container in there for name in container["NetworkSettings"]["Networks"]} - {network.BRIDGE}:
        with locked(STATE_DIR):
            network.drop(joined)
    left = docker.volumes(*labels)
    if left:
        docker.docker("volume", "rm", *left)
    state.remove()


def pyinfra_data(name: str = DEFAULT_NAME) -> dict[str, Any]:
    """Return the connection data of lab `name` for pyinfra; raise NoSuchLab."""
    return find(name).pyinfra_data()


def from_inspect(container: dict[str, Any]) -> Lab:
    """Read one entry of `docker inspect`."""
    labels = container["Config"]["Labels"]
    settings = container["NetworkSettings"]
    (joined,) = settings["Networks"].values()
    published = {
        inside: f"{binding['HostIp']}:{binding['HostPort']}"
        for inside, bindings in (settings.get("Ports") or {}).items()
        for binding in bindings or []
    }
    running = bool(container["State"]["Running"])
    return Lab(
        name=labels[LABEL_NAME],
        debian=labels[LABEL_DEBIAN],
        image=container["Config"]["Image"],
        running=running,
        address=joined["IPAddress"] if running else "",
        fixed_address=(joined.get("IPAMConfig") or {}).get("IPv4Address", ""),
        published=published,
    )
