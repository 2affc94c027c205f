"""Requests about the keys of the public API. Only the Unix socket's: a key cannot make another."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.audit import current
from sandboxd.bodies import Text
from sandboxd.errors import Unauthorised
from sandboxd.records import ApiKey
from sandboxd.times import rfc3339

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"


class NewKey(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: str = Field(pattern=NAME)
    maxSandboxes: int = Field(0, ge=0, le=1_000_000)
    first: bool = False  # only if this host has never had a first key
    host: bool = False


class Digest(BaseModel):
    """One key as the ledger has it."""

    model_config = ConfigDict(strict=True, extra="forbid")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    id: Text
    name: str = Field(pattern=NAME)
    max_sandboxes: int = Field(ge=0)
    created_at: float
    host: bool


class Digests(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    version: int = Field(ge=1)
    keys: list[Digest]
    known: bool = False


class GivenKey(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    key: Text


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    keys, sandboxes = services.keys, services.sandboxes

    @made.post("/keys", status_code=201)
    async def create(body: NewKey) -> dict[str, Any]:
        """The only answer that has the key itself."""
        now = sandboxes.host.now()
        if body.first:
            made = await run(lambda: keys.create_first(body.name, now, body.host))
        else:
            made = await run(lambda: keys.create(body.name, body.maxSandboxes, now, body.host))
        current().detail = (
            f"key_id={made[0].id} name={body.name}" if made else f"name={body.name}: there was a first key"
        )
        return {**shown(made[0]), "key": made[1]} if made else {}

    @made.get("/keys")
    async def list_keys() -> list[dict[str, Any]]:
        found = await run(keys.all)
        used = await run(lambda: {name: sandboxes.ledger.count_of(name) for name in {key.name for key in found}})
        return [{**shown(key), "sandboxes": used[key.name]} for key in found]

    @made.post("/keys/find")
    async def find(body: GivenKey) -> dict[str, Any]:
        """Whose key it is, for a client that lets people in by their keys, as the console does."""
        key = await run(lambda: keys.find(body.key))
        if key is None:
            raise Unauthorised("Invalid API key")
        return shown(key)

    @made.get("/keys/digests")
    async def digests() -> dict[str, Any]:
        """All that another host of a fleet has to know of them: the body of PUT /keys."""
        version, found = await run(keys.digests)
        return {"version": version, "keys": [{"digest": digest, **asdict(key)} for digest, key in found.items()]}

    @made.put("/keys", status_code=204)
    async def replace(body: Digests) -> None:
        """Takes over all keys of another host of the fleet, if they are newer than those here; `known` ones are those
        that were read here, and get another version if they are so still.
        """
        current().detail = f"version {body.version}, {len(body.keys)} keys"
        found = {key.digest: ApiKey(key.id, key.name, key.max_sandboxes, key.created_at, key.host) for key in body.keys}
        await run(lambda: keys.replace(body.version, found, body.known))

    @made.get("/keys/{key_id}")
    async def detail(key_id: str) -> dict[str, Any]:
        return shown(await run(lambda: keys.get(key_id)))

    @made.delete("/keys/{key_id}", status_code=204)
    async def revoke(key_id: str) -> None:
        await run(lambda: keys.revoke(key_id))

    return made


def shown(key: ApiKey) -> dict[str, Any]:
    values = asdict(key)
    return {
        "keyID": values["id"],
        "name": key.name,
        "maxSandboxes": key.max_sandboxes,
        "createdAt": rfc3339(key.created_at),
        "host": key.host,
    }
