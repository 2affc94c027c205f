"""`exec`: streams, standard input, exit codes, signals, time limits."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.unit.sandboxd.cli.conftest import ID, Cli


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists() or not path.read_text().strip():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie of the agent has)."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_output_stays_apart_and_is_not_touched(used: Cli) -> None:
    done = used.run("exec", ID, r"printf '\000\377\n'; printf 'e\377' >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"\0\xff\n", b"e\xff", 7)


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("false", 1), ("kill -9 $$", 137), ("exit 255", 255)])
def test_the_exit_code_is_the_commands_own(used: Cli, command: str, code: int) -> None:
    assert used.run("exec", ID, command).returncode == code


def test_standard_input_is_passed_on(used: Cli) -> None:
    data = os.urandom(3_000_000)
    assert used.run("exec", ID, "cat", stdin=data).stdout == data


def test_a_command_that_does_not_read_ends_all_the_same(used: Cli) -> None:
    with open("/dev/zero", "rb") as endless:
        done = subprocess.run(used.words("exec", ID, "echo done"), stdin=endless, capture_output=True, timeout=30)
    assert (done.stdout, done.returncode) == (b"done\n", 0)


def test_directory_environment_and_user(used: Cli, tmp_path: Path) -> None:
    shown = used.out("exec", ID, 'pwd; echo "$A-$B"', "--cwd", "/", "--env", "A=1", "--env", "B=x=y z")
    assert shown == "/\n1-x=y z\n"
    assert used.run("exec", ID, "true", "--user", "nobody-has-this").returncode == 1


def test_the_time_limit_ends_the_command_and_its_children(used: Cli) -> None:
    file = used.work / "pid"
    file.unlink(missing_ok=True)
    done = used.run("exec", ID, f"sleep 300 & echo $! >{file}; wait", "--timeout", "1s")
    assert done.returncode == 124
    assert gone(int(file.read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_exec_ends_the_command(used: Cli, number: int) -> None:
    file = used.work / f"pid-{number}"
    process = used.start("exec", ID, f"echo $$ >{file}; exec sleep 300")
    wait_for(file)
    code, _ = used.interrupt(process, number)
    assert code == 128 + number
    assert gone(int(file.read_text()))


def test_in_the_background_it_lives_on(used: Cli) -> None:
    pid = int(used.out("exec", ID, "exec sleep 300", "--background"))
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":  # until bash has made way
        assert time.monotonic() < deadline
    used.out("exec", ID, f"kill {pid}")
    assert gone(pid)
    answer = json.loads(used.out("exec", ID, "exec sleep 0", "--background", "--json"))
    assert answer["pid"] > 0


def test_as_json(used: Cli) -> None:
    done = used.run("exec", ID, "echo out; echo err >&2; exit 3", "--json")
    answer = json.loads(done.stdout)
    assert (answer["stdout"], answer["stderr"], answer["exitCode"]) == ("out\n", "err\n", 3)


def test_a_reader_that_goes_away_ends_it(used: Cli) -> None:
    process = subprocess.Popen(used.words("exec", ID, "yes"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(20) == 141


def test_an_unknown_sandbox(cli: Cli) -> None:
    done = cli.run("exec", "ffffffffffff", "true")
    assert done.returncode == 3
    assert done.stderr.decode().startswith("docker-sandbox: error: sandbox 'ffffffffffff' not found")
