"""The connection to the fleet engine of this host, a Docker in Swarm mode, and what its errors mean.

Uses docker-py's low-level client, as sandboxd does for the host's own engine.
"""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from fleet.errors import FleetError, NoLeader, Stale

T = TypeVar("T")

POOLS = 2  # of idle connections, for each thread
TIMEOUT_S = 5  # the engine itself waits 20 s for a leader that is not there
# What an engine says while its Swarm has no leader, or has just lost one, beside the statuses 503 and 504.
LEADERLESS = re.compile(r"not have a leader|lost leader|deadline exceeded|not a swarm manager|code = Unavailable")


class NameTaken(FleetError):
    """There is a service of that name."""


class Engine:
    """Connects at the first call, so the engine may come up later, and restart."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        # docker-py keeps a pool of connections for each path that is asked for, and closes the oldest one, also while
        # another thread uses it: with 30 threads calls fail by that. So each thread has a client of its own.
        self._local = threading.local()

    def call(self, what: str, function: Callable[[Any], T], absent: Callable[[], T] | None = None) -> T:
        """Runs one call of docker-py's client; `absent` answers instead of a 404.

        Raises Stale for a version that is not the last one, NameTaken, NoLeader also when no engine answers, and
        FleetError when it refuses.
        """
        try:
            return function(self._connect())
        except NotFound as error:
            if absent is not None:
                return absent()
            raise FleetError(f"the fleet engine refuses: {what}: {error.explanation}") from error
        except APIError as error:
            raise meaning(what, error.status_code or 0, str(error.explanation)) from error
        except requests.Timeout as error:  # it has not noticed yet that its leader is gone, or it hangs
            raise NoLeader(f"The fleet engine of this host takes more than {TIMEOUT_S:g} s: {what}.") from error
        except (DockerException, requests.RequestException) as error:
            self._local.client = None  # it may come back as another version
            raise NoLeader(
                f"The fleet engine of this host does not answer ({what}: {error}). Look with: systemctl list-units"
                f" '*-swarmd.service'; it listens on {self._socket}."
            ) from error

    def _connect(self) -> Any:
        if getattr(self._local, "client", None) is None:
            self._local.client = docker.APIClient(
                f"unix://{self._socket}", version="auto", timeout=TIMEOUT_S, num_pools=POOLS
            )
        return self._local.client


def meaning(what: str, status: int, said: str) -> FleetError:
    """The error that an answer of the engine is."""
    if "out of sequence" in said:
        return Stale(f"{what}: it was changed by somebody else. Read again.")
    if status == 409 and "name conflicts" in said:
        return NameTaken(f"{what}: {said}")
    if status in (503, 504) or LEADERLESS.search(said):
        return NoLeader(f"The managers of the fleet have no leader ({what}: {said}). Try again in some seconds.")
    return FleetError(f"the fleet engine refuses: {what}: {said}")
