"""Verbs that look: at one sandbox, at all of them, at the host."""

from sandboxd.cli.values import line_count
from sandboxd.cli.verbs import Parser, Verb, id_argument, json_flag


def _logs(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument(
        "--lines", metavar="N", type=line_count, default=100, help="how many of the last lines, or all (default: 100)"
    )
    parser.add_argument("--follow", action="store_true", help="go on until Ctrl-C, or until the sandbox ends")
    parser.add_argument(
        "--events", action="store_true", help="with times, and with what happened to the sandbox: created, claimed ..."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, for programs")


def _stats(parser: Parser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="*", help="only these sandboxes (default: all, and the pool)")
    parser.add_argument("--once", action="store_true", help="print one table and end, also on a terminal")
    json_flag(parser)


def _doctor(parser: Parser) -> None:
    parser.add_argument("--no-probe", action="store_true", help="make no sandbox: only look")
    json_flag(parser)


VERBS = {
    "logs": Verb(
        "logs",
        """\
Shows what the main process of a sandbox, its agent, wrote. A server that was started with `exec` logs elsewhere.

Of a sandbox that is gone it says when and why it ended, with exit code 3; the host remembers that for a week.""",
        _logs,
        """\
  docker-sandbox logs 4f1c
  docker-sandbox logs 4f1c --lines 20 --follow
  docker-sandbox logs 4f1c --events""",
    ),
    "stats": Verb(
        "stats",
        """\
Shows what sandboxes use: processor, memory, processes, network, disk.

On a terminal it is a table that is renewed every second, the busiest first, until q or Ctrl-C; otherwise one table.""",
        _stats,
        """\
  docker-sandbox stats
  docker-sandbox stats 4f1c 9a07 --once
  docker-sandbox stats --json""",
    ),
    "doctor": Verb(
        "doctor",
        """\
Examines this host, and makes a sandbox to try the whole way from the engine to its URL; it is removed again.

Each finding is ok, warn or fail, and what is not ok has a remedy. Ends with 1 when something fails, with 4 when the
service itself does not answer. Nothing is changed.""",
        _doctor,
        """\
  docker-sandbox doctor
  docker-sandbox doctor --no-probe --json""",
    ),
}
