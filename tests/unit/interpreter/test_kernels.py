"""Real kernels over real HTTP: what each language says and keeps, what is interrupted, what dies."""

import asyncio
import base64
import contextlib
import json
import os
import pwd
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from envd.users import find_user
from interpreter.kernels import FENCE_TIMEOUT_S, Kernel
from interpreter.languages import LANGUAGES
from tests.unit.interpreter.client import Client, Json, Running, eventually, message_of

# One interpreter, with one kernel of each language, serves all these tests.
pytestmark = pytest.mark.xdist_group("kernels")

PRINT = {
    "python": "print('out')",
    "javascript": "console.log('out')",
    "typescript": "console.log('out' as string)",
    "bash": "echo out",
}
SET = {"python": "a = 40", "javascript": "let a = 40", "typescript": "let a: number = 40", "bash": "a=40"}
GET = {
    "python": "print(a + 2)",
    "javascript": "console.log(a + 2)",
    "typescript": "console.log(a + 2)",
    "bash": "echo $((a + 2))",
}
VARIABLES = {
    "python": "import os; print(os.environ.get('{0}', 'unset'))",
    "javascript": "console.log(Deno.env.get('{0}') ?? 'unset')",
    "typescript": "console.log(Deno.env.get('{0}') ?? 'unset')",
    "bash": 'echo "${{{0}-unset}}"',
}
FAIL = {
    "python": ("1 / 0", "ZeroDivisionError", "division by zero"),
    "javascript": ("throw new TypeError('bad')", "TypeError", "bad"),
    "typescript": ("throw new TypeError('bad')", "TypeError", "bad"),
    "bash": ("(exit 3)", "", "3"),
}
FOR_EVER = {
    "python": "import time\nprint('begun', flush=True)\ntime.sleep(3600)",
    "javascript": "console.log('begun'); for (;;) {}",
    "bash": "echo begun; sleep 3600",
}


def test_output_and_count(client: Client, shared: Json) -> None:
    counts: list[int] = []
    for _ in range(2):
        done = client.run(PRINT[shared["language"]], context_id=shared["id"])
        assert (done.stdout, done.stderr, done.error) == ("out\n", "", None)
        counts.append(done.count or 0)
    assert counts[1] == counts[0] + 1


def test_a_context_keeps_what_was_run_in_it(client: Client, shared: Json) -> None:
    language = shared["language"]
    assert client.run(SET[language], context_id=shared["id"]).error is None
    assert client.run(GET[language], context_id=shared["id"]).stdout == "42\n"


def test_an_error_has_name_value_and_traceback_and_ends_nothing(client: Client, shared: Json) -> None:
    code, name, value = FAIL[shared["language"]]
    error = client.run(code, context_id=shared["id"]).error
    assert error is not None and (error["name"], error["value"]) == (name, value)
    assert isinstance(error["traceback"], str)
    assert client.run(PRINT[shared["language"]], context_id=shared["id"]).stdout == "out\n"


def test_variables_of_the_sandbox_and_of_one_execution(client: Client, shared: Json) -> None:
    def shown(name: str, **env_vars: str) -> str:
        code = VARIABLES[shared["language"]].format(name)
        done = client.run(code, context_id=shared["id"], env_vars=env_vars or None)
        assert done.error is None, done.error
        return done.stdout

    before = client.run(PRINT[shared["language"]], context_id=shared["id"]).count or 0
    awkward = 'it\'s "quoted" $HOME \\ `x`\tand\nmore'
    assert shown("FROM_SANDBOX") == "yes\n"
    assert shown("FROM_SANDBOX", FROM_SANDBOX="no") == "no\n"
    assert shown("NEW", NEW=awkward).splitlines() == (awkward + "\n").splitlines()
    assert (shown("FROM_SANDBOX"), shown("NEW")) == ("yes\n", "unset\n")
    assert client.run(PRINT[shared["language"]], context_id=shared["id"]).count == before + 6, "ours do not count"


def test_variables_are_taken_back_after_an_error(client: Client, shared: Json) -> None:
    code, _, _ = FAIL[shared["language"]]
    assert client.run(code, context_id=shared["id"], env_vars={"NEW": "1"}).error is not None
    assert client.run(VARIABLES[shared["language"]].format("NEW"), context_id=shared["id"]).stdout == "unset\n"


@pytest.mark.parametrize("context", sorted(FOR_EVER), indirect=True)
def test_a_client_that_leaves_interrupts(client: Client, interpreter: Running, context: Json) -> None:
    """Python and bash keep what they held; Deno knows no interrupts and starts anew."""
    language = context["language"]
    client.run(SET[language], context_id=context["id"])
    with client.executing(FOR_EVER[language], context_id=context["id"], env_vars={"NEW": "1"}) as lines:
        assert any(line.get("text") == "begun\n" for line in lines)
    after = client.run(VARIABLES[language].format("NEW"), context_id=context["id"])
    assert (after.stdout, after.error) == ("unset\n", None)
    if language != "javascript":
        assert client.run(GET[language], context_id=context["id"]).stdout == "42\n"


