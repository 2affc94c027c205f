"""Kept sandboxes whose volume is on storage that all hosts share: made anew on another host when theirs is off.

The storage is a directory that the labs have in common.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.host.fleet.labs import FENCE, LABS, LIMIT_S, Fleet
from tests.host.machine import Sandbox, eventually

pytestmark = pytest.mark.disruptive
VOLUME = "outlives"
KEPT = f"--keep --volume {VOLUME} --shared"
PAGE = "python3 -m http.server 8000 --directory /code"
OFF = "/etc/fence-off"  # the names of hosts that are off, for the fence command
FENCE_PROGRAM = """#!/bin/bash
: </dev/tcp/{address}/22 && test -r /root/.ssh/authorized_keys && test -c /dev/loop-control || exit 2
grep -qx "$1" {off} || {{ echo "$1 is not off"; exit 1; }}
"""


@pytest.fixture
def victim(fleet: Fleet) -> str:
    """A host that can be killed while the fleet goes on: neither the leader nor the one that is asked."""
    rows = fleet.nodes()
    return next(name for name in fleet.names if not rows[name]["leader"] and name != fleet.managers[0])


@contextmanager
def kept_on(fleet: Fleet, name: str) -> Iterator[Sandbox]:
    """A kept sandbox there, with a page in its volume; afterwards both are gone."""
    manager, others = fleet.manager, [one for one in fleet.names if one != name]
    for one in others:
        manager.run(f"docker-sandbox node cordon {one}")
    try:
        sandbox = Sandbox(manager, fleet.init(KEPT))
    finally:
        for one in others:
            manager.run(f"docker-sandbox node activate {one}")
    try:
        assert fleet.listed()[sandbox.id]["node"] == name
        sandbox.run(f"echo written on {name} >/code/index.html && sync")
        sandbox.serve(PAGE)
        assert manager.request("GET", f"{sandbox.url(8000)}/").text == f"written on {name}\n"
        yield sandbox
    finally:
        manager.run(f"docker-sandbox kill {sandbox.id}", check=False)
        manager.run(f"docker-sandbox volume rm {VOLUME}", check=False)


def is_anew(fleet: Fleet, sandbox: Sandbox, victim: str) -> None:
    """On another host, with what it had written, and at its URL again."""
    row = eventually(
        lambda: fleet.listed()[sandbox.id],
        lambda row: row["state"] == "running" and row["node"] != victim,
        LIMIT_S,
        "sandbox that was made anew",
    )
    assert sandbox.id in fleet.own(row["node"])
    assert sandbox.out("cat /code/index.html") == f"written on {victim}"
    sandbox.serve(PAGE)
    assert fleet.manager.request("GET", f"{sandbox.url(8000)}/").text == f"written on {victim}\n"


def is_left(fleet: Fleet, sandbox: Sandbox, victim: str) -> None:
    """By the host that has come back: it has neither the sandbox nor its container nor the disk of its volume."""
    fleet.wait_for("ready", victim)
    eventually(lambda: sandbox.id in fleet.own(victim), lambda there: not there, LIMIT_S, "the old host lets go")
    old = fleet.members[victim]
    command = "docker ps --all --no-trunc --format '{{.ID}}'; findmnt --noheadings --output SOURCE,TARGET"
    eventually(lambda: old.out(command), lambda said: sandbox.id not in said, LIMIT_S, "nothing of it is left")


def test_an_operator_says_that_the_host_is_off(fleet: Fleet, victim: str) -> None:
    """Before that it is nowhere, and nobody else gets its volume."""
    manager = fleet.manager
    with kept_on(fleet, victim) as sandbox:
        with fleet.killed(victim):
            fleet.wait_for("lost", victim)
            assert fleet.listed()[sandbox.id]["state"] == "lost"
            refused = fleet.create(KEPT)
            assert refused.returncode != 0 and f"is in use on node {victim}" in refused.stderr, refused.stderr
            said = manager.out(f"docker-sandbox node fenced {victim} --yes")
            assert sandbox.id in said
            is_anew(fleet, sandbox, victim)
        is_left(fleet, sandbox, victim)
        is_anew(fleet, sandbox, victim)


def test_a_command_says_it(fleet: Fleet, victim: str) -> None:
    """Nobody does anything; what opened the sandbox before opens it still. The command has network, devices and keys,
    as one needs that reaches a machine by its management controller.
    """
    other = next(address for name, address in LABS.items() if name in fleet.workers and name != victim)
    program = shlex.quote(FENCE_PROGRAM.format(address=other, off=OFF))
    for name in fleet.managers:
        fleet.members[name].run(f"printf %s {program} >{FENCE} && chmod 755 {FENCE} && echo {victim} >{OFF}")
    try:
        done = fleet.manager.run(f"{fleet.manager.settings.lib}/fence {fleet.managers[0]}", check=False)
        assert done.returncode == 1 and f"{fleet.managers[0]} is not off" in done.stdout, done
        with kept_on(fleet, victim) as sandbox:
            before = sandbox.token()
            with fleet.killed(victim):
                is_anew(fleet, sandbox, victim)
                assert sandbox.token() == before
            is_left(fleet, sandbox, victim)
    finally:
        for name in fleet.managers:
            fleet.members[name].run(f"rm -f {FENCE} {OFF}")
