"""Requests about sandboxes. Field names are those of E2B's control plane."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from anyio import CapacityLimiter
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.admission import MAX_WAITING
from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run
from sandboxd.api.previews import Access, told
from sandboxd.api.services import Services
from sandboxd.bodies import Text
from sandboxd.config import DISK_MAX_MB, DISK_MIN_MB, Config
from sandboxd.disks import VOLUME_NAME
from sandboxd.egress import NONE, Egress, mode_of
from sandboxd.errors import BadRequest, NotFound
from sandboxd.policy import Policy
from sandboxd.previews import new_password
from sandboxd.records import BASIC, TOKEN, USED, Claim, Sandbox
from sandboxd.times import rfc3339
from sandboxd.tokens import agent_token, traffic_token
from sandboxd.transitions import SAME

ENVD_VERSION = "0.6.13"  # what the agent speaks; E2B's clients choose their calls by it
CLIENT_ID = "local"
OPEN_ENDED_S = 10 * 365 * 86400.0  # the schema wants an `endAt`; without a timeout it lies this far ahead
ORIGIN_HEADER = "X-Sandbox-Origin"


class Lists(BaseModel):
    """Addresses and CIDRs, and one of egress.MODES; see `policy`. Without a mode it is the host's."""

    model_config = ConfigDict(strict=True, extra="forbid")
    mode: Text = ""
    allowOut: list[Text] = []
    denyOut: list[Text] = []

    def policy(self, egress: Egress, internet: bool, trusted: bool = True) -> Policy:
        """Raises BadRequest for what is no address, no mode, or behind the host's wall; Forbidden for a mode that is
        not for API keys."""
        return egress.policy(self.mode if internet else NONE, self.allowOut, self.denyOut, trusted)


class NewNetwork(Lists):
    """Body of PUT /sandboxes/{id}/network. What it leaves out is as if a sandbox were made without it."""

    allow_internet_access: bool = True


class NewSandbox(BaseModel):
    """Body of POST /v2/sandboxes; much is ours. Unknown fields are ignored, as by E2B.

    Without `wake` and `idlePause` the host's settings hold; None is no pause.
    """

    model_config = ConfigDict(strict=True)
    templateID: Text = ""
    timeout: float | None = Field(None, gt=0, le=OPEN_ENDED_S)
    metadata: dict[Text, Text] | None = None
    envVars: dict[Text, Text] | None = None
    keep: bool = False
    name: Text = Field("", max_length=128)
    cold: bool = False
    diskMB: int = Field(0, ge=0, le=DISK_MAX_MB)  # 0: the template's
    volume: str = Field("", pattern=rf"^({VOLUME_NAME})?$")
    shared: bool = False  # the volume, if it is made, is on storage that all hosts of the fleet have mounted
    allow_internet_access: bool = True
    network: Lists = Lists()
    access: Access = "public"
    wake: bool | None = None
    idlePause: float | None = Field(None, gt=0, le=OPEN_ENDED_S)
    keyID: Text = ""  # of an API key, for which it is made: by its name, and within its limit


class NewTimeout(BaseModel):
    """Body of POST /sandboxes/{id}/timeout and of resume; None is ours, and means no end.

    Without the field, a sandbox that is resumed gets the time that it had.
    """

    model_config = ConfigDict(strict=True)
    timeout: float | None = Field(None, gt=0, le=OPEN_ENDED_S)


