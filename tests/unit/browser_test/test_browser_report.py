"""What counts as a problem, and how the report reads; no browser is needed for that."""

import json
import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from browser_report import MESSAGES_LIMIT, SHOWN_LIMIT, TEXT_LIMIT, Findings, as_text, of_exception, place_in

URL = "https://qa-4f1c0a9be2d7.example.com/"
FILES = ["report.json", "report.txt", "screenshot.png"]


@pytest.fixture
def findings() -> Findings:
    """Of a page that opened."""
    return Findings(URL, status=200, title="Notes", text="Notes\nbuy milk")


def report(findings: Findings, *expected: str) -> dict[str, Any]:
    made = findings.report([re.compile(pattern) for pattern in expected], FILES)
    assert json.loads(json.dumps(made)) == made
    return made


def problems(findings: Findings, *expected: str) -> list[tuple[str, str]]:
    return [(problem["kind"], problem["text"]) for problem in report(findings, *expected)["problems"]]


def test_a_page_that_is_fine(findings: Findings) -> None:
    findings.answered("GET", URL, 200, True)
    findings.said("warning", "deprecated", f"{URL}app.js:3", f"{URL}app.js")
    made = report(findings)
    assert made == {
        "passed": True,
        "url": URL,
        "status": 200,
        "title": "Notes",
        "problems": [],
        "expected": [],
        "console": [{"type": "warning", "text": "deprecated", "where": f"{URL}app.js:3"}],
        "text": "Notes\nbuy milk",
        "files": FILES,
    }
    assert as_text(made) == f'passed: {URL} answered 200, title "Notes"\n'


def test_each_kind_of_problem_fails_and_is_named(findings: Findings) -> None:
    findings.answered("GET", f"{URL}logo.png", 404, False)
    findings.failed("POST", f"{URL}api", "net::ERR_CONNECTION_REFUSED", False)
    findings.raised("TypeError: notes is undefined", f"{URL}app.js:7:3")
    findings.said("error", "boom", f"{URL}app.js:9", f"{URL}app.js")
    findings.crashed()
    findings.script_failed("check.py:12: assert False: AssertionError")
    made = report(findings)
    assert not made["passed"]
    assert as_text(made).splitlines() == [
        f'FAILED: {URL} answered 200, title "Notes"',
        f"  request: 404 GET {URL}logo.png",
        f"  request: net::ERR_CONNECTION_REFUSED POST {URL}api",
        f"  exception: TypeError: notes is undefined ({URL}app.js:7:3)",
        f"  console: boom ({URL}app.js:9)",
        "  crash: the page crashed: often the browser had too little memory",
        "  script: check.py:12: assert False: AssertionError",
    ]


def test_a_document_that_is_refused_shows_what_the_page_says() -> None:
    findings = Findings(URL, status=502, text="Port 8000 is closed.\n\nStart a server.")
    findings.answered("GET", URL, 502, True)
    assert as_text(report(findings)).splitlines() == [
        f"FAILED: {URL} answered 502",
        f"  document: 502 GET {URL}",
        "  the page says: Port 8000 is closed. Start a server.",
    ]


def test_a_page_that_does_not_open_is_told_once() -> None:
    findings = Findings(URL)
    findings.failed("GET", URL, "net::ERR_CERT_AUTHORITY_INVALID", True)
    findings.not_opened(f"net::ERR_CERT_AUTHORITY_INVALID at {URL}")
    assert as_text(report(findings)).splitlines() == [
        f"FAILED: {URL} not opened",
        f"  document: net::ERR_CERT_AUTHORITY_INVALID GET {URL}",
    ]
    silent = Findings(URL)
    silent.not_opened("Timeout 30000ms exceeded.")
    assert problems(silent) == [("document", "did not open: Timeout 30000ms exceeded.")]


def test_the_console_repeats_what_requests_have_told(findings: Findings) -> None:
    message = "Failed to load resource: the server responded with a status of 404 ()"
    findings.said("error", message, f"{URL}logo.png:1", f"{URL}logo.png")  # before the answer is reported
    findings.answered("GET", f"{URL}logo.png", 404, False)
    assert problems(findings) == [("request", f"404 GET {URL}logo.png")]
    findings.said("error", message, f"{URL}worker.png:1", f"{URL}worker.png")  # nobody else has told of that one
    assert problems(findings)[1:] == [("console", message)]


