"""Whose sandboxes a key sees and acts on: its own; those of the whole host with a key for that."""

import pytest

from console.looking import HOST_ONLY
from tests.unit.console.conftest import Console

READ = ("", "/events", "/log", "/log.txt", "/kill")
ACTIONS = ("pause", "resume", "stop", "start", "kill", "extend")


def test_a_key_sees_what_its_name_has_made(console: Console) -> None:
    own, other, local = console.sandbox("ada"), console.sandbox("bob"), console.sandbox()
    page = console.browser("ada").get("/")
    assert own in page and other not in page and local not in page and "1 running of yours" in page


def test_a_key_of_the_host_sees_everything(console: Console) -> None:
    made = [console.sandbox("ada"), console.sandbox("bob"), console.sandbox()]
    page = console.browser("root", host=True).get("/")
    assert all(one in page for one in made) and "3 running" in page and "<bdi>bob</bdi>" in page


@pytest.mark.parametrize("path", READ)
def test_another_ones_sandbox_is_as_if_there_were_none(console: Console, path: str) -> None:
    other = console.sandbox("bob", name="secret-name")
    browser = console.browser("ada")
    seen = browser.get(f"/sandboxes/{other}{path}", status=404)
    unknown = browser.get(f"/sandboxes/00000000ffff{path}", status=404)
    assert "secret-name" not in seen and seen.replace(other, "ID") == unknown.replace("00000000ffff", "ID")


@pytest.mark.parametrize("action", ACTIONS)
def test_nobody_acts_on_what_is_not_his(console: Console, action: str) -> None:
    for other in (console.sandbox("bob"), console.sandbox()):
        answer = console.browser("ada").send(f"/sandboxes/{other}/{action}", timeout="900")
        assert answer.status_code == 404
        assert [(row.state, row.ends_at) for row in console.world.ledger.find(other)] == [("running", None)]


@pytest.mark.parametrize("words", ["0", "00000000000", "0000000000010", "00000000000G", "..%2Fkeys", "000000000001-x"])
def test_only_whole_ids_are_taken(console: Console, words: str) -> None:
    """sandboxd takes the beginning of one, too: by that somebody could ask who else is there."""
    console.sandbox("ada")
    assert console.browser("ada").client.get(f"/sandboxes/{words}").status_code in (404, 405)


def test_how_anothers_sandbox_ended_is_not_told(console: Console) -> None:
    other = console.sandbox("bob")
    console.world.sandboxes.remove(console.world.sandboxes.find(other), "a secret reason")
    assert "a secret reason" not in console.browser("ada").get(f"/sandboxes/{other}", status=404)
    assert "a secret reason" in console.browser("root", host=True).get(f"/sandboxes/{other}", status=404)


def test_keys_of_one_name_share_and_the_host_is_of_the_key(console: Console) -> None:
    own = console.sandbox("ada")
    assert own in console.browser("ada").get("/")
    assert console.browser("ada", host=True).get("/host") and HOST_ONLY in console.browser("ada").get("/host", 403)


@pytest.mark.parametrize("path", ["/host", "/host/examination", "/host/examination?new"])
def test_the_host_is_not_for_ordinary_keys(console: Console, path: str) -> None:
    browser = console.browser("ada")
    assert HOST_ONLY in browser.get(path, status=403)
    assert 'href="/host"' not in browser.get("/")


def test_what_a_key_makes_is_its_own_and_counts(console: Console) -> None:
    browser = console.browser("ada", most=1)
    made = browser.send("/new", template="base", name="mine", timeout="3600", internet="on")
    assert made.status_code == 303
    (row,) = console.world.ledger.rows("running")
    assert made.headers["location"] == f"/sandboxes/{row.id}"
    assert (row.owner, row.name, row.timeout_s, row.keep) == ("ada", "mine", 3600.0, True)
    refused = browser.send("/new", template="base", name="more", timeout="none")
    assert (
        refused.status_code == 429
        and "may have 1 sandboxes at a time" in refused.text
        and 'value="more"' in refused.text
    )
    assert len(console.world.ledger.rows("running")) == 1
