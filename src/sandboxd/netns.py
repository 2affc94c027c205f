"""The rules inside a sandbox's network namespace: servers on 127.0.0.1 are reachable from the gateway, and names can
be shut. Nobody inside has the right to change them.

Values first; `run` is the one place that executes a command, as root on the host.
"""

import subprocess
from collections.abc import Callable, Mapping

from sandboxd.errors import EngineError

Runner = Callable[[list[str]], int]
TIMEOUT_S = 15
RESOLVER = "127.0.0.11"  # Docker's, within each network namespace


def dnat_command(pid: int, gateway: str, verb: str) -> list[str]:
    """iptables in the namespace of `pid`: TCP that the bridge's gateway address sends to the sandbox goes to loopback.

    `verb` is -C (is it there?) or -A (add it). Only the gateway's own address is let in: other senders meet the
    addresses that the servers inside are really bound to.
    """
    rule = ["-i", "eth0", "-s", gateway, "-p", "tcp", "-m", "addrtype", "--dst-type", "LOCAL"]
    return _iptables(pid, "-t", "nat", verb, "PREROUTING", *rule, "-j", "DNAT", "--to-destination", "127.0.0.1")


def names_command(pid: int, verb: str) -> list[str]:
    """Docker's resolver refuses: what it asks of the host's own name servers, rules of the bridge never see.

    `verb` is -C, -A or -D (take it away).
    """
    return _iptables(pid, verb, "OUTPUT", "-d", RESOLVER, "-j", "REJECT")


def sysctl_command(pid: int, key: str, value: str) -> list[str]:
    """Sets a parameter of the namespace, as a runtime does that knows them. By the host's own /proc/sys: our unit may
    have none that can be written."""
    enter = ["nsenter", "--target", "1", "--mount", "nsenter", "-t", str(pid), "-n"]
    return [*enter, "sysctl", "--quiet", "--write", f"{key}={value}"]


def run(command: list[str]) -> int:
    """Runs a command and returns its exit code. Raises EngineError when it cannot be run at all."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{' '.join(command)}: {error}. Are nsenter and iptables installed on the host?") from error
    return done.returncode


def ensure_dnat(pid: int, gateway: str, runner: Runner) -> None:
    """Adds the rule unless it stands already. Raises EngineError when iptables refuses."""
    if runner(dnat_command(pid, gateway, "-C")) != 0:
        _done(dnat_command(pid, gateway, "-A"), runner)


def set_sysctls(pid: int, sysctls: Mapping[str, str], runner: Runner) -> None:
    """Raises EngineError when the kernel refuses."""
    for key, value in sysctls.items():
        _done(sysctl_command(pid, key, value), runner)


def ensure_names(pid: int, shut: bool, runner: Runner) -> None:
    """Shuts names, or opens them, unless they are so already. Raises EngineError when iptables refuses."""
    if (runner(names_command(pid, "-C")) == 0) is not shut:
        _done(names_command(pid, "-A" if shut else "-D"), runner)


def _iptables(pid: int, *words: str) -> list[str]:
    """`-w` waits for the lock of iptables, in seconds."""
    return ["nsenter", "-t", str(pid), "-n", "iptables", "-w", "10", *words]


def _done(command: list[str], runner: Runner) -> None:
    code = runner(command)
    if code != 0:
        raise EngineError(f"{' '.join(command)} ended with {code}. Run it by hand on the host to see why.")
