"""Verbs about the host as a whole."""

from sandboxd.cli.values import age, pool_size
from sandboxd.cli.verbs import Noun, Parser, Verb, json_flag


def _pool_start(parser: Parser) -> None:
    parser.add_argument("--wait", action="store_true", help="return when the pools are full")
    _pool(parser)


def _pool(parser: Parser) -> None:
    parser.add_argument("--template", metavar="T", default="", help="only the pool of this template (default: all)")
    json_flag(parser)


def _pool_resize(parser: Parser) -> None:
    parser.add_argument("size", metavar="N", type=pool_size, help="how many warm sandboxes it shall have; 0 for none")
    parser.add_argument("--template", metavar="T", default="", help="whose pool (default: the host's default template)")
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


def _ca(parser: Parser) -> None:
    json_flag(parser)


def _completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that reads the script")


VERBS = {
    "pool": Noun(
        "Turns the pools of warm sandboxes on and off, resizes or shows them.",
        {
            "status": Verb(
                "pool",
                "Shows each pool: whether it is on, how many sandboxes are warm, hits, misses, how long claims take.",
                json_flag,
                "  docker-sandbox pool status",
            ),
            "start": Verb(
                "pool",
                "Turns the pools on, and fills them.",
                _pool_start,
                "  docker-sandbox pool start --wait\n  docker-sandbox pool start --template playwright",
            ),
            "drain": Verb(
                "pool",
                "Turns the pools off, and removes the warm sandboxes. Those in use stay.",
                _pool,
                "  docker-sandbox pool drain\n  docker-sandbox pool drain --template playwright",
            ),
            "resize": Verb(
                "pool",
                "Gives a pool another size, until a deploy changes the size that the settings say.",
                _pool_resize,
                "  docker-sandbox pool resize 5\n  docker-sandbox pool resize 2 --template playwright",
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
    "ca": Verb(
        "authority",
        """Prints the certificate of the host's own authority, which clients must trust, as PEM.

With TLS mode "internal" only; other certificates come from authorities that clients know already.""",
        _ca,
        """\
  docker-sandbox ca > sandbox-ca.pem
  ssh root@HOST docker-sandbox ca | sudo tee /usr/local/share/ca-certificates/sandbox.crt >/dev/null""",
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
