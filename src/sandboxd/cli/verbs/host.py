"""Verbs about the host as a whole."""

from sandboxd.cli.values import age
from sandboxd.cli.verbs import Noun, Parser, Verb, json_flag


def _pool_start(parser: Parser) -> None:
    parser.add_argument("--wait", action="store_true", help="return when the pool is full")
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
    parser.add_argument("--quiet", action="store_true", help="print nothing: the exit code tells")
    json_flag(parser)


def _completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that reads the script")


VERBS = {
    "pool": Noun(
        "Turns the pool of warm sandboxes on and off, or shows it.",
        {
            "status": Verb(
                "manage",
                "Shows whether the pool is on, how many sandboxes are warm, hits and misses.",
                json_flag,
                "  docker-sandbox pool status",
            ),
            "start": Verb(
                "manage", "Turns the pool on, and fills it.", _pool_start, "  docker-sandbox pool start --wait"
            ),
            "drain": Verb(
                "manage",
                "Turns the pool off, and removes the warm sandboxes. Those in use stay.",
                json_flag,
                "  docker-sandbox pool drain",
            ),
        },
    ),
    "cleanup": Verb(
        "manage",
        "Removes sandboxes that are older than an age, except those made with --keep. The pool is not touched.",
        _cleanup,
        "  docker-sandbox cleanup --older-than 24h",
    ),
    "routes": Noun(
        "Compares the gateway's routes with the sandboxes in use, or mends them.",
        {
            "status": Verb(
                "manage",
                "Compares the gateway's routes with the sandboxes in use; ends with 1 when they differ.",
                _routes,
                "  docker-sandbox routes status --quiet || docker-sandbox routes sync",
            ),
            "sync": Verb(
                "manage", "Mends the gateway's routes from the ledger.", _routes, "  docker-sandbox routes sync"
            ),
        },
    ),
    "completion": Verb(
        "completion",
        """\
Prints a script that teaches a shell to complete docker-sandbox: verbs, flags, ids, templates.

Bash and zsh read it with `source`, fish from a file. On a sandbox host, bash-completion finds it by itself.""",
        _completion,
        """\
  source <(docker-sandbox completion bash)
  docker-sandbox completion fish > ~/.config/fish/completions/docker-sandbox.fish""",
    ),
    "version": Verb("manage", "Prints the version.", json_flag, "  docker-sandbox version"),
}
