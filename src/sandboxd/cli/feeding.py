"""Our standard input becomes that of the remote process: read and sent by a thread, at the process's pace.

The agent takes no more while the process does not read, so the connection fills, and this thread waits in `send`.
"""

import os
import select
import stat
import threading
from collections.abc import Callable

from sandboxd.cli.agent import KEEPALIVE_S, Agent, AgentError
from sandboxd.cli.exits import CliError
from sandboxd.cli.inputs import KEEPALIVE, InputStream, takes_no_more

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
            if not takes_no_more(error):
                self.failure = str(error)
        except (CliError, OSError) as error:
            self.failure = str(error)
        if self.failure:
            self._failed()

    def _feed(self) -> None:
        stream: InputStream | None = None
        try:
            while True:
                readable = select.select([self._fd], [], [], KEEPALIVE_S)[0]
                if not readable:
                    if stream is not None:
                        stream.connection.socket.sendall(KEEPALIVE)
                    continue
                piece = os.read(self._fd, PIECE_BYTES)
                if not piece:
                    break
                if stream is None:  # not before there is input: many commands never get any
                    stream = InputStream(self._agent, self._pid, "stdin")
                _send(stream, piece)
            if stream is not None:
                stream.connection.end_chunks()
                stream.answer()
        finally:
            if stream is not None:
                stream.close()
        self._agent.call("process.Process/CloseStdin", {"process": {"pid": self._pid}})


def _send(stream: InputStream, piece: bytes) -> None:
    try:
        stream.connection.socket.sendall(stream.message(piece))
    except OSError:
        stream.answer()  # it says why, if it can still be read
        raise
    if stream.connection.answered():
        stream.answer()
