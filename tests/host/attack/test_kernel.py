"""What a sandbox may ask of the kernel, as `user` and as the root that it becomes with sudo. See attempts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.host.api import with_key
from tests.host.attack.attempts import SOCKETS_OF_HOST
from tests.host.attack.seats import USERS, Seats, ran, seated, told
from tests.host.machine import Machine

REFUSALS = {"EPERM", "EACCES", "ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT"}
# What is not there, or has nothing in it, is refused as well; but only where a name is asked for.
REFUSALS_OF_FILES = REFUSALS | {"EROFS", "ENOENT", "empty"}
FILES = ("read ", "write ", "connect to ", "unmount ")
# What opens for root inside, and is his own: his own init's memory, and how soon it is to be killed.
OWN_OF_ROOT = {"memory of PID 1", "ptrace of PID 1", "write /proc/1/oom_score_adj"}
# Of gVisor's own kernel: there these open or are set, and the host's kernel knows nothing of it. What could come out
# of the sandbox by it, packets, is tried in test_network.
OWN_OF_GVISOR = {
    "a new namespace: cgroup",
    "a new namespace: user",
    "keyctl",
    "the kernel's log",
    "nice -20",
    "real time",
    "transparent sockets",
    "marked packets",
    "write /proc/sysrq-trigger",
    "write /proc/sys/net/ipv4/ip_forward",
}
OWN_OF_GVISOR_BEGIN = ("write /sys/fs/cgroup/", "device c 10:229 ")  # its cgroups, and its FUSE
REFUSALS_OF_GVISOR = {"ENODEV", "ENOTSUP", "ENOTTY", "ENXIO"}  # it has no such thing; nodes of devices lead nowhere
# What a sandbox has in /dev.
DEVICES = {"console", "full", "null", "ptmx", "random", "tty", "urandom", "zero"}
DEVICES_OF_GVISOR = DEVICES | {"fuse"}


def devices_of_host(machine: Machine) -> list[list[Any]]:
    """The disks of the host, by number, and the character devices that give the machine away."""
    lines = machine.out("awk 'NR > 2 {print $1, $2}' /proc/partitions").splitlines()
    disks = [["b", *map(int, line.split())] for line in lines][:8]
    state = machine.out(f"stat -c %d {machine.settings.state}")
    disks.append(["b", int(state) >> 8 & 0xFFF, int(state) & 0xFF])
    return [*disks, ["c", 1, 1], ["c", 1, 11], ["c", 10, 200], ["c", 10, 229], ["c", 10, 232], ["c", 10, 237]]


@pytest.mark.parametrize("user", USERS)
def test_nothing_that_leads_out_is_done(seats: Seats, user: str) -> None:
    """Mounts, namespaces, ptrace, keyrings, modules, raw packets, ARP, the host's disks, cgroups, sockets."""
    found = told(seats.attacker, "attempts.py", {"devices": devices_of_host(seats.machine)}, user)
    assert len(found) > 80
    own = OWN_OF_ROOT if user == "root" else set()
    own |= OWN_OF_GVISOR if seats.gvisor else set()
    beginnings = OWN_OF_GVISOR_BEGIN if seats.gvisor else ()

    def refused(name: str) -> bool:
        words = REFUSALS_OF_FILES if name.startswith(FILES) else REFUSALS
        return found[name] in (words | REFUSALS_OF_GVISOR if seats.gvisor else words)

    done = {name: word for name, word in found.items() if not refused(name)}
    assert {name: word for name, word in done.items() if name not in own and not name.startswith(beginnings)} == {}


def test_the_host_is_not_seen(seats: Seats) -> None:
    """No process of it, no device, no name of a file of it; and the sockets that are asked for are those it has."""
    there = [path for path in SOCKETS_OF_HOST if seats.machine.host.file(path).is_socket]
    assert {path.rpartition("/")[2] for path in there} >= {"docker.sock", "admin.sock", "sandboxd.sock", "gateway.sock"}
    every = "cat /proc/[0-9]*/comm | sort -u"
    assert not {"dockerd", "containerd", "haproxy", "traefik", "systemd"} & set(seats.attacker.out(every).split())
    nodes = "find /dev -xdev ( -type b -o -type c ) -printf '%f\\n'".replace("(", "\\(").replace(")", "\\)")
    assert set(seats.attacker.out(nodes).split()) <= (DEVICES_OF_GVISOR if seats.gvisor else DEVICES)
    mounts = seats.attacker.out("awk '{print $4, $5}' /proc/self/mountinfo")
    assert "docker.sock" not in mounts
    environment = ran(seats.attacker, "tr '\\0' '\\n' </proc/1/environ", "root")
    assert "PATH=" in environment
    assert not re.search(r"(?i)key|secret|password", environment)


