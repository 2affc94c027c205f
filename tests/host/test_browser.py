"""`docker-sandbox browser-test`: what it finds, what it saves, and that its own sandbox goes in any case."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from deploys import ROOT
from tests.host.machine import REPORTS, Machine, Sandbox
from tools import demo

# Every kind of trouble: an error in the console, a picture that is missing, an exception that comes late.
BROKEN = """\
<!doctype html>
<title>Broken</title>
<img src="missing.png" alt="missing">
<script>console.error("all is lost"); setTimeout(() => { throw new TypeError("too late"); }, 100);</script>
"""
# It asks for no icon, and gives up a request of its own.
FINE = """\
<!doctype html>
<title>Fine</title>
<p>fine</p>
<script>
const stop = new AbortController();
fetch("index.html", { signal: stop.signal }).catch(() => console.log("given up"));
stop.abort();
</script>
"""
HANGING = """\
import time

def check(page):
    print("check has begun", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def pages(machine: Machine) -> Iterator[Sandbox]:
    """A sandbox that serves /broken.html and /fine.html."""
    with machine.sandbox("--timeout 30m") as sandbox:
        for name, text in (("broken", BROKEN), ("fine", FINE)):
            sandbox.run(f"cat >{name}.html", stdin=text.encode())
        sandbox.serve("python3 -m http.server 8000")
        yield sandbox


def browse(
    sandbox: Sandbox, arguments: str = "", script: str = "", user: str = "root"
) -> tuple[subprocess.CompletedProcess[str], dict[str, bytes]]:
    """Run it as `user` in a directory of its own. Returns how it ended, and the files that it saved."""
    machine = sandbox.machine
    work = machine.out(f"runuser -u {user} -- mktemp -d /tmp/browser-test-XXXXXXXX")
    option = f"--script {work}/check.py" if script else ""
    machine.run(f"cat >{work}/check.py && chmod 644 {work}/check.py", stdin=script.encode())
    command = f"docker-sandbox browser-test {sandbox.id} --output {work}/saved {option} {arguments}"
    done = machine.run(f"cd {work} && runuser -u {user} -- {command} </dev/null", check=False)
    names = machine.run(f"ls {work}/saved", check=False).stdout.split()
    saved = {}
    for name in names:
        words = machine.command(f"cat {work}/saved/{shlex.quote(name)}")
        saved[name] = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    machine.run(f"rm -rf {work}")
    return done, saved


def browsers(machine: Machine) -> list[dict[str, Any]]:
    """The throwaway sandboxes that are there now."""
    return [row for row in machine.listed() if row["name"] == "browser-test"]


def keep_pictures(machine: Machine, saved: dict[str, bytes]) -> None:
    """For a person to look at: reports/<test host>-<picture>."""
    REPORTS.mkdir(exist_ok=True)
    for name, content in saved.items():
        if name.endswith(".png"):
            (REPORTS / f"{machine.target.name}-{name}").write_bytes(content)


def test_the_calculator_passes_its_script(machine: Machine) -> None:
    """5 + 3 is typed and 8 is read; the certificate is checked, whoever issued it."""
    demo.start(machine, "calculator-in-browser")
    sandbox = Sandbox(
        machine, next(row["sandboxID"] for row in machine.listed() if row["name"] == "calculator-in-browser")
    )
    url = sandbox.url()
    try:
        done, saved = browse(sandbox, script=(ROOT / "examples/calculator/browser_test.py").read_text())
    finally:
        machine.run(f"docker-sandbox kill {sandbox.id}")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f'passed: {url}/ answered 200, title "Calculator"'
    assert lines[1:3] == ["  as expected:", f"    request: 422 POST {url}/api/calculate"]
    assert saved.keys() == {"calculated.png", "report.json", "report.txt", "screenshot.png"}
    assert all(content.startswith(b"\x89PNG") for name, content in saved.items() if name.endswith(".png"))
    keep_pictures(machine, saved)
    assert browsers(machine) == []


def test_a_page_with_errors_fails_and_the_report_names_them(machine: Machine, pages: Sandbox) -> None:
    done, saved = browse(pages, "--path /broken.html --json")
    assert done.returncode == 1 and "error:" not in done.stderr, done.stderr
    report = json.loads(done.stdout)
    url = pages.url()
    found = {(problem["kind"], problem["text"]) for problem in report["problems"]}
    assert found == {
        ("console", "all is lost"),
        ("request", f"404 GET {url}/missing.png"),
        ("exception", "TypeError: too late"),
    }
    assert (report["status"], report["title"], report["passed"]) == (200, "Broken", False)
    assert {**json.loads(saved["report.json"]), "output": report["output"]} == report
    text = saved["report.txt"].decode()
    assert f"request: 404 GET {url}/missing.png" in text and "console: all is lost" in text
    assert browsers(machine) == []


@pytest.mark.disruptive
def test_a_page_that_is_fine_passes_for_an_ordinary_user(machine: Machine, pages: Sandbox) -> None:
    """Who is in the group `sandbox` needs no other right. The files are his."""
    machine.run("id tester >/dev/null 2>&1 || useradd --create-home --groups sandbox tester")
    done, saved = browse(pages, "--path /fine.html", user="tester")
    assert done.returncode == 0, done.stdout + done.stderr
    assert saved.keys() == {"phone.png", "report.json", "report.txt", "screenshot.png"}
    assert json.loads(saved["report.json"])["console"][0]["text"] == "given up"


def test_a_port_on_which_nothing_listens(machine: Machine, pages: Sandbox) -> None:
    done, _ = browse(pages, "--port 5173")
    assert done.returncode == 1
    assert f"document: 502 GET {pages.url(5173)}/" in done.stdout and "nothing listens on port 5173" in done.stdout


def test_a_check_that_fails_names_its_line(machine: Machine, pages: Sandbox) -> None:
    script = "def check(page):\n    page.goto('/broken.html?again')\n    assert page.title() == 'Whole'\n"
    done, saved = browse(pages, "--path /fine.html", script)
    assert done.returncode == 1
    assert "script: check.py:3: assert page.title() == 'Whole': AssertionError" in done.stdout
    assert "screenshot.png" in saved, "the picture shows the page as the check left it"


@pytest.mark.disruptive
def test_an_authority_that_is_not_the_hosts_is_not_trusted(machine: Machine, pages: Sandbox) -> None:
    """The browser checks certificates: with another host's authority it refuses the page."""
    config = f"{machine.settings.etc}/config.toml"
    machine.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=other"
        " -keyout /tmp/other.key -out /tmp/other.pem && chmod 644 /tmp/other.pem"
        f" && cp --preserve=all {config} /tmp/config.toml"
        f" && sed -i 's|^authority = .*|authority = \"/tmp/other.pem\"|' {config}"
    )
    try:
        done, _ = browse(pages, "--path /fine.html")
    finally:
        machine.run(f"mv /tmp/config.toml {config}; rm /tmp/other.key /tmp/other.pem")
    assert done.returncode == 1
    assert f"document: net::ERR_CERT_AUTHORITY_INVALID GET {pages.url()}/fine.html" in done.stdout


def test_an_interrupt_leaves_nothing(machine: Machine, pages: Sandbox) -> None:
    """And a kill would leave nothing for long: the browser's sandbox has a time limit of its own."""
    started = f"docker-sandbox browser-test {pages.id} --path /fine.html --script check.py --output saved"
    script = f"""\
set -m  # else SIGINT would be ignored in the background
cd "$(mktemp -d)"
cat >check.py
{started} </dev/null >log 2>&1 & pid=$!
tries=0
until grep -q 'check has begun' log || [ $tries -ge 900 ]; do tries=$((tries + 1)); sleep 0.1; done
docker-sandbox list --json
kill -INT $pid
wait $pid
echo "exit code $?"
cat log
rm -r "$PWD"
"""
    done = machine.run(script, stdin=HANGING.encode())
    listed, _, rest = done.stdout.partition("\nexit code ")
    (during,) = [row for row in json.loads(listed) if row["name"] == "browser-test"]
    assert rest.startswith("130\n"), done.stdout
    assert not during["unlimited"] and during["metadata"] == {"tests": pages.id}
    assert browsers(machine) == []
    assert machine.out(f"docker ps --all --quiet --filter id={during['sandboxID']}") == ""
