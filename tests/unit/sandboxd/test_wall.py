"""The rules that all sandboxes share, as text."""

import re
from ipaddress import IPv4Address, IPv4Network

import pytest

from sandboxd import wall
from sandboxd.egress import Egress

EGRESS = Egress(allow=("10.9.0.0/16",), deny=("198.51.100.0/24",))
DOOR = wall.Door("198.18.0.1", 998, ("10.0.0.53", "fd00::53", "127.0.0.53"))
CHAINS = wall.chains(EGRESS, ["10.0.0.53"], DOOR)


def closed_networks(rules: list[str]) -> list[IPv4Network]:
    return [IPv4Network(rule.split()[2]) for rule in rules if rule.startswith("ip daddr") and rule.endswith("refuse")]


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "127.0.0.1",
        "0.0.0.0",
        "192.0.0.192",
        "168.63.129.16",
        "224.0.0.251",
        "255.255.255.255",
        "198.51.100.7",
    ],
)
def test_what_is_closed(address: str) -> None:
    assert any(IPv4Address(address) in network for network in closed_networks(CHAINS["public"]))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "223.255.255.255", "11.0.0.1"]
)
def test_what_is_not(address: str) -> None:
    assert not any(IPv4Address(address) in network for network in closed_networks(CHAINS["public"]))


def test_a_sandbox_that_no_rule_knows_reaches_nothing() -> None:
    for hook in ("forward", "input"):
        known = CHAINS[hook].index("iifname vmap @from")
        assert CHAINS[hook][known + 1] == 'iifname "sb-*" drop'


def test_sandboxes_are_closed_to_each_other_before_anything_is_said_of_one() -> None:
    assert CHAINS["forward"][0] == 'iifname "sb-*" oifname "sb-*" goto refuse'


def test_the_order_of_the_wall() -> None:
    """The host is closed before what is exempt, which may be a network that the host is in."""
    names, local, exempt, *closed, rest = CHAINS["public"]
    assert names == "ip daddr 10.0.0.53/32 meta l4proto { tcp, udp } th dport 53 accept"
    assert local == "fib daddr type local goto host" and exempt == "ip daddr 10.9.0.0/16 accept"
    assert all(one.endswith("goto refuse") for one in closed) and rest == "accept"
    assert closed[-3:] == [f"tcp dport {mail} goto refuse" for mail in (25, 465, 587)]
    loopback, doors, else_ = CHAINS["host"]
    assert loopback == "ip daddr 127.0.0.0/8 goto refuse" and doors == "tcp dport { 80, 443 } accept"
    assert else_ == "goto refuse"


def test_no_rule_asks_a_set_of_networks() -> None:
    """The kernel fills it a moment after the rule has come."""
    rules = [rule for chain in CHAINS.values() for rule in chain]
    assert [rule for rule in rules if re.search(r"addr [{@]", rule)] == []
    assert [rule for rule in rules if "{" in rule and rule.endswith("refuse") and "!=" not in rule] == []


def test_what_routers_say_of_a_connection_is_heard_before_its_sender_is_judged() -> None:
    answers = CHAINS["forward"].index("oifname vmap @to")
    assert CHAINS["forward"][answers - 1] == 'oifname "sb-*" meta l4proto icmp ct state related accept'
    assert CHAINS["forward"][answers - 2] == 'oifname "sb-*" ct direction original drop'


def test_who_has_names_is_led_to_the_proxy_and_nobody_else_reaches_it() -> None:
    assert CHAINS["asked"] == [
        "iifname @named meta nfproto ipv4 meta l4proto { tcp, udp } th dport 53 dnat ip to 198.18.0.1:15353",
        "iifname @named ip daddr 198.18.0.1 tcp dport 80 dnat ip to 198.18.0.1:15080",
        "iifname @named ip daddr 198.18.0.1 tcp dport 443 dnat ip to 198.18.0.1:15443",
    ]
    assert CHAINS["input"][0] == "ip daddr 198.18.0.1 goto door", "before what single sandboxes may"
    assert CHAINS["door"] == [
        "iifname @named meta l4proto { tcp, udp } th dport 15353 accept",
        "iifname @named tcp dport { 15080, 15443 } accept",
        'iifname != "sb-*" drop',
        "goto refuse",
    ]


