"""`browser-test`: what is carried in and out of the browser's sandbox, and that nothing is left of it.

The sandbox is a real agent; what runs there stands in for the browser, and does what the path in the URL says.
"""

import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli import browser
from tests.unit.envd.client import eventually
from tests.unit.sandboxd.cli.doubles import DEADLINE_S, ID, Apart, ControlPlane, write_place

TARGET = "4f1c0a9be2d7"
URL = f"https://qa-{TARGET}.example.com"
PROGRAM = """\
import json, os, pathlib, signal, sys, time

url, script, result, *flags = sys.argv[1:]
kind = url.rpartition("/")[2]
print("opening", url)
print("to standard error", file=sys.stderr)
os.makedirs(result)
authority = pathlib.Path(flags[3]).read_text() if "--authority" in flags else ""
report = {"passed": kind != "bad", "url": url, "flags": flags, "script": script, "authority": authority,
          "code": pathlib.Path(script).read_text(), "files": ["report.json", "report.txt"]}
os.chdir(result)
if kind.startswith("hang"):
    if kind == "hang-deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    pathlib.Path("half.txt").write_text("so far")
    time.sleep(300)
if kind == "broken":
    sys.exit("no browser here")
pathlib.Path("report.json").write_text("nonsense" if kind == "nonsense" else json.dumps(report))
pathlib.Path("report.txt").write_text(f"{'passed' if report['passed'] else 'FAILED'}: {url}\\n")
sys.exit(0 if report["passed"] else 1)
"""


@pytest.fixture
def configured(box: Apart, here: Path, control: ControlPlane, sandbox: dict[str, Any]) -> Iterator[Apart]:
    """A host with a template for browsers; its next sandbox is the agent's, and there is one to test."""
    scripts = here / "scripts"
    scripts.mkdir()
    (scripts / browser.PROGRAM).write_text(PROGRAM)
    (scripts / browser.DEFAULT_SCRIPT).write_text("the host's own")
    configure(box, scripts)
    target = {**sandbox, "sandboxID": TARGET, "url": URL}
    for prefix in (TARGET, TARGET[:4]):
        control.answer(f"GET /sandboxes/{prefix}", 200, target)
    control.answer("POST /v2/sandboxes", 201, sandbox)
    control.answer(f"DELETE /sandboxes/{ID}", 204)
    yield box
    shutil.rmtree(box.work / browser.NAME, ignore_errors=True)  # the agent is used by other tests, too


def configure(box: Apart, scripts: Path, template: str = "chromium", authority: str = "") -> None:
    table = f'[browser]\ntemplate = "{template}"\nscripts = "{scripts}"\nauthority = "{authority}"\n'
    box.config.write_text(box.config.read_text().partition("[browser]")[0] + table)


