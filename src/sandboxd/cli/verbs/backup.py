"""The verbs `backup` and `restore`."""

from sandboxd.cli.verbs import Parser, Verb, json_flag

LEFT_OUT = ("volumes", "templates")  # as in sandboxd.backup, which costs too much to import here


def _backup(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="the file that is made, with mode 0600, or - for standard output")
    parser.add_argument(
        "--without",
        metavar="KIND",
        choices=LEFT_OUT,
        action="append",
        default=[],
        help="leave out the named volumes (volumes), or the templates made on this host (templates); may be repeated",
    )
    json_flag(parser)


def _restore(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="what `backup` made, or - for standard input")
    parser.add_argument(
        "--check", action="store_true", help="only read it, to see whether it is whole and undamaged; needs no root"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="also on a host that is in use, or has another domain: its sandboxes are ended, the rest is put aside",
    )
    json_flag(parser)


VERBS = {
    "backup": Verb(
        "backup",
        """\
Writes what this host cannot make again into one file: ledger, keys, secrets, certificates, volumes, templates.

It may be used meanwhile: a volume stands still while it is copied. Sandboxes themselves are not in it. Only root may do
this, and the file holds all secrets of the host: keep it as you keep them.""",
        _backup,
        """\
  docker-sandbox backup /root/sandbox.backup
  docker-sandbox backup /root/small.backup --without templates --json
  docker-sandbox backup - | ssh backup@example.org 'cat > sandbox.backup'""",
    ),
    "restore": Verb(
        "backup",
        """\
Puts a backup in place of what this host has, which is deployed by the same or a newer release.

All of the file is read and checked before anything is changed. A host that has sandboxes, volumes or templates is
refused. An interrupted restore is run again. Sandboxes of the backup have ended.""",
        _restore,
        """\
  docker-sandbox restore /root/sandbox.backup
  docker-sandbox restore --check /root/sandbox.backup
  docker-sandbox restore --force - < sandbox.backup""",
    ),
}
