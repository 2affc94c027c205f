"""The exit codes are an interface: scripts test them."""

import re

from sandboxd.cli import exits
from sandboxd.cli.exits import EXEC_LEGEND, LEGEND, CliError
from sandboxd.errors import SandboxdError


def test_the_codes() -> None:
    codes = (exits.OK, exits.FAILED, exits.USAGE, exits.NOT_FOUND, exits.UNREACHABLE, exits.BUSY)
    assert codes == (0, 1, 2, 3, 4, 5) and (exits.TIMED_OUT, exits.SIGNALLED) == (124, 128)


def test_the_legends_name_them_all() -> None:
    assert re.findall(r"^  (\d+)", LEGEND, re.MULTILINE) == ["0", "1", "2", "3", "4", "5"]
    assert EXEC_LEGEND.startswith(LEGEND) and "\n  124  " in EXEC_LEGEND


def test_an_error_carries_its_code() -> None:
    error = CliError("what", exits.BUSY)
    assert isinstance(error, SandboxdError) and (str(error), error.exit_code) == ("what", 5)
    assert CliError("what").exit_code == 1
