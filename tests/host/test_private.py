"""Sandboxes that not everybody may open: by token, by links that expire, by password. All of it is the gateway's."""

import base64
import json
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.host.machine import Machine, Sandbox, eventually
from tests.host.test_gateway import INVALID, MISSING, SHOWS_HEADERS, TOKEN
from tests.host.websocket import PING, SERVER, WebSocket

BROWSER = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate"}
COOKIE = "__Host-sandbox-link"
SHOWS_ALL = SHOWS_HEADERS.replace("json.dumps({", "json.dumps({':path': self.path} | {")


@pytest.fixture
def sandbox(machine: Machine) -> Iterator[Sandbox]:
    """One whose port 8000 shows what came to it. It is public until a test says otherwise."""
    with machine.sandbox() as made:
        made.run("cat >app.py", stdin=SHOWS_ALL.encode())
        made.serve("python3 app.py")
        yield made


def access(sandbox: Sandbox, arguments: str = "") -> dict[str, Any]:
    return dict(json.loads(sandbox.machine.out(f"docker-sandbox access {sandbox.id} {arguments} --json")))


def token(sandbox: Sandbox) -> str:
    return sandbox.machine.out(f"docker-sandbox access {sandbox.id} --token")


def link(sandbox: Sandbox, arguments: str = "") -> str:
    return sandbox.machine.out(f"docker-sandbox get-host {sandbox.id} --private {arguments}")


def ask(sandbox: Sandbox, url: str = "", cookie: str = "", **headers: str) -> httpx.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers |= {"Cookie": cookie} if cookie else {}
    return sandbox.machine.request("GET", url or sandbox.url(), headers=headers)


def cookie_of(answer: httpx.Response) -> str:
    """What a browser sends from then on."""
    assert answer.status_code == 307, answer.text
    return answer.headers["set-cookie"].partition(";")[0]


def basic(found: dict[str, Any]) -> str:
    return "Basic " + base64.b64encode(f"{found['user']}:{found['password']}".encode()).decode()


def test_public_is_the_default_and_shown(machine: Machine, sandbox: Sandbox) -> None:
    assert machine.info(sandbox.id)["access"] == "public" == access(sandbox)["access"]
    assert ask(sandbox).status_code == 200
    assert access(sandbox, "token")["access"] == "token" == machine.info(sandbox.id)["access"]
    assert f"{sandbox.id}: token" in machine.out(f"docker-sandbox access {sandbox.id}")


def test_a_token_opens_it_and_goes_no_further(machine: Machine, sandbox: Sandbox) -> None:
    access(sandbox, "token")
    for headers, said in (({}, MISSING), ({TOKEN: "wrong"}, INVALID)):
        refused = ask(sandbox, **headers)
        assert (refused.status_code, refused.json()["message"]) == (403, said)
    opened = ask(sandbox, **{TOKEN: token(sandbox), "Authorization": "Bearer own"})
    assert opened.status_code == 200 and TOKEN not in opened.json()
    assert opened.json()["authorization"] == "Bearer own", "what is the application's stays"
    page = ask(sandbox, **BROWSER)
    assert page.status_code == 403 and page.headers["content-type"].startswith("text/html")
    assert sandbox.id in page.text and "get-host" in page.text and "<script" not in page.text
    assert sandbox.out("echo the agent is open") == "the agent is open"


def test_a_link_becomes_a_cookie_that_the_application_never_sees(sandbox: Sandbox) -> None:
    access(sandbox, "token")
    url = link(sandbox, "--for 10m")
    answer = ask(sandbox, url.replace("/?", "/a/b?x=1&") + "&y=2", **BROWSER)
    assert answer.headers["location"] == f"{sandbox.url()}/a/b?x=1&y=2"
    given = answer.headers["set-cookie"]
    name, *attributes = given.split("; ")
    assert name.startswith(f"{COOKIE}=") and {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} <= set(attributes)
    age_s = next(int(one.partition("=")[2]) for one in attributes if one.startswith("Max-Age="))
    assert 0 < age_s <= 600 and "Domain" not in given and answer.headers["cache-control"] == "no-store"
    for sent, seen in (
        (name, None),
        (f"a=1; {name}; b=2", "a=1; b=2"),
        (f"{name}; b=2", "b=2"),
        (f"a=1; {name}", "a=1"),
    ):
        assert ask(sandbox, cookie=sent).json().get("cookie") == seen
    shown = ask(sandbox, url.replace("/?", "/c?x=1&") + "0", cookie=name).json()
    assert shown[":path"] == "/c?x=1" and name.partition("=")[2] not in json.dumps(shown), "a wrong link, a good cookie"
    assert ask(sandbox, cookie=f"{COOKIE}=1.2; {name}").status_code == 403, "one of two would reach the application"
    assert ask(sandbox, url.replace("/?", "/?x=1;")).headers["location"] == f"{sandbox.url()}/?x=1"
    elsewhere = ask(sandbox, url.replace("/?", "//example.com/?")).headers["location"]
    assert elsewhere.startswith(f"{sandbox.url()}/"), "it leads to nobody else"


