"""Paused and stopped sandboxes: what goes on, what stays, what comes back; also when Docker's own command is used."""

import json
from contextlib import ExitStack
from typing import Any

import pytest

from tests.host.machine import Machine, Sandbox, eventually

COUNT = (
    "exec python3 -c \"n = 0\nwhile True:\n n += 1\n if n % 10000 == 0: open('/tmp/count', 'w').write(str(n))\n# MARK\""
)


def info(machine: Machine, sandbox: Sandbox) -> dict[str, Any]:
    return dict(json.loads(machine.out(f"docker-sandbox info {sandbox.id} --json")))


def docker_state(sandbox: Sandbox) -> str:
    return str(sandbox.inspect()["State"]["Status"])


def becomes(sandbox: Sandbox, state: str) -> None:
    eventually(lambda: docker_state(sandbox), lambda seen: seen == state, 60, f"container that is {state}")


def count(sandbox: Sandbox) -> int:
    """What the counter has written; nothing at the moment in which it writes."""
    return int(sandbox.out("cat /tmp/count 2>/dev/null") or 0)


def answers(sandbox: Sandbox) -> None:
    done = eventually(lambda: sandbox.run("echo alive", check=False), lambda seen: not seen.returncode, 30, "answer")
    assert done.stdout == "alive\n"


def test_pause_uses_no_cpu_and_has_no_url_and_resume_goes_on(machine: Machine) -> None:
    with machine.sandbox("--no-wake") as sandbox:
        url = sandbox.url()
        sandbox.run(COUNT.replace("MARK", f"counts in {sandbox.id}"), "--background")
        before = eventually(lambda: count(sandbox), bool, 30, "counting")
        # Not sooner: what the shell starts on its way to the counter has the same words in its command line.
        pid = machine.out(f"pgrep -f '[c]ounts in {sandbox.id}' | tail -n 1")
        used = f"cut -d ' ' -f 14,15 /proc/{pid}/stat"
        machine.run(f"docker-sandbox pause {sandbox.id}")
        at_first = machine.out(used)
        assert docker_state(sandbox) == "paused" and info(machine, sandbox)["state"] == "paused"
        assert machine.request("GET", url).json()["message"] == "The sandbox was not found"
        assert sandbox.id not in machine.out(f"cat {machine.settings.state}/routes.map")
        refused = sandbox.run("true", check=False)
        assert refused.returncode == 1 and f"docker-sandbox resume {sandbox.id}" in refused.stderr
        assert machine.out(used) == at_first, "frozen processes used the processor"
        machine.run(f"docker-sandbox resume {sandbox.id}")
        first = eventually(lambda: count(sandbox), lambda seen: seen > before, 30, "counting on")
        eventually(lambda: count(sandbox), lambda seen: seen > first, 30, "counting on and on")
        assert machine.out(f"pgrep -f '[c]ounts in {sandbox.id}' | tail -n 1") == pid, "the same process"


