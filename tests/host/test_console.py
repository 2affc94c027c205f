"""The console in Chromium, as people use it, and what its process may do on the host.

browser-test finds fault with every error in the browser's console, so with all that the page's own policy forbids.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.host.machine import Machine, Sandbox, eventually
from tests.host.test_browser import browse, keep_pictures

PAGE = "<!doctype html><title>Fine</title><p>fine</p>"
# What follows is read by each script; @WORDS@ are filled in.
BEGINNING = '''
import re
from playwright.sync_api import Page, expect

expect.set_options(timeout=30_000)
URL, KEY, OTHER = "https://console.@DOMAIN@", "@KEY@", "@OTHER@"
EXPECTED = []


def sign_in(page, key):
    page.goto(URL + "/")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def new(page, name):
    """The id of a new sandbox, whose page is open then."""
    page.goto(URL + "/")
    page.get_by_role("link", name="New sandbox").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_role("button", name="Make it").click()
    page.wait_for_url(re.compile("/sandboxes/[0-9a-f]{12}$"))
    return page.url.rpartition("/")[2]


def kill(page, sandbox):
    page.goto(f"{URL}/sandboxes/{sandbox}")
    page.locator("details.menu summary").click()
    page.get_by_role("link", name="Kill").click()
    page.get_by_role("dialog").get_by_role("button", name="Kill it").click()
    expect(page.get_by_role("heading", name="It has ended")).to_be_visible(timeout=60000)
'''
ORDINARY = (
    BEGINNING
    + '''
EXPECTED = [r"^document: 401 POST https://console", r"^document: 404 GET https://console", r"status of 40[14]"]


def check(page: Page) -> None:
    sign_in(page, "e2b_" + "0" * 40)
    expect(page.get_by_role("alert")).to_contain_text("opens nothing")
    sign_in(page, KEY)
    expect(page.get_by_role("heading", name="Nothing runs")).to_be_visible()
    expect(page.get_by_role("link", name="Host", exact=True)).to_have_count(0)
    assert OTHER not in page.content()
    page.goto(f"{URL}/sandboxes/{OTHER}")
    expect(page.get_by_text(f"There is no sandbox {OTHER} of yours")).to_be_visible()

    made = new(page, "<b>mine</b>")
    expect(page.get_by_role("heading", name="<b>mine</b>")).to_be_visible()
    terminal(page)
    live(page, made)
    pictures(page, made)
    kill(page, made)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.goto(f"{URL}/")
    expect(page.get_by_label("API key")).to_be_visible()


def terminal(page):
    rows = page.locator("#terminal .xterm-rows")
    page.get_by_role("button", name="Open terminal").click()
    expect(rows).to_contain_text("$", timeout=20000)
    page.keyboard.type("echo $((6*7))-$(id -un); stty size\\n")
    expect(rows).to_contain_text(re.compile(r"42-user\\s*\\d+ \\d+"))
    size = re.compile(r"(\\d+) (\\d+)")
    before = size.search(rows.inner_text().partition("42-user")[2])[0]
    page.set_viewport_size({"width": 800, "height": 900})
    # The page tells the new size when it has drawn itself anew.
    page.keyboard.type(f"clear; while [ '{before}' = \\"$(stty size)\\" ]; do sleep 0.1; done; echo narrow-$((1+1))\\n")
    expect(rows).to_contain_text("narrow-2")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.screenshot(path="console-sandbox.png", full_page=True)
    page.keyboard.type("exit\\n")
    expect(page.locator("#terminal-said")).to_have_text("The shell has ended.")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Close terminal")).to_be_visible()
    page.keyboard.type("echo again-$((1+1))\\n")
    expect(rows).to_contain_text("again-2")


def live(page, made):
    """One page acts, and the other shows it: without a reload, and without losing what is open or has the focus."""
    page.goto(URL + "/")
    row = page.locator(f"#row-{made}")
    summary = row.locator("details.menu summary")
    summary.click()
    page.evaluate("window.same = true")
    acting = page.context.new_page()
    acting.goto(f"{URL}/sandboxes/{made}")
    acting.get_by_role("button", name="Pause").click()
    expect(acting.locator("#said")).to_contain_text("is paused")
    expect(row.locator(".badge")).to_have_text("paused", timeout=20000)
    expect(row.locator("details.menu")).to_have_attribute("open", "")
    expect(summary).to_be_focused()
    assert page.evaluate("window.same")
    page.keyboard.press("Escape")
    row.get_by_role("button", name="Resume").click()
    expect(acting.locator("#one .badge").first).to_have_text("running", timeout=20000)
    acting.close()
    summary.click()
    row.get_by_role("button", name="in 15 minutes").click()
    expect(page.locator("#said")).to_contain_text("to end in 15 minutes")
    expect(row).to_contain_text(re.compile("ends in 1[45]m"))
    expect(row.locator(".figure").nth(1)).to_contain_text("MB")


def pictures(page, made):
    page.emulate_media(color_scheme="dark")
    page.screenshot(path="console-list-dark.png")
    page.set_viewport_size({"width": 390, "height": 844})
    page.screenshot(path="console-list-phone-dark.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing is wider than a phone"
    page.emulate_media(color_scheme="light")
    page.goto(f"{URL}/sandboxes/{made}")
    page.screenshot(path="console-sandbox-phone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 800})
'''
)
HOST = (
    BEGINNING
    + """
