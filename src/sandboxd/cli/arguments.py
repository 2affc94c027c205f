"""From the words that were typed to the options of a verb. Parses; does nothing."""

import argparse
import sys
from typing import NoReturn

from sandboxd.cli import verbs
from sandboxd.cli.exits import LEGEND, USAGE
from sandboxd.cli.verbs import AS_IT_IS, NAMES, PROGRAM, Noun, Parser, aliases


def parse(arguments: list[str]) -> argparse.Namespace:
    """The arguments with `verb`, the whole name of the verb, among them, whatever alias was typed.

    Exits, as argparse does, for --help (0) and wrong usage (2).
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(), end="", file=sys.stdout if arguments else sys.stderr)
        raise SystemExit(0 if arguments else USAGE)
    word, *rest = arguments
    name = "version" if word == "--version" else aliases.meaning(word)
    if actions := aliases.actions(name):
        name, rest = chosen(name, actions, rest)
    elif name not in NAMES:
        refuse(f"{name!r} is no verb. Verbs: {', '.join(NAMES)}", PROGRAM)
    parser = verb_parser(name)
    # Intermixed: else flags between an argument and one that may be left out, as of `shell`, would separate the two.
    return parser.parse_intermixed_args(joined(rest, parser.texts), argparse.Namespace(verb=name))


def chosen(word: str, actions: dict[str, str], rest: list[str]) -> tuple[str, list[str]]:
    """The verb that `word` and an action mean, and what follows them. Flags may stand between the two."""
    at = next((index for index, typed in enumerate(rest) if not typed.startswith("-")), None)
    if at is not None and rest[at] in actions:
        return actions[rest[at]], rest[:at] + rest[at + 1 :]
    if {"-h", "--help"} & set(rest):
        print(noun_help(word, actions), end="")
        raise SystemExit(0)
    wrong = "an action is missing" if at is None else f"{rest[at]!r} is no action"
    refuse(f"{word}: {wrong}. Actions: {', '.join(actions)}", f"{PROGRAM} {word}")


def refuse(message: str, program: str) -> NoReturn:
    print(f"{PROGRAM}: error: {message}. See: {program} --help", file=sys.stderr)
    raise SystemExit(USAGE)


def joined(words: list[str], texts: set[str]) -> list[str]:
    """Each flag that takes a text becomes one word with it, marked: argparse would see flags in a text like `-x`."""
    result, left = [], iter(words)
    for word in left:
        flag, equals, value = word.partition("=")
        if flag in texts:
            text = value if equals else next(left, None)
            result.append(flag if text is None else f"{flag}={AS_IT_IS}{text}")
        else:
            result.append(word)
        if word == "--":
            break
    return [*result, *left]


def verb_parser(name: str) -> Parser:
    """The parser of the verb of that whole name."""
    verb = verbs.find(name)
    parser = Parser(
        f"{PROGRAM} {name}",
        description=verb.summary,
        epilog=f"examples:\n{verb.examples}\n\n{verb.legend}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_arguments(parser)
    return parser


def noun_help(word: str, actions: dict[str, str]) -> str:
    about = verbs.declared(word).summary if word in NAMES else aliases.NOUNS[word]
    return (
        f"usage: {PROGRAM} {word} ACTION ...\n\n{about}\n\n"
        f"actions:\n{listed({action: aliases.summary(word, action) for action in actions})}\n\n"
        f"`{PROGRAM} {word} ACTION --help` shows flags and examples.\n\n{LEGEND}\n"
    )


def overview() -> str:
    lines = {}
    for word in NAMES:
        found = verbs.declared(word)
        about = found.summary.partition("\n")[0]
        lines[word] = f"{about} Actions: {', '.join(found.actions)}." if isinstance(found, Noun) else about
    return (
        f"usage: {PROGRAM} VERB ...\n\nMakes, uses and removes disposable sandboxes on this host.\n\n"
        f"verbs:\n{listed(lines)}\n\nother names, as other command lines have them:\n{aliases.legend()}\n\n"
        "An ID may be shortened as long as it is unique. "
        f"`{PROGRAM} VERB --help` shows flags and examples.\n\n{LEGEND}\n"
    )


def listed(lines: dict[str, str]) -> str:
    width = max(10, *(len(name) for name in lines))
    return "\n".join(f"  {name:<{width}} {text}" for name, text in lines.items())
