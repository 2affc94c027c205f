"""What a bare Debian host answers to the facts that a deploy asks, fact by fact, as the raw lines of their commands.

Strict: what is not written down here is refused, so that a new question of a deploy gets an answer that somebody
thought about. An answer holds for the moment of its question: what a package or an earlier step has just made is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

# The preflight's summary of a small server; a scenario may differ key by key.
SUMMARY = {
    "uid": "0",
    "sudo": "yes",
    "os": "debian",
    "suite": "trixie",
    "machine": "x86_64",
    "systemd": "yes",
    "free_mb": "90000",
    "memory_mb": "4000",
}

PACKAGES = [
    "apt",
    "bash",
    "cron",
    "debian-archive-keyring",
    "iproute2",
    "logrotate",
    "openssh-server",
    "systemd",
    "systemd-timesyncd",
    "util-linux",
]

DIRECTORIES = [
    "/etc/apparmor.d",
    "/etc/apt/apt.conf.d",
    "/etc/apt/keyrings",
    "/etc/apt/sources.list.d",
    "/etc/cron.d",
    "/etc/haproxy",
    "/etc/logrotate.d",
    "/etc/modules-load.d",
    "/etc/ssh/sshd_config.d",
    "/etc/sysctl.d",
    "/etc/systemd/system",
    "/root",
    "/usr/local/bin",
]
FILES = {"/etc/haproxy/haproxy.cfg"}

# Debian starts and enables what a package brings; our own units exist and have never run.
PACKAGED_UNITS = {"cron.service", "docker.service", "haproxy.service", "systemd-journald.service"}

# Secrets: they may be seen nowhere.
JOIN_TOKEN = "SWMTKN-SECRETjointoken"
AUTHORITY_KEY = "U0VDUkVUYXV0aG9yaXR5"

LOGINS = {"root": "root:root:/root", "ada": "ada:users:/home/ada"}

# Shell commands that only read: a pattern of the whole command, and what it prints.
OUTPUTS: list[tuple[str, list[str]]] = [
    (r"true", []),
    (r'\[ "\$\(sysctl -n .*', ["fs.inotify.max_user_instances"]),
    (r"\[ -e \S+/nf_conntrack_max \] .*", ["absent"]),
    # sshd: who asks, what it would do with our lines, and that it reads them.
    (r"id -un", ["root"]),
    (r".* sshd -T .*|.*/sshd -T .*", ["pubkeyauthentication yes", "permitrootlogin without-password"]),
    (r"grep -iE .* /etc/ssh/sshd_config", ["Include /etc/ssh/sshd_config.d/*.conf"]),
    (r"systemctl is-active --quiet ssh\.service .*", ["unread"]),
    # A kernel with audit, and no rules of ours.
    (r"\[ -e /proc/self/loginuid \] .*", ["yes"]),
    (r"augenrules --check .*", ["augenrules: Rules have changed and should be updated"]),
    (r'\[ "\$\(stat -c "%U:%G %a" /run/docker\.sock\)" .*', []),
    (r"ls /etc/\S+", []),
    (r"ls /etc/\S+-fleet\.service .*", []),
    (r"ls \S+/fence /etc/\S+-fence@\.service", []),
    (r"systemctl show '\S+-fence@\*\.service' .*", []),
    (r"dpkg-query .* systemd-timesyncd .*", []),
    (r"dpkg-query .* docker\.io .*", []),
    (r"find /usr/local/share/ca-certificates/\S+ -type f.*", []),
    (r"find /usr/local/share/ca-certificates/\S+ -newer .*", ["/usr/local/share/ca-certificates"]),
    (r"\S+/internal-certificate --check", ["no authority", "no certificate"]),
    (r"find /etc/traefik/certs -name wildcard\.pem -newer .*", []),
    (r"find /etc/traefik/secrets -type f.*", []),
    (r"\S+/bin/python -I -m sandboxd\.issue \S+ --check", ["nothing is served: [Errno 111] Connection refused"]),
    (r"\S+/fleet-certificate --check", ["another authority"]),
    # The first manager has noted what it has offered, by the time that the others ask.
    (r"grep -qxF '\S+ swarm-manager' /etc/hosts .*", ["missing"]),
    (r"find \S+/offered .*", []),
    (r"\[ -s \S+/offered/\S+ \] .*", ["missing"]),
    (r"cat \S+/offered/\S+", [f"sha256:{'0123456789abcdef' * 4}"]),
    (r"ls -A \S+/build", []),
    (r"haproxy -c -q .*", []),
    (r"started=.* find /etc/haproxy/haproxy.cfg .*", ["/etc/haproxy/haproxy.cfg"]),
    (r"id -nG \S+ .*", ["no"]),
    (r"\[ -s \S+/(token_key|link_key|metrics_token|console_key) \] \|\| echo missing", ["missing"]),
    (r"mountpoint -q \S+ && true <\S+ && \[ -s \S+/sandbox-volumes.id \] \|\| echo missing", ["missing"]),
    (r"\[ \S+/apparmor-loaded -nt .*", ["load"]),
    (r"docker --host unix://\S+ image inspect .*", ["missing"]),
    (r"docker --host unix://\S+ network inspect .*", ["missing"]),
    # By the time that it is asked, the Swarm has begun.
    (r"docker --host unix://\S+ network ls .*", ["1x2y3z"]),
    (r"readlink \S+/(venv|console) .*", []),
    (r"\[ -d \S+/good \] .*", []),
    (r"id -u \S+ >/dev/null .*", ["missing"]),
    (r"sha256sum <\S+ .*", []),
    (r"(/\S+/)?docker-sandbox(-node)? routes status .*", []),
    # What `make destroy` looks for.
    (r"findmnt .*", []),
    (r"\{ ip -4 -oneline address show to .*", []),
    (r"ip -4 -oneline address show dev lo .*", []),
    (r"nft list .*", []),
    (r"ip -4 rule show .*", []),
    (r"(systemctl cat|ls -d|getent group|id -u) \S+.*", []),
    (r"docker (ps|container ls|network ls|volume ls) .*", []),
    (r"\{ docker ps .*", []),
    (r"command -v dockerd .*", []),
    (r"getent passwd root .*", ["/root"]),
    (r"getent passwd \S+ .*", []),
]


class Unregistered(Exception):
    """A fact to which this file has no answer."""

    def __init__(self, fact: str, arguments: Mapping[str, Any]) -> None:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        super().__init__(f"tests/plan/bare.py does not say what a bare host answers to {fact}({given}); add it there")


def answer(
    fact: str,
    arguments: Mapping[str, Any],
    summary: Mapping[str, str],
    directories: Collection[str] = (),
    deployed: bool = False,
) -> list[str]:
    """The output lines of a fact's command on a bare host. Raises Unregistered.

    `summary` replaces values of SUMMARY; `directories` exist beside DIRECTORIES; on a host that is `deployed` a shell
    command prints something, whatever it asks.
    """
    if fact in ("files.Directory", "files.File") and arguments["path"] in directories:
        return _stat("d", "rwxr-xr-x", arguments["path"])
    if fact == "deploys.facts.Summary":
        return _summary(summary)
    if fact == "deploys.swarmfacts.State":
        return [json.dumps(_swarm(summary))]
    if fact == "deploys.swarmfacts.Nodes":
        return [summary.get("nodes", "[]")]
    if fact == "deploys.turns.Turn":
        return [summary["turn"]] if "turn" in summary else []
    if fact == "deploys.facts.Output" and "taken" in summary and "address show to" in arguments["command_line"]:
        return [summary["taken"]]
    if fact == "deploys.facts.Output" and re.match(r"cat \S+/ca/ca\.pem ", arguments["command_line"]):
        return summary["authority"].splitlines() if "authority" in summary else []
    if fact == "deploys.facts.Output" and re.fullmatch(r"ls -d \S+-swarmd\.service", arguments["command_line"]):
        return [summary["fleet_engine"]] if "fleet_engine" in summary else []
    if fact == "deploys.facts.Output":
        if deployed and not arguments["command_line"].startswith("getent passwd"):
            return ["yes"]
        for pattern, lines in OUTPUTS:
            if re.fullmatch(pattern, arguments["command_line"], re.DOTALL):
                return lines
        raise Unregistered(fact, arguments)
    if fact not in ANSWERS:
        raise Unregistered(fact, arguments)
    return ANSWERS[fact](**arguments)


def _swarm(summary: Mapping[str, str]) -> dict[str, Any]:
    """What an engine says of its Swarm; `swarm` in the summary is the host's role in one, `node_id` its id there."""
    role = summary.get("swarm", "")
    if not role:
        state = summary.get("swarm_state", "inactive")
        return {"NodeID": "", "LocalNodeState": state, "ControlAvailable": False, "Error": ""}
    manages = role == "manager"
    known: dict[str, Any] = {
        "NodeID": summary.get("node_id", "n1"),
        "LocalNodeState": "active",
        "ControlAvailable": manages,
    }
    spec = {"Orchestration": {"TaskHistoryRetentionLimit": 5}, "Raft": {"ElectionTick": 10, "HeartbeatTick": 1}}
    return known | ({"Cluster": {"Version": {"Index": 11}, "Spec": spec}} if manages else {})


