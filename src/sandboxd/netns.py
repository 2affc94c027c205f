"""The rule inside a sandbox's network namespace that makes servers on 127.0.0.1 reachable from the gateway.

Values first; `run` is the one place that executes a command, as root on the host.
"""

import subprocess
from collections.abc import Callable

from sandboxd.errors import EngineError

Runner = Callable[[list[str]], int]
TIMEOUT_S = 15


def dnat_command(pid: int, gateway: str, verb: str) -> list[str]:
    """iptables in the namespace of `pid`: TCP that the bridge's gateway address sends to the sandbox goes to loopback.

    `verb` is -C (is it there?) or -A (add it). Only the gateway's own address is let in: other senders meet the
    addresses that the servers inside are really bound to. `-w` waits for the lock of iptables, in seconds.
    """
    rule = ["-i", "eth0", "-s", gateway, "-p", "tcp", "-m", "addrtype", "--dst-type", "LOCAL"]
    iptables = [
        "iptables",
        "-w",
        "10",
        "-t",
        "nat",
        verb,
        "PREROUTING",
        *rule,
        "-j",
        "DNAT",
        "--to-destination",
        "127.0.0.1",
    ]
    return ["nsenter", "-t", str(pid), "-n", *iptables]


def run(command: list[str]) -> int:
    """Runs a command and returns its exit code. Raises EngineError when it cannot be run at all."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{' '.join(command)}: {error}. Are nsenter and iptables installed on the host?") from error
    return done.returncode


def ensure_dnat(pid: int, gateway: str, runner: Runner) -> None:
    """Adds the rule unless it stands already. Raises EngineError when iptables refuses."""
    if runner(dnat_command(pid, gateway, "-C")) == 0:
        return
    command = dnat_command(pid, gateway, "-A")
    code = runner(command)
    if code != 0:
        raise EngineError(f"{' '.join(command)} ended with {code}. Run it by hand on the host to see why.")
