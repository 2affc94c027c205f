"""Certificates by ACME, for real: a server, a DNS provider, orders, renewals, and what happens when they fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.host.acme import FOLDER, World, acme_world
from tests.host.machine import REPORTS, Machine, eventually
from tests.host.test_doctor import examine

pytestmark = [pytest.mark.disruptive, pytest.mark.suite("trixie")]


@pytest.fixture(scope="module")
def world(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with acme_world(machine, tmp_path_factory.mktemp("acme")) as made:
        yield made


def finding(world: World) -> dict[str, str]:
    """What doctor says of orders."""
    return examine(world.machine, "--no-probe")[1]["acme"]


def test_a_first_order_that_fails_ends_the_deploy_and_a_mended_one_succeeds(world: World) -> None:
    machine = world.machine
    failed = machine.pyinfra("deploy.py", "--yes", "--fail-percent", "0", **world.deployment("fresh", world.wrong))
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "the order failed" in said and "Traefik tries once more" in said, said[-3000:]
    assert "error: no certificate by ACME: " in said and "bad authentication" in said, said[-3000:]
    assert world.wrong not in said
    assert finding(world)["level"] == "fail" and "bad authentication" in finding(world)["seen"]

    world.deploy("fresh")
    assert world.trusted_by("fresh") and not world.trusted_by("short")
    well = finding(world)
    assert well["level"] == "ok" and "Pebble" in well["seen"] and "ends in 90 days" in well["seen"], well
    # The tests of `make verify` trust the issuer that the host itself names.
    with Machine(replace(machine.target, settings=world.settings("fresh"))) as seen:
        assert seen.request("GET", f"https://api.{world.domain}/health").status_code == 200


def test_it_is_kept(world: World) -> None:
    world.deploy("fresh")
    serial = world.serial()
    assert world.deploy("fresh").changed == []
    world.machine.run("docker restart traefik")
    assert eventually(world.serial, bool, 180, "certificate after the restart") == serial


def test_the_secret_is_seen_nowhere(world: World) -> None:
    """Neither on the host, but for one file, nor in what a deploy or a plan prints."""
    machine = world.machine
    world.deploy("fresh")
    plan = machine.pyinfra("deploy.py", "--dry", "--diff", **world.deployment("fresh", world.wrong))
    assert "Write secret RFC2136_TSIG_SECRET" in plan.stdout + plan.stderr
    assert world.wrong not in plan.stdout + plan.stderr and world.secret not in plan.stdout + plan.stderr
    assert world.secret not in (REPORTS / f"deploy-{machine.target.name}.log").read_text()
    # As an argument of grep it would be found in `ps`.
    machine.run(f"cat >{FOLDER}/pattern", stdin=world.secret.encode())
    places = "docker inspect traefik; docker logs traefik 2>&1; journalctl --no-pager; ps -eo args"
    files = f"/etc/traefik {machine.settings.etc} {machine.settings.state}/acme"
    assert machine.out(f"({places}) | grep -F -f {FOLDER}/pattern || true") == ""
    assert machine.out(f"grep -rlF -f {FOLDER}/pattern {files}") == "/etc/traefik/secrets/RFC2136_TSIG_SECRET"
    assert machine.out("stat -c '%U %a' /etc/traefik/secrets /etc/traefik/secrets/RFC2136_TSIG_SECRET").split() == [
        *("root", "700"),
        *("root", "600"),
    ]


def test_another_server_has_another_certificate_which_is_renewed_when_it_is_due(world: World) -> None:
    world.deploy("fresh")
    world.deploy("short")
    assert world.trusted_by("short") and not world.trusted_by("fresh")
    serial = world.serial()
    world.machine.run("docker restart traefik")
    eventually(world.serial, lambda seen: seen not in ("", serial), 180, "renewed certificate")
    assert world.trusted_by("short")


def test_a_renewal_that_fails_leaves_the_certificate_and_a_mended_one_succeeds(world: World) -> None:
    world.deploy("short")
    before = world.serial()
    world.deploy("short", world.wrong)
    told = eventually(lambda: finding(world), lambda seen: seen["level"] == "warn", 180, "failed order in doctor")
    assert "bad authentication" in told["seen"] and "ends in 20 days" in told["seen"] and told["remedy"], told
    assert world.trusted_by("short")
    serial = world.serial()

    world.deploy("short")
    eventually(world.serial, lambda seen: seen not in ("", serial, before), 180, "renewed certificate")
    assert eventually(lambda: finding(world), lambda seen: seen["level"] == "ok", 180, "end of the failure in doctor")
