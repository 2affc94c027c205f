"""`volume ...`: over the daemon's own API, and a real agent that makes and reads the archives."""

import io
import json
import os
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli import volumes
from sandboxd.records import Claim
from tests.unit.envd.client import MYSELF, Running, eventually
from tests.unit.sandboxd.cli.doubles import ID, Cli, ControlPlane, Relay, write_place
from tests.unit.sandboxd.conftest import World

VOLUME = {"name": "data", "sizeMB": 1024, "usedBytes": None, "sandboxID": "", "createdAt": "2026-01-31T12:00:00.000Z"}


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch, remote: Path) -> Path:
    """What is /code in a sandbox; and nobody here needs to be root."""
    monkeypatch.setattr(volumes, "CODE", str(remote))
    monkeypatch.setattr(volumes, "READER", MYSELF)
    return remote


def keep_volume(world: World, name: str) -> None:
    """A volume that no sandbox has."""
    template = world.config.templates["base"]
    world.ledger.create("0" * 12, "cold", template, "sha256:1", world.now[0], 1024, Claim(volume=name))
    world.ledger.set_removing("0" * 12, "test")
    world.ledger.set_gone("0" * 12, world.now[0])
    world.ledger.forget_gone(world.now[0] + 1)
    file = world.sandboxes.disks.file("", name)
    file.parent.mkdir(exist_ok=True)
    file.touch()
    world.now[0] += 1


def names(world: World) -> list[str]:
    return [found.name for found in world.ledger.volumes()]


def members(archive: bytes) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files = {one.name: opened.extractfile(one) if one.isfile() else None for one in opened}
        return {name: None if file is None else file.read() for name, file in files.items()}


