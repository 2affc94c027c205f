"""What a sandbox's container may and may not do: tried from inside, as `user` and as root, and seen from outside.

Limits of memory, processes and disks are tried in test_sandbox.py and test_disk.py.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploys import confinement
from sandboxd import spec
from tests.host.machine import Machine, Sandbox
from tools import seccomp

PROBE = Path(__file__).with_name("probe_kernel.py")
USERS = ("user", "root")
EVERYBODY = pytest.mark.parametrize("user", USERS)
# The same for `user` and for root, but for what only root could have any hope of.
WORKS = {
    *("socket unix", "socket tcp", "socket udp", "socket tcp of IPv6", "socket netlink route"),
    *("socket netlink sock_diag", "ping", "fifo", "trace a child"),
}
CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "SYS_CHROOT": 18,
}
# null, zero, full, random, urandom, tty, console; the terminals of devpts have major 136, and ptmx is 5:2.
DEVICES = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}


@pytest.fixture(scope="module")
def sandbox(machine: Machine) -> Iterator[Sandbox]:
    with machine.sandbox("--cold --timeout 30m") as made:
        yield made


def probed(sandbox: Sandbox, user: str) -> dict[str, str]:
    done = sandbox.run("python3 -", f"--user {user}", stdin=PROBE.read_bytes())
    return dict(json.loads(done.stdout))


def status(text: str) -> dict[str, str]:
    """Of /proc/PID/status."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


@EVERYBODY
def test_the_kernel_refuses_what_nobody_needs(sandbox: Sandbox, user: str) -> None:
    """Sockets of other families and raw ones, namespaces, io_uring, keys, bpf, mounts, devices, the host's settings."""
    found = probed(sandbox, user)
    assert found.pop("call by the 32-bit table", "killed by SIGSYS") == "killed by SIGSYS"
    assert {found.pop(name) for name in WORKS} == {"ok"}
    assert found.pop("lock much memory") == ("ENOMEM")
    assert found.pop("trace the init") == ("ok" if user == "root" else "EPERM"), "root traces its own sandbox's"
    for name in ("sysrq", "write core pattern", "write huge pages", "make a cgroup", "write a limit"):
        assert found.pop(name) in ("EACCES", "EPERM", "EROFS", "ENOENT"), name
    priority = found.pop("raise priority")
    assert priority in ("EACCES", "EPERM")
    assert {name: said for name, said in found.items() if said != "EPERM"} == {}


@EVERYBODY
def test_capabilities(sandbox: Sandbox, user: str) -> None:
    """None for `user`; for root those of the list. The list has no name that this test does not know."""
    own = status(sandbox.out("cat /proc/self/status", f"--user {user}"))
    bits = sum(1 << CAPABILITIES[name] for name in spec.CAPABILITIES)
    assert int(own["CapBnd"], 16) == bits
    assert int(own["CapEff"], 16) == (bits if user == "root" else 0)
    assert (own["CapAmb"], own["Seccomp"]) == ("0" * 16, "2")
    by_sudo = status(sandbox.out("sudo cat /proc/self/status", f"--user {user}"))
    assert (int(by_sudo["CapEff"], 16), by_sudo["Seccomp"]) == (bits, "2")


