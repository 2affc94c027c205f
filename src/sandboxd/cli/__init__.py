"""The command line `docker-sandbox`: `main` picks the verb's module, and turns errors into messages and exit codes.

The whole process should take less than 90 ms, most of it Python's start. So modules are imported when their verb is
called, and nothing here or below imports what the daemon needs.
"""

import os
import sys
from importlib import import_module

from sandboxd.cli import verbs
from sandboxd.cli.arguments import parse
from sandboxd.cli.exits import FAILED, SIGNALLED, CliError
from sandboxd.cli.output import ReaderGone
from sandboxd.cli.verbs import PROGRAM

SIGINT, SIGPIPE = 2, 13


def main(arguments: list[str] | None = None, *, config: str) -> int:
    """Runs one command and returns its exit code. `config` is the file that the deploy rendered."""
    open_standard_streams()
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        code: int = import_module(f"sandboxd.cli.{verbs.find(options.verb).module}").run(options, config)
        sys.stdout.flush()
        return code
    except CliError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return error.exit_code
    except (BrokenPipeError, ReaderGone):
        sys.stdout = None  # else Python complains at its end about what it cannot write
        return SIGNALLED + SIGPIPE
    except OSError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # it was about standard output
            sys.stdout = None
        return FAILED
    except KeyboardInterrupt:
        return SIGNALLED + SIGINT


def open_standard_streams() -> None:
    """Whichever was closed by our caller (`<&-`) becomes /dev/null: else the next socket would take its number."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(opened, "r" if fd == 0 else "w"))
