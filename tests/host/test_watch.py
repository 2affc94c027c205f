"""`docker-sandbox logs` and `stats` on a real host: Docker's own log, and the kernel's own figures."""

import json
import shlex
from typing import Any

from tests.host.machine import Machine, Sandbox, eventually


def figures(sandbox: Sandbox) -> dict[str, Any]:
    (one,) = json.loads(sandbox.machine.out(f"docker-sandbox stats {sandbox.id} --json"))["sandboxes"]
    return dict(one)


def lines(machine: Machine, sandbox_id: str, flags: str = "") -> list[dict[str, Any]]:
    done = machine.run(f"docker-sandbox logs {sandbox_id} --json {flags}", check=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_limits_and_use_are_the_kernels(machine: Machine) -> None:
    template = machine.settings.templates[machine.settings.default_template]
    with machine.sandbox() as sandbox:
        usage = figures(sandbox)["usage"]
        assert usage["memory_limit_bytes"] == template.memory_mb * 1024**2
        assert (usage["cpu_limit"], usage["pids_limit"]) == (template.cpus, template.pids)
        assert 1 < usage["memory_bytes"] < usage["memory_limit_bytes"] and usage["oom_kills"] == 0
        sandbox.run("exec sh -c 'while :; do :; done'", "--background")
        sandbox.run("exec sleep 1000", "--background")
        busy = eventually(
            lambda: figures(sandbox), lambda seen: seen["rates"]["cpu_percent"] > 20, 30, "a busy sandbox"
        )
        assert busy["usage"]["pids"] >= usage["pids"] + 2
        assert busy["usage"]["cpu_ns"] > usage["cpu_ns"]


def test_bytes_over_the_network_are_counted(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        before = figures(sandbox)["network"]
        machine.run(f"head -c 3000000 /dev/zero | docker-sandbox upload {sandbox.id} - /code/zeros")
        after = figures(sandbox)["network"]
    assert after["received_bytes"] - before["received_bytes"] > 3_000_000


def test_one_table_where_there_is_no_terminal(machine: Machine) -> None:
    with machine.sandbox("--name shown") as sandbox:
        head, *rows = machine.out("docker-sandbox stats").splitlines()
        assert head.split()[:4] == ["ID", "NAME", "STATE", "CPU"]
        assert any(row.split()[:3] == [sandbox.id, "shown", "running"] for row in rows)


def test_the_log_is_what_the_main_process_wrote(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        both = (f"docker logs {sandbox.id} 2>&1", f"docker-sandbox logs {sandbox.id} --lines all")
        eventually(lambda: [machine.out(one) for one in both], lambda said: said[0] == said[1] != "", 30, "same log")
        sandbox.run("echo from-inside | sudo tee /proc/1/fd/1 >/dev/null")
        seen = eventually(
            lambda: machine.out(f"docker-sandbox logs {sandbox.id} --lines 1"),
            lambda last: "from" in last,
            10,
            "a line",
        )
        assert seen == "from-inside"


def test_a_log_is_followed_through_a_restart_to_the_end(machine: Machine) -> None:
    after = "sed -n '/restarted/,$p' /tmp/followed"
    with machine.sandbox() as sandbox:
        script = (
            f"docker-sandbox logs {sandbox.id} --follow --events --json >/tmp/followed & follower=$!; "
            "until grep -q claimed /tmp/followed; do sleep 0.1; done; "
            f"docker restart {sandbox.id} >/dev/null; "
            # Until its agent has said something after the restart.
            f"for n in $(seq 300); do {after} | grep -q '\"line\"' && break; sleep 0.1; done; "
            f"docker-sandbox kill {sandbox.id}; wait $follower; echo code $?; "
            "cat /tmp/followed; rm /tmp/followed"
        )
        code, *followed = machine.out(f"timeout 90 bash -c {shlex.quote(script)}").splitlines()
    kinds = [json.loads(line)["kind"] for line in followed]
    assert code == "code 3" and kinds[-1] == "ended" and "restarted" in kinds
    assert kinds.index("restarted") < len(kinds) - 1 - kinds[::-1].index("line"), "the agent's second start follows"


def test_of_a_sandbox_that_is_gone_it_is_said_why(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        machine.run(f"docker-sandbox kill {sandbox.id}")
    done = machine.run(f"docker-sandbox logs {sandbox.id}", check=False)
    assert (done.returncode, done.stdout) == (3, "") and "removed by request" in done.stderr
    assert [one["kind"] for one in lines(machine, sandbox.id, "--events")] == ["created", "claimed", "ended"]
