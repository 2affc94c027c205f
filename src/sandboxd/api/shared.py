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
from sandboxd.errors import Conflict, HostError, NotFound
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

    def waiting(volume: str, node: str) -> tuple[Moved, str] | None:
        """What is to be made anew of a host that is off; also where that was begun. And whose the volume is, if that is
        another host's: it has begun to make it, and either goes on or gives the volume back."""
        owner, text = store().owner(volume), store().state(volume)
        if not text:
            return None
        try:
            moved = parse(text, node)
        except (ValueError, KeyError, TypeError) as error:
            if owner.node not in ("", node):
                return None
            raise HostError(f"what the sandbox of volume {volume!r} is made from cannot be read: {error!r}") from error
        if owner.node in ("", node):
            return moved, ""
        return None if owner.slot == moved.slot else (moved, owner.node)

    def left(node: str) -> list[dict[str, Any]]:
        found = []
        for volume in store().names():
            if (begun := waiting(volume, node)) is not None:
                moved, _ = begun
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
        begun = waiting(volume, node)
        if begun is None:
            raise NotFound(f"volume {volume!r} has no sandbox of node {node} that could be made anew")
        moved, by = begun
        if by and sandboxes.ledger.of_id(moved.id) is None:
            raise Conflict(f"volume {volume!r}: node {by} has begun to make its sandbox anew")
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
