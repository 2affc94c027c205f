"""Verbs that look: at one sandbox, at all of them, at the host."""

from sandboxd.cli.values import line_count, since
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


def _metrics(parser: Parser) -> None:
    pass  # the page is what it is


def _audit(parser: Parser) -> None:
    parser.add_argument(
        "--since", metavar="AGE", type=since, default=86400.0, help="so far back, or all that is kept (default: 24h)"
    )
    parser.add_argument("--id", metavar="ID", default="", help="only of this sandbox, or of those that begin so")
    parser.add_argument(
        "--actor", metavar="A", default="", help="only by this name of a key or user, id, or kind such as key or expiry"
    )
    parser.add_argument(
        "--action", metavar="A", action="append", default=[], help="only these, such as kill; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, for programs")


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
    "metrics": Verb(
        "metrics",
        "Prints what this host measures and counts, in the words of Prometheus.",
        _metrics,
        "  docker-sandbox metrics | grep -v '^#'",
    ),
    "audit": Verb(
        "audit",
        """\
Shows who did what on this host: who made, paused, changed or removed a sandbox, from where, and how it ended.

For root and the group adm. What the host did by itself is there, too: expiry, cleanup, repairs.""",
        _audit,
        """\
  docker-sandbox audit --since 1h
  docker-sandbox audit --id 4f1c --since all
  docker-sandbox audit --actor ci --action create --action claim --json""",
    ),
}
