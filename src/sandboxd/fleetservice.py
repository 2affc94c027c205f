"""The fleet service of this host, if it is a manager, as sandboxd asks it: by one GET on its Unix socket."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from sandboxd.config import Config
from sandboxd.errors import HostError, NotFound

ANSWER_S = 5.0
RETRY_S = 0.1


async def ask(config: Config, target: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Status and body. Raises NotFound on a host that manages no fleet, and HostError when there is no answer."""
    if config.fleet is None or not config.fleet.manages:
        raise NotFound("this host manages no fleet")
    told = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await _connected(config.socket)
            try:
                writer.write(f"GET {target} HTTP/1.0\r\nHost: fleet\r\n{told}\r\n".encode("latin-1"))
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        return int(head.split(None, 2)[1]), body.decode()
    except (OSError, TimeoutError, ValueError, LookupError) as error:
        raise HostError(f"the fleet service of this host does not answer: {error!r}") from error


async def _connected(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Waits for a service that is being restarted."""
    while True:
        try:
            return await asyncio.open_unix_connection(path)
        except (ConnectionRefusedError, FileNotFoundError):
            await asyncio.sleep(RETRY_S)
