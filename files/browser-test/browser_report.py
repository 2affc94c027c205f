"""What the browser saw becomes a report: a value for programs, and a text for people. Nothing here needs a browser."""

import re
import traceback
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

TEXT_LIMIT = 2000  # characters of one message, and of the page's text
MESSAGES_LIMIT = 500  # of the console: a page can write without end
SHOWN_LIMIT = 300  # characters of one problem in the text
ABORTED = "net::ERR_ABORTED"
NOT_LOADED = "Failed to load resource: "


@dataclass(frozen=True)
class Problem:
    """`kind` is document, request, exception, console, crash or script; `where` the place in the page's code, or ""."""

    kind: str
    text: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" + (f" ({self.where})" if self.where else "")


@dataclass
class Findings:
    """Collects what happens in a browser, in order."""

    url: str
    status: int | None = None  # of the document; None when it did not come
    title: str = ""
    text: str = ""
    problems: list[Problem] = field(default_factory=list)
    console: list[dict[str, str]] = field(default_factory=list)
    loads: list[tuple[Problem, str]] = field(default_factory=list)  # what the console says of failed requests, by URL
    failed_urls: set[str] = field(default_factory=set)

    def said(self, kind: str, text: str, where: str, url: str) -> None:
        """A message in the console, from a line (`where`) of what was loaded from `url`."""
        if len(self.console) < MESSAGES_LIMIT:
            self.console.append({"type": kind, "text": clean(text), "where": where})
        if kind != "error":
            return
        problem = Problem("console", clean(text), where)
        if text.startswith(NOT_LOADED):
            self.loads.append((problem, url))
        else:
            self.problems.append(problem)

    def raised(self, text: str, where: str) -> None:
        """An exception that the page did not catch."""
        self.problems.append(Problem("exception", clean(text), where))

    def answered(self, method: str, url: str, status: int, is_document: bool) -> None:
        if status < 400 or is_default_icon(url):
            return
        self.failed_urls.add(url)
        self.problems.append(Problem("document" if is_document else "request", f"{status} {method} {clean(url)}"))

    def failed(self, method: str, url: str, reason: str, is_document: bool) -> None:
        """A request without an answer. One that the page itself gave up, as it may, is no problem."""
        if reason == ABORTED or is_default_icon(url):
            return
        self.failed_urls.add(url)
        self.problems.append(Problem("document" if is_document else "request", f"{reason} {method} {clean(url)}"))

    def not_opened(self, reason: str) -> None:
        """The page did not open. Most often the request has told why already."""
        if not any(problem.kind == "document" for problem in self.problems):
            self.problems.append(Problem("document", f"did not open: {clean(reason)}"))

    def crashed(self) -> None:
        self.problems.append(Problem("crash", "the page crashed: often the browser had too little memory"))

    def script_failed(self, text: str) -> None:
        self.problems.append(Problem("script", clean(text)))

    def report(self, expected: list[re.Pattern[str]], files: list[str]) -> dict[str, Any]:
        """The report as a value of JSON. `expected`: patterns of problems that are meant."""
        # The console tells of failed requests once more; its word counts where nobody else has told.
        told = self.problems + [
            problem for problem, url in self.loads if url not in self.failed_urls and not is_default_icon(url)
        ]
        meant = [problem for problem in told if any(pattern.search(str(problem)) for pattern in expected)]
        bad = [problem for problem in told if problem not in meant]
        return {
            "passed": not bad,
            "url": self.url,
            "status": self.status,
            "title": clean(self.title),
            "problems": counted(bad),
            "expected": counted(meant),
            "console": self.console,
            "text": clean(self.text),
            "files": files,
        }


def is_default_icon(url: str) -> bool:
    """Browsers ask for it unasked, and few apps have it."""
    return urlsplit(url).path == "/favicon.ico"


def clean(text: str) -> str:
    """A text from the page for a terminal: no control characters but the end of a line, and not without end."""
    kept = "".join(char for char in text if char.isprintable() or char == "\n").strip()
    return kept if len(kept) <= TEXT_LIMIT else f"{kept[:TEXT_LIMIT]}..."


def place_in(stack: str) -> str:
    """Where an exception of a page was raised, out of its stack; "" when that says nothing."""
    found = re.search(r"^\s*at (?:.* \()?(.+?)\)?$", stack, re.MULTILINE)
    return found[1] if found else ""


def counted(problems: list[Problem]) -> list[dict[str, Any]]:
    """Each different problem once, with the number of times."""
    times: dict[Problem, int] = {}
    for problem in problems:
        times[problem] = times.get(problem, 0) + 1
    return [
        {"kind": problem.kind, "text": problem.text, "where": problem.where, "times": count}
        for problem, count in times.items()
    ]


def as_text(report: dict[str, Any]) -> str:
    """The short report for people. Its first line says how it went."""
    answer = f"answered {report['status']}" if report["status"] is not None else "not opened"
    title = f', title "{" ".join(report["title"].split())}"' if report["title"] else ""
    lines = [f"{'passed' if report['passed'] else 'FAILED'}: {report['url']} {answer}{title}"]
    lines += [f"  {line(problem)}" for problem in report["problems"]]
    refused = report["status"] is not None and report["status"] >= 400
    if refused and report["text"]:
        lines.append(f"  the page says: {shown(report['text'])}")
    if report["expected"]:
        lines += ["  as expected:", *(f"    {line(problem)}" for problem in report["expected"])]
    return "\n".join(lines) + "\n"


def line(problem: dict[str, Any]) -> str:
    text = shown(str(Problem(problem["kind"], problem["text"], problem["where"])))
    return text + (f" ({problem['times']} times)" if problem["times"] > 1 else "")


def shown(text: str) -> str:
    """On one line, and short."""
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN_LIMIT else f"{flat[:SHOWN_LIMIT]}..."


def of_exception(error: BaseException, file: str) -> str:
    """What a failing check says: the last line of `file` on the way to the exception, and the exception."""
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        where = f"{file.rpartition('/')[2]}:{error.lineno}: "
    else:
        where = f"{file.rpartition('/')[2]}:{places[-1].lineno}: {places[-1].line}: " if places else ""
    message = str(error).partition("\nCall log:")[0].strip()
    name = type(error).__name__
    return f"{where}{name}: {message}" if message else f"{where}{name}"
