"""Stylesheet, scripts and icon: read once, packed once, and kept by browsers as long as they are the same."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from console.errors import Refused

DIRECTORY = Path(__file__).parent / "assets"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Asset:
    content: bytes
    packed: bytes
    media_type: str
    digest: str


class Assets:
    """By file name. The address of each holds a digest of it, so that a new release is seen at once."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        paths = [path for path in directory.rglob("*") if path.suffix in TYPES]
        self._found = {path.name: _read(path) for path in paths}

    def url(self, name: str) -> str:
        return f"/assets/{name}?{self._found[name].digest}"

    async def serve(self, request: Request) -> Response:
        """Only these have no session around them. Raises Refused."""
        asset = self._found.get(request.path_params["name"])
        if asset is None:
            raise Refused(404, "There is no such file.")
        headers = {
            "Cache-Control": FOREVER if request.url.query == asset.digest else "no-cache",
            "Vary": "Accept-Encoding",
        }
        content = asset.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["Content-Encoding"] = asset.packed, "gzip"
        return Response(content, media_type=asset.media_type, headers=headers)


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    packed = gzip.compress(content, mtime=0)
    return Asset(content, packed, TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:12])
