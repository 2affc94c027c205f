"""Moments as texts."""

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """Unix seconds in UTC, to the millisecond, with a `Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
