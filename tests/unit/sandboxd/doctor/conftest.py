"""A healthy host of doubles: commands with their output, files in a directory, an edge that serves a certificate."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandboxd.doctor.effects import Answer, Effects, Output
from sandboxd.doctor.readers import Readers
from tests.unit.sandboxd import kernel
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.fake_engine import START
from tests.unit.sandboxd.fake_haproxy import FakeHaproxy

DAY_S = 86400
ADDRESS = "203.0.113.7"
SIGN_IN = Answer(303, b"")
NOT_FOUND = Answer(502, b'{"sandboxId":"x","message":"The sandbox was not found","code":502}')
CERTIFICATE = """\
subject=CN=*.example.com
issuer=CN=acme internal CA
notBefore=Jan 10 08:00:00 2027 GMT
notAfter=Apr 15 08:00:00 2027 GMT
X509v3 Subject Alternative Name:\x20
    DNS:*.example.com, DNS:example.com
"""
UNIT = "ActiveState=active\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload=no\n"
AHOSTS = f"{ADDRESS}    STREAM doctor.example.com\n{ADDRESS}    DGRAM\n{ADDRESS}    RAW\n"
LINKS = json.dumps([{"ifname": "eth0", "addr_info": [{"family": "inet", "local": ADDRESS}]}, {"ifname": "down"}])
ROUTES = {  # of `ip route get`
    "-4": json.dumps([{"dst": "192.0.2.1", "gateway": "203.0.113.1", "dev": "eth0", "prefsrc": ADDRESS}]),
    "-6": json.dumps([{"dst": "2001:db8::1", "dev": "eth0", "prefsrc": "2a01:4f8::7"}]),
}
FILES = {
    "etc/resolv.conf": "# by hand\nnameserver 192.0.2.53\nnameserver ::1\noptions edns0\n",
    "proc/meminfo": "MemTotal:       16384000 kB\nMemFree:         1000 kB\nMemAvailable:   12288000 kB\n",
    "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n",
    "proc/sys/fs/inotify/max_user_instances": "8192\n",
    "proc/sys/fs/inotify/max_user_watches": "1048576\n",
    "proc/sys/fs/file-nr": "1804\t0\t9223372036854775807\n",
    "proc/sys/kernel/osrelease": "6.12.48+deb13-amd64\n",
    "sys/module/apparmor/parameters/enabled": "Y\n",
    "sys/kernel/security/apparmor/profiles": "docker-default (enforce)\n",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n',
    "etc/sysctl.d/60-acme-sandbox.conf": (
        "# Written by the deploy of acme-sandbox: a = b\nkernel.kptr_restrict = 2\nkernel.yama.ptrace_scope = 1\n"
    ),
    "proc/sys/kernel/kptr_restrict": "2\n",
    "proc/sys/kernel/yama/ptrace_scope": "1\n",
    "etc/acme-sandbox/release": "revision=v1.2-3-gabc\n",
    "etc/cron.d/acme-sandbox-cleanup": (
        "# Written by the deploy. Runs docker-sandbox cleanup.\nSHELL=/bin/sh\n"
        "0 * * * * root flock -n /run/lock/x timeout 1800 docker-sandbox cleanup --older-than 24h >>/var/log/x 2>&1\n"
    ),
    "var/log/acme-sandbox-cleanup.log": "removed 0; kept 0\n",
}
Look = Callable[[Readers], Any]


@dataclass
class FakeHost:
    """What a test changes. `outputs` is looked through for the first key that a command line begins with."""

    root: Path
    outputs: dict[str, Output] = field(
        default_factory=lambda: {
            "systemctl show cron.service --property=ActiveEnter": Output(0, "5000000\n"),
            "systemctl show ": Output(0, UNIT),
            "openssl x509 ": Output(0, CERTIFICATE),
            "stat -L -c %U %G %a /run/docker.sock": Output(0, "root root 600\n"),
            "getent group docker": Output(0, "docker:x:998:\n"),
            "getent passwd": Output(0, "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/sh\n"),
            "getent ahosts ": Output(0, AHOSTS),
            "ip -json address": Output(0, LINKS),
            "ip -json -4 route get ": Output(0, ROUTES["-4"]),
            "ip -json -6 route get ": Output(0, ROUTES["-6"]),
            "systemd-detect-virt ": Output(1, "none\n"),
            "timedatectl show ": Output(0, "yes\n"),
        }
    )
    served: dict[str, bytes | OSError] = field(default_factory=lambda: {"127.0.0.1": b"der", ADDRESS: b"der"})
    answers: dict[bool, Answer | OSError] = field(default_factory=lambda: {False: NOT_FOUND, True: NOT_FOUND})
    console: Answer | OSError = SIGN_IN
    free: int = 100 * 1024**3
    inodes_free: int = 900
    commands: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)

    def write(self, path: str, text: str, changed_at: float | None = None) -> None:
        kernel.write(self.root, {path: text})
        if changed_at is not None:
            os.utime(self.root / path, (changed_at, changed_at))

    def run(self, command: list[str], content: bytes = b"") -> Output:
        line = " ".join(command)
        self.commands.append(line)
        return next(output for beginning, output in self.outputs.items() if line.startswith(beginning))

    def certificate(self, address: tuple[str, int], name: str) -> bytes:
        self.hosts.append(name)
        found = self.served.get(address[0], ConnectionRefusedError("refused"))
        if isinstance(found, OSError):
            raise found
        return found

    def fetch(self, address: tuple[str, int], host: str, tls: bool) -> Answer:
        self.hosts.append(host)
        found = self.console if host.startswith("console.") else self.answers[tls]
        if isinstance(found, OSError):
            raise found
        return found

    def space(self, path: str) -> os.statvfs_result:
        blocks = self.free // 4096
        return os.statvfs_result(
            (4096, 4096, 50_000_000, blocks, blocks, 1000, self.inodes_free, self.inodes_free, 0, 255)
        )


@pytest.fixture
def host(tmp_path: Path, world: World) -> FakeHost:
    made = FakeHost(tmp_path)
    kernel.v2(tmp_path)
    for path, text in FILES.items():
        made.write(path, text, START - 600)
    made.write("etc/cron.d/acme-sandbox-cleanup", FILES["etc/cron.d/acme-sandbox-cleanup"], START - 30 * DAY_S)
    world.sandboxes.guard.mend()
    world.pool.enable()
    for _ in range(2):
        world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    return made


@pytest.fixture
def effects(host: FakeHost, world: World) -> Effects:
    return Effects(
        root=host.root,
        run=host.run,
        certificate=host.certificate,
        fetch=host.fetch,
        space=host.space,
        now=lambda: world.now[0],
        uptime=lambda: 90.0 * DAY_S,
    )


@pytest.fixture
def proxy(world: World) -> Iterator[FakeHaproxy]:
    """That of the egress proxy."""
    made = FakeHaproxy(world.config.proxy.admin_socket, world.config.proxy.names_map)
    yield made
    made.stop()


@pytest.fixture
def readers(effects: Effects, world: World, proxy: FakeHaproxy) -> Readers:
    return Readers(world.sandboxes, world.pool, world.health, "0.6.13", effects)
