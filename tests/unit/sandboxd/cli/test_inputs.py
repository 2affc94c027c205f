"""The request that carries input, against the real agent; see also feeding and keyboard, which use it."""

from typing import Any

import pytest

from sandboxd.cli.agent import Agent, AgentError
from sandboxd.cli.inputs import KEEPALIVE, InputStream, takes_no_more


@pytest.mark.parametrize(("kind", "how"), [("stdin", {"stdin": True}), ("pty", {"pty": {}})])
def test_input_of_both_kinds(client: Agent, kind: str, how: dict[str, Any]) -> None:
    connection = client.connect()
    process = {"cmd": "/bin/sh", "args": ["-c", 'read line; echo "got $line"']}
    events = client.start(connection, {"process": process, **how})
    stream = InputStream(client, next(events)["start"]["pid"], kind)
    for piece in (stream.message(b"wo"), KEEPALIVE, stream.message(b"rd\n")):
        stream.connection.socket.sendall(piece)
    stream.connection.end_chunks()
    stream.answer()
    stream.close()
    assert list(events)[-1]["end"]["exited"]
    connection.close()


def test_a_refusal_says_why(client: Agent) -> None:
    stream = InputStream(client, 2**31 - 1, "pty")
    with pytest.raises(AgentError) as caught:
        stream.answer()
    stream.close()
    assert takes_no_more(caught.value) and "not found" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (AgentError("process with pid 9 not found", "not_found"), True),
        (AgentError("error writing to stdin: stdin not enabled or closed", "internal"), True),
        (AgentError("message is larger than 4 bytes", "resource_exhausted"), False),
        (AgentError("error writing to a terminal: the process has stdin instead", "internal"), False),
    ],
)
def test_which_refusals_mean_that_nobody_reads(error: AgentError, gone: bool) -> None:
    assert takes_no_more(error) is gone
