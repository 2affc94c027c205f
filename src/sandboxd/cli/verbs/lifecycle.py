"""Verbs that make, show and remove sandboxes."""

from argparse import SUPPRESS

from sandboxd.cli.values import duration, limit, pair, port, size_mb
from sandboxd.cli.verbs import Parser, Verb, id_argument, json_flag

ACCESS = ("public", "token", "basic")


def _init(parser: Parser) -> None:
    parser.add_argument("--template", metavar="T", default="", help="the kind of sandbox (default: the host's default)")
    parser.add_argument(
        "--timeout", metavar="TIME", type=duration, help="remove it after 90, 90s, 15m, 12h; default: none"
    )
    parser.add_argument("--keep", action="store_true", help="the hourly cleanup spares it")
    parser.add_argument("--name", metavar="N", default="", help="a name for people, shown by `list`")
    parser.add_argument("--env", metavar="K=V", type=pair, action="append", default=[], help="for every command in it")
    parser.add_argument("--metadata", metavar="K=V", type=pair, action="append", default=[], help="a note, see `info`")
    parser.add_argument("--disk", metavar="SIZE", type=size_mb, default=0, help="of /code: 512m, 20g (default: 10g)")
    parser.add_argument("--volume", metavar="V", default="", help="a named disk for /code, which survives `kill`")
    parser.add_argument(
        "--shared", action="store_true", help="make that volume on the storage that all hosts of a fleet have"
    )
    parser.add_argument("--cold", action="store_true", help="make a new container even if a warm one waits")
    _network_flags(parser)
    parser.add_argument("--access", choices=ACCESS, default="public", help="who may open its URLs (default: public)")
    parser.add_argument(
        "--no-wake", action="store_true", help="a visit does not resume it when it is paused or stopped"
    )
    parser.add_argument(
        "--idle-pause",
        metavar="TIME",
        type=duration,
        default=SUPPRESS,
        help="pause it when nobody has used it for 30m; none: never (default: the host's)",
    )
    json_flag(parser)


def _network_flags(parser: Parser) -> None:
    parser.add_argument(
        "--network",
        choices=("open", "public", "none"),
        help="open: as far as the host reaches; public: the internet; none: nothing (default: the host's)",
    )
    parser.add_argument(
        "--allow",
        metavar="CIDR",
        action="append",
        default=[],
        help="let it connect there, although the rest is denied; with --network none also a name or *.NAME",
    )
    parser.add_argument("--deny", metavar="CIDR", action="append", default=[], help="let it not connect there")


def _network(parser: Parser) -> None:
    id_argument(parser)
    _network_flags(parser)
    json_flag(parser)


def _kill(parser: Parser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="+", help="the sandboxes")
    json_flag(parser)


def _get_host(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("--port", metavar="P", type=port, help="a port inside (default: the host's default port)")
    parser.add_argument("--private", action="store_true", help="a link that opens this port of a private sandbox")
    parser.add_argument(
        "--for", dest="seconds", metavar="TIME", type=limit, help="with --private: until it expires (default: 1h)"
    )
    json_flag(parser)


def _access(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("mode", metavar="MODE", nargs="?", choices=ACCESS, help="public, token or basic")
    parser.add_argument("--revoke", action="store_true", help="all links, tokens and passwords so far open nothing")
    parser.add_argument("--token", action="store_true", help="print the token for programs, and nothing else")
    json_flag(parser)


def _extend(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("time", metavar="TIME", type=duration, help="its end from now on: 90s, 15m, 12h, 2d, or none")
    json_flag(parser)


def _resume(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=duration,
        default=SUPPRESS,
        help="remove it after this time, or `none`; default: as before",
    )
    json_flag(parser)


def _resize(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("size", metavar="SIZE", type=size_mb, help="the new size of /code: 20g; disks only grow")
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
  docker-sandbox init --template playwright --keep
  docker-sandbox init --access basic --idle-pause 30m""",
    ),
    "kill": Verb("manage", "Removes sandboxes with all that is in them.", _kill, "  docker-sandbox kill 4f1c 9a07"),
    "get-host": Verb(
        "manage",
        "Prints the URL under which a port of the sandbox is reached.",
        _get_host,
        """\
  docker-sandbox get-host 4f1c
  docker-sandbox get-host 4f1c --port 5173
  docker-sandbox get-host 4f1c --private --for 12h""",
    ),
    "access": Verb(
        "access",
        """\
Shows who may open the URLs of a sandbox, or changes that at once.

public: whoever knows the URL. token: links of `get-host --private`, and programs that send the token as the header
e2b-traffic-access-token. basic: a user and a password, printed this once. What was given out before opens nothing any
more. exec, upload and download work in any case.""",
        _access,
        """\
  docker-sandbox access 4f1c
  docker-sandbox access 4f1c token
  docker-sandbox access 4f1c --revoke
  docker-sandbox access 4f1c --token""",
    ),
    "list": Verb("manage", "Shows the sandboxes in use on this host.", json_flag, "  docker-sandbox list"),
    "info": Verb("manage", "Shows one sandbox.", _info, "  docker-sandbox info 4f1c"),
    "pause": Verb(
        "states",
        """\
Freezes a sandbox: its processes and their memory stay, and use no CPU.

A visit to its URL resumes it, unless it was made with --no-wake. While it is paused its --timeout does not run, and
exec, upload and download are refused.""",
        _info,
        "  docker-sandbox pause 4f1c",
    ),
    "resume": Verb(
        "states",
        "Lets a paused or stopped sandbox run again.",
        _resume,
        "  docker-sandbox resume 4f1c\n  docker-sandbox resume 4f1c --timeout 2h",
    ),
    "stop": Verb("states", "Ends the processes of a sandbox and keeps its files.", _info, "  docker-sandbox stop 4f1c"),
    "start": Verb(
        "states",
        "Starts a stopped sandbox (or resumes a paused one) with the files that it had.",
        _resume,
        "  docker-sandbox start 4f1c",
    ),
    "extend": Verb(
        "states",
        "Gives a sandbox a new end, counted from now.",
        _extend,
        "  docker-sandbox extend 4f1c 2h\n  docker-sandbox extend 4f1c none",
    ),
    "resize": Verb(
        "states",
        "Makes the disk of a sandbox larger, while it is in use where the host's kernel allows it.",
        _resize,
        "  docker-sandbox resize 4f1c 20g",
    ),
    "network": Verb(
        "network",
        """\
Shows where a sandbox may go on the network, or replaces that at once.

With any flag, what the others said before is forgotten. What is open already is cut, too. URLs, exec, upload and
download work in any case.""",
        _network,
        """\
  docker-sandbox network 4f1c
  docker-sandbox network 4f1c --network none --allow 203.0.113.7
  docker-sandbox network 4f1c --network none --allow pypi.org --allow '*.pythonhosted.org'
  docker-sandbox network 4f1c --network open --deny 10.0.0.0/8
  docker-sandbox network 4f1c --network public""",
    ),
}
