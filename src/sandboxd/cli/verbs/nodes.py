"""Verbs about the hosts of a fleet."""

from sandboxd.cli.verbs import Noun, Parser, Verb, json_flag

MANAGER = "Only on a manager of a fleet."


def _node(parser: Parser) -> None:
    parser.add_argument("node", metavar="NODE", help="the host, as `node ls` names it")
    json_flag(parser)


def _drain(parser: Parser) -> None:
    parser.add_argument("--now", action="store_true", help="end its sandboxes, instead of waiting for their end")
    _node(parser)


def _fenced(parser: Parser) -> None:
    parser.add_argument(
        "--yes", action="store_true", help="the host is off, and stays off until it has been started anew: I made sure"
    )
    _node(parser)


VERBS = {
    "node": Noun(
        "Shows the hosts of a fleet, and takes one out of its work or back into it.",
        {
            "ls": Verb(
                "nodes",
                f"Shows the hosts: whether they answer, what they have, what is promised of them.\n\n{MANAGER}",
                json_flag,
                "  docker-sandbox node ls",
            ),
            "cordon": Verb(
                "nodes",
                f"Lets a host get no new sandboxes, and turns its pools off. Its sandboxes stay.\n\n{MANAGER}",
                _node,
                "  docker-sandbox node cordon b",
            ),
            "drain": Verb(
                "nodes",
                f"""\
Empties a host: it gets nothing new, and this returns once its sandboxes have ended.

To stop waiting ends nothing: the host is drained all the same, as soon as it is empty.
{MANAGER}""",
                _drain,
                "  docker-sandbox node drain b\n  docker-sandbox node drain b --now",
            ),
            "activate": Verb(
                "nodes",
                f"Lets a host get new sandboxes again, and turns its pools on.\n\n{MANAGER}",
                _node,
                "  docker-sandbox node activate b",
            ),
            "fenced": Verb(
                "nodes",
                f"""\
Says that a lost host is off: its kept sandboxes on shared storage are made anew elsewhere.

If it is not off it may still write to their disks, which destroys them. `fence_command` does this by itself.
{MANAGER}""",
                _fenced,
                "  docker-sandbox node fenced b --yes",
            ),
        },
    )
}
