"""Somebody who asks for a page of another sandbox all the time, while a test is mean to his neighbour."""

from __future__ import annotations

import threading
import time

from tests.host.machine import Machine


class Neighbour:
    """Keeps what was answered: the page, or the error as a text; and how long each answer took."""

    def __init__(self, machine: Machine, url: str) -> None:
        self._machine, self._url = machine, url
        self.answers: list[str] = []
        self.times_s: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    @property
    def slowest_s(self) -> float:
        return max(self.times_s, default=0.0)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stopped.wait(0.05):
            asked = time.monotonic()
            try:
                self.answers.append(self._machine.request("GET", self._url).text)
            except Exception as error:  # the test tells it
                self.answers.append(repr(error))
            self.times_s.append(time.monotonic() - asked)
