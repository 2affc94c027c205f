"""`backup` and `restore`, from one host in a directory to another; by the whole command line."""

import io
import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sandboxd import recovery
from sandboxd.backup import MARK, restoring
from sandboxd.backup.reading import read
from sandboxd.schema import MIGRATIONS
from tests.unit.sandboxd.backup.host import Host, a_host
from tests.unit.sandboxd.backup.test_reading import HEADER, head, made
from tests.unit.sandboxd.cli.doubles import Cli, ControlPlane


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with a_host(monkeypatch) as made:
        yield made


@pytest.fixture
def other() -> Iterator[Host]:
    """Where it is restored; programs are those of the first."""
    with a_host() as made:
        yield made


def run(host: Host, *words: str, code: int = 0) -> str:
    """What it prints, or says when it shall fail."""
    done = Cli(host.config, host.folder).run(*words)
    assert done.returncode == code, done.stderr.decode()
    return (done.stderr if code else done.stdout).decode()


def files(host: Host) -> dict[str, bytes]:
    """All files of a host, but what programs and the audit log noted."""
    found = {str(path.relative_to(host.folder)): path for path in host.folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if not name.startswith(("calls", "log/", "b.backup")) and not name.endswith(("-wal", "-shm"))
    }


@pytest.fixture
def backup(host: Host) -> Path:
    host.fill()
    file = host.folder / "b.backup"
    run(host, "backup", str(file))
    return file


@pytest.fixture
def control(other: Host) -> Iterator[ControlPlane]:
    plane = ControlPlane(other.folder / "sandboxd.sock")
    plane.answer("DELETE /sandboxes/ida", 204)
    plane.answer("POST /pool", 200, {})
    yield plane
    plane.stop()


def test_a_backup_is_for_root_alone_and_says_what_is_in_it(host: Host) -> None:
    host.fill()
    file = host.folder / "b.backup"
    file.write_text("the one of yesterday")
    file.chmod(0o644)
    told = json.loads(run(host, "backup", str(file), "--json"))
    assert file.stat().st_mode & 0o777 == 0o600
    assert (told["volumes"], told["snapshots"], told["images"], told["secrets"]) == (["data"], ["mine"], True, 2)
    assert told["schema"] == len(MIGRATIONS) and told["domain"] == "example.com" and "members" not in told
    assert [path.name for path in host.folder.glob("*.part-*")] == []
    (record,) = [json.loads(line) for line in (host.folder / "log/audit.log").read_text().splitlines()]
    assert (record["action"], record["detail"], record["outcome"]) == ("backup", str(file), "ok")
    assert "1 volumes (data)" in run(host, "restore", "--check", str(file))


