"""A ledger that is lost: what runs goes on, with what a copy or the containers tell of it; nothing is swept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.machine import Machine, Sandbox, eventually

pytestmark = pytest.mark.disruptive

TARGET = "1.1.1.1"  # denied, and never asked


def ledger(machine: Machine) -> str:
    return f"{machine.settings.state}/ledger"


def stopped(machine: Machine, command: str) -> None:
    """Runs a command while the daemon is down, and waits until it has compared what there is."""
    unit = machine.unit("sandboxd")
    machine.run(f"systemctl stop {unit}; {command}; systemctl start {unit}")
    eventually(lambda: finding(machine)["seen"], lambda seen: "was made anew" in seen, 60, "comparison")


def finding(machine: Machine) -> dict[str, str]:
    """What doctor says of the ledger."""
    return machine.findings()["ledger"]


@pytest.fixture
def sandbox(machine: Machine) -> Iterator[Sandbox]:
    with machine.sandbox("--keep --name survivor --volume lasting --env STAGE=kept") as made:
        made.run("echo still >/code/index.html")
        made.serve("python3 -m http.server 8000")
        yield made
    machine.run("docker-sandbox volume rm lasting; docker-sandbox cleanup --unknown --older-than 9999d", check=False)
    machine.run(f"rm -f {ledger(machine)}-damaged-*")


def test_a_damaged_one_gives_way_to_its_copy(machine: Machine, sandbox: Sandbox) -> None:
    started, members = sandbox.inspect()["State"]["StartedAt"], set(machine.members())
    copy, file = f"{ledger(machine)}-copy.sqlite", f"{ledger(machine)}.sqlite"
    # Its name is in its row from its claim on.
    known = f"grep -q survivor {copy}"
    eventually(lambda: machine.run(known, check=False).returncode == 0, bool, 90, "copy that knows the sandbox")
    stopped(machine, f"dd if=/dev/urandom of={file} bs=4096 seek=1 count=20 conv=notrunc status=none")
    said = finding(machine)
    assert said["level"] == "warn" and "was damaged" in said["seen"] and "from a copy of" in said["seen"]
    assert machine.out(f"stat -c %a {ledger(machine)}-damaged-*") == "600"
    info = machine.info(sandbox.id)
    assert (info["name"], info["keep"], info["volume"], info["access"]) == ("survivor", True, "lasting", "public")
    assert sandbox.inspect()["State"]["StartedAt"] == started
    assert machine.request("GET", sandbox.url()).text == "still\n"
    machine.wait_for_full_pool()
    with machine.sandbox() as made:
        assert made.out("echo made") == "made"
    # Who was in nobody's hands when the copy was made may be in somebody's since: they are neither given out nor swept.
    assert members <= set(machine.members())
    assert "cleanup --unknown" in machine.run("docker-sandbox doctor --no-probe", check=False).stdout
    machine.out("docker-sandbox cleanup --unknown --older-than 9999d")
    assert not members & set(machine.members())


def test_without_a_copy_the_containers_tell(machine: Machine, sandbox: Sandbox) -> None:
    started = sandbox.inspect()["State"]["StartedAt"]
    with machine.sandbox(f"--keep --deny {TARGET}") as walled:
        stopped(machine, f"rm {ledger(machine)}.sqlite* {ledger(machine)}-copy.sqlite")
        said = finding(machine)
        assert said["level"] == "warn" and "from the containers alone" in said["seen"]
        assert {row["sandboxID"] for row in machine.listed()} >= {sandbox.id, walled.id}
        info = machine.info(sandbox.id)
        assert (info["volume"], info["access"], info["keep"], info["unlimited"]) == ("lasting", "token", True, True)
        assert sandbox.inspect()["State"]["StartedAt"] == started
        assert sandbox.out("cat /code/index.html; echo $STAGE") == "still\nkept"
        assert machine.request("GET", sandbox.url()).status_code == 403, "who might have been private is"
        machine.run(f"docker-sandbox access {sandbox.id} public")
        assert machine.request("GET", sandbox.url()).text == "still\n"
        assert machine.info(walled.id)["allowInternetAccess"] is False
        table = machine.out(f"nft list table inet {machine.project}-policies")
        assert f"from-{walled.inspect()['Config']['Labels']['sandbox.slot']}" in table
    # Members of the pool of before are nobody's: they stay until somebody says so. Whether pools are on is lost, too.
    machine.out("docker-sandbox cleanup --unknown --older-than 9999d")
    machine.run(f"systemctl restart {machine.unit('container-pool')}")
    machine.wait_for_full_pool()
    assert machine.out("docker-sandbox volume ls --json").count('"lasting"') == 1