def archive_of(**files: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name, text in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(text)
            made.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()


def test_ls(cli: Cli, world: World) -> None:
    assert cli.out("volume", "ls") == "no volumes; make one with: docker-sandbox init --volume NAME\n"
    assert json.loads(cli.out("volume", "ls", "--json")) == []
    keep_volume(world, "old")
    cli.out("init", "--volume", "data", "--disk", "2g")
    rows = {row["name"]: row for row in json.loads(cli.out("volume", "ls", "--json"))}
    assert rows["data"]["sandboxID"] == ID and rows["data"]["sizeMB"] == 2048
    assert rows["old"]["sandboxID"] == "" and rows["old"]["usedBytes"] is None
    head, first, second = cli.out("volume", "ls").splitlines()
    assert head.split() == ["NAME", "SIZE", "USED", "SANDBOX", "AGE"]
    assert first.split()[0] == "data" and ID in first and second.split()[0] == "old"


def test_the_table() -> None:
    now = 1769860800.0 + 3700  # an hour after VOLUME was made
    rows = [VOLUME, {**VOLUME, "name": "b", "usedBytes": 5_000_000, "sandboxID": ID}]
    assert volumes.volume_table(rows, now).splitlines()[1:] == [
        f"data  1.1 GB  -       -{' ' * 13}1h1m",
        f"b     1.1 GB  5.0 MB  {ID}  1h1m",
    ]


def test_the_table_says_where_volumes_are_if_they_are_in_several_places() -> None:
    rows = [
        {**VOLUME, "name": "a", "node": "b"},
        {**VOLUME, "name": "b", "shared": True, "node": "c"},
        {**VOLUME, "name": "c", "shared": True, "node": ""},
        {**VOLUME, "name": "d"},
    ]
    head, *lines = volumes.volume_table(rows, 1769860800.0).splitlines()
    assert head.split()[-1] == "WHERE"
    ends = [line.rpartition("  ")[2] for line in lines]
    assert ends == ["b", "shared, on c", "shared", "this host"]


def test_rm_tries_all_and_tells_the_first_failure(cli: Cli, world: World) -> None:
    keep_volume(world, "old")
    cli.out("init", "--volume", "data")
    done = cli.run("volume", "rm", "data", "nothing", "old", "--json")
    assert done.returncode == 1 and json.loads(done.stdout) == {"removed": ["old"]}
    assert f"'data' is in use by sandbox {ID}".encode() in done.stderr and b"'nothing' not found" in done.stderr
    assert names(world) == ["data"] and not world.sandboxes.disks.file("", "old").exists()
    assert cli.run("volume", "rm", "nothing").returncode == 3
    assert cli.run("volume", "rm", "../ledger").returncode != 0


def test_export_to_a_file_and_to_standard_output(
    cli: Cli, world: World, code: Path, here: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    keep_volume(world, "data")
    (code / "d").mkdir()
    (code / "d/file").write_text("content")
    assert cli.call("volume", "export", "data", str(here / "data.tar")) == 0
    wanted = {".": None, "./d": None, "./d/file": b"content"}
    assert members((here / "data.tar").read_bytes()) == wanted
    assert [path.name for path in here.iterdir()] == ["data.tar"]
    assert (here / "data.tar").stat().st_mode & 0o777 == 0o600
    assert world.engine.empty() and names(world) == ["data"]
    (row,) = world.ledger.rows("gone")
    assert (row.name, row.volume, row.timeout_s) == ("copies volume data", "data", volumes.LIFE_S)
    assert capfdbinary.readouterr() == (b"", b"")


def test_export_to_a_pipe(cli: Cli, world: World, code: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    keep_volume(world, "data")
    (code / "file").write_text("content")
    assert cli.call("volume", "export", "data", "-") == 0
    assert members(capfdbinary.readouterr().out)["./file"] == b"content"


def test_a_volume_that_is_not_there_is_not_made_by_an_export(cli: Cli, world: World, here: Path) -> None:
    done = cli.run("volume", "export", "data", str(here / "x"))
    assert done.returncode == 3 and b"volume 'data' not found" in done.stderr
    assert names(world) == [] and list(here.iterdir()) == []


@pytest.mark.parametrize("verb", ["export", "import"])
def test_one_that_a_sandbox_has_is_refused(cli: Cli, world: World, here: Path, verb: str) -> None:
    cli.out("init", "--volume", "data")
    file = here / "data.tar"
    file.write_bytes(b"before")
    done = cli.run("volume", verb, "data", str(file))
    assert done.returncode == 1 and f"in use by sandbox {ID}".encode() in done.stderr
    assert file.read_bytes() == b"before" and [path.name for path in here.iterdir()] == ["data.tar"]
    assert len(world.ledger.rows()) == 1


@pytest.mark.parametrize("target", ["", "sub/none/data.tar"])
def test_an_export_to_where_no_file_can_be(cli: Cli, world: World, here: Path, target: str) -> None:
    keep_volume(world, "data")
    done = cli.run("volume", "export", "data", str(here / target))
    assert done.returncode == 1 and str(here).encode() in done.stderr and world.engine.empty()
    assert world.ledger.rows("gone") == [], "no sandbox was made for it"


def test_import_makes_the_volume(
    cli: Cli, world: World, code: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "data.tar").write_bytes(archive_of(file="content"))
    assert cli.call("volume", "import", "data", str(here / "data.tar"), "--size", "2g") == 0
    assert (code / "file").read_text() == "content" and capsys.readouterr() == ("", "")
    assert [(found.name, found.size_mb, found.sandbox_id) for found in world.ledger.volumes()] == [("data", 2048, "")]
    assert world.engine.empty()


def test_import_into_one_that_has_files_wants_force(
    cli: Cli, world: World, code: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_volume(world, "data")
    (code / "mine").write_text("before")
    (code / "file").write_text("before")
    (here / "data.tar").write_bytes(archive_of(file="after"))
    assert cli.call("volume", "import", "data", str(here / "data.tar")) == 1
    assert "--force" in capsys.readouterr().err and (code / "file").read_text() == "before"
    assert names(world) == ["data"] and world.engine.empty()


def test_with_force_it_goes_over_what_is_there(cli: Cli, world: World, code: Path, here: Path) -> None:
    keep_volume(world, "data")
    (code / "mine").write_text("before")
    (code / "file").write_text("before")
    (here / "data.tar").write_bytes(archive_of(file="after"))
    assert cli.call("volume", "import", "data", str(here / "data.tar"), "--force") == 0
    assert (code / "mine").read_text() == "before" and (code / "file").read_text() == "after"


def test_a_size_is_for_new_volumes(cli: Cli, world: World, here: Path) -> None:
    keep_volume(world, "data")
    (here / "data.tar").touch()
    done = cli.run("volume", "import", "data", str(here / "data.tar"), "--size", "2g")
    assert done.returncode == 1 and b"there already, with 1024 MB" in done.stderr


@pytest.mark.parametrize("content", [b"no archive" * 1000, archive_of(file="x" * 9000)[:4000]])
@pytest.mark.parametrize("new", [True, False])
def test_an_import_that_fails_takes_back_the_volume_that_it_made(
    cli: Cli, world: World, here: Path, content: bytes, new: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """And only that: one that was there before is somebody's."""
    if not new:
        keep_volume(world, "data")
    (here / "data.tar").write_bytes(content)
    assert cli.call("volume", "import", "data", str(here / "data.tar")) == 1
    assert "cannot extract the archive" in capsys.readouterr().err
    assert names(world) == ([] if new else ["data"]) and world.engine.empty()
    assert world.sandboxes.disks.file("", "data").exists() == (not new)


def test_a_file_that_is_not_there_makes_nothing(cli: Cli, world: World, here: Path) -> None:
    done = cli.run("volume", "import", "data", str(here / "none.tar"))
    assert done.returncode == 1 and b"none.tar" in done.stderr and names(world) == []


def test_an_export_that_breaks_off_leaves_no_file(
    cli: Cli, world: World, agent: Running, code: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_volume(world, "data")
    relay = Relay(agent.port)
    (code / "large").write_bytes(os.urandom(3_000_000))
    write_place(cli.config, world.config.socket, relay.address)
    relay.limit = 1_000_000
    assert cli.call("volume", "export", "data", str(here / "data.tar")) == 1
    relay.stop()
    assert "broke" in capsys.readouterr().err
    assert list(here.iterdir()) == [] and world.engine.empty()


def test_an_interrupted_import_leaves_no_sandbox_and_no_half_volume(cli: Cli, world: World) -> None:
    """In a process of its own, whose /code is the real path: nothing is asked of the agent before the signal."""
    process = cli.start("volume", "import", "data", "-", "--force", stdin=subprocess.PIPE)
    eventually(lambda: world.ledger.rows("running"), "the sandbox is made")
    code, err = cli.interrupt(process, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and "Traceback" not in err
    assert world.engine.empty() and names(world) == []


def test_what_cannot_be_removed_is_named(
    lone: Cli, control: ControlPlane, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    control.answer("GET /volumes", 200, [VOLUME])
    made: dict[str, Any] = {"sandboxID": ID, "envdAccessToken": "t", "domain": "example.com"}
    control.answer("POST /v2/sandboxes", 201, made)
    control.answer(f"DELETE /sandboxes/{ID}", 503, {"code": 503, "message": "Docker does not answer."})
    assert lone.call("volume", "export", "data", str(here / "x")) == 4
    err = capsys.readouterr().err
    assert f"docker-sandbox kill {ID}" in err and "the gateway does not answer" in err
    assert list(here.iterdir()) == []


def test_a_link_is_followed_and_a_devices_place_not_taken(cli: Cli, world: World, code: Path, here: Path) -> None:
    keep_volume(world, "data")
    (here / "real.tar").touch(0o640)
    (here / "real.tar").chmod(0o640)
    (here / "link.tar").symlink_to("real.tar")
    assert cli.call("volume", "export", "data", str(here / "link.tar")) == 0
    assert (here / "link.tar").is_symlink() and members((here / "real.tar").read_bytes()) == {".": None}
    assert (here / "real.tar").stat().st_mode & 0o777 == 0o640
