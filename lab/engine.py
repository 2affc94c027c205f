"""A Docker engine for the labs: the one that answers, else Debian's `docker.io`, installed and started.

`plan` decides, as a value. `ensure` performs it: apt-get, systemctl or service, or a `dockerd` of its own. Only root on
Debian or Ubuntu changes anything; everyone else is told the one line that they need.
"""

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.docker import run, tail
from lab.errors import LabError, NoEngine
from lab.settings import STATE_DIR
from lab.state import locked

log = logging.getLogger("lab")

ANSWER_TIMEOUT_S = 30
ASK_TIMEOUT_S = 20
DOCKERD_LOG = Path("/var/log/dockerd.log")
SYSTEMD = "systemd"
INIT_SCRIPT = "init script"
DAEMON = "dockerd"


@dataclass(frozen=True)
class Workstation:
    """What decides how to come by an engine."""

    answers: bool
    complaint: str = ""
    """What `docker info` said on stderr."""
    elsewhere: str = ""
    """The engine that the user chose by DOCKER_HOST or DOCKER_CONTEXT, such as `DOCKER_HOST=ssh://build`."""
    root: bool = False
    debian: bool = False
    """Debian or a descendant with apt-get."""
    systemd: bool = False
    """systemd is PID 1."""
    init_script: bool = False
    dockerd: bool = False


@dataclass(frozen=True)
class Plan:
    """What to do: install Debian's engine or not, then the ways to start it, in the order to try them."""

    install: bool
    start: tuple[str, ...]


def plan(here: Workstation) -> Plan:
    """Return what it takes to have an engine; raise NoEngine with the user's own next step where we may do nothing."""
    if here.answers:
        return Plan(install=False, start=())
    if here.elsewhere:
        raise NoEngine(
            f"the Docker engine of {here.elsewhere} does not answer:\n{tail(here.complaint, lines=2)}",
            f"start it, or use this machine's own: unset {here.elsewhere.partition('=')[0]}",
        )
    if "permission denied" in here.complaint.lower():
        raise NoEngine(
            "a Docker engine runs here, but this user may not use it",
            "run: sudo usermod -aG docker $USER   then log in again (or run this with sudo)",
        )
    if not here.root and here.dockerd:
        raise NoEngine("the Docker engine of this machine does not run", f"run: sudo {_start_hint(here)}")
    if not here.root and here.debian:
        raise NoEngine("no Docker engine is installed here", "run: sudo apt-get install --yes docker.io iptables")
    if not here.debian and not here.dockerd:
        raise NoEngine(
            "there is no Docker engine on this machine",
            "install one as https://docs.docker.com/engine/install/ says, until `docker info` answers",
        )
    if here.systemd:
        return Plan(install=not here.dockerd, start=(SYSTEMD,))
    # The script comes with the package. It can refuse: it raises limits, which takes a capability.
    script = here.init_script or not here.dockerd
    return Plan(install=not here.dockerd, start=(INIT_SCRIPT, DAEMON) if script else (DAEMON,))


def _start_hint(here: Workstation) -> str:
    return "systemctl enable --now docker" if here.systemd else "service docker start"


def on_debian(os_release: Path = Path("/etc/os-release")) -> bool:
    """Say whether this is Debian or one of its descendants, and apt-get is there."""
    try:
        lines = os_release.read_text().splitlines()
    except OSError:
        return False
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    family = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".replace('"', "").split()
    return "debian" in family and shutil.which("apt-get") is not None


