"""How a command becomes a child process: its environment, directory, user and pipes. Starts processes, no more."""

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, TypedDict

from envd.config import OWN_VARIABLES, AgentConfig
from envd.errors import EnvdError, invalid_argument, not_found
from envd.identity import is_own
from envd.terminals import TERMINAL_ENVIRONMENT, open_terminal
from envd.users import User, expand_path

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SETSID = "/usr/bin/setsid"  # util-linux; gives the terminal to the command without a Python hook between fork and exec
OOM_SCORE = "/proc/self/oom_score_adj"
CHILD_OOM_SCORE = 500  # as if a child used half of the memory more: it is killed before the agent

log = logging.getLogger("envd")


@dataclass(frozen=True)
class Command:
    """What a client asked to run. `terminal_size` (columns, rows) asks for a pseudo-terminal instead of pipes."""

    cmd: str
    args: tuple[str, ...] = ()
    envs: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    stdin: bool = True
    terminal_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Child:
    """A started process and the agent's ends of its pipes, all non-blocking."""

    popen: subprocess.Popen[bytes]
    outputs: Mapping[str, IO[bytes]]
    input: IO[bytes] | None
    has_terminal: bool


def environment(image: Mapping[str, str], config: AgentConfig, user: User, envs: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process: the image's, the user's, the sandbox's, the request's; later ones win.

    `image` is the agent's own environment, from which its virtual environment and its token are left out.
    """
    own_bin = os.path.join(sys.prefix, "bin")
    path = [part for part in image.get("PATH", DEFAULT_PATH).split(os.pathsep) if part != own_bin]
    kept = {name: value for name, value in image.items() if name not in (*OWN_VARIABLES, "VIRTUAL_ENV")}
    account = {"HOME": user.home, "USER": user.name, "LOGNAME": user.name}
    return {**kept, "PATH": os.pathsep.join(path), **account, **config.sandbox_envs(), **envs}


def working_directory(requested: str | None, config: AgentConfig, user: User) -> str:
    """The requested directory, which must exist; without a request the first usable of workdir, home and /."""
    if not requested:
        candidates = (path for path in (config.workdir, user.home) if path and os.path.isdir(path))
        return next((path for path in candidates if os.access(path, os.X_OK)), "/")
    path = expand_path(requested, user, config.workdir)
    if not os.path.isdir(path):
        raise invalid_argument(f"cwd '{path}' does not exist")
    return path


def spawn(command: Command, user: User, config: AgentConfig) -> Child:
    """Start `command` as the leader of its own session."""
    env = environment(os.environ, config, user, command.envs)
    cwd = working_directory(command.cwd, config, user)
    try:
        with expendable():
            if command.terminal_size is not None:
                return _spawn_in_terminal(command, command.terminal_size, user, env, cwd)
            return _spawn_with_pipes(command, user, env, cwd)
    except FileNotFoundError:
        raise not_found(f"program '{command.cmd}' not found") from None
    except PermissionError:
        raise EnvdError("permission_denied", f"program '{command.cmd}' must not be executed by '{user.name}'") from None
    except ValueError as error:  # a null byte, or an environment variable with "=" in its name
        raise invalid_argument(f"cannot start '{command.cmd}': {error}") from None
    except OSError as error:  # no memory or no process left in the sandbox
        if error.errno in (errno.E2BIG, errno.ENOEXEC, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
            raise invalid_argument(f"cannot start '{command.cmd}': {error.strerror}") from None
        raise EnvdError("resource_exhausted", f"cannot start '{command.cmd}': {error.strerror}") from None


class Credentials(TypedDict, total=False):
    """Arguments of Popen."""

    user: int
    group: int
    extra_groups: tuple[int, ...]


def credentials(user: User) -> Credentials:
    """What makes a child the user's; nothing when it is so anyway, for only root may ask for it."""
    return {} if is_own(user) else {"user": user.uid, "group": user.gid, "extra_groups": user.groups}


@contextmanager
def expendable() -> Iterator[None]:
    """What is started inside is killed before the agent when memory runs out.

    The score is inherited, so the agent takes the higher one for that moment: no grandchild can slip through. Only for
    the thread of the event loop, because two at a time would keep each other's score.
    """
    try:
        with open(OOM_SCORE) as file:
            own = file.read()
        _write_score(str(max(int(own), CHILD_OOM_SCORE)))
    except OSError as error:
        log.warning("the processes of this sandbox are as important as its agent: %s", error)
        yield
        return
    try:
        yield
    finally:
        try:
            _write_score(own)
        except OSError as error:
            log.warning("the agent is no more important than what it starts: %s", error)


def _write_score(score: str) -> None:
    with open(OOM_SCORE, "w") as file:
        file.write(score)


def _spawn_with_pipes(command: Command, user: User, env: dict[str, str], cwd: str) -> Child:
    popen = subprocess.Popen(
        [command.cmd, *command.args],
        bufsize=0,
        stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=env,
        start_new_session=True,
        **credentials(user),
    )
    outputs = {name: pipe for name, pipe in (("stdout", popen.stdout), ("stderr", popen.stderr)) if pipe is not None}
    for pipe in (popen.stdin, *outputs.values()):
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
    return Child(popen, outputs, popen.stdin, has_terminal=False)


def _spawn_in_terminal(command: Command, size: tuple[int, int], user: User, env: dict[str, str], cwd: str) -> Child:
    with ExitStack() as on_failure:
        terminal, process_end = open_terminal(user, size)
        on_failure.callback(terminal.close)
        try:
            keyboard = os.fdopen(os.dup(terminal.fileno()), "wb", buffering=0)  # the loop watches each of them apart
            on_failure.callback(keyboard.close)
            popen = subprocess.Popen(
                [SETSID, "--ctty", command.cmd, *command.args],
                stdin=process_end,
                stdout=process_end,
                stderr=process_end,
                cwd=cwd,
                env={**TERMINAL_ENVIRONMENT, **env},
                **credentials(user),
            )
        finally:
            os.close(process_end)
        on_failure.pop_all()
    return Child(popen, {"pty": terminal}, keyboard, has_terminal=True)
