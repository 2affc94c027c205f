"""What the gateway does beside routing: it resumes, keeps private what is private, and is one origin for all."""

import json
import shlex
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from envd.auth import file_signature
from tests.host.api import Api, with_key
from tests.host.machine import Machine, Sandbox, eventually

TOKEN = "e2b-traffic-access-token"
MISSING = "Sandbox is secured with traffic access token. Token header 'e2b-traffic-access-token' is missing"
INVALID = "Sandbox is secured with traffic access token. Provided token in header 'e2b-traffic-access-token' is invalid"
# Says which headers came to it. It takes the body first: the kernel resets a connection that is closed with something
# unread, and HAProxy 2.6 loses the answer to that once in some hundred requests. And it lets more wait than the 5 of
# Python's own servers: of twenty at a time the kernel turns the rest away, whom the gateway gives half a second.
SHOWS_HEADERS = (
    "from http.server import *\nimport json\n"
    "class H(BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.rfile.read(int(self.headers.get('Content-Length', 0)))\n"
    "        body = json.dumps({k.lower(): v for k, v in self.headers.items()}).encode()\n"
    "        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n"
    "        self.wfile.write(body)\n"
    "    do_POST = do_GET\n"
    "    def log_message(self, *_): pass\n"
    "ThreadingHTTPServer.request_queue_size = 64\n"
    "ThreadingHTTPServer(('127.0.0.1', 8000), H).serve_forever()\n"
)


def shows_headers(api: Api, **body: Any) -> tuple[Sandbox, dict[str, Any]]:
    """A sandbox whose port 8000 shows the headers of a request, and what was answered to its create."""
    made = api.create(**body)
    sandbox = Sandbox(api.machine, made["sandboxID"])
    sandbox.run("cat >app.py", stdin=SHOWS_HEADERS.encode())
    sandbox.serve("python3 app.py")
    return sandbox, made


@pytest.fixture(scope="module")
def api(machine: Machine) -> Iterator[Api]:
    with with_key(machine, "gateway-tests") as api:
        yield api


@pytest.mark.parametrize("how", ["pause", "stop"])
def test_a_request_resumes_a_sandbox_and_is_answered(api: Api, machine: Machine, how: str) -> None:
    sandbox, _ = shows_headers(api, autoPause=True, autoResume={"enabled": True})
    machine.run(f"docker-sandbox {how} {sandbox.id}")
    assert sandbox.inspect()["State"]["Status"] in ("paused", "exited")
    if how == "pause":
        answer = machine.request("POST", sandbox.url(), content=b"x" * 100_000)
        assert answer.status_code == 200 and answer.json()["content-length"] == "100000"
    else:  # its server ended with its other processes: the agent is what answers
        agent = sandbox.url(49983) + "/health"
        assert machine.request("GET", agent).status_code == 204
    assert machine.info(sandbox.id)["state"] == "running"


def test_many_requests_at_once_resume_it_once(api: Api, machine: Machine) -> None:
    sandbox, _ = shows_headers(api, autoResume={"enabled": True})
    machine.run(f"docker-sandbox pause {sandbox.id}")
    url = sandbox.url()
    with ThreadPoolExecutor(20) as several:
        codes = list(several.map(lambda _: machine.request("GET", url).status_code, range(20)))
    assert codes == [200] * 20
    journal = f"journalctl --unit {machine.unit('sandboxd')} --output cat --grep 'sandbox {sandbox.id} is resumed'"
    told = eventually(lambda: machine.out(journal).splitlines(), bool, 30, "line of the journal")
    assert len(told) == 1


def test_the_end_of_its_time_pauses_and_a_request_resumes(api: Api, machine: Machine) -> None:
    sandbox, _ = shows_headers(api, autoPause=True, autoResume={"enabled": True})
    api.ask("POST", f"/sandboxes/{sandbox.id}/timeout", 204, json={"timeout": 1})
    eventually(lambda: machine.info(sandbox.id)["state"], lambda state: state == "paused", 30, "pause at its end")
    assert machine.request("GET", sandbox.url()).status_code == 200


def test_one_that_did_not_ask_for_it_sleeps_on(api: Api, machine: Machine) -> None:
    sandbox, _ = shows_headers(api)
    machine.run(f"docker-sandbox pause {sandbox.id}")
    answer = machine.request("GET", sandbox.url())
    assert (answer.status_code, answer.json()["message"]) == (502, "The sandbox was not found")
    assert machine.info(sandbox.id)["state"] == "paused"


@pytest.mark.disruptive
def test_a_request_waits_while_sandboxd_is_restarted(api: Api, machine: Machine) -> None:
    sandbox, _ = shows_headers(api, autoResume={"enabled": True})
    machine.run(f"docker-sandbox pause {sandbox.id}")
    url = sandbox.url()
    machine.run(f"systemctl stop {machine.unit('sandboxd')}")
    with ThreadPoolExecutor(2) as several:
        asked = several.submit(machine.request, "GET", url)
        listed = several.submit(api.request, "GET", "/v2/sandboxes")
        machine.run(f"sleep 1; systemctl start {machine.unit('sandboxd')}")
        assert asked.result(60).status_code == 200
        assert listed.result(60).status_code == 200


