"""The values of flags: text in, value out. Raises argparse.ArgumentTypeError, whose message argparse shows."""

from argparse import ArgumentTypeError

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> float | None:
    """Seconds of 90, 90s, 15m, 12h or 2d; None for "none"."""
    if text == "none":
        return None
    number, factor = (text[:-1], UNITS_S[text[-1]]) if text[-1:] in UNITS_S else (text, 1)
    try:
        seconds = float(number) * factor
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise ArgumentTypeError(f"{text!r} is no duration: write 90, 90s, 15m, 12h, 2d or none")
    return seconds


def age(text: str) -> float:
    """Seconds, 0 among them."""
    seconds = 0.0 if text in ("0", "0s") else duration(text)
    if seconds is None:
        raise ArgumentTypeError("'none' is no age: write 90s, 15m, 12h or 2d")
    return seconds


def pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text!r} is no port: write a number from 1 to 65535")
    return int(text)
