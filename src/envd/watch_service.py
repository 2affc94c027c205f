"""The methods of `filesystem.Filesystem` that watch: by a stream, or by a watcher that is asked from time to time.

A stream takes no more from the kernel than its client takes from it. A watcher collects, up to a limit. Where nothing
is watched, the modules that do it are not even imported.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING

from envd import fields
from envd.codec import JsonObject
from envd.connect import Call, Method, ServerStream, Unary
from envd.entries import describe
from envd.errors import EnvdError, not_found
from envd.identity import run_as
from envd.oserrors import rpc_error
from envd.users import User, expand_path

if TYPE_CHECKING:
    from envd.trees import Event
    from envd.watches import Watch

MAX_COLLECTED_BYTES = 16 * 1024 * 1024  # by all watchers of a sandbox together, for those who do not ask
DRAINED_EVENTS = 8192  # at most in one answer, which is made in memory; the next has the others
EVENT_COST_BYTES = 48  # counted for each event besides its text: what Python needs for it


class WatchService:
    """One method of this class for each of the service's."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._watchers: dict[str, Watcher] = {}

    def methods(self) -> dict[str, Method]:
        return {
            "WatchDir": ServerStream(self.watch_dir),
            "CreateWatcher": Unary(self.create_watcher),
            "GetWatcherEvents": Unary(self.get_watcher_events),
            "RemoveWatcher": Unary(self.remove_watcher),
        }

    async def watch_dir(self, call: Call, message: JsonObject) -> AsyncGenerator[JsonObject, None]:
        """`start` once the directory is watched: from then on nothing is missed."""
        teller = _Teller(call, message)
        watch = self._watch(teller, message)
        try:
            await _opened(watch)
            yield {"start": {}}
            while True:
                events = await watch.events(call.keepalive_s)
                for told in await teller.tell(events) if events else ():
                    yield {"filesystem": told}
                if not events:
                    yield {"keepalive": {}}
        finally:
            watch.close()

    async def create_watcher(self, call: Call, message: JsonObject) -> JsonObject:
        """It lives until it is removed, whether somebody asks it or not."""
        teller = _Teller(call, message)
        watch = self._watch(teller, message)
        try:
            await _opened(watch)
        except BaseException:
            watch.close()
            raise
        identity = f"w{os.urandom(8).hex()}"
        self._watchers[identity] = Watcher(watch, teller, self._watchers)
        return {"watcherId": identity}

    async def get_watcher_events(self, call: Call, message: JsonObject) -> JsonObject:
        return {"events": self._watcher(message).drain()}

    async def remove_watcher(self, call: Call, message: JsonObject) -> JsonObject:
        watcher = self._watcher(message)
        del self._watchers[fields.text(message, "watcherId")]
        watcher.end()
        return {}

    def _watch(self, teller: "_Teller", message: JsonObject) -> "Watch":
        # Here, in the agent's own name: see `remove` in envd.filesystem_service.
        from envd.watches import Watch

        return Watch(teller.path, fields.boolean(message, "recursive"), teller.user, self._watches)

    def _watcher(self, message: JsonObject) -> "Watcher":
        identity = fields.text(message, "watcherId")
        watcher = self._watchers.get(identity)
        if watcher is None:
            raise not_found(f"watcher with id {identity} not found")
        return watcher


class Watcher:
    """Collects what a watch tells until somebody asks for it."""

    def __init__(self, watch: "Watch", teller: "_Teller", peers: dict[str, "Watcher"]) -> None:
        """`peers` are all watchers of the sandbox, which share a limit."""
        self._watch = watch
        self._teller = teller
        self._peers = peers
        self._events: list[bytes] = []  # as JSON, a quarter of the size of Python's objects
        self._last: Event | None = None  # of self._events, if there are any
        self._collected_bytes = 0
        self._failure: EnvdError | None = None
        self._task = asyncio.get_running_loop().create_task(self._collect())
        self._task.add_done_callback(lambda _: watch.close())  # also when it ends before it has begun

    def drain(self) -> list[JsonObject]:
        """What was collected since the last time, or the first DRAINED_EVENTS of it.

        When nothing is left and nothing more will come, raises the reason.
        """
        if not self._events and self._failure is not None:
            raise self._failure
        events, self._events = self._events[:DRAINED_EVENTS], self._events[DRAINED_EVENTS:]
        self._collected_bytes -= sum(map(_cost, events))
        return [json.loads(event) for event in events]

    def end(self) -> None:
        self._task.cancel()

    async def _collect(self) -> None:
        try:
            while True:
                events = await self._watch.events()
                for event, told in zip(events, await self._teller.tell(events), strict=True):
                    self._keep(event, json.dumps(told).encode())
        except EnvdError as error:
            self._failure = error

    def _keep(self, event: "Event", told: bytes) -> None:
        if self._events and self._last == event:  # the same again: as it is now
            self._collected_bytes -= _cost(self._events.pop())
        elif sum(peer._collected_bytes for peer in self._peers.values()) >= MAX_COLLECTED_BYTES:
            reason = "the watchers of this sandbox hold too many events that nobody asked for; ask more often"
            raise EnvdError("resource_exhausted", f"watcher error: {self._teller.path}: {reason}")
        self._events.append(told)
        self._last = event
        self._collected_bytes += _cost(told)


class _Teller:
    """Puts events into the protocol's words, with the entries if they were asked for."""

    def __init__(self, call: Call, message: JsonObject) -> None:
        self.user: User = call.user
        self.path = expand_path(fields.text(message, "path"), call.user, call.config.workdir)
        self._includes_entry = fields.boolean(message, "includeEntry")

    async def tell(self, events: "Iterable[Event]") -> list[JsonObject]:
        if not self._includes_entry:
            return [{"name": event.name, "type": event.type} for event in events]
        return await run_as(self.user, self._with_entries, events)

    def _with_entries(self, events: "Iterable[Event]") -> list[JsonObject]:
        return [{"name": event.name, "type": event.type, **self._entry(event.name)} for event in events]

    def _entry(self, name: str) -> JsonObject:
        """The file as it is now; nothing if it is gone by now."""
        try:
            return {"entry": describe(os.path.normpath(os.path.join(self.path, name)))}
        except OSError:
            return {}


def _cost(event: bytes) -> int:
    return EVENT_COST_BYTES + len(event)


async def _opened(watch: "Watch") -> None:
    try:
        await watch.open()
    except OSError as error:
        raise rpc_error(error) from error
