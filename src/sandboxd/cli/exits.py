"""The exit codes of `docker-sandbox`, and the error that carries one. Part of the interface: scripts test them."""

from sandboxd.errors import SandboxdError

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
UNREACHABLE = 4
BUSY = 5
TIMED_OUT = 124
SIGNALLED = 128  # plus the number of the signal

LEGEND = """\
exit codes:
  0    done
  1    refused or failed; the message says why
  2    wrong usage
  3    no such sandbox or template
  4    the service or the gateway of this host cannot be reached
  5    the host is full or busy, or a part of it does not answer; try again later"""

EXEC_LEGEND = f"""{LEGEND}
  124  --timeout ended the command
  n    otherwise the command's own exit code; 128 + n when signal n ended it, 130 after Ctrl-C
A command may end with 1 to 5 itself; then there is no message that begins with "docker-sandbox: error:"."""


SHELL_LEGEND = f"""{LEGEND}
  129  left with Enter ~ . or by closing the terminal
  n    otherwise the program's own exit code; 128 + n when signal n ended it"""


class CliError(SandboxdError):
    """What the user gets to read, and the exit code that goes with it."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
