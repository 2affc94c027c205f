"""Verbs about the host as a whole."""

from sandboxd.cli.values import age
from sandboxd.cli.verbs import Parser, Verb, json_flag


def _pool(parser: Parser) -> None:
    parser.add_argument(
        "action", choices=("start", "status", "drain"), help="fill it, show it, or empty it and turn it off"
    )
    parser.add_argument("--wait", action="store_true", help="start: return when the pool is full")
    json_flag(parser)


def _cleanup(parser: Parser) -> None:
    parser.add_argument(
        "--older-than", metavar="AGE", type=age, default=86400.0, help="age since `init` (default: 24h)"
    )
    parser.add_argument(
        "--unknown",
        action="store_true",
        help="remove at once, too, all containers, networks and volumes of this project that the ledger does not know",
    )
    json_flag(parser)


def _routes(parser: Parser) -> None:
    parser.add_argument("action", choices=("status", "sync"), help="compare, or mend")
    parser.add_argument("--quiet", action="store_true", help="print nothing: the exit code tells")
    json_flag(parser)


VERBS = {
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
    "version": Verb("manage", "Prints the version.", json_flag, "  docker-sandbox version"),
}
