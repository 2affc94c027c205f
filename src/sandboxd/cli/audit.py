"""The verb `audit`: who did what on this host. Reads the log's own files, so it needs no sandboxd, but the right to."""

import json
import re
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandboxd.cli import place
from sandboxd.cli.exits import OK, CliError
from sandboxd.cli.printing import plain

ROTATED = re.compile(r"\.(\d+)(\.gz)?")


def run(options: Namespace, config: str) -> int:
    path = Path(place.audit_log(config))
    since = 0.0 if options.since is None else time.time() - options.since
    try:
        for record in records(path, since):
            if wanted(options, record):
                print(json.dumps(record) if options.json else line(record), flush=False)
    except PermissionError as error:
        raise CliError(
            f"{error.filename}: permission denied. The audit log is for root and the group adm: use sudo"
        ) from error
    return OK


def records(path: Path, since: float) -> Iterator[dict[str, Any]]:
    """Those of that Unix time and later, oldest first, rotated files included. Raises OSError."""
    # As texts, such times sort as they follow each other.
    first = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
    for file in files(path):
        if file.stat().st_mtime < since:
            continue
        with opened(file) as lines:
            for text in lines:
                try:
                    record = json.loads(text)
                except ValueError:  # what a power cut has left of a line
                    continue
                if record["time"] >= first:
                    yield record


def files(path: Path) -> list[Path]:
    """The log and what logrotate made of it, oldest first."""
    found = {}
    for file in path.parent.iterdir() if path.parent.exists() else ():
        if file.name == path.name:
            found[0] = file
        elif file.name.startswith(path.name) and (match := ROTATED.fullmatch(file.name[len(path.name) :])):
            found[int(match[1])] = file
    return [found[number] for number in sorted(found, reverse=True)]


def opened(file: Path) -> Any:
    if file.suffix != ".gz":
        return file.open(errors="replace")
    import gzip  # only here: it costs some milliseconds

    return gzip.open(file, "rt", errors="replace")


def wanted(options: Namespace, record: dict[str, Any]) -> bool:
    return (
        record["sandbox"].startswith(options.id)
        and options.actor in ("", *record["actor"].values())
        and (not options.action or record["action"] in options.action)
    )


def line(record: dict[str, Any]) -> str:
    outcome = "ok" if record["outcome"] == "ok" else f"{record['status']}"
    words = "; ".join(text for text in (record["detail"], record["error"]) if text)
    columns = (
        record["time"],
        f"{who(record['actor']):<16}",
        f"{record['address'] or '-':<15}",
        f"{record['action']:<14}",
        f"{record['sandbox'] or '-':<12}",
        f"{record['template'] or '-':<10}",
        f"{outcome:<3}",
        f"{record['ms']:>8.1f} ms",
        words,
    )
    return plain("  ".join(columns).rstrip())


def who(actor: dict[str, str]) -> str:
    return " ".join(text for text in (actor["kind"], actor["name"] or actor["id"]) if text)
