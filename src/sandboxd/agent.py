"""What the daemon asks of the agent inside a sandbox: only whether it answers."""

import socket
import time
from collections.abc import Callable

from sandboxd import AGENT_PORT

POLL_S = 0.004
PROBE_TIMEOUT_S = 2.0
REQUEST = b"GET /health HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
WELL = b"HTTP/1.1 204"


def alive(address: str) -> bool:
    """True when GET /health on the agent's port answers 204, within PROBE_TIMEOUT_S in all.

    A program of the sandbox may be there in its place, and say a byte a second.
    """
    deadline = time.monotonic() + PROBE_TIMEOUT_S
    said = b""
    try:
        with socket.create_connection((address, AGENT_PORT), PROBE_TIMEOUT_S) as connection:
            connection.sendall(REQUEST)
            while len(said) < len(WELL) and (left_s := deadline - time.monotonic()) > 0:
                connection.settimeout(left_s)
                piece = connection.recv(len(WELL) - len(said))
                if not piece:
                    break
                said += piece
    except OSError:
        return False
    return said == WELL


def wait_alive(probe: Callable[[], bool], running: Callable[[], bool], deadline_s: float) -> bool:
    """Polls until `probe` holds. Gives up at the deadline, or as soon as the container does not run any more."""
    start = time.monotonic()
    next_look = start + 0.5
    while not probe():
        now = time.monotonic()
        if now - start > deadline_s:
            return False
        if now > next_look:
            if not running():
                return False
            next_look = now + 0.5
        time.sleep(POLL_S)
    return True