def test_a_link_is_for_one_port_and_for_its_time(machine: Machine, sandbox: Sandbox) -> None:
    access(sandbox, "token")
    name = cookie_of(ask(sandbox, link(sandbox)))
    assert ask(sandbox, sandbox.url(8000), cookie=name).status_code == 200, "the same port by its number"
    for url in (sandbox.url(8001), link(sandbox).replace("qa-", "8001-")):
        assert ask(sandbox, url, cookie=name).status_code == 403
    other = link(sandbox, "--port 8001")
    assert other.startswith(sandbox.url(8001))
    assert ask(sandbox, sandbox.url(8001), cookie=cookie_of(ask(sandbox, other))).status_code == 502, "nobody listens"
    ends = json.loads(link(sandbox, "--for 20s --json"))  # good still when it is told, on a slow host
    short = cookie_of(ask(sandbox, ends["url"]))
    eventually(lambda: ask(sandbox, cookie=short).status_code, lambda seen: seen == 403, 60, "end of the cookie")
    refused = ask(sandbox, ends["url"])
    assert refused.status_code == 403 and "expired" in refused.json()["message"]
    until, _, proof = name.partition("=")[2].partition(".")
    assert ask(sandbox, cookie=f"{COOKIE}={int(until) + 1}.{proof}").status_code == 403, "nobody puts off its end"


def test_a_revoke_and_a_change_end_what_was_given_out(machine: Machine, sandbox: Sandbox) -> None:
    access(sandbox, "token")
    for change in (["--revoke"], ["public", "token"]):
        before, url = token(sandbox), link(sandbox)
        name = cookie_of(ask(sandbox, url))
        assert ask(sandbox, **{TOKEN: before}).status_code == 200 == ask(sandbox, cookie=name).status_code
        for arguments in change:
            access(sandbox, arguments)
        assert ask(sandbox, url).status_code == 403
        assert ask(sandbox, cookie=name).status_code == 403
        assert ask(sandbox, **{TOKEN: before}).status_code == 403
        assert ask(sandbox, **{TOKEN: token(sandbox)}).status_code == 200
    assert access(sandbox, "token")["access"] == "token" and ask(sandbox, link(sandbox)).status_code == 307


@pytest.mark.parametrize("mode", ["public", "basic"])
def test_only_tokens_have_links(machine: Machine, sandbox: Sandbox, mode: str) -> None:
    access(sandbox, mode)
    refused = machine.run(f"docker-sandbox get-host {sandbox.id} --private", check=False)
    assert refused.returncode == 1 and f"docker-sandbox access {sandbox.id} token" in refused.stderr
    assert machine.run(f"docker-sandbox access {sandbox.id} --token", check=False).returncode == 1
    assert machine.run(f"docker-sandbox get-host {sandbox.id} --for 1h", check=False).returncode == 2


def test_a_password_is_asked_for_and_goes_no_further(machine: Machine, sandbox: Sandbox) -> None:
    found = access(sandbox, "basic")
    for page in (False, True):
        refused = ask(sandbox, **(BROWSER if page else {}))
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith('Basic realm="')
        assert refused.headers["content-type"].startswith("text/html" if page else "application/json")
    opened = ask(sandbox, Authorization=basic(found))
    assert opened.status_code == 200 and "authorization" not in opened.json()
    assert ask(sandbox, Authorization=basic(found | {"password": found["password"][:-1]})).status_code == 401
    assert ask(sandbox, Authorization=basic(found | {"user": "root"})).status_code == 401
    assert ask(sandbox, Authorization="Basic !").status_code == 401
    assert ask(sandbox, Authorization="Bearer " + basic(found)[6:]).status_code == 401
    assert sandbox.out("echo the agent is open", "--user root") == "the agent is open"
    again = access(sandbox, "basic")
    assert ask(sandbox, Authorization=basic(found)).status_code == 401
    assert ask(sandbox, Authorization=basic(again)).status_code == 200


