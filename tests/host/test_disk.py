"""The disk at /code: its size as the kernel holds it, what a full one leaves alone, volumes, growth, and no leaks."""

import json
from typing import Any

import pytest

from tests.host.machine import Machine, Sandbox, eventually

MIB = 1024 * 1024
VOLUME = "test-disk-volume"


def slot_of(sandbox: Sandbox) -> str:
    return str(sandbox.inspect()["Config"]["Labels"]["sandbox.slot"])


def size(sandbox: Sandbox) -> int:
    """Of /code in MiB, as a program inside sees it."""
    return int(sandbox.out("df -BM --output=size /code | tail -n 1").rstrip("M"))


def traces(machine: Machine, key: str) -> list[str]:
    """What the host still has of a disk: files, mount points, mounts, loop devices."""
    state = machine.settings.state
    commands = (
        f"find {state}/disks {state}/mounts -maxdepth 1 -name '*{key}*'",
        f"findmnt --raw --noheadings --output TARGET | grep {key} || true",
        f"losetup --list --noheadings --output BACK-FILE | grep {key} || true",
    )
    return [line for command in commands for line in machine.out(command).splitlines()]


def volume(machine: Machine, name: str) -> dict[str, Any] | None:
    rows = json.loads(machine.out("docker-sandbox volume ls --json"))
    return next((row for row in rows if row["name"] == name), None)


def remove_volume(machine: Machine, name: str) -> None:
    machine.run(f"docker-sandbox volume rm {name}", check=False)


@pytest.mark.parametrize("option", ["", "--cold"])
def test_its_size_is_that_of_the_settings(machine: Machine, option: str) -> None:
    with machine.sandbox(option) as sandbox:
        wanted = machine.settings.sandbox_disk_mb
        assert 0.97 * wanted < size(sandbox) <= wanted
        assert sandbox.out("ls -A /code; stat -c %U:%G /code") == "user:user"


def test_a_full_one_leaves_host_and_neighbour_alone(machine: Machine) -> None:
    state = machine.settings.state
    # Not what is free: other hosts of a test run may have their disks on the same one.
    taken = f"du --summarize --one-file-system --block-size=1M {state} | cut -f 1"
    with machine.sandbox("--disk 256m") as sandbox, machine.sandbox("--disk 256m") as neighbour:
        before = int(machine.out(taken))
        full = sandbox.run("cat /dev/zero >/code/fill", check=False)
        assert full.returncode == 1 and "No space left on device" in full.stderr
        written = int(sandbox.out("stat -c %s /code/fill"))
        assert 200 * MIB < written < 256 * MIB
        assert int(sandbox.out("df -BM --output=avail /code | tail -n 1").rstrip("M")) <= 1
        assert neighbour.out("head -c 50M /dev/zero >/code/file; stat -c %s /code/file") == str(50 * MIB)
        assert int(machine.out(taken)) - before < 256 + 60 + 100, "members of the pool may be made meanwhile"
        machine.run(f"touch {state}/test && rm {state}/test")


def test_deleted_files_give_their_space_back_to_the_host(machine: Machine) -> None:
    with machine.sandbox("--disk 512m") as sandbox:
        file = f"{machine.settings.state}/disks/{slot_of(sandbox)}.img"

        def held() -> int:
            """MiB that the sparse file takes on the host."""
            sandbox.run("sync -f /code")
            return int(machine.out(f"du --block-size=1M {file}").split()[0])

        empty = held()
        sandbox.run("head -c 200M /dev/urandom >/code/large; sync")
        eventually(held, lambda seen: seen >= empty + 190, 30, "written file on the host")
        sandbox.run("rm /code/large; sync")
        eventually(held, lambda seen: seen <= empty + 40, 60, "space given back")


