"""When a schedule was due last."""

from datetime import datetime

import pytest

from sandboxd.doctor.cron import last_due

NOW = datetime(2027, 1, 15, 8, 20, 30)  # a Friday


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("* * * * *", datetime(2027, 1, 15, 8, 20)),
        ("0 * * * *", datetime(2027, 1, 15, 8, 0)),
        ("@hourly", datetime(2027, 1, 15, 8, 0)),
        ("@daily", datetime(2027, 1, 15, 0, 0)),
        ("20 8 * * *", datetime(2027, 1, 15, 8, 20)),
        ("21 8 * * *", datetime(2027, 1, 14, 8, 21)),
        ("*/15 * * * *", datetime(2027, 1, 15, 8, 15)),
        ("5-59/20 * * * *", datetime(2027, 1, 15, 8, 5)),
        ("50/5 * * * *", datetime(2027, 1, 15, 7, 55)),
        ("0 6,18 * * *", datetime(2027, 1, 15, 6, 0)),
        ("0 0 * * mon", datetime(2027, 1, 11, 0, 0)),
        ("0 0 * * 1-3", datetime(2027, 1, 13, 0, 0)),
        ("0 0 * * 7", datetime(2027, 1, 10, 0, 0)),
        ("0 0 * * 0", datetime(2027, 1, 10, 0, 0)),
        ("0 0 13 * *", datetime(2027, 1, 13, 0, 0)),
        ("0 0 13 * fri", datetime(2027, 1, 15, 0, 0)),  # either of both
        ("0 0 */2 * fri", datetime(2027, 1, 15, 0, 0)),  # both, since one begins with *
        ("0 0 * JAN sun", datetime(2027, 1, 10, 0, 0)),
        ("0 0 1 7 *", None),  # longer ago than anybody waits for
    ],
)
def test_due(schedule: str, due: datetime | None) -> None:
    assert last_due(schedule, NOW) == due


def test_the_present_minute_is_not_before_itself() -> None:
    assert last_due("* * * * *", datetime(2027, 1, 15, 8, 20)) == datetime(2027, 1, 15, 8, 19)


@pytest.mark.parametrize(
    "schedule",
    ["", "0 * * *", "@yearly", "60 * * * *", "x * * * *", "0 0 0 * *", "*/0 * * * *", "*/x * * * *", "5-1 * * * *"],
)
def test_what_is_no_schedule(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"five fields|is no field"):
        last_due(schedule, NOW)
