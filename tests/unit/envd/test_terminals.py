"""Pseudo-terminals as a client meets them."""

import asyncio
import base64
import hashlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from envd.processes import ProcessTable
from envd.spawn import Command, spawn
from envd.terminals import hang_up
from envd.users import User
from tests.unit.envd.client import DEADLINES_MS, MYSELF, Client, Finished, Json, Running, alive, eventually
from tests.unit.envd.test_process_service import START, b64
from tests.unit.envd.test_processes import CONFIG, events, scenario

ON_RESIZE = """\
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})  # one that comes before it is waited for is kept
print("ready", flush=True)
while True:
    signal.sigwait({signal.SIGWINCH})
    print(*os.get_terminal_size(), flush=True)
"""


class Terminal:
    """A process in a terminal: what is typed, and what was shown since the last `read_until`."""

    def __init__(self, client: Client, messages: Iterator[Json]) -> None:
        self._client, self._messages = client, messages
        self._shown = b""
        self.pid: int = next(messages)["event"]["start"]["pid"]
        self.process = {"pid": self.pid}

    def type(self, keys: bytes) -> None:
        self._client.ok("process.Process/SendInput", {"process": self.process, "input": {"pty": b64(keys)}})

    def resize(self, columns: int, rows: int) -> None:
        message = {"process": self.process, "pty": {"size": {"cols": columns, "rows": rows}}}
        self._client.ok("process.Process/Update", message)

    def signal(self, name: str) -> None:
        self._client.ok("process.Process/SendSignal", {"process": self.process, "signal": name})

    def read_until(self, words: bytes) -> bytes:
        """What was shown before `words`."""
        while words not in self._shown:
            event = next(self._messages)["event"]
            assert "end" not in event, f"no {words!r} in {self._shown!r}"
            self._shown += base64.b64decode(event.get("data", {}).get("pty", ""))
        before, _, self._shown = self._shown.partition(words)
        return before

    def finish(self) -> Finished:
        return Finished([{"event": {"start": self.process}}, *self._messages])


def message_of(*command: str, size: tuple[int, int] | None = (100, 30)) -> Json:
    pty: Json = {} if size is None else {"size": {"cols": size[0], "rows": size[1]}}
    envs = {"PS1": "$ ", "TERM": "dumb"}
    return {"process": {"cmd": command[0], "args": list(command[1:]), "envs": envs}, "pty": pty}


@contextmanager
def opened(client: Client, *command: str) -> Iterator[Terminal]:
    with client.stream(START, message_of(*command)) as messages:
        terminal = Terminal(client, messages)
        try:
            yield terminal
        finally:
            client.rpc("process.Process/SendSignal", {"process": terminal.process, "signal": "SIGNAL_SIGKILL"})


