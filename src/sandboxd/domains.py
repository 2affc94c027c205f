"""Names in allow lists, as values: what one may look like. Nothing is touched.

Who may give names is decided in `policy`, and who is let through by them in `egressproxy`.
"""

import re

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LONGEST = 253  # characters of a whole name, by RFC 1035
MOST, TOGETHER = 100, 4000  # of one sandbox: names, and their characters. HAProxy takes a line of 16 KiB
BELOW = "*."


def is_name(entry: str) -> bool:
    """Whether an entry of a list means a name, be it a wrong one, and no address."""
    return ":" not in entry and any(char.isalpha() or char == "*" for char in entry)


def normal(entry: str) -> str:
    """A name as it is kept: `pypi.org`, or `*.pythonhosted.org` for all that is below; in lower case and in ASCII.

    Raises ValueError, which says what is wrong with it.
    """
    below, name = (BELOW, entry[2:]) if entry.startswith(BELOW) else ("", entry)
    try:
        plain = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"is no name of the DNS: {error}") from None
    plain = plain.lower().removesuffix(".")
    labels = plain.split(".")
    if not all(LABEL.fullmatch(label) for label in labels) or len(plain) > LONGEST:
        raise ValueError("is no name, such as pypi.org or *.pythonhosted.org, and no address")
    if len(labels) < 2 and not below:
        raise ValueError("has no dot: give whole names, such as pypi.org")
    if labels[-1].isdecimal():
        raise ValueError("ends with a number, as no name does")
    return below + plain