@pytest.mark.parametrize("context", ["python", "bash"], indirect=True)
def test_a_client_that_leaves_at_once_interrupts(client: Client, context: Json) -> None:
    """The kernel has not begun to do what it was asked for, and heeds no interrupt before that."""
    language = context["language"]
    client.run(SET[language], context_id=context["id"])
    for _ in range(5):
        with client.executing(FOR_EVER[language], context_id=context["id"]):
            pass
        assert client.run(GET[language], context_id=context["id"]).stdout == "42\n"


@pytest.mark.parametrize("context", ["bash"], indirect=True)
def test_bash_is_interrupted_until_it_heeds_it(client: Client, context: Json) -> None:
    """As when Ctrl-C comes while bash starts a program, which neither of the two heeds."""
    client.run("x=42", context_id=context["id"])
    deaf = "trap '' INT; echo begun; sleep 1.5; trap - INT; sleep 3600"
    with client.executing(deaf, context_id=context["id"], env_vars={"NEW": "1"}) as lines:
        assert any(line.get("text") == "begun\n" for line in lines)
    after = client.run("echo $x ${NEW-unset}", context_id=context["id"])
    assert (after.stdout, after.error) == ("42 unset\n", None)


@pytest.mark.parametrize("context", ["bash"], indirect=True)
def test_a_shell_that_dies_of_the_interrupt_is_started_anew(client: Client, context: Json) -> None:
    """Also when a program that it leaves behind holds its terminal open."""
    code = "trap 'kill -9 $$' INT; (trap '' INT HUP; sleep 30) & echo begun; while :; do :; done"
    with client.executing(code, context_id=context["id"]) as lines:
        assert any(line.get("text") == "begun\n" for line in lines)
    after = client.run("echo there", context_id=context["id"])
    assert (after.stdout, after.error) == ("there\n", None)
    assert "variables are lost" in after.stderr


def test_a_kernel_in_which_nothing_runs_any_more_is_ended(hasty: Client) -> None:
    context = hasty.create()
    hook = "import time\nget_ipython().events.register('pre_execute', lambda: time.sleep(3600))"
    assert hasty.run(hook, context_id=context["id"], env_vars={"NEW": "1"}).error is None
    after = hasty.run("print(1)", context_id=context["id"])
    assert after.stdout == "1\n" and "variables are lost" in after.stderr


def test_a_program_that_ignores_the_interrupt_is_ended(hasty: Client) -> None:
    code = "import signal, time\nsignal.signal(2, signal.SIG_IGN)\nprint('begun', flush=True)\ntime.sleep(3600)"
    context = hasty.create()
    with hasty.executing(code, context_id=context["id"]) as lines:
        assert any(line.get("text") == "begun\n" for line in lines)
    assert hasty.run("print(1)", context_id=context["id"]).stdout == "1\n"


# --- Python ----------------------------------------------------------------------------------------------------------


def test_the_last_value_is_the_main_result_in_all_its_forms(client: Client, python: Json) -> None:
    code = (
        "class Form:\n"
        "    def __repr__(self): return 'plain'\n"
        "    def _repr_html_(self): return '<b>html</b>'\n"
        "    def _repr_markdown_(self): return '*markdown*'\n"
        "    def _repr_latex_(self): return '$x$'\n"
        "    def _repr_json_(self): return {'a': [1, None]}\n"
        "    def _repr_svg_(self): return '<svg/>'\n"
        "    def _repr_mimebundle_(self, **_): return {'application/vnd.own': {'b': 1}}\n"
        "display(Form())\n"
        "Form()"
    )
    shown, value = client.run(code, context_id=python["id"]).results
    forms = {
        "text": "plain",
        "html": "<b>html</b>",
        "markdown": "*markdown*",
        "latex": "$x$",
        "json": {"a": [1, None]},
        "svg": "<svg/>",
        "extra": {"application/vnd.own": {"b": 1}},
    }
    assert shown == {"type": "result", "is_main_result": False, **forms}
    assert value == {"type": "result", "is_main_result": True, **forms}


def test_the_text_of_a_string_is_the_string(client: Client, python: Json) -> None:
    assert client.run("'hello'", context_id=python["id"]).text == "hello"
    assert client.run("x = 1", context_id=python["id"]).results == []