def check(page: Page) -> None:
    sign_in(page, KEY)
    expect(page.locator(f"#row-{OTHER}")).to_be_visible()
    page.screenshot(path="console-list.png")
    page.get_by_role("link", name="Host", exact=True).click()
    expect(page.get_by_role("heading", name="Warm pools")).to_be_visible()
    expect(page.locator("#host-pools tbody tr").first).to_contain_text("ms")
    expect(page.locator(".certificate")).to_contain_text(re.compile(r"ends in \\d+ days"), timeout=30000)
    page.screenshot(path="console-host.png", full_page=True)
    page.emulate_media(color_scheme="dark")
    page.screenshot(path="console-host-dark.png", full_page=True)
"""
)
PLAIN = (
    BEGINNING
    + '''
def check(page: Page) -> None:
    """The same without JavaScript."""
    context = page.context.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, KEY)
    page.get_by_role("link", name="New sandbox").click()
    page.get_by_label("Name").fill("plain")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", name="plain")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#one .badge")).to_have_text("paused")
    page.locator("details.menu summary").click()
    page.get_by_role("link", name="Kill").click()
    page.get_by_role("button", name="Kill it").click()
    expect(page.get_by_role("heading", name="Nothing runs")).to_be_visible(timeout=60000)
    context.close()
'''
)
ATTACK = (
    BEGINNING
    + '''
EXPECTED = [r"^request: net::ERR", r"^document: net::ERR_BLOCKED", r"^console: (Framing|WebSocket|Access)"]
TRY = """async ({url, made}) => {
  const sent = {method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams({token: "x"})};
  const failed = [];
  for (const path of [`/sandboxes/${made}/kill`, "/sign-out", "/new"]) {
    try { await fetch(url + path, sent); } catch (error) { failed.push(path); }
  }
  const read = await fetch(url + "/", {credentials: "include"}).then(() => "read", () => "closed");
  const socket = await new Promise((resolve) => {
    const one = new WebSocket(url.replace("https", "wss") + `/sandboxes/${made}/terminal?user=root&cols=80&rows=24`);
    one.onopen = () => resolve("open");
    one.onclose = () => resolve("closed");
  });
  const frame = document.createElement("iframe");
  frame.src = url + "/";
  document.body.append(frame);
  await new Promise((resolve) => { frame.onload = resolve; setTimeout(resolve, 3000); });
  return [read, socket];
}"""


def check(page: Page) -> None:
    """A page of a sandbox has the console's site, so its requests carry the cookie; they do nothing all the same."""
    sandboxs_page = page.url
    sign_in(page, KEY)
    made = new(page, "victim")
    page.goto(sandboxs_page)
    assert page.evaluate(TRY, {"url": URL, "made": made}) == ["closed", "closed"]
    page.goto(f"{URL}/sandboxes/{made}")
    expect(page.locator("#one .badge").first).to_have_text("running")
    kill(page, made)
