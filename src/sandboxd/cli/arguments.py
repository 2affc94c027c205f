"""What can be typed: the verbs with their flags, examples and exit codes. Parses; does nothing.

Only the parser of the verb that was typed is built: all of them would cost more than the request itself.
"""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from sandboxd.cli.exits import EXEC_LEGEND, LEGEND, USAGE
from sandboxd.cli.values import age, duration, pair, port

PROGRAM = "docker-sandbox"
COPY_RULES = """\
Copies like `cp -r`: a target that does not exist becomes the copy (missing parents are made); into a target that is a
directory the copy goes under its own name, where it overwrites files and joins directories; `SOURCE/.` copies what is
inside SOURCE; a file goes into a target that ends in "/". File modes are kept."""


class Parser(argparse.ArgumentParser):
    """Errors in the form of all our errors."""

    def error(self, message: str) -> NoReturn:
        print(f"{PROGRAM}: error: {message}. See: {self.prog} --help", file=sys.stderr)
        self.exit(USAGE)


class Verb(NamedTuple):
    """`actions` are the words that may follow the verb, such as `start` after `pool`."""

    module: str
    summary: str
    add_arguments: Callable[[Parser], None]
    examples: str
    legend: str = LEGEND


def parse(arguments: list[str]) -> argparse.Namespace:
    """The arguments with `verb` among them. Exits, as argparse does, for --help (0) and wrong usage (2)."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(), end="", file=sys.stdout if arguments else sys.stderr)
        raise SystemExit(0 if arguments else USAGE)
    name, *rest = arguments
    if name == "--version":
        name = "version"
    if name not in VERBS:
        print(
            f"{PROGRAM}: error: {name!r} is no verb. Verbs: {', '.join(VERBS)}. See: {PROGRAM} --help", file=sys.stderr
        )
        raise SystemExit(USAGE)
    return verb_parser(name).parse_args(rest, argparse.Namespace(verb=name))


def verb_parser(name: str) -> Parser:
    verb = VERBS[name]
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
    verbs = "\n".join(f"  {name:<10} {verb.summary.partition(chr(10))[0]}" for name, verb in VERBS.items())
    return (
        f"usage: {PROGRAM} VERB ...\n\nMakes, uses and removes disposable sandboxes on this host.\n\n"
        f"verbs:\n{verbs}\n\nAn ID may be shortened as long as it is unique. "
        f"`{PROGRAM} VERB --help` shows flags and examples.\n\n{LEGEND}\n"
    )


def _json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _id(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="the sandbox, as `init` printed it, or the beginning of it")


def _user(parser: Parser, what: str) -> None:
    parser.add_argument("--user", metavar="U", default="", help=f"{what} (default: the sandbox's user)")


def _init(parser: Parser) -> None:
    parser.add_argument("--template", metavar="T", default="", help="the kind of sandbox (default: the host's default)")
    parser.add_argument(
        "--timeout", metavar="TIME", type=duration, help="remove it after 90, 90s, 15m, 12h; default: none"
    )
    parser.add_argument("--keep", action="store_true", help="the hourly cleanup spares it")
    parser.add_argument("--name", metavar="N", default="", help="a name for people, shown by `list`")
    parser.add_argument("--env", metavar="K=V", type=pair, action="append", default=[], help="for every command in it")
    parser.add_argument("--metadata", metavar="K=V", type=pair, action="append", default=[], help="a note, see `info`")
    parser.add_argument("--cold", action="store_true", help="make a new container even if a warm one waits")
    _json(parser)


def _exec(parser: Parser) -> None:
    _id(parser)
    parser.add_argument("command", metavar="COMMAND", help="one argument: quote it. Runs as: bash -l -c COMMAND")
    parser.add_argument("--cwd", metavar="D", default="", help="directory to start in (default: the sandbox's, /code)")
    parser.add_argument("--env", metavar="K=V", type=pair, action="append", default=[], help="an environment variable")
    _user(parser, "run as this user")
    parser.add_argument(
        "--timeout", metavar="TIME", type=duration, help="kill it after 90, 90s, 15m, 12h; default: none"
    )
    parser.add_argument("--background", action="store_true", help="print its process id and return; it lives on")
    _json(parser)


def _upload(parser: Parser) -> None:
    _id(parser)
    parser.add_argument("source", metavar="LOCAL", help="file or directory here, or - for standard input")
    parser.add_argument("target", metavar="REMOTE", help="path in the sandbox")
    _user(parser, "write as this user")


def _download(parser: Parser) -> None:
    _id(parser)
    parser.add_argument("source", metavar="REMOTE", help="file or directory in the sandbox")
    parser.add_argument("target", metavar="LOCAL", help="path here, or - for standard output (files only)")
    _user(parser, "read as this user")


def _kill(parser: Parser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="+", help="the sandboxes")
    _json(parser)


def _get_host(parser: Parser) -> None:
    _id(parser)
    parser.add_argument("--port", metavar="P", type=port, help="a port inside (default: the host's default port)")
    _json(parser)


def _info(parser: Parser) -> None:
    _id(parser)
    _json(parser)


def _pool(parser: Parser) -> None:
    parser.add_argument(
        "action", choices=("start", "status", "drain"), help="fill it, show it, or empty it and turn it off"
    )
    parser.add_argument("--wait", action="store_true", help="start: return when the pool is full")
    _json(parser)


def _cleanup(parser: Parser) -> None:
    parser.add_argument(
        "--older-than", metavar="AGE", type=age, default=86400.0, help="age since `init` (default: 24h)"
    )
    parser.add_argument(
        "--unknown",
        action="store_true",
        help="remove at once, too, all containers, networks and volumes of this project that the ledger does not know",
    )
    _json(parser)


def _routes(parser: Parser) -> None:
    parser.add_argument("action", choices=("status", "sync"), help="compare, or mend")
    parser.add_argument("--quiet", action="store_true", help="print nothing: the exit code tells")
    _json(parser)


VERBS = {
    "init": Verb(
        "manage",
        "Makes a sandbox and prints its id, and nothing else, on standard output.",
        _init,
        """\
  ID=$(docker-sandbox init)
  docker-sandbox init --timeout 15m --name demo --env STAGE=test
  docker-sandbox init --template playwright --keep""",
    ),
    "exec": Verb(
        "execute",
        """\