def test_a_password_is_told_once_and_kept_nowhere(machine: Machine) -> None:
    done = machine.run("docker-sandbox init --access basic")
    made = Sandbox(machine, done.stdout.strip())
    try:
        assert len(made.id) == 12, "standard output has the id, and nothing else"
        password = done.stderr.partition("password: ")[2].strip()
        assert len(password) == 20
        assert ask(made, Authorization=basic({"user": "preview", "password": password})).status_code == 502
        places = f"{machine.settings.state} {machine.settings.etc} /etc/haproxy /run/{machine.settings.name}"
        found = machine.run(f"grep -rlF -e {shlex.quote(password)} {places}", check=False)
        assert found.stdout == ""
        journal = machine.out("journalctl --output cat --since -5min --no-pager")
        assert password not in journal and password not in machine.out(f"docker-sandbox info {made.id} --json")
    finally:
        machine.run(f"docker-sandbox kill {made.id}")


@pytest.mark.parametrize("mode", ["token", "basic"])
@pytest.mark.parametrize("page", [False, True], ids=["program", "browser"])
def test_who_may_not_open_it_does_not_wake_it(machine: Machine, sandbox: Sandbox, mode: str, page: bool) -> None:
    access(sandbox, mode)
    machine.run(f"docker-sandbox pause {sandbox.id}")
    assert ask(sandbox, **(BROWSER if page else {})).status_code in (401, 403)
    assert machine.info(sandbox.id)["state"] == "paused"
    opens = {TOKEN: token(sandbox)} if mode == "token" else {"Authorization": basic(access(sandbox, "basic"))}
    assert ask(sandbox, **opens).status_code == 200


def test_pages_of_others_do_not_borrow_what_a_browser_keeps(machine: Machine, sandbox: Sandbox) -> None:
    """To a browser all previews are one site: it sends cookie and password with what any of their pages asks for."""
    domain = machine.settings.domain
    access(sandbox, "token")
    name = cookie_of(ask(sandbox, link(sandbox)))
    own = (sandbox.url(), f"https://5173-{sandbox.id}.{domain}", f"{sandbox.url()}:8443")
    foreign = (
        f"https://qa-{'0' * 12}.{domain}",
        f"https://console.{domain}",
        f"https://qa-{sandbox.id}.evil.test",
        "null",
    )
    for origin in own:
        assert ask(sandbox, cookie=name, Origin=origin).status_code == 200, origin
    for origin in foreign:
        assert ask(sandbox, cookie=name, Origin=origin).status_code == 403, origin
        assert ask(sandbox, Origin=origin, **{TOKEN: token(sandbox)}).status_code == 200, "a token is no browser's"
    assert ask(sandbox, cookie=name, Origin="null", Sec_Fetch_Site="same-origin").status_code == 200
    password = basic(access(sandbox, "basic"))
    assert ask(sandbox, Authorization=password, Origin=own[1]).status_code == 200
    assert ask(sandbox, Authorization=password, Origin=foreign[0]).status_code == 403


def test_the_agents_port_wakes_a_private_one_by_its_token(machine: Machine, sandbox: Sandbox) -> None:
    access(sandbox, "token")
    machine.run(f"docker-sandbox pause {sandbox.id}")
    url = f"{sandbox.url(49983)}/health"
    refused = ask(sandbox, url)
    assert refused.status_code == 401 and "token" in refused.json()["message"]
    assert ask(sandbox, url, **BROWSER).status_code == 401
    assert machine.info(sandbox.id)["state"] == "paused"
    assert ask(sandbox, url, X_Access_Token=sandbox.token()).status_code == 204


def test_a_websocket_passes_with_the_cookie_only(machine: Machine) -> None:
    with machine.sandbox("--access token") as sandbox:
        sandbox.run("cat >echo.py", stdin=SERVER.encode())
        sandbox.serve("python3 echo.py")
        name, host = cookie_of(ask(sandbox, link(sandbox))), sandbox.url().removeprefix("https://")
        with WebSocket(machine, host) as refused:
            assert refused.status == 403
        with WebSocket(machine, host, name) as opened:
            assert opened.status == 101 and opened.ping() == PING


