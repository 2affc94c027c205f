"""What the workstation remembers of a lab, below `.lab/NAME/`: SSH key, known host keys, SSH configuration.

Only files; the container itself carries everything else in its labels.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.docker import run
from lab.settings import PREFIX, STATE_DIR, root_id

SOCKET_PATH_MAX = 90
"""sun_path holds 108 bytes with the final zero, and ssh appends 17 characters while it makes the socket."""


def control_path(directory: Path, name: str, temporary: Path = Path("/tmp")) -> Path:
    """Return where SSH's shared connection listens: beside the key, or below /tmp where that path is too long."""
    path = directory / "mux"
    if len(str(path).encode()) <= SOCKET_PATH_MAX:
        return path
    return temporary / f"{PREFIX}-{root_id(directory.parent)}" / name


def ssh_config(name: str, address: str, directory: Path) -> str:
    """Return the text of an OpenSSH configuration in which `ssh NAME` is root on the lab."""
    return "\n".join(
        [
            f"Host {name}",
            f"  HostName {address}",
            "  User root",
            f'  IdentityFile "{directory}/key"',
            "  IdentitiesOnly yes",
            f'  UserKnownHostsFile "{directory}/known_hosts"',
            "  StrictHostKeyChecking yes",
            # The address changes at a restart, the key does not.
            f"  HostKeyAlias {name}",
            "  ControlMaster auto",
            f'  ControlPath "{control_path(directory, name)}"',
            "  ControlPersist 60",
            "  ConnectTimeout 5",
            "  ServerAliveInterval 15",
            "  LogLevel ERROR",
            "",
        ]
    )


def known_hosts(name: str, address: str, public_keys: str) -> str:
    """Return the lab's host keys under its name (for OpenSSH) and its address (for paramiko, which has no alias)."""
    keys = [line.split()[:2] for line in public_keys.splitlines() if line.strip()]
    return "".join(f"{name},{address} {kind} {key}\n" for kind, key in keys)


@dataclass(frozen=True)
class State:
    """The directory of one lab."""

    name: str
    base: Path = STATE_DIR

    @property
    def directory(self) -> Path:
        return self.base / self.name

    @property
    def key(self) -> Path:
        return self.directory / "key"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        return self.directory / "ssh_config"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let two programs that make the same lab wait for each other."""
        with locked(self.directory):
            yield

    def remembered(self) -> list[str]:
        """Return the names of all labs that have a directory here."""
        return sorted(path.name for path in self.base.iterdir() if path.is_dir()) if self.base.is_dir() else []

    def public_key(self) -> str:
        """Return the line for authorized_keys, after making the key pair when there is none or half of one."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.key.exists() or not self.key.with_suffix(".pub").exists():
            self.key.unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {self.name}", "-f", str(self.key)])
        return self.key.with_suffix(".pub").read_text()

    def resolver(self, text: str) -> Path:
        """Write the lab's resolv.conf, which is mounted in it, and return where it is."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / "resolv.conf"
        path.write_text(text)
        path.chmod(0o644)
        return path

    def write(self, address: str, host_keys: str) -> None:
        """Write what ssh and pyinfra need to reach the lab at `address`, unless it stands there already."""
        control = control_path(self.directory, self.name)
        control.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = ssh_config(self.name, address, self.directory)
        hosts = known_hosts(self.name, address, host_keys)
        if _text(self.ssh_config) == config and _text(self.known_hosts) == hosts:
            return
        self.disconnect()
        self.known_hosts.write_text(hosts)
        self.ssh_config.write_text(config)

    def disconnect(self) -> None:
        """End SSH's shared connection, which does not outlive a restart of the lab."""
        if self.ssh_config.exists():
            run(["ssh", "-F", str(self.ssh_config), "-O", "exit", self.name], check=False)

    def remove(self) -> None:
        """Forget the lab, and with the last one, that there were any."""
        self.disconnect()
        shutil.rmtree(self.directory, ignore_errors=True)
        for parent in {self.base, control_path(self.directory, self.name).parent}:
            with contextlib.suppress(OSError):  # another lab still lives there
                parent.rmdir()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory itself as a lock, so that no lock file stays behind; made when it is missing."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
