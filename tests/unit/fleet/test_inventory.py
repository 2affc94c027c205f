"""What a host says that it has: all that is used later is looked at."""

from typing import Any

import pytest

from fleet.index import Index
from tests.unit.fleet.test_index import index, now, told

__all__ = ["index"]


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        *(("sandboxes", {key: None}) for key in ("templateID", "owner", "unlimited", "memoryMB", "endAt", "metadata")),
        *(("sandboxes", {"cpus": cpus}) for cpus in ("2", True, -1.0, float("nan"), float("inf"))),
        ("sandboxes", {"generation": "1"}),
        ("warm", {"templateID": None}),
        ("warm", {"cpus": None}),
    ],
)
def test_rows_that_nothing_can_be_done_with_change_nothing(index: Index, part: str, broken: dict[str, Any]) -> None:
    index._take("b", told("old1", warm=("old2",)), now(index))
    said = told("new1", warm=("new2",))
    said[part][0].update(broken)
    with pytest.raises((ValueError, TypeError)):
        index._take("b", said, now(index))
    assert [one.id for one in index.of("b")] == ["old1", "old2"]
