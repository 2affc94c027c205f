"""The verb `stats`: a table of what sandboxes use, renewed on a terminal, else once."""

import sys
import time
from argparse import Namespace
from functools import partial
from typing import Any

from sandboxd.cli import place, printing, statstable
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import OK
from sandboxd.cli.http1 import quote
from sandboxd.cli.interrupts import terminable
from sandboxd.cli.rates import with_rates

EVERY_S = 1.0
ONCE_S = 0.5  # between the two looks from which rates are made
NOTHING = "no sandboxes; make one with: docker-sandbox init"


def run(options: Namespace, config: str) -> int:
    control = ControlPlane(place.read(config).socket)
    target = "/stats" + "".join(f"{'&' if number else '?'}id={quote(one)}" for number, one in enumerate(options.ids))
    if options.once or options.json or not sys.stdout.isatty():
        return once(options, control, target)
    with terminable():
        watch(control, target)
    return OK


def once(options: Namespace, control: ControlPlane, target: str) -> int:
    first = last = control.get(target)
    if first["sandboxes"]:
        time.sleep(ONCE_S)
        last = control.get(target)
    rows = with_rates(first, last)
    table = "\n".join(statstable.lines(rows, last["at"])) if rows else NOTHING
    printing.show(options, {"at": last["at"], "sandboxes": rows}, lambda: table)
    return OK


def watch(control: ControlPlane, target: str) -> None:
    """Until q. Ctrl-C ends it, too, as it ends everything."""
    from sandboxd.cli.screen import Screen  # only here: `termios` and `signal` are for terminals

    before = after = control.get(target)
    with Screen() as screen:
        while True:
            rows = statstable.busiest_first(with_rates(before, after))
            now: float = after["at"]
            screen.show(partial(picture, rows, now))
            if screen.quit_within(EVERY_S):
                return
            before, after = after, control.get(target)


def picture(rows: list[dict[str, Any]], now: float, width: int, height: int) -> list[str]:
    """At most `height` lines of at most `width` characters: a summary, and the rows that there is room for."""
    if not rows:
        return [NOTHING[:width]]
    head, *table = statstable.lines(rows, now, width)
    room = max(0, height - 3)  # the summary, the head, and the line about the rest
    shown = table if len(table) <= room + 1 else table[:room]
    left = [f"... and {len(table) - len(shown)} less busy"] if len(shown) < len(table) else []
    return [line[:width] for line in (f"{statstable.total(rows)}   (q ends)", head, *shown, *left)][:height]
