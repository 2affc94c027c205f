"""docs/e2b-conformance.md is in step with the features of tests/e2b."""

import json

import pytest

from tools.e2b_rows import ROWS, Row
from tools.e2b_table import ABSENT, FAIL, NOT_RUN, PAGE, PASS, RESULTS, TITLES, features, page, programs

SHOWN = {name for row in ROWS for name in row.features}


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(json.loads(RESULTS.read_text())), "run `make docs`"


@pytest.mark.parametrize("program", programs())
def test_every_feature_has_a_row(program: str) -> None:
    assert program in TITLES, "name its client in tools/e2b_table.py"
    assert not [name for name in features(program) if name not in SHOWN], "add them to tools/e2b_rows.py"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_every_row_has_features_that_exist_or_a_reason(row: Row) -> None:
    present = {name for program in programs() for name in features(program)}
    assert bool(row.features) is not bool(row.reason)
    assert not set(row.features) - present


def test_one_client_is_one_column_and_the_worst_word_counts() -> None:
    rows = (
        Row("a", "`a()`", ("commands", "files")),
        Row("b", "`b()`", ("list_filters", "git_with_a_daemon")),
        Row("c", "`c()`", reason="no need"),
    )
    results = {
        "date": "2026-01-01",
        "clients": {
            "python_sync 1.0": {"commands": PASS, "files": FAIL},
            "python_base 1.0": {"list_filters": ABSENT, "git_with_a_daemon": PASS},
            "javascript 2.0": {"commands": PASS},
        },
    }
    text = page(results, rows)
    assert "* A: Python 1.0\n* B: npm 2.0\n" in text
    assert f"| a | `a()` | {FAIL} | {NOT_RUN} |" in text
    assert f"| b | `b()` | {PASS} |  |" in text
    assert "| c | `c()` | no need |" in text
