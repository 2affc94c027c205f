"""Verbs that make, show and remove sandboxes."""

from sandboxd.cli.values import duration, pair, port
from sandboxd.cli.verbs import Parser, Verb, id_argument, json_flag


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
    json_flag(parser)


def _kill(parser: Parser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="+", help="the sandboxes")
    json_flag(parser)


def _get_host(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("--port", metavar="P", type=port, help="a port inside (default: the host's default port)")
    json_flag(parser)


def _info(parser: Parser) -> None:
    id_argument(parser)
    json_flag(parser)


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
    "kill": Verb("manage", "Removes sandboxes with all that is in them.", _kill, "  docker-sandbox kill 4f1c 9a07"),
    "get-host": Verb(
        "manage",
        "Prints the URL under which a port of the sandbox is reached.",
        _get_host,
        "  docker-sandbox get-host 4f1c\n  docker-sandbox get-host 4f1c --port 5173",
    ),
    "list": Verb("manage", "Shows the sandboxes in use on this host.", json_flag, "  docker-sandbox list"),
    "info": Verb("manage", "Shows one sandbox.", _info, "  docker-sandbox info 4f1c"),
}
