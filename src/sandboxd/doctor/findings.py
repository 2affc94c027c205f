"""Checks, verdicts and findings; and how a list of checks is gone through. Values; touches nothing by itself.

What the levels mean: ok; warn: works today, but look at it; fail: sandboxes cannot be made, reached, walled off or
cleaned up as promised; skip: does not apply to this host; blocked: another check, which it needs, failed.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from sandboxd.doctor.readers import Readers
from sandboxd.errors import SandboxdError

log = logging.getLogger(__name__)

OK, WARN, FAIL, SKIP, BLOCKED = "ok", "warn", "fail", "skip", "blocked"
DEPLOY = "deploy again from the workstation: make deploy"


@dataclass(frozen=True)
class Verdict:
    """`seen` is what was found, `remedy` one line that says what to do; each warn and fail has one."""

    level: str
    seen: str
    remedy: str = ""


@dataclass(frozen=True)
class Finding:
    """A verdict with the name of its check."""

    name: str
    level: str
    seen: str
    remedy: str


@dataclass(frozen=True)
class Check:
    """`needs` names checks that come earlier; when one of them fails, this one would only say so again."""

    name: str
    look: Callable[[Readers], Verdict]
    needs: tuple[str, ...] = ()


def ok(seen: str) -> Verdict:
    return Verdict(OK, seen)


def warn(seen: str, remedy: str) -> Verdict:
    return Verdict(WARN, seen, remedy)


def fail(seen: str, remedy: str) -> Verdict:
    return Verdict(FAIL, seen, remedy)


def skip(reason: str) -> Verdict:
    return Verdict(SKIP, reason)


def examine(checks: Sequence[Check], readers: Readers, stopped: Callable[[], bool], look_at: str) -> Generator[Finding]:
    """Each finding as soon as it is known, until `stopped`. A check that raises is a failure, and names `look_at`."""
    bad: set[str] = set()
    for check in checks:
        if stopped():
            return
        missing = [name for name in check.needs if name in bad]
        verdict = Verdict(BLOCKED, f"needs {missing[0]}") if missing else _look(check, readers, look_at)
        if verdict.level in (FAIL, BLOCKED):
            bad.add(check.name)
        yield Finding(check.name, verdict.level, verdict.seen, verdict.remedy)


def _look(check: Check, readers: Readers, look_at: str) -> Verdict:
    try:
        return check.look(readers)
    except (SandboxdError, OSError) as error:
        return fail(str(error), look_at)
    except Exception as error:
        log.exception("check %s failed", check.name)
        return fail(f"the check itself failed: {error!r}", look_at)
