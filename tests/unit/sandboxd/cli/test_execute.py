"""`exec`: streams, standard input, exit codes, signals, time limits."""

import json
import os
import pwd
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandboxd.cli import execute
from sandboxd.cli.agent import Agent, AgentError
from sandboxd.cli.arguments import parse
from sandboxd.cli.exits import CliError
from sandboxd.cli.output import write_all
from tests.unit.envd.client import eventually
from tests.unit.sandboxd.cli.doubles import (
    DEADLINE_S,
    ID,
    Apart,
    Cli,
    ControlPlane,
    Relay,
    Scripted,
    answer_of,
    write_place,
)

# Of a command that shall begin before it is ended: on a busy machine the first may be over by then.
LIMITS = ("0.5s", "5s", "20s")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists() or not path.read_text().strip():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie of the agent has)."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_output_stays_apart_and_is_not_touched(box: Apart) -> None:
    done = box.run("exec", ID, r"printf '\000\377\n'; printf 'e\377' >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"\0\xff\n", b"e\xff", 7)


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("false", 1), ("kill -9 $$", 137), ("exit 255", 255)])
def test_the_exit_code_is_the_commands_own(box: Apart, command: str, code: int) -> None:
    assert box.run("exec", ID, command).returncode == code


def test_standard_input_is_passed_on(box: Apart) -> None:
    data = os.urandom(3_000_000)
    assert box.run("exec", ID, "cat", stdin=data).stdout == data


def test_a_command_that_does_not_read_ends_all_the_same(box: Apart) -> None:
    with open("/dev/zero", "rb") as endless:
        words = box.words("exec", ID, "echo done")
        done = subprocess.run(words, stdin=endless, capture_output=True, timeout=DEADLINE_S)
    assert (done.stdout, done.returncode) == (b"done\n", 0)


def test_directory_environment_and_user(box: Apart, tmp_path: Path) -> None:
    shown = box.out("exec", ID, 'pwd; echo "$A-$B"', "--cwd", "/", "--env", "A=1", "--env", "B=x=y z")
    assert shown == "/\n1-x=y z\n"
    assert box.run("exec", ID, "true", "--user", "nobody-has-this").returncode == 1


