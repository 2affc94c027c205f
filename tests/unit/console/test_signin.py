"""Signing in and out: with which keys, for how long, and what is answered to those who only try."""

import logging

import pytest

from console.sessions import COOKIE, LIFE_S
from console.signin import WRONG
from sandboxd.keys import Keys
from tests.unit.console.conftest import Console


def test_without_a_session_there_is_only_the_form(console: Console) -> None:
    for path in ("/", "/new", "/host", "/sandboxes/000000000001", "/sandboxes/000000000001/log.txt"):
        answer = console.client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in"), path
    polled = console.client.get("/", headers={"HX-Request": "true"})
    assert (polled.status_code, polled.headers["hx-redirect"], polled.text) == (401, "/sign-in", "")
    followed = console.client.get("/sandboxes/000000000001/log", headers={"Accept": "text/event-stream"})
    assert followed.status_code == 401
    assert 'name="key"' in console.client.get("/sign-in").text


def test_a_key_opens_a_session(console: Console) -> None:
    key, text = console.key()
    answer = console.client.post("/sign-in", data={"key": f" {text}\n"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=") and text not in cookie and key.id in cookie
    assert {"Path=/", "HttpOnly", "Secure", "SameSite=Strict"} <= set(cookie.split("; ")) and "Domain" not in cookie
    assert "ada" in console.client.get("/").text
    assert console.client.get("/sign-in").headers["location"] == "/"


@pytest.mark.parametrize(
    "text",
    ["e2b_" + "0" * 40, "x", "x" * 150, "x" * 250, "e2b_\ud7ffü", "<script>", "e2b_" + "\x07" * 40, "' OR 1=1 --"],
)
def test_what_is_no_key_opens_nothing(console: Console, text: str) -> None:
    answer = console.client.post("/sign-in", data={"key": text})
    assert answer.status_code == 401 and WRONG in answer.text and "set-cookie" not in answer.headers
    assert text not in answer.text or len(text) == 1


def test_an_empty_key_is_asked_for_again(console: Console) -> None:
    assert "e2b_ and 40 more" in console.client.post("/sign-in", data={"key": " "}).text


def test_failures_of_one_address_are_bounded(console: Console) -> None:
    _, text = console.key()
    for _ in range(10):
        assert console.client.post("/sign-in", data={"key": "wrong"}).status_code == 401
    refused = console.client.post("/sign-in", data={"key": text})
    assert refused.status_code == 429 and "Too many" in refused.text and int(refused.headers["retry-after"]) > 500
    elsewhere = console.client.post(
        "/sign-in", data={"key": text}, headers={"X-Forwarded-For": "9.9.9.9, 198.51.100.1"}
    )
    assert elsewhere.status_code == 303, "nobody is locked out by somebody else"


def test_no_key_is_logged(console: Console, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, text = console.key()
    console.client.post("/sign-in", data={"key": text})
    console.client.post("/sign-in", data={"key": text[:-1] + "g"})
    assert "signed in from 203.0.113.7" in caplog.text and "failed" in caplog.text
    assert text[4:30] not in caplog.text


def test_signing_out_ends_the_session_and_not_only_the_cookie(console: Console) -> None:
    browser = console.browser()
    cookie = browser.cookie()
    answer = browser.send("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    again = console.start()  # after a restart, too
    again.cookies.set(COOKIE, cookie)
    assert again.get("/").status_code == 303


def test_a_revoked_key_ends_its_sessions(console: Console) -> None:
    browser = console.browser()
    browser.get("/")
    Keys(console.world.ledger).revoke(browser.key.id)
    assert browser.client.get("/").headers["location"] == "/sign-in"


def test_a_session_has_an_end_and_survives_a_restart(console: Console) -> None:
    browser = console.browser()
    later = console.start()
    later.cookies.set(COOKIE, browser.cookie())
    console.now[0] += LIFE_S - 5
    assert later.get("/").status_code == 200
    console.now[0] += 10
    assert later.get("/").status_code == 303


def test_a_later_key_with_the_same_id_is_another(console: Console) -> None:
    browser = console.browser()
    with console.world.ledger._transaction():
        console.world.ledger._db.execute("UPDATE keys SET created_at = ?", (console.now[0] + 60,))
    assert browser.client.get("/").status_code == 303


@pytest.mark.parametrize("change", ["shorter", "another key", "longer life", "another signature", "nothing"])
def test_a_cookie_that_we_did_not_sign(console: Console, change: str) -> None:
    browser = console.browser()
    parts = browser.cookie().split(".")
    changed = {
        "shorter": parts[:-1],
        "another key": [parts[0], "deadbeef", *parts[2:]],
        "longer life": [*parts[:3], str(int(parts[3]) + 1), parts[4]],
        "another signature": [*parts[:4], "0" * 64],
        "nothing": [""],
    }[change]
    fresh = console.start()
    fresh.cookies.set(COOKIE, ".".join(changed))
    assert fresh.get("/").status_code == 303


def test_while_sandboxd_is_away_nobody_is_signed_out(console: Console) -> None:
    browser = console.browser()
    console.world.config.socket.unlink()
    later = console.start()
    later.cookies.set(COOKIE, browser.cookie())
    answer = later.get("/")
    assert answer.status_code == 503 and "does not answer" in answer.text and "set-cookie" not in answer.headers


@pytest.mark.parametrize("other", ["a=b c", 'a={"x":1}', "a=Tue Jan 5", "=", ";;"])
def test_a_cookie_of_a_preview_locks_nobody_out(console: Console, other: str) -> None:
    """Any page below the domain can set one for all of it."""
    browser, fresh = console.browser(), console.start()
    answer = fresh.get("/", headers={"Cookie": f"{other}; {COOKIE}={browser.cookie()}; {other}"})
    assert answer.status_code == 200
