"""`files ls`, `rm`, `mv`, `mkdir`, `exists`, `info`, against the real agent."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli import files
from sandboxd.cli.verbs import every_name, find
from tests.unit.envd.client import MYSELF
from tests.unit.sandboxd.cli.doubles import ID, Cli, ControlPlane, Inside, Server, answer_of, write_place


@pytest.fixture
def run(box: Cli, capfdbinary: pytest.CaptureFixture[bytes]) -> Inside:
    return Inside(box, capfdbinary)


@pytest.fixture
def site(remote: Path) -> Path:
    (remote / "app/deep").mkdir(parents=True)
    (remote / "app/deep/c").write_bytes(bytes(1234))
    (remote / "app/deep/c").chmod(0o755)
    (remote / "app/a").write_text("one")
    (remote / "app/a").chmod(0o644)
    (remote / "app/link").symlink_to("deep")
    return remote / "app"


def rows(run: Inside) -> list[list[str]]:
    return [line.split() for line in run.out.decode().splitlines()]


def listed(run: Inside) -> Any:
    return json.loads(run.out)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_ls(run: Inside, site: Path) -> None:
    os.utime(site / "a", (1_500_000_000, 1_500_000_000))
    run.ok("files ls", site)
    head, *lines = rows(run)
    assert head == ["MODE", "OWNER", "SIZE", "MODIFIED", "NAME"]
    assert lines[0] == ["-rw-r--r--", MYSELF, "3", "2017-07-14T02:40:00Z", "a"]
    assert [line[4:] for line in lines[1:]] == [["deep"], ["link", "->", f"{site}/deep"]]
    run.ok("files ls", site, "--depth", 2)
    assert [line[4] for line in rows(run)[1:]] == ["a", "deep", "deep/c", "link"]


def test_ls_as_json(run: Inside, site: Path) -> None:
    run.ok("files ls", site, "--json")
    a, deep, link = listed(run)
    assert (a["name"], a["path"], a["type"], a["size"], a["mode"]) == ("a", f"{site}/a", "file", 3, "0644")
    assert (deep["type"], link["type"], link["symlinkTarget"]) == ("directory", "symlink", f"{site}/deep")


def test_ls_of_other_things(run: Inside, site: Path) -> None:
    run.ok("files ls", site / "a")
    assert rows(run)[1][4] == "a", "a file is listed as itself"
    run.ok("files ls", site / "link")
    assert [row[4] for row in rows(run)[1:]] == ["c"]
    (site / "deep/c").unlink()
    run.ok("files ls", site / "deep")
    assert run.out == b""
    run.ok("files ls", site / "deep", "--json")
    assert listed(run) == []


def test_ls_without_a_path_is_of_the_sandboxs_directory(run: Inside, box: Cli, site: Path) -> None:
    mark = box.work / "only-here"
    mark.touch()
    run.ok("files ls")
    assert ["only-here"] in [row[4:] for row in rows(run)]
    mark.unlink()


def test_a_name_cannot_write_on_the_terminal(run: Inside, remote: Path) -> None:
    (remote / "a\x1b[2J\nb").touch()
    (remote / os.fsdecode(b"\xff")).touch()
    run.ok("files ls", remote)
    assert [row[4] for row in rows(run)[1:]] == ["a\\x1b[2J\\nb", "\\udcff"]
    run.ok("files ls", remote, "--json")
    assert [row["name"] for row in listed(run)] == ["a\x1b[2J\nb", "\udcff"]
    run.ok("files info", remote / "a\x1b[2J\nb")
    assert b"\x1b" not in run.out


def test_info(run: Inside, site: Path) -> None:
    run.ok("files info", site / "deep/c")
    shown = dict(line.split(maxsplit=1) for line in run.out.decode().splitlines())
    assert shown["path"] == f"{site}/deep/c" and shown["type"] == "file" and shown["size"] == "1234 B (1.2 KB)"
    assert shown["mode"] == "0755 (-rwxr-xr-x)" and shown["owner"].startswith(f"{MYSELF}:")
    run.ok("files info", site / "a")
    assert b"size      3 B\n" in run.out
    run.ok("files info", site / "link", "--json")
    assert (listed(run)["type"], listed(run)["symlinkTarget"]) == ("symlink", f"{site}/deep")


def test_exists_is_an_exit_code(run: Inside, site: Path) -> None:
    (site / "dangling").symlink_to("nowhere")
    for name, code in {"a": 0, "deep": 0, "dangling": 0, "none": 1, "none/below": 1, "a/below": 1}.items():
        assert (run.run("files exists", site / name), run.out, run.err) == (code, b"", ""), name
        assert run.run("files exists", site / name, "--json") == code
        assert listed(run) == {"exists": code == 0}
    assert "invalid username" in run.refused("files exists", site, "--user", "nobody-has-this")


def test_mkdir(run: Inside, remote: Path) -> None:
    run.ok("files mkdir", remote / "made/up")
    assert (remote / "made/up").is_dir() and run.out == b""
    assert run.run("files mkdir", remote / "made/up") == 0
    assert run.err == f"docker-sandbox: warning: {remote}/made/up: exists already\n" and run.out == b""
    run.ok("files mkdir", remote / "made/up", "--json")
    assert listed(run) == {"created": False}
    run.ok("files mkdir", remote / "made/new", "--json")
    assert listed(run) == {"created": True}
    (remote / "file").touch()
    assert f"{remote}/file" in run.refused("files mkdir", remote / "file")
    assert "is not a directory" in run.refused("files mkdir", remote / "file/below")


def test_mv(run: Inside, site: Path, remote: Path) -> None:
    run.ok("files mv", site / "a", remote / "made/up/b")
    assert (remote / "made/up/b").read_text() == "one" and not (site / "a").exists() and run.out == b""
    run.ok("files mv", remote / "made/up/b", site)
    run.ok("files mv", site / "deep", f"{remote}/fresh/")
    assert (site / "b").read_text() == "one" and names(remote / "fresh/deep") == ["c"]
    (remote / "old").write_text("old")
    run.ok("files mv", site / "b", remote / "old", "--json")
    assert (remote / "old").read_text() == "one" and listed(run) == {"path": f"{remote}/old"}
    run.ok("files mv", f"{remote}/fresh/", remote / "renamed")
    assert names(remote / "renamed") == ["deep"]


def test_mv_refuses(run: Inside, site: Path) -> None:
    assert f"{site}/none: nothing is there" in run.refused("files mv", site / "none", site / "x")
    assert f"{site}/deep" in run.refused("files mv", site / "deep", site / "deep/below")
    assert "not a directory" in run.refused("files mv", site / "deep", site / "a/x")
    assert names(site) == ["a", "deep", "link"]


def test_rm(run: Inside, site: Path) -> None:
    (site / "b").touch()
    run.ok("files rm", site / "a", site / "b")
    assert names(site) == ["deep", "link"] and run.out == b""
    run.ok("files rm", site / "link", "--json")
    assert listed(run) == {"removed": [f"{site}/link"]} and names(site / "deep") == ["c"], "a link, not its target"
    assert "add -r" in run.refused("files rm", site / "deep")
    run.ok("files rm", "-r", site / "deep")
    assert names(site) == []


def test_rm_goes_on_after_a_failure(run: Inside, site: Path) -> None:
    assert run.run("files rm", site / "none", site / "deep", site / "a", "--json") == 1
    assert listed(run) == {"removed": [f"{site}/a"]} and names(site) == ["deep", "link"]
    first, second = run.err.splitlines()
    assert (
        first.startswith(f"docker-sandbox: error: {site}/none: nothing is there") and f"files ls {ID} {site}" in first
    )
    assert second.startswith(f"docker-sandbox: error: {site}/deep: is a directory.")


class Root(Server):
    """An agent that says of every path that it is the root. It is asked instead of a real one, which would obey."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        super().__init__(socket.create_server(("127.0.0.1", 0)))
        self.address: tuple[str, int] = self._listening.getsockname()

    def talk(self, connection: socket.socket) -> None:
        self.asked.append(connection.recv(65536).split(b" ")[1])
        entry = {"name": "/", "path": "/", "type": "FILE_TYPE_DIRECTORY", "size": "1", "mode": 0o755}
        texts = dict.fromkeys(("permissions", "owner", "group", "modifiedTime"), "x")
        connection.sendall(answer_of(200, {"entry": entry | texts}))


