"""A reboot: everything comes back by itself, and passes what a fresh host passes."""

import json
import subprocess
import xml.etree.ElementTree as ElementTree
from contextlib import ExitStack

import pytest

from deploys import ROOT
from tests.host.api import with_key
from tests.host.machine import REPORTS, Machine, Sandbox, eventually
from tests.host.test_network import FIRST, REFUSED, STARTER

pytestmark = pytest.mark.disruptive

VOLUME = "test-reboot-volume"
BROUGHT = ("cis", "containers", "disk", "doctor", "edge", "engine", "firewall", "gateway", "hardening", "network")
FILES = "cat /code/file /home/user/file"


def state(machine: Machine, sandbox: Sandbox) -> str:
    done = machine.run(f"docker-sandbox info {sandbox.id} --json", check=False)
    return "" if done.returncode else str(json.loads(done.stdout)["state"])


def test_everything_comes_back_after_a_reboot(machine: Machine) -> None:
    if machine.lab is None:
        raise AssertionError("only labs are rebooted")
    machine.run(f"docker-sandbox volume rm {VOLUME}", check=False)
    with ExitStack() as made:
        made.callback(lambda: machine.run(f"docker-sandbox volume rm {VOLUME}", check=False))
        api = made.enter_context(with_key(machine, "test-reboot"))
        shared = api.ask("POST", "/volumes", 201, json={"name": "reboot"})["volumeID"]
        made.callback(lambda: machine.run(f"docker-sandbox volume rm {shared}", check=False))
        mounted = made.enter_context(api.sandbox(volumeMounts=[{"name": "reboot", "path": "/mnt/data"}]))
        mounted.run("echo kept >/mnt/data/file")
        running, paused, stopped, with_volume, closed = (
            made.enter_context(machine.sandbox(f"--keep {options}"))
            for options in ("", "", "", f"--volume {VOLUME} --disk 128m", "--network none")
        )
        closed.run(
            "mkdir -p /etc/sandbox/start.d && cat >/etc/sandbox/start.d/tries && chmod 755 /etc/sandbox/start.d/tries",
            "--user root",
            stdin=STARTER.format(address=FIRST, port=80).encode(),
        )
        for sandbox in (running, paused, stopped, with_volume):
            sandbox.run(f"echo {sandbox.id} >/code/file; echo kept >/home/user/file")
        machine.run(f"docker-sandbox pause {paused.id}; docker-sandbox stop {stopped.id}")
        machine.reboot()
        seen = eventually(
            lambda: machine.run("systemctl is-system-running", check=False).stdout.strip(),
            lambda seen: seen in ("running", "degraded"),
            300,  # until the pool's unit has started, which gives up then
            "running system",
        )
        assert seen == "running", machine.out("systemctl --failed --no-legend --plain")
        machine.wait_for_full_pool()
        for sandbox in (running, with_volume):
            answer = eventually(
                lambda one=sandbox: one.run(FILES, check=False).stdout,  # type: ignore[misc]
                bool,
                60,
                "sandbox that answers after the reboot",
            )
            assert answer == f"{sandbox.id}\nkept\n"
        read = "cat /mnt/data/file"
        eventually(lambda: mounted.run(read, check=False).stdout, lambda said: said == "kept\n", 60, "mounted volume")
        tried = eventually(
            lambda: closed.run("cat /tmp/seen", check=False).stdout.split(), bool, 60, "sandbox that tries to get out"
        )
        assert tried[1:] == [REFUSED], "without its rules it would have waited in vain"
        for sandbox in (paused, stopped):
            eventually(
                lambda one=sandbox: state(machine, one),  # type: ignore[misc]
                lambda seen: seen == "stopped",
                60,
                "sandbox that stays stopped after the reboot",
            )
            machine.run(f"docker-sandbox resume {sandbox.id}")
            assert sandbox.run(FILES).stdout == f"{sandbox.id}\nkept\n"


def test_the_firewall_stands_before_the_first_packet(machine: Machine) -> None:
    """A program that starts with a sandbox tries the host's own port 22, where sshd waits, from its first moment on."""
    unit = machine.unit("firewall")
    with machine.sandbox("--keep") as sandbox:
        gateway = sandbox.out("ip route show default | cut -d ' ' -f 3")
        sandbox.run(
            "mkdir -p /etc/sandbox/start.d && cat >/etc/sandbox/start.d/tries && chmod 755 /etc/sandbox/start.d/tries",
            "--user root",
            stdin=STARTER.format(address=gateway, port=22).encode(),
        )
        machine.reboot()
        tried = eventually(
            lambda: sandbox.run("cat /tmp/seen", check=False).stdout.split(), bool, 120, "sandbox that tries to get out"
        )
        assert tried[1:] == [REFUSED]
        up, docker = (
            int(machine.out(f"systemctl show {one} --property={what} --value"))
            for one, what in (
                (unit, "ActiveEnterTimestampMonotonic"),
                ("docker.service", "ExecMainStartTimestampMonotonic"),
            )
        )
        assert 0 < up < docker, "the wall is up before the engine begins to start"
        machine.wait_for_full_pool()
        eventually(
            machine.findings,
            lambda seen: seen["firewall"]["level"] == seen["unit-firewall"]["level"] == "ok",
            60,
            "firewall that is well",
        )


@pytest.mark.suite("trixie")
def test_verify_passes_after_it(machine: Machine) -> None:
    """Of what a release of Debian brings: units, mounts, rules, the engine. On the other release the whole suite looks
    at a host that was rebooted: see AFTER_REBOOT.
    """
    done = subprocess.run(
        ["make", "verify", f"ARGS=-k '{' or '.join(BROUGHT)}'"],
        cwd=ROOT,
        env=machine.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    suite = next(ElementTree.parse(REPORTS / "verify.xml").getroot().iter("testsuite"))
    assert int(suite.attrib["tests"]) > 50
    assert (suite.attrib["failures"], suite.attrib["errors"], suite.attrib["skipped"]) == ("0", "0", "0")
