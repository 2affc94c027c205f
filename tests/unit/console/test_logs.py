"""The live log: server-sent events, as a browser reads them."""

import json
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import pytest

from console.daemon import Daemon
from console.errors import Refused
from console.logs import event
from console.places import Places
from sandboxd.keys import Keys
from tests.unit.console.conftest import ID, Browser, Console
from tests.unit.sandboxd.fake_engine import START, FakeFrames, FakeLog


def told(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(kind, data) of each event; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


@pytest.fixture
def reading(console: Console, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when somebody has begun to follow a log."""
    begun, engine = threading.Event(), console.world.engine
    read = engine.log

    def log(container: str, lines: int | None, since: float, follow: bool) -> FakeFrames:
        frames = read(container, lines, since, follow)  # before anybody hears of it: it ends with this boot of the log
        if follow:
            begun.set()
        return frames

    monkeypatch.setattr(engine, "log", log)
    return begun


def followed(browser: Browser, result: list[str]) -> threading.Thread:
    """Reads to the end of the stream, in a thread: the test client gives an answer once it is whole."""
    thread = threading.Thread(target=lambda: result.append(browser.client.get(f"/sandboxes/{ID}/log").text))
    thread.start()
    return thread


def test_a_log_is_followed_to_the_end_of_its_sandbox(console: Console, reading: threading.Event) -> None:
    console.sandbox("ada")
    browser, result = console.browser("ada"), list[str]()
    log = console.world.engine.logged.setdefault(ID, FakeLog())
    log.write(START, "</script> data: x\r\revent: end")
    thread = followed(browser, result)
    assert reading.wait(30)
    console.world.sandboxes.remove(console.world.sandboxes.find(ID), "removed by request")
    log.end()
    thread.join(30)
    kinds = [(kind, value["text"]) for kind, value in told(result[0])]
    assert kinds[0] == ("line", "</script> data: x\r\revent: end")
    assert kinds[-2:] == [("note", "removed by request"), ("end", "The log has ended.")]


def test_a_revoked_key_ends_it(console: Console, reading: threading.Event) -> None:
    console.sandbox("ada")
    browser, result = console.browser("ada"), list[str]()
    thread = followed(browser, result)
    assert reading.wait(30)
    Keys(console.world.ledger).revoke(browser.key.id)
    thread.join(30)
    assert not thread.is_alive()
    assert told(result[0])[-1] == ("end", {"text": "You were signed out."})


def test_there_is_an_end_to_how_many(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console.sandbox("ada")
    browser = console.browser("ada")
    monkeypatch.setattr(Places, "free", lambda *_: False)
    for path in ("log", "log.txt"):
        answer = browser.client.get(f"/sandboxes/{ID}/{path}")
        assert answer.status_code == 503 and "are read already" in answer.text


def test_a_log_that_is_read_takes_a_place_meanwhile(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console.sandbox("ada")
    seen, taken = list[str](), Places.taken

    def watched(places: Places, key: str) -> AbstractContextManager[None]:
        seen.append(key)
        return taken(places, key)

    monkeypatch.setattr(Places, "taken", watched)
    browser = console.browser("ada")
    assert browser.client.get(f"/sandboxes/{ID}/log.txt").status_code == 200 and seen == [browser.key.id]


def test_a_log_that_breaks_off_says_so(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is gone by then."""
    console.sandbox("ada")
    browser = console.browser("ada")

    @asynccontextmanager
    async def broken(*_: object) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
        async def values() -> AsyncIterator[dict[str, str]]:
            yield {"kind": "line", "at": "then", "text": "said"}
            raise Refused(503, "Docker is away.")

        yield values()

    monkeypatch.setattr(Daemon, "stream", broken)
    answer = browser.client.get(f"/sandboxes/{ID}/log.txt")
    assert answer.text == "then said\nThe rest is missing. Docker is away.\n"


def test_the_whole_log_of_one_that_is_gone_is_refused(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console.sandbox("ada")
    browser = console.browser("ada")

    @asynccontextmanager
    async def refused(*_: object) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
        raise Refused(404, "It is gone.")
        yield

    monkeypatch.setattr(Daemon, "stream", refused)
    answer = browser.client.get(f"/sandboxes/{ID}/log.txt")
    assert answer.status_code == 404 and "It is gone." in answer.text


def test_no_text_begins_another_field() -> None:
    assert event("line", {"text": "a\nevent: end\n\n\u2028"}).count(b"\n") == 3