def chosen(environ: Mapping[str, str]) -> str:
    """Return the variable and value by which the user chose another engine than this machine's usual one, or ""."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        value = environ.get(name, "")
        if value and value not in ("default", "unix:///var/run/docker.sock", "unix:///run/docker.sock"):
            return f"{name}={value}"
    return ""


def look() -> Workstation:
    """Ask this machine, changing nothing."""
    answers, complaint = _ask()
    return Workstation(
        answers=answers,
        complaint=complaint,
        elsewhere=chosen(os.environ),
        root=os.geteuid() == 0,
        debian=on_debian(),
        systemd=Path("/run/systemd/system").is_dir(),
        init_script=Path("/etc/init.d/docker").exists(),
        dockerd=shutil.which("dockerd") is not None,
    )


def ensure() -> None:
    """Return once a Docker engine answers; raise NoEngine where it takes someone else to get there.

    Several may ask at once: the first one starts it, the others find it.
    """
    here = look()
    plan(here)
    if not here.answers:
        with locked(STATE_DIR):
            _start_first(look())


def _start_first(here: Workstation) -> None:
    todo = plan(here)
    if here.answers:
        return
    if todo.install:
        log.info("no Docker engine answers here: installing Debian's docker.io with apt-get")
        apt_install(["docker.io", "iptables"])
        install_missing({"docker": "docker-cli"})
    for way in todo.start:
        log.info("starting the Docker engine (%s)", way)
        if _start(way):
            return
    raise NoEngine("the Docker engine does not start", f"look at: {DOCKERD_LOG} or `journalctl -u docker`")


def _start(way: str) -> bool:
    if way == DAEMON:
        start_daemon(["dockerd"], DOCKERD_LOG)
        return True
    command = ["systemctl", "enable", "--now", "docker"] if way == SYSTEMD else ["service", "docker", "start"]
    done = run(command, check=False)
    if done.returncode == 0 and wait_for_answer(10 if way == INIT_SCRIPT else ANSWER_TIMEOUT_S):
        return True
    log.info("that did not work:\n%s", tail(done.stderr or done.stdout, lines=3))
    return False


def start_daemon(command: Sequence[str], logfile: Path, host: str | None = None) -> int:
    """Start `command` (dockerd) detached from this process, and return its process id once it answers.

    Its output goes to `logfile`. `host` is where it listens, when not at the usual place.
    """
    with logfile.open("ab") as sink:
        daemon = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True, cwd="/"
        )
    if not wait_for_answer(ANSWER_TIMEOUT_S, host, daemon):
        said = tail(logfile.read_text(errors="replace"), lines=5)
        raise NoEngine(f"{command[0]} does not answer after {ANSWER_TIMEOUT_S} s:\n{said}", f"its log is {logfile}")
    log.info("%s runs as process %d and stays; its log is %s", command[0], daemon.pid, logfile)
    return daemon.pid


def wait_for_answer(timeout_s: float, host: str | None = None, daemon: subprocess.Popen[bytes] | None = None) -> bool:
    """Say whether an engine answers within `timeout_s`; give up early when `daemon` has ended."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if _ask(host)[0]:
            return True
        if daemon is not None and daemon.poll() is not None:
            return False
        time.sleep(0.2)
    return False


def _ask(host: str | None = None) -> tuple[bool, str]:
    """Say whether `docker info` reaches an engine, and what it complained of; one that hangs does not answer."""
    where = ["--host", host] if host else []
    try:
        done = run(["docker", *where, "info", "--format", "{{.ServerVersion}}"], check=False, timeout_s=ASK_TIMEOUT_S)
    except LabError as error:
        return False, str(error)
    return done.returncode == 0 and bool(done.stdout.strip()), done.stderr


def install_missing(packages: Mapping[str, str]) -> None:
    """Install the Debian package of every program in `packages` (program: package) that is not there.

    Raises LabError with the line to type where this user cannot install it.
    """
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    if not missing:
        return
    if os.geteuid() != 0 or not on_debian():
        raise LabError(f"missing here: {' '.join(missing)}", f"run: sudo apt-get install --yes {' '.join(missing)}")
    apt_install(missing)


def apt_install(packages: Sequence[str]) -> None:
    """Install Debian packages, fetching the package lists first."""
    log.info("apt-get install %s", " ".join(packages))
    run(["apt-get", "update"])
    run(
        ["apt-get", "install", "--yes", "--no-install-recommends", *packages],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