def test_stop_and_start_keep_files_id_and_url(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        sandbox.run("echo code >/code/file; echo home >/home/user/file")
        sandbox.run("exec sleep 1000", "--background")
        url = sandbox.url()
        machine.run(f"docker-sandbox stop {sandbox.id}")
        assert docker_state(sandbox) == "exited"
        refused = sandbox.run("true", check=False)
        assert refused.returncode == 1 and f"docker-sandbox start {sandbox.id}" in refused.stderr
        machine.run(f"docker-sandbox start {sandbox.id}")
        assert sandbox.out("cat /code/file /home/user/file; pgrep -c sleep || true") == "code\nhome\n0"
        assert sandbox.url() == url
        sandbox.serve("python3 -m http.server 8000 --bind 127.0.0.1 --directory /code")
        assert machine.request("GET", f"{url}/file").text == "code\n"


def test_extend_moves_the_end_and_it_comes(machine: Machine) -> None:
    with machine.sandbox("--timeout 1h") as sandbox:
        end = info(machine, sandbox)["endAt"]
        machine.run(f"docker-sandbox extend {sandbox.id} 2h")
        assert info(machine, sandbox)["endAt"] > end
        machine.run(f"docker-sandbox extend {sandbox.id} none")
        assert info(machine, sandbox)["unlimited"]
        machine.run(f"docker-sandbox extend {sandbox.id} 1s")
        gone = eventually(
            lambda: machine.run(f"docker-sandbox info {sandbox.id}", check=False),
            lambda seen: "it ended" in seen.stderr,
            30,
            "end of the sandbox",
        )
        assert gone.returncode == 3 and "timeout reached" in gone.stderr


def test_the_time_of_those_that_do_not_run_stands_still(machine: Machine) -> None:
    """Another one, made later and with a longer time, is gone before we look."""
    with ExitStack() as made:
        waiting = []
        for verb in ("pause", "stop"):
            waiting.append(made.enter_context(machine.sandbox("--timeout 15s")))
            machine.run(f"docker-sandbox {verb} {waiting[-1].id}")
        with machine.sandbox("--timeout 16s") as other:
            eventually(
                lambda: machine.run(f"docker-sandbox info {other.id}", check=False).returncode,
                lambda code: code == 3,
                60,
                "end of the other one",
            )
        for sandbox in waiting:
            assert info(machine, sandbox)["unlimited"]
            machine.run(f"docker-sandbox resume {sandbox.id} --timeout none")
            answers(sandbox)


@pytest.mark.disruptive
def test_what_docker_does_behind_our_back_is_put_right(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        sandbox.run("echo kept >/code/file")
        machine.run(f"docker pause {sandbox.id}")
        becomes(sandbox, "running")
        machine.run(f"docker stop --time 1 {sandbox.id}")
        becomes(sandbox, "running")
        answers(sandbox)
        machine.run(f"docker-sandbox pause {sandbox.id}")
        machine.run(f"docker unpause {sandbox.id}")
        becomes(sandbox, "paused")
        machine.run(f"docker-sandbox stop {sandbox.id}")
        machine.run(f"docker start {sandbox.id}")
        becomes(sandbox, "exited")
        assert info(machine, sandbox)["state"] == "stopped"
        machine.run(f"docker-sandbox start {sandbox.id}")
        assert sandbox.out("cat /code/file") == "kept"
        machine.run(f"docker-sandbox pause {sandbox.id}")
        machine.run(f"docker kill {sandbox.id}")
        eventually(lambda: info(machine, sandbox)["state"], lambda seen: seen == "stopped", 30, "word of its end")
        assert "while it was paused" in info(machine, sandbox)["reason"]
        machine.run(f"docker rm --force {sandbox.id}")
        gone = eventually(
            lambda: machine.run(f"docker-sandbox info {sandbox.id}", check=False),
            lambda seen: "it ended" in seen.stderr,
            60,
            "end of the sandbox",
        )
        volume = f"lost-{sandbox.id}"
        assert gone.returncode == 3 and "removed outside" in gone.stderr and volume in gone.stderr
        with machine.sandbox(f"--volume {volume}") as rescued:
            assert rescued.out("cat /code/file") == "kept"
        machine.run(f"docker-sandbox volume rm {volume}")


@pytest.mark.disruptive
def test_the_control_plane_may_restart_meanwhile(machine: Machine) -> None:
    with machine.sandbox() as paused, machine.sandbox() as stopped:
        pid = paused.out("exec sleep 1000", "--background")
        machine.run(f"docker-sandbox pause {paused.id}; docker-sandbox stop {stopped.id}")
        machine.run(f"systemctl restart {machine.unit('sandboxd')}")
        machine.run("docker-sandbox routes sync --quiet")
        assert (docker_state(paused), docker_state(stopped)) == ("paused", "exited")
        machine.run(f"docker-sandbox resume {paused.id}; docker-sandbox start {stopped.id}")
        assert paused.out(f"ps -o comm= -p {pid}") == "sleep"
        answers(stopped)


@pytest.mark.parametrize("verb", ["pause", "stop"])
def test_one_that_does_not_run_can_be_removed(machine: Machine, verb: str) -> None:
    with machine.sandbox() as sandbox:
        slot = sandbox.inspect()["Config"]["Labels"]["sandbox.slot"]
        machine.run(f"docker-sandbox {verb} {sandbox.id}")
        machine.run(f"docker-sandbox kill {sandbox.id}")
        assert machine.out(f"docker ps --all --quiet --filter label=sandbox.slot={slot}") == ""
        assert machine.out(f"find {machine.settings.state} -maxdepth 2 -name '{slot}*'") == ""