@pytest.mark.parametrize("show", ["plt.show()", ""])
def test_a_chart_is_a_png(client: Client, python: Json, show: str) -> None:
    code = f"import matplotlib.pyplot as plt\nlines = plt.plot([1, 2, 4])\n{show}"
    done = client.run(code, context_id=python["id"])
    assert done.error is None, done.error
    (figure,) = done.results
    png = base64.b64decode(figure["png"], validate=True)
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" in png[-16:]
    assert "Figure" in figure["text"] and figure["is_main_result"] is False


def test_output_of_children_and_of_stderr(client: Client, python: Json) -> None:
    code = "import os, sys\nprint('err', file=sys.stderr)\n!echo child"
    done = client.run(code, context_id=python["id"])
    assert (done.stdout.replace("\r\n", "\n"), done.stderr) == ("child\n", "err\n")


def test_what_a_program_would_ask_a_person(client: Client, python: Json) -> None:
    error = client.run("input('name?')", context_id=python["id"]).error
    assert error is not None and error["name"] == "StdinNotImplementedError"


def test_top_level_await(client: Client, python: Json) -> None:
    code = "import asyncio\nawait asyncio.sleep(0, 'slept')"
    assert client.run(code, context_id=python["id"]).text == "slept"


def test_deno_has_require_modules_and_await(client: Client) -> None:
    done = client.run("require('node:path').join('a', 'b')", language="javascript")
    assert (done.text, done.error) == ('"a/b"', None)
    done = client.run("import os from 'node:os'; await Promise.resolve(typeof os.EOL)", language="js")
    assert (done.text, done.error) == ('"string"', None)


def test_no_result_of_deno_gets_lost(client: Client) -> None:
    """Whichever of the kernel's threads the machine lets run first."""
    for number in range(100):
        done = client.run(f"const n{number}: number = {number}; n{number}", language="typescript")
        assert done.text == str(number), vars(done)


def test_a_kernel_whose_port_somebody_else_took_gets_others(monkeypatch: pytest.MonkeyPatch) -> None:
    write, taken = AsyncKernelManager.write_connection_file, list[socket.socket]()

    def stolen(manager: AsyncKernelManager, **options: Any) -> None:
        write(manager, **options)
        if not taken:
            port = json.loads(Path(manager.connection_file).read_text())["iopub_port"]
            taken.append(socket.create_server(("127.0.0.1", port)))

    async def started() -> bool:
        user = find_user(pwd.getpwuid(os.geteuid()).pw_name)
        kernel = await Kernel.start(LANGUAGES["javascript"], user, "/", {"PATH": str(Path(sys.executable).parent)})
        alive = await kernel.alive()
        await kernel.stop("was looked at")
        return alive

    monkeypatch.setattr(AsyncKernelManager, "write_connection_file", stolen)
    try:
        assert asyncio.run(started()) and taken
    finally:
        for one in taken:
            one.close()


def test_what_deno_is_slow_to_say_holds_no_answer_and_ends_no_other(client: Client) -> None:
    made = client.create(language="javascript")
    wait = f"new Promise((done) => setTimeout(done, {(FENCE_TIMEOUT_S + 2) * 1000}))"
    slow = (
        f"const say = Deno.jupyter.broadcast; Deno.jupyter.broadcast = async (...it) => {{ await {wait}; say(...it) }}"
    )
    for code, result in ((f"{slow}; 1", "1"), ("Deno.jupyter.broadcast = say; 2", "2")):
        done = client.run(code, context_id=made["id"])
        assert done.text == result, vars(done)
    client.delete(made["id"])


def test_a_deno_whose_own_things_were_replaced(client: Client) -> None:
    made = client.create(language="javascript")
    for code, result in (("Deno.jupyter.broadcast = () => { throw new Error('mine') }; 1", "1"), ("2", "2")):
        done = client.run(code, context_id=made["id"])
        assert done.text == result, vars(done)
    client.delete(made["id"])


# --- Silence, slowness, death ----------------------------------------------------------------------------------------


def test_a_silent_program_is_kept_alive_by_the_server(hasty: Client) -> None:
    with hasty.executing("import time; time.sleep(3600)") as lines:
        assert any(line["type"] == "keepalive" for line in lines)


def test_one_at_a_time_in_the_order_of_their_requests(client: Client, interpreter: Running, tmp_path: Path) -> None:
    context = client.create()
    gate = tmp_path / "gate"
    code = (
        f"import os, time\nprint('begun', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nn = 1"
    )
    second: list[Any] = []
    waiter = threading.Thread(
        target=lambda: second.append(Client(interpreter.port).run("print(n)", context_id=context["id"]))
    )
    with client.executing(code, context_id=context["id"]) as lines:
        assert any(line.get("text") == "begun\n" for line in lines)
        waiter.start()
        assert client.contexts(), "others are served meanwhile"
        assert Client(interpreter.port).run("print(2)").stdout == "2\n", "and other contexts run"
        gate.touch()
        list(lines)
    waiter.join()
    assert second[0].stdout == "1\n"
    client.delete(context["id"])


