"""What the preflight asks a host, and what it makes of the answers."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploys import facts, preflight
from deploys.facts import HostSummary
from deploys.loading import load

LINES = [
    "uid 1000",
    "sudo yes",
    "os debian",
    "suite trixie",
    "machine x86_64",
    "systemd yes",
    "free_mb 90000",
    "memory_mb 4000",
    "apparmor yes",
    'port 0.0.0.0:80 users:(("nginx",pid=7,fd=6))',
    'port [::]:443 users:(("traefik",pid=9,fd=3))',
    "uplink eth0",
]


def test_summary() -> None:
    ports = {80: "nginx", 443: "traefik"}
    assert facts.Summary().process(LINES) == HostSummary(
        1000, True, "debian", "trixie", "x86_64", True, 90000, 4000, ports, ("eth0",), apparmor=True
    )


def test_a_silent_host_is_no_debian() -> None:
    """A command that printed nothing must not pass for a good host."""
    assert facts.Summary().process([]).os == ""


def test_the_command_works_in_a_plain_shell() -> None:
    """It runs here, on whatever this is, and gives what the preflight reads."""
    run = subprocess.run(["sh", "-c", facts.Summary().command()], capture_output=True, text=True, check=False)
    keys = {line.split()[0] for line in run.stdout.splitlines()}
    assert keys >= {"uid", "machine", "free_mb", "memory_mb"}
    assert facts.Summary().process(run.stdout.splitlines()).memory_mb > 0


def test_ports_are_looked_up_with_the_rights_to_see_their_owner(tmp_path: Path) -> None:
    """Only root sees the programs of others; a sudo user's second deploy would find a stranger on Traefik's ports."""
    stubs = {
        "sudo": '#!/bin/sh\nshift\nROOT=yes exec "$@"\n',
        "ss": '#!/bin/sh\necho LISTEN 0 0 0.0.0.0:443 0.0.0.0:* ${ROOT:+"users:((\\"traefik\\",pid=9,fd=3))"}\n',
    }
    for name, text in stubs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = ["sh", "-c", facts.Summary().command()]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert facts.Summary().process(run.stdout.splitlines()).busy_ports == {443: "traefik"}


def test_traefik_may_hold_its_ports(data: dict[str, Any]) -> None:
    summary = HostSummary(0, True, "debian", "bookworm", "aarch64", True, 8192, 2048, {80: "traefik", 443: "traefik"})
    assert preflight.problems(summary, load(data)) == []


def test_two_uplinks_need_the_loose_filter(data: dict[str, Any]) -> None:
    summary = HostSummary(0, True, "debian", "trixie", "x86_64", True, 8192, 2048, {}, ("eth0", "wg0"))
    (line,) = preflight.problems(summary, load(data))
    assert "eth0 and wg0" in line and line.endswith("use 2")
    data["sysctls"] = {**data["sysctls"], preflight.REVERSE_PATH: 2}
    assert preflight.problems(summary, load(data)) == []


def test_root_needs_no_sudo(data: dict[str, Any]) -> None:
    summary = HostSummary(0, False, "debian", "trixie", "x86_64", True, 8192, 2048, {})
    assert preflight.problems(summary, load(data)) == []


def test_gvisor_is_refused_where_nobody_has_tried_it(data: dict[str, Any]) -> None:
    data["templates"] = {"base": {}, "closed": {"like": "base", "runtime": "runsc"}}
    summary = HostSummary(0, True, "debian", "bookworm", "x86_64", True, 9000, 4000, {})
    (problem,) = preflight.problems(summary, load(data))
    assert problem.startswith("templates['closed']['runtime'] = 'runsc': gVisor of Debian 12")
    assert preflight.problems(replace(summary, suite="trixie"), load(data)) == []
