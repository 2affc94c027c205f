"""The verbs `volume ...`: named disks, which outlive their sandboxes."""

from sandboxd.cli.values import size_mb
from sandboxd.cli.verbs import Noun, Parser, Verb, json_flag

INSIDE = """\
It is done within a sandbox that is made for it and removed again: the host does not look into what a sandbox wrote."""


def _name(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="the volume")


def _rm(parser: Parser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="the volumes")
    json_flag(parser)


def _export(parser: Parser) -> None:
    _name(parser)
    parser.add_argument("file", metavar="FILE", help="the archive that is made here, or - for standard output")


def _import(parser: Parser) -> None:
    _name(parser)
    parser.add_argument("file", metavar="FILE", help="a tar archive here, not compressed, or - for standard input")
    parser.add_argument("--size", metavar="SIZE", type=size_mb, default=0, help="of a new volume: 20g (default: 10g)")
    parser.add_argument("--force", action="store_true", help="also into a volume that has files, over what is there")


VERBS = {
    "volume": Noun(
        "Looks at named disks, which `init --volume` makes, and removes or copies them.",
        {
            "ls": Verb(
                "volumes",
                "Shows the volumes of this host, and which sandbox has which.",
                json_flag,
                "  docker-sandbox volume ls",
            ),
            "rm": Verb(
                "volumes",
                "Removes volumes with all that is in them, unless a sandbox has them.",
                _rm,
                "  docker-sandbox volume rm data old-data",
            ),
            "export": Verb(
                "volumes",
                f"""\
Writes the files of a volume into a tar archive.

{INSIDE}
A volume that a sandbox has is refused. No file appears under its name before all of it is there.""",
                _export,
                """\
  docker-sandbox volume export data data.tar
  docker-sandbox volume export data - | gzip > data.tar.gz""",
            ),
            "import": Verb(
                "volumes",
                f"""\
Puts the files of a tar archive into a volume, which is made if there is none of that name.

{INSIDE}
A volume that a sandbox has, or that has files, is refused. With --force the archive goes over what is there: files of
the same name are replaced, the others stay. All that arrives belongs to the sandbox's user. When an import into a new
volume fails, that volume is removed again.""",
                _import,
                """\
  docker-sandbox volume import data data.tar --size 20g
  gunzip < data.tar.gz | docker-sandbox volume import data -""",
            ),
        },
    ),
}
