"""Answers that go on, over a real socket: not kept back, ended by either side, cleaned up in any case."""

import asyncio
import json
import queue
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from sandboxd.api import streams
from sandboxd.api.answers import answer_errors
from sandboxd.api.streams import STOPPING, Source, Streamed, Streams
from sandboxd.errors import EngineDown
from tests.unit.sandboxd.clients import KEPT_S
from tests.unit.sandboxd.conftest import until

Item = dict[str, Any] | Exception | None


class Feed:
    """A source that yields what a test puts into it; None ends it."""

    def __init__(self) -> None:
        self.items: queue.Queue[Item] = queue.Queue()
        self.stopped, self.cleaned = threading.Event(), threading.Event()

    def source(self) -> Source:
        return Source(self._lines(), self._stop)

    def _lines(self) -> Generator[dict[str, Any]]:
        try:
            while (item := self.items.get(timeout=60)) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.cleaned.set()

    def _stop(self) -> None:
        self.stopped.set()
        self.items.put(None)


class Served:
    def __init__(self) -> None:
        self.feed, self.streams = Feed(), Streams()
        app = FastAPI()
        answer_errors(app)

        @app.get("/")
        async def answer() -> Streamed:
            return Streamed(self.streams, self.feed.source())

        self.listening = socket.create_server(("127.0.0.1", 0))
        options = uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=KEPT_S)
        self.server = uvicorn.Server(options)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self.listening])))
        self.thread.start()
        until(lambda: self.server.started, "a server")
        port = self.listening.getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)

    def get(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.client.get("/").text.splitlines()]

    def close(self) -> None:
        self.client.close()
        self.feed.items.put(None)
        self.server.should_exit = True
        self.thread.join(30)


@pytest.fixture
def served() -> Iterator[Served]:
    with closing(Served()) as made:
        yield made


def test_each_line_is_sent_as_soon_as_it_is_known(served: Served) -> None:
    with served.client.stream("GET", "/") as answer:
        lines = answer.iter_lines()
        assert answer.headers["content-type"] == "application/x-ndjson" and "content-length" not in answer.headers
        for number in range(3):
            served.feed.items.put({"number": number})
            assert json.loads(next(lines)) == {"number": number}
        served.feed.items.put(None)
        assert list(lines) == []
    assert served.feed.cleaned.wait(30)


def test_a_client_that_goes_ends_the_work(served: Served) -> None:
    with served.client.stream("GET", "/") as answer:
        served.feed.items.put({"number": 1})
        assert next(answer.iter_lines())
    assert served.feed.stopped.wait(30) and served.feed.cleaned.wait(30)


def test_a_failure_in_the_middle_is_the_last_line(served: Served) -> None:
    served.feed.items.put({"number": 1})
    served.feed.items.put(EngineDown("Docker has hung up."))
    assert served.get() == [{"number": 1}, {"code": 503, "message": "Docker has hung up."}]
    assert served.feed.cleaned.wait(30)


def test_a_mistake_of_ours_tells_no_details(served: Served) -> None:
    served.feed.items.put(KeyError("secret"))
    (line,) = served.get()
    assert line["code"] == 500 and "secret" not in line["message"]


def test_when_the_daemon_stops_it_says_so_and_begins_no_more(served: Served) -> None:
    with served.client.stream("GET", "/") as answer:
        lines = answer.iter_lines()
        served.feed.items.put({"number": 1})
        next(lines)
        served.streams.end_all()
        assert [json.loads(line) for line in lines] == [STOPPING]
    refused = served.client.get("/")
    assert refused.status_code == 503 and refused.json()["message"] == STOPPING["message"]


def test_more_than_the_daemon_has_threads_for_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 1)
    with served.client.stream("GET", "/"):
        refused = served.client.get("/")
        assert refused.status_code == 503 and refused.headers["retry-after"]
    until(lambda: not served.streams._stops, "the end of the first one")
    served.feed.items.put(None)
    assert served.client.get("/").status_code == 200


def test_an_answer_that_is_cut_off_is_cleaned_up_too() -> None:
    """As at the end of the daemon's patience: the task is cancelled."""
    feed, begun, open_streams = Feed(), threading.Event(), Streams()

    async def scenario() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                begun.set()
                await asyncio.Event().wait()  # the client does not read

        response = Streamed(open_streams, feed.source())
        task = asyncio.create_task(response({"type": "http"}, receive, send))
        feed.items.put({"number": 1})
        while not begun.is_set():
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())
    assert feed.stopped.is_set() and feed.cleaned.is_set() and not open_streams._stops