def test_the_time_limit_ends_the_command_and_its_children(box: Apart) -> None:
    file = box.work / "pid"
    for limit in LIMITS:
        file.unlink(missing_ok=True)
        done = box.run("exec", ID, f"sleep 300 & echo $! >{file}; wait", "--timeout", limit)
        assert done.returncode == 124
        if file.exists() and file.read_text():
            break
    assert gone(int(file.read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_exec_ends_the_command(box: Apart, number: int) -> None:
    file = box.work / f"pid-{number}"
    process = box.start("exec", ID, f"echo $$ >{file}; exec sleep 300")
    wait_for(file)
    code, _ = box.interrupt(process, number)
    assert code == 128 + number
    assert gone(int(file.read_text()))


def test_in_the_background_it_lives_on(box: Apart) -> None:
    pid = int(box.out("exec", ID, "exec sleep 300", "--background"))
    deadline = time.monotonic() + DEADLINE_S
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":  # until bash has made way
        assert time.monotonic() < deadline
    box.out("exec", ID, f"kill {pid}")
    assert gone(pid)
    answer = json.loads(box.out("exec", ID, "exec sleep 0", "--background", "--json"))
    assert answer["pid"] > 0


def test_as_json(box: Apart) -> None:
    done = box.run("exec", ID, "echo out; echo err >&2; exit 3", "--json")
    answer = json.loads(done.stdout)
    assert (answer["stdout"], answer["stderr"], answer["exitCode"]) == ("out\n", "err\n", 3)


def test_a_reader_that_goes_away_ends_it(box: Apart, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    process = box.start("exec", ID, f"trap '' PIPE; echo $$ >{file}; while :; do echo y; done")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 141 and process.stderr.read() == b""
    process.stderr.close()
    assert gone(int(file.read_text()))


def program(file: Path, on_interrupt: str, on_terminate: str = "pass") -> str:
    """A command that handles signals and writes its process id to `file` once it does.

    Not in bash: its trap is not run when a child ends by itself just as the signal comes.
    """
    code = (
        f"import os, signal, time\ndef interrupt(*_):\n    {on_interrupt}\ndef terminate(*_):\n    {on_terminate}\n"
        "signal.signal(signal.SIGINT, interrupt)\nsignal.signal(signal.SIGTERM, terminate)\n"
        f"with open({str(file)!r}, 'w') as file:\n    file.write(str(os.getpid()))\n"
        "while True:\n    time.sleep(0.02)\n"
    )
    return f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"


def test_a_second_interrupt_ends_it_at_once(
    box: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of the time in which the command may heed the first one nothing is waited for: else it would be asked again."""
    monkeypatch.setattr(execute, "GRACE_S", 120.0)
    file, seen, again = (tmp_path / name for name in ("pid", "seen", "again"))

    def interrupt() -> None:
        wait_for(file)
        os.kill(os.getpid(), signal.SIGINT)
        eventually(seen.exists, "the command has got the first one")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code = box.call("exec", ID, program(file, f"open({str(seen)!r}, 'w')", f"open({str(again)!r}, 'w')"))
    thread.join()
    assert (code, capfd.readouterr()) == (130, ("", ""))
    assert gone(int(file.read_text())) and not again.exists()


def test_an_unknown_sandbox(lone: Cli, control: ControlPlane) -> None:
    control.answer("GET /sandboxes/ffff", 404, {"code": 404, "message": "sandbox 'ffff' not found"})
    done = Apart(lone.config, lone.work).run("exec", "ffff", "true")
    assert done.returncode == 3
    assert done.stderr == b"docker-sandbox: error: sandbox 'ffff' not found\n"


def test_a_command_that_ends_with_1_has_no_message_of_ours(box: Apart) -> None:
    done = box.run("exec", ID, "exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")


def test_the_sandboxs_variables_and_directory_are_the_default(box: Apart) -> None:
    assert box.out("exec", ID, 'pwd; echo "$FROM_SANDBOX"') == f"{box.work}\nyes\n"
    assert box.out("exec", ID, 'echo "$FROM_SANDBOX"', "--env", "FROM_SANDBOX=mine") == "mine\n"


def test_another_user(box: Apart) -> None:
    myself = pwd.getpwuid(os.getuid()).pw_name
    assert box.out("exec", ID, "id -un", "--user", myself) == f"{myself}\n"
    done = box.run("exec", ID, "true", "--user", "nobody-has-this")
    assert (done.returncode, done.stdout) == (1, b"") and b"nobody-has-this" in done.stderr


def test_a_directory_that_is_missing(box: Apart) -> None:
    done = box.run("exec", ID, "true", "--cwd", "/does/not/exist")
    assert done.returncode == 1 and b"/does/not/exist" in done.stderr


def test_no_input_is_no_input(box: Apart) -> None:
    assert box.run("exec", ID, "cat; echo end").stdout == b"end\n"


def test_an_empty_input_ends_at_once(box: Apart, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as empty:
        assert box.run("exec", ID, "cat; echo end", stdin=empty).stdout == b"end\n"


def test_an_input_that_never_comes_does_not_hold_the_command_up(box: Apart) -> None:
    reader, writer = os.pipe()
    try:
        assert box.run("exec", ID, "echo done", stdin=reader).stdout == b"done\n"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_standard_stream_is_not_taken_for_another_one(box: Apart, tmp_path: Path, closed: str) -> None:
    """The number of a closed stream is free: without care, a socket of ours gets it."""
    file = tmp_path / "ran"
    command = f"cat; echo out; echo err >&2; echo {closed[0]} > {file}"
    done = subprocess.run(
        ["/bin/bash", "-c", f'"$@" {closed}', "bash", *box.words("exec", ID, command)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (b"" if "1" in closed else b"out\n")
    assert done.stderr == (b"" if "2" in closed else b"err\n")
    assert file.read_text() == f"{closed[0]}\n"


def interrupt_when_written(file: Path) -> threading.Thread:
    """Interrupts this process, which calls `exec` itself, as soon as the command has written its process id."""

    def interrupt() -> None:
        wait_for(file)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def test_an_ignored_interrupt_is_followed_by_harder_ones(
    box: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each once the time for the one before is over, which here passes as soon as the command has told of that."""
    later_s = [0.0]
    monkeypatch.setattr(execute, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later_s[0]))

    def passed_on(fd: int, data: bytes) -> None:
        write_all(fd, data)
        later_s[0] += execute.GRACE_S

    monkeypatch.setattr(execute, "write_all", passed_on)
    file = tmp_path / "pid"
    thread = interrupt_when_written(file)
    code = box.call("exec", ID, program(file, "print('INT', flush=True)", "print('TERM', flush=True)"))
    thread.join()
    assert code == 130 and gone(int(file.read_text()))
    assert capfd.readouterr().out == "INT\nTERM\n"


def test_a_signal_that_the_agent_does_not_come_to_is_followed_by_the_next(
    box: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start, lost = Agent.start, list[str]()

    def busy(
        agent: Agent, connection: Any, message: Any, timeout_s: float | None = None, user: str | None = None
    ) -> Any:
        if user == "root" and not lost:
            lost.append("SIGINT")
            monkeypatch.setattr(execute, "GRACE_S", 0.0)  # its time is over
            raise AgentError("context deadline exceeded", "deadline_exceeded")
        monkeypatch.setattr(execute, "GRACE_S", DEADLINE_S)
        return start(agent, connection, message, DEADLINE_S if user == "root" else timeout_s, user)

    monkeypatch.setattr(Agent, "start", busy)
    file = tmp_path / "pid"
    thread = interrupt_when_written(file)
    code = box.call("exec", ID, program(file, "print('INT', flush=True)", "print('TERM', flush=True); os._exit(0)"))
    thread.join()
    assert (code, capfd.readouterr(), len(lost)) == (130, ("TERM\n", ""), 1)
    assert gone(int(file.read_text()))


def test_a_kill_that_the_agent_does_not_come_to_is_told(
    box: Apart, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start = Agent.start

    def busy(
        agent: Agent, connection: Any, message: Any, timeout_s: float | None = None, user: str | None = None
    ) -> Any:
        if user == "root":
            raise AgentError("context deadline exceeded", "deadline_exceeded")
        return start(agent, connection, message, timeout_s, user)

    monkeypatch.setattr(Agent, "start", busy)
    assert box.call("exec", ID, "exec sleep 300", "--timeout", "0.2s") == 124
    assert "may run on" in capfd.readouterr().err


def test_an_interrupt_waits_until_it_is_known_what_runs(box: Apart, relay: Relay, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    relay.answering.clear()
    process = box.start("exec", ID, f"echo $$ >{file}; exec sleep 300")
    wait_for(file)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)  # so that it comes before the news that the command has started
    relay.answering.set()
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert gone(int(file.read_text()))


def test_an_interrupt_does_not_wait_for_ever(
    box: Apart, relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sandboxd.cli.execute.GRACE_S", 0.2)
    file = tmp_path / "pid"
    relay.answering.clear()
    thread = interrupt_when_written(file)
    code = box.call("exec", ID, f"echo $$ >{file}; exec sleep 300")
    thread.join()
    relay.answering.set()
    assert code == 130 and "may run on" in capfd.readouterr().err
    os.kill(int(file.read_text()), signal.SIGKILL)


def test_a_command_may_end_by_itself_after_an_interrupt(box: Apart, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    process = box.start("exec", ID, program(file, "print('cleaned', flush=True); os._exit(0)"))
    wait_for(file)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, err) == (130, b"cleaned\n", b"")


def test_json_of_a_time_limit(box: Apart) -> None:
    for limit in LIMITS:
        done = box.run("exec", ID, "echo begun; sleep 300", "--timeout", limit, "--json")
        answer = json.loads(done.stdout)
        assert (done.returncode, answer["exitCode"], answer["timedOut"]) == (124, 124, True)
        if answer["stdout"]:
            break
    assert answer["stdout"] == "begun\n"


def test_output_that_cannot_be_written_ends_the_command(box: Apart, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with open("/dev/full", "wb") as full:
        done = box.run("exec", ID, f"echo $$ >{file}; echo out; exec sleep 300", stdout=full)
    assert done.returncode == 1
    assert done.stderr == b"docker-sandbox: error: cannot write to standard output: No space left on device.\n"
    assert gone(int(file.read_text()))


def test_a_connection_that_breaks(box: Apart, relay: Relay, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    process = box.start("exec", ID, f"echo $$ >{file}; exec sleep 300")
    wait_for(file)
    relay.cut()
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert b"the connection to sandbox" in err and b"may still run" in err and b"Traceback" not in err
    os.kill(int(file.read_text()), signal.SIGKILL)


def test_a_sandbox_that_is_removed_meanwhile(box: Apart, relay: Relay, control: ControlPlane, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    process = box.start("exec", ID, f"echo $$ >{file}; exec sleep 300")
    wait_for(file)
    control.answer(f"GET /sandboxes/{ID}", 404, {"code": 404, "message": "not found"})
    relay.cut()
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 3 and b"was removed while the command ran" in err
    os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (b"", "closed without an answer"),
        (b"SSH-2.0-x\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x09", "stops in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n\x00\x00\x00\x00\x02no", "no JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n\x02\x00\x00\x00\x02{}", "without the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "is no size"),
        (answer_of(502, {"code": 502, "message": "The sandbox was not found"}), "routes status"),
        (answer_of(401, {"code": "unauthenticated", "message": "no token"}), "no token"),
    ],
)
def test_a_gateway_that_answers_nonsense(
    lone: Cli, control: ControlPlane, capfd: pytest.CaptureFixture[str], script: bytes, words: str
) -> None:
    gateway = Scripted(script)
    write_place(lone.config, control.path, gateway.address)
    code = lone.call("exec", ID, "true")
    gateway.stop()
    out, err = capfd.readouterr()
    assert (code, out) == (1, "") and words in err and err.startswith("docker-sandbox: error: ")


def test_a_time_limit_is_refused_in_the_background(lone: Cli) -> None:
    done = Apart(lone.config, lone.work).run("exec", ID, "true", "--background", "--timeout", "5")
    assert done.returncode == 2 and b"--background" in done.stderr


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"exited": True}, 0),
        ({"exitCode": 7, "exited": True}, 7),
        ({"exitCode": -1, "status": "signal: killed"}, 137),
        ({"exitCode": -1, "status": "signal: segmentation fault"}, 139),
        ({"exitCode": -1, "status": "signal: 40"}, 168),
    ],
)
def test_exit_codes_of_the_protocol(end: dict[str, Any], code: int) -> None:
    assert execute.exit_code(end) == code


def test_an_end_that_is_not_known_is_an_error() -> None:
    with pytest.raises(CliError, match="not known"):
        execute.exit_code({"exitCode": -1, "status": "vanished"})


def test_the_message_that_starts_a_command() -> None:
    options = parse(["exec", "4f1c", "a b", "--env", "K=V"])
    assert execute.start_message(options, stdin=True) == {
        "process": {"cmd": "/bin/bash", "args": ["-l", "-c", "a b"], "envs": {"K": "V"}},
        "stdin": True,
    }
    options.cwd = "/x"
    assert execute.start_message(options, stdin=False)["process"]["cwd"] == "/x"
