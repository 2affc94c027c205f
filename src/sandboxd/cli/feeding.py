"""Our standard input becomes that of the remote process: read and sent by a thread, at the process's pace.

The agent takes no more while the process does not read, so the connection fills, and this thread waits in `send`.
"""

import binascii
import os
import select
import stat
import threading
from collections.abc import Callable

from sandboxd.cli.agent import KEEPALIVE_S, Agent, AgentError, check_trailer, envelope, read_envelope
from sandboxd.cli.exits import CliError
from sandboxd.cli.http1 import Connection

PIECE_BYTES = 64 * 1024


def wanted(fd: int) -> bool:
    """Whether there is something to pass on: not a terminal, not /dev/null, not closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    null = os.stat(os.devnull)
    return not os.isatty(fd) and not (stat.S_ISCHR(found.st_mode) and found.st_rdev == null.st_rdev)


class Feeder:
    """Feeds process `pid` from `fd`. `failure` is why not all of it arrived; then `failed` is called, in the thread."""

    def __init__(self, agent: Agent, fd: int, pid: int, failed: Callable[[], None]) -> None:
        self.failure = ""
        self._agent, self._fd, self._pid, self._failed = agent, fd, pid, failed
        self._thread = threading.Thread(target=self._run, name="stdin", daemon=True)

    def start(self) -> None:
        """The thread is a daemon: when the process ends, nobody waits for input that may never come."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self._feed()
        except AgentError as error:
            # The process, or its standard input, is gone: a writer to a pipe learns it by SIGPIPE.
            if error.code != "not_found" and not str(error).startswith("error writing to stdin"):
                self.failure = str(error)
        except (CliError, OSError) as error:
            self.failure = str(error)
        if self.failure:
            self._failed()

    def _feed(self) -> None:
        connection: Connection | None = None
        try:
            while True:
                readable = select.select([self._fd], [], [], KEEPALIVE_S)[0]
                if not readable:
                    if connection is not None:
                        connection.send_chunk(envelope({"keepalive": {}}))
                    continue
                piece = os.read(self._fd, PIECE_BYTES)
                if not piece:
                    break
                if connection is None:  # not before there is input: many commands never get any
                    connection = self._open()
                self._send(connection, piece)
            if connection is not None:
                connection.end_chunks()
                self._finish(connection)
        finally:
            if connection is not None:
                connection.close()
        self._agent.call("process.Process/CloseStdin", {"process": {"pid": self._pid}})

    def _open(self) -> Connection:
        connection = self._agent.connect()
        connection.socket.settimeout(None)  # a process may take its time
        connection.begin(
            "POST", "/process.Process/StreamInput", self._agent.headers("application/connect+json"), length=None
        )
        connection.send_chunk(envelope({"start": {"process": {"pid": self._pid}}}))
        return connection

    def _send(self, connection: Connection, piece: bytes) -> None:
        data = binascii.b2a_base64(piece, newline=False).decode()
        try:
            connection.send_chunk(envelope({"data": {"input": {"stdin": data}}}))
        except OSError:
            self._finish(connection)  # it says why, if it can still be read
            raise
        if connection.answered():
            self._finish(connection)

    def _finish(self, connection: Connection) -> None:
        """Reads the answer to the stream: once everything was written to the process, or when it refuses more."""
        response = connection.response()
        if response.status != 200:
            raise self._agent.refused(response.status, response.read_all())
        flags, message = read_envelope(response)
        if flags == 0:
            flags, message = read_envelope(response)
        check_trailer(message)