def test_who_guesses_is_refused_for_a_while(machine: Machine, sandbox: Sandbox) -> None:
    """For this sandbox: others behind the same address still open theirs. A cookie that has ended is no guess."""
    found, url = access(sandbox, "basic"), sandbox.url()
    limit = machine.settings.failed_tries_per_minute

    def guess(number: int) -> int:
        wrong = basic(found | {"password": str(number)})
        return machine.request("GET", url, headers={"Authorization": wrong}).status_code

    with ThreadPoolExecutor(4) as several:
        codes = list(several.map(guess, range(limit + 5)))
    assert set(codes) == {401, 429} and codes.count(401) >= limit
    refused = ask(sandbox, Authorization=basic(found))
    assert refused.status_code == 429 and refused.json()["code"] == 429
    assert int(refused.headers["retry-after"]) > 0
    with machine.sandbox("--access token") as other, ThreadPoolExecutor(4) as several:
        url = other.url()
        ended = several.map(lambda _: ask(other, url, f"{COOKIE}=1.2").status_code, range(limit + 5))
        assert set(ended) == {403}
        assert ask(other, **{TOKEN: token(other)}).status_code == 502, "let in: nobody listens"


@pytest.mark.parametrize(
    ("name", "asked", "status"), [("api", "/health", 200), ("console", "/sign-in --data key=x", 403)]
)
def test_the_control_plane_takes_so_many_requests_from_one_address(
    machine: Machine, name: str, asked: str, status: int
) -> None:
    """The counter of an address that nobody has is set, which spares a minute of requests."""
    limit, address = machine.settings.api_requests_per_minute, "192.0.2.77"
    ask = (
        f"curl -sS -i --header 'Host: {name}.{machine.settings.domain}' --header 'X-Forwarded-For: 192.0.2.1, %s'"
        f" http://127.0.0.1:8081{asked}"
    )
    machine.gateway(f"clear table api_requests key ::ffff:{address}")
    assert f" {status} " in machine.out(ask % address).splitlines()[0]
    machine.gateway(f"set table api_requests key ::ffff:{address} data.http_req_rate {limit * 3}")
    refused = machine.out(ask % address)
    assert " 429 " in refused.splitlines()[0] and "retry-after: 10" in refused.lower()
    assert json.loads(refused.rpartition("\n")[2])["code"] == 429
    assert f" {status} " in machine.out(ask % "192.0.2.78").splitlines()[0], "another address has its own"


def test_the_key_of_links_is_roots_and_in_no_other_file(machine: Machine) -> None:
    file = machine.host.file(f"{machine.settings.etc}/secrets/link_key")
    assert (file.user, file.mode) == ("root", 0o600)
    key = file.content_string.split()[1]
    assert len(base64.b64decode(key)) == 32
    elsewhere = (
        f"grep -rlF -e {shlex.quote(key)} /etc/haproxy {machine.settings.state}/routes.map {machine.settings.etc}"
    )
    assert machine.run(elsewhere, check=False).stdout.split() == [file.path]


def test_logs_of_requests_are_bounded(machine: Machine) -> None:
    """Traefik's by the engine; HAProxy writes none of them, whatever they end with, and journald has a limit."""
    settings = machine.settings
    log = json.loads(machine.out("docker inspect traefik"))[0]["HostConfig"]["LogConfig"]
    limits = {"max-size": settings.docker_log_max_size, "max-file": str(settings.docker_log_max_files)}
    assert log == {"Type": "local", "Config": limits}
    mark = f"bounded-{time.time_ns()}"
    with machine.sandbox("--access token") as sandbox:
        for url in (sandbox.url(), sandbox.url(49983), f"https://qa-0123456789ab.{settings.domain}"):
            machine.request("GET", f"{url}/{mark}")
    assert mark not in machine.out("journalctl --unit haproxy --output cat --since -5min --no-pager")
    kept = machine.out(
        "journalctl --unit systemd-journald --output cat --no-pager | grep -o ' max [0-9.]*[MG]' | tail -n 1"
    )
    assert kept, "journald says at its start how much it keeps"


def test_no_log_has_a_link(machine: Machine, sandbox: Sandbox) -> None:
    access(sandbox, "token")
    url, path = link(sandbox), f"/seen-{time.time_ns()}"
    assert ask(sandbox, url.replace("/?", f"{path}?")).status_code == 307
    seen = f"docker logs --since 5m traefik 2>&1 | grep -F {path}"
    line = eventually(lambda: machine.run(seen, check=False).stdout, bool, 60, "line of the access log")
    assert "sandbox_link" not in line
    assert url.partition("sandbox_link=")[2] not in machine.out("journalctl --output cat --since -5min --no-pager")