WORK = {
    "another user": "sudo useradd --create-home other && sudo -u other touch /home/other/file"
    " && [ $(sudo stat -c %U /home/other/file) = other ] && echo other:secret | sudo chpasswd"
    " && sudo userdel --remove other",
    "a group": "sudo groupadd crew && sudo usermod -aG crew user && sudo -u user id | grep -q crew"
    " && sudo groupdel crew",
    "files of others": "sudo install -o games -g games -m 2755 /dev/null /var/tmp/file && sudo chmod 600 /var/tmp/file"
    " && sudo touch -d yesterday /var/tmp/file && sudo rm /var/tmp/file",
    "processes of others": "sleep 300 & sudo kill $! && ! wait $!",
    "su": "sudo su - user -c true",
    "port 80": "sudo timeout 1 nc -lN 127.0.0.1 80; [ $? = 124 ]",
    "directories of others": "for at in /home/user /usr/local/lib/node_modules; do"
    " sudo mkdir $at/of-root && sudo rmdir $at/of-root || exit 1; done",
    "what only others may read": "sudo -u games sh -c 'umask 077; echo x >/var/tmp/own' && sudo cat /var/tmp/own",
    "chroot": "sudo chroot / true",
    "a set-gid directory": "sudo install -d -g mail -m 2775 /var/tmp/mail && [ $(stat -c %a /var/tmp/mail) = 2775 ]",
    "a smaller bounding set": "sudo setpriv --bounding-set=-chown true",
}


