"""process.Process as a client meets it."""

import base64
import os
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.envd.client import DEADLINES_MS, Client, Finished, Json, Running, alive, bash, envelope, eventually
from tests.unit.envd.conftest import HOME

START = "process.Process/Start"


def listed(client: Client) -> dict[int, Json]:
    return {process["pid"]: process for process in client.ok("process.Process/List", {}).get("processes", [])}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_command_runs_and_its_streams_are_apart(client: Client) -> None:
    done = client.run("echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.trailer) == (b"out\n", b"err\n", {})
    assert list(done.events[0]) == ["start"] and list(done.events[-1]) == ["end"]
    assert done.end == {"exitCode": 3, "exited": True, "status": "exit status 3", "error": "exit status 3"}
    assert client.run("true").end == {"exitCode": 0, "exited": True, "status": "exit status 0"}


def test_output_is_bytes(client: Client) -> None:
    assert client.run(r"printf '\377\000\xc3\xe2'").stdout == b"\xff\0\xc3\xe2"


def test_where_and_as_whom_it_runs(client: Client, workdir: Path) -> None:
    done = client.run('pwd; umask; echo "$PPID $$ $(ps -o pgid=,sid= -p $$)"; cat /proc/self/oom_score_adj; env')
    where, umask, ids, oom_score, *variables = done.stdout.decode().splitlines()
    agent_pid, pid, group, session = ids.split()
    assert (where, umask, oom_score) == (str(workdir), "0022", "500")
    assert pid == group == session == str(done.pid)
    assert Path(f"/proc/{agent_pid}/oom_score_adj").read_text() == Path("/proc/self/oom_score_adj").read_text()
    assert {"FROM_SANDBOX=yes", "E2B_SANDBOX_ID=abc123def456", f"HOME={HOME}"} <= set(variables)
    assert not [variable for variable in variables if variable.startswith("ENVD_")]
    done = client.run('echo "$FROM_SANDBOX $HOME $X"; pwd', envs={"FROM_SANDBOX": "no", "X": "ü"}, cwd="/usr/../tmp")
    assert done.stdout.decode() == f"no {HOME} ü\n/tmp\n"


def test_another_user_is_taken_from_basic_auth(client: Client) -> None:
    """Only root may become another; an agent that is not root says that it cannot."""
    done = client.run("id -un; id -Gn; echo $HOME $USER $LOGNAME", user="nobody", cwd="/")
    if os.geteuid() == 0:
        assert done.stdout == b"nobody\nnogroup\n/nonexistent nobody nobody\n"
    else:
        assert done.error["code"] == "permission_denied"
    assert client.error("process.Process/List", {}, user="no-such-user") == "unauthenticated"
    headers = {"Content-Type": "application/connect+json", "Authorization": "Basic " + b64(b"no-such-user:")}
    response = client.http.post(f"/{START}", content=envelope(bash("true")), headers=headers)
    assert (response.status_code, response.json()["message"]) == (401, "invalid username: 'no-such-user'")


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        ({"process": {"cmd": "no-such-program"}}, "not_found", "program 'no-such-program' not found"),
        ({"process": {"cmd": "/etc/passwd"}}, "permission_denied", "/etc/passwd"),
        ({"process": {"cmd": "true", "cwd": "/no/such"}}, "invalid_argument", "cwd '/no/such' does not exist"),
        ({"process": {"cmd": "true", "envs": {"A": "x" * 200_000}}}, "invalid_argument", "Argument list too long"),
        ({"process": {"cmd": "true", "envs": {"A=B": "x"}}}, "invalid_argument", "illegal environment"),
        ({"process": {"cmd": "true", "args": ["a\0b"]}}, "invalid_argument", "null byte"),
        ({"process": {"cmd": "true", "args": "x"}}, "invalid_argument", "field 'args'"),
        ({"process": {}}, "invalid_argument", "process.cmd"),
        ({}, "invalid_argument", "process.cmd"),
    ],
)
def test_what_cannot_start_says_why(client: Client, message: Json, code: str, words: str) -> None:
    failed = client.start(message)
    assert failed.events == [] and failed.error["code"] == code
    assert words in failed.error["message"]


def test_stdin_is_open_unless_refused(client: Client) -> None:
    assert client.run("cat", stdin=False).stdout == b""
    message = bash("cat")
    del message["stdin"]
    with client.stream(START, message) as messages:
        process = {"pid": next(messages)["event"]["start"]["pid"]}
        client.ok("process.Process/SendInput", {"process": process, "input": {"stdin": b64(b"one\n")}})
        content = b"".join(
            [
                envelope({"start": {"process": process}}),
                envelope({"keepalive": {}}),
                envelope({"data": {"input": {"stdin": b64(b"two\n")}}}),
                envelope({}, 2),
            ]
        )
        headers = {"Content-Type": "application/connect+json"}
        response = client.http.post("/process.Process/StreamInput", content=content, headers=headers)
        assert response.content == envelope({}) + envelope({}, 2)
        client.ok("process.Process/CloseStdin", {"process": process})
        done = Finished([{"event": {"start": process}}, *messages])
    assert done.stdout == b"one\ntwo\n" and done.end["exitCode"] == 0