def test_it_goes_through_pipes(host: Host, other: Host, control: ControlPlane) -> None:
    host.fill()
    other.config.write_text(other.config.read_text().replace('"internal"', '"files"'))
    cli = Cli(host.config, host.folder)
    made = subprocess.run(cli.words("backup", "-"), stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert made.stderr == b""
    taken = Cli(other.config, other.folder).words("restore", "--json", "-")
    done = subprocess.run(taken, input=made.stdout, capture_output=True, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["volumes"] == ["data"], done
    assert (other.state / "volumes/data.img").read_bytes() == (host.state / "volumes/data.img").read_bytes()
    assert other.calls() == [], "no certificate is made where there is no authority"


def test_a_new_host_has_all_of_it_afterwards(
    host: Host, other: Host, backup: Path, control: ControlPlane, traefik: Path
) -> None:
    before = other.places.config.ledger.read_bytes()
    told = json.loads(run(other, "restore", str(backup), "--json"))
    found, wanted = files(other), files(host)
    for name in wanted:
        if name.startswith(("etc/secrets", "etc/ca", "state/acme/prod", "state/snapshots", "state/volumes/data")):
            assert found[name] == wanted[name], name
    assert "state/volumes/half.new" not in found
    modes = {path.name: path.stat().st_mode & 0o777 for path in (other.folder / "etc").rglob("*") if path.is_file()}
    assert other.calls() == ["certificate"] and traefik.stat().st_mtime_ns > 1
    assert modes["ca.pem"] == 0o644 and modes["ca.key"] == modes["token_key"] == modes["link_key"] == 0o600
    aside = Path(told["before"])
    assert (aside / "ledger.sqlite").read_bytes() == before and aside.stat().st_mode & 0o777 == 0o700
    assert (aside / "secrets/token_key").read_text() == f"key of {other.folder.name}"
    assert not (other.state / restoring.WORK).exists() and not (other.state / MARK).exists()
    assert (host.folder / "loaded").read_text() == "saved acme-template-mine:1\n"
    calls = [call for call in host.calls() if "is-active" not in call and "docker" not in call]
    assert calls == [
        "systemctl start acme-sandboxd.service",
        "systemctl stop acme-container-pool.service",
        "systemctl stop acme-sandboxd.service",
        "systemctl start acme-sandboxd.service",
        "systemctl reload haproxy.service",
        "systemctl start acme-container-pool.service",
    ]
    ledger = recovery.opened(other.places.config.ledger, 1.0)
    assert ledger.rows() == [] and ledger.routes() == [] and ledger.setting(recovery.PENDING) == ""
    assert ledger.setting(recovery.MAY_SWEEP) == "", "it has not seen this host yet"
    (ended,) = ledger.rows("gone")
    assert (ended.id, ended.reason, ended.envs) == ("ida", restoring.REASON, {})
    assert [(volume.name, volume.sandbox_id) for volume in ledger.volumes()] == [("data", "")]
    assert [key.name for key in ledger.keys("digest")] == ["ci"] and list(ledger.templates()) == ["mine"]
    ledger.close()


@pytest.fixture
def traefik(other: Host, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that tells Traefik of another certificate."""
    file = other.folder / "tls.yml"
    file.touch()
    os.utime(file, ns=(1, 1))
    monkeypatch.setattr("sandboxd.backup.services.WATCHED", file)
    return file


def test_a_host_in_use_is_left_alone_unless_that_is_meant(
    host: Host, other: Host, backup: Path, control: ControlPlane, traefik: Path
) -> None:
    other.fill()
    before = files(other)
    said = run(other, "restore", str(backup), code=1)
    assert "sandboxes: ida; volumes: data; templates: mine" in said and "--force" in said
    assert files(other) == before and control.requests == []
    assert "systemctl stop acme-sandboxd.service" not in host.calls()
    run(other, "restore", "--force", str(backup))
    assert [(one.method, one.target) for one in control.requests] == [("DELETE", "/sandboxes/ida"), ("POST", "/pool")]
    (aside,) = other.state.glob("before-restore-*")
    assert {path.name for path in aside.iterdir()} >= {"ledger.sqlite", "volumes", "snapshots", "secrets", "ca", "acme"}


@pytest.mark.parametrize(("manages", "asked"), [("true", "node.sock"), ("false", "sandboxd.sock")])
def test_a_restore_of_a_host_of_a_fleet_leaves_the_other_hosts_alone(
    host: Host, other: Host, backup: Path, traefik: Path, manages: str, asked: str
) -> None:
    """At the usual socket of a manager its fleet service answers, for which `pool` means all pools."""
    fleet = f'socket = "{other.folder}/node.sock"\ngroup = "haproxy"\nmanages = {manages}\nmanagers = ["a (10.0.0.1)"]'
    fleet += '\naddresses = ["10.0.0.1"]\nports = [8443]'
    other.config.write_text(f"{other.config.read_text()}\n[fleet]\n{fleet}\n")
    other.fill()
    planes = {name: ControlPlane(other.folder / name) for name in ("node.sock", "sandboxd.sock")}
    try:
        for plane in planes.values():
            plane.answer("DELETE /sandboxes/ida", 204)
            plane.answer("POST /pool", 200, {})
        run(other, "restore", "--force", str(backup))
    finally:
        for plane in planes.values():
            plane.stop()
    told = {name: [(one.method, one.target) for one in plane.requests] for name, plane in planes.items()}
    assert told.pop(asked) == [("DELETE", "/sandboxes/ida"), ("POST", "/pool")] and list(told.values()) == [[]]


def test_a_sandbox_that_ends_by_itself_meanwhile_is_no_trouble(
    host: Host, other: Host, backup: Path, control: ControlPlane, traefik: Path
) -> None:
    other.fill()
    control.answer("DELETE /sandboxes/ida", 500, {"code": 500, "message": "it cannot be removed"})
    assert "it cannot be removed" in run(other, "restore", "--force", str(backup), code=1)
    assert "systemctl stop acme-sandboxd.service" not in host.calls()
    control.answer("DELETE /sandboxes/ida", 404, {"code": 404, "message": "sandbox 'ida' not found"})
    run(other, "restore", "--force", str(backup))


def damaged(backup: Path) -> bytes:
    """More than a bit in its middle: there are some that mean nothing, such as those that fill a block up to a byte."""
    content, middle = bytearray(backup.read_bytes()), backup.stat().st_size // 2
    content[middle : middle + 16] = bytes(byte ^ 0xFF for byte in content[middle : middle + 16])
    return bytes(content)


def test_a_damaged_or_truncated_file_changes_nothing(
    host: Host, other: Host, backup: Path, control: ControlPlane
) -> None:
    before, calls = files(other), len(host.calls())
    for content in (damaged(backup), backup.read_bytes()[:-20], backup.read_bytes()[: backup.stat().st_size // 2], b""):
        broken = other.folder / "b.backup"
        broken.write_bytes(content)
        for words in (("--check",), (), ("--force",)):
            assert "backup" in run(other, "restore", str(broken), *words, code=1)
    assert files(other) == before
    assert {call.split()[0] for call in host.calls()[calls:]} == {"docker"}, "not even the daemon was looked at"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": len(MIGRATIONS) + 1}, "of a newer release"),
        ({"project": "other"}, "of the project 'other'"),
        ({"domain": "other.org"}, "of the domain other.org"),
        ({"userns_uid": 231072}, "was uid 231072, here it is 100000"),
        ({"bytes": 1 << 60}, "Make room"),
    ],
)
def test_one_that_does_not_fit_changes_nothing(
    host: Host, other: Host, changes: dict[str, Any], message: str, control: ControlPlane
) -> None:
    file = other.folder / "b.backup"
    file.write_bytes(made(head(**changes)))  # the rest is not even read
    before = files(other)
    assert message in run(other, "restore", str(file), code=1)
    assert files(other) == before


def test_another_domain_is_taken_if_that_is_meant(
    host: Host, other: Host, backup: Path, control: ControlPlane, traefik: Path
) -> None:
    other.config.write_text(other.config.read_text().replace("example.com", "new.example.org"))
    assert "links that were given out lead elsewhere" in run(other, "restore", str(backup), code=1)
    run(other, "restore", str(backup), "--force")
    assert (other.folder / "etc/secrets/link_key").read_text() == "key of links"


def test_an_older_ledger_is_migrated_before_it_is_put_in_place(
    host: Host, other: Host, control: ControlPlane, traefik: Path
) -> None:
    host.places.config.ledger.unlink()
    with closing(sqlite3.connect(host.places.config.ledger)) as db:
        db.executescript(f"{'; '.join(MIGRATIONS[:8])}; PRAGMA user_version = 8")
        db.execute(
            "INSERT INTO sandboxes (slot, id, state, origin, template, image_id, memory_mb, cpus, created_at)"
            " VALUES ('a', 'ida', 'running', 'cold', 'base', 'i', 1, 1, 1),"
            " ('b', 'idb', 'warm', 'pool', 'base', 'i', 1, 1, 1)"
        )
        db.commit()
    file = host.folder / "b.backup"
    run(host, "backup", str(file))
    run(other, "restore", str(file))
    with closing(sqlite3.connect(other.places.config.ledger)) as db:
        assert db.execute("SELECT id, state FROM sandboxes").fetchall() == [("ida", "gone")]
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_one_whose_ledger_cannot_be_migrated_changes_nothing(host: Host, other: Host, control: ControlPlane) -> None:
    host.places.config.ledger.unlink()
    with closing(sqlite3.connect(host.places.config.ledger)) as db:
        db.executescript(f"{'; '.join(MIGRATIONS[:8])}; CREATE TABLE here (n); PRAGMA user_version = 7")
    file = host.folder / "b.backup"
    run(host, "backup", str(file))
    before = files(other)
    assert "the ledger in the backup cannot be used" in run(other, "restore", str(file), code=1)
    assert files(other) == before and "systemctl stop acme-sandboxd.service" not in host.calls()


@pytest.mark.parametrize("trouble", ["full", "broken"])
def test_one_that_was_interrupted_is_run_again(
    host: Host, other: Host, backup: Path, control: ControlPlane, traefik: Path, trouble: str
) -> None:
    switch = host.folder / trouble
    if trouble == "broken":  # only once the new ledger is there: the daemon runs before
        real = restoring.put

        def put(*arguments: Any) -> Path | None:
            switch.touch()
            return real(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sandboxd.backup.restoring.put", put)
            said = run(other, "restore", str(backup), code=1)
        assert "half done" in said and "Run the same command again" in said
        assert (other.state / MARK).exists()
    else:
        switch.touch()
        before = files(other)
        assert "no space left" in run(other, "restore", str(backup), code=1)
        assert files(other) == before and "systemctl stop acme-sandboxd.service" not in host.calls()
    switch.unlink()
    run(other, "restore", str(backup))
    assert not (other.state / MARK).exists()
    ledger = other.ledger()
    assert [volume.name for volume in ledger.volumes()] == ["data"]
    ledger.close()
    assert (other.state / "volumes/data.img").read_bytes() == (host.state / "volumes/data.img").read_bytes()


def test_json_and_the_backup_do_not_share_an_output(host: Host) -> None:
    assert "cannot both go" in run(host, "backup", "-", "--json", code=2)


def test_only_plain_files_are_written_over(host: Host) -> None:
    assert "no plain file" in run(host, "backup", str(host.folder / "state"), code=1)
    assert "No such file" in run(host, "backup", str(host.folder / "none/b"), code=1)
    assert "No such file" in run(host, "restore", "--check", str(host.folder / "none"), code=1)


def test_a_backup_that_fails_leaves_no_file(host: Host) -> None:
    host.fill()
    (host.folder / "info").write_text("{")
    host.places.config.ledger.write_bytes(b"x" * 10_000)
    file = host.folder / "b.backup"
    file.write_text("the one of yesterday")
    run(host, "backup", str(file), code=1)
    assert file.read_text() == "the one of yesterday" and list(host.folder.glob("*.part-*")) == []


def test_what_a_killed_one_left_is_removed_by_the_next(host: Host) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    parts = {pid: host.folder / f"b.backup.part-{pid}" for pid in (ended.pid, os.getppid())}
    for part in (*parts.values(), host.folder / "b.backup.part-x"):
        part.touch()
    run(host, "backup", str(host.folder / "b.backup"))
    left = sorted(path.name for path in host.folder.glob("b.backup*"))
    assert left == sorted(["b.backup", parts[os.getppid()].name, "b.backup.part-x"]), "one that is being made stays"


def test_others_than_root_are_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for words in (["backup", str(host.folder / "b.backup")], ["restore", "/dev/null"]):
        assert "Only root" in run(host, *words, code=1)
    assert host.calls() == [] and not (host.folder / "b.backup").exists()


def test_heads_of_tests_are_like_ours(backup: Path) -> None:
    found = read(io.BytesIO(backup.read_bytes()), lambda count: None, lambda head: None)
    assert found.head.keys() >= HEADER.keys()