def test_the_agents_token_is_not_for_the_user(seats: Seats) -> None:
    file = "/run/sandbox/agent.json"
    assert ran(seats.attacker, f"cat {file} || echo refused") == "refused"
    assert ran(seats.attacker, f"touch {file} || echo refused", "root") == "refused"
    assert ran(seats.attacker, f"grep -c token -i {file}", "root") == "1", "root inside may know what it is"


SET_UID = "cp /bin/bash {0}/bash && chown root:root {0}/bash && chmod 6755 {0}/bash"


def test_set_uid_on_a_shared_volume_is_nothing_to_the_neighbour(machine: Machine, template: str, moment: str) -> None:
    with with_key(machine, "test-attack") as api:
        volume = api.ask("POST", "/volumes", 201, json={"name": "attack"})["volumeID"]
        mounts = [{"name": "attack", "path": "/mnt/shared"}]
        try:
            with (
                api.sandbox(templateID=template, volumeMounts=mounts) as attacker,
                api.sandbox(templateID=template, volumeMounts=mounts) as victim,
            ):
                attacker.run(SET_UID.format("/mnt/shared"), "--user root")
                assert victim.out("stat -c '%a %U' /mnt/shared/bash") == "6755 root"
                assert victim.out("/mnt/shared/bash -p -c 'id -u; id -g'").split() == ["1000", "1000"]
                node = "mknod /mnt/shared/null c 1 3"
                assert attacker.run(node, "--user root", check=False).returncode != 0
                assert machine.out(f"find {machine.settings.state}/mounts -name bash -perm -4000 -uid 0") == ""
        finally:
            machine.run(f"docker-sandbox volume rm {volume}", check=False)


def test_set_uid_in_code_is_nothing_to_the_host(seats: Seats) -> None:
    """By its uid, and by the mount: whoever runs it there stays who he is."""
    machine, slot = seats.machine, seats.attacker.inspect()["Config"]["Labels"]["sandbox.slot"]
    seats.attacker.run(SET_UID.format("/code"), "--user root")
    mount = f"{machine.settings.state}/mounts/{slot}"
    options = machine.out(f"findmnt --noheadings --output OPTIONS {mount}").split(",")
    assert {"nosuid", "nodev"} <= set(options)
    assert (int(machine.out(f"stat -c %u {mount}/bash")) >= 100000) == machine.settings.docker_userns_remap
    ran = machine.run(
        f"chmod 755 {mount} && setpriv --reuid 65534 --clear-groups {mount}/bash -p -c 'id -u'", check=False
    )
    assert ran.stdout.strip() in ("", "65534")


# Numbers of capabilities(7).
FORBIDDEN = {
    "DAC_READ_SEARCH": 2,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "SYS_MODULE": 16,
    "SYS_RAWIO": 17,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_BOOT": 22,
    "SYS_NICE": 23,
    "SYS_RESOURCE": 24,
    "SYS_TIME": 25,
    "MKNOD": 27,
    "SETFCAP": 31,
    "SYSLOG": 34,
    "PERFMON": 38,
    "BPF": 39,
}


@pytest.mark.parametrize("user", USERS)
def test_sudo_gives_no_more_than_the_list(seats: Seats, user: str) -> None:
    """The capabilities that root inside may ever get; for the user himself, none."""
    status = ran(seats.attacker, "cat /proc/self/status", user)
    sets = {name: int(value, 16) for name, value in re.findall(r"Cap(\w+):\s+(\w+)", status)}
    assert [name for name, bit in FORBIDDEN.items() if sets["Bnd"] >> bit & 1] == []
    assert (sets["Eff"] != 0) == (user == "root")
    if user == "user":
        assert sets["Prm"] == 0


def test_links_in_a_sandbox_lead_nowhere_on_the_host(machine: Machine, template: str, moment: str) -> None:
    """What the host starts, measures and removes of it is not followed out of its disk."""
    machine.run("mkdir -p /run/test-attack-canary && echo alive >/run/test-attack-canary/file")
    with seated(machine, template) as made:
        made.attacker.run(
            "ln -s /run/test-attack-canary /code/link && ln -s /run /code/lost+found",
            "--user root",
        )
        machine.run(f"docker-sandbox stop {made.attacker.id} && docker-sandbox start {made.attacker.id}")
    assert machine.out("cat /run/test-attack-canary/file; rm -r /run/test-attack-canary") == "alive"
