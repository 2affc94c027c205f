"""Verbs that reach into a sandbox."""

from sandboxd.cli.exits import EXEC_LEGEND, SHELL_LEGEND
from sandboxd.cli.values import duration, pair
from sandboxd.cli.verbs import DIRECTORY, Parser, Verb, id_argument, json_flag, user_flag

COPY_RULES = """\
Copies like `cp -r`: a target that does not exist becomes the copy (missing parents are made); into a target that is a
directory the copy goes under its own name, where it overwrites files and joins directories; `SOURCE/.` copies what is
inside SOURCE; a file goes into a target that ends in "/". File modes are kept."""


def _exec(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("command", metavar="COMMAND", help="one argument: quote it. Runs as: bash -l -c COMMAND")
    parser.add_argument("--cwd", metavar="D", default="", help=f"directory to start in (default: {DIRECTORY})")
    parser.add_argument("--env", metavar="K=V", type=pair, action="append", default=[], help="an environment variable")
    user_flag(parser, "run as this user")
    parser.add_argument(
        "--timeout", metavar="TIME", type=duration, help="kill it after 90, 90s, 15m, 12h; default: none"
    )
    parser.add_argument("--background", action="store_true", help="print its process id and return; it lives on")
    json_flag(parser)


def _shell(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument(
        "command", metavar="COMMAND", nargs="?", default="", help="one argument: quote it. Default: a login shell"
    )
    parser.add_argument("--cwd", metavar="D", default="", help=f"directory to start in (default: {DIRECTORY})")
    parser.add_argument("--env", metavar="K=V", type=pair, action="append", default=[], help="an environment variable")
    user_flag(parser, "run as this user")


def _upload(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("source", metavar="LOCAL", help="file or directory here, or - for standard input")
    parser.add_argument("target", metavar="REMOTE", help="path in the sandbox")
    user_flag(parser, "write as this user")


def _download(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("source", metavar="REMOTE", help="file or directory in the sandbox")
    parser.add_argument("target", metavar="LOCAL", help="path here, or - for standard output (files only)")
    user_flag(parser, "read as this user")


VERBS = {
    "exec": Verb(
        "execute",
        """\
Runs a command in a sandbox and ends with its exit code.

Standard output and standard error stay apart. Standard input is passed on when it is not a terminal.
Ctrl-C and SIGTERM are passed on to the command and all that it started; what ignores them is killed
after some seconds.""",
        _exec,
        """\
  docker-sandbox exec 4f1c 'whoami; pwd'
  docker-sandbox exec 4f1c 'cat > notes.txt' < notes.txt
  docker-sandbox exec 4f1c 'make test' --cwd /code/app --env CI=1 --timeout 10m
  docker-sandbox exec 4f1c 'exec python3 -m http.server > server.log 2>&1' --background""",
        EXEC_LEGEND,
    ),
    "shell": Verb(
        "shell",
        """\
Opens a terminal in a sandbox: a login shell, or a program such as an editor.

Every key goes to the program inside, Ctrl-C and Ctrl-Z among them. When nothing moves any more, leave with three keys:
Enter ~ . (Enter ~ ~ types one ~). Leaving hangs up, as closing a terminal does. Programs and agents without a terminal
use `exec` instead.""",
        _shell,
        """\
  docker-sandbox shell 4f1c
  docker-sandbox shell 4f1c --user root --cwd /
  docker-sandbox shell 4f1c 'less /var/log/dpkg.log'
  docker-sandbox shell 4f1c --env EDITOR=vi 'git commit'""",
        SHELL_LEGEND,
    ),
    "upload": Verb(
        "transfer",
        f"Copies a file or directory into a sandbox.\n\n{COPY_RULES}",
        _upload,
        """\
  docker-sandbox upload 4f1c app /code/app
  docker-sandbox upload 4f1c app/. /code
  echo 'from a pipe' | docker-sandbox upload 4f1c - /code/note.txt""",
    ),
    "download": Verb(
        "transfer",
        f"""\
Copies a file or directory out of a sandbox.

{COPY_RULES}

Nothing appears under its name before all of it has arrived. Links that point out of the copied directory, device files
and the like are left out with a warning: what a sandbox made must not reach other files of this machine.""",
        _download,
        """\
  docker-sandbox download 4f1c /code/app result
  docker-sandbox download 4f1c /code/report.pdf .
  docker-sandbox download 4f1c /code/log.txt - | grep -i error""",
    ),
}