Runs a command in a sandbox and ends with its exit code.

Standard output and standard error stay apart. Standard input is passed on when it is not a terminal.
Ctrl-C and SIGTERM are passed on to the command and all that it started; what ignores them is killed
after some seconds.""",
        _exec,
        """\
  docker-sandbox exec 4f1c 'whoami; pwd'
  docker-sandbox exec 4f1c 'cat > notes.txt' < notes.txt
  docker-sandbox exec 4f1c 'make test' --cwd /code/app --env CI=1 --timeout 10m
  docker-sandbox exec 4f1c 'exec python3 -m http.server > server.log 2>&1' --background""",
        EXEC_LEGEND,
    ),
    "upload": Verb(
        "transfer",
        f"Copies a file or directory into a sandbox.\n\n{COPY_RULES}",
        _upload,
        """\
  docker-sandbox upload 4f1c app /code/app
  docker-sandbox upload 4f1c app/. /code
  echo 'from a pipe' | docker-sandbox upload 4f1c - /code/note.txt""",
    ),
    "download": Verb(
        "transfer",
        f"""\
Copies a file or directory out of a sandbox.

{COPY_RULES}

Nothing appears under its name before all of it has arrived. Links that point out of the copied directory, device files
and the like are left out with a warning: what a sandbox made must not reach other files of this machine.""",
        _download,
        """\
  docker-sandbox download 4f1c /code/app result
  docker-sandbox download 4f1c /code/report.pdf .
  docker-sandbox download 4f1c /code/log.txt - | grep -i error""",
    ),
    "kill": Verb("manage", "Removes sandboxes with all that is in them.", _kill, "  docker-sandbox kill 4f1c 9a07"),
    "get-host": Verb(
        "manage",
        "Prints the URL under which a port of the sandbox is reached.",
        _get_host,
        "  docker-sandbox get-host 4f1c\n  docker-sandbox get-host 4f1c --port 5173",
    ),
    "list": Verb("manage", "Shows the sandboxes in use on this host.", _json, "  docker-sandbox list"),
    "info": Verb("manage", "Shows one sandbox.", _info, "  docker-sandbox info 4f1c"),
    "pool": Verb(
        "manage",
        "Turns the pool of warm sandboxes on and off, or shows it.",
        _pool,
        "  docker-sandbox pool status\n  docker-sandbox pool start --wait\n  docker-sandbox pool drain",
    ),
    "cleanup": Verb(
        "manage",
        "Removes sandboxes that are older than an age, except those made with --keep. The pool is not touched.",
        _cleanup,
        "  docker-sandbox cleanup --older-than 24h",
    ),
    "routes": Verb(
        "manage",
        "Compares the gateway's routes with the sandboxes in use (status ends with 1 when they differ), or mends them.",
        _routes,
        "  docker-sandbox routes status --quiet || docker-sandbox routes sync",
    ),
    "version": Verb("manage", "Prints the version.", _json, "  docker-sandbox version"),
}
