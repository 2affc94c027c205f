"""The content of a file of a sandbox, streamed to and from its agent. Touches the network and the given descriptors."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sandboxd.cli.agent import ANSWER_S, Agent
from sandboxd.cli.http1 import Connection, ConnectionBroken, Response
from sandboxd.cli.progress import Progress

PIECE_BYTES = 256 * 1024
BYTES = "application/octet-stream"


class Refused(Exception):
    """The other side answered before it had all: the answer says why."""


@contextmanager
def connected(agent: Agent) -> Iterator[Connection]:
    """A connection to the agent; when it breaks, that is a CliError."""
    connection = agent.connect()
    try:
        yield connection
    except (ConnectionError, ConnectionBroken, TimeoutError) as error:
        raise agent.broken(error) from error
    finally:
        connection.close()


@contextmanager
def refusable() -> Iterator[None]:
    """Ends early when the other side has answered, or hung up, before it had all: its answer says why."""
    with suppress(Refused, BrokenPipeError, ConnectionResetError):
        yield


def accepted(agent: Agent, response: Response) -> bytes:
    """The content of an answer of success. Raises AgentError for another one."""
    content = response.read_all()
    if response.status != 200:
        raise agent.refused(response.status, content)
    return content


def pieces_of(fd: int) -> Iterator[bytes]:
    """What can be read from there until its end, as it comes."""
    while piece := os.read(fd, PIECE_BYTES):
        yield piece


def write(agent: Agent, target: str, pieces: Iterable[bytes], timeout_s: float | None = ANSWER_S) -> dict[str, Any]:
    """Makes the file `target` of these pieces, or replaces its content; returns what the agent says of it.

    Missing parents are made; a file that exists keeps owner and mode. Raises AgentError when the agent refuses. The
    agent may take `timeout_s` for each piece: None when whoever feeds us may take his time.
    """
    with connected(agent) as connection, Progress("uploaded") as progress:
        connection.socket.settimeout(timeout_s)
        connection.begin("POST", agent.file_target(target), agent.file_headers(Content_Type=BYTES), None)
        with refusable():
            for piece in pieces:
                connection.send_chunk(piece)
                progress.add(len(piece))
                if connection.answered():
                    raise Refused
            connection.end_chunks()
        written: dict[str, Any] = agent.decoded(accepted(agent, connection.response()))[0]
        return written


def read(agent: Agent, source: str) -> Iterator[bytes]:
    """The content of the file `source`. Raises AgentError when the agent refuses, CliError when it breaks off."""
    with connected(agent) as connection, Progress("downloaded") as progress:
        response = connection.request("GET", agent.file_target(source), agent.file_headers(Accept=BYTES))
        if response.status != 200:
            accepted(agent, response)
        while piece := response.read(PIECE_BYTES):
            yield piece
            progress.add(len(piece))
