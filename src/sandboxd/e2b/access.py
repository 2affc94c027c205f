"""Who asks: the key of a request, and the sandboxes that it may see."""

from collections.abc import Callable

from fastapi import Request

from sandboxd.api.access import bearer
from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.audit import Actor, current
from sandboxd.errors import NotFound, Unauthorised
from sandboxd.records import ApiKey, Sandbox


def caller(services: Services) -> Callable[[Request], object]:
    """A dependency: the key of the request. Raises Unauthorised."""

    async def find(request: Request) -> ApiKey:
        text = request.headers.get("x-api-key") or bearer(request)  # the command line of E2B, and old clients
        key = await run(lambda: services.keys.find(text))
        if key is None:
            raise Unauthorised("Invalid API key")
        current().actor = Actor("key", key.id, key.name)
        return key

    return find


def own(services: Services, key: ApiKey, sandbox_id: str) -> Sandbox:
    """The sandbox of that whole id, if it is of the key's name. `<id>-<clientID>` is read as `<id>`.

    Raises NotFound, which tells of an end only to whoever had the sandbox.
    """
    wanted = sandbox_id.partition("-")[0]
    ledger = services.sandboxes.ledger
    row = ledger.of_id(wanted)
    if row is not None and row.owner == key.name:
        current().about(row)
        return row
    ended = ledger.of_id(wanted, ("removing", "gone"))
    told = services.sandboxes.obituary(wanted) if ended is not None and ended.owner == key.name else ""
    raise NotFound(f"sandbox '{sandbox_id}' not found{told}")
