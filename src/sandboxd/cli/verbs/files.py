"""The verbs `files ...`: what is in a sandbox, looked at and changed without a shell in it."""

from sandboxd.cli.exits import LEGEND
from sandboxd.cli.values import depth
from sandboxd.cli.verbs import DIRECTORY, Noun, Parser, Verb, id_argument, json_flag, text_flag, user_flag

PATHS = f"A path is absolute, or begins at {DIRECTORY}; `~` is the user's home."
EXISTS_LEGEND = f"""{LEGEND}
So 0 means that something is there, and 1 without a message that nothing is."""


def _at(parser: Parser, what: str) -> None:
    id_argument(parser)
    parser.add_argument("path", metavar="PATH", help=what)


def _ends(parser: Parser) -> None:
    user_flag(parser, "act as this user")
    json_flag(parser)


def _ls(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("path", metavar="PATH", nargs="?", default=".", help=f"what to list (default: {DIRECTORY})")
    parser.add_argument("--depth", metavar="N", type=depth, default=1, help="how many levels to show (default: 1)")
    _ends(parser)


def _read(parser: Parser) -> None:
    _at(parser, "the file")
    user_flag(parser, "act as this user")


def _write(parser: Parser) -> None:
    _at(parser, "the file")
    text_flag(parser, "--content", "what to write, instead of standard input")
    _ends(parser)


def _rm(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="files, links or, with -r, directories")
    parser.add_argument("-r", "--recursive", action="store_true", help="directories too, with all that is in them")
    _ends(parser)


def _mv(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("source", metavar="SOURCE", help="path in the sandbox")
    parser.add_argument("target", metavar="TARGET", help="path in the sandbox")
    _ends(parser)


def _mkdir(parser: Parser) -> None:
    _at(parser, "the directory")
    _ends(parser)


def _look(parser: Parser) -> None:
    _at(parser, "file, directory or link")
    _ends(parser)


def _edit(parser: Parser) -> None:
    _at(parser, "the file")
    text_flag(parser, "--old", "the text that is replaced, exactly as it is in the file", required=True)
    text_flag(parser, "--new", "what takes its place; may be empty", required=True)
    parser.add_argument("--all", action="store_true", help="wherever it is; else it must be there exactly once")
    _ends(parser)


VERBS = {
    "files": Noun(
        "Looks at the files of a sandbox, and changes them.",
        {
            "ls": Verb(
                "files",
                f"Lists a directory of a sandbox.\n\n{PATHS}\nBelow the first level, links are not followed.",
                _ls,
                """\
  docker-sandbox files ls 4f1c
  docker-sandbox files ls 4f1c /code/app --depth 3
  docker-sandbox files ls 4f1c /root --user root --json""",
            ),
            "read": Verb(
                "contents",
                f"Prints a file of a sandbox, byte by byte as it is.\n\n{PATHS}",
                _read,
                """\
  docker-sandbox files read 4f1c /code/log.txt
  docker-sandbox files read 4f1c /code/picture.png > picture.png""",
            ),
            "write": Verb(
                "contents",
                f"""\
Writes a file of a sandbox: standard input, or the text of --content.

Missing directories are made. A file that is there gets new content, and keeps its owner and its mode.
{PATHS}""",
                _write,
                """\
  docker-sandbox files write 4f1c /code/note.txt --content 'hello'
  docker-sandbox files write 4f1c /code/picture.png < picture.png""",
            ),
            "rm": Verb(
                "files",
                f"""\
Removes files of a sandbox; with -r directories, too.

Of a link itself is removed, not what it leads to. All paths are tried, whatever fails.
{PATHS}""",
                _rm,
                """\
  docker-sandbox files rm 4f1c /code/old.txt /code/older.txt
  docker-sandbox files rm -r 4f1c /code/build""",
            ),
            "mv": Verb(
                "files",
                f"""\
Moves or renames a file or directory within a sandbox.

Into a target that is a directory, or that ends in "/", it goes under its own name. A target that is a file is replaced.
Missing directories are made.
{PATHS}""",
                _mv,
                "  docker-sandbox files mv 4f1c /code/draft.md /code/docs/guide.md",
            ),
            "mkdir": Verb(
                "files",
                f"Makes a directory in a sandbox, with its parents.\n\nOne that is there already is no error.\n{PATHS}",
                _mkdir,
                "  docker-sandbox files mkdir 4f1c /code/app/static",
            ),
            "exists": Verb(
                "files",
                f"Tells by its exit code whether there is something at a path in a sandbox.\n\n{PATHS}",
                _look,
                "  docker-sandbox files exists 4f1c /code/app/main.py && echo yes",
                EXISTS_LEGEND,
            ),
            "info": Verb(
                "files",
                f"Shows type, size, mode, owner and time of a file in a sandbox.\n\n{PATHS}",
                _look,
                "  docker-sandbox files info 4f1c /code/app/main.py",
            ),
            "edit": Verb(
                "contents",
                f"""\
Replaces a text in a file of a sandbox.

The text must be in the file exactly once: give enough of what surrounds it, or --all.
{PATHS}""",
                _edit,
                """\
  docker-sandbox files edit 4f1c /code/app.py --old 'port=8000' --new 'port=8080'
  docker-sandbox files edit 4f1c /code/app.py --old 'print(' --new 'log(' --all""",
            ),
        },
    ),
}