def test_the_icon_that_browsers_ask_for_by_themselves_may_be_missing(findings: Findings) -> None:
    icon = f"{URL}favicon.ico"
    findings.answered("GET", icon, 404, False)
    findings.said("error", "Failed to load resource: the server responded with a status of 404 ()", icon, icon)
    assert report(findings)["passed"]
    findings.answered("GET", f"{URL}static/favicon.ico", 404, False)
    assert not report(findings)["passed"]


def test_a_request_that_the_page_gave_up_is_no_problem(findings: Findings) -> None:
    findings.failed("GET", f"{URL}events", "net::ERR_ABORTED", False)
    assert report(findings)["passed"]


def test_what_is_expected_is_listed_and_does_not_fail(findings: Findings) -> None:
    findings.answered("POST", f"{URL}api/notes", 422, False)
    findings.answered("GET", f"{URL}logo.png", 404, False)
    pattern = r"^request: 422 POST .*/api/notes$"
    assert problems(findings, pattern) == [("request", f"404 GET {URL}logo.png")]
    made = report(findings, pattern, "logo")
    assert made["passed"]
    assert as_text(made).splitlines()[1:] == [
        "  as expected:",
        f"    request: 422 POST {URL}api/notes",
        f"    request: 404 GET {URL}logo.png",
    ]


def test_the_same_problem_is_counted(findings: Findings) -> None:
    for _ in range(3):
        findings.said("error", "boom", "", "")
    (problem,) = report(findings)["problems"]
    assert problem["times"] == 3
    assert as_text(report(findings)).splitlines()[1:] == ["  console: boom (3 times)"]


def test_what_a_page_says_cannot_flood_or_steer_a_terminal(findings: Findings) -> None:
    findings.title = "a\n\x1b]0;b\x07"
    findings.said("error", "\x1b[31m" + "x" * 10_000, "", "")
    for number in range(2 * MESSAGES_LIMIT):
        findings.said("log", str(number), "", "")
    made = report(findings)
    assert len(made["console"]) == MESSAGES_LIMIT
    assert len(made["problems"][0]["text"]) <= TEXT_LIMIT + 3
    text = as_text(made)
    assert "\x1b" not in text and "\x07" not in text and 'title "a ]0;b"' in text
    assert max(len(line) for line in text.splitlines()) <= SHOWN_LIMIT + 10


@pytest.mark.parametrize(
    ("stack", "place"),
    [
        (f"TypeError: x\n    at {URL}app.js:7:3\n    at {URL}app.js:9:1", f"{URL}app.js:7:3"),
        (f"TypeError: at last\n    at async named ({URL}app.js:7:3)\n", f"{URL}app.js:7:3"),
        ("a text", ""),
        ("", ""),
    ],
)
def test_an_exception_of_the_page_names_its_place(stack: str, place: str) -> None:
    assert place_in(stack) == place


def test_a_failing_check_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "check.py"
    file.write_text("def check(page):\n    helper()\n\ndef helper():\n    assert 1 == 2, 'one is not two'\n")
    names: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    with pytest.raises(AssertionError) as caught:
        names["check"](None)
    assert of_exception(caught.value, str(file)) == (
        "check.py:5: assert 1 == 2, 'one is not two': AssertionError: one is not two"
    )


def test_a_script_that_is_no_python_names_its_line(tmp_path: Path) -> None:
    file = str(tmp_path / "check.py")
    with pytest.raises(SyntaxError) as caught:
        compile("x = 1\ndef check(page)\n", file, "exec")
    assert of_exception(caught.value, file).startswith("check.py:2: SyntaxError: ")


def test_the_log_of_playwrights_calls_is_left_out() -> None:
    error = TimeoutError("Locator.click: Timeout 30000ms exceeded.\nCall log:\n  - waiting for button")
    assert of_exception(error, "/x/check.py") == "TimeoutError: Locator.click: Timeout 30000ms exceeded."
    assert traceback.extract_tb(error.__traceback__) == []
