"""`shell`: a person at a real terminal, and the real agent."""

import hashlib
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli import shell
from sandboxd.cli.agent import Agent
from sandboxd.cli.arguments import parse
from tests.unit.envd.client import eventually, running_agent
from tests.unit.sandboxd.cli.conftest import TOKEN
from tests.unit.sandboxd.cli.doubles import DEADLINE_S, ID, Apart, Cli, ControlPlane, Relay, write_place
from tests.unit.sandboxd.cli.seats import PROMPT, Seat, seated
from tests.unit.sandboxd.cli.test_execute import gone, wait_for

# Draws its size and the last key in the middle of nowhere, as full-screen programs do; q ends it.
FULL_SCREEN = """\
import curses, os
os.environ.pop("LINES", None), os.environ.pop("COLUMNS", None)  # those of the tests' own terminal
def main(screen):
    curses.mousemask(curses.ALL_MOUSE_EVENTS)
    key = "none"
    while key != "q":
        screen.clear()
        rows, columns = screen.getmaxyx()
        screen.addstr(5, 10, f"[size {columns}x{rows} key {key}]")
        screen.refresh()
        key = screen.getkey()
curses.wrapper(main)
"""
# Not by signal.pause, which waits for the next signal when one comes just before it.
ON_RESIZE = """\
import os, signal, time
signal.signal(signal.SIGWINCH, lambda *_: print(*os.get_terminal_size(), flush=True))
print("watching", flush=True)
while True:
    time.sleep(0.05)
"""


def python(program: str) -> str:
    return f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)}"


def sleeper(file: Path) -> str:
    """A command that says in `file` who it is, and lasts."""
    return f"echo $$ >{file}; echo lasting; exec sleep 300"


def test_a_login_shell_echoes_answers_and_ends_with_its_code(box: Apart) -> None:
    with seated(box, "shell", ID) as seat:
        seat.prompt()
        assert seat.is_raw()
        seat.run("echo $((6 * 7)) $-; shopt login_shell; pwd")
        shown = seat.read_until(PROMPT).decode()
        echoed, answer, login, directory, _ = shown.split("\r\n")
        assert echoed.endswith("echo $((6 * 7)) $-; shopt login_shell; pwd")
        assert answer.startswith("42 ") and "i" in answer and login.split() == ["login_shell", "on"]
        assert directory == str(box.work)
        seat.run("exit 7")
        assert seat.end() == 7
        assert seat.settings_now() == seat.settings
        assert seat.rest().replace("\r\n", " ").split() == ["exit", "7", "logout"]


def test_a_command_has_its_directory_variables_and_terminal(box: Apart) -> None:
    command = 'pwd; echo "$A $FROM_SANDBOX $TERM"; stty size; tty; exit 3'
    with seated(box, "shell", ID, command, "--cwd", "/", "--env", "A=x y", TERM="xterm-kitty") as seat:
        assert seat.end() == 3
        *lines, tty, _ = seat.rest().split("\r\n")
        assert lines == ["/", "x y yes xterm-256color", "24 80"] and tty.startswith("/dev/pts/")


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("exit 255", 255), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_programs_own(box: Apart, command: str, code: int) -> None:
    with seated(box, "shell", ID, command) as seat:
        assert (seat.end(), seat.rest()) == (code, "")


def test_control_keys_go_to_the_program(box: Apart) -> None:
    with seated(box, "shell", ID) as seat:
        seat.prompt()
        seat.run("sh -c 'echo begun; exec sleep 300'")  # so that it is in the foreground when it says so
        seat.read_until(b"\r\nbegun\r\n")
        seat.type(b"\x03")
        seat.read_until(PROMPT)
        seat.run("echo code $?; sh -c 'echo begun; exec sleep 301'")
        seat.read_until(b"code 130\r\nbegun\r\n")
        seat.type(b"\x1a")
        seat.read_until(b"Stopped")
        seat.read_until(PROMPT)
        seat.run("kill %1; echo be''gun; cat")
        seat.read_until(b"begun\r\n")
        seat.run("typed")
        seat.read_until(b"typed\r\ntyped\r\n")
        seat.type(b"\x04")
        seat.read_until(PROMPT)
        seat.type(b"\x04")
        assert seat.end() == 0


def test_a_resize_reaches_the_program(box: Apart) -> None:
    with seated(box, "shell", ID, python(ON_RESIZE)) as seat:
        seat.read_until(b"watching\r\n")
        seat.resize(132, 50)
        seat.read_until(b"132 50\r\n")
        seat.resize(100, 30)
        seat.read_until(b"100 30\r\n")
        seat.type(b"\x1c")
        assert seat.end() == 128 + signal.SIGQUIT


def test_stty_sees_the_size_of_our_window(box: Apart) -> None:
    with seated(box, "shell", ID) as seat:
        seat.prompt()
        seat.resize(91, 17)

        def seen() -> bool:
            seat.run("stty size")
            return b"17 91" in seat.read_until(PROMPT)

        eventually(seen, "stty tells the new size")


