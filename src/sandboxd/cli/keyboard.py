"""What is typed: the escape that leaves is taken out, the rest goes to the process, and nothing here ever waits."""

import socket
import time

from sandboxd.cli.agent import KEEPALIVE_S, Agent, AgentError
from sandboxd.cli.inputs import KEEPALIVE, InputStream, takes_no_more

ENTER = b"\r\n"
PENDING_BYTES = 1024 * 1024  # of a paste that the process does not read: then the keyboard has to wait


class Escapes:
    """Finds "~." at the beginning of a line, as `ssh` does; "~~" there is one "~". Other keys pass."""

    def __init__(self) -> None:
        self._line_begins = True
        self._held = False  # a "~" of which it is not known yet what it means

    def take(self, keys: bytes) -> tuple[bytes, bool]:
        """The keys that pass, and whether to leave: then those after the escape are dropped."""
        if not self._held and not self._line_begins and b"~" not in keys:  # a large paste
            self._line_begins = keys[-1:] in (b"\r", b"\n")
            return keys, False
        passed = bytearray()
        for key in keys:
            if self._held:
                self._held = False
                if key == ord("."):
                    return bytes(passed), True
                passed += b"~" if key == ord("~") else b"~" + bytes([key])
            elif self._line_begins and key == ord("~"):
                self._held = True
                continue
            else:
                passed.append(key)
            self._line_begins = key in ENTER
        return bytes(passed), False


class Keyboard:
    """The way to the terminal of process `pid`. Wait for it as for a file, to write while `pending` and always to
    read; then call `send`, or `read_answer`. Those raise OSError when the connection breaks."""

    def __init__(self, agent: Agent, pid: int) -> None:
        self._stream = InputStream(agent, pid, "pty")
        self._socket = self._stream.connection.socket
        self._pending = bytearray()
        self._keepalive_at = time.monotonic() + KEEPALIVE_S
        self.open = True

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    @property
    def full(self) -> bool:
        return len(self._pending) >= PENDING_BYTES

    def type(self, keys: bytes) -> None:
        if self.open and keys:
            self._pending += self._stream.message(keys)
            self.send()

    def keep_alive(self) -> float:
        """Call it now and then. Returns after how many seconds it wants to be called again."""
        now = time.monotonic()
        if self.open and now >= self._keepalive_at and not self._pending:
            self._pending += KEEPALIVE
            self.send()
            self._keepalive_at = now + KEEPALIVE_S
        return max(0.0, self._keepalive_at - now) or KEEPALIVE_S

    def send(self) -> None:
        """As much as the connection takes now."""
        try:
            while self._pending:
                del self._pending[: self._socket.send(self._pending, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            pass
        except OSError:
            self.read_answer()  # it says why, if it can still be read
            if self.open:
                raise

    def read_answer(self) -> None:
        """The agent wants no more: since the process has gone, of which another stream tells; else AgentError."""
        try:
            self._stream.answer()
        except AgentError as error:
            if not takes_no_more(error):
                raise
        self.close()

    def close(self) -> None:
        self.open = False
        self._pending.clear()
        self._stream.close()
