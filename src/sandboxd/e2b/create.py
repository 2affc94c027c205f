"""POST /v2/sandboxes, and its older form without /v2."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
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
from sandboxd.errors import Conflict, NotFound, QuotaReached, Unsupported
from sandboxd.records import USED, ApiKey, Claim, Sandbox

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
    volumeMounts: list[Any] | None = None


def router(services: Services) -> APIRouter:
    made = APIRouter()
    sandboxes, pool = services.sandboxes, services.pool
    quota = Quota(services)
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
            private=network.private(body.network),
            shown_host=network.shown_host(body.network),
            policy=network.policy_of(body.network, body.allow_internet_access),
        )
        with quota.place(key, request) as before:
            return before or pool.obtain(template_name(body.templateID), claim)

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

    form("/v2/sandboxes", TIMEOUT_S)
    form("/sandboxes", OLD_TIMEOUT_S)
    return made


class Quota:
    """How many sandboxes a key's name may have, those that are being made included; and one at a time per request."""

    def __init__(self, services: Services) -> None:
        self._ledger = services.sandboxes.ledger
        self._making: Counter[str] = Counter()
        self._requests: set[tuple[str, str]] = set()
        self._changed = threading.Condition()

    @contextmanager
    def place(self, key: ApiKey, request: str) -> Iterator[Sandbox | None]:
        """Gives the sandbox that the same request has made before, if any. Raises QuotaReached, Conflict, NotFound."""
        named = (key.name, request)
        with self._changed:
            while request and named in self._requests:
                self._changed.wait()
            before = self._repeated(key, request)
            if before is None:
                self._check(key)
            self._making[key.name] += 1
            if request:
                self._requests.add(named)
        try:
            yield before
        finally:
            with self._changed:
                self._making[key.name] -= 1
                self._requests.discard(named)
                self._changed.notify_all()

    def _check(self, key: ApiKey) -> None:
        present = self._ledger.count_of(key.name) + self._making[key.name]
        if key.max_sandboxes and present >= key.max_sandboxes:
            raise QuotaReached(
                f"the key {key.name!r} may have {key.max_sandboxes} sandboxes at a time, and has {present}."
                " Kill one, or ask for a key with a higher limit."
            )

    def _repeated(self, key: ApiKey, request: str) -> Sandbox | None:
        if not request:
            return None
        found = self._ledger.made_by(key.name, request.partition(":")[0] + ":")
        if found is None:
            return None
        if found.request != request:
            raise Conflict("this Idempotency-Key came with another body before. Take a new one for a new request.")
        if found.state not in USED:
            raise NotFound(f"the sandbox {found.id} of this Idempotency-Key has ended: {found.reason}")
        return found


def refuse_unsupported(body: NewSandbox) -> None:
    """Never silently accepted: whoever asks for a wall must not get a sandbox without one. Raises Unsupported."""
    asked = {
        "mcp": bool(body.mcp),
        "iam": bool(body.iam),
        "volumeMounts": bool(body.volumeMounts),
        **{f"network.{name}": True for name in network.unknown(body.network)},
    }
    if refused := [name for name, present in asked.items() if present]:
        raise Unsupported(
            f"{', '.join(refused)}: this host cannot do that yet. Leave it out, and nothing else changes."
        )


def template_name(asked: str) -> str:
    """`team/name:tag` is read as `name`: a host has one team, and one build of each template."""
    name, _, tag = asked.rpartition("/")[2].partition(":")
    if tag not in ("", "default", "latest"):
        raise NotFound(f"template '{asked}' not found: templates of this host have no tags but 'default'")
    return name


def digest(body: NewSandbox) -> str:
    return hashlib.sha256(json.dumps(body.model_dump(), sort_keys=True).encode()).hexdigest()
