"""Failed sign-ins: each is answered late, and an address that fails often is not listened to for a while.

A key has 160 random bits, so nobody guesses one; this keeps those who try from costing anything.
"""

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from console.errors import Refused

FAILURES, WINDOW_S = 10, 600.0
ADDRESSES = 10_000
LATE_S, WAITING = 1.0, 50


class Throttle:
    """`now` gives seconds. What is kept is bounded: the address that failed longest ago is forgotten first."""

    def __init__(self, now: Callable[[], float], late_s: float = LATE_S) -> None:
        self._now, self._late_s = now, late_s
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how often, and until when that counts
        self._waiting = 0

    def check(self, address: str) -> None:
        """Raises Refused for one that has failed too often."""
        count, until = self._failed.get(network(address), (0, 0.0))
        wait_s = until - self._now()
        if count >= FAILURES and wait_s > 0:
            minutes = f"{int(wait_s // 60) + 1} minutes"
            raise Refused(429, f"Too many sign-ins failed from your address. Try again in {minutes}.", int(wait_s) + 1)

    async def failed(self, address: str) -> None:
        """Counts it, and takes its time; not when many wait already, for they would only hold connections."""
        name, now = network(address), self._now()
        count, until = self._failed.pop(name, (0, 0.0))
        self._failed[name] = (count + 1, until) if until > now else (1, now + WINDOW_S)
        while len(self._failed) > ADDRESSES:
            self._failed.popitem(last=False)
        if self._waiting < WAITING:
            self._waiting += 1
            try:
                await asyncio.sleep(self._late_s)
            finally:
                self._waiting -= 1

    def succeeded(self, address: str) -> None:
        self._failed.pop(network(address), None)


def network(address: str) -> str:
    """Whose address it is: of IPv6, one customer has a whole /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
