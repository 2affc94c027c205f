"""`main`: from arguments to an exit code; and what it costs to start."""

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable

import pytest

from sandboxd.cli import main, manage
from sandboxd.cli.exits import BUSY, CliError
from sandboxd.cli.output import ReaderGone
from sandboxd.cli.verbs import every_name, find
from tests.unit.sandboxd.cli.doubles import DEADLINE_S, SOURCE, Apart, Cli, ControlPlane

# Of the standard library: what only the daemon needs, or what takes milliseconds.
EXPENSIVE = {"asyncio", "dataclasses", "email", "http.client", "inspect", "logging", "pathlib", "ssl", "subprocess"}
EXPENSIVE |= {"tarfile", "tempfile", "typing_extensions", "urllib.parse", "urllib.request", "uuid"}
LOADED = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
before = set(sys.modules)
import sandboxd.cli.{}
print(*(set(sys.modules) - before))
"""


def loaded(module: str) -> set[str]:
    """The modules that a fresh interpreter has imported with that one, beyond its own."""
    command = [sys.executable, "-I", "-S", "-c", LOADED.format(module), str(SOURCE)]
    return set(subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout.split())


def raising(error: BaseException) -> Callable[[Namespace], int]:
    def version(_: Namespace) -> int:
        raise error

    return version


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CliError("no room.", BUSY), 5, "docker-sandbox: error: no room.\n"),
        (
            OSError(28, "No space left on device", "/x"),
            1,
            "docker-sandbox: error: [Errno 28] No space left on device: '/x'\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_messages_and_codes(
    lone: Cli,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(manage, "version", raising(error))
    assert lone.call("version") == code
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("error", [BrokenPipeError(), ReaderGone()])
def test_a_reader_that_has_gone_is_told_nothing(
    lone: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # main drops it
    monkeypatch.setattr(manage, "version", raising(error))
    assert lone.call("version") == 141
    assert capsys.readouterr().err == ""


def test_a_bug_is_not_hidden(lone: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manage, "version", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        lone.call("version")


def test_a_pipe_that_closes_early(lone: Cli, control: ControlPlane) -> None:
    control.answer("GET /v2/sandboxes", 200, [])
    reader, writer = os.pipe()
    os.close(reader)
    done = Apart(lone.config, lone.work).run("list", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk(lone: Cli) -> None:
    with open("/dev/full", "wb") as full:
        done = Apart(lone.config, lone.work).run("version", stdout=full)
    assert done.returncode == 1 and b"No space left on device" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(lone: Cli, control: ControlPlane, closed: str) -> None:
    control.answer("GET /v2/sandboxes", 200, [])
    command = ["/bin/bash", "-c", f'"$@" {closed}', "bash", *lone.words("list")]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) is (" >&-" not in f" {closed}")


def test_an_error_does_not_end_up_on_standard_output(lone: Cli) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", '"$@" 2>&-', "bash", *lone.words("info", "ffff")], capture_output=True, timeout=DEADLINE_S
    )
    assert (done.returncode, done.stdout) == (3, b"")


def test_arguments_of_the_process_are_the_default(lone: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["docker-sandbox", "version"])
    assert main(config=str(lone.config)) == 0


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("manage", set()),
        ("execute", set()),
        ("shell", set()),
        ("transfer", {"tarfile", "tempfile"}),
        ("files", set()),
        ("contents", set()),
        ("completion", set()),
    ],
)
def test_the_start_is_cheap(module: str, allowed: set[str]) -> None:
    """Nothing expensive is imported, and of this package only the command line."""
    found = loaded(module)
    assert found & EXPENSIVE - allowed == set()
    assert {name for name in found if name.startswith("sandboxd")} <= {
        "sandboxd",
        "sandboxd.errors",
        "sandboxd.cli",
    } | {name for name in found if name.startswith("sandboxd.cli.")}


def test_a_verb_loads_no_other_verbs_module() -> None:
    others = {"sandboxd.cli.execute", "sandboxd.cli.shell", "sandboxd.cli.transfer", "tarfile", "termios"}
    for module in ("manage", "files", "contents"):
        assert not others & loaded(module), module


ALONE = """\
import os, sys
sys.path.insert(0, sys.argv.pop(1))
import sandboxd.cli
for name in sys.argv[1:]:
    if os.fork() == 0:
        __import__(f"sandboxd.cli.{name}")
        os._exit(0)
    if os.wait()[1]:
        sys.exit(name)
"""


def test_each_verbs_module_can_be_imported_first() -> None:
    """Most tests run verbs in a process in which everything is imported already."""
    modules = sorted({find(name).module for name in every_name()})
    command = [sys.executable, "-I", "-S", "-c", ALONE, str(SOURCE), *modules]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "") and len(modules) > 10
