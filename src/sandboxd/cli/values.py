"""The values of flags: text in, value out. Raises argparse.ArgumentTypeError, whose message argparse shows."""

from argparse import ArgumentTypeError

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
POOL_MAX = 1000  # as in sandboxd.config, which costs too much to import here
UNITS_MB = {"m": 1, "g": 1024, "t": 1024 * 1024}


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


def limit(text: str) -> float:
    """Seconds; without end is not possible."""
    seconds = duration(text)
    if seconds is None:
        raise ArgumentTypeError("'none' is no limit: write 90s, 15m, 12h or 2d")
    return seconds


def age(text: str) -> float:
    """Seconds, 0 among them."""
    seconds = 0.0 if text in ("0", "0s") else duration(text)
    if seconds is None:
        raise ArgumentTypeError("'none' is no age: write 90s, 15m, 12h or 2d")
    return seconds


def since(text: str) -> float | None:
    """Seconds back from now, None for "all"."""
    return None if text == "all" else age(text)


def size_mb(text: str) -> int:
    """MiB of 512m, 20g or 1t."""
    number, factor = text[:-1], UNITS_MB.get(text[-1:].lower(), 0)
    if not (factor and number.isdecimal() and int(number)):
        raise ArgumentTypeError(f"{text!r} is no size: write 512m, 20g or 1t")
    return int(number) * factor


def pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text!r} is no port: write a number from 1 to 65535")
    return int(text)


def pool_size(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > POOL_MAX:
        raise ArgumentTypeError(f"{text!r} is no size of a pool: write a whole number from 0 to {POOL_MAX}")
    return int(text)


def depth(text: str) -> int:
    """A number of levels, at least one."""
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 1_000_000:
        raise ArgumentTypeError(f"{text!r} is no depth: write a whole number from 1")
    return int(text)


def url_path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable() or " " in text:
        raise ArgumentTypeError(f"{text!r} is no path of a URL: write /, /about or /search?q=x")
    return text


def line_count(text: str) -> int | None:
    """A number of lines, None for "all"."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) > 10**9:
        raise ArgumentTypeError(f"{text!r} is no number of lines: write 0, 20 or all")
    return int(text)
