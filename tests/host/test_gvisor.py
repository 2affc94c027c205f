"""Templates with `runtime = "runsc"`: a kernel of their own, and what goes on working with it. A host may have none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from deploys.docker import daemon_options, gvisor
from deploys.settings import RUNSC
from tests.host.machine import Machine, Sandbox, eventually


def templates(machine: Machine) -> list[str]:
    return [name for name, template in machine.settings.templates.items() if template.runtime == RUNSC]


def sandboxes(machine: Machine, options: str = "") -> Iterator[Sandbox]:
    """One of the first template that runs in gVisor, on a host that has such."""
    for name in templates(machine)[:1]:
        with machine.sandbox(f"--template {name} --cold {options}") as sandbox:
            yield sandbox


def test_the_engine_knows_it_if_a_template_asks_for_it(machine: Machine) -> None:
    runtimes = json.loads(machine.out("docker info --format '{{json .Runtimes}}'"))
    assert (RUNSC in runtimes) == (RUNSC in daemon_options(machine.settings).get("runtimes", {}))
    assert machine.host.package(RUNSC).is_installed or not gvisor(machine.settings)


def test_the_kernel_is_gvisors(machine: Machine) -> None:
    for sandbox in sandboxes(machine):
        assert sandbox.inspect()["HostConfig"]["Runtime"] == RUNSC
        assert "gVisor" in sandbox.out("dmesg")
        assert sandbox.out("uname -r") != machine.out("uname -r")
        assert sandbox.out("cat /proc/version") != machine.out("cat /proc/version")


def test_doctor_proves_it(machine: Machine) -> None:
    found = machine.findings("")
    assert ("probe-gvisor" in found) == bool(templates(machine))
    for name in templates(machine)[:1]:
        assert found["probe-gvisor"]["level"] == "ok" and name in found["probe-gvisor"]["seen"]


def test_disk_url_pause_and_restart(machine: Machine) -> None:
    """Servers on 127.0.0.1 are reached, names are found; what is written stays over a stop, but for /tmp."""
    for sandbox in sandboxes(machine):
        sandbox.run("echo kept | tee /code/file /home/user/file >/tmp/file")
        sandbox.serve("python3 -m http.server 8000 --bind 127.0.0.1")
        assert "file" in machine.request("GET", f"{sandbox.url()}/").text
        machine.run(f"docker-sandbox pause {sandbox.id}")
        assert machine.info(sandbox.id)["state"] == "paused"
        machine.run(f"docker-sandbox resume {sandbox.id}")
        assert "file" in machine.request("GET", f"{sandbox.url()}/").text
        machine.run(f"docker-sandbox stop {sandbox.id} && docker-sandbox start {sandbox.id}")
        assert sandbox.out("cat /code/file /home/user/file; ls /tmp") == "kept\nkept"


def test_root_is_by_option_and_not_by_sudo(machine: Machine) -> None:
    """gVisor runs no set-uid program with the rights of its owner."""
    for sandbox in sandboxes(machine):
        done = sandbox.run("sudo true", check=False)
        assert done.returncode != 0 and "no new privileges" in done.stderr
        assert sandbox.out("useradd other && su other -c 'id -un'", "--user root") == "other"


def test_ports_below_1024_are_open_to_all(machine: Machine) -> None:
    """By a capability here, by a sysctl elsewhere."""
    for sandbox in sandboxes(machine):
        for user, port in (("root", 80), ("user", 443)):
            done = sandbox.run(f"timeout 2 nc -lN 127.0.0.1 {port}", f"--user {user}", check=False)
            assert done.returncode == 124, (user, done.stderr)


def test_memory_is_limited_for_the_whole_of_it(machine: Machine) -> None:
    """The kernel that is out of memory is the sandbox's own: all of it stops, and is started again by the daemon."""
    for sandbox in sandboxes(machine):
        limit_mb = machine.settings.sandbox_memory_mb
        sandbox.run("echo kept >/home/user/file")
        before = sandbox.inspect()["State"]["StartedAt"]
        fill = f"python3 -c 'b = bytearray(); [b.extend(b\"x\" * 1048576) for _ in range({limit_mb + 200})]'"
        assert sandbox.run(fill, check=False).returncode != 0
        read = partial(sandbox.run, "cat /home/user/file", check=False)
        eventually(read, lambda done: done.stdout == "kept\n", 90, "answer after a new start")
        assert sandbox.inspect()["State"]["StartedAt"] != before


def test_rules_of_its_network_hold(machine: Machine) -> None:
    for sandbox in sandboxes(machine, "--network none"):
        assert sandbox.run("timeout 20 getent hosts deb.debian.org", check=False).returncode != 0
        gateway = next(iter(sandbox.inspect()["NetworkSettings"]["Networks"].values()))["Gateway"]
        reach = f"timeout 20 bash -c '</dev/tcp/{gateway}/22'"
        assert sandbox.run(reach, check=False).returncode != 0


def test_what_it_does_on_its_disks_becomes_a_template(machine: Machine) -> None:
    for sandbox in sandboxes(machine):
        sandbox.run("echo code >/code/file; echo home >/home/user/file")
        machine.run(f"docker-sandbox snapshot {sandbox.id} of-gvisor")
        try:
            with machine.sandbox("--template of-gvisor --cold") as copy:
                assert copy.out("cat /code/file /home/user/file; dmesg | grep -c 'Starting gVisor'") == "code\nhome\n1"
        finally:
            machine.run("docker-sandbox template rm of-gvisor", check=False)
