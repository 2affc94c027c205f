"""Run `deploy.py` through pyinfra's own command line against fake hosts, and write down what it does.

`python -m tests.plan.planner` reads folders on stdin, one a line: `scenario.json` in, `plan.json` and `output.txt` out.
A process of its own, because pyinfra patches the standard library; each plan is made in a fork, since pyinfra keeps its
state in globals, and loading it takes four times as long as a plan. The hosts are strict: a fact for which
tests/plan/bare.py holds no answer is refused. Nothing leaves the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from inspect import getcallargs
from pathlib import Path
from typing import IO, Any

import pyinfra_cli.main as pyinfra_main  # type: ignore[import-untyped]  # first: it patches the standard library
from pyinfra.api import FileUploadCommand, Host, StringCommand
from pyinfra.api.arguments import all_global_arguments
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import OperationMeta
from pyinfra.api.state import State
from pyinfra.connectors.fake import FakeConnector
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.context import ctx_state

from deploys import access
from tests.plan import bare
from tests.plan.scenario import Scenario

# What a host tells of secrets, where a command has these words.
TOLD = {" join-token ": bare.JOIN_TOKEN, "/ca ca.key ca.pem": bare.AUTHORITY_KEY}
GLOBAL_ARGUMENTS = {name for name, _ in all_global_arguments()}


class Recorder:
    """Stands between pyinfra and the fake host: answers facts, notes commands and uploads."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.shown = f"@fake/{scenario.shown or next(iter(scenario.hosts))}"
        self.asking: list[tuple[str, dict[str, Any]]] = []
        self.executed: list[str] = []
        self.unregistered: list[str] = []
        self.files: dict[str, str] = {}
        # By host and operation.
        self.asked: dict[tuple[str, str], list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        # The hosts that have begun or joined a Swarm.
        self.joined: set[str] = set()
        self._get_fact = Host.get_fact

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Put the recorder in place of the connector's methods and of `host.get_fact`."""
        recorder = self

        def get_fact(host: Host, fact: type[FactBase[Any]], *args: Any, **kwargs: Any) -> Any:
            own = {key: value for key, value in kwargs.items() if key not in GLOBAL_ARGUMENTS}
            takes = getcallargs(fact().command, *args, **own) if callable(fact.command) else {}
            takes.pop("self", None)
            if host.current_op_hash:
                recorder.asked[host.name, host.current_op_hash].append((fact.name, takes))
            recorder.asking.append((fact.name, takes))
            try:
                return recorder._get_fact(host, fact, *args, **kwargs)
            finally:
                recorder.asking.pop()

        def run_shell_command(connector: FakeConnector, command: str | StringCommand, *_: Any, **__: Any) -> Any:
            raw = command if isinstance(command, str) else command.get_raw_value()
            if recorder.asking:
                lines = recorder.answer(connector.host, *recorder.asking[-1])
                return True, CommandOutput([OutputLine("stdout", line) for line in lines])
            recorder.executed.append(raw)
            if " swarm init " in raw or raw.endswith("/swarm/join"):
                recorder.joined.add(connector.host.name)
            said = [secret for asked, secret in TOLD.items() if asked in raw]
            return True, CommandOutput([OutputLine("stdout", line) for line in said])

        def put_file(connector: FakeConnector, source: Any, dest: str, *_: Any, **__: Any) -> bool:
            recorder.executed.append(f"upload {dest}")
            if connector.host.name == recorder.shown:
                with contextlib.suppress(UnicodeDecodeError):
                    recorder.files[dest] = text(source)
            return True

        patches: list[tuple[Any, str, Callable[..., Any]]] = [
            (Host, "get_fact", get_fact),
            (FakeConnector, "run_shell_command", run_shell_command),
            (FakeConnector, "put_file", put_file),
            (access, "key_login", lambda host, patience_s=0: recorder.scenario.login_refused),
        ]
        before = [getattr(owner, name) for owner, name, _ in patches]
        for owner, name, replacement in patches:
            setattr(owner, name, replacement)
        try:
            yield
        finally:
            for (owner, name, _), original in zip(patches, before, strict=True):
                setattr(owner, name, original)

    def answer(self, host: Host, fact: str, arguments: dict[str, Any]) -> list[str]:
        """The lines with which the host answers; an unregistered fact is noted and fails the step."""
        name = host.name.removeprefix("@fake/")
        summary = self.scenario.summary.get(name, {})
        if host.name in self.joined:
            summary = {**summary, "swarm": host.data.fleet_role}
        try:
            return bare.answer(fact, arguments, summary, self.scenario.directories, self.scenario.deployed)
        except bare.Unregistered as error:
            self.unregistered.append(str(error))
            raise OSError(str(error)) from error


def text(source: str | IO[Any]) -> str:
    """The content of what is uploaded: a local file's name, or a file object. Raises UnicodeDecodeError."""
    if isinstance(source, str):
        return Path(source).read_text()
    source.seek(0)
    content = source.read()
    return content if isinstance(content, str) else content.decode()


def condition(given: Any, state: State) -> str:
    """A step's `_if` in words: which step must have changed something, or which function decides."""
    functions = given if isinstance(given, list) else [given] if given else []
    return " and ".join(_words(function, state) for function in functions)


def _words(function: Any, state: State) -> str:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, OperationMeta):
        return f"changed: {_name(owner, state)}"
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if function.__module__ == "pyinfra.operations.util":
        metas = next(iter(cells.values())).cell_contents
        how = "or" if "any" in function.__qualname__ else "and"
        return "changed: " + f" {how} ".join(_name(meta, state) for meta in metas)
    return str(function.__name__).replace("_", " ").strip()