def test_the_proxy_is_behind_the_wall_itself() -> None:
    assert CHAINS["dialled"] == ["meta skuid 998 goto dial"]
    answers, first, second, third, v6, local, own, agents, ports, rest, exempt, *closed, last = CHAINS["dial"]
    assert answers == "ct direction reply accept" and first.startswith("ip daddr 10.0.0.53 ")
    assert second == "ip6 daddr fd00::53 meta l4proto { tcp, udp } th dport 53 accept"
    assert third == "ip daddr 127.0.0.53 meta l4proto { tcp, udp } th dport 53 accept"
    assert v6 == "meta nfproto ipv6 goto refuse" and local == "fib daddr type local goto refuse"
    assert own == "ip daddr 10.200.0.0/16 goto refuse", "though it may be in what is exempt"
    assert agents == "ip daddr 10.199.0.0/24 goto refuse"
    assert ports == "tcp dport != { 80, 443 } goto refuse" and rest == "meta l4proto != tcp goto refuse"
    assert exempt == "ip daddr 10.9.0.0/16 accept" and last == "accept"
    assert closed_networks(closed) == closed_networks(CHAINS["public"])


def test_without_the_proxys_user_nobody_is_led_there() -> None:
    found = wall.chains(EGRESS, [], wall.Door("198.18.0.1", None))
    assert found["asked"] == found["dialled"] == found["dial"] == []
    assert found["door"] == ['iifname != "sb-*" drop', "goto refuse"]


def test_builds_are_behind_the_same_wall() -> None:
    assert 'iifname "docker0" goto build' in CHAINS["forward"] and 'iifname "docker0" goto build' in CHAINS["input"]
    assert CHAINS["build"][-1] == "goto public"


def test_the_hosts_of_a_fleet_are_there_for_each_other_and_for_no_sandbox_in_any_mode() -> None:
    found = wall.chains(Egress(fleet=("192.0.2.11/32", "192.0.2.12/32"), fleet_ports=(2377, 7946)), [], DOOR)
    jumps = [found["forward"].index(f"iifname {name} jump fleet") for name in ('"sb-*"', '"docker0"')]
    assert max(jumps) < found["forward"].index("iifname vmap @from"), "before what single sandboxes may"
    assert found["fleet"] == [
        "tcp dport 2377 goto hosts",
        "udp dport 2377 goto hosts",
        "tcp dport 7946 goto hosts",
        "udp dport 7946 goto hosts",
    ]
    assert found["hosts"] == ["ip daddr 192.0.2.11/32 goto refuse", "ip daddr 192.0.2.12/32 goto refuse"]
    assert CHAINS["fleet"] == CHAINS["hosts"] == [] and not any("jump fleet" in rule for rule in CHAINS["forward"])


def test_without_name_servers_and_exemptions_there_are_no_rules_for_them() -> None:
    found = wall.chains(Egress(deny=EGRESS.deny), [], DOOR)
    assert len(found["public"]) == len(CHAINS["public"]) - 2 and len(found["back"]) == len(CHAINS["back"]) - 2


def test_the_text_makes_all_of_it_and_may_be_repeated() -> None:
    made = wall.build("acme-policies", EGRESS, ["10.0.0.53"], DOOR)
    lines = made.text.splitlines()
    assert lines[0] == "add table inet acme-policies"
    forward = "{ type filter hook forward priority filter - 10; policy accept; }"
    assert f"add chain inet acme-policies forward {forward}" in lines
    assert made.counts == {chain: len(rules) for chain, rules in CHAINS.items()}
    for chain, rules in CHAINS.items():
        flushed = lines.index(f"flush chain inet acme-policies {chain}")
        if not rules:
            continue
        first = lines.index(f'add rule inet acme-policies {chain} {rules[0]} comment "{made.mark}"')
        assert flushed < first
        assert lines[first : first + len(rules)] == [
            f'add rule inet acme-policies {chain} {rule} comment "{made.mark}"' for rule in rules
        ]
    assert wall.build("acme-policies", Egress(), ["10.0.0.53"], DOOR).mark != made.mark, (
        "other settings have another mark"
    )
