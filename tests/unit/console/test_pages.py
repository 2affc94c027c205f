"""What the pages show, whole and in parts; and that what comes from a sandbox stays text."""

import re
from html.parser import HTMLParser

import pytest

from sandboxd.errors import EngineError
from sandboxd.records import Sandbox
from tests.unit.console.conftest import Console
from tests.unit.sandboxd.fake_engine import FakeLog

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e"
VOID = {"meta", "link", "input", "br", "hr", "img"}


class Reader(HTMLParser):
    """What a page is made of: its elements with their attributes, each closed as it was opened."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.elements if "id" in attributes]


def check(page: str) -> Reader:
    """Well-formed; no script, style or handler stands in it, and nothing is fetched from elsewhere."""
    read = Reader(page)
    for tag, attributes in read.elements:
        assert tag != "style" and "style" not in attributes
        assert not any(name.startswith(("on", "hx-on", "hx-vals", "hx-headers")) for name in attributes), attributes
        if tag in ("script", "link", "img"):
            assert str(attributes.get("src") or attributes.get("href")).startswith("/assets/")
    assert len(read.ids()) == len(set(read.ids())), read.ids()
    labelled = {attributes.get("for") for tag, attributes in read.elements if tag == "label"}
    for tag, attributes in read.elements:
        if tag in ("input", "select") and attributes.get("type") not in ("hidden", "checkbox"):
            assert attributes["id"] in labelled or attributes["id"] == "terminal-user"
    return read


def test_all_pages_are_sound(console: Console) -> None:
    made = console.sandbox("ada", name=NASTY, metadata={NASTY: NASTY})
    console.world.pool.enable()
    host, own = console.browser("root", host=True), console.browser("ada")
    for browser in (host, own):
        for path in ("/", f"/sandboxes/{made}", f"/sandboxes/{made}/kill", "/new", "/nothing"):
            page = browser.client.get(path).text
            check(page)
            assert page.startswith("<!doctype html>") and "<script>alert" not in page and "<img src=x" not in page
            part = browser.client.get(path, headers={"HX-Request": "true"}).text
            Reader(part)
            assert "<html" not in part and "<script>alert" not in part
    check(host.get("/host"))
    Reader(host.part("/host"))
    check(console.client.get("/sign-in").text)


def test_the_list(console: Console) -> None:
    empty = console.browser("ada").get("/")
    assert "Nothing runs" in empty and "No sandbox of your key" in empty
    made = console.sandbox("ada", name="shop", timeout=600)
    page = console.browser("ada").get("/")
    assert f'href="https://qa-{made}.example.com"' in page and "shop" in page and "ends in" in page
    assert f'action="/sandboxes/{made}/pause"' in page and f'href="/sandboxes/{made}/kill"' in page


def test_a_poll_gets_the_rows_alone_and_rows_have_names(console: Console) -> None:
    """By their ids htmx knows the rows again, and leaves focus and open menus where they are."""
    made = []
    for _ in range(3):
        console.world.now[0] += 1
        made.append(console.sandbox("ada"))
    part = console.browser("ada").part("/")
    assert "<html" not in part and [one for one in Reader(part).ids() if one.startswith("row-")] == [
        f"row-{one}" for one in reversed(made)
    ]
    assert {f"menu-{one}" for one in made} <= set(Reader(part).ids())


def test_many_pages_cost_one_look(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console.sandbox("ada")
    browser = console.browser("ada")
    browser.get("/")
    read, looks = console.world.ledger.rows, list[tuple[str, ...]]()

    def rows(*states: str) -> list[Sandbox]:
        looks.append(states)
        return read(*states)

    monkeypatch.setattr(console.world.ledger, "rows", rows)
    monkeypatch.setattr("console.board.FRESH_S", 1e9)
    for _ in range(20):
        browser.part("/")
    assert looks == []


def test_a_sandbox(console: Console) -> None:
    made = console.sandbox("ada", name="shop", metadata={"ticket": "42"}, network={"denyOut": ["10.0.0.0/8"]})
    page = console.browser("ada").get(f"/sandboxes/{made}")
    for said in ("shop", made, "ticket", "42", "10.0.0.0/8", "claimed", "the key <bdi>ada</bdi>", "2.0 GB", "no end"):
        assert said in page, said
    token = console.service.unix.get(f"/sandboxes/{made}").json()["envdAccessToken"]
    assert token not in page, "what opens the agent is not the browser's"


def test_one_that_has_ended_says_so_and_is_not_asked_for_again(console: Console) -> None:
    made = console.sandbox("ada")
    browser = console.browser("ada")
    console.world.sandboxes.remove(console.world.sandboxes.find(made), "removed by request")
    answer = browser.client.get(f"/sandboxes/{made}", headers={"HX-Request": "true"})
    assert answer.status_code == 200 and answer.headers["hx-reswap"] == "outerHTML"
    assert "has ended" in answer.text and "hx-" not in answer.text


def test_the_log_as_text(console: Console) -> None:
    made = console.sandbox("ada")
    log = console.world.engine.logged.setdefault(made, FakeLog())
    log.write(1_800_000_000.0, NASTY)
    answer = console.browser("ada").client.get(f"/sandboxes/{made}/log.txt")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8" and NASTY in answer.text


def test_the_host(console: Console) -> None:
    console.world.pool.enable()
    page = console.browser("root", host=True).get("/host")
    for said in ("Warm pools", "base", "Hit rate", "p95", "Memory", "Disk", "26.1.5", "of 100", "Kernel"):
        assert said in page, said


def test_troubles_of_the_host_are_shown(console: Console) -> None:
    browser = console.browser("root", host=True)
    console.world.health.report("reconcile", "Docker does <i>not</i> answer")
    assert "Docker does &lt;i&gt;not&lt;/i&gt; answer" in browser.get("/host")


def test_the_host_is_examined_once_for_all(console: Console) -> None:
    browser = console.browser("root", host=True)
    first = browser.part("/host/examination")
    assert "Examined 0s ago" in first and "Certificate" in first
    console.now[0] += 60
    assert "Examined 1m ago" in browser.part("/host/examination")
    assert "Examined 0s ago" in browser.part("/host/examination?new")


def test_a_poll_that_is_refused_replaces_nothing(console: Console) -> None:
    browser = console.browser("ada")
    console.world.config.socket.unlink()
    fresh = console.start()
    fresh.cookies.update(browser.client.cookies)
    answer = fresh.get("/", headers={"HX-Request": "true"})
    assert answer.status_code == 503 and answer.headers["hx-retarget"] == "#said" and "does not answer" in answer.text


def test_an_error_of_our_own_is_said_and_no_secret_with_it(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = console.browser("ada")
    monkeypatch.setattr("console.views.summary", lambda rows: 1 / 0)
    answer = browser.client.get("/")
    assert answer.status_code == 500 and "in the console itself" in answer.text and "ZeroDivision" not in answer.text


def test_docker_is_away(console: Console) -> None:
    made = console.sandbox("ada")
    console.world.engine.fail["log"] = EngineError("Docker refuses.")
    assert "Nothing can be read" in console.browser("ada").get(f"/sandboxes/{made}")


def test_files_that_are_served(console: Console) -> None:
    page = console.browser("ada").get(f"/sandboxes/{console.sandbox('ada')}")
    for address in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page):
        packed, plain = (
            console.client.get(address, headers={"Accept-Encoding": encoding}) for encoding in ("gzip", "identity")
        )
        assert packed.status_code == 200 and packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content and len(plain.content) > 100
    for name in ("vendored.toml", "xterm.LICENSE", "..%2fapp.py", "%00"):
        assert console.client.get(f"/assets/{name}").status_code == 404