@pytest.mark.parametrize("work", WORK)
def test_root_by_sudo_can_do_an_administrators_work(sandbox: Sandbox, work: str) -> None:
    done = sandbox.run(WORK[work], check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_packages_can_be_installed(sandbox: Sandbox) -> None:
    """From Debian, with their users, set-uid programs and file capabilities; of Python and of Node, for all."""
    sandbox.run(
        "sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"
        " iputils-ping strace openssh-server >/tmp/apt.log 2>&1 || { tail -20 /tmp/apt.log; exit 1; }",
        "--timeout 300s",
    )
    assert "1 received" in sandbox.out("ping -c 1 -W 10 127.0.0.1")
    assert "+++ exited with 0 +++" in sandbox.run("strace -f sh -c 'true; true' 2>&1").stdout
    assert "sshd" in sandbox.out("getent passwd sshd")
    sandbox.run("python3 -m pip install -q tomlkit==0.13.3 && python3 -c 'import tomlkit'", "--timeout 120s")
    sandbox.run("npm install --global --silent left-pad@1.3.0 && npm ls --global left-pad", "--timeout 120s")


def test_there_are_no_devices_but_the_usual(sandbox: Sandbox) -> None:
    program = (
        "import os, stat\n"
        "for folder, _, names in os.walk('/dev'):\n"
        "    for name in names:\n"
        "        at = os.lstat(os.path.join(folder, name))\n"
        "        if stat.S_ISCHR(at.st_mode) or stat.S_ISBLK(at.st_mode):\n"
        "            print(stat.S_ISBLK(at.st_mode) * 1, os.major(at.st_rdev), os.minor(at.st_rdev))\n"
    )
    lines = sandbox.run("python3 -", "--user root", stdin=program.encode()).stdout.splitlines()
    found = {tuple(int(number) for number in line.split()) for line in lines}
    assert {(block, major, minor) for block, major, minor in found if major != 136} <= {(0, *one) for one in DEVICES}


@pytest.mark.disruptive
def test_a_device_that_the_host_puts_there_cannot_be_opened(machine: Machine, sandbox: Sandbox) -> None:
    """The device cgroup: loop-control, which the host itself may open, by a node that nobody inside could make."""
    pid = sandbox.inspect()["State"]["Pid"]
    node = f"/proc/{pid}/root/var/tmp/loop-control"
    opened = "python3 -c 'import os; os.open(\"{}\", os.O_RDWR)'"
    machine.run(f"mknod -m 666 {node} c 10 237; modprobe loop 2>/dev/null; mknod -m 600 /root/loop-control c 10 237")
    try:
        machine.run(opened.format("/root/loop-control"))
        for user in USERS:
            done = sandbox.run(opened.format("/var/tmp/loop-control"), f"--user {user}", check=False)
            assert "Operation not permitted" in done.stderr or "Permission denied" in done.stderr, done.stderr
    finally:
        machine.run(f"rm -f {node} /root/loop-control")


@EVERYBODY
def test_what_tells_of_the_host_is_masked(sandbox: Sandbox, user: str) -> None:
    """A masked file is empty, a masked directory too, and nothing of it can be taken away."""
    program = (
        "import os, sys\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        told = os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(64)\n"
        "    except OSError:\n"
        "        continue\n"
        "    if told:\n"
        "        print(path)\n"
    )
    words = shlex.join(spec.MASKED_PATHS)
    assert sandbox.run(f"python3 - {words}", f"--user {user}", stdin=program.encode()).stdout == ""
    assert sandbox.run("umount /proc/kcore /sys/firmware", f"--user {user}", check=False).returncode != 0


def test_what_can_be_set_is_read_only(sandbox: Sandbox) -> None:
    lines = [line.split(" ") for line in sandbox.out("cat /proc/self/mountinfo", "--user root").splitlines()]
    options = {line[4]: line[5].split(",") for line in lines}
    for path in (*spec.READONLY_PATHS, "/sys", "/run/sandbox"):
        assert path not in options or "ro" in options[path], path
    assert "ro" in options["/proc/sys"] and "ro" in options["/sys"]


SET_UID = """\
set -eu
sudo install -m 4755 /usr/bin/id AT/id
[ "$(stat -c %a AT/id)" = 4755 ]
AT/id -u
sudo rm AT/id
"""


def test_no_program_becomes_root_from_a_volume(machine: Machine, sandbox: Sandbox) -> None:
    """`user` may become root by sudo; but who mounts the disk of another gets no rights out of its files."""
    assert sandbox.out(SET_UID.replace("AT", "/var/tmp")) == "0", "the image itself has sudo, so there it works"
    assert sandbox.out(SET_UID.replace("AT", "/code")) == "1000"
    options = {
        line.split()[4]: line.split()[5].split(",") for line in sandbox.out("cat /proc/self/mountinfo").splitlines()
    }
    assert {"nosuid", "nodev"} <= set(options["/code"])
    with machine.sandbox("--volume test-containers --disk 128m --cold") as other:
        try:
            assert other.out(SET_UID.replace("AT", "/code")) == "1000"
        finally:
            machine.run(f"docker-sandbox kill {other.id}; docker-sandbox volume rm test-containers")


@EVERYBODY
def test_limits_cannot_be_raised(sandbox: Sandbox, user: str) -> None:
    own = sandbox.out("ulimit -Hc; ulimit -Hl; ulimit -Hn", f"--user {user}").split()
    assert own[0] == "0" and int(own[1]) * 1024 <= spec.MEMLOCK_BYTES and int(own[2]) <= spec.NOFILE
    for option in ("-Hc unlimited", "-Hl unlimited", f"-Hn {spec.NOFILE + 1}"):
        assert sandbox.run(f"ulimit {option}", f"--user {user}", check=False).returncode != 0, option


def test_from_outside_it_has_nothing_of_the_hosts(machine: Machine, sandbox: Sandbox) -> None:
    found = sandbox.inspect()
    host, pid = found["HostConfig"], found["State"]["Pid"]
    assert (host["Privileged"], host["PidMode"], host["UTSMode"]) == (False, "", "")
    assert (host["IpcMode"], host["UsernsMode"], host["CapDrop"]) == ("private", "", ["ALL"])
    assert not host["Devices"] and not host["DeviceRequests"] and not host["Binds"] and not host["VolumesFrom"]
    assert not host["GroupAdd"] and not host["PortBindings"] and not host["DeviceCgroupRules"]
    assert sorted(host["MaskedPaths"]) == sorted(spec.MASKED_PATHS)
    assert any(option.startswith("seccomp={") for option in host["SecurityOpt"])
    kinds = ("user", "pid", "net", "mnt", "ipc", "uts", "cgroup")
    links = machine.out(
        f"for kind in {' '.join(kinds)}; do readlink /proc/1/ns/$kind /proc/{pid}/ns/$kind; done"
    ).split()
    shared = [kind for kind, one, other in zip(kinds, links[::2], links[1::2], strict=True) if one == other]
    assert shared == ([] if machine.settings.docker_userns_remap else ["user"])
    seen = status(machine.out(f"cat /proc/{pid}/status"))
    assert (seen["Seccomp"], seen["CapBnd"]) == (
        "2",
        f"{sum(1 << CAPABILITIES[name] for name in spec.CAPABILITIES):016x}",
    )


def test_apparmor_confines_it_where_the_kernel_has_it(machine: Machine, sandbox: Sandbox) -> None:
    """Otherwise the engine passes over the name, and the label says nothing."""
    pid = sandbox.inspect()["State"]["Pid"]
    label = machine.out(f"cat /proc/{pid}/attr/current 2>/dev/null || true").strip("\0")
    on = machine.run("grep -qx Y /sys/module/apparmor/parameters/enabled", check=False).returncode == 0
    assert f"apparmor={machine.project}-sandbox" in sandbox.inspect()["HostConfig"]["SecurityOpt"]
    assert (f"{machine.project}-sandbox (enforce)" in label) == on
    sandbox.run("sleep 300 & kill $! && ! wait $!")


def default_profile(machine: Machine) -> dict[str, Any]:
    """What the engine itself gives a container with the capabilities of a sandbox."""
    image = machine.out(f"docker image ls --quiet {machine.project}-sandbox").split()[0]
    adds = " ".join(f"--cap-add {name}" for name in spec.CAPABILITIES)
    run = f"docker run --detach --rm --network none --cap-drop ALL {adds} --entrypoint sleep {image} 60"
    container = machine.out(run)
    try:
        files = f"find /run -path '*/{container}/config.json' 2>/dev/null | head -1"
        return dict(json.loads(machine.out(f"cat $({files})"))["linux"]["seccomp"])
    finally:
        machine.run(f"docker rm --force {container}", check=False)


@pytest.mark.disruptive
def test_the_profile_allows_nothing_that_the_engine_would_not(machine: Machine) -> None:
    """An older engine does not know the newest calls; what it knows, it allows. Debian 13's is what ours is made of."""
    default = default_profile(machine)
    theirs = {name for rule in default["syscalls"] if rule["action"] == seccomp.ALLOW for name in rule["names"]}
    ours = json.loads(confinement.seccomp()["sandbox"])
    allowed = {name for rule in ours["syscalls"] if rule["action"] == seccomp.ALLOW for name in rule["names"]}
    version = machine.out("docker version --format '{{.Server.Version}}'")
    newer = {
        *("cachestat", "fchmodat2", "futex_requeue", "futex_wait", "futex_wake", "map_shadow_stack"),
        *("name_to_handle_at", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_vm_readv", "process_vm_writev"),
    }
    assert allowed - theirs <= (newer if version.startswith("20.10") else set())
    if version.startswith("26.1"):
        assert seccomp.derive(default) == ours


CHROMIUM = """\
from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(chromium_sandbox=True)
    page = browser.new_page()
    page.goto("chrome://sandbox")
    print(page.inner_text("body"))
    page = browser.new_page()
    page.set_content("<title>alive</title>")
    print(page.title())
    browser.close()
"""


def test_chromium_keeps_a_sandbox_of_its_own(machine: Machine) -> None:
    """User, process and network namespaces, and nothing else that the other templates refuse."""
    with machine.sandbox("--template playwright") as sandbox:
        said = sandbox.run("python3 -", "--timeout 120s", stdin=CHROMIUM.encode()).stdout
        assert "You are adequately sandboxed." in said and said.endswith("alive\n")
        for user in USERS:
            found = probed(sandbox, user)
            assert {found.pop(name) for name in ("unshare user", "unshare user and net")} == {"ok"}
            assert {found.pop(name) for name in WORKS} == {"ok"}
            refused = [name for name in found if name.startswith(("socket", "unshare", "call", "device"))]
            refused.remove("call by the 32-bit table") if "call by the 32-bit table" in refused else None
            assert {name: found[name] for name in refused if found[name] != "EPERM"} == {}
