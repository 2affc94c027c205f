"""`network`, and what `init` and `info` say of it: over the daemon's own API."""

import json
from typing import Any

import pytest

from sandboxd import nftables
from sandboxd.cli import printing
from tests.unit.sandboxd.cli.doubles import ID, Cli, ControlPlane
from tests.unit.sandboxd.conftest import World


def rules(world: World) -> list[str]:
    (row,) = world.ledger.find(ID)
    return world.nft.rules(row.slot)


def test_init_makes_it_so_and_info_shows_it(cli: Cli, world: World) -> None:
    cli.out("init", "--network", "none", "--allow", "192.0.2.7", "--allow", "192.0.2.9")
    allowed = [f"ip daddr 192.0.2.{number}/32 goto public" for number in (7, 9)]
    assert rules(world)[-3:] == [*allowed, "goto refuse"]
    assert "network    none, allowed: 192.0.2.7 192.0.2.9\n" in cli.out("info", ID)


def test_it_is_replaced_and_shown(used: Cli, world: World) -> None:
    assert used.out("network", ID) == f"{ID}: public\n" and rules(world)[-1] == "goto public"
    assert used.out("network", ID, "--deny", "1.0.0.0/8") == f"{ID}: public, denied: 1.0.0.0/8\n"
    assert rules(world)[-2:] == ["ip daddr 1.0.0.0/8 goto refuse", "goto public"]
    assert used.out("network", ID, "--network", "open", "--allow", "10.1.2.3") == f"{ID}: open\n"
    assert rules(world)[-1] == "accept"
    assert used.out("network", ID[:4], "--network", "none") == f"{ID}: none\n"
    assert used.out("network", ID) == f"{ID}: none\n", "to look changes nothing"
    assert rules(world) == nftables.chains(world.ledger.find(ID)[0].policy)["from"]
    values = json.loads(used.out("network", ID, "--network", "public", "--json"))
    assert (values["allowInternetAccess"], values["network"]) == (
        True,
        {"mode": "public", "allowOut": [], "denyOut": []},
    )
    assert "Token" not in json.dumps(values) and rules(world)[-1] == "goto public"


def test_one_that_is_stopped_has_it_when_it_starts(used: Cli, world: World) -> None:
    used.out("stop", ID)
    assert used.out("network", ID, "--network", "none") == f"{ID}: none\n"
    used.out("start", ID)
    assert rules(world)[-1] == "goto refuse"


def test_what_is_wrong_is_said(used: Cli, world: World) -> None:
    before = rules(world)
    done = used.run("network", ID, "--deny", "example.com")
    assert done.returncode == 1 and b"network.denyOut: 'example.com' is a name" in done.stderr
    done = used.run("network", ID, "--allow", "10.1.2.3")
    assert done.returncode == 1 and b"'10.1.2.3/32' is in a private or reserved network" in done.stderr
    assert rules(world) == before
    done = used.run("init", "--allow", "10.0.0.0/33")
    assert done.returncode == 1 and b"network.allowOut: '10.0.0.0/33'" in done.stderr
    assert used.run("network", ID, "--network", "some").returncode == 2
    assert used.run("network", "ffffffffffff", "--network", "none").returncode == 3


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("--network none", {"mode": "none", "allowOut": [], "denyOut": []}),
        ("--network open", {"mode": "open", "allowOut": [], "denyOut": []}),
        ("--allow 1.1.1.1", {"mode": "", "allowOut": ["1.1.1.1"], "denyOut": []}),
        ("--deny 1.1.1.1 --deny 2.2.2.2", {"mode": "", "allowOut": [], "denyOut": ["1.1.1.1", "2.2.2.2"]}),
        ("", None),
    ],
)
def test_what_the_control_plane_is_told(lone: Cli, control: ControlPlane, line: str, body: Any) -> None:
    control.answer(f"PUT /sandboxes/{ID}/network", 200, {})
    assert lone.call("network", ID, *line.split()) == 0
    first = control.requests[0]
    assert (first.method, first.body if first.content else None) == ("PUT" if body else "GET", body)


@pytest.mark.parametrize(
    ("mode", "allow", "deny", "said"),
    [
        ("public", [], [], "public"),
        ("open", [], [], "open"),
        ("public", ["1.1.1.1"], [], "public"),
        ("public", ["1.1.1.1"], ["1.0.0.0/8", "::/0"], "public, denied: 1.0.0.0/8 ::/0, allowed: 1.1.1.1"),
        ("open", [], ["10.0.0.0/8"], "open, denied: 10.0.0.0/8"),
        ("none", [], ["10.0.0.0/8", "0.0.0.0/0"], "none"),
        ("none", ["1.1.1.1", "2.2.2.2"], ["0.0.0.0/0"], "none, allowed: 1.1.1.1 2.2.2.2"),
    ],
)
def test_sentences(mode: str, allow: list[str], deny: list[str], said: str) -> None:
    row = {"allowInternetAccess": mode != "none", "network": {"mode": mode, "allowOut": allow, "denyOut": deny}}
    assert printing.network(row) == said