def test_a_client_that_waits_its_turn_may_leave(hasty: Client) -> None:
    context = hasty.create()
    with hasty.executing(
        "import time; print('begun', flush=True); time.sleep(3600)", context_id=context["id"]
    ) as lines:
        assert any(line.get("text") == "begun\n" for line in lines)
        with hasty.executing("never = 1", context_id=context["id"]) as waiting:
            assert next(waiting)["type"] == "keepalive"
    assert hasty.run("print('never' in globals())", context_id=context["id"]).stdout == "False\n"


def test_a_slow_reader_holds_the_kernel(client: Client, context: Json, tmp_path: Path) -> None:
    """However much it has said before we had our turn to stop it. And nothing gets lost."""
    produced, enough = tmp_path / "produced", tmp_path / "enough"
    code = (
        f"import os; count = open({str(produced)!r}, 'w', buffering=1)\n"
        f"while not os.path.exists({str(enough)!r}):\n"
        "    print('x' * 500_000, flush=True)\n"
        "    count.write('one\\n')\n"
    )
    with client.executing(code, context_id=context["id"]) as lines:
        pid = _pid_of_writer(produced)
        eventually(lambda: _state(pid) == "T", "the kernel waits")
        enough.touch()
        heard = sum(len(line["text"]) for line in lines if line["type"] == "stdout")
    assert heard == len(produced.read_text().splitlines()) * 500_001


def test_a_slow_reader_may_leave(client: Client, interpreter: Running, context: Json) -> None:
    """Of output without end, of which we hold what came until we had our turn to stop it, and no more."""
    pid = int(client.run("import os; os.getpid()", context_id=context["id"]).text or 0)
    before_kb = interpreter.memory_kb()
    with client.executing("while True: print('x' * 500_000, flush=True)", context_id=context["id"]):
        eventually(lambda: _state(pid) == "T", "the kernel waits")
        assert interpreter.memory_kb() - before_kb < 500_000
    assert client.run("print(os.getpid())", context_id=context["id"]).stdout == f"{pid}\n"


def _state(pid: int) -> str:
    """One letter, as ps shows it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _pid_of_writer(path: Path) -> int:
    """The process that holds `path` open."""
    found: list[int] = []

    def look() -> bool:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ends, or closes what it had, while it is looked at
                if any(os.readlink(fd) == str(path) for fd in (process / "fd").iterdir()):
                    found.append(int(process.name))
        return bool(found)

    eventually(look, f"somebody writes to {path}")
    return found[0]


def test_a_kernel_that_dies_is_told_and_replaced(client: Client, context: Json) -> None:
    done = client.run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", context_id=context["id"])
    assert done.error is not None and done.error["name"] == "KernelDied"
    assert "killed by SIGKILL" in done.error["value"]
    after = client.run("print('os' in globals())", context_id=context["id"])
    assert (after.stdout, after.error, after.count) == ("False\n", None, 1)


def _gone(pid: int) -> bool:
    """Whether a process can be waited for, or was: its first thread is a zombie, and there are no others any more."""
    try:
        return _state(pid) == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_kernel_that_died_meanwhile_is_replaced_with_a_word(client: Client, context: Json) -> None:
    pid = int(client.run("import os; os.getpid()", context_id=context["id"]).text or 0)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: _gone(pid), "it is dead")
    after = client.run("print(1)", context_id=context["id"])
    assert (after.stdout, after.error) == ("1\n", None) and "variables are lost" in after.stderr


def test_a_restart_ends_what_runs(client: Client, context: Json, interpreter: Running) -> None:
    with client.executing(FOR_EVER["python"], context_id=context["id"]) as lines:
        assert any(line.get("text") == "begun\n" for line in lines)
        assert Client(interpreter.port).restart(context["id"]).status_code == 200
        rest = list(lines)
    assert [line["type"] for line in rest if line["type"] != "keepalive"] == ["error", "end_of_execution"]
    assert client.run("print('time' in globals())", context_id=context["id"]).stdout == "False\n"


def test_a_deletion_ends_what_runs_and_the_process(client: Client, interpreter: Running) -> None:
    context = client.create()
    pid = int(client.run("import os; os.getpid()", context_id=context["id"]).text or 0)
    with client.executing(FOR_EVER["python"], context_id=context["id"]) as lines:
        assert any(line.get("text") == "begun\n" for line in lines)
        assert Client(interpreter.port).delete(context["id"]).status_code == 204
        error = next(line for line in lines if line["type"] == "error")
    assert "deleted" in error["value"]
    assert not Path(f"/proc/{pid}").exists()
    message_of(client.restart(context["id"]), 404)
