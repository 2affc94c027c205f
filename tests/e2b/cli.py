"""E2B's command line, `@e2b/cli` of npm, run as a person or a script runs it."""

import json
import os
import pty
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from report import features_of, main

E2B = "./node_modules/.bin/e2b"
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def e2b(*words: str, code: int = 0, stdin: str | None = None, **variables: str) -> str:
    """Standard output, without colours."""
    done = subprocess.run(
        [E2B, *words],
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=os.environ | variables,
        timeout=120,
        check=False,
    )
    said = f"e2b {' '.join(words)} ended with {done.returncode}, not {code}: {done.stdout} {done.stderr}"
    assert done.returncode == code, said
    return COLOURS.sub("", done.stdout)


def from_json(*words: str) -> Any:
    return json.loads(e2b(*words, "--format", "json"))


@contextmanager
def sandbox(*options: str) -> Iterator[str]:
    """The id of a new one."""
    made = e2b("sandbox", "create", "base", "--detach", "--timeout", "120", *options).strip()
    assert re.fullmatch("[a-z0-9]+", made), made
    try:
        yield made
    finally:
        e2b("sandbox", "kill", made)


def feature_create_list_info_kill() -> None:
    with sandbox() as first, sandbox() as second:
        listed = {one["sandboxId"]: one for one in from_json("sandbox", "list")}
        assert {first, second} <= set(listed) and listed[first]["state"] == "running", listed
        assert first in e2b("sandbox", "list", "--limit", "50")
        assert from_json("sandbox", "info", first)["templateId"] == "base"
        assert "base" in e2b("sandbox", "info", first)
        assert f"{first} has been killed" in e2b("sandbox", "kill", first)
        assert first not in {one["sandboxId"] for one in from_json("sandbox", "list")}
        e2b("sandbox", "info", first, code=1)


def feature_list_filters() -> None:
    with sandbox() as first:
        ours = from_json("sandbox", "list", "--template", "base", "--order", "asc")
        assert first in [one["sandboxId"] for one in ours]
        assert from_json("sandbox", "list", "--template", "no-such-template") == []
        started = next(one["startedAt"] for one in ours if one["sandboxId"] == first)
        assert first in [one["sandboxId"] for one in from_json("sandbox", "list", "--started-after", started)]
        assert from_json("sandbox", "list", "--started-after", "2200-01-01T00:00:00Z") == []


def feature_exec() -> None:
    with sandbox() as made:
        assert e2b("sandbox", "exec", "-e", "A=1", "-c", "/tmp", made, "echo $A; pwd") == "1\n/tmp\n"
        assert e2b("sandbox", "exec", "-u", "root", made, "whoami") == "root\n"
        e2b("sandbox", "exec", made, "exit 3", code=3)
        assert e2b("sandbox", "exec", made, "wc -c", stdin="x" * 100_000).strip() == "100000"
        e2b("sandbox", "exec", "--background", made, "sleep 1000")
        assert "1000" in e2b("sandbox", "exec", made, "pgrep -a sleep")


def feature_a_terminal() -> None:
    with sandbox() as made:
        assert "terminal 42" in at_a_terminal("sandbox", "connect", made)
    shown = at_a_terminal("sandbox", "create", "base")
    found = re.search("sandbox ID ([a-z0-9]+)", shown)
    assert found and "terminal 42" in shown, shown
    e2b("sandbox", "kill", found[1])


def at_a_terminal(*words: str) -> str:
    """What a terminal shows in which a command is typed and the shell ended."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(E2B, [E2B, *words])
    shown, typed, deadline = "", False, time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # how Linux says that the other side is closed
                break
        if not typed and "$ " in shown:
            typed = True
            os.write(terminal, b"echo terminal $((6 * 7)); exit 0\r")
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    shown = COLOURS.sub("", shown)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    return shown


def feature_pause_and_resume() -> None:
    with sandbox() as made:
        assert "has been paused" in e2b("sandbox", "pause", made)
        paused = from_json("sandbox", "list", "--state", "paused")
        assert made in [one["sandboxId"] for one in paused]
        assert "has been resumed" in e2b("sandbox", "resume", made)
        assert e2b("sandbox", "exec", made, "echo again") == "again\n"


def feature_logs_and_metrics() -> None:
    with sandbox() as made:
        for line in e2b("sandbox", "logs", made, "--level", "DEBUG", "--format", "json").strip().splitlines():
            assert json.loads(line)["message"], line
        assert f"Logs for sandbox {made}" in e2b("sandbox", "logs", made)
        (metric, *_) = e2b("sandbox", "metrics", made, "--format", "json").strip().splitlines()
        assert json.loads(metric)["memUsed"] > 0, metric
        assert "Memory" in e2b("sandbox", "metrics", made)


def feature_snapshot() -> None:
    with sandbox() as made:
        e2b("sandbox", "exec", made, "echo kept >kept.txt")
        assert "Created snapshot from-cli" in e2b("sandbox", "snapshot", "create", "--name", "from-cli", made)
    try:
        assert "from-cli" in [one["snapshotId"] for one in from_json("sandbox", "snapshot", "list")]
        again = e2b("sandbox", "create", "from-cli", "--detach").strip()
        assert e2b("sandbox", "exec", again, "cat kept.txt") == "kept\n"
        e2b("sandbox", "kill", again)
    finally:
        assert "has been deleted" in e2b("sandbox", "snapshot", "delete", "from-cli")


def feature_template_create_list_delete() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "e2b.Dockerfile").write_text(
            "FROM base\nCOPY a.txt /opt/a.txt\nRUN tr a b </opt/a.txt >/opt/b.txt\n"
        )
        Path(directory, "a.txt").write_text("aaa")
        e2b("template", "create", "cli-made", "--path", directory, "--memory-mb", "512", "--cpu-count", "1")
    listed = {one["templateID"]: one for one in from_json("template", "list")}
    assert listed["cli-made"]["memoryMB"] == 512 and "base" in listed, listed
    made = e2b("sandbox", "create", "cli-made", "--detach").strip()
    assert e2b("sandbox", "exec", made, "cat /opt/b.txt; pwd; whoami") == "bbb/home/user\nuser\n"
    e2b("sandbox", "kill", made)
    e2b("template", "unpublish", "cli-made", "--yes")
    e2b("template", "publish", "cli-made", "--yes", code=1)
    e2b("template", "delete", "cli-made", "--yes")
    assert "cli-made" not in [one["templateID"] for one in from_json("template", "list")]


def feature_errors() -> None:
    e2b("sandbox", "list", code=1, E2B_API_KEY="e2b_" + "0" * 40)
    e2b("sandbox", "create", "no-such-template", "--detach", code=1)
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "Dockerfile").write_text("FROM node:22\nRUN true\n")
        e2b("template", "create", "no-image", "--path", directory, code=1)


if __name__ == "__main__":
    main(features_of(globals()))