def test_input_that_has_no_place_to_go_is_refused(client: Client) -> None:
    with client.stream(START, bash("read x; sleep 60", stdin=False)) as messages:
        process = {"pid": next(messages)["event"]["start"]["pid"]}
        for source in ({"stdin": ""}, {"pty": ""}):
            assert client.error("process.Process/SendInput", {"process": process, "input": source}) == "internal"
        assert client.error("process.Process/SendInput", {"process": process, "input": {}}) == "unimplemented"
        assert client.error("process.Process/Update", {"process": process, "pty": {}}) == "failed_precondition"
        client.ok("process.Process/SendSignal", {"process": process, "signal": "SIGNAL_SIGKILL"})


def test_a_signal_reaches_what_the_command_started(client: Client) -> None:
    with client.stream(START, bash("sleep 60 & echo $!; wait; echo never")) as messages:
        pid = next(messages)["event"]["start"]["pid"]
        child = int(base64.b64decode(next(messages)["event"]["data"]["stdout"]))
        client.ok("process.Process/SendSignal", {"process": {"pid": pid}, "signal": "SIGNAL_SIGTERM"})
        *_, end, trailer = messages
    words = "signal: terminated"
    assert end == {"event": {"end": {"exitCode": -1, "exited": False, "status": words, "error": words}}}
    assert trailer == {}
    eventually(lambda: not alive(child), "the child of the command is gone")


def test_unknown_processes_signals_and_selectors(client: Client) -> None:
    unknown = {"pid": 2**31 - 1}
    for method in ("SendSignal", "SendInput", "CloseStdin", "Update"):
        assert client.error(f"process.Process/{method}", {"process": unknown}) == "not_found"
    assert client.error("process.Process/SendSignal", {"process": {}}) == "unimplemented"
    with client.stream("process.Process/Connect", {"process": unknown}) as messages:
        error = {"code": "not_found", "message": f"process with pid {2**31 - 1} not found"}
        assert list(messages) == [{"error": error}]
    with client.stream(START, bash("sleep 60")) as messages:
        process = {"pid": next(messages)["event"]["start"]["pid"]}
        message = {"process": process, "signal": "SIGNAL_SIGUSR1"}
        assert client.error("process.Process/SendSignal", message) == "unimplemented"
        client.ok("process.Process/SendSignal", {"process": process, "signal": 9})
        assert [list(m["event"]) for m in messages if m][-1] == ["end"]


def test_a_client_that_leaves_lets_it_live_and_may_come_back(client: Client, tmp_path: Path) -> None:
    go, message = tmp_path / "go", bash('echo early; until [ -e "$GO" ]; do sleep 0.01; done; echo late', envs={})
    message["process"]["envs"]["GO"] = str(go)
    with client.stream(START, {**message, "tag": "t1"}, Connect_Timeout_Ms="60000") as messages:
        pid = next(messages)["event"]["start"]["pid"]
        next(messages)
    assert listed(client)[pid] == {"config": message["process"], "pid": pid, "tag": "t1"}
    with client.stream("process.Process/Connect", {"process": {"tag": "t1"}}) as messages:
        assert next(messages) == {"event": {"start": {"pid": pid}}}
        go.touch()
        done = Finished(list(messages))
    assert done.stdout == b"late\n" and done.end["exitCode"] == 0
    assert pid not in listed(client)
    with client.stream("process.Process/Connect", {"process": {"pid": pid}}) as messages:
        assert [next(iter(m.get("event", {"trailer": 0}))) for m in messages] == ["start", "end", "trailer"]
    assert client.error("process.Process/SendSignal", {"process": {"pid": pid}, "signal": 9}) == "not_found"


def test_the_deadline_kills_the_command_and_its_group(client: Client) -> None:
    for deadline_ms in DEADLINES_MS:
        done = client.start(bash("sleep 60 & echo $!; wait"), Connect_Timeout_Ms=f"{deadline_ms}.0")
        assert done.error == {"code": "deadline_exceeded", "message": "context deadline exceeded"}
        if done.stdout:
            break
    child = int(done.stdout)
    eventually(lambda: not alive(done.pid) and not alive(child), "both are gone")