def test_nothing_of_it_is_left_after_the_kill(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        slot = slot_of(sandbox)
        assert len(traces(machine, slot)) == 4, "a file, a mount point, a mount, a loop device"
        sandbox.run("exec tail -f /dev/null </code >/code/open", "--background")
        machine.run(f"docker-sandbox kill {sandbox.id}")
        eventually(lambda: traces(machine, slot), lambda seen: not seen, 60, "end of the disk")


def test_what_a_sandbox_puts_there_does_not_hurt_the_host(machine: Machine) -> None:
    """Links out of it, one of them under the name that each new file system has; and no set-user-id, no devices."""
    with machine.sandbox("--disk 128m") as sandbox:
        sandbox.run("ln -s /etc /code/lost+found; ln -s / /code/root; mkdir -p /code/a/b/c; touch -d 2100-01-01 /code")
        options = machine.out(
            f"findmnt --noheadings --output OPTIONS {machine.settings.state}/mounts/{slot_of(sandbox)}"
        )
        assert {"nosuid", "nodev"} <= set(options.split(","))
        machine.run(f"docker-sandbox stop {sandbox.id}")
        refused = machine.run(f"docker-sandbox resize {sandbox.id} 160m", check=False)
        assert refused.returncode == 1 and "/code/lost+found" in refused.stderr
        machine.run(f"docker-sandbox start {sandbox.id}")
        assert sandbox.out("readlink /code/lost+found /code/root; rm /code/lost+found") == "/etc\n/"
        machine.run(f"docker-sandbox stop {sandbox.id} && docker-sandbox resize {sandbox.id} 160m")
        machine.run(f"docker-sandbox start {sandbox.id}")
        assert 130 < size(sandbox) <= 160 and sandbox.out("ls /code | sort | xargs") == "a root"


def test_a_volume_survives_its_sandbox(machine: Machine) -> None:
    remove_volume(machine, VOLUME)
    try:
        with machine.sandbox(f"--volume {VOLUME} --disk 128m") as first:
            first.run("echo kept >/code/file")
            taken = machine.run(f"docker-sandbox init --volume {VOLUME}", check=False)
            assert taken.returncode == 1 and first.id in taken.stderr
            refused = machine.run(f"docker-sandbox volume rm {VOLUME}", check=False)
            assert refused.returncode == 1 and first.id in refused.stderr
            seen = volume(machine, VOLUME)
            assert seen is not None and seen["sandboxID"] == first.id and 0 < seen["usedBytes"] < 128 * MIB
            slot = slot_of(first)
        eventually(lambda: traces(machine, slot), lambda found: not found, 60, "end of the mount")
        assert (volume(machine, VOLUME) or {})["sandboxID"] == ""
        with machine.sandbox(f"--volume {VOLUME}") as second:
            assert second.out("cat /code/file") == "kept" and size(second) <= 128
    finally:
        remove_volume(machine, VOLUME)
    assert volume(machine, VOLUME) is None
    assert machine.run(f"ls {machine.settings.state}/volumes/{VOLUME}.img", check=False).returncode != 0
    assert machine.run(f"docker-sandbox volume rm {VOLUME}", check=False).returncode == 3


def test_the_files_of_a_volume_go_out_and_in(machine: Machine) -> None:
    copy = f"{VOLUME}-copy"
    for name in (VOLUME, copy):
        remove_volume(machine, name)
    before = {row["sandboxID"] for row in machine.listed()}
    try:
        with machine.sandbox(f"--volume {VOLUME} --disk 256m") as sandbox:
            sandbox.run(
                "mkdir -p d/e; head -c 30M /dev/urandom >d/e/large; ln -s d link; echo '#!/bin/sh' >run; chmod 750 run"
            )
            sandbox.run("install -m 600 /etc/hostname /code/secret", "--user root")
            wanted = sandbox.out("find . -type f | sort | xargs sudo sha256sum; stat -c '%a %n' run secret")
            refused = machine.run(f"docker-sandbox volume export {VOLUME} -", check=False)
            assert refused.returncode == 1 and sandbox.id in refused.stderr and refused.stdout == ""
        copying = f"docker-sandbox volume export {VOLUME} - | docker-sandbox volume import {copy} - --size 256m"
        machine.run(f"bash -o pipefail -c '{copying}'")
        again = machine.run(
            f"docker-sandbox volume export {VOLUME} - | docker-sandbox volume import {copy} -", check=False
        )
        assert again.returncode == 1 and "--force" in again.stderr
        with machine.sandbox(f"--volume {copy}") as sandbox:
            assert sandbox.out("find . -type f | sort | xargs sha256sum; stat -c '%a %n' run secret") == wanted
            assert sandbox.out("readlink link; stat -c %U run secret d/e/large") == "d\nuser\nuser\nuser"
        assert {row["sandboxID"] for row in machine.listed()} <= before
    finally:
        for name in (VOLUME, copy):
            remove_volume(machine, name)


def test_it_grows_while_it_is_used_or_says_what_to_do(machine: Machine) -> None:
    with machine.sandbox("--disk 128m") as sandbox:
        sandbox.run("echo kept >/code/file")
        before = size(sandbox)
        running = machine.run(f"docker-sandbox resize {sandbox.id} 256m", check=False)
        if running.returncode:
            assert running.returncode == 1 and "docker-sandbox stop" in running.stderr
            assert size(sandbox) == before
        else:
            assert size(sandbox) > before
        machine.run(f"docker-sandbox stop {sandbox.id}")
        machine.run(f"docker-sandbox resize {sandbox.id} 512m")
        smaller = machine.run(f"docker-sandbox resize {sandbox.id} 200m", check=False)
        assert smaller.returncode == 1 and "only grow" in smaller.stderr
        machine.run(f"docker-sandbox start {sandbox.id}")
        assert 440 < size(sandbox) <= 512 and sandbox.out("cat /code/file") == "kept"
