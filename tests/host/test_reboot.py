"""A reboot: everything comes back by itself, and `make verify` passes."""

import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from deploys import ROOT
from tests.host.machine import REPORTS, Machine, Sandbox, eventually

pytestmark = pytest.mark.disruptive


def test_everything_comes_back_after_a_reboot(machine: Machine) -> None:
    if machine.lab is None:
        raise AssertionError("only labs are rebooted")
    sandbox = Sandbox(machine, machine.out("docker-sandbox init --keep"))
    try:
        sandbox.run("echo kept >/code/file; echo kept >/home/user/file")
        machine.reboot()
        state = eventually(
            lambda: machine.run("systemctl is-system-running", check=False).stdout.strip(),
            lambda state: state in ("running", "degraded"),
            120,
            "running system",
        )
        assert state == "running", machine.out("systemctl --failed --no-legend --plain")
        machine.wait_for_full_pool()
        answer = eventually(
            lambda: (
                machine.run(f"docker-sandbox exec {sandbox.id} 'cat /code/file /home/user/file'", check=False).stdout
            ),
            bool,
            60,
            "sandbox that answers after the reboot",
        )
        assert answer == "kept\nkept\n"
        done = subprocess.run(
            ["make", "verify"],
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
    finally:
        machine.run(f"docker-sandbox kill {sandbox.id}", check=False)
