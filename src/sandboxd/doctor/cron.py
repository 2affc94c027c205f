"""When a line of cron was due last. Values only. Grammar: crontab(5)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

MACROS = {"@hourly": "0 * * * *", "@daily": "0 0 * * *"}
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))  # minute, hour, day of the month, month, day of the week
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LOOK_BACK_MINUTES = 8 * 24 * 60


def last_due(schedule: str, before: datetime) -> datetime | None:
    """The last minute before that time at which the schedule was due; None when it was not for more than a week.

    Raises ValueError for what is no schedule.
    """
    words = MACROS.get(schedule, schedule).split()
    if len(words) != len(RANGES):
        raise ValueError(f"{schedule!r} has not five fields")
    fields = [_values(word, field) for field, word in enumerate(words)]
    days = (words[2].startswith("*"), words[4].startswith("*"))
    minute = before.replace(second=0, microsecond=0)
    for _ in range(LOOK_BACK_MINUTES):
        if minute < before and _matches(fields, days, minute):
            return minute
        minute -= timedelta(minutes=1)
    return None


def _matches(fields: Sequence[set[int]], any_day: tuple[bool, bool], moment: datetime) -> bool:
    of_month, of_week = moment.day in fields[2], moment.isoweekday() % 7 in fields[4]
    # When both are restricted, one of them suffices.
    day = (of_month and of_week) if any(any_day) else (of_month or of_week)
    return day and moment.minute in fields[0] and moment.hour in fields[1] and moment.month in fields[3]


def _values(word: str, field: int) -> set[int]:
    low, high = RANGES[field]
    found: set[int] = set()
    for part in word.lower().split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            start, end = low, high
        else:
            start = _number(first, field)
            end = _number(last, field) if dash else high if step else start
        if not low <= start <= end <= high or (step and not step.isdecimal()) or step == "0":
            raise ValueError(f"{word!r} is no field of cron")
        found |= set(range(start, end + 1, int(step or 1)))
    return {value % 7 for value in found} if field == 4 else found


def _number(text: str, field: int) -> int:
    """-1 for what is neither a number nor a name."""
    if text.isdecimal():
        return int(text)
    if field == 3 and text in MONTHS:
        return MONTHS.index(text) + 1
    return DAYS.index(text) if field == 4 and text in DAYS else -1
