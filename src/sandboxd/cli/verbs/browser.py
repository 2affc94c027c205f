"""The verb that looks at a sandbox with a browser."""

from sandboxd.cli.exits import LEGEND
from sandboxd.cli.values import limit, port, url_path
from sandboxd.cli.verbs import Parser, Verb, id_argument, json_flag

BROWSER_LEGEND = f"""{LEGEND}
  124  --timeout ended the test
1 also means that the page is not fine; then the report says why, and no message begins with "docker-sandbox: error:".
130 after Ctrl-C."""


def _browser_test(parser: Parser) -> None:
    id_argument(parser)
    parser.add_argument("--port", metavar="P", type=port, help="a port inside (default: the host's default port)")
    parser.add_argument("--path", metavar="/X", type=url_path, default="/", help="what to open there (default: /)")
    parser.add_argument(
        "--script",
        metavar="FILE",
        default="",
        help="a Python file with check(page) in it (default: the host's own)",
    )
    parser.add_argument(
        "--output", metavar="DIR", default="", help="where report and pictures go (default: browser-test-ID)"
    )
    parser.add_argument(
        "--timeout", metavar="TIME", type=limit, default=120.0, help="end it after 90, 90s, 15m (default: 2m)"
    )
    json_flag(parser)


VERBS = {
    "browser-test": Verb(
        "browser",
        """\
Opens the URL of a sandbox in a browser, checks it, and ends with 1 when the page is not fine.

The browser runs in a sandbox of its own, which is removed afterwards. Not fine is: the page does not open, or answers
400 or more; an uncaught exception; an error in the console; a request that fails; a `check` that raises.
The directory gets report.txt, report.json, screenshot.png, and what the script writes.""",
        _browser_test,
        """\
  docker-sandbox browser-test 4f1c
  docker-sandbox browser-test 4f1c --port 5173 --path /login --output look
  docker-sandbox browser-test 4f1c --script check.py --timeout 5m --json""",
        BROWSER_LEGEND,
    ),
}
