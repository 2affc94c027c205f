"""Sandboxes that sleep until somebody visits them, and go to sleep when nobody uses them."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.host.machine import Machine, Sandbox, eventually
from tests.host.test_gateway import SHOWS_HEADERS
from tests.host.websocket import PING, SERVER, WebSocket

BROWSER = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate"}
ASLEEP_S = 120  # a look each half minute, on a busy machine


def serving(sandbox: Sandbox) -> Sandbox:
    sandbox.run("cat >app.py", stdin=SHOWS_HEADERS.encode())
    sandbox.serve("python3 app.py")
    return sandbox


def state(sandbox: Sandbox) -> str:
    return str(sandbox.machine.info(sandbox.id)["state"])


def becomes(sandbox: Sandbox, wanted: str, seconds: float = 60) -> None:
    eventually(lambda: state(sandbox), lambda seen: seen == wanted, seconds, f"sandbox that is {wanted}")


def visit(sandbox: Sandbox, **options: object) -> httpx.Response:
    return sandbox.machine.request("GET", sandbox.url(), headers=BROWSER, **options)


def wakes(sandbox: Sandbox) -> int:
    """How often its wake was begun."""
    unit = sandbox.machine.unit("sandboxd")
    seen = f"journalctl --unit {unit} --output cat --no-pager --grep 'sandbox {sandbox.id} is resumed'"
    return len(sandbox.machine.run(seen, check=False).stdout.splitlines())


def test_a_request_wakes_what_the_command_line_made(machine: Machine) -> None:
    with machine.sandbox() as made:
        sandbox = serving(made)
        assert machine.info(sandbox.id)["wakeOnVisit"] is machine.settings.wake_on_visit is True
        machine.run(f"docker-sandbox pause {sandbox.id}")
        answer = machine.request("POST", sandbox.url(), content=b"x" * 100_000)
        assert answer.status_code == 200 and answer.json()["content-length"] == "100000"
        assert state(sandbox) == "running"
        machine.run(f"docker-sandbox stop {sandbox.id}")
        assert machine.request("GET", sandbox.url(49983) + "/health").status_code == 204
        assert state(sandbox) == "running"


def test_one_that_shall_sleep_on_does(machine: Machine) -> None:
    with machine.sandbox("--no-wake") as sandbox:
        machine.run(f"docker-sandbox pause {sandbox.id}")
        for answer in (visit(sandbox), machine.request("GET", sandbox.url())):
            assert answer.status_code == 502
        assert state(sandbox) == "paused" and wakes(sandbox) == 0


def test_a_browser_gets_a_page_that_comes_again(machine: Machine) -> None:
    with machine.sandbox() as made:
        sandbox = serving(made)
        machine.run(f"docker-sandbox pause {sandbox.id}")
        page = visit(sandbox)
        assert page.status_code == 503 and page.headers["content-type"] == "text/html; charset=utf-8"
        assert re.search(r'<meta http-equiv="refresh" content="\d+">', page.text) and "<script" not in page.text
        assert sandbox.id in page.text and "color-scheme: light dark" in page.text and "viewport" in page.text
        assert page.headers["cache-control"] == "no-store" and page.headers["retry-after"] == "1"
        shown = eventually(lambda: visit(sandbox), lambda answer: answer.status_code == 200, 60, "the application")
        assert shown.json()["host"] == sandbox.url().removeprefix("https://")


def test_many_pages_at_once_wake_it_once(machine: Machine) -> None:
    with machine.sandbox() as made:
        sandbox = serving(made)
        machine.run(f"docker-sandbox stop {sandbox.id}")
        url = sandbox.url()
        with ThreadPoolExecutor(20) as several:
            answers = list(several.map(lambda _: machine.request("GET", url, headers=BROWSER).status_code, range(20)))
        assert 503 in answers and set(answers) <= {503, 502}, "502: it runs already, and nobody listens"
        becomes(sandbox, "running")
        assert eventually(lambda: wakes(sandbox), bool, 30, "line of the journal") == 1


@pytest.mark.disruptive
def test_the_page_waits_for_nobody(machine: Machine) -> None:
    """Not even for a control plane that is down. One that comes later wakes it."""
    with machine.sandbox() as made:
        sandbox, url = serving(made), made.url()
        machine.run(f"docker-sandbox pause {sandbox.id}")
        machine.run(f"systemctl stop {machine.unit('sandboxd')}")
        try:
            page = machine.request("GET", url, headers=BROWSER)
            assert page.status_code == 503 and "is waking up" in page.text
        finally:
            machine.run(f"systemctl start {machine.unit('sandboxd')}")
        shown = eventually(
            lambda: machine.request("GET", url, headers=BROWSER).status_code, lambda seen: seen == 200, 60, "a wake"
        )
        assert shown == 200


@pytest.mark.disruptive
def test_who_is_not_used_is_paused_and_who_is_used_is_not(machine: Machine) -> None:
    """All say the same time, and the one that is paused was made last: of the others it would have come earlier."""
    options = "--idle-pause 8s"
    with ExitStack() as made:
        busy = made.enter_context(machine.sandbox(options))
        busy.run("exec sleep 10000", "--background")
        visited = made.enter_context(machine.sandbox(options))
        visited.run("cat >echo.py", stdin=SERVER.encode())
        visited.serve("python3 echo.py")
        with WebSocket(machine, visited.url().removeprefix("https://")) as opened:
            left = serving(made.enter_context(machine.sandbox(options)))
            assert machine.info(left.id)["idlePause"] == 8

            def look() -> str:
                assert opened.ping() == PING
                return state(left)

            eventually(look, lambda seen: seen == "paused", ASLEEP_S, "a pause for want of use, though a server runs")
            assert (state(busy), state(visited)) == ("running", "running")
        assert "nobody used it" in machine.out(f"docker-sandbox info {left.id}")
        assert machine.request("GET", left.url()).status_code == 200, "the server goes on where it was"
        busy.run("pkill sleep")
        for one in (busy, visited, left):
            becomes(one, "paused", ASLEEP_S)


@pytest.mark.disruptive
def test_the_time_that_nobody_used_it_survives_a_restart(machine: Machine) -> None:
    with machine.sandbox("--idle-pause 20s") as sandbox:
        machine.run(f"systemctl restart {machine.unit('sandboxd')}")
        becomes(sandbox, "paused", ASLEEP_S)


@pytest.mark.disruptive
def test_something_on_an_open_connection_wakes_it(machine: Machine) -> None:
    """What the gateway sees no request in. That its own kernel says each second that it is there does not count."""
    with machine.sandbox("--idle-pause 3s") as sandbox:
        sandbox.run("cat >echo.py", stdin=SERVER.encode())
        sandbox.serve("python3 echo.py")
        with WebSocket(machine, sandbox.url().removeprefix("https://")) as opened:
            becomes(sandbox, "paused", ASLEEP_S)
            assert opened.ping() == PING