def test_the_deadline_spares_what_was_left_in_the_background(client: Client) -> None:
    """`server &` keeps the stream open after the shell has gone; the time-out is that of the shell."""
    for deadline_ms in DEADLINES_MS:
        done = client.start(bash("sleep 60 & echo $!"), Connect_Timeout_Ms=str(deadline_ms))
        assert done.error["code"] == "deadline_exceeded"
        if done.stdout and alive(int(done.stdout)):  # else the shell itself was not over by then
            break
    assert alive(int(done.stdout))
    os.kill(int(done.stdout), signal.SIGKILL)


def test_the_deadline_does_not_hit_a_process_without_clients(client: Client) -> None:
    with client.stream(START, bash("sleep 60"), Connect_Timeout_Ms="4000") as messages:
        pid = next(messages)["event"]["start"]["pid"]
    with client.stream("process.Process/Connect", {"process": {"pid": pid}}, Connect_Timeout_Ms="200") as messages:
        assert list(messages)[-1]["error"]["code"] == "deadline_exceeded"
    assert pid in listed(client) and alive(pid)
    client.ok("process.Process/SendSignal", {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})


def test_a_quiet_command_is_kept_alive(client: Client) -> None:
    with client.stream(START, bash("exec sleep 60"), Keepalive_Ping_Interval="0.05") as messages:
        pid = next(messages)["event"]["start"]["pid"]
        assert [next(messages) for _ in range(2)] == [{"event": {"keepalive": {}}}] * 2
    client.ok("process.Process/SendSignal", {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})


def test_a_terminal(client: Client) -> None:
    message = {
        "process": {"cmd": "/bin/bash", "args": ["--norc", "-i"], "envs": {"TERM": "dumb", "PS1": "$ "}},
        "pty": {"size": {"cols": 100, "rows": 30}},
    }
    with client.stream(START, message) as messages:
        process = {"pid": next(messages)["event"]["start"]["pid"]}
        seen = b""

        def read_until(words: bytes) -> None:
            nonlocal seen
            while words not in seen:
                seen += base64.b64decode(next(messages)["event"]["data"]["pty"])

        def send(line: bytes) -> None:
            client.ok("process.Process/SendInput", {"process": process, "input": {"pty": b64(line)}})

        read_until(b"$ ")
        send(b"stty size; tty\n")
        read_until(b"/dev/pts/")
        assert b"30 100" in seen
        client.ok("process.Process/Update", {"process": process, "pty": {"size": {"cols": 120, "rows": 40}}})
        send(b"stty size\n")
        read_until(b"40 120")
        assert client.error("process.Process/CloseStdin", {"process": process}) == "unknown"
        assert client.error("process.Process/SendInput", {"process": process, "input": {"stdin": ""}}) == "internal"
        send(b"exit 5\n")
        done = Finished([{"event": {"start": process}}, *messages])
    assert done.end["exitCode"] == 5


def test_a_slow_reader_slows_the_process_and_fills_no_memory(client: Client, agent: Running, tmp_path: Path) -> None:
    progress = tmp_path / "progress"
    command = f"for i in {{1..500}}; do echo $i >>{progress}; head -c 200000 /dev/zero; done"
    before_kb = agent.memory_kb()

    def stands_still() -> bool:
        seen = progress.stat().st_size if progress.exists() else 0
        select.select([], [], [], 0.1)
        return 0 < seen == progress.stat().st_size

    with client.stream(START, bash(command)) as messages:
        first = next(messages)
        eventually(stands_still, "the process waits for its reader")
        assert len(progress.read_text().split()) < 100  # what sockets and pipes hold, of 100 MB
        assert agent.memory_kb() - before_kb < 8_000
        done = Finished([first, *messages])
    assert done.end["exitCode"] == 0 and len(done.stdout) == 100_000_000
    assert agent.memory_kb() - before_kb < 8_000


def test_many_in_sequence_and_many_at_once(client: Client, agent: Running) -> None:
    client.run("true")
    before = agent.open_fds()
    for _ in range(200):
        assert client.start({"process": {"cmd": "true"}, "stdin": False}).end["exitCode"] == 0

    def count(number: int) -> bytes:
        own = Client(agent.port)
        with own.http:
            return own.run(f"sleep 0.1; echo {number}").stdout

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(count, range(50))) == [f"{number}\n".encode() for number in range(50)]
    eventually(lambda: agent.open_fds() <= before, "no file stays open")


def test_a_removed_working_directory(client: Client, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with client.stream(START, bash("sleep 60", cwd=str(gone))) as messages:
        pid = next(messages)["event"]["start"]["pid"]
        gone.rmdir()
        assert client.start(bash("true", cwd=str(gone))).error["code"] == "invalid_argument"
        assert client.run("echo still").stdout == b"still\n"
        client.ok("process.Process/SendSignal", {"process": {"pid": pid}, "signal": 9})
        assert list(messages)[-1] == {}
