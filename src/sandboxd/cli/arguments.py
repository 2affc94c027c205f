"""From the words that were typed to the options of a verb. Parses; does nothing."""

import argparse
import sys

from sandboxd.cli import verbs
from sandboxd.cli.exits import LEGEND, USAGE
from sandboxd.cli.verbs import NAMES, PROGRAM, Parser


def parse(arguments: list[str]) -> argparse.Namespace:
    """The arguments with `verb` among them. Exits, as argparse does, for --help (0) and wrong usage (2)."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(), end="", file=sys.stdout if arguments else sys.stderr)
        raise SystemExit(0 if arguments else USAGE)
    name, *rest = arguments
    if name == "--version":
        name = "version"
    if name not in NAMES:
        print(
            f"{PROGRAM}: error: {name!r} is no verb. Verbs: {', '.join(NAMES)}. See: {PROGRAM} --help", file=sys.stderr
        )
        raise SystemExit(USAGE)
    # Intermixed: else flags between an argument and one that may be left out, as of `shell`, would separate the two.
    return verb_parser(name).parse_intermixed_args(rest, argparse.Namespace(verb=name))


def verb_parser(name: str) -> Parser:
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


def overview() -> str:
    lines = "\n".join(f"  {name:<10} {verbs.find(name).summary.partition(chr(10))[0]}" for name in NAMES)
    return (
        f"usage: {PROGRAM} VERB ...\n\nMakes, uses and removes disposable sandboxes on this host.\n\n"
        f"verbs:\n{lines}\n\nAn ID may be shortened as long as it is unique. "
        f"`{PROGRAM} VERB --help` shows flags and examples.\n\n{LEGEND}\n"
    )