def browse(box: Apart, here: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return box.run("browser-test", TARGET, "--output", str(here / "out"), *arguments)


def asked(control: ControlPlane) -> list[str]:
    return [f"{request.method} {request.target}" for request in control.requests]


ALL = [f"GET /sandboxes/{TARGET}", "POST /v2/sandboxes", f"DELETE /sandboxes/{ID}"]


def test_a_page_that_is_fine(configured: Apart, here: Path, control: ControlPlane) -> None:
    done = browse(configured, here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"passed: {URL}/\nsaved in {here}/out: report.json report.txt\n"
    assert sorted(done.stderr.decode().splitlines()) == [f"opening {URL}/", "to standard error"]
    assert asked(control) == ALL
    assert control.requests[1].body == {
        "templateID": "chromium",
        "timeout": 240,
        "name": "browser-test",
        "metadata": {"tests": TARGET},
        "here": True,
        "network": {"mode": "public"},
    }
    report = json.loads((here / "out/report.json").read_text())
    assert report["flags"] == ["--domain", "example.com"] and report["code"] == "the host's own"


def test_what_was_asked_for_reaches_the_browser(configured: Apart, here: Path, control: ControlPlane) -> None:
    (here / "ca.pem").write_text("the authority")
    configure(configured, here / "scripts", authority=str(here / "ca.pem"))
    script = here / "it's mine.py"
    script.write_text("my own")
    words = ["--port", "5173", "--path", "/a?b='c'&d=$HOME", "--script", str(script), "--timeout", "1m", "--json"]
    done = browse(configured, here, *words)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["url"] == f"https://5173-{TARGET}.example.com/a?b='c'&d=$HOME"
    assert report["code"] == "my own" and Path(report["script"]).name == "it's mine.py"
    assert report["authority"] == "the authority" and report["output"] == str(here / "out")
    assert control.requests[1].body["timeout"] == 180


@pytest.mark.parametrize(("path", "joined"), [("/", "/?"), ("/a?b=c", "/a?b=c&")])
def test_a_closed_sandbox_lets_it_in_by_a_link(
    configured: Apart, here: Path, control: ControlPlane, sandbox: dict[str, Any], path: str, joined: str
) -> None:
    control.answer(f"GET /sandboxes/{TARGET}", 200, {**sandbox, "sandboxID": TARGET, "url": URL, "access": "token"})
    control.answer(f"POST /sandboxes/{TARGET}/link", 200, {"url": f"{URL}/?sandbox_link=1.a", "expiresAt": "x"})
    done = browse(configured, here, "--path", path, "--timeout", "1m", "--json")
    assert json.loads(done.stdout)["url"] == f"{URL}{joined}sandbox_link=1.a"
    wanted = next(one.body for one in control.requests if one.target.endswith("/link"))
    assert wanted == {"port": None, "seconds": 180}


def test_nobody_knows_the_password_of_a_sandbox(
    configured: Apart, here: Path, control: ControlPlane, sandbox: dict[str, Any]
) -> None:
    control.answer(f"GET /sandboxes/{TARGET}", 200, {**sandbox, "sandboxID": TARGET, "url": URL, "access": "basic"})
    done = browse(configured, here)
    assert done.returncode == 1 and f"docker-sandbox access {TARGET} token" in done.stderr.decode()
    assert asked(control) == [f"GET /sandboxes/{TARGET}"], "nothing was made for it"


def test_without_an_output_the_directory_has_the_whole_id(
    configured: Apart, here: Path, control: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    done = configured.run("browser-test", TARGET[:4])
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (here / f"browser-test-{TARGET}").iterdir()) == ["report.json", "report.txt"]


def test_a_page_that_is_not_fine_ends_with_1_and_no_message_of_ours(
    configured: Apart, here: Path, control: ControlPlane
) -> None:
    done = browse(configured, here, "--path", "/bad")
    assert done.returncode == 1 and b"error:" not in done.stderr
    assert done.stdout.decode().startswith(f"FAILED: {URL}/bad\n")
    assert asked(control) == ALL


@pytest.mark.parametrize(("kind", "code"), [("broken", 1), ("nonsense", 0)])
def test_without_a_report_it_has_failed(
    configured: Apart, here: Path, control: ControlPlane, kind: str, code: int
) -> None:
    """The report of an earlier test does not count; other files in the directory stay."""
    (here / "out").mkdir()
    for name in ("report.json", "report.txt", "screenshot.png", "other.txt"):
        (here / "out" / name).write_text('{"files": []}')
    done = browse(configured, here, "--path", f"/{kind}")
    assert (done.returncode, done.stdout) == (1, b"")
    assert f"made no report: its program ended with exit code {code}" in done.stderr.decode()
    assert (kind == "broken") == ("no browser here" in done.stderr.decode())
    assert (here / "out/other.txt").exists() and not (here / "out/screenshot.png").exists()
    assert asked(control) == ALL


def test_the_time_limit(configured: Apart, here: Path, control: ControlPlane) -> None:
    half = here / "out/half.txt"
    for limit in ("2s", "20s"):  # on a busy machine the first may be over before the browser runs
        shutil.rmtree(configured.work / browser.NAME, ignore_errors=True)
        control.requests.clear()
        done = browse(configured, here, "--path", "/hang", "--timeout", limit)
        assert (done.returncode, done.stdout) == (124, b"")
        assert f"not done within {limit}" in done.stderr.decode()
        assert asked(control) == ALL
        if half.exists() and half.read_text():
            break
    assert half.read_text() == "so far"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(configured: Apart, here: Path, control: ControlPlane, number: int) -> None:
    process = configured.start("browser-test", TARGET, "--output", str(here / "out"), "--path", "/hang")
    eventually((configured.work / browser.RESULT / "half.txt").exists, "the browser runs")
    assert configured.interrupt(process, number)[0] == 128 + number
    assert asked(control) == ALL


def test_a_second_signal_leaves_nothing_either(configured: Apart, here: Path, control: ControlPlane) -> None:
    process = configured.start("browser-test", TARGET, "--output", str(here / "out"), "--path", "/hang-deaf")
    eventually((configured.work / browser.RESULT / "half.txt").exists, "the browser runs")
    process.send_signal(signal.SIGINT)
    assert configured.interrupt(process, signal.SIGINT)[0] == 130
    assert asked(control) == ALL


class Slow(ControlPlane):
    """Answers a create when it is told to."""

    def __init__(self, path: Path) -> None:
        self.made = threading.Event()
        super().__init__(path)

    def recorded(self) -> None:
        if self.requests[-1].method == "POST":
            self.made.wait(DEADLINE_S)


def test_a_signal_while_the_sandbox_is_made(
    configured: Apart, here: Path, control: ControlPlane, directory: Path, agent: Any
) -> None:
    slow = Slow(directory / "slow.sock")
    slow.answers = control.answers
    write_place(configured.config, slow.path, ("127.0.0.1", agent.port))
    configure(configured, here / "scripts")
    process = configured.start("browser-test", TARGET, "--output", str(here / "out"))
    try:
        eventually(lambda: "POST /v2/sandboxes" in asked(slow), "the sandbox is asked for")
        process.send_signal(signal.SIGINT)
        slow.made.set()
        out, err = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, out, err) == (130, b"", b"")
        assert asked(slow) == ALL
    finally:
        slow.made.set()
        process.kill()
        slow.stop()


def test_a_host_without_a_browser(configured: Apart, here: Path, control: ControlPlane) -> None:
    configure(configured, here / "scripts", template="")
    done = browse(configured, here)
    assert done.returncode == 3
    assert "`templates`" in done.stderr.decode() and '"context": "playwright"' in done.stderr.decode()
    assert asked(control) == [] and not (here / "out").exists()


def test_a_host_of_an_earlier_release(configured: Apart, here: Path) -> None:
    configured.config.write_text(configured.config.read_text().partition("[browser]")[0])
    done = browse(configured, here)
    assert done.returncode == 1 and "no usable table [browser]" in done.stderr.decode()
    assert "run the deploy" in done.stderr.decode()


def test_a_script_that_is_not_there(configured: Apart, here: Path, control: ControlPlane) -> None:
    done = browse(configured, here, "--script", str(here / "none.py"))
    assert done.returncode == 1 and f"{here}/none.py: no such file" in done.stderr.decode()
    assert asked(control) == []


def test_a_sandbox_that_is_not_there(configured: Apart, here: Path, control: ControlPlane) -> None:
    control.answer(f"GET /sandboxes/{TARGET}", 404, {"code": 404, "message": f"sandbox '{TARGET}' not found"})
    assert browse(configured, here).returncode == 3
    assert asked(control) == ALL[:1] and not (here / "out").exists()


def test_a_host_that_is_full(configured: Apart, here: Path, control: ControlPlane) -> None:
    control.answer("POST /v2/sandboxes", 429, {"code": 429, "message": "busy"})
    assert browse(configured, here).returncode == 5
    assert asked(control) == ALL[:2]


def test_a_sandbox_that_cannot_be_removed_is_told(configured: Apart, here: Path, control: ControlPlane) -> None:
    control.answer(f"DELETE /sandboxes/{ID}", 503, {"code": 503, "message": "Docker does not answer."})
    done = browse(configured, here)
    assert done.returncode == 0, "the test has its result"
    assert f"warning: the browser's sandbox {ID} is left" in done.stderr.decode()
    assert "Docker does not answer" in done.stderr.decode()


def test_a_sandbox_that_is_gone_already_needs_no_word(configured: Apart, here: Path, control: ControlPlane) -> None:
    del control.answers[f"DELETE /sandboxes/{ID}"]
    done = browse(configured, here)
    assert done.returncode == 0 and b"warning" not in done.stderr


def test_it_leaves_standard_input_alone(configured: Apart, here: Path) -> None:
    """In a shell loop that reads a list, nothing of the list is lost."""
    words = configured.words("browser-test", TARGET, "--output", str(here / "out"))
    script = ["bash", "-c", '"$@" >/dev/null 2>&1; cat', "bash", *words]
    done = subprocess.run(script, input=b"the list\n", capture_output=True, timeout=DEADLINE_S, check=True)
    assert done.stdout == b"the list\n"