def open_terminals(agent: Running) -> int:
    """How many file descriptors of the agent are its ends of terminals."""
    found = 0
    for link in Path(f"/proc/{agent.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed since it was listed
            found += os.readlink(link).endswith("ptmx")
    return found


def shown(client: Client, *command: str) -> str:
    done = client.start(message_of(*command))
    assert (done.trailer, done.stdout, done.stderr) == ({}, b"", b"")
    return done.pty.decode()


def test_the_size_is_there_before_the_program(client: Client) -> None:
    assert shown(client, "stty", "size") == "30 100\r\n"
    assert client.start(message_of("stty", "size", size=None)).pty == b"24 80\r\n"


def test_the_program_leads_its_session_in_the_foreground_of_its_own_terminal(client: Client) -> None:
    text = shown(
        client, "bash", "-c", "ps -o pid=,pgid=,sid=,tpgid=,tty= -p $$; stat -c '%U %n' $(tty); echo >/dev/tty"
    )
    ids, owner, empty = text.split("\r\n", 2)
    pid, group, session, foreground, name = ids.split()
    assert pid == group == session == foreground and name.startswith("pts/")
    assert owner == f"{MYSELF} /dev/{name}" and empty == "\r\n"


def test_a_terminal_belongs_to_the_user_of_its_program(client: Client) -> None:
    """Only root may become another."""
    done = client.start(message_of("bash", "-c", "stat -c %U $(tty); echo opened >$(tty)"), "nobody")
    if os.geteuid() == 0:
        assert done.pty == b"nobody\r\nopened\r\n"
    else:
        assert done.error["code"] == "permission_denied"


def test_a_program_finds_a_terminal_type_and_a_language(myself: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the image, the sandbox and the request leave them open."""
    for name in ("TERM", "LANG", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)

    async def story(table: ProcessTable) -> None:
        for envs, expected in (({}, b"xterm-256color C.UTF-8\r\n"), ({"TERM": "vt100"}, b"vt100 C.UTF-8\r\n")):
            command = Command("/bin/sh", ("-c", 'echo "$TERM $LANG"'), envs, terminal_size=(80, 24))
            process = table.add(command, None, spawn(command, myself, CONFIG))
            subscription = process.subscribe()
            output = [event["data"]["pty"] async for event in subscription.events(60) if "data" in event]
            process.unsubscribe(subscription)
            assert b"".join(map(base64.b64decode, output)) == expected

    scenario(story)


def test_a_resize_is_told_to_the_program(client: Client) -> None:
    with opened(client, sys.executable, "-c", ON_RESIZE) as terminal:
        terminal.read_until(b"ready\r\n")
        terminal.resize(120, 40)
        assert terminal.read_until(b"\r\n") == b"120 40"


def test_control_characters_do_what_they_do_in_a_terminal(client: Client) -> None:
    with opened(client, "/bin/bash", "--norc", "-i") as terminal:
        terminal.read_until(b"$ ")
        terminal.type(b"sh -c 'echo begun; exec sleep 300'\n")  # so that it is in the foreground when it says so
        terminal.read_until(b"\r\nbegun\r\n")
        terminal.type(b"\x03")
        terminal.read_until(b"$ ")
        terminal.type(b"echo code $?; cat\n")
        terminal.read_until(b"code 130\r\n")
        terminal.type(b"line\n\x04")  # echoed, then written by cat
        terminal.read_until(b"line\r\nline\r\n$ ")
        terminal.type(b"exit 5\n")
        assert terminal.finish().end["exitCode"] == 5


def test_much_input_arrives_whole(client: Client) -> None:
    data = os.urandom(300_000)
    program = f"stty raw -echo; echo ready; head -c {len(data)} | sha256sum"
    with opened(client, "/bin/bash", "-c", program) as terminal:
        terminal.read_until(b"ready\n")
        for begin in range(0, len(data), 50_000):
            terminal.type(data[begin : begin + 50_000])
        assert terminal.read_until(b" ").decode() == hashlib.sha256(data).hexdigest()


def test_all_of_the_output_comes_before_the_end(client: Client) -> None:
    lines = "".join(f"{number}\r\n" for number in range(1, 20_001))
    assert shown(client, "seq", "20000") == lines


@pytest.mark.parametrize("job", ["sleep 300", "yes"])
def test_a_job_in_the_background_does_not_hold_the_terminal_open(client: Client, agent: Running, job: str) -> None:
    """It lives on without it, as after the end of an SSH session; one that writes to it gets an error."""
    done = client.start(message_of("/bin/bash", "-m", "-c", f"{job} & echo; echo job $!; exit 4"))
    assert done.end["exitCode"] == 4
    pid = int(done.pty.partition(b"job ")[2].split()[0])
    if job == "yes":
        eventually(lambda: not alive(pid), "it cannot write")
    else:
        assert alive(pid)
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: open_terminals(agent) == 0, "the terminal is closed")


def test_the_session_is_hung_up_when_a_client_kills_it(client: Client) -> None:
    """The job in the foreground, that in the background, a stopped one; not what wants to outlive its terminal."""
    script = (
        "sleep 300 & a=$!; sleep 300 & b=$!; kill -STOP $b; (trap '' HUP; exec sleep 300) & c=$!; "
        "until grep -q sleep /proc/$c/comm; do :; done; sleep 301 & d=$!; echo jobs $a $b $c $d end; fg %4"
    )
    with opened(client, "/bin/bash", "-m", "-c", script) as terminal:
        terminal.read_until(b"jobs ")
        *jobs, nohup, foreground = map(int, terminal.read_until(b" end").split())
        terminal.read_until(b"sleep 301")
        terminal.signal("SIGNAL_SIGKILL")
        assert terminal.finish().end["status"] == "signal: killed"
    eventually(lambda: not any(map(alive, [*jobs, foreground])), "its jobs are gone")
    assert alive(nohup)
    os.kill(nohup, signal.SIGKILL)


def test_a_hang_up_is_left_to_the_shell(client: Client) -> None:
    """It tells its jobs and may still do what it wants to do at its end, unlike after SIGKILL."""
    with opened(client, "/bin/bash", "--norc", "-i") as terminal:
        terminal.type(b"trap 'echo good''bye' EXIT; sleep 300 & sh -c \"echo jobs $! \\$\\$ end; exec sleep 301\"\n")
        terminal.read_until(b"\r\njobs ")
        jobs = [int(pid) for pid in terminal.read_until(b" end").split()]
        terminal.signal("SIGNAL_SIGHUP")
        terminal.read_until(b"goodbye")
        assert terminal.finish().end["status"] == "signal: hangup"
    eventually(lambda: not any(map(alive, jobs)), "its jobs are gone")


def test_the_deadline_hangs_it_up_too(client: Client) -> None:
    message = message_of("/bin/bash", "-m", "-c", "sleep 300 & echo job $! end; wait")
    for deadline_ms in DEADLINES_MS:
        done = client.start(message, Connect_Timeout_Ms=str(deadline_ms))
        assert done.error["code"] == "deadline_exceeded"
        if b" end\r\n" in done.pty:
            break
    pid = int(done.pty.partition(b"job ")[2].split()[0])
    eventually(lambda: not alive(done.pid) and not alive(pid), "both are gone")


def test_nobody_else_is_hung_up() -> None:
    async def run() -> None:
        ours = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True)
        other = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True)
        hang_up(ours.pid)
        assert await ours.wait() == -signal.SIGHUP and other.returncode is None
        other.kill()
        await other.wait()

    asyncio.run(run())


def test_a_client_that_leaves_may_come_back_to_it(client: Client) -> None:
    with client.stream(START, message_of("/bin/bash", "--norc", "-i")) as messages:
        terminal = Terminal(client, messages)
        terminal.read_until(b"$ ")
    with client.stream("process.Process/Connect", {"process": terminal.process}) as messages:
        again = Terminal(client, messages)
        assert again.pid == terminal.pid
        again.type(b"echo ba\\ck; stty size\n")
        again.read_until(b"back\r\n30 100\r\n$ ")
        again.type(b"exit\n")
        assert again.finish().end["exitCode"] == 0


def test_a_terminal_of_which_nobody_reads_holds_nobody_up(myself: User) -> None:
    async def story(table: ProcessTable) -> None:
        command = Command("head", ("-c", "3000000", "/dev/zero"), terminal_size=(80, 24))
        process = table.add(command, None, spawn(command, myself, CONFIG))
        while process.ended is None:
            await asyncio.sleep(0.001)
        assert await events(process) == ["end"]

    scenario(story)


def test_a_slow_reader_slows_the_program_and_fills_no_memory(client: Client, agent: Running, tmp_path: Path) -> None:
    progress = tmp_path / "progress"
    script = f"stty raw; for i in {{1..200}}; do echo $i >>{progress}; head -c 100000 /dev/zero; done"
    before_kb = agent.memory_kb()

    def stands_still() -> bool:
        seen = progress.stat().st_size if progress.exists() else 0
        select.select([], [], [], 0.1)
        return 0 < seen == progress.stat().st_size

    with client.stream(START, message_of("/bin/bash", "-c", script)) as messages:
        terminal = Terminal(client, messages)
        eventually(stands_still, "the program waits for its reader")
        assert len(progress.read_text().split()) < 150  # what sockets hold, of 20 MB
        assert agent.memory_kb() - before_kb < 8_000
        done = terminal.finish()
    assert len(done.pty) == 20_000_000 and done.end["exitCode"] == 0
    assert agent.memory_kb() - before_kb < 8_000


def test_nothing_is_left_of_many_terminals(client: Client, agent: Running) -> None:
    for _ in range(30):
        assert client.start(message_of("true")).end["exitCode"] == 0
        failed = message_of("true")
        failed["process"]["envs"]["A=B"] = "refused"
        assert client.start(failed).error["code"] == "invalid_argument"
        with opened(client, "/bin/bash", "--norc", "-i") as terminal:
            terminal.read_until(b"$ ")
            terminal.signal("SIGNAL_SIGKILL")
            terminal.finish()
    eventually(lambda: open_terminals(agent) == 0, "no file stays open")
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
    eventually(lambda: all(alive(int(pid)) for pid in children.read_text().split()), "no zombie stays")


def test_what_is_not_there_is_told_in_the_terminal(client: Client) -> None:
    done = client.start(message_of("no-such-program"))
    assert done.end["exitCode"] == 127 and b"no-such-program" in done.pty
