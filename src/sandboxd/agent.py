"""What the daemon asks of the agent inside a sandbox: only whether it answers."""

import http.client
import time
from collections.abc import Callable

from sandboxd import AGENT_PORT

POLL_S = 0.004
PROBE_TIMEOUT_S = 2.0


def alive(address: str) -> bool:
    """True when GET /health on the agent's port answers 204."""
    connection = http.client.HTTPConnection(address, AGENT_PORT, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 204
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


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
