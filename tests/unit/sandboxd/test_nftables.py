"""The host's rules of single sandboxes, as text; what stands, from nft's own listing."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from sandboxd import nftables, wall
from sandboxd.egress import Egress
from sandboxd.errors import HostError
from sandboxd.policy import UNRESTRICTED, Policy, parse
from tests.unit.sandboxd.fake_host import FakeNft

SLOT, OTHER = "0a1b2c3d4e5f", "f" * 12
TABLE = nftables.table_name("acme")
DOOR = wall.Door("198.18.0.1", 998)
WALL = wall.build(TABLE, Egress(), ["192.0.2.53"], DOOR)
CLOSED = parse([], [], internet=False)
NAMED = parse(["pypi.org", "192.0.2.7"], [], internet=False)
PARTLY = parse(["198.51.100.0/25", "192.0.2.7"], ["198.51.100.0/24", "203.0.113.0/24"])
OPEN = parse([], [], past_wall=True)


def apply(nft: FakeNft, slot: str, policy: Policy) -> None:
    nftables.apply(nftables.script(TABLE, slot, policy), nft.run)


@pytest.fixture
def nft() -> FakeNft:
    made = FakeNft()
    nftables.apply(WALL.text, made.run)
    return made


def test_a_closed_sandbox_sends_nothing_but_answers() -> None:
    assert nftables.chains(CLOSED) == {
        "from": ["ct direction reply accept", "meta nfproto ipv6 goto refuse", "goto refuse"],
        "to": ["meta l4proto != tcp drop", "accept"],
    }


@pytest.mark.parametrize("policy", [UNRESTRICTED, parse(["192.0.2.7"], []), parse([], ["::/0"])])
def test_where_nothing_is_denied_the_wall_judges(policy: Policy) -> None:
    assert nftables.chains(policy) == {
        "from": ["ct direction reply accept", "meta nfproto ipv6 goto refuse", "goto public"],
        "to": ["goto back"],
    }


def test_one_that_is_open_passes_the_wall() -> None:
    assert nftables.chains(OPEN) == {
        "from": ["ct direction reply accept", "meta nfproto ipv6 goto refuse", "accept"],
        "to": ["accept"],
    }


def test_an_allow_stands_before_a_deny_both_ways_and_both_before_the_wall() -> None:
    assert nftables.chains(PARTLY) == {
        "from": [
            "ct direction reply accept",
            "meta nfproto ipv6 goto refuse",
            "ip daddr 192.0.2.7/32 goto public",
            "ip daddr 198.51.100.0/25 goto public",
            "ip daddr 198.51.100.0/24 goto refuse",
            "ip daddr 203.0.113.0/24 goto refuse",
            "goto public",
        ],
        "to": [
            "ip saddr 192.0.2.7/32 goto back",
            "ip saddr 198.51.100.0/25 goto back",
            "ip saddr 198.51.100.0/24 meta l4proto != tcp drop",
            "ip saddr 203.0.113.0/24 meta l4proto != tcp drop",
            "goto back",
        ],
    }


def test_names_are_no_rules_but_lead_to_the_proxy() -> None:
    assert nftables.chains(NAMED) == nftables.chains(parse(["192.0.2.7"], [], internet=False))
    last = nftables.script(TABLE, SLOT, NAMED).splitlines()[-1]
    assert last == f'add element inet acme-policies named {{ "sb-{SLOT}" }}'
    assert nftables.marks(NAMED)["named"] == 1 and "named" not in nftables.marks(CLOSED)
    other = parse(["example.com", "192.0.2.7"], [], internet=False)
    assert nftables.marks(NAMED) != nftables.marks(other), "an old copy of the ledger is known by it"


def test_the_script_of_one_sandbox() -> None:
    lines = nftables.script(TABLE, SLOT, CLOSED).splitlines()
    (to_mark, to_count), (from_mark, from_count) = sorted(nftables.marks(CLOSED).items(), reverse=True)
    assert (to_mark[:3], to_count, from_mark[:5], from_count) == ("to ", 2, "from ", 3)
    assert lines == [
        f"add chain inet acme-policies from-{SLOT}",
        f"flush chain inet acme-policies from-{SLOT}",
        f'add rule inet acme-policies from-{SLOT} ct direction reply accept comment "{from_mark}"',
        f'add rule inet acme-policies from-{SLOT} meta nfproto ipv6 goto refuse comment "{from_mark}"',
        f'add rule inet acme-policies from-{SLOT} goto refuse comment "{from_mark}"',
        f'add element inet acme-policies from {{ "sb-{SLOT}" : jump from-{SLOT} }}',
        f"add chain inet acme-policies to-{SLOT}",
        f"flush chain inet acme-policies to-{SLOT}",
        f'add rule inet acme-policies to-{SLOT} meta l4proto != tcp drop comment "{to_mark}"',
        f'add rule inet acme-policies to-{SLOT} accept comment "{to_mark}"',
        f'add element inet acme-policies to {{ "sb-{SLOT}" : jump to-{SLOT} }}',
        f'add element inet acme-policies named {{ "sb-{SLOT}" }}',
        f'delete element inet acme-policies named {{ "sb-{SLOT}" }}',
    ]


def test_what_was_applied_stands_until_it_is_taken_away(nft: FakeNft) -> None:
    assert nftables.standing(TABLE, WALL, nft.run) == {}
    for policy in (CLOSED, NAMED, PARTLY, OPEN, NAMED, UNRESTRICTED, CLOSED):
        apply(nft, SLOT, policy)
        assert nftables.standing(TABLE, WALL, nft.run) == {SLOT: nftables.marks(policy)}
    apply(nft, OTHER, PARTLY)
    for _ in range(2):  # the second time nothing is there
        nftables.apply(nftables.removal(TABLE, SLOT), nft.run)
        assert nftables.standing(TABLE, WALL, nft.run) == {OTHER: nftables.marks(PARTLY)}
    nft.flush()
    assert nftables.standing(TABLE, WALL, nft.run) is None


def damage_flush(nft: FakeNft) -> None:
    nft.chains[f"from-{SLOT}"].clear()


def damage_one_rule(nft: FakeNft) -> None:
    del nft.chains[f"to-{SLOT}"][0]


def damage_element(nft: FakeNft) -> None:
    del nft.maps["to"][f'"sb-{SLOT}"']


def damage_door(nft: FakeNft) -> None:
    nft.named ^= {f"sb-{SLOT}"}


@pytest.mark.parametrize("damage", [damage_door, damage_flush, damage_one_rule, damage_element])
def test_damage_is_seen(nft: FakeNft, damage: Callable[[FakeNft], None]) -> None:
    apply(nft, SLOT, PARTLY)
    damage(nft)
    found = nftables.standing(TABLE, WALL, nft.run)
    assert found is not None and found[SLOT] != nftables.marks(PARTLY)


@pytest.mark.parametrize("chain", ["forward", "input", "public", "refuse", "seen"])
def test_damage_of_what_all_share_is_seen(nft: FakeNft, chain: str) -> None:
    apply(nft, SLOT, PARTLY)
    nft.chains[chain].pop()
    assert nftables.standing(TABLE, WALL, nft.run) is None
    nftables.apply(WALL.text, nft.run)
    assert nftables.standing(TABLE, WALL, nft.run) == {SLOT: nftables.marks(PARTLY)}


def test_a_rule_that_is_not_ours_is_seen(nft: FakeNft) -> None:
    nft.chains["public"].insert(0, "accept")
    assert nftables.standing(TABLE, WALL, nft.run) is None


def test_the_listing_of_nft_itself() -> None:
    """As nft 1.1 prints it, shortened."""
    mark = {"comment": WALL.mark}
    rules = [{"rule": {"chain": name, **mark}} for name in WALL.counts.elements()]
    own = [
        {"chain": {"family": "inet", "table": TABLE, "name": f"from-{SLOT}", "handle": 8}},
        {"map": {"name": "from", "map": "verdict", "elem": [[f"sb-{SLOT}", {"jump": {"target": f"from-{SLOT}"}}]]}},
        {"map": {"name": "to", "map": "verdict", "elem": [[f"sb-{SLOT}", {"jump": {"target": f"to-{SLOT}"}}]]}},
        {"set": {"name": "named", "type": "ifname", "elem": [f"sb-{SLOT}"]}},
        {"rule": {"chain": f"from-{SLOT}", "comment": "from abc", "expr": []}},
        {"rule": {"chain": f"to-{SLOT}", "expr": []}},
    ]
    shared = [{"metainfo": {"version": "1.1.3"}}, {"table": {"name": TABLE}}, {"map": {"name": "to"}}, *rules]
    listing = json.dumps({"nftables": [*shared, *own]})
    assert nftables.parse(listing, WALL) == {SLOT: Counter({"from abc": 1, "": 1, "named": 1})}
    assert nftables.parse(json.dumps({"nftables": shared}), WALL) == {}
    assert nftables.parse(json.dumps({"nftables": shared[:-1]}), WALL) is None
    assert nftables.parse(listing, wall.build(TABLE, Egress(allow=("10.0.0.1/32",)), [], DOOR)) is None, (
        "other settings"
    )


def test_commands_are_run_with_their_input() -> None:
    assert nftables.run(["cat"], "text\n") == "text\n"
    with pytest.raises(HostError, match="sh -c echo no >&2; exit 3: no"):
        nftables.run(["sh", "-c", "echo no >&2; exit 3"], "")
    with pytest.raises(HostError, match=r"no-such-program: .*Are nftables and iproute2 installed") as missing:
        nftables.run(["no-such-program"], "")
    assert nftables.ABSENT not in str(missing.value), "a program that is missing is no table that is missing"


def test_a_program_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "TIMEOUT_S", 0.05)
    with pytest.raises(HostError, match=r"sleep 30: .*timed out"):
        nftables.run(["sleep", "30"], "")