'''
)


@contextmanager
def key(machine: Machine, name: str, options: str = "") -> Iterator[str]:
    made = json.loads(machine.out(f"docker-sandbox key create {name} {options} --json"))
    try:
        yield made["key"]
    finally:
        machine.run(f"docker-sandbox key revoke {made['keyID']}", check=False)
        left = [row["sandboxID"] for row in machine.listed() if row["owner"] == name]
        if left:
            machine.run(f"docker-sandbox kill {' '.join(left)}", check=False)


@pytest.fixture(scope="module")
def pages(machine: Machine) -> Iterator[Sandbox]:
    """A sandbox of nobody's key, with a page on which the browser begins."""
    with machine.sandbox("--timeout 30m --name of-the-host") as sandbox:
        sandbox.run("cat >index.html", stdin=PAGE.encode())
        sandbox.serve("python3 -m http.server 8000")
        yield sandbox


def run(machine: Machine, pages: Sandbox, script: str, text: str) -> None:
    filled = {"@DOMAIN@": machine.settings.domain, "@KEY@": text, "@OTHER@": pages.id}
    for word, value in filled.items():
        script = script.replace(word, value)
    done, saved = browse(pages, script=script, arguments="--timeout 4m")
    keep_pictures(machine, saved)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_ordinary_key(machine: Machine, pages: Sandbox) -> None:
    """Wrong key; nothing of others; a new sandbox, its terminal, the list as it changes, pause, resume, kill."""
    with key(machine, "console-ordinary") as text:
        run(machine, pages, ORDINARY, text)


def test_a_key_of_the_host(machine: Machine, pages: Sandbox) -> None:
    with key(machine, "console-host", "--host") as text:
        run(machine, pages, HOST, text)


def test_without_javascript(machine: Machine, pages: Sandbox) -> None:
    with key(machine, "console-plain") as text:
        run(machine, pages, PLAIN, text)


def test_a_page_of_a_sandbox_can_do_nothing(machine: Machine, pages: Sandbox) -> None:
    with key(machine, "console-attacked") as text:
        run(machine, pages, ATTACK, text)


def ask(machine: Machine, method: str, path: str, cookie: str = "", **options: str) -> httpx.Response:
    origin = f"https://console.{machine.settings.domain}"
    headers = {"Origin": origin, **({"Cookie": cookie} if cookie else {})}
    return machine.request(method, origin + path, headers=headers, **({"data": options} if options else {}))


def signed_in(machine: Machine, text: str) -> str:
    answer = ask(machine, "POST", "/sign-in", key=text)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["set-cookie"]).partition(";")[0]


def test_what_its_process_may_do(machine: Machine) -> None:
    """Not root, no group of Docker's or the gateway's, and nobody but root and the gateway reaches its socket."""
    unit, login = machine.unit("console"), f"{machine.project}-console"
    pid = machine.out(f"systemctl show {unit} -p MainPID --value")
    assert machine.out(f"ps -o user:32= -p {pid}") == login
    groups = machine.out(f"awk '/^Groups:/ {{for (i = 2; i <= NF; i++) print $i}}' /proc/{pid}/status").split()
    names = {machine.out(f"getent group {group} | cut -d: -f1") for group in groups}
    assert names == {login, "sandbox"}
    capabilities = machine.out(f"grep -E '^Cap(Eff|Prm|Bnd)' /proc/{pid}/status").split()[1::2]
    assert {int(mask, 16) for mask in capabilities} == {0}
    assert machine.out(f"stat -c '%U:%G %a' /run/{machine.settings.name}-console.sock") == "root:haproxy 660"
    secret = machine.host.file(f"{machine.settings.etc}/secrets/console_key")
    assert (secret.user, secret.mode) == ("root", 0o600)


def test_headers_from_outside(machine: Machine) -> None:
    """Traefik and the gateway add nothing that would change them."""
    answer = ask(machine, "GET", "/sign-in")
    assert answer.status_code == 200 and answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert ask(machine, "GET", "/health").text == "ok\n"


def test_a_revoked_key_ends_its_session(machine: Machine) -> None:
    with key(machine, "console-revoked") as text:
        cookie = signed_in(machine, text)
        assert ask(machine, "GET", "/", cookie).status_code == 200
    assert ask(machine, "GET", "/", cookie).headers["location"] == "/sign-in"


@pytest.mark.disruptive
def test_sessions_survive_a_restart_and_nobody_else_notices(machine: Machine, pages: Sandbox) -> None:
    unit = machine.unit("console")
    with key(machine, "console-restarted") as text:
        cookie = signed_in(machine, text)
        machine.run(f"systemctl restart {unit}")
        assert ask(machine, "GET", "/", cookie).status_code == 200, "the request waits at the socket"
        machine.run(f"systemctl stop {machine.project}-console.socket {unit}")
        try:
            answer = ask(machine, "GET", "/", cookie)
            assert answer.status_code == 503 and "systemctl status" in answer.text
            assert machine.request("GET", pages.url()).status_code == 200 and pages.out("echo well") == "well"
        finally:
            machine.run(f"systemctl start {machine.project}-console.socket {unit}")
        eventually(lambda: ask(machine, "GET", "/", cookie).status_code, lambda code: code == 200, 30, "console")


@pytest.mark.disruptive
def test_a_restart_of_sandboxd_is_said_and_passes(machine: Machine) -> None:
    unit = machine.unit("sandboxd")
    with key(machine, "console-waiting") as text:
        cookie = signed_in(machine, text)
        machine.run(f"systemctl stop {unit}")
        try:
            answer = ask(machine, "GET", "/", cookie)
            assert answer.status_code == 503 and "control plane does not answer" in answer.text
        finally:
            machine.run(f"systemctl start {unit}")
        assert ask(machine, "GET", "/", cookie).status_code == 200
