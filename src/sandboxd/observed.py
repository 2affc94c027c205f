"""What each request leaves behind: its time among the figures, and, if it may change something, a record of the audit.

The record is written before the last piece of the answer is sent: whoever has an answer finds it there.
"""

import time
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandboxd.actions import SAFE, action_of
from sandboxd.api.access import unix_socket
from sandboxd.audit import Act, within
from sandboxd.behalf import asker, asker_of_fleet
from sandboxd.records import Sandbox
from sandboxd.sandboxes import Sandboxes

EMPTY = (204, 304)  # whose headers are all that the client waits for
LEFT = 499  # the client went before there was an answer: nginx's number for it


@dataclass
class Request(Act):
    """An act whose name and parameters are known as soon as it is routed."""

    scope: Scope = field(default_factory=dict)

    def covers(self, action: str, row: Sandbox | None) -> bool:
        """Nothing, if it will not be recorded itself."""
        self.routed()
        return self.recorded and super().covers(action, row)

    @property
    def recorded(self) -> bool:
        return self.scope["method"] not in SAFE

    def routed(self) -> None:
        if self.action:
            return
        self.action = action_of(self.scope["method"], route_of(self.scope))
        given = {name: str(value) for name, value in self.scope.get("path_params", {}).items()}
        self.sandbox = self.sandbox or given.pop("sandbox_id", "")
        self.detail = self.detail or " ".join(
            f"{name}={value}" for name, value in given.items() if name != "sandbox_id"
        )


class Observed:
    def __init__(self, sandboxes: Sandboxes) -> None:
        self._figures, self._audit = sandboxes.figures, sandboxes.audit
        config = sandboxes.config
        self._console = f"{config.project}-console"  # the Unix user of the console
        self._fleet = str(config.fleet.socket) if config.fleet else ""

    async def serve(self, api: str, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets `app`, which the figures call `api`, answer a request."""
        of_fleet = self._fleet and unix_socket(scope) == self._fleet
        actor, address = asker_of_fleet(scope) if of_fleet else asker(scope, self._console)
        act = Request(actor, address=address, scope=scope)
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = act.status = message["status"]
                self._count(api, act, status)
                last = status in EMPTY
            else:
                last = not message.get("more_body", False)
            if act.recorded and last and not act.over:
                act.routed()
                self._audit.record(act)  # some 10 us, into the page cache; to hand it to a thread would take 60
            await send(message)

        with within(act):
            try:
                await app(scope, receive, watched)
            finally:
                if not status:
                    self._count(api, act, status)
                if act.recorded and not act.over:
                    act.routed()
                    act.status = status or LEFT
                    self._audit.record(act)

    def _count(self, api: str, act: Request, status: int) -> None:
        seconds = time.monotonic() - act.began
        self._figures.requested(api, act.scope["method"], route_of(act.scope), status, seconds)


def route_of(scope: Scope) -> str:
    """The path of the route that a request was led to, as it is declared; empty while there is none."""
    return str(getattr(scope.get("route"), "path", ""))
