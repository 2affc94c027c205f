"""The table for people."""

from typing import Any

import pytest

from tools.bench.host.measure import Goal, Samples, row
from tools.bench.table import in_words, table


def fields(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_is_a_line_of_markdown() -> None:
    lines = table(
        [
            row("init", Samples([20.0]), Samples([200.0], failed=1), "docker run -d", Goal(median=10)),
            row("kill", Samples([5.5])),
        ]
    ).splitlines()
    assert len({len(line) for line in lines}) == 1
    head, _, init, kill = map(fields, lines)
    assert head[:5] == ["what", "n", "ratio", "in words", "ours"]
    figures = ["20", "20", "100%", "200", "200", "50%"]
    assert init == ["init", "1", "0.10", "10.0 times as fast", *figures, "ms", "median <= 10", "NO", "docker run -d"]
    assert kill == ["kill", "1", "-", "-", "5.5", "5.5", "100%", "-", "-", "-", "ms", "-", "-", "-"]


def test_the_rule_marks_columns_of_numbers() -> None:
    rule = fields(table([row("init", Samples([20.0]))]).splitlines()[1])
    assert rule[0].strip("-") == "" and rule[1].endswith("-:")


@pytest.mark.parametrize(
    ("ratio", "unit", "more", "words"),
    [
        (0.25, "ms", False, "4.0 times as fast"),
        (1.02, "ms", False, "as fast"),
        (1.5, "ms", False, "takes 1.50 times as long"),
        (0.79, "req/s", True, "79% of the peer's"),
        (3.0, "MB", False, "300% of the peer's"),
        (None, "ms", False, "-"),
    ],
)
def test_a_ratio_in_words(ratio: float | None, unit: str, more: bool, words: str) -> None:
    made: dict[str, Any] = {"ratio": ratio, "unit": unit, "more_is_better": more}
    assert in_words(made) == words