def test_a_full_screen_program_draws_and_reacts(box: Apart) -> None:
    with seated(box, "shell", ID, python(FULL_SCREEN)) as seat:
        seat.read_until(b"[size 80x24 key none]")
        seat.type(b"x")
        seat.read_until(b"[size 80x24 key x]")
        seat.type(b"\x1bOA")  # an arrow, as a terminal sends it to a program that asked for all keys
        seat.read_until(b"[size 80x24 key KEY_UP]")
        seat.resize(100, 40)

        def seen() -> bool:
            seat.type(b"x")  # curses looks for a new size before it waits for a key
            return b"100x40" in seat.read_until(b"]")

        eventually(seen, "it draws for the new size")
        seat.type(b"q")
        assert seat.end() == 0 and seat.settings_now() == seat.settings


def test_bytes_pass_unchanged_both_ways(box: Apart, tmp_path: Path) -> None:
    sent, wanted = os.urandom(100_000).replace(b"~", b""), os.urandom(200_000)
    (tmp_path / "wanted").write_bytes(wanted)
    command = f"stty raw -echo; printf begin; cat {tmp_path}/wanted; head -c {len(sent)} | sha256sum"
    with seated(box, "shell", ID, command) as seat:
        seat.read_until(b"begin")
        seat.type(sent)
        assert seat.read_until(f"{hashlib.sha256(sent).hexdigest()}  -".encode()) == wanted
        assert seat.end() == 0


def test_a_flood_of_output_can_be_interrupted(box: Apart) -> None:
    with seated(box, "shell", ID) as seat:
        seat.prompt()
        seat.run("yes")
        seat.read_until(b"y\r\ny\r\n")
        seat.type(b"\x03")
        seat.read_until(PROMPT)
        seat.run("exit")
        assert seat.end() == 130


def test_without_a_terminal_it_says_what_to_use(lone: Cli, control: ControlPlane) -> None:
    done = Apart(lone.config, lone.work).run("shell", ID, stdin=b"exit\n")
    assert (done.returncode, done.stdout) == (2, b"")
    assert (
        done.stderr.startswith(b"docker-sandbox: error: shell needs a terminal") and b"exec ID COMMAND" in done.stderr
    )
    assert control.requests == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ffff"], 3, "/sandboxes/ffff not found"),
        ([ID, "--cwd", "/does/not/exist"], 1, "cwd '/does/not/exist' does not exist"),
        ([ID, "--user", "nobody-has-this"], 1, "invalid username: 'nobody-has-this'"),
    ],
)
def test_what_cannot_begin_says_why(box: Apart, arguments: list[str], code: int, words: str) -> None:
    with seated(box, "shell", *arguments) as seat:
        assert seat.end() == code
        assert seat.rest() == f"docker-sandbox: error: {words}\r\n"
        assert seat.settings_now() == seat.settings


