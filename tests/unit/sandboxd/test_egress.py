"""What a host lets its sandboxes reach, as a value; who may ask for which mode."""

from ipaddress import IPv4Network

import pytest

from sandboxd.egress import MODES, NONE, OPEN, PUBLIC, Egress, mode_of
from sandboxd.errors import BadRequest, Forbidden
from sandboxd.policy import UNRESTRICTED, Policy, parse


@pytest.mark.parametrize("own", MODES)
@pytest.mark.parametrize("asked", ["", *MODES])
def test_a_mode_is_the_hosts_unless_it_is_asked_for(own: str, asked: str) -> None:
    assert mode_of(Egress(mode=own).policy(asked, [], [], trusted=True)) == asked or own


@pytest.mark.parametrize(
    ("own", "may", "asked", "found"),
    [
        (PUBLIC, False, "", PUBLIC),
        (OPEN, False, "", PUBLIC),
        (OPEN, True, "", OPEN),
        (PUBLIC, True, OPEN, OPEN),
        (NONE, False, "", NONE),
        (NONE, False, PUBLIC, PUBLIC),
    ],
)
def test_what_a_key_gets(own: str, may: bool, asked: str, found: str) -> None:
    assert mode_of(Egress(mode=own, keys_may_open=may).policy(asked, [], [], trusted=False)) == found


@pytest.mark.parametrize("own", MODES)
def test_a_key_may_not_ask_for_open_unless_the_host_says_so(own: str) -> None:
    with pytest.raises(Forbidden, match=r"network.mode: 'open' is not for API keys .* api_open_network"):
        Egress(mode=own).policy(OPEN, [], [], trusted=False)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"network.mode: 'some' is none of open, public, none"):
        Egress().policy("some", [], [], trusted=True)


@pytest.mark.parametrize("mode", ["", PUBLIC, NONE])
@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.0/16", "169.254.169.254", "127.0.0.1", "198.51.100.1"])
def test_an_allow_that_would_do_nothing_is_refused(mode: str, address: str) -> None:
    with pytest.raises(BadRequest, match=f"network.allowOut: '{address}.*network_allow"):
        Egress(deny=("198.51.100.0/24",)).policy(mode, [address], [], trusted=True)


def test_an_allow_of_what_is_exempt_or_of_one_that_is_open() -> None:
    assert Egress(allow=("10.1.0.0/16",)).policy(NONE, ["10.1.2.3"], [], trusted=False).allow == ("10.1.2.3",)
    assert Egress().policy("", ["10.200.0.1"], ["0.0.0.0/0"], trusted=False).allow == ("10.200.0.1",), "the host's 443"
    found = Egress().policy(OPEN, ["10.1.2.3"], ["0.0.0.0/0"], trusted=True)
    assert found == Policy(("10.1.2.3",), ("0.0.0.0/0",), True)
    assert Egress().policy("", ["0.0.0.0/0", "203.0.113.7"], [], trusted=False).allow == ("0.0.0.0/0", "203.0.113.7")


def test_what_is_walled_has_no_overlaps() -> None:
    found = Egress(deny=("10.0.0.0/16", "11.0.0.0/8")).walled()
    assert IPv4Network("10.0.0.0/7") in found and found == sorted(set(found))


def test_modes_of_policies() -> None:
    assert mode_of(UNRESTRICTED) == PUBLIC == mode_of(parse([], ["1.0.0.0/8"]))
    assert mode_of(parse([], [], internet=False)) == NONE
    assert mode_of(parse([], ["1.0.0.0/8"], past_wall=True)) == OPEN == mode_of(parse([], ["0.0.0.0/0"], True, True))
