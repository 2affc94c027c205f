"""Where a sandbox may connect to, in E2B's words; and PUT /sandboxes/{id}/network, which replaces it.

Addresses and CIDRs are honoured. What only a proxy could do (names, headers, other name servers) is refused, never
silently ignored: whoever asks for a wall must not get a sandbox without one.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from sandboxd import routes
from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.e2b import access
from sandboxd.egress import NONE, Egress, mode_of
from sandboxd.errors import BadRequest, Conflict, Unsupported
from sandboxd.policy import Policy
from sandboxd.records import PUBLIC, ApiKey, Sandbox

HONOURED = ("allowOut", "denyOut")
MODE = "mode"  # ours: one of egress.MODES
AT_CREATE = ("allowPublicTraffic", "maskRequestHost")
INTERNET = "allow_internet_access"


def policy_of(egress: Egress, network: dict[str, Any] | None, internet: bool | None) -> Policy:
    """From the options of a create. Raises BadRequest, which names option and value, and Forbidden.

    `internet` true is what E2B's clients send unasked, so it means what it means to leave it out: the host's own mode.
    """
    options = network or {}
    allow, deny = (_texts(f"network.{name}", options.get(name)) for name in HONOURED)
    mode = options.get(MODE) or ""
    if not isinstance(mode, str):
        raise BadRequest(f"network.{MODE}: {mode!r} is no text")
    return egress.policy(NONE if internet is False else mode, allow, deny, trusted=False)


def private(network: dict[str, Any] | None) -> bool:
    """Whether its ports want a token. Raises BadRequest."""
    public = (network or {}).get("allowPublicTraffic")
    if not isinstance(public, bool | None):
        raise BadRequest(f"network.allowPublicTraffic: {public!r} is neither true nor false")
    return public is False


def shown_host(network: dict[str, Any] | None) -> str:
    """The host name that the sandbox's servers shall see, empty for the one that was asked for. Raises BadRequest."""
    host = (network or {}).get("maskRequestHost") or ""
    if not isinstance(host, str) or not routes.HOST.fullmatch(host) or len(host) > routes.HOST_LENGTH:
        raise BadRequest(
            f"network.maskRequestHost: {host!r}: use letters, digits, dots, dashes and a port, or {routes.PORT} once."
        )
    return host


def unknown(network: dict[str, Any] | None) -> list[str]:
    """Options that ask for something that this host cannot do."""
    return [name for name, value in (network or {}).items() if value and name not in (*HONOURED, MODE, *AT_CREATE)]


def described(row: Sandbox) -> dict[str, Any]:
    """The schema `SandboxNetworkConfig`."""
    found = {
        MODE: mode_of(row.policy),
        "allowOut": list(row.policy.allow),
        "denyOut": list(row.policy.deny),
        "allowPublicTraffic": row.access == PUBLIC,
    }
    return found | ({"maskRequestHost": row.shown_host} if row.shown_host else {})


def router(services: Services) -> APIRouter:
    made = APIRouter()
    Key = Annotated[ApiKey, Depends(access.caller(services))]

    @made.put("/sandboxes/{sandbox_id}/network", status_code=204)
    async def replace(sandbox_id: str, body: dict[str, Any], key: Key) -> None:
        def do() -> None:
            row = access.own(services, key, sandbox_id)
            if row.state != "running":
                raise Conflict(f"sandbox '{row.id}' is paused: its network can be changed when it is resumed")
            services.transitions.restrict(row, replacement(services.sandboxes.config.egress, body))

        await run(do)

    return made


def replacement(egress: Egress, body: dict[str, Any]) -> Policy:
    """What a PUT asks for: lists that are left out are empty. Raises BadRequest, Forbidden and Unsupported."""
    refused = ", ".join(name for name, value in body.items() if value and name not in (*HONOURED, MODE, INTERNET))
    if refused:
        raise Unsupported(f"{refused}: this host cannot do that yet. Leave it out, and nothing else changes.")
    internet = body.get(INTERNET)
    if not isinstance(internet, bool | None):
        raise BadRequest(f"{INTERNET}: {internet!r} is neither true nor false")
    return policy_of(egress, body, internet)


def _texts(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadRequest(f"{name}: {value!r} is no list of texts")
    return value
