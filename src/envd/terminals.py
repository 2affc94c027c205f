"""Pseudo-terminals: opened for a user, resized, hung up. Touches /dev/ptmx, and signals the processes of a session."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from envd.users import User

# For programs in a terminal, where image, sandbox and request say nothing: what E2B's clients ask for.
TERMINAL_ENVIRONMENT: Mapping[str, str] = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}


def open_terminal(user: User, size: tuple[int, int]) -> tuple[IO[bytes], int]:
    """A terminal of `size` (columns, rows) that belongs to `user`: the agent's end, non-blocking, and the process's."""
    agent_end, process_end = os.openpty()
    try:
        resize(agent_end, *size)
        os.fchown(process_end, user.uid, -1)
        os.set_blocking(agent_end, False)
    except BaseException:
        os.close(agent_end)
        os.close(process_end)
        raise
    return os.fdopen(agent_end, "rb", buffering=0), process_end


def resize(fd: int, columns: int, rows: int) -> None:
    """The kernel tells the foreground processes by SIGWINCH, if that is a change."""
    import termios  # here, because few sandboxes ever open a terminal: it stays out of the idle agent's memory

    termios.tcsetwinsize(fd, (rows, columns))


def hang_up(session: int) -> None:
    """Tell every process of a session that its terminal is gone, as the leader, a shell, would tell its jobs.

    When the leader dies the kernel tells the job in the foreground, and no other.
    """
    for name in os.listdir("/proc"):
        with suppress(ValueError, ProcessLookupError, PermissionError):  # no process; gone; not ours
            pid = int(name)
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGHUP)
                os.kill(pid, signal.SIGCONT)  # a stopped job hears nothing before it goes on