def test_a_private_sandbox_wants_its_token(api: Api, machine: Machine) -> None:
    sandbox, made = shows_headers(api, network={"allowPublicTraffic": False})
    url, token = sandbox.url(), made["trafficAccessToken"]
    for headers, said in (({}, MISSING), ({TOKEN: "wrong"}, INVALID), ({TOKEN: token[:-1]}, INVALID)):
        refused = machine.request("GET", url, headers=headers)
        assert refused.status_code == 403 and refused.headers["content-type"] == "application/json"
        assert refused.json() == {"sandboxId": sandbox.id, "message": said, "code": 403}
    answer = machine.request("GET", url, headers={TOKEN: token})
    assert answer.status_code == 200 and TOKEN not in answer.json(), "the token does not reach the application"
    assert machine.request("GET", sandbox.url(5173)).status_code == 403, "whether a port is open is private, too"
    assert machine.request("GET", sandbox.url(49983) + "/health").status_code == 204, "the agent has its own token"


def test_a_private_one_is_not_resumed_by_whoever_has_no_token(api: Api, machine: Machine) -> None:
    sandbox, made = shows_headers(api, network={"allowPublicTraffic": False}, autoResume={"enabled": True})
    machine.run(f"docker-sandbox pause {sandbox.id}")
    assert machine.request("GET", sandbox.url()).status_code == 403
    assert machine.info(sandbox.id)["state"] == "paused"
    assert machine.request("GET", sandbox.url(), headers={TOKEN: made["trafficAccessToken"]}).status_code == 200


def test_servers_see_the_host_name_that_was_asked_for_them(api: Api, machine: Machine) -> None:
    sandbox, _ = shows_headers(api, network={"maskRequestHost": "localhost:${PORT}"})
    seen = machine.request("GET", sandbox.url()).json()
    assert seen["host"] == "localhost:8000"
    assert seen["x-forwarded-host"] == f"qa-{sandbox.id}.{machine.settings.domain}"


class Origin:
    """Requests to one origin for all, from the host itself by plain HTTP, or by TLS from outside."""

    def __init__(self, machine: Machine, tls: bool) -> None:
        self._machine, self._tls = machine, tls

    def ask(self, path: str, **headers: str) -> tuple[int, str]:
        if self._tls:
            url = f"https://sandbox.{self._machine.settings.domain}{path}"
            answer = self._machine.request("GET", url, headers=headers)
            return answer.status_code, answer.text
        words = ["curl", "-sS", "--write-out", "\n%{http_code}", f"http://127.0.0.1:8081{path}"]
        for name, value in headers.items():
            words += ["--header", f"{name}: {value}"]
        body, _, status = self._machine.out(shlex.join(words)).rpartition("\n")
        return int(status), body


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_one_origin_for_all(api: Api, machine: Machine, tls: bool) -> None:
    sandbox, made = shows_headers(api)
    token = made["envdAccessToken"]
    ask: Callable[..., tuple[int, str]] = Origin(machine, tls).ask
    named = {"E2b-Sandbox-Id": sandbox.id}
    # The API, whatever the headers say: clients send them there, too.
    assert ask("/v2/sandboxes", **named)[0] == 401
    assert sandbox.id in ask("/v2/sandboxes", **{"X-API-Key": api.key})[1]
    assert ask("/health") == (200, "ok\n")
    # The sandbox that the headers name: its agent, or one of its ports.
    assert ask("/health", **named)[0] == 204
    assert json.loads(ask("/", **named, **{"E2b-Sandbox-Port": "8000"})[1])["e2b-sandbox-port"] == "8000"
    # The sandbox whose token it is, and the one whose token has signed.
    sandbox.run("echo here >/home/user/file.txt")
    path = "/files?path=" + urllib.parse.quote("/home/user/file.txt")
    assert ask(path, **{"X-Access-Token": token}) == (200, "here\n")
    signature = urllib.parse.quote(file_signature("/home/user/file.txt", "read", "", token, None))
    assert ask(f"{path}&signature={signature}") == (200, "here\n")
    # Nobody's.
    for headers in ({}, {"X-Access-Token": "wrong"}):
        assert ask(path, **headers) == (400, '{"code":400,"message":"Invalid host"}')
    assert ask("/health", **{"E2b-Sandbox-Id": "0123456789ab"})[0] == 502


@pytest.mark.disruptive
def test_the_api_says_in_json_that_sandboxd_is_down(api: Api, machine: Machine) -> None:
    """And whose a request is that names no sandbox nobody can tell: it may be somebody's."""
    machine.run(f"systemctl stop {machine.unit('sandboxd')}")
    unnamed = f"https://sandbox.{machine.settings.domain}/files?path=x"
    try:
        with ThreadPoolExecutor(1) as other:
            asked = other.submit(machine.request, "GET", unnamed, headers={"X-Access-Token": "some"}, timeout=60)
            answer = api.request("GET", "/v2/sandboxes", timeout=60)
            nobodys = asked.result(60)
        assert (nobodys.status_code, nobodys.headers["retry-after"]) == (503, "5"), nobodys.text
        assert "cannot be found out" in nobodys.json()["message"]
        assert (answer.status_code, answer.json()["code"]) == (503, 503) and answer.headers["retry-after"] == "5"
        assert "systemctl status" in answer.json()["message"]
    finally:
        machine.run(f"systemctl start {machine.unit('sandboxd')}")
