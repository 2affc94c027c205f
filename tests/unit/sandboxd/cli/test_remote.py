"""What is at a path, and how refusals read."""

import os
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli import remote as there
from sandboxd.cli.agent import Agent, AgentError
from tests.unit.sandboxd.cli.doubles import ID

USERS = f"The users of the sandbox: docker-sandbox exec {ID} 'getent passwd'"


def test_the_kind_of_what_is_there(client: Agent, remote: Path) -> None:
    (remote / "file").touch()
    (remote / "to-directory").symlink_to(remote)
    (remote / "to-nothing").symlink_to("nowhere")
    kinds = {"": "directory", "file": "file", "to-directory": "directory", "to-nothing": "file", "none": ""}
    assert {name: there.kind(client, f"{remote}/{name}") for name in kinds} == kinds
    with pytest.raises(AgentError, match="not a directory"):
        there.kind(client, f"{remote}/file/below")


def test_an_entry_in_plain_words(client: Agent, remote: Path) -> None:
    (remote / "file").write_bytes(b"12345")
    (remote / "file").chmod(0o2640)
    entry = there.entry(client, f"{remote}/file")
    assert entry is not None
    shown = there.described(entry)
    assert (shown["name"], shown["path"], shown["type"]) == ("file", f"{remote}/file", "file")
    assert (shown["size"], shown["mode"], shown["permissions"]) == (5, "2640", "-rw-r-S---")
    assert "symlinkTarget" not in shown and shown["modifiedTime"].endswith("Z")


@pytest.mark.parametrize(("name", "kind"), [("link", "symlink"), ("directory", "directory"), ("pipe", "other")])
def test_types(client: Agent, remote: Path, name: str, kind: str) -> None:
    (remote / "directory").mkdir()
    (remote / "link").symlink_to("directory")
    os.mkfifo(remote / "pipe")
    entry = there.entry(client, f"{remote}/{name}")
    assert entry is not None
    shown = there.described(entry)
    assert shown["type"] == kind
    assert shown.get("symlinkTarget") == (f"{remote}/directory" if name == "link" else None)


@pytest.mark.parametrize(
    ("status", "said", "message"),
    [
        (404, "no such file", f"nothing is there in the sandbox. Look with: docker-sandbox files ls {ID} /x"),
        (401, "invalid username: 'u'", f"invalid username: 'u'. {USERS}"),
        (401, "unauthorized access", "unauthorized access"),
        (403, "permission denied", "permission denied. As another user: --user root"),
        (507, "no space", f"no space. What fills it: docker-sandbox exec {ID} 'df -h; du -xd1 /code'"),
        (400, "is a directory", "is a directory"),
    ],
)
def test_refusals_name_the_path_and_what_to_do(sandbox: dict[str, Any], status: int, said: str, message: str) -> None:
    client = Agent(("127.0.0.1", 1), sandbox)
    for words in (said, f"/x/y: {said}"):
        with pytest.raises(AgentError) as caught, there.about(client, "/x/y"):
            raise AgentError(words, "some_code", status=status)
        assert str(caught.value) == f"/x/y: {message}"
        assert (caught.value.code, caught.value.status, caught.value.exit_code) == ("some_code", status, 1)


def test_a_refusal_of_the_gateway_is_not_about_a_path(sandbox: dict[str, Any]) -> None:
    with pytest.raises(AgentError) as caught, there.about(Agent(("127.0.0.1", 1), sandbox), "/x/y"):
        raise AgentError("the gateway does not reach it", status=502)
    assert str(caught.value) == "the gateway does not reach it"


@pytest.mark.parametrize(
    ("path", "parent"),
    [("/x", "/"), ("/a b/c/", "'/a b'"), ("x", "."), ("a/x", "a"), ("~/x", "'~'")],
)
def test_where_to_look_for_what_is_absent(path: str, parent: str) -> None:
    assert there.absent(ID, path).endswith(f"docker-sandbox files ls {ID} {parent}")
