"""Requests about volumes on shared storage, by the managers of a fleet: what a host that was lost leaves behind.

Whoever asks for the second and the third must be certain that the host which it names is off.
"""

from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run
from sandboxd.api.sandboxes import listed
from sandboxd.api.services import Services
from sandboxd.bodies import Text
from sandboxd.disks import VOLUME_NAME
from sandboxd.errors import HostError, NotFound
from sandboxd.records import Sandbox
from sandboxd.sharedstate import Moved, parse
from sandboxd.sharedstore import SharedStore
from sandboxd.sharedvolumes import NO_STORE

Name = Annotated[str, Path(pattern=rf"^{VOLUME_NAME}$")]
AT_A_TIME = 4


class Off(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    node: Text


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    sandboxes, transitions = services.sandboxes, services.transitions
    moves = CapacityLimiter(AT_A_TIME)

    def store() -> SharedStore:
        if sandboxes.shared.store is None:
            raise NotFound(NO_STORE)
        return sandboxes.shared.store

    def waiting(volume: str, node: str) -> Moved | None:
        """What is to be made anew of a host that is off; also where that was begun, and failed."""
        owner, text = store().owner(volume), store().state(volume)
        if owner.node not in ("", node) or not text:
            return None
        try:
            return parse(text, node)
        except (ValueError, KeyError, TypeError) as error:
            raise HostError(f"what the sandbox of volume {volume!r} is made from cannot be read: {error!r}") from error

    def left(node: str) -> list[dict[str, Any]]:
        found = []
        for volume in store().names():
            if (moved := waiting(volume, node)) is not None:
                found.append(
                    {
                        **{"volume": volume, "sandboxID": moved.id, "templateID": moved.template},
                        **{"memoryMB": moved.memory_mb, "cpus": moved.cpus, "owner": moved.claim.owner},
                    }
                )
            elif not store().state(volume):
                store().free_from(volume, node)
        return found

    def take(volume: str, node: str) -> Sandbox:
        moved = waiting(volume, node)
        if moved is None:
            raise NotFound(f"volume {volume!r} has no sandbox of node {node} that could be made anew")
        row = sandboxes.move_here(moved)
        if moved.state != "running":
            reason = moved.reason if moved.state == "stopped" else f"its host {node} was lost while it was paused"
            row = transitions.stop(row, reason or "stopped by request")
        return row

    @made.get("/shared")
    async def about() -> Response:
        """`id` is the same on all hosts that have mounted the same storage."""
        return JSONResponse({"id": await run(lambda: store().identity())})

    @made.post("/shared/left")
    async def leavings(body: Off) -> Response:
        """The kept sandboxes of a host that is off. Its other volumes are nobody's from now on."""
        return JSONResponse(await run(lambda: left(body.node)))

    @made.post("/shared/{volume}/sandbox")
    async def move(volume: Name, body: Off) -> Response:
        row = await run(lambda: take(volume, body.node), moves)
        services.reconciler.wake()
        return JSONResponse(listed(row, sandboxes.config), 201)

    return made