def test_the_whole_sandbox_is_not_removed_by_mistake(run: Inside, control: ControlPlane) -> None:
    agent = Root()
    write_place(run.cli.config, control.path, agent.address)
    assert f"docker-sandbox kill {ID}" in run.refused("files rm", "-r", "..")
    agent.stop()
    assert agent.asked == [b"/filesystem.Filesystem/Stat"]


@pytest.mark.parametrize("verb", ["files ls", "files info", "files rm"])
def test_what_is_absent_ends_with_1(run: Inside, remote: Path, verb: str) -> None:
    message = run.refused(verb, remote / "none")
    assert (
        f"{remote}/none: nothing is there in the sandbox. Look with: docker-sandbox files ls {ID} {remote}" in message
    )


def test_a_sandbox_that_does_not_exist_ends_with_3(
    run: Inside, control: ControlPlane, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run.cli.call("files", "exists", "ffff", "/") == 3
    assert b"ffff" in capfdbinary.readouterr().err


@pytest.mark.parametrize("verb", files.ACTIONS)
def test_as_a_user_that_does_not_exist(run: Inside, remote: Path, verb: str) -> None:
    words = (remote, remote) if verb == "files mv" else (remote,)
    message = run.refused(verb, *words, "--user", "nobody-has-this")
    assert "'nobody-has-this'" in message and "getent passwd" in message and remote.is_dir()


def test_every_verb_of_the_module_has_its_action() -> None:
    assert set(files.ACTIONS) == {name for name in every_name() if find(name).module == "files"}
