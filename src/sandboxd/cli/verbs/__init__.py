"""What can be typed, verb by verb: flags, examples, exit codes. One module for each group of verbs; data, no effects.

A verb has one word, such as `init`, or two: a noun and an action, such as `files ls`. Only the module of the verb that
was typed is imported: all of them would cost more than the request itself.
"""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from sandboxd.cli.exits import LEGEND, USAGE

PROGRAM = "docker-sandbox"
DIRECTORY = "the sandbox's directory (/code; /home/user if a key made it)"  # as help texts say it
GROUPS = {
    "lifecycle": (
        "init",
        "kill",
        "get-host",
        "access",
        "list",
        "info",
        "pause",
        "resume",
        "stop",
        "start",
        "extend",
        "resize",
        "network",
    ),
    "watch": ("logs", "stats", "doctor", "metrics", "audit"),
    "inside": ("exec", "shell", "upload", "download"),
    "files": ("files",),
    "browser": ("browser-test",),
    "templates": ("snapshot", "template"),
    "volumes": ("volume",),
    "keys": ("key",),
    "nodes": ("node",),
    "backup": ("backup", "restore"),
    "host": ("pool", "cleanup", "routes", "ca", "completion", "version"),
}
# Marks a text as such before argparse sees it; no word of a command line can have it.
AS_IT_IS = "\0"
# The first words of all verbs.
NAMES = tuple(name for names in GROUPS.values() for name in names)


class Parser(argparse.ArgumentParser):
    """Errors in the form of all our errors. `texts` are the flags that `text_flag` has added."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.texts: set[str] = set()
        super().__init__(*arguments, **options)

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


class Noun(NamedTuple):
    """The first word of verbs that have two, what it is about in one line, and each verb by its second word."""

    summary: str
    actions: dict[str, Verb]


def declared(word: str) -> Verb | Noun:
    """What begins with that word, which is one of NAMES."""
    group = next(group for group, names in GROUPS.items() if word in names)
    found: Verb | Noun = import_module(f"sandboxd.cli.verbs.{group}").VERBS[word]
    return found


def find(name: str) -> Verb:
    """The verb of that whole name, such as "init" or "files ls". Raises KeyError when there is none."""
    word, _, action = name.partition(" ")
    found = declared(word)
    if isinstance(found, Noun):
        return found.actions[action]
    if action:
        raise KeyError(name)
    return found


def every_name() -> list[str]:
    """The whole names of all verbs."""
    names = []
    for word in NAMES:
        found = declared(word)
        names += [f"{word} {action}" for action in found.actions] if isinstance(found, Noun) else [word]
    return names


def json_flag(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def id_argument(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="the sandbox, as `init` printed it, or the beginning of it")


def user_flag(parser: Parser, what: str) -> None:
    parser.add_argument("--user", metavar="U", default="", help=f"{what} (default: the sandbox's user)")


def text_flag(parser: Parser, flag: str, help_text: str, required: bool = False) -> None:
    """A flag whose value is any text, also one that looks like a flag, such as `--old -x`."""
    parser.texts.add(flag)
    parser.add_argument(
        flag, metavar="TEXT", required=required, help=help_text, type=lambda text: text.removeprefix(AS_IT_IS)
    )