class NewDisk(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    diskMB: int = Field(ge=DISK_MIN_MB, le=DISK_MAX_MB)


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    sandboxes, pool, reconciler = services.sandboxes, services.pool, services.reconciler
    transitions = services.transitions
    config, ledger = sandboxes.config, sandboxes.ledger
    creates = CapacityLimiter(MAX_WAITING + 2 * config.create_parallelism)  # waiting creates must block nothing else

    @made.post("/v2/sandboxes")
    async def create(body: NewSandbox) -> Response:
        return await new(body, lambda template, claim: pool.obtain(template, claim, body.cold))

    @made.post("/warm/v2/sandboxes")
    async def warm(body: NewSandbox) -> Response:
        """From the pool or not at all."""
        return await new(body, pool.claim)

    async def new(body: NewSandbox, obtain: Callable[[str, Claim], Sandbox]) -> Response:
        template = body.templateID or config.default_template
        if 0 < body.diskMB < DISK_MIN_MB:
            raise BadRequest(f"diskMB: {body.diskMB} is too small for a file system: {DISK_MIN_MB} or more.")
        envs, metadata = checked_envs(body.envVars or {}), body.metadata or {}
        policy = body.network.policy(config.egress, body.allow_internet_access, trusted=not body.keyID)
        disk = body.diskMB, body.volume
        password = new_password() if body.access == BASIC else None
        claim = Claim(
            body.timeout,
            body.keep,
            body.name,
            metadata,
            envs,
            *disk,
            shared=body.shared,
            policy=policy,
            access=body.access,
            password_digest=password.digest if password else "",
            auto_resume=config.wake_on_visit if body.wake is None else body.wake,
            idle_pause_s=body.idlePause if "idlePause" in body.model_fields_set else config.idle_pause_s,
        )

        def make() -> Sandbox:
            if not body.keyID:
                return obtain(template, claim)
            key = services.keys.get(body.keyID)
            with services.quota.place(key, ""):
                return obtain(template, replace(claim, owner=key.name))

        row = await run(make, creates)
        if row.ends_at is not None:
            reconciler.wake()
        values = {
            **brief(row, config),
            "envdAccessToken": agent_token(sandboxes.key, row.id),
            "trafficAccessToken": traffic_token(sandboxes.key, row.id) if row.access == TOKEN else None,
            "domain": config.domain,
            **told(password),
        }
        return JSONResponse(values, 201, headers={ORIGIN_HEADER: row.origin})

    @made.get("/v2/sandboxes")
    async def list_used() -> Response:
        rows = await run(lambda: ledger.rows(*USED))
        return JSONResponse([listed(row, config) for row in rows])

    @made.get("/sandboxes/{sandbox_id}")
    async def detail(sandbox_id: str) -> Response:
        row = await run(lambda: sandboxes.find(sandbox_id))
        values = {
            **listed(row, config),
            "envdAccessToken": agent_token(sandboxes.key, row.id),
            "domain": config.domain,
            "address": row.address,
            "container": row.container,
        }
        return JSONResponse(values)

    @made.delete("/sandboxes/{sandbox_id}")
    async def remove(sandbox_id: str) -> Response:
        row = await run(lambda: sandboxes.find(sandbox_id))
        if not await run(lambda: sandboxes.remove(row, "removed by request", USED)):
            raise NotFound(f"sandbox '{sandbox_id}' not found")
        return Response(status_code=204)

    @made.post("/sandboxes/{sandbox_id}/pause", status_code=204)
    async def pause(sandbox_id: str) -> None:
        await run(lambda: transitions.pause(sandboxes.find(sandbox_id)))

    @made.post("/sandboxes/{sandbox_id}/resume")
    @made.post("/sandboxes/{sandbox_id}/start")
    async def resume(sandbox_id: str, body: NewTimeout) -> Response:
        timeout = body.timeout if "timeout" in body.model_fields_set else SAME
        row = await run(lambda: transitions.resume(sandboxes.find(sandbox_id), timeout), creates)
        reconciler.wake()
        return JSONResponse(listed(row, config))

    @made.post("/sandboxes/{sandbox_id}/stop", status_code=204)
    async def stop(sandbox_id: str) -> None:
        await run(lambda: transitions.stop(sandboxes.find(sandbox_id), "stopped by request"))

    @made.post("/sandboxes/{sandbox_id}/timeout")
    async def extend(sandbox_id: str, body: NewTimeout) -> Response:
        if "timeout" not in body.model_fields_set:
            raise BadRequest("timeout: is missing. Give seconds, or null for no end.")
        row = await run(lambda: transitions.extend(sandboxes.find(sandbox_id), body.timeout))
        reconciler.wake()
        return JSONResponse(listed(row, config))

    @made.put("/sandboxes/{sandbox_id}/network")
    async def restrict(sandbox_id: str, body: NewNetwork) -> Response:
        policy = body.policy(config.egress, body.allow_internet_access)
        row = await run(lambda: transitions.restrict(sandboxes.find(sandbox_id), policy))
        return JSONResponse(listed(row, config))

    @made.post("/sandboxes/{sandbox_id}/disk")
    async def resize(sandbox_id: str, body: NewDisk) -> Response:
        row = await run(lambda: transitions.grow(sandboxes.find(sandbox_id), body.diskMB))
        return JSONResponse(listed(row, config))

    return made


def brief(row: Sandbox, config: Config) -> dict[str, Any]:
    return {
        "templateID": row.template,
        "sandboxID": row.id,
        "clientID": CLIENT_ID,
        "envdVersion": ENVD_VERSION,
        "url": config.url(row.id),
    }


def listed(row: Sandbox, config: Config) -> dict[str, Any]:
    started = row.claimed_at or row.created_at
    return {
        **brief(row, config),
        "startedAt": rfc3339(started),
        "endAt": rfc3339(started + OPEN_ENDED_S if row.ends_at is None else row.ends_at),
        "state": row.state,
        "cpuCount": max(1, round(row.cpus)),
        "memoryMB": row.memory_mb,
        "diskSizeMB": row.disk_mb,
        "volume": row.volume,
        "reason": row.reason,
        "metadata": row.metadata,
        "name": row.name,
        "keep": row.keep,
        "origin": row.origin,
        "owner": row.owner,
        "unlimited": row.ends_at is None,
        "allowInternetAccess": not row.policy.closed,
        "network": {
            "mode": mode_of(row.policy),
            "allowOut": list(row.policy.allow),
            "denyOut": list(row.policy.deny),
        },
        "access": row.access,
        "wakeOnVisit": row.auto_resume,
        "idlePause": row.idle_pause_s,
    }


def checked_envs(envs: dict[str, str]) -> dict[str, str]:
    for key, value in envs.items():
        if not key or "=" in key or "\0" in key + value:
            raise BadRequest(f"envVars: {key!r} cannot be the name of an environment variable, or its value has a NUL.")
    return envs
