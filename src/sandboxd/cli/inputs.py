"""The request that carries input to a process of a sandbox: one stream, open as long as input may come."""

import binascii

from sandboxd.cli.agent import Agent, AgentError, check_trailer, envelope, read_envelope
from sandboxd.cli.http1 import chunk

KEEPALIVE = chunk(envelope({"keepalive": {}}))


class InputStream:
    """Input for process `pid` of the kind "stdin" or "pty". `connection` waits without limit: a process may take its
    time, and the agent takes no more than it does."""

    def __init__(self, agent: Agent, pid: int, kind: str) -> None:
        self._agent, self._kind = agent, kind
        self.connection = agent.connect()
        self.connection.socket.settimeout(None)
        headers = agent.headers("application/connect+json")
        self.connection.begin("POST", "/process.Process/StreamInput", headers, length=None)
        self.connection.send_chunk(envelope({"start": {"process": {"pid": pid}}}))

    def message(self, piece: bytes) -> bytes:
        """What has to be sent for a piece of input."""
        data = binascii.b2a_base64(piece, newline=False).decode()
        return chunk(envelope({"data": {"input": {self._kind: data}}}))

    def answer(self) -> None:
        """Read the answer: once everything was written to the process, or when it takes no more (AgentError)."""
        response = self.connection.response()
        if response.status != 200:
            raise self._agent.refused(response.status, response.read_all())
        flags, message = read_envelope(response)
        if flags == 0:
            flags, message = read_envelope(response)
        check_trailer(message)

    def close(self) -> None:
        self.connection.close()


def takes_no_more(error: AgentError) -> bool:
    """Whether an answer says that the process, or its input, is gone: a writer to a pipe learns it by SIGPIPE."""
    return error.code == "not_found" or str(error).startswith("error writing to stdin")
