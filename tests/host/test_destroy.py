"""`make destroy`: asks, takes away what the deploy put there, and keeps data unless told otherwise."""

import json
import subprocess

import pytest

from deploys import ROOT
from tests.host.conftest import TEMPLATES
from tests.host.machine import Machine, Sandbox, eventually

pytestmark = pytest.mark.disruptive


def destroy(machine: Machine, answer: str, **variables: str) -> subprocess.CompletedProcess[str]:
    if machine.lab is None:
        raise AssertionError("only labs are destroyed")
    environment = machine.environment() | variables
    command = ["make", "destroy"]
    return subprocess.run(command, cwd=ROOT, env=environment, input=answer, capture_output=True, text=True, check=False)


def test_it_asks_first(machine: Machine) -> None:
    refused = destroy(machine, "no\n")
    assert refused.returncode != 0 and "Nothing was changed" in refused.stdout
    assert machine.host.service(machine.unit("sandboxd")).is_running
    wrong = destroy(machine, "", DATA="everything")
    assert wrong.returncode != 0 and "DATA" in wrong.stderr


def test_it_keeps_data_and_a_later_deploy_brings_the_sandboxes_back(machine: Machine) -> None:
    sandbox = Sandbox(machine, machine.out("docker-sandbox init --keep --name survivor"))
    sandbox.run("echo kept >/code/file")
    key = machine.out(f"cat {machine.settings.etc}/secrets/token_key")
    done = destroy(machine, f"{machine.target.name}\n")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert not machine.host.file("/usr/local/bin/docker-sandbox").exists
    assert machine.run("systemctl cat " + machine.unit("sandboxd"), check=False).returncode != 0
    assert machine.out("docker ps --quiet") == ""
    assert machine.project not in machine.out("nft list tables")
    assert machine.out("ip -4 rule show | grep -E '^9[0-3]:' || true") == ""
    assert machine.out(f"cat {machine.settings.etc}/secrets/token_key") == key
    # No image is left: it builds that of the sandbox, and those of the other templates would show nothing more.
    machine.deploy("--data", f"templates={json.dumps({'base': TEMPLATES['base']})}")
    answer = eventually(
        lambda: machine.run(f"docker-sandbox exec {sandbox.id} 'cat /code/file'", check=False).stdout,
        bool,
        60,
        "sandbox that answers after the new deploy",
    )
    assert answer == "kept\n"


def test_with_data_nothing_is_left(machine: Machine) -> None:
    """Nor of a snapshot, which is an image of the engine's."""
    with machine.sandbox() as sandbox:
        machine.run(f"docker-sandbox snapshot {sandbox.id} taken")
    assert "-template-" in machine.out("docker image ls")
    done = destroy(machine, f"{machine.target.name}\n", DATA="remove")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    left = machine.out(
        f"find / -xdev -name '*{machine.settings.name}*' -not -path '/proc/*' -not -path '/tmp/*' 2>/dev/null || true"
    )
    assert left == ""
    assert machine.out("find /var/lib/docker /var/lib/containerd -mindepth 1 2>/dev/null || true") == ""
    for path in (
        "/etc/traefik",
        "/etc/docker",
        "/etc/haproxy/haproxy.cfg",
        "/etc/haproxy/sandboxes.lua",
        "/usr/local/bin/docker-sandbox",
        "/usr/share/bash-completion/completions/docker-sandbox",
    ):
        assert not machine.host.file(path).exists, path
    assert not machine.host.package("docker.io").is_installed and not machine.host.package("haproxy").is_installed
    assert not machine.host.group("sandbox").exists
    again = destroy(machine, f"{machine.target.name}\n", DATA="remove")
    assert again.returncode == 0
