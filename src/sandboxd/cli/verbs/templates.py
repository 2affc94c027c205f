"""Verbs about what sandboxes are made from."""

from sandboxd.cli.verbs import Noun, Parser, Verb, id_argument, json_flag


def _snapshot(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("name", metavar="NAME", help="of the new template: lower-case letters, digits and dashes")
    json_flag(parser)


def _build(parser: Parser) -> None:
    parser.add_argument("directory", metavar="DIR", help="with a Dockerfile that begins with ARG BASE and FROM ${BASE}")
    parser.add_argument("name", metavar="NAME", help="of the new template: lower-case letters, digits and dashes")
    parser.add_argument(
        "--base", metavar="T", default="", help="the template to build on (default: the host's default)"
    )
    json_flag(parser)


def _rm(parser: Parser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="the templates")
    json_flag(parser)


VERBS = {
    "snapshot": Verb(
        "templates",
        """\
Makes a template of what a sandbox has on its disks, and prints its name.

It is frozen meanwhile, for a moment. Files are in the template, processes are not.""",
        _snapshot,
        "  docker-sandbox snapshot 4f1c ready\n  docker-sandbox init --template ready",
    ),
    "template": Noun(
        "What sandboxes are made from.",
        {
            "ls": Verb("templates", "Shows the templates of this host.", json_flag, "  docker-sandbox template ls"),
            "build": Verb(
                "templates",
                """\
Builds a template from a directory with a Dockerfile, and prints its name.

The Dockerfile begins with `ARG BASE` and `FROM ${BASE}`. The lines of the build go to standard error.""",
                _build,
                "  docker-sandbox template build ./image tools\n"
                "  docker-sandbox template build ./image browser-tools --base playwright",
            ),
            "rm": Verb(
                "templates",
                "Removes templates that were made on this host, when no sandbox is made from them any more.",
                _rm,
                "  docker-sandbox template rm ready tools",
            ),
        },
    ),
}
