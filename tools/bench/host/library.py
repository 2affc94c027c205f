"""The case of the nearest library: llm-sandbox of PyPI, with its Docker backend and our image.

Its environment is made below the directory for temporary files for the run, and removed.
"""

import json
import subprocess
import sys
import tempfile
from typing import Any

from tools.bench.host.agent import Agent
from tools.bench.host.machine import MARK, Machine, Unexpected, run, say
from tools.bench.host.measure import Samples, Scale, row

PACKAGE = "llm-sandbox[docker]==0.3.46"
CODE = "print(6 * 7)"
# Without its setup of an environment, which fetches pip from PyPI each time, and with an init, so that its stop need
# not wait for 10 s: this is its quickest way. The command is not the image's, which is our agent.
SESSION = """
import json, sys, time
from llm_sandbox import SandboxSession
image, label, code, rounds = *sys.argv[1:4], int(sys.argv[4])
values, errors = [], []
for _ in range(rounds):
    start = time.perf_counter()
    try:
        options = {"labels": {label: "1"}, "command": ["sleep", "infinity"], "init": True}
        with SandboxSession(lang="python", image=image, keep_template=True, skip_environment_setup=True,
                            runtime_configs=options) as session:
            result = session.run(code)
        if result.stdout.strip() != "42":
            raise RuntimeError(f"it answered {result}")
        values.append((time.perf_counter() - start) * 1000)
    except Exception as error:
        errors.append(repr(error))
print(json.dumps([values, errors]))
"""


def library(machine: Machine, scale: Scale) -> list[dict[str, Any]]:
    """A sandbox, one program in it, and its end; from inside one process, as its users do it."""
    ours, peer = Samples(), Samples()

    def whole() -> None:
        sandbox = machine.create()
        agent = Agent(sandbox, machine.domain)
        output = agent.run(f"python3 -c '{CODE}'")
        agent.close()
        machine.kill(sandbox["sandboxID"])
        if output.strip() != "42":
            raise Unexpected(f"the program printed {output!r}")

    with tempfile.TemporaryDirectory() as directory:
        python = f"{directory}/venv/bin/python"
        run(sys.executable, "-m", "venv", f"{directory}/venv")
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE)
        for _ in range(scale.cold_rounds):
            machine.wait_for_pool()
            ours.time(whole)
        machine.wait_for_pool()
        command = [python, "-c", SESSION, machine.image, MARK, CODE, str(scale.cold_rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            say(f"  llm-sandbox does not run: {done.stderr.strip()[-300:]}")
        else:
            peer.values, errors = json.loads(done.stdout.splitlines()[-1])
            peer.failed, peer.last_error = len(errors), errors[0] if errors else ""
    return [row("init, run a Python program, kill", ours, peer, PACKAGE.replace("[docker]==", " "))]
