"""Names and suites."""

from pathlib import Path

import pytest

from lab.errors import UsageError
from lab.settings import checked_name, container_name, debian_suite, root_id


@pytest.mark.parametrize("name", ["lab", "t1", "a", "a" * 32, "web-2"])
def test_names_that_can_be_host_names(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "-x", "x-", "Lab", "a_b", "../etc", "a" * 33, "ä", "a\n"])
def test_other_names_are_refused_with_the_value_and_the_rule(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_name(name)
    assert repr(name) in caught.value.problem
    assert "a-z" in caught.value.remedy


@pytest.mark.parametrize(
    ("word", "suite"), [("13", "trixie"), ("trixie", "trixie"), ("12", "bookworm"), ("bookworm", "bookworm")]
)
def test_suites_by_number_and_name(word: str, suite: str) -> None:
    assert debian_suite(word) == suite


def test_an_unknown_suite_is_refused_with_the_choice() -> None:
    with pytest.raises(UsageError, match="'sid'") as caught:
        debian_suite("sid")
    assert "bookworm" in caught.value.remedy


def test_two_working_copies_have_different_ids() -> None:
    assert root_id(Path("/a")) != root_id(Path("/b"))
    assert container_name("web").endswith("-web")
