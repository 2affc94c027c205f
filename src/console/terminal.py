"""A terminal in a browser: a WebSocket on one side, a program of a sandbox on the other.

From the browser come keys, as binary messages, and its size, as JSON {"cols", "rows"}; to it goes output, as binary
messages, and at the end one JSON {"ended"} with a sentence for the person. Whatever ends it, the program is hung up.
"""

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

from anyio import CancelScope
from starlette.websockets import WebSocket, WebSocketDisconnect

from console.agent import Agent, output
from console.errors import AgentError, Refused, SignedOut
from console.places import Places
from console.viewer import Viewer, Viewers

log = logging.getLogger(__name__)

MOST, MOST_OF_A_KEY = 50, 20  # at a time
START_S = 20.0  # for the program to be there
CHECK_S = 10.0  # how long after its key was revoked somebody may still type
PENDING_BYTES = 256 * 1024
PROCESS: dict[str, Any] = {"cmd": "/bin/bash", "args": ["-l"], "envs": {"TERM": "xterm-256color"}}
USERS = ("user", "root")
SIDES = range(1, 1000)  # columns, and rows
FULL = f"{MOST_OF_A_KEY} terminals of yours, or {MOST} of all, are open already. Close some."
SIGNED_OUT = "You were signed out."
NOT_RUNNING = "The sandbox is {state}: there is nothing to open a terminal in."


class Terminals:
    """All that are open."""

    def __init__(self, gateway: tuple[str, int], viewers: Viewers, check_s: float = CHECK_S) -> None:
        self._gateway, self._viewers, self._check_s = gateway, viewers, check_s
        self._places = Places(MOST, MOST_OF_A_KEY)

    async def serve(self, socket: WebSocket) -> None:
        """Guard has looked at the origin. What cannot be opened is said on the terminal, so that somebody reads it."""
        try:
            viewer = await self._viewers.of(socket)
        except (SignedOut, Refused):
            await socket.close(1008)  # not accepted yet: this is a 403
            return
        await socket.accept()
        ended, key = FULL, viewer.session.key
        if self._places.free(key):
            with self._places.taken(key):
                ended = await self._run(socket, viewer)
        with suppress(WebSocketDisconnect, RuntimeError):  # who has gone needs no sentence
            await socket.send_json({"ended": ended})
            await socket.close()

    async def _run(self, socket: WebSocket, viewer: Viewer) -> str:
        """Returns the sentence with which it ended."""
        user = socket.query_params.get("user", "user")
        size = sides(dict(socket.query_params))
        if user not in USERS or size is None:
            return "This terminal was asked for in words that the console does not know."
        try:
            row = await self._viewers.sandbox(viewer, socket.path_params["sandbox_id"])
        except Refused as refused:
            return refused.message
        if row["state"] != "running":
            return NOT_RUNNING.format(state=row["state"])
        agent = Agent(self._gateway, row, user)
        try:
            return await Session(socket, agent, self._viewers, viewer, self._check_s).run(size)
        except AgentError as error:
            return f"{str(error)[:300].capitalize()}."
        finally:
            with CancelScope(shield=True), suppress(AgentError):
                await agent.close()


class Session:
    """One program, from its start to its end."""

    def __init__(self, socket: WebSocket, agent: Agent, viewers: Viewers, viewer: Viewer, check_s: float) -> None:
        self._socket, self._agent = socket, agent
        self._viewers, self._viewer, self._check_s = viewers, viewer, check_s
        self._pid = 0
        self._keys = bytearray()
        self._size: tuple[int, int] | None = None
        self._something, self._taken = asyncio.Event(), asyncio.Event()

    async def run(self, size: tuple[int, int]) -> str:
        """Raises AgentError."""
        try:
            async with self._agent.start(PROCESS, size) as found:
                async with asyncio.timeout(START_S):
                    self._pid = pid_of(await anext(found))
                tasks = [
                    asyncio.create_task(work)
                    for work in (self._show(found), self._listen(), self._type(), self._watch())
                ]
                try:
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    # A key that comes when the shell has ended finds none: that it has ended is what is to be said.
                    return next(task for task in tasks if task in done).result()
                finally:
                    for task in tasks:
                        task.cancel()
                    with CancelScope(shield=True):
                        await asyncio.gather(*tasks, return_exceptions=True)
        except StopAsyncIteration:
            raise AgentError("the agent of the sandbox started nothing") from None
        finally:
            if self._pid:
                with CancelScope(shield=True), suppress(AgentError):  # it may have ended by itself
                    await self._agent.hang_up(self._pid)

    async def _show(self, found: Any) -> str:
        async for event in found:
            if shown := output(event):
                with suppress_gone():
                    await self._socket.send_bytes(shown)
            elif "end" in event:
                return "The shell has ended."
        return "The shell has ended."

    async def _listen(self) -> str:
        """Messages of the browser, taken no faster than the sandbox takes them."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return ""
            if (keys := message.get("bytes")) is not None:
                self._keys += keys
            elif (size := told(message.get("text") or "")) is not None:
                self._size = size
            self._something.set()
            while len(self._keys) > PENDING_BYTES:
                self._taken.clear()
                await self._taken.wait()

    async def _type(self) -> str:
        """One call at a time, so that keys keep their order; what comes meanwhile goes with the next."""
        while True:
            await self._something.wait()
            self._something.clear()
            if (size := self._size) is not None:
                self._size = None
                await self._agent.resize(self._pid, size)
            if self._keys:
                keys = bytes(self._keys)
                self._keys.clear()
                self._taken.set()
                await self._agent.type(self._pid, keys)

    async def _watch(self) -> str:
        """Ends it when the viewer may not look any more."""
        while True:
            await asyncio.sleep(self._check_s)
            try:
                await self._viewers.look(self._viewer.session)
            except SignedOut:
                return SIGNED_OUT
            except Refused:
                continue  # sandboxd is away for a moment, which changes nothing about who looks


def suppress_gone() -> suppress:
    """The browser has gone: `_listen` hears of it."""
    return suppress(WebSocketDisconnect, RuntimeError)


def pid_of(event: dict[str, Any]) -> int:
    """Raises AgentError for an event that is not the start of a program."""
    start = event.get("start")
    pid = start.get("pid") if isinstance(start, dict) else None
    if not isinstance(pid, int):
        raise AgentError("the agent of the sandbox does not say what it started")
    return pid


def told(text: str) -> tuple[int, int] | None:
    """The size that a message tells; None for whatever else."""
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return sides(values) if isinstance(values, dict) else None


def sides(values: dict[str, Any]) -> tuple[int, int] | None:
    """(columns, rows), None when they are no size of a terminal."""
    try:
        size = int(values["cols"]), int(values["rows"])
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return size if all(side in SIDES for side in size) else None
