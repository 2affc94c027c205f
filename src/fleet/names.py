"""A few names in a file, one a line: what is still to be done outlives this service."""

import logging
import os
from collections.abc import Collection
from pathlib import Path

log = logging.getLogger(__name__)


class Names:
    """Those of them that are `known`. Without a file, or with one that cannot be written, they are in memory alone."""

    def __init__(self, file: Path | None, known: Collection[str]) -> None:
        self._file = file
        self._names = set(_read(file)) & set(known) if file else set[str]()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        if name not in self._names:
            self._names.add(name)
            self._write()

    def discard(self, name: str) -> None:
        if name in self._names:
            self._names.discard(name)
            self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        new = self._file.with_name(f"{self._file.name}.new")
        try:
            new.write_text("".join(f"{name}\n" for name in sorted(self._names)))
            os.replace(new, self._file)
        except OSError as error:
            log.error("%s is not written: %s", self._file, error.strerror)


def _read(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        log.error("%s is not read: %s", file, error)
        return []
