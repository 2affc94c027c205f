"""The table of the CIS Docker Benchmark: the page is made from it, and what it claims is what is tested."""

import ast

import pytest

from deploys import ROOT
from tests.host.test_cis import FILES
from tools.cis import PAGE, SOURCE, Row, page, sections

ROWS = [row for section in sections(SOURCE.read_text()).values() for row in section]


def numbers_of_checks() -> list[str]:
    """The numbers of which tests/host/test_cis.py has a check: in the names of its tests, and those of files."""
    module = ast.parse((ROOT / "tests/host/test_cis.py").read_text())
    functions = [node.name for node in module.body if isinstance(node, ast.FunctionDef)]
    words = [name.split("_")[1:] for name in functions if name.startswith("test_")]
    numbers = [[word for word in name if word.isdecimal()] for name in words]
    return [".".join(parts) for parts in numbers if parts] + list(FILES)


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(SOURCE.read_text()), "run `make docs`"


def test_what_holds_is_what_is_tested() -> None:
    assert sorted(numbers_of_checks()) == sorted(row.number for row in ROWS if row.holds)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_every_row_holds_or_says_why_not(row: Row) -> None:
    assert row.asks and (row.holds or row.but)
    assert "|" not in row.asks + row.holds + row.but


def test_numbers_are_in_order_and_none_is_left_out() -> None:
    numbers = [tuple(map(int, row.number.split("."))) for row in ROWS]
    assert numbers == sorted(set(numbers))
    last = {(1, 1): 18, (1, 2): 2, (2,): 18, (3,): 24, (4,): 12, (5,): 32, (6,): 2}
    assert numbers == [(*section, number) for section, most in last.items() for number in range(1, most + 1)]


def test_rows_become_lines_of_tables() -> None:
    text = page('["Images"]\n"4.1" = { asks = "a", holds = "b" }\n"4.2" = { asks = "c", but = "d" }\n')
    assert "Of 2, 1 hold, 0 hold but for what is said, and 1 do not." in text
    table = "## Images\n\n| number | asks for | holds | but |\n|---|---|---|---|\n"
    assert text.endswith(f"{table}| 4.1 | a | b | - |\n| 4.2 | c | - | d |\n")
