"""What is wrong with the host at the moment, for GET /health, the log and `pool start --wait`."""

import logging
import threading

log = logging.getLogger(__name__)


class Health:
    """Troubles by source. Reporting the same trouble again logs nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._troubles: dict[str, str] = {}

    def report(self, source: str, trouble: str) -> None:
        """Sets the trouble of a source; an empty text clears it."""
        with self._lock:
            before = self._troubles.pop(source, "")
            if trouble:
                self._troubles[source] = trouble
        if trouble and trouble != before:
            log.warning("%s: %s", source, trouble)
        elif before and not trouble:
            log.info("%s: well again", source)

    def forget(self, source: str) -> None:
        """The source is no more: its trouble is neither there nor over."""
        with self._lock:
            self._troubles.pop(source, None)

    def troubles(self) -> dict[str, str]:
        with self._lock:
            return dict(self._troubles)
