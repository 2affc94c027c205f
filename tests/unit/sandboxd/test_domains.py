"""Names in allow lists, as values."""

import pytest

from sandboxd import domains


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ("pypi.org", "pypi.org"),
        ("PyPI.Org.", "pypi.org"),
        ("*.pythonhosted.org", "*.pythonhosted.org"),
        ("*.dev", "*.dev"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("1.2.3.4.example.com", "1.2.3.4.example.com"),
        (f"{'a' * 63}.com", f"{'a' * 63}.com"),
    ],
)
def test_a_name_as_it_is_kept(entry: str, kept: str) -> None:
    assert domains.is_name(entry) and domains.normal(entry) == kept and domains.is_name(kept)


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "*.",
        "*.*.example.com",
        "a.*.example.com",
        "*example.com",
        "pypi",
        "example..com",
        ".example.com",
        "-a.example.com",
        "a-.example.com",
        "a_b.example.com",
        "a b.example.com",
        "example.com/path",
        "example.com|other.com",
        "example.com\n",
        "a.300",
        "*.300",
        f"{'a' * 64}.com",
        ".".join(["a" * 60] * 5),
        f"{'ü' * 64}.com",
    ],
)
def test_what_is_no_name(entry: str) -> None:
    assert domains.is_name(entry)
    with pytest.raises(ValueError, match=r"^(is no name|has no dot|ends with a number)"):
        domains.normal(entry)


@pytest.mark.parametrize("entry", ["10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "", "300.1.1.1"])
def test_what_is_meant_as_an_address(entry: str) -> None:
    assert not domains.is_name(entry)
