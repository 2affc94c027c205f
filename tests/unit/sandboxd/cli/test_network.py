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
    assert "ip daddr { 192.0.2.7/32, 192.0.2.9/32 } return" in rules(world) and rules(world)[-1] == "goto refuse"
    assert "network    none, allowed: 192.0.2.7 192.0.2.9\n" in cli.out("info", ID)


def test_it_is_replaced_and_shown(used: Cli, world: World) -> None:
    assert used.out("network", ID) == f"{ID}: public\n" and rules(world) == []
    assert used.out("network", ID, "--deny", "10.0.0.0/8") == f"{ID}: public, denied: 10.0.0.0/8\n"
    assert rules(world)[-1] == "ip daddr { 10.0.0.0/8 } goto refuse"
    assert used.out("network", ID[:4], "--network", "none") == f"{ID}: none\n"
    assert used.out("network", ID) == f"{ID}: none\n", "to look changes nothing"
    assert rules(world) == nftables.chains(world.ledger.find(ID)[0].policy)["from"]
    values = json.loads(used.out("network", ID, "--network", "public", "--json"))
    assert (values["allowInternetAccess"], values["network"]) == (True, {"allowOut": [], "denyOut": []})
    assert "Token" not in json.dumps(values) and rules(world) == []


def test_one_that_is_stopped_has_it_when_it_starts(used: Cli, world: World) -> None:
    used.out("stop", ID)
    assert used.out("network", ID, "--network", "none") == f"{ID}: none\n"
    used.out("start", ID)
    assert rules(world)[-1] == "goto refuse"


def test_what_is_wrong_is_said(used: Cli, world: World) -> None:
    done = used.run("network", ID, "--deny", "example.com")
    assert done.returncode == 1 and b"network.denyOut: 'example.com' is a name" in done.stderr and rules(world) == []
    done = used.run("init", "--allow", "10.0.0.0/33")
    assert done.returncode == 1 and b"network.allowOut: '10.0.0.0/33'" in done.stderr
    assert used.run("network", ID, "--network", "some").returncode == 2
    assert used.run("network", "ffffffffffff", "--network", "none").returncode == 3


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("--network none", {"allow_internet_access": False, "allowOut": [], "denyOut": []}),
        ("--network public", {"allow_internet_access": True, "allowOut": [], "denyOut": []}),
        ("--allow 1.1.1.1", {"allow_internet_access": True, "allowOut": ["1.1.1.1"], "denyOut": []}),
        (
            "--deny 1.1.1.1 --deny 2.2.2.2",
            {"allow_internet_access": True, "allowOut": [], "denyOut": ["1.1.1.1", "2.2.2.2"]},
        ),
        ("", None),
    ],
)
def test_what_the_control_plane_is_told(lone: Cli, control: ControlPlane, line: str, body: Any) -> None:
    control.answer(f"PUT /sandboxes/{ID}/network", 200, {})
    assert lone.call("network", ID, *line.split()) == 0
    first = control.requests[0]
    assert (first.method, first.body if first.content else None) == ("PUT" if body else "GET", body)


@pytest.mark.parametrize(
    ("internet", "allow", "deny", "said"),
    [
        (True, [], [], "public"),
        (True, ["1.1.1.1"], [], "public"),
        (True, ["1.1.1.1"], ["1.0.0.0/8", "::/0"], "public, denied: 1.0.0.0/8 ::/0, allowed: 1.1.1.1"),
        (False, [], ["10.0.0.0/8", "0.0.0.0/0"], "none"),
        (False, ["1.1.1.1", "2.2.2.2"], ["0.0.0.0/0"], "none, allowed: 1.1.1.1 2.2.2.2"),
    ],
)
def test_sentences(internet: bool, allow: list[str], deny: list[str], said: str) -> None:
    row = {"allowInternetAccess": internet, "network": {"allowOut": allow, "denyOut": deny}}
    assert printing.network(row) == said
