"""How a list of checks is gone through."""

import pytest

from sandboxd.doctor.findings import Check, Finding, Verdict, examine, fail, ok, skip, warn
from sandboxd.doctor.readers import Readers
from tests.unit.sandboxd.fake_engine import down


def always(verdict: Verdict | Exception) -> Check:
    def look(_: Readers) -> Verdict:
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    return Check("it", look)


def found(readers: Readers, *checks: Check) -> list[Finding]:
    return list(examine(checks, readers, lambda: False, "look there"))


def named(name: str, verdict: Verdict | Exception, *needs: str) -> Check:
    return Check(name, always(verdict).look, needs)


def test_each_verdict_becomes_a_finding(readers: Readers) -> None:
    findings = found(readers, named("a", ok("fine")), named("b", warn("odd", "do")), named("c", fail("bad", "mend")))
    assert findings == [
        Finding("a", "ok", "fine", ""),
        Finding("b", "warn", "odd", "do"),
        Finding("c", "fail", "bad", "mend"),
    ]


def test_one_failure_is_told_once(readers: Readers) -> None:
    """Whatever needs it, or needs what needs it, is not looked at."""
    looked = named("c", RuntimeError("looked at"), "b")
    findings = found(readers, named("a", fail("bad", "mend")), named("b", ok(""), "x", "a"), looked, named("d", ok("")))
    assert [(one.name, one.level, one.seen) for one in findings[1:]] == [
        ("b", "blocked", "needs a"),
        ("c", "blocked", "needs b"),
        ("d", "ok", ""),
    ]


@pytest.mark.parametrize("verdict", [ok(""), warn("odd", "do"), skip("not here")])
def test_what_did_not_fail_blocks_nothing(readers: Readers, verdict: Verdict) -> None:
    assert found(readers, named("a", verdict), named("b", ok(""), "a"))[1].level == "ok"


@pytest.mark.parametrize("error", [down(), PermissionError(13, "Permission denied", "/x")])
def test_an_error_is_a_failure_in_its_own_words(readers: Readers, error: Exception) -> None:
    assert found(readers, named("a", error)) == [Finding("a", "fail", str(error), "look there")]


def test_a_mistake_in_a_check_stops_no_other(readers: Readers) -> None:
    first, second = found(readers, named("a", KeyError("x")), named("b", ok("")))
    assert (first.level, second.level) == ("fail", "ok") and "the check itself failed: KeyError" in first.seen


def test_it_ends_when_nobody_listens(readers: Readers) -> None:
    assert list(examine([named("a", ok(""))], readers, lambda: True, "")) == []
