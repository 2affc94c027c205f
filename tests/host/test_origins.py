"""What a preview may do to other names of the domain in a visitor's browser: cookies, and orders to the browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.host.machine import Machine, Sandbox
from tests.host.test_browser import browse
from tests.host.wire import Edge, plays, steps

LONG = 12_000


@dataclass(frozen=True)
class Stage:
    edge: Edge
    one: Sandbox
    other: Sandbox


@pytest.fixture(scope="module")
def stage(machine: Machine) -> Iterator[Stage]:
    with machine.sandbox() as one, machine.sandbox() as other:
        yield Stage(Edge(machine), plays(one, "one"), plays(other, "other"))


def answer(*headers: str) -> tuple[str, str]:
    """A step: the answer `ok` with these headers."""
    lines = "".join(f"{header}\r\n" for header in headers)
    return "send", f"HTTP/1.1 200 OK\r\n{lines}Content-Type: text/html\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ("a=b; Domain=.{}", "a=b"),
        ("a=b;domain={}; Path=/; Secure", "a=b; Path=/; Secure"),
        ("a=b; DOMAIN\t = {} ;HttpOnly", "a=b;HttpOnly"),
        ("a=b; Expires=Wed, 21 Oct 2099 07:28:00 GMT; Domain={}", "a=b; Expires=Wed, 21 Oct 2099 07:28:00 GMT"),
        ("a=b; Domain=x; Domain={}; Path=/; Domain={}; Secure", "a=b; Secure"),
        ('a="b; Domain={}"', 'a="b'),  # quotes do not keep a semicolon in a cookie
        ("Domain=b; Path=/domain=x", "Domain=b; Path=/domain=x"),
        ("a=domain=b; subdomain=c", "a=domain=b; subdomain=c"),
    ],
)
def test_a_cookie_loses_its_domain(stage: Stage, sent: str, arrives: str) -> None:
    cookie = sent.replace("{}", stage.edge.domain)
    found = stage.edge.ask(stage.edge.host(stage.one), steps(answer(f"Set-Cookie: {cookie}")))
    assert found.all("set-cookie") == [arrives]


def test_every_cookie_of_an_answer_does(stage: Stage) -> None:
    """Whatever the case of the name, beside others, and folded into a second line."""
    headers = ("sEt-cOOkie: a=1; Domain=x", "Set-Cookie: b=2; Path=/", "set-cookie: c=3\r\n ; Domain=x; Path=/")
    found = stage.edge.ask(stage.edge.host(stage.one), steps(answer(*headers)))
    cookies = [[part.strip() for part in cookie.split(";")] for cookie in found.all("set-cookie")]
    assert cookies == [["a=1"], ["b=2", "Path=/"], ["c=3", "Path=/"]]


@pytest.mark.parametrize(("start", "many"), [("", ";"), ("a=b", "; Domain=x"), ("a=b;", " "), ("a=", "; dom ain=x")])
def test_a_cookie_that_is_hard_to_read_does(stage: Stage, start: str, many: str) -> None:
    """As long as a header can be: no limit of the search lets it pass."""
    parts = (
        ("send", f"HTTP/1.1 200 OK\r\nSet-Cookie: {start}"),
        ("repeat", many, LONG // len(many)),
        ("send", ";Domain=x\r\nContent-Length: 2\r\n\r\nok"),
    )
    found = stage.edge.ask(stage.edge.host(stage.one), steps(*parts))
    assert found.status == 200 and "domain=x" not in found.all("set-cookie")[0].lower()


def test_no_preview_clears_the_data_of_a_site(stage: Stage) -> None:
    """`cookies` would mean those of all names below the domain."""
    headers = ('Clear-Site-Data: "cookies"', 'clear-SITE-data: "*"', "Access-Control-Allow-Origin: *")
    found = stage.edge.ask(stage.edge.host(stage.one), steps(answer(*headers)))
    assert not found.all("clear-site-data")
    assert found.all("access-control-allow-origin") == ["*"], "what concerns the preview alone is its own affair"


def test_in_a_browser_nothing_of_a_preview_reaches_another_name(stage: Stage, machine: Machine) -> None:
    """Headers, early hints and trailers. What a script writes for the whole domain does arrive: docs/security.md."""
    domain, edge = stage.edge.domain, stage.edge
    wide = f"Domain={domain}; Path=/; Secure"
    early = f"HTTP/1.1 103 Early Hints\r\nSet-Cookie: early=1; {wide}\r\nLink: </x.css>; rel=preload; as=style\r\n\r\n"
    trailer = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTrailer: Set-Cookie\r\nTransfer-Encoding: chunked\r\n\r\n"
        f"2\r\nok\r\n0\r\nSet-Cookie: late=1; {wide}\r\n\r\n"
    )
    clears = answer('Clear-Site-Data: "cookies", "storage"')
    names = {
        "one": f"https://{edge.host(stage.one)}",
        "other": f"https://{edge.host(stage.other)}",
        "api": f"https://api.{domain}",
        "headers": steps(answer(f"Set-Cookie: header=1; {wide}", "Set-Cookie: own=1; Path=/; Secure")),
        "early": steps(("send", early), answer()),
        "trailer": steps(("send", trailer)),
        "clears": steps(clears),
        "keeps": steps(answer("Set-Cookie: kept=1; Path=/; Secure; HttpOnly")),
        "domain": domain,
    }
    script = f"""\
at = {json.dumps(names)}

def cookies(page, name):
    return {{cookie["name"] for cookie in page.context.cookies([at[name]])}}

def check(page):
    page.goto(at["other"] + at["keeps"])
    for kind in ("headers", "early", "trailer", "clears"):
        assert page.goto(at["one"] + at[kind]).status == 200, kind
        assert page.content().count("ok") == 1, kind
    assert cookies(page, "one") >= {{"own", "header"}} and "early" not in cookies(page, "one")
    assert cookies(page, "other") == {{"kept"}}, cookies(page, "other")
    assert cookies(page, "api") == set(), cookies(page, "api")
    page.goto(at["one"] + "/")
    page.evaluate("d => {{ document.cookie = `tossed=1; Domain=${{d}}; Path=/; Secure`;"
                  " document.cookie = `__Host-tossed=1; Domain=${{d}}; Path=/; Secure` }}", at["domain"])
    assert cookies(page, "other") == {{"kept", "tossed"}}, cookies(page, "other")
    assert cookies(page, "api") == {{"tossed"}}, cookies(page, "api")
    heard = page.goto(at["other"] + "/").json()
    sent = [value for name, value in heard["headers"] if name == "cookie"]
    assert heard["who"] == "other" and "kept=1" in sent[0] and "tossed=1" in sent[0], heard
"""
    done, _ = browse(stage.one, "--path /", script)
    assert done.returncode == 0, done.stdout + done.stderr