def _summary(changed: Mapping[str, str]) -> list[str]:
    values = {**SUMMARY, **changed}
    ports = [f"port 0.0.0.0:{port}" for port in [values.pop("ports", "")] if port]
    uplinks = [f"uplink {name}" for name in values.pop("uplinks", "eth0").split()]
    return [f"{key} {value}" for key, value in values.items() if value] + ports + uplinks


def _stat(kind: str, mode: str, path: str) -> list[str]:
    return [f"user=root group=root mode={kind}{mode} atime=1 mtime=1 ctime=1 size=1 '{path}'"]


def _path(path: str) -> list[str]:
    """`stat` of a path, whatever it is; nothing when it does not exist."""
    if path in DIRECTORIES:
        return _stat("d", "rwxr-xr-x", path)
    return _stat("-", "rw-r--r--", path) if path in FILES else []


def _unit(unit: str, files: tuple[str, ...]) -> list[str]:
    active, enabled = ("active", "enabled") if unit in PACKAGED_UNITS else ("inactive", "disabled")
    times = ["ActiveEnterTimestampMonotonic=100000000", "Now=1000", "Uptime=900"]
    return [f"ActiveState={active}", f"UnitFileState={enabled}", "NeedDaemonReload=no", *times]


def _systemd(key: str, value: str) -> Callable[..., list[str]]:
    def lines(services: list[str], **_: object) -> list[str]:
        found = []
        for service in services:
            found += [f"Id={service}", f"{key}={value if service in PACKAGED_UNITS else ''}", ""]
        return found

    return lines


ANSWERS: dict[str, Callable[..., list[str]]] = {
    "deb.DebPackages": lambda: [f"ii  {name}  1.0  amd64  something" for name in PACKAGES],
    "deploys.facts.Accounts": lambda logins: [LOGINS[name] for name in logins if name in LOGINS],
    "deploys.facts.Container": lambda container: [],
    "deploys.facts.ImageTags": lambda: [],
    "deploys.facts.Unit": _unit,
    "files.Directory": _path,
    "files.File": _path,
    "files.Link": _path,
    "files.FileContents": lambda path: ["as the package has it"],
    "files.Sha1File": lambda path: ["0" * 40 + f"  {path}"],
    "server.Groups": lambda: ["root:x:0:", "sudo:x:27:"],
    "server.Os": lambda: ["Linux"],
    "server.TmpDir": lambda: [""],
    "server.Which": lambda command: [f"/usr/bin/{command}"],
    "systemd.SystemdEnabled": _systemd("UnitFileState", "enabled"),
    "systemd.SystemdStatus": _systemd("SubState", "running"),
}
