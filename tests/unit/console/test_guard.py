"""Headers of every answer, and requests that come from elsewhere."""

import pytest
from starlette.datastructures import Headers

from console.guard import foreign, headers, policy
from tests.unit.console.conftest import ORIGIN, Console

WANTED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "strict-transport-security": "max-age=31536000",
}

SIBLING = "https://qa-000000000001.example.com"
OTHERS = ["", "null", "https://example.com", SIBLING, f"{ORIGIN}:8443", ORIGIN.replace("s:", ":")]


@pytest.mark.parametrize("path", ["/", "/sign-in", "/nothing", "/health", "/assets/console.css", "/assets/nothing"])
def test_every_answer_has_the_headers(console: Console, path: str) -> None:
    for client in (console.client, console.browser().client):
        answer = client.get(path)
        assert {name: answer.headers[name] for name in WANTED} == WANTED, answer.status_code
        assert "server" not in answer.headers and answer.headers["content-security-policy"] == policy(ORIGIN)


def test_the_policy_allows_nothing_that_stands_in_a_page() -> None:
    rules = dict(rule.split(" ", 1) for rule in policy(ORIGIN).split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["form-action"] == "'self'"
    assert "unsafe" not in policy(ORIGIN) and "*" not in policy(ORIGIN)


def test_pages_are_not_stored_and_files_are(console: Console) -> None:
    browser = console.browser()
    assert browser.client.get("/").headers["cache-control"] == "no-store"
    page = browser.get("/")
    address = page.split('rel="stylesheet" href="')[1].split('"')[0]
    found = browser.client.get(address)
    assert "immutable" in found.headers["cache-control"] and found.headers["content-type"].startswith("text/css")
    assert browser.client.get("/assets/console.css?old").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("origin", OTHERS)
def test_a_form_of_another_origin_does_nothing(console: Console, origin: str) -> None:
    """A page that a sandbox serves is of the same site, so the cookie comes with its requests."""
    browser, made = console.browser("ada"), console.sandbox("ada")
    data = {"token": browser.token()}
    answer = browser.client.post(f"/sandboxes/{made}/kill", data=data, headers={"Origin": origin})
    assert answer.status_code == 403 and len(console.world.ledger.rows("running")) == 1
    _, text = console.key()
    assert console.client.post("/sign-in", data={"key": text}, headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize("token", [None, "", "0" * 64, "another's"])
def test_a_form_without_the_sessions_token_does_nothing(console: Console, token: str | None) -> None:
    browser, made = console.browser("ada"), console.sandbox("ada")
    if token == "another's":
        token = console.browser("ada").token()
    data = {} if token is None else {"token": token}
    for path in (f"/sandboxes/{made}/kill", "/new", "/sign-out"):
        answer = browser.client.post(path, data={"timeout": "900", **data})
        assert answer.status_code == 403 and "another session" in answer.text, path
    assert len(console.world.ledger.rows("running")) == 1 and browser.get("/")


@pytest.mark.parametrize(
    ("site", "mode", "refused"),
    [
        ("same-origin", "cors", False),
        ("none", "navigate", False),
        ("cross-site", "navigate", False),
        ("same-site", "navigate", False),
        ("same-site", "cors", True),
        ("same-site", "no-cors", True),
        ("cross-site", "no-cors", True),
    ],
)
def test_what_other_pages_load_is_refused(site: str, mode: str, refused: bool) -> None:
    assert foreign("GET", Headers({"sec-fetch-site": site, "sec-fetch-mode": mode}), ORIGIN) is refused


def test_old_browsers_say_nothing_about_it() -> None:
    assert not foreign("GET", Headers({}), ORIGIN) and foreign("POST", Headers({}), ORIGIN)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"])
def test_other_methods_are_not_taken(console: Console, method: str) -> None:
    assert console.browser().client.request(method, "/").status_code == 405


def test_no_answer_lets_others_read_it() -> None:
    assert not any(name.lower().startswith("access-control") for name in headers(ORIGIN))