def _name(meta: OperationMeta, state: State) -> str:
    (name,) = state.get_op_meta(meta._hash).names
    return f"'{name}'"


def step(op_hash: str, host: Host, state: State, recorder: Recorder) -> dict[str, Any]:
    """One operation of a host as a value."""
    meta = state.get_op_meta(op_hash)
    data = state.ops[host][op_hash]
    commands = []
    for command in data.operation_meta._commands or []:
        if isinstance(command, FileUploadCommand):
            commands.append(f"upload {command.dest}")
        else:
            commands.append(str(command))
    asked = recorder.asked[host.name, op_hash]
    found = [condition(data.global_arguments.get("_if"), state)]
    found += [takes["command_line"] for fact, takes in asked if fact == "deploys.facts.Output"]
    return {
        "name": ", ".join(sorted(meta.names)),
        "condition": "\n".join(filter(None, found)),
        "commands": commands,
        "asked": asked,
    }


def steps(recorder: Recorder) -> list[dict[str, Any]]:
    """All operations of the host that is shown, in order; none when pyinfra stopped before it had an inventory."""
    if not ctx_state.isset():  # type: ignore[no-untyped-call]
        return []
    state: State = ctx_state.get()  # type: ignore[no-untyped-call]
    if not state.initialised:
        return []
    host = state.inventory.get_host(recorder.shown)
    hashes = [op_hash for op_hash in state.get_op_order() if op_hash in state.ops[host]]  # type: ignore[no-untyped-call]
    return [step(op_hash, host, state, recorder) for op_hash in hashes]


def make(folder: Path) -> None:
    """Write the plan of the folder's scenario as JSON; pyinfra's own output goes where it always goes."""
    os.environ["SCENARIO"] = str(folder / "scenario.json")
    scenario = Scenario.read(folder / "scenario.json")
    os.environ.update(scenario.environment)
    recorder = Recorder(scenario)
    sys.argv = ["pyinfra", "tests/plan/inventory.py", scenario.deploy, "--fail-percent", "0", *scenario.arguments]
    status: object = 0
    with recorder.installed():
        try:
            pyinfra_main.main()
        except SystemExit as error:
            status = error.code or 0
    plan = {
        "status": status,
        "steps": steps(recorder),
        "executed": recorder.executed,
        "unregistered": recorder.unregistered,
        "files": recorder.files,
    }
    (folder / "plan.json").write_text(json.dumps(plan))


def make_in_fork(folder: Path) -> int:
    """Make one plan with its output in a file; the exit status of the process that made it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        with open(folder / "output.txt", "wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        make(folder)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    for line in sys.stdin:
        print(make_in_fork(Path(line.strip())), flush=True)


if __name__ == "__main__":
    main()
