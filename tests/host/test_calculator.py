"""The sample app from end to end: uploaded, served through TLS, used, restarted. With a browser: test_browser.py."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from deploys import ROOT
from tests.host.machine import Machine, Sandbox, eventually
from tools import demo


@pytest.fixture
def calculator(machine: Machine) -> Iterator[Sandbox]:
    """The calculator in a sandbox of its own, with an empty history."""
    demo.start(machine, "calculator-test")
    sandbox = Sandbox(machine, next(row["sandboxID"] for row in machine.listed() if row["name"] == "calculator-test"))
    call(sandbox, "DELETE", "/api/history")
    yield sandbox
    machine.run(f"docker-sandbox kill {sandbox.id}", check=False)


def call(sandbox: Sandbox, method: str, path: str, **options: object) -> httpx.Response:
    return sandbox.machine.request(method, sandbox.url() + path, **options)


def calculate(sandbox: Sandbox, a: float, b: float, op: str) -> object:
    answer = call(sandbox, "POST", "/api/calculate", json={"a": a, "b": b, "op": op})
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def history(sandbox: Sandbox) -> list[tuple[str, object]]:
    return [(entry["expression"], entry["result"]) for entry in call(sandbox, "GET", "/api/history").json()]


DONE = [("10 - 2", 8), ("5 + 3", 8)]


def test_it_calculates_and_remembers(machine: Machine, calculator: Sandbox) -> None:
    assert "<title>Calculator" in call(calculator, "GET", "/").text
    assert calculate(calculator, 5, 3, "+") == 8
    assert calculate(calculator, 10, 2, "-") == 8
    assert history(calculator) == DONE
    assert call(calculator, "POST", "/api/calculate", json={"a": 1, "b": 0, "op": "/"}).status_code == 422
    assert call(calculator, "DELETE", "/api/history").json() == {"cleared": 2}
    assert history(calculator) == []


def test_its_history_outlives_the_app(machine: Machine, calculator: Sandbox) -> None:
    calculate(calculator, 5, 3, "+")
    calculate(calculator, 10, 2, "-")
    calculator.run(
        "pkill -f '[u]vicorn app:app'; timeout 10 sh -c 'while pgrep -f \"[u]vicorn app:app\"; do sleep 0.1; done'"
    )
    assert call(calculator, "GET", "/api/history").json()["message"] == "The sandbox is running but port is not open"
    demo.start(machine, "calculator-test")
    assert history(calculator) == DONE


def test_its_history_outlives_the_container(machine: Machine, calculator: Sandbox) -> None:
    """Somebody restarts the container behind our back: sandboxd makes its network rules and its route right again."""
    calculate(calculator, 5, 3, "+")
    calculate(calculator, 10, 2, "-")
    machine.run(f"docker restart {calculator.id}")
    eventually(
        lambda: machine.run(f"docker-sandbox exec {calculator.id} true", check=False).returncode,
        lambda code: code == 0,
        60,
        "sandbox that answers again",
    )
    demo.start(machine, "calculator-test")
    assert history(calculator) == DONE
    calculator.run("echo here >index.html")
    calculator.serve("python3 -m http.server 5173 --bind 127.0.0.1", 5173)
    eventually(
        lambda: machine.request("GET", calculator.url(5173)).text,
        lambda text: text == "here\n",
        30,
        "server on loopback",
    )


@pytest.mark.disruptive
def test_the_demonstration_prints_a_way_to_open_it_that_works(machine: Machine) -> None:
    """What the end of `make deploy` prints is run as it stands."""
    if machine.lab is None:
        raise AssertionError("this test is for labs")
    environment = machine.environment()
    shown = subprocess.run(
        [sys.executable, "-m", "tools.demo"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    curl = next(line.strip() for line in shown.splitlines() if line.strip().startswith("curl "))
    page = subprocess.run([*shlex.split(curl), "-sS"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "<title>Calculator" in page
    again = subprocess.run(
        [sys.executable, "-m", "tools.demo", "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(again)["url"] in shown, "a second run uses the same sandbox"
