"""The public API of a machine, asked with a key of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.host.machine import Machine, Sandbox


class Api:
    """What was made by `create` is removed with the key."""

    def __init__(self, machine: Machine, key: str) -> None:
        self.machine, self.key = machine, key
        self.url = f"https://api.{machine.settings.domain}"
        self.made: list[str] = []

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"X-API-Key": self.key, **options.pop("headers", {})}
        return self.machine.request(method, self.url + path, headers=headers, **options)

    def ask(self, method: str, path: str, status: int, **options: Any) -> Any:
        """The JSON of an answer that must have this status."""
        answer = self.request(method, path, **options)
        assert answer.status_code == status, f"{answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def create(self, **body: Any) -> dict[str, Any]:
        """What is answered to the create of a sandbox."""
        answer = self.ask("POST", "/v2/sandboxes", 201, json={"templateID": "base", "timeout": 600, **body})
        self.made.append(answer["sandboxID"])
        return dict(answer)

    @contextmanager
    def sandbox(self, **body: Any) -> Iterator[Sandbox]:
        made = Sandbox(self.machine, self.create(**body)["sandboxID"])
        try:
            yield made
        finally:
            self.machine.run(f"docker-sandbox kill {made.id}", check=False)


@contextmanager
def with_key(machine: Machine, name: str) -> Iterator[Api]:
    made = json.loads(machine.out(f"docker-sandbox key create {name} --json"))
    api = Api(machine, made["key"])
    try:
        yield api
    finally:
        if api.made:
            machine.run(f"docker-sandbox kill {' '.join(api.made)}", check=False)
        machine.run(f"docker-sandbox key revoke {made['keyID']}", check=False)
