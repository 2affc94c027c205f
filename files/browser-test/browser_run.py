"""Opens a URL in Chromium, runs the `check` of a script on it, and writes the report. Runs in the browser's sandbox:

    browser_run.py URL SCRIPT RESULT [--domain D] [--authority FILE]

RESULT is the directory for the report and the pictures. Progress goes to standard error. Ends with 0 when the page is
fine, with 1 when it is not; the report is there in both cases.
"""

import argparse
import importlib.util
import inspect
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from browser_report import Findings, as_text, of_exception, place_in

SYSTEM_AUTHORITIES = Path("/usr/local/share/ca-certificates")  # the system trusts them; Chromium does not look there
PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
NSS = Path.home() / ".pki/nssdb"
DESKTOP = {"width": 1280, "height": 800}
SETTLE_MS = 3000  # at most so long for requests that are under way, since their errors are the page's, too


def default_gateway(routes: str) -> str:
    """The address of the default gateway in the text of /proc/net/route: the host, as a sandbox sees it."""
    for line in routes.splitlines()[1:]:
        _, destination, gateway, *_ = line.split()
        if destination == "00000000":
            return socket.inet_ntoa(struct.pack("<I", int(gateway, 16)))
    raise SystemExit("browser_run.py: this sandbox has no default route, so it cannot reach the host.")


def resolver_rule(domain: str) -> str:
    """Makes Chromium look for all names of the sandboxes on this host, whatever DNS says or does not say."""
    return f"--host-resolver-rules=MAP *.{domain} {default_gateway(Path('/proc/net/route').read_text())}"


def trust(authorities: list[Path]) -> None:
    """Makes Chromium trust these certificate authorities beside the public ones. Certificates are checked as ever.

    A file may hold several, and other text between them; certutil by itself takes the first.
    """
    found = [block for file in authorities for block in PEM.findall(file.read_text(errors="replace"))]
    NSS.mkdir(parents=True, exist_ok=True)
    database = ["certutil", "-d", f"sql:{NSS}"]
    subprocess.run([*database, "-N", "--empty-password"], check=True)
    for number, certificate in enumerate(found):
        words = [*database, "-A", "-a", "-n", f"authority {number}", "-t", "C,,"]
        subprocess.run(words, input=certificate, text=True, check=True)


def load(file: Path) -> tuple[Callable[[Any], None], list[re.Pattern[str]]]:
    """The function `check` of a script, and its EXPECTED. Raises what the script raises, ValueError and re.error."""
    spec = importlib.util.spec_from_file_location("check", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file.name} is no Python file: its name must end in .py")
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    check = getattr(module, "check", None)
    if not callable(check):
        raise ValueError(f"{file.name} has no function check(page)")
    if inspect.iscoroutinefunction(check):
        raise ValueError(f"check in {file.name} is async: write it with Playwright's sync API, as a plain function")
    return check, [re.compile(pattern) for pattern in getattr(module, "EXPECTED", [])]


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def watch(context: Any, findings: Findings) -> None:
    """Notes what goes wrong in all pages of a browser context, in windows that open later, too."""

    def said(message: Any) -> None:
        place = message.location
        where = f"{place['url']}:{place['lineNumber'] + 1}" if place.get("url") else ""
        findings.said(message.type, message.text, where, place.get("url", ""))

    def raised(error: Any) -> None:
        thrown = error.error
        text = f"{thrown.name}: {thrown.message}" if thrown.name else thrown.message
        findings.raised(text, place_in(thrown.stack or ""))

    def answered(response: Any) -> None:
        request = response.request
        findings.answered(request.method, request.url, response.status, request.is_navigation_request())

    def failed(request: Any) -> None:
        findings.failed(request.method, request.url, request.failure or "failed", request.is_navigation_request())

    context.on("console", said)
    context.on("weberror", raised)
    context.on("response", answered)
    context.on("requestfailed", failed)
    context.on("page", lambda page: page.on("crash", lambda _: findings.crashed()))


def browse(findings: Findings, check: Callable[[Any], None], script: str, arguments: list[str]) -> None:
    from playwright.sync_api import Error, sync_playwright  # here: the rest can be tested where there is no Playwright

    def settle(page: Any) -> None:
        with suppress(Error):  # a page that never rests, such as one with a stream of events
            page.wait_for_load_state("networkidle", timeout=SETTLE_MS)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(args=arguments, chromium_sandbox=True)
        context = browser.new_context(base_url=findings.url, viewport=DESKTOP)
        watch(context, findings)
        page = context.new_page()
        tell(f"opening {findings.url}")
        try:
            response = page.goto(findings.url)
            findings.status = None if response is None else response.status
        except Error as error:
            findings.not_opened(error.message.partition("\n")[0].removeprefix("Page.goto: "))
        else:
            settle(page)
            tell("checking")
            try:
                check(page)
            except (Exception, SystemExit) as error:
                findings.script_failed(of_exception(error, script))
            settle(page)
        try:
            findings.title, findings.text = page.title(), page.inner_text("body")
            page.screenshot(path="screenshot.png", full_page=True)
        except Error as error:
            tell(f"no picture of the page: {error.message.partition(chr(10))[0]}")
        browser.close()


def main() -> int:
    parser = argparse.ArgumentParser("browser_run.py", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("script", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--domain", default="")
    parser.add_argument("--authority", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the sandbox goes with us: nothing to clean up, and no traceback
    authorities = [options.authority.resolve()] if options.authority else []
    trust(authorities + sorted(SYSTEM_AUTHORITIES.rglob("*.crt")))
    script = options.script.resolve()
    options.result.mkdir(parents=True, exist_ok=True)
    os.chdir(options.result)

    findings, expected = Findings(options.url), list[re.Pattern[str]]()
    try:
        check, expected = load(script)
    except (Exception, SystemExit) as error:
        findings.script_failed(of_exception(error, str(script)))
    else:
        browse(findings, check, str(script), [resolver_rule(options.domain)] if options.domain else [])
    files = {path.name for path in Path().iterdir()} | {"report.json", "report.txt"}
    report = findings.report(expected, sorted(files))
    Path("report.json").write_text(json.dumps(report, indent=2) + "\n")
    Path("report.txt").write_text(as_text(report))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
