"""A terminal over a WebSocket, with a real agent and a real shell behind it."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import pytest
from starlette.websockets import WebSocketDisconnect

from console import terminal
from console.agent import Agent
from console.errors import AgentError, Unreached
from console.places import Places
from console.sessions import COOKIE
from console.terminal import Session
from sandboxd.keys import Keys
from tests.unit.console.conftest import ID, ORIGIN, Browser, Console
from tests.unit.envd.client import Client as AgentClient
from tests.unit.envd.client import Running, eventually

DEADLINE_S = 20.0
SIZE = "cols=100&rows=30"
WSS = ORIGIN.replace("https:", "wss:")  # a secure cookie is not sent to less


class Screen:
    """What came so far: output, and the sentence at the end."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.text, self.ended = "", ""

    def type(self, text: str) -> None:
        self.socket.send_bytes(text.encode())

    def until(self, wanted: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while wanted not in self.text:
            assert time.monotonic() < deadline and not self.ended, (wanted, self.text, self.ended)
            self.receive()

    def until_ended(self) -> str:
        deadline = time.monotonic() + DEADLINE_S
        while not self.ended:
            assert time.monotonic() < deadline, self.text
            self.receive()
        return self.ended

    def receive(self) -> None:
        message = self.socket.receive()
        if message["type"] == "websocket.close":
            raise WebSocketDisconnect(message["code"])
        if message.get("bytes") is not None:
            self.text += message["bytes"].decode(errors="replace")
        else:
            self.ended = json.loads(message["text"])["ended"]


@contextmanager
def opened(browser: Browser, sandbox_id: str = ID, query: str = f"user={{user}}&{SIZE}") -> Iterator[Screen]:
    address = f"{WSS}/sandboxes/{sandbox_id}/terminal?{query.format(user='user')}"
    with browser.client.websocket_connect(address, headers={"Origin": ORIGIN}) as socket:
        yield Screen(socket)


@pytest.fixture
def browser(console: Console, monkeypatch: pytest.MonkeyPatch, agent: Running) -> Iterator[Browser]:
    """Of a key with the sandbox ID, whose agent runs commands as whoever runs the tests, and none after a test."""
    assert console.sandbox("ada") == ID
    me = json.loads(agent.file.read_text())["user"]
    monkeypatch.setattr(terminal, "Agent", lambda gateway, row, user: terminal_agent(gateway, row, me))
    yield console.browser("ada")
    eventually(lambda: processes(agent) == [], "no program is left behind")


def terminal_agent(gateway: tuple[str, int], row: dict[str, Any], user: str) -> Any:
    return Agent(gateway, row, user)


def processes(agent: Running) -> list[Any]:
    token = json.loads(agent.file.read_text())["accessToken"]
    return list(AgentClient(agent.port, token).ok("process.Process/List", {})["processes"])


def test_what_is_typed_is_run_and_shown(browser: Browser, agent: Running) -> None:
    with opened(browser) as screen:
        screen.type("echo $((6*7))-$TERM\r")
        screen.until("42-xterm-256color")
        screen.type("exit\r")
        assert screen.until_ended() == "The shell has ended."
    eventually(lambda: processes(agent) == [], "the shell is gone")


def test_a_key_at_the_moment_of_the_end_is_no_error() -> None:
    class Ended:
        @asynccontextmanager
        async def start(self, *_: object) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
            async def events() -> AsyncIterator[dict[str, Any]]:
                yield {"start": {"pid": 7}}
                yield {"end": {}}

            yield events()

        async def type(self, *_: object) -> None:
            raise AgentError("process with pid 7 not found")

        async def hang_up(self, pid: int) -> None:
            """It has ended."""

    class Waiting:
        async def receive(self) -> None:
            await asyncio.Event().wait()

    async def run() -> str:
        missing: Any = None
        session = Session(cast(Any, Waiting()), cast(Any, Ended()), missing, missing, 60)
        session._keys += b"exit"
        session._something.set()
        return await session.run((80, 24))

    assert {asyncio.run(run()) for _ in range(20)} == {"The shell has ended."}


def test_its_size_and_its_changes(browser: Browser) -> None:
    with opened(browser) as screen:
        screen.type("stty size\r")
        screen.until("30 100")
        screen.socket.send_text(json.dumps({"cols": 77, "rows": 11}))
        for columns in ("0", '"x"', "1e999", "null"):
            screen.socket.send_text(f'{{"cols": {columns}, "rows": 5}}')
        for words in ("no json", "[]", "5"):
            screen.socket.send_text(words)
        screen.type("stty size\r")
        screen.until("11 77")


def test_bytes_are_bytes(browser: Browser) -> None:
    with opened(browser) as screen:
        screen.type("printf 'gr\\303\\274\\303\\237e-\\377\\n'\r")
        screen.until("grüße-\ufffd")
        screen.type("echo 'ä'$((1+1))\r")
        screen.until("ä2")
        # It says so once it has the terminal: before that, and between two commands of a loop, ^C may reach nobody.
        screen.type("sh -c 'echo ready-$((1+1)); exec sleep 1000'\r")
        screen.until("ready-2")
        screen.type("\x03")
        screen.until("^C")
        screen.type("echo again-$((1+1))\r")
        screen.until("again-2")


def test_much_output_comes_whole(browser: Browser) -> None:
    with opened(browser) as screen:
        screen.type("seq 1 20000; echo end-$((1+1))\r")
        screen.until("end-2")
        assert "\n19999\r\n20000\r\n" in screen.text


def test_a_browser_that_goes_hangs_the_shell_up(browser: Browser, agent: Running) -> None:
    with opened(browser) as screen:
        screen.type("echo $((6*7)); exec sleep 1000\r")
        screen.until("42")
        assert len(processes(agent)) == 1
    eventually(lambda: processes(agent) == [], "nothing runs on")


@pytest.mark.parametrize("fault", [None, Unreached("the connection to the sandbox broke")])
def test_a_signal_that_is_lost_is_sent_again(
    browser: Browser, agent: Running, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    call = Agent._call
    lost: list[str] = []

    async def lossy(agent: Agent, method: str, *arguments: Any) -> None:
        if method == "SendSignal" and not lost:
            lost.append(method)
            if fault:
                raise fault
            return
        await call(agent, method, *arguments)

    monkeypatch.setattr(Agent, "_call", lossy)
    with opened(browser) as screen:
        screen.type("echo $((6*7))\r")
        screen.until("42")
    eventually(lambda: processes(agent) == [], "nothing runs on")
    assert lost


def test_a_revoked_key_closes_it(console: Console, browser: Browser, agent: Running) -> None:
    with opened(browser) as screen:
        screen.type("echo $((6*7))\r")
        screen.until("42")
        Keys(console.world.ledger).revoke(browser.key.id)
        assert screen.until_ended() == terminal.SIGNED_OUT
    eventually(lambda: processes(agent) == [], "nothing runs on")


@pytest.mark.parametrize("origin", ["", "https://qa-000000000001.example.com", "null", ORIGIN + ".evil.test"])
def test_a_page_of_a_sandbox_opens_none(browser: Browser, agent: Running, origin: str) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        browser.client.websocket_connect(f"/sandboxes/{ID}/terminal?user=user&{SIZE}", headers={"Origin": origin}),
    ):
        pass
    assert processes(agent) == []


def test_without_a_session_there_is_none(console: Console, browser: Browser) -> None:
    fresh = console.start()
    for cookie in ("", browser.cookie()[:-1] + "x"):
        fresh.cookies.set(COOKIE, cookie)
        with (
            pytest.raises(WebSocketDisconnect),
            fresh.websocket_connect(f"/sandboxes/{ID}/terminal?{SIZE}", headers={"Origin": ORIGIN}),
        ):
            pass


def test_anothers_sandbox_has_none(console: Console, browser: Browser) -> None:
    with opened(console.browser("bob")) as screen:
        assert "no sandbox 000000000001 of yours" in screen.until_ended()


@pytest.mark.parametrize(
    "query", ["user=user", "user=nobody&cols=80&rows=24", "user=user&cols=0&rows=24", "user=user&cols=9999999&rows=24"]
)
def test_odd_words(browser: Browser, query: str) -> None:
    with opened(browser, query=query) as screen:
        assert "does not know" in screen.until_ended()


def test_one_that_does_not_run(console: Console, browser: Browser) -> None:
    browser.send(f"/sandboxes/{ID}/pause")
    with opened(browser) as screen:
        assert screen.until_ended() == terminal.NOT_RUNNING.format(state="paused")


def test_there_is_an_end_to_how_many(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Places, "free", lambda places, key: not places._taken[key])
    with opened(browser) as first:
        first.type("echo $((6*7))\r")
        first.until("42")
        with opened(browser) as second:
            assert second.until_ended() == terminal.FULL


def test_a_gateway_that_does_not_listen(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console.sandbox("ada")
    monkeypatch.setattr(terminal, "Agent", lambda gateway, row, user: Agent(("127.0.0.1", 1), row, user))
    with opened(console.browser("ada")) as screen:
        assert screen.until_ended() == "The gateway of the host does not answer."


class Liar(threading.Thread):
    """A program of a sandbox that listens in the agent's place, and says that."""

    def __init__(self, said: bytes) -> None:
        import socket

        super().__init__(daemon=True)
        self.said = said
        self.listener = socket.create_server(("127.0.0.1", 0))

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(self.said)


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 403 X\r\nContent-Length: 16\r\n\r\n{"message": "x"}',
        HEAD + b"5\r\n\x00\x7f\xff\xff\xff\r\n",
        HEAD + b"7\r\n\x00\x00\x00\x00\x02{}\r\n",
        HEAD + b"7\r\n\x02\x00\x00\x00\x02{}\r\n",
        HEAD + b"7\r\n\x00\x00\x00\x00\x02[]\r\n",
        HEAD + b"14\r\n\x00\x00\x00\x00\x0f" + b'{"event": null}' + b"\r\n",
        HEAD + b"23\r\n\x00\x00\x00\x00\x1e" + b'{"event": {"start": {"pid":[]}' + b"\r\n",
        HEAD + b"0\r\n\r\n",
        b"",
    ],
)
def test_whatever_listens_in_the_agents_place(console: Console, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    console.sandbox("ada")
    liar = Liar(said)
    liar.start()
    address = liar.listener.getsockname()
    monkeypatch.setattr(terminal, "Agent", lambda gateway, row, user: Agent(address, row, user))
    with opened(console.browser("ada")) as screen:
        assert screen.until_ended().endswith(".")
    liar.join(DEADLINE_S)
    liar.listener.close()


class Dripping(Liar):
    """Says a byte now and then, and never a whole event."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.enough = threading.Event()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(HEAD + b"5\r\n\x00\x00\x0f\x00\x00\r\n")
            while not self.enough.wait(0.05):
                connection.sendall(b"1\r\nx\r\n")


def test_one_that_drips_holds_no_terminal(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console.sandbox("ada")
    liar = Dripping()
    liar.start()
    address = liar.listener.getsockname()
    monkeypatch.setattr(terminal, "START_S", 0.3)
    monkeypatch.setattr(terminal, "Agent", lambda gateway, row, user: Agent(address, row, user))
    try:
        with opened(console.browser("ada")) as screen:
            assert screen.until_ended() == "The connection to the sandbox broke."
    finally:
        liar.enough.set()
    liar.join(DEADLINE_S)
    liar.listener.close()
