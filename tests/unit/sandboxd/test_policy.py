"""Where a sandbox may connect to, as a value."""

from ipaddress import IPv4Network

import pytest

from sandboxd import domains
from sandboxd.errors import BadRequest
from sandboxd.policy import EVERYTHING, MOST, UNRESTRICTED, Policy, from_text, parse, to_text


def test_what_was_given_is_kept_and_what_it_means_has_no_overlaps() -> None:
    policy = parse(["192.0.2.7"], ["10.1.2.3/8", "10.200.0.0/16", "192.0.2.0/25", "192.0.2.128/25"])
    assert policy.deny == ("10.1.2.3/8", "10.200.0.0/16", "192.0.2.0/25", "192.0.2.128/25")
    assert policy.denied() == [IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.0/24")]
    assert policy.allowed() == [IPv4Network("192.0.2.7/32")]
    assert policy.restricts and not policy.closed


@pytest.mark.parametrize(
    ("policy", "restricts", "closed"),
    [
        (UNRESTRICTED, False, False),
        (parse(["192.0.2.7"], []), False, False),
        (parse([], ["2001:db8::/32", "::/0"]), False, False),
        (parse([], [EVERYTHING]), True, True),
        (parse(["192.0.2.7"], [EVERYTHING]), True, True),
        (parse([], ["0.0.0.0/1", "128.0.0.0/1"]), True, True),
        (parse([], [], internet=False), True, True),
    ],
)
def test_what_it_amounts_to(policy: Policy, restricts: bool, closed: bool) -> None:
    assert (policy.restricts, policy.closed) == (restricts, closed)


def test_no_internet_is_a_deny_of_everything() -> None:
    assert parse(["192.0.2.7"], ["10.0.0.0/8"], internet=False) == Policy(("192.0.2.7",), ("10.0.0.0/8", EVERYTHING))
    assert parse([], [EVERYTHING], internet=False).deny == (EVERYTHING,)


def test_an_allow_wins() -> None:
    policy = parse(["10.1.0.0/16"], ["10.0.0.0/8"])
    assert [policy.permits(one) for one in ("10.1.2.3", "10.2.0.1", "192.0.2.1")] == [True, False, True]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("300.1.1.1", "'300.1.1.1' is no address and no CIDR"),
        ("10.0.0.0/33", "'10.0.0.0/33' is no address"),
        ("", "'' is no address"),
        (" 10.0.0.0/8", "' 10.0.0.0/8' is no address"),
        ("1.1.1.1; flush ruleset", "is "),
        ("::g", "'::g' is no address"),
    ],
)
@pytest.mark.parametrize("field", ["allowOut", "denyOut"])
def test_what_is_no_address_is_refused_with_its_value(field: str, value: str, said: str) -> None:
    lists = {"allowOut": ([value], []), "denyOut": ([], ["10.0.0.0/8", value])}[field]
    with pytest.raises(BadRequest) as error:
        parse(*lists)
    assert str(error.value).startswith(f"network.{field}: ") and said in str(error.value)


def test_names_are_allowed_where_all_else_is_denied() -> None:
    policy = parse(["192.0.2.7", "PyPI.org", "*.PythonHosted.org."], [], internet=False)
    assert policy.allow == ("192.0.2.7", "pypi.org", "*.pythonhosted.org")
    assert policy.names == ("pypi.org", "*.pythonhosted.org") and policy.allowed() == [IPv4Network("192.0.2.7/32")]
    assert policy.closed and policy.permits("192.0.2.7") and not policy.permits("192.0.2.8")
    assert parse(["pypi.org"], [EVERYTHING]).names == ("pypi.org",) and UNRESTRICTED.names == ()


@pytest.mark.parametrize("denied", [[], ["10.0.0.0/8"], ["::/0"]])
def test_a_name_beside_what_is_open_would_do_nothing(denied: list[str]) -> None:
    with pytest.raises(BadRequest, match=r"allowOut: 'pypi.org' is a name, which does nothing unless .*0.0.0.0/0"):
        parse(["pypi.org"], denied)


def test_names_cannot_be_denied() -> None:
    with pytest.raises(BadRequest, match=r"denyOut: 'pypi.org' is a name, and names can only be allowed"):
        parse([], [EVERYTHING, "pypi.org"])


def test_a_name_that_is_none_is_refused_with_its_value() -> None:
    with pytest.raises(BadRequest, match=r"allowOut: 'pypi' has no dot: give whole names"):
        parse(["pypi"], [EVERYTHING])


@pytest.mark.parametrize("names", [["a.example.com"] * (domains.MOST + 1), [f"{'a' * 60}.{n}.com" for n in range(70)]])
def test_names_have_a_limit(names: list[str]) -> None:
    parse(names[:50], [EVERYTHING])
    with pytest.raises(BadRequest, match=rf"allowOut: {len(names)} names with \d+ characters are too many"):
        parse(names, [EVERYTHING])


def test_ipv6_cannot_be_allowed() -> None:
    with pytest.raises(BadRequest, match=r"network.allowOut: '2001:db8::1' cannot be allowed.* no IPv6"):
        parse(["2001:db8::1"], [])


def test_lists_have_a_limit() -> None:
    parse([], ["10.0.0.1"] * MOST)
    with pytest.raises(BadRequest, match="denyOut: 1001 entries are too many"):
        parse([], ["10.0.0.1"] * (MOST + 1))


def test_there_and_back() -> None:
    policy = parse(["192.0.2.7"], ["10.0.0.0/8", "::/0"])
    assert from_text(to_text(policy)) == policy and from_text("{}") == UNRESTRICTED
    named = parse(["*.pythonhosted.org", "192.0.2.7"], [EVERYTHING])
    assert from_text(to_text(named)) == named
    wide = parse([], ["10.0.0.0/8"], past_wall=True)
    assert wide.open and from_text(to_text(wide)) == wide and not UNRESTRICTED.open
