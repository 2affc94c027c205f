"""The host's rules, as text; what stands, from nft's own listing."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from sandboxd import nftables
from sandboxd.errors import HostError
from sandboxd.policy import UNRESTRICTED, Policy, parse
from tests.unit.sandboxd.conftest import FakeNft

SLOT, OTHER = "0a1b2c3d4e5f", "f" * 12
TABLE = nftables.table_name("acme")
CLOSED = parse([], [], internet=False)
PARTLY = parse(["10.1.0.0/16", "192.0.2.7"], ["10.0.0.0/8", "203.0.113.0/24"])


def test_a_closed_sandbox_sends_nothing_but_answers() -> None:
    assert nftables.chains(CLOSED) == {
        "from": ["ct direction reply return", "meta nfproto ipv6 goto refuse", "goto refuse"],
        "to": ["ct direction original return", "meta l4proto != tcp drop"],
    }


def test_an_allow_stands_before_a_deny_both_ways() -> None:
    assert nftables.chains(PARTLY) == {
        "from": [
            "ct direction reply return",
            "ip daddr { 10.1.0.0/16, 192.0.2.7/32 } return",
            "meta nfproto ipv6 goto refuse",
            "ip daddr { 10.0.0.0/8, 203.0.113.0/24 } goto refuse",
        ],
        "to": [
            "ct direction original return",
            "ip saddr { 10.1.0.0/16, 192.0.2.7/32 } return",
            "ip saddr { 10.0.0.0/8, 203.0.113.0/24 } meta l4proto != tcp drop",
        ],
    }


@pytest.mark.parametrize("policy", [UNRESTRICTED, parse(["192.0.2.7"], []), parse([], ["::/0"])])
def test_where_nothing_is_denied_there_are_no_rules(policy: Policy) -> None:
    assert nftables.chains(policy) == {} and nftables.marks(policy) == Counter()


def test_the_script_of_one_sandbox() -> None:
    lines = nftables.script(TABLE, SLOT, CLOSED).splitlines()
    for hook in ("forward", "input"):
        made = f"{{ type filter hook {hook} priority filter - 10; policy accept; }}"
        assert f"add chain inet {TABLE} {hook} {made}" in lines
    own = lines[lines.index(f"add chain inet acme-policies from-{SLOT}") :]
    (to_mark, to_count), (from_mark, from_count) = sorted(nftables.marks(CLOSED).items(), reverse=True)
    assert (to_mark[:3], to_count, from_mark[:5], from_count) == ("to ", 2, "from ", 3)
    assert own == [
        f"add chain inet acme-policies from-{SLOT}",
        f"flush chain inet acme-policies from-{SLOT}",
        f'add rule inet acme-policies from-{SLOT} ct direction reply return comment "{from_mark}"',
        f'add rule inet acme-policies from-{SLOT} meta nfproto ipv6 goto refuse comment "{from_mark}"',
        f'add rule inet acme-policies from-{SLOT} goto refuse comment "{from_mark}"',
        f'add element inet acme-policies from {{ "sb-{SLOT}" : jump from-{SLOT} }}',
        f"add chain inet acme-policies to-{SLOT}",
        f"flush chain inet acme-policies to-{SLOT}",
        f'add rule inet acme-policies to-{SLOT} ct direction original return comment "{to_mark}"',
        f'add rule inet acme-policies to-{SLOT} meta l4proto != tcp drop comment "{to_mark}"',
        f'add element inet acme-policies to {{ "sb-{SLOT}" : jump to-{SLOT} }}',
    ]


def test_what_was_applied_stands_until_it_is_taken_away() -> None:
    nft = FakeNft()
    assert nftables.standing(TABLE, nft.run) == {}
    for policy in (CLOSED, PARTLY, CLOSED):
        nftables.apply(TABLE, SLOT, policy, nft.run)
        assert nftables.standing(TABLE, nft.run) == {SLOT: nftables.marks(policy)}
    nftables.apply(TABLE, OTHER, PARTLY, nft.run)
    for _ in range(2):  # the second time nothing is there
        nftables.apply(TABLE, SLOT, UNRESTRICTED, nft.run)
        assert nftables.standing(TABLE, nft.run) == {OTHER: nftables.marks(PARTLY)}
    nft.flush()
    assert nftables.standing(TABLE, nft.run) == {}


def damage_flush(nft: FakeNft) -> None:
    nft.chains[f"from-{SLOT}"].clear()


def damage_one_rule(nft: FakeNft) -> None:
    del nft.chains[f"to-{SLOT}"][0]


def damage_element(nft: FakeNft) -> None:
    del nft.maps["to"][f'"sb-{SLOT}"']


def damage_base(nft: FakeNft) -> None:
    nft.chains["forward"].pop()


@pytest.mark.parametrize("damage", [damage_flush, damage_one_rule, damage_element])
def test_damage_is_seen(damage: Callable[[FakeNft], None]) -> None:
    nft = FakeNft()
    nftables.apply(TABLE, SLOT, PARTLY, nft.run)
    damage(nft)
    assert nftables.standing(TABLE, nft.run)[SLOT] != nftables.marks(PARTLY)


def test_what_all_share_is_mended_at_a_look() -> None:
    nft = FakeNft()
    nftables.apply(TABLE, SLOT, PARTLY, nft.run)
    damage_base(nft)
    assert nftables.standing(TABLE, nft.run) == {SLOT: nftables.marks(PARTLY)}
    assert len(nft.chains["forward"]) == 2


def test_the_listing_of_nft_itself() -> None:
    """As nft 1.1 prints it, shortened."""
    mark = {"comment": nftables.BASE_MARK}
    rules = [{"rule": {"chain": name, **mark}} for name in ("forward", "forward", "input", *["refuse"] * 4)]
    own = [
        {"chain": {"family": "inet", "table": TABLE, "name": f"from-{SLOT}", "handle": 8}},
        {"map": {"name": "from", "map": "verdict", "elem": [[f"sb-{SLOT}", {"jump": {"target": f"from-{SLOT}"}}]]}},
        {"map": {"name": "to", "map": "verdict", "elem": [[f"sb-{SLOT}", {"jump": {"target": f"to-{SLOT}"}}]]}},
        {"rule": {"chain": f"from-{SLOT}", "comment": "from abc", "expr": []}},
        {"rule": {"chain": f"to-{SLOT}", "expr": []}},
    ]
    shared = [{"metainfo": {"version": "1.1.3"}}, {"table": {"name": TABLE}}, {"map": {"name": "to"}}, *rules]
    assert nftables.parse(json.dumps({"nftables": [*shared, *own]})) == {SLOT: Counter({"from abc": 1, "": 1})}
    assert nftables.parse(json.dumps({"nftables": shared})) == {}
    assert nftables.parse(json.dumps({"nftables": shared[:-1]})) is None
    of_another_release = json.dumps({"nftables": shared}).replace(nftables.BASE_MARK, "1" * 16)
    assert nftables.parse(of_another_release) is None


def test_commands_are_run_with_their_input() -> None:
    assert nftables.run(["cat"], "text\n") == "text\n"
    with pytest.raises(HostError, match="sh -c echo no >&2; exit 3: no"):
        nftables.run(["sh", "-c", "echo no >&2; exit 3"], "")
    with pytest.raises(HostError, match=r"no-such-program: .*Is nftables installed on the host"):
        nftables.run(["no-such-program"], "")


def test_a_program_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "TIMEOUT_S", 0.05)
    with pytest.raises(HostError, match=r"sleep 30: .*timed out"):
        nftables.run(["sleep", "30"], "")
