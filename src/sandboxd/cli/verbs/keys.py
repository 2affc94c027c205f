"""Verbs about who may use the API."""

from sandboxd.cli.verbs import Noun, Parser, Verb, json_flag


def _create(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="whose it is; keys of one name see the same sandboxes")
    parser.add_argument(
        "--max-sandboxes", metavar="N", type=int, default=0, help="in use at a time by this name (default: no limit)"
    )
    parser.add_argument(
        "--host", action="store_true", help="in the console it shows the whole host: all sandboxes, pools, health"
    )
    parser.add_argument("--first", action="store_true", help="do nothing if this host has had a first key already")
    json_flag(parser)


def _revoke(parser: Parser) -> None:
    parser.add_argument("ids", metavar="KEY", nargs="+", help="the keys, as `key ls` shows them")
    json_flag(parser)


VERBS = {
    "key": Noun(
        "Lets programs elsewhere use this host, by the API that E2B's clients speak.",
        {
            "create": Verb(
                "keys",
                "Makes a key and prints it, this once.",
                _create,
                "  docker-sandbox key create ci --max-sandboxes 20\n"
                "  docker-sandbox key create ada --host\n"
                "  export E2B_API_KEY=$(docker-sandbox key create me)",
            ),
            "ls": Verb("keys", "Shows the keys, without what opens anything.", json_flag, "  docker-sandbox key ls"),
            "revoke": Verb(
                "keys",
                "Takes keys back: they open nothing from now on. Sandboxes stay.",
                _revoke,
                "  docker-sandbox key revoke 1f0c9a4e",
            ),
        },
    )
}
