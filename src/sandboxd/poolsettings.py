"""Which pools are on, and how large each shall be: the configuration, and what was said at run time.

The latter is kept in the ledger's settings, so that a restart of the daemon changes nothing. Nothing else is touched.
"""

from sandboxd.config import Config
from sandboxd.ledger import Ledger

ENABLED = "pool_enabled"  # yes or no for all; with :TEMPLATE behind it for one, which goes before
SIZE = "pool_size"  # with :TEMPLATE; "5 instead of 3": the 5 holds as long as 3 is what the configuration says


class PoolSettings:
    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._templates, self._ledger = config.templates, ledger

    def enabled(self, template: str) -> bool:
        own = self._ledger.setting(f"{ENABLED}:{template}")
        return (own or self._ledger.setting(ENABLED)) == "yes"

    def turn(self, on: bool, template: str = "") -> None:
        """Turns one pool on or off, or all of them, those of templates that a later deploy brings among them."""
        value = "yes" if on else "no"
        if template:
            self._ledger.set_setting(f"{ENABLED}:{template}", value)
            return
        for name in self._templates:
            self._ledger.set_setting(f"{ENABLED}:{name}", "")
        self._ledger.set_setting(ENABLED, value)

    def size(self, template: str) -> int:
        """How many members the pool shall have when it is on."""
        configured = self._templates[template].pool
        size, _, instead_of = self._ledger.setting(f"{SIZE}:{template}").partition(" instead of ")
        return int(size) if instead_of == str(configured) else configured

    def resize(self, template: str, size: int) -> None:
        """Another size, until a deploy configures another one than now."""
        configured = self._templates[template].pool
        kept = "" if size == configured else f"{size} instead of {configured}"
        self._ledger.set_setting(f"{SIZE}:{template}", kept)
