"""The verb `browser-test`: a browser in a sandbox of its own opens the URL of another one and says how that went.

What runs in there is files/browser-test, which the deploy puts on the host; here it is carried in, started and watched,
and its results are carried out. Touches the directory for the results.
"""

import json
import os
import shlex
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sandboxd.cli import access, manage, place, printing, transfer
from sandboxd.cli.agent import Agent, AgentError
from sandboxd.cli.control import ControlPlane, sandbox_path
from sandboxd.cli.execute import in_foreground
from sandboxd.cli.exits import FAILED, NOT_FOUND, OK, SIGNALLED, TIMED_OUT, CliError
from sandboxd.cli.interrupts import Interrupts

NAME = "browser-test"
PROGRAM, DEFAULT_SCRIPT = "browser_run.py", "browser_test.py"
# Below the directory where commands start in a sandbox.
SCRIPTS, OWN, AUTHORITY, RESULT = (f"{NAME}/{name}" for name in ("scripts", "own", "authority.pem", "result"))
REPORT, TEXT, PICTURE = "report.json", "report.txt", "screenshot.png"
SPARE_S = 120.0  # should we be killed, the browser's sandbox ends by itself, so long after the time limit
NO_TEMPLATE = (
    "this host has no template with a browser. Add one to `templates` in its settings (group_data/all.py), such as"
    ' "playwright": {"context": "playwright", "pids": 2048}, and deploy again.'
)


def run(options: Namespace, config: str) -> int:
    where, browser = place.read(config), place.read_browser(config)
    if not browser.template:
        raise CliError(NO_TEMPLATE, NOT_FOUND)
    if options.script and not os.path.isfile(options.script):
        raise CliError(f"{options.script}: no such file here. It is to be a Python file with a function check(page).")
    control = ControlPlane(where.socket)
    target = control.sandbox(options.id)
    url = address(control, target, options)
    output = options.output or f"{NAME}-{target['sandboxID']}"
    os.makedirs(output, exist_ok=True)
    for name in (REPORT, TEXT, PICTURE):  # of a test before: they must not be taken for this one's
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(output, name))
    with Interrupts() as interrupts, throwaway(control, browser.template, options.timeout, target) as made:
        if interrupts.received is not None:
            return SIGNALLED + interrupts.received
        agent = Agent(where.gateway, made)
        carry_in(agent, browser, options.script)
        command = command_line(url, target["domain"], browser, options)
        started = Namespace(command=command, cwd="", env=[], timeout=options.timeout, json=False)
        code = in_foreground(control, agent, started, interrupts, stdin=False)
        if interrupts.received is not None:
            return SIGNALLED + interrupts.received
        with suppress(AgentError):  # it ended before it had a directory for results
            transfer.download(agent, f"{RESULT}/.", output)
    return conclude(options, code, output)


def address(control: ControlPlane, target: dict[str, Any], options: Namespace) -> str:
    """What the browser opens: of a sandbox that wants a token, a link for as long as the test may last.

    Raises CliError for one that wants a password, which nobody can look up.
    """
    if target["access"] == "basic":
        raise CliError(
            f"sandbox {target['sandboxID']} asks for a password, which the browser does not know. Let it in with:"
            f" docker-sandbox access {target['sandboxID']} token"
        )
    if target["access"] == "public":
        return f"{manage.url_of(target, options.port)}{options.path}"
    made = access.link(control, target["sandboxID"], options.port, options.timeout + SPARE_S)
    base, _, parameter = str(made["url"]).partition("/?")
    return f"{base}{options.path}" + ("&" if "?" in options.path else "?") + parameter


@contextmanager
def throwaway(
    control: ControlPlane, template: str, timeout_s: float, target: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """A sandbox with a browser, removed at the end of the block, however that ends."""
    wanted = {
        "templateID": template,
        "timeout": timeout_s + SPARE_S,
        "name": NAME,
        "metadata": {"tests": target["sandboxID"]},
        "here": True,  # to the browser the domain is its own host, and in a fleet only a manager knows all sandboxes
        "network": {"mode": "public"},  # it visits the host's own address, whatever other sandboxes may
    }
    made: dict[str, Any] = control.post("/v2/sandboxes", wanted)
    try:
        yield made
    finally:
        try:
            control.call("DELETE", sandbox_path(made["sandboxID"]))
        except CliError as error:
            if error.exit_code != NOT_FOUND:
                printing.warn(f"the browser's sandbox {made['sandboxID']} is left, and ends by itself later: {error}")


def carry_in(agent: Agent, browser: place.Browser, script: str) -> None:
    transfer.upload_directory(agent, browser.scripts, SCRIPTS)
    if script:
        transfer.upload_file(agent, script, own_script(script))
    if browser.authority:
        transfer.upload_file(agent, browser.authority, AUTHORITY)


def own_script(script: str) -> str:
    """In a directory of its own, where its name, which appears in the report, meets no file of ours."""
    return f"{OWN}/{os.path.basename(script)}"


def command_line(url: str, domain: str, browser: place.Browser, options: Namespace) -> str:
    """What runs beside the browser. All that it says is progress: our standard output is for the report."""
    script = own_script(options.script) if options.script else f"{SCRIPTS}/{DEFAULT_SCRIPT}"
    words = ["python3", f"{SCRIPTS}/{PROGRAM}", url, script, RESULT, "--domain", domain]
    words += ["--authority", AUTHORITY] if browser.authority else []
    return f"exec {' '.join(map(shlex.quote, words))} 1>&2"


def conclude(options: Namespace, code: int, output: str) -> int:
    """Prints the report and returns our exit code. Raises CliError when there is none."""
    if code == TIMED_OUT:
        raise CliError(
            f"not done within {printing.span(options.timeout)}. The lines above say how far it came; see --timeout.",
            TIMED_OUT,
        )
    try:
        with open(os.path.join(output, REPORT), encoding="utf-8") as file:
            report = json.load(file)
        with open(os.path.join(output, TEXT), encoding="utf-8") as file:
            text = f"{file.read()}saved in {output}: {' '.join(report['files'])}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(
            f"the browser made no report: its program ended with exit code {code}; the lines above may say why."
        ) from error
    printing.show(options, {**report, "output": output}, lambda: text)
    return OK if code == 0 else FAILED
