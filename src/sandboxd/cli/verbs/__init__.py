"""What can be typed, verb by verb: flags, examples, exit codes. One module for each group of verbs; data, no effects.

Only the module of the verb that was typed is imported: all of them would cost more than the request itself.
"""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, NoReturn

from sandboxd.cli.exits import LEGEND, USAGE

PROGRAM = "docker-sandbox"
GROUPS = {
    "lifecycle": ("init", "kill", "get-host", "list", "info"),
    "inside": ("exec", "shell", "upload", "download"),
    "host": ("pool", "cleanup", "routes", "version"),
}
NAMES = tuple(name for names in GROUPS.values() for name in names)


class Parser(argparse.ArgumentParser):
    """Errors in the form of all our errors."""

    def error(self, message: str) -> NoReturn:
        print(f"{PROGRAM}: error: {message}. See: {self.prog} --help", file=sys.stderr)
        self.exit(USAGE)


class Verb(NamedTuple):
    """`module` is the one in `sandboxd.cli` whose `run` does it; `summary` is one line, or more for --help alone."""

    module: str
    summary: str
    add_arguments: Callable[[Parser], None]
    examples: str
    legend: str = LEGEND


def find(name: str) -> Verb:
    """The verb of that name, which is one of NAMES."""
    group = next(group for group, names in GROUPS.items() if name in names)
    verb: Verb = import_module(f"sandboxd.cli.verbs.{group}").VERBS[name]
    return verb


def json_flag(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def id_argument(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="the sandbox, as `init` printed it, or the beginning of it")


def user_flag(parser: Parser, what: str) -> None:
    parser.add_argument("--user", metavar="U", default="", help=f"{what} (default: the sandbox's user)")
