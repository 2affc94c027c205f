"""POST /v2/sandboxes, and its older form without /v2."""

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.admission import MAX_WAITING
from sandboxd.api.answers import run
from sandboxd.api.sandboxes import OPEN_ENDED_S, ORIGIN_HEADER, checked_envs
from sandboxd.api.services import Services
from sandboxd.bodies import Text
from sandboxd.e2b import access, network, wire
from sandboxd.e2b.tags import template_name
from sandboxd.e2b.volumes import VolumeMount, mounts_of
from sandboxd.errors import Unsupported
from sandboxd.records import PUBLIC, TOKEN, ApiKey, Claim, Sandbox

TIMEOUT_S, OLD_TIMEOUT_S = 300.0, 15.0  # when the field is absent: of /v2 and of the older form


class AutoResume(BaseModel):
    model_config = ConfigDict(strict=True)
    enabled: bool = False


class NewSandbox(BaseModel):
    """What E2B's clients send. Fields that nobody knows are ignored; those that we cannot honour are refused."""

    model_config = ConfigDict(strict=True)
    templateID: Text
    timeout: float | None = Field(None, gt=0, le=OPEN_ENDED_S)
    autoPause: bool = False
    autoPauseMemory: bool | None = None
    autoResume: AutoResume | None = None
    allow_internet_access: bool | None = None
    network: dict[str, Any] | None = None
    metadata: dict[Text, Text] | None = None
    envVars: dict[Text, Text] | None = None
    mcp: dict[str, Any] | None = None
    iam: Any = None
    volumeMounts: list[VolumeMount] | None = None


def router(services: Services) -> APIRouter:
    return _router(services, services.pool.obtain)


def of_pools(services: Services, prefix: str) -> APIRouter:
    """The same requests below `prefix`, for managers of a fleet: from the pool or not at all."""
    return _router(services, services.pool.claim, prefix)


def _router(services: Services, obtain: Callable[[str, Claim], Sandbox], prefix: str = "") -> APIRouter:
    made = APIRouter()
    quota = services.quota
    sandboxes = services.sandboxes
    key_of = access.caller(services)
    creates = CapacityLimiter(MAX_WAITING + 2 * sandboxes.config.create_parallelism)

    def create(key: ApiKey, body: NewSandbox, timeout_s: float, request: str) -> Sandbox:
        refuse_unsupported(body)
        envs = checked_envs(body.envVars or {})
        on_timeout = "pause" if body.autoPause else "kill"
        claim = Claim(
            body.timeout or timeout_s,
            keep=True,  # the hourly cleanup is for what has no end; these have one, or are paused until somebody comes
            metadata=body.metadata or {},
            envs=envs,
            owner=key.name,
            on_timeout=on_timeout,
            request=request,
            pause_memory=body.autoPauseMemory is not False,
            auto_resume=(body.autoResume or AutoResume()).enabled,
            access=TOKEN if network.private(body.network) else PUBLIC,
            shown_host=network.shown_host(body.network),
            policy=network.policy_of(sandboxes.config.egress, body.network, body.allow_internet_access),
            mounts=mounts_of(services, key, body.volumeMounts or []),
        )
        with quota.place(key, request) as before:
            return before or obtain(template_name(body.templateID), claim)

    def form(path: str, timeout_s: float) -> None:
        @made.post(path)
        async def handle(
            body: NewSandbox,
            key: Annotated[ApiKey, Depends(key_of)],
            idempotency_key: Annotated[str, Header(pattern=r"^[A-Za-z0-9-]{1,255}$")] = "",
        ) -> Response:
            request = f"{idempotency_key}:{digest(body)}" if idempotency_key else ""
            row = await run(lambda: create(key, body, timeout_s, request), creates)
            services.reconciler.wake()
            values = wire.brief(row, sandboxes.config, sandboxes.key)
            return JSONResponse(values, 201, headers={ORIGIN_HEADER: row.origin})

    form(f"{prefix}/v2/sandboxes", TIMEOUT_S)
    form(f"{prefix}/sandboxes", OLD_TIMEOUT_S)
    return made


def refuse_unsupported(body: NewSandbox) -> None:
    """Never silently accepted: whoever asks for a wall must not get a sandbox without one. Raises Unsupported."""
    asked = {
        "mcp": bool(body.mcp),
        "iam": bool(body.iam),
        **{f"network.{name}": True for name in network.unknown(body.network)},
    }
    if refused := [name for name, present in asked.items() if present]:
        raise Unsupported(
            f"{', '.join(refused)}: this host cannot do that yet. Leave it out, and nothing else changes."
        )


def digest(body: NewSandbox) -> str:
    return hashlib.sha256(json.dumps(body.model_dump(), sort_keys=True).encode()).hexdigest()