def test_an_escape_leaves_a_program_that_does_not_listen(box: Apart, tmp_path: Path) -> None:
    with seated(box, "shell", ID, f"stty raw -echo; trap '' INT TSTP; {sleeper(tmp_path / 'pid')}") as seat:
        seat.read_until(b"lasting")
        seat.type(b"\x03\x1a\r~")
        seat.type(b".")
        assert seat.end() == 129
        assert seat.settings_now() == seat.settings
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_tilde_elsewhere_is_a_tilde(box: Apart) -> None:
    with seated(box, "shell", ID) as seat:
        seat.prompt()
        seat.run("echo a~.b")
        seat.read_until(b"\r\na~.b\r\n")
        seat.run("~~.() { echo two; }; ~.")  # in fact ~.() and ~., for a doubled one at the beginning counts once
        seat.read_until(b"two\r\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_us_restores_the_terminal_and_ends_the_program(box: Apart, tmp_path: Path, number: int) -> None:
    with seated(box, "shell", ID, sleeper(tmp_path / "pid")) as seat:
        seat.read_until(b"lasting")
        seat.process.send_signal(number)
        assert seat.end() == 128 + number
        assert seat.settings_now() == seat.settings
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_closed_window_ends_the_program_and_its_jobs(box: Apart, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    with seated(box, "shell", ID) as seat:
        seat.prompt()
        seat.run(f"sleep 300 & echo $! $$ >{file}; sleep 301")
        wait_for(file)
        pids = [int(pid) for pid in file.read_text().split()]
        # Before that it is a bash, in which a signal is only noted, and forgotten with the program.
        eventually(lambda: Path(f"/proc/{pids[0]}/comm").read_text() == "sleep\n", "the job runs")
        seat.hang_up()
        assert seat.process.wait(DEADLINE_S) == 129
    assert all(gone(pid) for pid in pids)


def test_the_terminal_is_raw_again_after_a_stop(box: Apart) -> None:
    with seated(box, "shell", ID) as seat:
        seat.prompt()
        seat.process.send_signal(signal.SIGSTOP)
        eventually(lambda: _state(seat) == "T", "it is stopped")
        seat.set(seat.settings)
        seat.resize(70, 20)
        seat.process.send_signal(signal.SIGCONT)
        eventually(seat.is_raw, "it has made it raw again")
        seat.run("exit 4")
        assert seat.end() == 4 and seat.settings_now() == seat.settings


def _state(seat: Seat) -> str:
    return Path(f"/proc/{seat.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_lost_connection_is_told_and_the_screen_brought_to_rest(box: Apart, relay: Relay, tmp_path: Path) -> None:
    with seated(box, "shell", ID, f"echo $$ >{tmp_path}/pid; {python(FULL_SCREEN)}") as seat:
        seat.read_until(b"\x1b[?1049h")
        seat.read_until(b"key none]")
        relay.cut()
        assert seat.end() == 1
        shown = seat.rest()
        rest, message = shown.split("\r\n", 1)
        assert "\x1b[?1049l" in rest and "\x1b[?1000l" in rest
        assert message.startswith(f"docker-sandbox: error: the connection to sandbox {ID} broke: ")
        assert message.endswith(" The session was hung up.\r\n") and message.count("\r\n") == 1
        assert seat.settings_now() == seat.settings
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_lost_gateway_is_told(box: Apart, relay: Relay, tmp_path: Path) -> None:
    with seated(box, "shell", ID, sleeper(tmp_path / "pid")) as seat:
        seat.read_until(b"lasting")
        relay.stop()
        relay.cut()
        assert seat.end() == 1
        assert seat.rest().endswith(" What ran in the session may still run.\r\n")
        assert seat.settings_now() == seat.settings
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_sandbox_that_is_removed_meanwhile(box: Apart, control: ControlPlane, tmp_path: Path) -> None:
    with running_agent(tmp_path, sandboxID=ID, accessToken=TOKEN, envs={"HOME": str(tmp_path)}) as agent:
        write_place(box.config, control.path, ("127.0.0.1", agent.port))
        with seated(box, "shell", ID, sleeper(tmp_path / "pid")) as seat:
            seat.read_until(b"lasting")
            control.answer(f"GET /sandboxes/{ID}", 404, {"code": 404, "message": "not found"})
            agent.popen.kill()
            assert seat.end() == 3 and "was removed while the command ran" in seat.rest()
            assert seat.settings_now() == seat.settings
    assert gone(int((tmp_path / "pid").read_text()))


def test_output_that_cannot_be_written_ends_the_program(box: Apart, tmp_path: Path) -> None:
    """Standard output may go elsewhere, as in `shell ID | tee log`."""
    file = tmp_path / "pid"
    with seated(box, "version") as seat:  # for its terminal
        assert seat.end() == 0
        reader, writer = os.pipe()
        command = box.words("shell", ID, f"echo $$ >{file}; while :; do echo y; done")
        process = subprocess.Popen(command, stdin=seat._terminal, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        assert [os.read(reader, 1) for _ in range(3)] == [b"y", b"\r", b"\n"], "a terminal may give it in pieces"
        os.close(reader)
        _, err = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, err) == (141, b"") and seat.settings_now() == seat.settings
    assert gone(int(file.read_text()))


def test_what_ignores_the_hang_up_is_killed(
    agent: Any, sandbox: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes of the first signal is not waited for here, and what comes of the second one is."""
    client = Agent(("127.0.0.1", agent.port), sandbox)
    follow, waits_s = client.follow, iter((0.3, DEADLINE_S))
    monkeypatch.setattr(client, "follow", lambda connection, pid, _: follow(connection, pid, next(waits_s)))
    connection = client.connect()
    process = {"cmd": "/bin/bash", "args": ["-c", "trap '' HUP; echo; while :; do sleep 0.05; done"]}
    events = client.start(connection, {"process": process, "pty": {}})
    pid = next(events)["start"]["pid"]
    next(events)
    assert shell.hang_up(client, pid)
    assert shell.hang_up(client, pid), "a second time, as when it has ended by itself"
    connection.close()
    assert gone(pid)


def test_an_agent_that_does_not_answer_is_not_waited_for_for_ever(
    sandbox: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "GRACE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        assert not shell.hang_up(Agent(frozen.getsockname(), sandbox), 1)


def test_the_program_that_is_started() -> None:
    started = shell.process(parse(["shell", "4f1c"]))
    assert (started["cmd"], started["args"], list(started["envs"])) == ("/bin/bash", ["-l"], ["TERM"])
    options = parse(["shell", "4f1c", "vi x", "--cwd", "/x", "--env", "A=1", "--env", "TERM=vt100", "--user", "root"])
    assert shell.process(options) == {
        "cmd": "/bin/bash",
        "args": ["-l", "-c", "vi x"],
        "envs": {"TERM": "vt100", "A": "1"},
        "cwd": "/x",
    }
