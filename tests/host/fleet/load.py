"""Clients that make, use and end sandboxes of a fleet while something happens to it, and what they were refused."""

from __future__ import annotations

import re
import threading
from collections import Counter
from typing import Any

import httpx

from tests.host.api import Api
from tests.host.fleet.labs import LIMIT_S, NOT_NOW, Fleet
from tests.host.machine import eventually

STRETCHES = 5  # of load, until the machine has not stood still in one
LOST = re.compile(r"lost: node \S+")


class Load:
    """Clients of the API who make a sandbox, ask for it and end it, again and again; and what they were refused.

    That Swarm has not placed one in time, and nothing was made, is no refusal: it is asked for again.
    """

    def __init__(self, fleet: Fleet, api: Api, clients: int = 4) -> None:
        self._fleet, self._api = fleet, api
        self.lives = 0
        self._begun = dict.fromkeys(range(clients), 0)  # by client: how many lives of sandboxes
        self.refused: Counter[str] = Counter()
        self._not_now = 0
        self._stop = threading.Event()
        self._counting = threading.Lock()

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._work, args=(client,)) for client in self._begun]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, more: int = 8) -> None:
        """Wait until that many more sandboxes have lived."""
        until = self.lives + more
        eventually(lambda: self.lives, lambda lives: lives >= until, LIMIT_S, f"{more} more lives of sandboxes")

    def settle(self) -> None:
        """Wait until each client has begun anew: then whatever was on its way is answered, or refused."""
        before = dict(self._begun)
        eventually(
            lambda: dict(self._begun),
            lambda begun: all(count > before[client] for client, count in begun.items()),
            LIMIT_S,
            "a new beginning of each client",
        )

    def go_on_unrefused(self, lost: str = "") -> None:
        """More sandboxes live, and nobody is refused, while `lost` is lost. When the manager has lost another host
        meanwhile, whose sandboxes it then refuses, the machine stood still: that time counts nothing.
        """
        for _ in range(STRETCHES):
            missed, before = self._fleet.missed(), self.refusals()
            self.go_on()
            if (refused := self.refusals() - before) == Counter():
                return
            if not (self._fleet.missed() - missed).keys() - {lost}:
                break
            self.settle()
        raise AssertionError(f"refused: {dict(refused)}")

    def refusals(self) -> Counter[str]:
        with self._counting:
            return Counter(self.refused)

    def count(self) -> dict[str, Any]:
        return {"lives": self.lives, "refused": dict(self.refusals()), "not now": self._not_now}

    def _work(self, client: int) -> None:
        while not self._stop.is_set():
            self._begun[client] += 1
            if (made := self._ask("POST", "/v2/sandboxes", json={"templateID": "base", "timeout": 300})) is None:
                continue
            one = made.json()["sandboxID"]
            self._api.made.append(one)
            asked = self._ask("GET", f"/sandboxes/{one}")
            if self._ask("DELETE", f"/sandboxes/{one}") and asked:
                with self._counting:
                    self.lives += 1

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        try:
            answer = self._api.request(method, path, timeout=60, **options)
            if answer.is_success:
                return answer
            said = answer.json()["message"]
            why = "" if NOT_NOW.search(said) else f"{answer.status_code} {LOST.sub('lost: node X', said)[:60]}"
        except httpx.TransportError as error:
            why = type(error).__name__
        with self._counting:
            if why:
                self.refused[f"{method}: {why}"] += 1
            else:
                self._not_now += 1
        self._stop.wait(0.2)
        return None
