"""What the audit log calls each request that may change something. Data, no effects.

A request without a name here is recorded all the same, by its method and route; a test sees to it that none is missing.
"""

SAFE = ("GET", "HEAD", "OPTIONS")
UNKNOWN = "request"  # of no route

ACTIONS = {
    "POST /sandboxes": "create",
    "POST /v2/sandboxes": "create",
    "POST /warm/v2/sandboxes": "claim",
    "POST /warm/e2b/sandboxes": "claim",
    "POST /warm/e2b/v2/sandboxes": "claim",
    "DELETE /sandboxes/{sandbox_id}": "kill",
    "POST /sandboxes/{sandbox_id}/pause": "pause",
    "POST /sandboxes/{sandbox_id}/resume": "resume",
    "POST /sandboxes/{sandbox_id}/start": "start",
    "POST /sandboxes/{sandbox_id}/stop": "stop",
    "POST /sandboxes/{sandbox_id}/connect": "connect",
    "POST /v2/sandboxes/{sandbox_id}/connect": "connect",
    "POST /sandboxes/{sandbox_id}/timeout": "extend",
    "POST /sandboxes/{sandbox_id}/refreshes": "extend",
    "PUT /sandboxes/{sandbox_id}/network": "network",
    "PUT /sandboxes/{sandbox_id}/access": "access",
    "POST /sandboxes/{sandbox_id}/link": "link",
    "POST /sandboxes/{sandbox_id}/disk": "resize",
    "POST /sandboxes/{sandbox_id}/fork": "fork",
    "POST /sandboxes/{sandbox_id}/snapshots": "snapshot",
    "POST /templates/{name}/build": "template-build",
    "POST /v3/templates": "template-build",
    "POST /v2/templates/{name}/builds/{build_id}": "template-build",
    "PUT /build-files/{digest}": "template-files",
    "DELETE /builds/{build_id}": "template-build",
    "PUT /builds/{build_id}": "template-build",
    "PATCH /templates/{name}": "template-change",
    "PATCH /v2/templates/{name}": "template-change",
    "DELETE /templates/{name}": "template-remove",
    "POST /templates/tags": "template-tag",
    "DELETE /templates/tags": "template-tag",
    "POST /volumes": "volume-create",
    "DELETE /volumes/{name}": "volume-remove",
    "DELETE /volumes/{volume_id}": "volume-remove",
    "PATCH /volumecontent/{volume_id}/path": "volume-content",
    "DELETE /volumecontent/{volume_id}/path": "volume-content",
    "POST /volumecontent/{volume_id}/dir": "volume-content",
    "PUT /volumecontent/{volume_id}/file": "volume-content",
    "POST /shared/free": "volume-free",
    "POST /shared/{volume}/sandbox": "move",
    "POST /keys": "key-create",
    "PUT /keys": "key-replace",
    "POST /keys/find": "sign-in",
    "DELETE /keys/{key_id}": "key-revoke",
    "POST /pool": "pool",
    "POST /pool/resize": "pool",
    "POST /cleanup": "cleanup",
    "POST /routes/sync": "routes",
    "POST /doctor": "doctor",
}


def action_of(method: str, route: str) -> str:
    """`route` is the path of a route as it is declared, empty for none."""
    request = f"{method} {route}"
    return ACTIONS.get(request, request) if route else UNKNOWN
