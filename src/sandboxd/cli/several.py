"""Verbs that take several names try all of them, whatever fails."""

from collections.abc import Callable, Iterable

from sandboxd.cli import printing
from sandboxd.cli.exits import OK, CliError


def each(names: Iterable[str], act: Callable[[str], object]) -> tuple[list[str], int]:
    """Complains of each failure. Returns the names of which `act` raised no CliError, and the first failure's code."""
    done, code = [], OK
    for name in names:
        try:
            act(name)
            done.append(name)
        except CliError as error:
            printing.complain(str(error))
            code = code or error.exit_code
    return done, code
