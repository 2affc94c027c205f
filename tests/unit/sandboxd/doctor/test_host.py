"""Checks of the host itself, healthy and not."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sandboxd import __version__, recovery
from sandboxd.doctor import host as checks
from sandboxd.doctor.effects import Output
from sandboxd.doctor.readers import Readers
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.doctor.conftest import DAY_S, FILES, UNIT, FakeHost, Look
from tests.unit.sandboxd.doctor.test_engine import check
from tests.unit.sandboxd.fake_engine import START

ALL = (
    checks.unit("haproxy.service"),
    checks.disk_of_engine,
    checks.disk_of_state,
    checks.memory,
    checks.clock,
    checks.pool,
    checks.cleanup,
    checks.ledger,
    checks.health,
    checks.versions,
)
GIB = 1024**3
CRON = "etc/cron.d/acme-sandbox-cleanup"
LOG = "var/log/acme-sandbox-cleanup.log"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("look", ALL)
def test_a_healthy_host(readers: Readers, look: Look) -> None:
    assert look(readers).level == "ok"


@pytest.mark.parametrize(
    ("state", "level", "seen", "remedy"),
    [
        (UNIT, "ok", "active (running)", ""),
        (
            UNIT.replace("=active", "=failed"),
            "fail",
            "failed",
            "systemctl restart acme-x.service; journalctl -u acme-x",
        ),
        (UNIT.replace("=active", "=inactive"), "fail", "inactive", "systemctl restart acme-x.service"),
        (UNIT.replace("enabled", "disabled"), "warn", "not started at boot", "systemctl enable acme-x.service"),
        (UNIT.replace("Reload=no", "Reload=yes"), "warn", "has changed", "systemctl daemon-reload"),
        ("Failed to connect to bus", "warn", "systemd does not tell: Failed", "systemctl status acme-x.service"),
    ],
)
def test_units(readers: Readers, host: FakeHost, state: str, level: str, seen: str, remedy: str) -> None:
    host.outputs["systemctl show "] = Output(0, state)
    check(checks.unit("PROJECT-x.service")(readers), level, seen, remedy)
    assert host.commands[-1].startswith("systemctl show acme-x.service ")


def test_a_unit_that_may_be_stopped_on_purpose(readers: Readers, host: FakeHost) -> None:
    host.outputs["systemctl show "] = Output(0, UNIT.replace("=active", "=inactive"))
    assert checks.unit("x.service", unneeded=True)(readers).level == "warn"


def test_no_systemd(readers: Readers, host: FakeHost) -> None:
    host.outputs["systemctl show "] = Output(127, "systemctl is not installed")
    assert checks.unit("x.service")(readers).level == "skip"


@pytest.mark.parametrize(("free", "level"), [(6 * GIB, "ok"), (4 * GIB, "warn"), (GIB // 2, "fail")])
def test_disk_space(readers: Readers, host: FakeHost, free: int, level: str) -> None:
    host.free = free
    assert checks.disk_of_engine(readers).level == checks.disk_of_state(readers).level == level
    seen = checks.disk_of_engine(readers).seen
    assert seen == f"{free / GIB:.1f} of 190.7 GiB free at /var/lib/docker/100000.100000"


def test_inodes(readers: Readers, host: FakeHost) -> None:
    host.inodes_free = 49
    check(checks.disk_of_state(readers), "warn", "only 49 of 1000 inodes", "du -xh")


def test_memory_for_one_more(readers: Readers, host: FakeHost) -> None:
    host.write("proc/meminfo", FILES["proc/meminfo"].replace("12288000", "2000000"))
    check(checks.memory(readers), "warn", "1.9 of 15.6 GiB available; a sandbox may use 2.0", "docker-sandbox stats")


@pytest.mark.parametrize(
    ("output", "level"),
    [(Output(0, "yes\n"), "ok"), (Output(0, "no\n"), "warn"), (Output(127, "timedatectl is not installed"), "warn")],
)
def test_the_clock(readers: Readers, host: FakeHost, output: Output, level: str) -> None:
    host.outputs["timedatectl show "] = output
    assert checks.clock(readers).level == level


def test_the_clock_of_a_container_is_not_its_own(readers: Readers, host: FakeHost) -> None:
    host.outputs["systemd-detect-virt "] = Output(0, "docker\n")
    host.outputs["timedatectl show "] = Output(0, "no\n")
    assert checks.clock(readers).level == "skip"


def with_nofile(readers: Readers, nofile: int) -> Readers:
    readers.sandboxes.host = replace(readers.sandboxes.host, nofile=nofile)
    return readers


def test_limits(readers: Readers, host: FakeHost) -> None:
    assert checks.limits(with_nofile(readers, 65536)).level == "ok"
    check(checks.limits(with_nofile(readers, 1024)), "warn", "may open 1024 files, not 65536", "LimitNOFILE of docker")
    host.write("proc/sys/fs/file-nr", "900\t0\t1000\n")
    check(checks.limits(readers), "warn", "900 open files of 1000", "lsof")
    host.write("proc/sys/fs/inotify/max_user_instances", "128\n")
    check(checks.limits(readers), "warn", "max_user_instances 128", "sysctl -w fs.inotify.max_user_instances=1024")


def test_the_pool(readers: Readers, world: World) -> None:
    assert checks.pool(readers).seen == "2 of 2 warm"
    for _ in range(15):
        world.ledger._count("misses:base", 1)
        world.ledger._count("hits:base", 1)
    assert checks.pool(readers).seen == "2 of 2 warm; 50% of 30 claims were warm"
    world.ledger._count("misses:base", 1)
    check(checks.pool(readers), "warn", "48% of 31 claims", "pool_size")
    world.health.report("pool of base", "no image")
    check(checks.pool(readers), "warn", "the last fill failed: no image", "journalctl -u acme-sandboxd.service")
    world.pool.drain()
    check(checks.pool(readers), "warn", "off", "systemctl start acme-container-pool")


def test_no_pool_at_all(readers: Readers, world: World) -> None:
    world.pool.resize("base", 0)
    assert checks.pool(readers).level == "skip"


def test_the_cleanup_names_its_last_run(readers: Readers) -> None:
    assert checks.cleanup(readers).seen == "0 * * * *; ran last at 2027-01-15 07:50"


def test_a_cleanup_that_does_not_run(readers: Readers, host: FakeHost) -> None:
    host.write(LOG, "", START - 5 * 3600)
    verdict = checks.cleanup(readers)
    check(
        verdict,
        "fail",
        "was due at 2027-01-15 06:00, ran last: 2027-01-15 03:00",
        "systemctl status cron; tail /var/log",
    )
    (host.root / LOG).unlink()
    check(checks.cleanup(readers), "fail", "ran last: never", "systemctl status cron")


def test_a_cleanup_that_was_not_due_since_cron_or_its_line_is_there(readers: Readers, host: FakeHost) -> None:
    (host.root / LOG).unlink()
    host.write(CRON, FILES[CRON], START - 3600)
    assert checks.cleanup(readers).level == "ok"
    host.write(CRON, FILES[CRON], START - 30 * DAY_S)
    host.outputs["systemctl show cron.service --property=ActiveEnter"] = Output(0, f"{int((90 * DAY_S - 60) * 1e6)}\n")
    assert "not yet due" in checks.cleanup(readers).seen
    host.outputs["systemctl show cron.service --property=ActiveEnter"] = Output(1, "unknown\n")
    assert checks.cleanup(readers).level == "fail"


@pytest.mark.parametrize("text", ["", "# 0 * * * * root docker-sandbox cleanup\n", "0 * * * * root true\n"])
def test_no_line_of_the_cleanup(readers: Readers, host: FakeHost, text: str) -> None:
    host.write(CRON, text)
    check(checks.cleanup(readers), "fail", "has no line that runs docker-sandbox cleanup", "make deploy")


def test_no_file_of_the_cleanup(readers: Readers, host: FakeHost) -> None:
    (host.root / CRON).unlink()
    check(checks.cleanup(readers), "fail", f"/{CRON}: No such file", "make deploy")


def test_a_schedule_that_cron_does_not_take(readers: Readers, host: FakeHost) -> None:
    host.write(CRON, "99 * * * * root docker-sandbox cleanup\n")
    check(checks.cleanup(readers), "fail", "'99' is no field of cron", "make deploy")


def test_a_ledger_that_is_damaged(readers: Readers, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.ledger, "faults", lambda: ["row 3 missing from index", "page 7 is never used"])
    check(checks.ledger(readers), "fail", "row 3 missing from index; page 7", "systemctl restart acme-sandboxd")


def test_a_restore_that_was_interrupted(readers: Readers, world: World) -> None:
    (world.config.state_dir / "restoring").touch()
    check(checks.ledger(readers), "fail", "a restore was interrupted", "the same restore again")


def test_a_ledger_that_was_made_anew(readers: Readers, world: World, host: FakeHost) -> None:
    report = {"fault": "was damaged: x", "kept": "/state/kept", "copied_at": 0.0, "at": readers.effects.now()}
    world.ledger.set_setting(recovery.DONE, json.dumps({**report, "adopted": ["ida"]}))
    check(checks.ledger(readers), "warn", "from the containers alone; taken over: ida", "docker-sandbox list")


def test_troubles_that_the_daemon_knows(readers: Readers, world: World) -> None:
    world.health.report("expiry", "failed")
    world.health.report("docker", "slow")
    check(checks.health(readers), "warn", "docker: slow; expiry: failed", "journalctl -u acme-sandboxd.service")


def test_versions(readers: Readers, host: FakeHost) -> None:
    seen = f"sandboxd {__version__} (revision v1.2-3-gabc), agent 0.6.13, debian 13, kernel 6.12.48+deb13-amd64"
    assert checks.versions(readers).seen == seen
    os.unlink(host.root / "etc/acme-sandbox/release")
    assert "revision unknown" in checks.versions(readers).seen
    host.write("etc/os-release", "ID=ubuntu\nVERSION_ID=24.04\n")
    check(checks.versions(readers), "warn", "ubuntu 24.04", "Debian 12 and 13")
