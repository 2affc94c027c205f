"""`python -m envd` as a process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.unit.envd.client import DEADLINE_S, MYSELF, SOURCE, TOKEN, Client, Running, alive, bash, eventually


def test_an_idle_agent_is_small(tmp_path: Path) -> None:
    running = Running(tmp_path, accessToken=TOKEN)
    try:
        assert Client(running.port).http.get("/health").status_code == 204
        assert running.memory_kb() < 15_000
        assert running.open_fds() < 12
    finally:
        running.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_what_it_started(tmp_path: Path, number: signal.Signals) -> None:
    running = Running(tmp_path, accessToken=TOKEN, user=MYSELF)
    try:
        client = Client(running.port)
        with client.stream("process.Process/Start", {"process": {"cmd": "sleep", "args": ["60"]}}) as messages:
            pid = next(messages)["event"]["start"]["pid"]
            running.popen.send_signal(number)
            assert running.popen.wait(DEADLINE_S) == 0
    finally:
        running.stop()
    eventually(lambda: not alive(pid), "it is gone")
    assert "Traceback" not in running.log.read_text()


@pytest.mark.parametrize("everybody", [False, True])
def test_its_end_breaks_the_streams_of_commands(tmp_path: Path, everybody: bool) -> None:
    """No exit code: the command did not end, the sandbox did. Also when the command hears the signal first."""
    running = Running(tmp_path, accessToken=TOKEN, user=MYSELF)
    seen: list[str] = []
    try:
        with Client(running.port).stream("process.Process/Start", bash("exec sleep 60")) as messages:
            pid = next(messages)["event"]["start"]["pid"]
            if everybody:
                os.kill(running.pid, signal.SIGSTOP)
                os.kill(pid, signal.SIGTERM)
                eventually(lambda: " Z " in Path(f"/proc/{pid}/stat").read_text(), "the command has ended")
            running.popen.send_signal(signal.SIGTERM)
            os.kill(running.pid, signal.SIGCONT)
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                seen += (str(message) for message in messages)
    finally:
        running.stop()
    assert [message for message in seen if "end" in message] == []
    assert "Traceback" not in running.log.read_text()


def test_what_it_was_started_to_ignore_its_children_do_not_ignore(tmp_path: Path) -> None:
    """As by nohup, or by a shell in the background."""
    ignored = (signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)
    before = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    try:
        running = Running(tmp_path, accessToken=TOKEN, user=MYSELF)
    finally:
        for number, handler in zip(ignored, before, strict=True):
            signal.signal(number, handler)
    try:
        running.popen.send_signal(signal.SIGQUIT)
        mask = int(Client(running.port).run("grep SigIgn /proc/self/status").stdout.split()[1], 16)
        assert [number for number in ignored if mask & 1 << number - 1] == []
        assert running.popen.poll() is None
    finally:
        running.stop()


def test_its_start_imports_nothing_that_it_does_not_need() -> None:
    """Each cold create waits for it, and each idle sandbox keeps it in memory."""
    program = "import sys, envd.__main__; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert {"envd.app", "asyncio"} <= set(done.stdout.split())
    unneeded = {"pathlib", "mimetypes", "email", "http.client", "ctypes", "envd.inotify", "envd.trees", "envd.watches"}
    assert not unneeded & set(done.stdout.split())
