"""Where a sandbox may connect to, in E2B's words; and PUT /sandboxes/{id}/network, which replaces it.

Addresses and CIDRs are honoured. What only a proxy could do (names, headers, other name servers) is refused, never
silently ignored: whoever asks for a wall must not get a sandbox without one.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.e2b import access
from sandboxd.errors import BadRequest, Conflict, Unsupported
from sandboxd.policy import Policy, parse
from sandboxd.records import ApiKey

HONOURED = ("allowOut", "denyOut")
INTERNET = "allow_internet_access"


def policy_of(network: dict[str, Any] | None, internet: bool | None) -> Policy:
    """From the options of a create. Raises BadRequest, which names option and value."""
    options = network or {}
    allow, deny = (_texts(f"network.{name}", options.get(name)) for name in HONOURED)
    return parse(allow, deny, internet is not False)


def described(policy: Policy) -> dict[str, Any]:
    """The two fields of the schema `SandboxDetail`."""
    network = {"allowOut": list(policy.allow), "denyOut": list(policy.deny)}
    return {"allowInternetAccess": not policy.closed, "network": network}


def router(services: Services) -> APIRouter:
    made = APIRouter()
    Key = Annotated[ApiKey, Depends(access.caller(services))]

    @made.put("/sandboxes/{sandbox_id}/network", status_code=204)
    async def replace(sandbox_id: str, body: dict[str, Any], key: Key) -> None:
        def do() -> None:
            row = access.own(services, key, sandbox_id)
            if row.state != "running":
                raise Conflict(f"sandbox '{row.id}' is paused: its network can be changed when it is resumed")
            services.transitions.restrict(row, replacement(body))

        await run(do)

    return made


def replacement(body: dict[str, Any]) -> Policy:
    """What a PUT asks for: lists that are left out are empty. Raises BadRequest and Unsupported."""
    refused = ", ".join(name for name, value in body.items() if value and name not in (*HONOURED, INTERNET))
    if refused:
        raise Unsupported(f"{refused}: this host cannot do that yet. Leave it out, and nothing else changes.")
    internet = body.get(INTERNET)
    if not isinstance(internet, bool | None):
        raise BadRequest(f"{INTERNET}: {internet!r} is neither true nor false")
    return policy_of(body, internet)


def _texts(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadRequest(f"{name}: {value!r} is no list of texts")
    return value
