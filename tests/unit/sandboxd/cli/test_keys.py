"""`key create`, `key ls`, `key revoke`, over the daemon's own API."""

import json

import pytest

from sandboxd.keys import Keys
from tests.unit.sandboxd.cli.doubles import Cli
from tests.unit.sandboxd.conftest import World


def test_a_key_is_printed_alone_and_works(cli: Cli, world: World) -> None:
    done = cli.run("key", "create", "ci", "--max-sandboxes", "2")
    key = done.stdout.decode().removesuffix("\n")
    found = Keys(world.ledger).find(key)
    assert done.returncode == 0 and found is not None and (found.name, found.max_sandboxes) == ("ci", 2)
    assert f"docker-sandbox key revoke {found.id}" in done.stderr.decode()
    made = json.loads(cli.out("key", "create", "ci", "--json"))
    assert Keys(world.ledger).find(made["key"]) is not None and made["maxSandboxes"] == 0


def test_the_first_key_is_made_once(cli: Cli, world: World) -> None:
    assert cli.out("key", "create", "default", "--first").startswith("e2b_")
    (key,) = Keys(world.ledger).all()
    cli.out("key", "revoke", key.id)
    done = cli.run("key", "create", "default", "--first")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"") and Keys(world.ledger).all() == []
    assert json.loads(cli.out("key", "create", "default", "--first", "--json")) == {}


def test_ls_shows_no_key(cli: Cli, world: World) -> None:
    assert cli.out("key", "ls") == "no keys; make one with: docker-sandbox key create NAME\n"
    key = cli.out("key", "create", "ci", "--max-sandboxes", "2").strip()
    shown, values = cli.out("key", "ls"), json.loads(cli.out("key", "ls", "--json"))
    assert key not in shown and key not in json.dumps(values)
    head, line = shown.splitlines()
    assert head.split()[:3] == ["KEY", "NAME", "SEES"] and line.endswith("0 of 2")
    assert line.split()[:2] == [values[0]["keyID"], "ci"]


def test_a_key_may_see_the_whole_host(cli: Cli) -> None:
    for words in (["ada"], ["root", "--host"]):
        cli.out("key", "create", *words)
    listed = json.loads(cli.out("key", "ls", "--json"))  # both are of the same moment here: their order is any
    assert {row["name"]: row["host"] for row in listed} == {"ada": False, "root": True}
    shown = [line.split()[1:3] for line in cli.out("key", "ls").splitlines()[1:]]
    assert sorted(shown) == [["ada", "own"], ["root", "host"]]


def test_revoke_tries_all(cli: Cli, world: World) -> None:
    made = [json.loads(cli.out("key", "create", "ci", "--json")) for _ in range(2)]
    done = cli.run("key", "revoke", made[0]["keyID"], "nothing", made[1]["keyID"], "--json")
    assert done.returncode == 3 and b"key 'nothing' not found" in done.stderr
    assert json.loads(done.stdout) == {"revoked": [one["keyID"] for one in made]}
    assert Keys(world.ledger).all() == []


@pytest.mark.parametrize("words", [["No_Name"], ["ci", "--max-sandboxes", "-1"]])
def test_bad_input(cli: Cli, world: World, words: list[str]) -> None:
    done = cli.run("key", "create", *words)
    assert done.returncode != 0 and done.stderr and Keys(world.ledger).all() == []
