"""What may stand where in a command line, as a value: made from the declarations, turned into scripts beside this.

A kind says what completes a word: "sandbox" the ids of this host, "file" the files of this machine, "words:a b"
one of these, "any" nothing.
"""

import argparse
from typing import NamedTuple

from sandboxd.cli.arguments import verb_parser
from sandboxd.cli.verbs import NAMES, aliases, declared, every_name

PROGRAMS = ("docker-sandbox", "docker-sandbox-cli.sh")
KINDS = {"ID": "sandbox", "LOCAL": "file"}  # by metavar
TEMPLATE = "T"  # the metavar of a template's name


class Flag(NamedTuple):
    """`names` are -r and --recursive; `kind` is that of its value, "" of a switch."""

    names: tuple[str, ...]
    about: str
    kind: str


class Command(NamedTuple):
    """A verb under all its names; `places` are the kinds of its words that are no flags, of which the last may be
    repeated when there are `many`."""

    names: tuple[str, ...]
    flags: tuple[Flag, ...]
    places: tuple[str, ...]
    many: bool


class Model(NamedTuple):
    """`words` are those that may follow a word, "" the first one, each with a line about it."""

    words: dict[str, dict[str, str]]
    commands: tuple[Command, ...]


def of_all_verbs(templates: list[str]) -> Model:
    """`templates` are the names that --template takes."""
    words = {"": {word: declared(word).summary.partition("\n")[0] for word in NAMES}}
    for word in (*NAMES, *aliases.NOUNS):
        if actions := aliases.actions(word):
            words[word] = {action: aliases.summary(word, action) for action in actions}
    return Model(words, tuple(command(name, templates) for name in every_name()))


def command(name: str, templates: list[str]) -> Command:
    others = (alias for alias, meant in aliases.offered().items() if meant == name)
    declared_here = verb_parser(name)._actions  # argparse shows them to nobody, and no one else knows the flags
    words = [action for action in declared_here if not action.option_strings]
    flags = (
        Flag(tuple(action.option_strings), action.help or "", "" if action.nargs == 0 else kind(action, templates))
        for action in declared_here
        if action.option_strings
    )
    return Command(
        (name, *others),
        tuple(flags),
        tuple(kind(action, templates) for action in words),
        many=bool(words) and words[-1].nargs in ("+", "*"),
    )


def kind(action: argparse.Action, templates: list[str]) -> str:
    if action.choices is not None:
        return f"words:{' '.join(action.choices)}"
    metavar = str(action.metavar)
    return f"words:{' '.join(templates)}" if metavar == TEMPLATE else KINDS.get(metavar, "any")


def long_names(flag: Flag) -> list[str]:
    """Those that are offered: one that is written out explains itself."""
    return [name for name in flag.names if name.startswith("--")]
