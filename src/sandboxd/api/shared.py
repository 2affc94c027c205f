"""Requests about volumes on shared storage, by the managers of a fleet: what a host that was lost leaves behind.

Whoever asks for the second must be certain that the host which it names is off. That is done once: what the host has
afterwards, it has taken since it is on again. What it had waits, as nobody's, for whoever makes it anew.
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
from sandboxd.errors import BadRequest, Conflict, HostError, NotFound
from sandboxd.records import Sandbox
from sandboxd.sharedstate import Moved, parse
from sandboxd.sharedstore import STATE, SharedStore
from sandboxd.sharedvolumes import NO_STORE

Name = Annotated[str, Path(pattern=rf"^{VOLUME_NAME}$")]
AT_A_TIME = 4


class Unreadable(HostError):
    """Of one volume; the others are well."""


class Off(BaseModel):
    """The name may be empty when it is for messages only: nobody knows any more who was lost."""

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

    def waiting(volume: str) -> tuple[Moved, str] | None:
        """What is to be made anew of a host that was off: the volume is nobody's, or a host's that has begun to make it
        (its name), and either goes on or gives the volume back."""
        owner, text = store().owner(volume), store().state(volume)
        if not text:
            return None
        try:
            moved = parse(text, "")
        except (ValueError, KeyError, TypeError) as error:
            if owner.node:
                return None
            raise Unreadable(
                f"what the sandbox of volume {volume!r} is made anew from cannot be read: {error!r}. Its files are"
                f" there: without {store().directory / volume / STATE} the volume is like any other."
            ) from error
        return None if owner.slot == moved.slot else (moved, owner.node)

    def free(node: str) -> list[str]:
        return [volume for volume in store().names() if store().free_from(volume, node)]

    def left() -> list[dict[str, Any]]:
        found = list[dict[str, Any]]()
        for volume in store().names():
            try:
                begun = waiting(volume)
            except Unreadable as error:
                found.append({"volume": volume, "trouble": str(error)})
                continue
            if begun is not None:
                moved, _ = begun
                found.append(
                    {
                        **{"volume": volume, "sandboxID": moved.id, "templateID": moved.template},
                        **{"memoryMB": moved.memory_mb, "cpus": moved.cpus, "owner": moved.claim.owner},
                    }
                )
        return found

    def take(volume: str, node: str) -> Sandbox:
        begun = waiting(volume)
        if begun is None:
            raise NotFound(f"volume {volume!r} has no sandbox that could be made anew")
        moved, by = begun
        if by and sandboxes.ledger.of_id(moved.id) is None:
            raise Conflict(f"volume {volume!r}: node {by} has begun to make its sandbox anew")
        row = sandboxes.move_here(moved)
        if moved.state != "running":
            host = f"its host {node}" if node else "its host"
            reason = moved.reason if moved.state == "stopped" else f"{host} was lost while it was paused"
            row = transitions.stop(row, reason or "stopped by request")
        return row

    @made.get("/shared")
    async def about() -> Response:
        """`id` is the same on all hosts that have mounted the same storage."""
        return JSONResponse({"id": await run(lambda: store().identity())})

    @made.post("/shared/free")
    async def release(body: Off) -> Response:
        """The volumes of a host that is off are nobody's from now on; the answer is their names."""
        if not body.node:
            raise BadRequest("node: which host is off?")
        return JSONResponse(await run(lambda: free(body.node)))

    @made.get("/shared/left")
    async def leavings() -> Response:
        """The kept sandboxes that wait to be made anew, whichever hosts they were on. One whose file cannot be read has
        no more than `volume` and `trouble`."""
        return JSONResponse(await run(left))

    @made.post("/shared/{volume}/sandbox")
    async def move(volume: Name, body: Off) -> Response:
        row = await run(lambda: take(volume, body.node), moves)
        services.reconciler.wake()
        return JSONResponse(listed(row, sandboxes.config), 201)

    return made
